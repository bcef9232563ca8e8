"""The film metrics that need a network of the user's: which, how each reads an item, how sets are compared."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from emo2.media.watch import read_frames
from emo2.metrics import picture_features
from emo2.metrics.figures import (
    Figure,
    Metric,
    Reading,
    Rows,
    above_interval,
    bootstrap_of,
    few_items,
)
from emo2.metrics.film_loaded import LoadedFilm, sparse
from emo2.metrics.film_reading import FPS
from emo2.metrics.frechet import Moments, Redrawn, bias, distance, moments
from emo2.metrics.networks import NETWORKS, NetworkFolder
from emo2.metrics.whole_body import HandFigures

_DRAWS = 100
_BIASED = 0.1
"""Share of the distance that the sample's size may explain without a warning."""


# ------------------------------------------------------------------------------------------------ sets of features


def _set_rows(
    read: Callable[[LoadedFilm, Path], np.ndarray | None],
) -> Callable[[LoadedFilm], dict[str, np.ndarray]]:
    def rows(film: LoadedFilm) -> dict[str, np.ndarray]:
        wanted = {"generated": None if film.is_only_true else film.film, "truth": film.item.truth}
        found = {name: read(film, path) for name, path in wanted.items() if path is not None}
        return {name: r for name, r in found.items() if r is not None and len(r)}

    return rows


def _inception(film: LoadedFilm, path: Path) -> np.ndarray | None:
    network = film.networks.path("inception")
    if network is None:
        return None
    frames = sparse(read_frames(path, fps=FPS))
    with torch.inference_mode():
        return picture_features.inception_features(frames, network).float().numpy()


def _i3d(film: LoadedFilm, path: Path) -> np.ndarray | None:
    network = film.networks.path("i3d")
    if network is None:
        return None
    with torch.inference_mode():
        return picture_features.i3d_features(read_frames(path, fps=FPS), network).float().numpy()


def _expressions(film: LoadedFilm, path: Path) -> np.ndarray | None:
    reading = film.generated if path == film.film else film.truth
    return None if reading is None else film.expressions(reading)


def set_distance(metric: Metric, rows: Rows, seed: int) -> Figure | None:
    """Fréchet distance of all generated rows from all true ones; the control: the truth's own halves.

    A true film counts once, however many generated ones it is the truth of.
    """
    made = [torch.from_numpy(r["generated"]) for r in rows.values() if "generated" in r]
    once = {r["truth"].tobytes(): r["truth"] for r in rows.values() if "truth" in r}
    true = [torch.from_numpy(r) for r in once.values()]
    counts = sum(map(len, made)), sum(map(len, true))
    if min(counts) < 2:
        return None
    of_true = moments(true)
    value = max(0.0, distance(moments(made), of_true))  # rounding alone goes below
    expected = bias(of_true.covariance, *counts)
    halves = (true[::2], true[1::2]) if len(true) > 1 else ([true[0][::2]], [true[0][1::2]])
    enough = min(sum(map(len, half)) for half in halves) >= 2
    control = distance(moments(halves[0]), moments(halves[1])) if enough else None
    width = made[0].shape[1]
    warnings = list(few_items(len(made))) if len(made) > 1 else [_ONE_FILM]
    if min(counts) <= width:
        warnings.append(
            f"{min(counts)} rows of {width} numbers: the covariance is not of full rank"
        )
    if expected > _BIASED * abs(value):
        warnings.append(f"a sample of this size gives {expected:.3g} where there is no difference")
    ci = _redrawn(made, of_true, seed)
    warnings += above_interval(value, ci)
    return Figure(
        name=metric.name, value=value, unit=metric.unit, n=counts[0], ci=ci,
        control=control, control_is=metric.control if control is not None else "", definition=metric.definition,
        better=metric.better, warnings=tuple(warnings),
        beside={"films": len(made), "true films": len(true), "true rows": counts[1], "bias to expect": expected},
    )  # fmt: skip


_ONE_FILM = "one film only: the interval draws its rows, which are alike, and is too narrow"


def _redrawn(made: list[Tensor], true: Moments, seed: int) -> tuple[float, float] | None:
    """Generated films drawn anew (of a single film: its rows), the true set as it is."""
    rows = torch.cat(made)
    film = torch.repeat_interleave(torch.arange(len(made)), torch.tensor([len(m) for m in made]))
    film = film if len(made) > 1 else torch.arange(len(rows))
    units, of_draw = int(film.max()) + 1, Redrawn(rows, true)

    def drawn(chosen: np.ndarray) -> float:
        times = torch.from_numpy(np.bincount(chosen, minlength=units))[film]
        return of_draw(times.double())

    return bootstrap_of(drawn, units, seed=seed, draws=_DRAWS)


# --------------------------------------------------------------------------------------------------- film by film


def _lpips(film: LoadedFilm) -> Reading | None:
    pairs = film.pairs
    if pairs is None or not len(pairs.lpips):
        return None
    return Reading(value=float(pairs.lpips.mean()), control=float(pairs.still_lpips.mean()))


def _sync_c(film: LoadedFilm) -> Reading | None:
    if film.sync is None:
        return None
    own, turned = film.sync
    beside = {"offset": float(own.offset)}
    return Reading(value=own.confidence, control=turned.confidence, beside=beside)


def _sync_d(film: LoadedFilm) -> Reading | None:
    if film.sync is None:
        return None
    own, turned = film.sync
    return Reading(value=own.distance, control=turned.distance)


def _cosine(film: LoadedFilm) -> Reading | None:
    if film.cosines is None:
        return None
    value, own = film.cosines
    beside = {"frames with a face": float(film.generated.seen.float().mean())}
    return Reading(value=value, control=own if np.isfinite(own) else None, beside=beside)


def _hands(
    value: Callable[[HandFigures], float | None], *, in_pixels: bool = False
) -> Callable[[LoadedFilm], Reading | None]:
    def read(film: LoadedFilm) -> Reading | None:
        found = film.hands(film.generated)
        made = None if found is None else value(found)
        if found is None or made is None:
            return None
        true = None if film.truth is None else film.hands(film.truth)
        beside = {"seen": found.seen_share}
        if in_pixels and found.hkv_px is not None:
            beside["px"] = found.hkv_px
        return Reading(value=made, control=None if true is None else value(true), beside=beside)

    return read


_TRUE_HALVES = "one half of the true films against the other"
_TURNED = "the voice turned round by half its length"
_OWN = "the truth's own"

WITH_NETWORKS: tuple[Metric, ...] = (
    Metric(
        name="fid", unit="", need="inception", better="lower", control=_TRUE_HALVES,
        rows=_set_rows(_inception), conclude=set_distance,
        definition="Fréchet distance of Inception pool3 rows (bilinear 299 without antialiasing, as pytorch-fid), every fifth frame of 25 a second",
    ),
    Metric(
        name="fvd", unit="", need="i3d", better="lower", control=_TRUE_HALVES,
        rows=_set_rows(_i3d), conclude=set_distance,
        definition="Fréchet distance of I3D's 400 numbers before the softmax, windows of 16 frames of 25 a second side by side, short side 224, middle square (StyleGAN-V)",
    ),
    Metric(
        name="lpips", unit="", need="alexnet", better="lower", control="the truth's first frame, held",
        read=_lpips,
        definition="LPIPS 0.1 on AlexNet, layers' maps at the picture's size added, mean; every fifth frame, at the truth's rate and size",
    ),
    Metric(
        name="sync_c", unit="", need="syncnet", better="higher", control=_TURNED, read=_sync_c,
        definition="SyncNet confidence: median minus least of the mean distance over shifts of up to 15 frames; crop from our own face points",
    ),
    Metric(
        name="sync_d", unit="", need="syncnet", better="lower", control=_TURNED, read=_sync_d,
        definition="SyncNet distance: the least mean distance over shifts of up to 15 frames",
    ),
    Metric(
        name="csim", unit="cosine", need="arcface", better="higher", control=_OWN, read=_cosine,
        definition="mean cosine of ArcFace features of the reference (the truth's first frame, else the film's) and every fifth frame with a face",
    ),
    Metric(
        name="f_sim", unit="cosine", need="arcface", better="as control", control=_OWN, read=_cosine,
        definition="the cosine of csim, read as EMO reads it: best where it equals the truth's own",
    ),
    Metric(
        name="e_fid", unit="", need="deng2019", better="lower", control=_TRUE_HALVES,
        rows=_set_rows(_expressions), conclude=set_distance,
        definition="Fréchet distance of the 64 expression numbers of Deng 2019, a row every fifth frame with a face",
    ),
    Metric(
        name="hkc", unit="score", need="wholebody", better="higher", control=_OWN,
        read=_hands(lambda h: h.hkc),
        definition="mean DWPose score of 42 hand points over every fifth frame, the whole picture as the person's box",
    ),
    Metric(
        name="hkv", unit="picture sizes", need="wholebody", better="as control", control=_OWN,
        read=_hands(lambda h: h.hkv, in_pixels=True),
        definition="standard deviation over time of 42 hand points, x/width and y/height, mean; points under 0.3 and hands seen in under half of the frames left out",
    ),
)  # fmt: skip


def available(networks: NetworkFolder) -> tuple[Metric, ...]:
    """Those whose networks are there; the files' checksums count as part of their version."""
    absent = {name for key, n in NETWORKS.items() if not networks.has(key) for name in n.serves}
    sums = int("".join(sorted(networks.checksums().values()))[:12] or "0", 16)
    return tuple(
        replace(m, version=sums + m.version) for m in WITH_NETWORKS if m.name not in absent
    )
