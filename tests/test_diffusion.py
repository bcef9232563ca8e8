"""The noise process, guidance and the sampler, against known answers."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from emo2.diffusion import NoiseProcess, final, guided, sample


@pytest.mark.parametrize("schedule", ["cosine", "scaled_linear"])
def test_schedules_are_those_of_diffusers(schedule: str) -> None:
    from diffusers.schedulers.scheduling_ddim import DDIMScheduler

    name = {"cosine": "squaredcos_cap_v2", "scaled_linear": "scaled_linear"}[schedule]
    theirs = DDIMScheduler(beta_schedule=name, beta_start=0.00085, beta_end=0.012)
    ours = NoiseProcess(schedule=schedule)
    torch.testing.assert_close(ours.kept(), theirs.alphas_cumprod, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("target", ["x0", "noise", "velocity"])
def test_a_perfect_prediction_gives_the_clean_signal_back(target: str) -> None:
    generator = torch.Generator().manual_seed(0)
    process = NoiseProcess(target=target)
    clean, noise = torch.randn(2, 8, 5, 3, generator=generator)
    time = torch.tensor([0, 10, 100, 300, 500, 700, 800, 900])
    noisy = process.add_noise(clean, noise, time)
    said = process.target_of(clean, noise, time)
    torch.testing.assert_close(process.clean_of(said, noisy, time), clean, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("solver", ["ddim", "unipc"])
def test_a_gaussian_is_sampled_with_its_mean_and_variance(solver: str) -> None:
    process = NoiseProcess(target="x0")
    mean, spread = 3.0, 0.5

    def denoise(x: Tensor, time: Tensor) -> Tensor:
        # E[x_0 | x_t] of a Gaussian, in closed form.
        signal, noise = process.parts(x, time)
        gain = signal * spread**2 / (signal**2 * spread**2 + noise**2)
        return mean + gain * (x - signal * mean)

    noise = torch.randn(20_000, 1, generator=torch.Generator().manual_seed(1))
    drawn = final(sample(denoise, noise, process, steps=30, scheduler=solver))
    assert float(drawn.mean()) == pytest.approx(mean, abs=0.05)
    assert float(drawn.std()) == pytest.approx(spread, abs=0.06)


def test_guidance_of_one_costs_one_evaluation_and_changes_nothing() -> None:
    calls = []

    def free(x: Tensor, time: Tensor) -> Tensor:
        calls.append(1)
        return x * 0.0

    def bound(x: Tensor, time: Tensor) -> Tensor:
        return x + 1.0

    x, time = torch.ones(2, 3), torch.zeros(2)
    torch.testing.assert_close(guided(bound, free, 1.0)(x, time), bound(x, time))
    assert not calls
    torch.testing.assert_close(guided(bound, free, 2.0)(x, time), 2.0 * bound(x, time))
    torch.testing.assert_close(guided(bound, free, torch.tensor([1.0, 2.0, 3.0]))(x, time)[0],
                               torch.tensor([2.0, 4.0, 6.0]))  # fmt: skip


def test_the_sampler_yields_every_step_and_refuses_none() -> None:
    process = NoiseProcess()
    steps = list(sample(lambda x, t: x * 0.0, torch.ones(1, 2), process, steps=4))
    assert len(steps) == 4
    assert float(steps[-1].abs().max()) == pytest.approx(0.0, abs=1e-5)
    with pytest.raises(ValueError, match="0 steps"):
        final(iter(()))


def test_the_linear_guess_is_the_best_one_and_nothing_where_only_noise_is_left() -> None:
    process, generator = NoiseProcess(), torch.Generator().manual_seed(0)
    clean, noise = (torch.randn(1, 40_000, generator=generator) for _ in range(2))
    for time in (100, 500, 800):
        at = torch.tensor([time])
        guess = process.linear_guess(process.add_noise(clean, noise, at), at)
        error = (guess - clean).square().mean()
        for other in (0.9, 1.1):
            assert (other * guess - clean).square().mean() > error
    last = torch.tensor([process.steps - 1])
    assert process.linear_guess(noise, last).abs().max() < 1e-3
