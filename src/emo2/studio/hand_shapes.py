"""Hands as an animator names them: where the palm looks, how the fingers lie; and as MANO's quaternions.

Poses are written once for both hands: "out" points away from the body's middle, y down, z to the camera.  At
identity a hand lies flat with the fingers out, the palm down and the thumb to the camera (facts of MANO's
template, reflected into the picture's frame).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float

FINGERS: tuple[str, ...] = ("index", "middle", "ring", "pinky", "thumb", "opposition", "spread")
"""Curl of four fingers and the thumb (0 straight, 1 fist), thumb against the palm, fingers apart."""

_MANO_FIRST_JOINT = {"index": 1, "middle": 4, "pinky": 7, "ring": 10, "thumb": 13}
_BEND = {"index": (1.15, 1.5, 0.9), "thumb": (0.25, 0.5, 0.75)}
_SIDE_SIGN = np.array((1.0, -1.0))  # left, right: image x of "out"

Rows = Float[np.ndarray, "frames 3"]
Quaternions = Float[np.ndarray, "*frames 4"]


@dataclass(frozen=True, kw_only=True)
class HandPose:
    """A hand in the frame of design §3, with x read as "out"."""

    wrist: tuple[float, float, float]
    """Metres."""
    fingers: tuple[float, float, float]
    """Direction of the straight fingers."""
    palm: tuple[float, float, float]
    """Where the palm looks (made square to the fingers)."""
    shape: tuple[float, ...]
    """In the order of `FINGERS`."""

    def moved(self, out: float, down: float, near: float) -> HandPose:
        """The same hand elsewhere, metres."""
        x, y, z = self.wrist
        return replace(self, wrist=(x + out, y + down, z + near))


SHAPES: dict[str, tuple[float, ...]] = {
    "flat": (0.05, 0.05, 0.06, 0.08, 0.1, 0.1, 0.15),
    "open": (0.12, 0.16, 0.22, 0.28, 0.1, 0.05, 0.55),
    "relaxed": (0.26, 0.34, 0.42, 0.46, 0.25, 0.2, 0.2),
    "cupped": (0.38, 0.42, 0.46, 0.5, 0.3, 0.35, 0.2),
    "point": (0.04, 0.72, 0.82, 0.86, 0.6, 0.5, 0.05),
    "pinch": (0.5, 0.42, 0.36, 0.34, 0.45, 0.75, 0.25),
    "loose fist": (0.7, 0.76, 0.8, 0.82, 0.6, 0.5, 0.0),
    "wide": (0.02, 0.03, 0.05, 0.08, 0.0, 0.0, 1.0),
    "two": (0.05, 0.08, 0.8, 0.85, 0.7, 0.7, 0.5),
}

REST_POSES: dict[str, HandPose] = {
    "hanging": HandPose(
        wrist=(0.25, 0.50, 0.02), fingers=(0.08, 0.97, 0.12), palm=(-0.85, 0.05, -0.45),
        shape=SHAPES["relaxed"],
    ),
    "folded": HandPose(
        wrist=(0.115, 0.37, 0.20), fingers=(-0.93, 0.18, 0.15), palm=(0.1, 0.55, -0.8),
        shape=SHAPES["cupped"],
    ),
    "offering": HandPose(
        wrist=(0.225, 0.25, 0.20), fingers=(0.82, -0.05, 0.55), palm=(-0.3, -0.45, 0.85),
        shape=SHAPES["open"],
    ),
    "framing": HandPose(
        wrist=(0.235, 0.27, 0.21), fingers=(0.5, -0.05, 0.86), palm=(-0.85, -0.1, 0.45),
        shape=SHAPES["cupped"],
    ),
    "resting": HandPose(
        wrist=(0.17, 0.40, 0.22), fingers=(-0.35, 0.1, 0.9), palm=(-0.2, 0.97, 0.0),
        shape=SHAPES["relaxed"],
    ),
    "clasped high": HandPose(
        wrist=(0.105, 0.27, 0.24), fingers=(-0.82, -0.3, 0.45), palm=(-0.35, 0.0, -0.8),
        shape=SHAPES["cupped"],
    ),
}  # fmt: skip
"""Where hands are before, between and after gestures."""

JOINED = frozenset(("folded", "clasped high"))
"""Rest poses in which the hands touch; one lies a little before the other."""


def _unit(v: np.ndarray) -> np.ndarray:
    return v / np.maximum(np.linalg.norm(v, axis=-1, keepdims=True), 1e-9)


def _rest_axes(side: int) -> Float[np.ndarray, "3 3"]:
    """Columns: finger direction, palm direction, thumb direction of the identity hand."""
    return np.array(((_SIDE_SIGN[side], 0, 0), (0, 1, 0), (0, 0, 1)), float).T


def orientation(pose: HandPose, side: int) -> Float[np.ndarray, " 4"]:
    """The wrist's quaternion of a pose for one side (0 left, 1 right)."""
    mirror = np.array((_SIDE_SIGN[side], 1.0, 1.0))
    fingers = _unit(np.array(pose.fingers) * mirror)
    palm = np.array(pose.palm) * mirror
    palm = _unit(palm - fingers * (palm @ fingers))
    rest = _rest_axes(side)
    # The thumb completes the frame with the handedness the resting hand has.
    hand = np.linalg.det(rest)
    target = np.stack((fingers, palm, hand * np.cross(fingers, palm)), -1)
    return near_reference(_from_matrix(target @ rest.T), side)


def _from_matrix(m: Float[np.ndarray, "3 3"]) -> Float[np.ndarray, " 4"]:
    """Quaternion of a rotation: the eigenvector of Bar-Itzhack's (2000) symmetric matrix."""
    k = np.array(
        (
            (m[0, 0] + m[1, 1] + m[2, 2], 0, 0, 0),
            (m[2, 1] - m[1, 2], m[0, 0] - m[1, 1] - m[2, 2], 0, 0),
            (m[0, 2] - m[2, 0], m[0, 1] + m[1, 0], m[1, 1] - m[0, 0] - m[2, 2], 0),
            (m[1, 0] - m[0, 1], m[0, 2] + m[2, 0], m[1, 2] + m[2, 1], m[2, 2] - m[0, 0] - m[1, 1]),
        )
    )
    _, vectors = np.linalg.eigh(k)
    return vectors[:, -1]


def near_reference(q: Quaternions, side: int) -> Quaternions:
    """Of q and -q the one on the same side as the "framing" hand, so that numbers never jump."""
    return np.where((q @ _reference(side))[..., None] < 0, -q, q)


def _reference(side: int) -> Float[np.ndarray, " 4"]:
    """The middle of what wrists do: fingers forward, palm inward; scalar part positive."""
    half = np.sqrt(0.5)
    turn = np.array((half, 0.0, -half * _SIDE_SIGN[side], 0.0))  # out -> to the camera
    roll = np.array((half, half, 0.0, 0.0))
    return multiply(turn, roll)


def multiply(a: Quaternions, b: Quaternions) -> Quaternions:
    """Hamilton product: first b, then a."""
    aw, ax, ay, az = np.moveaxis(a, -1, 0)
    bw, bx, by, bz = np.moveaxis(b, -1, 0)
    return np.stack(
        (
            aw * bw - ax * bx - ay * by - az * bz,
            aw * bx + ax * bw + ay * bz - az * by,
            aw * by - ax * bz + ay * bw + az * bx,
            aw * bz + ax * by - ay * bx + az * bw,
        ),
        -1,
    )


def turn_about(axis: np.ndarray, angle: np.ndarray) -> Quaternions:
    """Quaternions about a fixed axis by angles in radians."""
    half = 0.5 * np.asarray(angle)[..., None]
    return np.concatenate((np.cos(half), np.sin(half) * _unit(axis)), -1)


def finger_quaternions(
    shape: Float[np.ndarray, "frames 7"], side: int
) -> Float[np.ndarray, "frames 15 4"]:
    """Local rotations of MANO's joints 1..15 for finger amounts in the order of `FINGERS`."""
    fingers, palm, thumb = _rest_axes(side).T
    amounts = dict(zip(FINGERS, shape.T, strict=True))
    joints = np.zeros((len(shape), 15, 4))
    joints[..., 0] = 1
    fan = {"index": 0.17, "middle": 0.02, "ring": -0.12, "pinky": -0.28}
    for name, share in fan.items():
        first = _MANO_FIRST_JOINT[name] - 1
        for j, bend in enumerate(_BEND["index"]):
            joints[:, first + j] = turn_about(np.cross(fingers, palm), bend * amounts[name])
        apart = turn_about(np.cross(fingers, thumb), share * amounts["spread"])
        joints[:, first] = multiply(apart, joints[:, first])
    along = _unit(fingers + thumb)
    across = _unit(0.75 * (fingers - thumb) + 0.45 * palm)
    first = _MANO_FIRST_JOINT["thumb"] - 1
    for j, bend in enumerate(_BEND["thumb"]):
        joints[:, first + j] = turn_about(np.cross(along, across), bend * amounts["thumb"])
    opposed = turn_about(np.cross(thumb, palm), 0.75 * amounts["opposition"])
    abducted = turn_about(np.cross(fingers, thumb), 0.2 * amounts["spread"])
    joints[:, first] = multiply(multiply(opposed, abducted), joints[:, first])
    return joints
