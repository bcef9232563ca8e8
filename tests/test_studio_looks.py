"""Faces with glasses, beards and make-up; pictures as photos, paintings, cartoons: the labels stay what they are."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy import ndarray
from scipy import sparse

pytest.importorskip("anny", reason="the studio extra is not installed")
pytest.importorskip("moderngl", reason="the studio extra is not installed")

from plain_studio import SIZE, front, plain_person, small_renderer

from emo2.studio import acting, adorn, labels
from emo2.studio.adorn import BEARDS, Face
from emo2.studio.assets import Library
from emo2.studio.casting import Casting, cast
from emo2.studio.develop import Development, Exposure, smeared
from emo2.studio.looks import LOOKS, kuwahara, outlines, paper
from emo2.studio.people import Person, Piece, anatomy, assemble
from emo2.studio.plain import plain_pieces
from emo2.studio.pose import Pose
from emo2.studio.render import Renderer, still
from emo2.studio.scene import background, lights, moods
from emo2.studio.segments import SEGMENT_NAMES
from emo2.studio.surface import SurfacePass


@pytest.fixture(scope="module")
def renderer() -> Renderer:
    return small_renderer()


@pytest.fixture(scope="module")
def person() -> Person:
    return plain_person()


def wearing(person: Person, pieces: list[Piece]) -> Person:
    base = plain_pieces(
        np.random.default_rng(1), person.shape, float(person.shape.heads["neck01"][1]) - 0.3
    )
    return assemble(person.shape, [*base, *pieces])


def segments(renderer: Renderer, person: Person, pose: Pose, half: float = 0.14) -> ndarray:
    view = front(person, half)
    actor = renderer.actor(person)
    actor.pose(still(person, pose, view))
    surface = SurfacePass(renderer, actor)
    found = surface(view).segments
    surface.release()
    actor.release()
    return found


def count(found: ndarray, name: str) -> int:
    return int((found == SEGMENT_NAMES.index(name)).sum())


@pytest.mark.parametrize("style", list(BEARDS))
def test_beards_grow_on_the_lower_face_and_leave_the_lips_free(person: Person, style: str) -> None:
    face = Face.of(person.shape)
    cover = adorn.beard_cover(face, style)
    assert (cover > 0.5).sum() > 40
    assert cover[face.lips | face.mouth].max() == 0
    y = face.base[cover > 0.2, 1]
    assert y.max() < face.points[29, 1] + (0 if style in ("moustache", "goatee") else 0.03)
    assert y.min() > face.points[8, 1] - 0.05
    if style == "moustache":
        assert y.min() > face.points[57, 1] - 0.01


def test_a_beard_is_told_and_goes_with_the_jaw(renderer: Renderer, person: Person) -> None:
    face = Face.of(person.shape)
    pieces = adorn.beard(np.random.default_rng(0), face, "full beard", np.full(3, 0.05))
    worn = wearing(person, pieces)
    rest = segments(renderer, worn, Pose())
    assert count(rest, "beard") > 300
    assert count(rest, "upper_lip") + count(rest, "lower_lip") > 60
    actions = np.zeros(52)
    acting.put(actions, "jawOpen", 0.8)
    view = front(person, 0.14)
    hairs = [worn.triangles[a : a + n] for m, a, n in worn.draws if m.kind == "beard"]
    vertices = worn.corners[np.unique(np.concatenate(hairs))]
    sunk = still(worn, Pose(), view).points - still(worn, Pose(actions=actions), view).points
    assert sunk[vertices, 1].max() > 0.01
    assert np.abs(sunk[vertices, 1]).min() < 0.001  # the moustache stays


def test_glasses_are_rigid_and_clear_ones_show_the_eyes(renderer: Renderer, person: Person) -> None:
    face = Face.of(person.shape)
    pairs = [adorn.glasses(np.random.default_rng(k), face) for k in range(40)]
    clear = next(p for p in pairs if p[0].name == "glasses")
    dark = next(p for p in pairs if p[0].name == "dark glasses")
    bare = segments(renderer, wearing(person, []), Pose())
    shown = segments(renderer, wearing(person, clear), Pose())
    hidden = segments(renderer, wearing(person, dark), Pose())
    assert count(bare, "glasses") == 0
    assert count(shown, "glasses") > 20
    assert count(shown, "left_eye") > 0.7 * count(bare, "left_eye")
    assert count(hidden, "left_eye") < 0.3 * count(bare, "left_eye")
    for piece in clear:
        assert abs(sparse.csr_matrix(piece.places @ anatomy().actions)).max() == 0


def test_make_up_colours_the_lips_and_changes_no_label(renderer: Renderer, person: Person) -> None:
    face = Face.of(person.shape)
    pieces = next(
        p for p in (adorn.make_up(np.random.default_rng(k), face) for k in range(20)) if len(p) == 3
    )
    plain, painted = wearing(person, []), wearing(person, pieces)
    told = [segments(renderer, p, Pose()) for p in (plain, painted)]
    assert (told[0] != told[1]).mean() < 0.002
    view, behind = front(person, 0.14), np.full((SIZE, SIZE, 3), 128, np.uint8)
    pictures = []
    for one in (plain, painted):
        actor = renderer.actor(one)
        actor.pose(still(one, Pose(), view))
        pictures.append(actor.draw(view, lights(np.random.default_rng(2)), behind).astype(int))
        actor.release()
    lips = np.isin(told[0], [SEGMENT_NAMES.index(n) for n in ("upper_lip", "lower_lip")])
    changed = np.abs(pictures[1] - pictures[0]).sum(-1)
    assert changed[lips].mean() > 10
    assert changed[told[0] == 0].mean() < 0.02


def test_what_came_later_leaves_poses_and_framing_alone() -> None:
    library = Library(None)
    for seed in (4, 5):
        usual, more = np.random.default_rng(seed), np.random.default_rng(seed)
        cast(usual, Casting(library=library))
        cast(more, Casting(library=library, more=np.random.default_rng((seed, 41))))
        assert usual.random() == more.random()


def exposure(rng: np.random.Generator) -> Exposure:
    return Exposure(picture=background(rng, SIZE, SIZE))


@pytest.mark.parametrize("look", [name for name, (_, filter_) in LOOKS.items() if filter_])
def test_a_look_changes_the_picture_and_treats_frames_alike(look: str) -> None:
    rng = np.random.default_rng(3)
    picture = exposure(rng).picture // 2
    picture[::5, ::3] += 90
    sheet = paper(rng, SIZE, SIZE)
    filter_ = LOOKS[look][1]
    assert filter_ is not None
    once, twice = (filter_(picture.copy(), 0.4, sheet) for _ in range(2))
    assert np.array_equal(once, twice)
    assert once.shape == picture.shape
    assert once.dtype == np.uint8
    assert np.abs(once.astype(int) - picture).mean() > 0.5


def test_looks_are_drawn_as_often_as_they_say() -> None:
    assert sum(share for share, _ in LOOKS.values()) == pytest.approx(1.0)
    drawn = [Development(np.random.default_rng(k), size=(8, 8)).look for k in range(300)]
    assert set(drawn) == set(LOOKS)
    assert 0.3 < drawn.count("photo") / 300 < 0.5


def test_development_of_a_seed_is_the_same_every_time() -> None:
    for seed in range(6):
        shots = [exposure(np.random.default_rng(k)) for k in range(2)]
        one, two = (
            Development(np.random.default_rng(seed), size=(SIZE, SIZE))(shots) for _ in range(2)
        )
        assert np.array_equal(one, two)


def test_kuwahara_keeps_an_edge_and_calms_noise() -> None:
    picture = np.full((40, 40, 3), 60, np.uint8)
    picture[:, 20:] = 190
    noisy = picture + np.random.default_rng(0).integers(-20, 20, picture.shape)
    calm = kuwahara(noisy.astype(np.uint8), 3).astype(int)
    assert np.abs(calm - picture).mean() < 0.4 * np.abs(noisy - picture).mean()
    assert (calm[:, 21] - calm[:, 18]).mean() > 115


def test_outlines_run_where_things_meet_and_not_across_skin() -> None:
    depth, normals = np.full((20, 20), 1.0, np.float32), np.zeros((20, 20, 3), np.float32)
    normals[..., 2] = 1
    names = np.full((20, 20), SEGMENT_NAMES.index("head"), np.uint8)
    names[10:] = SEGMENT_NAMES.index("torso")
    assert outlines(depth, normals, names).max() == 0
    names[15:] = SEGMENT_NAMES.index("clothes")
    line = outlines(depth, normals, names)
    assert line[14].min() == 1
    assert line[:13].max() == 0
    depth[:, :5] = 0.9
    assert outlines(depth, normals, names)[:, 4].min() == 1


def test_motion_blur_smears_along_the_move_only() -> None:
    picture = np.zeros((64, 64, 3), np.uint8)
    picture[:, 30:34] = 255
    move = np.zeros((64, 64, 2), np.float32)
    move[..., 0] = 8 / 64
    across = smeared(picture, move)
    assert across[32, 26:38].min() > 0
    assert across[32, 32, 0] < 255
    along = smeared(picture, move[..., ::-1].copy())
    assert np.array_equal(along, picture)


def test_occlusion_darkens_narrow_places_only(renderer: Renderer, person: Person) -> None:
    view, behind = front(person, 0.2), np.full((SIZE, SIZE, 3), 128, np.uint8)
    soft = (0.1, 0.1, 0.1)
    light = replace(
        lights(np.random.default_rng(5)), shadow=0.0, key_colour=soft, fill_colour=soft,
        rim_colour=soft, sky=(0.8, 0.8, 0.8), ground=(0.6, 0.6, 0.6), exposure=1.0,
    )  # fmt: skip
    actor = renderer.actor(person)
    actor.pose(still(person, Pose(), view))
    before = actor.draw(view, light, behind).astype(int)
    actor.occlude(1.0)
    after = actor.draw(view, light, behind).astype(int)
    actor.release()
    assert (after - before).max() <= 1
    darker = (before - after).mean(-1)
    points = labels.face_points(still(person, Pose(), view), labels.body_places(person)) * SIZE
    (x, y), nose = points[8].astype(int), points[30].astype(int)
    below_the_chin = darker[y : y + 8, x - 10 : x + 10].max()
    assert below_the_chin > 4
    assert darker[nose[1] - 2 : nose[1] + 2, nose[0] - 2 : nose[0] + 2].max() < 2


def test_moods_hold_every_kind_of_light() -> None:
    usual = lights(np.random.default_rng(0))
    found = [moods(np.random.default_rng(k), usual) for k in range(120)]
    assert min(m.key[2] for m in found) < -0.3
    assert min(m.key[1] for m in found) < -0.3
    assert max(m.softness for m in found) > 1.5
    strong = [max(m.key_colour) / max(min(m.key_colour), 1e-3) for m in found]
    assert 4 < sum(s > 1.8 for s in strong) < 40
