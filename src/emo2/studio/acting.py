"""What people do in the single frames of a set: actions of the face, turns of the head and torso.

The mix started as the trial's.  Most talk is with the head where the reference has it: what mouth and eyes do can
then be learned to the pixel, whatever the head's motion is worth.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float
from numpy import ndarray
from numpy.random import Generator

from emo2.signals import FACE_ACTIONS
from emo2.studio.pose import Pose

_TOOTHY = 0.3
"""Share of references with a smile that shows teeth: much of what people upload looks so."""

MIX = {"strong": 0.3, "talk": 0.42, "turn": 0.16, "blink": 0.12}

_FROZEN = 0.6
"""Share of talk and blinks in which head and torso stay."""

_INDEX = {name: k for k, name in enumerate(FACE_ACTIONS)}
_STRONG = (
    "jawOpen", "jawOpen", "jawOpen", "mouthFunnel", "mouthPucker", "mouthSmile", "mouthSmile", "mouthStretch",
    "mouthUpperUp", "mouthLowerDown", "mouthPress", "mouthRollLower", "mouthRollUpper", "mouthFrown", "eyeBlink",
    "eyeBlink", "browInnerUp", "browDown", "browOuterUp", "mouthShrugLower", "mouthShrugUpper", "mouthDimple",
    "eyeSquint", "eyeWide", "cheekPuff", "noseSneer", "cheekSquint", "jawLeft", "jawRight", "mouthLeft",
    "mouthRight", "jawForward", "tongueOut",
)  # fmt: skip
_RARE = ("cheekPuff", "jawLeft", "jawRight", "mouthLeft", "mouthRight", "jawForward", "tongueOut")


def put(actions: Float[ndarray, "52"], name: str, value: float, uneven: float = 0.0) -> None:
    """Set an action, or both sides of a paired one; `uneven` lowers the right side by that share."""
    if name in _INDEX:
        actions[_INDEX[name]] = value
    else:
        actions[_INDEX[f"{name}Left"]] = value
        actions[_INDEX[f"{name}Right"]] = value * (1 - uneven)


def calm_face(rng: Generator) -> Float[ndarray, "52"]:
    """A face as photos have it: mostly closed or slightly smiling."""
    if rng.random() < _TOOTHY:
        return toothy_smile(rng)
    actions = np.zeros(52)
    if rng.random() < 0.5:
        put(actions, "mouthSmile", rng.uniform(0, 0.7), rng.uniform(-0.15, 0.15))
    if rng.random() < 0.3:
        put(actions, "jawOpen", rng.uniform(0, 0.3) * rng.random())
    if rng.random() < 0.1:
        put(actions, "jawOpen", rng.uniform(0.2, 0.7))
    for name, chance, most in (
        ("browInnerUp", 0.2, 0.5), ("browDown", 0.2, 0.6), ("browOuterUp", 0.2, 0.6), ("eyeSquint", 0.2, 0.6),
        ("eyeWide", 0.1, 0.5), ("mouthPress", 0.1, 0.6), ("mouthFrown", 0.1, 0.5), ("cheekSquint", 0.1, 0.5),
        ("mouthDimple", 0.1, 0.5), ("mouthUpperUp", 0.08, 0.5), ("mouthPucker", 0.06, 0.6),
    ):  # fmt: skip
        if rng.random() < chance:
            put(actions, name, rng.uniform(0, most), rng.uniform(0, 0.2))
    if rng.random() < 0.03:
        put(actions, "eyeBlink", rng.uniform(0.2, 1.0))
    look(actions, rng.normal(0, 0.2), rng.normal(0, 0.12))
    return actions


def toothy_smile(rng: Generator) -> Float[ndarray, "52"]:
    """The smile of portrait photos: lips apart over the teeth, from a hint to a laugh."""
    actions = np.zeros(52)
    strength = rng.uniform(0.35, 1.0)
    put(actions, "mouthSmile", strength * rng.uniform(0.5, 1.0), rng.uniform(-0.15, 0.15))
    put(actions, "mouthUpperUp", strength * rng.uniform(0.3, 1.0), rng.uniform(-0.1, 0.1))
    put(actions, "mouthLowerDown", strength * rng.uniform(0.2, 1.0), rng.uniform(-0.1, 0.1))
    put(actions, "jawOpen", strength * abs(rng.normal(0.08, 0.1)))
    put(actions, "mouthStretch", strength * rng.uniform(0.0, 0.4))
    put(actions, "cheekSquint", strength * rng.uniform(0.0, 0.8))
    put(actions, "eyeSquint", strength * rng.uniform(0.0, 0.5))
    look(actions, rng.normal(0, 0.15), rng.normal(0, 0.1))
    return actions


def look(actions: Float[ndarray, "52"], right: float, down: float) -> None:
    """Turn the eyes towards the image's right and down; 1 is as far as they go."""
    right, down = float(np.clip(right, -0.8, 0.8)), float(np.clip(down, -0.8, 0.8))
    for side, outwards in (("Left", right), ("Right", -right)):
        put(actions, f"eyeLookOut{side}", max(outwards, 0.0))
        put(actions, f"eyeLookIn{side}", max(-outwards, 0.0))
        put(actions, f"eyeLookDown{side}", max(down, 0.0))
        put(actions, f"eyeLookUp{side}", max(-down, 0.0))


def strong_face(rng: Generator, before: Float[ndarray, "52"]) -> Float[ndarray, "52"]:
    """One to three strong actions, over the reference's face or over none."""
    actions = before * rng.choice([0.0, 1.0])
    for name in rng.choice(_STRONG, rng.integers(1, 4), replace=False):
        if name in _RARE and rng.random() < 0.5:
            continue
        put(actions, str(name), rng.random() ** 0.7, rng.uniform(0, 0.2))
    _close_lips(rng, actions, 0.12)
    if rng.random() < 0.3:
        look(actions, rng.normal(0, 0.4), rng.normal(0, 0.3))
    return actions


def talking_face(rng: Generator, before: Float[ndarray, "52"]) -> Float[ndarray, "52"]:
    """A moment of speech: a vowel, a rounding, closed lips, lip on teeth."""
    actions = before.copy()
    for name in FACE_ACTIONS:
        if name.startswith(("mouth", "jaw")):
            actions[_INDEX[name]] *= 0.4
    sound = rng.choice(
        ["vowel", "round", "closed", "teeth", "spread"], p=[0.35, 0.2, 0.2, 0.1, 0.15]
    )
    if sound == "vowel":
        put(actions, "jawOpen", rng.uniform(0.05, 0.7))
        put(actions, "mouthStretch", rng.uniform(0, 0.3))
        put(actions, "mouthLowerDown", rng.uniform(0, 0.6))
        put(actions, "mouthUpperUp", rng.uniform(0, 0.4))
    elif sound == "round":
        put(actions, "jawOpen", rng.uniform(0.02, 0.4))
        put(actions, "mouthFunnel", rng.uniform(0, 0.9))
        put(actions, "mouthPucker", rng.uniform(0, 0.9))
    elif sound == "closed":
        put(actions, "jawOpen", rng.uniform(0, 0.3))
        put(actions, "mouthClose", actions[_INDEX["jawOpen"]])
        put(actions, "mouthPress", rng.uniform(0, 0.7))
        put(actions, "mouthRollLower", rng.uniform(0, 0.5))
        put(actions, "mouthRollUpper", rng.uniform(0, 0.4))
    elif sound == "teeth":
        put(actions, "jawOpen", rng.uniform(0, 0.15))
        put(actions, "mouthRollLower", rng.uniform(0.2, 0.7))
        put(actions, "mouthUpperUp", rng.uniform(0.1, 0.6))
    else:
        put(actions, "jawOpen", rng.uniform(0, 0.3))
        put(actions, "mouthStretch", rng.uniform(0.1, 0.7))
        put(actions, "mouthSmile", rng.uniform(0, 0.6))
        put(actions, "mouthLowerDown", rng.uniform(0, 0.7))
    return _upper_face(rng, actions)


def blinking_face(rng: Generator, before: Float[ndarray, "52"]) -> Float[ndarray, "52"]:
    """Eyelids anywhere between open and shut, often shut."""
    actions = before.copy()
    put(actions, "eyeBlink", float(rng.choice([1.0, rng.random()])), rng.uniform(0, 0.08))
    if rng.random() < 0.3:
        put(actions, "jawOpen", rng.uniform(0, 0.5))
    return actions


def _upper_face(rng: Generator, actions: ndarray) -> ndarray:
    for name, chance, most in (
        ("browInnerUp", 0.3, 0.8), ("browOuterUp", 0.2, 0.7), ("browDown", 0.15, 0.7), ("eyeSquint", 0.15, 0.6),
        ("eyeWide", 0.1, 0.5), ("cheekSquint", 0.1, 0.5), ("noseSneer", 0.06, 0.5),
    ):  # fmt: skip
        if rng.random() < chance:
            put(actions, name, rng.uniform(0, most), rng.uniform(0, 0.2))
    if rng.random() < 0.15:
        put(actions, "eyeBlink", rng.random() ** 0.5)
    if rng.random() < 0.4:
        look(actions, rng.normal(0, 0.3), rng.normal(0, 0.2))
    return actions


def _close_lips(rng: Generator, actions: ndarray, chance: float) -> None:
    """`mouthClose` shuts the lips over an open jaw, so it never exceeds the jaw's opening."""
    if rng.random() < chance:
        put(actions, "mouthClose", actions[_INDEX["jawOpen"]] * rng.uniform(0.5, 1.0))


def first_pose(rng: Generator) -> Pose:
    """A reference: how people hold themselves for a photo."""
    scale = rng.choice([0.3, 1.0, 1.8], p=[0.3, 0.5, 0.2])
    head = np.concatenate([rng.normal(0, (0.13, 0.08, 0.06)) * scale, rng.normal(0, 0.004, 3)])
    body = np.array(
        [rng.normal(0, 0.1), rng.normal(0, 0.03), rng.normal(0, 0.03), 0.0, 0.0, rng.random()]
    )
    body[3:5] = np.abs(rng.normal(0, 0.004, 2))
    return Pose(actions=calm_face(rng), head=head, body=body)


def next_pose(rng: Generator, reference: Pose) -> tuple[str, Pose]:
    """A frame of the mix, and its name."""
    name = str(rng.choice(list(MIX), p=list(MIX.values())))
    if name == "strong":
        return name, Pose(
            actions=strong_face(rng, reference.actions),
            head=reference.head,
            body=reference.body,
            arms=reference.arms,
        )
    if name == "turn":
        face = talking_face(rng, reference.actions) if rng.random() < 0.7 else reference.actions
        return name, _moved(rng, reference, face, 2.2)
    if name == "blink":
        return name, _moved(
            rng, reference, blinking_face(rng, reference.actions), _stillness(rng, 0.6)
        )
    return name, _moved(rng, reference, talking_face(rng, reference.actions), _stillness(rng, 1.0))


def _stillness(rng: Generator, scale: float) -> float:
    """Size of the head's move beside speech: often none."""
    return 0.0 if rng.random() < _FROZEN else scale


def _moved(rng: Generator, reference: Pose, actions: ndarray, scale: float) -> Pose:
    head = np.concatenate([rng.normal(0, (0.09, 0.07, 0.05)), rng.normal(0, 0.006, 3)]) * scale
    body = rng.normal(0, (0.02, 0.012, 0.012, 0.003, 0.003, 0.3)) * min(scale, 1.5)
    moved = reference.body + body
    moved[5] = np.clip(moved[5], 0, 1)
    return Pose(
        actions=np.clip(actions, 0, 1),
        head=np.clip(reference.head + head, -0.5, 0.5),
        body=moved,
        arms=reference.arms,
    )
