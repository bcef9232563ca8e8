"""Where one shot ends and the next begins.

A cut changes the picture's colours and its coarse layout at once, and more than the frames around it change.
"""

from __future__ import annotations

from collections import deque

import cv2
import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

_SMALL = (32, 18)
_BINS = 8
LAYOUT, COLOURS = 0.06, 0.25
"""Least change at a cut: mean difference of coarse pictures (0..1), share of the pixels that change their colour bin."""
STANDS_OUT = 4.0
"""And times the usual change of the frames before it."""
_USUAL = 12
_FLOOR = 0.004


class CutFinder:
    """Sees frame after frame and says with which of them a new shot begins."""

    def __init__(self) -> None:
        self._last: tuple[np.ndarray, np.ndarray] | None = None
        self._changes: deque[float] = deque(maxlen=_USUAL)

    def see(self, frame: Float[Tensor, "3 h w"]) -> bool:
        """Whether this frame begins a shot; the first does."""
        now = _read(frame)
        if self._last is None:
            self._last = now
            return True
        layout = float(np.abs(now[0] - self._last[0]).mean())
        colours = float(np.abs(now[1] - self._last[1]).sum()) / 2
        usual = float(np.median(self._changes)) if self._changes else 0.0
        is_cut = layout > LAYOUT and colours > COLOURS and layout > STANDS_OUT * max(usual, _FLOOR)
        self._last = now
        if is_cut:
            self._changes.clear()
        else:
            self._changes.append(layout)
        return is_cut


def _read(frame: Float[Tensor, "3 h w"]) -> tuple[np.ndarray, np.ndarray]:
    """The coarse picture, and its shares of colours."""
    pixels = np.ascontiguousarray(((frame + 1.0) / 2.0).permute(1, 2, 0).numpy())
    small = cv2.resize(pixels, (8 * _SMALL[0], 8 * _SMALL[1]), interpolation=cv2.INTER_AREA)
    bins = torch.from_numpy(small).mul(_BINS).long().clamp_(0, _BINS - 1)
    index = (bins[..., 0] * _BINS + bins[..., 1]) * _BINS + bins[..., 2]
    counts = torch.bincount(index.flatten(), minlength=_BINS**3).float()
    soft = _spread(counts.view(_BINS, _BINS, _BINS).numpy())
    coarse = cv2.resize(small, _SMALL, interpolation=cv2.INTER_AREA)
    return coarse, soft / soft.sum()


def _spread(counts: np.ndarray) -> np.ndarray:
    """Counts shared with neighbouring bins: a change of light alone must not empty them."""
    for axis in range(3):
        padded = np.pad(counts, [(1, 1) if a == axis else (0, 0) for a in range(3)], "edge")
        low, high = (np.take(padded, range(k, k + _BINS), axis) for k in (0, 2))
        counts = 0.5 * counts + 0.25 * (low + high)
    return counts
