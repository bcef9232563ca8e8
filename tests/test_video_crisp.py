"""The unsharp mask over what has moved: still pixels stay, edges gain, no halo."""

from __future__ import annotations

import cv2
import numpy as np
import torch

from emo2.video.examples import FACE_VIEW
from emo2.video.views import Composer, View, crisp


def soft_picture() -> np.ndarray:
    noise = np.random.default_rng(3).random((90, 70, 3)).astype(np.float32)
    return cv2.GaussianBlur(noise, (0, 0), 1.5) * 6 - 3


def edges(picture: np.ndarray) -> float:
    return float(np.abs(cv2.Laplacian(picture, cv2.CV_32F)).mean())


def test_what_does_not_move_stays_to_the_bit() -> None:
    picture = soft_picture()
    flow = np.zeros((90, 70, 2), np.float32)
    flow[40:60, :30, 0] = 9.0
    made = picture.copy()
    crisp(made, flow, 9.0)
    still = (flow == 0).all(-1)
    assert np.array_equal(made[still], picture[still])
    assert edges(made[44:56, 4:26]) > 1.08 * edges(picture[44:56, 4:26])


def test_no_pixel_goes_beyond_its_neighbours_by_what_is_seen() -> None:
    picture = soft_picture()
    made = picture.copy()
    crisp(made, np.full((90, 70, 2), 20.0, np.float32), 5.0)
    around = np.ones((3, 3), np.uint8)
    assert (made <= cv2.dilate(picture, around) + 0.021).all()
    assert (made >= cv2.erode(picture, around) - 0.021).all()


def test_strips_leave_no_seams() -> None:
    picture = np.tile(soft_picture()[:10], (9, 1, 1))
    rolled = np.roll(picture, 7, axis=0)
    flow = np.full((90, 70, 2), 6.0, np.float32)
    for each in (picture, rolled):
        crisp(each, flow, 6.0)
    assert np.abs(np.roll(picture, 7, axis=0) - rolled)[10:-10].max() < 1e-5


def test_a_moved_photo_is_crisper_than_its_samples_and_a_still_one_is_the_photo() -> None:
    photo = torch.from_numpy(soft_picture()).permute(2, 0, 1) / 3
    composer = Composer(photo, [View(kind=FACE_VIEW, left=0, top=0, side=70)])
    flow = np.zeros((90, 70, 2), np.float32)
    still = composer.warp(flow)
    assert np.array_equal(still, photo.permute(1, 2, 0).numpy())
    flow[..., 0] = 4.5
    plain = cv2.remap(
        still, *(composer.places + flow).transpose(2, 0, 1).copy(), cv2.INTER_CUBIC,
        borderMode=cv2.BORDER_REPLICATE,
    )  # fmt: skip
    assert edges(composer.warp(flow)) > 1.05 * edges(plain)
