"""One evaluation: items in, a report out.  Both families of metrics run through here."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from emo2.errors import UserError
from emo2.generate import Event
from emo2.metrics.figures import Metric
from emo2.metrics.inputs import Inputs
from emo2.metrics.measuring import Measure, Measured, conclude, measure_all, version_of
from emo2.metrics.report import Report, short, write_report


def evaluate(
    inputs: Inputs,
    output: Path,
    metrics: Sequence[Metric],
    measure: Measure,
    *,
    title: str,
    command: str,
    jobs: int = 1,
    seed: int = 0,
) -> Iterator[Event]:
    """Measure every item, draw the figures, write the report into `output`."""
    if output.exists() and not output.is_dir():
        raise UserError(f"{output} is a file; give a folder for the report")
    yield from (Event(kind="note", text=note) for note in inputs.notes)
    measured: list[Measured] = yield from measure_all(
        inputs.items, measure, folder=output, version=version_of(metrics), jobs=jobs
    )
    notes = dict.fromkeys(inputs.notes)
    for item in measured:
        for note in item.notes:
            if note not in notes:
                yield Event(kind="note", text=note)
            notes[note] = None
    figures = conclude(metrics, measured, seed)
    if not figures:
        wanted = ", ".join(sorted({m.need for m in metrics if m.need}))
        raise UserError(
            f"none of the measures could be taken of {len(inputs.items)} items; they need {wanted or 'longer files'}"
        )
    report = Report(title=title, figures=tuple(figures), command=command, notes=tuple(notes))
    paths = write_report(report, output)
    for figure in figures:
        against = "" if figure.control is None else f" (control {short(figure.control)})"
        text = f"{figure.name} {short(figure.value)} {figure.unit}".rstrip() + against
        yield Event(kind="note", text=text)
    yield Event(
        kind="done", text=f"wrote {paths[1]}, {paths[0].name} and {paths[2].name}", path=output
    )
