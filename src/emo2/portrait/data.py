"""Rendered people to the finder's training batches.

Shards hold square views; photos come in any framing.  So every view is scaled, turned, shifted, mirrored,
cut out and set before made-up backgrounds, alone, in company or not at all, and then spoiled (`augment`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.random import Generator
from torch import Tensor

from emo2.config import FinderConfig
from emo2.portrait.augment import spoil
from emo2.portrait.network import STRIDE
from emo2.portrait.views import (
    IGNORED,
    UNKNOWN,
    Pool,
    View,
    aim,
    face_square,
    hand_square,
    read_pool,
)

Batch = dict[str, Tensor]

_SCENES_WITH_HANDS = 0.6
"""Share of the whole pictures whose people surely show hands; the others are any of the set."""
_EDGE = 0.35
"""How often a picture ends where the view does, and is grey beyond, as `Square.crop` shows what lies outside a photo."""
_HIDDEN = 0.25
"""Weight of a point that something hides, in a hand that is mostly seen."""


class FinderBatches:
    """Batches of whole pictures, faces and hands (`sizes`); the same number gives the same batch.

    The shards are listed anew every `reread` batches, so the set may grow meanwhile.
    """

    def __init__(
        self,
        folders: Sequence[Path],
        config: FinderConfig,
        *,
        seed: int = 0,
        sizes: tuple[int, int, int] = (16, 16, 16),
        reread: int = 400,
    ) -> None:
        self._folders, self._config = folders, config
        self._seed, self._sizes, self._reread = seed, sizes, reread
        self._era, self._pool, self._hands = -1, Pool([], []), Pool([], [])

    def faces(self) -> Tensor:
        """(n, 68, 2) face points of the set, for `PortraitFinder.measure`."""
        self._read(0)
        return torch.from_numpy(np.stack([view.face for view in self._pool.views]))

    def _read(self, number: int) -> None:
        if number // self._reread != self._era:
            self._era = number // self._reread
            self._pool = read_pool(self._folders, seed=self._seed + self._era)
            shown = [v for v in self._pool.views if v.hands[..., 2].mean(1).max() > 0.5]
            self._hands = replace(self._pool, views=shown)

    def at(self, number: int) -> Batch:
        """Batch `number`."""
        self._read(number)
        rng = np.random.default_rng([self._seed, number])
        size, crop = self._config.size, self._config.crop
        hands = self._hands if self._hands.views else self._pool
        items = {
            "scene": [
                scene(rng, hands if rng.random() < _SCENES_WITH_HANDS else self._pool, size)
                for _ in range(self._sizes[0])
            ],
            "face": [face_crop(rng, self._pool, crop) for _ in range(self._sizes[1])],
        }
        if self._hands.views:
            items["hand"] = [
                hand_crop(rng, self._hands, self._config.hand_crop) for _ in range(self._sizes[2])
            ]
        return {
            f"{name}_{key}": torch.from_numpy(np.stack([item[key] for item in made]))
            for name, made in items.items()
            if made
            for key in made[0]
        }


# ---------------------------------------------------------------------------------------------- whole pictures


def scene(rng: Generator, pool: Pool, size: int) -> dict[str, np.ndarray]:
    """A whole picture with nobody, one person (mostly) or several, and its maps."""
    canvas = pool.behind(rng, size)
    owner = np.zeros((size, size), np.uint8)
    parts = np.zeros((size, size), np.uint8)
    people: list[View] = []
    outside = np.zeros((size, size), bool)
    count = int(rng.choice([0, 1, 2, 3], p=[0.06, 0.76, 0.12, 0.06]))
    for number in range(1, count + 1):
        view = _place(rng, pool.pick(rng), size, alone=count == 1)
        inside = view.parts != IGNORED
        person = inside & (view.parts > 0)
        whole = count == 1 and rng.random() < 0.6
        shown = inside if whole else person
        soft = cv2.GaussianBlur(shown.astype(np.float32), (0, 0), 0.7)[..., None]
        canvas = (canvas * (1 - soft) + view.picture * soft).astype(np.uint8)
        if whole and rng.random() < _EDGE:
            outside = ~inside
        parts[shown] = view.parts[shown]
        owner[person] = number
        people.append(view)
    maps = _scene_maps(people, owner, size // STRIDE)
    maps["parts"] = cv2.resize(
        parts, (size // STRIDE,) * 2, interpolation=cv2.INTER_NEAREST
    ).astype(np.int64)
    return {"image": _to_input(spoil(rng, canvas), outside), **maps}


def _place(rng: Generator, view: View, size: int, *, alone: bool) -> View:
    """Put a view somewhere: half the lone people as `find` frames them for its second look."""
    box = face_square(view.face)
    framed = alone and rng.random() < 0.5
    if framed:
        side, x, y = (
            size * rng.uniform(0.12, 0.24),
            rng.uniform(0.36, 0.64),
            rng.uniform(0.14, 0.34),
        )
    else:
        side = size * np.exp(rng.uniform(np.log(0.09), np.log(0.75 if alone else 0.4)))
        x, y = rng.uniform(0.1, 0.9), rng.uniform(0.08, 0.75)
    scale = min(side / box[2], 2.2 if alone else 1.5) * rng.uniform(0.95, 1.05)
    if rng.random() < 0.85:  # people are cut off by the picture's lower edge, not by nothing
        y = max(y, 1 - scale * (view.picture.shape[0] - box[1]) / size)
    turn = np.deg2rad(rng.normal(0, 7) if rng.random() < 0.8 else rng.uniform(-40, 40))
    mirrored = bool(rng.random() < 0.5)
    target = (x * size, min(y, 0.9) * size)
    transform = aim(view, box[:2], target, scale, turn, mirrored=mirrored)
    return view.moved(transform, size, mirrored=mirrored)


def _scene_maps(people: list[View], owner: np.ndarray, cells: int) -> dict[str, np.ndarray]:
    known = all((view.body[:, 2] > UNKNOWN).all() for view in people)
    maps = {
        "body_known": np.full((1, 1, 1), known, np.float32),
        "face": np.zeros((1, cells, cells), np.float32),
        "face_size": np.zeros((1, cells, cells), np.float32),
        "body": np.zeros((8, cells, cells), np.float32),
        "hand": np.zeros((2, cells, cells), np.float32),
        "hand_size": np.zeros((2, cells, cells), np.float32),
    }
    for number, view in enumerate(people, start=1):
        x, y, side = face_square(view.face)
        if _is_owner(owner, (x, y), number):
            _splat(maps["face"][0], (x, y), max(1.2, side / STRIDE / 8))
            _note(maps["face_size"][0], (x, y), side)
        for index, (px, py, seen) in enumerate(view.body.tolist()):
            if seen > 0.5 and _is_owner(owner, (px, py), number, reach=6):
                _splat(maps["body"][index], (px, py), 1.3)
        for index, hand in enumerate(view.hands):
            shown = [_is_owner(owner, point[:2], number, reach=2) for point in hand.tolist()]
            if (hand[:, 2] * np.array(shown)).mean() > 0.4:
                x, y, side = hand_square(hand)
                _splat(maps["hand"][index], (x, y), max(1.2, side / STRIDE / 8))
                _note(maps["hand_size"][index], (x, y), side)
    return maps


def _is_owner(owner: np.ndarray, point: Sequence[float], number: int, *, reach: int = 0) -> bool:
    """Whether the picture shows this person at (or within `reach` of) a point."""
    column, row = int(np.floor(point[0])), int(np.floor(point[1]))
    size = owner.shape[0]
    if not (0 <= column < size and 0 <= row < size):
        return False
    if not reach:
        return bool(owner[row, column] == number)
    near = owner[max(0, row - reach) : row + reach + 1, max(0, column - reach) : column + reach + 1]
    return bool((near == number).any())


def _splat(heat: np.ndarray, point: Sequence[float], deviation: float) -> None:
    """Raise a map to a bell of height 1 at a point."""
    grid = np.arange(heat.shape[0], dtype=np.float32) + 0.5
    bell_x = np.exp(-0.5 * ((grid - point[0] / STRIDE) / deviation) ** 2)
    bell_y = np.exp(-0.5 * ((grid - point[1] / STRIDE) / deviation) ** 2)
    np.maximum(heat, bell_y[:, None] * bell_x, out=heat)


def _note(sizes: np.ndarray, point: Sequence[float], side: float) -> None:
    """Write a size (as its logarithm, never 0) around a point."""
    column, row = int(point[0] / STRIDE), int(point[1] / STRIDE)
    sizes[max(0, row - 1) : row + 2, max(0, column - 1) : column + 2] = np.log(max(side, 2.0))


# -------------------------------------------------------------------------------------------------------- crops


def face_crop(rng: Generator, pool: Pool, size: int) -> dict[str, np.ndarray]:
    """A crop around a face, as badly framed as a first guess may be; sometimes without a face."""
    view = pool.pick(rng)
    x, y, side = face_square(view.face)
    kind = rng.random()
    present = kind < 0.72
    if present:
        reach = side * rng.uniform(1.25, 2.2)
        x, y = (np.array([x, y]) + side * rng.uniform(-0.18, 0.18, 2)).tolist()
    elif kind < 0.84:  # a face, but not one that this crop is about
        reach = side * (rng.uniform(0.3, 0.7) if rng.random() < 0.5 else rng.uniform(4, 7))
        x, y = (np.array([x, y]) + rng.uniform(0.2, 0.5) * reach * _direction(rng)).tolist()
    else:
        reach = rng.uniform(0.1, 0.9) * view.picture.shape[0]
        x, y = _elsewhere(rng, view, (x, y), 0.5 * (side + reach))
    crop = _crop(rng, pool, view, (x, y, reach), size, turn=20.0)
    return {
        "image": _to_input(spoil(rng, crop.picture), _outside(rng, crop)),
        "points": crop.face.astype(np.float32),
        "present": np.asarray(present, np.float32),
    }


def hand_crop(rng: Generator, pool: Pool, size: int) -> dict[str, np.ndarray]:
    """A crop around a hand, shown as a left one; sometimes without a hand.

    `present` is 1 from .7 of the points seen (a hand seen from its edge hides a finger or two) and 0 below .2.
    """
    view = pool.pick(rng)
    seen = view.hands[..., 2].mean(1).clip(0)
    hand = int(rng.random() < seen[1] / max(seen.sum(), 1e-6))
    x, y, side = hand_square(view.hands[hand])
    if rng.random() > 0.2:
        reach = side * rng.uniform(1.5, 2.8)
        x, y = (np.array([x, y]) + side * rng.uniform(-0.25, 0.25, 2)).tolist()
    else:
        reach = rng.uniform(0.1, 0.5) * view.picture.shape[0]
        x, y = _no_hand(rng, view, (x, y), 0.5 * (side + reach))
    crop = _crop(rng, pool, view, (x, y, reach), size, turn=40.0, mirrored=hand == 1)
    points = crop.hands[0].astype(np.float32)
    inside = ((points[:, :2] > 0) & (points[:, :2] < size)).all(1)
    points[:, 2] = points[:, 2].clip(0) * inside
    present = ((points[:, 2].mean() - 0.2) / 0.5).clip(0, 1)
    points[:, 2] = np.maximum(points[:, 2], _HIDDEN * present * inside)
    masks = np.stack([crop.parts == 5, crop.parts == 4]).astype(np.float32)
    cells = size // STRIDE
    return {
        "image": _to_input(spoil(rng, crop.picture), _outside(rng, crop)),
        "points": points,
        "present": np.asarray(present, np.float32),
        "masks": np.stack(
            [cv2.resize(mask, (cells, cells), interpolation=cv2.INTER_AREA) for mask in masks]
        ),
    }


def _crop(
    rng: Generator,
    pool: Pool,
    view: View,
    square: tuple[float, float, float],
    size: int,
    *,
    turn: float,
    mirrored: bool | None = None,
) -> View:
    x, y, reach = square
    angle = np.deg2rad(
        rng.normal(0, turn / 2) if rng.random() < 0.7 else rng.uniform(-turn, turn) * 1.5
    )
    if mirrored is None:
        mirrored = bool(rng.random() < 0.5)
    centre = (size / 2, size / 2)
    crop = view.moved(
        aim(view, (x, y), centre, size / reach, angle, mirrored=mirrored), size, mirrored=mirrored
    )
    keep = crop.parts != IGNORED
    if rng.random() < 0.4:
        keep &= crop.parts > 0
        crop = replace(crop, parts=np.where(keep, crop.parts, 0))
    soft = cv2.GaussianBlur(keep.astype(np.float32), (0, 0), 0.8)[..., None]
    picture = pool.behind(rng, size) * (1 - soft) + crop.picture * soft
    return replace(crop, picture=picture.astype(np.uint8))


def _direction(rng: Generator) -> np.ndarray:
    angle = rng.uniform(0, 2 * np.pi)
    return np.array([np.cos(angle), np.sin(angle)])


def _no_hand(
    rng: Generator, view: View, point: Sequence[float], distance: float
) -> tuple[float, float]:
    """A place away from a hand: every other time the face or a joint, which hands are mistaken for."""
    if rng.random() < 0.5:
        places = np.concatenate([view.face.mean(0)[None], view.body[:6, :2]])
        x, y = places[rng.integers(len(places))] + rng.normal(0, 0.15, 2) * distance
        if np.hypot(x - point[0], y - point[1]) > distance:
            return float(x), float(y)
    return _elsewhere(rng, view, point, distance)


def _elsewhere(
    rng: Generator, view: View, point: Sequence[float], distance: float
) -> tuple[float, float]:
    """A place in the view at least `distance` away from a point, if chance finds one in time."""
    side = view.picture.shape[0]
    best, best_far = (0.0, 0.0), -1.0
    for _ in range(8):
        place = rng.uniform(0, side, 2)
        far = float(np.hypot(*(place - np.array(point))))
        if far > best_far:
            best, best_far = (float(place[0]), float(place[1])), far
        if far > distance:
            break
    return best


def _outside(rng: Generator, crop: View) -> np.ndarray:
    """Where a crop leaves the picture, if it is one that ends where its view does."""
    return (crop.parts == IGNORED) & (rng.random() < _EDGE)


def _to_input(picture: np.ndarray, outside: np.ndarray) -> np.ndarray:
    """uint8, channels last, to float in [-1, 1], channels first; 0 outside."""
    pixels = picture.transpose(2, 0, 1).astype(np.float32) / 127.5 - 1
    return np.where(outside, np.float32(0), pixels)
