"""How the latent stage learns: EMO's clip objective, and which of its weights a recipe trains (EMO §3.3).

Motion frames are dropped at times, so that a film can begin; audio and reference as well, so that guidance has an
unconditional half.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from emo2.nn import speed_code
from emo2.video.conditions import Features, FrameConditions, Reference
from emo2.video.film_conditions import speech_rows
from emo2.video.film_examples import FilmExamples, drop_parts

if TYPE_CHECKING:
    from emo2.video.latent_stage import LatentStage

TRAINED = {
    "reference": r"^reference\.",
    "backbone": r"^denoiser\.(?!guidance|confidence|.*\.(temporal|audio|audio_attention|norm2)\.)",
    "guidance": r"^denoiser\.guidance\.",
    "confidence": r"^denoiser\.confidence\.",
    "audio": r"^(audio_tokens\.|denoiser\..*\.(audio|audio_attention|norm2)\.)",
    "face": r"^face_tokens\.",
    "temporal": r"\.temporal\.(?!speed\.)",
    "speed": r"\.temporal\.speed\.",
}
"""What can be trained on its own: a name, and the names of its parameters."""


def choose(network: nn.Module, parts: tuple[str, ...]) -> None:
    """Let these of `TRAINED` learn, and nothing else; each must have something to learn with."""
    unknown = set(parts) - set(TRAINED)
    if unknown or not parts:
        raise ValueError(f"parts to train are {', '.join(TRAINED)}; got {parts}")
    network.requires_grad_(False)
    for part in parts:
        pattern = re.compile(TRAINED[part])
        chosen = [p for name, p in network.named_parameters() if pattern.search(name)]
        if not chosen:
            raise ValueError(f"this network has no {part} to train")
        for parameter in chosen:
            parameter.requires_grad_(True)


def denoising_loss(
    stage: LatentStage, batch: FilmExamples, generator: torch.Generator
) -> Float[Tensor, ""]:
    """Mean squared error of the prediction against the process's target (EMO §3.1: the noise)."""
    count, before = len(batch.frames), batch.before
    latents = latents_of(stage, batch)
    clean = latents[:, 1 + before :]
    noise = torch.randn(clean.shape, generator=generator).to(clean)
    time = stage.way.process.draw_times(count, generator).to(clean.device)
    noisy = stage.way.process.add_noise(clean, noise, time)
    features = stage.see(latents[:, : 1 + before])
    motion = motion_features(stage, features, before, generator)
    alone = bool(torch.rand((), generator=generator) < stage.dropping.reference)
    reference = None if alone else Reference(sites=tuple(f[:, 0] for f in features))
    frames = frame_conditions(stage, batch, generator, unheard=stage.dropping.audio)
    predicted, _ = stage.denoiser(noisy, time, frames=frames, reference=reference, motion=motion)
    target = stage.way.process.target_of(clean, noise, time)
    return F.mse_loss(predicted.float(), target)


@torch.no_grad()
def latents_of(stage: LatentStage, batch: FilmExamples) -> Float[Tensor, "b n c h w"]:
    """Of the reference, then of motion frames and clip."""
    images = torch.cat([batch.reference[:, None], batch.frames], dim=1)
    return stage.codec.encode(images).float().clone()  # the codec's own are closed to autograd


def motion_features(
    stage: LatentStage, features: Features, before: int, generator: torch.Generator
) -> Features | None:
    """Features of the motion frames; zeros where an example is a film's first clip."""
    if not before:
        return None
    count = len(features[0])
    begins = drop_parts(count, stage.dropping.motion, generator).to(features[0].device)
    return tuple(f[:, 1:] * ~begins.view(-1, 1, 1, 1) for f in features)


def frame_conditions(
    stage: LatentStage, batch: FilmExamples, generator: torch.Generator, *, unheard: float
) -> FrameConditions:
    """Of the clip's frames; neighbours among the motion frames are heard and felt too, a share of examples hears nothing."""
    config = stage.config.denoiser
    clip = slice(batch.before, None)
    audio = None
    if batch.audio is not None and config.audio_width:
        count, frames = batch.audio.shape[:2]
        heard = ~drop_parts(count, unheard, generator).to(batch.audio.device)
        rows = torch.stack(
            [speech_rows(v, stage.config, range(frames), stage.way.fps) for v in batch.audio]
        )
        audio = stage.audio_context(rows)[:, clip] * heard.view(-1, 1, 1, 1)
    speed = None
    if batch.speed is not None and config.speed_buckets:
        speed = speed_code(batch.speed[:, clip], config.speed_buckets)
    maps = batch.maps
    if maps is not None and maps.shape[1] > 1:
        maps = maps[:, clip]
    confidence = None if batch.confidence is None else batch.confidence[:, clip]
    return FrameConditions(audio=audio, speed=speed, maps=maps, confidence=confidence)
