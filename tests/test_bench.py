"""`emo2 bench`: what it counts is the law's, and what it says is not more than the machine can do."""

from __future__ import annotations

import json

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from emo2.cli import main
from emo2.presets import PRESETS
from emo2.video.conditions import FrameConditions
from emo2.video.unet import UNet


def test_stable_diffusions_network_costs_what_the_law_says() -> None:
    """803 GFLOP a frame and evaluation at 512 x 512 (design §9), counted on weights that are not there."""
    with torch.device("meta"):
        network = UNet(PRESETS["hallo"].video.reference)
        image, time, text = torch.zeros(1, 1, 4, 64, 64), torch.zeros(1), torch.zeros(1, 77, 768)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(image, time, frames=FrameConditions(context=text))
    assert counter.get_total_flops() / 1e9 == pytest.approx(803, rel=0.03)


@pytest.mark.parametrize("preset", ["echomimic-v2", "hallo", "full"])
def test_a_small_network_is_timed_stage_by_stage(
    preset: str, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["bench", "--preset", preset, "--width", "32", "--size", "64x64", "--steps", "2"]
    assert main([*words, "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert {"reference pass", "denoiser step", "decoding", "frames/s", "ceiling"} <= set(facts)
    assert 0 < float(facts["frames/s"].split()[0]) <= float(facts["ceiling"].split()[0])
    assert facts["peak memory"].endswith("GB of the process")


def test_a_preset_without_latents_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "--preset", "compact"]) == 2
    assert "echomimic-v2" in capsys.readouterr().err
