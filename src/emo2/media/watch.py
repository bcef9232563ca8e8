"""Films read back, frame by frame, at a wanted rate and size: what measures look at.  Nothing is kept."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import av
import cv2
import numpy as np
import torch
from av.error import FFmpegError
from jaxtyping import Float
from torch import Tensor

from emo2.errors import UserError
from emo2.media.files import require_file


@dataclass(frozen=True, kw_only=True)
class FilmFacts:
    """What a film's header says."""

    fps: float
    size: tuple[int, int]
    """(height, width) in pixels, as it is shown: a film that asks to be turned is turned."""
    frames: int | None
    """None where the header does not say."""
    has_sound: bool


def film_facts(path: str | Path) -> FilmFacts:
    """Rate, size, length and whether there is sound; a file that is no film is a `UserError`."""
    path = Path(path)
    require_file(path, "film")
    try:
        with av.open(str(path)) as container:
            if not container.streams.video:
                raise UserError(f"{path} has no picture track; give a film.")
            stream = container.streams.video[0]
            fps = float(stream.average_rate or stream.guessed_rate or 25)
            stream.thread_type = "NONE"
            first = next(container.decode(stream), None)
            tall, wide = stream.height, stream.width
            lies = first is not None and _quarters(first) % 2 == 1
            return FilmFacts(
                fps=fps,
                size=(wide, tall) if lies else (tall, wide),
                frames=stream.frames or None,
                has_sound=bool(container.streams.audio),
            )
    except (FFmpegError, OSError) as error:
        raise UserError(f"{path} is not a film that can be read ({error}); give a film.") from error


def read_frames(
    path: str | Path, *, fps: float | None = None, size: tuple[int, int] | None = None
) -> Iterator[Float[Tensor, "3 h w"]]:
    """A film's frames, RGB in [-1, 1], one after the other.

    With `fps`, output frame k is the frame on show at the time (k + 0.5) / fps: frames repeat or fall out, none is
    mixed.  With `size` (height, width), area averaging where the film is larger, bicubic where it is smaller.
    """
    path = Path(path)
    facts = film_facts(path)
    timed = _decoded(path, facts.fps)
    for pixels in (p for _, p in timed) if fps is None else _at_rate(timed, fps, facts.fps):
        if size is not None and pixels.shape[:2] != tuple(size):
            larger = pixels.shape[0] >= size[0] and pixels.shape[1] >= size[1]
            way = cv2.INTER_AREA if larger else cv2.INTER_CUBIC
            pixels = cv2.resize(pixels, (size[1], size[0]), interpolation=way)
        yield (
            torch.from_numpy(np.ascontiguousarray(pixels))
            .permute(2, 0, 1)
            .float()
            .div_(127.5)
            .sub_(1.0)
        )


def _decoded(path: Path, fps: float) -> Iterator[tuple[float, np.ndarray]]:
    """(seconds since the first frame, pixels) as the file says."""
    try:
        with av.open(str(path)) as container:
            container.streams.video[0].thread_type = "NONE"
            first: float | None = None
            for index, frame in enumerate(container.decode(video=0)):
                time = float(frame.time) if frame.time is not None else index / fps
                first = time if first is None else first
                yield time - first, np.rot90(frame.to_ndarray(format="rgb24"), _quarters(frame))
    except (FFmpegError, OSError) as error:
        raise UserError(f"{path} is damaged or cut off ({error}); give the whole film.") from error


def _quarters(frame: av.VideoFrame) -> int:
    """Quarter turns to the left by which the file wants its frames shown: telephones film lying on their side."""
    return round(frame.rotation / 90) % 4


def _at_rate(
    timed: Iterator[tuple[float, np.ndarray]], fps: float, own_fps: float
) -> Iterator[np.ndarray]:
    """The frame on show in the middle of every wanted one; the last is shown for one of its own frames' time."""
    index = 0
    shown: tuple[float, np.ndarray] | None = None
    for time, pixels in timed:
        while shown is not None and (index + 0.5) / fps < time - 1e-6:
            yield shown[1]
            index += 1
        shown = (time, pixels)
    while shown is not None and (index + 0.5) / fps < shown[0] + 1 / own_fps - 1e-6:
        yield shown[1]
        index += 1
