"""Sync-C and Sync-D: SyncNet (Chung and Zisserman 2016) with its public code's windows, distances and verdict.

The network is built here and filled from the user's `syncnet_v2.model`; all else (cepstra, crops, shifts) needs no
weights and is tested without them.  The crop's box comes from our own face points instead of S3FD, therefore the
level is near the field's, not equal to it (docs/metrics/sync_c.md).
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from jaxtyping import Float, Int16
from torch import Tensor, nn

from emo2.metrics.networks import fill, load_tensors

FPS = 25.0
RATE = 16_000
SIDE = 224
SHIFT = 15
LEAST_FRAMES = 6
"""Of film and of voice (counted in frames): what the windows need."""
_WINDOW = 5
_CEPSTRA_A_FRAME = 4
_WIDTH = 1024
_CROP_SCALE = 0.4
_GREY = 110
_FOREHEAD = 0.3
"""Part of brow-to-chin that a detector's box reaches above the brows (ours)."""
_BATCH = 16


class SyncNet(nn.Module):
    """Two towers to 1024 numbers each: 0.2 s of cepstra, and five frames of a face."""

    def __init__(self) -> None:
        super().__init__()
        pool2, pool3 = nn.MaxPool2d, nn.MaxPool3d
        # names and order are those of the public weights
        self.netcnnaud = nn.Sequential(
            *_layer(nn.Conv2d(1, 64, 3, padding=1)), pool2(1, 1),
            *_layer(nn.Conv2d(64, 192, 3, padding=1)), pool2(3, (1, 2)),
            *_layer(nn.Conv2d(192, 384, 3, padding=1)),
            *_layer(nn.Conv2d(384, 256, 3, padding=1)),
            *_layer(nn.Conv2d(256, 256, 3, padding=1)), pool2(3, 2),
            *_layer(nn.Conv2d(256, 512, (5, 4))),
        )  # fmt: skip
        self.netfcaud = _head()
        self.netcnnlip = nn.Sequential(
            *_layer(nn.Conv3d(3, 96, (5, 7, 7), (1, 2, 2))), pool3((1, 3, 3), (1, 2, 2)),
            *_layer(nn.Conv3d(96, 256, (1, 5, 5), (1, 2, 2), (0, 1, 1))),
            pool3((1, 3, 3), (1, 2, 2), (0, 1, 1)),
            *_layer(nn.Conv3d(256, 256, (1, 3, 3), padding=(0, 1, 1))),
            *_layer(nn.Conv3d(256, 256, (1, 3, 3), padding=(0, 1, 1))),
            *_layer(nn.Conv3d(256, 256, (1, 3, 3), padding=(0, 1, 1))), pool3((1, 3, 3), (1, 2, 2)),
            *_layer(nn.Conv3d(256, 512, (1, 6, 6))),
        )  # fmt: skip
        self.netfclip = _head()

    @classmethod
    def load(cls, path: Path) -> SyncNet:
        """From the public file."""
        module = cls()
        fill(module, load_tensors(path), path)
        return module.eval()

    @torch.inference_mode()
    def voices(self, cepstra: Float[Tensor, "n 1 13 20"]) -> Float[Tensor, "n 1024"]:
        """The voice's tower."""
        return self.netfcaud(self.netcnnaud(cepstra).flatten(1))

    @torch.inference_mode()
    def faces(self, clips: Float[Tensor, "n 3 5 224 224"]) -> Float[Tensor, "n 1024"]:
        """The face's tower: BGR, 0 to 255."""
        return self.netfclip(self.netcnnlip(clips).flatten(1))


def _layer(convolution: nn.Conv2d | nn.Conv3d) -> tuple[nn.Module, ...]:
    norm = nn.BatchNorm2d if isinstance(convolution, nn.Conv2d) else nn.BatchNorm3d
    return convolution, norm(convolution.out_channels), nn.ReLU()


def _head() -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(512, 512), nn.BatchNorm1d(512), nn.ReLU(), nn.Linear(512, _WIDTH)
    )


@dataclass(frozen=True, kw_only=True)
class Sync:
    """What SyncNet says of a film."""

    confidence: float
    """Sync-C: median of the mean distances over shifts, minus their least."""
    distance: float
    """Sync-D: the least."""
    offset: int
    """Frames; the public code's sign."""


def verdict(faces: Float[Tensor, "n d"], voices: Float[Tensor, "n d"], shift: int = SHIFT) -> Sync:
    """Mean distance for every shift of the voice by up to `shift` frames (zeros beyond its ends)."""
    padded = nn.functional.pad(voices, (0, 0, shift, shift))
    windows = padded.unfold(0, 2 * shift + 1, 1).transpose(1, 2)
    # torch's pairwise distance: 1e-6 is added to every difference
    gaps = (faces[:, None] - windows + 1e-6).norm(dim=-1).mean(0)
    least, index = gaps.min(0)
    return Sync(
        confidence=float(gaps.median() - least), distance=float(least), offset=shift - int(index)
    )


def towers(
    net: SyncNet, crops: Iterable[Float[Tensor, "3 224 224"]], samples: Int16[Tensor, " samples"]
) -> tuple[Float[Tensor, "n d"], Float[Tensor, "n d"]]:
    """Rows of the face's and of the voice's tower for every window, from face crops that stream (25 fps, 16 kHz)."""
    cepstra = torch.from_numpy(mfcc(samples.numpy())).float().T
    most = max(len(samples) * 25 // RATE - _WINDOW + 1, 0)
    faces = [
        net.faces(torch.stack(clips)) for clips in _batches(itertools.islice(_windows(crops), most))
    ]
    # the public code leaves out the last window of whichever is shorter
    count = sum(len(f) for f in faces) - 1
    if count < 1:
        raise ValueError(f"too short for SyncNet; give at least {LEAST_FRAMES} frames and a voice")
    sound = [_steps(cepstra, f * _CEPSTRA_A_FRAME)[None] for f in range(count)]
    voices = [net.voices(torch.stack(part)) for part in _batches(iter(sound))]
    return torch.cat(faces)[:count], torch.cat(voices)


def _windows(crops: Iterable[Tensor]) -> Iterator[Tensor]:
    """Every five consecutive crops, frames after channels."""
    held: deque[Tensor] = deque(maxlen=_WINDOW)
    for crop in crops:
        held.append(crop)
        if len(held) == _WINDOW:
            yield torch.stack(list(held), 1)


def _batches(items: Iterator[Tensor]) -> Iterator[list[Tensor]]:
    while batch := list(itertools.islice(items, _BATCH)):
        yield batch


def _steps(cepstra: Tensor, start: int) -> Tensor:
    piece = cepstra[:, start : start + 20]
    return nn.functional.pad(piece, (0, 20 - piece.shape[1]))


def boxes(points: Float[Tensor, "f 68 2"]) -> Float[Tensor, "f 3"]:
    """Middle x, y and half side a frame, median over 13 frames as the public tracker has it."""
    low, high = points.amin(1), points.amax(1)
    top = low[:, 1] - _FOREHEAD * (high[:, 1] - low[:, 1])
    half = torch.maximum(high[:, 0] - low[:, 0], high[:, 1] - top) / 2
    rows = torch.stack([(low[:, 0] + high[:, 0]) / 2, (top + high[:, 1]) / 2, half], 1)
    padded = nn.functional.pad(rows.T, (6, 6)).T  # zeros at the ends, as scipy's medfilt has them
    filtered = padded.unfold(0, 13, 1).median(-1).values
    # where the filter's zeros win (films under 13 frames), the unfiltered box stands
    return torch.where(filtered[:, 2:] > 0, filtered, rows)


def crop(frame: Float[Tensor, "3 h w"], box: Float[Tensor, "3"]) -> Float[Tensor, "3 224 224"]:
    """1.8 boxes high from the box's top, 2.8 half sides wide; BGR, 0 to 255, grey 110 outside."""
    x, y, half = box.tolist()
    pad = int(half * (1 + 2 * _CROP_SCALE))
    pixels = ((frame.permute(1, 2, 0).numpy() + 1) * 127.5).round().clip(0, 255).astype(np.uint8)
    padded = cv2.copyMakeBorder(
        pixels[..., ::-1], pad, pad, pad, pad, cv2.BORDER_CONSTANT, value=(_GREY, _GREY, _GREY)
    )
    x, y = x + pad, y + pad
    rows = slice(max(int(y - half), 0), int(y + half * (1 + 2 * _CROP_SCALE)))
    columns = slice(max(int(x - half * (1 + _CROP_SCALE)), 0), int(x + half * (1 + _CROP_SCALE)))
    face = cv2.resize(padded[rows, columns], (SIDE, SIDE))
    return torch.from_numpy(face).permute(2, 0, 1).float()


def mfcc(samples: Int16[np.ndarray, " n"]) -> Float[np.ndarray, "steps 13"]:
    """Cepstra as python_speech_features 0.6 makes them by default at 16 kHz: 25 ms every 10 ms, no window."""
    signal = samples.astype(np.float64)
    signal = np.append(signal[:1], signal[1:] - 0.97 * signal[:-1])
    length, step, size, mels = 400, 160, 512, 26
    steps = 1 if len(signal) <= length else 1 + -(-(len(signal) - length) // step)
    padded = np.pad(signal, (0, max(0, (steps - 1) * step + length - len(signal))))
    frames = np.lib.stride_tricks.sliding_window_view(padded, length)[::step][:steps]
    power = np.abs(np.fft.rfft(frames, size)) ** 2 / size
    tiny = np.finfo(float).eps
    energy = np.maximum(power.sum(1), tiny)
    loud = np.log(np.maximum(power @ _mel_bank(mels, size).T, tiny))
    order = np.arange(13)
    transform = np.cos(np.pi * order[:, None] * (2 * np.arange(mels) + 1) / (2 * mels))
    transform *= np.sqrt(np.where(order == 0, 1, 2) / mels)[:, None]
    cepstra = (loud @ transform.T) * (1 + 11 * np.sin(np.pi * order / 22))
    cepstra[:, 0] = np.log(energy)
    return cepstra


def _mel_bank(count: int, size: int) -> Float[np.ndarray, "count bins"]:
    """Triangles on the mel scale, their corners on whole bins."""
    top = 2595 * np.log10(1 + RATE / 2 / 700)
    hertz = 700 * (10 ** (np.linspace(0, top, count + 2) / 2595) - 1)
    corners = np.floor((size + 1) * hertz / RATE)
    bank = np.zeros((count, size // 2 + 1))
    for row in range(count):
        low, peak, high = (int(c) for c in corners[row : row + 3])
        bank[row, low:peak] = (np.arange(low, peak) - low) / max(peak - low, 1)
        bank[row, peak:high] = (high - np.arange(peak, high)) / max(high - peak, 1)
    return bank
