"""Forearms bent up before their upper arm, with a hand before them: what belongs to which, and what is painted behind."""

from __future__ import annotations

import itertools

import cv2
import numpy as np

from emo2.video.hand_behind import without_hand
from emo2.video.layer_cut import Arm, HandCut, Plane, cut
from emo2.video.layer_masks import FINGERS, Limb, folds
from emo2.video.layer_motion import Field

SKIN, SHADE, SLEEVE, WALL = (
    (0.88, 0.67, 0.55),
    (0.66, 0.46, 0.38),
    (0.1, 0.12, 0.3),
    (0.6, 0.7, 0.6),
)
WRIST, FLESH = 96.0, 7
"""Its height in the picture, and half of a finger's thickness."""


def points() -> np.ndarray:
    """An open hand to the right of its wrist."""
    rows = [(70.0, WRIST)]
    for finger, joint in itertools.product(range(5), range(4)):
        rows.append((94.0 + 15 * joint, WRIST - 20 + 10 * finger))
    return np.array(rows, np.float32)


def limb() -> Limb:
    made = Limb(
        side=0, shoulder=np.array((60, 20), np.float32), elbow=np.array((60, 180), np.float32),
        wrist=np.array((70, WRIST), np.float32), hand=points(), chains=FINGERS, unit=200.0, sureness=1.0,
        pinned_elbow=False,
    )  # fmt: skip
    assert folds(made)
    return made


def scene() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Picture, mask of the arm, mask of its hand."""
    picture = np.empty((220, 220, 3), np.float32)
    picture[:] = WALL
    arm, hand = (np.zeros((220, 220), np.uint8) for _ in range(2))
    cv2.line(arm, (60, 20), (60, 180), 1, 38)
    picture[(arm > 0) & (np.mgrid[:220, :220][0] < 130)] = SLEEVE
    fore = np.zeros_like(arm)
    cv2.line(fore, (60, 180), (70, int(WRIST)), 1, 30)
    picture[fore > 0] = SHADE
    for chain in FINGERS:
        line = [tuple(points()[k].astype(int).tolist()) for k in chain]
        for a, b in itertools.pairwise(line):
            cv2.line(hand, a, b, 1, 2 * FLESH)
    picture[hand > 0] = SKIN
    return picture, ((arm | fore | hand) > 0).astype(np.float32), hand.astype(np.float32)


def cut_out(fore: np.ndarray) -> Arm:
    picture, arm, hand = scene()
    wrist = np.array([(58, WRIST), (70, WRIST - 4), (82, WRIST)], np.float32)
    return cut(picture, arm, limb(), (0, 0), hand=HandCut(mask=hand, wrist=wrist), fore=fore)[0]


def shown(plane: Plane, x: int, y: int) -> float:
    """Alpha there; nothing outside of the box."""
    x0, y0, x1, y1 = plane.box
    return float(plane.colour[y - y0, x - x0, 3]) if x0 <= x < x1 and y0 <= y < y1 else 0.0


def test_the_flesh_of_fingers_around_their_points_is_no_upper_arm() -> None:
    _, arm, hand = scene()
    low = int(points()[:, 1].max()) + FLESH - 3  # outside of the points' hull, towards the elbow
    tips = [(x, low) for x in (100, 120, 136) if hand[low, x] > 0]
    assert tips
    upper, front = cut_out((arm > 0) & ((hand > 0) | (np.mgrid[:220, :220][0] > 130))).planes
    for x, y in tips:
        assert shown(upper, x, y) < 0.02
        assert shown(front, x, y) > 0.5


def test_a_sleeve_beside_a_bare_wrist_stays_with_the_upper_arm() -> None:
    _, arm, hand = scene()
    called = (arm > 0) & (np.mgrid[:220, :220][0] > WRIST - 24)  # the sleeve's end as well
    upper, front = cut_out(called).planes
    sleeve, forearm = (46, int(WRIST) - 14), (64, 145)
    assert hand[sleeve[1], sleeve[0]] == 0
    assert shown(front, *sleeve) < 0.05
    assert shown(upper, *sleeve) > 0.9
    assert shown(front, *forearm) > 0.9


def test_a_hidden_forearm_leads_from_what_is_seen_of_it_to_its_hands_wrist_and_colour() -> None:
    picture, arm, hand = scene()
    arm[:, :44] = 0
    arm[:130] = hand[:130]  # forearm and hand only
    taken = hand.copy()
    taken[88:150, 40:110] = 1  # the palm hides most of the forearm
    picture[taken > 0] = SKIN
    colour = np.dstack([(2 * picture - 1) * arm[..., None], arm]).astype(np.float32)
    colour[88:150, 40:110] = [*(2 * np.array(SKIN) - 1), 1]
    colour[160:190, 120:150] = [-1, -1, -1, 1]  # a piece of a ledge between fingers
    field = Field(weights=np.zeros((2, 2, 3), np.float32), origin=(0, 0), stride=110)
    plane = Plane(colour=colour, box=(0, 0, 220, 220), field=field)
    wrist = np.array([(58, 96), (82, 96), (70, 92), (70, 100)], np.float32)
    behind = without_hand(plane, taken, limb(), None, wrist)
    line = behind[[100, 125, 148], [70, 66, 63]]
    assert line[:, 3].min() > 0.9
    assert behind[125, 84:, 3].max() < 0.05  # narrower than an arm, as the wrist is
    assert behind[160:190, 120:150, 3].max() == 0
    reds = (line[:, 0] / line[:, 3] + 1) / 2
    assert reds[0] > reds[1] > reds[2]
    assert abs(reds[2] - SHADE[0]) < 0.06
