"""What a body follows in a voice: loudness, melody, stressed syllables, phrases.

Measured from samples and phone times alone, so it works the same for real and for synthetic voices.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy.ndimage import gaussian_filter1d

from emo2.studio.phones import SILENCE, VOWELS, Phone

_FLOOR_DB = -60.0
_PITCH_RANGE_HZ = (65.0, 420.0)
_PHRASE_GAP_S = 0.18


@dataclass(frozen=True, kw_only=True)
class Stress:
    """A syllable that stands out."""

    time_s: float
    """Middle of its vowel."""
    strength: float
    """0..1; 1: the most prominent of the take."""


@dataclass(frozen=True, kw_only=True)
class Prosody:
    """A voice as the body hears it."""

    fps: float
    loudness: Float[np.ndarray, " frames"]
    """0..1 against the speaker's own loud syllables; 0 in silence."""
    melody: Float[np.ndarray, " frames"]
    """Pitch in standard deviations from the speaker's mean, smooth, 0 where unvoiced for long."""
    speaking: Float[np.ndarray, " frames"]
    """1 in phrases, 0 in pauses, soft edges."""
    stresses: tuple[Stress, ...]
    phrases: tuple[tuple[float, float], ...]
    """(start, end) in seconds."""
    duration_s: float


def _levels(samples: Float[np.ndarray, " n"], rate: int, frames: int, fps: float) -> np.ndarray:
    """Level of each frame in dB, over windows of two frames."""
    squares = np.concatenate(([0.0], np.cumsum(samples.astype(np.float64) ** 2)))
    middle = (np.arange(frames) + 0.5) / fps
    first = np.clip((middle - 0.03) * rate, 0, len(samples)).astype(int)
    last = np.clip((middle + 0.03) * rate, 0, len(samples)).astype(int)
    power = (squares[last] - squares[first]) / np.maximum(last - first, 1)
    return np.maximum(10 * np.log10(power + 1e-12), _FLOOR_DB)


def _pitch(samples: Float[np.ndarray, " n"], rate: int, frames: int, fps: float) -> np.ndarray:
    """Pitch of each frame in Hz by normalised autocorrelation, 0 where unvoiced."""
    step = max(1, rate // 8000)
    slow, rate = samples[::step], rate // step
    size = int(0.05 * rate)
    centres = ((np.arange(frames) + 0.5) / fps * rate).astype(int)
    padded = np.pad(slow, (size, 2 * size))
    spectrum_size = 1 << int(np.ceil(np.log2(2 * size)))
    low, high = int(rate / _PITCH_RANGE_HZ[1]), int(rate / _PITCH_RANGE_HZ[0])
    pitch = np.zeros(frames)
    for first in range(0, frames, 2048):
        starts = centres[first : first + 2048] + size // 2
        windows = padded[np.minimum(starts[:, None] + np.arange(size), len(padded) - 1)]
        windows = (windows - windows.mean(1, keepdims=True)) * np.hanning(size)
        power = np.abs(np.fft.rfft(windows, spectrum_size)) ** 2
        correlation = np.fft.irfft(power)[:, : high + 1]
        correlation /= correlation[:, :1] + 1e-6 * size
        best = correlation[:, low:].argmax(1) + low
        strength = correlation[np.arange(len(best)), best]
        pitch[first : first + 2048] = np.where(strength > 0.38, rate / best, 0.0)
    return pitch


def _melody(pitch: np.ndarray, fps: float) -> np.ndarray:
    voiced = pitch > 0
    if voiced.sum() < 5:
        return np.zeros_like(pitch)
    tones = np.log(np.where(voiced, pitch, 1.0))
    centre = np.median(tones[voiced])
    spread = max(float(np.std(tones[voiced])), 0.05)
    z = np.where(voiced, np.clip((tones - centre) / spread, -2.5, 2.5), 0.0)
    sigma = 0.08 * fps
    weight = gaussian_filter1d(voiced.astype(float), sigma)
    return gaussian_filter1d(z, sigma) / (weight + 0.15)


def _phrases(phones: Sequence[Phone]) -> tuple[tuple[float, float], ...]:
    """Stretches of speech between pauses."""
    stretches: list[tuple[float, float]] = []
    for phone in phones:
        if phone.name in (SILENCE, "breath"):
            continue
        if stretches and phone.start_s - stretches[-1][1] < _PHRASE_GAP_S:
            stretches[-1] = (stretches[-1][0], phone.end_s)
        else:
            stretches.append((phone.start_s, phone.end_s))
    return tuple(stretches)


def _stresses(
    phones: Sequence[Phone], loudness: np.ndarray, melody: np.ndarray, fps: float
) -> tuple[Stress, ...]:
    """Vowels that are longer, louder and higher than their neighbours."""
    vowels = [p for p in phones if p.name in VOWELS]
    if not vowels or not len(loudness):
        return ()
    frame = np.clip([int(v.middle_s * fps) for v in vowels], 0, len(loudness) - 1)
    length = np.log([max(v.duration_s, 0.02) for v in vowels])

    def standard(x: np.ndarray) -> np.ndarray:
        return (x - x.mean()) / (x.std() + 0.1)

    score = 0.9 * standard(loudness[frame]) + 0.6 * melody[frame] + 0.9 * standard(length)
    moments = [v.middle_s for v in vowels]
    kept: list[Stress] = []
    for i in np.argsort(-score):
        if score[i] < -0.6 and kept:
            break
        if all(abs(moments[i] - other.time_s) > 0.24 for other in kept):
            # About one syllable in three stands out; -0.6 to 2 spans weak to strong.
            strength = float(np.clip((score[i] + 0.9) / 2.9, 0.1, 1))
            kept.append(Stress(time_s=moments[i], strength=strength))
    return tuple(sorted(kept, key=lambda s: s.time_s))


def measure(
    samples: Float[np.ndarray, " n"], rate: int, phones: Sequence[Phone], *, fps: float
) -> Prosody:
    """Prosody of a take, one value a frame (frame i is heard from i/fps to (i+1)/fps)."""
    duration = len(samples) / rate
    frames = max(1, int(np.ceil(duration * fps - 1e-6)))
    level = _levels(samples, rate, frames, fps)
    loud = float(np.percentile(level, 95))
    relative = np.clip((level - (loud - 28)) / 28, 0, 1) if loud > -55 else np.zeros(frames)
    phrases = _phrases(phones)
    times = (np.arange(frames) + 0.5) / fps
    speaking = np.zeros(frames)
    for start, end in phrases:
        speaking[(times > start) & (times < end)] = 1.0
    loudness = gaussian_filter1d(relative * relative * (3 - 2 * relative), 0.05 * fps)
    melody = _melody(_pitch(samples, rate, frames, fps), fps)
    return Prosody(
        fps=fps,
        loudness=loudness,
        melody=melody,
        speaking=gaussian_filter1d(speaking, 0.12 * fps),
        stresses=_stresses(phones, loudness, melody, fps),
        phrases=phrases,
        duration_s=duration,
    )
