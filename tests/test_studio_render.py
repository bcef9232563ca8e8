"""The studio's people, renderer and shards, on plain bodies: nothing outside of the package is needed."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy import ndarray
from safetensors import safe_open
from safetensors.numpy import load_file

pytest.importorskip("anny", reason="the studio extra is not installed")
pytest.importorskip("moderngl", reason="the studio extra is not installed")

from plain_studio import SIZE, face, front, plain_person, small_renderer

from emo2.signals import FACE_ACTIONS, Motion
from emo2.studio import acting, labels, make, takes
from emo2.studio.assets import Library, _read_mhclo
from emo2.studio.gesturing import first_arms
from emo2.studio.hand_rig import bone_turns, numbers_of
from emo2.studio.hand_shapes import REST_POSES
from emo2.studio.landmarks import face_vertices
from emo2.studio.people import PART_NAMES, Person
from emo2.studio.performance import Performance
from emo2.studio.pose import Bones, Pose, arm_pose
from emo2.studio.render import Actor, Renderer, Still, still
from emo2.studio.scene import Framing, background, camera, light_matrix, lights
from emo2.studio.views import body_camera, face_camera


@pytest.fixture(scope="module")
def person() -> Person:
    return plain_person(low_m=-1.0)


@pytest.fixture(scope="module")
def renderer() -> Renderer:
    return small_renderer()


@pytest.fixture(scope="module")
def actor(renderer: Renderer, person: Person) -> Actor:
    return renderer.actor(person)


def _height(posed: Still, person: Person, upper: int, lower: int) -> float:
    points = labels.face_points(posed, labels.body_places(person))
    return float(points[lower, 1] - points[upper, 1])


def test_lips_touch_at_rest_and_part_when_the_jaw_opens(person: Person) -> None:
    view = front(person)
    rest = _height(still(person, Pose(), view), person, 62, 66)
    wide = _height(still(person, Pose(actions=face(jawOpen=0.7)), view), person, 62, 66)
    assert abs(rest) < 0.006
    assert wide > 0.04


def test_lids_meet_when_the_eyes_are_shut(person: Person) -> None:
    view = front(person)
    is_open = _height(still(person, Pose(), view), person, 43, 47)
    shut = _height(still(person, Pose(actions=face(eyeBlink=1.0)), view), person, 43, 47)
    assert is_open > 0.015
    assert shut < 0.35 * is_open


def test_head_turns_the_way_the_channels_say(person: Person) -> None:
    view = front(person)
    places = labels.body_places(person)

    def nose(head: list[float]) -> ndarray:
        return labels.face_points(still(person, Pose(head=np.array(head, float)), view), places)[30]

    rest = nose([0, 0, 0, 0, 0, 0])
    assert nose([0.3, 0, 0, 0, 0, 0])[0] > rest[0] + 0.02  # yaw: to the image's right
    assert nose([0, 0.3, 0, 0, 0, 0])[1] > rest[1] + 0.02  # pitch: down
    assert nose([0, 0, 0, 0.01, 0, 0])[0] > rest[0] + 0.01
    top = labels.face_points(still(person, Pose(head=np.array([0, 0, 0.3, 0, 0, 0])), view), places)
    assert top[27, 0] > top[8, 0] + 0.02  # roll: clockwise in the image, the crown goes right


def test_landmarks_are_in_order_on_the_face(person: Person) -> None:
    view = front(person)
    points = labels.face_points(still(person, Pose(), view), labels.body_places(person))
    x, y = points[:, 0], points[:, 1]
    assert np.all(np.diff(x[:17]) > -0.005)  # the jaw from the image's left to its right
    assert y[8] == y.max()
    assert np.all(np.diff(y[27:31]) > 0)
    assert x[36] < x[39] < x[42] < x[45]
    assert x[48] < x[60] + 1e-3 < x[62] < x[64] + 1e-3
    assert y[19] < y[37] < y[33] < y[51] < y[57] < y[8]
    mirrored = x[[45, 48, 21]] - x[27]
    assert mirrored[0] == pytest.approx(-(x[36] - x[27]), abs=0.02)


def test_the_flow_carries_the_reference_onto_the_frame(person: Person, actor: Actor) -> None:
    """A printed cloth would do; here the rest height itself is the pattern that must arrive."""
    view = front(person)
    pose = Pose(head=np.array([0.25, 0.1, 0.1, 0, 0, 0]), actions=face(jawOpen=0.5))
    reference, moved = still(person, Pose(), view), still(person, pose, view)
    actor.set_reference(reference, view)
    actor.pose(moved)
    trace = actor.trace(view)
    places = labels.body_places(person)
    now, before = labels.face_points(moved, places), labels.face_points(reference, places)
    checked = 0
    for k in range(17, 68):
        column, row = (now[k] * SIZE).astype(int)
        if trace.seen[row, column] and k not in range(60, 68):
            step = trace.flow[row, column]
            assert np.abs(now[k] + step - before[k]).max() < 3.5 / SIZE
            checked += 1
    assert checked > 25


def test_an_unmoved_person_has_no_flow_and_is_all_visible(person: Person, actor: Actor) -> None:
    view = front(person)
    posed = still(person, Pose(), view)
    actor.set_reference(posed, view)
    actor.pose(posed)
    trace = actor.trace(view)
    assert np.abs(trace.flow).max() < 0.6 / SIZE
    assert trace.seen.mean() > 0.995


def test_what_a_turned_head_uncovers_is_not_visible(person: Person, actor: Actor) -> None:
    view = front(person)
    actor.set_reference(still(person, Pose(), view), view)
    posed = still(person, Pose(head=np.array([0.6, 0, 0, 0, 0, 0])), view)
    actor.pose(posed)
    trace = actor.trace(view)
    assert 0.02 < 1 - trace.seen.mean() < 0.4
    flow, seen = labels.grid_flow(trace, 32)
    assert flow.shape == (2, 32, 32)
    assert np.abs(seen.mean() / 255 - trace.seen.mean()) < 0.01


def test_an_open_mouth_shows_what_the_reference_hides(person: Person, actor: Actor) -> None:
    mouth = person.shape.base[list(face_vertices())][48:].mean(0).astype(np.float64)
    view = camera(Framing(centre=mouth, half_height=0.06, distance=1.5))
    actor.set_reference(still(person, Pose(), view), view)
    posed = still(person, Pose(actions=face(jawOpen=0.8)), view)
    actor.pose(posed)
    trace = actor.trace(view)
    points = labels.face_points(posed, labels.body_places(person))
    column, row = (points[[62, 66]].mean(0) * SIZE).astype(int)
    assert trace.seen[row - 1 : row + 2, column - 1 : column + 2].mean() < 0.2


def test_the_picture_has_the_background_and_the_person(person: Person, actor: Actor) -> None:
    rng = np.random.default_rng(0)
    view = front(person)
    posed = still(person, Pose(), view)
    trace = actor.set_reference(posed, view)
    behind = np.full((SIZE, SIZE, 3), (10, 200, 10), np.uint8)
    picture = actor.draw(view, lights(rng), behind)
    empty = trace.parts == 0
    assert np.abs(picture[empty].astype(int) - behind[empty]).mean() < 3
    assert (np.abs(picture[~empty].astype(int) - behind[~empty]).sum(-1) > 30).mean() > 0.97


def test_shadows_only_darken(person: Person, actor: Actor) -> None:
    from dataclasses import replace

    view = front(person)
    light = replace(lights(np.random.default_rng(5)), shadow=0.0, key=np.array([0.5, 0.8, 0.4]))
    behind = background(np.random.default_rng(1), SIZE, SIZE)
    actor.pose(still(person, Pose(), view))
    plain = actor.draw(view, light, behind).astype(int)
    shaded = actor.draw(view, replace(light, shadow=1.0), behind).astype(int)
    assert (shaded - plain).max() <= 3
    assert ((plain - shaded).max(-1) > 8).mean() > 0.005


def test_a_light_sees_the_whole_box() -> None:
    low, high = np.array([-1.0, 0, -1], np.float32), np.array([2.0, 3, 1], np.float32)
    matrix = light_matrix(np.array([0.3, 0.8, 0.5]), low, high)
    corners = np.array([[x, y, z, 1] for x in (-1, 2) for y in (0, 3) for z in (-1, 1)], np.float32)
    assert np.abs((corners @ matrix.T)[:, :3]).max() <= 1.0 + 1e-5


@pytest.mark.parametrize("name", ["offering", "framing", "folded", "hanging"])
def test_wrists_reach_where_they_are_asked_to_be(person: Person, name: str) -> None:
    pose = Pose(arms=(arm_pose(REST_POSES[name], 0), arm_pose(REST_POSES[name], 1)))
    bones = Bones(person.shape, pose)
    for side in (0, 1):
        found = bones.hand_numbers(side)
        assert np.abs(found[64:] - pose.arms[side].hand[64:]).max() < 0.012
        asked = pose.arms[side].hand[:64].reshape(16, 4)
        same = np.abs((found[:64].reshape(16, 4) * asked).sum(1))
        assert same.min() > 0.98


def test_hand_numbers_and_bones_are_inverse(person: Person) -> None:
    rng = np.random.default_rng(1)
    for side in (0, 1):
        rig = person.shape.hands[side]
        quaternions = rng.normal(size=(16, 4))
        quaternions /= np.linalg.norm(quaternions, axis=1, keepdims=True)
        numbers = np.concatenate([quaternions.ravel(), [0.1, 0.2, 0.3]])
        wrist, fingers = bone_turns(rig, numbers)
        back = numbers_of(rig, wrist, fingers, numbers[64:])
        same = np.abs((back[:64].reshape(16, 4) * quaternions).sum(1))
        assert same.min() > 1 - 1e-5


def test_the_stand_in_hand_lies_on_the_bodys_hand(person: Person) -> None:
    """The 67 numbers mean the same to the hand model: its key points fall on the body's fingers."""
    from emo2.hands import hand_points, stand_in

    pose = Pose(arms=(arm_pose(REST_POSES["offering"], 0), arm_pose(REST_POSES["offering"], 1)))
    bones = Bones(person.shape, pose)
    numbers = np.stack([bones.hand_numbers(side) for side in (0, 1)])
    points = hand_points(stand_in(), torch.from_numpy(numbers)[None], torch.zeros(1, 10))[0].numpy()
    for side, letter in enumerate("LR"):
        for row, bone in ((5, "finger2-1"), (9, "finger3-1"), (17, "finger5-1"), (11, "finger3-3")):
            place = bones.point(f"{bone}.{letter}", person.shape.heads[f"{bone}.{letter}"])
            world = (place - bones.origin()) / bones.scale() * [1, -1, 1]
            assert np.linalg.norm(points[side, row] - world) < 0.03


def test_parts_name_the_persons_own_left_and_right(person: Person, actor: Actor) -> None:
    view = body_camera(np.random.default_rng(0), person, "hips")
    pose = Pose(arms=(arm_pose(REST_POSES["offering"], 0), arm_pose(REST_POSES["offering"], 1)))
    posed = still(person, pose, view)
    trace = actor.set_reference(posed, view)
    _, columns = np.nonzero(trace.parts == PART_NAMES.index("left_hand"))
    _, others = np.nonzero(trace.parts == PART_NAMES.index("right_hand"))
    assert columns.mean() > others.mean()  # the person's left is at the image's right
    hands = labels.hand_points(person, posed, view, trace)
    assert hands[0, :, 0].mean() > hands[1, :, 0].mean()
    body = labels.body_points(person, posed, view, trace)
    assert body[0, 1] < body[1, 1] < body[2, 1]
    assert body[2, 0] > body[3, 0]


def test_a_seed_gives_the_same_person_and_frames_everywhere(
    tmp_path: Path, renderer: Renderer
) -> None:
    first = next(make.make_shards(tmp_path / "a", view="body", seeds=[7]))
    again = next(make.make_shards(tmp_path / "b", view="body", seeds=[7]))
    tensors, twice = load_file(first), load_file(again)
    assert all(np.array_equal(tensors[name], twice[name]) for name in tensors | twice)
    people, frames = 1, make.FRAMES["body"]
    shapes = {
        "reference": (people, 3, 256, 256), "frames": (people, frames, 3, 256, 256),
        "flow": (people, frames, 2, 64, 64), "visibility": (people, frames, 64, 64),
        "actions": (people, frames, 52), "reference_actions": (people, 52),
        "head": (people, frames, 6), "reference_head": (people, 6),
        "body": (people, frames, 6), "reference_body": (people, 6),
        "face_points": (people, frames + 1, 68, 2), "face_box": (people, frames + 1, 4),
        "body_points": (people, frames + 1, 8, 3), "hand_points": (people, frames + 1, 2, 21, 3),
        "hands": (people, frames + 1, 2, 67), "parts": (people, frames + 1, 128, 128),
    }  # fmt: skip
    assert {k: v.shape for k, v in tensors.items()} == shapes
    assert all(np.isfinite(v.astype(np.float32)).all() for v in tensors.values())
    with safe_open(first, "numpy") as file:
        facts = {k: json.loads(v) for k, v in file.metadata().items()}
    assert facts["seeds"] == [7]
    assert facts["view"] == "body"


def test_a_finished_shard_is_not_filmed_again(tmp_path: Path) -> None:
    path = tmp_path / "face-0000000-001.safetensors"
    path.write_bytes(b"done")
    assert list(make.make_shards(tmp_path, view="face", seeds=[0])) == [path]
    assert path.read_bytes() == b"done"


def test_arms_stay_outside_of_the_trunk(person: Person) -> None:
    rng = np.random.default_rng(2)
    for _ in range(20):
        for arm in first_arms(rng).poses(person):
            x, y, z = arm.hand[64:]
            front = person.shape.front(float(abs(x)), float(y))
            assert front is None or z > front


def test_lips_are_never_closed_further_than_the_jaw_is_open() -> None:
    rng = np.random.default_rng(4)
    jaw, close = FACE_ACTIONS.index("jawOpen"), FACE_ACTIONS.index("mouthClose")
    reference = acting.first_pose(rng)
    for _ in range(300):
        actions = acting.next_pose(rng, reference)[1].actions
        assert actions[close] <= actions[jaw] + 1e-9
        assert actions.min() >= 0
        assert actions.max() <= 1


def test_a_face_camera_frames_the_face(person: Person) -> None:
    rng = np.random.default_rng(6)
    for _ in range(20):
        view = face_camera(rng, person)
        points = labels.face_points(still(person, Pose(), view), labels.body_places(person))
        box = labels.face_box(points)
        assert 0.35 < box[3] - box[1] < 0.8
        assert 0.2 < (box[0] + box[2]) / 2 < 0.8


def test_a_fit_is_read_with_its_short_rows_and_ranges(tmp_path: Path) -> None:
    text = (
        "# a comment\nname x\nobj_file x.obj\nx_scale 5 6 1.5\nverts 0\nmaterial x.mhmat\n12\n"
        "1 2 3 0.2 0.3 0.5 0.1 0.2 0.3\ndelete_verts\n7 - 9 12\n"
    )
    path = tmp_path / "x.mhclo"
    path.write_text(text)
    fit = _read_mhclo(path)
    assert fit.rows == [(12, 0, 0, 1, 0, 0, 0, 0, 0), (1, 2, 3, 0.2, 0.3, 0.5, 0.1, 0.2, 0.3)]
    assert fit.hidden == {7, 8, 9, 12}
    assert fit.scales == {0: (5, 6, 1.5)}


def test_a_folder_that_holds_no_assets_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="skins"):
        Library(tmp_path)


def test_a_takes_voice_and_frames_start_together() -> None:
    frames, fps, rate = 60, 25.0, 8_000
    motion = Motion(
        hands=torch.arange(frames)[:, None, None].expand(frames, 2, 67).float(),
        visibility=torch.ones(frames, 2), confidence=torch.ones(frames, 2), betas=torch.zeros(10),
        fps=fps, face=torch.zeros(frames, 52), head=torch.zeros(frames, 6), body=torch.zeros(frames, 6),
    )  # fmt: skip
    seconds = np.arange(round(frames / fps * rate), dtype=np.float64) / rate
    found = Performance(seconds, rate, torch.arange(frames), motion, "neutral", 1.0)
    take = takes.cut(found, 30, 12)
    at = round(takes.LEAD_S * takes.SAMPLE_RATE)
    assert take.samples[at] == pytest.approx(30 / fps, abs=1e-3)
    assert len(take.samples) == round((12 / fps + 2 * takes.LEAD_S) * takes.SAMPLE_RATE)
    assert take.samples[-1] == 0  # after the end there is silence
    assert take.phones.tolist() == list(range(30, 42))
    reference = Pose(head=np.full(6, 0.1))
    poses = take.poses(reference)
    assert len(poses) == 12
    assert poses[0].arms[1].hand[0] == 30
    assert np.allclose(poses[0].head, 0.1)
