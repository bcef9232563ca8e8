"""Stage 1: rows, losses, sampling window after window."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from emo2 import pipeline
from emo2.config import COMPACT, Config, MotionConfig, SpeechConfig
from emo2.media import read_voice, speech_from_samples
from emo2.motion import MOUTH_ACTIONS, MotionBatch, MotionStage, SpeechMotion, pack, unpack
from emo2.motion.channels import FACE, HAND_ROW, HANDS, one_hemisphere, row_width
from emo2.motion.finish import Finish, activity, full_blinks, hushed, rest_gate, smooth
from emo2.motion.joining import eased
from emo2.motion.lips import BILABIALS, CONTEXT, closure, meet
from emo2.motion.rest import Rest
from emo2.motion.terms import unrest
from emo2.nn import SpeedEmbedding, speed_code
from emo2.reel import Reel, cut, join
from emo2.signals import FACE_ACTIONS, Motion, SpeechFeatures
from emo2.speech import samples_for
from emo2.studio import phones as studio_phones

WIDTH = 32
TINY = replace(
    COMPACT,
    speech=SpeechConfig(width=WIDTH, depth=1, mels=20),
    motion=MotionConfig(width=32, depth=2, heads=2, window=24, prefix=4, steps=3),
)
HANDS_ONLY = replace(TINY, motion=replace(TINY.motion, hints=False))


def some_motion(frames: int, seed: int = 0) -> Motion:
    generator = torch.Generator().manual_seed(seed)
    turns = torch.tensor([1.0, 0, 0, 0]) + 0.2 * torch.randn(frames, 2, 16, 4, generator=generator)
    turns = torch.nn.functional.normalize(turns, dim=-1)
    wrists = 0.3 * torch.randn(frames, 2, 3, generator=generator)
    return Motion(
        hands=torch.cat((turns.flatten(-2), wrists), dim=-1),
        visibility=torch.ones(frames, 2),
        confidence=torch.ones(frames, 2),
        betas=torch.zeros(10),
        fps=25.0,
        face=torch.rand(frames, 52, generator=generator),
        head=0.1 * torch.randn(frames, 6, generator=generator),
        body=0.1 * torch.rand(frames, 6, generator=generator),
        gaze=0.1 * torch.randn(frames, 2, generator=generator),
    )


def some_batch(config: Config, count: int = 2) -> MotionBatch:
    frames = config.motion.window
    rows = [pack(some_motion(frames, i), hints=config.motion.hints) for i in range(count)]
    generator = torch.Generator().manual_seed(5)
    return MotionBatch(
        sound=0.1 * torch.randn(count, samples_for(frames, config.speech), generator=generator),
        motion=torch.stack(rows),
        visibility=torch.ones(count, frames, 2),
        phones=torch.randint(0, 40, (count, frames), generator=generator),
        style=torch.tensor([0, -1])[:count],
        speed=torch.tensor([1.0, torch.nan])[:count],
    )


def some_features(frames: int) -> SpeechFeatures:
    generator = torch.Generator().manual_seed(3)
    values = torch.randn(frames, 1, WIDTH, generator=generator)
    return SpeechFeatures(
        values=values, energy=torch.full((frames,), 0.8), voiced=torch.ones(frames), fps=25.0
    )


def stirred(config: Config = TINY) -> MotionStage:
    """A stage whose zero-initialised layers are not zero any more."""
    torch.manual_seed(0)
    stage = MotionStage(config).eval().requires_grad_(False)
    generator = torch.Generator().manual_seed(1)
    for parameter in stage.parameters():
        parameter += 0.05 * torch.randn(parameter.shape, generator=generator)
    stage.measure(pack(some_motion(400), hints=config.motion.hints))
    return stage


@pytest.fixture(scope="module")
def stage() -> MotionStage:
    return stirred()


def test_a_motion_survives_its_rows() -> None:
    motion = some_motion(7)
    motion = replace(motion, body=motion.body.abs())
    again = unpack(pack(motion), motion.fps)
    for name in ("hands", "face", "head", "body", "gaze"):
        torch.testing.assert_close(getattr(again, name), getattr(motion, name))


def test_rows_without_hints_are_the_134_hand_numbers() -> None:
    assert row_width(hints=False) == HAND_ROW == 134
    motion = some_motion(3)
    bare = unpack(pack(motion, hints=False), 25.0)
    assert bare.face is None
    torch.testing.assert_close(bare.hands, motion.hands)


def test_quaternions_come_to_one_hemisphere_and_stay_the_same_rotation() -> None:
    rows = pack(some_motion(5))
    flipped = rows.clone()
    flipped[2, 8:12] *= -1.0
    torch.testing.assert_close(one_hemisphere(flipped, rows[0]), one_hemisphere(rows, rows[0]))
    torch.testing.assert_close(one_hemisphere(rows, rows[0])[:, HAND_ROW:], rows[:, HAND_ROW:])


def test_standardised_rows_have_unit_spread_and_come_back(stage: MotionStage) -> None:
    rows = pack(some_motion(400))
    standard = stage.standard(rows)
    assert float(standard.mean().abs()) < 1e-3
    assert float(standard.std(0).max()) <= 1.001
    torch.testing.assert_close(stage.natural(standard), one_hemisphere(rows, stage.mean))


def test_an_untrained_network_says_nothing() -> None:
    stage = MotionStage(TINY)
    batch = some_batch(TINY)
    speech = torch.randn(2, 24, WIDTH)
    said = stage.net(
        batch.motion, torch.tensor([5, 900]), speech=speech, heard=torch.ones(2, dtype=torch.bool),
        known=torch.zeros(2, 24, dtype=torch.bool), seen=batch.visibility,
        style=batch.style, speed=batch.speed,
    )  # fmt: skip
    assert not said.any()


def test_every_condition_changes_the_prediction(stage: MotionStage) -> None:
    rows = torch.randn(1, 24, 200, generator=torch.Generator().manual_seed(0))
    given = {
        "speech": torch.ones(1, 24, WIDTH),
        "heard": torch.ones(1, dtype=torch.bool),
        "known": torch.zeros(1, 24, dtype=torch.bool),
        "seen": torch.ones(1, 24, 2),
        "style": torch.tensor([0]),
        "speed": torch.tensor([1.0]),
    }
    other = {
        "speech": torch.zeros(1, 24, WIDTH),
        "heard": torch.zeros(1, dtype=torch.bool),
        "known": torch.ones(1, 24, dtype=torch.bool),
        "seen": torch.zeros(1, 24, 2),
        "style": torch.tensor([2]),
        "speed": torch.tensor([torch.nan]),
    }
    plain = stage.net(rows, torch.tensor([500]), **given)
    assert plain.isfinite().all()
    for name, value in other.items():
        changed = stage.net(rows, torch.tensor([500]), **(given | {name: value}))
        assert (changed - plain).abs().max() > 1e-5, name


def test_a_hidden_hand_carries_no_loss() -> None:
    stage = stirred()
    batch = some_batch(TINY)
    hidden = replace(batch, visibility=torch.tensor([1.0, 0.0]).expand(2, 24, 2).clone())
    wrong = hidden.motion.clone()
    wrong[..., 67:134] = pack(some_motion(48, 9)).view(2, 24, -1)[..., 67:134]
    clean, spoiled = (stage.standard(rows) for rows in (hidden.motion, wrong))
    known = torch.zeros(2, 24, dtype=torch.bool)
    predicted, true = torch.zeros_like(clean), torch.ones_like(clean)

    def terms_of(target: Tensor, visibility: Tensor) -> dict[str, Tensor]:
        generator = torch.Generator().manual_seed(0)
        return stage._terms(predicted, target, known, true, visibility, generator)

    first, terms = (terms_of(target, hidden.visibility) for target in (clean, spoiled))
    for name in terms:
        torch.testing.assert_close(terms[name], first[name])
    seen = terms_of(spoiled, torch.ones(2, 24, 2))
    assert abs(float(seen["rows"] - first["rows"])) > 1e-3


def test_the_losses_are_zero_for_the_truth_and_grow_with_the_error() -> None:
    stage = stirred()
    clean = stage.standard(some_batch(TINY).motion)
    known = torch.zeros(2, 24, dtype=torch.bool)
    seen, true = torch.ones(2, 24, 2), torch.ones_like(clean)
    right = stage._terms(clean, clean, known, true, seen, torch.Generator().manual_seed(0))
    wrong = stage._terms(clean + 0.5, clean, known, true, seen, torch.Generator().manual_seed(0))
    assert all(float(term) < 1e-9 for term in right.values())
    assert float(wrong["rows"]) == pytest.approx(0.25, rel=1e-4)
    assert float(wrong["velocity"]) < 1e-6  # a constant offset moves at the right speed
    assert float(wrong["points"]) > 0.0


def test_hands_alone_can_be_trained() -> None:
    stage, batch = stirred(HANDS_ONLY), some_batch(HANDS_ONLY)
    speech = torch.randn(2, HANDS_ONLY.motion.window, WIDTH)
    terms = stage.loss(speech, batch, torch.Generator().manual_seed(0))
    assert terms["loss"].isfinite()
    assert float(terms["lips"]) == 0.0
    assert stage.speech_loss(speech, batch)["loss"].isfinite()


def test_the_same_seed_gives_the_same_motion_and_another_another(stage: MotionStage) -> None:
    features = some_features(60)
    first, again, other = (stage.sample(features, seed=s) for s in (4, 4, 5))
    assert torch.equal(first.hands, again.hands)
    assert torch.equal(first.face, again.face)
    assert (first.hands - other.hands).abs().max() > 1e-3


def test_more_voice_does_not_change_the_windows_before(stage: MotionStage) -> None:
    features = some_features(24 + 20 + 20)
    short = replace(
        features,
        values=features.values[:44],
        energy=features.energy[:44],
        voiced=features.voiced[:44],
    )
    long_hands, short_hands = (stage.sample(f, seed=1).hands for f in (features, short))
    assert len(long_hands) == 64
    # The last three frames of a motion are filtered without the frames after them.
    torch.testing.assert_close(short_hands[:41], long_hands[:41], atol=1e-5, rtol=0)


@pytest.mark.parametrize("frames", [1, 5, 24, 25, 44, 45])
def test_the_motion_is_as_long_as_the_voice(stage: MotionStage, frames: int) -> None:
    motion = stage.sample(some_features(frames), seed=0)
    assert len(motion) == frames
    assert motion.hands.isfinite().all()
    length = motion.hands[..., :64].unflatten(-1, (16, 4)).norm(dim=-1)
    torch.testing.assert_close(length, torch.ones_like(length))
    assert float(motion.face.min()) >= 0.0
    assert float(motion.face.max()) <= 1.0


def test_the_film_starts_from_the_given_pose(stage: MotionStage) -> None:
    pose = some_motion(1, seed=8)
    motion = stage.sample(some_features(50), start=pose, seed=2)
    torch.testing.assert_close(motion.hands[0].abs(), pose.hands[0].abs(), atol=1e-4, rtol=0)
    torch.testing.assert_close(motion.head[0], pose.head[0], atol=1e-4, rtol=0)


def test_an_amplitude_of_zero_keeps_the_pose_but_not_the_mouth(stage: MotionStage) -> None:
    pose = some_motion(1, seed=8)
    still = stage.sample(some_features(50), start=pose, amplitude=0.0, seed=2)
    free = stage.sample(some_features(50), start=pose, seed=2)
    torch.testing.assert_close(
        still.hands, still.hands[:1].expand_as(still.hands), atol=1e-5, rtol=0
    )
    torch.testing.assert_close(still.face, free.face)
    assert (free.hands - free.hands[:1]).abs().max() > 1e-2


def test_hands_alone_can_be_generated() -> None:
    motion = stirred(HANDS_ONLY).sample(some_features(30), seed=0)
    assert motion.hands.shape == (30, 2, 67)
    assert motion.face is None


def test_an_unknown_style_is_named(stage: MotionStage) -> None:
    with pytest.raises(ValueError, match="unknown style 'grand'; give one of neutral"):
        stage.sample(some_features(4), style="grand")


def test_guidance_brings_a_style_further_from_no_style_and_leaves_the_mouth(
    stage: MotionStage,
) -> None:
    features, kind = some_features(24), {"seed": 3, "steps": 1}  # a single window, one step: linear

    def sampled(scale: float, style: str | None) -> torch.Tensor:
        stage.config = replace(stage.config, style_guidance=scale)
        return pack(stage.sample(features, style=style, **kind))

    usual = stage.config
    try:
        none, told, more = sampled(1.0, None), sampled(1.0, "calm"), sampled(3.0, "calm")
    finally:
        stage.config = usual
    wrists = slice(64, 67)
    torch.testing.assert_close(
        more[:, wrists] - none[:, wrists], 3.0 * (told[:, wrists] - none[:, wrists]),
        atol=1e-4, rtol=1e-3,
    )  # fmt: skip
    jaw = FACE.start + FACE_ACTIONS.index("jawOpen")
    assert (told[:, wrists] - none[:, wrists]).abs().max() > 1e-3
    torch.testing.assert_close(more[:, jaw], told[:, jaw])


def test_silence_closes_the_mouth_and_a_short_gap_does_not() -> None:
    energy = torch.full((100,), 0.8)
    energy[40:42] = 0.0  # a stop
    energy[60:90] = 0.02
    face = torch.ones(100, 52)
    gated = rest_gate(face, activity(energy, 25.0, 0.8))
    jaw = FACE_ACTIONS.index("jawOpen")
    assert float(gated[40:42, jaw].min()) == 1.0
    assert float(gated[70:80, jaw].max()) == 0.0
    assert float(gated[:, FACE_ACTIONS.index("eyeBlinkLeft")].min()) == 1.0
    assert float(activity(torch.zeros(20), 25.0, 0.0).max()) == 0.0


def test_tremor_is_filtered_strokes_and_end_frames_stay() -> None:
    frames = torch.arange(50.0)
    stroke = torch.sin(2 * torch.pi * frames / 25.0)  # one a second
    tremor = 0.1 * (-1.0) ** frames
    rows = (stroke + tremor)[:, None].repeat(1, row_width(hints=True))
    calm = smooth(rows)
    torch.testing.assert_close(calm[[0, -1]], rows[[0, -1]])
    assert (calm[5:-5, 0] - stroke[5:-5]).abs().max() < 0.06
    jaw = FACE.start + FACE_ACTIONS.index("jawOpen")
    torch.testing.assert_close(calm[:, jaw], rows[:, jaw])
    assert torch.equal(smooth(rows[:2]), rows[:2])


def test_begun_blinks_become_whole_and_eyes_never_stay_open_too_long() -> None:
    face = torch.zeros(500, 52)
    lids = [FACE_ACTIONS.index("eyeBlinkLeft"), FACE_ACTIONS.index("eyeBlinkRight")]
    face[48:53, lids] = torch.tensor([0.05, 0.15, 0.2, 0.15, 0.05])[:, None]
    face[0, lids] = 0.9
    whole = full_blinks(face, 25.0)
    assert float(whole[50, lids].min()) == 1.0
    assert float(whole[0, lids].max()) <= 0.5
    shut = whole[:, lids[0]] > 0.9
    starts = (shut[1:] & ~shut[:-1]).nonzero()[:, 0]
    assert 3 <= len(starts) <= 7
    assert float((starts[1:] - starts[:-1]).max()) <= 6.2 * 25
    others = [i for i in range(52) if i not in lids]
    assert torch.equal(whole[:, others], face[:, others])


@pytest.mark.parametrize("size", [1, 7, 90, 100])
def test_windows_are_finished_as_the_whole_would_be_to_the_bit(size: int) -> None:
    generator = torch.Generator().manual_seed(5)
    rows = pack(some_motion(400)) + 0.3 * torch.randn(
        400, row_width(hints=True), generator=generator
    )
    lids = [FACE.start + FACE_ACTIONS.index(f"eyeBlink{side}") for side in ("Left", "Right")]
    rows[100:300, lids] = 0.01  # eyes that stay open too long, across windows
    energy = (torch.rand(400, generator=generator) - 0.3).clamp(0.0, 1.0)
    energy[150:220] = 0.0
    features = replace(some_features(400), loud=0.7)

    def finished(size: int) -> torch.Tensor:
        finish = Finish(features, rows[0], 0.7)
        parts = [
            finish.add(rows[at : at + size], energy[at : at + size], last=at + size >= 400)
            for at in range(0, 400, size)
        ]
        assert size > 300 or len(parts[-1]) < 240  # what waits does not grow
        return torch.cat(parts)

    assert torch.equal(finished(size), finished(400))


def test_windows_come_when_they_are_asked_for(stage: MotionStage) -> None:
    features, heard = some_features(240), []

    def pieces() -> Iterator[SpeechFeatures]:
        for at in range(0, 240, 12):
            heard.append(at)
            yield cut(features, at, at + 12)

    windows = stage.windows(Reel(pieces(), 240), seed=1)
    first = next(windows)
    assert heard[-1] < 84
    torch.testing.assert_close(first.hands, stage.sample(features, seed=1).hands[: len(first)])
    assert len(first) + sum(len(motion) for motion in windows) == 240


def test_a_dozen_windows_join_without_a_seam() -> None:
    config, trained = pipeline.load_stage_1("compact")
    demo = read_voice(Path(pipeline.__file__).parent / "assets" / "demo" / "voice.flac")
    samples = torch.cat(list(demo.voice.blocks(demo.sample_rate)))
    once = trained.speech.encode(speech_from_samples(samples, sample_rate=16_000), 25.0)
    window, prefix = config.motion.window, config.motion.prefix
    frames = 12 * (window - prefix) + prefix
    voice = cut(join([once] * (1 + frames // len(once))), 0, frames)
    motion = trained.motion.sample(voice, seed=1, steps=4)
    assert len(motion) == frames
    borders = torch.arange(window, frames - 2, window - prefix)
    assert len(borders) == 11
    for track in (
        motion.hands[..., 64:].flatten(1),
        motion.hands[..., :64].flatten(1),
        motion.head,
    ):
        assert track is not None
        step = track.diff(dim=0).norm(dim=-1)
        jerk = track.diff(n=3, dim=0).norm(dim=-1)
        near = torch.stack([borders - 3, borders - 2, borders - 1])  # those that span a border
        assert float(step[borders - 1].mean() / step.mean()) < 1.5
        assert float(step[borders - 1].max() / step.quantile(0.99)) < 1.5
        assert float(jerk[near].mean() / jerk.mean()) < 2.0


def test_mouth_actions_are_the_lower_face() -> None:
    assert {"jawOpen", "mouthClose", "mouthPucker"} <= set(MOUTH_ACTIONS)
    assert not {"eyeBlinkLeft", "browInnerUp"} & set(MOUTH_ACTIONS)


def test_speed_buckets_are_emos_code() -> None:
    code = speed_code(torch.tensor([0.5]), 9)[0]
    centres = torch.linspace(0.0, 2.0, 9)
    torch.testing.assert_close(code, torch.tanh(3.0 * (0.5 - centres) / 0.25))
    withheld = SpeedEmbedding(9, 8)(torch.tensor([0.5, 0.5]), torch.tensor([True, False]))
    assert withheld[0].any()
    assert not withheld[1].any()


def test_stage_one_learns_one_clip() -> None:
    torch.manual_seed(0)
    model = SpeechMotion(TINY)
    batch = some_batch(TINY)
    smooth = torch.sin(torch.arange(24)[:, None] / 4.0 + torch.arange(200)) * 0.2
    batch = replace(batch, motion=batch.motion[:, :1] + smooth * (torch.arange(200) >= FACE.start))
    model.motion.measure(batch.motion.flatten(0, 1))
    optimiser = torch.optim.AdamW(model.parameters(), lr=3e-3)
    generator = torch.Generator().manual_seed(0)
    losses: list[Tensor] = []
    for _ in range(80):
        terms = model.loss(batch, generator)
        optimiser.zero_grad()
        terms["loss"].backward()
        optimiser.step()
        losses.append(terms["loss"].detach())
    assert float(torch.stack(losses[-10:]).mean()) < 0.5 * float(torch.stack(losses[:5]).mean())
    assert HANDS.stop == HAND_ROW


def test_only_tremor_of_seen_hands_in_silence_counts_as_unrest() -> None:
    generator = torch.Generator().manual_seed(0)
    error = torch.randn(1, 10, row_width(hints=True), generator=generator)
    seen = torch.ones(1, 10, 2)
    silent = torch.zeros(1, 10, dtype=torch.bool)
    assert unrest(error, silent, seen) == 0
    silent[:, :5] = True
    assert unrest(error, silent, seen) > 0.5
    assert unrest(error, silent, torch.zeros(1, 10, 2)) == 0
    assert unrest(error[:, :1].expand_as(error), silent, seen) == 0


def test_hands_rest_in_silence_and_set_off_again_without_a_jerk() -> None:
    generator = torch.Generator().manual_seed(0)
    rows = 0.01 * torch.randn(200, row_width(hints=True), generator=generator)
    rows[100:] += 0.3  # planned: a move in the middle of the silence
    share = torch.ones(200)
    share[60:140] = 0.0
    calm = Rest().add(rows, share)
    assert torch.equal(calm[:60], rows[:60])
    assert torch.equal(calm[:, HAND_ROW:], rows[:, HAND_ROW:])
    step = calm[:, HANDS].diff(dim=0).abs()
    assert step[75:138].max() < 0.012
    assert step.max() < 0.1  # the plan's own step is 0.3
    assert (calm[-30:] - rows[-30:]).abs().max() < 0.02


def test_a_pause_is_silent_under_the_noise_of_a_room() -> None:
    head = torch.nn.Linear(1, 48)
    torch.nn.init.zeros_(head.weight)
    torch.nn.init.zeros_(head.bias)
    head.weight.data[studio_phones.PHONES.index("sil"), 0] = 9.0  # speech 1 is silence
    energy = torch.full((60,), 0.5)  # 18 dB under the loud passages
    speech = torch.zeros(60, 1)
    speech[20:45] = 1.0
    assert activity(energy, 25.0, 0.8).min() == 1
    heard = hushed(energy, head, speech)
    assert torch.equal(heard[:20], energy[:20])
    assert torch.equal(heard[45:], energy[45:])
    share = activity(heard, 25.0, 0.8)
    assert share[:20].min() == share[45:].min() == 1
    assert share[28:37].max() == 0
    assert activity(hushed(energy, head, torch.zeros(60, 1)), 25.0, 0.8).min() == 1


def test_rest_does_not_depend_on_the_windows() -> None:
    generator = torch.Generator().manual_seed(1)
    rows = torch.randn(90, row_width(hints=True), generator=generator)
    share = (torch.rand(90, generator=generator) - 0.3).clamp(0, 1)
    whole, pieces = Rest().add(rows, share), Rest()
    parts = [pieces.add(rows[i : i + 30], share[i : i + 30]) for i in range(0, 90, 30)]
    assert torch.equal(torch.cat(parts), whole)


def hearing(*heard: float, halfway: Sequence[float] = ()) -> tuple[torch.nn.Linear, SpeechFeatures]:
    """A phone head, and speech in which it hears an m with these probabilities (`halfway`: half a frame later)."""
    head = torch.nn.Linear(1, 48)
    torch.nn.init.zeros_(head.weight)
    torch.nn.init.zeros_(head.bias)
    head.weight.data[BILABIALS[1], 0] = 1.0
    at, later = (
        (45.0 * share / (1.0 - share) - 2.0).clamp(min=1e-6).log()[:, None, None]
        for share in (torch.tensor(heard), torch.tensor(halfway))
    )
    none = torch.zeros(len(at))
    return head, SpeechFeatures(
        values=at, halfway=later if halfway else None, energy=none, voiced=none, fps=25.0
    )


def test_lips_meet_where_a_bilabial_is_heard_and_only_there() -> None:
    assert [studio_phones.PHONES[i] for i in BILABIALS] == ["b", "m", "p"]
    rows = torch.zeros(7, row_width(hints=True))
    jaw, close, lower = (FACE.start + FACE_ACTIONS.index(n) for n in (
        "jawOpen", "mouthClose", "mouthLowerDownLeft"))  # fmt: skip
    rows[:, jaw], rows[:, close], rows[:, lower] = 0.1, 0.04, 0.05
    met = meet(rows, closure(*hearing(*7 * [0.05], halfway=(0.05, 0.05, 0.05, 0.9, *3 * [0.05]))))
    assert met[3, jaw] == met[3, close] == rows[3, jaw]
    assert met[3, lower] == 0
    assert torch.equal(met[0], rows[0])
    assert torch.equal(met[6], rows[6])


def test_a_sound_between_two_frames_closes_the_lips_half_a_frame_before_it_is_heard() -> None:
    quiet = 9 * [0.02]
    between = closure(*hearing(*quiet, halfway=(*4 * [0.02], 0.9, *4 * [0.02])))
    assert between.argmax() == 4
    assert between[4] == 1
    assert 0.5 < between[5] < between[3] < 1
    assert between[0] == between[1] == between[8] == 0
    at = closure(*hearing(*4 * [0.02], 0.9, *4 * [0.02], halfway=quiet))
    assert torch.equal(at[3:5] > 0.9, torch.tensor([True, True]))
    assert closure(*hearing(*quiet, halfway=(*4 * [0.02], 0.1, *4 * [0.02]))).max() < 0.1


def test_a_closure_stands_between_the_half_frames_that_hear_it_alike() -> None:
    one = closure(*hearing(*9 * [0.02], halfway=(*4 * [0.02], 0.6, *4 * [0.02])))
    two = closure(*hearing(*5 * [0.02], 0.5, *3 * [0.02], halfway=(*4 * [0.02], 0.6, *4 * [0.02])))
    assert two[5] > one[5]
    assert two[3] < one[3]


def test_a_long_m_stays_closed_however_even_it_sounds() -> None:
    sound = [0.02] * 4 + [0.99 - 0.01 * i for i in range(8)] + [0.02] * 4
    share = closure(*hearing(*sound, halfway=sound))
    assert share[4:11].min() > 0.9
    assert share[[0, 1, 14, 15]].max() == 0


def test_lips_that_the_network_closes_are_not_closed_a_second_time_beside_it() -> None:
    jaw = FACE.start + FACE_ACTIONS.index("jawOpen")
    close = FACE.start + FACE_ACTIONS.index("mouthClose")
    rows = torch.zeros(7, row_width(hints=True))
    rows[:, jaw] = torch.tensor([0.4, 0.4, 0.2, 0.0, 0.2, 0.4, 0.4])
    share = torch.tensor([0.0, 0.0, 0.4, 1.0, 0.4, 0.0, 0.0])
    met = meet(rows, share)
    assert torch.equal(met, rows)
    open_lips = meet(torch.where(rows > 0, 0.4, rows), share)
    assert torch.allclose(
        (open_lips[:, jaw] - open_lips[:, close])[[1, 2, 4]], torch.tensor([0.4, 0.24, 0.24])
    )


def test_a_closure_depends_on_no_frame_further_than_its_context() -> None:
    generator = torch.Generator().manual_seed(0)
    head, speech = hearing(*torch.rand(2400, generator=generator).clamp(0.05, 0.9).tolist())
    whole = closure(head, speech)
    for first in range(0, 2400 - CONTEXT, 4):
        begin, stop = max(first - CONTEXT, 0), min(first + 4 + CONTEXT, 2400)
        part = closure(head, cut(speech, begin, stop))[first - begin :][:4]
        torch.testing.assert_close(part, whole[first : first + 4], atol=1e-6, rtol=0)


def test_a_step_at_a_windows_border_is_spread_over_half_a_second_and_the_face_is_left_alone() -> (
    None
):
    rows = torch.zeros(40, 200)
    rows[10:] = 1.0
    made = eased(rows, 10, 25.0)
    hands = made[:, 0]
    assert float(hands.diff().abs().max()) < 0.15
    assert torch.equal(hands[22:], rows[22:, 0])
    assert torch.equal(made[:, FACE], rows[:, FACE])
    assert torch.equal(made[:10], rows[:10])
    smooth = torch.arange(40.0)[:, None].expand(40, 200) * 0.01
    assert float((eased(smooth, 10, 25.0) - smooth).abs().max()) < 0.006  # a steady move goes on


def test_hands_leave_the_one_frame_of_the_photo_slowly_and_lips_at_once() -> None:
    rows = torch.ones(60, 200)
    rows[0] = 0.0
    made = eased(rows, 1, 25.0)
    hands = made[:, 0]
    assert torch.equal(made[0], rows[0])
    assert float(hands[1:5].max()) < 0.1  # not at once, as the network would have it
    assert float(hands.diff().max()) < 0.12
    assert float(hands.diff().min()) >= 0.0
    assert torch.equal(hands[21:], rows[21:, 0])
    assert torch.equal(made[:, FACE], rows[:, FACE])
