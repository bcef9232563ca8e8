"""The report as one page: a table, and for every figure its items as dots on a line.  No script, no other file."""

from __future__ import annotations

import math
from html import escape

from emo2.metrics.figures import Figure
from emo2.metrics.report import Report, interval, short, versions

_STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; margin: 2em auto; max-width: 62em; padding: 0 1em; color: #222; }
h1 { font-size: 1.4em; } h2 { font-size: 1.05em; margin: 1.6em 0 .2em; font-family: ui-monospace, monospace; }
table { border-collapse: collapse; width: 100%; } td, th { padding: .25em .6em; text-align: left; border-bottom: 1px solid #ddd; }
td.number { text-align: right; font-variant-numeric: tabular-nums; } code { background: #f3f3f1; padding: .1em .3em; }
p { margin: .2em 0; } .wary { color: #8a4b00; } .quiet { color: #666; } svg { display: block; margin: .3em 0; max-width: 100%; }
"""
_WIDE, _TALL, _EDGE = 720, 64, 40
_TOP = 22


def as_html(report: Report) -> str:
    """The whole page."""
    said = ", ".join(f"{name} {value}" for name, value in versions().items())
    rows = "".join(_row(f) for f in report.figures)
    notes = "".join(f"<p>{escape(note)}</p>" for note in report.notes)
    return (
        "<!doctype html>\n"
        f'<html lang="en"><meta charset="utf-8"><title>{escape(report.title)}</title><style>{_STYLE}</style>\n'
        f"<h1>{escape(report.title)}</h1>\n"
        f'<p><code>{escape(report.command)}</code></p><p class="quiet">{escape(said)}</p>{notes}\n'
        "<table><tr><th>metric<th>value<th>95 % interval<th>unit<th>n<th>control</tr>\n"
        f"{rows}</table>\n{''.join(_section(f) for f in report.figures)}</html>\n"
    )


def _row(figure: Figure) -> str:
    mark = ' <span class="wary">!</span>' if figure.warnings else ""
    cells = [short(figure.value), interval(figure.ci), escape(figure.unit), str(figure.n)]
    numbers = "".join(f'<td class="number">{c}</td>' for c in [*cells, short(figure.control)])
    name = escape(figure.name)
    return f'<tr><td><a href="#{name}"><code>{name}</code></a>{mark}</td>{numbers}</tr>\n'


def _section(figure: Figure) -> str:
    parts = [f'<h2 id="{escape(figure.name)}">{escape(figure.name)}</h2>']
    parts.append(f"<p>{escape(figure.definition)}</p>{strip(figure)}")
    if figure.control_is:
        parts.append(f'<p class="quiet">Control (hollow): {escape(figure.control_is)}.</p>')
    if figure.minus_control is not None:
        value, low, high = figure.minus_control
        parts.append(f"<p>Minus the control: {short(value)} ({short(low)} to {short(high)}).</p>")
    if figure.beside:
        said = ", ".join(f"{escape(k)} {short(v)}" for k, v in figure.beside.items())
        parts.append(f"<p>Beside it: {said}.</p>")
    parts += [f'<p class="wary">{escape(w)}.</p>' for w in figure.warnings]
    return "".join(parts) + "\n"


def strip(figure: Figure) -> str:
    """Items as dots, the value as a bar with its interval, the control hollow, on one axis (SVG)."""
    marks = [*figure.per_item.values(), figure.value, *(figure.ci or ())]
    marks += [] if figure.control is None else [figure.control]
    marks = [m for m in marks if math.isfinite(m)]
    if not marks:
        return ""
    low, high = min(marks), max(marks)
    room = (high - low) or abs(high) or 1.0
    low, high = low - 0.05 * room, high + 0.05 * room

    def x(value: float) -> float:
        return _EDGE + (value - low) / (high - low) * (_WIDE - 2 * _EDGE)

    drawn = [f'<line x1="{_EDGE}" x2="{_WIDE - _EDGE}" y1="44" y2="44" stroke="#bbb"/>']
    for i in range(5):
        value = low + (high - low) * i / 4
        drawn.append(
            f'<line x1="{x(value):.1f}" x2="{x(value):.1f}" y1="44" y2="48" stroke="#999"/>'
            f'<text x="{x(value):.1f}" y="60" font-size="11" fill="#666" text-anchor="middle">{short(value)}</text>'
        )
    if figure.ci is not None and all(math.isfinite(v) for v in figure.ci):
        a, b = (x(v) for v in figure.ci)
        drawn.append(
            f'<rect x="{a:.1f}" y="{_TOP - 8}" width="{max(b - a, 1):.1f}" height="16" fill="#cfe0f2"/>'
        )
    for i, (name, value) in enumerate(figure.per_item.items()):
        if math.isfinite(value):
            y = _TOP + (i * 7 % 13) - 6  # spread a little, so that equal values show
            drawn.append(
                f'<circle cx="{x(value):.1f}" cy="{y}" r="3" fill="#2b6cb0" fill-opacity=".45">'
                f"<title>{escape(name)}: {short(value)}</title></circle>"
            )
    if math.isfinite(figure.value):
        at = x(figure.value)
        drawn.append(
            f'<line x1="{at:.1f}" x2="{at:.1f}" y1="8" y2="36" stroke="#1a365d" stroke-width="2"/>'
        )
    if figure.control is not None and math.isfinite(figure.control):
        drawn.append(
            f'<circle cx="{x(figure.control):.1f}" cy="{_TOP}" r="6" fill="none" stroke="#c05621" '
            f'stroke-width="2"><title>control: {short(figure.control)}</title></circle>'
        )
    label = f"{escape(figure.name)}: {short(figure.value)} {escape(figure.unit)}"
    return (
        f'<svg viewBox="0 0 {_WIDE} {_TALL}" width="{_WIDE}" height="{_TALL}" role="img" '
        f'aria-label="{label}">{"".join(drawn)}</svg>'
    )
