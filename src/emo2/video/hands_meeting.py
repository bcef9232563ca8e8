"""Two hands that come near each other: clasped in the photo they move as one, apart in the photo they stay apart.

Part of the arm layers (design §6).  Layers know nothing of depth between two hands, so hands that the photo shows apart
come together softly, and never so far that palms would change places.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Float32

from emo2.video.layer_masks import Limb

_SHARED, _DEEP = 0.1, 0.06
"""Share of the smaller hand, and depth in shoulder widths, from which hands that overlap are one (hulls of their points:
clasped hands of photos share .5 and more, fingertips that meet nothing)."""
_PASS = 0.35
"""Shoulder widths by which one hand may come over the other: most of a hand, as in a folding of hands."""


def clasped(limbs: Sequence[Limb]) -> bool:
    """Whether the hands lie over each other, so that neither is whole; fingertips that meet do not count."""
    first, second = (cv2.convexHull(limb.hand) for limb in limbs)
    shared = cv2.intersectConvexConvex(first, second)[0]
    if shared > _SHARED * min(cv2.contourArea(first), cv2.contourArea(second)):
        return True
    return -_gap(limbs)[0] > _DEEP * limbs[0].unit


@dataclass(frozen=True, kw_only=True)
class Meeting:
    """How far two hands may come towards each other."""

    sides: tuple[int, int]
    wrists: tuple[Float32[np.ndarray, "2"], Float32[np.ndarray, "2"]]
    hands: tuple[Float32[np.ndarray, "n 2"], Float32[np.ndarray, "m 2"]]
    way: Float32[np.ndarray, "2"]
    """From the first to the second, unit length."""
    room: float
    """Pixels along it."""

    @staticmethod
    def of(limbs: Sequence[Limb]) -> Meeting | None:
        """Of two hands that move by themselves; None where there is but one."""
        if len(limbs) != 2:
            return None
        gap, way = _gap(limbs)
        first, second = limbs
        return Meeting(
            sides=(first.side, second.side), wrists=(first.wrist, second.wrist), hands=(first.hand, second.hand),
            way=way, room=max(gap, 0.0) + _PASS * first.unit,
        )  # fmt: skip

    def apart(self, poses: Float32[np.ndarray, "2 c"]) -> Float32[np.ndarray, "2 c"]:
        """Poses (rows of `POSE`) whose hands come no nearer than there is room; who comes nearer gives way."""
        first, second = self.sides
        steps = np.array(
            (
                self._reach(0, poses[first]).max() - (self.hands[0] @ self.way).max(),
                (self.hands[1] @ self.way).min() - self._reach(1, poses[second]).min(),
            )
        )
        nearer, free = float(steps.sum()), 0.5 * self.room
        if nearer <= free:
            return poses
        back = nearer - free - free * float(np.tanh((nearer - free) / free))
        shares = steps.clip(min=0) / steps.clip(min=0).sum()
        held = poses.copy()
        held[first, :2] -= back * shares[0] * self.way
        held[second, :2] += back * shares[1] * self.way
        return held

    def _reach(self, which: int, pose: Float32[np.ndarray, " c"]) -> Float32[np.ndarray, " n"]:
        """How far along the way the hand's points come."""
        arms = self.hands[which] - self.wrists[which]
        cos, sin = np.cos(pose[2]), np.sin(pose[2])
        turned = arms @ np.array([[cos, sin], [-sin, cos]], np.float32)
        return (self.wrists[which] + turned + pose[:2]) @ self.way


def _gap(limbs: Sequence[Limb]) -> tuple[float, Float32[np.ndarray, "2"]]:
    """Pixels between the hulls of two hands (below zero: how deep a point lies in the other), and the way there."""
    first, second = limbs
    middle = second.hand.mean(0) - first.hand.mean(0)
    way = middle / max(float(np.linalg.norm(middle)), 1e-6)
    gap = min(_nearest(first.hand, second.hand), _nearest(second.hand, first.hand))
    return gap, way.astype(np.float32)


def _nearest(hand: Float32[np.ndarray, "n 2"], points: Float32[np.ndarray, "m 2"]) -> float:
    hull = cv2.convexHull(hand)
    return min(-cv2.pointPolygonTest(hull, (float(x), float(y)), True) for x, y in points)
