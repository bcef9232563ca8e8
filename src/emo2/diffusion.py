"""The noise process of both stages, guidance, and sampling over schedulers of `diffusers`.

A `Denoiser` maps (noisy, time) to the network's prediction with its conditions already bound; `sample` is a
generator of ever cleaner tensors and sees no condition.  Times are whole training steps, 0 the cleanest.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

Solver = Literal["ddim", "unipc", "lcm", "tcd"]
"""DDIM and UniPC are deterministic given the first noise; LCM and TCD draw noise at every step."""

Denoiser = Callable[[Tensor, Tensor], Tensor]
"""(noisy (b ...), time (b,)) -> prediction of the process's target."""


@dataclass(frozen=True, kw_only=True)
class NoiseProcess:
    """How noise is added, and what a network is asked for."""

    schedule: Literal["cosine", "linear", "scaled_linear"] = "cosine"
    """Nichol and Dhariwal 2021 eq. 17; betas in equal steps (Ho et al. 2020); their roots in equal steps (SD)."""
    target: Literal["x0", "noise", "velocity"] = "x0"
    steps: int = 1000
    beta_start: float = 0.00085
    beta_end: float = 0.012
    zero_snr: bool = False
    """Shift and scale sqrt(alpha-bar) so that the last step is pure noise (Lin et al. 2023, algorithm 1)."""

    def __post_init__(self) -> None:
        if self.zero_snr and self.target == "noise":
            raise ValueError(
                "a last step of pure noise says nothing of the signal; use target x0 or velocity"
            )

    def betas(self) -> Float[Tensor, " steps"]:
        """Variance added at each training step."""
        if self.schedule == "linear":
            betas = torch.linspace(self.beta_start, self.beta_end, self.steps)
        elif self.schedule == "scaled_linear":
            betas = torch.linspace(self.beta_start**0.5, self.beta_end**0.5, self.steps) ** 2
        else:
            kept = [_cosine_kept(i / self.steps) for i in range(self.steps + 1)]
            betas = torch.tensor(
                [min(1 - kept[i + 1] / kept[i], 0.999) for i in range(self.steps)],
                dtype=torch.float32,
            )
        return _ending_in_noise(betas) if self.zero_snr else betas

    def kept(self) -> Float[Tensor, " steps"]:
        """alpha-bar: the share of the clean signal's variance that is left at each step."""
        return torch.cumprod(1.0 - self.betas().double(), dim=0).float()

    def draw_times(self, count: int, generator: torch.Generator) -> Int[Tensor, " b"]:
        """Uniform training times."""
        return torch.randint(0, self.steps, (count,), generator=generator)

    def parts(self, clean: Tensor, time: Int[Tensor, " b"]) -> tuple[Tensor, Tensor]:
        """sqrt(alpha-bar) and sqrt(1 - alpha-bar) at `time`, shaped to multiply `clean`."""
        kept = self.kept().to(clean.device)[time].view(-1, *[1] * (clean.dim() - 1))
        return kept.sqrt(), (1.0 - kept).sqrt()

    def add_noise(self, clean: Tensor, noise: Tensor, time: Int[Tensor, " b"]) -> Tensor:
        """x_t = sqrt(alpha-bar) x_0 + sqrt(1 - alpha-bar) eps (Ho et al. 2020 eq. 4)."""
        signal, spread = self.parts(clean, time)
        return signal * clean + spread * noise

    def linear_guess(self, noisy: Tensor, time: Int[Tensor, " b"]) -> Tensor:
        """The best linear guess at a clean signal of unit variance (Karras et al. 2022 eq. 7, c_skip): sqrt(alpha-bar) x_t.

        Where only noise is left it is 0, so that a network which is shown it cannot take noise for signal.
        """
        return self.parts(noisy, time)[0] * noisy

    def target_of(self, clean: Tensor, noise: Tensor, time: Int[Tensor, " b"]) -> Tensor:
        """What the network should say."""
        if self.target == "x0":
            return clean
        if self.target == "noise":
            return noise
        signal, spread = self.parts(clean, time)
        return signal * noise - spread * clean

    def clean_of(self, prediction: Tensor, noisy: Tensor, time: Int[Tensor, " b"]) -> Tensor:
        """The clean signal that a prediction implies."""
        if self.target == "x0":
            return prediction
        signal, spread = self.parts(noisy, time)
        if self.target == "noise":
            return (noisy - spread * prediction) / signal
        return signal * noisy - spread * prediction

    def scheduler(self, name: Solver = "ddim") -> Any:  # noqa: ANN401 - diffusers' own
        """A scheduler of `diffusers` for this process; LCM and TCD are for weights distilled to few steps."""
        prediction = {"x0": "sample", "noise": "epsilon", "velocity": "v_prediction"}[self.target]
        common = {
            "num_train_timesteps": self.steps,
            "trained_betas": self.betas().numpy(),
            "prediction_type": prediction,
            "timestep_spacing": "trailing",
        }
        # Imported here: diffusers takes a second to load, each scheduler another, and help needs none of it.
        if name == "unipc":
            from diffusers.schedulers.scheduling_unipc_multistep import UniPCMultistepScheduler

            return UniPCMultistepScheduler(**common)
        common |= {"clip_sample": False, "set_alpha_to_one": True}
        if name == "lcm":
            from diffusers.schedulers.scheduling_lcm import LCMScheduler

            return LCMScheduler(**common)
        if name == "tcd":
            from diffusers.schedulers.scheduling_tcd import TCDScheduler

            return TCDScheduler(**common)
        from diffusers.schedulers.scheduling_ddim import DDIMScheduler

        return DDIMScheduler(**common)


def _cosine_kept(share: float) -> float:
    return math.cos((share + 0.008) / 1.008 * math.pi / 2) ** 2


def _ending_in_noise(betas: Float[Tensor, " steps"]) -> Float[Tensor, " steps"]:
    """Betas whose last alpha-bar is 0, the first kept as it was (Lin et al. 2023, algorithm 1)."""
    roots = torch.cumprod(1.0 - betas, dim=0).sqrt()
    first, last = roots[0].clone(), roots[-1].clone()
    kept = ((roots - last) * (first / (first - last))).square()
    return 1.0 - torch.cat([kept[:1], kept[1:] / kept[:-1]])


def guided(conditioned: Denoiser, unconditioned: Denoiser, scale: float | Tensor) -> Denoiser:
    """Classifier-free guidance (Ho and Salimans 2022 eq. 6): free + scale (conditioned - free).

    A scale of 1 costs one evaluation; a tensor gives each channel its own scale.
    """
    if isinstance(scale, float | int) and scale == 1.0:
        return conditioned

    def denoise(noisy: Tensor, time: Tensor) -> Tensor:
        free = unconditioned(noisy, time)
        return free + scale * (conditioned(noisy, time) - free)

    return denoise


def sample(
    denoise: Denoiser,
    noise: Float[Tensor, "b ..."],
    process: NoiseProcess,
    *,
    steps: int,
    scheduler: Solver = "ddim",
    generator: torch.Generator | None = None,
) -> Iterator[Float[Tensor, "b ..."]]:
    """Ever cleaner tensors from pure noise, one a step; the last is the sample.

    Deterministic given `noise`, which the caller draws on the CPU, and for LCM and TCD a `generator` on the CPU.
    """
    solver = process.scheduler(scheduler)
    draws = {"generator": generator} if scheduler in ("lcm", "tcd") else {}
    if draws and generator is None:
        raise ValueError(f"{scheduler} draws noise at every step; hand in a generator")
    with (
        warnings.catch_warnings()
    ):  # UniPC hands torch tensors to numpy in a way numpy 2 disapproves of
        warnings.simplefilter("ignore", DeprecationWarning)
        solver.set_timesteps(steps)
    x = noise
    for time in solver.timesteps:
        times = torch.full((x.shape[0],), int(time), device=x.device)
        x = solver.step(denoise(x, times), time, x, **draws).prev_sample
        yield x


def final(steps: Iterator[Tensor]) -> Tensor:
    """The last tensor of a sampling run."""
    result = None
    for result in steps:  # noqa: B007 - only the last one is wanted
        pass
    if result is None:
        raise ValueError("sampling was asked for 0 steps; give at least 1")
    return result
