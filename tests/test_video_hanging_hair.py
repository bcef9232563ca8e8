"""Hair that hangs: it is found, goes with the head where it leaves it, and ends where it was."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from emo2.signals import Portrait
from emo2.video.backdrop import Backdrop

BOX = (104.0, 100.0, 168.0, 180.0)
HAIR, SKIN, CLOTH = (-0.8, -0.9, -0.9), (0.7, 0.3, 0.1), (-0.6, -0.5, 0.4)
LEFT, RIGHT, ENDS = (93, 115), (157, 179), 214
SHIFT = 10
"""Pixels that the head turns to the left by."""


WALL = (0.1, 0.5, 0.3)


def bust(*, long: bool = True, tied: int = 0, wall: tuple[float, float, float] = WALL) -> Portrait:
    """A head with dark hair before a plain wall, 320 x 272; long hair hangs beside the neck down to the shoulders.

    `tied`: how wide it is beside the jaw, in pixels, where it is a tail.
    """
    y, x = torch.meshgrid(torch.arange(320.0), torch.arange(272.0), indexing="ij")
    image = torch.tensor(wall)[:, None, None].expand(3, 320, 272).clone()
    image += 0.02 * torch.randn(image.shape, generator=torch.Generator().manual_seed(0))

    def fill(where: torch.Tensor, colour: tuple[float, float, float]) -> None:
        for channel, value in enumerate(colour):
            image[channel][where] = value

    if long:
        for low, high in (LEFT, RIGHT):
            fill((x >= low) & (x < high) & (y > 110) & (y < ENDS), HAIR)
            if tied:
                fill((x >= low) & (x < high) & (y > 164) & (y < 176), wall)
                fill(((x - (low + high - 1) / 2).abs() < tied / 2) & (y > 160) & (y < 180), HAIR)
    fill(((x - 136) / 44) ** 2 + ((y - 112) / 68) ** 2 < 1, HAIR)
    fill(((x - 136) / 36) ** 2 + ((y - 136) / 44) ** 2 < 1, SKIN)
    fill(((x - 136).abs() < 18) & (y > 160) & (y < 224), SKIN)
    fill(((x - 136) / 120) ** 2 + ((y - 300) / 90) ** 2 < 1, CLOTH)
    return Portrait(
        image=image.clamp(-1, 1),
        face_box=torch.tensor(BOX),
        face_points=torch.zeros(68, 2),
        body_points=torch.zeros(8, 3),
        hand_points=torch.zeros(2, 21, 3),
        hands_present=(False, False),
    )


def as_array(portrait: Portrait) -> np.ndarray:
    return np.ascontiguousarray(portrait.image.permute(1, 2, 0).numpy(), np.float32)


def turned(portrait: Portrait) -> np.ndarray:
    """A frame whose head is `SHIFT` pixels to the left; the flow says nothing of the hair beside it."""
    backdrop = Backdrop.build(portrait)
    assert backdrop is not None
    y, x = np.mgrid[:320, :272]
    new, old = ((((x - m) / 44) ** 2 + ((y - 112) / 68) ** 2 < 1) for m in (136 - SHIFT, 136))
    flow = np.zeros((320, 272, 2), np.float32)
    flow[new, 0] = SHIFT
    visible = np.where(old & ~new, 0, 1).astype(np.float32)
    edge = backdrop.follow(flow, visible)
    assert edge is not None
    places = np.stack([x, y], -1).astype(np.float32) + flow
    frame = as_array(portrait)[y, (x + flow[..., 0]).round().astype(int)]
    backdrop.lay(frame, places, edge)
    return frame


def outline(frame: np.ndarray) -> np.ndarray:
    """The right lock's right side, row by row from the ear to the shoulder."""
    dark = frame[136 : ENDS - 14, 140:, 1] < -0.3
    return 140 + dark.shape[1] - dark[:, ::-1].argmax(1)


def test_hair_that_hangs_is_found_on_both_sides_and_belongs_to_no_head() -> None:
    backdrop = Backdrop.build(bust())
    assert backdrop is not None
    assert len(backdrop.locks) == 2
    assert backdrop.person[190, [100, 170]].max() < 0.1
    assert backdrop.person[[190, 60], 136].min() > 0.99
    assert np.abs(backdrop.wall[190, [100, 170], 1] - 0.5).max() < 0.2  # without the hair


@pytest.mark.parametrize(
    "portrait",
    [bust(long=False), bust(wall=HAIR), bust(tied=6)],
    ids=["short hair", "a wall like the hair", "a tail"],
)
def test_there_is_no_hanging_hair_where_none_can_be_told(portrait: Portrait) -> None:
    backdrop = Backdrop.build(portrait)
    assert backdrop is None or backdrop.locks == ()


def test_hair_bends_from_the_heads_motion_to_rest_without_a_step() -> None:
    side = outline(turned(bust()))
    assert abs(side[4] - (RIGHT[1] - SHIFT)) <= 2
    assert abs(side[-1] - RIGHT[1]) <= 1
    assert np.diff(side).max() <= 2
    assert np.diff(side).min() >= -1


def test_what_a_turning_head_uncovers_beside_hair_is_hair() -> None:
    frame = turned(bust())
    beside = frame[156:172, 136 - SHIFT + 33 : RIGHT[1] - SHIFT - 4, 1]
    assert beside.max() < -0.6


def test_where_hair_hung_is_wall() -> None:
    frame = turned(bust())
    was = frame[140:156, RIGHT[1] - SHIFT + 5 : RIGHT[1] + 2, 1]
    assert was.min() > 0.3


def test_hair_that_hangs_stays_as_it_is_while_the_head_rests() -> None:
    portrait = bust()
    backdrop = Backdrop.build(portrait)
    assert backdrop is not None
    frame = as_array(portrait)
    y, x = np.mgrid[:320, :272].astype(np.float32)
    assert (
        backdrop.follow(np.zeros((320, 272, 2), np.float32), np.ones((320, 272), np.float32))
        is None
    )
    backdrop.lay(frame, np.stack([x, y], -1))
    assert np.abs(frame - as_array(portrait))[110:ENDS, 90:182].max() < 0.02


def test_hair_goes_with_the_body_where_all_of_the_person_moves() -> None:
    portrait = bust()
    backdrop = Backdrop.build(portrait)
    assert backdrop is not None
    flow = np.zeros((320, 272, 2), np.float32)
    flow[..., 1] = 6.0
    edge = backdrop.follow(flow, np.ones((320, 272), np.float32))
    assert edge is not None
    assert edge.plate is not None
    assert np.abs(edge.plate[140:190, 173:177] - as_array(portrait)[146:196, 173:177]).max() < 0.1
