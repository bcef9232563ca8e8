"""Which named segment of a person every triangle belongs to: skin by limb, lips, mouth, eyes, hair, cloth.

Segments follow the mesh: a triangle is of one segment, so that labels are exact to the pixel and borders as fine as
MakeHuman's loops of edges, which run along the rim of the lips.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from jaxtyping import Bool, Float, UInt8
from numpy import ndarray
from scipy import sparse
from scipy.sparse.csgraph import connected_components

from emo2.studio.assets import base_mesh
from emo2.studio.landmarks import face_vertices
from emo2.studio.material import Material
from emo2.studio.people import NUM_BODY, PART_NAMES, Person
from emo2.studio.plain import inside

SEGMENT_NAMES = (
    "background", "head", "torso", "left_arm", "left_hand", "right_arm", "right_hand",
    "upper_lip", "lower_lip", "mouth", "teeth", "tongue", "left_eye", "right_eye", "brows", "lashes",
    "hair", "beard", "clothes", "glasses",
)  # fmt: skip
"""`head` to `right_hand` are bare skin; `mouth` is the skin behind the lips."""

_OF_PART = {
    "torso": "torso", "head": "head", "left_upper_arm": "left_arm", "left_forearm": "left_arm",
    "left_hand": "left_hand", "right_upper_arm": "right_arm", "right_forearm": "right_arm",
    "right_hand": "right_hand",
}  # fmt: skip
_OF_KIND = {
    "hair": "hair", "eyebrows": "brows", "eyelashes": "lashes", "teeth": "teeth", "tongue": "tongue",
    "clothes": "clothes", "beard": "beard", "glasses": "glasses",
    "lens": "glasses", "paint": "head",
}  # fmt: skip
_LIP_DEPTH_M, _TURNED_IN = 0.02, -0.3
"""Lips end so far behind their front, and where the surface faces inwards by so much."""


def segments_of(person: Person) -> UInt8[ndarray, " triangles"]:
    """Index into `SEGMENT_NAMES` of every triangle: what most of its corners are of; lips end where skin begins."""
    found = np.zeros(len(person.corners), np.uint8)
    for material, first, count in person.draws:
        drawn = np.unique(person.triangles[first : first + count])
        found[drawn] = _segment(person, material, drawn)
    upper, lower, mouth = mouth_regions()
    base = person.corners[person.corners < len(person.body_vertices)]  # the body comes first
    number = person.body_vertices[base]
    skin = found[: len(base)]
    for name, region in (("upper_lip", upper), ("lower_lip", lower), ("mouth", mouth)):
        skin[region[number]] = SEGMENT_NAMES.index(name)
    a, b, c = found[person.triangles].T
    most = np.where(b == c, b, a)
    head = SEGMENT_NAMES.index("head")
    return np.where((a == head) | (b == head) | (c == head), head, most).astype(np.uint8)


def _segment(person: Person, material: Material, drawn: ndarray) -> ndarray | int:
    if material.segment:
        return SEGMENT_NAMES.index(material.segment)
    if material.kind in _OF_KIND:
        return SEGMENT_NAMES.index(_OF_KIND[material.kind])
    if material.kind == "eyes":
        is_left = person.rest[person.corners[drawn], 0] > 0
        left, right = (SEGMENT_NAMES.index(f"{side}_eye") for side in ("left", "right"))
        return np.where(is_left, left, right)
    table = np.array(
        [0, *(SEGMENT_NAMES.index(_OF_PART[name]) for name in PART_NAMES[1:])], np.uint8
    )
    return table[person.parts[person.corners[drawn]]]


@lru_cache(maxsize=1)
def mouth_regions() -> tuple[Bool[ndarray, " v"], Bool[ndarray, " v"], Bool[ndarray, " v"]]:
    """Base vertices of the upper lip, the lower lip, and the skin inside the mouth."""
    mesh = base_mesh()
    rest, faces = mesh.rest * 0.1, mesh.groups["body"].faces  # decimetres
    points = rest[list(face_vertices())]
    ring = inside(rest, points[48:60]) & (rest[:, 2] > points[48:, 2].mean() - _LIP_DEPTH_M)
    is_out = vertex_directions(rest, faces)[:, 2] > _TURNED_IN
    upper = rest[:, 1] > points[62, 1] - 1e-4  # the lips of the unshaped mesh touch in one line
    mouth = _behind(faces, ring) | (ring & ~is_out)
    return ring & is_out & upper, ring & is_out & ~upper, mouth


def _behind(faces: ndarray, ring: ndarray) -> Bool[ndarray, " v"]:
    """What the ring of lips cuts off from the rest of the body's skin: the mouth's lining."""
    edges = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]]])
    edges = edges[~ring[edges].any(1)]
    count = len(ring)
    links = sparse.coo_matrix((np.ones(len(edges)), (edges[:, 0], edges[:, 1])), (count, count))
    _, label = connected_components(links, directed=False)
    skin = np.unique(label[:NUM_BODY][~ring[:NUM_BODY]], return_counts=True)
    lining = skin[0][np.argsort(skin[1])[-2]]  # the largest piece is the body itself
    return label == lining


def vertex_directions(points: Float[ndarray, "v 3"], faces: ndarray) -> Float[ndarray, "v 3"]:
    """Unit normals of vertices; 0 where no face is."""
    a, b, c = (points[faces[:, k]] for k in range(3))
    flat = np.cross(b - a, c - a)
    total = np.zeros_like(points)
    for k in range(3):
        np.add.at(total, faces[:, k], flat)
    return total / np.maximum(np.linalg.norm(total, axis=1, keepdims=True), 1e-12)
