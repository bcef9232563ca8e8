"""Hands found by the colour of the face's skin, on a drawn person."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch

from emo2.portrait.skin import hand_by_skin, with_hands_by_skin
from emo2.signals import FOLDED, Portrait

SKIN, SHIRT, WALL = (224, 172, 140), (60, 70, 160), (130, 160, 150)
CENTRES = {"left": (240, 250), "right": (80, 250)}


def make_portrait(*, folded: bool = False, wall: tuple[int, int, int] = WALL) -> Portrait:
    """A person whose hands no finder has seen."""
    picture = np.full((384, 320, 3), wall, np.uint8)
    cv2.rectangle(picture, (110, 135), (210, 383), SHIRT, -1)
    cv2.ellipse(picture, (160, 75), (26, 36), 0, 0, 360, SKIN, -1)
    cv2.line(picture, (160, 90), (160, 135), SKIN, 22)
    if folded:
        cv2.line(picture, (88, 270), (232, 270), SKIN, 26)
    else:
        for centre in CENTRES.values():
            cv2.ellipse(picture, centre, (22, 16), 20, 0, 360, SKIN, -1)
    body = torch.zeros(8, 3)
    body[2], body[3] = torch.tensor([210.0, 145, 1]), torch.tensor([110.0, 145, 1])
    return Portrait(
        image=torch.from_numpy(cv2.GaussianBlur(picture, (0, 0), 0.7)).permute(2, 0, 1).float()
        / 127.5
        - 1,
        face_box=torch.tensor([138.0, 52.0, 182.0, 108.0]),
        face_points=torch.zeros(68, 2),
        body_points=body,
        hand_points=torch.zeros(2, 21, 3),
        hands_present=(False, False),
        notes=("The left hand is not seen surely enough; it stays still.",),
    )


@pytest.fixture(scope="module")
def portrait() -> Portrait:
    return make_portrait()


def test_hands_are_found_where_their_skin_is(portrait: Portrait) -> None:
    found = with_hands_by_skin(portrait)
    assert found.hands_present == (True, True)
    for side, name in enumerate(("left", "right")):
        middle = found.hand_points[side, :, :2].mean(0)
        assert (middle - torch.tensor(CENTRES[name])).abs().max() < 14
        assert found.hand_points[side, :, 2].min() >= 0.3


def test_a_hand_found_by_its_skin_is_all_of_that_skin(portrait: Portrait) -> None:
    assert hand_by_skin(portrait, 0) is None
    found = with_hands_by_skin(portrait)
    for side, name in enumerate(("left", "right")):
        skin, drawn = hand_by_skin(found, side), np.zeros(portrait.size, np.uint8)
        assert skin is not None
        cv2.ellipse(drawn, CENTRES[name], (22, 16), 20, 0, 360, 1, -1)
        assert (skin & (drawn > 0)).sum() > 0.9 * (skin | (drawn > 0)).sum()


def test_the_notes_say_what_was_found(portrait: Portrait) -> None:
    notes = with_hands_by_skin(portrait).notes
    assert not any("stays still" in note for note in notes)
    assert sum("skin alone" in note for note in notes) == 2


def test_folded_hands_are_found_together() -> None:
    found = with_hands_by_skin(make_portrait(folded=True))
    assert found.folded
    assert found.hands_present == (False, False), "neither moves by itself"
    assert found.notes == (FOLDED,)
    assert with_hands_by_skin(found) is found
    apart = found.hand_points[0, :, :2].mean(0) - found.hand_points[1, :, :2].mean(0)
    assert apart.abs().max() < 40


def test_a_wall_of_the_skins_colour_shows_no_hands() -> None:
    assert with_hands_by_skin(make_portrait(wall=SKIN)).hands_present == (False, False)


def test_a_grey_picture_shows_no_hands(portrait: Portrait) -> None:
    grey = portrait.image.mean(0, keepdim=True).expand(3, -1, -1).contiguous()
    assert with_hands_by_skin(replace(portrait, image=grey)).hands_present == (False, False)


def test_finding_twice_changes_nothing(portrait: Portrait) -> None:
    once = with_hands_by_skin(portrait)
    twice = with_hands_by_skin(once)
    assert torch.equal(once.hand_points, twice.hand_points)
    assert once.notes == twice.notes


def test_a_hand_that_lies_elsewhere_is_the_finders(portrait: Portrait) -> None:
    hands = torch.full((2, 21, 3), 0.9)
    hands[..., :2] = torch.tensor([160.0, 300.0])
    seen = replace(portrait, hand_points=hands, hands_present=(True, True), notes=())
    assert torch.equal(with_hands_by_skin(seen).hand_points, hands)
