"""Our network against the golden vectors of seven public projects, in float64 and float32."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from emo2.config import VideoConfig
from emo2.convert.golden import Golden, read
from emo2.convert.parity import Difference, Run, compare, config_of, filled, with_config
from emo2.errors import UserError
from emo2.nn import timestep_embedding
from emo2.video.blocks import sinusoids
from emo2.video.conditions import Reference
from emo2.video.network import LatentLook, VideoNetwork

FOLDER = Path(__file__).parent / "parity"
GELU = math.sqrt(2 / math.pi)
PROJECTS = (
    "hallo",
    "echomimic_v1",
    "echomimic_v2",
    "animateanyone",
    "musepose",
    "aniportrait",
    "vexpress",
)


@functools.cache
def golden(project: str) -> Golden:
    return read(FOLDER, project)


def failures(project: str, dtype: torch.dtype, cases: tuple[str, ...]) -> list[Difference]:
    found = list(compare(golden(project), dtype, cases))
    assert len(found) == sum(len(golden(project).outputs(case)) for case in cases)
    return [difference for difference in found if not difference.passes]


@pytest.mark.parametrize("project", PROJECTS)
def test_every_site_is_exact_in_float64(project: str) -> None:
    """Case b (another time and shape, outputs alone) of three families in float32 only: their float64 runs are the
    longest (24 by 24 cells twice, 40 frames: 7.6 s of CPU) and see no wiring that case a and float32 do not; `--verify`
    runs them."""
    large = ("hallo", "musepose", "aniportrait")
    assert failures(project, torch.float64, ("a",) if project in large else ("a", "b")) == []


@pytest.mark.parametrize("project", PROJECTS)
def test_every_site_is_right_to_rounding_in_float32(project: str) -> None:
    assert failures(project, torch.float32, ("a", "b")) == []


# ------------------------------------------------------------------------- mistakes that must show


@functools.cache
def network(project: str) -> VideoNetwork:
    return filled(golden(project), config_of(golden(project)), torch.float32)


def moved(project: str, change: Callable[[VideoConfig], VideoConfig] | None = None) -> float:
    """How far the guided output of case a lies from the stored one, under a config with another switch."""
    with torch.no_grad():
        given = network(project)
        made = with_config(given, change(given.config)) if change else given
        run = Run(golden(project), "a", made, torch.float32)
        return float((run.output("out") - golden(project).tensors["a/out"]).abs().max())


def switched(part: str, **changes: object) -> Callable[[VideoConfig], VideoConfig]:
    def change(config: VideoConfig) -> VideoConfig:
        inner = replace(getattr(config, part), **changes)  # type: ignore[arg-type]
        return replace(config, **{part: inner})

    return change


@pytest.mark.parametrize(
    ("project", "change", "wanted"),
    [
        ("echomimic_v2", switched("denoiser", audio_weight=1.0), 1.38),
        ("vexpress", switched("denoiser", audio_weight=1.0), 1.41),
        ("vexpress", switched("denoiser", reference_weight=1.0), 0.04),
        ("aniportrait", switched("denoiser", guidance_batch_norm=False), 2.37),
        ("hallo", switched("denoiser", temporal_idle=False, motion_in_middle_only=True), 1.51),
        ("hallo", switched("habits", mixed_context=False), 0.49),
        ("hallo", switched("habits", alternating_reference=False), 0.24),
        ("hallo", switched("habits", half_reference=True), 4e-4),
    ],
)
def test_a_switch_moves_the_output_as_far_as_the_original_moves(
    project: str, change: Callable[[VideoConfig], VideoConfig], wanted: float
) -> None:
    """The figures were measured on the originals' code."""
    assert moved(project, change) == pytest.approx(wanted, rel=0.15)


def test_the_reference_in_the_unconditional_half_shows(monkeypatch: pytest.MonkeyPatch) -> None:
    read_photo = VideoNetwork.read

    def reading(self: VideoNetwork, *args: Tensor, **kwargs: Any) -> LatentLook:  # noqa: ANN401
        seen = read_photo(self, *args, **kwargs)
        return replace(seen, reference=replace(seen.reference, unread=0))

    monkeypatch.setattr(VideoNetwork, "read", reading)
    assert moved("echomimic_v2") == pytest.approx(0.76, rel=0.02)


@pytest.mark.parametrize(
    ("target", "wrong", "wanted"),
    [
        (
            "emo2.nn.timestep_embedding",
            lambda time, width: timestep_embedding(time, width).roll(width // 2, -1),
            0.24,
        ),
        (
            "emo2.video.blocks.sinusoids",
            lambda places, width: sinusoids(places + 1, width),
            0.63,
        ),
        ("emo2.video.blocks.sinusoids", lambda places, width: 0 * sinusoids(places, width), 1.80),
        ("torch.nn.functional.gelu", lambda x: x * 0.5 * (1 + torch.tanh(GELU * (x + 0.044715 * x**3))), 6e-4),
    ],
)  # fmt: skip
def test_a_formula_a_little_wrong_shows(
    target: str, wrong: Callable[..., Tensor], wanted: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(target, wrong)
    assert moved("echomimic_v2") == pytest.approx(wanted, rel=0.15)


@pytest.mark.parametrize(
    ("project", "part", "wanted"),
    [("hallo", "audio", 1.03), ("hallo", "regions", 0.97), ("echomimic_v1", "audio", 1.76)],
)
def test_a_condition_left_out_shows(project: str, part: str, wanted: float) -> None:
    with torch.no_grad():
        run = Run(golden(project), "a", network(project), torch.float32)
        value = None if part == "regions" else torch.zeros_like(getattr(run.frames, part))
        run.__dict__["frames"] = replace(run.frames, **{part: value})
        found = float((run.output("out") - golden(project).tensors["a/out"]).abs().max())
    assert found == pytest.approx(wanted, rel=0.02)


def test_more_frames_than_the_weights_have_positions_for_are_refused() -> None:
    frames = torch.zeros(1, 33, 4, 8, 8)
    with torch.no_grad(), pytest.raises(UserError, match="33 frames at once"):
        network("echomimic_v2").denoiser(frames, torch.zeros(1))


def test_projected_keys_and_values_are_read_as_their_features_are() -> None:
    net = network("vexpress")
    photo, noisy = torch.randn(1, 4, 8, 8), torch.randn(1, 2, 4, 8, 8)
    with torch.no_grad():
        sites = tuple(f[-1:, 0] for f in net.features(photo))
        whole = net.denoiser(noisy, torch.ones(1), reference=sites)[0]
        cached = Reference(sites=net.denoiser.project(sites))
        torch.testing.assert_close(net.denoiser(noisy, torch.ones(1), reference=cached)[0], whole)
