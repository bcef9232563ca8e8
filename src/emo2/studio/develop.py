"""From the renderer's picture to a photo, a film frame, a drawing: one look for all frames of a person."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Float, UInt8
from numpy import ndarray
from numpy.random import Generator

from emo2.studio.looks import LOOKS, outlines, paper
from emo2.studio.surface import Surface

_TAPS = np.linspace(-0.5, 0.5, 7)
"""Moments of an open shutter."""
_GRAIN_SPARE = 64
_LINE = 0.85
"""Darkness of a cartoon's outlines."""


@dataclass(frozen=True, kw_only=True)
class Exposure:
    """A picture as it was drawn, and what development needs besides."""

    picture: UInt8[ndarray, "h w 3"]
    surface: Surface | None = None
    """For outlines."""
    move: Float[ndarray, "y x 2"] | None = None
    """Backward, in view sides, to where every pixel was when the shutter opened; for motion blur."""


class Development:
    """Colour, lens and hand of the artist, drawn once; the call develops all frames alike."""

    def __init__(
        self, rng: Generator, *, size: tuple[int, int] = (256, 256), is_film: bool = False
    ) -> None:
        self.rng = rng
        self.gamma, self.contrast = rng.uniform(0.75, 1.35), rng.uniform(0.75, 1.2)
        self.lift, self.cast = rng.uniform(-0.06, 0.06), rng.uniform(0.92, 1.08, 3)
        self.saturation = float(rng.choice([0.0, rng.uniform(0.5, 1.4)], p=[0.08, 0.92]))
        self.blur = float(rng.choice([0.0, rng.uniform(0.3, 0.9)], p=[0.65, 0.35]))
        self.noise = float(rng.choice([0.0, rng.uniform(0.005, 0.03)], p=[0.6, 0.4]))
        odds = [share for share, _ in LOOKS.values()]
        self.look = str(rng.choice(list(LOOKS), p=odds))
        self.strength = float(rng.random())
        self.is_cartoon = self.look == "cartoon"
        self.flat_steps = 2 + round(2 * self.strength) if self.is_cartoon else 0
        """Levels of light that the renderer is to draw; 0: all."""
        self.resize = float(rng.choice([1.0, rng.uniform(0.4, 0.9)], p=[0.8, 0.2]))
        self.quality = int(rng.choice([0.0, rng.uniform(25, 90)], p=[0.7, 0.3]))
        """Of JPEG; 0: none."""
        open_share = rng.uniform(0.3, 0.9) if is_film else rng.uniform(0.03, 0.12)
        self.shutter = float(rng.choice([0.0, open_share], p=[0.85, 0.15]))
        """Share of the move that one picture sees; 0: none."""
        height, width = size
        self.paper = paper(rng, height, width)
        if self.look == "old photo":
            self.noise = max(self.noise, 0.012)
        sheet = (height + _GRAIN_SPARE, width + _GRAIN_SPARE, 3)
        self.grain = rng.standard_normal(sheet if self.noise else 1, np.float32) * (
            self.noise * 255
        )
        """A larger sheet of noise; every picture takes a place of it."""

    @property
    def facts(self) -> dict[str, str]:
        """For the records."""
        marks = {
            "motion blur": self.shutter > 0, "JPEG": self.quality > 0, "resized": self.resize < 1,
            "noise": self.noise > 0, "soft": self.blur > 0,
        }  # fmt: skip
        spoiled = ", ".join(name for name, is_so in marks.items() if is_so)
        return {"look": self.look, "spoiled": spoiled or "not"}

    def __call__(self, exposures: list[Exposure]) -> UInt8[ndarray, "n h w 3"]:
        """The developed pictures."""
        table = np.linspace(0, 1, 256, dtype=np.float32) ** self.gamma
        table = (table - 0.5) * self.contrast + 0.5 + self.lift
        values = table[:, None] * self.cast
        curve = np.clip(values * 255, 0, 255).astype(np.uint8)
        return np.stack([self._one(exposure, curve) for exposure in exposures])

    def _one(self, exposure: Exposure, curve: ndarray) -> ndarray:
        image = exposure.picture
        if exposure.move is not None and self.shutter:
            image = smeared(image, self.shutter * exposure.move)
        image = np.stack([cv2.LUT(image[..., k], curve[:, k]) for k in range(3)], -1)
        if abs(self.saturation - 1) > 0.1:
            grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)[..., None].repeat(3, -1)
            image = cv2.addWeighted(image, self.saturation, grey, 1 - self.saturation, 0)
        if self.is_cartoon and exposure.surface is not None:
            image = self._drawn(image, exposure.surface)
        stylise = LOOKS[self.look][1]
        if stylise is not None:
            image = stylise(image, self.strength, self.paper)
        return self._stored(image)

    def _drawn(self, image: ndarray, surface: Surface) -> ndarray:
        line = outlines(surface.depth, surface.normals, surface.segments)
        line = cv2.GaussianBlur(line, (0, 0), 0.6 + 0.4 * self.strength) * _LINE
        return (image * (1 - np.clip(1.5 * line, 0, _LINE))[..., None]).astype(np.uint8)

    def _stored(self, image: ndarray) -> ndarray:
        """What lens, sensor and file do to it."""
        if self.blur:
            image = cv2.GaussianBlur(image, (0, 0), self.blur)
        if self.noise:
            y, x = self.rng.integers(0, _GRAIN_SPARE, 2)
            grain = self.grain[y : y + image.shape[0], x : x + image.shape[1]]
            if self.look == "old photo":
                grain = 2 * cv2.GaussianBlur(grain[..., :1], (0, 0), 0.8)[..., None]
            image = np.clip(image + grain, 0, 255).astype(np.uint8)
        if self.resize < 1:
            size = (image.shape[1], image.shape[0])
            small = cv2.resize(
                image, None, fx=self.resize, fy=self.resize, interpolation=cv2.INTER_AREA
            )
            image = cv2.resize(small, size, interpolation=cv2.INTER_LINEAR)
        if self.quality:
            _, coded = cv2.imencode(
                ".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, self.quality]
            )
            image = np.asarray(cv2.imdecode(coded, cv2.IMREAD_COLOR))[..., ::-1]
        return image


def smeared(
    image: UInt8[ndarray, "h w 3"], move: Float[ndarray, "y x 2"]
) -> UInt8[ndarray, "h w 3"]:
    """The picture with motion blur along `move` (view sides), which also reaches a little beyond the edges of what moves."""
    height, width = image.shape[:2]
    moves = (np.abs(move).sum(-1) > 0).astype(np.float32)
    near = cv2.GaussianBlur(moves, (0, 0), 2.0)
    spread = cv2.GaussianBlur(move * moves[..., None], (0, 0), 2.0)
    field = spread / np.maximum(near, 0.05)[..., None]
    field = np.where(moves[..., None] > 0, move, field).astype(np.float32)
    field = cv2.resize(field, (width, height), interpolation=cv2.INTER_LINEAR)
    if np.abs(field).max() * width < 0.5:
        return image
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    total = np.zeros(image.shape, np.float32)
    for tap in _TAPS.astype(np.float32):
        total += cv2.remap(
            image, x + tap * width * field[..., 0], y + tap * height * field[..., 1],
            cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE,
        )  # fmt: skip
    return np.clip(total / len(_TAPS) + 0.5, 0, 255).astype(np.uint8)
