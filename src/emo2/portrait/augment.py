"""What stands between a render and a photo: made-up backgrounds, and what cameras, files and hands do to pictures.

Pictures here are uint8, channels last, as the shards hold them; the finder's training data alone uses this.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.random import Generator

Pixels = np.ndarray

_CLEAR = 0.4
"""Share of pictures that are altered in colour alone: most photos are sharp and whole."""


def background(rng: Generator, size: int) -> Pixels:
    """A picture of nothing in particular: clouds of noise, gradients, furniture-like shapes."""
    canvas = _clouds(rng, size) if rng.random() < 0.7 else _gradient(rng, size)
    for _ in range(int(rng.integers(0, 14))):
        _shape(rng, canvas, size)
    if rng.random() < 0.5:
        canvas = cv2.GaussianBlur(canvas, (0, 0), float(rng.uniform(0.5, 6)))
    if rng.random() < 0.75:  # rooms are rarely garish
        grey = canvas.mean(-1, keepdims=True)
        canvas = grey + (canvas - grey) * rng.uniform(0.05, 0.6)
    return canvas.clip(0, 255).astype(np.uint8)


def spoil(rng: Generator, picture: Pixels) -> Pixels:
    """Colour, light, sharpness, noise, compression and drawing styles, each at random."""
    picture = _colour(rng, picture)
    if rng.random() < _CLEAR:
        return picture
    if rng.random() < 0.25:
        picture = _draw(rng, picture)
    if rng.random() < 0.35:
        picture = _soften(rng, picture)
    if rng.random() < 0.3:
        deviation = rng.uniform(2, 22)
        noise = rng.standard_normal(picture.shape, dtype=np.float32) * deviation
        picture = (picture + noise).clip(0, 255).astype(np.uint8)
    if rng.random() < 0.3:
        quality = int(rng.integers(15, 90))
        _, data = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, quality])
        picture = np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR))
    if rng.random() < 0.25:
        _cover(rng, picture)
    return picture


def _clouds(rng: Generator, size: int) -> np.ndarray:
    canvas = np.full((size, size, 3), rng.uniform(20, 235, 3), np.float32)
    for cells in (2, 4, 9, 20, 50):
        if rng.random() < 0.6:
            grid = rng.uniform(-1, 1, (cells, cells, 3 if rng.random() < 0.5 else 1))
            grid = cv2.resize(grid.astype(np.float32), (size, size), interpolation=cv2.INTER_CUBIC)
            canvas += rng.uniform(5, 70) * grid.reshape(size, size, -1)
    return canvas


def _gradient(rng: Generator, size: int) -> np.ndarray:
    corners = rng.uniform(0, 255, (2, 2, 3)).astype(np.float32)
    return cv2.resize(corners, (size, size), interpolation=cv2.INTER_LINEAR)


def _shape(rng: Generator, canvas: np.ndarray, size: int) -> None:
    if rng.random() < 0.3:  # skin tones where there is no skin
        colour = np.array([1.0, rng.uniform(0.6, 0.85), rng.uniform(0.45, 0.75)]) * rng.uniform(
            60, 255
        )
    else:
        colour = rng.uniform(0, 255, 3)
    centre = rng.integers(-size // 8, size + size // 8, 2)
    extent = (rng.uniform(0.02, 0.35, 2) * size).astype(int) + 1
    kind, fill = rng.integers(0, 4), -1 if rng.random() < 0.8 else int(rng.integers(1, 6))
    tone = tuple(float(value) for value in colour)
    if kind == 0:
        cv2.rectangle(canvas, (centre - extent).tolist(), (centre + extent).tolist(), tone, fill)
    elif kind == 1:
        cv2.ellipse(
            canvas, (centre.tolist(), extent.tolist(), float(rng.uniform(0, 360))), tone, fill
        )
    elif kind == 2:
        corners = (centre + rng.normal(0, 1, (5, 2)) * extent).astype(np.int32)
        cv2.fillPoly(canvas, [corners], tone)
    else:
        end = centre + rng.normal(0, size / 2, 2).astype(int)
        cv2.line(canvas, centre.tolist(), end.tolist(), tone, int(rng.integers(1, size // 12)))


def _colour(rng: Generator, picture: Pixels) -> Pixels:
    values = picture.astype(np.float32) / 255
    if rng.random() < 0.15:
        values = np.repeat(values.mean(-1, keepdims=True), 3, -1)
    elif rng.random() < 0.6:
        grey = values.mean(-1, keepdims=True)
        values = grey + (values - grey) * rng.uniform(0.3, 1.6)
    values = values * rng.normal(1, 0.12, 3).clip(0.6, 1.5) + rng.normal(0, 0.04, 3)
    if rng.random() < 0.3:  # light from one side
        height, width = values.shape[:2]
        ramp = np.linspace(-1, 1, width, dtype=np.float32)[None] * rng.normal()
        ramp = ramp + np.linspace(-1, 1, height, dtype=np.float32)[:, None] * rng.normal()
        values = values * (1 + 0.25 * ramp[..., None]).clip(0.2, 2)
    contrast = rng.uniform(0.55, 1.35)
    values = ((values - 0.5) * contrast + 0.5 + rng.normal(0, 0.08)).clip(0, 1)
    return (255 * values ** rng.uniform(0.6, 1.6)).astype(np.uint8)


def _draw(rng: Generator, picture: Pixels) -> Pixels:
    """Flat colours, dark contours, brush dabs: paintings and drawings, roughly."""
    kind = rng.integers(0, 4)
    if kind == 0:
        picture = cv2.bilateralFilter(picture, 7, 60, 5)
    elif kind == 1:
        picture = cv2.medianBlur(picture, int(rng.choice([3, 5, 7])))
    if kind != 3:
        levels = rng.uniform(4, 14)
        step = 255 / levels
        picture = (np.floor(picture / step) * step + step / 2).clip(0, 255).astype(np.uint8)
    if kind >= 2 or rng.random() < 0.4:
        grey = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY).astype(np.float32)
        edge = np.abs(cv2.GaussianBlur(grey, (0, 0), 0.8) - cv2.GaussianBlur(grey, (0, 0), 1.6))
        dark = (1 - edge * rng.uniform(0.03, 0.15)).clip(0, 1)
        picture = (picture * dark[..., None]).astype(np.uint8)
    return picture


def _soften(rng: Generator, picture: Pixels) -> Pixels:
    height, width = picture.shape[:2]
    kind = rng.integers(0, 4)
    if kind == 0:
        return cv2.GaussianBlur(picture, (0, 0), float(rng.uniform(0.4, 2.2)))
    if kind == 1:
        factor = rng.uniform(0.25, 0.8)
        small = cv2.resize(
            picture, (int(width * factor), int(height * factor)), interpolation=cv2.INTER_AREA
        )
        how = cv2.INTER_CUBIC if rng.random() < 0.7 else cv2.INTER_NEAREST
        return cv2.resize(small, (width, height), interpolation=how)
    if kind == 2:
        length = int(rng.integers(3, 8))
        kernel = np.zeros((length, length), np.float32)
        kernel[length // 2] = 1 / length
        turn = cv2.getRotationMatrix2D((length / 2 - 0.5,) * 2, float(rng.uniform(0, 180)), 1)
        return cv2.filter2D(picture, -1, cv2.warpAffine(kernel, turn, (length, length)))
    soft = cv2.GaussianBlur(picture, (0, 0), 1.5).astype(np.float32)
    sharp = picture + rng.uniform(0.3, 1.5) * (picture - soft)
    return sharp.clip(0, 255).astype(np.uint8)


def _cover(rng: Generator, picture: Pixels) -> None:
    """Something in front: a microphone, a rail, a caption."""
    size = picture.shape[0]
    centre = rng.integers(0, size, 2)
    extent = (rng.uniform(0.02, 0.13, 2) * size).astype(int) + 1
    tone = tuple(float(value) for value in rng.uniform(0, 255, 3))
    if rng.random() < 0.5:
        cv2.ellipse(
            picture, (centre.tolist(), extent.tolist(), float(rng.uniform(0, 180))), tone, -1
        )
    else:
        cv2.rectangle(picture, (centre - extent).tolist(), (centre + extent).tolist(), tone, -1)
