"""Hands that lie in each other move as one piece of the photo, softly, and nothing else does."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from plain_studio import plain_person

from emo2.check import check
from emo2.errors import UserError
from emo2.framing import reframe
from emo2.portrait.folding import are_folded
from emo2.portrait.looking import Hand, square_about
from emo2.signals import FOLDED, Portrait
from emo2.start import pose_of
from emo2.studio.hand_shapes import REST_POSES
from emo2.studio.pose import Pose, arm_pose
from emo2.studio.render import Renderer
from emo2.studio.render import still as posed
from emo2.studio.scene import background, lights
from emo2.studio.views import body_camera
from emo2.video.entering_place import entering_sides
from emo2.video.folded_hands import FoldedHands
from emo2.video.layer_motion import HAND, POSE

HEIGHT, WIDTH = 384, 320
SKIN, SHIRT, WALL = (224, 172, 140), (60, 70, 160), (130, 160, 150)
SHOULDERS, ELBOWS, WRISTS = (
    ((230, 150), (90, 150)),
    ((250, 265), (70, 265)),
    ((200, 290), (120, 290)),
)
"""Left, right."""


def hand_points(side: int) -> torch.Tensor:
    """Fingers side by side from the wrist to just beyond the body's middle."""
    wrist = torch.tensor(WRISTS[side], dtype=torch.float32)
    way = torch.tensor([-1.0, 0.0]) if side == 0 else torch.tensor([1.0, 0.0])
    rows = [wrist]
    for finger in range(5):
        aside = torch.tensor([0.0, 6.0 * (finger - 2)])
        rows += [wrist + aside + way * (18 + 12 * joint) for joint in range(4)]
    return torch.cat([torch.stack(rows), torch.full((21, 1), 0.9)], 1)


def make_portrait() -> Portrait:
    picture = np.full((HEIGHT, WIDTH, 3), WALL, np.uint8)
    cv2.rectangle(picture, (100, 135), (220, HEIGHT - 1), SHIRT, -1)
    cv2.ellipse(picture, (160, 75), (26, 36), 0, 0, 360, SKIN, -1)
    cv2.line(picture, (160, 90), (160, 135), SKIN, 22)
    masks = torch.zeros(3, HEIGHT, WIDTH)
    masks[0, 30:, 100:220] = 1
    for side in range(2):
        arm = np.zeros((HEIGHT, WIDTH), np.float32)
        cv2.line(picture, SHOULDERS[side], ELBOWS[side], SHIRT, 30)
        for canvas, colour in ((picture, SKIN), (arm, 1.0)):
            cv2.line(canvas, ELBOWS[side], WRISTS[side], colour, 26)
            cv2.line(canvas, WRISTS[side], (160, 292), colour, 30)
        cv2.line(arm, SHOULDERS[side], ELBOWS[side], 1.0, 30)
        masks[1 + side] = torch.from_numpy(arm)
    body = torch.zeros(8, 3)
    for side in range(2):
        for row, joint in ((2, SHOULDERS), (4, ELBOWS), (6, WRISTS)):
            body[row + side] = torch.tensor((*joint[side], 1.0))
    return Portrait(
        image=torch.from_numpy(picture).permute(2, 0, 1).float() / 127.5 - 1,
        face_box=torch.tensor([138.0, 52.0, 182.0, 108.0]), face_points=torch.zeros(68, 2),
        body_points=body, hand_points=torch.stack([hand_points(0), hand_points(1)]),
        hands_present=(False, False), folded=True, body_masks=masks, notes=(FOLDED,),
    )  # fmt: skip


@pytest.fixture(scope="module")
def portrait() -> Portrait:
    return make_portrait()


@pytest.fixture(scope="module")
def hands(portrait: Portrait) -> FoldedHands:
    found = FoldedHands.build(portrait)
    assert found is not None
    return found


def pose(*, left: tuple[float, float], right: tuple[float, float], turn: float = 0) -> np.ndarray:
    rows = np.zeros((2, len(POSE) + len(HAND)), np.float32)
    rows[0, :2], rows[1, :2], rows[:, 2] = left, right, turn
    return rows


def still() -> np.ndarray:
    return np.zeros((HEIGHT, WIDTH, 2), np.float32)


@pytest.mark.parametrize("shift", [(0.0, -8.0), (0.0, 12.0), (6.0, 4.0)])
def test_both_hands_go_as_far_as_each_other_and_keep_their_shape(
    hands: FoldedHands, shift: tuple[float, float]
) -> None:
    asked = pose(left=shift, right=shift)
    x, y, _ = hands.shift(asked)
    flow = hands.carry(still(), asked)
    inside = flow[282:297, 130:190]
    assert np.abs(inside + np.array((x, y))).max() < 0.3
    assert x * shift[0] >= 0
    assert y * shift[1] >= 0
    assert abs(x) + abs(y) > 1


def test_hands_asked_apart_stay_together(hands: FoldedHands) -> None:
    asked = pose(left=(20, -10), right=(-20, 10))
    assert hands.carry(still(), asked) is not None
    assert not hands.carry(still(), asked).any()


def test_hands_not_asked_to_move_leave_the_film_as_it_is(hands: FoldedHands) -> None:
    flow = np.random.default_rng(0).normal(size=(HEIGHT, WIDTH, 2)).astype(np.float32)
    assert np.array_equal(hands.carry(flow, pose(left=(0, 0), right=(0, 0))), flow)


@pytest.mark.parametrize("shift", [(0.0, -200.0), (0.0, 200.0), (200.0, 200.0), (-200.0, -200.0)])
@pytest.mark.parametrize("turn", [-1.0, 0.0, 1.0])
def test_face_elbows_and_what_is_far_stay_and_nothing_tears(
    hands: FoldedHands, shift: tuple[float, float], turn: float
) -> None:
    asked = pose(left=shift, right=shift, turn=turn)
    x, y, angle = hands.shift(asked)
    assert np.hypot(x, y) < 0.05 * HEIGHT
    assert abs(angle) < 0.08
    flow = hands.carry(still(), asked)
    assert not flow[:120].any()
    for ex, ey in ELBOWS:
        assert np.abs(flow[ey, ex]).max() < 0.15 * np.hypot(x, y) + 0.5
    assert np.abs(flow[:, :20]).max() < 0.5
    assert np.abs(flow[:, -20:]).max() < 0.5
    across, down = np.gradient(flow, axis=(1, 0))
    grown = (1 + across[..., 0]) * (1 + down[..., 1]) - across[..., 1] * down[..., 0]
    assert grown.min() > 0, "places never change sides"


def test_forearms_hinge_at_their_elbows(hands: FoldedHands) -> None:
    flow = hands.carry(still(), pose(left=(0, 12), right=(0, 12)))
    for side in range(2):
        elbow, wrist = (np.array(joint[side], float) for joint in (ELBOWS, WRISTS))
        down = [
            -flow[tuple((elbow + k * (wrist - elbow))[::-1].astype(int))][1]
            for k in (0.25, 0.5, 0.8)
        ]
        assert 0.05 * down[2] < down[0] < down[1] < down[2]
        assert abs(down[1] / down[2] - 0.5 / 0.8) < 0.2


def test_rising_hands_ask_for_nothing_below_the_picture(portrait: Portrait) -> None:
    cut = replace(
        portrait,
        image=portrait.image[:, :308],
        body_masks=portrait.body_masks[:, :308],  # type: ignore[index]
    )
    near = FoldedHands.build(cut)
    assert near is not None
    assert near.limits[1] < near.limits[2]
    flow = near.carry(np.zeros((308, WIDTH, 2), np.float32), pose(left=(0, -200), right=(0, -200)))
    rows = np.arange(308)[:, None] + flow[..., 1]
    assert rows.max() < 308


def test_the_hands_go_along_with_the_body(hands: FoldedHands) -> None:
    asked = pose(left=(0, 10), right=(0, 10))
    alone = hands.carry(still(), asked)
    body = still() + np.array((8, 0), np.float32)  # the body 8 pixels to the left
    both = hands.carry(body, asked)
    assert np.abs(both[:, :-60] - body[:, :-60] - np.roll(alone, -8, axis=1)[:, :-60]).max() < 0.2


def test_no_other_photo_has_such_hands(portrait: Portrait) -> None:
    assert FoldedHands.build(replace(portrait, folded=False)) is None


def test_stage_1_is_told_that_folded_hands_are_seen_and_where(portrait: Portrait) -> None:
    start = pose_of(portrait, fps=25)
    assert start.visibility.tolist() == [[1, 1]]
    left, right = start.hands[0, :, 64:67]
    assert left[0] > right[0]
    hidden = pose_of(replace(portrait, folded=False), fps=25)
    assert hidden.visibility.tolist() == [[0, 0]]


def test_folded_hands_that_the_film_cuts_off_are_not_spoken_of(portrait: Portrait) -> None:
    wide = reframe(portrait, (180, 320), 320)
    assert not wide.folded
    assert FOLDED not in wide.notes
    assert reframe(portrait, (192, 160), 320).folded


def test_no_hand_enters_where_hands_are_folded_in_view(portrait: Portrait) -> None:
    assert entering_sides(portrait) == (False, False)


def _seen(side: int, *, sure: float, shift: float = 0) -> Hand:
    points = hand_points(side)
    points[:, 0] += shift
    square = square_about(points[:, :2], reach=2)
    return Hand(square, points, torch.zeros(2, 8, 8), sure)


FACE = torch.stack([torch.linspace(138, 182, 68), torch.linspace(52, 96, 68)], 1)


def test_two_sure_hands_in_one_place_are_folded() -> None:
    size = (HEIGHT, WIDTH)
    assert are_folded([_seen(0, sure=0.9), _seen(1, sure=0.7)], FACE, size)
    assert not are_folded([_seen(0, sure=0.9), None], FACE, size)
    assert not are_folded([_seen(0, sure=0.9), _seen(1, sure=0.5)], FACE, size), "unsure"
    assert not are_folded([_seen(0, sure=0.7), _seen(1, sure=0.7)], FACE, size), "unsure"
    apart = [_seen(0, sure=0.9, shift=60), _seen(1, sure=0.9, shift=-60)]
    assert not are_folded(apart, FACE, size), "side by side"
    twice = [_seen(0, sure=0.9), replace(_seen(0, sure=0.9))]
    assert not are_folded(twice, FACE, size), "one hand, seen twice"
    assert not are_folded([_seen(0, sure=0.9), _seen(1, sure=0.9)], FACE + 220, size), "at the face"


@pytest.mark.parametrize(("name", "says"), [("folded", True), ("offering", False)])
def test_the_finder_knows_a_rendered_persons_folded_hands(
    tmp_path: Path, name: str, says: bool
) -> None:
    rng, person = np.random.default_rng(0), plain_person(low_m=-1.15)
    try:
        renderer = Renderer((320, 320), supersample=1.0)
    except UserError as error:
        pytest.skip(str(error))
    rest = REST_POSES[name]
    hands = (rest.moved(0, -0.02, 0.035), rest)  # one lies a little before the other
    view = body_camera(rng, person, "hips")
    arms = (arm_pose(hands[0], 0), arm_pose(hands[1], 1))
    actor = renderer.actor(person)
    actor.set_reference(posed(person, Pose(arms=arms), view), view)
    picture = actor.draw(view, lights(rng), background(rng, 320, 320))
    actor.release()
    photo = tmp_path / "photo.png"
    cv2.imwrite(str(photo), picture[..., ::-1])
    report = check(photo, None)
    assert report.is_usable
    assert ("hands: both, in each other" in report.lines) == says
    assert (f"note: {FOLDED}" in report.lines) == says
