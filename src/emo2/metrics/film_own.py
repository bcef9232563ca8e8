"""The film metrics that need no network of the user's: their definitions, and how each reads an item."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch

from emo2.metrics import lasting
from emo2.metrics.face_signals import blinks, head_speed, lip_gap, lower_lip, quick
from emo2.metrics.figures import DRAWS, Figure, Metric, Reading, Rows, few_items, mean_figure
from emo2.metrics.film_loaded import LoadedFilm
from emo2.metrics.film_reading import FPS, FilmReading
from emo2.metrics.hand_tearing import tearing
from emo2.metrics.lips import (
    LAGS,
    PhoneLips,
    by_lag,
    common_lag,
    lip_closure,
    near_correlation,
    open_vowel,
    peak_lag,
    shifted_correlation,
)  # fmt: skip

EIGHT_BIT_DB = 20 * np.log10(255.0)
_SWAPS = 8
"""Other films' voices that each film is held against."""
_LONG_S = 20.0
"""Films from which a change a minute is said."""
_BEGINNING = 2
"""Samples of hands (0.4 s apart) that make a film's beginning."""


# ----------------------------------------------------------------------------------------- frame against frame


def _psnr(film: LoadedFilm) -> Reading | None:
    pairs = film.pairs
    if pairs is None or not len(pairs.psnr):
        return None
    value = float(pairs.psnr.mean())
    return Reading(
        value=value,
        control=float(pairs.still_psnr.mean()),
        beside={"plus 48.13": value + EIGHT_BIT_DB, "frames": len(pairs.psnr)},
    )


def _ssim(film: LoadedFilm) -> Reading | None:
    pairs = film.pairs
    if pairs is None or not len(pairs.ssim):
        return None
    return Reading(value=float(pairs.ssim.mean()), control=float(pairs.still_ssim.mean()))


# ----------------------------------------------------------------------------------------------- mouth and voice


def _mouth_rows(film: LoadedFilm) -> dict[str, np.ndarray]:
    reading, envelope = film.generated, film.envelope
    if envelope is None or not reading.has_face or reading.frames < 3 * (LAGS + 1) + 1:
        return {}
    return {"mouth": lower_lip(reading.points).numpy(), "voice": envelope.numpy()}


def _mouth_voice(is_quick: bool) -> Callable[[Metric, Rows, int], Figure | None]:
    def conclude(metric: Metric, rows: Rows, seed: int) -> Figure | None:
        signals = {name: _signals(r["mouth"], r["voice"], is_quick) for name, r in rows.items()}
        names = list(signals)
        readings, with_others = {}, []
        for index, name in enumerate(names):
            mouth, voice = signals[name]
            others = [names[(index + k) % len(names)] for k in range(1, min(_SWAPS, len(names) - 1) + 1)]  # fmt: skip
            swapped = [near_correlation(mouth, signals[o][1]) for o in others if _fits(mouth, signals[o][1])]  # fmt: skip
            shifted = shifted_correlation(mouth, voice)
            with_others.append(bool(swapped))
            readings[name] = Reading(
                value=near_correlation(mouth, voice),
                control=float(np.mean(swapped)) if swapped else shifted,
                weight=float(len(mouth)),
                beside={"voice shifted": shifted},
            )
        figure = mean_figure(metric, readings, seed)
        if figure is None or any(with_others) != all(with_others):
            return figure
        return replace(figure, control_is=_OTHERS if with_others[0] else _OWN_SHIFTED)

    return conclude


def _fits(mouth: torch.Tensor, voice: torch.Tensor) -> bool:
    return min(len(mouth), len(voice)) >= 3 * (LAGS + 1)


def _signals(
    mouth: np.ndarray, voice: np.ndarray, is_quick: bool
) -> tuple[torch.Tensor, torch.Tensor]:
    pair = torch.from_numpy(mouth).float(), torch.from_numpy(voice).float()
    return (quick(pair[0], FPS), quick(pair[1], FPS)) if is_quick else pair


def _lag(metric: Metric, rows: Rows, seed: int) -> Figure | None:
    curves: list[torch.Tensor] = []
    own: dict[str, float] = {}
    for name, r in rows.items():
        curve = by_lag(*_signals(r["mouth"], r["voice"], True), LAGS)
        if float(curve.amax()) <= 0:  # a mouth that never moves is not late
            continue
        curves.append(curve)
        own[name] = peak_lag(curve)
    if not curves:
        return None
    table, rng = torch.stack(curves), np.random.default_rng(seed)
    ci = None
    if len(curves) > 1:
        drawn = [
            common_lag(list(table[rng.integers(0, len(table), len(table))]))
            for _ in range(DRAWS // 4)
        ]
        ci = (float(np.quantile(drawn, 0.025)), float(np.quantile(drawn, 0.975)))
    value = common_lag(curves)
    return Figure(
        name=metric.name, value=value, unit=metric.unit, n=len(curves), ci=ci,
        definition=metric.definition, warnings=few_items(len(curves)), per_item=own,
        beside={
            "ms": value * 1000 / FPS,
            "correlation there": float(table.mean(0).max()),
            "films within 1 frame of it": sum(abs(v - value) <= 1 for v in own.values()),
        },
    )  # fmt: skip


def _mouth_mouth(film: LoadedFilm) -> Reading | None:
    made, true = film.generated, film.truth
    if true is None or not made.has_face or not true.has_face:
        return None
    ours, theirs = lower_lip(made.points), lower_lip(true.points)
    if not _fits(ours, theirs):
        return None
    frames = min(len(ours), len(theirs))
    return Reading(
        value=near_correlation(ours, theirs),
        control=shifted_correlation(ours, theirs),
        weight=float(frames),
        beside={"quick": near_correlation(quick(ours, FPS), quick(theirs, FPS))},
    )


def _phone_reading(found: PhoneLips | None, *, shut: bool) -> Reading | None:
    if found is None:
        return None
    beside = {"phones": float(len(found.shares))}
    if shut:
        beside["shut"] = found.shut
    return Reading(
        value=float(found.shares.mean()),
        control=found.control,
        weight=float(len(found.shares)),
        beside=beside,
    )


def _closure(film: LoadedFilm) -> Reading | None:
    if not film.phones or not film.generated.has_face:
        return None
    gap = lip_gap(film.generated.points)
    return _phone_reading(lip_closure(gap, film.phones, FPS), shut=True)


def _open_vowel(film: LoadedFilm) -> Reading | None:
    if not film.phones or not film.generated.has_face:
        return None
    gap = lip_gap(film.generated.points)
    return _phone_reading(open_vowel(gap, film.phones, FPS), shut=False)


# ----------------------------------------------------------------------------------------- one film, and its truth


def _of_film(
    measure: Callable[[FilmReading], Reading | None],
) -> Callable[[LoadedFilm], Reading | None]:
    """The same of the truth as the control, where the measure brings none of its own."""

    def read(film: LoadedFilm) -> Reading | None:
        reading = measure(film.generated)
        if reading is None or film.truth is None:
            return reading
        true = measure(film.truth)
        if true is None:
            return reading
        if reading.control is not None:
            return replace(reading, beside={**reading.beside, "truth": true.value})
        return replace(reading, control=true.value)

    return read


def _blink_rate(film: FilmReading) -> Reading | None:
    if not film.has_face:
        return None
    minutes = film.duration_s / 60
    return Reading(value=len(blinks(film.contrast, FPS)) / minutes, weight=minutes)


def _head_speed(film: FilmReading) -> Reading | None:
    speed = head_speed(film.points, FPS) if film.has_face else torch.zeros(0)
    return Reading(value=float(speed.mean()), weight=float(len(speed))) if len(speed) else None


def _change(change: lasting.Change | None, film: FilmReading) -> Reading | None:
    if change is None or not film.has_face:
        return None
    beside = {"per minute": change.per_minute} if film.duration_s >= _LONG_S else {}
    return Reading(value=change.value, control=change.control, beside=beside)


def _sharpness(film: FilmReading) -> Reading | None:
    return _change(lasting.sharpness_change(film.sharpness, FPS), film)


def _identity(film: FilmReading) -> Reading | None:
    return _change(lasting.identity_change(film.looks, FPS), film)


def _flicker(film: FilmReading) -> Reading | None:
    known = film.flicker[film.flicker.isfinite()]
    return Reading(value=float(known.mean()), weight=float(len(known))) if len(known) else None


def _background(film: FilmReading) -> Reading | None:
    found = film.background
    if found is None:
        return None
    return Reading(value=found.deviation, beside={"share of the picture": found.share})


def _tearing(film: FilmReading) -> Reading | None:
    found = tearing(film.loose, _BEGINNING)
    return None if found is None else Reading(value=found[0], beside={"at the beginning": found[1]})


_STILL = "the truth's first frame, held"
_TRUTH = "the same of the truth"
_HALVES = "interleaved halves of the same film"
_OTHERS = "voices of the other films"
_OWN_SHIFTED = "its own voice, shifted in time"
_SWAPPED = f"{_OTHERS}; where there is none, {_OWN_SHIFTED}"

OWN: tuple[Metric, ...] = (
    Metric(
        name="psnr", unit="dB", need="truth", better="higher", control=_STILL, read=_psnr,
        definition="20 log10(1 / root of the mean square error) on [0, 1], per frame, then the mean; at the truth's rate and size",
    ),
    Metric(
        name="ssim", unit="", need="truth", better="higher", control=_STILL, read=_ssim,
        definition="Wang 2004: 11 x 11 Gaussian of 1.5, valid region, mean of channels and frames; at the truth's rate and size",
    ),
    Metric(
        name="mouth_voice_r", unit="Pearson", need="voice", better="higher", control=_SWAPPED,
        rows=_mouth_rows, conclude=_mouth_voice(False),
        definition="lower lip below the nose against the voice's loudness, best lag within 2 frames of 25 a second",
    ),
    Metric(
        name="mouth_voice_quick_r", unit="Pearson", need="voice", better="higher", control=_SWAPPED,
        rows=_mouth_rows, conclude=_mouth_voice(True),
        definition="the same without what is slower than 0.36 s: syllables, not phrases",
    ),
    Metric(
        name="mouth_voice_lag", unit="frames of 1/25 s", need="voice", rows=_mouth_rows, conclude=_lag,
        version=2,
        definition="lag of the highest mean quick correlation over films, within 10 frames, between frames by a parabola; positive: the mouth is late",
    ),
    Metric(
        name="mouth_mouth_r", unit="Pearson", need="truth", better="higher",
        control="the truth shifted in time", read=_mouth_mouth,
        definition="lower lip of the film against that of the true film, best lag within 2 frames",
    ),
    Metric(
        name="lip_closure", unit="share of the range", need="phones", better="lower",
        control="the narrowest at any moment", read=_closure,
        definition="narrowest gap between the lips within 40 ms of each m, b, p; 0 and 1: 5th and 95th percentile of the film's gaps",
    ),
    Metric(
        name="open_vowel", unit="share of the range", need="phones", better="higher",
        control="the widest at any moment", read=_open_vowel,
        definition="widest gap between the lips within 40 ms of each open vowel, on the scale of lip_closure",
    ),
    Metric(
        name="blink_rate", unit="1/min", better="as control", control=_TRUTH, read=_of_film(_blink_rate),
        definition="dips of the eyes' contrast under 0.92 of its median within 0.6 s, at most 0.5 s long, a minute",
    ),
    Metric(
        name="head_speed", unit="eye distances/s", better="as control", control=_TRUTH,
        read=_of_film(_head_speed),
        definition="mean speed of the nose's bridge and the eyes' corners, places averaged over 5 frames",
    ),
    Metric(
        name="sharpness_change", unit="ratio", better="as control", control=_HALVES,
        read=_of_film(_sharpness),
        definition="energy of the Laplacian over variance of the aligned face: median of the last fifth over that of the first",
    ),
    Metric(
        name="identity_drift", unit="delta E", better="as control", control=_HALVES,
        read=_of_film(_identity),
        definition="CIELAB distance, mean of 6 x 8 cells of the aligned upper face, between the mean looks of the last and the first fifth",
    ),
    Metric(
        name="flicker", unit="8-bit levels", better="as control", control=_TRUTH, read=_of_film(_flicker),
        definition="root mean square difference to the frame before, warped by DIS flow, where the flow is sure; long side 256, 25 a second",
    ),
    Metric(
        name="background_stability", unit="8-bit levels", better="as control", control=_TRUTH,
        read=_of_film(_background),
        definition="root mean square of pixels about their mean over time where no person ever is; long side 256",
    ),
    Metric(
        name="hand_tearing", unit="share of skin", better="lower", control=_TRUTH, read=_of_film(_tearing),
        definition="share of a hand's skin outside its largest piece, beyond that of the film's beginning; every 0.4 s",
    ),
)  # fmt: skip
