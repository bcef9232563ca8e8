"""The portrait finder: its geometry is exact, its labels follow every transform, it learns, and it says what it sees."""

import json
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from safetensors.numpy import save_file
from torch.nn import functional

from emo2 import weights
from emo2.config import COMPACT, from_json, to_json
from emo2.errors import UserError
from emo2.media import read_photo
from emo2.portrait import PortraitFinder, find
from emo2.portrait.augment import background, spoil
from emo2.portrait.data import FinderBatches, hand_crop, scene
from emo2.portrait.limbs import body_masks
from emo2.portrait.looking import Hand, Scene, Square, overlap, square_about
from emo2.portrait.network import STRIDE, SceneMaps, positions
from emo2.portrait.steadiness import doubted
from emo2.portrait.views import MIRROR_FACE, Pool, View, face_square, read_pool
from emo2.signals import Portrait

_SMALL = replace(COMPACT.finder, size=64, crop=32, hand_crop=32, widths=(8, 16, 24, 32))


def _view(seed: int = 0) -> View:
    """A red block with its mark in the middle, everything labelled there: left of the picture's middle."""
    rng = np.random.default_rng(seed)
    picture = rng.integers(0, 60, (256, 256, 3), np.uint8)
    parts = np.zeros((128, 128), np.uint8)
    picture[90:130, 50:90] = (255, 0, 0)
    parts[45:65, 25:45] = 4  # left forearm
    turn = np.linspace(0, 2 * np.pi, 68, endpoint=False)
    face = np.stack([70 + 20 * np.cos(turn), 110 + 20 * np.sin(turn)], 1).astype(np.float32)
    body = np.tile(np.array([70, 110, 1], np.float32), (8, 1))
    body[5, 0] = 80.0  # right elbow
    hands = np.tile(np.array([70, 110, 1], np.float32), (2, 21, 1))
    hands[..., :2] += rng.uniform(-15, 15, (2, 21, 2)).astype(np.float32)
    return View(picture, parts, face, body, hands)


def test_crop_positions_go_to_the_picture_and_back() -> None:
    square = Square(40.0, 30.0, 25.0, turn=0.4, mirrored=True)
    points = torch.rand(7, 2, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(square.to_crop(square.to_picture(points)), points, atol=1e-5)
    centre = square.to_picture(torch.tensor([0.5, 0.5]))
    assert torch.allclose(centre, torch.tensor([40.0, 30.0]))


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("side", [30.0, 200.0])
def test_a_crop_shows_what_its_positions_say(mirrored: bool, side: float) -> None:
    """A bright spot found in the crop lies where `to_picture` puts it, shrunk or grown."""
    image = torch.full((3, 160, 240), -1.0)
    image[:, 80:90, 120:130] = 1.0  # centre (125, 85)
    square = Square(120.0, 80.0, side, turn=0.3, mirrored=mirrored)
    crop = square.crop(image, 64)[0, 0] + 1
    grid = (torch.arange(64) + 0.5) / 64
    inside = (
        square.to_picture(torch.stack(torch.meshgrid(grid, grid, indexing="xy"), -1)) > 0
    ).all(-1)
    weight = (crop * inside).clamp_min(0) * (crop > 1.0)
    place = torch.stack([(weight.sum(0) * grid).sum(), (weight.sum(1) * grid).sum()]) / weight.sum()
    assert torch.allclose(square.to_picture(place), torch.tensor([125.0, 85.0]), atol=1.5)


def test_a_map_laid_back_into_the_picture_lands_on_its_square() -> None:
    square = Square(60.0, 40.0, 40.0)
    laid = square.uncrop(torch.ones(1, 16, 16), (100, 120))[0]
    assert float(laid[40, 60]) == pytest.approx(1.0)
    assert float(laid[:18].max()) == 0.0
    assert float(laid[:, 82:].max()) == 0.0


def test_boxes_overlap_as_geometry_says() -> None:
    assert overlap(Square(0.0, 0.0, 2.0), Square(1.0, 0.0, 2.0)) == pytest.approx(1 / 3)
    assert overlap(Square(0.0, 0.0, 2.0), Square(5.0, 0.0, 2.0)) == 0.0
    about = square_about(torch.tensor([[1.0, 2.0], [5.0, 4.0]]), reach=2.0)
    assert (about.x, about.y, about.side) == (3.0, 3.0, 8.0)


def test_positions_are_read_off_the_maps_in_input_pixels() -> None:
    logits = torch.full((1, 1, 8, 8), -20.0)
    logits[0, 0, 2, 5] = logits[0, 0, 2, 6] = 20.0
    where, spread = positions(logits)
    assert torch.allclose(where[0, 0], torch.tensor([6.0 * STRIDE, 2.5 * STRIDE]), atol=1e-3)
    assert float(spread) == pytest.approx(0.5 * STRIDE, abs=1e-3)


def test_the_mirror_image_of_the_mirror_image_is_the_face() -> None:
    order = np.array(MIRROR_FACE)
    assert np.array_equal(order[order], np.arange(68))
    assert order[36] == 45  # outer corners of the eyes
    assert order[48] == 54  # corners of the mouth
    assert order[8] == 8  # chin


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("scale", [0.5, 1.4])
def test_labels_follow_the_picture_through_every_transform(mirrored: bool, scale: float) -> None:
    view = _view()
    linear = scale * np.array([[0.96, -0.28], [0.28, 0.96]])
    start = np.array([256.0 - 70.0 if mirrored else 70.0, 110.0])
    transform = np.concatenate([linear, (np.array([90.0, 80.0]) - linear @ start)[:, None]], 1)
    moved = view.moved(transform, 192, mirrored=mirrored)
    for shown in (moved.picture[..., 0] > 127, moved.parts == (7 if mirrored else 4)):
        rows, columns = np.nonzero(shown)
        assert (columns.mean() + 0.5, rows.mean() + 0.5) == pytest.approx((90, 80), abs=0.6)
    assert face_square(moved.face)[:2] == pytest.approx((90, 80), abs=0.6)
    elbows = moved.body[4:6, 0] - moved.body[0, 0]  # the odd one has changed its side
    assert abs(elbows[0 if mirrored else 1]) > 3
    assert abs(elbows[1 if mirrored else 0]) < 1e-3


def test_scene_maps_peak_at_the_face() -> None:
    pool = Pool([_view()], [background(np.random.default_rng(1), 320)])
    for seed in range(30):
        made = scene(np.random.default_rng(seed), pool, 64)
        assert made["image"].shape == (3, 64, 64)
        if (made["parts"] == 4).sum() + (made["parts"] == 7).sum() > 12:
            rows, columns = np.nonzero((made["parts"] == 4) | (made["parts"] == 7))
            row, column = np.unravel_index(made["face"][0].argmax(), (16, 16))
            assert abs(rows - row).min() + abs(columns - column).min() <= 2


def test_spoiled_pictures_stay_pictures_and_depend_on_the_seed_alone() -> None:
    picture = background(np.random.default_rng(0), 64)
    for seed in range(40):
        spoiled = spoil(np.random.default_rng(seed), picture.copy())
        assert spoiled.shape == picture.shape
        assert spoiled.dtype == np.uint8
        assert np.array_equal(spoiled, spoil(np.random.default_rng(seed), picture.copy()))


def _shard(folder: Path) -> Path:
    """Two people, two frames each, in the layout of `emo2 studio`."""
    views = [[_view(seed + 10 * frame) for frame in range(3)] for seed in range(2)]
    pictures = np.stack([[v.picture.transpose(2, 0, 1) for v in row] for row in views])
    unit = np.array([256, 256, 1], np.float32)
    save_file(
        {
            "reference": np.ascontiguousarray(pictures[:, 0]),
            "frames": np.ascontiguousarray(pictures[:, 1:]),
            "parts": np.stack([[v.parts for v in row] for row in views]),
            "face_points": np.stack([[v.face / 256 for v in row] for row in views]),
            "body_points": np.stack([[v.body / unit for v in row] for row in views]),
            "hand_points": np.stack([[v.hands / unit for v in row] for row in views]),
        },
        str(folder / "body-000000.safetensors"),
    )
    return folder


def test_batches_depend_on_their_number_alone(tmp_path: Path) -> None:
    folder = _shard(tmp_path)
    first = FinderBatches([folder], _SMALL, seed=3, sizes=(2, 2, 2))
    second = FinderBatches([folder], _SMALL, seed=3, sizes=(2, 2, 2))
    first.at(0)
    a, b = first.at(5), second.at(5)
    assert a.keys() == b.keys()
    assert all(torch.equal(a[key], b[key]) for key in a)
    assert not torch.equal(a["scene_image"], first.at(6)["scene_image"])


def test_pictures_may_end_where_the_view_does(tmp_path: Path) -> None:
    scenes = FinderBatches([_shard(tmp_path)], _SMALL, sizes=(24, 0, 0)).at(0)["scene_image"]
    beyond = (scenes == 0).all(1).float().mean((1, 2))
    assert (beyond > 0.02).any()
    assert (beyond == 0).any()


def test_a_hand_mostly_seen_is_wholly_there(tmp_path: Path) -> None:
    pool = read_pool([_shard(tmp_path)], seed=0)
    view = pool.views[0]
    for seen, least, most in ((21, 1.0, 1.0), (16, 1.0, 1.0), (9, 0.2, 0.8), (3, 0.0, 0.0)):
        hands = view.hands.copy()
        hands[..., 2] = np.arange(21) < seen
        shown = replace(pool, views=[replace(view, hands=hands)])
        found = [hand_crop(np.random.default_rng(seed), shown, 96) for seed in range(12)]
        highest = max(found, key=lambda crop: float(crop["present"]))
        assert least <= highest["present"] <= most
        hidden = highest["points"][seen:, 2]
        assert (hidden < 0.3).all()
        assert (hidden > 0).any() == (most > 0 and seen < 21)


def test_weights_that_do_not_tell_see_hands_in_64_pixels() -> None:
    told = json.loads(to_json(COMPACT))
    assert from_json(json.dumps(told)).finder.hand_crop == 96
    del told["finder"]["hand_crop"]
    assert from_json(json.dumps(told)).finder.hand_crop == 64


def test_a_folder_without_shards_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no shards"):
        FinderBatches([tmp_path], _SMALL).at(0)


def test_the_finder_learns_a_batch(tmp_path: Path) -> None:
    torch.manual_seed(0)
    finder = PortraitFinder(_SMALL)
    batch = FinderBatches([_shard(tmp_path)], _SMALL, sizes=(2, 3, 3)).at(0)
    optimiser = torch.optim.AdamW(finder.parameters(), lr=6e-3)
    curve = []
    for _ in range(15):
        terms = finder.loss(batch)
        optimiser.zero_grad()
        terms["loss"].backward()
        optimiser.step()
        curve.append(float(terms["loss"].detach()))
    assert curve[-1] < 0.8 * curve[0]


@pytest.fixture(scope="module")
def finder() -> PortraitFinder:
    """The shipped one."""
    path = weights.path_of("compact", "finder")
    tensors, config, _ = weights.load(path, part="finder")
    found = PortraitFinder(config.finder).eval()
    weights.fill(found, tensors, path)
    return found


@pytest.fixture(scope="module")
def photo() -> torch.Tensor:
    """The demo's rendered person."""
    whole = read_photo(weights.ASSETS / "demo" / "photo.jpg")
    return functional.interpolate(whole[None], scale_factor=0.5, mode="area")[0]


@pytest.fixture(scope="module")
def portrait(finder: PortraitFinder, photo: torch.Tensor) -> Portrait:
    return find(photo, finder)


def _side(portrait: Portrait) -> float:
    return float((portrait.face_box[2:] - portrait.face_box[:2]).max())


def test_a_face_has_its_parts_where_faces_have_them(portrait: Portrait) -> None:
    eyes, mouth = portrait.face_points[36:48].mean(0), portrait.face_points[48:].mean(0)
    nose, chin = portrait.face_points[30], portrait.face_points[8]
    assert eyes[1] < nose[1] < mouth[1] < chin[1]
    assert portrait.face_points[36:42, 0].max() < nose[0] < portrait.face_points[42:48, 0].min()
    assert torch.equal(portrait.face_box[:2], portrait.face_points.amin(0))
    left, right = portrait.body_points[2], portrait.body_points[3]
    assert float(min(left[2], right[2])) > 0.3
    assert right[0] < chin[0] < left[0]  # the person's own left is at the image's right


def test_the_mirror_image_gives_the_mirrored_portrait(
    finder: PortraitFinder, photo: torch.Tensor, portrait: Portrait
) -> None:
    mirrored = find(photo.flip(-1), finder)
    points = mirrored.face_points[list(MIRROR_FACE)]
    points[:, 0] = photo.shape[-1] - points[:, 0]
    apart = (points - portrait.face_points).norm(dim=-1)
    assert float(apart.mean()) < 0.06 * _side(portrait)
    assert mirrored.hands_present == portrait.hands_present[::-1] or not all(portrait.hands_present)


def test_size_and_framing_of_the_photo_do_not_matter(
    finder: PortraitFinder, photo: torch.Tensor, portrait: Portrait
) -> None:
    height, width = photo.shape[-2:]
    small = functional.interpolate(photo[None], (height // 2, width // 2), mode="area")[0]
    framed = functional.pad(small, (90, 40, 30, 0), value=0.1)
    found = find(framed, finder)
    points = (found.face_points - torch.tensor([90.0, 30.0])) * 2
    assert float((points - portrait.face_points).norm(dim=-1).mean()) < 0.06 * _side(portrait)


def test_a_picture_of_the_head_alone_has_no_hands(
    finder: PortraitFinder, photo: torch.Tensor, portrait: Portrait
) -> None:
    bottom = int(portrait.face_box[3] + 0.3 * _side(portrait))
    found = find(photo[:, :bottom], finder)
    assert found.hands_present == (False, False)
    assert found.limb_masks is None
    assert float((found.face_points - portrait.face_points).norm(dim=-1).mean()) < 0.06 * _side(
        portrait
    )


def test_parts_lie_where_the_network_is_taught_to_tell_them() -> None:
    cells, side = 32, 128
    off = []
    for edge in range(40, 80):
        labels = np.zeros((side, side), np.uint8)
        labels[:, edge:] = 2  # head
        told = cv2.resize(labels, (cells, cells), interpolation=cv2.INTER_NEAREST)  # as in training
        parts = 20.0 * functional.one_hot(torch.from_numpy(told).long(), 9).permute(2, 0, 1)[None]
        nothing = torch.zeros(1, 1, cells, cells)
        maps = SceneMaps(nothing, nothing, nothing, nothing, nothing, parts.float())
        scene = Scene(maps=(maps,), squares=(Square(side / 2, side / 2, side),))
        mask = body_masks(torch.zeros(3, side, side), scene)[0, 60:68].mean(0)
        off.append(104 - float(mask[24:104].sum()) - edge)
    assert abs(float(np.mean(off))) < 0.25


def test_masks_cover_the_hands_they_belong_to(portrait: Portrait) -> None:
    for side, present in enumerate(portrait.hands_present):
        if not present:
            continue
        assert portrait.limb_masks is not None
        x, y = portrait.hand_points[side, :, :2].mean(0).int().tolist()
        assert float(portrait.limb_masks[2 * side + 1, y, x]) > 0.5
        assert float(portrait.limb_masks[2 * side + 1].mean()) < 0.2


def test_shares_of_the_body_lie_where_its_points_are(portrait: Portrait) -> None:
    assert portrait.body_masks is not None
    assert portrait.body_masks.shape == (3, *portrait.size)
    x0, y0, x1, y1 = portrait.face_box.int().tolist()
    assert float(portrait.body_masks[0, y0:y1, x0:x1].mean()) > 0.7
    assert float(portrait.body_masks.sum(0).max()) < 1.001
    for side, present in enumerate(portrait.hands_present):
        if present:
            x, y = portrait.hand_points[side, :, :2].mean(0).int().tolist()
            assert float(portrait.body_masks[1 + side, y, x]) > 0.5


def test_of_two_people_the_larger_is_taken_and_the_other_can_be_chosen(
    finder: PortraitFinder, photo: torch.Tensor, portrait: Portrait
) -> None:
    height, width = photo.shape[-2:]
    other = functional.interpolate(photo[None], scale_factor=0.6, mode="area")[0]
    both = torch.full((3, height, width + other.shape[-1]), 0.2)
    both[:, :, :width] = photo
    both[:, height - other.shape[-2] :, width:] = other
    first, second = find(both, finder), find(both, finder, face_index=1)
    assert float((first.face_points - portrait.face_points).norm(dim=-1).mean()) < 0.1 * _side(
        portrait
    )
    assert float(second.face_box[0]) > width
    assert any("2 faces" in note and "largest" in note for note in first.notes)
    with pytest.raises(UserError, match="Face 2 was asked for, but 2 faces were found"):
        find(both, finder, face_index=2)


def test_a_hand_that_looks_disagree_about_is_less_sure(
    finder: PortraitFinder, photo: torch.Tensor, portrait: Portrait
) -> None:
    points = portrait.hand_points[0]
    about = square_about(points[:, :2])
    hand = Hand(replace(about, side=2 * about.side), points, torch.zeros(2, 8, 8), 1.0)
    with torch.inference_mode():
        assert torch.allclose(doubted(photo, finder, hand), points)
    noise = torch.rand(photo.shape, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        muddled = doubted(0.1 * photo + 2 * noise - 1, finder, hand)
    assert torch.equal(muddled[:, :2], points[:, :2])
    assert float(muddled[:, 2].mean()) < 0.7 * float(points[:, 2].mean())


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_picture_without_a_face_is_refused(finder: PortraitFinder, seed: int) -> None:
    pixels = background(np.random.default_rng(seed), 192)
    image = torch.from_numpy(pixels).permute(2, 0, 1).float() / 127.5 - 1
    with pytest.raises(UserError, match="No face was found"):
        find(image, finder)


def test_an_even_picture_has_no_face() -> None:
    small = PortraitFinder(_SMALL).eval()
    with pytest.raises(UserError, match="No face was found"):
        find(torch.zeros(3, 96, 96), small)
