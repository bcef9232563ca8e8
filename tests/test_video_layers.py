"""The arm layers: cut out of a drawn person, moved, and laid back."""

from __future__ import annotations

import itertools
from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch

from emo2.guidance import fit_camera
from emo2.hands import slice_motion
from emo2.hands.setting_off import left_at
from emo2.signals import Motion, Portrait
from emo2.video import layer_motion, layer_paint
from emo2.video.layer_masks import fault, find_limb
from emo2.video.layers import Layers

SKIN, SHIRT, WALL = (224, 172, 140), (60, 70, 160), (150, 170, 150)
HEIGHT, WIDTH = 384, 320
PALM = np.array([60.0, 250.0])
"""Middle of the drawn right hand, away from the torso."""


def hand_points(wrist: tuple[float, float], out: float) -> np.ndarray:
    """21 points of an open hand that points sideways (`out`: -1 to the image's left)."""
    points = [wrist]
    for finger in range(5):
        drop = -16 + 8 * finger
        for joint in range(4):
            points.append(
                (wrist[0] + out * (14 + 9 * joint), wrist[1] + drop * (0.6 + 0.15 * joint))
            )
    return np.array(points, np.float32)


def draw_person() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A picture (h, w, 3) in bytes, body points (8, 2), hand points (2, 21, 2)."""
    rng = np.random.default_rng(0)
    shade = np.linspace(-10, 10, WIDTH)[None, :, None] + rng.normal(0, 2, (HEIGHT, WIDTH, 1))
    picture = (np.array(WALL)[None, None] + shade).clip(0, 255).astype(np.uint8)
    cv2.rectangle(picture, (105, 130), (215, HEIGHT), SHIRT, -1)
    cv2.ellipse(picture, (160, 70), (26, 34), 0, 0, 360, SKIN, -1)
    cv2.line(picture, (160, 90), (160, 130), SKIN, 22)
    body = np.array(
        [
            (160, 30),
            (160, 120),
            (210, 142),
            (110, 142),
            (232, 230),
            (88, 230),
            (245, 250),
            (75, 250),
        ],
        np.float32,
    )
    hands = np.stack([hand_points((250, 250), 1), hand_points((70, 250), -1)])
    for side in (0, 1):
        shoulder, elbow = body[2 + side], body[4 + side]
        cv2.line(picture, shoulder.astype(int).tolist(), elbow.astype(int).tolist(), SHIRT, 24)
        cv2.line(picture, elbow.astype(int).tolist(), hands[side][0].astype(int).tolist(), SKIN, 18)
        for finger in range(5):
            chain = [0, *range(1 + 4 * finger, 5 + 4 * finger)]
            for a, b in itertools.pairwise(chain):
                line = hands[side][a].astype(int).tolist(), hands[side][b].astype(int).tolist()
                cv2.line(picture, *line, SKIN, 7)
    return cv2.GaussianBlur(picture, (0, 0), 0.7), body, hands


def surely(points: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.concatenate([points, np.ones((*points.shape[:-1], 1))], -1)).float()


def make_portrait() -> Portrait:
    picture, body, hands = draw_person()
    return Portrait(
        image=torch.from_numpy(picture).permute(2, 0, 1).float() / 127.5 - 1,
        face_box=torch.tensor([136.0, 45.0, 184.0, 103.0]),
        face_points=torch.zeros(68, 2),
        body_points=surely(body),
        hand_points=surely(hands),
        hands_present=(True, True),
    )


@pytest.fixture(scope="module")
def portrait() -> Portrait:
    return make_portrait()


@pytest.fixture(scope="module")
def layers(portrait: Portrait) -> Layers:
    return Layers.build(portrait)


def pose(**channels: float) -> torch.Tensor:
    """The same pose for both arms."""
    row = torch.tensor([channels.get(name, 0.0) for name in layer_motion.POSE])
    return row.expand(2, 6).contiguous()


def skin_centre(image: torch.Tensor, box: tuple[int, int, int, int]) -> np.ndarray:
    """Mean position of skin-coloured pixels in a box."""
    x0, y0, x1, y1 = box
    skin = torch.tensor(SKIN).view(3, 1, 1) / 127.5 - 1
    near = ((image - skin).abs().amax(0) < 0.15)[y0:y1, x0:x1]
    ys, xs = near.nonzero(as_tuple=True)
    return np.array([xs.float().mean() + x0, ys.float().mean() + y0])


def quaternion_about_z(angle: torch.Tensor) -> torch.Tensor:
    zero = torch.zeros_like(angle)
    return torch.stack([(angle / 2).cos(), zero, zero, (angle / 2).sin()], -1)


def make_motion(shift_m: torch.Tensor, turn: torch.Tensor) -> Motion:
    """Both hands with the given wrist shifts (frames, 3) and in-plane turns (frames,)."""
    frames = len(shift_m)
    hands = torch.zeros(frames, 2, 67)
    hands[..., 0:64:4] = 1
    hands[..., :4] = quaternion_about_z(turn)[:, None]
    hands[..., 64:] = shift_m[:, None]
    return Motion(
        hands=hands, visibility=torch.ones(frames, 2), confidence=torch.ones(frames, 2),
        betas=torch.zeros(10), fps=25.0,
    )  # fmt: skip


def test_the_photo_pose_gives_the_photo(portrait: Portrait, layers: Layers) -> None:
    assert layers.moves == (True, True)
    frame = layers.compose(portrait.image, None, pose())
    assert (frame - portrait.image).abs().max() < 0.02


def test_the_input_frame_is_left_alone(portrait: Portrait, layers: Layers) -> None:
    before = portrait.image.clone()
    layers.compose(portrait.image, None, pose(wrist_y=-20))
    assert torch.equal(portrait.image, before)


@pytest.mark.parametrize("shift", [(0, -30), (0, 30), (-25, 0), (-15, -20)])
def test_the_hand_goes_where_the_pose_says(
    portrait: Portrait, layers: Layers, shift: tuple[int, int]
) -> None:
    frame = layers.compose(portrait.image, None, pose(wrist_x=shift[0], wrist_y=shift[1]))
    box = (0, 200, 58, 300)
    moved = (max(box[0] + shift[0], 0), box[1] + shift[1], box[2] + shift[0], box[3] + shift[1])
    expected = skin_centre(portrait.image, box) + shift
    if shift[0] == 0:
        assert np.abs(skin_centre(frame, moved) - expected).max() < 2.5


def test_no_hand_is_left_behind(portrait: Portrait, layers: Layers) -> None:
    frame = layers.compose(portrait.image, None, pose(wrist_y=-38))
    wall = torch.tensor(WALL).view(3, 1) / 127.5 - 1
    lowest = portrait.hand_points[1, :, 1].max()
    spot = frame[:, int(lowest) - 6 : int(lowest) + 8, 20:50].reshape(3, -1)
    assert (spot - wall).abs().mean() < 0.12


def test_what_lies_outside_the_arms_stays(portrait: Portrait, layers: Layers) -> None:
    frame = layers.compose(portrait.image, None, pose(wrist_y=-30, turn=0.4))
    assert torch.equal(frame[:, :120], portrait.image[:, :120])
    assert torch.equal(frame[:, :, 150:170], portrait.image[:, :, 150:170])


def test_the_shoulder_does_not_move(portrait: Portrait, layers: Layers) -> None:
    frame = layers.compose(portrait.image, None, pose(wrist_y=-30, elbow_y=-10))
    assert (frame - portrait.image)[:, 120:142, 95:120].abs().max() < 0.05


def test_arms_ride_on_the_body(portrait: Portrait, layers: Layers) -> None:
    shift = 6
    flow = torch.zeros(2, HEIGHT, WIDTH)
    flow[0] = -shift  # everything moves right
    body = torch.roll(portrait.image, shift, dims=2)
    frame = layers.compose(body, flow, pose())
    inner = slice(20, WIDTH - 20)
    assert (frame - body)[:, :, inner].abs().max() < 0.05


def test_a_pose_is_composed_alike_in_place_and_on_tensors(
    portrait: Portrait, layers: Layers
) -> None:
    frame = portrait.image.permute(1, 2, 0).numpy().copy()
    layers.lay(frame, None, pose(wrist_x=9, turn=0.3).numpy())
    other = layers.compose(portrait.image, None, pose(wrist_x=9, turn=0.3))
    assert torch.equal(torch.from_numpy(frame).permute(2, 0, 1), other)


def test_the_same_photo_gives_the_same_layers(portrait: Portrait, layers: Layers) -> None:
    again = Layers.build(portrait)
    assert np.array_equal(again.gaps[0].colour, layers.gaps[0].colour)
    assert np.array_equal(again.arms[0].planes[-1].colour, layers.arms[0].planes[-1].colour)


def test_a_hand_that_was_not_found_stays_still_and_is_named(portrait: Portrait) -> None:
    layers = Layers.build(replace(portrait, hands_present=(True, False)))
    assert layers.moves == (True, False)
    assert "right hand" in layers.notes[0]
    frame = layers.compose(portrait.image, None, pose(wrist_y=-30))
    assert torch.equal(frame[:, :, :100], portrait.image[:, :, :100])


def test_no_hands_leave_the_frame_as_it_is(portrait: Portrait) -> None:
    layers = Layers.build(replace(portrait, hands_present=(False, False)))
    assert layers.arms == ()
    assert torch.equal(layers.compose(portrait.image, None, pose(wrist_y=-30)), portrait.image)


def test_a_hand_cut_off_by_the_picture_stays_still(portrait: Portrait) -> None:
    hands = portrait.hand_points.clone()
    hands[0, 9:, 0] = WIDTH + 20.0
    found = find_limb(replace(portrait, hand_points=hands), 0)
    assert isinstance(found, str)
    assert "edge" in found


def test_an_elbow_outside_the_picture_becomes_a_pin_at_its_edge(portrait: Portrait) -> None:
    body = portrait.body_points.clone()
    body[5] = torch.tensor([75.0, HEIGHT + 90.0, 1.0])
    cropped = replace(portrait, body_points=body)
    limb = find_limb(cropped, 1)
    assert not isinstance(limb, str)
    assert limb.pinned_elbow
    frame = Layers.build(cropped).compose(portrait.image, None, pose(wrist_y=-20))
    assert (frame - portrait.image)[:, -3:, :100].abs().max() < 0.02


def test_an_elbow_among_the_fingers_is_taken_for_one_of_a_hanging_arm(portrait: Portrait) -> None:
    body = portrait.body_points.clone()
    fingers = portrait.hand_points[1, 8, :2]
    body[5, :2], body[5, 2] = fingers, 0.4
    limb = find_limb(replace(portrait, body_points=body), 1)
    assert not isinstance(limb, str)
    assert not limb.pinned_elbow
    assert np.linalg.norm(limb.elbow - fingers.numpy()) > 0.3 * limb.unit
    assert limb.elbow[1] > limb.shoulder[1] + 0.4 * limb.unit
    body[5, :2] = portrait.body_points[5, :2]
    believed = find_limb(replace(portrait, body_points=body), 1)
    assert not isinstance(believed, str)
    assert np.allclose(believed.elbow, portrait.body_points[5, :2].numpy())


def test_hands_that_overlap_are_taken_for_folded(portrait: Portrait) -> None:
    hands = portrait.hand_points.clone()
    assert not Layers.build(portrait).clasped
    hands[0, :, 0] = hands[1, :, 0] + 10  # the left hand drawn where the right one is
    hands[0, :, 1] = hands[1, :, 1]
    assert Layers.build(replace(portrait, hand_points=hands)).clasped


def test_arms_move_without_seen_shoulders(portrait: Portrait) -> None:
    body = portrait.body_points.clone()
    body[2:4, 2] = 0
    layers = Layers.build(replace(portrait, body_points=body))
    assert layers.arms
    frame = layers.compose(portrait.image, None, pose(wrist_y=-15))
    assert torch.isfinite(frame).all()
    assert torch.equal(frame[:, :120], portrait.image[:, :120])


def test_folded_hands_move_as_one(portrait: Portrait, layers: Layers) -> None:
    folded = replace(layers, clasped=True)
    apart = torch.tensor([[20.0, 0, 0, 0, 0, 0], [0.0, 20, 0, 0, 0, 0]])
    frame = folded.compose(portrait.image, None, apart)
    same = folded.compose(portrait.image, None, apart.mean(0).expand(2, 6).contiguous())
    assert torch.equal(frame, same)
    assert not torch.equal(frame, layers.compose(portrait.image, None, apart))


def test_a_cut_that_cannot_be_right_is_named(portrait: Portrait) -> None:
    limb = find_limb(portrait, 1)
    assert not isinstance(limb, str)
    empty = np.zeros((HEIGHT, WIDTH), np.float32)
    assert "does not stand out" in str(fault(empty, limb))
    assert "own colour" in str(fault(empty + 1, limb))


def test_poses_stay_within_what_a_layer_can_show(portrait: Portrait) -> None:
    time = torch.arange(100) / 25
    shift = torch.stack([time * 0, 0.5 * torch.sin(9 * time), time * 0], -1)
    poses = layer_motion.anchor(
        make_motion(shift, 2 * torch.sin(7 * time)), portrait, fit_camera(portrait)
    )
    limit = layer_motion.MAX_SHIFT * HEIGHT
    assert poses.values[..., :2].norm(dim=-1).max() <= limit + 1e-3
    assert poses.values[..., 1].abs().max() > 0.8 * limit
    assert poses.values[..., 2].abs().max() <= layer_motion.MAX_TURN + 1e-5
    assert poses.bound.any()
    assert "beyond" in poses.notes[0]


def test_small_motion_passes_unbent_in_the_right_direction(portrait: Portrait) -> None:
    time = torch.arange(60) / 25
    swing = torch.sin(8 * time)
    motion = make_motion(torch.stack([0.02 * swing, 0 * swing, 0 * swing], -1), 0.15 * swing)
    camera = fit_camera(portrait)
    poses = layer_motion.anchor(motion, portrait, camera)
    assert not poses.bound.any()
    later = slice(30, 60)  # after the start at the photo's pose has faded
    wish = 0.02 * swing * camera.scale[0]
    off = poses.values[later, 0, 0] - wish[later]
    assert off.abs().max() < 0.25 * wish.abs().max()
    assert torch.corrcoef(torch.stack([poses.values[later, 1, 2], swing[later]]))[0, 1] > 0.98


def test_the_film_begins_with_the_photos_pose_and_drift_is_taken_out(portrait: Portrait) -> None:
    time = torch.arange(500) / 25
    drift = torch.stack([0.02 * time, 0 * time, 0 * time], -1)
    poses = layer_motion.anchor(make_motion(drift, 0 * time), portrait, fit_camera(portrait))
    assert poses.values[0].abs().max() < 0.1  # pixels
    assert poses.values[100:400, :, 0].abs().max() < 0.01 * HEIGHT


def test_the_way_to_where_the_voice_wants_hands_is_no_gesture(portrait: Portrait) -> None:
    away = 1.0 - left_at(torch.arange(100) / 25)
    shift = torch.stack([0 * away, 0.1 * away, 0 * away], -1)
    poses = layer_motion.anchor(make_motion(shift, 0.8 * away), portrait, fit_camera(portrait))
    wish = 0.1 * fit_camera(portrait).scale[1]
    assert poses.values[..., 1].abs().max() < 0.02 * wish
    assert poses.values[..., 2].abs().max() < 0.02 * 0.8


def test_still_hands_give_still_poses_and_no_frames_none(portrait: Portrait) -> None:
    camera = fit_camera(portrait)
    still = layer_motion.anchor(make_motion(torch.ones(30, 3), torch.ones(30)), portrait, camera)
    assert still.values.abs().max() < 1e-4
    none = layer_motion.anchor(make_motion(torch.ones(0, 3), torch.ones(0)), portrait, camera)
    assert none.values.shape == (0, 2, 23)


def test_poses_made_block_by_block_are_those_of_the_whole_motion(
    portrait: Portrait, monkeypatch: pytest.MonkeyPatch
) -> None:
    time = torch.arange(900) / 25
    shift = torch.stack([0.1 * torch.sin(3 * time), 0.2 * torch.sin(time), 0 * time], -1)
    motion, camera = make_motion(shift, 3 * torch.sin(0.7 * time) + time), fit_camera(portrait)
    assert len(motion) > 3 * layer_motion.reach(25.0)
    parts = layer_motion.anchor(motion, portrait, camera)
    monkeypatch.setattr(layer_motion, "BLOCK", len(motion))
    whole = layer_motion.anchor(motion, portrait, camera)
    assert torch.allclose(parts.values, whole.values, atol=1e-3)  # a thousandth of a pixel
    cut = layer_motion.anchor(slice_motion(motion, 0, 640), portrait, camera)
    same = 640 - layer_motion.reach(25.0)
    assert torch.allclose(cut.values[:same], whole.values[:same], atol=1e-3)


def test_paint_takes_colours_from_its_source_only() -> None:
    image = np.zeros((64, 64, 3), np.float32)
    image[:, :32] = [0.8, 0.2, 0.1]
    image[:, 32:] = [0.1, 0.3, 0.9]
    hole = np.zeros((64, 64), bool)
    hole[20:44, 20:44] = True
    source = np.zeros((64, 64), bool)
    source[:, :32] = True
    filled = layer_paint.paint(image, hole, source)
    assert np.abs(filled[hole] - [0.8, 0.2, 0.1]).max() < 0.05
    assert np.array_equal(filled[~hole], image[~hole])


def test_a_rooms_edge_goes_on_level_behind_an_arm() -> None:
    image = np.zeros((240, 240, 3), np.float32)
    image[:120], image[120:] = [0.2, 0.5, 0.4], [0.8, 0.7, 0.6]
    hole, source = np.zeros((240, 240), bool), np.zeros((240, 240), bool)
    hole[20:220, 100:130] = True
    source[:, 130:] = True
    image[:, :130] = [0.9, 0.1, 0.1]  # arm, trunk
    filled = layer_paint.paint(image, hole, source, room=True)
    assert np.abs(filled[30:110, 104:128] - [0.2, 0.5, 0.4]).max() < 0.1
    assert np.abs(filled[130:210, 104:128] - [0.8, 0.7, 0.6]).max() < 0.1
    smooth = layer_paint.paint(image, hole, source)[110, 104]
    assert np.abs(smooth - [0.2, 0.5, 0.4]).max() > 0.1
