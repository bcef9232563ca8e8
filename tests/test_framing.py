"""Framing: points stay on their pixels whatever size the film has."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from emo2.framing import reframe
from emo2.signals import Portrait


def portrait(height: int, width: int, *, x: float, y: float) -> Portrait:
    """A dark picture with one bright square centred on (x, y), where the face is said to be."""
    image = torch.full((3, height, width), -1.0)
    half = 12
    image[:, int(y) - half : int(y) + half, int(x) - half : int(x) + half] = 1.0
    centre = torch.tensor([x, y])
    return Portrait(
        image=image,
        face_box=torch.tensor([x - half, y - half, x + half, y + half]),
        face_points=centre.expand(68, 2).clone(),
        body_points=torch.tensor([[x, y, 0.9]]).expand(8, 3).clone(),
        hand_points=torch.tensor([x, y, 0.8]).expand(2, 21, 3).clone(),
        hands_present=(True, True),
        limb_masks=image[:1].add(1).div(2).expand(4, -1, -1).clone(),
        body_masks=image[:1].add(1).div(2).expand(3, -1, -1).clone(),
    )


def bright_centre(image: torch.Tensor) -> tuple[float, float]:
    """Where the square is, in pixels."""
    light = (image.mean(0) + 1) / 2
    rows = torch.arange(light.shape[0]) + 0.5
    columns = torch.arange(light.shape[1]) + 0.5
    total = light.sum()
    return float((light.sum(0) * columns).sum() / total), float((light.sum(1) * rows).sum() / total)


def test_a_photo_of_the_films_size_is_left_alone() -> None:
    small = portrait(120, 90, x=45.0, y=40.0)
    assert reframe(small, None, 256) is small
    assert reframe(small, (120, 90), 256) is small


def test_a_large_photo_is_scaled_to_the_longest_side() -> None:
    film = reframe(portrait(400, 300, x=150.0, y=100.0), None, 200)
    assert film.size == (200, 150)
    assert film.hands_present == (True, True)


@pytest.mark.parametrize("size", [(96, 96), (64, 200), (200, 64), (240, 180)])
def test_points_stay_on_their_pixels(size: tuple[int, int]) -> None:
    film = reframe(portrait(120, 90, x=60.0, y=30.0), size, 256)
    assert film.size == size
    x, y = bright_centre(film.image)
    assert film.face_points[0].tolist() == pytest.approx([x, y], abs=1.0)
    assert film.body_points[0].tolist() == pytest.approx([x, y, 0.9], abs=1.0)
    for masks in (film.limb_masks, film.body_masks):
        assert masks is not None
        assert bright_centre(masks[:3] * 2 - 1) == pytest.approx((x, y), abs=1.0)


def test_the_cut_keeps_the_face() -> None:
    film = reframe(portrait(100, 400, x=360.0, y=50.0), (100, 100), 512)
    x0, _, x1, _ = film.face_box.tolist()
    assert x0 >= 0
    assert x1 <= 100


def test_hands_that_were_cut_off_are_not_moved() -> None:
    wide = portrait(100, 400, x=350.0, y=50.0)
    hands = wide.hand_points.clone()
    hands[0, :, 0] = 20.0
    film = reframe(replace(wide, hand_points=hands), (100, 100), 512)
    assert film.hands_present == (False, True)
