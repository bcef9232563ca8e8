"""Measures of hand motion: beat alignment with its controls, diversity, jerk, rest.

Formulas follow the public code of the field where it exists (EMAGE's beat consistency, the pairwise diversity of Ye
et al. 2022 and DiffSHEG, GENEA's jerk); each docstring names its own.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

ORDER = 7
"""A motion beat is slower than this many frames on either side (EMAGE, 30 fps)."""
SIGMA_S = 0.3
THRESHOLD = 0.1
"""Share of a joint's mean speed that a beat must exceed (EMAGE's evaluation tools)."""
STILL_M_PER_S = 0.05


@dataclass(frozen=True, kw_only=True)
class Alignment:
    """Beat alignment beside what it must be judged by."""

    matched: float
    """Mean over onsets of exp(-d^2 / 2 sigma^2), d the time to the nearest motion beat; 0..1."""
    shuffled: float
    """The same with the voice shifted in time (mean over shifts): what rhythm alone would give."""
    chance: float
    """Expected for random motion beats of the same rate."""
    beats_per_s: float


def motion_beats(
    points: Float[Tensor, "frames joints 3"],
    *,
    order: int = ORDER,
    threshold: float = THRESHOLD,
    mean_speed: Float[Tensor, " joints"] | None = None,
) -> list[Float[Tensor, " _"]]:
    """Per joint, the frames in which its speed has a local minimum (EMAGE `alignment`).

    The threshold is a share of `mean_speed` (units a frame; EMAGE takes its training set's), by default the clip's own.
    """
    if len(points) < 3:
        return [torch.zeros(0) for _ in range(points.shape[1])]
    speed = torch.gradient(points.double(), dim=0)[0].norm(dim=-1)
    mean = speed.mean(0) if mean_speed is None else mean_speed.double()
    speed = speed / mean.clamp(min=1e-12)
    return [
        (local_minima(joint, order) & (joint > threshold)).nonzero()[:, 0].double()
        for joint in speed.T
    ]


def local_minima(values: Float[Tensor, " n"], order: int) -> Bool[Tensor, " n"]:
    """Where a value is lower than all others within `order` steps; never at a border."""
    lowest = torch.ones(len(values), dtype=torch.bool)
    for step in range(1, min(order, len(values)) + 1):
        # Places outside count as the border does: a border is never lower than itself.
        before = torch.cat([values[:1].expand(step), values[:-step]])[: len(values)]
        after = torch.cat([values[step:], values[-1:].expand(step)])[: len(values)]
        lowest &= (values < before) & (values < after)
    return lowest


def onsets(energy: Float[Tensor, " frames"], fps: float) -> Float[Tensor, " onsets"]:
    """Times in seconds at which the voice sets in or gains strength: peaks of the energy's rise."""
    if len(energy) < 3:
        return torch.zeros(0, dtype=torch.float64)
    rise = torch.diff(energy.double(), prepend=energy[:1].double()).clamp(min=0)
    floor = max(0.25 * float(rise.max()), 1e-6)
    peak = (rise > floor) & (rise >= torch.roll(rise, 1)) & (rise > torch.roll(rise, -1))
    return peak.nonzero()[:, 0].double() / fps


def alignment_score(
    beats: list[Float[Tensor, " _"]], onsets_s: Tensor, fps: float, sigma_s: float
) -> float:
    """Mean over joints and onsets of exp(-d² / 2 sigma²), d from the onset to the nearest beat; 0 without beats."""
    if not len(onsets_s) or not beats:
        return 0.0
    scores = []
    for joint in beats:
        if not len(joint):
            scores.append(0.0)
            continue
        distance = (onsets_s.double()[:, None] - joint[None].double() / fps).abs().amin(1)
        scores.append(float(torch.exp(-(distance**2) / (2 * sigma_s**2)).mean()))
    return sum(scores) / len(scores)


def chance_alignment(beats_per_s: float, sigma_s: float = SIGMA_S) -> float:
    """Expected alignment with motion beats that fall at random at this rate (Poisson)."""
    x = beats_per_s * sigma_s
    if x == 0:
        return 0.0
    if x > 12:
        return 1.0
    return 2 * x * math.sqrt(math.pi / 2) * math.exp(2 * x * x) * math.erfc(math.sqrt(2) * x)


def beat_alignment(
    points: Float[Tensor, "frames joints 3"],
    onsets_s: Float[Tensor, " onsets"],
    fps: float,
    *,
    sigma_s: float = SIGMA_S,
    shuffles: int = 20,
) -> Alignment:
    """How near the voice's onsets fall to moments of little speed, with time-shifted voices as control."""
    duration = len(points) / fps
    beats = motion_beats(points)
    times = onsets_s.double()
    matched = alignment_score(beats, times, fps, sigma_s)
    shifted = [
        alignment_score(
            beats,
            (times + duration * (0.2 + 0.6 * i / max(shuffles - 1, 1))) % duration,
            fps,
            sigma_s,
        )
        for i in range(shuffles)
    ]
    rate = sum(len(b) for b in beats) / max(len(beats), 1) / max(duration, 1e-9)
    return Alignment(
        matched=matched,
        shuffled=sum(shifted) / max(len(shifted), 1),
        chance=chance_alignment(rate, sigma_s),
        beats_per_s=rate,
    )


def diversity(samples: Float[Tensor, "samples ..."]) -> float:
    """Mean absolute difference over all pairs and entries (Ye et al. 2022, DiffSHEG); the samples' unit."""
    flat = samples.double().flatten(1)
    if len(flat) < 2:
        return 0.0
    # Over sorted values the sum of all pairwise differences needs no pairs.
    ordered = flat.sort(dim=0).values
    count = len(flat)
    weight = 2 * torch.arange(1, count + 1, dtype=torch.float64) - count - 1
    return float((ordered * weight[:, None]).sum(0).mean() * 2 / (count * (count - 1)))


def jerk(points: Float[Tensor, "frames joints 3"], fps: float) -> float:
    """Mean size of the third derivative (GENEA), units/s^3."""
    return _difference(points, fps, 3)


def acceleration(points: Float[Tensor, "frames joints 3"], fps: float) -> float:
    """Mean size of the second derivative (GENEA), units/s^2."""
    return _difference(points, fps, 2)


def _difference(points: Tensor, fps: float, order: int) -> float:
    if len(points) <= order:
        return 0.0
    return float(torch.diff(points.double(), n=order, dim=0).norm(dim=-1).mean()) * fps**order


def speed(points: Float[Tensor, "frames joints 3"], fps: float) -> Float[Tensor, " frames"]:
    """Mean speed of the joints, units/s; the first frame as the second."""
    if len(points) < 2:
        return torch.zeros(len(points))
    step = torch.diff(points, dim=0).norm(dim=-1).mean(-1) * fps
    return torch.cat([step[:1], step])


def rest_fraction(
    points: Float[Tensor, "frames joints 3"],
    fps: float,
    where: Bool[Tensor, " frames"] | None = None,
) -> float:
    """Share of the frames (of those of `where`) in which the hands rest: slower than 5 cm/s."""
    still = speed(points, fps) < STILL_M_PER_S
    chosen = still if where is None else still[where]
    return float(chosen.float().mean()) if len(chosen) else 0.0
