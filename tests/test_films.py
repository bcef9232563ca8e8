"""Real films to training sets: cuts, flow, reasons, hands, resuming; on films made here, whose answers are known."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
import torch
from made_up import made_up_voice
from safetensors import safe_open
from safetensors.torch import load_file
from skimage.measure import blur_effect

from emo2 import media
from emo2.data.films.blur import blur_of
from emo2.data.films.cuts import CutFinder
from emo2.data.films.faces import actions_of, angles_of, carried, fit_head, load_measures
from emo2.data.films.flow import Matcher, matches, on_grid
from emo2.data.films.follow import Shot
from emo2.data.films.hands import HandLooker, from_tracker, nothing, read_tracked
from emo2.data.films.limits import Limits, cut_windows
from emo2.data.films.one import Wishes, read_record
from emo2.data.films.plan import plan_shot
from emo2.data.films.prepare import find_films, prepare
from emo2.data.films.seen import SeenShot, _border, move
from emo2.data.films.windows import Sound, listen
from emo2.data.order import shard_folders
from emo2.data.shards import Draw, PeopleBatches
from emo2.errors import UserError
from emo2.generate import Event
from emo2.guidance import fit_camera, turn_matrix
from emo2.hands.model import hand_points
from emo2.hands.standin import stand_in
from emo2.metrics.mouth import voice_envelope
from emo2.signals import Portrait
from emo2.weights import ASSETS

RNG = np.random.default_rng(3)


def texture(side: int = 256, seed: int = 0) -> np.ndarray:
    """Clouds of noise, RGB."""
    rng = np.random.default_rng(seed)
    image = np.zeros((side, side, 3), np.float32)
    for cells in (8, 16, 32, 64):
        coarse = rng.random((cells, cells, 3)).astype(np.float32)
        image += cv2.resize(coarse, (side, side), interpolation=cv2.INTER_CUBIC) / 4
    return (image.clip(0, 1) * 255).astype(np.uint8)


def shifted(image: np.ndarray, x: float, y: float) -> np.ndarray:
    matrix = np.array([[1.0, 0.0, x], [0.0, 1.0, y]])
    return cv2.warpAffine(image, matrix, image.shape[1::-1], borderMode=cv2.BORDER_REFLECT)


WHOLE = np.ones((256, 256), bool)


def test_a_known_shift_is_the_flow_of_every_cell() -> None:
    reference = texture()
    frames = np.stack([shifted(reference, 2.0 * k, -1.5 * k) for k in range(6)])
    for index, match in matches(frames, 0):
        grid = on_grid(match, WHOLE)
        inner = grid.flow[:, 8:-8, 8:-8] * 256
        assert np.abs(inner[0] + 2.0 * index).mean() < 0.15
        assert np.abs(inner[1] - 1.5 * index).mean() < 0.15
        assert grid.visibility[8:-8, 8:-8].mean() > 240
        assert grid.sure[8:-8, 8:-8].mean() > 240


def test_frames_before_the_reference_are_matched_too() -> None:
    picture = texture()
    frames = np.stack([shifted(picture, 3.0 * k, 0.0) for k in range(5)])
    found = {index: on_grid(match, WHOLE).flow for index, match in matches(frames, 2)}
    assert sorted(found) == [0, 1, 2, 3, 4]
    for index, flow in found.items():
        assert abs(float(np.median(flow[0])) * 256 + 3.0 * (index - 2)) < 0.2


def test_what_an_occluder_covers_is_not_visible_and_the_rest_is() -> None:
    reference, cover = texture(), texture(80, seed=9)
    matcher = Matcher(reference)
    for step in range(4):
        frame = reference.copy()
        x = 40 + 20 * step
        frame[100:180, x : x + 80] = cover
        grid = on_grid(matcher.see(frame), WHOLE)
    inside = grid.visibility[27:43, (x + 8) // 4 : (x + 72) // 4]
    assert inside.mean() < 40
    outside = grid.visibility.copy().astype(float)
    outside[22:48, (x - 12) // 4 : (x + 92) // 4] = np.nan
    assert np.nanmean(outside) > 245


def test_flow_to_a_picture_that_is_nowhere_found_again_does_not_run_away() -> None:
    matcher = Matcher(texture())
    for step in range(12):
        match = matcher.see(texture(seed=1 + step))
    for flow in (match.flow, match.back):
        assert np.abs(flow).max() <= 1.5 * 256
    grid = on_grid(matcher.see(texture()), WHOLE)
    assert np.abs(grid.flow[:, 8:-8, 8:-8]).max() * 256 < 1.0  # and it finds back


def test_what_lies_outside_of_the_picture_is_never_sure() -> None:
    within = WHOLE.copy()
    within[:, 192:] = False
    grid = on_grid(Matcher(texture()).see(shifted(texture(), 2, 0)), within)
    assert grid.sure[:, 48:].max() == 0
    assert grid.sure[8:-8, 8:40].mean() > 240


def test_the_labels_move_the_reference_onto_the_frame() -> None:
    reference = texture()
    frame = shifted(reference, 6, 3)
    grid = on_grid(Matcher(reference).see(frame), WHOLE)
    inner = (slice(24, -24), slice(24, -24))
    apart = [
        np.abs(guess[inner].astype(float) - frame[inner]).mean()
        for guess in (reference, move(reference, grid.flow))
    ]
    assert apart[1] < 0.25 * apart[0]


def test_a_cut_is_found_and_a_quick_move_or_a_change_of_light_is_none() -> None:
    def frame(image: np.ndarray, gain: float = 1.0) -> torch.Tensor:
        return torch.from_numpy(image).permute(2, 0, 1).float() / 127.5 * gain - 1.0

    one, other = texture(seed=1), (texture(seed=2) * np.array([0.4, 0.7, 1.0])).astype(np.uint8)
    film = [frame(shifted(one, 3 * k, 0)) for k in range(20)]
    film += [frame(shifted(other, 0, 4 * k), 1 - 0.01 * k) for k in range(20)]
    finder = CutFinder()
    assert [k for k, f in enumerate(film) if finder.see(f)] == [0, 20]


def test_windows_fill_the_good_stretches_and_do_not_overlap() -> None:
    good = [True] * 30 + [False] * 2 + [True] * 9 + [False] + [True] * 20
    starts = cut_windows(good, 10)
    assert len(starts) == 3 + 0 + 2
    used = [k for s in starts for k in range(s, s + 10)]
    assert len(used) == len(set(used))
    assert all(good[k] for k in used)


def test_blur_grows_with_blurring_as_scikit_image_says() -> None:
    grey = texture(112).mean(-1).astype(np.float32) / 255
    ours, theirs = [], []
    for sigma in (0.1, 1.0, 2.0, 4.0):
        soft = cv2.GaussianBlur(grey, (0, 0), sigma)
        ours.append(blur_of(soft))
        theirs.append(float(blur_effect(soft, h_size=9)))
    assert ours == sorted(ours)
    assert np.abs(np.array(ours) - theirs).max() < 0.12


# --------------------------------------------------------------------------------------------- faces


def posed(yaw: float, pitch: float, roll: float) -> np.ndarray:
    """The mean face's points under a pose, pixels."""
    measures = load_measures()
    turn = turn_matrix(torch.tensor([yaw, pitch, roll], dtype=torch.float32)).numpy()
    places = (measures.shape - measures.neck) @ turn.T + measures.neck
    return (40.0 * places[:, :2] + 128.0).astype(np.float32)


def test_the_heads_angles_are_read_with_their_signs() -> None:
    for angles in ((0.3, 0.0, 0.0), (0.0, -0.2, 0.0), (0.0, 0.0, 0.25), (0.2, 0.15, -0.1)):
        found = angles_of(fit_head(posed(*angles), load_measures()).turn)
        assert np.abs(np.array(found) - angles).max() < 0.02


def test_points_go_where_the_flow_takes_them() -> None:
    points = posed(0, 0, 0)
    back = np.zeros((256, 256, 2), np.float32)
    back[..., 0] = 5.0
    found, sure = carried(points, back, np.ones((256, 256), np.float32))
    np.testing.assert_allclose(found, points + np.array([5.0, 0.0]), atol=1e-4)
    assert sure.min() == 1.0


def test_actions_that_are_not_read_stay_at_zero_and_are_marked() -> None:
    measures = load_measures()
    features = RNG.normal(size=(30, measures.weights.shape[1])).astype(np.float32)
    actions, known = actions_of(features, measures)
    assert known.any()
    assert not known.all()
    assert np.abs(actions[:, ~known]).max() == 0.0
    assert 0.0 <= actions.min() <= actions.max() <= 1.0


def a_shot(**changes: object) -> Shot:
    frames = 30
    values: dict = {
        "start": 0, "points": np.repeat(posed(0, 0, 0)[None], frames, 0),
        "seen": np.ones(frames, bool), "blur": np.full(frames, 0.5, np.float32),
        "light": np.full(frames, 0.2, np.float32), "second_face": 0.0,
    }  # fmt: skip
    return Shot(**{**values, **changes})


@pytest.mark.parametrize(
    ("reason", "changes"),
    [
        ("two faces", {"second_face": 0.8}),
        ("face lost", {"seen": np.array([True] * 10 + [False] * 20)}),
        ("no face", {"seen": np.zeros(30, bool)}),
        ("blurred", {"blur": np.full(30, 0.95, np.float32)}),
        ("too dark", {"light": np.full(30, 0.01, np.float32)}),
        ("turned away", {"points": np.repeat(posed(1.0, 0, 0)[None], 30, 0)}),
    ],
)
def test_each_fault_of_a_shot_has_its_reason(reason: str, changes: dict) -> None:
    plan = plan_shot(a_shot(**changes), (256, 256), ("face", "body"), Limits(), load_measures())
    assert reason in plan.marks
    whole = plan_shot(a_shot(), (256, 256), ("face",), Limits(), load_measures())
    assert set(whole.marks) == {""}
    assert len(whole.views) == 1


def test_a_face_too_small_for_its_view_is_refused() -> None:
    small = posed(0, 0, 0) * 0.5 + np.array([256, 40], np.float32)
    small = a_shot(points=np.repeat(small[None], 30, 0))
    plan = plan_shot(small, (480, 640), ("face", "body"), Limits(), load_measures())
    assert plan.refused["face"] == "too small"
    assert [v.kind for v in plan.views] == [1.0]


# --------------------------------------------------------------------------------------------- hands


def portrait_of(size: int = 400) -> Portrait:
    face = torch.from_numpy(posed(0, 0, 0)) + torch.tensor([72.0, -40.0])
    body = torch.zeros(8, 3)
    body[2], body[3] = torch.tensor([290.0, 250, 1]), torch.tensor([110.0, 250, 1])
    return Portrait(
        image=torch.zeros(3, size, size),
        face_box=torch.cat([face.amin(0), face.amax(0)]),
        face_points=face,
        body_points=body,
        hand_points=torch.zeros(2, 21, 3),
        hands_present=(False, False),
    )


def test_a_trackers_points_are_fitted_and_its_gaps_are_not_seen(tmp_path: Path) -> None:
    camera = fit_camera(portrait_of())
    hands = torch.from_numpy(nothing(2).numbers).clone()
    hands[:, 0, 64:] = torch.tensor([0.2, 0.1, 0.2])
    hands[:, 1, 64:] = torch.tensor([-0.2, 0.1, 0.2])
    pixels = camera.project(hand_points(stand_in(), hands, torch.zeros(10)))
    points = torch.cat([pixels, torch.full((2, 2, 21, 1), 0.9)], -1).numpy()
    points[1:, 1, :, 2] = 0.0
    np.savez(tmp_path / "film.npz", points=points, fps=25.0)
    tracked = read_tracked(tmp_path, "film", 25.0)
    assert tracked is not None
    track = from_tracker(tracked, camera, 0, 4, 25.0)
    assert (track.confidence[:2, 0] > 0.5).all()
    assert (track.confidence[1:2, 1] == 0).all()
    assert (track.confidence[2:] == 0).all()  # beyond the file's end
    again = camera.project(
        hand_points(stand_in(), torch.from_numpy(track.numbers[:1]), torch.zeros(10))
    )
    miss = (again - pixels[:1]).norm(dim=-1)
    assert float(miss.median()) < 0.1 * float(camera.scale[0]) * 0.19


def test_hamers_rotations_are_taken_as_they_are(tmp_path: Path) -> None:
    turns = torch.eye(3).expand(4, 2, 15, 3, 3).numpy()
    orient = torch.eye(3).expand(4, 2, 1, 3, 3).numpy()
    wrist = np.full((4, 2, 2), 100.0)
    sure = np.full((4, 2), 0.7)
    np.savez(
        tmp_path / "a.npz", hand_pose=turns, global_orient=orient, wrist=wrist, confidence=sure
    )
    tracked = read_tracked(tmp_path, "a", 25.0)
    assert tracked is not None
    track = from_tracker(tracked, fit_camera(portrait_of()), 0, 4, 25.0)
    np.testing.assert_allclose(track.numbers[:, :, 4:64:4], 1.0, atol=1e-6)
    np.testing.assert_allclose(track.confidence, 0.7)


def test_a_tracks_file_that_does_not_fit_is_said(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", points=np.zeros((5, 2, 20, 3)))
    with pytest.raises(UserError, match="expected"):
        read_tracked(tmp_path, "a", 25.0)
    (tmp_path / "b.json").write_text("{")
    with pytest.raises(UserError, match="cannot be read"):
        read_tracked(tmp_path, "b", 25.0)
    assert read_tracked(tmp_path, "c", 25.0) is None


def test_hands_between_two_looks_are_less_sure_and_lost_where_they_went_far() -> None:
    looker = HandLooker.__new__(HandLooker)
    seen = replace(
        portrait_of(), hand_points=torch.full((2, 21, 3), 0.9), hands_present=(True, True)
    )
    far = seen.hand_points.clone()
    far[1, :, :2] += 200.0
    looker.looks = [(0, seen), (8, replace(seen, hand_points=far))]
    track = looker.track(9, 1.0)
    assert track.confidence[0, 0] == pytest.approx(0.9)
    assert 0 < track.confidence[4, 0] < 0.9
    assert (track.confidence[1:8, 1] == 0).all()


# --------------------------------------------------------------------------------------------- voices


def seen_shot(opening: np.ndarray) -> SeenShot:
    frames = len(opening)
    shot = a_shot(
        points=np.repeat(posed(0, 0, 0)[None], frames, 0), seen=np.ones(frames, bool),
        blur=np.full(frames, 0.5, np.float32), light=np.full(frames, 0.2, np.float32),
    )  # fmt: skip
    plan = plan_shot(shot, (256, 256), ("face",), Limits(), load_measures())
    return SeenShot(
        plan=plan, views=(), head=np.zeros((frames, 6), np.float32),
        actions=np.zeros((frames, 52), np.float32), actions_known=load_measures().known,
        opening=opening.astype(np.float32), hands=nothing(frames),
    )  # fmt: skip


def test_a_mouth_that_does_not_go_with_the_voice_is_told_from_one_that_does() -> None:
    frames = 75
    samples = made_up_voice(frames / 25)
    sound = Sound(samples=samples.numpy())
    loud = voice_envelope(samples, 16_000, 25, frames).numpy()
    verdicts = {
        name: listen(seen_shot(opening), sound, Limits()).reason
        for name, opening in {
            "with it": 2.0 * loud, "against it": -2.0 * loud, "still": 0.001 * loud,
        }.items()
    }  # fmt: skip
    assert verdicts == {
        "with it": "", "against it": "not in time", "still": "mouth still",
    }  # fmt: skip
    quiet = Sound(samples=np.zeros(48_000, np.float32))
    assert listen(seen_shot(0.2 * loud), quiet, Limits()).reason == "no voice"
    assert listen(seen_shot(0.2 * loud), None, Limits()).reason == "no sound"


# --------------------------------------------------------------------------------------------- films


def write_film(path: Path, frames: list[np.ndarray], samples: torch.Tensor | None) -> Path:
    """A lossless film, with its voice where one is given."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(
            "libx264rgb", rate=25, options={"crf": "0", "preset": "ultrafast"}
        )
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = "rgb24"
        sound = (
            container.add_stream("aac", rate=16_000, layout="mono") if samples is not None else None
        )
        for pixels in frames:
            for packet in stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")):
                container.mux(packet)
        container.mux(stream.encode(None))
        if sound is not None and samples is not None:
            for piece in samples.split(1024):
                frame = av.AudioFrame.from_ndarray(
                    piece.numpy()[None].astype(np.float32), format="fltp", layout="mono"
                )
                frame.sample_rate = 16_000
                container.mux(sound.encode(frame))
            container.mux(sound.encode(None))
    return path


@pytest.fixture(scope="module")
def person() -> np.ndarray:
    """Head and shoulders of the demo's rendered person."""
    photo = media.read_photo(ASSETS / "demo" / "photo.jpg")[:, 60:380, 260:580]
    return np.ascontiguousarray(((photo + 1) * 127.5).byte().permute(1, 2, 0).numpy())


def talking(person: np.ndarray, loud: torch.Tensor) -> list[np.ndarray]:
    """The person's picture swaying from side to side, and sinking as loud as the voice is."""
    return [
        shifted(person, 1.5 * np.sin(index / 5), 3.0 * level)
        for index, level in enumerate(loud.tolist())
    ]


QUICK = Wishes(
    views=("face",), frames=12, limits=replace(Limits(), least_mouth_move=0.0, least_sync=-1.0)
)


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory, person: np.ndarray) -> Path:
    """A folder with a speaker, a film without sound, and a damaged one."""
    folder = tmp_path_factory.mktemp("films")
    loud = torch.arange(25).float().mul(0.9).sin().clamp(min=0)
    frames = talking(person, loud)
    write_film(folder / "speaker.mp4", frames, made_up_voice(1.0))
    write_film(folder / "mute.mp4", frames[:14], None)
    (folder / "damaged.mp4").write_bytes((folder / "speaker.mp4").read_bytes()[:2000])
    return folder


def run(given: Path, out: Path, wishes: Wishes = QUICK) -> list[Event]:
    return list(prepare([given], out, wishes, licence="made up", command="emo2 data prepare"))


@pytest.fixture(scope="module")
def made(films: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("sets") / "set"
    events = run(films, out)
    said = [e.text for e in events if e.kind == "note"]
    assert any("damaged.mp4 is left out" in text for text in said)
    assert events[-1].kind == "done"
    return out


def test_a_set_holds_what_was_good_and_says_why_the_rest_is_not_in_it(made: Path) -> None:
    table = json.loads((made / "shots.json").read_text())
    by_film = {shot["film"]: shot for shot in table["shots"]}
    assert by_film["speaker.mp4"]["kept"]
    assert by_film["mute.mp4"]["reasons"] == {"no sound": 14}
    assert any(film["film"] == "damaged.mp4" and film["fault"] for film in table["films"])
    card = (made / "README.md").read_text()
    assert "made up" in card
    assert "there is no sound" in card
    assert "emo2 data prepare" in card
    assert not list(made.rglob("*.part"))


def test_the_sets_shards_are_read_as_the_studios_are(made: Path) -> None:
    folders = shard_folders([made])
    assert [f.name for f in folders] == ["face-takes"]
    with pytest.raises(UserError, match="no shards"):
        shard_folders([made], real=False)
    draw = Draw(people=2, frames=12, consecutive=True, maps=32)
    batch = PeopleBatches(folders, draw, seed=1, hear=lambda s, r, f: torch.zeros(200, 1, 4)).at(0)
    assert batch.frames.shape == (2, 12, 3, 256, 256)
    assert batch.known is not None
    assert batch.known[0].tolist() == [False, True, False]
    assert batch.maps is not None
    assert float(batch.importance.min()) >= 0.0
    with safe_open(next(folders[0].glob("*.safetensors")), framework="pt") as shard:
        heard = shard.get_tensor("samples")
        assert heard.shape[1] == round((12 / 25 + 2) * 16_000)
        assert float(heard.abs().max()) > 0.01


def test_a_run_that_was_killed_goes_on_and_makes_the_same_set(
    made: Path, films: Path, tmp_path: Path
) -> None:
    out = tmp_path / "set"
    for event in prepare([films], out, QUICK, licence="made up"):
        if event.kind == "progress" and event.done == 2:
            break  # a film is still to be done
    records = sorted((out / "films").glob("*.json"))
    assert len(records) == 2
    record = read_record(records[0])
    assert record is not None
    stamps = {path: path.stat().st_mtime_ns for path in records}
    events = run(films, out)
    assert any("are done and kept" in e.text for e in events)
    assert {path: path.stat().st_mtime_ns for path in records} == stamps
    for path in sorted(made.rglob("*.safetensors")):
        before, after = load_file(path), load_file(out / path.relative_to(made))
        assert list(before) == list(after)
        assert all(torch.equal(before[name], after[name]) for name in before)


@pytest.mark.slow
def test_two_jobs_make_the_same_set_as_one(made: Path, films: Path, tmp_path: Path) -> None:
    out = tmp_path / "set"
    assert list(prepare([films], out, QUICK, licence="made up", jobs=2))[-1].kind == "done"
    for path in sorted(made.rglob("*.safetensors")):
        before, after = load_file(path), load_file(out / path.relative_to(made))
        assert all(torch.equal(before[name], after[name]) for name in before)
    told = [json.loads((folder / "shots.json").read_text())["shots"] for folder in (made, out)]
    assert told[0] == told[1]


def test_a_camera_that_moves_is_told_from_a_head_that_does() -> None:
    behind, head = texture(), texture(120, seed=5)
    frame, moved = behind.copy(), behind.copy()
    frame[70:190, 70:190], moved[70:190, 90:210] = head, head
    matcher = Matcher(frame)
    assert _border(matcher.see(moved), WHOLE) < 0.01
    assert abs(_border(matcher.see(shifted(frame, 16, 0)), WHOLE) - 16 / 256) < 0.01


def test_other_settings_or_a_foreign_folder_are_refused(
    made: Path, films: Path, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match="other settings"):
        run(films, made, replace(QUICK, frames=8))
    (tmp_path / "thing").write_text("x")
    with pytest.raises(UserError, match="other things"):
        run(films, tmp_path)


def test_bad_films_are_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds no films"):
        find_films([tmp_path])
    broken = tmp_path / "a.mp4"
    broken.write_bytes(b"no film")
    with pytest.raises(UserError, match="not a film"):
        find_films([broken])
    with pytest.raises(UserError, match="could be read"):
        list(prepare([tmp_path], tmp_path.parent / "out-of-bad", QUICK))
    with pytest.raises(UserError, match="exist"):
        find_films([tmp_path / "none.mp4"])


def test_the_sound_about_a_window_is_silent_beyond_the_films_ends() -> None:
    sound = Sound(samples=np.ones(16_000, np.float32))
    heard = sound.about(0, 25)
    assert len(heard) == 3 * 16_000
    assert heard[:16_000].max() == 0
    assert heard[16_000:32_000].min() == 1
    assert heard[32_000:].max() == 0
