"""The papers' training stages over the one loop: each learns what it should, freezes the rest, and runs."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from small_families import PoolCodec, randomised, small
from test_full_generate import write_preset
from test_video_shards import make_shard

from emo2 import arguments
from emo2.cli import main
from emo2.data.film_takes import FilmTakes
from emo2.errors import UserError
from emo2.presets import PRESETS
from emo2.recipes import RECIPES, Recipe, follow, prepared
from emo2.train import TrainOptions
from emo2.video.film_examples import Dropping, FilmExamples
from emo2.video.latent_stage import LatentStage
from emo2.video.latent_training import TRAINED


def examples(people: int = 1, frames: int = 28, seed: int = 0) -> FilmExamples:
    """Smooth moving pictures, a voice, maps; every frame its own."""
    generator = torch.Generator().manual_seed(seed)
    small_ones = torch.randn(people, frames + 1, 3, 8, 8, generator=generator).cumsum(1) / 4
    images = small_ones.tanh().repeat_interleave(8, -1).repeat_interleave(8, -2)
    return FilmExamples(
        reference=images[:, 0],
        frames=images[:, 1:],
        audio=torch.randn(people, frames, 2, 8, generator=generator),
        maps=torch.randn(people, frames, 7, 64, 64, generator=generator),
        confidence=torch.rand(people, frames, 2, generator=generator),
        speed=torch.rand(people, frames, generator=generator),
    )


def stage() -> LatentStage:
    return randomised(LatentStage(small("full"))).use(PoolCodec())


def at_tiny_width(recipe: Recipe) -> Recipe:
    """Fewer frames; what is trained stays the recipe's."""
    return replace(recipe, frames=min(recipe.frames, 3), motion_frames=min(recipe.motion_frames, 2))


@pytest.mark.parametrize("name", list(RECIPES))
def test_ten_steps_of_a_recipe_move_what_it_trains_and_nothing_else(
    name: str, tmp_path: Path
) -> None:
    made, recipe = stage(), at_tiny_width(RECIPES[name])
    before = {n: p.detach().clone() for n, p in made.named_parameters()}
    config = replace(PRESETS["full"], video=made.config)
    options = TrainOptions(steps=10, rate=1e-3, warm_up=1, bf16=False, save_every=10)
    batch = examples(frames=6)
    steps = list(follow(recipe, made, lambda _: batch, tmp_path, config=config, options=options))
    assert len(steps) == 10
    assert all(0.0 < step.loss < 50.0 for step in steps)
    moved = {n for n, p in made.named_parameters() if not torch.equal(before[n], p)}
    wanted = [re.compile(TRAINED[part]) for part in recipe.trains]
    assert {n for n in moved if not any(w.search(n) for w in wanted)} == set()
    for part, pattern in zip(recipe.trains, wanted, strict=True):
        assert any(pattern.search(n) for n in moved), part
    assert (tmp_path / "video.safetensors").is_file()


def test_the_parts_share_out_all_weights_and_no_weight_twice() -> None:
    for family in ("full", "hallo"):
        network = LatentStage(small(family))
        for name, _ in network.named_parameters():
            owners = [part for part, pattern in TRAINED.items() if re.search(pattern, name)]
            assert len(owners) == 1, (name, owners)


def test_the_command_knows_every_recipe() -> None:
    assert tuple(RECIPES) == arguments.RECIPES


def test_recipes_are_the_papers() -> None:
    image, video, speed = (RECIPES[f"emo-{n}"] for n in ("image", "video", "speed"))
    assert (image.batch, video.batch, speed.batch) == (48, 4, 4)
    assert {r.rate for r in (image, video, speed)} == {1e-5}
    assert (image.frames, image.motion_frames, image.hears) == (1, 0, False)
    assert (video.frames, video.motion_frames) == (12, 4)
    assert set(speed.trains) == {"temporal", "speed"}
    assert not any("audio" in r.trains for r in (image, speed))


def test_an_image_recipe_sees_single_frames_without_a_voice() -> None:
    cut = prepared(examples(), RECIPES["emo-image"], torch.Generator().manual_seed(0))
    assert cut.frames.shape[1] == 1
    assert (cut.before, cut.audio, cut.speed) == (0, None, None)


def test_key_points_are_shifted_in_time_and_hands_are_not() -> None:
    batch = examples()
    recipe = replace(RECIPES["emo2-video"], frames=24, motion_frames=4)
    shifts = set()
    for seed in range(8):
        cut = prepared(batch, recipe, torch.Generator().manual_seed(seed))
        assert cut.maps is not None
        assert torch.equal(cut.maps[:, :, :3], batch.maps[:, :, :3])  # type: ignore[index]
        same = [
            k
            for k in range(-4, 5)
            if torch.equal(cut.maps[:, 10, 3:6], batch.maps[:, 10 + k, 3:6])  # type: ignore[index]
        ]
        shifts.update(same)
    assert len(shifts) > 2


def test_too_few_frames_are_refused() -> None:
    with pytest.raises(UserError, match="wants 16 frames in a row, the data have 6"):
        prepared(examples(frames=6), RECIPES["emo-video"], torch.Generator())


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights of `full` at tiny width, with a codec and ears beside them."""
    return write_preset(tmp_path_factory.mktemp("start"), "full")


@pytest.mark.parametrize("name", ["emo-image", "emo-video", "emo-speed"])
def test_the_command_trains_a_recipe_on_the_studios_takes(
    name: str, tmp_path: Path, start: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_shard(tmp_path / "sets" / "takes.safetensors", frames=7, kind="takes")
    make_shard(tmp_path / "sets" / "poses" / "stills.safetensors", frames=2)
    out = tmp_path / "run"
    given = [
        "--data",
        str(tmp_path / "sets"),
        "--start",
        str(start),
        "--batch",
        "2",
        "--steps",
        "2",
    ]
    assert main(["train", name, "--out", str(out), *given]) == 0
    assert "step 2  loss" in capsys.readouterr().out
    before, after = load_file(start), load_file(out / "video.safetensors")
    assert set(before) == set(after)
    assert any(not torch.equal(before[n], after[n]) for n in before)
    changed = "denoiser.down.0.0.spatial.audio_attention.to_k.weight"
    assert torch.equal(before[changed], after[changed]) == (name != "emo-video")
    if name == "emo-image":  # parts of it learn nothing, and have no state
        assert main(["train", name, "--out", str(out), *given[:-1], "3", "--resume"]) == 0


def test_takes_become_examples_with_all_that_belongs_to_their_frames(tmp_path: Path) -> None:
    make_shard(tmp_path / "takes.safetensors", frames=6, kind="takes")

    def hear(samples: torch.Tensor, rate: int, fps: float) -> torch.Tensor:
        rows = round(len(samples) / rate * fps)
        return torch.arange(float(rows)).view(-1, 1, 1).expand(-1, 2, 3)

    takes = FilmTakes([tmp_path], people=3, frames=16, hear=hear)
    assert takes.frames == 6
    takes = FilmTakes([tmp_path], people=3, frames=4, hear=hear)
    batch = takes.at(5)
    assert batch.reference.shape == (3, 3, 64, 64)
    assert batch.frames.shape == (3, 4, 3, 64, 64)
    assert batch.maps is not None
    assert batch.maps.shape == (3, 4, 7, 64, 64)
    assert batch.confidence is not None
    assert batch.confidence.shape == (3, 4, 2)
    assert batch.speed is not None
    assert batch.speed.shape == (3, 4)
    assert batch.audio is not None
    rows = batch.audio[:, :, 0, 0]
    assert torch.equal(rows - rows[:, :1], torch.arange(4.0).expand(3, 4))  # consecutive frames
    assert all(
        25 <= float(first) <= 27 for first in rows[:, 0]
    )  # 1 s before the take's first frame
    assert torch.equal(takes.at(5).frames, batch.frames)
    assert not torch.equal(takes.at(6).frames, batch.frames)
    quiet = FilmTakes([tmp_path], people=1, frames=1)
    assert quiet.at(0).audio is None


def test_what_a_recipe_lacks_is_said(
    tmp_path: Path, start: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def sentence(*more: str) -> str:
        assert main(["train", "emo-video", "--out", str(tmp_path / "run"), *more]) == 2
        return capsys.readouterr().err

    assert "a recipe needs takes" in sentence()
    data = ("--data", str(tmp_path / "sets"), "--start", str(start))
    (tmp_path / "sets").mkdir()
    assert "holds no shards" in sentence(*data)
    make_shard(tmp_path / "sets" / "stills.safetensors", frames=2)
    assert "none of the shards are takes" in sentence(*data)
    make_shard(tmp_path / "sets" / "stills.safetensors", frames=3, kind="takes")
    assert "wants 4 before a clip of 12; give longer takes" in sentence(*data)


def test_motion_frames_are_dropped_at_times_and_matter_otherwise() -> None:
    made = stage().eval()
    cut = prepared(examples(frames=6), at_tiny_width(RECIPES["emo-video"]), torch.Generator())

    def loss(batch: FilmExamples, motion: float) -> float:
        made.dropping = Dropping(motion=motion, audio=0.0, reference=0.0)
        with torch.no_grad():
            return float(made.loss(batch, torch.Generator().manual_seed(3))["loss"])

    other = replace(cut, frames=torch.cat([cut.frames[:, :2].flip(-1), cut.frames[:, 2:]], 1))
    assert loss(cut, 0.0) != loss(other, 0.0)
    assert loss(cut, 1.0) == loss(other, 1.0)


def test_one_clip_can_be_learned_by_heart(tmp_path: Path) -> None:
    made = stage()
    made.dropping = Dropping(motion=0.0, audio=0.0, reference=0.0)
    recipe = replace(RECIPES["emo-video"], frames=2, motion_frames=1)
    batch = examples(frames=3)
    config = replace(PRESETS["full"], video=made.config)
    options = TrainOptions(steps=120, rate=1e-2, warm_up=5, bf16=False, save_every=1000)
    steps = list(follow(recipe, made, lambda _: batch, tmp_path, config=config, options=options))
    first = sum(s.loss for s in steps[:10]) / 10
    last = sum(s.loss for s in steps[-20:]) / 20
    assert last < 0.5 * first, (first, last)
