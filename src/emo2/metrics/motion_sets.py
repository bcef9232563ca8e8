"""Distances between a generated and a true set of motions: each item leaves sums, one conclusion is drawn from all."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from emo2.metrics import frechet
from emo2.metrics.figures import (
    DRAWS,
    LEVEL,
    Figure,
    Metric,
    Rows,
    above_interval,
    bootstrap_of,
    few_items,
)
from emo2.metrics.motion_clips import RATE, TRUTH, Clip, Points
from emo2.metrics.motion_encoder import codes_of
from emo2.metrics.spread import GROUP, SPEED_BIN, grouped_diversity

_BINS = 240
_WINDOW = 88
"""Frames of a window of `div_50` (DiffSHEG, SHOW)."""
_DRAWS = 100
_PAIRED = 300
"""Windows whose pairs an interval of `div_50` is made of."""


@dataclass(frozen=True)
class Sums:
    """Count, sum and products of rows: enough for a Fréchet distance, and they add up."""

    count: float
    total: Float[np.ndarray, " d"]
    products: Float[np.ndarray, "d d"]

    def __add__(self, other: Sums) -> Sums:
        return Sums(
            self.count + other.count, self.total + other.total, self.products + other.products
        )

    def moments(self) -> frechet.Moments:
        """Mean and unbiased covariance."""
        mean = self.total / self.count
        covariance = (self.products - np.outer(mean, mean) * self.count) / max(self.count - 1, 1)
        return frechet.Moments(
            count=int(self.count),
            mean=torch.from_numpy(mean),
            covariance=torch.from_numpy(covariance),
        )


def wrist_places(points: Points) -> Float[Tensor, "frames 6"]:
    """Both wrists."""
    return points[:, [0, 21]].flatten(1)


def all_places(points: Points) -> Float[Tensor, "frames 126"]:
    """All 42 key points."""
    return points.flatten(1)


def steps(places: Callable[[Points], Tensor], points: Points) -> Float[Tensor, "_ n"]:
    """Differences of consecutive frames at 30 frames a second (Audio2Photoreal's FD_k)."""
    return torch.diff(places(points), dim=0)


def sums_of(features: Callable[[Points], Tensor], clip: Clip) -> dict[str, np.ndarray]:
    """Sums of the first and of the second half of every sample, so that one take has halves too."""
    count, total, products = [], [], []
    for half in range(2):
        rows = []
        for track in clip.samples:
            found = features(track.points)
            middle = len(found) // 2
            rows.append(found[:middle] if half == 0 else found[middle:])
        both = torch.cat(rows).double().numpy()
        count.append(len(both))
        total.append(both.sum(0))
        products.append(both.T @ both)
    return {
        "count": np.array(count, float),
        "total": np.stack(total),
        "products": np.stack(products),
    }


def _sums(rows: dict[str, np.ndarray]) -> list[Sums]:
    parts = zip(rows["count"], rows["total"], rows["products"], strict=True)
    return [Sums(float(n), t, p) for n, t, p in parts]


def _added(sums: Sequence[Sums]) -> Sums:
    first, *others = sums
    for other in others:
        first = first + other
    return first


def frechet_figure(metric: Metric, rows: Rows, seed: int) -> Figure | None:
    """Distance between the sets, between the halves of the truth, and what chance adds to both."""
    made = [_added(_sums(dict(r))) for n, r in rows.items() if not n.startswith(TRUTH)]
    halves = [_sums(dict(r)) for n, r in rows.items() if n.startswith(TRUTH)]
    if not made or not halves:
        return None
    true, whole = _added([s for pair in halves for s in pair]), _added(made)
    if true.count < 3 or whole.count < 3:
        return None
    against = true.moments()

    def off(chosen: np.ndarray) -> float:
        return frechet.distance(_added([made[i] for i in chosen]).moments(), against)

    value = max(0.0, frechet.distance(whole.moments(), against))  # rounding alone goes below
    parts = _halves(halves)
    known = min(p.count for p in parts) > 2
    control = frechet.distance(*(p.moments() for p in parts)) if known else None
    size = len(true.total)
    expected = frechet.bias(against.covariance, int(whole.count), int(true.count))
    beside = {
        "bias": expected, "rows": whole.count, "true rows": true.count, "numbers a row": float(size),
    }  # fmt: skip
    warnings = list(few_items(len(made)))
    if len(made) > 1:
        warnings = [w for w in warnings if "interval" in w]
    if expected > 0.1 * value or min(whole.count, true.count) < 10 * size:
        warnings.append(
            f"small sample: two samples of one distribution of these sizes would be {expected:.3g} apart, if rows "
            "were independent (neighbouring ones are not, so more)"
        )
    ci = bootstrap_of(off, len(made), seed=seed, draws=_DRAWS)
    warnings += above_interval(value, ci)
    return Figure(
        name=metric.name, value=value, unit=metric.unit, n=len(made), ci=ci,
        control=control, control_is=metric.control, definition=metric.definition,
        better=metric.better, beside=beside, warnings=tuple(warnings),
    )  # fmt: skip


def _halves(halves: list[list[Sums]]) -> tuple[Sums, Sums]:
    """Every second take against the others; a single take's first half against its second."""
    if len(halves) > 1:
        takes = [_added(pair) for pair in halves]
        return _added(takes[::2]), _added(takes[1::2])
    return halves[0][0], halves[0][1]


def speeds_of(clip: Clip) -> dict[str, np.ndarray]:
    """Histograms of both wrists' speeds, of the first and the second half."""
    counts = np.zeros((2, _BINS))
    for track in clip.samples:
        wrists = track.points[:, [0, 21]].double()
        speed = torch.diff(wrists, dim=0).norm(dim=-1) * RATE
        at = (speed / SPEED_BIN).long().clamp(0, _BINS - 1)
        middle = len(at) // 2
        for half, part in enumerate((at[:middle], at[middle:])):
            counts[half] += torch.bincount(part.flatten(), minlength=_BINS).numpy()
    return {"counts": counts}


def hellinger_figure(metric: Metric, rows: Rows, seed: int) -> Figure | None:
    """Hellinger distance of the two sets' histograms; the truth's halves as control."""
    made = np.array([r["counts"].sum(0) for n, r in rows.items() if not n.startswith(TRUTH)])
    true = np.array([r["counts"] for n, r in rows.items() if n.startswith(TRUTH)])
    if not len(made) or not len(true):
        return None
    whole = true.sum((0, 1))
    parts = true.sum(0) if len(true) == 1 else (true[::2].sum((0, 1)), true[1::2].sum((0, 1)))

    def off(chosen: np.ndarray) -> float:
        return hellinger(made[chosen].sum(0), whole)

    return Figure(
        name=metric.name, value=hellinger(made.sum(0), whole), unit=metric.unit, n=len(made),
        ci=bootstrap_of(off, len(made), seed=seed), control=hellinger(parts[0], parts[1]),
        control_is=metric.control, definition=metric.definition, better=metric.better,
        warnings=few_items(len(made)),
    )  # fmt: skip


def hellinger(first: Float[np.ndarray, " bins"], second: Float[np.ndarray, " bins"]) -> float:
    """Of two histograms' counts."""
    overlap = np.sqrt(first / first.sum() * (second / second.sum())).sum()
    return float(np.sqrt(max(0.0, 1.0 - overlap)))


def windows_of(clip: Clip) -> dict[str, np.ndarray]:
    """Stretches of 88 frames, one after the other."""
    found = []
    for track in clip.samples:
        edges = range(0, len(track.points) + 1, _WINDOW)
        found += [track.points[a:b].flatten().numpy() for a, b in pairwise(edges)]
    return {"windows": np.array(found, np.float32)} if found else {}


def grouped_figure(metric: Metric, rows: Rows, seed: int) -> Figure | None:
    """Diversity in groups of 50 windows drawn from the whole set; the true set's own as control."""
    values = []
    for true in (False, True):
        kept = [r["windows"] for n, r in rows.items() if n.startswith(TRUTH) == true]
        if not kept or sum(map(len, kept)) < GROUP:
            values.append(None)
            continue
        windows = torch.from_numpy(np.concatenate(kept))
        values.append(grouped_diversity(windows, torch.Generator().manual_seed(seed)))
    if values[0] is None:
        return None
    made = [r["windows"] for n, r in rows.items() if not n.startswith(TRUTH)]
    return Figure(
        name=metric.name, value=values[0], unit=metric.unit, n=len(made), control=values[1],
        control_is=metric.control if values[1] is not None else "", definition=metric.definition,
        better=metric.better, warnings=few_items(len(made)), ci=_pairs_interval(made, values[0], seed),
    )  # fmt: skip


def _pairs_interval(
    made: Sequence[Float[np.ndarray, "_ n"]], value: float, seed: int
) -> tuple[float, float] | None:
    """Items drawn anew.  Random groups only estimate the mean over all pairs, so pairs are weighed; copies make none."""
    if len(made) < 2:
        return None
    most = max(2, _PAIRED // len(made))
    some = [torch.from_numpy(w[:: -(-len(w) // most)]) for w in made]
    flat = torch.cat(some)
    owner = torch.repeat_interleave(torch.arange(len(some)), torch.tensor([len(w) for w in some]))
    own = torch.nn.functional.one_hot(owner).double()
    apart = (torch.cdist(flat, flat, p=1) / flat.shape[1]).double()
    sums = (own.T @ apart @ own).numpy()
    pairs = (own.T @ (1 - torch.eye(len(flat)).double()) @ own).numpy()
    start = float(sums.sum() / pairs.sum())

    def gap(chosen: np.ndarray) -> float:
        times = np.bincount(chosen, minlength=len(some))
        counted = float(times @ pairs @ times)
        return float(times @ sums @ times) / counted - start if counted else 0.0

    rng = np.random.default_rng(seed)
    gaps = [gap(rng.integers(0, len(some), len(some))) for _ in range(DRAWS)]
    low, high = np.quantile(gaps, ((1 - LEVEL) / 2, (1 + LEVEL) / 2))
    return max(0.0, value + float(low)), value + float(high)


_HALVES = "one half of the truth against the other"
_UNIT = "m²"


def _distance(
    name: str, definition: str, features: Callable, unit: str = _UNIT, version: int = 1
) -> Metric:
    return Metric(
        name=name, unit=unit, definition=definition, need="truth", better="as control",
        control=_HALVES, version=version, rows=partial(sums_of, features), conclude=frechet_figure,
    )  # fmt: skip


SET_METRICS: tuple[Metric, ...] = (
    _distance("fd_g", "Fréchet distance of the wrists' places, frame by frame (Audio2Photoreal's FD_g, on wrists)",
              wrist_places),
    _distance("fd_k", "Fréchet distance of the wrists' steps from frame to frame at 30 fps (FD_k, on wrists)",
              partial(steps, wrist_places)),
    _distance("fd_g_points", "Fréchet distance of the places of all 42 key points, frame by frame", all_places),
    _distance("fd_k_points", "Fréchet distance of the steps of all 42 key points at 30 fps",
              partial(steps, all_places)),
    _distance("fgd", "Fréchet distance of our motion encoder's 32 codes, windows of 32 frames, every 16th frame",
              codes_of, unit="", version=2),
    Metric(
        name="hellinger", unit="", need="truth", better="as control", control=_HALVES,
        definition="Hellinger distance of the histograms of the wrists' speeds, bins of 0.05 m/s (GENEA)",
        rows=speeds_of, conclude=hellinger_figure,
    ),
    Metric(
        name="div_50", unit="m", better="as control", control="the true set's own",
        definition="mean absolute difference over pairs and numbers within random groups of 50 windows of 88 frames "
        "of the set (Ye et al. 2022; DiffSHEG)",
        rows=windows_of, conclude=grouped_figure,
    ),
)  # fmt: skip
