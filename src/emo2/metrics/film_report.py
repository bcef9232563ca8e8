"""`emo2 evaluate film`: the measures of films."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from emo2.generate import Event
from emo2.metrics.evaluation import evaluate
from emo2.metrics.figures import Metric
from emo2.metrics.inputs import Inputs, Item
from emo2.metrics.measuring import Measured, read_all

SUFFIXES = (".mp4", ".mov", ".mkv", ".webm", ".avi")
METRICS: tuple[Metric, ...] = ()


def evaluate_film(
    inputs: Inputs, output: Path, *, command: str, jobs: int = 1, seed: int = 0
) -> Iterator[Event]:
    """Measure films and write the report."""
    yield from evaluate(
        inputs, output, METRICS, measure_film, title="Films", command=command, jobs=jobs, seed=seed
    )


def measure_film(item: Item) -> Measured:
    """All measures of one item's films."""
    return read_all(item, item, METRICS)
