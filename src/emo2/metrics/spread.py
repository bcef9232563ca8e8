"""How much motion varies: within a sequence, and between the samples of one voice; and how its speeds are spread."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from emo2.metrics.motion import diversity

GROUP = 50
"""Samples a group of the published diversity (Ye et al. 2022, DiffSHEG)."""
SPEED_BIN = 0.05
"""Width of a bin of speed, units/s (GENEA)."""


def l1div(points: Float[Tensor, "frames joints 3"]) -> float:
    """Sum over all numbers of the distance to the sequence's mean, mean over frames (EMAGE); joint-metres.

    On a copy: the public code overwrites its input, which then goes to the beat detector.
    """
    flat = points.double().flatten(1)
    return float((flat - flat.mean(0)).abs().sum(-1).mean())


def grouped_diversity(
    samples: Float[Tensor, "samples ..."], generator: torch.Generator, group: int = GROUP
) -> float:
    """Pairwise diversity within random groups of 50, mean over whole groups; NaN for fewer samples."""
    order = torch.randperm(len(samples), generator=generator)
    groups = [order[i : i + group] for i in range(0, len(samples) - group + 1, group)]
    if not groups:
        return float("nan")
    return sum(diversity(samples[g]) for g in groups) / len(groups)


def sample_variance(samples: Float[Tensor, "samples frames joints 3"]) -> float:
    """Unbiased variance over samples, its length over xyz, summed over joints, mean over time (TalkSHOW); units²."""
    variance = samples.double().var(0, unbiased=True)
    return float(variance.norm(dim=-1).sum(-1).mean())


def cross_variance(samples: Float[Tensor, "samples frames ..."]) -> float:
    """Variance over samples, mean of everything (Audio2Photoreal); units²."""
    return float(samples.double().var(0, unbiased=False).mean())


def time_variance(samples: Float[Tensor, "samples frames ..."]) -> float:
    """Variance over time, mean of everything (Audio2Photoreal's Div_k); units²."""
    return float(samples.double().var(1, unbiased=False).mean())
