"""Few steps by distillation, guidance inside: what a student should say where its teacher takes many guided steps.

Progressive distillation (Salimans and Ho 2022, algorithm 2) from a guided teacher (Meng et al. 2023): the student's one
evaluation leads from a step's noise to the next as far as several DDIM steps of the teacher do.  All of the teacher's
steps that lie within one of the student's are taken at once, where the papers halve their number round after round
**(ours)**: there are few of them.  The student has the teacher's network, so its weights load as any others.

Only the times of its own steps are learned, spaced as `diffusion.sample` spaces them ("trailing": Lin et al. 2023, §3.3):
the first is the last training step, where there is nothing but noise, as sampling begins there, and the last leads to
what is clean.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Generic, TypeVar

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from emo2.diffusion import Denoiser, NoiseProcess
from emo2.errors import UserError

TEACHER_STEPS = 20
"""Steps that a teacher takes in all, where it is not distilled itself (ours)."""

RATE = 3e-4
"""AdamW's for a student of compact (ours): it begins with weights that are nearly right."""

Taught = TypeVar("Taught", bound=nn.Module)


@dataclass(frozen=True)
class Course:
    """The student's few steps, and those of its teacher within each of them."""

    process: NoiseProcess
    steps: int
    """The student's."""
    inner: int
    """The teacher's within one of them."""

    @classmethod
    def of(
        cls, process: NoiseProcess, steps: int, *, usual: int = TEACHER_STEPS, made_for: int = 0
    ) -> Course:
        """A course of `steps` with a teacher who takes at least `usual` in all, or those that it is itself distilled to."""
        if made_for % steps:
            shares = ", ".join(str(n) for n in range(1, made_for) if made_for % n == 0)
            raise UserError(
                f"the teacher is distilled to {made_for} steps itself and knows no others; found --distil {steps}, "
                f"give {shares or 'an undistilled teacher'}"
            )
        return cls(process, steps, -(-(made_for or usual) // steps))

    @cached_property
    def stops(self) -> Int[Tensor, "steps stops"]:
        """Times at which each of the student's steps begins, its teacher stops, and it ends; -1: clean."""
        solver = self.process.scheduler("ddim")
        solver.set_timesteps(self.steps)
        first = solver.timesteps.double()
        last = first - self.process.steps // self.steps  # as diffusers' DDIM goes on from there
        share = torch.linspace(0.0, 1.0, self.inner + 1, dtype=torch.float64)
        return (first[:, None] + share * (last - first)[:, None]).round().long().clamp(min=-1)

    @cached_property
    def _kept(self) -> Float[Tensor, " times"]:
        """alpha-bar at every time, and 1 at the end, where time -1 finds it."""
        return torch.cat([self.process.kept(), torch.ones(1)])

    def draw_times(self, count: int, generator: torch.Generator) -> Int[Tensor, " b"]:
        """Training times: those at which the student's steps begin."""
        return self.stops[torch.randint(0, self.steps, (count,), generator=generator), 0]

    @torch.no_grad()
    def aim(
        self, teacher: Denoiser, noisy: Float[Tensor, "b *rest"], time: Int[Tensor, " b"]
    ) -> Float[Tensor, "b *rest"]:
        """The clean signal whose one DDIM step ends where the teacher's do (Salimans and Ho 2022, algorithm 2)."""
        begins = self.stops[:, 0].to(time.device)
        stops = self.stops.to(time.device)[(time[:, None] == begins).int().argmax(1)]
        x = noisy
        for now, then in pairwise(stops.unbind(1)):
            x = self._step(teacher(x, now).float(), x, now, then)
        signal, spread = self._parts(stops[:, 0], x)
        signal_then, spread_then = self._parts(stops[:, -1], x)
        ratio = spread_then / spread
        return (x - ratio * noisy) / (signal_then - ratio * signal)

    def weight(self, time: Int[Tensor, " b"], like: Tensor) -> Tensor:
        """The truncated weight of an error of the clean signal: max(SNR, 1) (Salimans and Ho 2022, §4)."""
        signal, spread = self._parts(time, like)
        return (signal / spread).square().clamp(min=1.0)

    def _step(self, said: Tensor, noisy: Tensor, now: Tensor, then: Tensor) -> Tensor:
        """DDIM (Song et al. 2021, eq. 12 without noise)."""
        clean = self.process.clean_of(said, noisy, now)
        signal, spread = self._parts(now, noisy)
        signal_then, spread_then = self._parts(then, noisy)
        return signal_then * clean + spread_then * (noisy - signal * clean) / spread

    def _parts(self, time: Tensor, like: Tensor) -> tuple[Tensor, Tensor]:
        """As `NoiseProcess.parts`, the clean end included."""
        kept = self._kept.to(like.device)[time].view(-1, *[1] * (like.dim() - 1))
        return kept.sqrt(), (1.0 - kept).sqrt()


@dataclass(frozen=True)
class Tutor(Generic[Taught]):
    """A teacher, and the course on which it teaches; the student holds it, its weights are none of the student's."""

    course: Course
    network: Taught
    guidance: float = 1.0
    """Scale of its guidance, where the network does not bind it itself."""

    def on(self, device: torch.device) -> Taught:
        """The teacher where the student is."""
        return self.network.to(device)
