"""Labelled pictures of the studio's people: read from shards, moved by affine transforms with all their labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.random import Generator
from safetensors import safe_open

from emo2.errors import UserError
from emo2.portrait.augment import background

IGNORED = 255
"""Part label of a cell that teaches nothing."""
UNKNOWN = -1.0
"""Instead of 0 or 1 (seen) for points that the shard does not label."""
_BACKGROUNDS = 60
_MIRROR_BODY = [0, 1, 3, 2, 5, 4, 7, 6]
_MIRROR_PARTS = np.array([0, 1, 2, 6, 7, 8, 3, 4, 5], np.uint8)
MIRROR_FACE = (
    *range(16, -1, -1), *range(26, 16, -1), *range(27, 31), *range(35, 30, -1),
    45, 44, 43, 42, 47, 46, 39, 38, 37, 36, 41, 40,
    *range(54, 47, -1), *range(59, 54, -1), *range(64, 59, -1), *range(67, 64, -1),
)  # fmt: skip
"""iBUG-68: which point of the picture becomes point i of its mirror image."""


@dataclass(frozen=True)
class View:
    """One labelled picture; points in its pixels."""

    picture: np.ndarray
    parts: np.ndarray
    face: np.ndarray
    body: np.ndarray
    hands: np.ndarray

    def moved(self, transform: np.ndarray, size: int, *, mirrored: bool) -> View:
        """The view under an affine transform (2 x 3) that carries it to a square of `size` pixels.

        Where nothing of the view is, parts are `IGNORED` and the picture black.
        """
        side = self.picture.shape[0]
        if mirrored:
            flip = np.array([[-1.0, 0, side], [0, 1, 0], [0, 0, 1]])
            transform = (transform @ flip)[:2]
        shrink = float(np.sqrt(abs(np.linalg.det(transform[:, :2]))))
        source = self.picture
        if shrink < 0.8:  # filter before sampling, or fine texture turns into noise
            small = max(8, round(side * shrink * 1.1))
            source = cv2.resize(source, (small, small), interpolation=cv2.INTER_AREA)
        picture = cv2.warpAffine(
            source,
            _to_opencv(transform, side / source.shape[0]),
            (size, size),
            flags=cv2.INTER_LINEAR,
        )
        parts = cv2.warpAffine(
            self.parts, _to_opencv(transform, side / self.parts.shape[0]), (size, size),
            flags=cv2.INTER_NEAREST, borderValue=IGNORED,
        )  # fmt: skip
        face, body, hands = (
            _move(points, transform) for points in (self.face, self.body, self.hands)
        )
        if mirrored:
            face, body, hands = face[list(MIRROR_FACE)], body[_MIRROR_BODY], hands[::-1]
            known = parts < len(_MIRROR_PARTS)
            parts = np.where(known, _MIRROR_PARTS[np.where(known, parts, 0)], parts)
        return View(picture, parts, face, body, hands)


@dataclass
class Pool:
    """Views in memory and backgrounds to set them before."""

    views: list[View]
    backgrounds: list[np.ndarray]

    def pick(self, rng: Generator) -> View:
        """Any view."""
        return self.views[rng.integers(len(self.views))]

    def behind(self, rng: Generator, size: int) -> np.ndarray:
        """A background without people, `size` pixels square."""
        picture = self.backgrounds[rng.integers(len(self.backgrounds))]
        side = int(rng.integers(size // 2, picture.shape[0]))
        y, x = rng.integers(0, picture.shape[0] - side + 1, 2)
        return cv2.resize(picture[y : y + side, x : x + side], (size, size))


def read_pool(folders: Sequence[Path], *, seed: int, frames: int = 3, limit: int = 3000) -> Pool:
    """Up to `limit` views from all shards of the folders, `frames` of each person, the reference among them."""
    rng = np.random.default_rng(seed)
    files = sorted(path for folder in folders for path in Path(folder).glob("*.safetensors"))
    if not files:
        raise UserError(
            f"no shards (*.safetensors) in {', '.join(map(str, folders))}; make some with emo2 studio"
        )
    views: list[View] = []
    for index in rng.permutation(len(files)):
        views.extend(_read_shard(files[index], rng, frames))
        if len(views) >= limit:
            break
    return Pool(views[:limit], [background(rng, 256) for _ in range(_BACKGROUNDS)])


def _read_shard(path: Path, rng: Generator, frames: int) -> list[View]:
    views = []
    with safe_open(path, framework="np") as file:
        references = file.get_slice("reference")
        pictures, parts = file.get_slice("frames"), file.get_slice("parts")
        people, count = pictures.get_shape()[:2]
        faces = file.get_tensor("face_points")
        bodies = _tensor(file, "body_points", (people, count + 1, 8, 3))
        hands = _tensor(file, "hand_points", (people, count + 1, 2, 21, 3))
        for person in range(people):
            chosen = [0, *(1 + rng.choice(count, min(frames - 1, count), replace=False))]
            for frame in chosen:
                picture = (
                    references[person : person + 1][0]
                    if frame == 0
                    else pictures[person : person + 1, frame - 1 : frame][0, 0]
                )
                side = picture.shape[-1]
                scale = np.array([side, side, 1.0], np.float32)
                views.append(
                    View(
                        np.ascontiguousarray(picture.transpose(1, 2, 0)),
                        parts[person : person + 1, frame : frame + 1][0, 0],
                        faces[person, frame].astype(np.float32) * scale[:2],
                        bodies[person, frame].astype(np.float32) * scale,
                        hands[person, frame].astype(np.float32) * scale,
                    )
                )
    return views


def _tensor(file: safe_open, name: str, shape: tuple[int, ...]) -> np.ndarray:
    """A tensor of points, or points marked `UNKNOWN` where the shard has none."""
    return file.get_tensor(name) if name in file.keys() else np.full(shape, UNKNOWN, np.float32)  # noqa: SIM118


def face_square(points: np.ndarray) -> tuple[float, float, float]:
    """Centre x, y and side of the square about the 68 points."""
    low, high = points.min(0), points.max(0)
    x, y = (low + high) / 2
    return float(x), float(y), float((high - low).max())


def hand_square(points: np.ndarray) -> tuple[float, float, float]:
    """Centre x, y and side of the square about the 21 points."""
    return face_square(points[:, :2])


def aim(
    view: View,
    source: Sequence[float],
    target: Sequence[float],
    scale: float,
    turn: float,
    *,
    mirrored: bool,
) -> np.ndarray:
    """2 x 3: scale and turn about `source`, which goes to `target`; `moved` mirrors before it."""
    x = view.picture.shape[0] - source[0] if mirrored else source[0]
    cos, sin = scale * np.cos(turn), scale * np.sin(turn)
    linear = np.array([[cos, -sin], [sin, cos]])
    return np.concatenate([linear, (np.asarray(target) - linear @ (x, source[1]))[:, None]], 1)


def _to_opencv(transform: np.ndarray, cell: float) -> np.ndarray:
    """The transform for a source whose pixels are `cell` units wide; OpenCV counts from pixels' centres."""
    found = transform.copy()
    found[:, :2] *= cell
    found[:, 2] += 0.5 * found[:, :2].sum(1) - 0.5
    return found


def _move(points: np.ndarray, transform: np.ndarray) -> np.ndarray:
    moved = points.copy()
    moved[..., :2] = points[..., :2] @ transform[:, :2].T + transform[:, 2]
    return moved
