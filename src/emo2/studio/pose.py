"""Posing: head and torso by their channels, arms by inverse kinematics from the wrists, fingers by curl.

Signs are those of `signals.HEAD_CHANNELS`: yaw towards the image's right, pitch down, roll clockwise in the image.
All rotations are in the studio's world axes (x to the image's right, y up, z to the camera) about the bones' heads.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from emo2.studio.hand_rig import SHOULDER_WIDTH_M, bone_turns, finger_bones, numbers_of
from emo2.studio.hand_shapes import REST_POSES, HandPose, finger_quaternions, orientation
from emo2.studio.people import ARM, BONES, NECK, SIDES, SPINE, Shape

_NECK_SHARE = (0.12, 0.13, 0.2, 0.55)
_SPINE_SHARE = (0.1, 0.2, 0.3, 0.2, 0.2)
_SHOULDER_REACH_M = 0.16
"""Distance from the clavicle's inner end to the shoulder: how far a turn of it lifts."""


_WRIST_BEND = 1.1
"""Radians by which a hand may bend against its forearm."""


@dataclass(frozen=True, kw_only=True)
class ArmPose:
    """One arm, from its end: the hand as in `Motion.hands`, and which way the elbow points."""

    hand: Float[ndarray, "67"]
    pole: Float[ndarray, "3"] = field(default_factory=lambda: np.array([0.5, -0.7, -0.8]))
    """Outwards, up, to the front."""


def arm_pose(hand: HandPose, side: int, pole: ndarray | None = None) -> ArmPose:
    """The arm of a named hand pose; side 0 is left."""
    fingers = finger_quaternions(np.array(hand.shape)[None], side)[0]
    quaternions = np.concatenate([orientation(hand, side)[None], fingers]).ravel()
    wrist = np.array(hand.wrist) * [1.0 if side == 0 else -1.0, 1, 1]
    numbers = np.concatenate([quaternions, wrist])
    return ArmPose(hand=numbers) if pole is None else ArmPose(hand=numbers, pole=pole)


HANGING = (arm_pose(REST_POSES["hanging"], 0), arm_pose(REST_POSES["hanging"], 1))


@dataclass(frozen=True, kw_only=True)
class Pose:
    """A person's pose, and the face."""

    actions: Float[ndarray, "52"] = field(default_factory=lambda: np.zeros(52))
    head: Float[ndarray, "6"] = field(default_factory=lambda: np.zeros(6))
    body: Float[ndarray, "6"] = field(default_factory=lambda: np.zeros(6))
    arms: tuple[ArmPose, ArmPose] = HANGING


def turn(yaw: float, pitch: float, roll: float) -> Float[ndarray, "3 3"]:
    """Rotation for head and torso angles."""
    return _about(1, yaw) @ _about(0, pitch) @ _about(2, -roll)


def _about(axis: int, angle: float) -> ndarray:
    direction = np.zeros(3)
    direction[axis] = 1.0
    return about(direction, angle)


def about(direction: ndarray, angle: float) -> ndarray:
    """Rotation by an angle about a unit vector (Rodrigues)."""
    x, y, z = direction
    skew = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.eye(3) + math.sin(angle) * skew + (1 - math.cos(angle)) * skew @ skew


class Bones:
    """World transforms of the bones for one pose: `turn` and `place` of resting points."""

    def __init__(self, shape: Shape, pose: Pose) -> None:
        self.shape = shape
        self.turns: dict[str, ndarray] = {"root": np.eye(3)}
        self.shifts: dict[str, ndarray] = {"root": np.zeros(3)}
        self._spine_and_head(pose)
        for side, arm in zip(SIDES, pose.arms, strict=True):
            _Arm(self, side, pose, arm).put()

    def put(self, bone: str, parent: str, rotation: ndarray, shift: ndarray | float = 0.0) -> None:
        """Turn a bone (in world axes) about its head, which its parent carries."""
        head = self.shape.heads[bone]
        self.turns[bone] = rotation
        self.shifts[bone] = self.point(parent, head) + shift - rotation @ head

    def point(self, bone: str, rest: ndarray) -> ndarray:
        """Where a resting point goes with a bone."""
        return self.turns[bone] @ rest + self.shifts[bone]

    def origin(self) -> Float[ndarray, "3"]:
        """The origin of the hands' frame: between the shoulders, carried by the chest."""
        left, right = (self.shape.heads[f"upperarm01.{s}"] for s in SIDES)
        return self.point("spine01", (left + right) / 2)

    def scale(self) -> float:
        """World metres of a metre in the hands' frame, where shoulders are 0.36 m apart."""
        left, right = (self.shape.heads[f"upperarm01.{s}"] for s in SIDES)
        return float(np.linalg.norm(left - right)) / SHOULDER_WIDTH_M

    def wrist_target(self, place: ndarray) -> Float[ndarray, "3"]:
        """A wrist of `Motion.hands` in the world."""
        return self.origin() + place * [1.0, -1.0, 1.0] * self.scale()

    def hand_numbers(self, side: int) -> Float[ndarray, "67"]:
        """The hand as it came out: what reach and wrist allowed of what was asked."""
        letter = SIDES[side]
        wrist = self.point(f"wrist.{letter}", self.shape.heads[f"wrist.{letter}"])
        place = (wrist - self.origin()) / self.scale() * [1.0, -1.0, 1.0]
        fingers = np.stack([self.turns[b] for b in finger_bones(letter)])
        return numbers_of(self.shape.hands[side], self.turns[f"wrist.{letter}"], fingers, place)

    def table(self) -> Float[ndarray, "bones 12"]:
        """Rows of 3x4 matrices in the order of `BONES`."""
        rows = [np.concatenate([self.turns[b], self.shifts[b][:, None]], 1) for b in BONES]
        return np.stack(rows).reshape(len(BONES), 12).astype(np.float32)

    def _spine_and_head(self, pose: Pose) -> None:
        yaw, pitch, roll, *_ = pose.body
        rotation, parent = np.eye(3), "root"
        for bone, share in zip(SPINE, _SPINE_SHARE, strict=True):
            rotation = rotation @ turn(yaw * share, pitch * share, roll * share)
            lift = np.array([0, 0.004, 0.003]) * pose.body[5] if bone == "spine02" else 0.0
            self.put(bone, parent, rotation, lift)
            parent = bone
        yaw, pitch, roll, *shift = pose.head
        offset = np.array([shift[0], -shift[1], shift[2]])
        for bone, share in zip(NECK, _NECK_SHARE, strict=True):
            rotation = rotation @ turn(yaw * share, pitch * share, roll * share)
            self.put(bone, parent, rotation, offset * share)
            parent = bone


@dataclass(frozen=True)
class _Arm:
    """Two-bone inverse kinematics of one arm, then hand and fingers."""

    bones: Bones
    side: str
    pose: Pose
    arm: ArmPose

    def put(self) -> None:
        chest = self.bones.turns["spine01"]
        outwards = np.array([1.0 if self.side == "L" else -1.0, 1.0, 1.0])
        shoulder, elbow, wrist = (self._head(b) for b in ("upperarm01", "lowerarm01", "wrist"))
        upper, lower = np.linalg.norm(elbow - shoulder), np.linalg.norm(wrist - elbow)
        rest = unit(elbow - shoulder), unit(wrist - elbow)
        target = self.bones.wrist_target(self.arm.hand[64:])
        self._shoulder(target, rest[0], chest)
        start = self.bones.point(f"shoulder01.{self.side}", shoulder)
        reach = np.clip(
            np.linalg.norm(target - start), 0.25 * (upper + lower), 0.985 * (upper + lower)
        )
        axis = unit(target - start)
        along = (upper**2 - lower**2 + reach**2) / (2 * reach)  # law of cosines
        out = math.sqrt(max(upper**2 - along**2, 1e-8))
        bend = start + along * axis + out * across(chest @ (self.arm.pole * outwards), axis)
        now = unit(bend - start), unit(start + reach * axis - bend)
        self._limbs(rest, now, chest)
        self._hand(now[1])

    def _head(self, bone: str) -> ndarray:
        return self.bones.shape.heads[f"{bone}.{self.side}"]

    def _bone(self, bone: str, rotation: ndarray, *, parent: str = "") -> None:
        before = parent or f"{ARM[ARM.index(bone) - 1]}.{self.side}"
        self.bones.put(f"{bone}.{self.side}", before, rotation)

    def _shoulder(self, target: ndarray, upper: ndarray, chest: ndarray) -> None:
        """The shoulder girdle goes a little way with the arm, and is shrugged."""
        sign, channel = (1.0, 3) if self.side == "L" else (-1.0, 4)
        shrug = _about(2, sign * self.pose.body[channel] / _SHOULDER_REACH_M)
        aim = unit(chest.T @ (target - self.bones.point("spine01", self._head("upperarm01"))))
        swing = between(upper, aim)
        self._bone("clavicle", chest @ shrug @ part_of(swing, 0.08), parent="spine01")
        self._bone("shoulder01", chest @ shrug @ part_of(swing, 0.25))

    def _limbs(
        self, rest: tuple[ndarray, ndarray], now: tuple[ndarray, ndarray], chest: ndarray
    ) -> None:
        hinge_rest, hinge = unit(cross(*rest)), unit(cross(*now))
        upper = frame(now[0], hinge) @ frame(rest[0], hinge_rest).T
        lower = frame(now[1], hinge) @ frame(rest[1], hinge_rest).T
        straight = (
            between(chest @ rest[0], now[0]) @ chest
        )  # without twist: what the shoulder follows
        self._bone("upperarm01", part_of(upper @ straight.T, 0.35) @ straight)
        self._bone("upperarm02", upper)
        self._bone("lowerarm01", lower)

    def _hand(self, along: ndarray) -> None:
        rig = self.bones.shape.hands[0 if self.side == "L" else 1]
        hand, fingers = bone_turns(rig, self.arm.hand)
        pointing = hand @ rig.axes[:, 0]
        bend = math.acos(float(np.clip(pointing @ along, -1, 1)))
        if bend > _WRIST_BEND:
            back = part_of(between(pointing, along), 1 - _WRIST_BEND / bend)
            hand, fingers = back @ hand, back @ fingers
        lower = self.bones.turns[f"lowerarm01.{self.side}"]
        self._bone("lowerarm02", about(along, 0.6 * twist(hand @ lower.T, along)) @ lower)
        self._bone("wrist", hand)
        for k, bone in enumerate(finger_bones(self.side)):
            parent = f"wrist.{self.side}" if k % 3 == 0 else finger_bones(self.side)[k - 1]
            self.bones.put(bone, parent, fingers[k])


def unit(vector: ndarray) -> ndarray:
    """The vector at length one."""
    return vector / max(float(np.linalg.norm(vector)), 1e-9)


def cross(a: ndarray, b: ndarray | list[float]) -> ndarray:
    """The cross product of two vectors; numpy's own is made for many and costs thirty times as much."""
    (ax, ay, az), (bx, by, bz) = a.tolist(), b if isinstance(b, list) else b.tolist()
    return np.array([ay * bz - az * by, az * bx - ax * bz, ax * by - ay * bx])


def across(vector: ndarray, axis: ndarray) -> ndarray:
    """The part of a vector at right angles to an axis, at length one."""
    rest = vector - axis * (vector @ axis)
    if np.linalg.norm(rest) < 1e-4:
        rest = cross(axis, [0.3, 1.0, 0.2])
    return unit(rest)


def frame(along: ndarray, hinge: ndarray) -> ndarray:
    """Axes of a limb as columns."""
    return np.stack([along, hinge, cross(along, hinge)], 1)


def twist(rotation: ndarray, axis: ndarray) -> float:
    """Angle of a rotation's part about an axis (swing-twist decomposition)."""
    skew = np.array(
        [
            rotation[2, 1] - rotation[1, 2],
            rotation[0, 2] - rotation[2, 0],
            rotation[1, 0] - rotation[0, 1],
        ]
    )
    return 2 * math.atan2(float(skew @ axis), 1 + float(np.trace(rotation)))


def between(a: ndarray, b: ndarray) -> ndarray:
    """The smallest rotation that carries unit vector a to b."""
    axis = cross(a, b)
    length = np.linalg.norm(axis)
    if length < 1e-8:
        return np.eye(3)
    return about(axis / length, math.atan2(length, float(a @ b)))


def part_of(rotation: ndarray, share: float) -> ndarray:
    """The rotation by a share of its angle."""
    angle = math.acos(float(np.clip((np.trace(rotation) - 1) / 2, -1, 1)))
    if angle < 1e-6:
        return np.eye(3)
    axis = np.array(
        [
            rotation[2, 1] - rotation[1, 2],
            rotation[0, 2] - rotation[2, 0],
            rotation[1, 0] - rotation[0, 1],
        ]
    )
    return about(unit(axis), angle * share)
