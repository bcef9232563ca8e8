"""How a latent stage's denoiser is distilled: it learns to do in few evaluations what a guided teacher does in many.

The teacher is the denoiser as it was, with its guidance; both read the same reference features, so the reference network
stays.  Nothing is withheld from the student but motion frames, which a film's first clip has none of.
"""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor

from emo2.diffusion import Denoiser
from emo2.distil import Course, Tutor
from emo2.video.conditions import Features, FrameConditions, Reference
from emo2.video.film_examples import FilmExamples
from emo2.video.latent_training import frame_conditions, latents_of, motion_features
from emo2.video.unet import UNet

if TYPE_CHECKING:
    from emo2.video.latent_stage import LatentStage


def become_student(stage: LatentStage, steps: int) -> None:
    """From now on the denoiser, and it alone, learns to do in `steps` evaluations what it does now."""
    was = stage.config
    course = Course.of(stage.way.process, steps, usual=was.steps, made_for=was.distilled)
    teacher = copy.deepcopy(stage.denoiser).eval().requires_grad_(False)
    stage.tutor = Tutor(course, teacher, guidance=stage.guidance)
    stage.config = was.distilled_to(steps)
    stage.requires_grad_(False)
    stage.denoiser.requires_grad_(True)


def student_loss(
    stage: LatentStage, tutor: Tutor[UNet], batch: FilmExamples, generator: torch.Generator
) -> Float[Tensor, ""]:
    """Squared error of the clean latents against what the teacher makes of the same noisy ones, by `Course.weight`."""
    process, course = stage.way.process, tutor.course
    latents = latents_of(stage, batch)
    clean = latents[:, 1 + batch.before :]
    noise = torch.randn(clean.shape, generator=generator).to(clean)
    time = course.draw_times(len(clean), generator).to(clean.device)
    noisy = process.add_noise(clean, noise, time)
    with torch.no_grad():
        features = stage.see(latents[:, : 1 + batch.before])
        frames = frame_conditions(stage, batch, generator, unheard=0.0)
    motion = motion_features(stage, features, batch.before, generator)
    sites = tuple(f[:, 0] for f in features)
    teacher = bind_teacher(stage, tutor, frames, sites, motion)
    aim = course.aim(teacher, noisy, time)
    reference = Reference(sites=sites)
    said, _ = stage.denoiser(noisy, time, frames=frames, reference=reference, motion=motion)
    error = process.clean_of(said.float(), noisy, time) - aim
    return (course.weight(time, error) * error.square()).mean()


@torch.no_grad()
def bind_teacher(
    stage: LatentStage,
    tutor: Tutor[UNet],
    frames: FrameConditions,
    sites: tuple[Tensor, ...],
    motion: Features | None,
) -> Denoiser:
    """The teacher with its conditions bound, guided as it samples."""
    network, scale = tutor.on(sites[0].device), tutor.guidance
    if frames.maps is not None:
        frames = replace(frames, maps=None, guidance=network.guide(frames.maps))
    if scale == 1.0:
        reference = Reference(sites=sites)
        return lambda noisy, time: network(
            noisy, time, frames=frames, reference=reference, motion=motion
        )[0]
    halves = stage.halves(frames)
    unread = Reference(sites=sites, unread=len(sites[0]))
    both = None if motion is None else tuple(f.repeat(2, 1, 1, 1) for f in motion)

    def denoise(noisy: Tensor, time: Tensor) -> Tensor:
        rows = noisy.repeat(2, 1, 1, 1, 1), time.repeat(2)
        said, _ = network(*rows, frames=halves, reference=unread, motion=both)
        free, told = said.float().chunk(2)
        return free + scale * (told - free)

    return denoise
