"""Largest differences of ears, schedules and autoencoder from the vectors in tests/parity.

python benchmarks/parity_of_ears.py        # from the repository's root; a minute on one core
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

import test_sampling as sampling
import test_speech_models as ears

from emo2.diffusion import sample
from emo2.speech import tokens
from emo2.speech.wav2vec2 import Wav2Vec2Encoder
from emo2.speech.whisper import WhisperEncoder, log_mel


def row(what: str, ours: Tensor, golden: Tensor) -> None:
    print(f"| {what} | {ears.largest(ours, golden):.1e} | {float(golden.abs().max()):.1f} |")


def speech() -> None:
    voice, golden = ears.voice(ears.GOLDEN["signal"]), ears.GOLDEN
    row("Whisper: log-mel", torch.cat(list(log_mel(voice)), dim=1), golden["whisper/log_mel"])
    for dtype in (torch.float64, torch.float32):
        kind = str(dtype).removeprefix("torch.")
        wav2vec2 = ears.wav2vec2().to(dtype)
        hallo = Wav2Vec2Encoder(ears.HALLO, wav2vec2).encode(voice, 25.0).values
        row(f"Hallo: stacked layers, {kind}", hallo, golden["wav2vec2/hallo_stacked"])
        express = Wav2Vec2Encoder(ears.VEXPRESS, wav2vec2).encode(voice, 30.0).values
        windows = tokens.half_frame_windows(express, range(30))
        row(f"V-Express: windows, {kind}", windows, golden["wav2vec2/vexpress_windows"])
        steps = WhisperEncoder(ears.ECHOMIMIC, ears.whisper().to(dtype)).encode(voice, 24.0).values
        windows = tokens.step_tokens(steps, range(26), 24.0)
        row(f"EchoMimic: windows, {kind}", windows, golden["whisper/echomimic_windows_24fps"])


def pieces() -> None:
    samples, network = ears.voice(ears.long_voice(200.0)), ears.wav2vec2()
    for config in (ears.HALLO, ears.VEXPRESS, ears.ALL):
        whole = Wav2Vec2Encoder(config, network, piece_s=float("inf")).encode(samples, 25.0).values
        moved = (Wav2Vec2Encoder(config, network).encode(samples, 25.0).values - whole).abs()
        print(
            f"200 s in pieces of 120 s, rows={config.rows!r}: mean {float(moved.mean()):.3f}, "
            f"largest {float(moved.max()):.2f}, the features' own spread {float(whole.std()):.2f}"
        )


def schedules() -> None:
    golden = sampling.GOLDEN
    for schedule in ("linear", "scaled_linear"):
        process = sampling.zero_snr(schedule)
        row(f"{schedule}: betas", process.betas(), golden[f"{schedule}/betas"])
        row(f"{schedule}: alpha-bar", process.kept(), golden[f"{schedule}/alphas_cumprod"])
        for steps in (5, 6):
            walk = sample(
                lambda x, t: 0.3 * x + 0.01 * t.view(-1, 1, 1, 1, 1) / 1000,
                golden["x_T"].double(), process, steps=steps,
            )  # fmt: skip
            ours = torch.stack(list(walk))
            wanted = torch.stack([golden[f"{schedule}/n{steps}/step{i}"] for i in range(steps)])
            row(f"{schedule}: DDIM, {steps} steps, float64", ours, wanted)


if __name__ == "__main__":
    torch.set_num_threads(1)
    print("| what | largest difference | largest value |\n|---|--:|--:|")
    speech()
    schedules()
    pieces()
