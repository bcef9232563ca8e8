"""Training on the studio's film and on real film together: what is not known of it is not learned."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from test_video_shards import make_shard
from torch import Tensor

from emo2.config import COMPACT, Config, MotionConfig, SpeechConfig
from emo2.data.film_takes import FilmTakes
from emo2.data.motion_windows import (
    MotionWindows,
    Performance,
    chances,
    load_performances,
    write_performance_file,
)
from emo2.data.shards import Draw, PeopleBatches
from emo2.motion import MotionBatch, SpeechMotion
from emo2.motion.channels import row_width
from emo2.speech import samples_for
from emo2.video import VideoStage
from emo2.video.examples import FACE_ACTIONS, Examples
from emo2.video.fitting import fit_table

TINY = replace(
    COMPACT,
    speech=SpeechConfig(width=32, depth=1, mels=20),
    motion=MotionConfig(width=32, depth=1, heads=2, window=24, prefix=4, steps=2),
)
WIDTH = row_width(hints=True)


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def motion_batch(known: Tensor | None, rows: Tensor) -> MotionBatch:
    return MotionBatch(
        sound=0.1 * noise(4, samples_for(24, TINY.speech)), motion=rows,
        visibility=torch.ones(4, 24, 2), phones=torch.full((4, 24), -1), style=torch.tensor([-1] * 4),
        speed=torch.ones(4), known=known,
    )  # fmt: skip


def stage_1_loss(known: Tensor | None, rows: Tensor) -> float:
    torch.manual_seed(0)
    stage = SpeechMotion(TINY)
    loss = stage.loss(motion_batch(known, rows), torch.Generator().manual_seed(1))
    return float(loss["loss"].detach())


def test_stage_1_learns_nothing_from_numbers_that_are_not_known() -> None:
    rows, known = noise(4, 24, WIDTH), noise(4, 24, WIDTH, seed=6) > 0
    known[..., :67], known[..., 67:134] = True, False  # of a hand all is known or nothing
    other = torch.where(known, rows, 7.0 * noise(4, 24, WIDTH, seed=5))
    assert stage_1_loss(known, rows) == pytest.approx(stage_1_loss(known, other), rel=1e-5)
    assert stage_1_loss(None, rows) != pytest.approx(stage_1_loss(None, other), rel=1e-3)
    everything = torch.ones_like(known)
    assert stage_1_loss(everything, rows) == stage_1_loss(None, rows)


def performed(known: Tensor | None, seed: int) -> Performance:
    return Performance(
        samples=(noise(40 * 640, seed=seed) * 1000).to(torch.int16), rows=noise(40, WIDTH).half(),
        visibility=torch.ones(40, 2).half(), phones=torch.full((40,), -1, dtype=torch.int16),
        style=-1, known=known,
    )  # fmt: skip


def test_a_mask_is_written_read_and_comes_with_the_windows_of_real_film_alone(
    tmp_path: Path,
) -> None:
    mask = torch.rand(40, WIDTH) < 0.5
    (tmp_path / "inside").mkdir()
    file = tmp_path / "inside" / "performances-film-a.safetensors"
    write_performance_file(file, [performed(mask, 1), performed(None, 2)])
    real, made = load_performances(tmp_path, TINY)
    assert real.known is not None
    assert torch.equal(real.known, mask)
    assert made.known is None
    batch = MotionWindows([real, made], TINY, batch=8, changes=False).at(0)
    assert batch.known is not None
    whole = batch.known.flatten(1).all(1)
    assert 0 < int(whole.sum()) < 8
    assert MotionWindows([made], TINY, batch=2).at(0).known is None


def test_real_film_is_drawn_by_the_share_that_was_asked_for() -> None:
    weights, real = torch.tensor([1.0, 3.0, 100.0]), torch.tensor([True, True, False])
    found = chances(weights, real, 0.4)
    assert torch.allclose(found, torch.tensor([0.1, 0.3, 0.6]))
    assert torch.allclose(chances(weights, real, None), weights / 104)
    assert torch.allclose(chances(weights[:2], real[:2], 0.4), weights[:2] / 4)


def as_real(source: Path, path: Path) -> None:
    """A shard like those of real film: with what is known and believed of it."""
    from safetensors import safe_open

    with safe_open(source, framework="pt") as shard:
        tensors = {name: shard.get_tensor(name) for name in shard.keys()}  # noqa: SIM118
        facts = shard.metadata()
    people, frames = tensors["frames"].shape[:2]
    tensors["sure"] = torch.full((people, frames, 32, 32), 128, dtype=torch.uint8)
    tensors["known"] = torch.tensor([[0, 1, 0]] * people, dtype=torch.uint8)
    tensors["hand_confidence"] = torch.full((people, frames + 1, 2), 0.4)
    path.parent.mkdir(exist_ok=True)
    save_file(tensors, path, metadata=facts)


def test_shards_of_both_kinds_make_one_batch(tmp_path: Path) -> None:
    make_shard(tmp_path / "made" / "a.safetensors", frames=8, kind="takes")
    as_real(tmp_path / "made" / "a.safetensors", tmp_path / "real" / "film-a.safetensors")
    folders = [tmp_path / "made", tmp_path / "real"]
    draw = Draw(people=40, frames=4, augment=False, consecutive=True, maps=16)
    batch = PeopleBatches(folders, draw, seed=3, real_share=0.25).at(0)
    assert batch.known is not None
    assert batch.confidence is not None
    real = ~batch.known.all(1)
    assert 4 <= int(real.sum()) <= 17
    assert batch.known[real].tolist()[0] == [False, True, False]
    assert torch.allclose(batch.confidence[real], torch.tensor(0.4))  # a tracker's own
    weighed = PeopleBatches([tmp_path / "real"], replace(draw, people=1), seed=3).at(0)
    assert float(weighed.importance.max()) < 16.0 * 0.51


def test_takes_of_several_lengths_give_what_the_shortest_has(tmp_path: Path) -> None:
    make_shard(tmp_path / "long" / "a.safetensors", frames=14, kind="takes")
    make_shard(tmp_path / "short" / "a.safetensors", frames=9, kind="takes")
    takes = FilmTakes([tmp_path / "long", tmp_path / "short"], people=3, frames=12)
    assert takes.frames == 9
    assert takes.at(0).frames.shape[1] == 9


def examples(known: Tensor | None, actions: Tensor, own: Tensor) -> Examples:
    pose = torch.zeros(2, 8, 12)
    pose[:, 4:, 0] = 0.1
    return Examples(
        reference=noise(2, 3, 64, 64).tanh(), frames=noise(2, 8, 3, 64, 64, seed=1).tanh(),
        flow=0.02 * noise(2, 8, 2, 16, 16), visibility=torch.full((2, 8, 1, 16, 16), 0.9),
        conditions=torch.cat([actions, pose], -1), importance=torch.ones(2, 8, 1, 16, 16),
        view=torch.zeros(2), marks=torch.tensor([[[0.5, 0.7], [0.35, 0.4], [0.65, 0.4]]] * 2),
        reference_actions=own, known=known, consecutive=True,
        audio=noise(2, 8, 1, 32), maps=noise(2, 8, 7, 32, 32), confidence=torch.ones(2, 8, 2),
    )  # fmt: skip


def test_stage_2_learns_nothing_from_face_actions_that_are_not_known(small_config: Config) -> None:
    def loss(known: Tensor | None, seed: int) -> float:
        torch.manual_seed(0)
        stage = VideoStage(small_config.video)
        generator = torch.Generator().manual_seed(2)
        for parameter in stage.parameters():  # else much of it starts at zero
            parameter.data = parameter.data + 0.02 * torch.randn(
                parameter.shape, generator=generator
            )
        actions, own = noise(2, 8, FACE_ACTIONS, seed=seed).abs(), noise(2, 52, seed=seed).abs()
        batch = examples(known, actions, own)
        return float(stage.loss(batch, torch.Generator().manual_seed(1))["loss"].detach())

    hidden = torch.tensor([[False, True, False]] * 2)
    assert loss(hidden, 3) == pytest.approx(loss(hidden, 4), rel=1e-5)
    assert loss(None, 3) != pytest.approx(loss(None, 4), rel=1e-4)


def test_an_unknown_face_does_not_enter_the_table(small_config: Config) -> None:
    stage = VideoStage(small_config.video)
    actions = noise(2, 8, FACE_ACTIONS).abs()
    hidden = torch.tensor([[False, True, True]] * 2)
    pose_still = replace(examples(hidden, actions, actions[:, 0]), consecutive=False)
    still = torch.cat([actions, torch.zeros(2, 8, 12)], -1)
    assert fit_table(stage, [replace(pose_still, conditions=still)]) == 0
    assert fit_table(stage, [replace(pose_still, conditions=still, known=None)]) == 16
