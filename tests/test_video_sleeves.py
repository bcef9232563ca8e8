"""Sleeves and foreshortened forearms: where the arm layers end, and what stays behind them."""

from __future__ import annotations

import itertools
from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch

from emo2.signals import Portrait
from emo2.video.hand_behind import sleeve_behind, without_hand
from emo2.video.layer_cut import Plane
from emo2.video.layer_masks import Limb, find_limb
from emo2.video.layer_motion import POSE, Field
from emo2.video.layer_person import arm_of, person_mask, without_islands
from emo2.video.layers import Layers

SKIN, SHIRT, SLEEVE, WALL = (224, 172, 140), (70, 80, 170), (150, 30, 50), (150, 170, 150)
HEIGHT, WIDTH = 320, 320
CUFF = {0: (248, 236), 1: (72, 236)}
"""Where the sleeves end: wide, and pointing at the viewer, so that elbow and wrist nearly meet."""


def hand_at(wrist: tuple[float, float], out: float) -> np.ndarray:
    """An open hand of 21 points that points sideways."""
    points = [wrist]
    for finger, joint in itertools.product(range(5), range(4)):
        drop = (-18 + 9 * finger) * (0.6 + 0.13 * joint)
        points.append((wrist[0] + out * (12 + 7 * joint), wrist[1] + drop))
    return np.array(points, np.float32)


def draw() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Picture in bytes, shares of trunk, left and right arm, hands, and the exact mask of the right arm."""
    rng = np.random.default_rng(1)
    picture = (np.array(WALL) + rng.normal(0, 2, (HEIGHT, WIDTH, 1))).clip(0, 255).astype(np.uint8)
    trunk = np.zeros((HEIGHT, WIDTH), np.uint8)
    cv2.rectangle(trunk, (112, 120), (208, HEIGHT), 1, -1)
    cv2.line(trunk, (160, 80), (160, 125), 1, 24)
    picture[trunk > 0] = SHIRT
    cv2.ellipse(trunk, (160, 62), (26, 34), 0, 0, 360, 1, -1)
    cv2.ellipse(picture, (160, 62), (26, 34), 0, 0, 360, SKIN, -1)
    hands = np.stack([hand_at((254, 240), 1), hand_at((66, 240), -1)])
    arms = []
    for side, shoulder in ((0, (204, 136)), (1, (116, 136))):
        arm = np.zeros_like(trunk)
        cv2.line(arm, shoulder, CUFF[side], 1, 34)
        cv2.circle(arm, CUFF[side], 20, 1, -1)
        picture[arm > 0] = SLEEVE
        fingers = np.zeros_like(trunk)
        for finger in range(5):
            chain = [0, *range(1 + 4 * finger, 5 + 4 * finger)]
            for a, b in itertools.pairwise(chain):
                start, end = (hands[side][k].astype(int).tolist() for k in (a, b))
                cv2.line(fingers, start, end, 1, 7)
        picture[fingers > 0] = SKIN
        arms.append(arm | fingers)
    parts = np.stack([trunk & ~arms[0] & ~arms[1], *arms]).astype(np.float32)
    coarse = np.stack([cv2.blur(part, (25, 25)) for part in parts])  # cells of the finder
    return cv2.GaussianBlur(picture, (0, 0), 0.7), coarse, hands, parts[2] > 0


def surely(points: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.concatenate([points, np.ones((*points.shape[:-1], 1))], -1)).float()


def make_portrait(elbow: float = 0.25) -> Portrait:
    """`elbow`: how sure the finder is of elbows."""
    picture, coarse, hands, _ = draw()
    joints = [
        (160, 30),
        (160, 118),
        (204, 136),
        (116, 136),
        (246, 226),
        (74, 226),
        (254, 240),
        (66, 240),
    ]
    body = surely(np.array(joints, np.float32))
    body[4:6, 2] = elbow
    return Portrait(
        image=torch.from_numpy(picture).permute(2, 0, 1).float() / 127.5 - 1,
        face_box=torch.tensor([138.0, 40.0, 182.0, 92.0]),
        face_points=torch.zeros(68, 2),
        body_points=body,
        hand_points=surely(hands),
        hands_present=(True, True),
        body_masks=torch.from_numpy(coarse),
    )


@pytest.fixture(scope="module")
def portrait() -> Portrait:
    return make_portrait()


@pytest.fixture(scope="module")
def layers(portrait: Portrait) -> Layers:
    return Layers.build(portrait, meshes=False)


def limb_of(portrait: Portrait, side: int) -> Limb:
    limb = find_limb(portrait, side)
    assert isinstance(limb, Limb)
    return limb


def moved(portrait: Portrait, layers: Layers, x: float, y: float) -> np.ndarray:
    """The frame in bytes with the right hand moved, the left one at rest."""
    pose = torch.zeros(2, len(POSE))
    pose[1, :2], pose[1, 4:6] = torch.tensor([x, y]), 0.3 * torch.tensor([x, y])
    frame = layers.compose(portrait.image, None, pose)
    return ((frame.permute(1, 2, 0).numpy() + 1) * 127.5).clip(0, 255)


def near(frame: np.ndarray, colour: tuple[int, int, int], reach: float = 45) -> np.ndarray:
    return np.abs(frame - np.array(colour)).max(-1) < reach


def bytes_of(portrait: Portrait) -> np.ndarray:
    return ((portrait.image.permute(1, 2, 0).numpy() + 1) * 127.5).round().astype(np.uint8)


def test_a_half_sure_elbow_in_the_picture_is_an_elbow_and_no_pin() -> None:
    limb = limb_of(make_portrait(0.2), 1)
    assert not limb.pinned_elbow
    assert limb.elbow.tolist() == [74, 226]
    assert limb_of(make_portrait(0.1), 1).pinned_elbow


@pytest.mark.parametrize("move", [(-20, 0), (16, -14), (0, -24), (-10, 18)])
def test_the_sleeve_follows_the_hand_without_a_tear(
    portrait: Portrait, layers: Layers, move: tuple[int, int]
) -> None:
    assert layers.moves == (True, True)
    frame = moved(portrait, layers, *move)
    cuff, shoulder = np.array(CUFF[1]) + move, np.array([112, 150])
    for share in np.linspace(0.1, 0.95, 18):
        x, y = (shoulder + share * (cuff - shoulder)).round().astype(int)
        assert near(frame, SLEEVE)[y - 3 : y + 4, x - 3 : x + 4].any(), share


def test_the_wall_under_a_forearm_that_points_at_the_viewer_stays(
    portrait: Portrait, layers: Layers
) -> None:
    frame, photo = moved(portrait, layers, -18, -6), bytes_of(portrait).astype(float)
    below = (slice(275, HEIGHT), slice(0, 104))
    assert np.abs(frame[below] - photo[below]).max() < 12


def test_what_a_moved_sleeve_leaves_is_wall_without_its_colour(
    portrait: Portrait, layers: Layers
) -> None:
    frame, photo = moved(portrait, layers, 0, -28), bytes_of(portrait)
    left = near(photo, SLEEVE, 25) & (np.arange(HEIGHT)[:, None] > 236)
    left[:, 104:] = False  # beside the trunk
    left &= ~near(frame, SKIN)
    assert left.sum() > 200
    assert near(frame, WALL, 25)[left].mean() > 0.9


def test_no_notch_shows_at_the_shoulder_when_the_hand_moves_in(
    portrait: Portrait, layers: Layers
) -> None:
    frame = moved(portrait, layers, 32, 0)
    edge = np.array([int(np.argmax(~near(row, WALL, 25))) for row in frame[140:206]])
    assert (edge[8:] - edge[:-8]).max() <= 4  # the arm's outline never steps back inwards


def test_the_person_is_cut_with_wide_sleeves(portrait: Portrait) -> None:
    none = np.zeros((HEIGHT, WIDTH), np.float32)
    cut = person_mask(bytes_of(portrait), portrait, none, [limb_of(portrait, s) for s in (0, 1)])
    sleeve = near(bytes_of(portrait), SLEEVE, 20)
    wall = cv2.erode(near(bytes_of(portrait), WALL, 20).astype(np.uint8), np.ones((5, 5))) > 0
    assert cut[sleeve].mean() > 0.97
    assert cut[wall].mean() < 0.01


def test_an_arm_ends_at_the_edge_between_sleeve_and_shirt(portrait: Portrait) -> None:
    _, _, _, truth = draw()
    limb, pixels = limb_of(portrait, 1), bytes_of(portrait)
    person = person_mask(pixels, portrait, np.zeros((HEIGHT, WIDTH), np.float32), [limb])
    nothing = truth & (np.arange(WIDTH) < 50)  # the cut knows but finger tips
    arm = arm_of(person, portrait, limb, nothing.astype(np.float32), pixels / np.float32(255)) > 0.5
    rows = slice(165, 215)
    assert (arm & truth)[rows].sum() > 0.93 * truth[rows].sum()
    assert (arm & ~truth)[rows].sum() < 0.07 * truth[rows].sum()
    thin = replace(portrait, body_masks=torch.from_numpy(np.roll(draw()[1], -8, axis=2)))
    again = arm_of(person, thin, limb, nothing.astype(np.float32), pixels / np.float32(255)) > 0.5
    assert (again & truth)[rows].sum() > 0.9 * truth[
        rows
    ].sum()  # shares some pixels off are mended


def test_a_sleeve_goes_on_behind_its_hand_and_a_bare_forearm_does_not(portrait: Portrait) -> None:
    limb = replace(limb_of(portrait, 1), wrist=np.array([50, 60], np.float32), unit=200.0)
    taken = np.zeros((100, 100), np.float32)
    taken[48:72, 20:40] = 1  # the hand lies before the sleeve's corner
    field = Field(weights=np.zeros((2, 2, 3), np.float32), origin=(0, 0), stride=50)
    for colour, filled in ((SLEEVE, True), (SKIN, False)):
        picture = np.zeros((100, 100, 4), np.float32)
        picture[20:90, 25:75] = [*(np.array(colour) / 127.5 - 1), 1]
        picture[taken > 0] = [*(np.array(SKIN) / 127.5 - 1), 1]
        plane = Plane(colour=picture, box=(0, 0, 100, 100), field=field)
        rest = picture * (1 - taken)[..., None]
        whole = sleeve_behind(rest, plane, taken, limb)
        assert bool(whole[60, 33, 3] > 0.9) == filled
        assert whole[60, 21, 3] < 0.1  # the hand beyond the sleeve's own outline
        if filled:
            assert np.abs(whole[60, 33, :3] - picture[30, 50, :3]).max() < 0.1


def test_a_forearm_behind_its_fingers_is_not_painted_as_a_tube(portrait: Portrait) -> None:
    wrist = np.array([50, 60], np.float32)
    hand = wrist + np.array([[0, 0], [-20, -8], [-24, 0], [-20, 8]], np.float32)
    limb = replace(
        limb_of(portrait, 1), wrist=wrist, hand=hand, chains=((0, 1), (0, 2), (0, 3)), unit=100.0,
        shoulder=np.array([60, 0], np.float32),
    )  # fmt: skip
    picture = np.zeros((100, 100, 4), np.float32)
    picture[10:70, 40:70] = [*(np.array(SLEEVE) / 127.5 - 1), 1]
    taken = np.zeros((100, 100), np.float32)
    taken[44:76, 20:52] = 1
    picture[taken > 0] = [*(np.array(SKIN) / 127.5 - 1), 1]
    field = Field(weights=np.zeros((2, 2, 3), np.float32), origin=(0, 0), stride=50)
    plane = Plane(colour=picture, box=(0, 0, 100, 100), field=field)
    for elbow, painted in (((28, 60), False), ((60, 78), True)):
        arm = replace(limb, elbow=np.array(elbow, np.float32))
        at = (0.8 * np.array(elbow) + 0.2 * wrist).astype(int)
        rest = without_hand(plane, taken, arm)
        assert bool(rest[at[1], min(at[0], 51), 3] > 0.5) == painted, elbow


def test_a_table_beside_a_hand_is_no_arm_and_a_bare_forearm_is(portrait: Portrait) -> None:
    picture, coarse, hands, true = draw()
    limb = replace(limb_of(portrait, 1), elbow=np.array([86, 190], np.float32))
    shares = torch.from_numpy(coarse).clone()
    shares[2, 232:280, 20:70] = 0.9  # the coarse share runs over what lies under the fingers
    table, bare = np.s_[244:276, 30:58], np.s_[250:262, 76:90]
    for colour, place in (((60, 120, 60), table), (SKIN, bare)):
        picture[place] = colour
    told = replace(portrait, body_masks=shares)
    person = np.zeros(true.shape, bool)
    person[true] = True
    for place in (table, bare):
        person[place] = True
    image = picture.astype(np.float32) / 255
    arm = arm_of(person, told, limb, true.astype(np.float32), image) > 0.5
    assert not arm[264:274, 34:54].any()
    assert arm[true & (np.mgrid[:HEIGHT, :WIDTH][0] > 200)].mean() > 0.8
    assert hands.shape[0] == 2


def test_what_hangs_below_a_known_elbow_is_no_arm(portrait: Portrait) -> None:
    picture, coarse, _, true = draw()
    limb = replace(limb_of(portrait, 1), elbow=np.array([86, 196], np.float32))
    limb = replace(
        limb, wrist=np.array([50, 180], np.float32), hand=limb.hand - np.array((16, 60), np.float32)
    )
    person = true.copy()
    below = np.s_[200:232, 78:96]
    person[below] = True
    shares = torch.from_numpy(coarse).clone()
    shares[2, 190:240, 70:100] = 0.9
    shares[0, 190:240, 70:100] = 0
    told = replace(portrait, body_masks=shares)
    cut = (true & (np.mgrid[:HEIGHT, :WIDTH][0] < 200)).astype(np.float32)
    arm = arm_of(person, told, limb, cut, picture.astype(np.float32) / 255) > 0.5
    assert arm[170:190, 80:92].any()
    assert not arm[224:232, 80:94].any()


def test_what_is_known_to_be_forearm_tells_the_colours_behind_a_hand(portrait: Portrait) -> None:
    wrist, elbow = np.array([50, 50], np.float32), np.array([50, 95], np.float32)
    hand = wrist + np.array([[0, 0], [-20, -8], [-24, 0], [-20, 8]], np.float32)
    limb = replace(
        limb_of(portrait, 1), wrist=wrist, elbow=elbow, hand=hand, chains=((0, 1), (0, 2), (0, 3)),
        unit=100.0, shoulder=np.array([50, 0], np.float32),
    )  # fmt: skip
    sleeve, arm, palm = (
        np.array((*(np.array(c) / 127.5 - 1), 1)) for c in (SLEEVE, (170, 130, 110), SKIN)
    )
    picture = np.zeros((100, 100, 4), np.float32)
    picture[:50, 40:60] = sleeve
    picture[50:98, 43:57] = arm  # in the shade, darker than its hand
    taken = np.zeros((100, 100), np.float32)
    taken[42:76, 22:62] = 1
    picture[taken > 0] = palm
    field = Field(weights=np.zeros((2, 2, 3), np.float32), origin=(0, 0), stride=50)
    plane = Plane(colour=picture, box=(0, 0, 100, 100), field=field)
    known = np.zeros((100, 100), np.float32)
    known[76:98, 43:57] = 1
    behind = without_hand(plane, taken, limb, known)[62, 50]
    assert behind[3] > 0.9
    assert np.abs(behind[:3] - arm[:3]).max() < 0.08


def test_what_only_an_arm_joins_to_the_trunk_is_no_trunk_behind_it(portrait: Portrait) -> None:
    person, arms = np.zeros((60, 90), bool), np.zeros((60, 90), bool)
    person[10:60, 5:40] = True
    arms[10:60, 40:60] = person[10:60, 40:60] = True
    person[20:50, 60:88] = True  # a screen of the sleeve's colour
    shares = np.zeros((3, 60, 90), np.float32)
    shares[0, 10:60, 5:40], shares[1, 10:60, 36:64] = 0.9, 0.8
    told = replace(portrait, image=torch.zeros(3, 60, 90), body_masks=torch.from_numpy(shares))
    trunk = without_islands(person, arms, told)
    assert trunk[30, 20]
    assert not trunk[:, 40:].any()
