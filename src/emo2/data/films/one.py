"""One film to its files of a set: shards of windows by view, stage 1's file, and the record of what became of it.

The record is written last, so a film that has one is done; everything is written under a temporary name and moved.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy import ndarray

from emo2 import weights
from emo2.config import Config
from emo2.data.films.faces import load_measures
from emo2.data.films.follow import FPS, read_shots
from emo2.data.films.hands import read_tracked
from emo2.data.films.limits import Limits, Verdict
from emo2.data.films.plan import Plan, plan_shot, without_sound
from emo2.data.films.seen import Eyes, read_planned
from emo2.data.films.windows import (
    LEAD_S,
    SAMPLE_RATE,
    Sound,
    Window,
    cut_shot,
    listen,
    perform,
)
from emo2.data.motion_windows import Performance, write_performance_file
from emo2.data.order import PERFORMED, REAL
from emo2.errors import UserError
from emo2.media.files import write_fault, write_text
from emo2.media.voice import read_voice
from emo2.media.watch import film_facts, read_frames
from emo2.pipeline import load_finder
from emo2.portrait.stage import PortraitFinder
from emo2.presets import PRESETS

PEOPLE = 16
"""Windows in one shard, as the studio's people."""
RECORDS = "films"
"""Folder of the records."""


@dataclass(frozen=True, kw_only=True)
class Wishes:
    """What is wanted of every film; the same throughout a set."""

    views: tuple[str, ...] = ("face", "body")
    frames: int = 24
    """Of a window."""
    silent: bool = False
    """Keep shots without a voice, as pictures."""
    limits: Limits = field(default_factory=Limits)


@dataclass(frozen=True, kw_only=True)
class FilmJob:
    """One film."""

    path: Path
    out: Path
    key: str
    """Name of the film's files, by stem and content."""
    wishes: Wishes
    hands: Path | None = None
    licence: str = ""


@dataclass(frozen=True, kw_only=True)
class Record:
    """What became of a film."""

    film: str
    key: str
    seconds: float = 0.0
    width: int = 0
    height: int = 0
    fps: float = 0.0
    licence: str = ""
    hands: str = "finder"
    files: tuple[str, ...] = ()
    """In the set's folder."""
    verdicts: tuple[Verdict, ...] = ()
    performed_s: float = 0.0
    """Seconds for stage 1."""
    fault: str = ""
    """Why nothing could be read of it."""


def prepare_film(job: FilmJob) -> Record:
    """Make the film's files and its record; a film that cannot be read has a record that says why."""
    with _one_thread():
        try:
            record = _prepare(job)
        except UserError as error:
            record = Record(
                film=job.path.name, key=job.key, licence=job.licence,
                fault=" ".join(str(error).split()),
            )  # fmt: skip
        text = json.dumps(asdict(record), indent=1, sort_keys=True)
        write_text(job.out / RECORDS / f"{job.key}.json", text)
    return record


def read_record(path: Path) -> Record | None:
    """A record, if it is whole and its files are there."""
    try:
        found = json.loads(path.read_text())
        verdicts = tuple(Verdict(**v) for v in found.pop("verdicts"))
        record = Record(**{**found, "files": tuple(found["files"]), "verdicts": verdicts})
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return record if all((path.parents[1] / f).is_file() for f in record.files) else None


def _prepare(job: FilmJob) -> Record:
    """Both passes over a film."""
    facts = film_facts(job.path)
    finder, measures, config = _finder(), load_measures(), PRESETS["compact"]
    limits = job.wishes.limits
    tracked = read_tracked(job.hands, job.path.stem, facts.fps)
    sound = _sound(job.path) if facts.has_sound else None
    shots = read_shots(job.path, finder)
    plans = [plan_shot(s, facts.size, job.wishes.views, limits, measures) for s in shots]
    if sound is None and not job.wishes.silent:
        plans = [without_sound(plan) for plan in plans]
    eyes = Eyes(
        finder=finder, measures=measures, limits=limits, tracked=tracked, size=facts.size
    )  # fmt: skip
    numbers = {id(plan): number for number, plan in enumerate(plans)}
    verdicts = [v for plan in plans for v in _refused(plan, job, numbers[id(plan)])]
    groups: dict[str, list[dict[str, ndarray]]] = {}
    performances: list[Performance] = []
    for seen in read_planned(read_frames(job.path, fps=FPS), plans, eyes):
        number = numbers[id(seen.plan)]
        windows, told = cut_shot(
            seen, sound, job.path.name, number, limits, job.wishes.frames,
            silent=job.wishes.silent,
        )  # fmt: skip
        verdicts += told
        _gather(groups, windows)
        if windows and sound is not None and not listen(seen, sound, limits).reason:
            performances.append(perform(seen, sound, config))
    files = _write_shards(job, groups) + _write_performances(job, performances, config)
    return Record(
        film=job.path.name, key=job.key, seconds=round(sum(map(len, shots)) / FPS, 3),
        width=facts.size[1], height=facts.size[0], fps=round(facts.fps, 3), licence=job.licence,
        hands="tracker" if tracked is not None else "finder", files=tuple(files),
        verdicts=tuple(sorted(verdicts, key=lambda v: (v.shot, v.view))),
        performed_s=round(sum(len(p.rows) for p in performances) / FPS, 3),
    )  # fmt: skip


def _refused(plan: Plan, job: FilmJob, number: int) -> list[Verdict]:
    """Verdicts of the views that are not made of a shot."""
    frames = len(plan.shot)
    refused = {view: {reason: frames} for view, reason in plan.refused.items()}
    if not plan.views and not refused:
        marks = [mark or "too short" for mark in plan.marks]
        refused = {
            view: {m: marks.count(m) for m in sorted(set(marks))} for view in job.wishes.views
        }
    facts = {k: round(v, 4) for k, v in plan.facts.items()}
    return [
        Verdict(
            film=job.path.name, shot=number, start_s=plan.shot.start / FPS, frames=frames,
            view=view, reasons=reasons, facts=facts,
        )
        for view, reasons in refused.items()
    ]  # fmt: skip


def _gather(groups: dict[str, list[dict[str, ndarray]]], windows: Sequence[Window]) -> None:
    for window in windows:
        groups.setdefault(window.group, []).append(window.tensors)


def _write_shards(job: FilmJob, groups: dict[str, list[dict[str, ndarray]]]) -> list[str]:
    """Windows of a view in files of at most `PEOPLE`."""
    files = []
    for group, windows in sorted(groups.items()):
        view, kind = group.split("-")
        facts = {
            "format": 1, "view": view, "kind": kind, "fps": FPS, "sample_rate": SAMPLE_RATE,
            "start_s": LEAD_S, "source": "film", "film": job.path.name,
        }  # fmt: skip
        for first in range(0, len(windows), PEOPLE):
            part = windows[first : first + PEOPLE]
            tensors = {n: torch.from_numpy(np.stack([w[n] for w in part])) for n in part[0]}
            name = f"{group}/{REAL}{job.key}-{first // PEOPLE:03d}.safetensors"
            path = job.out / name
            try:
                weights.write(path, tensors, {k: json.dumps(v) for k, v in facts.items()})
            except OSError as error:
                raise write_fault(path, error) from error
            files.append(name)
    return files


def _write_performances(job: FilmJob, items: list[Performance], config: Config) -> list[str]:
    """Stage 1's file: shots that are long enough for a window."""
    long = [item for item in items if len(item.rows) >= config.motion.window // 2]
    if not long:
        return []
    name = f"performances/{PERFORMED}{REAL}{job.key}.safetensors"
    (job.out / "performances").mkdir(parents=True, exist_ok=True)
    write_performance_file(job.out / name, long)
    return [name]


def _sound(path: Path) -> Sound | None:
    """The film's voice; None where it is silent or cannot be decoded."""
    try:
        speech = read_voice(path, sample_rate=SAMPLE_RATE)
    except UserError:
        return None
    return Sound(samples=torch.cat(list(speech.voice.blocks(SAMPLE_RATE))).numpy())


@cache
def _finder() -> PortraitFinder:
    """Read once a process."""
    return load_finder()


class _one_thread:
    """Torch and OpenCV on one thread, so that any number of jobs gives the same bytes."""

    def __enter__(self) -> None:
        self.before = torch.get_num_threads(), cv2.getNumThreads()
        torch.set_num_threads(1)
        cv2.setNumThreads(1)

    def __exit__(self, *_: object) -> None:
        torch.set_num_threads(self.before[0])
        cv2.setNumThreads(self.before[1])
