"""Voice to features by a stock Whisper encoder (transformers), as EchoMimic does: 50 steps a second.

Each step has the input of the first block (convolutions and positions) and the raw output of every block; the
model's own last hidden state is normalised once more and is not that.  The log-mel spectrum is OpenAI's: its floor
hangs on the loudest spot of the whole file, found in a first pass; it is cut into pieces of 30 s, each encoded by
itself, the last filled with zeros (of the log-mel).  So reading in blocks changes nothing.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from emo2.config import SpeechConfig
from emo2.signals import Speech, SpeechFeatures
from emo2.speech.hooks import recorded
from emo2.speech.stream import Samples, collect, pieces, require_rate

STEP_RATE = 50
"""Steps a second."""
HOP = 160
WINDOW = 400
DEPTH = 8.0
"""Powers of ten below the loudest spot at which the spectrum ends."""


class WhisperEncoder(nn.Module):
    """`encode(speech, fps)` gives rows at 50 a second, whatever the film's rate; `speech.tokens` picks a frame's."""

    def __init__(self, config: SpeechConfig, network: nn.Module) -> None:
        """`network` is the encoder of a `transformers.WhisperModel`; see `load_encoder`."""
        super().__init__()
        self.config = config
        self.network: Any = network
        layers = len(self.network.layers) + 1
        if config.layers != layers:
            raise ValueError(
                f"this Whisper gives {layers} layers (the input of its blocks and each one's output); "
                f"layers is {config.layers}"
            )

    def encode(self, speech: Speech, fps: float, *, store: Path | None = None) -> SpeechFeatures:
        """Features of a whole voice at 50 rows a second; with `store`, they lie in that file."""
        return collect(self.stream(speech, fps), store)

    def stream(self, speech: Speech, fps: float) -> Iterator[SpeechFeatures]:
        """`encode`, 30 s at a time, for a `Reel`; the voice is heard through before, for its loudest spot."""
        return pieces(self.blocks(speech), speech, STEP_RATE, self.count(speech, fps))

    def count(self, speech: Speech, fps: float) -> int:
        """Rows that a voice gives; they have their own rate."""
        del fps
        return speech.num_samples // HOP // 2

    @torch.inference_mode()
    def blocks(self, speech: Speech) -> Iterator[Float[Tensor, "steps layers width"]]:
        """The same rows, 30 s at a time."""
        require_rate(speech, self.config)
        like = self.network.conv1.weight
        columns = 2 * int(self.network.config.max_source_positions)
        for mel in log_mel(speech, mels=int(self.network.config.num_mel_bins), columns=columns):
            filled = F.pad(mel, (0, columns - mel.shape[-1]))
            with recorded(list(self.network.layers), with_input=True) as found:
                self.network(filled[None].to(like))
            yield torch.stack(found, dim=2)[0, : mel.shape[-1] // 2].cpu()


def log_mel(
    speech: Speech, *, mels: int = 80, columns: int = 3000
) -> Iterator[Float[Tensor, "mels n"]]:
    """Whisper's log-mel spectrum in runs of `columns` (100 a second), the last shorter."""
    loudest = max((float(part.max()) for part in _spectrum(speech, mels, columns)), default=0.0)
    for part in _spectrum(speech, mels, columns):
        yield ((part.clamp(min=loudest - DEPTH) + 4.0) / 4.0).float()


def _spectrum(speech: Speech, mels: int, columns: int) -> Iterator[Float[Tensor, "mels n"]]:
    """log10 of the mel spectrum, before floor and scale; the voice mirrored at its ends."""
    samples = Samples(speech, reflect=True)
    window = torch.hann_window(WINDOW, dtype=torch.float64)
    total = speech.num_samples // HOP
    for first in range(0, total, columns):
        last = min(first + columns, total)
        heard = samples.take(first * HOP - WINDOW // 2, (last - 1) * HOP + WINDOW // 2).double()
        power = torch.fft.rfft(heard.unfold(0, WINDOW, HOP) * window).abs().square()
        yield (power @ _filters(speech.sample_rate, mels)).clamp(min=1e-10).log10().T


@cache
def _filters(sample_rate: int, mels: int) -> Float[Tensor, "bins mels"]:
    """Slaney's triangles of equal area: linear to 1 kHz, then logarithmic (Auditory Toolbox, 1998)."""
    step, knee, growth = 200.0 / 3, 15.0, math.log(6.4) / 27
    places = torch.linspace(0.0, knee + math.log(sample_rate / 2 / 1000.0) / growth, mels + 2)
    places = places.double()
    edges = torch.where(places < knee, places * step, 1000.0 * torch.exp(growth * (places - knee)))
    bins = torch.linspace(0.0, sample_rate / 2, WINDOW // 2 + 1, dtype=torch.float64)[:, None]
    rise = (bins - edges[:-2]) / (edges[1:-1] - edges[:-2])
    fall = (edges[2:] - bins) / (edges[2:] - edges[1:-1])
    return torch.minimum(rise, fall).clamp(min=0.0) * (2.0 / (edges[2:] - edges[:-2]))
