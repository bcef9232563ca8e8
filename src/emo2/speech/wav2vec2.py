"""Voice to features by a stock wav2vec 2.0 (transformers), in pieces, as EMO, Hallo and V-Express do.

What the original computes over the whole signal is found in a first pass over the voice: mean and variance of the
samples, and those of the first convolution's channels (its group norm runs over time).  The convolutions are then
exact in any piece.  The transformer sees the whole voice up to `piece_s`; a longer one is read in pieces with
`overlap_s` of context at each side, which is the one difference from the original (docs/parity.md).  An infinite
`piece_s` takes any voice whole.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from emo2.config import SpeechConfig
from emo2.signals import Speech, SpeechFeatures
from emo2.speech.hooks import recorded
from emo2.speech.stream import Samples, collect, frames_of, moments, pieces, require_rate

_BLOCK_STEPS = 500


class Wav2Vec2Encoder(nn.Module):
    """`encode(speech, fps)` gives one row a film frame (`rows="halves"`: two), `config.layers` layers each."""

    def __init__(
        self,
        config: SpeechConfig,
        network: nn.Module,
        *,
        piece_s: float = 120.0,
        overlap_s: float = 10.0,
    ) -> None:
        """`network` is a `transformers.Wav2Vec2Model`; see `load_encoder`."""
        super().__init__()
        self.config = config
        self.network: Any = network
        self.piece_s, self.overlap_s = piece_s, overlap_s
        blocks = len(self.network.encoder.layers)
        if config.layers not in (1, blocks):
            raise ValueError(
                f"this wav2vec 2.0 has {blocks} blocks; layers is {config.layers}, "
                f"expected {blocks} (all) or 1 (the last)"
            )
        kernels, strides = self.network.config.conv_kernel, self.network.config.conv_stride
        self.hop = math.prod(strides)
        """Samples between steps (320: 50 steps a second)."""
        self.reach = 1
        """Samples a step sees (400)."""
        for kernel, stride in zip(reversed(kernels), reversed(strides), strict=True):
            self.reach = (self.reach - 1) * stride + kernel

    def encode(self, speech: Speech, fps: float, *, store: Path | None = None) -> SpeechFeatures:
        """Features of a whole voice; with `store`, their rows lie in that file and memory does not grow.

        `rows="stretched"` with `pad_to` gives whole clips: the last rows are of the silence that fills them.
        """
        return collect(self.stream(speech, fps), store)

    def stream(self, speech: Speech, fps: float) -> Iterator[SpeechFeatures]:
        """`encode`, a piece at a time, for a `Reel`; the voice is heard through before, for its statistics."""
        rate = fps * 2 if self.config.rows == "halves" else fps
        return pieces(self.blocks(speech, fps), speech, rate, self.count(speech, fps))

    @torch.inference_mode()
    def blocks(self, speech: Speech, fps: float) -> Iterator[Float[Tensor, "rows layers width"]]:
        """The same rows, a piece at a time."""
        require_rate(speech, self.config)
        rows, place = self.count(speech, fps), self._places(speech, fps)
        heard = _Hearing(self, speech, self._length(speech, fps))
        piece, overlap = self._cut(rows, self._length(speech, fps) / speech.sample_rate)
        with heard.normalised():
            for start in range(0, rows, piece):
                stop = min(start + piece, rows)
                wide = (max(start - overlap, 0), min(stop + overlap, rows))
                at = place(torch.arange(*wide, dtype=torch.float64))
                first, last = int(at[0]), min(int(at[-1]) + 2, heard.steps)
                steps = heard.steps_between(first, last)
                if self.config.rows == "stretched":
                    out = self._encoded(_lerp(steps, at - first))
                    yield out[start - wide[0] : stop - wide[0]].cpu()
                else:
                    inner = at[start - wide[0] : stop - wide[0]] - first
                    yield _lerp(self._encoded(steps), inner).cpu()

    def _cut(self, rows: int, duration_s: float) -> tuple[int, int]:
        """Rows of a piece without its context, and of the context at each side."""
        if duration_s <= self.piece_s:
            return rows, 0
        inner = self.piece_s - 2 * self.overlap_s
        return max(round(inner * rows / duration_s), 1), round(self.overlap_s * rows / duration_s)

    def _encoded(self, steps: Float[Tensor, "n channels"]) -> Float[Tensor, "n layers width"]:
        """Features of consecutive convolution outputs."""
        hidden, _ = self.network.feature_projection(steps[None])
        with recorded(list(self.network.encoder.layers)) as found:
            last = self.network.encoder(hidden).last_hidden_state
        kept = [last] if self.config.layers == 1 else found
        return torch.stack(kept, dim=2)[0]

    def count(self, speech: Speech, fps: float) -> int:
        """Rows that a voice gives."""
        frames = frames_of(speech, fps)
        if self.config.rows == "halves":
            return 2 * frames
        multiple = max(self.config.pad_to, 1)
        return -(-frames // multiple) * multiple

    def _length(self, speech: Speech, fps: float) -> int:
        """Samples, with the zeros that fill the last clip (Hallo: whole frames of 16000 // fps)."""
        missing = self.count(speech, fps) - frames_of(speech, fps) if self.config.pad_to else 0
        length = speech.num_samples + missing * (speech.sample_rate // max(int(fps), 1))
        return max(length, self.reach)

    def _places(self, speech: Speech, fps: float) -> _Places:
        return _Places(
            self.config.rows,
            rows=self.count(speech, fps),
            steps=(self._length(speech, fps) - self.reach) // self.hop + 1,
            per_row=speech.sample_rate / fps / self.hop,
            middle=self.reach / 2 / self.hop,
        )


class _Places:
    """Where among the steps a row lies: rows (n,) to steps (n,)."""

    def __init__(self, kind: str, *, rows: int, steps: int, per_row: float, middle: float) -> None:
        self.kind, self.rows, self.steps = kind, rows, steps
        self.per_row, self.middle = per_row, middle

    def __call__(self, row: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
        if self.kind == "stretched":  # both ends meet (interpolation with align_corners)
            at = row * ((self.steps - 1) / max(self.rows - 1, 1))
        elif self.kind == "halves":  # both spans meet (without)
            at = (row + 0.5) * (self.steps / self.rows) - 0.5
        else:  # the middle of the film frame against the middle of what a step sees
            at = (row + 0.5) * self.per_row - self.middle
        return at.clamp(0, self.steps - 1)


class _Hearing:
    """Convolution outputs of a voice by step, normalised by statistics of the whole of it."""

    def __init__(self, encoder: Wav2Vec2Encoder, speech: Speech, length: int) -> None:
        self.encoder, self.speech, self.length = encoder, speech, length
        self.convolutions = encoder.network.feature_extractor
        self.steps = (length - encoder.reach) // encoder.hop + 1
        self.like = self.convolutions.conv_layers[0].conv.weight
        mean, variance = moments(speech)
        self.mean, self.scale = mean, 1.0 / math.sqrt(variance + 1e-7)
        self._samples = Samples(speech)

    def _normalised(
        self, samples: Samples, start: int, stop: int, keep: int
    ) -> Float[Tensor, "1 n"]:
        """Zero mean, unit variance; the filling after the voice stays zero."""
        found = (samples.take(start, stop, keep=keep).to(self.like.dtype) - self.mean) * self.scale
        found[max(self.speech.num_samples - start, 0) :] = 0.0
        return found[None].to(self.like.device)

    def steps_between(self, first: int, last: int) -> Float[Tensor, "n channels"]:
        """Steps `first` to `last`; later calls may not begin earlier."""
        hop, reach = self.encoder.hop, self.encoder.reach
        found = []
        for start in range(first, last, _BLOCK_STEPS):
            stop = min(start + _BLOCK_STEPS, last)
            heard = self._normalised(
                self._samples, start * hop, (stop - 1) * hop + reach, first * hop
            )
            found.append(self.convolutions(heard)[0].T)
        return torch.cat(found)

    @contextmanager
    def normalised(self) -> Iterator[None]:
        """While open, the first convolution's norm over time uses the statistics of the whole voice."""
        layer = self.convolutions.conv_layers[0]
        norm = getattr(layer, "layer_norm", None)
        if not isinstance(norm, nn.GroupNorm):  # larger models normalise each step by itself
            yield
            return
        mean, variance = self._first_statistics(layer.conv)

        def replace(module: nn.GroupNorm, inputs: tuple[Tensor], _: Tensor) -> Tensor:
            gain = module.weight * (variance + module.eps).rsqrt().to(module.weight)
            return (inputs[0] - mean.to(gain)[:, None]) * gain[:, None] + module.bias[:, None]

        handle = norm.register_forward_hook(replace)
        try:
            yield
        finally:
            handle.remove()

    def _first_statistics(self, conv: nn.Conv1d) -> tuple[Tensor, Tensor]:
        """Mean and variance over the whole voice of each channel of the first convolution."""
        kernel, stride = conv.kernel_size[0], conv.stride[0]
        total = (self.length - kernel) // stride + 1
        size = _BLOCK_STEPS * self.encoder.hop // stride
        samples = Samples(self.speech)
        sums = torch.zeros(2, conv.out_channels, dtype=torch.float64)
        for first in range(0, total, size):
            last = min(first + size, total)
            heard = self._normalised(
                samples, first * stride, (last - 1) * stride + kernel, first * stride
            )
            out = conv(heard[:, None])[0].double().cpu()
            sums += torch.stack([out.sum(-1), out.square().sum(-1)])
        mean = sums[0] / total
        return mean, (sums[1] / total - mean.square()).clamp(min=0.0)


def _lerp(rows: Float[Tensor, "n *rest"], at: Float[Tensor, " m"]) -> Float[Tensor, "m *rest"]:
    """Rows at places between them."""
    at = at.clamp(0, len(rows) - 1)
    low = at.long()
    high = (low + 1).clamp(max=len(rows) - 1)
    share = (at - low).to(rows).view(-1, *[1] * (rows.dim() - 1))
    low, high = low.to(rows.device), high.to(rows.device)
    return rows[low] * (1.0 - share) + rows[high] * share
