"""Guidance maps and the camera that puts them into the photo."""

from __future__ import annotations

import math
import time
from dataclasses import replace

import pytest
import torch

from emo2.guidance import SHOULDERS_M, Camera, draw, fit_camera, turn_matrix
from emo2.hands import mirror_motion, shape_hand
from emo2.signals import BODY_POINTS, Motion, Portrait

SIZE = (512, 384)


def portrait(*, shoulders: float = 1.0, half_width: float = 58.0) -> Portrait:
    """A half-body picture of 384 x 512 with plausible points."""
    face = torch.zeros(68, 2)
    jaw = torch.linspace(0, math.pi, 17)
    face[:17] = torch.stack((192 - 23 * jaw.cos(), 95 + 38 * jaw.sin()), -1)
    face[19], face[24] = torch.tensor((181.0, 92.0)), torch.tensor((203.0, 92.0))
    body = torch.tensor(
        ((192.0, 62, 1), (192, 140, 1), (192 + half_width, 165, shoulders), (192 - half_width, 165, shoulders),
         (275, 250, 1), (109, 250, 1), (235, 300, 1), (149, 300, 1))
    )  # fmt: skip
    return Portrait(
        image=torch.zeros(3, *SIZE),
        face_box=torch.tensor((169.0, 90.0, 215.0, 133.0)),
        face_points=face,
        body_points=body,
        hand_points=torch.zeros(2, 21, 3),
        hands_present=(True, True),
    )


def motion(frames: int = 8) -> Motion:
    """Both hands before the chest, palms to the camera, moving apart; the head turns and nods."""
    t = torch.linspace(0, 1, frames)
    hands = []
    for side, x in (("left", 1.0), ("right", -1.0)):
        wrist = torch.stack((x * (0.12 + 0.05 * t), 0.35 - 0.05 * t, 0.2 + 0 * t), -1)
        up = torch.tensor((0.0, -1.0, 0.1)).expand(frames, 3)
        palm = torch.tensor((0.0, 0.0, 1.0)).expand(frames, 3)
        hands.append(
            shape_hand(side, wrist, fingers_to=up, palm_to=palm, curl=torch.full((frames, 5), 0.3))
        )
    zeros = torch.zeros(frames, 6)
    head = zeros.clone()
    head[:, 2], head[:, 3] = 0.2 * t, 0.04 * t
    return Motion(
        hands=torch.stack(hands, 1), visibility=torch.ones(frames, 2), confidence=torch.full((frames, 2), 0.7),
        betas=torch.zeros(10), fps=25.0, head=head, body=zeros,
    )  # fmt: skip


def centre_of(mask: torch.Tensor) -> torch.Tensor:
    """Mean place of a mask, pixels (x, y)."""
    y, x = torch.meshgrid(*(torch.arange(s) + 0.5 for s in mask.shape), indexing="ij")
    return torch.stack(((mask * x).sum(), (mask * y).sum())) / mask.sum()


def test_the_camera_puts_the_frames_shoulders_onto_the_photos() -> None:
    camera = fit_camera(portrait())
    right, left = (
        torch.tensor((-SHOULDERS_M / 2, 0.0, 0.1)),
        torch.tensor((SHOULDERS_M / 2, 0.0, -0.1)),
    )
    assert torch.allclose(camera.project(right), torch.tensor((134.0, 165.0)))
    assert torch.allclose(camera.project(left), torch.tensor((250.0, 165.0)))
    assert torch.allclose(camera.lift(camera.project(left)), left[:2], atol=1e-6)
    index = BODY_POINTS.index("left_shoulder")
    assert torch.allclose(camera.body_points[index], torch.tensor((0.18, 0.0, 1.0)), atol=1e-6)


def test_without_shoulders_the_face_gives_nearly_the_same_camera() -> None:
    seen, hidden = fit_camera(portrait()), fit_camera(portrait(shoulders=0.1))
    assert torch.allclose(hidden.scale, seen.scale, rtol=0.2)
    assert (hidden.centre - seen.centre).norm() < 0.06 * float(seen.scale[0])


def test_a_turned_body_with_narrow_shoulders_is_measured_by_its_face() -> None:
    turned = fit_camera(portrait(half_width=15))
    assert 0.6 < float(turned.scale[0] / fit_camera(portrait()).scale[0]) < 1.1


def test_a_crops_camera_sees_what_the_photos_camera_sees() -> None:
    camera = fit_camera(portrait())
    box = torch.tensor((60.0, 150.0, 316.0, 406.0))
    point = torch.tensor((0.1, 0.3, 0.0))
    inside = camera.view(box, (128, 128)).project(point)
    assert torch.allclose(inside * 2 + box[:2], camera.project(point), atol=1e-4)
    small = camera.resized((64, 48)).project(point)
    assert torch.allclose(small * 8, camera.project(point), atol=1e-4)


def test_maps_have_the_promised_shapes_ranges_and_backgrounds() -> None:
    maps = draw(motion(), fit_camera(portrait()), (128, 96))
    assert maps.hand_surface.shape == maps.key_points.shape == (8, 3, 128, 96)
    assert maps.hand_masks.shape == (8, 2, 128, 96)
    assert maps.face_region.shape == (1, 128, 96)
    assert torch.equal(maps.confidence, torch.full((8, 2), 0.7))
    for values, low, high in (
        (maps.hand_surface, -1, 1), (maps.key_points, -1, 1), (maps.hand_masks, 0, 1), (maps.face_region, 0, 1),
    ):  # fmt: skip
        assert values.min() >= low
        assert values.max() <= high
        assert values.isfinite().all()
    empty = maps.hand_masks.sum(1) == 0
    colours = maps.hand_surface.permute(0, 2, 3, 1)
    assert torch.allclose(colours[empty], torch.ones(3)), "white where there is no hand"
    whole = maps.hand_masks.sum(1) > 0.999
    assert colours[whole].max() <= 0.61, "no hand is white"
    assert torch.allclose(maps.key_points[:, :, -1, 0], torch.tensor(-1.0)), "key points on black"


def test_each_hand_is_drawn_where_the_camera_says() -> None:
    clip, camera = motion(), fit_camera(portrait())
    maps = draw(clip, camera, (128, 96))
    small = camera.resized((128, 96))
    for side in (0, 1):
        wrist = small.project(clip.hands[5, side, 64:])
        place = centre_of(maps.hand_masks[5, side])
        assert (place - wrist).norm() < 12
        assert place[1] < wrist[1], "fingers up"
    left, right = (centre_of(maps.hand_masks[5, s])[0] for s in (0, 1))
    assert right < left, "the person's right hand is on the image's left"


def test_equal_colour_is_the_same_piece_of_skin_in_every_frame() -> None:
    """The colour at the tip of the middle finger stays, wherever the hand is."""
    clip, camera = (
        motion(),
        fit_camera(portrait()).view(torch.tensor((60.0, 180.0, 316.0, 436.0)), (256, 256)),
    )
    maps = draw(clip, camera, (256, 256))
    colours = []
    for frame in (0, 4, 7):
        mask = maps.hand_masks[frame, 1] > 0.99
        rows = mask.any(1).nonzero()
        top = int(rows[0]) + 2
        column = int(mask[top].nonzero().float().mean())
        colours.append(maps.hand_surface[frame, :, top, column])
    assert (colours[0] - colours[1]).abs().max() < 0.12
    assert (colours[0] - colours[2]).abs().max() < 0.12


def test_left_and_right_are_told_apart_by_colour() -> None:
    """The mirrored motion gives the mirrored masks, but not the mirrored colours."""
    clip, camera = motion(), fit_camera(portrait())
    seen = draw(clip, camera, (128, 96))
    mirrored = draw(mirror_motion(clip), camera, (128, 96))
    masks = mirrored.hand_masks.flip(1).flip(-1)
    assert (masks - seen.hand_masks).abs().mean() < 2e-3
    inside = (masks.sum(1) > 0.99) & (seen.hand_masks.sum(1) > 0.99)
    difference = (mirrored.hand_surface.flip(-1) - seen.hand_surface).abs().mean(1)[inside]
    assert difference.mean() > 0.2
    swapped = (mirrored.hand_surface.flip(-1).flip(1) - seen.hand_surface).abs().mean(1)[inside]
    assert swapped.mean() < 0.05, "the channels run the other way"


def test_a_hidden_hand_is_not_drawn() -> None:
    clip = motion()
    hidden = replace(clip, visibility=torch.tensor((1.0, 0.0)).expand(8, 2))
    maps = draw(hidden, fit_camera(portrait()), (128, 96))
    assert maps.hand_masks[:, 1].max() == 0
    assert maps.hand_masks[:, 0].amax((1, 2)).min() > 0.9
    none = replace(clip, visibility=torch.zeros(8, 2))
    assert (draw(none, fit_camera(portrait()), (64, 48)).hand_surface == 1).all()


def test_the_nearer_hand_hides_the_other() -> None:
    clip = motion(1)
    hands = clip.hands.clone()
    hands[:, :, 64:66] = torch.tensor((0.0, 0.3))
    for near, far in ((0, 1), (1, 0)):
        hands[:, near, 66], hands[:, far, 66] = 0.4, 0.1
        masks = draw(replace(clip, hands=hands), fit_camera(portrait()), (128, 96)).hand_masks[0]
        assert masks[near].sum() > 1.3 * masks[far].sum()


def test_frames_drawn_alone_equal_those_drawn_together() -> None:
    clip, camera = motion(), fit_camera(portrait())
    whole, part = draw(clip, camera, (64, 48)), draw(clip, camera, (64, 48), frames=range(3, 6))
    assert torch.allclose(part.hand_surface, whole.hand_surface[3:6], atol=1e-6)
    assert torch.allclose(part.key_points, whole.key_points[3:6])
    assert part.confidence.shape == (3, 2)


def test_key_points_follow_the_head_and_start_at_the_photos() -> None:
    clip, camera = motion(2), fit_camera(portrait())
    maps = draw(clip, camera, SIZE)
    yellow = ((maps.key_points + 1) / 2 - torch.tensor((1.0, 0.9, 0.2))[:, None, None]).abs().amax(
        1
    ) < 0.05
    start, end = (centre_of(yellow[f].float()) for f in (0, -1))
    assert (start - torch.tensor((192.0, 62.0))).norm() < 2, "the photo's own head top"
    moved = end - start
    assert moved[0] > 10, "0.04 m and a clockwise roll take the top to the image's right"


def test_points_the_photo_does_not_show_are_not_drawn() -> None:
    maps = draw(motion(), fit_camera(portrait(shoulders=0.0)), SIZE, frames=range(1))
    blue = ((maps.key_points + 1) / 2 - torch.tensor((0.2, 0.5, 1.0))[:, None, None]).abs().amax(
        1
    ) < 0.05
    assert not blue.any()


def test_the_face_region_covers_the_face_wherever_it_goes_in_the_clip() -> None:
    clip, camera = motion(3), fit_camera(portrait())
    region = draw(clip, camera, SIZE).face_region[0]
    x0, y0, x1, y1 = (int(v) for v in portrait().face_box)
    assert region[y0 + 1 : y1 - 1, x0 + 1 : x1 - 1].min() > 0.99
    first = draw(clip, camera, SIZE, frames=range(1)).face_region[0]
    assert region.sum() > first.sum() * 1.2, "it grows with the head's path"
    assert region[300:].max() == 0
    soft = region[(y0 + y1) // 2]
    assert ((soft > 0.05) & (soft < 0.95)).any()


def test_motion_without_hints_can_be_drawn() -> None:
    bare = replace(motion(), head=None, body=None)
    maps = draw(bare, fit_camera(portrait()), (64, 48))
    assert torch.equal(maps.key_points[0], maps.key_points[-1])


@pytest.mark.parametrize(
    ("angles", "start", "end"),
    [((0.1, 0, 0), 2, 0), ((0, 0.1, 0), 2, 1), ((0, 0, 0.1), 0, 1)],
)
def test_turns_have_the_signs_of_the_head_channels(
    angles: tuple[float, ...], start: int, end: int
) -> None:
    """Yaw: the face (+z) to the image's right; pitch: down; roll: clockwise, so that x goes towards y (down)."""
    moved = turn_matrix(torch.tensor(angles)) @ torch.eye(3)[start]
    assert math.isclose(float(moved[end]), math.sin(0.1), abs_tol=1e-6)
    assert torch.allclose(turn_matrix(torch.tensor(angles)).det(), torch.tensor(1.0))


def test_drawing_costs_little() -> None:
    """Goal: under 2 ms a frame at compact size (design §5); measured as processor time, with room for slow machines."""
    clip, camera = motion(50), fit_camera(portrait())
    draw(clip, camera, (96, 96))
    start = time.process_time()
    draw(clip, camera, (96, 96))
    assert (time.process_time() - start) / 50 < 0.006


def test_the_camera_is_a_plain_value() -> None:
    assert isinstance(fit_camera(portrait()), Camera)
    assert fit_camera(portrait()).size == SIZE
