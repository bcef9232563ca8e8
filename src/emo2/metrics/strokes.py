"""Where strokes end against where a voice stresses (ours): sharp enough to tell a voice from itself half a second later.

Beat alignment asks of every onset, five or six a second, whether the hands are slow somewhere near, which they always
are.  This asks of every move that comes to a stop whether it stops on a syllable that stands out, one or two a second.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

FASTEST_M_PER_S = 0.12
"""A move whose wrist never gets this fast is no stroke."""
STOPS_AT = 0.3
"""A move has stopped if its speed falls to this share of its highest before it rises again."""
ENDS_AT = 0.25
"""It ends where its speed has fallen to this share (a minimum-jerk move of 0.4 s: 0.05 s before it stands), or where it stops."""
SIGMA_S = 0.06
SHIFTS_S = tuple(sign * (0.3 + 1.2 * k / 9) for k in range(10) for sign in (-1.0, 1.0))
"""Wrong voices: the own one moved, by more than a syllable and less than a sentence."""

_HZ, _WINDOW_S = 100, 0.08
_BAND_HZ = (300.0, 3000.0)
"""Where vowels sound and most else does not (de Jong and Wempe 2009 take peaks of the whole level)."""
_FROM_LOUD_DB, _ABOVE_DIPS_DB, _REACH_S = 25.0, 2.0, 0.25
_APART_S = 0.24
"""Between two stresses."""
_VOICED_DB, _GAP_S = 36.0, 0.2
_FLOOR = 1e-12


@dataclass(frozen=True)
class Stresses:
    """What a voice offers to strokes."""

    times: Float[np.ndarray, " stresses"]
    """Seconds."""
    speaking: Bool[np.ndarray, " hundredths"]
    """Of each hundredth of a second whether the voice sounds within 0.2 s of it."""


@dataclass(frozen=True, kw_only=True)
class Fit:
    """How well strokes end on stresses."""

    matched: float
    """Mean over strokes of exp(-d² / 2 sigma²), d from their end to the nearest stress; 0..1."""
    moved: float
    """The same with the voice moved, of strokes that then still fall into speech."""
    count: int
    """Strokes that end while somebody speaks."""


def stroke_ends(wrists: Float[Tensor, "frames hands 3"], fps: float) -> Float[np.ndarray, " ends"]:
    """Times in seconds, of all hands in order."""
    ends: list[float] = []
    for hand in wrists.double().unbind(1):
        if len(hand) < 4:
            continue
        speed = _blurred(hand.diff(dim=0).norm(dim=-1).numpy() * fps, 0.032 * fps)
        ends += [(place + 1) / fps for place in _stops(speed)]
    return np.array(sorted(ends))


def _stops(speed: Float[np.ndarray, " n"]) -> list[float]:
    """Places, between frames too, at which a move's speed has fallen to a quarter."""
    found = []
    tops = (speed[1:-1] > speed[:-2]) & (speed[1:-1] >= speed[2:]) & (speed[1:-1] > FASTEST_M_PER_S)
    for top in np.flatnonzero(tops) + 1:
        rises = np.flatnonzero(speed[top + 1 :] >= speed[top:-1])
        last = top + int(rises[0]) if len(rises) else len(speed) - 1
        if speed[last] > STOPS_AT * speed[top]:
            continue
        wanted = max(ENDS_AT * speed[top], speed[last])
        after = top + int(np.flatnonzero(speed[top : last + 1] <= wanted)[0])
        share = (speed[after - 1] - wanted) / (speed[after - 1] - speed[after])
        found.append(after - 1 + float(share))
    return found


def _blurred(values: Float[np.ndarray, " n"], sigma: float) -> Float[np.ndarray, " n"]:
    at = np.arange(-int(np.ceil(4 * sigma)), int(np.ceil(4 * sigma)) + 1)
    weight = np.exp(-0.5 * (at / sigma) ** 2)
    padded = np.pad(values, len(at) // 2, mode="symmetric" if len(values) > len(at) else "edge")
    return np.convolve(padded, weight / weight.sum(), mode="valid")


def find_stresses(samples: Float[np.ndarray, " n"], sample_rate: int) -> Stresses:
    """Syllables that stand out, from the sound alone: peaks of the level between 300 and 3000 Hz."""
    band, whole = _levels(samples, sample_rate)
    if len(band) < 3 or whole.max() < -90.0:
        return Stresses(np.zeros(0), np.zeros(len(band), dtype=bool))
    reach, loud = round(_REACH_S * _HZ), np.quantile(band, 0.95)
    inner = band[1:-1]
    tops = (inner >= band[:-2]) & (inner > band[2:]) & (inner > loud - _FROM_LOUD_DB)
    peaks = [
        int(i) for i in np.flatnonzero(tops) + 1
        if band[i] - max(band[max(0, i - reach) : i + 1].min(), band[i : i + reach + 1].min()) > _ABOVE_DIPS_DB
    ]  # fmt: skip
    kept: list[int] = []
    for peak in sorted(peaks, key=lambda i: -band[i]):
        if all(abs(peak - other) >= _APART_S * _HZ for other in kept):
            kept.append(peak)
    sounds = (whole > np.quantile(whole, 0.95) - _VOICED_DB).astype(float)
    near = np.convolve(sounds, np.ones(2 * round(_GAP_S * _HZ) + 1), mode="same") > 0.5
    return Stresses((np.array(sorted(kept), dtype=float) + 0.5) / _HZ, near)


def _levels(
    samples: Float[np.ndarray, " n"], rate: int
) -> tuple[Float[np.ndarray, " h"], Float[np.ndarray, " h"]]:
    """Level of each hundredth of a second in decibels, of the vowels' band and of all, at most 50 dB under the top."""
    hop, size = rate // _HZ, round(_WINDOW_S * rate)
    sound = torch.from_numpy(np.ascontiguousarray(samples, dtype=np.float32))
    count = len(sound) // hop
    if count == 0:
        return np.zeros(0), np.zeros(0)
    padded = torch.nn.functional.pad(sound, ((size - hop) // 2, size))
    frequencies = torch.fft.rfftfreq(size, 1 / rate)
    inside = ((frequencies >= _BAND_HZ[0]) & (frequencies <= _BAND_HZ[1])).float()
    window, band, whole = torch.hann_window(size), [], []
    for part in padded.unfold(0, size, hop)[:count].split(4096):
        power = torch.fft.rfft(part * window).abs().square() / size**2
        band.append(power @ inside)
        whole.append(power.sum(-1))
    found = [10 * (torch.cat(levels).double() + _FLOOR).log10().numpy() for levels in (band, whole)]
    return tuple(np.maximum(level, level.max() - 50.0) for level in found)  # type: ignore[return-value]


def fit(ends: Float[np.ndarray, " ends"], voice: Stresses) -> Fit | None:
    """How well the strokes fit this voice; None where nothing can be said."""
    ends = ends[_inside(ends, voice)]
    if not len(ends) or not len(voice.times):
        return None
    scores, weights = [], []
    for shift in SHIFTS_S:
        there = ends - shift
        there = there[_inside(there, voice)]
        if len(there):
            scores.append(_score(there, voice))
            weights.append(len(there))
    if not scores:
        return None
    return Fit(
        matched=_score(ends, voice),
        moved=float(np.average(scores, weights=weights)),
        count=len(ends),
    )


def _inside(times: Float[np.ndarray, " n"], voice: Stresses) -> Bool[np.ndarray, " n"]:
    """Which of the times fall into speech."""
    places = np.floor(times * _HZ).astype(int)
    there = (places >= 0) & (places < len(voice.speaking))
    there[there] = voice.speaking[places[there]]
    return there


def _score(ends: Float[np.ndarray, " ends"], voice: Stresses) -> float:
    off = np.abs(ends[:, None] - voice.times[None]).min(1)
    return float(np.exp(-0.5 * (off / SIGMA_S) ** 2).mean())
