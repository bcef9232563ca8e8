"""Measures of motion: the numbers of public programs, and what each must do when a motion is changed in a known way."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from emo2.errors import UserError
from emo2.hands import save, shape_hand
from emo2.metrics import closeness, frechet, motion, spread
from emo2.metrics.beats import (
    EMAGE_JOINTS,
    VARIANTS,
    align,
    alignment_score,
    kinetic_beats,
)
from emo2.metrics.figures import Figure, Metric
from emo2.metrics.inputs import Inputs, Item
from emo2.metrics.measuring import conclude
from emo2.metrics.motion_clips import RATE, TRUTH, Clip, Track, read_track
from emo2.metrics.motion_encoder import (
    FRAMES,
    WEIGHTS,
    codes_of,
    encoder,
    hand_rows,
    save_encoder,
    train_encoder,
    windows_of,
)
from emo2.metrics.motion_report import METRICS, evaluate_motion, measure_motion
from emo2.metrics.motion_sets import SET_METRICS, hellinger
from emo2.metrics.onsets import detect_onsets
from emo2.signals import Motion

BY_NAME = {m.name: m for m in METRICS}


@pytest.fixture(scope="module")
def golden() -> dict[str, torch.Tensor]:
    """Inputs for which values of the reference programs are known, drawn in their order."""
    rng = np.random.default_rng(0)
    drawn = {"A": np.cumsum(rng.standard_normal((300, 55, 3)), 0) * 0.01}
    drawn["B"] = np.cumsum(rng.standard_normal((300, 55, 3)), 0) * 0.01
    drawn["FA"] = rng.standard_normal((500, 32))
    drawn["FB"] = rng.standard_normal((500, 32)) * 1.2 + 0.1
    drawn["semantic"] = rng.random(300)
    drawn["S50"] = rng.standard_normal((50, 88, 42))
    return {name: torch.from_numpy(values) for name, values in drawn.items()}


CLICK_ONSETS = (
    0.512, 0.544, 1.216, 1.248, 1.92, 1.952, 2.624, 2.656, 3.328, 4.032, 4.736, 5.408, 5.44, 6.112, 6.144,
    6.816, 6.848, 7.52, 7.552, 8.224, 8.256, 8.928, 9.632,
)  # fmt: skip
"""What librosa 0.11 hears in the click track."""
EMAGE_SPEEDS = {
    3: 0.08498275, 6: 0.08740542, 9: 0.08831147, 12: 0.09609298, 13: 0.09201606, 14: 0.09240642, 15: 0.10327152,
    16: 0.10502972, 17: 0.10374814, 18: 0.15709503, 19: 0.16025639, 20: 0.25089076, 21: 0.26960203,
}  # fmt: skip
"""Mean speeds (m/s) by which EMAGE divides, of the joints it looks at."""


def test_spread_has_the_values_of_public_programs(golden: dict[str, torch.Tensor]) -> None:
    a, b, s50 = golden["A"], golden["B"], golden["S50"]
    before = a.clone()
    assert spread.l1div(a) == pytest.approx(9.7701345, abs=5e-8)
    assert torch.equal(a, before)  # the public code overwrites it
    assert motion.diversity(s50) == pytest.approx(1.1304865, abs=5e-8)
    assert spread.sample_variance(torch.stack([a, b])) == pytest.approx(2.1724360, abs=5e-8)
    assert spread.cross_variance(s50) == pytest.approx(0.9836315, abs=5e-8)
    assert spread.time_variance(s50) == pytest.approx(0.9926587, abs=5e-8)


def test_closeness_has_the_values_of_public_programs(golden: dict[str, torch.Tensor]) -> None:
    a, b, s50 = golden["A"], golden["B"], golden["S50"]
    moved = a + 0.03 * b.sign()
    assert closeness.srgr(moved, a, golden["semantic"]) == pytest.approx(2.8282833, abs=5e-8)
    assert closeness.pck(a, b, 0.1) == pytest.approx(0.1039394, abs=5e-8)
    assert closeness.channel_pck(s50[0], s50[1], 0.5) == pytest.approx(0.2830087, abs=5e-8)
    triplets = s50[:2].unflatten(-1, (14, 3))
    assert closeness.pck(triplets[0], triplets[1], 0.5) == pytest.approx(0.0129870, abs=5e-8)


def test_smoothness_and_frechet_have_the_values_of_public_programs(
    golden: dict[str, torch.Tensor],
) -> None:
    assert motion.jerk(golden["A"], 30) == pytest.approx(1050.9341, abs=5e-5)
    assert motion.acceleration(golden["A"], 30) == pytest.approx(20.2730654, abs=5e-8)
    first, second = (frechet.moments([golden[n]]) for n in ("FA", "FB"))
    assert frechet.distance(first, second) == pytest.approx(3.1359434, abs=5e-8)
    # EMAGE's tools always add 1e-6 to both covariances, inside the root alone
    offset = [replace(m, covariance=m.covariance + 1e-6 * torch.eye(32)) for m in (first, second)]
    assert frechet.distance(*offset) - 2 * 32e-6 == pytest.approx(3.1358772, abs=5e-8)


def test_beat_alignment_has_the_values_of_public_programs(golden: dict[str, torch.Tensor]) -> None:
    onsets = torch.tensor(CLICK_ONSETS, dtype=torch.float64)
    joints = list(EMAGE_JOINTS)
    speeds = torch.tensor([EMAGE_SPEEDS[j] for j in joints], dtype=torch.float64) / 30

    def score(points: torch.Tensor, threshold: float, sigma: float) -> float:
        beats = motion.motion_beats(points[:, joints], threshold=threshold, mean_speed=speeds)
        return alignment_score(beats, onsets, 30, sigma)

    a = golden["A"]
    assert score(a, 0.3, 0.3) == pytest.approx(0.8373150, abs=5e-8)
    assert score(a, 0.1, 0.3) == pytest.approx(0.8501279, abs=5e-8)
    assert score(a, 0.1, 0.5) == pytest.approx(0.9375978, abs=5e-8)
    overwritten = (a - a.mean(0)).abs()  # what the public code's mistake feeds to the detector
    assert score(overwritten, 0.3, 0.3) == pytest.approx(0.8256425, abs=5e-8)
    dance = kinetic_beats(a[:, :24])
    assert len(dance) == 11
    music = torch.arange(15, 297, 21, dtype=torch.float64) / 30
    assert alignment_score([dance], music, 30, 0.1) == pytest.approx(0.4591342, abs=5e-8)


def test_clicks_are_heard_where_librosa_hears_them() -> None:
    rate, n = 16_000, np.arange(800)
    track = np.zeros(10 * rate, np.float32)
    for second in np.arange(0.5, 9.9, 0.7):
        at = round(second * rate)
        track[at : at + 800] += 0.8 * np.sin(2 * np.pi * 440 * n / rate) * np.exp(-n / 150)
    assert detect_onsets(track, rate).tolist() == pytest.approx(list(CLICK_ONSETS))
    earlier = detect_onsets(track, rate, backtrack=True)
    assert (earlier[:8] * rate / 512).tolist() == [13, 13, 35, 35, 57, 57, 79, 79]
    assert bool((earlier <= torch.tensor(CLICK_ONSETS, dtype=torch.float64) + 1e-9).all())


# ------------------------------------------------------------------------------ motions that are known


def gesture(
    frames: int,
    seed: int,
    *,
    fps: float = 30.0,
    shift: float = 0.0,
    size: float = 0.05,
    curl: float = 0.5,
) -> Motion:
    """Both hands wandering smoothly before the chest, fingers too."""
    generator = torch.Generator().manual_seed(seed)
    time = torch.arange(frames) / fps
    phases = torch.rand(4, 3, 2, generator=generator) * 2 * math.pi
    speeds = 0.3 + torch.rand(4, 3, 2, generator=generator)
    waves = torch.sin(time[:, None, None, None] * speeds * 2 * math.pi + phases).mean(1)
    hands = []
    for side, name in enumerate(("left", "right")):
        wrist = size * waves[..., side] + torch.tensor([(0.2, -0.2)[side] + shift, 0.2, 0.3])
        bent = curl + 0.4 * waves[:, :1, side].expand(-1, 5)
        ones = torch.ones(frames, 1)
        way = torch.cat((waves[:, :1, side], -0.2 * ones, ones), 1)
        hands.append(
            shape_hand(name, wrist, fingers_to=way,
                       palm_to=ones * torch.tensor([(-1.0, 1.0)[side], 0.0, 0.0]), curl=bent)
        )  # fmt: skip
    seen = torch.ones(frames, 2)
    return Motion(
        hands=torch.stack(hands, 1), visibility=seen, confidence=seen.clone(), betas=torch.zeros(10), fps=fps
    )  # fmt: skip


def clip(*motions: Motion, truth: Motion | None = None) -> Clip:
    true = None if truth is None else Track(truth)
    return Clip(samples=tuple(Track(m) for m in motions), truth=true, voice=None)


SMALL = tuple(m for m in SET_METRICS if not m.name.endswith("_points"))
"""Without the distances in 126 numbers, whose intervals take seconds."""


def sets(
    made: list[Motion], true: list[Motion], metrics: tuple[Metric, ...] = SMALL
) -> dict[str, Figure]:
    """Figures of the distances between two sets."""
    from emo2.metrics.measuring import Measured

    measured = []
    for prefix, motions in (("", made), (TRUTH, true)):
        for i, m in enumerate(motions):
            rows = {s.name: s.rows(clip(m)) for s in metrics if s.rows is not None}
            measured.append(
                Measured(name=f"{prefix}{i}", rows={k: v for k, v in rows.items() if v})
            )
    return {f.name: f for f in conclude(metrics, measured, 0)}


def test_two_halves_of_one_set_are_near_and_a_shift_is_its_square() -> None:
    true = [gesture(150, seed) for seed in range(8)]
    same = sets([gesture(150, seed) for seed in range(8, 16)], true)
    moved = sets([gesture(150, seed, shift=0.1) for seed in range(8, 16)], true)
    # both wrists 10 cm to one side: twice 0.01 m² more; steps do not change
    gained = moved["fd_g"].value - same["fd_g"].value
    means = 2 * 0.1 * 2 * 0.02  # what a difference of the sets' means can add or take
    assert gained == pytest.approx(0.02, abs=means)
    assert moved["fd_k"].value == pytest.approx(same["fd_k"].value, rel=0.05, abs=1e-9)
    assert same["fd_g"].value < 0.2 * moved["fd_g"].value
    assert moved["hellinger"].value == pytest.approx(same["hellinger"].value, abs=1e-3)
    figure = moved["fd_g"]
    assert figure.control is not None
    assert figure.control < 0.2 * figure.value
    assert figure.beside["bias"] > 0
    assert figure.ci is not None
    assert figure.ci[0] <= figure.value


def test_fgd_hears_wrists_by_a_known_answer_and_fingers_too() -> None:
    fgd = (BY_NAME["fgd"],)
    true = [gesture(150, seed) for seed in range(8)]
    same, moved, fists = (
        sets([gesture(150, seed, **change) for seed in range(8, 16)], true, fgd)["fgd"]
        for change in ({}, {"shift": 0.1}, {"curl": 1.1})
    )
    # both wrists 10 cm to one side: by how much windows are then apart, squared
    rows = windows_of(hand_rows(Track(true[0]).points))[:1]
    aside = rows.clone()
    aside[..., [0, 63]] += 0.1
    gained = float(encoder().far_apart(torch.cat((rows, aside)))) ** 2
    assert moved.value - same.value == pytest.approx(gained, rel=0.15)
    assert moved.value > 20 * (moved.control or 0)
    assert fists.value > 3 * same.value
    assert fists.value > 2 * (fists.control or 0)


def test_a_small_sample_is_warned_of_and_its_bias_printed() -> None:
    found = sets([gesture(60, 1)], [gesture(60, 2)], SET_METRICS)
    assert any("small sample" in w for w in found["fd_g_points"].warnings)
    assert found["fd_g_points"].beside["bias"] > 0


def test_faster_hands_have_another_speed_histogram() -> None:
    true = [gesture(200, 3)]
    assert sets([gesture(200, 3)], true)["hellinger"].value == pytest.approx(0, abs=1e-6)
    assert sets([gesture(200, 3, size=0.2)], true)["hellinger"].value > 0.3
    assert hellinger(np.array([1.0, 0, 0]), np.array([0, 0, 5.0])) == 1


def test_known_jitter_raises_the_jerk_by_its_own() -> None:
    still = torch.zeros(4000, 1, 3, dtype=torch.float64)
    noise = torch.randn(4000, 1, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    # a third difference of white noise has the variance 1 + 9 + 9 + 1; a length in three axes averages 1.596 sigma
    expected = 1.5958 * math.sqrt(20) * 0.001 * 30**3
    assert motion.jerk(still + 0.001 * noise, 30) == pytest.approx(expected, rel=0.03)


def test_a_frozen_motion_shows_in_every_measure() -> None:
    true = gesture(120, 4)
    frozen = replace(true, hands=true.hands[:1].expand(120, -1, -1).clone())
    loaded = clip(frozen, frozen, truth=true)
    read = {m.name: m.read(loaded) for m in METRICS if m.read is not None}
    values = {n: r.value for n, r in read.items() if r is not None}
    assert values["div"] == values["var_k"] == values["l1div"] == pytest.approx(0, abs=1e-6)
    assert values["jerk"] < 1e-2
    assert values["rest_fraction"] == 1
    assert values["lvd"] > 0
    own = clip(true, truth=true)
    assert BY_NAME["pck_05"].read is not None
    reading = BY_NAME["pck_05"].read(own)
    assert reading is not None
    assert reading.value == 1
    assert reading.control is not None
    assert reading.control < 1


def test_samples_apart_by_a_known_distance_have_that_diversity() -> None:
    one, other = gesture(60, 5), gesture(60, 5, shift=0.06)
    assert BY_NAME["div"].read is not None
    reading = BY_NAME["div"].read(clip(one, other))
    assert reading is not None
    assert reading.value == pytest.approx(0.02, abs=1e-5)  # x alone differs: a third of 6 cm
    assert BY_NAME["div"].read(clip(one)) is None


@pytest.mark.parametrize("name", list(VARIANTS))
def test_every_variant_prefers_its_own_beats_to_a_shifted_voice(name: str) -> None:
    variant = VARIANTS[name]
    moved = Track(gesture(600, 6)).moving(variant.fps)
    beats = [b for b in variant.beats(moved) if len(b)]
    assert beats
    onsets = beats[0] / variant.fps
    found = align(variant, moved, onsets)
    one_joint = replace(variant, beats=lambda _: [beats[0]])
    perfect = align(one_joint, moved, onsets)
    assert perfect.matched == pytest.approx(1)
    assert perfect.matched > perfect.shuffled
    assert 0 <= found.matched <= 1
    assert found.beats_per_s > 0


@pytest.mark.parametrize(("rate", "sigma"), [(1.0, 0.1), (2.0, 0.3), (3.0, 0.5)])
def test_random_beats_align_as_the_formula_says(rate: float, sigma: float) -> None:
    generator = torch.Generator().manual_seed(1)
    beats = (torch.rand(int(rate * 3000), generator=generator) * 3000).sort().values
    onsets = torch.rand(1500, generator=generator) * 3000
    published = {(1.0, 0.1): 0.22, (2.0, 0.3): 0.70, (3.0, 0.5): 0.92}[rate, sigma]
    assert motion.chance_alignment(rate, sigma) == pytest.approx(published, abs=0.015)
    assert alignment_score([beats], onsets, 1.0, sigma) == pytest.approx(published, abs=0.02)


def test_still_hands_align_with_nothing() -> None:
    true = gesture(120, 4)
    frozen = Track(replace(true, hands=true.hands[:1].expand(120, -1, -1).clone()))
    for variant in VARIANTS.values():
        found = align(variant, frozen.moving(variant.fps), torch.tensor([1.0, 2.0]))
        assert found.matched <= found.chance + 0.2


# ------------------------------------------------------------------------------ the encoder of fgd


def test_the_encoder_is_small_and_keeps_motions_apart() -> None:
    assert WEIGHTS.stat().st_size < 1_000_000
    points = Track(gesture(120, 7)).points
    codes = codes_of(points)
    assert codes.shape == ((120 - FRAMES) // 16 + 1, 32)
    assert float((codes - codes_of(points + 0.1)).abs().max()) > 0.05
    assert len(codes_of(points[: FRAMES - 1])) == 0
    rows = windows_of(hand_rows(points))
    still = rows[:, :1].expand_as(rows)
    net = encoder()
    assert not torch.allclose(net(rows), net(still))


def test_training_the_encoder_twice_gives_the_same_weights(tmp_path: Path) -> None:
    windows = windows_of(hand_rows(Track(gesture(400, 8)).points))
    losses, files = [], []
    for name in ("a", "b"):
        made = list(train_encoder(windows, steps=16, batch=8))
        losses.append([loss for _, loss, _ in made])
        save_encoder(made[-1][2], tmp_path / name)
        files.append((tmp_path / name).read_bytes())
    assert losses[0] == losses[1]
    assert sum(losses[0][-5:]) < 0.98 * sum(losses[0][:5])
    assert files[0] == files[1]


# ------------------------------------------------------------------------------ files and the report


def smplx(path: Path, poses: np.ndarray, rate: int = 30) -> Path:
    np.savez(path, poses=poses, mocap_frame_rate=rate)
    return path


def test_an_smplx_sequence_is_read_with_arms_where_they_hang(tmp_path: Path) -> None:
    poses = np.zeros((40, 165), np.float32)
    track = read_track(smplx(tmp_path / "t.npz", poses))
    wrists = track.points[0, [0, 21]]
    assert wrists[:, 0].tolist() == pytest.approx([0.70, -0.70], abs=0.02)  # arms out, left is +x
    assert track.points[0, 12, 0] > wrists[0, 0]  # the left middle finger points outwards
    assert track.points[0, 33, 0] < wrists[1, 0]
    poses[:, 16 * 3 + 2], poses[:, 17 * 3 + 2] = -math.pi / 2, math.pi / 2  # arms down
    hanging = read_track(smplx(tmp_path / "d.npz", poses)).points[0]
    assert hanging[0, 0] == pytest.approx(0.18, abs=0.03)
    assert hanging[0, 1] > 0.45  # y is down
    assert hanging[12, 1] > hanging[0, 1]
    mirrored = hanging[21:] * torch.tensor([-1.0, 1, 1])
    assert torch.allclose(hanging[:21], mirrored, atol=1e-5)


def test_faulty_motions_are_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"expected SMPL-X's \(frames, 165\)"):
        read_track(smplx(tmp_path / "a.npz", np.zeros((40, 72), np.float32)))
    with pytest.raises(UserError, match="not finite"):
        read_track(smplx(tmp_path / "b.npz", np.full((40, 165), np.nan, np.float32)))
    with pytest.raises(UserError, match="at least 8"):
        read_track(smplx(tmp_path / "c.npz", np.zeros((4, 165), np.float32)))
    (tmp_path / "d.npz").write_bytes(b"nothing")
    with pytest.raises(UserError, match="cannot be read"):
        read_track(tmp_path / "d.npz")
    np.savez(tmp_path / "e.npz", poses=np.zeros((40, 165), np.float32), semantic=np.zeros(3))
    with pytest.raises(UserError, match="one weight for each of 40 frames"):
        read_track(tmp_path / "e.npz")


def test_another_frame_rate_is_told_and_hardly_changes_places(tmp_path: Path) -> None:
    slow, fast = gesture(100, 9, fps=25), gesture(120, 9, fps=30)
    for name, m in (("made", slow), ("true", fast)):
        save(m, tmp_path / f"{name}.npz")
    item = Item(name="x", generated=(tmp_path / "made.npz",), truth=tmp_path / "true.npz")
    measured = measure_motion(item)
    assert any("25 frames a second was brought to 30" in n for n in measured.notes)
    assert measured.readings["pck_05"].value == 1
    assert measured.readings["lvd"].value < 0.2 * (measured.readings["lvd"].control or 0)


def test_a_whole_evaluation_of_motions(tmp_path: Path) -> None:
    items = []
    for i in range(2):
        for k in range(2):
            save(gesture(100, 10 * i + k), tmp_path / f"{i}@{k}.npz")
        save(gesture(100, 50 + i), tmp_path / f"true{i}.npz")
        made = tuple(tmp_path / f"{i}@{k}.npz" for k in range(2))
        items.append(Item(name=str(i), generated=made, truth=tmp_path / f"true{i}.npz"))
    truths = tuple(i.truth for i in items if i.truth is not None)
    inputs = Inputs(items=tuple(items), truths=truths)
    events = list(evaluate_motion(inputs, tmp_path / "report", command="emo2 evaluate motion"))
    assert events[-1].kind == "done"
    found = json.loads((tmp_path / "report" / "report.json").read_text())["metrics"]
    wanted = {
        "div",
        "l1div",
        "pck_05",
        "pck_50",
        "lvd",
        "fd_g",
        "fd_k",
        "fgd",
        "jerk",
        "hellinger",
        "rest_fraction",
    }
    assert wanted <= set(found)
    assert "ba_emage" not in found  # no voice was given
    assert "srgr" not in found  # nor semantic weights
    assert found["div"]["n"] == 2
    assert found["div"]["beside"]["samples"] == 2
    assert RATE == 30
