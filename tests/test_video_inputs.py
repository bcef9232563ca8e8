"""What the public checkpoints are shown: hand skeletons and face regions lie where the photo's hands and face are."""

from __future__ import annotations

import colorsys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from emo2.errors import UserError
from emo2.guidance import fit_camera
from emo2.hands import pose_hands, stand_in
from emo2.signals import Portrait
from emo2.start import pose_of
from emo2.video.face_regions import read_embedding, regions_of
from emo2.video.hand_skeleton import BONES, draw_hand_skeletons


@pytest.fixture
def face(drawn_portrait: Portrait) -> Portrait:
    """The drawn bust with a mouth that has a size."""
    points = drawn_portrait.face_points.clone()
    points[27:48] = torch.tensor([64.0, 40.0])
    points[48:68, 0], points[48:68, 1] = torch.linspace(56, 72, 20), torch.tensor([48.0, 51.0] * 10)
    return replace(drawn_portrait, face_points=points)


def points_in(portrait: Portrait) -> torch.Tensor:
    """Where the 21 points of both hands fall in the photo, in pixels."""
    motion = pose_of(portrait, fps=24.0)
    posed = pose_hands(stand_in(), motion.hands, motion.betas)
    return fit_camera(portrait).project(posed.points)[0]


def drawn(portrait: Portrait, size: tuple[int, int] | None = None) -> torch.Tensor:
    """The skeletons of the photo's own pose, both hands sure."""
    motion = pose_of(portrait, fps=24.0)
    motion = replace(motion, confidence=motion.visibility)
    return draw_hand_skeletons(motion, fit_camera(portrait), size or portrait.size)[0]


def test_a_hand_has_twenty_bones_that_reach_every_point() -> None:
    assert len(BONES) == 20
    assert {end for _, end in BONES} == set(range(1, 21))
    assert [start for start, _ in BONES].count(0) == 5


def test_points_are_red_discs_where_the_photos_hands_are(drawn_portrait: Portrait) -> None:
    large = (1600, 1280)
    image = drawn(drawn_portrait, large)
    assert image.shape == (3, *large)
    assert 0.0 <= float(image.min()) <= float(image.max()) <= 1.0
    for place in (points_in(drawn_portrait) * 10).reshape(-1, 2):
        x, y = place.int().tolist()
        red, green, blue = image[:, y, x].tolist()
        assert red > 0.8, (x, y)
        assert max(green, blue) < 0.35


def test_bones_run_through_the_hues_with_red_and_blue_swapped(drawn_portrait: Portrait) -> None:
    large = (1600, 1280)
    image = drawn(drawn_portrait, large)
    points = points_in(drawn_portrait) * 10
    for number in (0, 4, 16):  # thumb, index and little finger where they leave the wrist
        start, end = BONES[number]
        x, y = ((points[1, start] + points[1, end]) / 2).round().int().tolist()
        around = image[:, y - 3 : y + 4, x - 3 : x + 4].flatten(1)
        wanted = torch.tensor(colorsys.hsv_to_rgb(number / 20, 1.0, 1.0)).flip(0)
        assert float((around - wanted[:, None]).abs().amax(0).min()) < 0.25, number


def test_only_hands_are_drawn_and_only_those_that_are_seen(drawn_portrait: Portrait) -> None:
    image = drawn(drawn_portrait)
    assert float(image[:, :70].abs().max()) == 0.0  # head and shoulders stay black
    motion = pose_of(drawn_portrait, fps=24.0)
    hidden = replace(motion, visibility=torch.tensor([[0.0, 1.0]]))
    one = draw_hand_skeletons(hidden, fit_camera(drawn_portrait), drawn_portrait.size)[0]
    assert float(one[:, :, 70:].abs().max()) == 0.0
    assert float(one[:, :, :60].max()) > 0.2


def test_an_unsure_hand_is_dark(drawn_portrait: Portrait) -> None:
    motion = pose_of(drawn_portrait, fps=24.0)
    camera = fit_camera(drawn_portrait)
    sure, unsure = (
        draw_hand_skeletons(
            replace(motion, confidence=torch.full((1, 2), value)), camera, (320, 256)
        )
        for value in (1.0, 0.5)
    )
    assert float(unsure.max()) == pytest.approx(0.5 * float(sure.max()), abs=0.02)


def test_frames_are_chosen_by_number(drawn_portrait: Portrait) -> None:
    motion = pose_of(drawn_portrait, fps=24.0)
    still = replace(
        motion,
        **{
            name: getattr(motion, name).repeat_interleave(3, 0)
            for name in ("hands", "visibility", "confidence", "face", "head", "body", "gaze")
        },
    )
    part = draw_hand_skeletons(still, fit_camera(drawn_portrait), (64, 48), frames=range(1, 3))
    assert part.shape == (2, 3, 64, 48)
    assert torch.equal(part[0], part[1])


def test_the_regions_split_the_picture_into_background_face_and_lips(face: Portrait) -> None:
    regions = regions_of(face)
    assert [m.shape for m in regions.masks] == [(3, 320), (3, 80), (3, 20), (3, 4)]
    background, rest, lips = regions.masks[0].view(3, 20, 16)
    assert float((background + rest.clamp(min=0) + lips - 1).min()) > -0.02
    assert float(rest.max()) > 0.2
    assert float(background[0, 0]) > 0.9
    x, y = (face.face_points[48:68].mean(0) / 8).int().tolist()
    assert float(lips[y, x]) == pytest.approx(float(lips.max()), abs=0.1)
    assert float(lips[0, 0]) < 0.05


def test_the_locators_box_holds_the_face_and_the_forehead(face: Portrait) -> None:
    box = regions_of(face).locator
    assert box.shape == (3, 160, 128)
    assert set(box.unique().tolist()) == {0.0, 1.0}
    for x, y in face.face_points.int().tolist():
        assert float(box[0, y, x]) == 1.0
    assert float(box[0, 25, 64]) == 1.0  # above the brows, which lie at 30
    assert float(box[0, 90, 64]) == 0.0


def test_a_box_at_the_pictures_edge_is_pushed_into_it(face: Portrait) -> None:
    high = face.face_points - torch.tensor([0.0, 24.0])
    box = regions_of(replace(face, face_points=high)).locator
    inner = regions_of(face).locator
    assert float(box[0, 0].max()) == 1.0
    assert float(box.sum()) == pytest.approx(float(inner.sum()), rel=0.05)


@pytest.mark.parametrize("name", ["face.npy", "face.npz"])
def test_an_embedding_comes_from_numpys_files(tmp_path: Path, name: str) -> None:
    values = np.linspace(-1, 1, 512).astype(np.float32)
    path = tmp_path / name
    if name.endswith("npy"):
        np.save(path, values[None])
    else:
        np.savez(path, embedding=values)
    assert torch.equal(read_embedding(path), torch.from_numpy(values)[None])


def test_what_is_no_embedding_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is not there; expected"):
        read_embedding(tmp_path / "no.npy")
    short = tmp_path / "short.npy"
    np.save(short, np.zeros(128))
    with pytest.raises(UserError, match=r"holds 128 numbers; expected .* 512 numbers"):
        read_embedding(short)
    two = tmp_path / "two.npz"
    np.savez(two, a=np.zeros(512), b=np.zeros(512))
    with pytest.raises(UserError, match="holds 2 arrays"):
        read_embedding(two)
    text = tmp_path / "text.npy"
    text.write_bytes(b"hello")
    with pytest.raises(UserError, match="cannot be read as numbers"):
        read_embedding(text)
    pickled = tmp_path / "pickle.npy"
    np.save(pickled, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(UserError, match="cannot be read as numbers"):
        read_embedding(pickled)
