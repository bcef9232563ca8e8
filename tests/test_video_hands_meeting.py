"""Two hands near each other: clasped in the photo they are one, apart in the photo they never change places."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from emo2.video.hands_meeting import Meeting, clasped
from emo2.video.layer_masks import FINGERS, Limb

UNIT = 100.0


def limb(side: int, tip: float) -> Limb:
    """A hand whose longest finger ends at x = `tip`, pointing to the middle; its wrist lies 50 pixels outwards."""
    out = 1.0 if side == 0 else -1.0
    points = [(tip + 50 * out, 100.0)]
    for finger, joint in itertools.product(range(5), range(4)):
        points.append((tip + out * 10 * (3 - joint), 92.0 + 4 * finger))
    hand = np.array(points, np.float32)
    up = np.array((0, 40), np.float32)
    return Limb(
        side=side, shoulder=hand[0] - 2 * up, elbow=hand[0] - up, wrist=hand[0], hand=hand, chains=FINGERS,
        unit=UNIT, sureness=1.0, pinned_elbow=False,
    )  # fmt: skip


def pair(gap: float) -> list[Limb]:
    """The left hand (to the image's right) and the right one, with so many pixels between their fingertips."""
    return [limb(0, 100 + gap / 2), limb(1, 100 - gap / 2)]


def poses(left: float, right: float, turn: float = 0.0) -> np.ndarray:
    """Rows of `POSE`: how far to the image's right both hands go."""
    rows = np.zeros((2, 6), np.float32)
    rows[:, 0] = left, right
    rows[:, 2] = -turn, turn
    return rows


def tips(limbs: list[Limb], held: np.ndarray) -> float:
    """Pixels between the fingertips when moved."""
    left, right = limbs
    return float(left.hand[:, 0].min() + held[0, 0] - right.hand[:, 0].max() - held[1, 0])


def meeting(limbs: list[Limb]) -> Meeting:
    found = Meeting.of(limbs)
    assert found is not None
    return found


@pytest.mark.parametrize(("gap", "as_one"), [(40, False), (1, False), (-3, False), (-30, True)])
def test_only_hands_that_lie_over_each_other_are_clasped(gap: float, *, as_one: bool) -> None:
    assert clasped(pair(gap)) is as_one
    assert clasped(pair(gap)[::-1]) is as_one


def test_hands_that_go_apart_or_aside_or_come_a_little_nearer_are_left_alone() -> None:
    near = meeting(pair(2))
    for asked in (poses(60, -60), poses(50, 50), poses(-8, 0), poses(-4, 4)):
        assert np.array_equal(near.apart(asked), asked)
    aside = poses(0, 0)
    aside[:, 1] = 40, -40
    assert np.array_equal(near.apart(aside), aside)


def test_asked_through_each_other_one_hand_comes_over_the_other_and_no_farther() -> None:
    limbs = pair(4)
    far = [tips(limbs, meeting(limbs).apart(poses(-step, step))) for step in range(0, 120, 4)]
    assert all(later <= earlier + 1e-3 for earlier, later in itertools.pairwise(far))
    assert -0.4 * UNIT < far[-1] < -0.25 * UNIT


def test_who_comes_nearer_gives_way_and_the_other_does_not() -> None:
    limbs = pair(4)
    held = meeting(limbs).apart(poses(-90, 0))
    assert -50 < held[0, 0] < -30
    assert held[1, 0] == 0
    away = meeting(limbs).apart(poses(-90, -30))
    assert away[1, 0] == -30
    assert away[0, 0] == pytest.approx(held[0, 0] - 30, abs=12)


def test_hands_turned_towards_each_other_count_as_nearer() -> None:
    limbs = [limb(0, 102), limb(1, 98)]
    for one in limbs:  # fingers that point down, to be turned inwards
        arms = one.hand - one.wrist
        one.hand[:] = one.wrist + np.stack([-arms[:, 1], np.abs(arms[:, 0])], -1)
        one.hand[:, 0] += 45.0 if one.side else -45.0
        one.wrist[:] = one.hand[0]
    near = meeting(limbs)
    straight, turned = (near.apart(poses(-25, 25, turn)) for turn in (0.0, -1.2))
    assert turned[0, 0] > straight[0, 0] + 2


def test_one_hand_alone_meets_nobody() -> None:
    assert Meeting.of(pair(10)[:1]) is None
