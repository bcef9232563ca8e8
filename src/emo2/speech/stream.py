"""A voice by place: samples read forward once, a little held back, so that hours fit."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from emo2.config import SpeechConfig
from emo2.signals import Speech, SpeechFeatures
from emo2.speech.mel import tracks

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


def collect(
    blocks: Iterator[Float[Tensor, "rows layers width"]],
    speech: Speech,
    rate: float,
    count: int,
    store: Path | None,
) -> SpeechFeatures:
    """Blocks of rows as one `SpeechFeatures`: in memory, or in the file `store`, mapped.

    Twelve layers of wav2vec 2.0 take 0.9 MB a second, 3.3 GB an hour: give long voices a file.
    """
    keep = _joined if store is None else _mapped(store)
    values = keep(blocks, count)
    energy, voiced = tracks(speech, rate, len(values))
    return SpeechFeatures(values=values, energy=energy, voiced=voiced, fps=rate)


def _joined(blocks: Iterator[Tensor], count: int) -> Tensor:
    return torch.cat(list(blocks))[:count]


def _mapped(path: Path) -> Callable[[Iterator[Tensor], int], Tensor]:
    def keep(blocks: Iterator[Tensor], count: int) -> Tensor:
        shape: tuple[int, ...] = ()
        dtype = torch.float32
        with path.open("wb") as file:
            for block in blocks:
                shape, dtype = tuple(block.shape[1:]), block.dtype
                file.write(block.contiguous().numpy().tobytes())
        size = count * math.prod(shape)
        return torch.from_file(str(path), shared=False, size=size, dtype=dtype).view(count, *shape)

    return keep
