"""A photo's open lips are found and brought together; what is not sure stays as it is."""

from __future__ import annotations

import math
from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor

from emo2.pipeline import Models
from emo2.portrait.lips import find_lips
from emo2.signals import Portrait
from emo2.video.lips_together import lips_together
from emo2.video.mouth_inside import LOWER_SINK, inside_of, mouth_inside
from emo2.video.own_teeth import teeth_of
from emo2.video.stage import VideoStage

SIDE, EYES, MOUTH = 300, 90.0, 190.0
UNIT = MOUTH - EYES
SKIN, LIP, TEETH, DARK = (
    (0.85, 0.66, 0.55),
    (0.76, 0.36, 0.38),
    (0.93, 0.9, 0.84),
    (0.1, 0.05, 0.05),
)


def drawn(gap: float, inside: tuple[float, float, float] = TEETH, turned: float = 0.0) -> Portrait:
    """A face of skin with lips whose inner edges are `gap` pixels apart in the middle, turned by so many degrees."""
    big = 2
    x, y = np.meshgrid(np.arange(SIDE * big) / big, np.arange(SIDE * big) / big)
    across, down = (x - 150) / 38, y - MOUTH
    arch = np.clip(1 - across**2, 0, 1)
    picture = np.empty((SIDE * big, SIDE * big, 3), np.float32)
    picture[:] = SKIN
    picture[np.abs(down) < (gap / 2 + 12) * arch] = LIP
    picture[np.abs(down) < gap / 2 * arch] = inside
    small = cv2.resize(picture, (SIDE, SIDE), interpolation=cv2.INTER_AREA)
    rows = [(150.0, 150.0)] * 68
    rows[36:42], rows[42:48] = [(110.0, EYES)] * 6, [(190.0, EYES)] * 6
    rows[33], rows[8] = (150.0, 158.0), (150.0, 250.0)
    for first, count, reach, height in ((48, 12, 38, gap / 2 + 12), (60, 8, 36, gap / 2)):
        for k in range(count):
            angle = math.pi + 2 * math.pi * k / count
            rows[first + k] = (150 + reach * math.cos(angle), MOUTH + height * math.sin(angle))
    turn = cv2.getRotationMatrix2D((150, 150), turned, 1.0)
    small = cv2.warpAffine(small, turn, (SIDE, SIDE), borderMode=cv2.BORDER_REPLICATE)
    points = np.array(rows) @ turn[:, :2].T + turn[:, 2]
    return Portrait(
        image=torch.from_numpy(small).permute(2, 0, 1) * 2 - 1,
        face_box=torch.tensor([80.0, 60.0, 220.0, 250.0]),
        face_points=torch.from_numpy(points).float(),
        body_points=torch.zeros(8, 3),
        hand_points=torch.zeros(2, 21, 3),
        hands_present=(False, False),
    )


def looks_like(image: Tensor, colour: tuple[float, float, float]) -> int:
    """How many pixels are nearly of a colour."""
    wanted = torch.tensor(colour).view(3, 1, 1) * 2 - 1
    return int(((image - wanted).abs().amax(0) < 0.2).sum())


@pytest.mark.parametrize("gap", [9.0, 14.0, 20.0])
def test_the_edges_of_open_lips_are_found_within_a_pixel(gap: float) -> None:
    lips = find_lips(drawn(gap))
    assert lips is not None
    near = np.abs(lips.across) < 0.15
    half = gap / 2 * (1 - (lips.across[near] * UNIT / 38) ** 2)
    top, bottom = lips.upper[near] * UNIT, lips.lower[near] * UNIT
    assert np.abs(top + half).max() < 1.6
    assert np.abs(bottom - half).max() < 1.6
    assert lips.gap * UNIT == pytest.approx(gap, abs=2.0)


@pytest.mark.parametrize("turned", [0.0, 25.0, -40.0])
@pytest.mark.parametrize(("gap", "inside"), [(9.0, TEETH), (16.0, TEETH), (18.0, DARK)])
def test_lips_that_are_apart_meet(gap: float, inside: tuple, turned: float) -> None:
    portrait = drawn(gap, inside, turned)
    closed, _ = lips_together(portrait)
    assert looks_like(portrait.image, inside) > 200
    assert looks_like(closed.image, inside) == 0
    assert find_lips(closed) is None


def test_lips_keep_their_colour_where_they_meet() -> None:
    closed = lips_together(drawn(14.0))[0].image
    column = (closed[:, 160:220, 150] + 1) / 2
    lip = torch.tensor(LIP)[:, None]
    near = (column - lip).abs().amax(0) < 0.12
    rows = near.nonzero().flatten() + 160
    assert int(rows.max() - rows.min()) > 20, "both lips are still there, as thick as they were"
    crease = int(column.sum(0)[rows.min() - 160 : rows.max() - 159].argmin() + rows.min())
    assert abs(crease - (MOUTH - 3)) < 2
    assert float(column[:, crease - 160].mean()) > 0.3, "a soft line and no black one"


def test_closed_lips_stay_as_they_are_to_the_bit() -> None:
    portrait = drawn(0.0)
    assert lips_together(portrait)[0] is portrait
    narrow = drawn(3.0, DARK)
    assert lips_together(narrow)[0] is narrow


def test_lips_that_cannot_be_told_from_skin_leave_the_photo_alone() -> None:
    portrait = drawn(16.0)
    grey = portrait.image.mean(0, keepdim=True).expand(3, -1, -1)
    noise = torch.randn(3, SIDE, SIDE, generator=torch.Generator().manual_seed(1))
    for image in (grey, torch.zeros(3, SIDE, SIDE), noise.clamp(-1, 1)):
        unsure = replace(portrait, image=image)
        assert lips_together(unsure)[0] is unsure


def test_points_that_are_no_face_leave_the_photo_alone() -> None:
    portrait = drawn(16.0)
    for points in (torch.zeros(68, 2), portrait.face_points - 400.0, portrait.face_points * 0.05):
        astray = replace(portrait, face_points=points)
        assert lips_together(astray)[0] is astray


def test_nothing_but_the_mouth_moves_and_the_photo_given_is_not_touched() -> None:
    portrait = drawn(16.0)
    before = portrait.image.clone()
    closed, _ = lips_together(portrait)
    assert torch.equal(portrait.image, before)
    changed = (closed.image != before).any(0).nonzero()
    assert float(changed[:, 0].min()) >= 155, "above the nose nothing changes"
    assert float(changed[:, 0].max()) <= 260
    assert float((changed[:, 1] - 150).abs().max()) < 0.7 * UNIT


def test_points_go_with_the_lips() -> None:
    portrait = drawn(16.0)
    points = lips_together(portrait)[0].face_points
    inner = points[60:68]
    assert float(inner[:, 1].max() - inner[:, 1].min()) < 4.0
    assert float(points[51, 1]) > float(portrait.face_points[51, 1]) + 1.0, (
        "the upper lip came down"
    )
    assert float(points[57, 1]) < float(portrait.face_points[57, 1]) - 3.0, "the lower lip came up"
    assert torch.equal(points[:48], portrait.face_points[:48])


def test_teeth_that_a_photo_shows_are_kept_in_their_place_and_colour() -> None:
    portrait = drawn(22.0)
    _, teeth = lips_together(portrait)
    assert teeth is not None
    places = np.array([[(140.0, MOUTH), (150.0, MOUTH + 4), (160.0, MOUTH - 4)]], np.float32)
    assert teeth.at(places) == pytest.approx(np.broadcast_to((*TEETH, 1.0), (1, 3, 4)), abs=0.06)
    beside = np.array([[(150.0, MOUTH + 14), (195.0, MOUTH)]], np.float32)
    assert np.abs(teeth.at(beside)).max() < 0.05, "below the teeth and beside the mouth is nothing"


def test_few_teeth_or_none_are_not_kept() -> None:
    assert lips_together(drawn(9.0))[1] is None
    dark = drawn(22.0, DARK)
    lips = find_lips(dark)
    assert lips is not None
    assert teeth_of(dark, lips) is None


def test_own_teeth_are_drawn_in_the_photos_own_light_and_the_lower_ones_stand_below_them() -> None:
    window = torch.tensor([0.2, 0.1, 0.3]).view(3, 1, 1).expand(3, 96, 96)
    own = np.zeros((64, 64, 4), np.float32)
    own[20:36, 16:48] = (*TEETH, 1.0)
    inside = inside_of(window, own)
    spot = np.array([[(0.0, -0.1)]], np.float32)
    assert (inside.draw(spot, 0.0)[0, 0] + 1) / 2 == pytest.approx(TEETH, abs=0.02)
    assert inside.sink > LOWER_SINK
    without = inside_of(window, None)
    assert without.sink == LOWER_SINK
    assert np.array_equal(without.upper, mouth_inside().upper)


def test_stage_2_looks_at_the_closed_mouth_and_knows_its_teeth(small_models: Models) -> None:
    portrait = drawn(22.0)
    stage = small_models.video
    assert isinstance(stage, VideoStage)
    with torch.inference_mode():
        look = stage.look(portrait)
    assert looks_like(torch.from_numpy(look.composer.photo).permute(2, 0, 1), TEETH) == 0
    mouth = look.views[-1].windows[0].inside
    assert mouth is not None
    assert not np.array_equal(mouth.upper, mouth_inside().upper)


def with_patch(portrait: Portrait, colour: tuple, rows: slice, half: int) -> Portrait:
    """The portrait with a patch in the middle of some rows."""
    image = portrait.image.clone()
    image[:, rows, 150 - half : 150 + half] = torch.tensor(colour).view(3, 1, 1) * 2 - 1
    return replace(portrait, image=image)


def test_skin_between_a_red_nose_and_closed_lips_is_no_mouth() -> None:
    portrait = with_patch(drawn(0.0), LIP, slice(146, 160), 24)
    assert lips_together(portrait)[0] is portrait


def test_a_mouth_parted_by_its_tongue_closes_too() -> None:
    portrait = with_patch(drawn(30.0), (0.6, 0.28, 0.3), slice(187, 194), 34)
    closed, _ = lips_together(portrait)
    assert looks_like(portrait.image, TEETH) > 600
    assert looks_like(closed.image, TEETH) == 0
