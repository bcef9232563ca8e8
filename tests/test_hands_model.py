"""The hand model against hand-written formulas, MANO's known traps, and common sense about hands."""

from __future__ import annotations

import math

import pytest
import torch

from emo2.hands import (
    HandModel,
    from_mano,
    from_numbers,
    hand_points,
    mirror,
    pose_hands,
    shape_hand,
    stand_in,
    to_numbers,
)
from emo2.hands import model as hand_model
from emo2.hands import rotations as turns
from emo2.hands.foreign import SMPLX_LEFT, SMPLX_RIGHT, hamer_hand, hamer_translation, smplx_fingers
from emo2.hands.model import JOINTS, MANO_TIPS, PARENTS, POINT_ORDER, chain, hand_faces, swap_frame

ZERO = torch.zeros(10)
TIPS = [4, 8, 12, 16, 20]


def random_pose(seed: int, *shape: int, size: float = 0.5) -> torch.Tensor:
    noise = torch.randn(*shape, 16, 3, generator=torch.Generator().manual_seed(seed))
    return turns.axis_angle_to_matrix(noise * size)


def random_hands(seed: int, *shape: int) -> torch.Tensor:
    wrist = torch.randn(*shape, 2, 3, generator=torch.Generator().manual_seed(seed + 1)) * 0.2
    return to_numbers(random_pose(seed, *shape, 2), wrist)


def slow_forward(
    model: HandModel, rotations: torch.Tensor, betas: torch.Tensor, translation: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """The published equations joint by joint and vertex by vertex matrix, in 64 bit."""
    shaped = model.template.double() + (model.shape_dirs.double() @ betas.double())
    rest = model.joint_regressor.double() @ shaped
    world = []
    for j in range(16):
        local = torch.eye(4, dtype=torch.float64)
        local[:3, :3] = rotations[j].double()
        local[:3, 3] = rest[j] - (rest[PARENTS[j]] if j else 0)
        world.append(local if j == 0 else world[PARENTS[j]] @ local)
    removed = torch.stack(world)
    removed[:, :3, 3] -= torch.einsum("jrc,jc->jr", removed[:, :3, :3], rest)
    blend = torch.einsum("vj,jrc->vrc", model.weights.double(), removed)
    vertices = torch.einsum("vrc,vc->vr", blend[:, :3, :3], shaped) + blend[:, :3, 3]
    joints = torch.stack([w[:3, 3] for w in world])
    points = torch.cat((joints, vertices[list(model.tips)]))[list(POINT_ORDER)]
    return vertices + translation.double(), points + translation.double()


def test_forward_pass_equals_the_published_equations() -> None:
    model, betas = stand_in(), torch.linspace(-1.5, 1.5, 10)
    rotations, shift = random_pose(0), torch.tensor((0.3, -0.2, 0.1))
    vertices, points = model.forward(rotations, betas, shift)
    slow_vertices, slow_points = slow_forward(model, rotations, betas, shift)
    assert torch.allclose(vertices.double(), slow_vertices, atol=1e-6)
    assert torch.allclose(points.double(), slow_points, atol=1e-6)


def test_joint_order_is_manos_with_pinky_before_ring_and_thumb_last() -> None:
    assert PARENTS == (-1, 0, 1, 2, 0, 4, 5, 0, 7, 8, 0, 10, 11, 0, 13, 14)
    assert [JOINTS[i][:-1] for i in (1, 4, 7, 10, 13)] == [
        "index",
        "middle",
        "pinky",
        "ring",
        "thumb",
    ]


def test_the_21_points_are_wrist_then_thumb_index_middle_ring_pinky_out_to_the_tips() -> None:
    assert POINT_ORDER == (0, 13, 14, 15, 16, 1, 2, 3, 17, 4, 5, 6, 18, 10, 11, 12, 19, 7, 8, 9, 20)
    points = stand_in().points(torch.eye(3).expand(16, 3, 3), ZERO, torch.zeros(3))
    reach = (points - points[0]).norm(dim=-1).view(-1)
    for finger in range(5):
        chain_reach = reach[1 + 4 * finger : 5 + 4 * finger]
        assert (chain_reach.diff() > 0.01).all(), (
            "each point of a finger lies further out than the last"
        )
    thumb_to_pinky = points[TIPS, 2]
    assert (thumb_to_pinky.diff() < 0).all(), (
        "tips go from the thumb's side (+z) to the little finger's"
    )


def test_tip_vertices_are_smplx_and_hamers_for_mano() -> None:
    assert MANO_TIPS == (744, 320, 443, 554, 671)


def test_zero_pose_is_manos_flat_right_hand() -> None:
    joints = stand_in().joints(ZERO)
    fingers = joints[4] - joints[0]
    assert fingers[0] < -0.09, "fingers point to -x"
    assert fingers[1:].abs().max() < 1e-4
    for first in (1, 4, 7, 10):
        bones = joints[first + 1 : first + 3] - joints[first : first + 2]
        directions = bones / bones.norm(dim=-1, keepdim=True)
        assert (directions[0] @ directions[1]) > 0.9999, "fingers are straight"
        assert directions[:, 1].abs().max() < 0.01, "and lie in the plane of the palm"
    assert joints[13, 2] > joints[7, 2], "the thumb is on the +z side"
    template = stand_in().template
    palm = template[(template[:, 0] > 0.02) & (template[:, 0] < 0.06)]
    assert palm[:, 1].min() < -0.01, "the palm's flesh is below"


def test_stand_in_has_the_size_of_an_adult_hand_and_says_it_is_not_mano() -> None:
    model = stand_in()
    assert not model.is_mano
    assert "not MANO" in model.name
    points = model.points(torch.eye(3).expand(16, 3, 3), ZERO, torch.zeros(3))
    assert 0.17 < float((points[12] - points[0]).norm()) < 0.20
    assert 700 <= len(model.template) <= 850
    assert torch.allclose(model.weights.sum(1), torch.ones(len(model.template)), atol=1e-5)
    assert torch.allclose(model.joint_regressor.sum(1), torch.ones(16), atol=1e-4)


def test_stand_in_mesh_is_closed_and_its_faces_look_outwards() -> None:
    model = stand_in()
    a, b, c = (model.template[model.faces[:, k]].double() for k in range(3))
    volume = (torch.linalg.cross(a, b) * c).sum() / 6
    assert 2e-4 < float(volume) < 6e-4, "a hand holds about 0.35 litres"
    edges = {(int(f[i]), int(f[(i + 1) % 3])) for f in model.faces for i in range(3)}
    assert all((j, i) in edges for i, j in edges)


@pytest.mark.parametrize(
    ("beta", "grown"),
    [
        (0, "length"),
        (1, "length"),
        (2, "width"),
        (3, "girth"),
        (4, "depth"),
        (5, "palm"),
        (6, "thumb"),
    ],
)
def test_each_shape_number_changes_what_its_name_says_and_linearly(beta: int, grown: str) -> None:
    model = stand_in()
    flat, still = torch.eye(3).expand(16, 3, 3), torch.zeros(3)
    step = torch.eye(10)[beta]

    def measures(betas: torch.Tensor) -> dict[str, float]:
        vertices, points = model.forward(flat, betas, still)
        palm = model.weights[:, 0] > 0.95
        finger = model.weights[:, 2] > 0.8
        return {
            "length": float((points[12] - points[9]).norm()),
            "width": float((points[5] - points[17]).norm()),
            "girth": float(vertices[finger, 1].max() - vertices[finger, 1].min()),
            "depth": float(vertices[palm, 1].max() - vertices[palm, 1].min()),
            "palm": float((points[9] - points[0]).norm()),
            "thumb": float((points[4] - points[1]).norm()),
        }

    base, up, down = measures(ZERO), measures(step), measures(-step)
    assert up[grown] > base[grown] * 1.02
    assert down[grown] < base[grown] * 0.98
    half, _ = model.forward(flat, step * 0.5, still)
    full, _ = model.forward(flat, step, still)
    start, _ = model.forward(flat, ZERO, still)
    assert torch.allclose(half * 2 - start, full, atol=1e-6)


def test_joints_follow_the_shape() -> None:
    """The regressed joints stay inside the finger they belong to for any shape."""
    model = stand_in()
    for beta in range(10):
        betas = torch.eye(10)[beta] * 2
        shaped = model.template + model.shape_dirs @ betas
        joints = model.joints(betas)
        for joint in (2, 3, 5, 6, 8, 9, 11, 12):
            near = (shaped - joints[joint]).norm(dim=-1)
            assert near.min() < 0.014, f"joint {joint} left the flesh with shape number {beta}"


def test_root_turns_about_the_wrist_not_about_the_origin() -> None:
    """Rotating the cloud is not rotating the global orientation; t' = R (J0 + t) - J0 brings them together."""
    model, betas = stand_in(), torch.linspace(-1, 1, 10)
    pose, shift = random_pose(3), torch.tensor((0.1, 0.2, -0.3))
    turn = turns.axis_angle_to_matrix(torch.tensor((0.4, -0.9, 0.3)))
    cloud = model.forward(pose, betas, shift)[0] @ turn.T
    turned = torch.cat((turn @ pose[:1], pose[1:]))
    naive = model.forward(turned, betas, turn @ shift)[0]
    root = model.joints(betas)[0]
    right = model.forward(turned, betas, turn @ (root + shift) - root)[0]
    assert torch.allclose(right, cloud, atol=1e-5)
    assert (naive - cloud).abs().max() > 0.02


def test_mean_pose_is_added_only_when_asked() -> None:
    model = hand_model.replace(stand_in(), mean_pose=torch.linspace(-0.5, 0.5, 45))
    pose = torch.zeros(48)
    flat = model.full_pose(pose, flat_mean=True)
    mean = model.full_pose(pose, flat_mean=False)
    assert torch.allclose(flat, torch.eye(3).expand(16, 3, 3))
    assert torch.allclose(mean[0], torch.eye(3)), "the global rotation has no mean"
    assert torch.allclose(mean[1:], turns.axis_angle_to_matrix(model.mean_pose.view(15, 3)))


def test_components_are_rows() -> None:
    table = torch.arange(45 * 45, dtype=torch.float32).view(45, 45)
    model = hand_model.replace(stand_in(), components=table)
    assert torch.equal(model.component_pose(torch.tensor((1.0, 2.0))), table[0] + 2 * table[1])


def test_pose_directions_see_rotations_minus_identity_row_by_row() -> None:
    base = stand_in()
    dirs = (
        torch.randn(len(base.template), 3, 135, generator=torch.Generator().manual_seed(5)) * 1e-3
    )
    model = hand_model.replace(base, pose_dirs=dirs)
    flat = torch.eye(3).expand(16, 3, 3)
    assert torch.equal(
        model.forward(flat, ZERO, torch.zeros(3))[0], base.forward(flat, ZERO, torch.zeros(3))[0]
    )
    pose = flat.clone()
    pose[9] = turns.axis_angle_to_matrix(torch.tensor((0.3, 0.5, -0.2)))
    feature = torch.zeros(135)
    feature[8 * 9 : 9 * 9] = (pose[9] - torch.eye(3)).reshape(-1)
    moved = hand_model.replace(base, template=base.template + dirs @ feature)
    world, places = chain(pose, base.joints(ZERO))
    affine = torch.cat(
        (world, (places - (world @ base.joints(ZERO)[..., None])[..., 0])[..., None]), -1
    )
    blend = torch.einsum("vj,jrc->vrc", base.weights, affine)
    expected = (blend[..., :3] @ moved.template[..., None])[..., 0] + blend[..., 3]
    assert torch.allclose(model.forward(pose, ZERO, torch.zeros(3))[0], expected, atol=1e-6)


def test_mirroring_turns_axis_angle_xyz_into_x_minus_y_minus_z() -> None:
    vector = torch.tensor((0.3, -0.8, 0.5))
    numbers = to_numbers(
        turns.axis_angle_to_matrix(vector).expand(16, 3, 3), torch.tensor((0.1, 0.2, 0.3))
    )
    rotations, wrist = from_numbers(mirror(numbers))
    expected = turns.axis_angle_to_matrix(vector * torch.tensor((1.0, -1.0, -1.0)))
    assert torch.allclose(rotations, expected.expand(16, 3, 3), atol=1e-6)
    assert torch.allclose(wrist, torch.tensor((-0.1, 0.2, 0.3)))
    assert torch.equal(mirror(mirror(numbers)), numbers)


def test_the_mirrored_hand_is_the_mirror_image_point_by_point() -> None:
    hands = random_hands(7, 4)
    swapped = mirror(hands.flip(-2))
    points, other = hand_points(stand_in(), hands, ZERO), hand_points(stand_in(), swapped, ZERO)
    assert torch.allclose(other.flip(-3), points * torch.tensor((-1.0, 1.0, 1.0)), atol=1e-6)


def test_numbers_and_rotations_are_each_others_inverse() -> None:
    rotations, wrist = (
        random_pose(11, 5, size=1.5),
        torch.randn(5, 3, generator=torch.Generator().manual_seed(1)),
    )
    back, place = from_numbers(to_numbers(rotations, wrist))
    assert torch.allclose(back, rotations, atol=1e-5)
    assert torch.equal(place, wrist)
    with pytest.raises(ValueError, match="expected 67"):
        from_numbers(torch.zeros(66))


def test_numbers_that_are_not_quite_unit_still_give_rotations() -> None:
    rotations, _ = from_numbers(random_hands(2, 3) * 1.7)
    assert torch.allclose(
        rotations @ rotations.transpose(-1, -2), torch.eye(3).expand_as(rotations), atol=1e-5
    )


def test_key_points_alone_equal_those_of_the_mesh_and_carry_gradients() -> None:
    hands, betas = random_hands(13, 6).requires_grad_(), torch.linspace(-1, 1, 10)
    points = hand_points(stand_in(), hands, betas)
    assert torch.allclose(points, pose_hands(stand_in(), hands, betas).points, atol=1e-6)
    points.square().sum().backward()
    assert hands.grad is not None
    assert torch.isfinite(hands.grad).all()
    assert (hands.grad.abs().sum((0, 1)) > 0).sum() > 60


def test_the_wrist_numbers_are_where_the_wrist_is() -> None:
    hands = random_hands(17, 3)
    points = hand_points(stand_in(), hands, torch.linspace(-2, 2, 10))
    assert torch.allclose(points[..., 0, :], hands[..., 64:], atol=1e-6)


def raised(side: str) -> torch.Tensor:
    """Fingers up, palm to the camera: `stop`."""
    up, camera = torch.tensor((0.0, -1.0, 0.0)), torch.tensor((0.0, 0.0, 1.0))
    return shape_hand(side, torch.zeros(3), fingers_to=up, palm_to=camera, curl=torch.zeros(5))


def both(left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    return torch.stack((left, right))


def test_a_right_hand_stays_a_right_hand_in_the_picture() -> None:
    """Palm to the camera, fingers up: the right thumb points to the image's right, the left one to its left."""
    left, right = hand_points(stand_in(), both(raised("left"), raised("right")), ZERO)
    for points in (left, right):
        assert points[12, 1] < -0.15, "the middle finger is up (y is down)"
    assert right[4, 0] > 0.05
    assert right[20, 0] < -0.03
    assert left[4, 0] < -0.05
    assert left[20, 0] > 0.03


def test_fingers_curl_towards_the_palm() -> None:
    toward = torch.tensor((0.0, 0.0, 1.0))
    up = torch.tensor((0.0, -1.0, 0.0))
    curled = [
        shape_hand(s, torch.zeros(3), fingers_to=up, palm_to=toward, curl=torch.full((5,), 0.8))
        for s in ("left", "right")
    ]
    straight = hand_points(stand_in(), both(raised("left"), raised("right")), ZERO)
    bent = hand_points(stand_in(), both(*curled), ZERO)
    four = TIPS[1:]
    assert (bent[:, four, 2] - straight[:, four, 2] > 0.03).all(), (
        "the palm looks to +z, the tips come forward"
    )
    assert (bent[:, four, 1] - straight[:, four, 1] > 0.03).all(), "and down from the top"
    pinky_root = bent[:, 17]
    near = (bent[:, 4] - pinky_root).norm(dim=-1)
    assert (near < (straight[:, 4] - straight[:, 17]).norm(dim=-1)).all(), (
        "the thumb crosses the palm"
    )


def test_a_fist_brings_the_tips_to_the_palm() -> None:
    up, toward = torch.tensor((0.0, -1.0, 0.0)), torch.tensor((0.0, 0.0, 1.0))
    fist = shape_hand(
        "right", torch.zeros(3), fingers_to=up, palm_to=toward, curl=torch.full((5,), 1.4)
    )
    points = hand_points(stand_in(), both(fist, fist), ZERO)[1]
    palm = points[[0, 5, 9, 13, 17]].mean(0)
    assert ((points[TIPS[1:]] - palm).norm(dim=-1) < 0.06).all()
    gaps = (points[TIPS[1:-1]] - points[TIPS[2:]]).norm(dim=-1)
    assert (gaps < 0.035).all(), "curled fingers lie side by side"


def test_mesh_winding_in_the_picture_points_outwards_on_both_sides() -> None:
    hands = both(raised("left"), raised("right"))
    meshes = pose_hands(stand_in(), hands, ZERO).vertices
    for side, vertices in zip(("left", "right"), meshes, strict=True):
        a, b, c = (vertices[hand_faces(stand_in(), side)[:, k]].double() for k in range(3))
        assert (torch.linalg.cross(a, b) * c).sum() > 0


def test_swapping_frames_twice_changes_nothing_and_once_is_the_reflection() -> None:
    numbers = random_hands(23)[1]
    assert torch.equal(swap_frame(swap_frame(numbers, "right"), "right"), numbers)
    rotations, wrist = from_numbers(numbers)
    swapped, place = from_numbers(swap_frame(numbers, "right"))
    flip = torch.diag(torch.tensor((1.0, -1.0, 1.0)))
    assert torch.allclose(swapped, flip @ rotations @ flip, atol=1e-6)
    assert torch.allclose(place, flip @ wrist)


def test_mano_rotations_enter_the_picture_frame_by_reflection_of_the_mesh() -> None:
    model, pose, wrist = stand_in(), random_pose(29), torch.tensor((0.1, 0.2, 0.3))
    mesh, _ = model.forward(pose, ZERO, torch.zeros(3))
    mesh = mesh - model.joints(ZERO)[0]
    numbers = {s: from_mano(pose, wrist, s) for s in ("left", "right")}
    hands = pose_hands(model, both(numbers["left"], numbers["right"]), ZERO).vertices
    assert torch.allclose(hands[1], mesh * torch.tensor((1.0, -1.0, 1.0)) + wrist, atol=1e-6)
    assert torch.allclose(hands[0], mesh * torch.tensor((-1.0, -1.0, 1.0)) + wrist, atol=1e-6)


def test_hamers_camera_frame_has_z_away() -> None:
    """Its vertices (x right, y down, z away) equal ours with z reversed; left ones with x reversed too."""
    model, pose, wrist = stand_in(), random_pose(31), torch.zeros(3)
    mesh, _ = model.forward(pose, ZERO, torch.zeros(3))
    mesh = mesh - model.joints(ZERO)[0]  # as HaMeR's renderer sees it
    left, right = (hamer_hand(pose[:1], pose[1:], wrist, s) for s in ("left", "right"))
    hands = pose_hands(model, both(left, right), ZERO).vertices
    assert torch.allclose(hands[1], mesh * torch.tensor((1.0, 1.0, -1.0)), atol=1e-6)
    assert torch.allclose(hands[0], mesh * torch.tensor((-1.0, 1.0, -1.0)), atol=1e-6)


def test_hamers_crop_camera_becomes_the_whole_pictures() -> None:
    camera, centre = torch.tensor((0.9, 0.1, -0.2)), torch.tensor((500.0, 300.0))
    found = hamer_translation(camera, centre, torch.tensor(200.0), (720, 1280), left=False)
    focal = 5000 / 256 * 1280
    expected = (0.1 + 2 * (500 - 640) / 180, -0.2 + 2 * (300 - 360) / 180, 2 * focal / 180)
    assert torch.allclose(found, torch.tensor(expected), atol=1e-4)
    left = hamer_translation(camera, centre, torch.tensor(200.0), (720, 1280), left=True)
    assert math.isclose(float(found[0] - left[0]), 0.2, abs_tol=1e-5)


def test_smplx_fingers_sit_at_joints_25_and_40_and_need_the_mean_pose() -> None:
    assert (slice(75, 120), slice(120, 165)) == (SMPLX_LEFT, SMPLX_RIGHT)
    poses = torch.randn(2, 165, generator=torch.Generator().manual_seed(3)) * 0.3
    mean = torch.linspace(-0.4, 0.4, 45)
    left, right = smplx_fingers(poses, mean, mean)
    assert torch.allclose(
        left, turns.axis_angle_to_matrix((poses[:, 75:120] + mean).view(2, 15, 3))
    )
    flat_left, flat_right = smplx_fingers(poses)
    assert torch.allclose(flat_right, turns.axis_angle_to_matrix(poses[:, 120:].view(2, 15, 3)))
    assert not torch.allclose(flat_left, left)
    assert right.shape == (2, 15, 3, 3)
    with pytest.raises(ValueError, match="165"):
        smplx_fingers(torch.zeros(2, 63))


def test_six_numbers_by_columns_and_by_rows_are_transposes() -> None:
    matrix = random_pose(37)
    six = turns.matrix_to_six_columns(matrix)
    assert torch.equal(six[:, :3], matrix[..., 0])
    assert torch.equal(six[:, 3:], matrix[..., 1])
    assert torch.allclose(turns.six_columns_to_matrix(six), matrix, atol=1e-6)
    assert torch.allclose(turns.hamer_six_to_matrix(six), matrix, atol=1e-6)
    rows = turns.matrix_to_six_rows(matrix)
    assert torch.equal(rows[:, :3], matrix[:, 0])
    assert torch.equal(rows[:, 3:], matrix[:, 1])
    assert torch.allclose(turns.six_rows_to_matrix(rows), matrix, atol=1e-6)
    assert torch.allclose(turns.six_rows_to_matrix(six), matrix.transpose(-1, -2), atol=1e-6)


@pytest.mark.parametrize("angle", [0.0, 1e-5, 0.5, 3.0, math.pi - 1e-3])
def test_axis_angle_quaternion_and_matrix_agree_at_every_angle(angle: float) -> None:
    axis = torch.nn.functional.normalize(torch.tensor((0.3, -0.7, 0.2), dtype=torch.float64), dim=0)
    matrix = turns.axis_angle_to_matrix(axis * angle)
    skew = torch.linalg.cross(axis.expand(3, 3), torch.eye(3, dtype=torch.float64)).T
    expected = torch.linalg.matrix_exp(skew * angle)
    assert torch.allclose(matrix, expected, atol=1e-9)
    assert torch.allclose(
        turns.quaternion_to_matrix(turns.matrix_to_quaternion(matrix)), matrix, atol=1e-9
    )
    assert torch.allclose(turns.matrix_to_axis_angle(matrix), axis * angle, atol=1e-6)


def test_axis_angle_has_a_gradient_at_zero() -> None:
    vector = torch.zeros(3, requires_grad=True)
    turns.axis_angle_to_matrix(vector)[2, 1].backward()
    assert vector.grad is not None
    assert torch.allclose(vector.grad, torch.tensor((1.0, 0.0, 0.0)))


def test_quaternion_product_is_matrix_product_and_slerp_halves_the_angle() -> None:
    a, b = (turns.matrix_to_quaternion(random_pose(s)) for s in (41, 43))
    product = turns.quaternion_to_matrix(turns.multiply_quaternions(a, b))
    expected = turns.quaternion_to_matrix(a) @ turns.quaternion_to_matrix(b)
    assert torch.allclose(product, expected, atol=1e-5)
    half = turns.quaternion_to_matrix(turns.slerp(a, -b, torch.full((16,), 0.5)))
    step = half @ turns.quaternion_to_matrix(a).transpose(-1, -2)
    assert torch.allclose(step @ half, turns.quaternion_to_matrix(b), atol=1e-4)


def test_the_model_can_be_cached_in_inference_mode_and_trained_with_afterwards() -> None:
    stand_in.cache_clear()
    with torch.inference_mode():
        stand_in()
    hands = random_hands(47).requires_grad_()
    hand_points(stand_in(), hands, ZERO).sum().backward()
    assert hands.grad is not None


def test_the_model_moves_to_another_float_type() -> None:
    model = stand_in().to(dtype=torch.float64)
    assert hand_points(model, random_hands(3).double(), ZERO.double()).dtype == torch.float64
