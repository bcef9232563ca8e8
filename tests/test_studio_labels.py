"""Labels that the studio tells only when asked: depth, normals, segments, gaze, gesture phases."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy import ndarray
from safetensors import safe_open

pytest.importorskip("anny", reason="the studio extra is not installed")
pytest.importorskip("moderngl", reason="the studio extra is not installed")

from plain_studio import SIZE, face, front, plain_person, small_renderer

from emo2.errors import UserError
from emo2.signals import Motion
from emo2.studio import acting, labels, make, takes
from emo2.studio.gesture import PHASES
from emo2.studio.hand_shapes import REST_POSES
from emo2.studio.people import Person
from emo2.studio.performance import Performance
from emo2.studio.pose import Pose, arm_pose
from emo2.studio.render import Renderer, still
from emo2.studio.scene import Camera
from emo2.studio.segments import SEGMENT_NAMES
from emo2.studio.surface import Surface, SurfacePass, packed
from emo2.studio.views import body_camera


@pytest.fixture(scope="module")
def person() -> Person:
    return plain_person(low_m=-1.0)


@pytest.fixture(scope="module")
def renderer() -> Renderer:
    return small_renderer()


def seen(renderer: Renderer, person: Person, pose: Pose, view: Camera) -> Surface:
    actor = renderer.actor(person)
    actor.pose(still(person, pose, view))
    surface = SurfacePass(renderer, actor)
    found = surface(view)
    surface.release()
    actor.release()
    return found


def where(surface: Surface, name: str) -> tuple[ndarray, ndarray]:
    rows, columns = np.nonzero(surface.segments == SEGMENT_NAMES.index(name))
    return rows, columns


def test_depth_is_how_far_the_surface_lies_along_the_view(
    renderer: Renderer, person: Person
) -> None:
    view = front(person, yaw=0.2, pitch=0.1)
    posed = still(person, Pose(), view)
    found = seen(renderer, person, Pose(), view)
    places = labels.body_places(person)
    from emo2.studio.landmarks import face_vertices

    nose = posed.screen[[places[v] for v in face_vertices()[27:31]]]
    for x, y, depth in nose:
        assert found.depth[int(y * SIZE), int(x * SIZE)] == pytest.approx(depth, abs=0.004)
    assert (found.depth[found.segments == 0] == 0).all()
    assert np.abs(packed(found)["depth"] * 1e-4 - found.depth).max() < 1e-4


def test_normals_are_unit_vectors_that_agree_with_the_depth(
    renderer: Renderer, person: Person
) -> None:
    view = front(person, half=0.1)
    found = seen(renderer, person, Pose(), view)
    is_person = found.segments > 0
    assert np.abs(np.linalg.norm(found.normals[is_person], axis=-1) - 1).max() < 1e-3
    assert (found.normals[~is_person] == 0).all()
    assert found.normals[is_person][:, 2].min() > -0.5
    # Where the skin is smooth, the depth's slope is the normal's: dz/dx = n_x / n_z (depth grows away from the camera).
    pixel = view.height / SIZE
    slope = np.gradient(found.depth, pixel)
    smooth = (np.abs(slope[0]) < 1) & (np.abs(slope[1]) < 1) & (found.normals[..., 2] > 0.6)
    smooth &= found.segments == SEGMENT_NAMES.index("head")
    for axis, component in ((1, 0), (0, 1)):
        told = found.normals[smooth][:, component] / found.normals[smooth][:, 2]
        assert np.corrcoef(told, slope[axis][smooth])[0, 1] > 0.8


def test_segments_name_lips_eyes_and_the_inside_of_the_mouth(
    renderer: Renderer, person: Person
) -> None:
    view = front(person, half=0.14)
    shut = seen(renderer, person, Pose(), view)
    upper, lower = where(shut, "upper_lip"), where(shut, "lower_lip")
    assert min(len(upper[0]), len(lower[0])) > 40
    assert upper[0].mean() < lower[0].mean()
    inside = ("teeth", "tongue", "mouth")
    assert sum(len(where(shut, name)[0]) for name in inside) < 8
    wide = seen(renderer, person, Pose(actions=face(jawOpen=0.8)), view)
    rows = np.concatenate([where(wide, name)[0] for name in inside])
    assert len(rows) > 100
    assert where(wide, "upper_lip")[0].mean() < rows.mean() < where(wide, "lower_lip")[0].mean()
    left, right = where(shut, "left_eye"), where(shut, "right_eye")
    assert left[1].min() > right[1].max()  # the person's left is at the image's right
    closed = seen(renderer, person, Pose(actions=face(eyeBlink=1.0)), view)
    assert len(where(closed, "left_eye")[0]) < 0.3 * len(left[0])
    points = labels.face_points(still(person, Pose(), view), labels.body_places(person)) * SIZE
    ring = points[48:60]
    for rows, columns in (upper, lower):
        assert columns.min() > ring[:, 0].min() - 3
        assert columns.max() < ring[:, 0].max() + 3
        assert rows.min() > ring[:, 1].min() - 3
        assert rows.max() < ring[:, 1].max() + 3


def test_segments_tell_hands_from_sleeves(renderer: Renderer, person: Person) -> None:
    view = body_camera(np.random.default_rng(0), person, "hips")
    pose = Pose(arms=(arm_pose(REST_POSES["offering"], 0), arm_pose(REST_POSES["offering"], 1)))
    found = seen(renderer, person, pose, view)
    left, right = where(found, "left_hand"), where(found, "right_hand")
    assert min(len(left[0]), len(right[0])) > 60
    assert left[1].mean() > right[1].mean()
    assert len(where(found, "clothes")[0]) > 1000
    hands = np.isin(found.segments, [SEGMENT_NAMES.index(f"{s}_hand") for s in ("left", "right")])
    torso = found.segments == SEGMENT_NAMES.index("clothes")
    assert found.depth[hands].mean() < found.depth[torso].mean() - 0.1


def test_gaze_is_where_the_eyeballs_point(person: Person) -> None:
    view = front(person)

    def look(pose: Pose) -> ndarray:
        return labels.gaze(person, pose, still(person, pose, view), view)

    rest = look(Pose())
    assert np.abs(np.linalg.norm(rest, axis=1) - 1).max() < 1e-5
    assert np.abs(rest - [0, 0, 1]).max() < 0.1
    actions = face()
    acting.look(actions, 0.8, 0.0)
    assert (look(Pose(actions=actions))[:, 0] > rest[:, 0] + 0.1).all()
    actions = face()
    acting.look(actions, 0.0, 0.8)
    assert (look(Pose(actions=actions))[:, 1] > rest[:, 1] + 0.1).all()
    turned = look(Pose(head=np.array([0.3, 0, 0, 0, 0, 0])))
    assert np.allclose(turned[:, 0], np.sin(0.3), atol=0.03)  # the eyes go with the head
    wink = face(eyeLookInLeft=1.0)
    one = look(Pose(actions=wink))
    assert one[0, 0] < rest[0, 0] - 0.1
    assert np.allclose(one[1], rest[1], atol=1e-5)


def test_labels_are_written_when_asked_for(
    tmp_path: Path, renderer: Renderer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(make.FRAMES, "face", 2)
    asked = ("gaze", "segments", "depth", "normals")
    path = next(make.make_shards(tmp_path, seeds=[5], labels=asked))
    with safe_open(path, "numpy") as shard:
        found = {name: shard.get_slice(name) for name in asked}
        shapes = {name: (part.get_shape(), part.get_dtype()) for name, part in found.items()}
    assert shapes == {
        "depth": ([1, 3, 256, 256], "U16"),
        "normals": ([1, 3, 3, 256, 256], "I8"),
        "segments": ([1, 3, 256, 256], "U8"),
        "gaze": ([1, 3, 2, 3], "F32"),
    }
    plain = next(make.make_shards(tmp_path / "plain", seeds=[5]))
    with safe_open(plain, "numpy") as shard, safe_open(path, "numpy") as more:
        assert not set(asked) & set(shard.keys())
        for name in shard.keys():  # noqa: SIM118
            assert np.array_equal(shard.get_tensor(name), more.get_tensor(name))
    with pytest.raises(UserError, match=r"without depth, gaze; film into another folder"):
        next(make.make_shards(tmp_path / "plain", seeds=[5], labels=("depth", "gaze")))


def test_gesture_phases_are_asked_of_takes_alone(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="film takes"):
        next(make.make_shards(tmp_path, seeds=[0], labels=("phases",)))


def test_a_take_carries_the_phases_of_its_frames() -> None:
    frames, fps, rate = 40, 25.0, 8_000
    motion = Motion(
        hands=torch.zeros(frames, 2, 67), visibility=torch.ones(frames, 2),
        confidence=torch.ones(frames, 2), betas=torch.zeros(10), fps=fps,
    )  # fmt: skip
    phases = torch.arange(frames)[:, None] // 7 * torch.tensor([1, 0])
    sound = np.zeros(round(frames / fps * rate))
    found = Performance(
        sound, rate, torch.zeros(frames).long(), motion, "neutral", 1.0, gesture_phases=phases
    )
    take = takes.cut(found, 10, 12)
    assert take.phases is not None
    assert take.phases[:, 0].tolist() == [k // 7 for k in range(10, 22)]
    assert take.phases.max() < len(PHASES)
