"""Films measured without networks: each measure against films whose answer is known."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
import torch
from made_up import made_up_voice
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from emo2 import media, pipeline
from emo2.errors import UserError
from emo2.media.watch import FilmFacts, film_facts, read_frames
from emo2.metrics.aligned import aligned_face, five_points, similarity
from emo2.metrics.face_signals import blinks, head_speed, lip_gap, lower_lip, quick
from emo2.metrics.film_loaded import LoadedFilm
from emo2.metrics.film_reading import facts_of, resampling
from emo2.metrics.flow import psnr, ssim
from emo2.metrics.hand_tearing import loose_skin, tearing
from emo2.metrics.inputs import Item
from emo2.metrics.lasting import (
    face_look,
    identity_change,
    native_side,
    sharpness,
    sharpness_change,
)
from emo2.metrics.lips import (
    Phone,
    by_lag,
    common_lag,
    lip_closure,
    near_correlation,
    open_vowel,
    peak_lag,
    read_phones,
    shifted_correlation,
)
from emo2.metrics.networks import NetworkFolder
from emo2.metrics.steadiness import Background, Flicker
from emo2.portrait import find
from emo2.portrait.follow import FaceFollower
from emo2.portrait.stage import PortraitFinder
from emo2.signals import Clip, Portrait


@pytest.fixture(scope="module")
def finder() -> PortraitFinder:
    return pipeline.load("compact").finder


@pytest.fixture(scope="module")
def person(finder: PortraitFinder) -> Portrait:
    """The demo's rendered person at 256."""
    from emo2.weights import ASSETS

    photo = media.read_photo(ASSETS / "demo" / "photo.jpg")
    scale = 256 / max(photo.shape[-2:])
    pixels = cv2.resize(
        photo.permute(1, 2, 0).numpy(), None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA
    )
    return find(torch.from_numpy(pixels).permute(2, 0, 1), finder)


def write_film(path: Path, frames: list[np.ndarray], fps: int) -> Path:
    """Lossless RGB, so that what is written is what is read."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(
            "libx264rgb", rate=fps, options={"crf": "0", "preset": "ultrafast"}
        )
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = "rgb24"
        for pixels in frames:
            for packet in stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")):
                container.mux(packet)
        for packet in stream.encode(None):
            container.mux(packet)
    return path


def opened(person: Portrait, amount: float) -> torch.Tensor:
    """The person with everything under the lips' line drawn down, most at the chin: a jaw that falls."""
    pixels = person.image.permute(1, 2, 0).numpy()
    height, width = pixels.shape[:2]
    points = person.face_points.numpy()
    ys, xs = np.mgrid[:height, :width].astype(np.float32)
    mouth = points[[62, 66]].mean(0)
    wide = 1.1 * (points[54, 0] - points[48, 0])
    below = np.clip((ys - mouth[1]) / 4, 0, 1) * np.clip(
        1 - (ys - points[8, 1]) / (0.8 * wide), 0, 1
    )
    bell = np.exp(-0.5 * ((xs - mouth[0]) / wide) ** 2)
    moved = cv2.remap(pixels, xs, ys - amount * below.clip(0, 1) * bell, cv2.INTER_LINEAR)
    return torch.from_numpy(moved).permute(2, 0, 1)


# ---------------------------------------------------------------------------------------------------- reading


def test_a_film_is_read_at_the_wanted_rate_and_size(tmp_path: Path) -> None:
    grey = [np.full((32, 48, 3), 10 * i, np.uint8) for i in range(10)]
    film = write_film(tmp_path / "film.mkv", grey, 10)
    assert film_facts(film).size == (32, 48)
    assert film_facts(film).fps == 10
    levels = [round(float((f.mean() + 1) * 127.5)) for f in read_frames(film)]
    assert levels == [10 * i for i in range(10)]
    twice = [round(float((f.mean() + 1) * 127.5)) for f in read_frames(film, fps=20)]
    assert twice == [10 * (i // 2) for i in range(20)]
    fewer = [round(float((f.mean() + 1) * 127.5)) for f in read_frames(film, fps=4)]
    assert fewer == [10, 30, 60, 80]  # on show at 0.125, 0.375, 0.625 and 0.875 s
    assert next(read_frames(film, size=(16, 24))).shape == (3, 16, 24)


def test_a_film_that_lies_on_its_side_is_turned(tmp_path: Path) -> None:
    pixels = np.zeros((32, 64, 3), np.uint8)
    pixels[:16, :32] = 255  # the upper left quarter
    with av.open(str(tmp_path / "film.mp4"), "w") as container:
        stream = container.add_stream("libx264", rate=10, options={"crf": "10"})
        stream.height, stream.width, stream.pix_fmt = 32, 64, "yuv420p"
        stream.set_display_rotation(90)  # to the left, as a telephone writes it
        for packet in stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")):
            container.mux(packet)
        for packet in stream.encode(None):
            container.mux(packet)
    assert film_facts(tmp_path / "film.mp4").size == (64, 32)
    (frame,) = read_frames(tmp_path / "film.mp4")
    assert frame.shape == (3, 64, 32)
    assert float(frame[:, 36:60, 2:14].min()) > 0.9  # now the lower left
    assert float(frame[:, 2:28].max()) < -0.9


def test_what_is_resampled_is_said() -> None:
    true = FilmFacts(fps=25.0, size=(288, 360), frames=75, has_sound=True)
    other = FilmFacts(fps=30.0, size=(512, 384), frames=90, has_sound=True)
    assert resampling(true, true) == resampling(true, None) == []
    rate, both = resampling(other, true)
    assert "films of 30 frames a second are read at 25" in rate
    assert "384x512 at 30 a second are brought to their truth's 360x288 at 25 a second" in both


def test_a_film_too_small_to_measure_is_refused(tmp_path: Path) -> None:
    film = write_film(tmp_path / "film.mkv", [np.zeros((8, 8, 3), np.uint8)] * 3, 10)
    with pytest.raises(UserError, match="is 8x8 pixels; measures need 16"):
        facts_of(film)


def test_what_is_no_film_is_said(tmp_path: Path) -> None:
    (tmp_path / "film.mp4").write_bytes(b"no film at all")
    with pytest.raises(UserError, match="not a film"):
        film_facts(tmp_path / "film.mp4")


# ------------------------------------------------------------------------------------------ frame against frame


def test_psnr_and_ssim_agree_with_scikit_image() -> None:
    rng = np.random.default_rng(1)
    a = rng.random((3, 40, 50))
    b = np.clip(a + 0.1 * rng.standard_normal(a.shape), 0, 1)
    ours = psnr(torch.from_numpy(a), torch.from_numpy(b))
    assert ours == pytest.approx(peak_signal_noise_ratio(a, b, data_range=1), abs=1e-6)
    library = structural_similarity(
        a, b, data_range=1, channel_axis=0, gaussian_weights=True, sigma=1.5,
        use_sample_covariance=False,
    )  # fmt: skip
    assert ssim(torch.from_numpy(a), torch.from_numpy(b)) == pytest.approx(library, abs=1e-6)


def test_noise_of_a_known_size_has_its_psnr() -> None:
    rng = np.random.default_rng(2)
    clean = torch.full((3, 200, 200), 0.5, dtype=torch.float64)
    noisy = clean + 0.02 * torch.from_numpy(rng.standard_normal((3, 200, 200)))
    assert psnr(noisy, clean) == pytest.approx(-20 * np.log10(0.02), abs=0.05)


# ---------------------------------------------------------------------------------------------- mouth and voice


def test_a_jaw_that_falls_is_followed(finder: PortraitFinder, person: Portrait) -> None:
    follower = FaceFollower(finder)
    wanted = [0, 2, 4, 6, 8, 4, 0, 0]
    found = [follower.see(opened(person, a)) for a in wanted]
    assert all(f is not None for f in found)
    points = torch.stack([f for f in found if f is not None])
    fall = lower_lip(points)
    assert float(torch.corrcoef(torch.stack([fall, torch.tensor(wanted).float()]))[0, 1]) > 0.9
    assert float(fall[4] - fall[0]) > 0.05
    assert not bool(torch.isnan(lip_gap(points)).any())


def test_a_face_that_leaves_is_lost_and_found_again(
    finder: PortraitFinder, person: Portrait
) -> None:
    follower = FaceFollower(finder)
    empty = torch.zeros_like(person.image)
    seen = [follower.see(f) is not None for f in [person.image, empty, *[person.image] * 5]]
    assert seen[0]
    assert not seen[1]
    assert seen[-1]


def signals(frames: int = 150, seed: int = 0) -> torch.Tensor:
    """Syllables at random, one number a frame."""
    generator = torch.Generator().manual_seed(seed)
    rough = torch.randn(1, 1, frames + 4, generator=generator)
    return torch.nn.functional.avg_pool1d(rough, 5, 1)[0, 0]


@pytest.mark.parametrize("late", [-4, 0, 3])
def test_a_film_shifted_by_some_frames_reports_them(late: int) -> None:
    voice = signals()
    mouth = torch.roll(voice, late)
    curve = by_lag(quick(mouth, 25), quick(voice, 25), 10)
    assert common_lag([curve, curve]) == pytest.approx(late, abs=0.1)
    stranger = by_lag(signals(seed=8), signals(seed=9), 10)
    assert common_lag([curve, stranger]) == pytest.approx(late, abs=0.2)


def test_a_lag_between_two_frames_is_found_between_them() -> None:
    voice = signals()
    between = (voice + torch.roll(voice, 1)) / 2  # half a frame late
    assert peak_lag(by_lag(quick(between, 25), quick(voice, 25), 10)) == pytest.approx(0.5, abs=0.1)
    assert peak_lag(torch.tensor([3.0, 2.0, 1.0])) == -1  # at the border
    assert peak_lag(torch.zeros(5)) == -2


def test_a_film_without_sound_is_held_against_its_truths(
    tmp_path: Path, finder: PortraitFinder
) -> None:
    silent = write_film(tmp_path / "silent.mkv", [np.zeros((32, 32, 3), np.uint8)] * 3, 25)
    speech = media.speech_from_samples(made_up_voice(0.2), sample_rate=16_000)
    with media.Film(tmp_path / "true.mp4", (32, 32), 25.0, speech, resume=False) as film:
        film.write(Clip(frames=torch.zeros(5, 3, 32, 32), start=0, fps=25.0))
    none = NetworkFolder(tmp_path / "none")
    true, given = tmp_path / "true.mp4", tmp_path / "given.wav"

    def voice(item: Item) -> Path:
        return LoadedFilm(item, finder, none).voice

    assert voice(Item(name="a", generated=(silent,), truth=true)) == true
    assert voice(Item(name="a", generated=(true,))) == true
    assert voice(Item(name="a", generated=(silent,))) == silent
    assert voice(Item(name="a", generated=(true,), voice=given)) == given


def test_a_swapped_voice_does_not_fit() -> None:
    voice = signals()
    assert near_correlation(voice + 0.3 * signals(seed=3), voice) > 0.8
    assert near_correlation(signals(seed=4), voice) < 0.4
    assert abs(shifted_correlation(voice, voice)) < 0.3


def test_slow_changes_are_taken_out() -> None:
    slow = (torch.arange(200) / 200 * 6.28).sin()
    assert float(quick(slow, 25)[10:-10].abs().max()) < 0.01
    assert near_correlation(quick(slow + 0.2 * signals(200), 25), quick(signals(200), 25)) > 0.95


def test_too_few_frames_are_refused() -> None:
    with pytest.raises(ValueError, match="too few"):
        by_lag(torch.zeros(20), torch.zeros(20), 10)


def test_lips_meet_at_m_b_p_or_are_caught() -> None:
    gap = torch.full((100,), 0.5)
    gap[20:30] = 0.0
    gap[60:70] = 1.0
    phones = [
        Phone(start_s=0.8, end_s=1.0, name="B"),
        Phone(start_s=2.5, end_s=2.7, name="AA1"[:2]),
    ]
    met = lip_closure(gap, phones, 25)
    assert met is not None
    assert (float(met.shares[0]), met.shut) == (0, 1)
    missed = lip_closure(gap, [Phone(start_s=1.5, end_s=1.6, name="M")], 25)
    assert missed is not None
    assert missed.shut == 0
    assert missed.shares[0] > 0.4
    wide = open_vowel(gap, phones, 25)
    assert wide is not None
    assert float(wide.shares[0]) == 1
    assert lip_closure(gap, [], 25) is None
    assert lip_closure(torch.zeros(50), phones, 25) is None


def test_phones_are_read_in_seconds_and_from_grids_words(tmp_path: Path) -> None:
    (tmp_path / "a.phones").write_text("0.5 0.6 AA1\n\n0.6 0.7 P\n")
    assert [p.name for p in read_phones(tmp_path / "a.phones")] == ["AA", "P"]
    (tmp_path / "a.align").write_text("0 25000 sil\n25000 30000 bin\n30000 31000 at\n")
    (phone,) = read_phones(tmp_path / "a.align")
    assert (phone.start_s, phone.name) == (1.0, "B")
    (tmp_path / "b.phones").write_text("0.5 oops\n")
    with pytest.raises(UserError, match="line 1"):
        read_phones(tmp_path / "b.phones")


# ------------------------------------------------------------------------------------------------ eyes and head


def test_blinks_are_short_dips_and_nothing_else() -> None:
    contrast = torch.full((200,), 0.08) + 0.001 * signals(200)
    contrast[50:54] = 0.068
    contrast[120:123] = 0.066
    contrast[150:180] = 0.066  # a look down lasts longer
    assert [int(b) for b in blinks(contrast, 25)] == pytest.approx([52, 121], abs=2)
    assert len(blinks(contrast[:4], 25)) == 0


def test_a_head_that_moves_has_its_speed_and_a_mouth_none() -> None:
    generator = torch.Generator().manual_seed(0)
    face = torch.rand(68, 2, generator=generator) * 4
    face[36:42] = torch.tensor([10.0, 50.0]) + face[36:42]
    face[42:48] = torch.tensor([60.0, 50.0]) + face[42:48]
    across = float((face[42:48].mean(0) - face[36:42].mean(0)).norm())
    track = face[None].repeat(30, 1, 1)
    track[..., 0] += torch.arange(30.0)[:, None] * 0.5
    assert float(head_speed(track, 25).mean()) == pytest.approx(0.5 * 25 / across, rel=1e-4)
    talking = face[None].repeat(30, 1, 1)
    talking[:, 48:, 1] += 5 * torch.rand(30, 20, generator=generator)
    assert float(head_speed(talking, 25).max()) == 0


# ------------------------------------------------------------------------------------------------- what must last


def test_the_similarity_is_found_again() -> None:
    source = torch.tensor([[0.0, 0.0], [4.0, 0.0], [1.0, 3.0]])
    turn = torch.tensor([[0.6, -0.8], [0.8, 0.6]]) * 1.7
    target = source @ turn.T + torch.tensor([5.0, -2.0])
    expected = torch.cat([turn, torch.tensor([[5.0], [-2.0]])], 1)
    torch.testing.assert_close(similarity(source, target), expected, atol=1e-5, rtol=1e-5)


def test_an_aligned_face_has_its_eyes_on_the_template(person: Portrait) -> None:
    marked = person.image.clone()
    eye = five_points(person.face_points)[0]
    x, y = int(eye[0]), int(eye[1])
    marked[:, y - 3 : y + 4, x - 3 : x + 4] = torch.tensor([1.0, -1.0, -1.0])[:, None, None]
    face = aligned_face(marked, person.face_points)
    redness = face[0] - face[1]
    weight = (redness > 1.5).float()
    rows, columns = torch.meshgrid(torch.arange(112.0), torch.arange(112.0), indexing="ij")
    # the eyes' places on the template, within the fit of five points
    assert float((columns * weight).sum() / weight.sum()) == pytest.approx(38.3, abs=4)
    assert float((rows * weight).sum() / weight.sum()) == pytest.approx(51.7, abs=4)


def test_a_film_that_blurs_and_tans_is_caught(person: Portrait) -> None:
    side = native_side(person.face_points)
    generator = torch.Generator().manual_seed(0)
    sharp, looks = [], []
    for index in range(40):
        image = person.image + 0.02 * torch.randn(person.image.shape, generator=generator)
        if index >= 20:
            pixels = cv2.GaussianBlur(image.permute(1, 2, 0).numpy(), (0, 0), 1.2)
            image = torch.from_numpy(pixels).permute(2, 0, 1) * torch.tensor([1.0, 1.0, 0.8])[:, None, None]  # fmt: skip
        sharp.append(sharpness(image, person.face_points, side))
        looks.append(face_look(image.clamp(-1, 1), person.face_points))
    blurred = sharpness_change(torch.tensor(sharp), 25)
    assert blurred is not None
    assert blurred.value < 0.5
    steady = sharpness_change(torch.tensor(sharp[:20]), 25)
    assert steady is not None
    assert steady.value == pytest.approx(1, abs=0.1)
    tanned = identity_change(torch.stack(looks), 25)
    same = identity_change(torch.stack(looks[:20]), 25)
    assert tanned is not None
    assert same is not None
    assert tanned.value > 5 * same.value
    assert same.value < 0.5
    assert sharpness_change(torch.tensor(sharp[:5]), 25) is None


# ------------------------------------------------------------------------------------------------- steadiness


def test_flicker_is_what_motion_does_not_explain(person: Portrait) -> None:
    def measured(frames: list[torch.Tensor]) -> float:
        flicker = Flicker()
        for frame in frames:
            flicker.see(frame)
        return float(np.mean(flicker.values))

    frozen = [person.image] * 4
    moving = [torch.roll(person.image, 2 * i, 2) for i in range(4)]
    flickering = [(person.image + 0.08 * (-1) ** i).clamp(-1, 1) for i in range(4)]
    assert measured(frozen) == pytest.approx(0, abs=0.01)
    # 0.16 of the range of 2 is 20 levels
    assert measured(flickering) == pytest.approx(20.4, rel=0.15)
    assert measured(moving) < 0.35 * measured(flickering)


def test_a_background_that_moves_is_told_from_one_that_stands(
    finder: PortraitFinder, person: Portrait
) -> None:
    canvas = torch.nn.functional.pad(person.image, (100, 100, 100, 0), value=0.2)
    points = person.face_points + 100.0

    def deviation(noise: float) -> float:
        background = Background(finder)
        generator = torch.Generator().manual_seed(0)
        for index in range(6):
            frame = canvas.clone()
            x0, y0 = (int(v) for v in points.amin(0))
            x1, y1 = (int(v) for v in points.amax(0))
            frame[:, y0:y1, x0:x1] += 0.3 * (index % 2)  # the person changes, that is no matter
            frame += noise * torch.randn(frame.shape, generator=generator)
            background.see(frame, points, look_for_person=index == 0)
        result = background.result()
        assert result is not None
        assert 0.05 < result.share < 0.9
        return result.deviation

    assert deviation(0.0) < 1
    assert deviation(0.2) > 5


# ------------------------------------------------------------------------------------------------------ hands


def drawn_hands(portrait: Portrait, *, torn: bool) -> Portrait:
    """A blue picture with a skin-coloured face and two hands with fingers; the left may be cut through."""
    pixels = np.full((320, 256, 3), (40, 60, 160), np.uint8)
    skin = (224, 172, 140)
    cv2.ellipse(pixels, (128, 70), (36, 44), 0, 0, 360, skin, -1)
    points = torch.zeros(2, 21, 3)
    for side, x in enumerate((200, 56)):
        cv2.circle(pixels, (x, 240), 20, skin, -1)
        for finger in range(5):
            tip = (x - 24 + 12 * finger, 190)
            cv2.line(pixels, (x - 12 + 6 * finger, 236), tip, skin, 7)
            rows = torch.linspace(0.25, 1, 4)
            for joint, share in enumerate(rows.tolist()):
                points[side, 1 + 4 * finger + joint, :2] = torch.tensor(
                    [x + (tip[0] - x) * share, 240 + (190 - 240) * share]
                )
        points[side, 0, :2] = torch.tensor([float(x), 250.0])
    points[..., 2] = 1
    if torn:
        pixels[224:231, 150:256] = (40, 60, 160)
    image = torch.from_numpy(pixels).permute(2, 0, 1).float() / 127.5 - 1
    return replace(
        portrait, image=image, face_box=torch.tensor([92.0, 26.0, 164.0, 114.0]),
        hand_points=points, hands_present=(True, True), limb_masks=None,
    )  # fmt: skip


def test_a_planted_tear_is_found_in_the_hand_that_has_it(drawn_portrait: Portrait) -> None:
    whole = loose_skin(drawn_hands(drawn_portrait, torn=False))
    left, right = loose_skin(drawn_hands(drawn_portrait, torn=True))
    assert whole == pytest.approx((0, 0), abs=0.01)
    assert left is not None
    assert left > 0.2
    assert right == pytest.approx(0, abs=0.01)
    unseen = replace(drawn_hands(drawn_portrait, torn=True), hands_present=(False, True))
    assert loose_skin(unseen)[0] is None


def test_tearing_counts_beyond_the_films_beginning() -> None:
    loose = np.array([[0.1, 0], [0.1, 0], [0.4, np.nan], [0.4, 0]], np.float32)
    found = tearing(loose, 2)
    assert found is not None
    assert found[0] == pytest.approx(0.15)  # 0.3 in one hand, 0 in the other
    assert tearing(np.full((5, 2), np.nan, np.float32), 2) is None
