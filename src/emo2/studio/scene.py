"""Where a person is filmed: camera, lights, and what stands behind."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import cv2
import numpy as np
from jaxtyping import Float, UInt8
from numpy import ndarray
from numpy.random import Generator

Colour = tuple[float, float, float]


@dataclass(frozen=True, kw_only=True)
class Camera:
    """A perspective camera; `matrix` carries world points to clip space."""

    eye: Float[ndarray, "3"]
    matrix: Float[ndarray, "4 4"]
    height: float
    """What the view shows at the distance it looks at, metres."""

    def pixel(self, rows: int) -> float:
        """Size of a pixel there, metres."""
        return self.height / rows

    @property
    def axes(self) -> Float[ndarray, "3 3"]:
        """Unit rows in the world: to the image's right, down, towards the camera."""
        rows = self.matrix[[0, 1, 3], :3] * np.array([[1], [-1], [-1]], np.float32)
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)

    def project(self, points: Float[ndarray, "*n 3"]) -> Float[ndarray, "*n 3"]:
        """x and y in [0, 1] of the view (y down) and the distance along the view direction, metres."""
        clip = points @ self.matrix[:3, :3].T.astype(points.dtype) + self.matrix[:3, 3]
        depth = points @ self.matrix[3, :3].astype(points.dtype) + self.matrix[3, 3]
        return np.stack(
            [0.5 + 0.5 * clip[..., 0] / depth, 0.5 - 0.5 * clip[..., 1] / depth, depth], -1
        ).astype(np.float32)


@dataclass(frozen=True, kw_only=True)
class Lights:
    """A key light, a fill, a rim from behind, and light from everywhere."""

    key: Float[ndarray, "3"]
    fill: Float[ndarray, "3"]
    rim: Float[ndarray, "3"]
    """Directions towards the lights."""
    key_colour: Colour
    fill_colour: Colour
    rim_colour: Colour
    sky: Colour
    ground: Colour
    exposure: float = 1.0
    shadow: float = 0.0
    """Share of the key light that a shadow takes away."""
    softness: float = 1.0
    """Of a shadow's edge, in cells of its map."""
    occlusion: float = 0.0
    """Share of the light from everywhere that narrow places lose."""


@dataclass(frozen=True, kw_only=True)
class Framing:
    """What a camera looks at."""

    centre: Float[ndarray, "3"]
    half_height: float
    """Half of what the view shows at the centre's distance, metres."""
    distance: float
    yaw: float = 0.0
    pitch: float = 0.0
    roll: float = 0.0
    aspect: float = 1.0


def camera(view: Framing) -> Camera:
    """The camera of a framing."""
    toward = np.array([math.sin(view.yaw), math.sin(view.pitch), math.cos(view.yaw)])
    eye = view.centre + view.distance * toward / np.linalg.norm(toward)
    z = (eye - view.centre) / np.linalg.norm(eye - view.centre)
    x = np.cross([math.sin(view.roll), math.cos(view.roll), 0.0], z)
    x /= np.linalg.norm(x)
    look = np.eye(4)
    look[:3, :3] = np.stack([x, np.cross(z, x), z])
    look[:3, 3] = -look[:3, :3] @ eye
    near, far = 0.1, view.distance + 4.0
    scale = view.distance / view.half_height
    lens = np.zeros((4, 4))
    lens[0, 0], lens[1, 1] = scale / view.aspect, scale
    lens[2, 2], lens[2, 3] = (far + near) / (near - far), 2 * far * near / (near - far)
    lens[3, 2] = -1.0
    return Camera(
        eye=eye.astype(np.float32),
        matrix=(lens @ look).astype(np.float32),
        height=2 * view.half_height,
    )


def light_matrix(
    toward: Float[ndarray, "3"], low: Float[ndarray, "3"], high: Float[ndarray, "3"]
) -> Float[ndarray, "4 4"]:
    """Parallel projection from a light's direction around the box from `low` to `high`."""
    z = np.asarray(toward, np.float32) / np.linalg.norm(toward)
    x = np.cross([0.1, 1.0, 0.05], z)
    x /= np.linalg.norm(x)
    axes = np.stack([x, np.cross(z, x), z])
    middle, half = (low + high) / 2, np.linalg.norm(high - low) / 2
    matrix = np.eye(4, dtype=np.float32)
    matrix[:3, :3] = axes / half * np.array([[1], [1], [-1]])
    matrix[:3, 3] = -matrix[:3, :3] @ middle
    return matrix


def lights(rng: Generator) -> Lights:
    """Lights of a made-up place: mostly soft and from the front, sometimes hard or coloured."""
    hard = rng.random()
    key = rng.uniform(0.5, 1.6) * (0.6 + 0.6 * hard)
    sky = rng.uniform(0.25, 0.8) * (1.2 - 0.6 * hard)
    fill = rng.uniform(0.05, 0.5)
    warmth = rng.normal(0, 0.08)
    return Lights(
        key=_direction(rng.normal(0, 0.8), rng.normal(0.55, 0.35), rng.uniform(0.5, 1.2)),
        fill=_direction(rng.normal(0, 1.0), rng.normal(0.1, 0.4), rng.uniform(0.4, 1.2)),
        rim=_direction(rng.choice([-1, 1]) * rng.uniform(0.5, 1), rng.uniform(0, 0.9), -0.6),
        key_colour=_tinted(rng, key, warmth),
        fill_colour=_tinted(rng, fill, -warmth),
        rim_colour=_tinted(rng, rng.uniform(0, 0.8) * (rng.random() < 0.5), 0.0),
        sky=_tinted(rng, sky, 0.0),
        ground=_tinted(rng, sky * rng.uniform(0.3, 0.9), 0.05),
        exposure=float(rng.uniform(0.75, 1.25) / (sky + 0.6 * key + 0.5 * fill)),
        shadow=float(rng.choice([0.0, rng.uniform(0.4, 1.0)], p=[0.45, 0.55])),
    )


def moods(rng: Generator, usual: Lights) -> Lights:
    """The same lights as they mostly are, or coloured, from behind, from below, from one side; soft shadows."""
    soft = replace(
        usual,
        softness=float(rng.choice([1.0, rng.uniform(1.2, 2.4)])),
        occlusion=float(rng.choice([0.0, rng.uniform(0.5, 1.0)], p=[0.6, 0.4])),
    )
    name = str(
        rng.choice(["usual", "coloured", "side", "behind", "below"], p=[0.7, 0.12, 0.1, 0.05, 0.03])
    )
    if name == "coloured":
        gels = [
            _gel(rng, float(np.mean(c)))
            for c in (usual.key_colour, max(usual.fill_colour, usual.rim_colour))
        ]
        return replace(soft, key_colour=gels[0], fill_colour=gels[1], rim_colour=gels[1])
    side = float(rng.choice([-1, 1]))
    if name == "side":
        return replace(
            soft, key=_direction(side, rng.uniform(0, 0.5), rng.uniform(-0.1, 0.3)), shadow=0.9
        )
    if name == "behind":
        key = _direction(side * rng.uniform(0.3, 1), rng.uniform(0.2, 0.8), -0.7)
        return replace(soft, key=key, exposure=1.3 * usual.exposure)
    if name == "below":
        return replace(soft, key=_direction(side * rng.uniform(0, 0.5), -0.8, 0.7))
    return soft


def _gel(rng: Generator, strength: float) -> Colour:
    """Strongly coloured light of that strength."""
    pixel = np.array([[[rng.uniform(0, 360), rng.uniform(0.4, 0.9), 1.0]]], np.float32)
    colour = cv2.cvtColor(pixel, cv2.COLOR_HSV2RGB)[0, 0]
    red, green, blue = colour * float(max(strength, 0.15)) / colour.mean()
    return float(red), float(green), float(blue)


def _direction(x: float, y: float, z: float) -> ndarray:
    vector = np.array([x, y, z])
    return vector / np.linalg.norm(vector)


def _tinted(rng: Generator, strength: float, warmth: float) -> Colour:
    red, green, blue = strength * (1 + np.array([warmth, 0, -warmth]) + rng.normal(0, 0.03, 3))
    return float(max(red, 0)), float(max(green, 0)), float(max(blue, 0))


# -------------------------------------------------------------------------------------------- backgrounds


def background(rng: Generator, height: int, width: int) -> UInt8[ndarray, "h w 3"]:
    """A made-up place behind a person: plain wall, studio gradient, blurred room or foliage, noise."""
    makers = (_wall, _gradient, _room, _foliage, _noise)
    maker = makers[rng.choice(len(makers), p=[0.28, 0.2, 0.3, 0.12, 0.1])]
    size = 128
    image = maker(rng, size)
    blur = rng.choice([0.0, rng.uniform(0.5, 2), rng.uniform(2, 7)], p=[0.25, 0.35, 0.4])
    if blur > 0:
        image = cv2.GaussianBlur(image, (0, 0), float(blur))
    image = cv2.resize(image, (width, height), interpolation=cv2.INTER_CUBIC)
    return np.clip(image * 255, 0, 255).astype(np.uint8)


def calm_colour(rng: Generator, lightness: float | None = None) -> ndarray:
    """A colour as rooms have it: rarely saturated."""
    hue, saturation = rng.uniform(0, 360), rng.beta(1.2, 3.0)
    value = rng.uniform(0.12, 0.95) if lightness is None else lightness
    pixel = np.array([[[hue, saturation, value]]], np.float32)
    return cv2.cvtColor(pixel, cv2.COLOR_HSV2RGB)[0, 0]


def _wall(rng: Generator, size: int) -> ndarray:
    y, x = np.mgrid[0:size, 0:size].astype(np.float32) / size
    falloff = 1 - rng.uniform(0, 0.5) * np.hypot(
        x - rng.uniform(-0.2, 1.2), y - rng.uniform(-0.3, 0.7)
    )
    grain = 1 + rng.uniform(0, 0.03) * rng.standard_normal((size, size), np.float32)
    return (calm_colour(rng) * (falloff * grain)[..., None]).astype(np.float32)


def _gradient(rng: Generator, size: int) -> ndarray:
    y, x = np.mgrid[0:size, 0:size].astype(np.float32) / size
    if rng.random() < 0.5:
        angle = rng.uniform(0, 2 * math.pi)
        share = np.clip(0.5 + (x - 0.5) * math.cos(angle) + (y - 0.5) * math.sin(angle), 0, 1)
    else:
        share = np.clip(np.hypot(x - rng.uniform(0.3, 0.7), y - rng.uniform(0.2, 0.6)) * 1.3, 0, 1)
    a = calm_colour(rng)
    b = np.clip(a * rng.uniform(0.3, 0.8) if rng.random() < 0.6 else calm_colour(rng), 0, 1)
    return (a * (1 - share[..., None]) + b * share[..., None]).astype(np.float32)


def _room(rng: Generator, size: int) -> ndarray:
    """Rectangles of furniture, windows and pictures before a wall."""
    image = _wall(rng, size)
    floor = rng.uniform(0.6, 1.1)
    if floor < 1:
        image[int(floor * size) :] = calm_colour(rng) * 0.8
    for _ in range(rng.integers(3, 14)):
        w, h = rng.uniform(0.05, 0.5, 2) * size
        x, y = rng.uniform(-0.1, 1.0, 2) * size
        low, high = (int(x), int(y)), (int(x + w), int(y + h))
        colour = calm_colour(rng, rng.uniform(0.7, 1.0) if rng.random() < 0.25 else None).tolist()
        cv2.rectangle(image, low, high, colour, -1)
        if rng.random() < 0.4:
            cv2.rectangle(image, low, high, calm_colour(rng).tolist(), int(rng.integers(1, 4)))
    for _ in range(rng.integers(0, 5)):
        ends = [tuple(int(v) for v in rng.uniform(0, size, 2)) for _ in range(2)]
        cv2.line(image, ends[0], ends[1], calm_colour(rng).tolist(), int(rng.integers(1, 4)))
    for _ in range(rng.integers(0, 5)):
        centre = tuple(int(v) for v in rng.uniform(0, size, 2))
        cv2.circle(image, centre, int(rng.uniform(2, 16)), calm_colour(rng).tolist(), -1)
    return image


def _foliage(rng: Generator, size: int) -> ndarray:
    """Clouds of noise at several scales in a few colours: trees, stone, carpets, crowds."""
    share = _clouds(rng, size, 1)[..., 0]
    a, b = calm_colour(rng), calm_colour(rng)
    image = a + (b - a) * share[..., None]
    return (image * (0.6 + 0.8 * _clouds(rng, size, 1))).astype(np.float32)


def _noise(rng: Generator, size: int) -> ndarray:
    return _clouds(rng, size, 3)


def _clouds(rng: Generator, size: int, channels: int) -> ndarray:
    total = np.zeros((size, size, channels), np.float32)
    weight = 0.0
    for cells in (3, 6, 12, 24, 48):
        strength = rng.uniform(0.3, 1) / cells**0.5
        coarse = rng.random((cells, cells, channels), np.float32)
        grown = cv2.resize(coarse, (size, size), interpolation=cv2.INTER_CUBIC)
        total += strength * grown.reshape(size, size, channels)
        weight += strength
    return np.clip(total / weight, 0, 1)
