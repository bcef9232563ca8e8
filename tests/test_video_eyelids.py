"""Eyes found by colour, and lids that close over them."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
import pytest
import torch

from emo2.portrait.eyes import find_eyes
from emo2.reel import Reel
from emo2.signals import FACE_ACTIONS, Motion, Portrait
from emo2.video.examples import FACE_ACTIONS as ACTIONS
from emo2.video.eyelids import BLINKS, Eyelids
from emo2.video.script import Script

SIDE, WIDTH, HEIGHT = 256, 48, 20
MIDDLES = ((80, 110), (176, 110))
SKIN, WHITE, IRIS, BROW = (0.86, 0.66, 0.56), (0.92, 0.92, 0.92), (0.2, 0.25, 0.35), (0.3, 0.2, 0.15)  # fmt: skip


def lens(middle: tuple[int, int], height: float = HEIGHT) -> np.ndarray:
    across = np.linspace(-1, 1, 50)
    upper = np.stack([across * WIDTH / 2, -0.55 * height * (1 - across**2)], -1)
    lower = np.stack([across[::-1] * WIDTH / 2, 0.45 * height * (1 - across[::-1] ** 2)], -1)
    return np.concatenate([upper, lower]) + middle


def face(*, off: float = -4.0, height: float = HEIGHT) -> Portrait:
    """A face with two eyes; the finder's contours are `off` pixels below them."""
    big = np.zeros((4 * SIDE, 4 * SIDE, 3), np.float32) + np.float32(SKIN)
    points = np.zeros((68, 2), np.float32)
    for middle, eye, brow in zip(MIDDLES, (36, 42), (17, 22), strict=True):
        eyeball = np.zeros(big.shape[:2], np.uint8)
        cv2.fillPoly(eyeball, [np.round(4 * lens(middle, height)).astype(np.int32)], 1)
        iris = np.zeros_like(eyeball)
        cv2.circle(iris, (4 * middle[0], 4 * middle[1]), 36, 1, -1)
        big[eyeball > 0] = WHITE
        big[(eyeball > 0) & (iris > 0)] = IRIS
        high = middle[1] - 24
        cv2.ellipse(big, (4 * middle[0], 4 * high), (110, 14), 0, 0, 360, BROW, -1)
        points[brow : brow + 5] = [(middle[0] + k, high) for k in (-24, -12, 0, 12, 24)]
        ways = [(-24, 0), (-8, -9), (8, -9), (24, 0), (8, 8), (-8, 8)]
        points[eye : eye + 6] = [(middle[0] + x, middle[1] + y + off) for x, y in ways]
    image = cv2.resize(big, (SIDE, SIDE), interpolation=cv2.INTER_AREA)
    image = image + np.random.default_rng(0).normal(0, 0.01, image.shape)
    return Portrait(
        image=torch.from_numpy(2 * image.clip(0, 1) - 1).permute(2, 0, 1).float(),
        face_box=torch.tensor([40.0, 60.0, 216.0, 230.0]),
        face_points=torch.from_numpy(points),
        body_points=torch.zeros(8, 3),
        hand_points=torch.zeros(2, 21, 3),
        hands_present=(False, False),
    )


@pytest.fixture(scope="module")
def portrait() -> Portrait:
    return face()


@pytest.fixture(scope="module")
def eyelids(portrait: Portrait) -> Eyelids:
    found = Eyelids.build(portrait)
    assert found is not None
    return found


@pytest.fixture
def closed(portrait: Portrait, eyelids: Eyelids) -> Callable[..., np.ndarray]:
    """A frame in which the photo has moved by `shift`, its eyes closed by so much."""

    def make(left: float, right: float, shift: tuple[int, int] = (0, 0)) -> np.ndarray:
        frame = np.ascontiguousarray(portrait.image.permute(1, 2, 0).numpy())
        frame = np.roll(frame, (shift[1], shift[0]), (0, 1)).copy()
        grid = np.stack(np.meshgrid(*(np.arange(SIDE, dtype=np.float32),) * 2), -1)
        flow = np.zeros_like(grid) - np.float32(shift)
        for lid in eyelids.follow(grid, flow, np.array([left, right], np.float32)):
            lid.lay(frame)
        return frame

    return make


def eyeball(frame: np.ndarray, middle: tuple[int, int]) -> float:
    """Share of what was eye that is not the colour of skin, its rim left out."""
    mask = np.zeros(frame.shape[:2], np.uint8)
    inner = np.array(middle) + 0.8 * (lens(middle) - middle)
    cv2.fillPoly(mask, [np.round(inner).astype(np.int32)], 1)
    off = np.abs((frame[mask > 0] + 1) / 2 - np.float32(SKIN)).max(-1)
    return float((off > 0.15).mean())


def test_lids_are_found_where_the_finder_is_four_pixels_off(portrait: Portrait) -> None:
    for eye, middle in zip(find_eyes(portrait), MIDDLES, strict=True):
        assert eye is not None
        centre = len(eye.across) // 2
        column = np.array([[0.0, eye.upper[centre]], [0.0, eye.lower[centre]]], np.float32)
        top, bottom = eye.outside(column)[:, 1] - middle[1]
        assert top == pytest.approx(-0.55 * HEIGHT, abs=1.5)
        assert bottom == pytest.approx(0.45 * HEIGHT, abs=1.5)


@pytest.mark.parametrize("shift", [(0, 0), (9, -6)])
def test_shut_lids_leave_nothing_of_the_eye_wherever_the_head_is(
    closed: Callable[..., np.ndarray], shift: tuple[int, int]
) -> None:
    frame = closed(1.0, 1.0, shift)
    for middle in MIDDLES:
        there = (middle[0] + shift[0], middle[1] + shift[1])
        assert eyeball(closed(0.0, 0.0, shift), there) > 0.9
        assert eyeball(frame, there) < 0.15  # the line where lids touch


def test_lids_come_down_with_the_closure_each_by_itself(closed: Callable[..., np.ndarray]) -> None:
    shares = [eyeball(closed(k, 0.0), MIDDLES[0]) for k in (0.0, 0.3, 0.6, 1.0)]
    assert sorted(shares, reverse=True) == shares
    assert 0.3 < shares[2] < 0.7
    assert eyeball(closed(1.0, 0.0), MIDDLES[1]) > 0.9


def test_nothing_but_the_eye_and_the_skin_around_it_changes(
    portrait: Portrait, closed: Callable[..., np.ndarray]
) -> None:
    photo = portrait.image.permute(1, 2, 0).numpy()
    assert np.array_equal(closed(0.0, 0.0), photo)
    changed = np.abs(closed(1.0, 1.0) - photo).max(-1) > 0.05
    rows, columns = np.nonzero(changed)
    assert rows.min() > MIDDLES[0][1] - 24  # brows stay
    assert rows.max() < MIDDLES[0][1] + 24
    assert changed[:, 116:140].sum() == 0  # and what is between the eyes
    assert columns.min() > MIDDLES[0][0] - WIDTH


def test_an_eye_that_a_flow_has_smeared_is_left_alone(eyelids: Eyelids) -> None:
    grid = np.stack(np.meshgrid(*(np.arange(SIDE, dtype=np.float32),) * 2), -1)
    flow = np.float32(MIDDLES[0]) - grid  # every pixel fetches one place
    assert eyelids.follow(grid, flow, np.ones(2, np.float32)) == ()


def test_eyes_that_are_shut_already_are_left_to_the_networks() -> None:
    assert Eyelids.build(face(height=2.0)) is None


def test_networks_are_told_open_eyes_where_lids_close_them() -> None:
    face_actions = torch.rand(4, ACTIONS, generator=torch.Generator().manual_seed(0))
    motion = Motion(
        hands=torch.zeros(4, 2, 67), visibility=torch.zeros(4, 2), confidence=torch.zeros(4, 2),
        betas=torch.zeros(10), fps=25.0, face=face_actions,
    )  # fmt: skip
    scripts = [
        Script(features=Reel(iter(()), 4), motion=Reel.of(motion), maps=None, arms=None, seed=0,
               steps=0, fps=25.0, lids=lids)
        for lids in (False, True)
    ]  # fmt: skip
    told = [script.conditions(0, 4)[0, :, : len(FACE_ACTIONS)] for script in scripts]
    assert torch.equal(told[0], face_actions)
    assert not told[1][:, BLINKS].any()
    others = [k for k in range(ACTIONS) if k not in BLINKS]
    assert torch.equal(told[1][:, others], face_actions[:, others])
    assert scripts[0].closures(1, 3) == [None, None]
    for found, asked in zip(scripts[1].closures(1, 3), face_actions[1:3], strict=True):
        assert found is not None
        assert np.allclose(found, asked[BLINKS].numpy())
