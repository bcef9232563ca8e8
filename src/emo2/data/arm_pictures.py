"""Arms of the studio's pictures in windows, with what is arm and what is not; told by joints as wrong as found ones.

Walls of other pictures, furniture before the arm and changed colours make up for a studio that has few of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, UInt8
from numpy.random import Generator
from safetensors import safe_open
from torch import Tensor

from emo2.data.arm_places import no_arms
from emo2.data.shards import FIRST_ARM, list_shards
from emo2.errors import UserError
from emo2.video.arm_cutter import (
    SIDE,
    ArmPictures,
    Window,
    bone_planes,
    bones_of,
    hanging_elbow,
    told,
)
from emo2.video.layer_masks import FINGERS

LABELS = ("body_points", "hand_points", "parts", "reference", "frames")
WINDOWS = 12
"""A step's, where nothing else is said."""
_FEWEST = 60
"""Pixels of the labels that an arm must show ..."""
_NARROWEST = 0.08
"""... and shares of a picture's side between the shoulders."""
_TRIES = 200
_SIDE_WALL = 100
"""Pixels a side of another picture that become a wall."""


@dataclass(frozen=True, kw_only=True)
class _Arm:
    """One arm of one picture; points in pixels."""

    picture: UInt8[np.ndarray, "h h 3"]
    parts: UInt8[np.ndarray, "p p"]
    side: int
    unit: float
    shoulder: np.ndarray
    elbow: np.ndarray
    hand: Float32[np.ndarray, "21 2"]
    other: Float32[np.ndarray, "3 2"]


class ArmPictureBatches:
    """Batch `n` is a function of seed and `n`."""

    def __init__(self, folders: Sequence[Path], *, windows: int = WINDOWS, seed: int = 0) -> None:
        self.people: list[tuple[Path, int, int]] = []
        for path in list_shards(folders):
            with safe_open(path, framework="pt") as shard:
                if set(LABELS) <= set(shard.keys()) and "body" in (shard.metadata() or {}).get(
                    "view", ""
                ):
                    count, pictures = shard.get_slice("frames").get_shape()[:2]
                    self.people += [(path, who, pictures) for who in range(count)]
        if not self.people:
            raise no_arms(folders)
        self.windows, self.seed = windows, seed

    def at(self, number: int) -> ArmPictures:
        """Batch `number`."""
        rng = np.random.default_rng((self.seed, number))
        rows = [self._example(rng) for _ in range(self.windows)]
        inputs, labels, weights, elbows = (np.stack(values) for values in zip(*rows, strict=True))
        return ArmPictures(
            inputs=torch.from_numpy(inputs),
            labels=torch.from_numpy(labels.astype(np.int64)),
            weight=torch.from_numpy(weights),
            elbows=torch.from_numpy(elbows),
        )

    def _example(self, rng: Generator) -> tuple[np.ndarray, ...]:
        true = self._arm(rng)
        arm = shaken(true, rng)
        points = np.concatenate([[arm.shoulder, arm.elbow], arm.hand])
        height = len(arm.picture)
        window = Window.around(
            points.clip(-0.2 * height, 1.2 * height).astype(np.float32),
            arm.unit * float(np.exp(rng.normal(0, 0.1))), mirrored=arm.side == 1,
        )  # fmt: skip
        window = Window(
            middle=window.middle + rng.normal(0, 0.05 * arm.unit, 2).astype(np.float32),
            half=window.half * float(np.exp(rng.normal(0, 0.12))), mirrored=window.mirrored,
        )  # fmt: skip
        labels, sure, beyond = _labels(arm, window)
        image = window.cut(arm.picture)
        image = self._other_wall(image, labels, beyond, rng)
        image = self._furniture(image, labels, rng)
        groups = bones_of(arm.shoulder, arm.elbow, arm.hand, FINGERS, arm.other)
        seen = told(recoloured(image, rng), bone_planes(window, arm.unit, groups))
        weight = np.where(beyond, 0, 0.3 + 0.7 * sure)
        return seen, labels, weight.astype(np.float32), window.places(true.elbow[None])[0]

    def _arm(self, rng: Generator) -> _Arm:
        """An arm that its picture shows."""
        for _ in range(_TRIES):
            path, who, count = self.people[int(rng.integers(len(self.people)))]
            number, side = int(rng.integers(count + 1)), int(rng.integers(2))
            arm = _read(path, who, number, side)
            if arm is not None:
                return arm
        raise UserError(
            "hardly an arm is seen in these shards; give half bodies: emo2 studio --view body"
        )

    def _piece(self, rng: Generator, side: int) -> Float32[np.ndarray, "s s 3"]:
        """A piece of another picture, 0..1."""
        path, who, count = self.people[int(rng.integers(len(self.people)))]
        picture = _picture(path, who, int(rng.integers(count + 1)))
        side = min(side, len(picture))
        y, x = (int(v) for v in rng.integers(0, len(picture) - side + 1, 2))
        piece = cv2.resize(picture[y : y + side, x : x + side], (SIDE, SIDE))
        return piece.astype(np.float32) / 255

    def _other_wall(
        self, image: np.ndarray, labels: np.ndarray, beyond: np.ndarray, rng: Generator
    ) -> np.ndarray:
        """Another picture upside down in the place of the wall; at times in the sleeve's colour."""
        if rng.random() > 0.35:
            return image
        wall = self._piece(rng, _SIDE_WALL)[::-1]
        sleeve = (labels == 2) | (labels == 3)
        if rng.random() < 0.3 and sleeve.any():
            wall = 0.3 * wall + 0.7 * image[sleeve].mean(0) + 0.1 * rng.normal()
        share = cv2.GaussianBlur((labels == 0).astype(np.float32), (0, 0), 0.6) * ~beyond
        return image + share[..., None] * (wall - image)

    def _furniture(self, image: np.ndarray, labels: np.ndarray, rng: Generator) -> np.ndarray:
        """A table's edge before the arm; `labels` are told of it."""
        if rng.random() > 0.2:
            return image
        ys, xs = np.mgrid[:SIDE, :SIDE]
        before = ys - SIDE * rng.uniform(0.55, 1) - rng.normal(0, 0.1) * (xs - SIDE / 2) > 0
        is_arm = labels >= 2
        if (before & is_arm).sum() > 0.5 * is_arm.sum():
            return image
        labels[before] = 0
        top = 0.5 * self._piece(rng, _SIDE_WALL) + 0.5 * rng.random(3)
        return np.where(before[..., None], top, image)


def shaken(arm: _Arm, rng: Generator) -> _Arm:
    """Joints about as wrong as the portrait finder's; every third elbow is only guessed."""

    def off(share: float, *shape: int) -> np.ndarray:
        return rng.normal(0, share * arm.unit, (*shape, 2))

    hand = arm.hand + off(0.015) + off(0.03 if rng.random() < 0.15 else 0.015, 21)
    elbow, luck = arm.elbow + off(0.06), rng.random()
    if luck < 0.25:
        elbow = elbow + off(0.14)
    elif luck < 0.55:
        elbow = hanging_elbow(arm.shoulder, arm.unit, arm.side) + off(0.08)
    elif luck < 0.65:
        angle = rng.uniform(0, 2 * np.pi)
        way = np.array([np.cos(angle), np.sin(angle)])
        elbow = hand[0] + arm.unit * rng.uniform(0.02, 0.5) * way
    return replace(
        arm, shoulder=arm.shoulder + off(0.04), elbow=elbow, hand=hand.astype(np.float32),
        other=(arm.other + off(0.05, 3)).astype(np.float32),
    )  # fmt: skip


def recoloured(image: Float[np.ndarray, "s s 3"], rng: Generator) -> Float32[np.ndarray, "s s 3"]:
    """Other light, other colours, blur and noise."""
    image = image.clip(0, 1) ** np.exp(rng.normal(0, 0.25))
    gains = np.exp(rng.normal(0, 0.12, 3)) * np.exp(rng.normal(0, 0.2))
    image = image * gains + rng.normal(0, 0.05)
    if rng.random() < 0.1:
        image = np.repeat(image.mean(-1, keepdims=True), 3, -1)
    if rng.random() < 0.2:
        image = image[..., rng.permutation(3)]
    if rng.random() < 0.25:
        image = cv2.GaussianBlur(image.astype(np.float32), (0, 0), rng.uniform(0.4, 1.4))
    noise = rng.normal(0, rng.uniform(0, 0.03), image.shape)
    return (image + noise).clip(0, 1).astype(np.float32)


def _picture(path: Path, who: int, number: int) -> UInt8[np.ndarray, "h h 3"]:
    with safe_open(path, framework="pt") as shard:
        return _pixels(shard, who, number)


def _pixels(shard: safe_open, who: int, number: int) -> UInt8[np.ndarray, "h h 3"]:
    """Number 0 is the reference."""
    name, at = ("frames", (who, number - 1)) if number else ("reference", (who,))
    pixels: Tensor = shard.get_slice(name)[at]
    return np.ascontiguousarray(pixels.permute(1, 2, 0).numpy())


def _read(path: Path, who: int, number: int, side: int) -> _Arm | None:
    """None where the picture shows too little of it."""
    with safe_open(path, framework="pt") as shard:
        body, hands, parts = (
            shard.get_slice(name)[who, number].numpy()
            for name in ("body_points", "hand_points", "parts")
        )
        first = FIRST_ARM + 3 * side
        shown = ((parts >= first) & (parts < first + 3)).sum()
        height = shard.get_slice("reference").get_shape()[-1]
        body, hands = (height * z[..., :2].astype(np.float32) for z in (body, hands))
        unit = float(np.linalg.norm(body[2] - body[3]))
        if shown < _FEWEST or unit < _NARROWEST * height:
            return None
        picture = _pixels(shard, who, number)
    return _Arm(
        picture=picture, parts=parts, side=side, unit=unit, shoulder=body[2 + side], elbow=body[4 + side],
        hand=hands[side], other=np.stack([body[3 - side], body[5 - side], hands[1 - side, 0]]),
    )  # fmt: skip


def _labels(
    arm: _Arm, window: Window
) -> tuple[UInt8[np.ndarray, "s s"], Float32[np.ndarray, "s s"], Bool[np.ndarray, "s s"]]:
    """What is what in the window, how surely, and what lies beyond the picture."""
    first = FIRST_ARM + 3 * arm.side
    own = [arm.parts == first + part for part in range(3)]
    none = arm.parts == 0
    maps = np.stack([none, ~none & ~np.any(own, 0), *own], -1).astype(np.float32)
    matrix = window.matrix(arm.parts.shape[0] / len(arm.picture))
    shares = np.stack([window.shown(z, matrix, beyond=0) for z in np.moveaxis(maps, -1, 0)], -1)
    return shares.argmax(-1).astype(np.uint8), shares.max(-1), shares.sum(-1) < 0.5
