"""The papers' training stages as named recipes over the one loop (EMO §3.3 and supplement, EMO2 §3).

A recipe says what learns and what is frozen, how many frames an example has, and the rate.  EMO's three stages are the
paper's; EMO2 publishes none, so its two are ours, by EMO's pattern, with clips of 24 frames as reported for it.
EMO2's pose discriminator is not built.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from emo2.config import Config
from emo2.data.film_takes import FilmTakes
from emo2.data.order import Given, folders_given, shard_folders
from emo2.data.shards import listener
from emo2.errors import UserError
from emo2.parts import train_part
from emo2.presets import PRESETS
from emo2.speech import load_encoder
from emo2.students import as_usual, student_config, student_extras, teacher_of
from emo2.train import BatchAt, Extras, Step, TrainOptions, train
from emo2.video.film_examples import FilmExamples
from emo2.video.latent_load import beside, read_start
from emo2.video.latent_stage import LatentStage
from emo2.video.sd_vae import load_vae

log = logging.getLogger(__name__)

RATE = 1e-5
"""EMO's, in all its stages."""
KEY_POINTS = slice(3, 6)
"""Channels of EMO2's maps: hand surface, key points, face region."""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """One stage of training."""

    name: str
    trains: tuple[str, ...]
    """Of `latent_training.TRAINED`; the rest is frozen."""
    frames: int
    """Of a clip, motion frames not counted."""
    motion_frames: int = 0
    batch: int = 4
    rate: float = RATE
    hears: bool = True
    """Whether examples bring their voice."""
    moves: bool = False
    """Whether examples bring the speed of the head."""
    shifts_points: int = 0
    """Key-point maps are moved in time by up to so many frames, so that they stay a hint."""


_IMAGE = ("backbone", "reference", "guidance")

RECIPES: dict[str, Recipe] = {
    recipe.name: recipe
    for recipe in (
        # EMO stage 1: single frames; the reference network sees another frame of the same film.
        Recipe(name="emo-image", trains=_IMAGE, frames=1, batch=48, hears=False),
        # Stage 2 adds temporal modules and audio layers; that the rest goes on learning is our reading.
        Recipe(name="emo-video", trains=(*_IMAGE, "temporal", "audio"), frames=12, motion_frames=4),
        # Stage 3: temporal modules and speed layers alone; audio layers are left out on purpose.
        Recipe(
            name="emo-speed", trains=("temporal", "speed"), frames=12, motion_frames=4, moves=True
        ),
        Recipe(name="emo2-image", trains=(*_IMAGE, "confidence"), frames=1, batch=48, hears=False),
        Recipe(
            name="emo2-video",
            trains=(*_IMAGE, "confidence", "temporal", "audio"),
            frames=24,
            motion_frames=4,
            shifts_points=4,
        ),
    )
}


def follow(
    recipe: Recipe,
    stage: LatentStage,
    batch_at: BatchAt,
    out: Path,
    *,
    config: Config,
    options: TrainOptions,
    extras: Extras | None = None,
) -> Iterator[Step]:
    """Train by a recipe: what it freezes stays, batches are cut to the frames it wants; a student's denoiser learns whole."""
    if stage.tutor is None:
        stage.train_only(*recipe.trains)

    def batch(number: int) -> FilmExamples:
        generator = torch.Generator().manual_seed(options.seed * 1_000_003 + number)
        return prepared(batch_at(number), recipe, generator)

    yield from train(stage, batch, out, config=config, part="video", options=options, extras=extras)


def train_recipe(
    name: str,
    data: Given,
    out: Path,
    *,
    options: TrainOptions,
    start: Path | None = None,
    batch: int | None = None,
    real_share: float | None = None,
) -> Iterator[Step]:
    """`emo2 train emo-...`: a recipe on the studio's takes, from the weights `start` or from nothing."""
    recipe, extras = RECIPES[name], None
    if options.distil:
        extras = student_extras("video", teacher_of("video", start), out, options)
    torch.manual_seed(options.seed)  # first weights only: torch's initialisers take no generator
    if start is None:
        config = PRESETS["full"]
        stage = LatentStage(config.video)
        log.warning("no --start: the networks begin at random; give weights to go on from")
    else:
        stage, config = read_start(start)
    vae, ears = (None if start is None else beside(start, name) for name in ("vae", "speech"))
    stage.use(load_vae(config.video.codec, vae).to(options.device))
    config = student_config(config, "video", options.distil) if extras else as_usual(config)
    if extras:
        stage.distil(options.distil)
    hear = listener(load_encoder(config.speech, ears)) if recipe.hears else None
    takes = FilmTakes(
        shard_folders(folders_given(data)),
        people=batch or recipe.batch,
        frames=recipe.motion_frames + recipe.frames,
        seed=options.seed,
        hear=hear,
        real_share=real_share,
    )
    missing = recipe.motion_frames + recipe.frames - takes.frames
    if missing >= recipe.frames:
        raise UserError(
            f"takes have {takes.frames} frames, but {name} wants {recipe.motion_frames} before a clip of "
            f"{recipe.frames}; give longer takes"
        )
    if missing > 0:
        text = "takes have %d frames: clips are %d shorter than the recipe's"
        log.warning(text, takes.frames, missing)
        recipe = replace(recipe, frames=recipe.frames - missing)
    options = replace(options, rate=options.rate or recipe.rate)
    yield from follow(recipe, stage, takes.at, out, config=config, options=options, extras=extras)


def train_by(words: Mapping[str, Any]) -> Iterator[Step]:
    """`emo2 train`, by its flags: a part of the compact preset, or a recipe for full."""
    names = ("steps", "device", "seed", "resume", "rate", "distil")
    options = TrainOptions(**{name: words[name] for name in names})
    part, data, out, start = (words[name] for name in ("part", "data", "out", "start"))
    given = {"options": options, "batch": words["batch"], "real_share": words["real_share"]}
    if part not in RECIPES:
        yield from train_part(part, data, out, start=start, only=words["only"], **given)
        return
    if words["only"]:
        raise UserError(f"--only names a part of video; what {part} trains is its recipe's")
    if data is None:
        raise UserError("a recipe needs takes; give --data with what emo2 studio --kind takes made")
    yield from train_recipe(part, data, out, start=None if start is None else Path(start), **given)


def prepared(batch: FilmExamples, recipe: Recipe, generator: torch.Generator) -> FilmExamples:
    """An example as the recipe wants it: its frames, and nothing that it should not know."""
    wanted, have = recipe.motion_frames + recipe.frames, batch.frames.shape[1]
    if have < wanted:
        raise UserError(
            f"recipe {recipe.name} wants {wanted} frames in a row, the data have {have}; "
            "give longer takes"
        )
    low = int(torch.randint(have - wanted + 1, (1,), generator=generator))
    cut = batch.part(slice(low, low + wanted), before=recipe.motion_frames)
    return replace(
        cut,
        audio=cut.audio if recipe.hears else None,
        speed=cut.speed if recipe.moves else None,
        maps=_shifted(cut.maps, recipe.shifts_points, generator),
    )


def _shifted(
    maps: Float[Tensor, "b n c h w"] | None, most: int, generator: torch.Generator
) -> Float[Tensor, "b n c h w"] | None:
    """Key-point maps from some frames earlier or later, the first and last repeated."""
    if maps is None or not most or maps.shape[1] == 1 or maps.shape[2] < KEY_POINTS.stop:
        return maps
    by = int(torch.randint(-most, most + 1, (1,), generator=generator))
    index = (torch.arange(maps.shape[1]) + by).clamp(0, maps.shape[1] - 1).to(maps.device)
    moved = maps.clone()
    moved[:, :, KEY_POINTS] = maps[:, index][:, :, KEY_POINTS]
    return moved
