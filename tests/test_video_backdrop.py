"""The backdrop: the head is found with its hair, and what stands behind it stays where it is."""

from __future__ import annotations

import dataclasses

import cv2
import numpy as np
import pytest
import torch

from emo2.signals import Portrait
from emo2.video.backdrop import Backdrop, head_mask

BOX = (52.0, 50.0, 84.0, 90.0)


def bust() -> Portrait:
    """A skin-coloured head with dark hair and shoulders before a striped wall, 160 x 136."""
    y, x = torch.meshgrid(torch.arange(160.0), torch.arange(136.0), indexing="ij")
    wall = 0.5 + 0.2 * (x / 6).sin()
    image = torch.stack([0.5 * wall, wall, 0.7 * wall])

    def fill(where: torch.Tensor, colour: tuple[float, float, float]) -> None:
        for channel, value in enumerate(colour):
            image[channel][where] = value

    fill(((x - 68) / 22) ** 2 + ((y - 56) / 34) ** 2 < 1, (-0.8, -0.9, -0.9))  # hair
    fill(((x - 68) / 15) ** 2 + ((y - 68) / 22) ** 2 < 1, (0.7, 0.3, 0.1))  # face
    fill(((x - 68) / 60) ** 2 + ((y - 150) / 45) ** 2 < 1, (-0.6, -0.5, 0.4))  # shoulders
    fill(((x - 68).abs() < 9) & (y > 80) & (y < 112), (0.7, 0.3, 0.1))  # neck
    return Portrait(
        image=image,
        face_box=torch.tensor(BOX),
        face_points=torch.zeros(68, 2),
        body_points=torch.zeros(8, 3),
        hand_points=torch.zeros(2, 21, 3),
        hands_present=(False, False),
    )


def places(portrait: Portrait) -> np.ndarray:
    height, width = portrait.size
    xs, ys = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
    return np.stack([xs, ys], -1)


def everywhere(portrait: Portrait) -> np.ndarray:
    """The photo shows all that the frame must."""
    return np.ones(portrait.size, np.float32)


def as_array(image: torch.Tensor) -> np.ndarray:
    return np.ascontiguousarray(image.permute(1, 2, 0).numpy(), np.float32)


def test_the_head_is_found_with_its_hair_and_without_the_wall() -> None:
    pixels = ((as_array(bust().image) + 1) * 127.5).astype(np.uint8)
    mask = head_mask(pixels, BOX)
    assert mask[30, 68] == mask[70, 68] == mask[140, 68] == 1  # hair, face, chest
    assert mask[20, 10] == mask[60, 120] == 0


def test_a_photo_at_rest_stays_as_it_is() -> None:
    portrait = bust()
    backdrop = Backdrop.build(portrait)
    assert backdrop is not None
    frame = as_array(portrait.image)
    backdrop.lay(frame, places(portrait))
    assert np.abs(frame - as_array(portrait.image)).max() < 0.02


def test_a_wall_dragged_along_by_the_head_is_put_back() -> None:
    portrait = bust()
    backdrop = Backdrop.build(portrait)
    assert backdrop is not None
    still = as_array(portrait.image)
    moved = places(portrait)
    moved[..., 0] += 4  # everything four pixels to the left, the wall too
    frame = np.roll(still, -4, axis=1)
    backdrop.lay(frame, moved)
    wall, head = np.s_[20:60, 4:24], np.s_[60:76, 60:72]
    assert np.abs(frame[wall] - still[wall]).max() < 0.02
    assert np.array_equal(frame[head], np.roll(still, -4, axis=1)[head])


def test_bodies_are_never_cut_from_what_is_behind_them() -> None:
    portrait = bust()
    backdrop = Backdrop.build(portrait)
    assert backdrop is not None
    frame = np.full_like(as_array(portrait.image), 0.123)
    backdrop.lay(frame, places(portrait))
    assert (frame[backdrop.rows + 1 :] == np.float32(0.123)).all()


def test_a_face_that_fills_the_picture_has_nothing_behind_it() -> None:
    close = dataclasses.replace(
        bust(), image=bust().image[:, 52:88, 56:80], face_box=torch.tensor([0.0, 0.0, 24.0, 36.0])
    )
    assert Backdrop.build(close) is None


def test_what_a_turning_head_uncovers_is_the_plate_and_not_paint() -> None:
    portrait = bust()
    backdrop = Backdrop.build(portrait)
    assert backdrop is not None
    behind = backdrop.behind(places(portrait))
    assert float(behind[30, 8, 0]) == 1.0
    assert float(behind[70, 68, 0]) == 0.0
    assert not behind[backdrop.rows :].any()
    moved = places(portrait)
    moved[..., 0] += 4
    assert float(backdrop.behind(moved)[30, 88 - 2, 0]) > 0.9  # was hair, is wall now


def turned(portrait: Portrait, crumb: bool = False) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A head six pixels to the left, nothing beside it moves: the flow, what is seen, and the frame by that flow alone."""
    still, flow, visible = as_array(portrait.image), 0 * places(portrait), everywhere(portrait)
    y, x = np.mgrid[:160, :136]
    new, old = ((((x - m) / 22) ** 2 + ((y - 56) / 34) ** 2 < 1) for m in (62, 68))
    flow[new, 0] += 6
    visible[old & ~new] = 0
    if crumb:
        visible[CRUMB] = 1
    return flow, visible, still[y, x + flow[..., 0].astype(int)]


CRUMB = np.s_[50:52, 86:88]


@pytest.mark.parametrize("crumb", [False, True])
def test_no_ghost_of_the_head_stays_where_its_flow_ends_sharply(crumb: bool) -> None:
    portrait = bust()
    backdrop = Backdrop.build(portrait)
    assert backdrop is not None
    flow, visible, frame = turned(portrait, crumb)
    strip = np.s_[44:60, 86:88]
    assert frame[strip].max() < -0.7  # hair, where the head was
    edge = backdrop.edge.follow(flow, visible)
    assert edge is not None
    backdrop.lay(frame, places(portrait) + flow, edge)
    assert np.abs(frame[strip] - backdrop.plate[strip]).max() < 0.1
    head = np.s_[44:60, 50:76]
    assert np.array_equal(frame[head], as_array(portrait.image)[head[0], 56:82])


def test_the_heads_edge_goes_as_far_as_the_head_where_the_field_fades() -> None:
    portrait = bust()
    backdrop = Backdrop.build(portrait)
    assert backdrop is not None
    flow, visible, _ = turned(portrait)
    faded = cv2.GaussianBlur(flow, (0, 0), 2.0)  # as a grid's
    rim = np.s_[50:60, 81:84]
    before = faded[rim][..., 0].min()
    assert before < 3.8
    edge = backdrop.edge.follow(faded, visible)
    assert edge is not None
    assert faded[rim][..., 0].min() > before + 1
    assert np.abs(faded[50:60, 96:]).max() < 0.1  # and the wall stays
    assert edge.own.max() <= 1


def test_a_fading_field_leaves_no_haze_of_the_head_on_the_wall() -> None:
    portrait = bust()
    plain = portrait.image.clone()
    plain[:, :100][:, plain[2, :100] > 0.2] = 0.3  # one wall, so that whatever is darker is hair
    portrait = dataclasses.replace(portrait, image=plain)
    backdrop = Backdrop.build(portrait)
    assert backdrop is not None
    flow, visible, _ = turned(portrait)
    flow = cv2.GaussianBlur(flow, (0, 0), 2.0)
    visible = 1 - 0.3 * cv2.GaussianBlur(1 - visible, (0, 0), 2.0)  # a network that is not sure
    edge = backdrop.edge.follow(flow, visible)
    assert edge is not None
    at = places(portrait) + flow
    frame = cv2.remap(as_array(plain), at[..., 0], at[..., 1], cv2.INTER_LINEAR)
    backdrop.lay(frame, at, edge)
    beside = np.s_[50:60, 87:96]  # the moved hair ends at 84, the matte two pixels further
    assert frame[beside].min() > 0.0
    assert frame[30:36, 56:70, 1].max() < -0.7  # and hair stays hair


def test_the_walls_own_edges_go_on_behind_the_head() -> None:
    portrait = bust()
    image = portrait.image.clone()
    wall = image[2] > 0.2
    wall[100:] = False
    halves = torch.where(torch.arange(160) < 60, -0.2, 0.6)[:, None].expand(160, 136)
    image[:, wall] = halves[wall]
    plate = Backdrop.build(dataclasses.replace(portrait, image=image))
    assert plate is not None
    beside = plate.plate[:, 46 + 4, 1]  # four pixels inside the head's outline
    assert abs(beside[48] + 0.2) < 0.1
    assert abs(beside[72] - 0.6) < 0.1


def test_a_head_at_rest_has_no_edge_to_follow() -> None:
    portrait = bust()
    backdrop = Backdrop.build(portrait)
    assert backdrop is not None
    flow = np.full((*portrait.size, 2), 0.05, np.float32)
    assert backdrop.edge.follow(flow, everywhere(portrait)) is None


def test_the_walls_grain_goes_on_behind_the_head() -> None:
    portrait = bust()
    grain = 0.05 * torch.randn(portrait.image.shape, generator=torch.Generator().manual_seed(0))
    grainy = dataclasses.replace(portrait, image=(portrait.image + grain).clamp(-1, 1))
    plates = [Backdrop.build(p) for p in (portrait, grainy)]
    assert plates[0] is not None
    assert plates[1] is not None
    behind, beside = np.s_[40:70, 52:64], np.s_[40:70, 10:22]
    fine = [p.plate - cv2.GaussianBlur(p.plate, (0, 0), 2.0) for p in plates if p is not None]
    assert fine[1][behind].std() > 0.6 * fine[1][beside].std()
    assert fine[0][behind].std() < 0.5 * fine[1][behind].std()


def test_an_outline_gets_no_kink_where_the_flow_jumps_along_it() -> None:
    small = bust()
    image = torch.nn.functional.interpolate(small.image[None], scale_factor=4.0)[0]
    portrait = dataclasses.replace(small, image=image, face_box=4 * small.face_box)
    backdrop = Backdrop.build(portrait)
    assert backdrop is not None
    y, x = np.mgrid[:640, :544]
    head = ((x - 248) / 88) ** 2 + ((y - 224) / 136) ** 2 < 1
    flow = np.where(head[..., None], (24, 0), 0).astype(np.float32)
    flow[:200][head[:200]] = (8, 0)  # the crown moves less
    assert backdrop.edge.follow(flow, everywhere(portrait)) is not None
    outline = flow[156:198, 174, 0]
    assert outline[12:].max() > 15
    assert np.abs(outline[12:] - outline[:-12]).max() < 6  # in twelve pixels, of 16
