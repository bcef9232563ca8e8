"""Made-up voices that do more than speak: they sing, whisper, laugh and breathe, with their phone times kept.

Singing stretches vowels to notes with a phase vocoder (Flanagan and Golden 1966) and bends them to a scale;
whispering replaces the voice's phases by noise under its smoothed spectrum.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float
from scipy.ndimage import uniform_filter1d

from emo2.studio.phones import SILENCE, VOWELS, Phone, join

Samples = Float[np.ndarray, " _"]
Take = tuple[np.ndarray, tuple[Phone, ...]]

_SIZE, _HOP = 1024, 256
_SCALE = np.array((-7, -5, -3, -1, 0, 2, 4, 5, 7))
"""Semitones of the notes about the voice's own pitch."""


def _spectra(samples: Samples, starts: np.ndarray) -> np.ndarray:
    padded = np.pad(samples.astype(np.float64), (_SIZE, 2 * _SIZE))
    rows = padded[np.clip(starts, -_SIZE, len(samples))[:, None] + _SIZE + np.arange(_SIZE)]
    return np.fft.rfft(rows * np.hanning(_SIZE), axis=1)


def _overlapped(spectra: np.ndarray, count: int) -> np.ndarray:
    rows = np.fft.irfft(spectra, _SIZE, axis=1) * np.hanning(_SIZE)
    out = np.zeros(len(rows) * _HOP + _SIZE)
    for k, row in enumerate(rows):
        out[k * _HOP : k * _HOP + _SIZE] += row
    return out[_SIZE // 2 :][:count] / 1.5


def stretched(samples: Samples, places: Float[np.ndarray, " m"]) -> Samples:
    """Sound whose sample i is heard where `places[i]` was in the old one; the pitch stays."""
    middle = places[np.minimum(np.arange(0, len(places) + _HOP, _HOP), len(places) - 1)]
    starts = np.round(middle).astype(int) - _SIZE // 2
    now, before = _spectra(samples, starts), _spectra(samples, starts - _HOP)
    advance = np.angle(now) - np.angle(before)
    phase = np.angle(now[:1]) + np.concatenate((np.zeros_like(advance[:1]), advance[1:])).cumsum(0)
    return _overlapped(np.abs(now) * np.exp(1j * phase), len(places)).astype(np.float32)


def sing(samples: Samples, rate: int, phones: Sequence[Phone], rng: np.random.Generator) -> Take:
    """The words sung: vowels are notes of a third of a second to two seconds, bent to a scale, with vibrato."""
    beat = float(rng.uniform(0.34, 0.6))
    factors, tones, gains = [], [], []
    tone = 0.0
    for phone in phones:
        if phone.name in VOWELS:
            wanted = beat * float(rng.choice((0.6, 1.0, 2.0, 3.0), p=(0.3, 0.4, 0.22, 0.08)))
            factors.append(float(np.clip(wanted / phone.duration_s, 1.0, 9.0)))
            tone = float(_SCALE[int(rng.integers(len(_SCALE)))])
            gains.append(float(rng.uniform(0.55, 1.0)))
        else:
            factors.append(1.15 if phone.name != SILENCE else 1.0)
            gains.append(gains[-1] if gains else 0.8)
        tones.append(tone)
    lengths = np.array([p.duration_s for p in phones]) * factors
    ends = lengths.cumsum()
    count = int(ends[-1] * rate)
    times = np.arange(count) / rate
    which = np.minimum(np.searchsorted(ends, times, side="right"), len(phones) - 1)
    within = (times - (ends - lengths)[which]) / np.maximum(lengths[which], 1e-6)
    starts = np.array([p.start_s for p in phones])
    durations = np.array([p.duration_s for p in phones])
    places = (starts[which] + np.clip(within, 0, 1) * durations[which]) * rate
    pitch = _rounded(np.array(tones)[which], 0.08, rate)
    long = np.clip((lengths[which] - 0.35) / 0.4, 0, 1)
    pitch = pitch + 0.35 * long * np.sin(2 * np.pi * rng.uniform(4.8, 6.2) * times)
    sound = _bent(stretched(samples, places), 2 ** (pitch / 12), places, samples)
    swell = 0.75 + 0.25 * np.sin(np.pi * np.clip(within, 0, 1)) * long
    level = _rounded(np.array(gains)[which] * swell, 0.1, rate)
    moved = [
        Phone(name=p.name, start_s=float(e - n), end_s=float(e))
        for p, n, e in zip(phones, lengths, ends, strict=True)
    ]
    return (sound * level).astype(np.float32), join(moved)


def _rounded(track: np.ndarray, seconds: float, rate: int) -> np.ndarray:
    """Steps as ramps of about so many seconds."""
    size = max(1, round(seconds * rate / 2))
    return uniform_filter1d(uniform_filter1d(track, size, mode="nearest"), size, mode="nearest")


def _bent(sound: Samples, ratio: np.ndarray, places: np.ndarray, samples: Samples) -> Samples:
    """The same length at another pitch: stretched by the ratio, then read that much faster."""
    read = np.concatenate(([0.0], ratio[:-1].cumsum()))
    count = int(read[-1]) + 1
    slow = stretched(samples, np.interp(np.arange(count), read, places))
    return np.interp(read, np.arange(count), slow) if len(sound) else sound


def whisper(samples: Samples, rate: int, rng: np.random.Generator) -> Samples:
    """The words without a voice."""
    starts = np.arange(0, len(samples) + _HOP, _HOP) - _SIZE // 2
    size = np.abs(_spectra(samples, starts))
    smooth = uniform_filter1d(size, max(3, round(250 * _SIZE / rate)), axis=1)
    tilt = np.linspace(0.25, 1.0, size.shape[1])  # a whisper has no low voice bar
    phase = np.exp(2j * np.pi * rng.random(size.shape))
    quiet = _overlapped(smooth * tilt * phase, len(samples))
    return (0.5 / max(float(np.abs(quiet).max()), 1e-6) * quiet).astype(np.float32)


def with_breaths(
    samples: Samples, rate: int, phones: Sequence[Phone], rng: np.random.Generator
) -> Take:
    """Breath drawn in before some phrases, where the pause has room for it."""
    out, parts = samples.copy(), list(phones)
    for i, phone in enumerate(phones):
        is_before = i + 1 < len(phones) and phone.name == SILENCE
        if not is_before or phone.duration_s < 0.34 or rng.random() > 0.6:
            continue
        length = min(float(rng.uniform(0.2, 0.4)), phone.duration_s - 0.1)
        start = phone.end_s - length - 0.04
        first, count = round(start * rate), round(length * rate)
        noise = rng.standard_normal(count)
        noise = noise - uniform_filter1d(noise, max(3, rate // 1000))  # little below 500 Hz
        swell = np.sin(np.pi * np.linspace(0, 1, count)) ** 1.5
        room = out[first : first + count]
        room += (float(rng.uniform(0.01, 0.04)) * noise * swell)[: len(room)].astype(np.float32)
        parts.append(Phone(name="breath", start_s=start, end_s=start + length))
        parts[i] = Phone(name=SILENCE, start_s=phone.start_s, end_s=start)
    return out, join(parts)
