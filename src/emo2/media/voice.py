"""Voices to `Speech`: whatever ffmpeg decodes, streamed as mono float blocks."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
import torch
from av.container import InputContainer
from av.error import FFmpegError, InvalidDataError
from jaxtyping import Float
from torch import Tensor

from emo2.errors import UserError
from emo2.media.files import require_file
from emo2.signals import Speech

_LOG = logging.getLogger(__name__)
_MIN_DURATION_S = 0.1
_SILENCE = 10 ** (-60 / 20)
"""A voice whose loudest sample stays under -60 dBFS counts as silent."""
_MISSING_S = 0.5
"""A sound track this much shorter than its header says was cut off."""


@dataclass(frozen=True)
class FileVoice:
    """The sound of a file as mono float samples, decoded anew at every call of `blocks`."""

    path: Path
    sample_rate: int

    def blocks(self, size: int) -> Iterator[Float[Tensor, " n"]]:
        """Consecutive blocks of `size` samples (the last may be shorter)."""
        yield from _reblock(_decode(self.path, self.sample_rate), size)


@dataclass(frozen=True)
class SampledVoice:
    """Samples already in memory."""

    samples: Float[Tensor, " n"]

    def blocks(self, size: int) -> Iterator[Float[Tensor, " n"]]:
        """Consecutive blocks of `size` samples (the last may be shorter)."""
        yield from self.samples.split(size)


def read_voice(path: str | Path, *, sample_rate: int = 16_000) -> Speech:
    """A voice file (or a video's sound track) as `Speech`; decodes once to measure and judge it.

    Refused with a `UserError`: no sound track, damaged or cut-off files, NaN, silence (peak under
    -60 dBFS) and less than 0.1 s.
    """
    path = Path(path)
    require_file(path, "voice")
    voice = FileVoice(path, sample_rate)
    count, peak = 0, 0.0
    for block in voice.blocks(sample_rate):
        count += len(block)
        peak = _louder(peak, block)
    _require_voice(str(path), count, peak, sample_rate)
    promised_s = _promised_duration(path)
    if promised_s is not None and count / sample_rate < promised_s - _MISSING_S:
        raise UserError(
            f"{path} is cut off: its header promises {promised_s:.1f} s of sound but only "
            f"{count / sample_rate:.1f} s are there; give the whole file."
        )
    return Speech(voice=voice, sample_rate=sample_rate, num_samples=count, source=path)


def speech_from_samples(samples: Float[Tensor, " n"], *, sample_rate: int) -> Speech:
    """`Speech` from mono samples in [-1, 1]; judged as a file is."""
    _require_voice("the voice", len(samples), _louder(0.0, samples), sample_rate)
    return Speech(
        voice=SampledVoice(samples.float()), sample_rate=sample_rate, num_samples=len(samples)
    )


def _louder(peak: float, block: Float[Tensor, " n"]) -> float:
    """Largest absolute sample so far; NaN once any sample is not a finite number."""
    if not len(block):
        return peak
    loudest = float(block.abs().max())
    return max(peak, loudest) if math.isfinite(peak) and math.isfinite(loudest) else math.nan


def _require_voice(name: str, count: int, peak: float, sample_rate: int) -> None:
    if count == 0:
        raise UserError(f"{name} has 0 samples of sound; give at least {_MIN_DURATION_S} s.")
    if count < _MIN_DURATION_S * sample_rate:
        raise UserError(
            f"{name} lasts {count / sample_rate * 1000:.0f} ms; give at least {_MIN_DURATION_S} s."
        )
    if math.isnan(peak):
        raise UserError(
            f"{name} holds samples that are no numbers (NaN or infinite); export the recording again."
        )
    if peak < _SILENCE:
        loudness = f"{20 * math.log10(peak):.0f} dBFS" if peak > 0 else "all zeros"
        raise UserError(
            f"{name} is silent (loudest sample: {loudness}); give a recording with a voice in it."
        )


def _open(path: Path) -> InputContainer:
    try:
        container = av.open(str(path))
    except (FFmpegError, OSError, ValueError) as error:
        raise UserError(
            f"{path} is damaged, cut off or no sound file ({_reason(error)}); give a whole wav, mp3, "
            "m4a, flac, ogg, opus or a video with a sound track."
        ) from error
    if not container.streams.audio:
        container.close()
        raise UserError(f"{path} has no sound track; give a file with a voice in it.")
    return container


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)


def _promised_duration(path: Path) -> float | None:
    """Length stated by an mp4 header; other formats only estimate theirs."""
    with _open(path) as container:
        stream = container.streams.audio[0]
        if "mp4" not in container.format.name or not stream.duration or not stream.time_base:
            return None
        return float(stream.duration * stream.time_base)


def _decode(path: Path, sample_rate: int) -> Iterator[Float[np.ndarray, " n"]]:
    """Mono pieces at `sample_rate` as they come out of the decoder; damaged packets are skipped."""
    good, bad = 0, 0
    with _open(path) as container:
        stream = container.streams.audio[0]
        # ffmpeg's own mix of two channels to one is 3 dB too loud in float: take the mean instead
        layout = "mono" if stream.codec_context.channels == 1 else "stereo"
        resampler = av.AudioResampler(format="fltp", layout=layout, rate=sample_rate)
        try:
            for packet in container.demux(stream):
                try:
                    frames = packet.decode()
                    good += 1
                except InvalidDataError:
                    bad += 1
                    continue
                for frame in frames:
                    frame.pts = None  # gaps in the time stamps are not silence to be filled in
                    for piece in resampler.resample(frame):
                        yield piece.to_ndarray().mean(0)
        except (FFmpegError, OSError, ValueError) as error:
            raise UserError(
                f"{path} is damaged or cut off ({_reason(error)}); give the whole file."
            ) from error
        if good > 1:  # the empty packet at the end always "decodes"
            for piece in resampler.resample(None):
                yield piece.to_ndarray().mean(0)
    if bad > max(2, good // 10):
        raise UserError(
            f"{path} is damaged: {bad} of {good + bad} packets cannot be decoded; give a whole file."
        )
    if bad:
        _LOG.warning("%s: %d damaged packets skipped", path, bad)


def _reblock(pieces: Iterator[Float[np.ndarray, " n"]], size: int) -> Iterator[Float[Tensor, " n"]]:
    """Pieces of any length to blocks of exactly `size`, the last one shorter."""
    held: list[np.ndarray] = []
    count = 0
    for piece in pieces:
        held.append(piece)
        count += len(piece)
        if count < size:
            continue
        joined = np.concatenate(held)
        whole = count - count % size
        for start in range(0, whole, size):
            yield torch.from_numpy(joined[start : start + size].astype(np.float32))
        held, count = [joined[whole:]], count - whole
    if count:
        yield torch.from_numpy(np.concatenate(held).astype(np.float32))
