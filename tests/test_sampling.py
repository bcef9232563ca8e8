"""Schedules, trajectories and frame windows against the public families' own (tests/parity)."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from emo2.convert.difference import Difference
from emo2.convert.golden_sampling import compare_schedules, compare_windows, windows_of
from emo2.diffusion import NoiseProcess, final, sample
from emo2.video.families import FAMILIES
from emo2.video.windows import Blend, Windows, share

PARITY = Path(__file__).parent / "parity"
SCHEDULES = json.loads((PARITY / "scheduler.json").read_text())
WINDOWS = json.loads((PARITY / "windows.json").read_text())
GOLDEN = load_file(PARITY / "scheduler.safetensors")


def zero_snr(schedule: str) -> NoiseProcess:
    return NoiseProcess(schedule=schedule, target="velocity", zero_snr=True)


@pytest.mark.parametrize("compared", [compare_schedules, compare_windows])
def test_schedules_walks_times_windows_and_blends_are_the_golden_ones(
    compared: Callable[[Path], Iterator[Difference]],
) -> None:
    """With 6 steps the previous time is t - 1000 // 6, which is not the next time: a quirk that belongs to it."""
    found = list(compared(PARITY))
    assert len(found) > 50
    assert [difference.line() for difference in found if not difference.passes] == []


def test_the_last_step_is_pure_noise() -> None:
    for schedule in ("linear", "scaled_linear"):
        assert float(zero_snr(schedule).kept()[-1]) == 0.0
        assert float(GOLDEN[f"{schedule}/alphas_cumprod"][-1]) == 0.0


@pytest.mark.parametrize("name", list(SCHEDULES["projects"]))
def test_the_families_sample_as_their_scripts_do(name: str) -> None:
    said, ours = SCHEDULES["projects"][name], FAMILIES[name.replace("_", "-")]
    assert ours.process == zero_snr(said["beta_schedule"])
    assert (ours.steps, ours.guidance, ours.seed) == (said["steps"], said["guidance"], said["seed"])
    assert ours.fps == said.get("fps", ours.fps)
    if isinstance(said.get("window"), list):
        assert ours.windows is not None
        assert [ours.windows.size, ours.windows.overlap] == said["window"]
        assert ours.windows.shift == said["shift_per_step"]
    if "accelerated" in said:
        quick = FAMILIES[name.replace("_", "-") + "-acc"]
        assert {"steps": quick.steps, "guidance": quick.guidance} == said["accelerated"]


def test_emo_takes_forty_steps_in_clips_of_twelve() -> None:
    emo = FAMILIES["full"]
    assert (emo.steps, emo.clip_frames, emo.motion_frames) == (40, 12, 4)


def test_the_first_noise_is_drawn_on_the_cpu_and_clamped() -> None:
    draw = [
        FAMILIES[name].first_noise((2, 500), torch.Generator().manual_seed(3))
        for name in ("hallo", "echomimic-v2")
    ]
    assert float(draw[0].abs().max()) > 1.5
    torch.testing.assert_close(draw[0].clamp(-1.5, 1.5), draw[1])


def test_a_process_that_ends_in_noise_cannot_ask_for_the_noise() -> None:
    with pytest.raises(ValueError, match="use target x0 or velocity"):
        NoiseProcess(schedule="linear", target="noise", zero_snr=True)


@pytest.mark.parametrize("solver", ["lcm", "tcd"])
def test_few_step_samplers_end_at_the_signal_and_repeat_by_seed(solver: str) -> None:
    process = zero_snr("scaled_linear")
    clean = torch.linspace(-1, 1, 12).view(1, 12)

    def denoise(x: Tensor, time: Tensor) -> Tensor:
        # The velocity of a distribution that is one point.
        signal, spread = process.parts(x, time)
        noise = (x - signal * clean) / spread.clamp(min=1e-6)
        return signal * noise - spread * clean

    def run(seed: int) -> list[Tensor]:
        start = torch.randn(1, 12, generator=torch.Generator().manual_seed(0))
        draws = torch.Generator().manual_seed(seed)
        return list(
            sample(denoise, start, process, steps=4, scheduler=solver, generator=draws)  # type: ignore[arg-type]
        )

    first, again, other = run(1), run(1), run(2)
    # TCD ends at time 0, where noise of 0.03 is left.
    torch.testing.assert_close(first[-1], clean, atol=0.15, rtol=0)
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not torch.equal(first[0], other[0])
    with pytest.raises(ValueError, match="hand in a generator"):
        final(sample(denoise, clean, process, steps=4, scheduler=solver))  # type: ignore[arg-type]


# ------------------------------------------------------------------------------------------ windows


@pytest.mark.parametrize("name", [name for name in WINDOWS if name != "rule"])
def test_the_families_windows_have_the_published_numbers(name: str) -> None:
    told = WINDOWS[name]
    assert told["lists"]
    windows = windows_of(name, {})
    assert windows is not None
    assert windows_of(name, told) == windows


def test_a_frame_twice_in_a_window_counts_once_and_its_later_place_wins() -> None:
    blend = Blend(4)
    blend.add([2, 3, 2, 1, 0], torch.arange(5.0).view(1, 5))
    assert blend.counts.tolist() == [1, 1, 1, 1]
    assert blend.mean().tolist() == [[4.0, 3.0, 2.0, 1.0]]


def test_a_frame_that_no_window_has_seen_is_named() -> None:
    blend = Blend(5)
    blend.add([0, 1, 3], torch.zeros(1, 3))
    with pytest.raises(ValueError, match="frame 2"):
        blend.mean()


@pytest.mark.parametrize("frames", [1, 11, 12, 13, 20, 41, 100])
@pytest.mark.parametrize("shift", [0, 3, 5])
def test_clean_windows_cover_every_frame_and_never_leave_the_film(frames: int, shift: int) -> None:
    windows = Windows(size=12, overlap=3, shift=shift)
    layouts = [windows.at(frames, step) for step in range(6)]
    for layout in layouts:
        assert {frame for window in layout for frame in window} == set(range(frames))
        assert all(w == list(range(w[0], w[0] + min(12, frames))) for w in layout)
        assert all(b[0] <= a[-1] + 1 - 3 for a, b in itertools.pairwise(layout))
    if shift and frames > 24:
        assert layouts[0] != layouts[1]  # the seams move


def test_windows_are_dealt_in_runs_of_almost_equal_length() -> None:
    layout = Windows(size=12, overlap=3).at(100)
    for devices in (1, 2, 3, 7, 20):
        dealt = share(layout, devices)
        assert len(dealt) == devices
        assert [w for run in dealt for w in run] == layout
        assert max(map(len, dealt)) - min(map(len, dealt)) <= 1


def test_windows_as_wide_as_their_overlap_are_refused() -> None:
    with pytest.raises(ValueError, match="give 0 to 11"):
        Windows(size=12, overlap=12)
