"""A voice by place: samples read forward once, a little held back, so that hours fit."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from emo2.config import SpeechConfig
from emo2.reel import join
from emo2.signals import Speech, SpeechFeatures
from emo2.speech.mel import Tracks

_BLOCK = 16_000 * 10


class Samples:
    """Samples `start` to `stop` of a voice, asked for in rising order; what lies outside the voice is zero."""

    def __init__(self, speech: Speech, *, reflect: bool = False) -> None:
        """`reflect`: mirror the voice at both ends instead of zeros (as a centred STFT does)."""
        self._source = speech.voice.blocks(_BLOCK)
        self._held = torch.zeros(0)
        self._first = 0
        self._length = speech.num_samples
        self._reflect = reflect

    def take(self, start: int, stop: int, *, keep: int | None = None) -> Float[Tensor, " n"]:
        """The samples from `start` to `stop`; those before `keep` (or `start`) are let go."""
        inside = (max(start, 0), max(min(stop, self._length), 0))
        while self._first + len(self._held) < inside[1]:
            piece = next(self._source, None)
            if piece is None:
                self._length = self._first + len(self._held)
                return self.take(start, stop, keep=keep)
            self._held = torch.cat([self._held, piece.float()])
        keep = inside[0] if keep is None else min(keep, inside[0])
        drop = min(max(keep - self._first, 0), len(self._held))
        self._held, self._first = self._held[drop:], self._first + drop
        found = self._held[inside[0] - self._first : inside[1] - self._first]
        before, after = max(-start, 0), stop - start - max(-start, 0) - len(found)
        if self._reflect:
            left = found[1 : before + 1].flip(0)
            right = found[len(found) - 1 - after : len(found) - 1].flip(0)
        else:
            left, right = torch.zeros(before), torch.zeros(after)
        return torch.cat([left, found, right])


def whole_blocks(speech: Speech) -> Iterator[Float[Tensor, " n"]]:
    """The voice once through, for a statistic."""
    for block in speech.voice.blocks(_BLOCK):
        yield block.double()


def moments(speech: Speech) -> tuple[float, float]:
    """Mean and variance of all samples."""
    count, total, squares = 0, 0.0, 0.0
    for block in whole_blocks(speech):
        count += len(block)
        total += float(block.sum())
        squares += float(block.square().sum())
    mean = total / max(count, 1)
    return mean, max(squares / max(count, 1) - mean * mean, 0.0)


def frames_of(speech: Speech, fps: float) -> int:
    """Film frames of a voice: the last one may be begun."""
    return max(math.ceil(speech.duration_s * fps - 1e-6), 1)


def require_rate(speech: Speech, config: SpeechConfig) -> None:
    """Refuse a voice of another sample rate."""
    if speech.sample_rate != config.sample_rate:
        raise ValueError(
            f"the voice has {speech.sample_rate} samples a second and the encoder hears "
            f"{config.sample_rate}; read it with sample_rate={config.sample_rate}"
        )


def pieces(
    blocks: Iterator[Float[Tensor, "rows layers width"]], speech: Speech, rate: float, count: int
) -> Iterator[SpeechFeatures]:
    """Blocks of rows, `count` in all, as `SpeechFeatures` with the voice's own tracks."""
    tracks = Tracks(speech, rate, count)
    for values in blocks:
        energy, voiced = tracks.take(len(values))
        yield SpeechFeatures(
            values=values, energy=energy, voiced=voiced, fps=rate, loud=tracks.loud
        )


def collect(found: Iterator[SpeechFeatures], store: Path | None) -> SpeechFeatures:
    """Pieces as one: in memory, or with the values in the file `store`, mapped.

    Twelve layers of wav2vec 2.0 take 0.9 MB a second, 3.3 GB an hour: give long voices a file, or stream them.
    """
    if store is None:
        return join(list(found))
    tracks: list[tuple[Tensor, Tensor]] = []
    last: SpeechFeatures | None = None
    with store.open("wb") as file:
        for last in found:
            file.write(last.values.contiguous().numpy().tobytes())
            tracks.append((last.energy, last.voiced))
    if last is None:
        raise ValueError("the voice gave no features")
    row, dtype = last.values.shape[1:], last.values.dtype
    count = sum(len(energy) for energy, _ in tracks)
    values = torch.from_file(str(store), shared=False, size=count * math.prod(row), dtype=dtype)
    return replace(
        last,
        values=values.view(count, *row),
        energy=torch.cat([energy for energy, _ in tracks]),
        voiced=torch.cat([voiced for _, voiced in tracks]),
    )
