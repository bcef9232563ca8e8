"""The training loop, and the windows that stage 1 is fed."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from emo2 import weights
from emo2.config import COMPACT, MotionConfig, SpeechConfig
from emo2.curve import LossCurve
from emo2.data.motion_windows import (
    MotionWindows,
    Performance,
    load_performances,
    performance,
    save_performances,
)
from emo2.data.sound_changes import change_sound, coded, music
from emo2.errors import UserError
from emo2.motion import SpeechMotion, pack
from emo2.parts import train_part
from emo2.signals import Motion
from emo2.speech import samples_for
from emo2.train import Extras, Step, TrainOptions, train

TINY = replace(
    COMPACT,
    speech=SpeechConfig(width=32, depth=1, mels=20),
    motion=MotionConfig(width=32, depth=1, heads=2, window=24, prefix=4, steps=2),
)
QUICK = TrainOptions(steps=6, bf16=False, save_every=3, warm_up=2)


@dataclass(frozen=True)
class Pair:
    x: Tensor
    y: Tensor


class Line(nn.Module):
    """The smallest stage."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 1)

    def loss(self, batch: Pair, generator: torch.Generator) -> dict[str, Tensor]:
        noise = 0.01 * torch.randn(batch.x.shape, generator=generator)
        error = (self.layer(batch.x + noise) - batch.y).square().mean()
        return {"loss": error, "error": error.detach()}


def pair_at(step: int) -> Pair:
    x = torch.randn(8, 3, generator=torch.Generator().manual_seed(step))
    return Pair(x, x.sum(-1, keepdim=True))


def run(out: Path, stage: nn.Module, options: TrainOptions) -> list[Step]:
    return list(train(stage, pair_at, out, config=TINY, part="finder", options=options))


def fresh() -> Line:
    torch.manual_seed(0)
    return Line()


def test_a_stopped_run_goes_on_exactly(tmp_path: Path) -> None:
    whole = fresh()
    steps = run(tmp_path / "whole", whole, QUICK)
    stopped = fresh()
    loop = train(stopped, pair_at, tmp_path / "parts", config=TINY, part="finder", options=QUICK)
    for step in loop:
        if step.index == 4:  # one step after the last save: that step is made again
            loop.close()
            break
    resumed = fresh()
    rest = run(tmp_path / "parts", resumed, replace(QUICK, resume=True))
    assert [s.index for s in rest] == [4, 5, 6]
    assert [s.loss for s in rest] == [s.loss for s in steps[3:]]
    assert torch.equal(resumed.layer.weight, whole.layer.weight)
    for name in ("finder.safetensors", "finder-state.safetensors"):
        ours, theirs = load_file(tmp_path / "parts" / name), load_file(tmp_path / "whole" / name)
        assert all(torch.equal(ours[k], theirs[k]) for k in theirs), name


def test_it_learns_and_writes_its_curve(tmp_path: Path) -> None:
    steps = run(tmp_path, fresh(), replace(QUICK, steps=150, rate=0.05, save_every=150))
    assert steps[-1].loss < 0.1 * steps[0].loss
    rows = list(csv.reader((tmp_path / "loss.csv").read_text().splitlines()))
    assert rows[0] == ["step", "seconds", "loss", "error", "gradient"]
    assert [int(r[0]) for r in rows[1:]] == list(range(1, 151))
    tensors, config, facts = weights.load(tmp_path / "finder.safetensors", part="finder")
    assert config == TINY
    assert facts["step"] == "150"
    assert set(tensors) == {"layer.weight", "layer.bias"}


def test_a_curve_takes_terms_that_only_some_steps_have_also_after_a_stop(tmp_path: Path) -> None:
    with LossCurve(tmp_path, resume=False) as curve:
        curve.add(1, 0.5, {"loss": 1.0})
        curve.add(2, 1.0, {"loss": 2.0, "denoiser": 3.0})
    with LossCurve(tmp_path, resume=True) as curve:
        curve.add(3, 0.5, {"loss": 4.0})
    rows = list(csv.reader((tmp_path / "loss.csv").read_text().splitlines()))
    assert rows[0] == ["step", "seconds", "loss", "denoiser"]
    assert [row[2:] for row in rows[1:]] == [["1", ""], ["2", "3"], ["4", ""]]


def test_the_averaged_weights_are_what_is_written_and_previewed(tmp_path: Path) -> None:
    seen = {}

    def preview(stage: nn.Module, folder: Path, step: int) -> None:
        seen[step] = stage.layer.weight.clone()

    stage = fresh()
    options = replace(QUICK, preview_every=6)
    loop = train(
        stage,
        pair_at,
        tmp_path,
        config=TINY,
        part="finder",
        options=options,
        extras=Extras(preview=preview),
    )
    list(loop)
    written = load_file(tmp_path / "finder.safetensors")["layer.weight"]
    torch.testing.assert_close(seen[6], written)
    assert not torch.equal(stage.layer.weight, written)


def test_what_is_fitted_at_the_end_is_fitted_once_and_also_after_a_stop(tmp_path: Path) -> None:
    fitted = []

    def finish(stage: nn.Module) -> None:
        fitted.append(stage.layer.weight.clone())  # type: ignore[union-attr, operator]

    def steps(stage: nn.Module, **wishes: object) -> Iterator[Step]:
        options = replace(QUICK, **wishes)  # type: ignore[arg-type]
        return train(
            stage,
            pair_at,
            tmp_path,
            config=TINY,
            part="finder",
            options=options,
            extras=Extras(finish=finish),
        )

    loop = steps(fresh())
    for step in loop:
        if step.index == QUICK.steps:  # all is trained and saved, nothing fitted yet
            loop.close()
            break
    assert not fitted
    assert list(steps(fresh(), resume=True)) == []
    assert len(fitted) == 1
    torch.testing.assert_close(
        fitted[0], load_file(tmp_path / "finder.safetensors")["layer.weight"]
    )
    list(steps(fresh(), resume=True))
    assert len(fitted) == 1
    list(steps(fresh(), resume=True, steps=QUICK.steps + 2))
    assert len(fitted) == 2


def test_a_gradient_that_is_not_finite_stops_the_run(tmp_path: Path) -> None:
    def broken(step: int) -> Pair:
        return Pair(torch.full((1, 3), torch.nan), torch.zeros(1, 1))

    with pytest.raises(FloatingPointError, match="not finite at step 0"):
        list(train(fresh(), broken, tmp_path, config=TINY, part="finder", options=QUICK))


def test_what_is_done_first_is_done_once_and_is_in_the_averages(tmp_path: Path) -> None:
    begun = []

    def begin(stage: nn.Module) -> None:
        begun.append(1)
        stage.layer.weight.data.fill_(3.0)  # type: ignore[union-attr]

    extras = Extras(begin=begin, facts={"data": "made up", "step": "40"})
    for wishes in ({}, {"resume": True, "steps": 8}):
        options = replace(QUICK, rate=1e-6, **wishes)  # type: ignore[arg-type]
        list(
            train(
                fresh(),
                pair_at,
                tmp_path,
                config=TINY,
                part="finder",
                options=options,
                extras=extras,
            )
        )
    tensors, _, facts = weights.load(tmp_path / "finder.safetensors")
    assert begun == [1]
    torch.testing.assert_close(tensors["layer.weight"], torch.full((1, 3), 3.0), atol=1e-3, rtol=0)
    assert (facts["data"], facts["step"]) == ("made up", "48")


def test_missing_data_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds no performances"):
        next(train_part("motion", tmp_path, tmp_path / "out", batch=1, options=QUICK))
    with pytest.raises(UserError, match="is no folder"):
        next(train_part("motion", tmp_path / "none", tmp_path / "out", batch=1, options=QUICK))
    with pytest.raises(UserError, match="unknown part 'hair'"):
        next(train_part("hair", tmp_path, tmp_path / "out", batch=1, options=QUICK))


def test_stage_one_begins_with_given_weights_and_counts_their_steps(tmp_path: Path) -> None:
    list(save_performances(tmp_path / "data", [take(seed=i) for i in range(2)]))
    torch.manual_seed(3)
    begun = SpeechMotion(TINY)
    path = tmp_path / "speech_motion.safetensors"
    weights.save(path, begun.state_dict(), TINY, part="speech_motion", step=40)
    options = replace(QUICK, steps=2, rate=1e-7)
    list(
        train_part(
            "motion", tmp_path / "data", tmp_path / "out", batch=2, options=options, start=path
        )
    )
    tensors, _, facts = weights.load(tmp_path / "out" / "speech_motion.safetensors")
    assert facts["step"] == "42"
    for name, before in begun.state_dict().items():
        torch.testing.assert_close(tensors[name], before, atol=1e-4, rtol=0, msg=name)
    with pytest.raises(UserError, match="'speech_motion', but 'finder'"):
        next(train_part("finder", tmp_path, tmp_path / "f", options=options, start=path))


# ---- windows ----


def take(frames: int = 60, seed: int = 0) -> Performance:
    """A performance whose jaw is open exactly where its tone is loud."""
    generator = torch.Generator().manual_seed(seed)
    jaw = ((torch.arange(frames) // 8) % 2).float()
    time = torch.arange(frames * 640) / 16_000
    samples = 0.3 * torch.sin(2 * torch.pi * 200 * time) * jaw.repeat_interleave(640)
    hands = torch.zeros(frames, 2, 67)
    hands[..., 0:64:4] = 1.0
    hands[..., -3:] = 0.1 * torch.randn(frames, 2, 3, generator=generator)
    face = torch.zeros(frames, 52)
    face[:, 24] = jaw
    motion = Motion(
        hands=hands, visibility=torch.ones(frames, 2), confidence=torch.ones(frames, 2),
        betas=torch.zeros(10), fps=25.0, face=face,
    )  # fmt: skip
    return performance(samples, 16_000, jaw.long() + 1, motion, "calm", TINY)


def test_performances_survive_their_files(tmp_path: Path) -> None:
    takes = [take(seed=i) for i in range(3)]
    paths = list(save_performances(tmp_path, takes))
    assert [p.name for p in paths] == ["performances-00000.safetensors"]
    for ours, theirs in zip(load_performances(tmp_path, TINY), takes, strict=True):
        assert torch.equal(ours.samples, theirs.samples)
        assert torch.equal(ours.rows, theirs.rows)
        assert ours.style == theirs.style == TINY.motion.styles.index("calm")


def test_a_batch_is_a_function_of_its_step() -> None:
    windows = MotionWindows([take(seed=i) for i in range(3)], TINY, batch=4, seed=7)
    first, again, other = windows.at(5), windows.at(5), windows.at(6)
    assert torch.equal(first.sound, again.sound)
    assert torch.equal(first.motion, again.motion)
    assert not torch.equal(first.motion, other.motion)
    assert first.sound.shape == (4, samples_for(24, TINY.speech))
    assert first.motion.shape == (4, 24, 200)


@pytest.mark.parametrize("changes", [False, True])
def test_sound_and_motion_stay_together(changes: bool) -> None:
    windows = MotionWindows([take()], TINY, batch=16, changes=changes)
    batch = windows.at(0)
    margin = (batch.sound.shape[-1] - 24 * 640) // 2
    heard = batch.sound[:, margin : margin + 24 * 640].reshape(16, 24, 640).square().mean(-1)
    jaw = batch.motion[:, :, 134 + 24]
    together = torch.corrcoef(torch.stack((heard.log().clamp(min=-14).flatten(), jaw.flatten())))[
        0, 1
    ]
    assert float(together) > (0.9 if not changes else 0.45)


def test_a_batch_trains_stage_one() -> None:
    torch.manual_seed(0)
    model = SpeechMotion(TINY)
    takes = [take(seed=i) for i in range(2)]
    model.motion.measure(torch.cat([t.rows for t in takes]).float())
    batch = MotionWindows(takes, TINY, batch=2).at(0)
    terms = model.loss(batch, torch.Generator().manual_seed(0))
    terms["loss"].backward()
    assert all(torch.isfinite(term) for term in terms.values())
    assert model.speech.conv_1.weight.grad.abs().sum() > 0


def test_changed_sound_stays_within_a_microphone() -> None:
    generator = torch.Generator().manual_seed(0)
    sound = 0.2 * torch.randn(12, 16_000, generator=generator)
    changed = change_sound(sound, 16_000, generator)
    assert changed.isfinite().all()
    assert float(changed.abs().max()) <= 1.0
    assert (changed - sound).abs().mean() > 0.01
    assert music(5_000, 16_000, generator).shape == (5_000,)


def test_a_codec_harms_the_voice_a_little_and_keeps_its_length() -> None:
    generator = torch.Generator().manual_seed(0)
    voice = 0.3 * torch.sin(0.05 * torch.arange(9_000)) + 0.01 * torch.randn(
        9_000, generator=generator
    )
    for _ in range(8):
        heard = coded(voice, generator)
        assert heard.shape == voice.shape
        assert 0.001 < float((heard - voice).norm() / voice.norm()) < 0.4


def test_rows_of_a_motion_without_hints_rest() -> None:
    assert not pack(Motion(
        hands=torch.zeros(2, 2, 67), visibility=torch.ones(2, 2), confidence=torch.ones(2, 2),
        betas=torch.zeros(10), fps=25.0,
    ))[:, 134:].any()  # fmt: skip
