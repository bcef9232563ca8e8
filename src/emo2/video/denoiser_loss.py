"""What the denoiser of stage 2 learns: the clean residual around the expectation, or what its teacher makes of it."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from einops import rearrange
from jaxtyping import Bool, Float, Int
from torch import Tensor

from emo2.diffusion import Denoiser
from emo2.distil import Course, Tutor
from emo2.video.conditions import FrameConditions
from emo2.video.examples import Examples, cell_weight
from emo2.video.look import Seen
from emo2.video.prior import Expectation, standardise
from emo2.video.unet import UNet

if TYPE_CHECKING:
    from emo2.video.stage import VideoStage

PURE_NOISE = 0.5
"""Share of the denoiser's training examples at the last time, where it has to say the mean of the residual: what one
evaluation gives, and what every further one begins with."""
FIRST_CLIP = 0.2
"""Share of the denoiser's training examples without motion frames: a film's first clip."""


def become_student(stage: VideoStage, steps: int) -> None:
    """From now on the denoiser learns to do in `steps` evaluations what it does now; all else stays."""
    course = Course.of(stage.process, steps, made_for=stage.config.distilled)
    stage.tutor = Tutor(course, copy.deepcopy(stage.denoiser).eval().requires_grad_(False))
    stage.config = stage.config.distilled_to(steps)
    stage.train_only("denoiser")


def denoiser_loss(
    stage: VideoStage,
    batch: Examples,
    seen: Seen,
    expected: Expectation,
    latents: Float[Tensor, "b f c s s"],
    known: Bool[Tensor, "b 3"],
    generator: torch.Generator,
) -> Float[Tensor, ""]:
    """Mean squared error of the clean standardised residual, mouth and eyes weighted."""
    before, tutor = stage.config.motion_frames, stage.tutor
    residual = standardise(latents, expected)[:, before:].detach()
    count = len(batch.view)
    noise = torch.randn(residual.shape, generator=generator).to(residual)
    time = _draw_times(stage, count, generator).to(residual.device)
    noisy = stage.process.add_noise(residual, noise, time)
    bound = _conditions(stage, batch, seen, expected, known, generator)
    if tutor is not None:
        residual = tutor.course.aim(bound(tutor.on(residual.device)), noisy, time)
    predicted = bound(stage.denoiser)(noisy, time)
    weight = cell_weight(batch.importance[:, before:], stage.config.codec.pack)
    error = rearrange((predicted - residual).square(), "b f c s t -> (b f) c s t")
    return (error * weight).mean() / weight.mean()


def _draw_times(stage: VideoStage, count: int, generator: torch.Generator) -> Int[Tensor, " b"]:
    if stage.tutor is not None:
        return stage.tutor.course.draw_times(count, generator)
    time = stage.process.draw_times(count, generator)
    last = torch.rand(count, generator=generator) < PURE_NOISE
    return torch.where(last, stage.process.steps - 1, time)


def _conditions(
    stage: VideoStage,
    batch: Examples,
    seen: Seen,
    expected: Expectation,
    known: Bool[Tensor, "b 3"],
    generator: torch.Generator,
) -> Callable[[UNet], Denoiser]:
    """What binds a denoiser to all that it is told of the clip."""
    before, device = stage.config.motion_frames, expected.mean.device
    begins = (torch.rand(len(batch.view), generator=generator) < FIRST_CLIP).to(device)
    motion = stage.see(batch.frames[:, :before], batch.view, batch.marks).features
    motion = tuple(f * ~begins.view(-1, 1, 1, 1) for f in motion)
    given = stage.frame_conditions(batch.conditions, batch.view, known, audio=batch.audio)
    maps, sure = (z if z is None else z[:, before:] for z in (batch.maps, batch.confidence))
    frames = given.part(slice(before, None), FrameConditions(maps=maps, confidence=sure))
    reference = [f[:, 0].detach() for f in seen.features]
    mean = expected.mean[:, before:].detach()

    def bound(network: UNet) -> Denoiser:
        return lambda noisy, time: stage.denoise_with(
            noisy, time, mean, frames, reference, motion, network
        )

    return bound
