"""Skinning: the vertices and normals of a posed person."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from emo2.studio.people import Person
from emo2.studio.pose import Bones, Pose

_EYE3 = np.eye(3, dtype=np.float32)


def pose_vertices(person: Person, pose: Pose, bones: Bones) -> Float[ndarray, "n 3"]:
    """Posed vertices of a person."""
    spread = np.kron(pose.actions.astype(np.float32)[:, None], _EYE3)
    points = person.rest + person.actions @ spread
    moves = (person.weights @ bones.table()).reshape(-1, 3, 4)
    return np.einsum("nij,nj->ni", moves[:, :, :3], points) + moves[:, :, 3]


def vertex_normals(person: Person, points: Float[ndarray, "n 3"]) -> Float[ndarray, "n 3"]:
    """Unit normals, triangles weighted by area."""
    a, b, c = (points[person.faces[:, k]] for k in range(3))
    u, v = b - a, c - a
    flat = np.stack(
        [
            u[:, 1] * v[:, 2] - u[:, 2] * v[:, 1],
            u[:, 2] * v[:, 0] - u[:, 0] * v[:, 2],
            u[:, 0] * v[:, 1] - u[:, 1] * v[:, 0],
        ],
        1,
    )
    normals = person.face_normals @ flat
    length = np.sqrt(np.einsum("ni,ni->n", normals, normals))
    return normals / np.maximum(length, 1e-12)[:, None]
