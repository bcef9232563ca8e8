"""The studio's performances: mouths shut when they must, hands that rest, strokes on stresses, voices in time."""

from __future__ import annotations

import math
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from emo2.hands.model import hand_points
from emo2.hands.standin import stand_in
from emo2.signals import FACE_ACTIONS, Motion
from emo2.studio import corpus, voices
from emo2.studio.alignment import agreement, align
from emo2.studio.gesture import REACH_M, SHOULDER_M
from emo2.studio.hand_shapes import REST_POSES
from emo2.studio.mouth import mouth_actions
from emo2.studio.performance import STYLES, perform, performance_set
from emo2.studio.phones import (
    PHONES,
    Phone,
    from_arpabet,
    from_ipa,
    join,
    number,
    per_frame,
)
from emo2.studio.prosody import measure
from emo2.studio.real_voices import pieces, takes

needs_flite = pytest.mark.skipif(shutil.which("flite") is None, reason="flite is not installed")
RATE = 16_000


def timed(names: str, each_s: float = 0.1) -> tuple[Phone, ...]:
    """Phones of equal length, one after the other."""
    return tuple(
        Phone(name=name, start_s=i * each_s, end_s=(i + 1) * each_s)
        for i, name in enumerate(names.split())
    )


def track(face: np.ndarray, name: str) -> np.ndarray:
    return face[:, FACE_ACTIONS.index(name)]


def gap(face: np.ndarray) -> np.ndarray:
    """How far the lips are apart, in units of jawOpen."""
    return track(face, "jawOpen") - track(face, "mouthClose") + track(face, "mouthLowerDownLeft")


def spoken(phones: tuple[Phone, ...]) -> np.ndarray:
    """A crude voice: a buzz where vowels are, weaker elsewhere, nothing in silence."""
    rng = np.random.default_rng(0)
    count = round(phones[-1].end_s * RATE)
    samples = np.zeros(count, np.float32)
    for phone in phones:
        part = slice(round(phone.start_s * RATE), round(phone.end_s * RATE))
        if phone.name == "sil":
            continue
        time = np.arange(count)[part] / RATE
        level = 0.5 if phone.name in ("aa", "ae", "ow", "iy", "eh") else 0.08
        buzz = np.sign(np.sin(2 * np.pi * 120 * time)) + 0.1 * rng.standard_normal(len(time))
        samples[part] = level * buzz
    return samples


def take(seconds: float, seed: int) -> tuple[np.ndarray, tuple[Phone, ...]]:
    """Made-up speech with phrases and pauses."""
    rng = np.random.default_rng(seed)
    phones: list[Phone] = []
    at = 0.0
    while at < seconds:
        names = ["sil"] + [str(n) for n in rng.choice(PHONES[2:], 24)]
        for name in names:
            length = 0.5 if name == "sil" else float(rng.uniform(0.05, 0.14))
            phones.append(Phone(name=name, start_s=at, end_s=at + length))
            at += length
    return spoken(tuple(phones)), tuple(phones)


@pytest.fixture(scope="module")
def motions() -> list[Motion]:
    """One motion of every style and several rest poses."""
    made = []
    for seed, rest in enumerate(REST_POSES):
        samples, phones = take(9.0, seed)
        style = list(STYLES)[seed % len(STYLES)]
        made.append(perform(samples, RATE, phones, style=style, seed=seed, rest=rest))
    return made


@pytest.mark.parametrize("each_s", [0.03, 0.05, 0.08, 0.2])
def test_lips_meet_at_every_bilabial_at_any_speed(each_s: float) -> None:
    phones = timed("aa m aa b ow p iy ae b uw m eh p aa f aa b sil", each_s)
    frames = math.ceil(phones[-1].end_s * 25)
    face = mouth_actions(phones, np.ones(frames), fps=25)
    for phone in phones:
        if phone.name in "mbp":
            nearest = round(phone.middle_s * 25 - 0.5)
            assert gap(face)[nearest] < 1e-3, (phone, gap(face)[nearest])
            assert track(face, "mouthFunnel")[nearest] < 1e-3


def test_open_vowels_open_the_mouth_and_silence_shuts_it() -> None:
    phones = timed("sil sil b aa b ae sil sil sil", 0.2)
    face = mouth_actions(phones, np.ones(45), fps=25)
    assert gap(face)[int(0.7 * 25)] > 0.3
    assert gap(face)[int(1.1 * 25)] > 0.3
    assert gap(face)[:7].max() < 0.03
    assert gap(face)[-10:].max() < 0.03


def test_a_loud_voice_opens_the_mouth_wider() -> None:
    phones = timed("b aa d aa b", 0.15)
    soft, loud = (mouth_actions(phones, np.full(19, v), fps=25) for v in (0.1, 1.0))
    assert track(loud, "jawOpen").max() > 1.5 * track(soft, "jawOpen").max()


def test_teeth_meet_the_lip_at_labiodentals() -> None:
    face = mouth_actions(timed("aa f aa v aa", 0.12), np.ones(15), fps=25)
    for middle_s in (0.18, 0.42):
        frame = round(middle_s * 25 - 0.5)
        assert track(face, "mouthRollLower")[frame] > 0.5
        assert track(face, "jawOpen")[frame] < 0.1


def test_rounded_sounds_round_the_lips_early() -> None:
    face = mouth_actions(timed("s s uw s s iy s", 0.12), np.ones(21), fps=25)
    pucker = track(face, "mouthPucker")
    assert pucker[7] > 0.5
    assert pucker[4] > 0.15  # before the vowel begins
    assert pucker[16] < 0.1
    assert track(face, "mouthStretchLeft")[16] > 0.08


def test_long_takes_articulate_as_short_ones() -> None:
    phones = timed("sil b aa t iy m uw sil " * 60, 0.1)
    face = mouth_actions(phones, np.ones(1200), fps=25)
    np.testing.assert_allclose(face[400:420], face[800:820], atol=1e-4)


def test_same_seed_same_motion() -> None:
    samples, phones = take(4.0, 1)
    first, again, other = (perform(samples, RATE, phones, seed=s) for s in (3, 3, 4))
    for name in ("hands", "face", "head", "body", "gaze"):
        assert torch.equal(getattr(first, name), getattr(again, name))
        assert not torch.equal(getattr(first, name), getattr(other, name))


@pytest.mark.parametrize("fps", [25.0, 30.0])
def test_a_motion_has_a_frame_for_every_moment_of_the_voice(fps: float) -> None:
    samples, phones = take(3.0, 2)
    motion = perform(samples, RATE, phones, seed=0, fps=fps)
    assert len(motion) == math.ceil(len(samples) / RATE * fps - 1e-6)
    assert motion.fps == fps


def test_rotations_are_unit_quaternions_without_jumps(motions: list[Motion]) -> None:
    for motion in motions:
        turns = motion.hands[..., :64].unflatten(-1, (16, 4))
        torch.testing.assert_close(turns.norm(dim=-1), torch.ones(turns.shape[:-1]))
        assert (turns[1:] - turns[:-1]).abs().max() < 0.6
        assert ((turns[1:] * turns[:-1]).sum(-1) > 0.5).all()


def test_wrists_stay_within_reach_and_outside_the_body(motions: list[Motion]) -> None:
    for motion in motions:
        for side, sign in enumerate((1, -1)):
            wrist = motion.hands[:, side, 64:]
            reach = (wrist - torch.tensor((sign * SHOULDER_M, 0.0, 0.0))).norm(dim=-1)
            assert reach.max() <= REACH_M + 1e-4
            before_body = (wrist[:, 0].abs() < 0.1) & (wrist[:, 1] < 0.45)
            assert (wrist[before_body, 2] > 0.1).all()


def test_wrists_move_at_human_speed(motions: list[Motion]) -> None:
    for motion in motions:
        speed = (motion.hands[1:, :, 64:] - motion.hands[:-1, :, 64:]).norm(dim=-1) * motion.fps
        assert speed.max() < 3.0


def test_hands_rest_and_the_mouth_is_shut_in_silence() -> None:
    samples = np.zeros(5 * RATE, np.float32)
    phones = (Phone(name="sil", start_s=0, end_s=5.0),)
    motion = perform(samples, RATE, phones, style="lively", seed=5)
    speed = (motion.hands[1:, :, 64:] - motion.hands[:-1, :, 64:]).norm(dim=-1) * motion.fps
    assert speed.max() < 0.04
    assert gap(motion.face.numpy()).max() < 1e-3
    assert motion.head[:, :3].std(0).max() < math.radians(2.5)


def test_strokes_end_on_stressed_syllables() -> None:
    before, after = [], []
    for seed in range(5):
        samples, phones = take(10.0, seed)
        motion = perform(samples, RATE, phones, style="lively", seed=seed)
        speed = (motion.hands[1:, :, 64:] - motion.hands[:-1, :, 64:]).norm(dim=-1).amax(-1)
        for stress in measure(samples, RATE, phones, fps=25).stresses:
            frame = int(stress.time_s * 25)
            if stress.strength > 0.6 and 5 < frame < len(speed) - 5:
                before.append(float(speed[frame - 4 : frame].mean()))
                after.append(float(speed[frame + 1 : frame + 5].mean()))
    assert np.mean(before) > 1.3 * np.mean(after)


def test_more_speed_moves_the_hands_faster() -> None:
    def quickness(speed: float) -> float:
        values = []
        for seed in range(4):
            samples, phones = take(8.0, seed)
            wrist = perform(samples, RATE, phones, seed=seed, speed=speed).hands[..., 64:]
            values.append(float((wrist[1:] - wrist[:-1]).norm(dim=-1).quantile(0.9)))
        return float(np.mean(values))

    assert quickness(1.6) > 1.15 * quickness(0.6)


def test_blinks_come_at_a_natural_rate_and_close_the_eyes() -> None:
    samples, phones = take(60.0, 3)
    face = perform(samples, RATE, phones, seed=1).face.numpy()
    shut = track(face, "eyeBlinkLeft") > 0.5
    starts = int((shut[1:] & ~shut[:-1]).sum())
    assert 8 <= starts <= 25
    assert track(face, "eyeBlinkLeft").max() > 0.93
    assert 0.02 < shut.mean() < 0.12


def test_eyes_look_where_the_gaze_says(motions: list[Motion]) -> None:
    for motion in motions:
        face, gaze = motion.face.numpy(), motion.gaze.numpy()
        right = gaze[:, 0] > 0.03
        assert (track(face, "eyeLookOutLeft")[right] > 0.05).all()
        assert (track(face, "eyeLookInLeft")[right] == 0).all()


def test_the_head_turns_a_little(motions: list[Motion]) -> None:
    for motion in motions:
        degrees = torch.rad2deg(motion.head[:, :3]).abs()
        assert 0.5 < degrees.max() < 25


@pytest.mark.parametrize("rest", list(REST_POSES))
def test_hands_point_where_the_rest_pose_says(rest: str) -> None:
    phones = (Phone(name="sil", start_s=0, end_s=1.0),)
    motion = perform(np.zeros(RATE, np.float32), RATE, phones, rest=rest)
    points = hand_points(stand_in(), motion.hands, motion.betas)[0]
    wanted = np.array(REST_POSES[rest].fingers)
    for side, sign in enumerate((1, -1)):
        knuckle = (points[side, 9] - points[side, 0]).numpy() * np.array((sign, 1, 1))
        cosine = knuckle @ wanted / np.linalg.norm(knuckle) / np.linalg.norm(wanted)
        assert cosine > 0.85
        # Fingers curl towards the palm, never backwards.
        palm = np.array(REST_POSES[rest].palm)
        palm = palm - knuckle * (palm @ knuckle) / (knuckle @ knuckle)
        tip = (points[side, 12] - points[side, 9]).numpy() * np.array((sign, 1, 1))
        assert tip @ palm > 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [({"style": "furious"}, "no style 'furious'"), ({"rest": "flying"}, "no rest pose 'flying'")],
)
def test_unknown_names_are_named(arguments: dict[str, str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        perform(np.zeros(RATE, np.float32), RATE, timed("sil"), **arguments)


def test_foreign_alphabets_map_to_the_phone_set() -> None:
    assert [from_arpabet(n) for n in ("AH0", "pau", "SIL", "axr")] == ["ah", "sil", "sil", "er"]
    assert from_ipa("tʃ") == ("ch",)
    assert from_ipa("ç") == ("kh",)
    assert from_ipa("ɪə") == ("ih", "ax")
    assert from_ipa("yː") == ("ue",)
    assert from_ipa("(en)") == ()
    with pytest.raises(ValueError, match="no ARPAbet phone"):
        from_arpabet("xyzzy")


def test_frames_know_their_phone_and_gaps_are_silence() -> None:
    phones = join(
        (
            Phone(name="aa", start_s=0.1, end_s=0.2),
            Phone(name="b", start_s=0.3, end_s=0.4),
        )
    )
    assert [p.name for p in phones] == ["sil", "aa", "sil", "b"]
    assert per_frame(phones, 5, 10.0).tolist() == [0, number("aa"), 0, number("b"), 0]


def test_texts_are_reproducible_and_of_many_languages() -> None:
    written = [corpus.write(i) for i in range(60)]
    assert written == [corpus.write(i) for i in range(60)]
    assert len({language for _, language in written}) > 6
    assert len({text for text, _ in written}) > 50


def test_recordings_are_cut_in_their_pauses() -> None:
    samples = np.ones(20 * RATE, np.float32)
    samples[9 * RATE : round(9.4 * RATE)] = 0
    first, second = pieces(samples, RATE)
    assert 9.0 < len(first) / RATE < 9.4
    assert len(first) + len(second) == len(samples)


def test_a_folder_without_recordings_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="holds no recordings"):
        takes(tmp_path)


@needs_flite
def test_the_set_speaks_in_time_and_is_kept(tmp_path: Path) -> None:
    made = list(performance_set(0, 6, cache=tmp_path))
    kept = list(performance_set(0, 6, cache=tmp_path))
    assert len(list(tmp_path.iterdir())) == 6
    for one, two in zip(made, kept, strict=True):
        assert len(one.phones) == len(one.motion)
        assert one.style == two.style
        np.testing.assert_allclose(one.samples, two.samples, atol=1e-4)
        level = np.abs(one.samples)
        frame = np.arange(len(level)) * 25 // RATE
        silent = (one.phones == 0).numpy()[np.minimum(frame, len(one.phones) - 1)]
        assert level[silent].mean() < 0.5 * level[~silent].mean()


@needs_flite
def test_alignment_finds_the_phones_of_a_known_voice() -> None:
    speaker = voices.Speaker(engine="flite", voice="slt")
    text = "My mother put five warm loaves of bread on the table."
    samples, rate, truth = voices.synthesise(text, 0, speaker=speaker)
    found = align(samples, rate, text)
    assert found.words.startswith("my mother put")
    assert agreement(found.phones, truth, len(samples) / rate) > 0.7
    heard = [p.middle_s for p in found.phones if p.name in "mbp"]
    for phone in truth:
        if phone.name in "mbp":
            assert min(abs(phone.middle_s - at) for at in heard) < 0.08


def test_a_missing_voice_is_named() -> None:
    speaker = voices.Speaker(engine="espeak", voice="xx-nowhere")
    try:
        voices.synthesise("hello", 0, speaker=speaker)
    except FileNotFoundError as error:
        assert "espeak" in str(error)  # noqa: PT017 (either error names what is missing)
    except ValueError as error:
        assert "xx-nowhere" in str(error)  # noqa: PT017
    else:
        pytest.fail("an unknown voice was accepted")
