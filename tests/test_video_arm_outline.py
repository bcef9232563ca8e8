"""What of an upper arm next to its hand is arm, and how wide it goes on behind it."""

from __future__ import annotations

import numpy as np
import pytest

from emo2.video.arm_finding import hand_alone
from emo2.video.arm_outline import hidden_width, with_rims, without_wall
from emo2.video.layer_masks import Limb

SIDE, UNIT = 200, 200.0
SKIN, CLOTH, WALL, PALM = (0.8, 0.6, 0.5), (0.2, 0.25, 0.6), (0.15, 0.4, 0.2), (0.9, 0.7, 0.6)


def limb(*, tilt: float = 0.0) -> Limb:
    """An upper arm that hangs down from (80, 10), its forearm up again to a wrist before it."""
    return Limb(
        side=0, shoulder=np.array([80, 10], np.float32),
        elbow=np.array([80 + tilt, 180], np.float32), wrist=np.array([95, 120], np.float32),
        hand=np.array([[95, 120], [150, 110], [150, 130]], np.float32),
        chains=((0, 1, 2),), unit=UNIT, sureness=1.0, pinned_elbow=False,
    )  # fmt: skip


def picture() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A wide sleeve, a bare arm under it, a hand before that; the arm's mask with a piece of wall; what is in front."""
    image = np.zeros((SIDE, SIDE, 3), np.float32) + np.float32(WALL)
    image[10:80, 50:120] = CLOTH
    image[80:190, 60:100] = SKIN
    front = np.zeros((SIDE, SIDE), bool)
    front[96:140, 84:160] = True
    image[front] = PALM
    arm = front.copy()
    arm[10:80, 50:120] = True
    arm[80:190, 60:100] = True
    arm[80:96, 100:120] = True  # wall between the sleeve's hem and the thumb
    return image, arm, front


def test_wall_between_sleeve_and_thumb_is_no_arm_and_the_rest_stays() -> None:
    image, arm, front = picture()
    found = without_wall(image, arm, front, UNIT)
    assert not found[84:94, 104:118].any()
    true = arm.copy()
    true[80:96, 100:120] = False
    assert found[true].mean() > 0.99
    assert found[front].all()


def test_an_arm_of_the_walls_colour_is_kept() -> None:
    image, arm, front = picture()
    image[10:80, 50:120] = WALL
    assert without_wall(image, arm, front, UNIT)[10:76, 50:120].all()


@pytest.mark.parametrize("tilt", [0.0, 12.0])
def test_a_bare_arm_behind_its_hand_is_as_wide_as_it_is_seen_not_as_its_sleeve(tilt: float) -> None:
    _, arm, front = picture()
    arm[80:96, 100:120] = False
    seen = arm & ~front
    seen[140:190] &= np.arange(SIDE) < 84  # nothing tells of its right edge below the hand
    inside = hidden_width(seen, front, limb(tilt=tilt), (0, 0))
    assert inside[seen & (np.arange(SIDE)[:, None] < 90)].all()  # what is seen above stays
    assert inside[100:135, 70:92].all()
    assert not inside[100:135, 112:].any()


def test_an_edge_that_no_hand_hides_is_left_alone() -> None:
    _, arm, front = picture()
    seen = arm & ~front
    assert hidden_width(seen, np.zeros_like(front), limb(), (0, 0)).all()
    assert hidden_width(seen, front, limb(), (0, 0))[:, :60].all()  # the other side


def test_what_the_cutter_calls_forearm_is_no_finger() -> None:
    hand = np.zeros((40, 40), np.float32)
    hand[5:20, 5:30] = 1
    hand[20:38, 14:18] = 1  # a strip of forearm that the outline took along
    shares = np.zeros((5, 40, 40), np.float32)
    shares[4, :20], shares[3, 20:] = 1, 1
    shares[3:, 5:8] = 0.5  # not sure there
    found = hand_alone(hand, shares)
    assert found[5:20, 5:30].all()
    assert not found[20:].any()
    assert hand[30, 15] == 1  # what was given is as it was


def test_rims_of_the_arms_colours_come_along_where_there_is_a_person_and_no_trunk() -> None:
    image, _, _ = picture()
    arm = np.zeros((SIDE, SIDE), bool)
    arm[10:80, 50:120] = True
    arm[80:182, 60:100] = True  # its elbow's tip is cut off: 182 to 190
    may_be = np.zeros_like(arm)
    may_be[170:195, 50:110] = True  # wall about it too
    found = with_rims(image, arm, limb(), may_be)
    assert found[183:189, 62:98].all()
    assert not (found & ~arm)[:182].any()
    assert not found[190:].any()
    assert np.array_equal(with_rims(image, arm, limb(), np.zeros_like(arm)), arm)


def test_nothing_is_added_about_the_fingers() -> None:
    image, arm, _ = picture()
    without = arm.copy()
    without[114:126, 112:150] = False  # between the fingers, which `limb` has on both sides
    found = with_rims(image, without, limb(), np.ones_like(arm))
    assert not found[116:124, 114:148].any()
