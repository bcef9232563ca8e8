"""Measure many items: in several processes, and never one twice.

Each item's readings are kept as a line of `items.jsonl` beside the report (its rows in `rows/KEY.npz`) as soon as
they are known.  The key is made of the files' contents and the metrics' versions, so a second run
measures only what is new or changed, wherever the files lie.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np

from emo2.generate import Event
from emo2.media.files import write_fault
from emo2.metrics.figures import Figure, Metric, Reading, mean_figure
from emo2.metrics.inputs import Item
from emo2.resume import digest_files
from emo2.workers import in_workers


@dataclass(frozen=True, kw_only=True)
class Measured:
    """All readings of one item, and the rows that distances between sets want of it."""

    name: str
    readings: dict[str, Reading] = field(default_factory=dict)
    rows: dict[str, dict[str, np.ndarray]] = field(default_factory=dict)
    """By metric, then by name."""
    notes: tuple[str, ...] = ()


Measure = Callable[[Item], Measured]
"""Must be importable by name (a function of a module, or a `functools.partial` of one)."""


def read_all(
    item: Item, loaded: object, metrics: Sequence[Metric], notes: tuple[str, ...] = ()
) -> Measured:
    """Every metric on one loaded item; those whose needs it lacks are left out."""
    readings, rows = {}, {}
    for metric in metrics:
        if metric.read is not None and (reading := metric.read(loaded)) is not None:
            readings[metric.name] = reading
        if metric.rows is not None and (gathered := metric.rows(loaded)):
            rows[metric.name] = gathered
    return Measured(name=item.name, readings=readings, rows=rows, notes=notes)


def measure_all(
    items: Sequence[Item], measure: Measure, *, folder: Path, version: str, jobs: int = 1
) -> Iterator[Event]:
    """Measure what `items.jsonl` in the folder does not hold yet; yields progress, returns all, in order.

    Take the result with `measured = yield from measure_all(...)`.
    """
    kept = _Kept(folder)
    keys = [digest_files(list(item.files), version, item.name) for item in items]
    found = {i: m for i, key in enumerate(keys) if (m := kept.get(key)) is not None}
    total, waiting = len(items), [i for i in range(len(items)) if i not in found]
    if found and waiting:
        text = f"{len(found)} of {total} were measured before and are kept"
        yield Event(kind="note", text=text)
    yield Event(kind="progress", stage="measure", done=len(found), total=total)
    for place, measured in in_workers(measure, [items[i] for i in waiting], jobs):
        i = waiting[place]
        kept.add(keys[i], measured)
        found[i] = measured
        yield Event(kind="progress", stage="measure", done=len(found), total=total)
    return [found[i] for i in range(total)]


def conclude(metrics: Sequence[Metric], measured: Sequence[Measured], seed: int) -> list[Figure]:
    """A figure a metric, in the metrics' order; those that no item could be read for are absent."""
    figures = []
    for metric in metrics:
        if metric.conclude is not None:
            rows = {m.name: m.rows[metric.name] for m in measured if metric.name in m.rows}
            figure = metric.conclude(metric, rows, seed) if rows else None
        else:
            readings = {
                m.name: m.readings[metric.name] for m in measured if metric.name in m.readings
            }
            figure = mean_figure(metric, readings, seed)
        if figure is not None:
            figures.append(figure)
    return figures


def version_of(metrics: Sequence[Metric]) -> str:
    """Stands for the metrics in the keys of kept results; the seed draws intervals alone, readings do not hang on it."""
    return repr([(m.name, m.version) for m in metrics])


class _Kept:
    """The lines of `items.jsonl`; a line that was cut off by a kill counts as absent."""

    def __init__(self, folder: Path) -> None:
        self.path, self.rows = folder / "items.jsonl", folder / "rows"
        self.lines: dict[str, dict] = {}
        try:
            self.rows.mkdir(parents=True, exist_ok=True)
            text = self.path.read_text(encoding="utf-8") if self.path.exists() else ""
            if text and not text.endswith("\n"):
                text = text[: text.rfind("\n") + 1]
                self.path.write_text(text, encoding="utf-8")
        except OSError as error:
            raise write_fault(self.path, error) from error
        for line in text.splitlines():
            try:
                entry = json.loads(line)
                self.lines[entry["key"]] = entry
            except (ValueError, KeyError, TypeError):
                continue

    def get(self, key: str) -> Measured | None:
        entry = self.lines.get(key)
        if entry is None:
            return None
        rows: dict[str, dict[str, np.ndarray]] = {}
        if entry["rows"]:
            path = self.rows / f"{_short(key)}.npz"
            if not path.exists():
                return None
            with np.load(path, allow_pickle=False) as archive:
                for full in archive.files:
                    metric, name = full.split("/", 1)
                    rows.setdefault(metric, {})[name] = archive[full]
        return Measured(
            name=entry["item"],
            readings={n: Reading(**r) for n, r in entry["readings"].items()},
            rows=rows,
            notes=tuple(entry["notes"]),
        )

    def add(self, key: str, measured: Measured) -> None:
        flat = {
            f"{m}/{n}": rows for m, by_name in measured.rows.items() for n, rows in by_name.items()
        }
        entry = {
            "key": key,
            "item": measured.name,
            "readings": {n: asdict(r) for n, r in measured.readings.items()},
            "rows": bool(flat),
            "notes": list(measured.notes),
        }
        try:
            if flat:
                path = self.rows / f"{_short(key)}.npz"
                partial = path.with_suffix(".part")
                with partial.open("wb") as file:
                    np.savez(file, **flat)  # pyright: ignore[reportArgumentType]
                os.replace(partial, path)
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(entry) + "\n")
        except OSError as error:
            raise write_fault(self.path, error) from error


def _short(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()[:32]
