"""How the stand-in was made: thinning keeps the mesh whole, and what ships says what it is."""

from __future__ import annotations

from importlib.resources import files

import numpy as np
from scipy.spatial import ConvexHull

from emo2.hands.thin import boundary_loops, thin


def ball(count: int) -> tuple[np.ndarray, np.ndarray]:
    """A sphere of `count` vertices (Fibonacci's spiral), faces outwards."""
    k = np.arange(count) + 0.5
    z, turn = 1 - 2 * k / count, k * np.pi * (1 + 5**0.5)
    points = np.stack((np.sqrt(1 - z * z) * np.cos(turn), np.sqrt(1 - z * z) * np.sin(turn), z), 1)
    faces = ConvexHull(points).simplices
    a, b, c = (points[faces[:, k]] for k in range(3))
    inward = (np.cross(b - a, c - a) * a).sum(1) < 0
    faces[inward] = faces[inward][:, ::-1]
    return points, faces


def volume(points: np.ndarray, faces: np.ndarray) -> float:
    a, b, c = (points[faces[:, k]] for k in range(3))
    return float((np.cross(a, b) * c).sum() / 6)


def test_thinning_keeps_the_mesh_closed_its_vertices_and_nearly_its_volume() -> None:
    points, faces = ball(400)
    thinned, kept = thin(points, faces, 150, keep={7, 11})
    assert len(kept) == 150
    assert len(thinned) == 2 * 150 - 4, "Euler's formula for a closed surface"
    assert {7, 11} <= set(kept)
    assert boundary_loops(thinned) == []
    assert 0.93 * volume(points, faces) < volume(points[kept], thinned) <= volume(points, faces)
    normals = np.cross(
        points[kept][thinned[:, 1]] - points[kept][thinned[:, 0]],
        points[kept][thinned[:, 2]] - points[kept][thinned[:, 0]],
    )
    assert ((normals * points[kept][thinned[:, 0]]).sum(1) > 0).all(), "nothing folded over"


def test_an_open_border_is_one_loop_and_stays() -> None:
    points, faces = ball(300)
    opened = faces[(points[faces, 2] < 0.7).all(1)]
    (loop,) = boundary_loops(opened)
    assert len(loop) > 8
    thinned, kept = thin(points, opened, 120, keep=set())
    assert set(loop) <= set(kept)
    (after,) = boundary_loops(thinned)
    assert set(kept[after]) == set(loop)


def test_the_file_that_ships_is_small_and_named_for_what_it_is() -> None:
    shipped = (files("emo2") / "assets/hands").iterdir()
    (path,) = (p for p in shipped if p.name.endswith(".npz") and "relief" not in p.name)
    assert "not_mano" in path.name
    assert len(path.read_bytes()) < 200_000
