"""Thin a triangle mesh by collapsing edges onto existing vertices (quadric error, Garland and Heckbert 1997).

No vertex moves, so every table that belongs to vertices (skin weights, shape directions) stays exact.
"""

from __future__ import annotations

import heapq

import numpy as np
from jaxtyping import Float, Int

Array = np.ndarray

_FLAT = (
    0.1  # weight of edge length beside the squared distance to the planes: keeps triangles round
)
_TURNED = 0.2  # a collapse may not turn a face's normal further than this cosine


def thin(
    vertices: Float[Array, "v 3"], faces: Int[Array, "f 3"], count: int, *, keep: set[int]
) -> tuple[Int[Array, "g 3"], Int[Array, "n"]]:
    """Faces on `count` of the vertices, and which those are.  `keep` and the border are never removed."""
    mesh = _Mesh(vertices, faces)
    fixed = keep | {v for loop in boundary_loops(faces) for v in loop}
    heap = [(mesh.cost(a, b), a, b) for a in range(len(vertices)) for b in mesh.around(a)]
    heapq.heapify(heap)
    alive = len(np.unique(faces))
    while alive > count and heap:
        cost, gone, onto = heapq.heappop(heap)
        if gone in fixed or not mesh.faces_of[gone] or onto not in mesh.around(gone):
            continue
        now = mesh.cost(gone, onto)
        if now > cost * 1.000001:  # its surroundings changed since it was put in
            heapq.heappush(heap, (now, gone, onto))
            continue
        if mesh.allowed(gone, onto):
            mesh.collapse(gone, onto)
            alive -= 1
            for a in mesh.around(onto):
                heapq.heappush(heap, (mesh.cost(a, onto), a, onto))
                heapq.heappush(heap, (mesh.cost(onto, a), onto, a))
    left = np.array(sorted({tuple(mesh.faces[f]) for fs in mesh.faces_of for f in fs}))
    kept = np.unique(left)
    return np.searchsorted(kept, left), kept


def boundary_loops(faces: Int[Array, "f 3"]) -> list[list[int]]:
    """The mesh's open borders, each as a ring of vertices in the direction of its faces' edges."""
    edges = {(int(a), int(b)) for f in faces for a, b in zip(f, np.roll(f, -1), strict=True)}
    onward = {a: b for a, b in edges if (b, a) not in edges}
    loops = []
    while onward:
        start, at = onward.popitem()
        loop = [start]
        while at != start:
            loop.append(at)
            at = onward.pop(at)
        loops.append(loop)
    return loops


class _Mesh:
    """Connectivity and quadrics while edges collapse."""

    def __init__(self, vertices: Float[Array, "v 3"], faces: Int[Array, "f 3"]) -> None:
        self.points = vertices
        self.faces = [list(map(int, f)) for f in faces]
        self.faces_of: list[set[int]] = [set() for _ in vertices]
        self.quadrics = np.zeros((len(vertices), 4, 4))
        for index, face in enumerate(self.faces):
            normal = self._normal(face)
            plane = np.append(normal, -normal @ vertices[face[0]])
            for v in face:
                self.faces_of[v].add(index)
                self.quadrics[v] += np.outer(plane, plane)

    def _normal(self, face: list[int]) -> Float[Array, "3"]:
        a, b, c = self.points[face]
        n = np.cross(b - a, c - a)
        return n / max(float(np.linalg.norm(n)), 1e-12)

    def around(self, vertex: int) -> set[int]:
        return {v for f in self.faces_of[vertex] for v in self.faces[f]} - {vertex}

    def cost(self, gone: int, onto: int) -> float:
        point = np.append(self.points[onto], 1.0)
        error = point @ (self.quadrics[gone] + self.quadrics[onto]) @ point
        length = self.points[gone] - self.points[onto]
        return float(error + _FLAT * length @ length)

    def allowed(self, gone: int, onto: int) -> bool:
        """No fold, no face twice, no non-manifold edge."""
        if len(self.around(gone) & self.around(onto)) != len(
            self.faces_of[gone] & self.faces_of[onto]
        ):
            return False
        for index in self.faces_of[gone] - self.faces_of[onto]:
            face = self.faces[index]
            moved = [onto if v == gone else v for v in face]
            if self._normal(face) @ self._normal(moved) < _TURNED:
                return False
        return True

    def collapse(self, gone: int, onto: int) -> None:
        for index in list(self.faces_of[gone]):
            face = self.faces[index]
            if onto in face:
                for v in face:
                    self.faces_of[v].discard(index)
            else:
                face[face.index(gone)] = onto
                self.faces_of[onto].add(index)
        self.faces_of[gone] = set()
        self.quadrics[onto] += self.quadrics[gone]
