"""What is arm in a photo: windows, batches of them, a network that learns from them, and cuts that follow what it says."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from test_video_arms import as_left, limb, write_arms
from test_video_layers import SKIN, WALL, draw_person, make_portrait
from test_video_shards import make_shard
from torch import Tensor

from emo2.data.arm_pictures import ArmPictureBatches
from emo2.errors import UserError
from emo2.video.arm_cutter import CLASSES, SIDE, ArmCutter, ArmPictures, Window, see_arm
from emo2.video.arm_sights import knows, see_arms
from emo2.video.layer_masks import draw_arm, draw_hand
from emo2.video.layer_person import arm_of, person_mask
from emo2.video.layers import Layers

OTHER = np.array([(110, 142), (88, 230), (75, 250)], np.float32)


def random_cutter() -> ArmCutter:
    torch.manual_seed(0)
    return ArmCutter().eval()


def true_shares(side: int) -> np.ndarray:
    """Of the drawn person: this arm surely, the rest of the person, the wall."""
    picture, _, _ = draw_person()
    person = np.abs(picture.astype(int) - WALL).max(-1) > 40
    arm = np.zeros(picture.shape[:2], np.uint8)
    draw_arm(arm, limb(side), 1, 26)
    draw_hand(arm, limb(side), 1, 12, palm=True)
    shares = np.zeros((len(CLASSES), *arm.shape), np.float32)
    shares[4] = (arm > 0) & person
    shares[1] = person & (arm == 0)
    shares[0] = ~person
    return np.stack([cv2.GaussianBlur(share, (0, 0), 2.0) for share in shares])


@pytest.mark.parametrize("mirrored", [False, True])
def test_a_window_shows_each_place_where_it_says(mirrored: bool) -> None:
    points = np.array([(60.0, 80.0), (140.0, 200.0), (110.0, 90.0)])
    window = Window.around(points, 60.0, mirrored=mirrored)
    image = np.zeros((260, 240, 3), np.uint8)
    cv2.circle(image, (140, 200), 6, (255, 255, 255), -1)
    ys, xs = np.nonzero(window.cut(image)[..., 0] > 0.5)
    seen = np.array([xs.mean(), ys.mean()]) + 0.5
    place = window.places(np.array([(140.5, 200.5)]))[0]
    assert np.abs(seen - place).max() < 0.5
    assert np.abs(window.back(place) - 140.5).min() < 1e-3
    assert np.abs(window.back(place) - 200.5).min() < 1e-3


def test_shares_add_up_and_outside_the_window_there_is_no_arm() -> None:
    picture, _, _ = draw_person()
    shares = see_arm(random_cutter(), picture, limb(0), OTHER).shares
    assert shares.shape == (len(CLASSES), *picture.shape[:2])
    assert np.abs(shares.sum(0) - 1)[5:-5, 5:-5].max() < 0.1
    assert shares[0, 40, 20] == 1
    assert shares[0, 250, 260] < 0.9
    window = Window.around(limb(0).points(), limb(0).unit, mirrored=False)
    x, y = window.back(np.array((SIDE - 0.7, SIDE / 2))).astype(int)
    if x < picture.shape[1]:  # the window's last row is not blended with what is outside
        assert shares[0, y, x] < 0.9


def test_a_right_arm_is_cut_like_a_left_one_in_a_mirror() -> None:

    picture, right = draw_person()[0], limb(1)
    flipped = np.ascontiguousarray(picture[:, ::-1])

    def flip(points: np.ndarray) -> np.ndarray:
        return (points * np.array([-1, 1]) + np.array([picture.shape[1], 0])).astype(np.float32)

    left = as_left(right, flip)
    cutter = random_cutter()
    one = see_arm(cutter, picture, right, OTHER).shares
    other = see_arm(cutter, flipped, left, flip(OTHER)).shares
    assert np.abs(one - other[:, :, ::-1]).max() < 0.05


def test_windows_of_a_shard_tell_what_is_what_and_depend_on_their_number_alone(
    tmp_path: Path,
) -> None:
    write_arms(tmp_path / "arms" / "body.safetensors")
    batches = [ArmPictureBatches([tmp_path / "arms"], windows=8, seed=3) for _ in range(2)]
    one, again, other = batches[0].at(1), batches[1].at(1), batches[0].at(2)
    assert torch.equal(one.inputs, again.inputs)
    assert not torch.equal(one.inputs, other.inputs)
    assert one.inputs.shape == (8, 7, SIDE, SIDE)
    assert one.inputs[:, 3:].amax((2, 3)).gt(0.9).all()  # all bones are drawn
    shares = [float((one.labels == k).float().mean()) for k in range(len(CLASSES))]
    assert shares[2] > 0.05  # columns 8 to 23 of 64
    assert shares[3] > 0.05  # 24 to 47
    assert shares[1] == shares[4] == 0
    assert float(one.weight.min()) == 0  # beyond the picture
    make_shard(tmp_path / "faces" / "face.safetensors")
    with pytest.raises(UserError, match="shows no arms"):
        ArmPictureBatches([tmp_path / "faces"])


def test_the_cutter_learns_a_picture(tmp_path: Path) -> None:
    write_arms(tmp_path / "body.safetensors")
    batch, cutter = ArmPictureBatches([tmp_path], windows=2).at(0), random_cutter()
    optimiser = torch.optim.AdamW(cutter.parameters(), lr=3e-3)

    def loss(pictures: ArmPictures) -> Tensor:
        return torch.stack(list(cutter.losses(pictures).values())).sum()

    first = loss(batch).item()
    for _ in range(12):
        optimiser.zero_grad()
        loss(batch).backward()
        optimiser.step()
    assert loss(batch).item() < 0.6 * first


def test_an_arm_is_cut_where_the_cutter_says_though_the_wall_has_its_colour() -> None:
    portrait, shares, arm = make_portrait(), true_shares(0), limb(0)
    image = portrait.image.permute(1, 2, 0).numpy() / 2 + 0.5
    image[225:300, 262:300] = (
        np.array(SKIN) / 255
    )  # skin-coloured wall below the hand and around it
    pixels = (image * 255).astype(np.uint8)
    cut = np.zeros(image.shape[:2], np.uint8)
    draw_hand(cut, arm, 1, 12, palm=True)
    person = person_mask(pixels, portrait, cut.astype(np.float32), [arm], [shares])
    mask = arm_of(person, portrait, arm, cut.astype(np.float32), image, shares) > 0.5
    truth = shares[4] > 0.5
    assert (mask & truth).sum() / (mask | truth).sum() > 0.85
    assert not mask[285:, 262:].any()
    assert not person[290:, 262:].any()


def sees(at: tuple[float, float]) -> ArmCutter:
    """A cutter that sees hands everywhere, and an elbow at that place of the window."""
    cutter = random_cutter()

    def look(inputs: Tensor) -> Tensor:
        said = torch.zeros(len(inputs), len(CLASSES) + 1, SIDE, SIDE)
        said[:, 4] = 5
        said[:, 5, int(at[1]), int(at[0])] = 20
        return said

    cutter.forward = look  # type: ignore[method-assign]
    return cutter


def test_an_elbow_that_the_finder_is_not_sure_of_is_where_the_cutter_sees_it() -> None:
    portrait = make_portrait()
    pixels = ((portrait.image.permute(1, 2, 0).numpy() + 1) * 127.5).astype(np.uint8)
    sure, sights = see_arms(sees((60, 50)), pixels, portrait, portrait)
    assert torch.equal(sure.body_points, portrait.body_points)
    assert sights.keys() == {0, 1}
    body = portrait.body_points.clone()
    body[4:6, 2] = 0.3
    unsure = replace(portrait, body_points=body)
    asked, sights = see_arms(sees((60, 50)), pixels, unsure, unsure)
    for side in (0, 1):
        elbow = sights[side].elbow
        assert elbow is not None
        assert np.abs(asked.body_points[4 + side, :2].numpy() - elbow).max() < 1e-3
        assert np.abs(elbow - body[4 + side, :2].numpy()).max() > 3
    assert asked.body_points[4, 0] > asked.body_points[5, 0]
    assert torch.equal(see_arms(random_cutter(), pixels, unsure, unsure)[0].body_points, body)


def test_a_cutter_that_knows_no_arm_changes_nothing() -> None:
    portrait = make_portrait()
    shares = np.full((5, *portrait.size), 0.2, np.float32)
    shares[0] += 0.3
    shares[1:] -= 0.075
    assert knows(true_shares(1), limb(1))
    assert not knows(shares, limb(1))
    cutter = ArmCutter()
    torch.nn.init.zeros_(cutter.head.weight)
    with torch.no_grad():
        cutter.head.bias.copy_(torch.tensor((4.0, 0, 0, 0, 0, 0)))
    plain, asked = (Layers.build(portrait, cutter=c, meshes=False) for c in (None, cutter))
    assert len(plain.arms) == len(asked.arms) == 2
    for one, other in zip(plain.arms, asked.arms, strict=True):
        assert all(
            np.array_equal(a.colour, b.colour)
            for a, b in zip(one.planes, other.planes, strict=True)
        )
