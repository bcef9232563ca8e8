"""What a face keeps over a film's length: its sharpness and its look.  Read per frame, judged at the end.

Both compare the last fifth of the frames with the first, so that expressions and head turns average out; the
control compares two interleaved halves of the same film, which no length can part.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from emo2.metrics.aligned import SIDE, aligned_face, five_points

_EYES = 35.2
"""Distance of the eyes on the template."""
_LOOK_ROWS, _LOOK_COLUMNS = slice(22, 82), slice(16, 96)
"""Brow to upper lip: what speech moves least."""
LOOK_CELLS = (6, 8)
_PART = 5
_BLOCK_S = 1.0


def native_side(points: Float[Tensor, "68 2"]) -> int:
    """Side of the aligned face at which its eyes are as far apart as in the film, 64 to 448."""
    five = five_points(points)
    return int(min(448, max(64, round(SIDE * float((five[1] - five[0]).norm()) / _EYES))))


def sharpness(image: Float[Tensor, "3 h w"], points: Float[Tensor, "68 2"], side: int) -> float:
    """Energy of the Laplacian over the variance of the aligned face's grey: contrast alone changes nothing."""
    grey = aligned_face(image, points, side).mean(0).numpy()
    inner = grey[side // 6 : -side // 8, side // 7 : -side // 7]
    return float(cv2.Laplacian(inner, cv2.CV_32F).var() / max(float(inner.var()), 1e-9))


def face_look(
    image: Float[Tensor, "3 h w"], points: Float[Tensor, "68 2"]
) -> Float[Tensor, "48 3"]:
    """The upper face in 6 x 8 cells of CIELAB: its colours and coarse structure."""
    face = aligned_face(image, points)[:, _LOOK_ROWS, _LOOK_COLUMNS]
    pixels = np.ascontiguousarray(((face.permute(1, 2, 0).numpy() + 1) / 2).clip(0, 1))
    lab = cv2.cvtColor(pixels.astype(np.float32), cv2.COLOR_RGB2LAB)
    cells = cv2.resize(lab, LOOK_CELLS[::-1], interpolation=cv2.INTER_AREA)
    return torch.from_numpy(cells.reshape(-1, 3))


@dataclass(frozen=True, kw_only=True)
class Change:
    """From the first fifth of a film to its last."""

    value: float
    control: float
    """The same between interleaved halves of the film."""
    per_minute: float


def sharpness_change(values: Float[Tensor, " frames"], fps: float) -> Change | None:
    """Ratio of the medians, last fifth to first; `per_minute` is the factor a minute.  None under ten frames."""
    if len(values) < 2 * _PART:
        return None
    first, last = _ends(values)
    even, odd = _interleaved(values, fps)
    ratio = float(last.median() / first.median().clamp_min(1e-12))
    return Change(
        value=ratio,
        control=float(odd.median() / even.median().clamp_min(1e-12)),
        per_minute=max(ratio, 1e-12) ** (1 / _minutes(len(values), fps)),
    )


def identity_change(looks: Float[Tensor, "frames 48 3"], fps: float) -> Change | None:
    """Colour distance (CIE 1976 delta E, mean of the cells) between mean looks, last fifth and first."""
    if len(looks) < 2 * _PART:
        return None
    shift = _apart(*_ends(looks))
    return Change(
        value=shift,
        control=_apart(*_interleaved(looks, fps)),
        per_minute=shift / _minutes(len(looks), fps),
    )


def look_distance(first: Float[Tensor, "n 48 3"], second: Float[Tensor, "m 48 3"]) -> float:
    """Delta E between the mean looks of two films: what another person would give."""
    return _apart(first, second)


def _apart(first: Tensor, second: Tensor) -> float:
    return float((first.mean(0) - second.mean(0)).norm(dim=-1).mean())


def _ends(values: Tensor) -> tuple[Tensor, Tensor]:
    part = len(values) // _PART
    return values[:part], values[-part:]


def _interleaved(values: Tensor, fps: float) -> tuple[Tensor, Tensor]:
    """Seconds 0, 2, 4, ... and 1, 3, 5, ...; shorter blocks where the film is short."""
    block = max(1, min(round(_BLOCK_S * fps), len(values) // 8))
    odd = (torch.arange(len(values)) // block) % 2 == 1
    return values[~odd], values[odd]


def _minutes(frames: int, fps: float) -> float:
    """Between the middles of the first and the last fifth."""
    return max(frames * (1 - 1 / _PART) / fps / 60, 1e-9)
