"""Runs in which a student learns from a teacher (`distil.py`): who the teacher is, and what the student's weights say."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from emo2 import weights
from emo2.config import Config, MotionConfig, VideoConfig
from emo2.errors import UserError
from emo2.presets import PRESETS
from emo2.resume import digest_files
from emo2.train import Extras, TrainOptions, state_of

COUNTER = "steps_distilled"
"""Fact that counts a student's steps."""
STAGE_1 = "speech_motion"

Sizes = TypeVar("Sizes", MotionConfig, VideoConfig)


def teacher_of(part: str, start: str | Path | None) -> Path:
    """The file of the teacher's weights."""
    if start is None:
        raise UserError("--distil needs a teacher; give its weights: --from")
    return Path(start) if Path(start).is_file() else weights.path_of(str(start), part)


def student_extras(
    part: str, teacher: Path, out: Path, options: TrainOptions, extras: Extras | None = None
) -> Extras:
    """What a student's weights say besides; a run goes on only with the teacher and the steps that it began with.

    Nothing is fitted before or after: a student stands on what its teacher stands on.
    """
    extras = extras or Extras()
    if not teacher.is_file():
        raise UserError(f"{teacher} is not there; give the teacher's weights: --from")
    name, written = digest_files([teacher])[:16], out / f"{part}.safetensors"
    if options.resume and state_of(out, part).exists() and written.exists():
        config = weights.config_of(written)
        taught = 0 if config is None else _steps(config, part)
        if (weights.facts_of(written).get("teacher"), taught) != (name, options.distil):
            raise UserError(
                f"{out} holds a student of another teacher or of other steps; give the --from and --distil that it "
                "began with, or another --out"
            )
    return replace(
        extras,
        begin=None,
        finish=None,
        facts=dict(extras.facts) | {"teacher": name},
        counters=(*extras.counters, COUNTER),
    )


def _steps(config: Config, part: str) -> int:
    return (config.motion if part == STAGE_1 else config.video).distilled


def student_config(config: Config, part: str, steps: int) -> Config:
    """The config of weights that are made for so many steps."""
    if part == STAGE_1:
        return replace(config, motion=config.motion.distilled_to(steps))
    return replace(config, video=config.video.distilled_to(steps))


def as_usual(config: Config, *, video: bool = True) -> Config:
    """The config of a student that is trained on without a teacher: it samples as its preset does again.

    `video`: stage 2's denoiser is what is trained on, or what it stands on.
    """
    usual = PRESETS.get(config.name)
    if usual is None:
        return config
    if config.motion.distilled:
        config = replace(config, motion=_undone(config.motion, usual.motion, "style_guidance"))
    if config.video.distilled and video:
        config = replace(config, video=_undone(config.video, usual.video))
    return config


def _undone(config: Sizes, usual: Sizes, *names: str) -> Sizes:
    names = ("steps", "guidance", "distilled", *names)
    return replace(config, **{name: getattr(usual, name) for name in names})
