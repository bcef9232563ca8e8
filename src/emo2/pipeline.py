"""The whole method: a portrait and a voice become clips (EMO2, overview figure).

`load` builds the networks of a preset and fills them with its weights; `animate` is the flow of the
paper, one line an arrow.  Files are not known here: `generate.py` does those.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import tee
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor, nn

from emo2 import weights
from emo2.config import Config, MotionConfig
from emo2.errors import UserError
from emo2.guidance import draw, fit_camera
from emo2.media import num_frames
from emo2.motion import MotionStage, SpeechMotion
from emo2.portrait import PortraitFinder
from emo2.reel import Reel, join
from emo2.signals import Clip, GuidanceMaps, Motion, Portrait, Speech, SpeechFeatures
from emo2.speech import SpeechEncoder
from emo2.start import pose_of
from emo2.video import VideoStage

Network = TypeVar("Network", bound=nn.Module)


@dataclass(frozen=True, kw_only=True)
class Options:
    """What the user may ask of a film."""

    seed: int = 0
    style: str | None = None
    """One of the preset's styles; None: its first."""
    speed: float = 1.0
    """Pace of the hands against the style's usual one."""
    amplitude: float = 1.0
    """Size of the moves against the usual; 0 keeps the photo's pose."""
    steps: int | None = None
    """Diffusion steps of stage 2; None: the preset's."""


@dataclass(frozen=True, kw_only=True)
class Models:
    """A preset's networks, ready."""

    config: Config
    finder: PortraitFinder
    speech: SpeechEncoder
    motion: MotionStage
    video: VideoStage
    facts: Mapping[str, Mapping[str, str]]
    """What each weights file says of itself, by part."""


@torch.inference_mode()
def animate(
    models: Models,
    portrait: Portrait,
    speech: Speech,
    *,
    options: Options | None = None,
    motion: Motion | None = None,
) -> Iterator[Clip]:
    """Portrait and speech to video, clip after clip; `motion` takes the place of stage 1 where given.

    All of it flows: the first clip is there after the first windows, however long the voice.
    """
    options = options or Options()
    for_motion, for_film = hear(models.speech, speech, models.config.fps)
    moves = (
        plan(models.motion, portrait, for_motion, options) if motion is None else Reel.of(motion)
    )
    del for_motion  # unread, it would hold all that the film's half has read
    yield from render(models, portrait, for_film, moves, options)


def hear(
    encoder: SpeechEncoder, speech: Speech, fps: float
) -> tuple[Reel[SpeechFeatures], Reel[SpeechFeatures]]:
    """Speech features for both stages, encoded once, when the first of them asks."""
    frames = num_frames(speech.duration_s, fps)
    first, second = tee(encoder.stream(speech, fps))
    return Reel(first, frames), Reel(second, frames)


def plan(
    stage: MotionStage,
    portrait: Portrait | None,
    features: SpeechFeatures | Reel[SpeechFeatures],
    options: Options,
) -> Reel[Motion]:
    """Stage 1: hand motion (and hints) for the whole voice, begun from the portrait's own pose."""
    windows = stage.windows(
        features,
        start=None if portrait is None else pose_of(portrait, fps=stage.fps),
        style=style_of(stage.config, options),
        speed=options.speed,
        amplitude=options.amplitude,
        seed=options.seed,
    )
    return Reel(windows, len(features))


def render(
    models: Models,
    portrait: Portrait,
    features: SpeechFeatures | Reel[SpeechFeatures],
    motion: Motion | Reel[Motion],
    options: Options,
    *,
    start: int = 0,
    state: dict[str, Tensor] | None = None,
) -> Iterator[Clip]:
    """Stage 2, from frame `start` on; `state` is that of the clip which ended there."""
    camera, moves = fit_camera(portrait), Reel.of(motion)
    opening = moves.between(0, 1)

    def maps(first: int, stop: int, box: Tensor, side: int) -> GuidanceMaps:
        shown = join(
            [opening, moves.between(first, stop)]
        )  # maps count from the film's first frame
        frames = range(1, 1 + stop - first)
        return draw(shown, camera.view(box, (side, side)), (side, side), frames=frames)

    look = models.video.look(portrait)
    yield from models.video.sample(
        look, portrait, features, moves, maps,
        seed=options.seed, steps=options.steps, start=start, state=state,
    )  # fmt: skip


def style_of(config: MotionConfig, options: Options) -> str:
    """The style asked for, if stage 1 has learned it."""
    known = config.styles
    if options.style is None:
        return known[0]
    if options.style not in known:
        raise UserError(f"unknown style {options.style!r}; this preset has {', '.join(known)}")
    return options.style


def load(preset: str | Path = "compact", *, device: str = "cpu") -> Models:
    """Networks and weights of a preset: a name, or a folder with the three files of one.

    A file that is missing, damaged or made for other networks is a `UserError`.
    """
    place = device_of(device)
    found = {
        part: weights.load(weights.path_of(str(preset), part), part=part) for part in weights.PARTS
    }
    config = _join({part: config for part, (_, config, _) in found.items()})
    models = build(config, {part: facts for part, (_, _, facts) in found.items()})
    for part, modules in parts_of(models).items():
        path = weights.path_of(str(preset), part)
        weights.fill(modules, found[part][0], path)
        modules.eval().requires_grad_(False).to(place)
    return models


def load_finder(preset: str = "compact") -> PortraitFinder:
    """Only the portrait finder of a preset."""
    path = weights.path_of(preset, "finder")
    tensors, config, _ = weights.load(path, part="finder")
    return _ready(PortraitFinder(config.finder), tensors, path)


def load_stage_1(preset: str = "compact") -> tuple[Config, SpeechMotion]:
    """Only the speech encoder and stage 1 of a preset."""
    path = weights.path_of(preset, "speech_motion")
    tensors, config, _ = weights.load(path, part="speech_motion")
    return config, _ready(SpeechMotion(config), tensors, path)


def _ready(network: Network, tensors: Mapping[str, Tensor], path: Path) -> Network:
    weights.fill(network, tensors, path)
    return network.eval().requires_grad_(False)


def build(config: Config, facts: Mapping[str, Mapping[str, str]] | None = None) -> Models:
    """The networks of a config, with the weights of their initialisation."""
    return Models(
        config=config,
        finder=PortraitFinder(config.finder),
        speech=SpeechEncoder(config.speech),
        motion=MotionStage(config),
        video=VideoStage(config.video),
        facts=facts or {},
    )


def parts_of(models: Models) -> dict[str, nn.Module]:
    """The networks by weights file; a part's keys are those of its module's `state_dict`."""
    return {
        "speech_motion": nn.ModuleDict({"speech": models.speech, "motion": models.motion}),
        "video": models.video,
        "finder": models.finder,
    }


def save(models: Models, folder: Path) -> None:
    """Write the three weights files of `models` into `folder`, from where `load` takes them."""
    for part, modules in parts_of(models).items():
        path = folder / f"{part}.safetensors"
        weights.save(path, modules.state_dict(), models.config, part=part)


def device_of(name: str) -> torch.device:
    """The device of that name, if this machine has it."""
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise UserError(f"unknown device {name!r}; give cpu or cuda") from error
    if device.type == "cuda" and not torch.cuda.is_available():
        raise UserError("this machine has no CUDA device that torch can use; leave --device out")
    if device.type not in ("cpu", "cuda"):
        raise UserError(f"device {name!r} is not supported; give cpu or cuda")
    return device


def _join(configs: Mapping[str, Config]) -> Config:
    """One config from those of the parts, each of which is right about its own networks."""
    speech_motion, video = configs["speech_motion"], configs["video"]
    if speech_motion.fps != video.fps:
        raise UserError(
            f"stage 1 was trained at {speech_motion.fps:g} frames/s and stage 2 at {video.fps:g}; "
            "give weights of one preset"
        )
    return replace(
        video,
        speech=speech_motion.speech,
        motion=speech_motion.motion,
        finder=configs["finder"].finder,
    )
