"""Does the mouth move with the voice: its opening, measured from a film's own frames, against the voice's energy.

The opening is read without any network: how much further down the chin and lower lip have gone than the nose,
by optical flow against the photo.  So a head that nods opens no mouth, and neither does a mouth that only darkens.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from jaxtyping import Float, Float32, UInt8
from torch import Tensor

_SIDE = 160
"""Pixels a side of the face crop in which flow is measured."""
_NOSE = tuple(range(29, 36))
_CHIN = (6, 7, 8, 9, 10)
_LOWER_LIP = (56, 57, 58)
_LIPS = (48, 54)


@dataclass(frozen=True, kw_only=True)
class LipSync:
    """Mouth against voice."""

    correlation: float
    """Pearson, at the best lag."""
    lag: int
    """Frames by which the mouth comes after the voice."""
    shuffled: float
    """Mean of the same with shifted voices as control (each at its own best lag)."""
    shuffled_high: float
    """95th percentile of the control: above it is not luck."""


def mouth_opening(
    frames: Iterable[Float[Tensor, "3 h w"]],
    photo: Float[Tensor, "3 h w"],
    points: Float[Tensor, "68 2"],
) -> Float[Tensor, " frames"]:
    """Opening beyond the photo's, in mouth widths, per frame; `points`: the photo's iBUG-68 points."""
    places = points.numpy()
    crop, scale = _face_crop(places, (photo.shape[-2], photo.shape[-1]))
    local = ((places - [crop[0], crop[1]]) * scale).astype(np.float32)
    width = float(np.linalg.norm(local[_LIPS[1]] - local[_LIPS[0]]))
    down = _downwards(local)
    reference = _grey(photo, crop)
    below_lip = local[list(_CHIN)] * 0.55 + local[list(_LOWER_LIP)].mean(0) * 0.45
    chin = _disc(below_lip, 0.16 * width, reference.shape)
    nose = _disc(local[list(_NOSE)], 0.16 * width, reference.shape)
    flow_of = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    values = []
    for frame in frames:
        flow = flow_of.calc(reference, _grey(frame, crop), None)  # pyright: ignore[reportArgumentType, reportCallIssue]
        move = (flow @ down).astype(np.float32)
        values.append(float(np.median(move[chin]) - np.median(move[nose])) / max(width, 1.0))
    return torch.tensor(values)


def _face_crop(
    points: Float32[np.ndarray, "68 2"], size: tuple[int, int]
) -> tuple[tuple[int, int, int, int], float]:
    """x0, y0, x1, y1 around the face with room for movement, and its scale to the crop."""
    low, high = points.min(0), points.max(0)
    middle, half = (low + high) / 2, 0.75 * float((high - low).max())
    x0, y0 = (max(0, int(v)) for v in middle - half)
    x1, y1 = min(size[1], int(middle[0] + half) + 1), min(size[0], int(middle[1] + half) + 1)
    return (x0, y0, x1, y1), _SIDE / max(x1 - x0, y1 - y0, 1)


def _grey(image: Tensor, crop: tuple[int, int, int, int]) -> UInt8[np.ndarray, "h w"]:
    x0, y0, x1, y1 = crop
    part = image[:, y0:y1, x0:x1].float().mean(0).numpy()
    scale = _SIDE / max(part.shape)
    small = cv2.resize(part, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    return ((small + 1) * 127.5).clip(0, 255).astype(np.uint8)


def _downwards(points: Float32[np.ndarray, "68 2"]) -> Float32[np.ndarray, "2"]:
    """From between the eyes to the chin, unit length: down for a face that leans, too."""
    axis = points[8] - points[27]
    return (axis / max(float(np.linalg.norm(axis)), 1e-6)).astype(np.float32)


def _disc(points: Float32[np.ndarray, "n 2"], radius: float, shape: tuple[int, ...]) -> np.ndarray:
    mask = np.zeros(shape, np.uint8)  # no square where the picture's edge cuts the crop
    for x, y in points:
        cv2.circle(mask, (int(x), int(y)), max(1, round(radius)), 1, -1)
    return mask > 0


def voice_envelope(
    samples: Float[Tensor, " n"], sample_rate: int, fps: float, frames: int
) -> Float[Tensor, " frames"]:
    """Loudness a video frame in 0..1 (0: -60 dBFS or less), from a window of two frames about its middle."""
    step = sample_rate / fps
    power = torch.cat([torch.zeros(1, dtype=torch.float64), samples.double().square().cumsum(0)])
    middle = (torch.arange(frames, dtype=torch.float64) + 0.5) * step
    low = (middle - step).clamp(0, len(samples)).long()
    high = (middle + step).clamp(0, len(samples)).long()
    mean = (power[high] - power[low]) / (high - low).clamp(min=1)
    decibel = 10 * torch.log10(mean.clamp(min=1e-12))
    return ((decibel + 60) / 60).clamp(0, 1).float()


def lip_sync(
    opening: Float[Tensor, " frames"],
    envelope: Float[Tensor, " frames"],
    *,
    max_lag: int = 2,
    shuffles: int = 100,
) -> LipSync:
    """Correlation at the best lag within `max_lag`, and of voices shifted by at least a fifth of the film."""
    frames = len(opening)
    if frames < 8 * (max_lag + 1):
        raise ValueError(
            f"{frames} frames are too few to correlate; give at least {8 * (max_lag + 1)}"
        )
    best, lag = _best(opening, envelope, max_lag)
    shifts = torch.linspace(0.2 * frames, 0.8 * frames, shuffles).round().long().tolist()
    control = torch.tensor([_best(opening, torch.roll(envelope, s), max_lag)[0] for s in shifts])
    return LipSync(
        correlation=best,
        lag=lag,
        shuffled=float(control.mean()),
        shuffled_high=float(control.quantile(0.95)),
    )


def _best(opening: Tensor, envelope: Tensor, max_lag: int) -> tuple[float, int]:
    results = []
    for lag in range(-max_lag, max_lag + 1):
        late = opening[max(lag, 0) : len(opening) + min(lag, 0)]
        voice = envelope[max(-lag, 0) : len(envelope) - max(lag, 0)]
        results.append((correlation(late, voice), lag))
    return max(results)


def correlation(a: Float[Tensor, " n"], b: Float[Tensor, " n"]) -> float:
    """Pearson's; 0 where one of the two does not change."""
    a, b = a.double() - a.double().mean(), b.double() - b.double().mean()
    size = float(a.norm() * b.norm())
    return float(a @ b) / size if size > 1e-12 else 0.0
