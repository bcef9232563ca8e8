"""A report: `report.json` for machines, `report.md` for documents, `report.html` to look at.

The JSON is `{"metrics": {NAME: {"value", "unit", "n", "ci": [lo, hi], "control", ...}}, "command", "versions"}`; numbers
that could not be had are null.
"""

from __future__ import annotations

import json
import math
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from emo2 import __version__
from emo2.media.files import write_text
from emo2.metrics.figures import Figure

_PACKAGES = ("torch", "numpy", "scipy", "opencv-python-headless", "av")


@dataclass(frozen=True, kw_only=True)
class Report:
    """Figures with what is needed to get them again."""

    title: str
    figures: tuple[Figure, ...]
    command: str
    notes: tuple[str, ...] = ()
    """Sentences on the inputs: what was left out, what was resampled."""

    @property
    def contents(self) -> dict:
        """What `report.json` holds."""
        return {
            "metrics": {f.name: _as_json(f) for f in self.figures},
            "command": self.command,
            "versions": versions(),
        }


def versions() -> dict[str, str]:
    """What the numbers may depend on."""
    found = {"emo2": __version__, "python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def write_report(report: Report, folder: Path) -> list[Path]:
    """Write the three files, each whole or not at all; returns their paths."""
    from emo2.metrics.page import as_html

    texts = {
        "report.json": json.dumps(report.contents, indent=1, allow_nan=False) + "\n",
        "report.md": as_markdown(report),
        "report.html": as_html(report),
    }
    paths = []
    for name, text in texts.items():
        write_text(folder / name, text)
        paths.append(folder / name)
    return paths


def as_markdown(report: Report) -> str:
    """Table, definitions, warnings."""
    lines = [f"# {report.title}", "", f"`{report.command}`  ", _versions_line(), ""]
    lines += [f"- {note}" for note in report.notes] + ([""] if report.notes else [])
    lines += [
        "| metric | value | 95 % interval | unit | n | control | what the control is | beside |",
        "|---|--:|--:|---|--:|--:|---|---|",
    ]
    for f in report.figures:
        beside = ", ".join(f"{k} {short(v)}" for k, v in _beside(f).items())
        lines.append(
            f"| `{f.name}` | {short(f.value)} | {interval(f.ci)} | {f.unit} | {f.n} "
            f"| {short(f.control)} | {f.control_is} | {beside} |"
        )
    warned = [f for f in report.figures if f.warnings]
    if warned:
        lines += ["", "Be wary:", ""]
        lines += [f"- `{f.name}`: {'; '.join(f.warnings)}" for f in warned]
    lines += ["", "Definitions:", ""]
    lines += [f"- `{f.name}`: {f.definition}" for f in report.figures]
    return "\n".join(lines) + "\n"


def _versions_line() -> str:
    return ", ".join(f"{name} {value}" for name, value in versions().items())


def _beside(figure: Figure) -> dict[str, float]:
    """Numbers beside, with the difference to the control first."""
    if figure.minus_control is None:
        return figure.beside
    value, low, high = figure.minus_control
    return {"minus control": value, "from": low, "to": high, **figure.beside}


def short(value: float | None) -> str:
    """Four significant digits; a dash for what is not known."""
    if value is None or not math.isfinite(value):
        return "–"
    if value == 0 or 1e-3 <= abs(value) < 1e5:
        digits = max(0, 3 - math.floor(math.log10(abs(value)))) if value else 0
        return f"{value:.{min(digits, 6)}f}"
    return f"{value:.3g}"


def interval(ci: tuple[float, float] | None) -> str:
    """Low to high."""
    return "–" if ci is None else f"{short(ci[0])} to {short(ci[1])}"


def _as_json(figure: Figure) -> dict:
    return {
        "value": _finite(figure.value),
        "unit": figure.unit,
        "n": figure.n,
        "ci": [None, None] if figure.ci is None else [_finite(v) for v in figure.ci],
        "control": _finite(figure.control),
        "control_is": figure.control_is,
        "minus_control": None
        if figure.minus_control is None
        else [_finite(v) for v in figure.minus_control],
        "better": figure.better,
        "definition": figure.definition,
        "beside": {k: _finite(v) for k, v in figure.beside.items()},
        "warnings": list(figure.warnings),
        "per_item": {k: _finite(v) for k, v in figure.per_item.items()},
    }


def _finite(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else float(value)


def table(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [f"| {' | '.join(headers)} |", "|" + "---|" * len(headers)]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in rows)]) + "\n"
