"""`emo2 train video`: one part after the other from given weights, taken up again to the step, told in the weights."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from test_video_arms import write_arms
from test_video_details import SMALL
from test_video_shards import make_shard
from test_video_stage import TINY
from torch import Tensor, nn

from emo2 import cli, parts, weights
from emo2.arguments import VIDEO_PARTS
from emo2.config import COMPACT, Config
from emo2.errors import UserError
from emo2.parts import train_part
from emo2.presets import PRESETS
from emo2.train import TrainOptions
from emo2.video import VideoStage
from emo2.video.stage import ALONE

QUICK = TrainOptions(steps=3, bf16=False, save_every=1, warm_up=1)
OWNERS = {"reference": "basis", "places": "basis", "surface": "arms"}


@pytest.fixture(autouse=True)
def few_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is fitted is fitted to few batches."""
    monkeypatch.setattr(parts, "TABLE_BATCHES", 2)
    monkeypatch.setattr(parts, "SCALE_BATCHES", 2)


def begin(folder: Path) -> Path:
    """Shards of every kind, and weights to begin with."""
    make_shard(folder / "sets" / "faces.safetensors", still=True)
    write_arms(folder / "sets" / "bodies.safetensors")
    make_shard(folder / "sets" / "takes.safetensors", kind="takes", frames=8)
    config = replace(COMPACT, name=str(folder), video=replace(TINY, details=SMALL))
    torch.manual_seed(0)
    stage = VideoStage(config.video)
    for layer in stage.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear) and not layer.weight.any():
            nn.init.normal_(layer.weight, std=0.02)
    path = folder / "video.safetensors"
    weights.save(path, stage.state_dict(), config, part="video", step=100, steps_of_details=7)
    return path


def trained(
    folder: Path, only: str | None, out: str = "out", **wishes: object
) -> tuple[dict[str, Tensor], Config, dict[str, str]]:
    options = replace(QUICK, **{k: v for k, v in wishes.items() if k != "start"})  # type: ignore[arg-type]
    start = wishes.get("start", folder / "video.safetensors")
    run = train_part(
        "video", folder / "sets", folder / out, batch=2, options=options, start=start, only=only,  # type: ignore[arg-type]
    )  # fmt: skip
    list(run)
    return weights.load(folder / out / "video.safetensors", part="video")


@pytest.mark.parametrize("only", ALONE)
def test_a_part_alone_changes_and_the_weights_tell_its_steps(tmp_path: Path, only: str) -> None:
    before, config, _ = weights.load(begin(tmp_path))
    after, kept, facts = trained(tmp_path, only, rate=1e-3)
    assert kept == config
    weights.fill(VideoStage(config.video), after, tmp_path)  # all parts are there
    units = slice(-7 * 24 - 4, -4)  # the denoiser's, before the matte; fitted first
    scale = before["reference.conv_out.bias"][units]
    if only == "denoiser":
        assert not torch.equal(after["reference.conv_out.bias"][units], scale)
        after["reference.conv_out.bias"][units] = scale
    changed = {
        name.removeprefix("arms.").split(".")[0]
        for name in before
        if not torch.equal(before[name], after[name])
    }
    assert changed
    owners = {OWNERS.get(name, name) for name in changed}
    assert owners == ({"basis", "own"} if only == "basis" else {only})
    steps = {
        "own": 0,
        "basis": 100,
        "painter": 0,
        "details": 7,
        "denoiser": 0,
        "arms": 0,
        "cutter": 0,
    }
    steps[only] += 3
    assert {part: int(facts[f"steps_of_{part}"]) for part in ALONE} == steps
    assert facts["step"] == "103"


@pytest.mark.parametrize("only", [*ALONE, None])
def test_a_stopped_run_of_a_part_goes_on_to_the_same_weights(
    tmp_path: Path, only: str | None
) -> None:
    start = begin(tmp_path)
    whole, _, told = trained(tmp_path, only)
    run = train_part(
        "video", tmp_path / "sets", tmp_path / "stopped", batch=2, options=QUICK, start=start, only=only
    )  # fmt: skip
    next(run)
    run.close()
    again, _, facts = trained(tmp_path, only, "stopped", resume=True, start="nobody knows this")
    assert all(torch.equal(again[name], whole[name]) for name in whole)
    assert {n: f for n, f in facts.items() if n != "seconds"} == {
        n: f for n, f in told.items() if n != "seconds"
    }
    if only == "painter":
        with pytest.raises(UserError, match="counts step, steps_of_painter, this one counts"):
            trained(tmp_path, "basis", "stopped", resume=True)


def test_weights_that_do_not_fit_are_refused_in_a_sentence(tmp_path: Path) -> None:
    start = begin(tmp_path)
    tensors, config, _ = weights.load(start)
    small = replace(config, video=replace(config.video, details=None))
    rest = {name: t for name, t in tensors.items() if not name.startswith("details")}
    weights.save(tmp_path / "small.safetensors", rest, small, part="video")
    with pytest.raises(
        UserError, match="have no details; give --only own, basis, painter, denoiser, arms, cutter"
    ):
        trained(tmp_path, "details", start=tmp_path / "small.safetensors")
    weights.save(tmp_path / "less.safetensors", rest, config, part="video")
    with pytest.raises(UserError, match="does not fit this emo2's networks"):
        trained(tmp_path, "painter", start=tmp_path / "less.safetensors")
    weights.save(tmp_path / "sd.safetensors", {}, PRESETS["full"], part="video")
    with pytest.raises(UserError, match="by a recipe"):
        trained(tmp_path, "painter", start=tmp_path / "sd.safetensors")
    with pytest.raises(UserError, match="unknown preset 'nobody'"):
        trained(tmp_path, "painter", start="nobody")
    with pytest.raises(UserError, match="--only names a part of video"):
        next(train_part("finder", tmp_path, tmp_path, options=QUICK, only="basis"))


def test_the_command_trains_a_part_from_given_weights(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert VIDEO_PARTS == ALONE
    start, out = begin(tmp_path), tmp_path / "out"
    words = f"train video --only painter --from {start} --data {tmp_path / 'sets'} --out {out} --steps 2"
    assert cli.main([*words.split(), "--batch", "1", "--rate", "1e-4"]) == 0
    assert "step 2" in capsys.readouterr().out
    assert weights.facts_of(out / "video.safetensors")["steps_of_painter"] == "2"
