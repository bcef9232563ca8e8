"""Readings of one item, figures of many: value, interval, control, definition and what to be wary of.

A metric is a plain function with a definition, in one tuple a family (`motion_report.METRICS`,
`film_report.METRICS`).  It reads one item; the figure is the mean over items.  Distances between sets gather rows
of every item and draw one conclusion from all.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from jaxtyping import Float

LEVEL = 0.95
DRAWS = 2000
FEW_ITEMS = 5

Interval = tuple[float, float]
Rows = Mapping[str, Mapping[str, np.ndarray]]
"""By item, then by name: arrays whose first axis are rows."""


@dataclass(frozen=True, kw_only=True)
class Reading:
    """One metric on one item."""

    value: float
    control: float | None = None
    """The same measure where there is nothing to find (a shuffled voice), or on the truth itself."""
    weight: float = 1.0
    beside: dict[str, float] = field(default_factory=dict)
    """Numbers without which this one cannot be judged."""


@dataclass(frozen=True, kw_only=True)
class Figure:
    """One line of a report."""

    name: str
    value: float
    unit: str
    n: int
    """Number of items, or of samples where a definition says so."""
    ci: Interval | None = None
    """95 % by bootstrap over items; None for a single item."""
    control: float | None = None
    control_is: str = ""
    minus_control: tuple[float, float, float] | None = None
    """Value minus control with its own interval, where each item has its control."""
    definition: str = ""
    better: str = ""
    beside: dict[str, float] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    per_item: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Metric:
    """What is measured, of what, and how it is said."""

    name: str
    """Lower case, as the field writes it; its page is docs/metrics/NAME.md."""
    unit: str
    definition: str
    need: str = ""
    """What an item must bring: "", "truth", "voice", "samples", or a network's name."""
    better: Literal["", "higher", "lower", "as control"] = ""
    control: str = ""
    """What the control is."""
    version: int = 1
    """Raised when the numbers change, so that kept results are measured anew."""
    read: Callable[[Any], Reading | None] | None = None
    """One item's reading; None where the item lacks what is needed."""
    rows: Callable[[Any], dict[str, np.ndarray]] | None = None
    """One item's rows for `conclude`, by name."""
    conclude: Callable[[Metric, Rows, int], Figure | None] | None = None
    """The figure from the rows of all items and a seed."""


def mean_figure(metric: Metric, readings: Mapping[str, Reading], seed: int = 0) -> Figure | None:
    """The weighted mean over items, with its interval and its control; None where nothing was read."""
    readings = {n: r for n, r in readings.items() if math.isfinite(r.value)}
    if not readings:
        return None
    values = np.array([r.value for r in readings.values()], dtype=float)
    weights = np.array([r.weight for r in readings.values()], dtype=float)
    if weights.sum() <= 0:
        weights = np.ones_like(weights)
    controls = [r.control for r in readings.values()]
    control, difference = None, None
    if all(c is not None and math.isfinite(c) for c in controls):
        known = np.array(controls, dtype=float)
        control = float(np.average(known, weights=weights))
        spread = bootstrap_mean(values - known, weights, seed=seed)
        if spread is not None:
            difference = (float(np.average(values - known, weights=weights)), *spread)
    names = dict.fromkeys(name for r in readings.values() for name in r.beside)
    beside = {}
    for name in names:
        pairs = [(r.beside[name], r.weight) for r in readings.values() if name in r.beside]
        finite = [(v, max(w, 1e-12)) for v, w in pairs if math.isfinite(v)]
        if finite:
            numbers, shares = zip(*finite, strict=True)
            beside[name] = float(np.average(numbers, weights=shares))
    return Figure(
        name=metric.name,
        value=float(np.average(values, weights=weights)),
        unit=metric.unit,
        n=len(values),
        ci=bootstrap_mean(values, weights, seed=seed),
        control=control,
        control_is=metric.control if control is not None else "",
        minus_control=difference,
        definition=metric.definition,
        better=metric.better,
        beside=beside,
        warnings=few_items(len(values)),
        per_item={n: r.value for n, r in readings.items()},
    )


def few_items(count: int) -> tuple[str, ...]:
    """What to say of an interval over so many items."""
    if count < 2:
        return ("one item only: no interval",)
    if count < FEW_ITEMS:
        return (f"{count} items only: the interval is too narrow",)
    return ()


def above_interval(value: float, ci: Interval | None) -> tuple[str, ...]:
    """What to say of a distance that its own interval, freed of what few samples add, does not reach."""
    if ci is None or value <= ci[1]:
        return ()
    return ("the value lies above its interval: that much is the bias of few samples",)


def bootstrap_mean(
    values: Float[np.ndarray, " n"],
    weights: Float[np.ndarray, " n"] | None = None,
    *,
    seed: int = 0,
    draws: int = DRAWS,
) -> Interval | None:
    """Percentile interval (95 %) of the weighted mean, items drawn with replacement (Efron 1979)."""
    if len(values) < 2:
        return None
    weights = np.ones(len(values)) if weights is None else weights
    chosen = np.random.default_rng(seed).integers(0, len(values), (draws, len(values)))
    total = weights[chosen].sum(1)
    means = (values * weights)[chosen].sum(1)[total > 0] / total[total > 0]
    low, high = np.quantile(means, ((1 - LEVEL) / 2, (1 + LEVEL) / 2))
    return float(low), float(high)


def bootstrap_of(
    statistic: Callable[[np.ndarray], float], items: int, *, seed: int = 0, draws: int = 200
) -> Interval | None:
    """Reverse percentile interval of a statistic of the drawn items' numbers.

    A distance between sets grows when items repeat; reversing about the value takes that bias back out
    (Davison and Hinkley 1997, §5.2).  Never below 0.
    """
    if items < 2:
        return None
    rng = np.random.default_rng(seed)
    value = statistic(np.arange(items))
    drawn = [statistic(rng.integers(0, items, items)) for _ in range(draws)]
    low, high = np.quantile(drawn, ((1 - LEVEL) / 2, (1 + LEVEL) / 2))
    return max(0.0, float(2 * value - high)), max(0.0, float(2 * value - low))
