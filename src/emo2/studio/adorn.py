"""What people have on their faces: glasses, beards, make-up, all made here from the face's own points.

Painted layers are copies of the skin's triangles a little outside of it, whose texture coordinates say how thickly a
vertex is covered and how far out the layer lies; the shader makes hair or colour of that.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float
from numpy import ndarray
from numpy.random import Generator
from scipy import sparse

from emo2.studio.assets import NUM_BASE, Mesh, base_mesh
from emo2.studio.colours import HAIR_COLOURS
from emo2.studio.landmarks import face_vertices
from emo2.studio.material import Material
from emo2.studio.people import BONES, NUM_BODY, Piece, Shape, anatomy
from emo2.studio.segments import mouth_regions, vertex_directions

_EYEBALLS = (slice(14598, 14670), slice(14670, 14742))
BEARDS = {
    "stubble": (0.0, 1), "moustache": (0.006, 4), "goatee": (0.008, 4), "short beard": (0.006, 4),
    "full beard": (0.018, 7),
}  # fmt: skip
"""Length in metres and number of layers."""
_THIN, _THICK = 0.06, 0.5
"""Coverage from which on a triangle is drawn, and from which on it hides the skin in the labels."""


@dataclass(frozen=True, kw_only=True)
class Face:
    """What the layers are measured on."""

    base: Float[ndarray, "v 3"]
    points: Float[ndarray, "68 3"]
    outwards: Float[ndarray, "v 3"]
    """Unit normals."""
    lips: Bool[ndarray, " v"]
    mouth: Bool[ndarray, " v"]

    @classmethod
    def of(cls, shape: Shape) -> Face:
        """The face of a resting body."""
        upper, lower, mouth = mouth_regions()
        return cls(
            base=shape.base, points=shape.base[list(face_vertices())],
            outwards=vertex_directions(shape.base, base_mesh().groups["body"].faces),
            lips=upper | lower, mouth=mouth,
        )  # fmt: skip

    @property
    def width(self) -> float:
        """Half, at the jaw, metres."""
        return float(np.abs(self.points[[2, 14], 0]).mean())


def adornments(rng: Generator, shape: Shape, facts: dict[str, float]) -> list[Piece]:
    """Pieces to be added to a person of that gender and age (anny's scales)."""
    gender, age = facts["gender"], facts["age"]
    face, pieces = Face.of(shape), []
    colour = HAIR_COLOURS[rng.integers(len(HAIR_COLOURS) - (0 if age > 0.75 else 2))]
    if gender > 0.55 and age > 0.55 and rng.random() < 0.45:
        pieces += beard(rng, face, str(rng.choice(list(BEARDS))), 0.7 * colour)
    if age > 0.5 and rng.random() < (0.35 if gender < 0.45 else 0.03):
        pieces += make_up(rng, face)
    if rng.random() < (0.28 if age > 0.85 else 0.14):
        pieces += glasses(rng, face)
    return pieces


# ---------------------------------------------------------------------------------------------- layers


def layer(
    face: Face,
    cover: Float[ndarray, " v"],
    out_m: float,
    material: Material,
    *,
    is_sharp: bool = False,
) -> Piece:
    """The skin where `cover` is not nothing, `out_m` further out where it is thickest.

    A sharp layer ends with the last triangle that is covered at all three corners.
    """
    mesh = base_mesh().groups["body"]
    least = _THICK if material.is_solid else _THIN
    covered = cover[mesh.faces]
    faces = mesh.faces[(covered.min(1) if is_sharp else covered.max(1)) > least]
    used, inverse = np.unique(faces, return_inverse=True)
    corners = inverse.reshape(-1, 3)
    level = np.full(len(used), material.level, np.float32)
    ones = np.ones(len(used), np.float32)
    places = sparse.csr_matrix((ones, (np.arange(len(used)), used)), (len(used), NUM_BASE))
    lift = 0.0004 + out_m * np.sqrt(np.clip(cover[used], 0, 1))
    return Piece(
        mesh=Mesh(faces=corners, face_uv=corners, uv=np.stack([cover[used], level], 1)),
        material=material,
        places=places,
        offsets=(lift[:, None] * face.outwards[used]).astype(np.float32),
    )


def _rise(values: ndarray, soft: float) -> ndarray:
    """0 below zero, 1 above, over twice `soft`."""
    return np.clip(0.5 + values / (2 * soft), 0, 1)


def _skin_near(face: Face) -> Float[ndarray, " v"]:
    """1 on the face's outside, 0 on lips, in the mouth and on helpers."""
    found = np.zeros(len(face.base), np.float32)
    found[:NUM_BODY] = 1
    found[face.lips | face.mouth] = 0
    return found


# ---------------------------------------------------------------------------------------------- beards


def beard_cover(face: Face, style: str) -> Float[ndarray, " v"]:
    """How thickly each base vertex is grown over."""
    x, y, z = face.base.T
    points, w = face.points, face.width
    across = np.abs(x - points[33, 0]) / w
    chin, corner, nose = points[8], points[48:60:6].mean(0), points[33]
    edge = abs(float(points[54, 0] - points[33, 0])) / w
    lip = (
        _rise(nose[1] - 0.002 - y, 0.002)
        * _rise(y - corner[1] + 0.004, 0.004)
        * _rise(1.25 * edge - across, 0.08)
    )
    below = _rise(corner[1] - 0.004 - y, 0.004) * _rise(y - chin[1] + 0.022, 0.01)
    front = _rise(z - points[[1, 15], 2].mean() + 0.012, 0.008)
    if style == "moustache":
        cover = lip
    elif style == "goatee":
        cover = np.maximum(lip, below * _rise(1.15 * edge - across, 0.1))
    else:
        # From the corners of the mouth down over the cheek, and up again to the ears.
        top = np.interp(
            across, [0.0, edge, 0.75, 0.95], [corner[1], corner[1], corner[1] - 0.006, points[1, 1]]
        )
        cheeks = _rise(top - y, 0.006) * _rise(y - chin[1] + 0.022, 0.01)
        cover = np.maximum(lip, cheeks)
    near = _rise(0.05 - np.maximum(nose[2] - 0.1 - z, 0), 0.01)
    return (cover * front * near * _skin_near(face)).astype(np.float32)


def beard(rng: Generator, face: Face, style: str, colour: ndarray) -> list[Piece]:
    """A beard as layers of hair; one of them, where it is thick, hides the skin in the labels."""
    cover = beard_cover(face, style)
    length, count = BEARDS[style]
    length *= rng.uniform(0.7, 1.2)
    red, green, blue = (float(v) for v in colour * rng.uniform(0.6, 1.2))
    hair = Material(
        kind="beard", tint=(red, green, blue), gloss=0.15, segment="beard", is_solid=False,
        cover=float(rng.uniform(0.3, 0.6) if style == "stubble" else rng.uniform(0.85, 1.0)),
    )  # fmt: skip
    layers = []
    for k in range(count):
        level = k / count
        layers.append(layer(face, cover, level * length, replace(hair, level=level)))
    if count > 1:
        solid = replace(hair, is_solid=True, level=0.3)
        layers.append(layer(face, cover, 0.3 * length, solid))
    return [replace(piece, name=style) for piece in layers]


# ---------------------------------------------------------------------------------------------- make-up


def make_up(rng: Generator, face: Face) -> list[Piece]:
    """Lips, lids and cheeks in colour, each sometimes."""
    pieces = []
    bold = rng.random() < 0.15
    if rng.random() < 0.85:
        tint = (
            rng.random(3) ** 2
            if bold
            else np.array([rng.uniform(0.25, 0.7), *rng.uniform(0.02, 0.22, 2)])
        )
        cover = (face.lips & ~face.mouth).astype(np.float32)
        lips = _paint(rng, tint, (0.35, 0.9))
        pieces.append(layer(face, cover, 0.0, lips, is_sharp=True))
    if rng.random() < 0.6:
        tint = rng.random(3) ** 2 if bold else np.array([0.2, 0.12, 0.1]) * rng.uniform(0.3, 2.0, 3)
        pieces.append(layer(face, _lids(face), 0.0, _paint(rng, tint, (0.25, 0.75))))
    if rng.random() < 0.4:
        blush = _paint(rng, np.array([0.65, 0.2, 0.18]), (0.1, 0.4))
        pieces.append(layer(face, _cheeks(face), 0.0, blush))
    return [replace(piece, name="make-up") for piece in pieces]


def _paint(rng: Generator, tint: ndarray, covers: tuple[float, float]) -> Material:
    red, green, blue = (float(v) for v in tint)
    return Material(
        kind="paint", tint=(red, green, blue), gloss=float(rng.uniform(0.1, 0.8)),
        is_solid=False, cover=float(rng.uniform(*covers)),
    )  # fmt: skip


def _spot(face: Face, centre: ndarray, half: tuple[float, float]) -> Float[ndarray, " v"]:
    x, y = (face.base[:, :2] - centre[:2]).T / np.array(half)[:, None]
    near = np.abs(face.base[:, 2] - centre[2]) < 0.05
    return (np.exp(-(x**2) - y**2) * near * _skin_near(face)).astype(np.float32)


def _lids(face: Face) -> Float[ndarray, " v"]:
    spots = []
    for eye, brow in ((slice(36, 42), slice(17, 22)), (slice(42, 48), slice(22, 27))):
        lids, top = face.points[eye], face.points[brow].mean(0)
        centre = 0.7 * lids.mean(0) + 0.3 * top
        half = 0.62 * float(np.ptp(lids[:, 0])), 0.42 * float(top[1] - lids[:, 1].mean())
        spots.append(_spot(face, centre, half))
    return np.maximum(*spots)


def _cheeks(face: Face) -> Float[ndarray, " v"]:
    spots = []
    for jaw, eye in ((2, slice(36, 42)), (14, slice(42, 48))):
        centre = 0.45 * face.points[jaw] + 0.55 * face.points[eye].mean(0)
        centre[1] = face.points[30, 1]
        spots.append(_spot(face, centre, (0.017, 0.013)))
    return np.maximum(*spots)


# ---------------------------------------------------------------------------------------------- glasses


def glasses(rng: Generator, face: Face) -> list[Piece]:
    """Rims, a bridge, sides to the ears, and clear or dark lenses, all rigid on the skull."""
    eyes = np.stack([face.base[ball].mean(0) for ball in _EYEBALLS])
    apart = float(eyes[0, 0] - eyes[1, 0])
    half = np.array([rng.uniform(0.36, 0.43), 0.0]) * apart
    half[1] = half[0] * rng.uniform(0.55, 1.0)
    power = rng.choice([2.0, rng.uniform(2.0, 4.5)])
    thick = float(rng.choice([0.0008, rng.uniform(0.0013, 0.0032)], p=[0.35, 0.65]))
    front = max(float(eyes[:, 2].mean()) + 0.027, float(face.points[17:27, 2].max()) + 0.003)
    angle = np.linspace(0, 2 * np.pi, 28, endpoint=False)
    circle = np.stack([np.cos(angle), np.sin(angle)])
    ring = (np.sign(circle) * np.abs(circle) ** (2 / power)).T * half
    rims, tubes, lenses = [], [], []
    for eye, sign in zip(eyes, (1, -1), strict=True):
        centre = np.array([eye[0] * 1.03, eye[1] - 0.003, front])
        rim = np.column_stack([ring * [sign, 1], np.zeros(len(ring))]) + centre
        rim[:, 2] -= 1.8 * (rim[:, 0] - face.points[27, 0]) ** 2  # bent around the face
        rims.append(rim)
        tubes.append(_tube(rim, thick, is_closed=True))
        lenses.append((np.concatenate([rim, rim.mean(0, keepdims=True)]), _fan(len(rim))))
        ear = face.points[15 if sign > 0 else 1].copy()
        ear[1] = eye[1] + 0.004
        hinge = rim[np.argmax(rim[:, 0] * sign + 0.6 * rim[:, 1])]
        out = np.array([sign * 0.004, 0.0, 0.0])
        middle = 0.5 * (hinge + ear) + 2 * out
        tubes.append(
            _tube(
                np.stack([hinge, hinge + out, middle, ear + 2 * out, ear + out - [0, 0, 0.02]]),
                thick,
            )
        )
    inner = [rim[np.argmin(np.abs(rim[:, 0]) - 0.3 * rim[:, 1])] for rim in rims]
    over = np.mean(inner, 0) + np.array([0, 0.003, 0.002])
    tubes.append(_tube(np.stack([inner[0], over, inner[1]]), thick))
    is_dark = rng.random() < 0.1
    shade = rng.choice([rng.uniform(0.01, 0.05), rng.uniform(0.2, 0.5)], p=[0.7, 0.3])
    frame = np.clip(shade * rng.uniform(0.6, 1.4, 3), 0, 1)
    name = "dark glasses" if is_dark else "glasses"
    return [
        _rigid(face, _joined(tubes), Material(kind="glasses", tint=tuple(frame.tolist()), gloss=0.9), name),  # type: ignore[arg-type]
        _rigid(
            face, _joined(lenses),
            Material(kind="lens", tint=(0.02, 0.02, 0.025) if is_dark else (0.5, 0.52, 0.54), gloss=1.0,
                     is_solid=is_dark, cover=0.94 if is_dark else float(rng.uniform(0.03, 0.12)),
                     segment="glasses"), name,
        ),
    ]  # fmt: skip


_Mesh = tuple[ndarray, ndarray]
"""Points, triangles."""


def _tube(path: ndarray, radius: float, *, is_closed: bool = False) -> _Mesh:
    """A tube of four sides along a path."""
    along = np.roll(path, -1, 0) - np.roll(path, 1, 0) if is_closed else np.gradient(path, axis=0)
    along /= np.maximum(np.linalg.norm(along, axis=1, keepdims=True), 1e-9)
    first = np.cross(along, [0.13, 0.2, 1.0])
    first /= np.linalg.norm(first, axis=1, keepdims=True)
    second = np.cross(along, first)
    rings = np.stack([first, second, -first, -second], 1) * radius + path[:, None]
    count, faces = len(path), []
    for k in range(count if is_closed else count - 1):
        for j in range(4):
            a, b = 4 * k + j, 4 * k + (j + 1) % 4
            c, d = (a + 4) % (4 * count), (b + 4) % (4 * count)
            faces += [(a, b, c), (b, d, c)]
    return rings.reshape(-1, 3), np.array(faces)


def _fan(count: int) -> ndarray:
    """Triangles from the last point to a ring of `count`."""
    return np.array([(count, k, (k + 1) % count) for k in range(count)])


def _joined(meshes: list[_Mesh]) -> _Mesh:
    starts = np.cumsum([0, *(len(points) for points, _ in meshes)])
    faces = [faces + start for (_, faces), start in zip(meshes, starts, strict=False)]
    return np.concatenate([points for points, _ in meshes]), np.concatenate(faces)


def _rigid(face: Face, mesh: _Mesh, material: Material, name: str) -> Piece:
    """A mesh that goes with the skull: every vertex hangs on one that no face action moves."""
    points, faces = mesh
    body = anatomy()
    is_skull = body.weights[:NUM_BODY, BONES.index("head")].toarray().ravel() > 0.999
    is_still = np.diff(body.actions.indptr)[:NUM_BODY] == 0
    candidates = np.flatnonzero(is_skull & is_still)
    anchor = candidates[face.base[candidates, 1].argmax()]
    columns = np.full(len(points), anchor)
    ones = np.ones(len(points), np.float32)
    return Piece(
        mesh=Mesh(faces=faces, face_uv=np.zeros_like(faces), uv=np.zeros((1, 2), np.float32)),
        material=material,
        places=sparse.csr_matrix(
            (ones, (np.arange(len(points)), columns)), (len(points), NUM_BASE)
        ),
        offsets=(points - face.base[anchor]).astype(np.float32),
        name=name,
    )
