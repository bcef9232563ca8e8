"""Training sound made worse in the ways that real recordings are: rooms, noise, telephones, music, other voices."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from scipy.fft import next_fast_len
from torch import Tensor

_CHORDS = ((0, 4, 7), (0, 3, 7), (0, 5, 9), (0, 4, 7, 11), (0, 3, 7, 10), (0, 7, 12))


def change_sound(
    sound: Float[Tensor, "b n"], sample_rate: int, generator: torch.Generator
) -> Float[Tensor, "b n"]:
    """A batch with each item changed in its own way; a fifth stay clean but for their level."""
    changed = []
    for i, item in enumerate(sound):
        if _chance(0.8, generator):
            item = _worsened(item, sound[i - 1], sample_rate, generator)
        level = _between(-7.0, 5.0, generator)
        changed.append(item * 10.0 ** (level / 20.0))
    result = torch.stack(changed)
    return torch.where(result.abs() > 1.0, result.sign(), result)  # a microphone clips


def _worsened(item: Tensor, other: Tensor, sample_rate: int, generator: torch.Generator) -> Tensor:
    """Room, then what sounds beside the voice, then the channel."""
    if _chance(0.35, generator):
        item = _in_room(item, sample_rate, generator)
    if _chance(0.2, generator):
        item = _beside(item, other, _between(10.0, 24.0, generator))
    if _chance(0.3, generator):
        item = _beside(
            item, music(len(item), sample_rate, generator), _between(3.0, 20.0, generator)
        )
    if _chance(0.6, generator):
        item = _beside(item, hiss(len(item), generator), _between(8.0, 40.0, generator))
    if _chance(0.5, generator):
        item = _through_channel(item, sample_rate, generator)
    return coded(item, generator) if _chance(0.2, generator) else item


def _beside(voice: Tensor, other: Tensor, ratio_db: float) -> Tensor:
    """`other` under the voice, so much quieter than its usual level."""
    power = voice.square().mean().clamp(min=1e-4)  # a silent window still gets audible noise
    gain = (power / other.square().mean().clamp(min=1e-9)).sqrt() * 10.0 ** (-ratio_db / 20.0)
    return voice + gain * other


def hiss(count: int, generator: torch.Generator) -> Float[Tensor, " n"]:
    """Noise of a random colour (power falling as f^-s, s in 0..2), as of rooms, streets and fans."""
    size = _fast_size(count)
    spectrum = torch.fft.rfft(torch.randn(size, generator=generator))
    slope = _between(0.0, 1.0, generator)
    spectrum = spectrum * torch.arange(1, len(spectrum) + 1).float() ** -slope
    return torch.fft.irfft(spectrum, size)[:count]


def music(count: int, sample_rate: int, generator: torch.Generator) -> Float[Tensor, " n"]:
    """Chords of plucked or held tones with a drum: nothing anyone wrote."""
    length = int(_between(0.25, 0.8, generator) * sample_rate)
    time = torch.arange(length) / sample_rate
    decay = torch.exp(-time * _between(0.5, 6.0, generator))
    root = 110.0 * 2.0 ** _between(-1.0, 1.5, generator)
    partials = int(_between(2.0, 7.0, generator))
    pieces = []
    drum = _chance(0.5, generator)
    for _ in range(math.ceil(count / length)):
        chord = _CHORDS[int(_between(0.0, len(_CHORDS) - 0.01, generator))]
        step = int(_between(-5.0, 5.0, generator))
        tone = torch.zeros(length)
        for note in chord:
            pitch = root * 2.0 ** ((note + step) / 12.0)
            for k in range(1, partials + 1):
                if pitch * k < sample_rate / 2:
                    tone += torch.sin(2 * math.pi * pitch * k * time) / k**1.3
        tone = tone * decay
        if drum:
            beat = torch.randn(length, generator=generator) * torch.exp(-time * 40.0)
            tone = tone + 3.0 * beat
        pieces.append(tone)
    return torch.cat(pieces)[:count]


def _in_room(item: Tensor, sample_rate: int, generator: torch.Generator) -> Tensor:
    """Reverberation: a direct sound and noise that dies away in 0.15 to 0.8 s."""
    fade = _between(0.15, 0.8, generator)
    length = int(fade * sample_rate)
    time = torch.arange(length) / sample_rate
    echo = torch.randn(length, generator=generator) * torch.exp(-6.9 * time / fade)
    echo[: int(0.002 * sample_rate)] = 0.0
    echo = echo / echo.square().sum().sqrt() * 10.0 ** (_between(-14.0, 1.0, generator) / 20.0)
    echo[0] = 1.0
    size = _fast_size(len(item) + length)
    wet = torch.fft.irfft(torch.fft.rfft(item, size) * torch.fft.rfft(echo, size), size)
    return wet[: len(item)]


def _through_channel(item: Tensor, sample_rate: int, generator: torch.Generator) -> Tensor:
    """Band limits and a tilt, as of telephones, cheap microphones and bad codecs."""
    size = _fast_size(len(item))
    spectrum = torch.fft.rfft(item, size)
    hertz = torch.linspace(0.0, sample_rate / 2, len(spectrum))
    low = _between(20.0, 350.0, generator)
    high = 2.0 ** _between(math.log2(2_800.0), math.log2(8_000.0), generator)
    tilt = _between(-4.0, 4.0, generator)  # dB an octave around 1 kHz
    curve = (hertz.clamp(min=50.0) / 1_000.0) ** (tilt / 6.02)
    edges = torch.sigmoid((hertz - low) / 30.0) * torch.sigmoid((high - hertz) / 200.0)
    return torch.fft.irfft(spectrum * curve.clamp(0.1, 10.0) * edges, size)[: len(item)]


def coded(item: Float[Tensor, " n"], generator: torch.Generator) -> Float[Tensor, " n"]:
    """As a codec at a low bit rate leaves sound: telephone steps (G.711's mu-law), or weak bands dropped."""
    if _chance(0.5, generator):
        steps = 2.0 ** _between(4.0, 7.0, generator)
        scale = item.abs().max().clamp(min=1e-4)
        pressed = item.sign() * torch.log1p(255.0 * item.abs() / scale) / math.log(256.0)
        rounded = torch.round(pressed * steps) / steps
        return rounded.sign() * scale * torch.expm1(rounded.abs() * math.log(256.0)) / 255.0
    window = torch.hann_window(512)
    spectrum = torch.stft(item, 512, 256, window=window, return_complex=True)
    loudest = spectrum.abs().amax(0, keepdim=True)
    kept = spectrum.abs() > loudest * 10.0 ** (-_between(18.0, 40.0, generator) / 20.0)
    return torch.istft(spectrum * kept, 512, 256, window=window, length=len(item))


def _fast_size(count: int) -> int:
    """The next size that Fourier transforms do quickly."""
    size = next_fast_len(count, real=True)
    assert size is not None
    return size


def _between(low: float, high: float, generator: torch.Generator) -> float:
    return low + (high - low) * float(torch.rand(1, generator=generator))


def _chance(share: float, generator: torch.Generator) -> bool:
    return float(torch.rand(1, generator=generator)) < share
