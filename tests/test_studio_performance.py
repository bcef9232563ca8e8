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
from emo2.motion.emotions import EMOTIONS
from emo2.signals import FACE_ACTIONS, Motion
from emo2.studio import corpus, voice_changes, voices
from emo2.studio.alignment import agreement, align
from emo2.studio.gesture import PHASES
from emo2.studio.hand_shapes import REST_POSES
from emo2.studio.mouth import mouth_actions
from emo2.studio.performance import Direction, perform, perform_with_phases, performance_set
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
from emo2.studio.styles import STYLES
from emo2.studio.wrist_path import REACH_M, SHOULDER_M

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
    """One motion of every style; all rest poses and feelings take part."""
    made = []
    for seed, style in enumerate(STYLES):
        samples, phones = take(9.0, seed)
        direction = Direction(
            style=style,
            rest=list(REST_POSES)[seed % len(REST_POSES)],
            emotion=list(EMOTIONS)[seed % len(EMOTIONS)],
        )
        made.append(perform(samples, RATE, phones, direction=direction, seed=seed))
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
    motion = perform(samples, RATE, phones, direction=Direction(style="lively"), seed=5)
    speed = (motion.hands[1:, :, 64:] - motion.hands[:-1, :, 64:]).norm(dim=-1) * motion.fps
    assert speed.max() < 0.04
    assert gap(motion.face.numpy()).max() < 1e-3
    assert motion.head[:, :3].std(0).max() < math.radians(2.5)


def hand_speed(motion: Motion) -> np.ndarray:
    wrist = motion.hands[..., 64:]
    step = (wrist[1:] - wrist[:-1]).norm(dim=-1).mean(-1) * motion.fps
    return np.concatenate((np.zeros(1), step.numpy()))


@pytest.mark.parametrize("style", ["lively", "emphatic", "storyteller", "sign-like"])
def test_hands_come_to_rest_when_the_voice_pauses(style: str) -> None:
    samples, phones = take(6.0, 4)
    end = phones[-1].end_s
    parts = [Phone(name="sil", start_s=end, end_s=end + 2.0)]
    for phone in phones:
        shift = end + 2.0
        parts.append(
            Phone(name=phone.name, start_s=phone.start_s + shift, end_s=phone.end_s + shift)
        )
    quiet = np.zeros(2 * RATE, np.float32)
    motion = perform(
        np.concatenate((samples, quiet, samples)), RATE, (*phones, *parts),
        direction=Direction(style=style, rest="hanging"), seed=2,
    )  # fmt: skip
    speed = hand_speed(motion)
    pause = slice(round((end + 0.4) * 25), round((end + 2.0) * 25))
    assert speed[pause].mean() < 0.03
    assert speed[: round(end * 25)].max() > 0.3


def test_phases_follow_each_other_as_in_a_gesture_phrase() -> None:
    samples, phones = take(12.0, 1)
    motion, phases = perform_with_phases(
        samples, RATE, phones, direction=Direction(style="storyteller"), seed=4
    )
    speed = hand_speed(motion)
    moving = [PHASES.index(name) for name in ("preparation", "stroke", "retraction")]
    still = [PHASES.index(name) for name in ("rest", "hold")]
    either = phases.numpy()
    assert set(np.unique(either)) >= {0, 1, 2, 3, 4}
    both_still = np.isin(either, still).all(1)
    assert speed[np.isin(either, moving).any(1)].mean() > 3 * speed[both_still].mean()
    for hand in either.T:
        order = hand[np.concatenate(([True], hand[1:] != hand[:-1]))]
        after_preparation = order[1:][order[:-1] == PHASES.index("preparation")]
        assert (after_preparation == PHASES.index("stroke")).all()


def test_styles_differ_in_space_and_speed() -> None:
    def habits(style: str) -> tuple[float, float, float]:
        found = []
        for seed in range(3):
            samples, phones = take(8.0, seed)
            told = Direction(style=style, rest="framing")
            wrist = perform(samples, RATE, phones, direction=told, seed=seed).hands[..., 64:]
            quick = (wrist[1:] - wrist[:-1]).norm(dim=-1).mean() * 25
            found.append((quick, wrist.std(0).norm(dim=-1).mean(), wrist[..., 1].min()))
        return tuple(float(v) for v in np.mean(found, 0))  # type: ignore[return-value]

    space = {style: habits(style) for style in STYLES}
    assert space["lively"][0] > 2 * space["calm"][0] > 2 * space["shy"][0]
    assert space["storyteller"][1] > 1.5 * space["calm"][1]
    assert space["sign-like"][2] < space["emphatic"][2] - 0.05
    assert space["emphatic"][0] > space["presenter"][0]


def test_feelings_show_and_leave_the_lips_free_to_meet() -> None:
    phones = timed("sil b aa m iy p ae b sil", 0.12)
    samples = spoken(phones)
    for emotion in EMOTIONS:
        told = Direction(emotion=emotion, strength=1.0)
        face = perform(samples, RATE, phones, direction=told, seed=1).face.numpy()
        plain = perform(samples, RATE, phones, seed=1).face.numpy()
        shown = np.abs(face - plain).max()
        assert shown > 0.15 if emotion != "neutral" else shown == 0
        for phone in phones:
            if phone.name in "mbp":
                assert gap(face)[round(phone.middle_s * 25 - 0.5)] < 1e-3


def test_laughter_opens_a_smile() -> None:
    samples, phones = take(4.0, 2)
    told = Direction(laughs=((1.0, 2.0),))
    face = perform(samples, RATE, phones, direction=told, seed=1).face.numpy()
    assert track(face, "mouthSmileLeft")[30:45].mean() > 0.4
    assert track(face, "mouthSmileLeft")[-20:].mean() < 0.3


def test_sustained_vowels_stay_open() -> None:
    face = mouth_actions(timed("b aa b", 1.0), np.full(75, 0.8), fps=25)
    opened = gap(face)[29:46]
    assert opened.min() > 0.9 * opened.max() > 0.5


def test_made_up_singing_holds_its_vowels_and_keeps_its_times() -> None:
    phones = timed("sil b aa m iy sil", 0.15)
    rng = np.random.default_rng(1)
    sound, sung = voice_changes.sing(spoken(phones), RATE, phones, rng)
    assert [p.name for p in sung] == [p.name for p in phones]
    assert len(sound) == pytest.approx(sung[-1].end_s * RATE, abs=2)
    loud = [np.abs(sound[round(p.start_s * RATE) : round(p.end_s * RATE)]).mean() for p in sung]
    assert min(loud[2], loud[4]) > 2 * max(loud[0], loud[5])
    vowels = [p.duration_s for p in sung if p.name in ("aa", "iy")]
    assert min(vowels) > 0.2


def test_a_whisper_keeps_the_rhythm_and_loses_the_pitch() -> None:
    phones = timed("sil aa sil aa sil aa sil", 0.2)
    voice = spoken(phones)
    quiet = voice_changes.whisper(voice, RATE, np.random.default_rng(0))
    assert len(quiet) == len(voice)
    assert (
        np.abs(quiet[round(0.25 * RATE) : round(0.35 * RATE)]).mean()
        > 5 * np.abs(quiet[round(0.05 * RATE) : round(0.15 * RATE)]).mean()
    )
    one = quiet[round(0.22 * RATE) :][:2048]
    spectrum = np.fft.irfft(np.abs(np.fft.rfft(one - one.mean(), 8192)) ** 2)
    assert spectrum[60:400].max() < 0.5 * spectrum[0]


def test_strokes_end_on_stressed_syllables() -> None:
    before, after = [], []
    for seed in range(5):
        samples, phones = take(10.0, seed)
        motion = perform(samples, RATE, phones, direction=Direction(style="lively"), seed=seed)
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
            direction = Direction(speed=speed)
            wrist = perform(samples, RATE, phones, direction=direction, seed=seed).hands[..., 64:]
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
    motion = perform(np.zeros(RATE, np.float32), RATE, phones, direction=Direction(rest=rest))
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
    [
        ({"style": "furious"}, "no style 'furious'"),
        ({"rest": "flying"}, "no rest pose 'flying'"),
        ({"emotion": "ennui"}, "no emotion 'ennui'"),
    ],
)
def test_unknown_names_are_named(arguments: dict[str, str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        perform(np.zeros(RATE, np.float32), RATE, timed("sil"), direction=Direction(**arguments))


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
