"""The set's tables: `shots.json` with every shot, and a card for people, `README.md`."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import asdict
from pathlib import Path

import cv2
import numpy as np
import torch

from emo2.data.films.faces import load_measures, names_known
from emo2.data.films.limits import REASONS
from emo2.data.films.one import Record, Wishes
from emo2.media.files import write_text
from emo2.resume import digest_package


def write_card(out: Path, records: list[Record], wishes: Wishes, command: str) -> None:
    """Both tables, of all films of the set."""
    shots = [
        {**asdict(v), "kept": v.windows > 0, "says": v.sentence}
        for r in records
        for v in r.verdicts
    ]
    films = [{k: v for k, v in asdict(r).items() if k != "verdicts"} for r in records]
    table = json.dumps({"films": films, "shots": shots}, indent=1, sort_keys=True)
    write_text(out / "shots.json", table)
    write_text(out / "README.md", "\n".join(_lines(records, wishes, command)) + "\n")


def _lines(records: list[Record], wishes: Wishes, command: str) -> list[str]:
    from emo2 import __version__

    read = [r for r in records if not r.fault]
    lines = [
        "# A training set made of real film",
        "",
        f"{len(read)} films, {sum(r.seconds for r in read):.1f} s. Made by emo2 {__version__} "
        f"(code {digest_package()[:10]}, torch {torch.__version__}, OpenCV {cv2.__version__}).",
        "",
        f"    {command}" if command else "",
        "",
        "It shows real people: use it as their films' licences and their consent allow, and publish none of it.",
        "",
        "## Licences",
        "",
        *_licences(records),
        "",
        "## What was kept",
        "",
        *_counts(read),
        "",
        "## Why frames were left out",
        "",
        *_reasons(read),
        "",
        "## What is measured, and what is not known",
        "",
        *_known(read),
        "",
        "## Thresholds",
        "",
        f"Windows of {wishes.frames} frames at 25 a second; views {', '.join(wishes.views)}; shots without a voice "
        f"{'kept as pictures' if wishes.silent else 'left out'}.",
        "",
        *(f"- {name}: {value}" for name, value in asdict(wishes.limits).items()),
        "",
        "## Films",
        "",
        "| film | size | seconds | windows | seconds for stage 1 | hands | note |",
        "|---|---|---|---|---|---|---|",
        *(
            f"| {r.film} | {r.width}x{r.height} | {r.seconds:.1f} | {sum(v.windows for v in r.verdicts)} "
            f"| {r.performed_s:.1f} | {r.hands} | {r.fault or _note(r)} |"
            for r in records
        ),
    ]
    return lines


def _note(record: Record) -> str:
    """Why nothing of a film was kept; nothing to say where some was."""
    if any(v.windows for v in record.verdicts):
        return ""
    return "; ".join(dict.fromkeys(v.sentence for v in record.verdicts)) or "no frames"


def _licences(records: list[Record]) -> list[str]:
    found: dict[str, int] = {}
    for record in records:
        name = record.licence or "not stated (give --licence)"
        found[name] = found.get(name, 0) + 1
    return [f"- {count} films: {name}" for name, count in sorted(found.items())]


def _counts(records: list[Record]) -> list[str]:
    """A row a view: shots, frames, windows, and how well moved references explain the frames."""
    lines = [
        "| view | shots | frames | kept frames | share | windows | PSNR held, dB | moved, dB | visible |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for view in ("face", "body"):
        told = [v for r in records for v in r.verdicts if v.view == view]
        if not told:
            continue
        kept = [v for v in told if v.windows]
        frames, used = sum(v.frames for v in told), sum(v.kept_frames for v in told)
        means = [
            f"{np.average([v.facts[n] for v in kept], weights=[v.kept_frames for v in kept]):.2f}"
            if kept
            else "-"
            for n in ("psnr_held", "psnr_moved", "visible")
        ]
        lines.append(
            f"| {view} | {len(told)} | {frames} | {used} | {used / max(frames, 1):.0%} "
            f"| {sum(v.windows for v in told)} | {' | '.join(means)} |"
        )
    seconds = sum(r.performed_s for r in records)
    return [*lines, "", f"Stage 1: {seconds:.1f} s of voice with motion."]


def _reasons(records: list[Record]) -> list[str]:
    counts: Counter[tuple[str, str]] = Counter()
    for verdict in (v for r in records for v in r.verdicts):
        for reason, frames in verdict.reasons.items():
            counts[verdict.view, reason] += frames
    if not counts:
        return ["None was."]
    ordered = sorted(counts.items(), key=lambda item: (item[0][0], -item[1]))
    rows = [f"| {view} | {REASONS[reason]} | {frames} |" for (view, reason), frames in ordered]
    return ["| view | reason | frames |", "|---|---|---|", *rows]


def _known(records: list[Record]) -> list[str]:
    trackers = sum(r.hands == "tracker" for r in records)
    return [
        "- flow, visibility: optical flow with forward-backward and colour checks; `sure` says how far each cell "
        "is to be believed, and training weighs it so.",
        "- head: yaw, pitch, roll and shift in the picture, from a mean face under weak perspective, against the "
        "camera; its depth is not known.",
        f"- face actions: {', '.join(names_known(load_measures())) or 'none'}; the others are masked, and stage 2 "
        "is told none of them.",
        f"- hands: {trackers} films by a tracker's file, the others by our finder where it is sure; depth is not known.",
        "- torso, gaze, phones, speaking style: not known, masked.",
        "- voice: kept as samples of 16 kHz; features are made when it is read, by the encoder that is trained.",
    ]
