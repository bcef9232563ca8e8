"""The parts of the compact preset that `emo2 train` trains: what each begins with, learns from and ends with."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

from emo2 import weights
from emo2.config import Config
from emo2.data.order import Given, Order, folders_given
from emo2.distil import RATE
from emo2.errors import UserError
from emo2.presets import PRESETS
from emo2.students import as_usual, student_config, student_extras, teacher_of
from emo2.train import BatchAt, Extras, Step, TrainOptions, state_of, train

log = logging.getLogger(__name__)

BATCH = 32
"""Items a step, where what is trained says nothing else."""

VOICES = 1_500
"""Performances that the studio makes when stage 1 is given no data (about three hours, in some minutes)."""

TABLE_BATCHES = 100
"""Batches to which the motion basis's table is fitted (`video.fitting.fit_table`)."""

SCALE_BATCHES = 50
"""Batches of takes to which the scale around the expectation is fitted (`video.fitting.fit_scale`)."""

PREVIEW_VOICE = 900_000
"""Seed of the voice in previews; training voices are far below it."""

RATES = {
    "own": 2e-3,
    "basis": 8e-4,
    "painter": 5e-4,
    "details": 1e-3,
    "denoiser": 8e-4,
    "arms": 2e-3,
    "cutter": 2e-3,
}
"""AdamW's for a part of stage 2 that is trained alone (ours)."""


def train_part(
    part: str,
    data: Given,
    out: Path,
    *,
    batch: int | None = None,
    options: TrainOptions,
    real_share: float | None = None,
    start: str | Path | None = None,
    only: str | None = None,
) -> Iterator[Step]:
    """`emo2 train`: a part of the compact preset on the studio's data, and on real film.

    `start`: weights to begin with (a file, a folder of them, a preset's name); `only`: of `video.stage.ALONE`.
    """
    out = Path(out)
    if part not in _PARTS:
        raise UserError(f"unknown part {part!r}; give one of {', '.join(_PARTS)}")
    if only and part != "video":
        raise UserError(f"--only names a part of video; {part} is trained as one")
    name, build = _PARTS[part]
    if options.distil and part != "motion" and only != "denoiser":
        raise UserError(
            "--distil is for what has a diffusion: motion, video with --only denoiser, and the recipes"
        )
    # A student's run begins with its teacher's weights also where it goes on: the loop then restores its own.
    teacher = teacher_of(name, start) if options.distil else None
    started = _read_start(name, teacher or _written(name, out, options) or start)
    config = started.config if teacher else _sampled_anew(started.config, only)
    torch.manual_seed(options.seed)  # first weights only: torch's initialisers take no generator
    order = Order(
        config=config, data=folders_given(data), out=out, batch=batch, seed=options.seed,
        real_share=real_share, only=only,
    )  # fmt: skip
    built = build(order)
    if started.path is not None:
        weights.fill(built.stage, started.tensors, started.path)
    extras = replace(built.extras, facts=built.past(started.facts))
    rate = built.rate
    if teacher:
        built.stage.distil(options.distil)  # type: ignore[operator]
        config = student_config(config, name, options.distil)
        extras, rate = student_extras(name, teacher, out, options, extras), RATE
    options = replace(
        options, preview_every=1000 if extras.preview else 0, rate=options.rate or rate
    )
    yield from train(
        built.stage,
        built.batch_at,
        out,
        config=config,
        part=name,
        options=options,
        extras=extras,
    )


@dataclass(frozen=True, kw_only=True)
class _Start:
    """What a run begins with."""

    config: Config = PRESETS["compact"]
    path: Path | None = None
    """None: networks begin at random."""
    tensors: Mapping[str, Tensor] = field(default_factory=dict)
    facts: Mapping[str, str] = field(default_factory=dict)


def _written(name: str, out: Path, options: TrainOptions) -> Path | None:
    """The weights that a run which is taken up again wrote itself."""
    written = out / f"{name}.safetensors"
    is_there = options.resume and state_of(out, name).exists() and written.exists()
    return written if is_there else None


def _read_start(name: str, start: str | Path | None) -> _Start:
    """The weights that a run begins with."""
    if start is None:
        return _Start()
    path = Path(start) if Path(start).is_file() else weights.path_of(str(start), name)
    tensors, config, facts = weights.load(path, part=name)
    if config.video.codec.kind != "relative":
        raise UserError(
            f"{path} holds a network over Stable Diffusion's latents; train it by a recipe (emo2 train emo-video)"
        )
    return _Start(config=config, path=path, tensors=tensors, facts=facts)


def _sampled_anew(config: Config, only: str | None) -> Config:
    """Sizes are the weights', how to sample is this emo2's; a student that is trained on is none any more."""
    is_changed = only in (None, "basis", "denoiser")
    config = as_usual(config, video=is_changed)
    if config.name in PRESETS and not config.video.distilled:
        steps = PRESETS[config.name].video.steps
        config = replace(config, video=replace(config.video, steps=steps))
    return config


@dataclass(frozen=True, kw_only=True)
class _Built:
    stage: nn.Module
    batch_at: BatchAt
    extras: Extras = Extras()  # noqa: RUF009 - frozen
    rate: float | None = None
    past: Callable[[Mapping[str, str]], Mapping[str, str]] = dict
    """Facts of the weights begun with, as this part counts them."""


def _motion_part(order: Order) -> _Built:
    from emo2.data.motion_windows import MotionWindows, load_performances, write_performances
    from emo2.motion import SpeechMotion

    folders = order.data
    if not folders:
        folder = order.out / "performances"
        folders = (folder,)
        if not folder.is_dir():
            log.info("no --data: the studio performs %d voices first", VOICES)
            write_performances(folder, order.config, first=0, count=VOICES)
    performances = [p for f in folders for p in load_performances(f, order.config)]
    stage = SpeechMotion(order.config)
    whole = [p.rows for p in performances if p.known is None]
    if not whole:
        raise UserError("real film alone does not tell all of a motion; add the studio's: --data")
    stage.motion.measure(torch.cat(whole)[::5].float())
    windows = MotionWindows(
        performances, order.config, batch=order.batch or BATCH, seed=order.seed,
        real_share=order.real_share,
    )  # fmt: skip
    return _Built(stage=stage, batch_at=windows.at, extras=Extras(preview=_motion_preview))


def _motion_preview(stage: nn.Module, folder: Path, step: int) -> None:
    """A motion file for a voice of the studio, through `sample`."""
    from emo2.hands import save
    from emo2.media import speech_from_samples
    from emo2.motion import SpeechMotion
    from emo2.studio.performance import performance_set

    assert isinstance(stage, SpeechMotion)
    take = next(performance_set(PREVIEW_VOICE, 1))
    speech = speech_from_samples(torch.as_tensor(take.samples), sample_rate=take.sample_rate)
    motion = stage.motion.sample(stage.speech.encode(speech, take.motion.fps), seed=0)
    folder.mkdir(parents=True, exist_ok=True)
    save(motion, folder / f"motion-{step:06d}.npz")


def _video_part(order: Order) -> _Built:
    from emo2.data.arm_pictures import WINDOWS, ArmPictureBatches
    from emo2.data.arm_places import PLACES, ArmPlaces
    from emo2.data.mixing import MixedBatches, StillsAndTakes, listener_of, mix_for
    from emo2.video import VideoStage
    from emo2.video.stage import ALONE, PARTS

    folders, config, only = order.folders(), order.config, order.only
    drawn = {"seed": order.seed, "real_share": order.real_share}
    if only is None:
        people = order.batch or BATCH
        batch_at = StillsAndTakes(folders, config, people=people, **drawn).at
    elif only == "arms":
        shards = order.folders(real=False)
        batch_at = ArmPlaces(shards, places=order.batch or PLACES, seed=order.seed).at
    elif only == "cutter":
        shards = order.folders(real=False)
        batch_at = ArmPictureBatches(shards, windows=order.batch or WINDOWS, seed=order.seed).at
    else:
        mix = mix_for(only, config.video, people=order.batch)
        hear = listener_of(config) if mix.draw.consecutive else None
        batch_at = MixedBatches(folders, mix, hear=hear, **drawn).at
    stage = VideoStage(config.video)
    parts = tuple(p for p in ALONE if p != "details" or stage.details is not None)
    trained = tuple(p for p in parts if p in PARTS) if only is None else (only,)
    if only and only not in parts:
        raise UserError(f"the weights to train on have no {only}; give --only {', '.join(parts)}")
    if only:
        stage.train_only(only)
    return _Built(
        stage=stage,
        batch_at=batch_at,
        rate=RATES.get(only or ""),
        past=partial(_steps_of_parts, parts),
        extras=Extras(
            begin=partial(_fit_scale, order) if only == "denoiser" else None,
            finish=partial(_fit_table, order) if "basis" in trained else None,
            counters=("step", *(f"steps_of_{part}" for part in trained)),
        ),
    )


def _steps_of_parts(parts: tuple[str, ...], facts: Mapping[str, str]) -> Mapping[str, str]:
    """Steps that each part of stage 2 has had; weights that do not tell have counted the basis's."""
    steps = {f"steps_of_{part}": facts.get(f"steps_of_{part}", "0") for part in parts}
    if "steps_of_basis" not in facts:
        steps["steps_of_basis"] = facts.get("step", "0")
    return dict(facts) | steps


def _fit_table(order: Order, stage: nn.Module) -> None:
    """The table of face actions, fitted to what the trained basis leaves over."""
    from emo2.data.shards import Draw, PeopleBatches
    from emo2.video import VideoStage
    from emo2.video.fitting import fit_table

    assert isinstance(stage, VideoStage)
    draw = Draw(people=order.batch or BATCH, augment=False, half=True)
    stills = PeopleBatches(order.folders(real=False), draw, seed=order.seed)
    device = next(stage.parameters()).device
    used = fit_table(stage, (stills.at(n).to(device) for n in range(TABLE_BATCHES)))
    log.info("the table of face actions is fitted to %d frames", used)


def _fit_scale(order: Order, stage: nn.Module) -> None:
    """The scale around the expectation, in which the denoiser is to learn."""
    from emo2.data.mixing import MixedBatches, mix_for
    from emo2.video import VideoStage
    from emo2.video.fitting import fit_scale

    assert isinstance(stage, VideoStage)
    mix = mix_for("denoiser", order.config.video, people=order.batch)
    mix = replace(mix, draw=replace(mix.draw, maps=0))
    takes = MixedBatches(order.folders(), mix, seed=order.seed, real_share=order.real_share)
    device = next(stage.parameters()).device
    generator = torch.Generator().manual_seed(order.seed)
    grown = fit_scale(stage, (takes.at(n).to(device) for n in range(SCALE_BATCHES)), generator)
    log.info("the scale around the expectation is fitted: it grew by %.2f", float(grown.mean()))


def _finder_part(order: Order) -> _Built:
    from emo2.portrait.data import FinderBatches
    from emo2.portrait.stage import PortraitFinder

    finder, size = order.config.finder, order.batch or BATCH
    sizes = (size, max(size // 2, 1), size + size // 2)  # hands are what is hard
    batches = FinderBatches(order.folders(real=False), finder, seed=order.seed, sizes=sizes)
    stage = PortraitFinder(finder)
    stage.measure(batches.faces())
    return _Built(stage=stage, batch_at=batches.at)


_PARTS: dict[str, tuple[str, Callable[[Order], _Built]]] = {
    "motion": ("speech_motion", _motion_part),
    "video": ("video", _video_part),
    "finder": ("finder", _finder_part),
}
"""Names of their weights files, and how they are built."""
