"""People without assets: the bare base mesh in a suit, with painted lips, brows, eyes and a cap of hair."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
from jaxtyping import Bool, Float
from numpy import ndarray
from numpy.random import Generator

from emo2.studio.colours import HAIR_COLOURS, cloth_colour, skin_colour
from emo2.studio.landmarks import face_vertices
from emo2.studio.material import Material
from emo2.studio.people import NUM_BODY, Piece, Shape, base_piece, body_piece

_EYES = {"helper-l-eye": slice(14598, 14670), "helper-r-eye": slice(14670, 14742)}
_IRIS, _PUPIL = 0.82, 0.96
"""Cosines of the angle between the eye's axis and the rim of iris and pupil."""


def plain_pieces(rng: Generator, shape: Shape, low: float) -> list[Piece]:
    """Everything that is drawn of a plain person above the height `low`."""
    base = shape.base
    keep = base[:, 1] > low
    skin, hair = skin_colour(rng), HAIR_COLOURS[rng.integers(len(HAIR_COLOURS))]
    lips = skin * [rng.uniform(0.8, 1.0), 0.55, 0.55]
    suit = _matt("clothes", cloth_colour(rng), 0.1)
    iris = np.array([(0.16, 0.08, 0.04), (0.2, 0.3, 0.4), (0.18, 0.25, 0.12)])[rng.integers(3)]
    teeth = _matt("teeth", np.full(3, 0.75), 0.5)
    lower = tuple(float(v) for v in cloth_colour(rng))
    suit = replace(suit, lower_tint=lower, waist=float(shape.heads["spine04"][1]))
    pieces = [
        body_piece(_matt("skin", skin, 0.4), keep),
        base_piece("body", replace(_matt("skin", lips, 0.6), is_solid=False), _lips(base)),
        base_piece("helper-upper-teeth", teeth),
        base_piece("helper-lower-teeth", teeth),
        base_piece("helper-tongue", _matt("tongue", np.array([0.35, 0.12, 0.1]), 0.3)),
        base_piece("helper-tights", suit, keep),
        *(piece for group in _EYES for piece in _eye(iris, base, group)),
    ]
    brows = replace(_matt("skin", hair * 0.8, 0.1), segment="brows")
    painted = [pieces[1], base_piece("body", brows, _brows(base))]
    if rng.random() < 0.85:
        cap = replace(_matt("skin", hair, 0.3), segment="hair")
        painted.append(base_piece("body", cap, _scalp(base)))
    lifted = [_lifted(piece, base, 0.0006 if k < 2 else 0.006) for k, piece in enumerate(painted)]
    return [pieces[0], *lifted, *pieces[2:]]


def _matt(kind: str, tint: Float[ndarray, "3"], gloss: float) -> Material:
    red, green, blue = (float(v) for v in tint)
    return Material(kind=kind, tint=(red, green, blue), gloss=gloss)


def _lifted(piece: Piece, base: Float[ndarray, "v 3"], metres: float) -> Piece:
    """The piece a little outside of the body, away from the head's middle."""
    middle = base[list(face_vertices())[27]] - np.array([0, 0, 0.09], np.float32)
    away = piece.places @ base - middle
    away /= np.linalg.norm(away, axis=1, keepdims=True)
    return replace(piece, offsets=(metres * away).astype(np.float32))


def _eye(iris: Float[ndarray, "3"], base: Float[ndarray, "v 3"], group: str) -> list[Piece]:
    """White, iris and pupil; each a little before the other."""
    ball = base[_EYES[group]]
    cosine = np.zeros(len(base), np.float32)
    around = ball - ball.mean(0)
    cosine[_EYES[group]] = around[:, 2] / np.linalg.norm(around, axis=1)
    layers = [
        base_piece(group, _matt("eyes", np.full(3, 0.75), 0.8)),
        base_piece(group, _matt("eyes", iris, 0.8), cosine > _IRIS),
        base_piece(group, _matt("eyes", np.full(3, 0.02), 0.8), cosine > _PUPIL),
    ]
    forward = np.array([0, 0, 0.0004], np.float32)
    return [
        replace(p, offsets=p.offsets + k * forward) for k, p in enumerate(layers) if len(p.offsets)
    ]


def _lips(base: Float[ndarray, "v 3"]) -> Bool[ndarray, " v"]:
    points = base[list(face_vertices())]
    middle = points[48:].mean(0)
    return inside(base, points[48:60]) & (base[:, 2] > middle[2] - 0.02)


def _brows(base: Float[ndarray, "v 3"]) -> Bool[ndarray, " v"]:
    points = base[list(face_vertices())]
    found = np.zeros(len(base), bool)
    for brow in (points[17:22], points[22:27]):
        up = np.array([0, 0.004, 0], np.float32)
        found |= inside(base, np.concatenate([brow + up, (brow - 1.1 * up)[::-1]]))
    return found & (base[:, 2] > points[17:27, 2].min() - 0.01)


def inside(base: ndarray, outline: ndarray) -> Bool[ndarray, " v"]:
    """Body vertices within an outline seen from the front."""
    ring = outline[:, None, :2].astype(np.float32)
    found = np.zeros(len(base), bool)
    near = np.abs(base[:NUM_BODY, :2] - outline[:, :2].mean(0)).max(1) < 0.08
    for k in np.flatnonzero(near):
        place = (float(base[k, 0]), float(base[k, 1]))
        found[k] = cv2.pointPolygonTest(ring, place, False) >= 0
    return found


def _scalp(base: Float[ndarray, "v 3"]) -> Bool[ndarray, " v"]:
    """The skull above a line from the forehead over the ears to the nape."""
    points = base[list(face_vertices())]
    brow, ear = points[17:27].mean(0), points[[0, 16]].mean(0)
    crown = float(base[:NUM_BODY, 1].max())
    front_edge = brow[1] + 0.45 * (crown - brow[1])
    behind = np.clip((brow[2] - base[:, 2]) / (brow[2] - ear[2] + 0.02), 0, 1)
    edge = front_edge + (ear[1] + 0.01 - front_edge) * behind**2
    found = (base[:, 1] > edge) & (base[:, 1] > ear[1] - 0.03)
    found[NUM_BODY:] = False
    return found & ~((np.abs(base[:, 0]) > points[16, 0] + 0.004) & (base[:, 1] < brow[1]))
