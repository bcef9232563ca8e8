"""Schedules, trajectories and frame windows against the public families' own (tests/parity)."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from emo2.diffusion import NoiseProcess, final, sample
from emo2.video.families import FAMILIES
from emo2.video.windows import Blend, Windows, share

PARITY = Path(__file__).parent / "parity"
SCHEDULES = json.loads((PARITY / "scheduler.json").read_text())
WINDOWS = json.loads((PARITY / "windows.json").read_text())
GOLDEN = load_file(PARITY / "scheduler.safetensors")
LISTED = {
    "echomimic_v2": "echomimic-v2",
    "echomimic_v1_audio": "echomimic-v1",
    "echomimic_v1_pose": "echomimic-v1-pose",
    "animateanyone": "animateanyone",
    "aniportrait": "aniportrait",
    "musepose": "musepose",
    "vexpress": "vexpress",
}


def zero_snr(schedule: str) -> NoiseProcess:
    return NoiseProcess(schedule=schedule, target="velocity", zero_snr=True)


@pytest.mark.parametrize("schedule", ["linear", "scaled_linear"])
def test_rescaled_schedules_are_the_golden_ones(schedule: str) -> None:
    process = zero_snr(schedule)
    torch.testing.assert_close(process.betas(), GOLDEN[f"{schedule}/betas"], atol=1e-6, rtol=0)
    kept = GOLDEN[f"{schedule}/alphas_cumprod"]
    torch.testing.assert_close(process.kept(), kept, atol=1e-6, rtol=0)
    assert float(process.kept()[-1]) == float(kept[-1]) == 0.0


@pytest.mark.parametrize("name", list(SCHEDULES["trajectories"]))
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_every_step_of_ddim_is_the_golden_one(name: str, dtype: torch.dtype) -> None:
    """With 6 steps the previous time is t - 1000 // 6, which is not the next time: a quirk that belongs to it."""
    schedule, steps = name.split("/n")
    times = []

    def denoise(x: Tensor, time: Tensor) -> Tensor:
        times.append(int(time[0]))
        return 0.3 * x + 0.01 * time.view(-1, 1, 1, 1, 1) / 1000

    walk = sample(denoise, GOLDEN["x_T"].to(dtype), zero_snr(schedule), steps=int(steps))
    for i, x in enumerate(walk):
        torch.testing.assert_close(x, GOLDEN[f"{name}/step{i}"].to(dtype), atol=1e-6, rtol=0)
    assert times == SCHEDULES["trajectories"][name]["timesteps"]


@pytest.mark.parametrize("steps", ["4", "20", "25", "30", "40", "50"])
def test_times_are_trailing(steps: str) -> None:
    solver = zero_snr("linear").scheduler("ddim")
    solver.set_timesteps(int(steps))
    assert solver.timesteps.tolist() == SCHEDULES["timesteps_trailing"][steps]


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


@pytest.mark.parametrize("name", list(LISTED))
def test_windows_are_the_golden_lists(name: str) -> None:
    windows = FAMILIES[LISTED[name]].windows
    assert windows is not None
    for frames, lists in WINDOWS[name]["lists"].items():
        by_step = lists if isinstance(lists, dict) else {"0": lists}
        for step, wanted in by_step.items():
            assert windows.at(int(frames), int(step)) == wanted, (frames, step)


def test_the_blend_is_the_golden_mean() -> None:
    """Position p of window w says (w + 1) + 0.1 p."""
    windows = FAMILIES["echomimic-v2"].windows
    assert windows is not None
    for frames, by_step in WINDOWS["echomimic_v2"]["blended_example"].items():
        for step, wanted in by_step.items():
            blend = Blend(int(frames), axis=2)
            for w, window in enumerate(windows.at(int(frames), int(step))):
                said = w + 1 + 0.1 * torch.arange(len(window), dtype=torch.float64)
                blend.add(window, said.view(1, 1, -1, 1).expand(1, 4, -1, 2))
            assert blend.counts.tolist() == wanted["count"]
            value = torch.tensor(wanted["value"], dtype=torch.float64).view(1, 1, -1, 1)
            torch.testing.assert_close(blend.mean(), value.expand(1, 4, -1, 2), atol=1e-12, rtol=0)


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
