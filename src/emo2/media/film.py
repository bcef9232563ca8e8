"""Clips to a film: segments while it is made, one H.264 + AAC mp4 when it is whole.

Every clip becomes a playable mp4 segment of its own (a closed group of pictures) in the work folder
`.NAME.emo2` beside the film, under its final name only when it is on the disk.  A killed run therefore
goes on after its last finished clip, and because the encoder starts anew with every clip, the film is
the same, byte for byte, as that of an unbroken run.  `close` joins the segments with the voice by
copying packets, under a temporary name, and moves the result into place.
"""

from __future__ import annotations

import fcntl
import io
import json
import math
import os
import re
import shutil
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import IO

import av
import cv2
import numpy as np
import safetensors.torch
from av.bitstream import BitStreamFilterContext
from av.container import OutputContainer
from jaxtyping import Float
from torch import Tensor

from emo2.errors import UserError
from emo2.media.files import write_fault
from emo2.media.join import join
from emo2.signals import Clip, Speech

_X264 = {"preset": "faster", "crf": "17", "bf": "0", "x264-params": "threads=1:scenecut=0"}
_FORMAT = 1
_SEGMENT = re.compile(r"clip-(\d{8})-(\d{8})\.mp4")
_STATE = re.compile(r"state-(\d{8})\.safetensors")


def num_frames(duration_s: float, fps: float) -> int:
    """Frames a film needs to last as long as its voice."""
    return max(1, math.ceil(duration_s * fps - 1e-6))


class Film:
    """A film being written; a context manager.  An error inside keeps the work for the next run.

    `size` is (height, width) of the clips; odd sides grow by one repeated row or column, which
    yuv420p needs.  `voice` is muxed in (None: a silent film).  With the same non-empty `fingerprint`
    (of everything that shapes the film) a second run goes on at `frames_done`, else, or without `resume`,
    it starts anew.
    `keep_frames` names a folder that also receives every frame as a lossless PNG.
    """

    def __init__(
        self,
        path: str | Path,
        size: tuple[int, int],
        fps: float,
        voice: Path | Speech | None = None,
        keep_frames: Path | None = None,
        *,
        fingerprint: str = "",
        resume: bool = True,
    ) -> None:
        self.path = Path(path)
        self.size = size
        self.fps = fps
        self.voice = voice
        self.keep_frames = keep_frames
        self.folder = self.path.parent / f".{self.path.name}.emo2"
        """The work folder: segments, states, manifest."""
        self._require_path()
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._lock = self._take_lock()
            self._take_up(fingerprint, resume=resume)
            if keep_frames is not None:
                keep_frames.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise write_fault(self.path, error) from error

    @property
    def frames_done(self) -> int:
        """Frames safely on the disk; the next clip starts here."""
        return self._done

    @property
    def segments(self) -> tuple[Path, ...]:
        """The finished clips, each a playable mp4 without sound."""
        return tuple(self.folder / name for name in self._chain)

    def state(self) -> dict[str, Tensor] | None:
        """What `write` was given as state with the last finished clip; None at the start."""
        path = self._state_path(self._done)
        return safetensors.torch.load_file(path) if path.exists() else None

    def write(self, clip: Clip, state: dict[str, Tensor] | None = None) -> None:
        """Encode a clip and put it safely on the disk; `state` is what a resumed run needs to go on."""
        if clip.start != self._done:
            raise ValueError(f"clip starts at frame {clip.start}, expected {self._done}")
        if tuple(clip.frames.shape[-2:]) != tuple(self.size):
            raise ValueError(f"clip has size {tuple(clip.frames.shape[-2:])}, expected {self.size}")
        end = clip.start + clip.frames.shape[0]
        pixels = _to_pixels(clip.frames)
        name = f"clip-{clip.start:08d}-{end:08d}.mp4"
        try:
            if self.keep_frames is not None:
                for index, frame in enumerate(pixels, start=clip.start):
                    _write_png(self.keep_frames / f"frame-{index:06d}.png", frame)
            if state is not None:
                _write_whole(self._state_path(end), safetensors.torch.save(state))
            _write_whole(self.folder / name, _encode(pixels, self.fps))
        except OSError as error:
            raise write_fault(self.path, error) from error
        before, self._done = self._done, end
        self._chain.append(name)
        self._state_path(before).unlink(missing_ok=True)

    def close(self) -> None:
        """Join segments and voice into the film, move it into place and clear the work folder."""
        if not self._chain:
            raise ValueError("no clip was written")
        whole = self.path.with_name(f".{self.path.name}.part{self.path.suffix}")
        try:
            join(self.segments, self.voice, whole, fps=self.fps)
            os.replace(whole, self.path)
        except OSError as error:
            whole.unlink(missing_ok=True)
            raise write_fault(self.path, error) from error
        shutil.rmtree(self.folder, ignore_errors=True)
        self.release()

    def release(self) -> None:
        """Let go of the work folder; another run may take it up."""
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def __enter__(self) -> Film:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            if kind is None:
                self.close()
            elif not self._chain:
                shutil.rmtree(self.folder, ignore_errors=True)
        finally:
            self.release()

    def _require_path(self) -> None:
        if self.path.suffix.lower() != ".mp4":
            raise UserError(f"the film's name is {self.path.name}; give a name that ends in .mp4.")
        if self.path.is_dir():
            raise UserError(f"{self.path} is a folder; give the name of a film in it.")

    def _take_lock(self) -> IO[str]:
        lock = (self.folder / "lock").open("w")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            lock.close()
            raise UserError(
                f"{self.path} is being made by another emo2 right now; wait for it or give another name."
            ) from error
        return lock

    def _take_up(self, fingerprint: str, *, resume: bool) -> None:
        """Find the finished clips of an earlier run of the same command; clear away all others."""
        manifest = json.dumps(
            {
                "format": _FORMAT,
                "fingerprint": fingerprint,
                "size": list(self.size),
                "fps": self.fps,
                "encoder": [_X264, av.library_versions],
                "keep_frames": None if self.keep_frames is None else str(self.keep_frames),
            },
            sort_keys=True,
            default=str,
        )
        path = self.folder / "manifest.json"
        same = resume and bool(fingerprint) and path.exists() and path.read_text() == manifest
        self._chain, self._done = self._find_chain() if same else ([], 0)
        keep = {"lock", "manifest.json", self._state_path(self._done).name, *self._chain}
        for entry in self.folder.iterdir():
            if entry.name not in keep:
                entry.unlink()
        _write_whole(path, manifest.encode())

    def _find_chain(self) -> tuple[list[str], int]:
        by_start = {}
        states = set()
        for entry in self.folder.iterdir():
            if match := _SEGMENT.fullmatch(entry.name):
                by_start[int(match[1])] = (int(match[2]), entry.name)
            elif match := _STATE.fullmatch(entry.name):
                states.add(int(match[1]))
        chain, done = [], 0
        while done in by_start:
            done, name = by_start[done]
            chain.append(name)
        # a run that keeps states can only go on where it has one
        return (chain, done) if not states or done in states else ([], 0)

    def _state_path(self, frame: int) -> Path:
        return self.folder / f"state-{frame:08d}.safetensors"


def _write_whole(path: Path, data: bytes) -> None:
    """All of `data` under `path`, or nothing: temporary name, flushed to the disk, then moved."""
    part = path.with_name(path.name + ".part")
    with part.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    os.replace(part, path)


def _write_png(path: Path, pixels: np.ndarray) -> None:
    _, data = cv2.imencode(".png", pixels[..., ::-1], [cv2.IMWRITE_PNG_COMPRESSION, 3])
    _write_whole(path, data.tobytes())


def _to_pixels(frames: Float[Tensor, "f 3 h w"]) -> np.ndarray:
    """Frames in [-1, 1] to uint8, channels last."""
    pixels = frames.detach().float().cpu().clamp(-1, 1).add(1).mul(127.5).round()
    return pixels.byte().permute(0, 2, 3, 1).contiguous().numpy()


def _encode(pixels: np.ndarray, fps: float) -> bytes:
    """One clip as a complete H.264 mp4; the same bytes for the same clip wherever it stands."""
    height, width = pixels.shape[1:3]
    even = np.pad(pixels, ((0, 0), (0, height % 2), (0, width % 2), (0, 0)), mode="edge")
    rate = Fraction(fps).limit_denominator(1001)
    memory = io.BytesIO()
    with av.open(memory, "w", format="mp4", options={"fflags": "+bitexact"}) as container:
        stream = container.add_stream("libx264", rate=rate, options=dict(_X264))
        stream.width, stream.height = even.shape[2], even.shape[1]
        stream.pix_fmt = "yuv420p"
        stream.gop_size = len(pixels) + 1
        context = stream.codec_context
        context.thread_count = 1
        # BT.709, limited range: what players assume of a film that does not say
        context.color_primaries = context.color_trc = context.colorspace = 1
        context.color_range = 1
        # x264 writes its version and settings into the first picture of every clip: leave it out
        strip = BitStreamFilterContext("filter_units=remove_types=6", stream)
        for index, picture in enumerate(even):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame = frame.reformat(
                format="yuv420p", dst_colorspace="ITU709", dst_color_range="MPEG",
                interpolation="AREA", threads=1,  # of one picture: cheaper than several
            )  # fmt: skip
            frame.pts = index
            frame.time_base = 1 / rate
            _mux(container, strip, stream.encode(frame))
        _mux(container, strip, stream.encode(None))
        _mux(container, strip, strip.filter(None), filtered=True)
    return memory.getvalue()


def _mux(
    container: OutputContainer,
    strip: BitStreamFilterContext,
    packets: list[av.Packet],
    *,
    filtered: bool = False,
) -> None:
    for packet in packets:
        for kept in [packet] if filtered else strip.filter(packet):
            container.mux(kept)
