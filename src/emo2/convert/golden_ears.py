"""Ears against golden vectors (audio.json): wav2vec 2.0 and Whisper as Hallo, V-Express and EchoMimic hear with them.

The networks are stock ones of `transformers` at the file's sizes, with weights by the rule of `golden`.  Stored
values are a float32 run's: its own rounding is what is left in either precision.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from emo2 import weights
from emo2.config import SpeechConfig
from emo2.convert.difference import Difference, apart, different, name_of, read_spec, read_tensors
from emo2.convert.golden import parameter, uniform
from emo2.media.voice import speech_from_samples
from emo2.signals import Speech
from emo2.speech import tokens
from emo2.speech.load import build_network, wav2vec2_names
from emo2.speech.stream import moments
from emo2.speech.wav2vec2 import Wav2Vec2Encoder
from emo2.speech.whisper import WhisperEncoder, log_mel

RATE = 16_000
WITHIN, WITHIN_LARGE = 1e-5, 3e-6
"""Absolute, or as a share of the largest value where that is more."""
_NOT_FILLED = ("masked_spec_embed", "embed_positions.weight")
"""Used in training alone; a fixed table of sines."""


class GoldenEars:
    """The file's voice and networks, and our value of every site in it."""

    def __init__(self, folder: Path, dtype: torch.dtype = torch.float32) -> None:
        self.folder, self.dtype = folder, dtype
        self.spec: dict[str, Any] = read_spec(folder, "audio")
        self.tensors = read_tensors(folder, "audio")

    @cached_property
    def speech(self) -> Speech:
        """The stored signal, or the one the file describes."""
        samples = self.tensors.get("signal")
        if samples is None:
            samples = _described(int(self.spec["seed"]))
        return speech_from_samples(samples, sample_rate=RATE)

    def network(self, module: str, **changes: int | str) -> nn.Module:
        """A stock network with the file's weights, strictly."""
        network = build_network(module, self.spec[module]["config"] | changes)
        own = network.state_dict()
        tensors = {n: own[n] for n in _NOT_FILLED if n in own}
        tensors |= self.weights(module)
        weights.fill(network, tensors, self.folder / "audio.json")
        return network.eval().requires_grad_(False).to(self.dtype)

    def weights(self, module: str) -> dict[str, Tensor]:
        """The module's tensors, under today's names."""
        made = {
            key: parameter(self.spec["seed"], f"{module}.{key}", tuple(shape))
            for key, shape in self.spec[module]["keys"].items()
            if key != "embed_positions.weight"
        }
        filled = {key: value for key, value in made.items() if value is not None}
        return wav2vec2_names(filled) if module == "wav2vec2" else filled

    def config(self, kind: str) -> SpeechConfig:
        """Of `hallo`, `vexpress` and `echomimic`, at the file's sizes."""
        if kind == "echomimic":
            told = self.spec["whisper"]["config"]
            layers = told["encoder_layers"] + 1
            return SpeechConfig(kind="whisper", width=told["d_model"], layers=layers)
        told = self.spec["wav2vec2"]["config"]
        width = told["hidden_size"]
        if kind == "vexpress":
            return SpeechConfig(kind="wav2vec2", width=width, layers=1, rows="halves")
        layers = told["num_hidden_layers"]
        return SpeechConfig(kind="wav2vec2", width=width, layers=layers, rows="stretched")

    def value(self, site: str) -> Tensor | None:
        """Ours; None: nothing of ours corresponds."""
        windows = re.fullmatch(r"whisper/echomimic_windows_([\d.]+)fps", site)
        if windows:
            fps = float(windows[1])
            frames = range(tokens.step_windows(len(self.steps), fps))
            return tokens.step_tokens(self.steps, frames, fps)
        if site == "whisper/log_mel":
            mels = int(self.spec["whisper"]["config"].get("num_mel_bins", 80))
            return torch.cat(list(log_mel(self.speech, mels=mels)), dim=1)
        if site == "whisper/stacked":
            return self.steps
        if site == "wav2vec2/hallo_stacked":
            return self.stacked
        if site == "wav2vec2/hallo_windows":
            return tokens.around(self.stacked, range(len(self.stacked)))
        if site == "wav2vec2/vexpress_windows":
            return tokens.half_frame_windows(self._halves["rows"], range(self._frames))
        if site == "wav2vec2/input_values":
            mean, variance = moments(self.speech)
            samples = torch.cat(list(self.speech.voice.blocks(self.speech.num_samples)))
            return ((samples.to(self.dtype) - mean) / math.sqrt(variance + 1e-7))[None]
        return self._halves.get(site)

    @cached_property
    def steps(self) -> Tensor:
        """Whisper's layers at 50 steps a second."""
        ears = WhisperEncoder(self.config("echomimic"), self.network("whisper"))
        return ears.encode(self.speech, 24.0).values

    @cached_property
    def stacked(self) -> Tensor:
        """Hallo's: all layers of wav2vec 2.0 at the film's frames."""
        ears = Wav2Vec2Encoder(self.config("hallo"), self.network("wav2vec2"), piece_s=math.inf)
        return ears.encode(self.speech, float(self.spec["wav2vec2"].get("fps", 25))).values

    @property
    def _frames(self) -> int:
        return int(self.spec["wav2vec2"].get("vexpress_video_length", 30))

    @cached_property
    def _halves(self) -> dict[str, Tensor]:
        """V-Express's rows, and what passes through the network on the way to them."""
        network: Any = self.network("wav2vec2")
        ears = Wav2Vec2Encoder(self.config("vexpress"), network, piece_s=math.inf)
        seen: dict[str, Tensor] = {}
        with (
            _last_input(network.feature_projection, "wav2vec2/conv_features", seen),
            _last_output(network.encoder, "wav2vec2/last_hidden_state", seen),
        ):
            fps = self._frames * RATE / self.speech.num_samples
            seen["rows"] = ears.encode(self.speech, fps).values
        seen["wav2vec2/conv_features"] = seen["wav2vec2/conv_features"].transpose(1, 2)
        return seen


@contextmanager
def _last_input(module: nn.Module, name: str, seen: dict[str, Tensor]) -> Iterator[None]:
    def keep(_module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        seen[name] = inputs[0]

    handle = module.register_forward_pre_hook(keep)
    yield
    handle.remove()


@contextmanager
def _last_output(module: nn.Module, name: str, seen: dict[str, Tensor]) -> Iterator[None]:
    def keep(_module: nn.Module, _inputs: object, output: Any) -> None:  # noqa: ANN401 - transformers' own
        seen[name] = output.last_hidden_state

    handle = module.register_forward_hook(keep)
    yield
    handle.remove()


def compare_ears(folder: Path) -> Iterator[Difference]:
    """Every stored value of audio.safetensors, and the frames' steps in audio.json."""
    for dtype in (torch.float64, torch.float32):
        ears = GoldenEars(folder, dtype)
        for site, wanted in ears.tensors.items():
            if site != "signal":
                largest = float(wanted.abs().max())
                yield Difference(
                    project="audio",
                    site=site,
                    dtype=name_of(dtype),
                    found=apart(ears.value(site), wanted),
                    allowed=max(WITHIN, WITHIN_LARGE * largest),
                )
    for fps, told in ears.spec.get("whisper", {}).get("windows", {}).items():
        steps = torch.arange(float(len(ears.steps))).view(-1, 1, 1)
        count = tokens.step_windows(len(steps), float(fps))
        ours = tokens.step_tokens(steps, range(count), float(fps))[..., 0].long().tolist()
        yield Difference(
            project="audio",
            site=f"whisper/windows at {fps} fps",
            dtype="frames",
            found=different(ours, told["step_indices"]),
            allowed=0.0,
        )


def _described(seed: int) -> Tensor:
    """The signal as the file describes it: a swelling glide, a tone from 0.4 s on, and noise; one second."""
    time = torch.arange(RATE, dtype=torch.float64) / RATE
    turn = 2.0 * math.pi
    glide = 0.35 * torch.sin(turn * (180.0 * time + 60.0 * time**2))
    swell = 0.6 + 0.4 * torch.sin(turn * 3.0 * time)
    tone = 0.2 * torch.sin(turn * 1200.0 * time) * (time > 0.4)
    noise = 2.0 * torch.from_numpy(uniform(seed, "audio.noise", RATE)) - 1.0
    return (glide * swell + tone + 0.05 * noise).float()
