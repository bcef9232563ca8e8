"""Schedules, trajectories and frame windows against golden vectors (scheduler.json, windows.json)."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from emo2.convert.difference import Difference, apart, different, name_of, read_spec, read_tensors
from emo2.convert.golden import made_input
from emo2.diffusion import NoiseProcess, sample
from emo2.video.families import FAMILIES
from emo2.video.windows import Blend, Windows

WITHIN = 1e-6
"""Of the largest value where that is above 1: stored values are float32."""
START_SEED = 77
"""Of the first noise, where the file names none."""
_TARGETS = {"v_prediction": "velocity", "epsilon": "noise", "sample": "x0"}
_CALLED = {"echomimic_v1_audio": "echomimic-v1"}
"""Families whose name in windows.json is not ours."""


# ---------------------------------------------------------------------------------------- schedules


def process_of(spec: dict[str, Any], schedule: str) -> NoiseProcess:
    """The noise process that a file's settings describe."""
    told = spec.get("common_settings", {})
    return NoiseProcess(
        schedule=schedule,  # type: ignore[arg-type]
        target=_TARGETS[told.get("prediction_type", "v_prediction")],  # type: ignore[arg-type]
        steps=told.get("num_train_timesteps", 1000),
        beta_start=told.get("beta_start", 0.00085),
        beta_end=told.get("beta_end", 0.012),
        zero_snr=told.get("rescale_betas_zero_snr", True),
    )


def compare_schedules(folder: Path) -> Iterator[Difference]:
    """Betas and alpha-bar, every step of DDIM's walks in both precisions, and trailing times."""
    spec, tensors = read_spec(folder, "scheduler"), read_tensors(folder, "scheduler")
    walks: dict[str, None] = {}
    for name, wanted in tensors.items():
        schedule, _, rest = name.partition("/")
        if rest in ("betas", "alphas_cumprod"):
            process = process_of(spec, schedule)
            ours = process.betas() if rest == "betas" else process.kept()
            yield _close(name, "float32", ours, wanted)
        elif re.fullmatch(r"n\d+/(step|pred_x0_)\d+", rest):
            walks[name.rpartition("/")[0]] = None
        elif name != "x_T":
            yield _close(name, "", None, wanted)
    for walk in [*walks, *(w for w in spec.get("trajectories", {}) if w not in walks)]:
        for dtype in (torch.float64, torch.float32):
            yield from _walk(spec, tensors, walk, dtype)
    process = process_of(spec, "linear")
    for steps, wanted in spec.get("timesteps_trailing", {}).items():
        solver = process.scheduler("ddim")
        solver.set_timesteps(int(steps))
        yield _equal(
            "scheduler", f"{steps} trailing times", different(solver.timesteps.tolist(), wanted)
        )


def _walk(
    spec: dict[str, Any], tensors: dict[str, Tensor], walk: str, dtype: torch.dtype
) -> Iterator[Difference]:
    """One trajectory under the file's made-up network."""
    schedule, _, count = walk.partition("/n")
    process = process_of(spec, schedule)
    of_x, of_time = _made_up(spec)
    times: list[int] = []
    found: dict[str, Tensor] = {}

    def denoise(x: Tensor, time: Tensor) -> Tensor:
        said = of_x * x + of_time * time.view(-1, *[1] * (x.dim() - 1)) / process.steps
        found[f"{walk}/pred_x0_{len(times)}"] = process.clean_of(said, x, time)
        times.append(int(time[0]))
        return said

    start = _start(spec, tensors, walk).to(dtype)
    for index, x in enumerate(sample(denoise, start, process, steps=int(count))):
        found[f"{walk}/step{index}"] = x
    for name, wanted in tensors.items():
        if name.startswith(f"{walk}/"):
            yield _close(name, name_of(dtype), found.get(name), wanted)
    told = spec.get("trajectories", {}).get(walk, {})
    if "timesteps" in told and dtype == torch.float64:
        yield _equal("scheduler", f"{walk} times", different(times, told["timesteps"]))
    last = found[f"{walk}/step{int(count) - 1}"].double()
    figures = {"final_sum": float(last.sum()), "final_absmax": float(last.abs().max())}
    for figure, ours in figures.items():
        if figure in told and dtype == torch.float64:
            wanted = torch.tensor(told[figure], dtype=torch.float64)
            count_of = last.numel() if figure == "final_sum" else 1
            yield replace(
                _close(f"{walk}/{figure}", name_of(dtype), torch.tensor(ours).to(wanted), wanted),
                allowed=WITHIN * count_of,
            )


def _start(spec: dict[str, Any], tensors: dict[str, Tensor], walk: str) -> Tensor:
    if "x_T" in tensors:
        return tensors["x_T"]
    like = next((t for n, t in tensors.items() if n.startswith(f"{walk}/")), None)
    shape = (1, 4, 3, 4, 4) if like is None else tuple(like.shape)
    return made_input(int(spec.get("seed", START_SEED)), "scheduler.x_T", shape, "normal")


def _made_up(spec: dict[str, Any]) -> tuple[float, float]:
    """The file's stand-in for a network, v = a x + b t / steps: a and b."""
    told = re.search(r"([\d.]+)\*x\s*\+\s*([\d.]+)\*t", spec.get("fake_model", ""))
    return (float(told[1]), float(told[2])) if told else (0.3, 0.01)


def _close(name: str, dtype: str, ours: Tensor | None, wanted: Tensor) -> Difference:
    allowed = WITHIN * max(1.0, float(wanted.abs().max()))
    return Difference(
        project="scheduler", site=name, dtype=dtype, found=apart(ours, wanted), allowed=allowed
    )


def _equal(project: str, site: str, found: float) -> Difference:
    return Difference(project=project, site=site, dtype="frames", found=found, allowed=0.0)


# ------------------------------------------------------------------------------------------ windows


def windows_of(project: str, told: dict[str, Any]) -> Windows | None:
    """A family's rule at the file's numbers; None: no family of ours works in such windows."""
    family = FAMILIES.get(_CALLED.get(project, project.replace("_", "-")))
    if family is None or family.windows is None:
        return None
    ours = family.windows
    return replace(
        ours,
        size=told.get("window", ours.size),
        overlap=told.get("overlap", ours.overlap),
        shift=told.get("shift_per_step", ours.shift),
    )


def compare_windows(folder: Path) -> Iterator[Difference]:
    """The windows of every film length and step, and the mean over them."""
    for project, told in read_spec(folder, "windows").items():
        if project == "rule":  # in words
            continue
        windows = windows_of(project, told)
        for frames, lists in told.get("lists", {}).items():
            by_step = lists if isinstance(lists, dict) else {"0": lists}
            for step, wanted in by_step.items():
                ours = windows.at(int(frames), int(step)) if windows else None
                site = f"windows of {frames} frames, step {step}"
                yield _equal(project, site, different(ours, wanted))
        for frames, by_step in told.get("blended_example", {}).items():
            for step, wanted in by_step.items():
                found = math.nan
                if windows is not None:
                    found = _blended(windows.at(int(frames), int(step)), int(frames), wanted)
                site = f"blend of {frames} frames, step {step}"
                yield Difference(
                    project=project, site=site, dtype="float64", found=found, allowed=1e-12
                )


def _blended(layout: list[list[int]], frames: int, wanted: dict[str, list[float]]) -> float:
    """Position p of window w says (w + 1) + 0.1 p: how far the mean is off, and the counts."""
    blend = Blend(frames, axis=2)
    for w, window in enumerate(layout):
        said = w + 1 + 0.1 * torch.arange(len(window), dtype=torch.float64)
        blend.add(window, said.view(1, 1, -1, 1).expand(1, 4, -1, 2))
    value = torch.tensor(wanted["value"], dtype=torch.float64).view(1, 1, -1, 1)
    return max(
        apart(blend.mean(), value.expand(1, 4, -1, 2)),
        different(blend.counts.tolist(), wanted["count"]),
    )
