"""Hands as meshes: fitted to what a photo shows of them, and moved by the mesh."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch

from emo2.hands import HandModel, shape_hand, stand_in
from emo2.hands.change import FLEX, TILT, TURN, hand_change
from emo2.hands.fit import AIM, HandFit, Sight, fit_hand
from emo2.hands.flesh import Flesh, flesh_of
from emo2.hands.model import from_numbers, swap_frame
from emo2.hands.raster import rasterise
from emo2.hands.rotations import axis_angle_to_matrix
from emo2.portrait.skin import stands_free
from emo2.signals import Portrait
from emo2.video.hand_layer import Cutout, HandLayer, HandPose, hand_layer, hand_pose
from emo2.video.hand_sight import LEAST_OVERLAP, MOST_MISS, see_hand
from emo2.video.layer_chart import chart
from emo2.video.layer_motion import HAND, POSE, Field
from emo2.video.layers import Layers

SIZE = (150, 170)
SKIN, WALL, SHIRT = (0.86, 0.66, 0.54), (0.45, 0.5, 0.46), (0.2, 0.25, 0.6)


def posed_fit(
    side: str = "right", *, scale: float = 520.0, wrist: tuple[float, float] = (120.0, 80.0)
) -> HandFit:
    """A hand with its palm to the camera and its fingers pointing away from the body's middle."""
    out = -1.0 if side == "right" else 1.0
    numbers = shape_hand(
        side, torch.zeros(3), fingers_to=torch.tensor((out, 0.25, 0.3)), palm_to=torch.tensor((0.0, -0.4, 1.0)),
        curl=torch.zeros(5),
    )  # fmt: skip
    root = from_numbers(swap_frame(numbers, side))[0][0]
    flex = torch.tensor((0.2, 0.3, 0.2) * 4 + (0.1, 0.1, 0.2))
    return HandFit(
        side=side, root=root, flex=flex, aim=torch.zeros(AIM), betas=torch.zeros(10),
        log_scale=torch.tensor(scale).log(), wrist=torch.tensor(wrist),
    )  # fmt: skip


def silhouette(flesh: Flesh, size: tuple[int, int]) -> np.ndarray:
    mask = np.zeros(size, np.float32)
    mask.reshape(-1)[rasterise(flesh.posed(), flesh.faces, size).pixel] = 1
    return mask


@pytest.fixture(scope="module")
def model() -> HandModel:
    return stand_in()


def sight_of(model: HandModel, truth: HandFit, scale: float) -> Sight:
    mask = silhouette(flesh_of(model, truth), SIZE)
    points = truth.posed_points(model)[:, :2]
    elbow = truth.wrist + torch.tensor((60.0, 60.0))
    return Sight(
        side=truth.side, points=torch.cat((points, torch.ones(21, 1)), 1), elbow=elbow, inside=mask, hand=mask,
        scale=scale,
    )  # fmt: skip


def test_a_fit_works_inside_inference_mode_as_films_are_made_in_it() -> None:
    with torch.inference_mode():
        model = stand_in()
        fit = fit_hand(model, sight_of(model, posed_fit(), 480.0))
        assert fit.overlap > 0.8


def test_a_fit_finds_the_pose_that_the_points_and_the_mask_were_made_of(model: HandModel) -> None:
    truth = posed_fit()
    fit = fit_hand(model, sight_of(model, truth, 480.0))
    assert fit.overlap > 0.8
    off = (fit.posed_points(model)[:, :2] - truth.posed_points(model)[:, :2]).norm(dim=-1)
    assert off.median() < 0.03 * 0.19 * 520
    turned = torch.linalg.matrix_norm(fit.root - truth.root)
    assert turned < 0.45, "the hand leans another way"


def test_a_mask_of_something_else_shows_in_the_fits_quality(model: HandModel) -> None:
    sight = sight_of(model, posed_fit(), 480.0)
    wrong = np.zeros(SIZE, np.float32)
    wrong[100:140, 100:160] = 1
    fit = fit_hand(model, replace(sight, inside=wrong, hand=wrong))
    assert fit.overlap < LEAST_OVERLAP or fit.miss > MOST_MISS


def test_flesh_reaches_an_outline_that_is_wider_than_the_model(model: HandModel) -> None:
    fit = posed_fit()
    plain = silhouette(flesh_of(model, fit), SIZE)
    wide = cv2.dilate(plain, np.ones((7, 7), np.uint8))
    sight = replace(sight_of(model, fit, 480.0), inside=wide, hand=wide)
    drawn = flesh_of(model, fit, sight)
    left = float((wide > silhouette(drawn, SIZE)).sum()) / float((wide > plain).sum())
    assert left < 0.5
    assert np.abs(drawn.posed() - flesh_of(model, fit).posed())[:, :2].max() < 0.02 * 520


def whole_field(size: tuple[int, int]) -> Field:
    return Field(
        weights=np.ones((size[0] // 4, size[1] // 4, 3), np.float32), origin=(0, 0), stride=4
    )


@pytest.fixture(scope="module")
def layer(model: HandModel) -> HandLayer:
    """A hand whose colours are its own places in the photo: red across, green down; blue is a chequer."""
    flesh = flesh_of(model, posed_fit())
    mask = silhouette(flesh, SIZE)
    ys, xs = np.mgrid[: SIZE[0], : SIZE[1]].astype(np.float32) + 0.5
    colour = np.dstack((xs / 200, ys / 200, (xs // 4 + ys // 4) % 2)).astype(np.float32)
    cutout = Cutout(
        colour=colour, alpha=mask, field=whole_field(SIZE), box=(0, 0, SIZE[1], SIZE[0])
    )
    return hand_layer(flesh, cutout, mask)[0]


def change(**parts: tuple[float, ...] | float) -> HandPose:
    rest = {"shift": (0.0, 0.0), "turn": (0.0, 0.0, 0.0), "flex": (0.0,) * 15} | parts
    shift, turn, flex = (np.array(rest[name], np.float32) for name in ("shift", "turn", "flex"))
    return HandPose(shift=shift, elbow=np.zeros(2, np.float32), turn=turn, zoom=0.0, flex=flex)


def drawn(layer: HandLayer, pose: HandPose) -> np.ndarray:
    frame = np.full((*SIZE, 3), -1, np.float32)
    layer.lay(frame, pose, np.zeros(2, np.float32))
    return frame


def test_a_hand_at_rest_is_the_photos(layer: HandLayer) -> None:
    frame, alpha = drawn(layer, change()), layer.colour[..., 3:]
    photo = layer.colour[..., :3] + (1 - alpha) * -1
    inner = cv2.erode(layer.owned, np.ones((5, 5))) * alpha[..., 0] > 0.99
    assert inner.sum() > 800
    assert np.abs(frame - photo)[inner][:, :2].max() < 0.02


@pytest.mark.parametrize(
    "pose",
    [
        change(shift=(9.0, -14.0)),
        change(turn=(0.0, 0.0, 0.5)),
        change(turn=(0.35, -0.3, 0.2), shift=(4.0, 3.0)),
        change(flex=(0.35,) * 12 + (0.0,) * 3),
    ],
)
def test_the_film_shows_each_piece_of_skin_where_the_mesh_moved_it(
    layer: HandLayer, pose: HandPose
) -> None:
    frame = drawn(layer, pose)
    moved, normals = layer.moved(pose)
    count = len(layer.skin)
    front = rasterise(moved, layer.faces, SIZE)
    depth = np.full(SIZE, -1e4, np.float32)
    depth.reshape(-1)[front.pixel] = front.mix(moved, layer.faces)[:, 2]
    place = moved[:count].astype(int)
    inside = (
        (place[:, 0] > 1)
        & (place[:, 0] < SIZE[1] - 2)
        & (place[:, 1] > 1)
        & (place[:, 1] < SIZE[0] - 2)
    )
    x, y = place[:, 0].clip(0, SIZE[1] - 1), place[:, 1].clip(0, SIZE[0] - 1)
    facing = (normals[:, 2] > 0.6) & (layer.seen > 0.95) & (layer.along > 0.04) & inside
    chosen = facing & (np.abs(depth[y, x] - moved[:count, 2]) < 2)
    found = (frame[y, x, :2] + 1) / 2 * 200
    off = np.abs(found - layer.rest[:count, :2])[chosen].max(1)
    assert chosen.sum() > 60
    assert np.median(off) < 1.2, "pixels of the photo"
    assert (off < 4).mean() > 0.85


def test_skin_that_the_photo_hides_is_filled_and_solid(layer: HandLayer) -> None:
    axis = np.array((-1.0, 0.25, 0.0)) / np.hypot(1, 0.25)
    pose = change(turn=tuple(2.9 * axis))
    frame = drawn(layer, pose)
    moved, _ = layer.moved(pose)
    solid = np.zeros(SIZE, np.float32)
    half = len(layer.faces) // 2
    solid.reshape(-1)[rasterise(moved, layer.faces[:half], SIZE).pixel] = 1
    inner = cv2.erode(solid, np.ones((5, 5))) > 0
    assert inner.sum() > 600
    assert frame[inner].min() > -0.99, "a hole in the turned hand"
    rough = np.abs(frame[..., 2] - cv2.blur(frame[..., 2], (7, 7)))
    seen = drawn(layer, change())[..., 2]
    assert rough[inner].mean() < 0.3 * np.abs(seen - cv2.blur(seen, (7, 7)))[inner].mean()


def test_a_hands_change_tells_turn_tilt_and_bends_apart() -> None:
    rest = torch.zeros(1, 2, 67)
    rest[..., 0:64:4] = 1
    moved = rest.clone()
    moved[..., :4] = torch.tensor((np.cos(0.2), 0.0, 0.0, np.sin(0.2)))
    assert hand_change(moved, rest)[0, :, TURN].flatten().tolist() == pytest.approx([0.4, 0.4])
    moved[..., :4] = torch.tensor((np.cos(0.15), np.sin(0.15), 0.0, 0.0))
    tilted = hand_change(moved, rest)[0, 0]
    assert tilted[TILT].tolist() == pytest.approx([0.3, 0.0], abs=1e-6)
    kwargs = {"fingers_to": torch.tensor((1.0, 0, 0)), "palm_to": torch.tensor((0, 0, 1.0))}
    straight, bent = (
        torch.stack([shape_hand(s, torch.zeros(3), **kwargs, curl=torch.full((5,), c)) for s in ("left", "right")])
        for c in (0.0, 0.4)
    )  # fmt: skip
    bends = hand_change(bent[None], straight[None])[0, :, FLEX]
    assert torch.allclose(bends[0], bends[1], atol=1e-5)
    assert (bends[:, :12] > 0.25).all()


# ------------------------------------------------------------------------------------------- a whole photo


def person_with_hands(model: HandModel) -> Portrait:
    """A drawn person with bare forearms whose hands are renders of the model."""
    height, width, scale = 384, 400, 330.0
    picture = np.full((height, width, 3), WALL, np.float32)
    picture += np.random.default_rng(0).normal(0, 0.01, (height, width, 1))
    cv2.rectangle(picture, (140, 130), (260, height), SHIRT, -1)
    cv2.ellipse(picture, (200, 70), (28, 36), 0, 0, 360, SKIN, -1)
    cv2.line(picture, (200, 90), (200, 130), SKIN, 24)
    body = [
        (200, 30),
        (200, 120),
        (258, 142),
        (142, 142),
        (282, 230),
        (118, 230),
        (302, 292),
        (98, 292),
    ]
    points, masks = [], np.zeros((4, height, width), np.float32)
    for side, name in enumerate(("left", "right")):
        wrist = body[6 + side]
        fit = posed_fit(name, scale=scale, wrist=(float(wrist[0]), float(wrist[1])))
        cv2.line(picture, body[2 + side], body[4 + side], SHIRT, 26)
        cv2.line(picture, body[4 + side], wrist, SKIN, 18)
        mask = silhouette(flesh_of(model, fit), (height, width))
        picture[mask > 0] = SKIN
        masks[2 * side + 1] = cv2.GaussianBlur(mask, (0, 0), 1.5)
        found = fit.posed_points(model)[:, :2]
        points.append(torch.cat((found, torch.ones(21, 1)), 1))
    picture = cv2.GaussianBlur(picture, (0, 0), 0.7)
    sure = torch.cat((torch.tensor(body).float(), torch.ones(8, 1)), 1)
    return Portrait(
        image=torch.from_numpy(picture).permute(2, 0, 1) * 2 - 1,
        face_box=torch.tensor([172.0, 40.0, 228.0, 104.0]), face_points=torch.zeros(68, 2), body_points=sure,
        hand_points=torch.stack(points), hands_present=(True, True), limb_masks=torch.from_numpy(masks),
    )  # fmt: skip


@pytest.fixture(scope="module")
def portrait(model: HandModel) -> Portrait:
    return person_with_hands(model)


@pytest.fixture(scope="module")
def layers(portrait: Portrait) -> Layers:
    return Layers.build(portrait)


def row(**channels: float) -> torch.Tensor:
    one = [
        channels.get(name, channels.get("flex", 0.0) if name[:4] == "flex" else 0.0)
        for name in (*POSE, *HAND)
    ]
    return torch.tensor(one).expand(2, -1).contiguous()


def test_both_hands_of_a_photo_get_meshes_and_the_photos_pose_gives_the_photo(
    portrait: Portrait, layers: Layers
) -> None:
    assert [arm.hand is not None for arm in layers.arms] == [True, True], layers.notes
    assert (layers.compose(portrait.image, None, row()) - portrait.image).abs().max() < 0.02


@pytest.mark.parametrize(
    "pose", [row(tilt_x=0.4), row(tilt_y=0.35, wrist_y=-20), row(turn=0.4, flex=0.3)]
)
def test_forearm_and_hand_hang_together(
    portrait: Portrait, layers: Layers, pose: torch.Tensor
) -> None:
    frame = layers.compose(portrait.image, None, pose)
    skin = torch.tensor(SKIN).view(3, 1, 1) * 2 - 1
    near = ((frame - skin).abs().amax(0) < 0.3).numpy().astype(np.uint8)
    for arm in layers.arms:
        shift = pose[arm.limb.side, :2].numpy()
        _, labels = cv2.connectedComponents(near, connectivity=4)
        fore = (0.5 * arm.limb.elbow + 0.5 * arm.limb.wrist + 0.6 * shift).astype(int)
        assert arm.hand is not None
        moved, _ = arm.hand.moved(hand_pose(pose[arm.limb.side].numpy()))
        palm = moved[: len(moved) // 2][(arm.hand.along > 0.04) & (arm.hand.along < 0.07)]
        at = palm[:, :2].mean(0).astype(int)
        assert labels[at[1], at[0]] > 0
        assert labels[at[1], at[0]] == labels[fore[1], fore[0]]


@pytest.mark.parametrize("pose", [row(tilt_x=0.3), row(wrist_y=-20, elbow_y=-6), row(turn=0.3)])
def test_a_chart_of_the_layers_says_where_the_film_takes_each_pixel_from(
    portrait: Portrait, layers: Layers, pose: torch.Tensor
) -> None:
    frame = portrait.image.permute(1, 2, 0).numpy().copy()
    photo = frame.copy()
    layers.lay(frame, None, pose.numpy())
    drawn = chart(layers, None, pose.numpy())
    x, y = (np.ascontiguousarray(drawn.place[..., k]) for k in (0, 1))
    fetched = cv2.remap(photo, x, y, cv2.INTER_LINEAR)
    whole = drawn.moved > 0.98
    assert whole.sum() > 2000
    assert np.quantile(np.abs(fetched - frame)[whole], 0.95) < 0.1
    untouched = (drawn.moved < 0.01) & (drawn.painted < 0.01)
    assert np.abs(frame - photo)[untouched].max() < 0.02
    assert np.abs(drawn.flow[untouched]).max() < 0.2  # up to a hundredth of a layer counts there


def test_a_chart_at_rest_moves_nothing(layers: Layers) -> None:
    drawn = chart(layers, None, row().numpy())
    away = np.linalg.norm(drawn.flow, axis=-1)[drawn.moved > 0.9]
    assert np.quantile(away, 0.98) < 0.5


def reach_of(layers: Layers, pose: torch.Tensor) -> float:
    drawn = chart(layers, None, pose.numpy())
    return float(np.linalg.norm(drawn.flow, axis=-1)[drawn.moved > 0.9].max())


def test_an_arm_whose_hand_is_unsure_has_no_mesh_and_moves_less(
    portrait: Portrait, layers: Layers
) -> None:
    points = portrait.hand_points.clone()
    points[..., 2] = 0.5
    unsure = Layers.build(replace(portrait, hand_points=points))
    assert unsure.arms
    assert all(arm.hand is None for arm in unsure.arms)
    assert reach_of(unsure, row(wrist_y=-20)) < reach_of(layers, row(wrist_y=-20)) - 4


def test_points_that_lie_beside_the_hands_mask_get_no_mesh(portrait: Portrait) -> None:
    pixels = ((portrait.image.permute(1, 2, 0).numpy() + 1) * 127.5).astype(np.uint8)
    assert see_hand(pixels, portrait, 0) is not None
    points = portrait.hand_points.clone()
    points[0, :, 1] += 0.7 * (points[0, 9, :2] - points[0, 0, :2]).norm()
    assert see_hand(pixels, replace(portrait, hand_points=points), 0) is None


def test_the_other_hand_belongs_to_the_other_hand(portrait: Portrait) -> None:
    pixels = ((portrait.image.permute(1, 2, 0).numpy() + 1) * 127.5).astype(np.uint8)
    assert portrait.limb_masks is not None
    right = portrait.limb_masks[3].numpy() > 0.5
    beside = np.roll(portrait.limb_masks[1].numpy(), 14, axis=1)  # skin next to the left hand
    masks = portrait.limb_masks.clone()
    masks[3] = torch.from_numpy(np.where(masks[1] > 0.5, 0, beside))
    pixels[masks[3].numpy() > 0.5] = (np.array(SKIN) * 255).astype(np.uint8)
    sight = see_hand(pixels, replace(portrait, limb_masks=masks), 0)
    assert right.any()
    assert sight is not None
    assert sight.hand is not None
    assert sight.hand[masks[3].numpy() > 0.6].mean() < 0.1


def test_a_hand_on_an_arm_whose_hand_is_not_found_stays_still(portrait: Portrait) -> None:
    height, width = portrait.size
    shares = torch.zeros(3, height, width)
    shares[1, :, width // 2 :] = 0.6
    alone = replace(portrait, hands_present=(True, False), body_masks=shares)
    assert Layers.build(alone).moves == (True, False)
    shares[2, :, width // 2 :] = 0.3
    clasped = Layers.build(replace(alone, body_masks=shares))
    assert not clasped.arms
    assert any("lies on the other arm" in note for note in clasped.notes)
    assert Layers.build(replace(portrait, body_masks=shares)).moves[0]


def test_a_hand_that_a_mesh_fits_moves_though_its_colour_is_all_around(portrait: Portrait) -> None:
    assert portrait.limb_masks is not None
    hand = (portrait.limb_masks[1].numpy() > 0.5).astype(np.uint8)
    away = cv2.distanceTransform(1 - hand, cv2.DIST_L2, 3)
    table = torch.from_numpy(
        (away > 6) & (np.mgrid[:384, :400][0] > 300) & (np.mgrid[:384, :400][1] > 270)
    )
    image = torch.where(table, torch.tensor(SKIN).view(3, 1, 1) * 2 - 1.04, portrait.image)
    before_table = replace(portrait, image=image.float())
    assert not stands_free(before_table, 0)
    arms = Layers.build(before_table).arms
    assert [arm.hand is not None for arm in arms if arm.limb.side == 0] == [True]


def test_a_hand_that_no_mesh_fits_is_moved_in_the_plane_and_named(portrait: Portrait) -> None:
    masks = portrait.limb_masks
    assert masks is not None
    wrong = masks.clone()
    wrong[1] = 0
    wrong[1, 40:70, 320:380] = 1
    layers = Layers.build(replace(portrait, limb_masks=wrong))
    assert [arm.hand is not None for arm in layers.arms if arm.limb.side == 0] in ([], [False])
    assert any("left hand" in note for note in layers.notes)


def test_bends_move_only_hands_with_meshes(portrait: Portrait) -> None:
    plain = Layers.build(portrait, meshes=False)
    still = plain.compose(portrait.image, None, row())
    bent = plain.compose(portrait.image, None, row(flex=0.3))
    assert (still - bent).abs().max() < 0.02


def test_the_axes_of_the_fit_bend_fingers_towards_the_palm(model: HandModel) -> None:
    fit = posed_fit()
    palm = axis_angle_to_matrix(torch.zeros(3)) @ fit.root @ torch.tensor((0.0, -1.0, 0.0))
    bent = replace(fit, flex=fit.flex + torch.tensor((0.4,) * 12 + (0.0,) * 3))
    tips = [8, 12, 16, 20]
    signs = torch.tensor((1.0, -1.0, 1.0))  # model frame to picture frame
    way = (bent.posed_points(model) - fit.posed_points(model))[tips] @ (palm * signs)
    assert (way > 0).all()
