"""Between the 67 numbers of a hand (`Motion.hands`) and the bones of the studio's bodies, exactly, both ways.

The picture frame of the numbers is the studio's world with y turned over.  At zero pose a hand has its fingers
outwards and straight, its palm down and its thumb to the camera (MANO's template, reflected into the picture);
a body's resting hand lies otherwise and has its fingers a little bent, which `HandRig` accounts for.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from jaxtyping import Float
from numpy import ndarray
from scipy.spatial.transform import Rotation

SHOULDER_WIDTH_M = 0.36
"""Shoulder width of the numbers' frame (design §3)."""

_FINGERS = (2, 3, 5, 4, 1)
"""MakeHuman's finger numbers in MANO's order: index, middle, little, ring, thumb."""

Heads = dict[str, Float[ndarray, "3"]]


def finger_bones(side: str) -> list[str]:
    """The 15 finger bones in MANO's order."""
    return [f"finger{k}-{j}.{side}" for k in _FINGERS for j in (1, 2, 3)]


@dataclass(frozen=True, kw_only=True)
class HandRig:
    """How one resting hand lies against the zero pose of the numbers."""

    side: str
    """L or R."""
    to_zero: Float[ndarray, "3 3"]
    """Carries the resting hand's axes to those of the zero pose (world frame)."""
    bent: Float[ndarray, "15 3 3"]
    """Rotation of each resting phalanx against the straight finger, in the zero pose's axes."""
    axes: Float[ndarray, "3 3"]
    """Columns: fingers, palm and thumb direction of the resting hand."""


def hand_rig(heads: Heads, tails: Heads, side: str) -> HandRig:
    """The rig of a resting hand."""
    wrist, middle = heads[f"wrist.{side}"], heads[f"finger3-1.{side}"]
    index, little = heads[f"finger2-1.{side}"], heads[f"finger5-1.{side}"]
    sign = 1.0 if side == "R" else -1.0
    fingers = _unit(middle - wrist)
    thumb = index - little
    thumb = _unit(thumb - fingers * (thumb @ fingers))
    palm = -sign * np.cross(fingers, thumb)
    axes = np.stack([fingers, palm, thumb], 1)
    zero = np.diag([-sign, -1.0, 1.0])
    to_zero = zero @ axes.T
    bent = []
    for k in _FINGERS:
        points = [heads[f"finger{k}-{j}.{side}"] for j in (1, 2, 3)] + [
            tails[f"finger{k}-3.{side}"]
        ]
        goal = to_zero @ (points[2] - points[0])
        straight = _unit(goal if k == 1 else goal * [1, 0, 1])
        bent += [_between(straight, _unit(to_zero @ (b - a))) for a, b in pairwise(points)]
    return HandRig(side=side, to_zero=to_zero, bent=np.stack(bent), axes=axes)


def bone_turns(
    rig: HandRig, numbers: Float[ndarray, "67"]
) -> tuple[Float[ndarray, "3 3"], Float[ndarray, "15 3 3"]]:
    """World rotations, from rest, of the wrist and of the finger bones (MANO's order)."""
    local = _matrices(numbers)
    chains = _chains(local)
    wrist = local[0] @ rig.to_zero
    return wrist, chains @ np.swapaxes(rig.bent, 1, 2) @ rig.to_zero


def numbers_of(
    rig: HandRig,
    wrist: Float[ndarray, "3 3"],
    fingers: Float[ndarray, "15 3 3"],
    place: Float[ndarray, "3"],
) -> Float[ndarray, "67"]:
    """The inverse of `bone_turns`; `place` is the wrist in the numbers' frame."""
    local = np.empty((16, 3, 3))
    local[0] = wrist @ rig.to_zero.T
    chains = fingers @ rig.to_zero.T @ rig.bent
    for k in range(15):
        before = local[0] if k % 3 == 0 else chains[k - 1]
        local[k + 1] = before.T @ chains[k]
    quaternions = Rotation.from_matrix(_mirrored(local)).as_quat(canonical=True, scalar_first=True)
    return np.concatenate([quaternions.ravel(), place]).astype(np.float32)


def _matrices(numbers: ndarray) -> ndarray:
    """World rotations of the 16 joints, each against its parent."""
    quaternions = np.asarray(numbers[:64], np.float64).reshape(16, 4)
    return _mirrored(Rotation.from_quat(quaternions, scalar_first=True).as_matrix())


def _mirrored(rotations: ndarray) -> ndarray:
    """F R F with F = diag(1, -1, 1): world to picture frame and back."""
    signs = np.array([1.0, -1.0, 1.0])
    return rotations * signs[:, None] * signs


def _chains(local: ndarray) -> ndarray:
    chains = np.empty((15, 3, 3))
    for k in range(15):
        before = local[0] if k % 3 == 0 else chains[k - 1]
        chains[k] = before @ local[k + 1]
    return chains


def _unit(vector: ndarray) -> ndarray:
    return vector / max(float(np.linalg.norm(vector)), 1e-9)


def _between(a: ndarray, b: ndarray) -> ndarray:
    axis = np.cross(a, b)
    sine = np.linalg.norm(axis)
    if sine < 1e-8:
        return np.eye(3)
    return Rotation.from_rotvec(axis / sine * np.arctan2(sine, a @ b)).as_matrix()
