"""Largest differences of ears and schedules from the vectors in tests/parity, and what reading in pieces moves.

python benchmarks/parity_of_ears.py        # from the repository's root; a minute on one core

The comparisons are those of `emo2 convert --verify`; the last three lines hear 200 s of made-up noise.
"""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from emo2.convert.golden_ears import RATE, GoldenEars, compare_ears
from emo2.convert.golden_sampling import compare_schedules, compare_windows
from emo2.media.voice import speech_from_samples
from emo2.speech.wav2vec2 import Wav2Vec2Encoder

PARITY = Path(__file__).parents[1] / "tests" / "parity"


def noise(seconds: float) -> Tensor:
    """Noise whose loudness and colour change, so that no two stretches are alike."""
    white = torch.randn(int(seconds * RATE), generator=torch.Generator().manual_seed(5))
    time = torch.arange(len(white)) / RATE
    swell = 0.05 + 0.1 * (1 + torch.sin(0.9 * time)) * (1 + torch.sin(7.0 * time))
    return swell * (white + 3.0 * torch.sin(2 * math.pi * (200 + 40 * torch.sin(time)) * time))


def pieces() -> None:
    ears = GoldenEars(PARITY)
    speech = speech_from_samples(noise(200.0), sample_rate=RATE)
    network, hallo = ears.network("wav2vec2"), ears.config("hallo")
    for config in (hallo, ears.config("vexpress"), replace(hallo, rows="film")):
        whole = Wav2Vec2Encoder(config, network, piece_s=math.inf).encode(speech, 25.0).values
        moved = (Wav2Vec2Encoder(config, network).encode(speech, 25.0).values - whole).abs()
        print(
            f"200 s in pieces of 120 s, rows={config.rows!r}: mean {float(moved.mean()):.3f}, "
            f"largest {float(moved.max()):.2f}, the features' own spread {float(whole.std()):.2f}"
        )


if __name__ == "__main__":
    torch.set_num_threads(1)
    for compare in (compare_ears, compare_schedules, compare_windows):
        for found in compare(PARITY):
            print(found.line())
    pieces()
