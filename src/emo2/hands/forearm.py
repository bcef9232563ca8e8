"""A forearm that begins at the stand-in's own wrist and leads to an elbow, bare or in a sleeve (ours).

All in the picture frame, metres.  Rings of vertices around the bone: the first is the edge of the hand's mesh, so that
hand and forearm are one skin; over the wrist they turn from the hand's direction to the arm's.
"""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from emo2.hands.standin import stand_in

FORE_M = 0.25
_WRIST_M = 0.05
"""Length over which the forearm takes the hand's direction into its own."""
_GIRTH = (
    (0.0, 1.0),
    (0.02, 0.97),
    (0.05, 1.06),
    (0.10, 1.32),
    (0.15, 1.56),
    (0.20, 1.68),
    (0.235, 1.55),
    (0.265, 1.3),
    (0.28, 1.0),
)
"""Radius against the wrist's, along the arm."""
_SKIN_M = (0.006, 0.014, 0.024, 0.036, 0.05, 0.07, 0.095, 0.125, 0.16, 0.2, 0.235, 0.26, 0.28)
_ROUND_FROM, _ROUND_AT = 0.03, 0.16
"""The oval of the wrist becomes round between these."""
_STEP_M = 0.011
_LOOSE_M = (0.0075, 0.011)
"""A sleeve is wider than the arm by this, at the cuff and at the elbow."""
_CLOTH_M = 0.003


class Tube(NamedTuple):
    """Rings of vertices, and where each ring and corner lies."""

    points: Float[np.ndarray, "v 3"]
    along: Float[np.ndarray, " v"]
    """Metres from the wrist."""
    around: Float[np.ndarray, " v"]
    """0..1."""


@cache
def wrist_loop() -> tuple[int, ...]:
    """The vertices at the edge of the stand-in's open wrist, in order (its lid, the last vertex, left out)."""
    faces = open_faces()
    after = {}
    edges = {
        (int(a), int(b)) for face in faces for a, b in zip(face, np.roll(face, -1), strict=True)
    }
    for a, b in edges:
        if (b, a) not in edges:
            after[a] = b
    loop = [min(after)]
    while after[loop[-1]] != loop[0]:
        loop.append(after[loop[-1]])
    return tuple(loop)


@cache
def open_faces() -> Int[np.ndarray, "f 3"]:
    """The stand-in's faces without the lid over its wrist, wound as its right hand's."""
    model = stand_in()
    faces = model.faces.numpy()
    return faces[~(faces == len(model.template) - 1).any(1)]


@cache
def tube_faces(rings: int) -> Int[np.ndarray, "f 3"]:
    """Faces between rings of `wrist_loop`'s number of vertices, wound like the hand's where the first ring is its edge."""
    count = len(wrist_loop())
    ring, corner = np.divmod(np.arange((rings - 1) * count), count)
    a, b = ring * count + corner, ring * count + (corner + 1) % count
    return np.concatenate((np.stack((b, a, a + count), 1), np.stack((b, a + count, b + count), 1)))


def bare(
    loop: Float[np.ndarray, "n 3"], wrist: Float[np.ndarray, "3"],
    elbow: Float[np.ndarray, "3"], until: float = _SKIN_M[-1],
) -> Tube:  # fmt: skip
    """The skin of a forearm up to `until` metres from the wrist; its first ring is `loop`."""
    places = [0.0, *(m for m in _SKIN_M if m < until), until]
    return _tube(loop, wrist, elbow, np.array(places), np.zeros(len(places)), 0.0)


def sleeve(
    loop: Float[np.ndarray, "n 3"], wrist: Float[np.ndarray, "3"],
    elbow: Float[np.ndarray, "3"], cuff: float, folds: Float[np.ndarray, "r n"],
) -> Tube:  # fmt: skip
    """A sleeve from `cuff` metres on, its edge turned inwards; `folds`: metres outwards, by ring and corner."""
    outer = cuff + _STEP_M * np.arange(len(folds) - 2)
    places = np.concatenate(([cuff + 0.02, cuff], outer))
    share = (outer - cuff) / (outer[-1] - cuff)
    wide = _LOOSE_M[0] + (_LOOSE_M[1] - _LOOSE_M[0]) * share
    wide = np.concatenate(([wide[0] - _CLOTH_M] * 2, wide))
    return _tube(loop, wrist, elbow, places, wide, folds)


def _tube(
    loop: Float[np.ndarray, "n 3"], wrist: Float[np.ndarray, "3"], elbow: Float[np.ndarray, "3"],
    places: np.ndarray, wider: np.ndarray, folds: np.ndarray | float,
) -> Tube:  # fmt: skip
    count, rings = len(loop), len(places)
    centre = loop.mean(0)
    offsets = loop - centre
    # The loop is no plane: its mean normal (twice the area it turns around) says where the hand goes on.
    hand = np.cross(offsets, np.roll(offsets, -1, 0)).sum(0)
    hand = hand / np.linalg.norm(hand)
    arm = (elbow - wrist) / np.linalg.norm(elbow - wrist)
    hand = hand if hand @ arm > 0 else -hand
    lift = offsets @ hand
    flat = offsets - lift[:, None] * hand
    radius = float(np.linalg.norm(flat, axis=1).mean())
    share = _eased(places / _WRIST_M)
    angle = float(np.arccos(np.clip(hand @ arm, -1, 1)))
    axis = np.cross(hand, arm)
    axis = axis / max(float(np.linalg.norm(axis)), 1e-6)
    round_ = _eased((places - _ROUND_FROM) / (_ROUND_AT - _ROUND_FROM))[:, None, None]
    unit = flat / np.linalg.norm(flat, axis=1, keepdims=True)
    shape = flat + (unit * radius - flat) * round_
    girth = np.interp(places, *np.array(_GIRTH).T)
    size = np.linalg.norm(shape, axis=2, keepdims=True)
    grow = size * girth[:, None, None] + wider[:, None, None]
    grow = grow + (folds[..., None] if isinstance(folds, np.ndarray) else folds)
    ring = shape / size * grow
    turned = _turn(ring, axis, angle * share)
    heading = _turn(hand[None, None], axis, angle * share)[:, 0]
    path = centre + _path(places, hand, axis, angle)
    ahead = heading[:, None] * (lift * (1 - share)[:, None])[..., None]
    points = path[:, None] + turned + ahead
    corner = np.tile(np.arange(count) / count, rings)
    return Tube(
        points.reshape(-1, 3).astype(np.float32), np.repeat(places, count).astype(np.float32),
        corner.astype(np.float32),
    )  # fmt: skip


def _path(
    places: np.ndarray, hand: np.ndarray, axis: np.ndarray, angle: float
) -> Float[np.ndarray, "r 3"]:
    """Centres of the rings against the first: along a heading that turns over the wrist."""
    fine = np.linspace(0, float(places.max()), 57)
    headings = _turn(hand[None, None], axis, angle * _eased(fine / _WRIST_M))[:, 0]
    steps = (headings[1:] + headings[:-1]) / 2 * np.diff(fine)[:, None]
    line = np.concatenate((np.zeros((1, 3)), np.cumsum(steps, 0)))
    return np.stack([np.interp(places, fine, line[:, k]) for k in range(3)], 1)


def _eased(share: np.ndarray) -> np.ndarray:
    share = np.clip(share, 0, 1)
    return share * share * (3 - 2 * share)


def _turn(
    vectors: Float[np.ndarray, "#r n 3"], axis: np.ndarray, angles: Float[np.ndarray, " r"]
) -> Float[np.ndarray, "r n 3"]:
    """Each ring turned by its angle (Rodrigues)."""
    cos, sin = np.cos(angles)[:, None, None], np.sin(angles)[:, None, None]
    inner = vectors @ axis
    return vectors * cos + np.cross(axis, vectors) * sin + inner[..., None] * axis * (1 - cos)
