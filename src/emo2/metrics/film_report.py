"""`emo2 evaluate film`: the measures of films."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch

from emo2 import pipeline
from emo2.generate import Event
from emo2.metrics.evaluation import evaluate
from emo2.metrics.figures import Metric, Reading
from emo2.metrics.film_loaded import ONLY_TRUE, LoadedFilm
from emo2.metrics.film_networks import WITH_NETWORKS, available, set_distance
from emo2.metrics.film_own import OWN
from emo2.metrics.inputs import Inputs, Item, named_apart
from emo2.metrics.measuring import Measure, Measured, read_all
from emo2.metrics.networks import NetworkFolder, default_folder

SUFFIXES = (".mp4", ".mov", ".mkv", ".webm", ".avi")
METRICS: tuple[Metric, ...] = (*OWN, *WITH_NETWORKS)


def evaluate_film(
    inputs: Inputs,
    output: Path,
    *,
    command: str,
    jobs: int = 1,
    seed: int = 0,
    networks: Path | None = None,
) -> Iterator[Event]:
    """Measure films and write the report; `networks`: the folder of the user's networks."""
    whole, metrics, measure = plan(inputs, networks)
    yield from evaluate(
        whole, output, metrics, measure, title="Films", command=command, jobs=jobs, seed=seed
    )


def plan(
    inputs: Inputs, networks: Path | None = None
) -> tuple[Inputs, tuple[Metric, ...], Measure]:
    """All items to read, the metrics whose networks are there, and how an item is measured."""
    folder = networks or default_folder()
    metrics = (*OWN, *available(NetworkFolder(folder)))
    return with_unpaired(inputs, metrics), metrics, partial(measure_film, networks=folder)


def with_unpaired(inputs: Inputs, metrics: Sequence[Metric]) -> Inputs:
    """True films that nothing was generated for join as items of their own, where sets are compared."""
    if not any(m.conclude is set_distance for m in metrics):
        return inputs
    paired = {item.truth for item in inputs.items}
    spare = [path for path in inputs.truths if path not in paired]
    named = named_apart(spare, ONLY_TRUE)
    items = [Item(name=name, generated=(p,), truth=p) for name, p in named.items()]
    return replace(inputs, items=(*inputs.items, *items))


def measure_film(item: Item, networks: Path | None = None) -> Measured:
    """All measures of one item's films."""
    folder = NetworkFolder(networks or default_folder())
    finder = pipeline.load("compact").finder
    notes = [n for n in (folder.missing(),) if n is not None]
    if sums := folder.checksums():
        notes.append("networks: " + ", ".join(f"{n} {s}" for n, s in sums.items()))
    if len(item.generated) > 1:
        notes.append(f"{item.name}: the mean of {len(item.generated)} films")
    found = []
    with torch.inference_mode():
        for film in item.generated:
            sample = replace(item, generated=(film,))
            loaded = LoadedFilm(sample, finder, folder)
            if loaded.is_only_true:
                sets = [m for m in available(folder) if m.conclude is set_distance]
                return read_all(item, loaded, sets)
            notes += loaded.notes
            found.append(read_all(sample, loaded, (*OWN, *available(folder))))
    return replace(joined(found), notes=tuple(notes))


def joined(samples: Sequence[Measured]) -> Measured:
    """Films of one item as one: means of their numbers; rows end to end, the truth's once."""
    first = samples[0]
    readings = {
        name: _mean([s.readings[name] for s in samples if name in s.readings])
        for name in dict.fromkeys(n for s in samples for n in s.readings)
    }
    rows: dict[str, dict[str, np.ndarray]] = {}
    for metric in dict.fromkeys(n for s in samples for n in s.rows):
        having = [s.rows[metric] for s in samples if metric in s.rows]
        rows[metric] = {
            name: having[0][name] if name == "truth" else np.concatenate([r[name] for r in having])
            for name in having[0]
        }
    return Measured(name=first.name, readings=readings, rows=rows)


def _mean(readings: Sequence[Reading]) -> Reading:
    controls = [r.control for r in readings if r.control is not None]
    shared = set.intersection(*(set(r.beside) for r in readings))
    return Reading(
        value=float(np.mean([r.value for r in readings])),
        control=float(np.mean(controls)) if controls else None,
        weight=float(np.mean([r.weight for r in readings])),
        beside={n: float(np.mean([r.beside[n] for r in readings])) for n in readings[0].beside if n in shared},
    )  # fmt: skip
