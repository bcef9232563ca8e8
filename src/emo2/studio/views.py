"""Cameras for the two views: the face, and the body in the many framings that photos have."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.random import Generator

from emo2.studio.landmarks import face_vertices
from emo2.studio.people import Person
from emo2.studio.scene import Camera, Framing, camera

View = Literal["face", "body"]

BODY_CUTS = {"knees": 0.12, "hips": 0.53, "waist": 0.15, "bust": 0.12, "face": 0.08}
"""Where the picture's lower edge cuts the body, and how often."""

_BELOW_NECK_M = {
    "knees": (0.95, 1.1),
    "hips": (0.58, 0.85),
    "waist": (0.4, 0.56),
    "bust": (0.2, 0.36),
    "face": (0.0, 0.12),
}


def choose_camera(rng: Generator, person: Person, view: View) -> Camera:
    """A camera for a person in a view."""
    return face_camera(rng, person) if view == "face" else body_camera(rng, person)


def face_camera(rng: Generator, person: Person) -> Camera:
    """A view of the face with the jitter that a portrait finder's crop has."""
    head = person.shape.base[list(face_vertices())]
    half = (
        float(np.ptp(head[:, 1])) / rng.uniform(0.40, 0.70) / 2
    )  # share of the height, brow to chin
    centre = (head.min(0) + head.max(0)) / 2
    centre = centre + np.array([rng.normal(0, 0.1), rng.normal(0.1, 0.12), 0.0]) * half
    return camera(
        Framing(
            centre=centre, half_height=half, distance=float(rng.uniform(0.5, 2.0)),
            yaw=rng.uniform(-0.1, 0.1), pitch=rng.uniform(-0.1, 0.12), roll=rng.normal(0, 0.04),
        )
    )  # fmt: skip


def body_camera(rng: Generator, person: Person, cut: str = "") -> Camera:
    """A view from above the head down to one of `BODY_CUTS`."""
    cut = cut or str(rng.choice(list(BODY_CUTS), p=list(BODY_CUTS.values())))
    neck = float(person.shape.heads["neck01"][1])
    top = float(person.shape.base[:13380, 1].max())
    bottom = neck - rng.uniform(*_BELOW_NECK_M[cut])
    height = (top - bottom) / (1 - rng.uniform(0.01, 0.2))
    centre_x = (
        rng.normal(0, 0.05) * height if rng.random() < 0.7 else rng.uniform(-0.2, 0.2) * height
    )
    return camera(
        Framing(
            centre=np.array([centre_x, bottom + height / 2, 0.05]), half_height=height / 2,
            distance=float(rng.uniform(1.6, 4.5)), yaw=rng.uniform(-0.12, 0.12),
            pitch=rng.uniform(-0.1, 0.1), roll=rng.normal(0, 0.02),
        )
    )  # fmt: skip
