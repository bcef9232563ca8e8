"""Arms in the single frames of a set: how people hold their hands for a photo, and near-by gestures.

Poses are the performer's own (`hand_shapes`), spread out, kept outside of the person's body.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float
from numpy import ndarray
from numpy.random import Generator

from emo2.studio.hand_shapes import REST_POSES, SHAPES, HandPose
from emo2.studio.people import Person
from emo2.studio.pose import ArmPose, arm_pose

REST_ODDS = {
    "hanging": 0.14, "folded": 0.1, "offering": 0.34, "framing": 0.26, "resting": 0.08, "clasped high": 0.08,
}  # fmt: skip
STILL_SHARE = 0.5
"""Frames in which the arms stay as they are in the reference."""


@dataclass(frozen=True, kw_only=True)
class Arms:
    """Two hands as an animator names them."""

    hands: tuple[HandPose, HandPose]
    pole: Float[ndarray, "3"]

    def poses(self, person: Person) -> tuple[ArmPose, ArmPose]:
        """The arms of a person, hands outside of the trunk."""
        left, right = (
            arm_pose(outside(person, h), side, self.pole) for side, h in enumerate(self.hands)
        )
        return left, right


def first_arms(rng: Generator) -> Arms:
    """Arms as photos have them: mostly alike, both hands before the belly or chest."""
    name = str(rng.choice(list(REST_ODDS), p=list(REST_ODDS.values())))
    one = _spread(rng, REST_POSES[name], 0.035, 0.25)
    if rng.random() < 0.12:  # a raised hand
        x, y, z = one.wrist
        one = replace(one, wrist=(x, y - rng.uniform(0.1, 0.35), z + rng.uniform(0, 0.1)))
    other = (
        one
        if rng.random() < 0.7
        else _spread(rng, REST_POSES[str(rng.choice(list(REST_ODDS)))], 0.035, 0.25)
    )
    other = _spread(rng, other, 0.012, 0.08)
    hands = (one, other) if rng.random() < 0.5 else (other, one)
    return Arms(hands=hands, pole=np.array([rng.uniform(0.1, 1.0), -0.8, rng.uniform(-1.0, -0.3)]))


def next_arms(rng: Generator, reference: Arms) -> Arms:
    """Arms of another frame: where they were, or a gesture away."""
    if rng.random() < STILL_SHARE:
        return reference
    size = rng.choice([0.4, 1.0, 1.8], p=[0.35, 0.45, 0.2])
    left = _spread(rng, reference.hands[0], 0.045 * size, 0.22 * size)
    right = _spread(rng, reference.hands[1], 0.045 * size, 0.22 * size)
    which = rng.random()
    if which < 0.2:
        right = reference.hands[1]
    elif which < 0.4:
        left = reference.hands[0]
    elif which < 0.65:  # both hands do the same
        step = np.subtract(left.wrist, reference.hands[0].wrist)
        right = replace(left, wrist=tuple(np.add(reference.hands[1].wrist, step)))  # type: ignore[arg-type]
    return Arms(hands=(left, right), pole=reference.pole + rng.normal(0, 0.08, 3) * size)


def _spread(rng: Generator, hand: HandPose, metres: float, turn: float) -> HandPose:
    shape = np.array(hand.shape)
    if rng.random() < min(turn * 2, 0.6):
        aim = np.array(SHAPES[str(rng.choice(list(SHAPES)))])
        shape = shape + rng.uniform(0, min(3 * turn, 1)) * (aim - shape)
    shape = np.clip(shape + rng.normal(0, 0.25 * turn, len(shape)), 0, 1)
    return HandPose(
        wrist=tuple(np.add(hand.wrist, rng.normal(0, metres, 3))),  # type: ignore[arg-type]
        fingers=tuple(np.add(hand.fingers, rng.normal(0, turn, 3))),  # type: ignore[arg-type]
        palm=tuple(np.add(hand.palm, rng.normal(0, turn, 3))),  # type: ignore[arg-type]
        shape=tuple(shape.tolist()),
    )


def outside(person: Person, hand: HandPose, clearance_m: float = 0.075) -> HandPose:
    """The hand moved to the front until it clears the trunk there."""
    x, y, z = hand.wrist
    front = person.shape.front(abs(x), y)
    return hand if front is None else replace(hand, wrist=(x, y, max(z, front + clearance_m)))
