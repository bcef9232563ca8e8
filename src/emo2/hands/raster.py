"""A small CPU rasteriser: triangles to pixels with a z-buffer, vectorised in numpy.

Every triangle is cut into pixel rows, every row's covered span follows from the triangle's three edges, and all
spans are laid out in one ragged array: the cost follows the number of covered pixels, and nothing is looped over.
Orthographic (the camera is weak-perspective).  Pixel (0, 0) has its centre at (0.5, 0.5).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped

Array = np.ndarray

_FLAT = 1e-12  # twice the area of a face seen edge on
_EDGE = 1e-6


class Coverage(NamedTuple):
    """What covers the pixels: one entry per covered pixel, in no special order."""

    pixel: Int[Array, " n"]
    """Index into the flattened image."""
    face: Int[Array, " n"]
    corner: Float[Array, "n 3"]
    """Barycentric weights of the face's corners."""

    def mix(self, values: Float[Array, "v c"], faces: Int[Array, "f 3"]) -> Float[Array, "n c"]:
        """Vertex values at the covered pixels."""
        mixed = self.corner[:, :1] * values[faces[self.face, 0]]
        for k in (1, 2):
            mixed += self.corner[:, k : k + 1] * values[faces[self.face, k]]
        return mixed


def rasterise(
    points: Float[Array, "v 3"], faces: Int[Array, "f 3"], size: tuple[int, int]
) -> Coverage:
    """The nearest front face (larger z is nearer) at every covered pixel of an image of `size` (h, w).

    Points are pixels (x right, y down) and depth towards the camera in any unit.  A face is a front face when
    (b - a) x (c - a), taken in these numbers, has a positive z; back faces are dropped.
    """
    height, width = size
    a, b, c = points[faces[:, 0]], points[faces[:, 1]], points[faces[:, 2]]
    area = (b[:, 0] - a[:, 0]) * (c[:, 1] - a[:, 1]) - (b[:, 1] - a[:, 1]) * (c[:, 0] - a[:, 0])
    low = np.ceil(np.minimum(np.minimum(a, b), c)[:, :2] - 0.5)
    high = np.floor(np.maximum(np.maximum(a, b), c)[:, :2] - 0.5)
    # Most faces of a small hand lie between pixel centres: they go before anything is computed for them.
    front = np.flatnonzero((area > _FLAT) & (low[:, 0] <= high[:, 0]) & (low[:, 1] <= high[:, 1]))
    a, b, c = a[front], b[front], c[front]
    weights = _planes(a, b, c) / area[front, None, None]
    top, foot = low[front, 1].clip(0), high[front, 1].clip(max=height - 1)
    face, row = _expand(top, foot)
    left, right, whole = _spans(weights[face], row + 0.5, width)
    face, row = face[whole], row[whole]
    line, column = _expand(left[whole], right[whole])
    face, pixel = face[line], row[line] * width + column
    slope = np.einsum("fkp,fk->fp", weights, np.stack((a[:, 2], b[:, 2], c[:, 2]), 1))
    x, y = column + 0.5, row[line] + 0.5
    depth = slope[face, 0] * x + slope[face, 1] * y + slope[face, 2]
    nearest = np.full(height * width, -np.inf)
    np.maximum.at(nearest, pixel, depth)
    winner = np.full(height * width, -1)
    seen = np.flatnonzero(depth >= nearest[pixel])
    winner[pixel[seen]] = seen
    winner = winner[winner >= 0]
    place = np.stack((x[winner], y[winner], np.ones(len(winner))), 1)
    corner = np.einsum("nkp,np->nk", weights[face[winner]], place)
    return Coverage(pixel[winner], front[face[winner]], corner.astype(points.dtype))


def _planes(
    a: Float[Array, "f 3"], b: Float[Array, "f 3"], c: Float[Array, "f 3"]
) -> Float[Array, "f 3 3"]:
    """For each corner p, q, r with r opposite: coefficients of x, y, 1 whose value is twice the area (x, y), p, q."""
    planes = []
    for p, q in ((b, c), (c, a), (a, b)):
        constant = p[:, 0].astype(np.float64) * q[:, 1] - p[:, 1].astype(np.float64) * q[:, 0]
        planes.append(np.stack((p[:, 1] - q[:, 1], q[:, 0] - p[:, 0], constant), 1))
    return np.stack(planes, 1)


def _spans(
    weights: Float[Array, "n 3 3"], y: Float[Array, " n"], width: int
) -> tuple[Float[Array, " n"], Float[Array, " n"], Bool[Array, " n"]]:
    """First and last covered column of each row, and whether there is any."""
    slope, level = weights[..., 0], weights[..., 1] * y[:, None] + weights[..., 2]
    level = (
        level + _EDGE
    )  # a pixel centre on an edge belongs to both sides: better twice than not at all
    with np.errstate(divide="ignore", invalid="ignore"):
        cross = -level / slope
    # Column by column: along an axis of three, numpy's own max and any cost more than all the rest.
    left = _all3(np.maximum, np.where(slope > 0, cross, -np.inf))
    right = _all3(np.minimum, np.where(slope < 0, cross, np.inf))
    left = np.ceil(left.clip(-1, width + 1) - 0.5).clip(0)
    right = np.floor(right.clip(-1, width + 1) - 0.5).clip(max=width - 1)
    return left, right, (right >= left) & ~_all3(np.logical_or, (slope == 0) & (level < 0))


def _all3(join: np.ufunc, values: Shaped[Array, "n 3"]) -> Shaped[Array, " n"]:
    return join(join(values[:, 0], values[:, 1]), values[:, 2])


def _expand(
    first: Float[Array, " n"], last: Float[Array, " n"]
) -> tuple[Int[Array, " m"], Int[Array, " m"]]:
    """All whole numbers first..last of each entry: the entry's index, and the number."""
    start = first.astype(np.int64)
    counts = (last.astype(np.int64) - start + 1).clip(0)
    owner = np.repeat(np.arange(len(start)), counts)
    shift = start - (np.cumsum(counts) - counts)
    return owner, np.arange(len(owner)) + shift[owner]


def vertex_normals(
    points: Float[Array, "*b v 3"], faces: Int[Array, "f 3"]
) -> Float[Array, "*b v 3"]:
    """Unit normals, the faces' cross products summed at their corners."""
    a, b, c = (points[..., faces[:, k], :] for k in range(3))
    crosses = np.cross(b - a, c - a)
    normals = np.zeros_like(points)
    flat, given = normals.reshape(-1, *points.shape[-2:]), crosses.reshape(-1, *crosses.shape[-2:])
    for out, cross in zip(flat, given, strict=True):
        for k in range(3):
            for axis in range(3):
                out[:, axis] += np.bincount(faces[:, k], cross[:, axis], minlength=len(out))
    length = np.linalg.norm(normals, axis=-1, keepdims=True)
    return normals / np.maximum(length, 1e-12)
