"""Beat alignment: how near the voice's onsets fall to moments of little motion, five ways, each beside its controls.

Every field's number hides a rule for motion beats, a width and a frame rate (`VARIANTS`).  None says anything alone: real
speech has five or six onsets a second, so almost any motion aligns.  `align` therefore returns the score of shifted
voices, the score of chance and the beat rate with it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from emo2.hands import from_numbers
from emo2.hands.rotations import matrix_to_axis_angle
from emo2.hands.sleeve import elbows
from emo2.metrics.motion import (
    Alignment,
    alignment_score,
    chance_alignment,
    local_minima,
    motion_beats,
)
from emo2.signals import Motion

WRISTS_AND_TIPS = (0, 4, 8, 12, 16, 20, 21, 25, 29, 33, 37, 41)
"""Of the 42 key points."""
EMAGE_JOINTS = (3, 6, 9, *range(12, 22))
"""Of SMPL-X's 55: spine, neck, collars, head, shoulders, elbows, wrists."""
_TALKSHOW_CHANGE = (6.0181e-5, 5.1597e-5, 2.1344e-4, 2.1899e-4)
"""Mean change of the four angles (left and right shoulder, left and right elbow) that TalkSHOW divides by."""
_COLLAR_M = 0.05
"""From the neck's middle to the clavicle's inner end."""
SHIFTS = 20

Beats = list[Float[Tensor, " _"]]
"""Per joint, in frames."""


@dataclass(frozen=True, kw_only=True)
class Variant:
    """One way to say how well motion falls on the beat."""

    fps: float
    """Rate at which the rule was made; the motion is brought to it."""
    sigma_s: float
    beats: Callable[[Moving], Beats]
    onsets: str = "detected"
    """"detected", or "backtracked" to the energy minimum before."""
    skips_empty: bool = False
    """Joints without a beat are left out, not scored 0."""


@dataclass(frozen=True, kw_only=True)
class Moving:
    """A motion at a variant's rate."""

    points: Float[Tensor, "frames 42 3"]
    arms: Float[Tensor, "frames 2 4 3"]
    """Left, right: collar, shoulder, elbow, wrist; elbows of a `Motion` are solved from its wrists."""
    turns: Float[Tensor, "frames 2 3"]
    """Wrist rotations, axis-angle."""


def moving(motion: Motion, points: Float[Tensor, "frames 42 3"]) -> Moving:
    """What the variants look at, of a motion and its key points at one rate."""
    wrists = motion.hands[..., 64:]
    elbow = elbows(wrists)
    side = wrists.new_tensor((1.0, -1.0))[:, None]
    collar = wrists.new_tensor((_COLLAR_M, 0.0, -0.02)) * torch.cat(
        (side, side.abs(), side.abs()), -1
    )
    shoulder = wrists.new_tensor((0.18, 0.0, -0.02)) * torch.cat((side, side.abs(), side.abs()), -1)
    arms = torch.stack((collar.expand_as(wrists), shoulder.expand_as(wrists), elbow, wrists), -2)
    turns = matrix_to_axis_angle(from_numbers(motion.hands)[0][..., 0, :, :])
    return Moving(points=points, arms=arms, turns=turns)


def talkshow_beats(moved: Moving, *, threshold: float = 0.01) -> Beats:
    """Minima of the change of four arm angles, each that drops by the threshold (TalkSHOW `get_BCscore`).

    As there, the angle is the arc cosine of the *unnormalised* bones' product, over pi.
    """
    bones = torch.diff(moved.arms.double(), dim=-2)  # clavicle, upper arm, forearm
    products = (bones[..., :-1, :] * bones[..., 1:, :]).sum(-1)  # frames, side, (shoulder, elbow)
    angles = products.clamp(-1, 1).acos() / math.pi
    scale = torch.tensor(_TALKSHOW_CHANGE, dtype=torch.float64).view(2, 2).T  # to side, joint
    change = torch.diff(angles, dim=0).abs() / scale / 4
    return [_dropping(column, threshold) for column in change.flatten(1).T]


def ha2g_beats(moved: Moving, *, threshold: float = 0.03) -> Beats:
    """Minima of the summed change of all angles of arms and fingers, each over its mean (HA2G).

    Which bones, and that each angle is divided by its own mean change in the clip, is ours.
    """
    hands = moved.points.double().unflatten(1, (2, 21))
    chains = [[0, *range(1 + 4 * finger, 5 + 4 * finger)] for finger in range(5)]
    angles = [_angles(hands[:, :, chain]) for chain in chains]
    palm = hands[:, :, 9] - hands[:, :, 0]
    forearm = moved.arms.double()[..., 3, :] - moved.arms.double()[..., 2, :]
    angles.append(_angles(moved.arms.double()))
    angles.append(_angle(forearm, palm)[..., None])
    change = torch.diff(torch.cat(angles, -1).flatten(1), dim=0).abs()
    mean = change.mean(0)
    known = mean > 1e-9
    if not bool(known.any()):
        return [torch.zeros(0, dtype=torch.float64)]
    return [_dropping((change[:, known] / mean[known]).mean(-1), threshold)]


def _angles(chain: Float[Tensor, "frames 2 n 3"]) -> Float[Tensor, "frames 2 m"]:
    bones = torch.diff(chain, dim=-2)
    return torch.stack([_angle(a, b) for a, b in pairwise(bones.unbind(-2))], -1)


def _angle(first: Tensor, second: Tensor) -> Tensor:
    """Between two vectors, over pi."""
    lengths = first.norm(dim=-1) * second.norm(dim=-1)
    return ((first * second).sum(-1) / lengths.clamp(min=1e-12)).clamp(-1, 1).acos() / math.pi


def _dropping(values: Float[Tensor, " n"], threshold: float) -> Float[Tensor, " beats"]:
    """Strict minima, lower than either neighbour by the threshold on one side at least."""
    before, here, after = values[:-2], values[1:-1], values[2:]
    lowest = (here < before) & (here < after)
    deep = (before - here >= threshold) | (after - here >= threshold)
    return (lowest & deep).nonzero()[:, 0].double() + 1


def beat_beats(moved: Moving) -> Beats:
    """Minima of the speed of the right wrist's rotation alone, lower than two frames on either side (BEAT)."""
    speed = torch.diff(moved.turns[:, 1].double(), dim=0).norm(dim=-1)
    return [local_minima(speed, order=2).nonzero()[:, 0].double()]


def emage_beats(moved: Moving) -> Beats:
    """Minima of the speed of wrists and finger tips, seven frames wide, above a tenth of the joint's mean (EMAGE)."""
    return motion_beats(moved.points[:, WRISTS_AND_TIPS])


def bailando_beats(moved: Moving) -> Beats:
    """Minima of the mean speed of all key points, smoothed over five frames (Bailando)."""
    return [kinetic_beats(moved.points)]


def kinetic_beats(points: Float[Tensor, "frames joints 3"]) -> Float[Tensor, " beats"]:
    """Frames in which the joints' mean speed, smoothed by a Gaussian of 5 frames, is lowest."""
    speed = torch.diff(points.double(), dim=0).norm(dim=-1).mean(-1)
    radius = 20  # four deviations
    at = torch.arange(-radius, radius + 1, dtype=torch.float64)
    weight = torch.exp(-0.5 * (at / 5) ** 2)
    weight = weight / weight.sum()
    padded = np.pad(speed.numpy(), radius, mode="symmetric")
    smooth = torch.from_numpy(np.convolve(padded, weight.numpy(), mode="valid"))
    return local_minima(smooth, order=1).nonzero()[:, 0].double()


VARIANTS: dict[str, Variant] = {
    "ba_talkshow": Variant(fps=30, sigma_s=0.1, beats=talkshow_beats, skips_empty=True),
    "ba_ha2g": Variant(fps=15, sigma_s=0.1, beats=ha2g_beats),
    "ba_beat": Variant(fps=15, sigma_s=0.3, beats=beat_beats, onsets="backtracked"),
    "ba_emage": Variant(fps=30, sigma_s=0.3, beats=emage_beats),
    "ba_bailando": Variant(fps=30, sigma_s=0.1, beats=bailando_beats),  # 3 frames
}


def align(
    variant: Variant, moved: Moving, onsets_s: Float[Tensor, " onsets"], *, shifts: int = SHIFTS
) -> Alignment:
    """The variant's score of a motion, beside its controls."""
    duration = len(moved.points) / variant.fps
    return align_beats(variant, variant.beats(moved), duration, onsets_s, shifts=shifts)


def align_beats(
    variant: Variant,
    beats: Beats,
    duration_s: float,
    onsets_s: Float[Tensor, " onsets"],
    *,
    shifts: int = SHIFTS,
) -> Alignment:
    """The score, the mean score of the same voice shifted in time, chance, and beats a second.

    Only what sounds while there is motion counts: onsets past its end would lower the score and not the control.
    """
    counted = _counted(variant, beats)
    times = onsets_s.double()
    times = times[times < duration_s]
    steps = [0.2 + 0.6 * i / max(shifts - 1, 1) for i in range(shifts)]
    shifted = [
        alignment_score(
            counted, (times + duration_s * step) % duration_s, variant.fps, variant.sigma_s
        )
        for step in steps
    ]
    rates = [len(b) / max(duration_s, 1e-9) for b in counted]
    return Alignment(
        matched=alignment_score(counted, times, variant.fps, variant.sigma_s),
        shuffled=_mean(shifted),
        chance=_mean([chance_alignment(rate, variant.sigma_s) for rate in rates]),
        beats_per_s=_mean(rates),
    )


def score_beats(
    variant: Variant, beats: Beats, duration_s: float, onsets_s: Float[Tensor, " onsets"]
) -> float | None:
    """The score under any voice; None where it has no onset while there is motion."""
    times = onsets_s[onsets_s < duration_s]
    if not len(times):
        return None
    return alignment_score(_counted(variant, beats), times, variant.fps, variant.sigma_s)


def _counted(variant: Variant, beats: Beats) -> Beats:
    return [b for b in beats if len(b)] if variant.skips_empty else beats


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 0.0
