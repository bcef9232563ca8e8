"""Crops of a picture, and the way back from a crop to the picture."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from emo2.portrait.network import CropNet, SceneMaps, positions

SHARPNESS = 2.5
"""Of the read-out: tuned by eye."""


@dataclass(frozen=True)
class Square:
    """A square of a picture, perhaps turned and mirrored; pixels of the picture, radians."""

    x: float
    y: float
    side: float
    turn: float = 0.0
    mirrored: bool = False

    def axes(self) -> Float[Tensor, "2 2"]:
        """Columns: how far one side to the right and one down in the crop go in the picture."""
        cos, sin = math.cos(self.turn) * self.side, math.sin(self.turn) * self.side
        flip = -1.0 if self.mirrored else 1.0
        return torch.tensor([[cos * flip, -sin], [sin * flip, cos]])

    def scaled(self, factor: float) -> Square:
        """The square in the picture scaled by a factor."""
        return replace(self, x=self.x * factor, y=self.y * factor, side=self.side * factor)

    def crop(self, image: Float[Tensor, "3 h w"], size: int) -> Float[Tensor, "1 3 s s"]:
        """The square as `size` x `size` pixels; grey where it leaves the picture."""
        height, width = image.shape[-2:]
        shrink = size / self.side
        source = image[None]
        if shrink < 1:  # filter before sampling, or fine texture turns into noise
            small = (max(1, round(height * shrink)), max(1, round(width * shrink)))
            source = functional.interpolate(
                source, small, mode="bilinear", antialias=True, align_corners=False
            )
        steps = (torch.arange(size) + 0.5) / size
        grid = torch.stack(torch.meshgrid(steps, steps, indexing="xy"), -1)
        place = self.to_picture(grid)
        unit = place / torch.tensor([width, height]) * 2 - 1
        return functional.grid_sample(source, unit[None], align_corners=False)

    def to_picture(self, points: Float[Tensor, "*n 2"]) -> Float[Tensor, "*n 2"]:
        """Crop positions in [0, 1] to pixels of the picture."""
        return (points - 0.5) @ self.axes().T + torch.tensor([self.x, self.y])

    def to_crop(self, points: Float[Tensor, "*n 2"]) -> Float[Tensor, "*n 2"]:
        """The inverse of `to_picture`."""
        return (points - torch.tensor([self.x, self.y])) @ torch.linalg.inv(self.axes()).T + 0.5

    def uncrop(self, maps: Float[Tensor, "c s s"], size: tuple[int, int]) -> Float[Tensor, "c h w"]:
        """Maps over the square laid into a picture of `size`; 0 outside."""
        height, width = size
        y, x = torch.arange(height) + 0.5, torch.arange(width) + 0.5
        place = torch.stack(torch.meshgrid(x, y, indexing="xy"), -1)
        unit = self.to_crop(place) * 2 - 1
        return functional.grid_sample(maps[None], unit[None], align_corners=False)[0]


@dataclass(frozen=True)
class Hand:
    """One hand that may be one."""

    square: Square
    points: Float[Tensor, "21 3"]
    masks: Float[Tensor, "2 s s"]
    """Hand and forearm over the square, 0..1."""
    confidence: float


@dataclass(frozen=True)
class Scene:
    """The second look at the body: maps and the squares they cover."""

    maps: tuple[SceneMaps, ...]
    squares: tuple[Square, ...]


def square_about(points: Float[Tensor, "n 2"], *, reach: float = 1.0, turn: float = 0.0) -> Square:
    """The square `reach` times as wide as the box about some points."""
    low, high = points.amin(0), points.amax(0)
    x, y = ((low + high) / 2).tolist()
    return Square(x, y, max(float((high - low).max()), 1.0) * reach, turn)


def overlap(a: Square, b: Square) -> float:
    """Intersection over union of two upright squares."""
    wide = min(a.x + a.side / 2, b.x + b.side / 2) - max(a.x - a.side / 2, b.x - b.side / 2)
    high = min(a.y + a.side / 2, b.y + b.side / 2) - max(a.y - a.side / 2, b.y - b.side / 2)
    shared = max(wide, 0.0) * max(high, 0.0)
    return shared / (a.side**2 + b.side**2 - shared)


def look(
    image: Float[Tensor, "3 h w"], net: CropNet, square: Square, size: int
) -> tuple[Float[Tensor, "points 2"], Float[Tensor, " points"], float]:
    """Points in the picture, their spread in units of the square, and how surely the thing is there."""
    maps = net(square.crop(image, size))
    points, spread = positions(maps.points, sharpness=SHARPNESS)
    return (
        square.to_picture(points[0] / size),
        spread[0] / size,
        float(maps.present[0].float().sigmoid()),
    )
