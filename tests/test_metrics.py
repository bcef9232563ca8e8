"""The measures against known values of public code, against closed forms, and against being fooled."""

from __future__ import annotations

import math

import cv2
import numpy as np
import pytest
import torch

from emo2.metrics import (
    beat_alignment,
    diversity,
    end_point_error,
    jerk,
    lip_sync,
    mouth_opening,
    psnr,
    rest_fraction,
    ssim,
    voice_envelope,
)  # fmt: skip
from emo2.metrics.flow import end_point_share
from emo2.metrics.frechet import frechet
from emo2.metrics.motion import acceleration, chance_alignment, motion_beats, onsets, speed


@pytest.fixture(scope="module")
def golden() -> dict[str, torch.Tensor]:
    """Inputs for which values of the reference programs are known, drawn in their order."""
    rng = np.random.default_rng(0)
    drawn = {"A": np.cumsum(rng.standard_normal((300, 55, 3)), 0) * 0.01}
    drawn["B"] = np.cumsum(rng.standard_normal((300, 55, 3)), 0) * 0.01
    drawn["FA"] = rng.standard_normal((500, 32))
    drawn["FB"] = rng.standard_normal((500, 32)) * 1.2 + 0.1
    rng.random(300)
    drawn["S50"] = rng.standard_normal((50, 88, 42))
    drawn["V1"] = rng.random((3, 64, 64))
    drawn["V2"] = np.clip(drawn["V1"] + 0.05 * rng.standard_normal((3, 64, 64)), 0, 1)
    return {name: torch.from_numpy(values) for name, values in drawn.items()}


def test_values_of_public_programs_are_met(golden: dict[str, torch.Tensor]) -> None:
    assert diversity(golden["S50"]) == pytest.approx(1.1304865, abs=5e-8)
    assert jerk(golden["A"], 30) == pytest.approx(1050.9341, abs=5e-5)
    assert acceleration(golden["A"], 30) == pytest.approx(20.2730654, abs=5e-8)
    assert frechet(golden["FA"], golden["FB"]) == pytest.approx(3.1359434, abs=5e-8)
    assert psnr(golden["V1"], golden["V2"]) == pytest.approx(26.3393359, abs=5e-8)
    assert ssim(golden["V1"], golden["V2"]) == pytest.approx(0.9855783, abs=5e-8)


def test_a_peak_of_255_on_values_up_to_1_adds_48_decibels(golden: dict[str, torch.Tensor]) -> None:
    lifted = psnr(golden["V1"], golden["V2"], peak=255)  # how we read EMO2's 65 dB
    assert lifted == pytest.approx(74.47, abs=5e-3)
    assert lifted - psnr(golden["V1"], golden["V2"]) == pytest.approx(48.13, abs=5e-3)


def test_end_point_error_is_the_mean_distance() -> None:
    true = torch.zeros(1, 2, 4, 4)
    flow = torch.zeros(1, 2, 4, 4)
    flow[:, 0], flow[:, 1] = 3, 4
    assert end_point_error(flow, true) == pytest.approx(5)
    weight = torch.zeros(1, 4, 4)
    weight[0, 0, 0] = 1
    true[0, :, 0, 0] = torch.tensor([3.0, 4.0])
    assert end_point_error(flow, true, weight) == pytest.approx(0, abs=1e-6)


def test_no_motion_has_a_share_of_one_and_half_of_it_a_half() -> None:
    true = torch.randn(2, 2, 8, 8, generator=torch.Generator().manual_seed(0))
    assert end_point_share(torch.zeros_like(true), true) == pytest.approx(1)
    assert end_point_share(true / 2, true) == pytest.approx(0.5)


def test_the_range_of_values_does_not_change_the_psnr() -> None:
    image = torch.rand(3, 16, 16, generator=torch.Generator().manual_seed(0))
    other = (image + 0.1).clamp(0, 1)
    assert psnr(2 * image - 1, 2 * other - 1, peak=2) == pytest.approx(psnr(image, other), abs=1e-4)
    assert psnr(image, image) == 100


def test_a_picture_too_small_for_ssim_is_named() -> None:
    with pytest.raises(ValueError, match="window of 11"):
        ssim(torch.zeros(3, 8, 8), torch.zeros(3, 8, 8))


def strokes(times_s: list[float], frames: int, fps: float) -> torch.Tensor:
    """One joint that stands still for a moment at each time and moves in between."""
    time = torch.arange(frames) / fps
    slow = torch.stack([1 - 0.9 * torch.exp(-(((time - t) / 0.08) ** 2)) for t in times_s]).prod(0)
    path = torch.zeros(frames, 1, 3)
    path[:, 0, 0] = (slow.cumsum(0)) / fps
    return path


def test_strokes_on_the_onsets_align_and_shifted_voices_less() -> None:
    fps, times = 25.0, [1.0, 2.3, 4.1, 5.2, 7.0, 8.8]
    points = strokes(times, 250, fps)
    result = beat_alignment(points, torch.tensor(times), fps, sigma_s=0.1)
    assert result.matched > 0.9
    assert result.matched > result.shuffled + 0.3
    assert result.beats_per_s == pytest.approx(0.6, abs=0.15)
    assert [round(float(b) / fps, 1) for b in motion_beats(points)[0]] == times


def test_still_hands_have_no_beats_and_align_with_nothing() -> None:
    result = beat_alignment(torch.zeros(100, 2, 3), torch.tensor([1.0, 2.0]), 25.0)
    assert (result.matched, result.beats_per_s, result.chance) == (0, 0, 0)


def test_chance_alignment_agrees_with_random_beats() -> None:
    generator = torch.Generator().manual_seed(0)
    rate, sigma, duration = 2.0, 0.3, 4000.0
    beats = torch.rand(int(rate * duration), generator=generator).sort().values * duration
    times = torch.rand(4000, generator=generator) * duration
    at = torch.searchsorted(beats, times).clamp(1, len(beats) - 1)
    distance = torch.minimum((times - beats[at - 1]).abs(), (times - beats[at]).abs())
    simulated = float(torch.exp(-(distance**2) / (2 * sigma**2)).mean())
    assert chance_alignment(rate, sigma) == pytest.approx(simulated, abs=0.02)
    assert chance_alignment(1e6) == 1


def test_onsets_are_where_the_voice_sets_in() -> None:
    energy = torch.zeros(100)
    energy[20:30] = 0.6
    energy[50:70] = 0.5
    assert onsets(energy, 25.0).tolist() == pytest.approx([0.8, 2.0])


def test_equal_samples_have_no_diversity_and_pairs_are_counted_once() -> None:
    assert diversity(torch.ones(5, 3)) == pytest.approx(0, abs=1e-12)
    assert diversity(torch.tensor([[0.0], [1.0], [3.0]])) == pytest.approx((1 + 3 + 2) / 3)


def test_a_cubic_path_has_its_own_jerk() -> None:
    time = torch.arange(50, dtype=torch.float64) / 25
    points = torch.stack([time**3, 0 * time, 0 * time], -1)[:, None]
    assert jerk(points, 25) == pytest.approx(6, rel=1e-6)


def test_rest_is_counted_where_asked() -> None:
    points = torch.zeros(100, 1, 3)
    points[50:, 0, 0] = torch.arange(50) * 0.02
    first = torch.arange(100) < 50
    assert rest_fraction(points, 25.0, first) == 1
    assert rest_fraction(points, 25.0, ~first) < 0.1
    assert speed(points, 25.0)[80] == pytest.approx(0.5)


def face_points() -> torch.Tensor:
    """iBUG-68, as far as the measure needs them, for the drawn face."""
    points = torch.full((68, 2), 128.0)
    jaw = torch.linspace(math.pi, 0, 17)
    points[:17] = torch.stack([128 + 60 * jaw.cos(), 120 + 80 * jaw.sin()], -1)
    points[27:31] = torch.tensor([[128.0, 95 + 12 * i] for i in range(4)])
    points[31:36] = torch.tensor([[116.0 + 6 * i, 137] for i in range(5)])
    points[36:48, 1], points[17:27, 1] = 95, 80
    points[17:27, 0] = torch.linspace(80, 176, 10)
    points[48], points[54], points[51], points[57] = (
        torch.tensor(p) for p in ([103.0, 160.0], [153.0, 160.0], [128.0, 155.0], [128.0, 166.0])
    )
    points[55:60] = torch.tensor(
        [[140.0, 164], [134.0, 166], [128.0, 166], [122.0, 166], [116.0, 164]]
    )
    return points


def face(opening: float, nod: float) -> torch.Tensor:
    """A textured face whose lower half goes down by `opening` pixels, all of it by `nod`."""
    rng = np.random.default_rng(3)
    texture = (
        cv2.GaussianBlur(rng.normal(0, 60, (256, 256)).astype(np.float32), (0, 0), 2.5) * 4 + 128
    )
    ys, xs = np.mgrid[:256, :256].astype(np.float32)
    below = np.clip((ys - nod - 158) / 10, 0, 1)
    moved = cv2.remap(
        texture, xs, ys - nod - opening * below, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT
    )
    return torch.from_numpy(moved / 127.5 - 1).clamp(-1, 1).expand(3, -1, -1).contiguous()


def test_the_mouth_opening_is_measured_and_a_nod_is_not() -> None:
    photo = face(0, 0)
    wanted = [0.0, 3.0, 6.0, 0.0, 4.0]
    opened = mouth_opening(
        [face(o, n) for o, n in zip(wanted, [0, 0, 0, 5, 5], strict=True)], photo, face_points()
    )
    assert opened.tolist() == pytest.approx([w / 50 for w in wanted], abs=0.025)


def test_a_face_at_the_pictures_edge_is_measured_too() -> None:
    photo, points = face(0, 0), face_points()
    cut = int(points[:, 1].min()) - 2
    moved = points - torch.tensor([0.0, float(cut)])
    opened = mouth_opening([face(o, 0)[:, cut:] for o in (0.0, 6.0)], photo[:, cut:], moved)
    assert opened.tolist() == pytest.approx([0.0, 6 / 50], abs=0.04)


def test_lips_that_follow_the_voice_beat_the_shuffled_voice() -> None:
    generator = torch.Generator().manual_seed(0)
    voice = torch.nn.functional.avg_pool1d(torch.randn(1, 400, generator=generator), 5, 1, 2)[0]
    mouth = torch.roll(voice, 1) + 0.3 * torch.randn(400, generator=generator)
    result = lip_sync(mouth, voice)
    assert result.lag == 1
    assert result.correlation > 0.7
    assert result.correlation > result.shuffled_high > result.shuffled
    assert abs(result.shuffled) < 0.2


def test_a_still_mouth_follows_nothing() -> None:
    assert lip_sync(torch.zeros(100), torch.rand(100)).correlation == 0


def test_too_few_frames_to_correlate_are_named() -> None:
    with pytest.raises(ValueError, match="too few"):
        lip_sync(torch.zeros(10), torch.zeros(10))


def test_the_envelope_is_loud_where_the_voice_is() -> None:
    samples = torch.zeros(16_000)
    samples[8000:] = 0.5 * torch.sin(torch.arange(8000) * 0.3)
    envelope = voice_envelope(samples, 16_000, 25.0, 25)
    assert envelope[:11].max() == 0
    assert envelope[14:].min() > 0.8
