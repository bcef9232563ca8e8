"""Where a voice sets in, by librosa's rule, which every published beat alignment takes (hop 512).

Our own code, as librosa compiles for twenty seconds of CPU on a fresh machine.  That both hear the same is measured
(docs/parity.md), and the reference's click track is a test.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from jaxtyping import Float, Float32
from torch import Tensor
from torch.nn import functional as F

_WINDOW, _HOP, _MELS = 2048, 512, 128
_FLOOR, _RANGE_DB = 1e-10, 80.0
_DELTA = 0.07
"""How far a peak must rise above the mean around it, of the strongest rise."""
_BLOCK = 4096
"""Slices of spectrum at once: memory does not grow with the voice."""


def detect_onsets(
    samples: Float[np.ndarray, " n"], sample_rate: int, *, backtrack: bool = False
) -> Float[Tensor, " onsets"]:
    """Times in seconds; with `backtrack` each is moved to the energy minimum before it."""
    sound = torch.from_numpy(np.ascontiguousarray(samples, dtype=np.float32))
    rises, energy = _rises(sound, sample_rate)
    if not rises.any():
        return torch.zeros(0, dtype=torch.float64)
    frames = _peaks(rises, sample_rate)
    if backtrack:
        frames = _minima_before(frames, energy)
    return torch.from_numpy(frames.astype(np.float64) * _HOP / sample_rate)


def _rises(
    sound: Float[Tensor, " n"], rate: int
) -> tuple[Float32[np.ndarray, " slices"], Float32[np.ndarray, " slices"]]:
    """How much the mel bands gain from slice to slice on average, from 0 to 1; and the level of each slice."""
    slices = F.pad(sound, (_WINDOW // 2, _WINDOW // 2)).unfold(0, _WINDOW, _HOP)
    window, filters = torch.hann_window(_WINDOW), _mel_filters(rate)
    bands = torch.cat(
        [
            torch.fft.rfft(part * window).abs().square() @ filters
            for part in slices.split(_BLOCK)
        ]
    )  # fmt: skip
    level = torch.cat([part.square().mean(1).sqrt() for part in slices.split(_BLOCK)])
    decibels = 10 * bands.clamp(min=_FLOOR).log10()
    decibels = decibels.clamp(min=float(decibels.max()) - _RANGE_DB)
    gain = torch.diff(decibels, dim=0).clamp(min=0).mean(1)
    # A slice reaches half a window to both sides: the rise is put where the sound is.
    gain = F.pad(gain, (1 + _WINDOW // (2 * _HOP), 0))[: len(slices)]
    gain = gain - gain.min()
    return (gain / gain.max().clamp(min=1e-30)).numpy(), level.numpy()


def _peaks(rises: Float32[np.ndarray, " n"], rate: int) -> np.ndarray:
    """Highest of 30 ms before, above the mean of 100 ms on both sides, not within 30 ms of the last."""
    short, long = int(0.03 * rate // _HOP), int(0.10 * rate // _HOP)
    found, at = [], 0
    while at < len(rises):
        highest = rises[max(0, at - short) : at + 1].max()
        around = rises[max(0, at - long) : at + long + 1].mean()
        if rises[at] == highest and rises[at] >= around + _DELTA:
            found.append(at)
            at += short
        at += 1
    return np.array(found, dtype=np.int64)


def _minima_before(frames: np.ndarray, energy: Float32[np.ndarray, " n"]) -> np.ndarray:
    inner = energy[1:-1]
    low = 1 + np.flatnonzero((inner <= energy[:-2]) & (inner < energy[2:]))
    low = np.concatenate(([0], low))
    return low[np.searchsorted(low, frames, side="right") - 1]


def _mel_filters(rate: int) -> Float[Tensor, "bins mels"]:
    """Triangles of equal area on Slaney's scale: linear to 1 kHz, 27 steps to 6.4 times the frequency above."""
    step = math.log(6.4) / 27
    top = rate / 2
    highest = 15 + math.log(top / 1000) / step if top > 1000 else top * 3 / 200
    scale = torch.linspace(0, highest, _MELS + 2, dtype=torch.float64)
    edges = torch.where(scale < 15, scale * 200 / 3, 1000 * torch.exp(step * (scale - 15)))
    bins = torch.linspace(0, top, _WINDOW // 2 + 1, dtype=torch.float64)[:, None]
    rise = (bins - edges[:-2]) / (edges[1:-1] - edges[:-2])
    fall = (edges[2:] - bins) / (edges[2:] - edges[1:-1])
    return (torch.minimum(rise, fall).clamp(min=0) * 2 / (edges[2:] - edges[:-2])).float()
