"""`emo2 evaluate film`: the measures of films."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import torch

from emo2 import pipeline
from emo2.generate import Event
from emo2.metrics.evaluation import evaluate
from emo2.metrics.figures import Metric
from emo2.metrics.film_loaded import LoadedFilm
from emo2.metrics.film_networks import WITH_NETWORKS, available
from emo2.metrics.film_own import OWN
from emo2.metrics.inputs import Inputs, Item
from emo2.metrics.measuring import Measured, read_all
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
    folder = networks or default_folder()
    metrics = (*OWN, *available(NetworkFolder(folder)))
    measure = partial(measure_film, networks=folder)
    yield from evaluate(
        inputs, output, metrics, measure, title="Films", command=command, jobs=jobs, seed=seed
    )


def measure_film(item: Item, networks: Path | None = None) -> Measured:
    """All measures of one item's films."""
    folder = NetworkFolder(networks or default_folder())
    finder = pipeline.load("compact").finder
    notes = [n for n in (folder.missing(),) if n is not None]
    if sums := folder.checksums():
        notes.append("networks: " + ", ".join(f"{n} {s}" for n, s in sums.items()))
    if len(item.generated) > 1:
        notes.append(f"{item.name}: the first of {len(item.generated)} films is measured")
    with torch.inference_mode():
        loaded = LoadedFilm(item, finder, folder)
        if not loaded.generated.has_face:
            notes.append(f"{item.name}: a face is seen in under half of the frames; its figures are left out")  # fmt: skip
        return read_all(item, loaded, (*OWN, *available(folder)), tuple(notes))
