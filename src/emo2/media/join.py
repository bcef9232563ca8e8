"""Segments and a voice to one mp4, by copying packets; the voice is encoded only if it is not AAC."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from fractions import Fraction
from itertools import chain
from pathlib import Path

import av
import numpy as np
from av.container import OutputContainer
from av.error import FFmpegError, InvalidDataError

from emo2.errors import UserError
from emo2.signals import Speech

_MAX_RATE = 48_000
_BITS_PER_CHANNEL = 112_000
_BLOCK = 8192


def join(
    segments: tuple[Path, ...], voice: Path | Speech | None, path: Path, *, fps: float
) -> None:
    """Write `path` (mp4, index in front) from clips without sound and a voice.

    An AAC voice is copied untouched, everything else is encoded at its own rate (at most 48 kHz) in
    mono or stereo at a bit rate above audible loss.
    """
    _require_space(segments, path)
    rate = Fraction(fps).limit_denominator(1001)
    options = {"movflags": "+faststart", "fflags": "+bitexact"}
    try:
        with av.open(str(path), "w", format="mp4", options=options) as container:
            with av.open(str(segments[0])) as first:
                video = container.add_stream_from_template(first.streams.video[0])
            video.time_base = 1 / rate
            track = _VoiceTrack(container, voice) if voice is not None else None
            packets = track.packets() if track is not None else iter(())
            waiting = next(packets, None)
            for at_s, packet in _video_packets(segments, video, rate):
                while waiting is not None and waiting[0] <= at_s:
                    container.mux(waiting[1])
                    waiting = next(packets, None)
                container.mux(packet)
            while waiting is not None:
                container.mux(waiting[1])
                waiting = next(packets, None)
    except FFmpegError as error:
        if isinstance(error, OSError):
            raise
        raise OSError(error.errno or 0, error.strerror or str(error)) from error
    # a full disk can go unnoticed by the muxer's last writes
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _require_space(segments: tuple[Path, ...], path: Path) -> None:
    """Raise OSError ENOSPC before minutes of writing rather than after."""
    need = int(sum(segment.stat().st_size for segment in segments) * 1.05)
    free = shutil.disk_usage(path.parent).free
    if free < need:
        raise OSError(28, f"{need / 1e6:.0f} MB needed, {free / 1e6:.0f} MB free")


def _video_packets(
    segments: tuple[Path, ...], stream: av.VideoStream, rate: Fraction
) -> Iterator[tuple[float, av.Packet]]:
    """All pictures of all segments in order, numbered through; with their time in seconds."""
    index = 0
    for segment in segments:
        with av.open(str(segment)) as container:
            for packet in container.demux(video=0):
                if packet.size == 0:
                    continue
                packet.stream = stream
                packet.time_base = 1 / rate
                packet.pts = packet.dts = index
                packet.duration = 1
                yield float(index / rate), packet
                index += 1


class _VoiceTrack:
    """The sound stream of the film."""

    def __init__(self, container: OutputContainer, voice: Path | Speech) -> None:
        self._path = voice if isinstance(voice, Path) else voice.source
        self._speech = None if isinstance(voice, Path) else voice
        if self._path is None:
            assert self._speech is not None
            self._copy = False
            rate, layout = self._speech.sample_rate, "mono"
        else:
            with av.open(str(self._path)) as source:
                if not source.streams.audio:
                    raise UserError(
                        f"{self._path} has no sound track; give a file with a voice in it."
                    )
                context = source.streams.audio[0].codec_context
                self._copy = context.name == "aac" and bool(context.sample_rate)
                rate = context.sample_rate
                layout = "mono" if context.channels == 1 else "stereo"
                if self._copy:
                    self._stream = container.add_stream_from_template(source.streams.audio[0])
        if not self._copy:
            self._stream = container.add_stream("aac", rate=_aac_rate(rate), layout=layout)
            channels = 1 if layout == "mono" else 2
            # the encoder holds at most 6144 bits a frame of 1024 samples and channel
            self._stream.bit_rate = channels * min(_BITS_PER_CHANNEL, 5 * self._stream.rate)

    def packets(self) -> Iterator[tuple[float, av.Packet]]:
        """(time in seconds, packet) in order."""
        for packet in self._copied() if self._copy else self._encoded():
            if packet.pts is None:
                continue
            yield float(packet.pts * packet.time_base), packet

    def _copied(self) -> Iterator[av.Packet]:
        assert self._path is not None
        with av.open(str(self._path)) as source:
            stream = source.streams.audio[0]
            start = stream.start_time or 0  # a sound track may begin after the video it came with
            for packet in source.demux(stream):
                if packet.size == 0 or packet.pts is None:
                    continue
                packet.pts -= start
                packet.dts = packet.pts
                packet.stream = self._stream
                yield packet

    def _encoded(self) -> Iterator[av.Packet]:
        context = self._stream.codec_context
        resampler = av.AudioResampler(
            format="fltp", layout=context.layout, rate=context.sample_rate,
            frame_size=context.frame_size or 1024,
        )  # fmt: skip
        position = 0
        for frame in chain(self._frames(), [None]):
            if frame is not None:
                frame.pts = None  # gaps in the time stamps are not silence to be filled in
            for piece in resampler.resample(frame):
                piece.pts, piece.time_base = position, Fraction(1, context.sample_rate)
                position += piece.samples
                yield from self._stream.encode(piece)
        yield from self._stream.encode(None)

    def _frames(self) -> Iterator[av.AudioFrame]:
        if self._path is None:
            assert self._speech is not None
            for block in self._speech.voice.blocks(_BLOCK):
                samples = block.numpy().astype(np.float32)[None]
                frame = av.AudioFrame.from_ndarray(samples, format="flt", layout="mono")
                frame.sample_rate = self._speech.sample_rate
                yield frame
            return
        with av.open(str(self._path)) as source:
            for packet in source.demux(audio=0):
                try:
                    yield from packet.decode()
                except InvalidDataError:  # `read_voice` has judged how many may be bad
                    continue


def _aac_rate(rate: int) -> int:
    """The nearest rate that AAC allows, not below `rate` unless that is above 48 kHz."""
    allowed = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, _MAX_RATE)
    return next((value for value in allowed if value >= rate), _MAX_RATE)
