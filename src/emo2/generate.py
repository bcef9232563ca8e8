"""Files to files: a photo and a voice to a film, a voice to a motion file, with events on the way.

`generate` and `make_motion` are generators: whoever runs them (the command, a page, a test) sees each
event as it happens and may stop at any of them; work that was finished is kept for the next run.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Literal

import torch

from emo2 import media, pipeline, weights
from emo2.errors import UserError
from emo2.framing import reframe
from emo2.hands import load_motion, resample
from emo2.hands import save as save_motion
from emo2.hands.preview import render_preview
from emo2.motion.feeling import felt
from emo2.pipeline import Models, Options
from emo2.portrait import find
from emo2.reel import Reel, join
from emo2.resume import digest_files, digest_package
from emo2.signals import Motion, Portrait, Speech
from emo2.video.latent_load import Setup

LONGEST_SIDE = 1024
"""A film is as large as its photo, up to this; `size` asks for more."""


@dataclass(frozen=True, kw_only=True)
class Event:
    """What happened in a job; `text` says it to a person."""

    kind: Literal["progress", "note", "done"]
    stage: str = ""
    done: int = 0
    total: int = 0
    text: str = ""
    path: Path | None = None

    def facts(self) -> dict[str, str | int]:
        """The fields that say something, for machines."""
        if self.kind == "progress":
            return {"stage": self.stage, "done": self.done, "total": self.total}
        path = {} if self.path is None else {"path": str(self.path)}
        return {"text": self.text, **path}


@dataclass(frozen=True, kw_only=True)
class Job:
    """One `emo2 generate`."""

    photo: Path
    voice: Path
    output: Path
    preset: str = "compact"
    seed: int = 0
    style: str | None = None
    speed: float = 1.0
    amplitude: float = 1.0
    emotion: str | None = None
    motion: Path | None = None
    save_motion: Path | None = None
    size: tuple[int, int] | None = None
    face: int | None = None
    device: str = "cpu"
    steps: int | None = None
    keep_frames: Path | None = None
    resume: bool = True
    setup: Setup = field(default_factory=Setup)
    """For presets over Stable Diffusion's latents."""

    @property
    def options(self) -> Options:
        """What of it the networks are told."""
        return Options(**{f.name: getattr(self, f.name) for f in fields(Options)})

    def fingerprint(self) -> str:
        """Stands for all that shapes the film: the same fingerprint, the same bytes."""
        parts = [weights.path_of(self.preset, part) for part in weights.PARTS]
        extra = [self.motion, self.setup.embedding, self.setup.lora]
        files = [self.photo, self.voice, *parts, *(path for path in extra if path is not None)]
        wishes = {
            **asdict(self.options),
            "size": self.size,
            "face": self.face,
            "device": self.device,
            "setup": self.setup,
        }
        return digest_files(
            files, digest_package(), repr(wishes), torch.__version__, str(torch.get_num_threads())
        )


def generate(job: Job) -> Iterator[Event]:
    """Make the film; what is wrong with the inputs is said before the networks are loaded."""
    require_place(job.output, ".mp4")
    if job.save_motion is not None:
        require_place(job.save_motion, ".npz")
    image, speech = media.read_photo(job.photo), media.read_voice(job.voice)
    given = None if job.motion is None else load_motion(job.motion)
    models = pipeline.load(job.preset, device=job.device, setup=job.setup)
    pipeline.style_of(models.config.motion, job.options)
    pipeline.feeling_of(models, job.options)
    found = find(image, models.finder, face_index=job.face or 0)
    portrait = reframe(found, pipeline.film_size(models, found.size, job.size), LONGEST_SIDE)
    yield from (Event(kind="note", text=n) for n in pipeline.notes(models, portrait))
    yield from _film(job, models, portrait, speech, given)


def _film(
    job: Job, models: Models, portrait: Portrait, speech: Speech, given: Motion | None
) -> Iterator[Event]:
    fps, total = models.config.fps, media.num_frames(speech.duration_s, models.config.fps)
    if given is not None:
        given = fit_motion(given, total, fps, str(job.motion))
    for_film, motion = pipeline.direct(models, portrait, speech, job.options, given)
    if job.save_motion is not None:
        motion = Reel(_saved(motion, job.save_motion), total)
    film = media.Film(
        job.output, portrait.size, fps, speech, job.keep_frames,
        fingerprint=job.fingerprint(), resume=job.resume,
    )  # fmt: skip
    with film, torch.inference_mode():
        if film.frames_done:
            text = f"going on after frame {film.frames_done} of {total}, where an earlier run ended"
            yield Event(kind="note", text=text)
        yield Event(kind="progress", stage="film", done=film.frames_done, total=total)
        if film.frames_done < total:
            for clip in pipeline.render(
                models, portrait, for_film, motion, job.options,
                start=film.frames_done, state=film.state(),
            ):  # fmt: skip
                film.write(clip, clip.state)
                if clip.start == 0:
                    first = film.segments[0]
                    yield Event(kind="note", text=f"first clip to watch: {first}", path=first)
                yield Event(kind="progress", stage="film", done=film.frames_done, total=total)
        if job.save_motion is not None:
            motion.forget(total)  # what was not needed for the film is made and saved
            text = f"motion written to {job.save_motion}"
            yield Event(kind="note", text=text, path=job.save_motion)
    yield Event(kind="done", text=f"wrote {job.output}", path=job.output)


def _saved(motion: Reel[Motion], path: Path, size: int = 100) -> Iterator[Motion]:
    """The same motion, written to `path` as soon as all of it is there."""
    parts = []
    for start in range(0, len(motion), size):
        parts.append(motion.between(start, min(start + size, len(motion))))
        motion.forget(start)
        if start + size >= len(motion):
            save_motion(join(parts), path)
        yield parts[-1]


@dataclass(frozen=True, kw_only=True)
class MotionJob:
    """One `emo2 motion`."""

    voice: Path
    output: Path
    preset: str = "compact"
    seed: int = 0
    style: str | None = None
    speed: float = 1.0
    amplitude: float = 1.0
    emotion: str | None = None
    preview: Path | None = None

    @property
    def options(self) -> Options:
        """What of it stage 1 is told."""
        return Options(
            seed=self.seed, style=self.style, speed=self.speed, amplitude=self.amplitude,
            emotion=self.emotion,
        )  # fmt: skip


def make_motion(job: MotionJob) -> Iterator[Event]:
    """Make the motion file, and the film of both hands where one is wanted."""
    require_place(job.output, ".npz")
    if job.preview is not None:
        require_place(job.preview, ".mp4")
    speech = media.read_voice(job.voice)
    config, stage_1 = pipeline.load_stage_1(job.preset)
    pipeline.style_of(config.motion, job.options)
    feeling = job.options.feeling
    yield Event(kind="progress", stage="speech", total=1)
    with torch.inference_mode():
        features, again = pipeline.hear(stage_1.speech, speech, config.fps)
        yield Event(kind="progress", stage="motion", total=1)
        plan = pipeline.plan(stage_1.motion, None, features, job.options)
        motion = felt(plan, again, feeling, job.seed).whole()
    save_motion(motion, job.output)
    if job.preview is not None:
        yield Event(kind="progress", stage="preview", total=1)
        render_preview(motion, speech, job.preview)
        yield Event(kind="note", text=f"wrote {job.preview}", path=job.preview)
    yield Event(kind="done", text=f"wrote {job.output}", path=job.output)


def fit_motion(motion: Motion, frames: int, fps: float, name: str) -> Motion:
    """A motion file at the film's rate; one of another length than the voice is a `UserError`."""
    if motion.fps != fps:
        motion = resample(motion, fps)
    if len(motion) != frames:
        raise UserError(
            f"{name} has {len(motion)} frames ({len(motion) / fps:.2f} s), but the voice needs {frames} "
            f"({frames / fps:.2f} s); give the motion of this voice, or cut or retime it"
        )
    return motion


def require_place(path: Path, suffix: str) -> None:
    """A `UserError` unless a file of that name could be written; nothing is left there."""
    if path.suffix.lower() != suffix:
        raise UserError(f"the output is {path.name}; give a name that ends in {suffix}")
    if path.is_dir():
        raise UserError(f"{path} is a folder; give the name of a file in it")
    folder = path.resolve().parent
    if not folder.is_dir():
        raise UserError(f"the folder {folder} does not exist; make it, or give another output")
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise UserError(
            f"{folder} cannot be written to ({error.strerror}); give an output in a folder of yours"
        ) from error
