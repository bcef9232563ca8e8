"""What a face does, from its 68 points per frame: lips, eyes, head.  All lengths in distances between the eyes.

The points come from `portrait/follow.py`.  "Down" is the face's own: square to the line between the eyes, so a head
that leans opens no mouth.  Docs: one page a figure under `docs/metrics/`.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from emo2.metrics.aligned import aligned_face

_RIGID = (27, 28, 29, 30, 36, 39, 42, 45)
"""Bridge of the nose and corners of the eyes: what moves with the skull."""
_EYE_ROWS = slice(43, 59)
_EYE_COLUMNS = (slice(28, 49), slice(63, 84))
"""The eyes in the aligned face of 112."""
_BLINK_DEPTH = 0.92
"""Share of the usual contrast under which the eyes are shut: by eye, on GRID (the finder's own lid points hardly
move in a blink, so they cannot say)."""
_AROUND_S = 0.6
_QUICK_S = 0.36
_LONGEST_BLINK_S = 0.5


def eye_distance(points: Float[Tensor, "frames 68 2"]) -> Float[Tensor, " frames"]:
    """Pixels between the middles of the eyes."""
    return _across(points).norm(dim=-1).clamp_min(1e-6)


def lower_lip(points: Float[Tensor, "frames 68 2"]) -> Float[Tensor, " frames"]:
    """How far the lower lip (its inner and outer middle) stands below the base of the nose."""
    return (_below(points, 33, 57) + _below(points, 33, 66)) / 2


def lip_gap(points: Float[Tensor, "frames 68 2"]) -> Float[Tensor, " frames"]:
    """Height of the gap between the lips: mean of three pairs of inner points."""
    return (_below(points, 61, 67) + _below(points, 62, 66) + _below(points, 63, 65)) / 3


def eye_contrast(image: Float[Tensor, "3 h w"], points: Float[Tensor, "68 2"]) -> float:
    """Mean step of brightness down the two eyes of the aligned face: lids and iris make it, a shut eye has less."""
    grey = aligned_face(image, points).mean(0)[_EYE_ROWS]
    return float(sum(grey[:, columns].diff(dim=0).abs().mean() for columns in _EYE_COLUMNS))


def blinks(contrast: Float[Tensor, " frames"], fps: float) -> Int[Tensor, " blinks"]:
    """Frames in which blinks are deepest: dips under 0.92 of the median within 0.6 s, at most 0.5 s long."""
    if len(contrast) < 5:
        return torch.zeros(0, dtype=torch.int64)
    reach = max(2, round(_AROUND_S * fps))
    padded = torch.nn.functional.pad(contrast[None, None], (reach, reach), mode="replicate")[0, 0]
    usual = padded.unfold(0, 2 * reach + 1, 1).median(-1).values
    shut = (contrast < _BLINK_DEPTH * usual).tolist()
    found, start = [], None
    for frame, is_shut in enumerate([*shut, False]):
        if is_shut and start is None:
            start = frame
        elif not is_shut and start is not None:
            if (frame - start) / fps <= _LONGEST_BLINK_S:
                found.append(start + int(contrast[start:frame].argmin()))
            start = None
    return torch.tensor(found, dtype=torch.int64)


def quick(signal: Float[Tensor, " frames"], fps: float) -> Float[Tensor, " frames"]:
    """A signal without what is slower than 0.36 s: minus its moving mean.  Syllables stay, phrases go."""
    reach = max(1, round(_QUICK_S * fps / 2))
    padded = torch.nn.functional.pad(signal[None, None], (reach, reach), mode="replicate")
    return signal - torch.nn.functional.avg_pool1d(padded, 2 * reach + 1, 1)[0, 0]


def head_speed(points: Float[Tensor, "frames 68 2"], fps: float) -> Float[Tensor, " steps"]:
    """Speed of the skull's points in eye distances a second, from points averaged over five frames."""
    if len(points) < 6:
        return torch.zeros(0)
    rigid = points[:, list(_RIGID)] / eye_distance(points).median()
    smooth = torch.nn.functional.avg_pool1d(rigid.flatten(1).T[None], 5, 1)[0].T
    step = torch.diff(smooth.reshape(-1, len(_RIGID), 2), dim=0)
    return step.norm(dim=-1).mean(-1) * fps


def _across(points: Float[Tensor, "frames 68 2"]) -> Float[Tensor, "frames 2"]:
    return points[:, 42:48].mean(1) - points[:, 36:42].mean(1)


def _below(
    points: Float[Tensor, "frames 68 2"], upper: int, lower: int
) -> Float[Tensor, " frames"]:
    """How far one point stands below another along the face's own down, in eye distances."""
    across = _across(points)
    down = torch.stack([-across[:, 1], across[:, 0]], -1)
    # one eye distance scales the step, another makes `down` a direction
    return ((points[:, lower] - points[:, upper]) * down).sum(-1) / across.square().sum(
        -1
    ).clamp_min(1e-6)
