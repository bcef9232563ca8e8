"""`emo2 convert --verify`: whatever part of a folder of golden vectors is there is run, at its own numbers."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from parity import fill
from safetensors.torch import load_file, save_file

from emo2.cli import main

PARITY = Path(__file__).parent / "parity"


def copied(folder: Path, *names: str) -> Path:
    for name in names:
        for path in PARITY.glob(f"{name}.*"):
            shutil.copy(path, folder)
    return folder


def said(capsys: pytest.CaptureFixture[str], folder: Path, code: int) -> list[str]:
    assert main(["convert", "--verify", str(folder)]) == code
    return capsys.readouterr().out.splitlines()


def test_a_folder_with_schedules_alone_is_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = said(capsys, copied(tmp_path, "scheduler"), 0)
    assert all(line.endswith("  ok") for line in lines[:-1])
    assert lines[-1] == f"{len(lines) - 1} of {len(lines) - 1} pass"
    assert any("scaled_linear/n6/pred_x0_5" in line and "float32" in line for line in lines)


def test_a_wrong_number_in_any_file_fails_and_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copied(tmp_path, "scheduler", "windows")
    path = tmp_path / "scheduler.safetensors"
    tensors = load_file(path)
    tensors["linear/n5/step3"][0, 0, 0, 0, 0] += 1e-4
    save_file(tensors, path)
    told = json.loads((tmp_path / "windows.json").read_text())
    told["musepose"]["lists"]["60"][1][0] += 1
    (tmp_path / "windows.json").write_text(json.dumps(told))
    failed = [line for line in said(capsys, tmp_path, 1) if "FAILS" in line]
    assert len(failed) == 3
    assert all("linear/n5/step3" in line for line in failed[:2])
    assert "musepose" in failed[2]


def test_a_wrong_number_in_the_ears_fails(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = copied(tmp_path, "audio") / "audio.safetensors"
    tensors = load_file(path)
    kept = {n: tensors[n] for n in ("signal", "whisper/log_mel", "wav2vec2/conv_features")}
    save_file(kept, path)
    assert said(capsys, tmp_path, 0)
    kept["whisper/log_mel"][3, 4] = math.nan
    save_file(kept, path)
    failed = [line for line in said(capsys, tmp_path, 1) if "FAILS" in line]
    assert [line.split()[1] for line in failed] == ["whisper/log_mel"] * 2


def test_schedules_of_other_numbers_follow_the_rule_in_words(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """700 training steps, no rescale, another start and stand-in network; DDIM written anew from the file's rule."""
    betas = np.linspace(0.002**0.5, 0.02**0.5, 700) ** 2
    kept = np.cumprod(1 - betas)
    start = fill.tensor(5, "scheduler.x_T", (1, 4, 2, 3, 5), "normal").astype(np.float64)
    x, stored, times = start, {}, [round(700 - k * 700 / 4) - 1 for k in range(4)]
    for k, t in enumerate(times):
        v = 0.2 * x + 0.05 * t / 700
        before = kept[t - 175] if t >= 175 else 1.0
        clean = kept[t] ** 0.5 * x - (1 - kept[t]) ** 0.5 * v
        noise = kept[t] ** 0.5 * v + (1 - kept[t]) ** 0.5 * x
        x = before**0.5 * clean + (1 - before) ** 0.5 * noise
        stored[f"scaled_linear/n4/pred_x0_{k}"] = clean
        stored[f"scaled_linear/n4/step{k}"] = x
    spec = {
        "seed": 5,
        "fake_model": "v = 0.2*x + 0.05*t/700",
        "common_settings": {
            "num_train_timesteps": 700, "beta_start": 0.002, "beta_end": 0.02, "rescale_betas_zero_snr": False,
        },
        "trajectories": {"scaled_linear/n4": {"timesteps": times, "final_sum": float(x.sum())}},
    }  # fmt: skip
    (tmp_path / "scheduler.json").write_text(json.dumps(spec))
    tensors = {n: torch.from_numpy(v.astype(np.float32)) for n, v in stored.items()}
    save_file(tensors, tmp_path / "scheduler.safetensors")
    assert said(capsys, tmp_path, 0)[-1] == "18 of 18 pass"


def test_windows_of_other_numbers_are_run_and_unknown_families_fail(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    told = {
        "vexpress": {
            "window": 5,
            "overlap": 2,
            "shift_per_step": 0,
            "lists": {"7": [[0, 1, 2, 3, 4], [3, 4, 5, 6, 5]]},
        },
        "echomimic_v1_audio": {
            "window": 4,
            "overlap": 1,
            "shift_per_step": 1,
            "lists": {"6": {"1": [[1, 2, 3, 4], [4, 5, 0, 1]]}},
        },
    }
    (tmp_path / "windows.json").write_text(json.dumps(told))
    lines = said(capsys, tmp_path, 0)
    assert lines[-1] == "2 of 2 pass"
    told["somebody"] = told.pop("vexpress")
    (tmp_path / "windows.json").write_text(json.dumps(told))
    assert any("somebody" in line and "FAILS" in line for line in said(capsys, tmp_path, 1))


def test_what_is_no_known_vector_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copied(tmp_path, "windows", "fill")
    (tmp_path / "keys").mkdir()
    for name in ("lips.json", "audio.safetensors", "keys/strange.json"):
        (tmp_path / name).write_text("{}")
    (tmp_path / "README.md").write_text("what this is")
    named = [line for line in said(capsys, tmp_path, 0) if "not compared" in line]
    assert [Path(line.split()[0]).name for line in named] == [
        "audio.safetensors",
        "strange.json",
        "lips.json",
    ]


def test_keys_alone_are_checked_against_the_network_of_full_size(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "keys").mkdir()
    path = tmp_path / "keys" / "musepose.json"
    keys = json.loads((PARITY / "keys" / "musepose.json").read_text())
    path.write_text(json.dumps(keys))
    assert said(capsys, tmp_path, 0)[-1] == "1 of 1 pass"
    del keys["denoising_unet"]["conv_out.bias"]
    keys["reference_unet"]["odd.weight"] = [[3, 4], None]
    path.write_text(json.dumps(keys))
    assert "2.0e+00  FAILS" in said(capsys, tmp_path, 1)[0]


def test_a_folder_without_vectors_is_refused_in_a_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["convert", "--verify", str(tmp_path)]) == 2
    assert "expected keys/NAME.json" in capsys.readouterr().err
    (tmp_path / "scheduler.json").write_text("{}")
    assert main(["convert", "--verify", str(tmp_path)]) == 2
    assert "wants it beside itself" in capsys.readouterr().err
