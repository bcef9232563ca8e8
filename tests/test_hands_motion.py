"""The motion file and its editing: nothing lost, nothing guessed, each edit does what it says."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from emo2.errors import UserError
from emo2.hands import (
    hand_points,
    load_motion,
    mirror_motion,
    resample,
    retime,
    save,
    shape_hand,
    slice_motion,
    stand_in,
    to_bvh,
    to_json,
    with_amplitude,
)
from emo2.hands.edit import join
from emo2.signals import FACE_ACTIONS, Motion

HINTS = ("face", "head", "body", "gaze")
ALL = ("hands", "visibility", "confidence", "betas", *HINTS)


def gesture(frames: int = 30, fps: float = 25.0) -> Motion:
    """Both hands wave smoothly, all hints move."""
    t = torch.arange(frames) / fps * 2 * math.pi
    hands = []
    for side, x in (("left", 0.2), ("right", -0.2)):
        wrist = torch.stack((x + 0.05 * t.sin(), 0.3 + 0.05 * t.cos(), 0.2 + 0 * t), -1)
        out = torch.stack((0.3 * t.sin(), -1 + 0 * t, 0.4 + 0 * t), -1)
        palm = torch.tensor((0.0, 0.3, 1.0)).expand(frames, 3)
        curl = 0.4 + 0.3 * torch.sin(t[:, None] + torch.arange(5))
        hands.append(shape_hand(side, wrist, fingers_to=out, palm_to=palm, curl=curl))
    noise = torch.Generator().manual_seed(0)
    visibility = torch.ones(frames, 2)
    visibility[5:8, 0] = 0
    return Motion(
        hands=torch.stack(hands, 1),
        visibility=visibility,
        confidence=torch.rand(frames, 2, generator=noise),
        betas=torch.linspace(-1, 1, 10),
        fps=fps,
        face=0.5 + 0.5 * torch.sin(t[:, None] + torch.arange(52)),
        head=0.1 * torch.sin(t[:, None] + torch.arange(6)),
        body=0.1 * torch.cos(t[:, None] + torch.arange(6)),
        gaze=0.2 * torch.sin(t[:, None] + torch.arange(2)),
    )


def require_same(a: Motion, b: Motion, tolerance: float = 0.0) -> None:
    assert a.fps == b.fps
    for name in ALL:
        x, y = getattr(a, name), getattr(b, name)
        assert (x is None) == (y is None), name
        if x is not None:
            assert torch.allclose(x, y, atol=tolerance, rtol=0), name


def points_of(motion: Motion) -> torch.Tensor:
    return hand_points(stand_in(), motion.hands, motion.betas)


def test_a_saved_motion_comes_back_bit_for_bit(tmp_path: Path) -> None:
    save(gesture(), tmp_path / "a.npz")
    require_same(load_motion(tmp_path / "a.npz"), gesture())


def test_hints_that_are_absent_stay_absent(tmp_path: Path) -> None:
    bare = replace(gesture(), face=None, head=None, body=None, gaze=None)
    save(bare, tmp_path / "a.npz")
    require_same(load_motion(tmp_path / "a.npz"), bare)


def test_the_same_motion_gives_the_same_file(tmp_path: Path) -> None:
    save(gesture(), tmp_path / "a.npz")
    save(gesture(), tmp_path / "b.npz")
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()
    assert {p.name for p in tmp_path.iterdir()} == {"a.npz", "b.npz"}, "no temporary file is left"


def test_json_can_be_edited_by_hand_and_read_back(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    to_json(gesture(), path)
    require_same(load_motion(path), gesture(), tolerance=1e-6)
    data = json.loads(path.read_text())
    assert data["version"] == 1
    assert "metres" in data["units"]
    assert data["face_names"] == list(FACE_ACTIONS)
    data["face"][3][FACE_ACTIONS.index("jawOpen")] = 1.0
    path.write_text(json.dumps(data))
    changed = load_motion(path)
    assert changed.face is not None
    assert changed.face[3, FACE_ACTIONS.index("jawOpen")] == 1.0


def edited(tmp_path: Path, **changes: object) -> Path:
    """A file with some entries replaced, or removed where the new value is None."""
    save(gesture(), tmp_path / "good.npz")
    data = dict(np.load(tmp_path / "good.npz"))
    for key, value in changes.items():
        if value is None:
            del data[key]
        else:
            data[key] = value
    np.savez(tmp_path / "bad.npz", **data)
    return tmp_path / "bad.npz"


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"version": 2}, "version 2, this emo2 reads version 1"),
        ({"format": "other"}, "not an emo2 motion file"),
        ({"hands": None}, "lacks 'hands'"),
        (
            {"hands": np.zeros((30, 2, 66), np.float32)},
            r"shape \(30, 2, 66\), expected \(30, 2, 67\)",
        ),
        ({"hands": np.zeros((30, 2, 67), np.float32)}, "rotations of length 0"),
        ({"face": np.zeros((29, 52), np.float32)}, r"shape \(29, 52\), expected \(30, 52\)"),
        ({"head": np.full((30, 6), np.nan, np.float32)}, "not finite"),
        ({"face_names": np.array(FACE_ACTIONS[::-1])}, "channels of 'face'"),
        ({"fps": 0.0}, "frames a second"),
        ({"hands": np.zeros((0, 2, 67), np.float32)}, "no frames"),
        ({"betas": np.zeros((9,), np.float32)}, "betas"),
        ({"visibility": np.array("x")}, "not a table of numbers"),
    ],
)
def test_a_file_that_does_not_fit_is_refused_in_one_sentence(
    tmp_path: Path, changes: dict[str, object], sentence: str
) -> None:
    with pytest.raises(UserError, match=sentence) as caught:
        load_motion(edited(tmp_path, **changes))
    assert "\n" not in str(caught.value)


def test_a_damaged_or_foreign_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no motion file"):
        load_motion(tmp_path / "none.npz")
    for name, raw in (
        ("a.npz", b""),
        ("b.npz", b"PK\x03\x04 broken"),
        ("c.json", b"{"),
        ("d.npz", b"text"),
    ):
        (tmp_path / name).write_bytes(raw)
        with pytest.raises(UserError, match="cannot be read"):
            load_motion(tmp_path / name)
    save(gesture(), tmp_path / "e.npz")
    raw = (tmp_path / "e.npz").read_bytes()
    (tmp_path / "e.npz").write_bytes(raw[: len(raw) // 2])
    with pytest.raises(UserError, match="cannot be read"):
        load_motion(tmp_path / "e.npz")
    (tmp_path / "f.json").write_text("[1, 2]")
    with pytest.raises(UserError, match="not an emo2 motion file"):
        load_motion(tmp_path / "f.json")


def test_another_length_than_the_voice_needs_is_refused(tmp_path: Path) -> None:
    save(gesture(), tmp_path / "a.npz")
    assert len(load_motion(tmp_path / "a.npz", frames=30)) == 30
    with pytest.raises(UserError, match="30 frames, the voice needs 31"):
        load_motion(tmp_path / "a.npz", frames=31)


def test_an_unwritable_place_is_named_and_nothing_is_left(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot write"):
        save(gesture(), tmp_path / "no" / "a.npz")
    (tmp_path / "folder.npz").mkdir()
    with pytest.raises(UserError, match="cannot write"):
        save(gesture(), tmp_path / "folder.npz")
    assert [p.name for p in tmp_path.iterdir()] == ["folder.npz"]


def test_cutting_and_joining_give_the_whole_again() -> None:
    motion = gesture()
    parts = [slice_motion(motion, 0, 11), slice_motion(motion, 11, 30)]
    assert len(parts[0]) == 11
    require_same(join(parts), motion)
    with pytest.raises(ValueError, match=r"11\.\.40"):
        slice_motion(motion, 11, 40)
    with pytest.raises(ValueError, match="resample"):
        join([motion, replace(motion, fps=30.0)])
    with pytest.raises(ValueError, match="hints"):
        join([motion, replace(motion, face=None)])


def test_resampling_keeps_duration_and_places() -> None:
    motion = gesture(31)
    double = resample(motion, 50.0)
    assert (len(double), double.fps) == (62, 50.0)
    assert torch.allclose(points_of(double)[:61:2], points_of(motion), atol=1e-5)
    between = (points_of(motion)[:-1] + points_of(motion)[1:]) / 2
    assert (points_of(double)[1:60:2] - between).abs().max() < 2e-3
    assert set(double.visibility.unique().tolist()) == {0.0, 1.0}
    require_same(resample(motion, 25.0), motion, tolerance=1e-6)
    lengths = double.hands[..., :64].unflatten(-1, (16, 4)).norm(dim=-1)
    assert torch.allclose(lengths, torch.ones_like(lengths), atol=1e-5)


def test_resampling_takes_the_short_way_when_a_quaternion_changes_its_sign() -> None:
    motion = gesture()
    signs = torch.ones(30, 1, 1)
    signs[10:20] = -1
    hands = torch.cat((motion.hands[..., :64] * signs, motion.hands[..., 64:]), -1)
    flipped = resample(replace(motion, hands=hands), 60.0)
    assert torch.allclose(points_of(flipped), points_of(resample(motion, 60.0)), atol=1e-5)


def test_retiming_changes_the_pace_and_not_the_path() -> None:
    motion = gesture(31)
    fast = retime(motion, 2.0)
    assert (len(fast), fast.fps) == (16, 25.0)
    assert torch.allclose(points_of(fast), points_of(motion)[::2], atol=1e-5)
    assert len(retime(motion, 0.5)) == 62
    for wrong in (0.0, -1.0):
        with pytest.raises(ValueError, match="more than 0"):
            retime(motion, wrong)
        with pytest.raises(ValueError, match="more than 0"):
            resample(motion, wrong)


def test_the_mirror_swaps_sides_everywhere() -> None:
    motion = gesture()
    seen = mirror_motion(motion)
    flip = torch.tensor((-1.0, 1.0, 1.0))
    assert torch.allclose(points_of(seen).flip(1), points_of(motion) * flip, atol=1e-6)
    assert seen.face is not None
    assert motion.face is not None
    left, right = (FACE_ACTIONS.index(f"mouthSmile{s}") for s in ("Left", "Right"))
    assert torch.equal(seen.face[:, left], motion.face[:, right])
    jaw_left, jaw_right, jaw_open = (
        FACE_ACTIONS.index(f"jaw{s}") for s in ("Left", "Right", "Open")
    )
    assert torch.equal(seen.face[:, jaw_left], motion.face[:, jaw_right])
    assert torch.equal(seen.face[:, jaw_open], motion.face[:, jaw_open])
    assert seen.head is not None
    assert motion.head is not None
    signs = torch.tensor((-1.0, 1.0, -1.0, -1.0, 1.0, 1.0))  # yaw, pitch, roll, dx, dy, dz
    assert torch.equal(seen.head, motion.head * signs)
    assert seen.body is not None
    assert motion.body is not None
    assert torch.equal(seen.body[:, 3], motion.body[:, 4])
    require_same(mirror_motion(seen), motion, tolerance=1e-7)


def test_amplitude_changes_one_part_about_the_first_frame() -> None:
    motion = gesture()
    require_same(with_amplitude(motion), motion, tolerance=1e-5)
    large = with_amplitude(motion, hands=1.5)
    assert torch.allclose(points_of(large)[0], points_of(motion)[0], atol=1e-5), (
        "still starts from the photo"
    )
    moved = motion.hands[:, :, 64:] - motion.hands[:1, :, 64:]
    assert torch.allclose(large.hands[:, :, 64:] - large.hands[:1, :, 64:], moved * 1.5, atol=1e-6)
    for name in HINTS:
        assert torch.allclose(getattr(large, name), getattr(motion, name), atol=1e-6)
    still = with_amplitude(motion, hands=0.0, fingers=0.0, head=0.0, body=0.0, gaze=0.0)
    assert (points_of(still) - points_of(motion)[:1]).abs().max() < 1e-5
    assert still.head is not None
    assert motion.head is not None
    assert torch.allclose(still.head, motion.head[:1].expand_as(still.head))


def test_a_calmer_face_still_blinks_whole() -> None:
    motion = gesture()
    calm = with_amplitude(motion, face=0.5)
    assert calm.face is not None
    assert motion.face is not None
    blink, jaw = FACE_ACTIONS.index("eyeBlinkLeft"), FACE_ACTIONS.index("jawOpen")
    assert torch.equal(calm.face[:, blink], motion.face[:, blink])
    assert torch.allclose(calm.face[:, jaw], motion.face[:, jaw] * 0.5)
    assert with_amplitude(motion, face=3.0).face.max() <= 1.0  # type: ignore[union-attr]


def read_bvh(
    text: str,
) -> tuple[list[str], list[int], list[list[float]], list[bool], list[list[float]]]:
    """Names, parents, offsets, which have a place of their own, and the rows of numbers: a reader of its own."""
    names: list[str] = []
    parents: list[int] = []
    offsets: list[list[float]] = []
    placed: list[bool] = []
    stack: list[int] = []
    lines = iter(text.splitlines())
    for line in lines:
        words = line.split()
        if words[0] in ("ROOT", "JOINT", "End"):
            names.append(words[1])
            parents.append(stack[-1] if stack else -1)
            placed.append(False)
        elif words[0] == "{":
            stack.append(len(names) - 1)
        elif words[0] == "}":
            stack.pop()
        elif words[0] == "OFFSET":
            offsets.append([float(w) for w in words[1:]])
        elif words[0] == "CHANNELS":
            placed[-1] = words[1] == "6"
            assert words[-3:] == ["Zrotation", "Xrotation", "Yrotation"]
        elif words[0] == "Frame":
            break
    return names, parents, offsets, placed, [[float(w) for w in line.split()] for line in lines]


def bvh_places(text: str) -> tuple[list[str], torch.Tensor]:
    """World positions (frames, joints, 3) as an animation program works them out."""
    names, parents, offsets, placed, rows = read_bvh(text)

    def turn(degrees: float, axis: int) -> torch.Tensor:
        c, s = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
        a, b = [(1, 2), (2, 0), (0, 1)][axis]
        matrix = torch.eye(3, dtype=torch.float64)
        matrix[a, a] = matrix[b, b] = c
        matrix[a, b], matrix[b, a] = -s, s
        return matrix

    frames = []
    for row in rows:
        values = iter(row)
        places: list[torch.Tensor] = []
        rotations: list[torch.Tensor] = []
        for name, parent, offset, has_place in zip(names, parents, offsets, placed, strict=True):
            local = torch.tensor(offset, dtype=torch.float64)
            rotation = torch.eye(3, dtype=torch.float64)
            if has_place:
                local = local + torch.tensor([next(values) for _ in range(3)], dtype=torch.float64)
            if name != "Site":
                z, x, y = (next(values) for _ in range(3))
                rotation = turn(z, 2) @ turn(x, 0) @ turn(y, 1)
            above = rotations[parent] if parent >= 0 else torch.eye(3, dtype=torch.float64)
            base = places[parent] if parent >= 0 else torch.zeros(3, dtype=torch.float64)
            places.append(base + above @ local)
            rotations.append(above @ rotation)
        assert next(values, None) is None, "as many numbers as channels"
        frames.append(torch.stack(places))
    return names, torch.stack(frames)


def test_bvh_read_by_another_program_gives_the_same_points(tmp_path: Path) -> None:
    motion = gesture(4)
    to_bvh(motion, tmp_path / "a.bvh")
    names, places = bvh_places((tmp_path / "a.bvh").read_text())
    expected = points_of(motion).double() * torch.tensor(
        (100.0, -100.0, 100.0)
    )  # y up, centimetres
    for side, hand in (("left", 0), ("right", 1)):
        for name, point in (
            ("wrist", 0),
            ("thumb2", 2),
            ("index1", 5),
            ("middle3", 11),
            ("ring2", 14),
            ("pinky1", 17),
        ):
            found = places[:, names.index(f"{side}_{name}")]
            assert torch.allclose(found, expected[:, hand, point], atol=5e-3), (side, name)
        tips = [i for i, n in enumerate(names) if n == "Site"][hand * 5 : hand * 5 + 5]
        for site, point in zip(tips, (8, 12, 20, 16, 4), strict=True):  # MANO's order of fingers
            assert torch.allclose(places[:, site], expected[:, hand, point], atol=5e-3), (
                side,
                point,
            )


def test_bvh_survives_a_locked_angle(tmp_path: Path) -> None:
    motion = gesture(1)
    half = math.sqrt(0.5)
    hands = motion.hands.clone()
    hands[0, 1, :4] = torch.tensor((half, -half, 0.0, 0.0))  # a right angle about x
    to_bvh(replace(motion, hands=hands), tmp_path / "a.bvh")
    names, places = bvh_places((tmp_path / "a.bvh").read_text())
    expected = hand_points(stand_in(), hands, motion.betas)[0, 1, 9].double() * torch.tensor(
        (100.0, -100.0, 100.0)
    )
    assert torch.allclose(places[0, names.index("right_middle1")], expected, atol=5e-3)
