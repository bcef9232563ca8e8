"""The rasteriser against a slow one, and against what must hold for any picture."""

from __future__ import annotations

import numpy as np
import torch

from emo2.hands import pose_hands, shape_hand, stand_in
from emo2.hands.model import hand_faces
from emo2.hands.raster import rasterise, vertex_normals


def slow_raster(
    points: np.ndarray, faces: np.ndarray, size: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray]:
    """Depth and face of every pixel, face by face, testing every pixel."""
    height, width = size
    depth = np.full(size, -np.inf)
    owner = np.full(size, -1)
    y, x = np.mgrid[:height, :width] + 0.5
    for index, face in enumerate(faces):
        (ax, ay, az), (bx, by, bz), (cx, cy, cz) = points[face].astype(np.float64)
        area = (bx - ax) * (cy - ay) - (by - ay) * (cx - ax)
        if area <= 1e-12:
            continue
        u = ((x - ax) * (cy - ay) - (y - ay) * (cx - ax)) / area
        v = ((bx - ax) * (y - ay) - (by - ay) * (x - ax)) / area
        z = az + u * (bz - az) + v * (cz - az)
        nearer = (u >= 0) & (v >= 0) & (u + v <= 1) & (z > depth)
        depth[nearer], owner[nearer] = z[nearer], index
    return depth, owner


def test_random_triangles_equal_the_slow_rasteriser() -> None:
    noise = np.random.default_rng(0)
    points = noise.uniform(-5, 45, (60, 3)).astype(np.float32)
    faces = noise.integers(0, 60, (80, 3))
    _, owner = slow_raster(points, faces, (30, 40))
    seen = rasterise(points, faces, (30, 40))
    ours = np.full(30 * 40, -1)
    ours[seen.pixel] = seen.face
    assert len(np.unique(seen.pixel)) == len(seen.pixel)
    assert (ours.reshape(30, 40) != owner).mean() < 0.003, (
        "only pixel centres that lie on an edge may differ"
    )
    assert (owner >= 0).mean() > 0.5


def test_values_are_mixed_by_place() -> None:
    points = np.array(((0, 0, 0), (10, 0, 0), (0, 10, 0)), np.float32)
    seen = rasterise(points, np.array(((0, 1, 2),)), (10, 10))
    place = seen.mix(points, np.array(((0, 1, 2),)))
    assert np.allclose(place[:, 0], seen.pixel % 10 + 0.5, atol=1e-5)
    assert np.allclose(place[:, 1], seen.pixel // 10 + 0.5, atol=1e-5)
    assert len(seen.pixel) == 55, "half of the square with its diagonal"


def test_nearer_faces_hide_farther_ones_whatever_the_order() -> None:
    square = np.array(((1, 1), (9, 1), (9, 9), (1, 9)), np.float32)
    far, near = (np.column_stack((square, np.full(4, z, np.float32))) for z in (0.0, 1.0))
    faces = np.array(((0, 1, 2), (0, 2, 3), (4, 5, 6), (4, 6, 7)))
    for points, front in ((np.vstack((far, near)), 2), (np.vstack((near, far)), 0)):
        seen = rasterise(points, faces, (10, 10))
        assert len(seen.pixel) == 64
        assert set(seen.face) <= {front, front + 1}


def test_back_faces_and_what_lies_outside_are_not_drawn() -> None:
    points = np.array(((1, 1, 0), (9, 1, 0), (1, 9, 0)), np.float32)
    assert len(rasterise(points, np.array(((0, 2, 1),)), (10, 10)).pixel) == 0
    assert len(rasterise(points + np.float32(20), np.array(((0, 1, 2),)), (10, 10)).pixel) == 0
    large = rasterise(points * 100 - 200, np.array(((0, 1, 2),)), (10, 10))
    assert len(large.pixel) == 100


def test_a_closed_hand_has_no_holes() -> None:
    """Every pixel inside the outline is covered: the same number whether front or back faces are drawn."""
    up, palm = torch.tensor((0.2, -1.0, 0.1)), torch.tensor((0.3, 0.1, 1.0))
    hand = shape_hand(
        "right", torch.zeros(3), fingers_to=up, palm_to=palm, curl=torch.full((5,), 0.5)
    )
    vertices = (
        pose_hands(stand_in(), torch.stack((hand, hand)), torch.zeros(10)).vertices[1].numpy()
    )
    pixels = vertices * 600 + np.array((80, 150, 0), np.float32)
    faces = hand_faces(stand_in(), "right").numpy()
    front = set(rasterise(pixels, faces, (180, 160)).pixel)
    back = set(rasterise(pixels, faces[:, ::-1], (180, 160)).pixel)
    assert len(front) > 3000
    assert len(front ^ back) <= 0.002 * len(front)


def test_normals_of_a_ball_point_outwards() -> None:
    noise = np.random.default_rng(1)
    points = noise.standard_normal((40, 3))
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    from scipy.spatial import ConvexHull

    faces = ConvexHull(points).simplices
    a, b, c = (points[faces[:, k]] for k in range(3))
    inward = (np.cross(b - a, c - a) * a).sum(1) < 0
    faces[inward] = faces[inward][:, ::-1]
    assert ((vertex_normals(points, faces) * points).sum(1) > 0.8).all()
