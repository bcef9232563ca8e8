"""How a picture was made: filters that turn a render into a painting, a drawing, a cartoon or an old photograph.

Each takes one uint8 picture and a strength from 0 to 1, and treats all frames of a person alike; what lies on the paper
(`Paper`: canvas, stains, scratches) is drawn once a person and stays where it is.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Float, UInt8
from numpy import ndarray
from numpy.random import Generator

from emo2.studio.segments import SEGMENT_NAMES

_SKIN = SEGMENT_NAMES.index("head"), SEGMENT_NAMES.index("right_hand")
Picture = UInt8[ndarray, "h w 3"]


@dataclass(frozen=True, kw_only=True)
class Paper:
    """What a picture is made on."""

    grain: Float[ndarray, "h w"]
    """Of canvas or paper, about 0, unit deviation."""
    damage: Float[ndarray, "h w"]
    """Scratches and stains: what is added, -1 to 1."""
    tone: Float[ndarray, "3"]
    """Colour of a toned print: 1 is grey."""
    falloff: Float[ndarray, "h w"]
    """Darker corners, 0 to 1."""


def paper(rng: Generator, height: int, width: int) -> Paper:
    """A sheet."""
    rough = rng.standard_normal((height, width), np.float32)
    if rng.random() < 0.5:  # canvas: threads across and along
        rough = cv2.blur(rough, (1, 7)) + cv2.blur(
            rng.standard_normal((height, width), np.float32), (7, 1)
        )
    grain = cv2.GaussianBlur(rough, (0, 0), rng.uniform(0.6, 1.2))
    damage = np.zeros((height, width), np.float32)
    for _ in range(rng.integers(0, 9)):
        x, y = rng.uniform(0, width), rng.uniform(0, height)
        end = (int(x + rng.normal(0, 6)), int(y + rng.normal(0, 0.5 * height)))
        cv2.line(damage, (int(x), int(y)), end, float(rng.uniform(-0.4, 0.7)), 1, cv2.LINE_AA)
    for _ in range(rng.integers(0, 25)):
        place = (int(rng.integers(width)), int(rng.integers(height)))
        size = int(rng.choice([1, 1, 1, 2]))
        cv2.circle(damage, place, size, float(rng.uniform(-0.7, 0.7)), -1, cv2.LINE_AA)
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    far = np.hypot(x / width - 0.5, y / height - 0.5)
    sepia = np.array([1.0, rng.uniform(0.8, 0.95), rng.uniform(0.55, 0.8)], np.float32)
    return Paper(
        grain=(grain - grain.mean()) / grain.std(),
        damage=damage,
        tone=sepia / sepia.mean() if rng.random() < 0.65 else np.ones(3, np.float32),
        falloff=np.clip(1 - rng.uniform(0.2, 1.4) * np.maximum(far - 0.25, 0), 0, 1),
    )


def kuwahara(image: Picture, radius: int) -> Picture:
    """Every pixel takes the mean of the calmest of the four squares that it is a corner of (Kuwahara 1976)."""
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(np.float32)
    side = radius + 1
    means, spreads = [], []
    for anchor in ((0, 0), (radius, 0), (0, radius), (radius, radius)):
        first = cv2.blur(grey, (side, side), anchor=anchor)
        spreads.append(cv2.blur(grey * grey, (side, side), anchor=anchor) - first * first)
        means.append(cv2.blur(image, (side, side), anchor=anchor))
    calmest = np.argmin(spreads, 0)
    out = means[0]
    for k in (1, 2, 3):
        np.copyto(out, means[k], where=(calmest == k)[..., None])
    return out


def outlines(
    depth: Float[ndarray, "h w"], normals: Float[ndarray, "h w 3"], segments: UInt8[ndarray, "h w"]
) -> Float[ndarray, "h w"]:
    """How much of a line runs through a pixel: where the surface jumps, folds, or becomes something else."""
    line = np.zeros(depth.shape, np.float32)
    bare = (segments >= _SKIN[0]) & (segments <= _SKIN[1])
    segments = np.where(bare, _SKIN[0], segments)  # no line where the head becomes the neck
    for axis in (0, 1):
        before, after = [slice(None)] * 2, [slice(None)] * 2
        before[axis], after[axis] = slice(None, -1), slice(1, None)
        a, b = tuple(before), tuple(after)
        jump = np.abs(depth[a] - depth[b]) > 0.02
        fold = (normals[a] * normals[b]).sum(-1) < 0.5
        line[a] = np.maximum(line[a], jump | (segments[a] != segments[b]))
        line[a] = np.maximum(line[a], 0.8 * fold)
    return line


def _median(image: Picture, strength: float, _: Paper) -> Picture:
    return cv2.medianBlur(image, 3 if strength < 0.6 else 5)


def _poster(image: Picture, strength: float, _: Paper) -> Picture:
    steps = 5 + round(7 * strength)
    return (np.round(image / 255 * steps) / steps * 255).astype(np.uint8)


def _edges(image: Picture, strength: float, _: Paper) -> Picture:
    soft = cv2.GaussianBlur(image, (0, 0), 1.2)
    amount = 0.5 + strength
    return cv2.addWeighted(image, 1 + amount, soft, -amount, 0)


def _smooth(image: Picture, strength: float, _: Paper) -> Picture:
    return cv2.bilateralFilter(cv2.medianBlur(image, 3), 5, 30 + 40 * strength, 3)


def _ink(image: Picture, strength: float, _: Paper) -> Picture:
    grey = cv2.GaussianBlur(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), (0, 0), 0.8)
    lines = cv2.Laplacian(grey, cv2.CV_16S, ksize=3)
    dark = np.clip(lines * (2 + 4 * strength), 0, 180).astype(np.uint8)[..., None]
    return cv2.subtract(cv2.medianBlur(image, 3), dark.repeat(3, -1))


def _oil(image: Picture, strength: float, sheet: Paper) -> Picture:
    """Patches of even colour with the edges kept, on canvas."""
    flat = kuwahara(image, 2 if strength < 0.5 else 3)
    return _shaded(flat, 1 + 0.035 * (0.3 + strength) * sheet.grain)


def _watercolour(image: Picture, strength: float, sheet: Paper) -> Picture:
    """Light washes with a dark rim of pigment, on paper that shows."""
    wash = cv2.bilateralFilter(kuwahara(image, 2), 5, 50, 4).astype(np.float32) / 255
    grey = wash.mean(-1)
    rim = np.abs(cv2.Laplacian(cv2.GaussianBlur(grey, (0, 0), 1.0), cv2.CV_32F, ksize=3))
    light = 1 - (1 - wash) * (0.95 - 0.3 * strength)
    light *= (1 - np.clip(2.5 * rim, 0, 0.35))[..., None]
    return _shaded((light * 255).astype(np.uint8), 1 + 0.03 * sheet.grain)


def _pencil(image: Picture, strength: float, sheet: Paper) -> Picture:
    """Grey or coloured pencil: what differs from its surroundings is drawn, the rest is paper."""
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(np.float32)
    around = cv2.GaussianBlur(grey, (0, 0), 2 + 5 * strength)
    drawn = np.clip(grey / np.maximum(around, 1) * 1.02, 0, 1) ** 2.2
    tone = 0.55 + 0.45 * np.clip(grey / 255 * 1.5, 0, 1)
    sheet_light = 1 + 0.05 * sheet.grain * (1 - 0.6 * drawn)
    light = np.clip(drawn * tone * sheet_light, 0, 1)[..., None]
    if strength < 0.5:
        return (light * sheet.tone.clip(0.9, 1.0) * 250).astype(np.uint8)
    colour = cv2.GaussianBlur(image, (0, 0), 1.0).astype(np.float32) / 255
    return (light * (0.45 + 0.55 * colour) * 255).astype(np.uint8)


def _old_photo(image: Picture, strength: float, sheet: Paper) -> Picture:
    """A print of long ago: one tone, faded, darker in the corners, scratched."""
    soft = cv2.GaussianBlur(image, (0, 0), 0.3 + 0.7 * strength)
    grey = cv2.cvtColor(soft, cv2.COLOR_RGB2GRAY).astype(np.float32) / 255
    grey = grey * sheet.falloff
    faded = 0.05 + 0.14 * strength + grey * (0.9 - 0.25 * strength)
    faded = faded + 0.35 * sheet.damage + 0.012 * sheet.grain
    return (np.clip(faded[..., None] * sheet.tone, 0, 1) * 255).astype(np.uint8)


def _shaded(image: Picture, light: Float[ndarray, "h w"]) -> Picture:
    return np.clip(image * light[..., None], 0, 255).astype(np.uint8)


LOOKS: dict[str, tuple[float, Callable[[Picture, float, Paper], Picture] | None]] = {
    "photo": (0.40, None),
    "old photo": (0.07, _old_photo),
    "cartoon": (0.09, None),  # flat shading and outlines are the renderer's
    "oil": (0.09, _oil),
    "watercolour": (0.05, _watercolour),
    "pencil": (0.05, _pencil),
    "ink": (0.05, _ink),
    "smooth": (0.05, _smooth),
    "median": (0.05, _median),
    "poster": (0.05, _poster),
    "edges": (0.05, _edges),
}
"""How often each is drawn, and its filter."""
