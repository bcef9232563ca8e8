"""The whole method: a portrait and a voice become clips (EMO2, overview figure).

`load` builds the networks of a preset and fills them with its weights; `animate` is the flow of the
paper, one line an arrow.  Files are not known here: `generate.py` does those.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import tee
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor, nn

from emo2 import weights
from emo2.config import Config, MotionConfig
from emo2.convert.lora import add_lora
from emo2.errors import UserError
from emo2.guidance import draw, fit_camera
from emo2.hands import resample
from emo2.media import num_frames
from emo2.motion import MotionStage, SpeechMotion
from emo2.motion.feeling import Feeling, felt
from emo2.portrait import PortraitFinder
from emo2.presets import PRESETS
from emo2.reel import Reel, cut, join
from emo2.signals import FOLDED, Clip, GuidanceMaps, Motion, Portrait, Speech, SpeechFeatures
from emo2.speech import Ears, SpeechEncoder
from emo2.start import pose_of
from emo2.video import VideoStage
from emo2.video.entering_place import entering_sides, notes_with_entering
from emo2.video.families import require_voice
from emo2.video.latent_load import Setup, furnish, read_stage
from emo2.video.latent_stage import LatentStage

Network = TypeVar("Network", bound=nn.Module)

LONG_S = 600.0
"""Voices from this length on keep the features of wav2vec 2.0 (0.9 MB a second) on the disk."""


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
    emotion: str | None = None
    """One of `EMOTIONS`, on the face and in head and hands: NAME, or NAME:STRENGTH up to 1.5; None: the photo's face."""
    steps: int | None = None
    """Diffusion steps of stage 2; None: the preset's."""

    @property
    def feeling(self) -> Feeling:
        """What `emotion` says; a `UserError` where there is no such."""
        return Feeling.of(self.emotion or "neutral")


@dataclass(frozen=True, kw_only=True)
class Models:
    """A preset's networks, ready."""

    config: Config
    finder: PortraitFinder
    speech: SpeechEncoder
    motion: MotionStage
    video: VideoStage | LatentStage
    ears: Ears | None = None
    """What hears for stage 2, where that is not stage 1's encoder."""
    facts: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
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
    features, moves = direct(models, portrait, speech, options, motion)
    yield from render(models, portrait, features, moves, options)


def direct(
    models: Models, portrait: Portrait, speech: Speech, options: Options, given: Motion | None
) -> tuple[SpeechFeatures | Reel[SpeechFeatures], Reel[Motion]]:
    """What the film is made from: what stage 2 hears, and the motion, planned by stage 1 where none is given."""
    for_motion, for_film = hear(models.speech, speech, models.motion.fps)
    planned = given is None
    entering = entering_sides(portrait) if isinstance(models.video, VideoStage) else (False, False)
    feeling = feeling_of(models, options)
    motion = (
        Reel.of(given)
        if given is not None
        else plan(models.motion, portrait, for_motion, options, entering)
    )
    if feeling is not None:
        if given is not None and given.face is None:
            raise UserError(
                "the motion has no face to lay an emotion on; leave --emotion out, or give a motion with a face"
            )
        motion = felt(motion, for_film, feeling, options.seed)
    if models.ears is None:
        return for_film, motion
    fps = models.config.fps
    if planned and models.motion.fps != fps:
        motion = Reel.of(
            _lasting(resample(motion.whole(), fps), num_frames(speech.duration_s, fps))
        )
    return listen(models.ears, speech, fps), motion


def listen(ears: Ears, speech: Speech, fps: float) -> SpeechFeatures:
    """A voice by stage 2's own ears; the features of a long one lie on the disk while they are used."""
    if isinstance(ears, SpeechEncoder) or speech.duration_s < LONG_S:
        return ears.encode(speech, fps)
    handle, name = tempfile.mkstemp(prefix="emo2-speech-")
    os.close(handle)
    try:
        return ears.encode(speech, fps, store=Path(name))
    finally:
        Path(name).unlink()  # what is mapped stays until nobody uses it


def _lasting(motion: Motion, frames: int) -> Motion:
    """The motion cut, or its last frame held, to so many frames."""
    if len(motion) >= frames:
        return cut(motion, 0, frames)
    last = cut(motion, len(motion) - 1, len(motion))
    return join([motion, *[last] * (frames - len(motion))])


def film_size(
    models: Models, photo: tuple[int, int], wanted: tuple[int, int] | None
) -> tuple[int, int] | None:
    """The size of a film of a photo of that size; None: the photo's own will do."""
    if isinstance(models.video, LatentStage):
        return models.video.film_size(photo, wanted)
    return wanted


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
    entering: tuple[bool, bool] = (False, False),
) -> Reel[Motion]:
    """Stage 1: hand motion (and hints) for the whole voice, begun from the portrait's own pose.

    `entering`: hands (left, right) that the portrait does not show and that may come into the picture.
    """
    feeling = options.feeling
    windows = stage.windows(
        features,
        start=None if portrait is None else pose_of(portrait, fps=stage.fps, entering=entering),
        style=style_of(stage.config, options),
        speed=options.speed * feeling.tempo,
        amplitude=options.amplitude * feeling.size,
        seed=options.seed,
    )
    return Reel(windows, len(features))


def notes(models: Models, portrait: Portrait) -> tuple[str, ...]:
    """What a user should know of the photo and of these networks before a film is made."""
    if isinstance(models.video, LatentStage):
        own = (
            note for note in portrait.notes if note != FOLDED
        )  # drawn anew, each moves by itself
        return (*own, *models.video.notes)
    return notes_with_entering(portrait)


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
    if isinstance(models.video, LatentStage):
        assert isinstance(features, SpeechFeatures)
        yield from models.video.sample(
            models.video.look(portrait), features, motion,
            seed=options.seed, steps=options.steps, start=start, state=state,
        )  # fmt: skip
        return
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


def feeling_of(models: Models, options: Options) -> Feeling | None:
    """The emotion asked for, if there is one of that name and this preset moves faces by actions."""
    if options.emotion is None:
        return None
    if isinstance(models.video, LatentStage) or not models.motion.config.hints:
        raise UserError(
            f"an emotion ({options.emotion}) moves a face's actions, which this preset does not take; "
            "leave it out, or take the compact preset"
        )
    return options.feeling


def style_of(config: MotionConfig, options: Options) -> str:
    """The style asked for, if stage 1 has learned it."""
    known = config.styles
    if options.style is None:
        return known[0]
    if options.style not in known:
        raise UserError(f"unknown style {options.style!r}; this preset has {', '.join(known)}")
    return options.style


def load(
    preset: str | Path = "compact", *, device: str = "cpu", setup: Setup | None = None
) -> Models:
    """Networks and weights of a preset: a name, a converted file, or a folder with the three files of one.

    A file that is missing, damaged or made for other networks is a `UserError`.  `setup`: for stages over Stable
    Diffusion's latents; `device` may then name several, with commas.
    """
    if str(preset) in PRESETS:  # before anybody fetches gigabytes
        require_voice(PRESETS[str(preset)].video.family)
    path = weights.require_video(str(preset))
    found_config = weights.config_of(path)
    if found_config is not None and found_config.video.codec.kind == "sd":
        return _load_over_latents(str(preset), path, _placed(setup or Setup(), device))
    if setup is not None and setup != Setup():
        raise UserError(
            f"guidance, solver, windows, face embedding, LoRA, off-load, numbers and tiny decoder belong to presets "
            f"over Stable Diffusion's latents; {preset} has none of them"
        )
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


def _placed(setup: Setup, device: str) -> Setup:
    names = tuple(device.split(","))
    for name in names:
        device_of(name)
    return replace(setup, placement=replace(setup.placement, devices=names))


def _load_over_latents(preset: str, path: Path, setup: Setup) -> Models:
    """Finder and stage 1 of the compact preset (or the folder's own), stage 2 and its ears of the converted file."""
    motion_config, stage_1 = load_stage_1(preset)
    finder = load_finder(preset)
    stage, config, facts = read_stage(path, setup.placement.dtype)
    if setup.lora is not None:
        add_lora(stage, setup.lora)
    ears = furnish(stage, config, path, setup)
    if setup.placement.offload == "none":
        ears.to(setup.placement.device)
    return Models(
        config=replace(config, motion=motion_config.motion, finder=finder.config),
        finder=finder,
        speech=stage_1.speech,
        motion=stage_1.motion,
        video=stage,
        ears=ears,
        facts={"video": facts},
    )


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
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise UserError(
            f"this machine has no {name}; give cuda:0 to cuda:{torch.cuda.device_count() - 1}"
        )
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
