"""`emo2 evaluate motion`: the measures of hand motion, in one tuple, and their report."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from emo2.generate import Event
from emo2.metrics import closeness, motion, spread, strokes
from emo2.metrics.alignment import BOTH, alignment_figure, alignment_rows
from emo2.metrics.beats import VARIANTS
from emo2.metrics.evaluation import evaluate
from emo2.metrics.figures import Metric, Reading
from emo2.metrics.inputs import Inputs, Item, named_apart
from emo2.metrics.measuring import Measure, Measured, read_all
from emo2.metrics.motion_clips import TRUTH, Clip, Points, Track, read_clip
from emo2.metrics.motion_sets import SET_METRICS

SUFFIXES = (".npz", ".json")
_SHIFT = 0.37
"""Share of the clip by which a control is moved in time."""


def _of_each(function: Callable[[Points, float], float], clip: Clip) -> Reading:
    """Mean over samples at their own rates, the truth's own as control."""
    values = [function(t.own_points, t.motion.fps) for t in clip.samples]
    true = clip.truth
    control = None if true is None else function(true.own_points, true.motion.fps)
    return Reading(value=sum(values) / len(values), control=control)


def _l1div(clip: Clip) -> Reading:
    values = [spread.l1div(t.points) for t in clip.samples]
    control = None if clip.truth is None else spread.l1div(clip.truth.points)
    return Reading(value=sum(values) / len(values), control=control)


def _time_variance(clip: Clip) -> Reading:
    control = None if clip.truth is None else spread.time_variance(clip.truth.points[None])
    return Reading(value=spread.time_variance(clip.together), control=control)


def _of_samples(function: Callable[[Tensor], float], clip: Clip) -> Reading | None:
    """Over the samples of one voice; the same motions with every sample moved in time as control."""
    if len(clip.samples) < 2:
        return None
    together = clip.together
    frames = together.shape[1]
    one = together[0]
    moved = [
        torch.roll(one, round(frames * (i + 0.5) / len(together)), 0) for i in range(len(together))
    ]
    return Reading(
        value=function(together), control=function(torch.stack(moved)),
        beside={"samples": float(len(together))},
    )  # fmt: skip


def _against_truth(
    function: Callable[[Track, Track, int], float | None], clip: Clip
) -> Reading | None:
    """Mean over samples; the truth moved in time by 37 % of its length as control."""
    if clip.truth is None:
        return None
    frames = min(len(clip.truth.points), *(len(t.points) for t in clip.samples))
    values = [function(t, clip.truth, 0) for t in clip.samples]
    known = [v for v in values if v is not None]
    if not known:
        return None
    controls = [function(t, clip.truth, round(_SHIFT * frames)) for t in clip.samples]
    found = [c for c in controls if c is not None]
    return Reading(
        value=sum(known) / len(known), control=sum(found) / len(found), weight=float(frames)
    )


def _pair(made: Track, true: Track, shift: int) -> tuple[Points, Points]:
    frames = min(len(made.points), len(true.points))
    return made.points[:frames], torch.roll(true.points[:frames], shift, 0)


def _pck(threshold: float, made: Track, true: Track, shift: int) -> float:
    return closeness.pck(*_pair(made, true, shift), threshold)


def _lvd(made: Track, true: Track, shift: int) -> float:
    return closeness.lvd(*_pair(made, true, shift))


def _srgr(made: Track, true: Track, shift: int) -> float | None:
    if true.semantic is None:
        return None
    pair = _pair(made, true, shift)
    at = (
        (torch.arange(len(pair[0])) * (true.motion.fps / 30))
        .long()
        .clamp(max=len(true.semantic) - 1)
    )
    return closeness.srgr(*pair, torch.roll(true.semantic[at], shift))


_RULES = {
    "ba_talkshow": "four arm angles (elbows solved), drop 0.01, sigma 0.1 s, 30 fps (TalkSHOW)",
    "ba_ha2g": "summed change of all arm and finger angles, drop 0.03, sigma 0.1 s, 15 fps (HA2G; bones ours)",
    "ba_beat": "speed of the right wrist's rotation, order 2, sigma 0.3 s, 15 fps, onsets backtracked (BEAT)",
    "ba_emage": "speed of wrists and finger tips, order 7, a tenth of the mean, sigma 0.3 s, 30 fps (EMAGE's rule)",
    "ba_bailando": "mean speed of all key points smoothed over 5 frames, sigma 3 frames, 30 fps (Bailando)",
}
_SHIFTED_TRUTH = "the truth moved in time by 37 %"
_OWN = "the truth's own"


def _beat(name: str) -> Metric:
    return Metric(
        name=name, unit="", need="voice", control=BOTH, version=2,
        definition=f"mean over onsets of exp(-d²/2 sigma²), d to the nearest motion beat: {_RULES[name]}",
        rows=partial(alignment_rows, name), conclude=alignment_figure,
    )  # fmt: skip


def _strokes(clip: Clip) -> Reading | None:
    """Over all samples; each stroke counts once."""
    voice = clip.stresses
    if voice is None:
        return None
    found = [_stroke_fit(track, voice) for track in clip.samples]
    fits = [f for f in found if f is not None]
    if not fits:
        return None
    count = sum(f.count for f in fits)
    true = None if clip.truth is None else _stroke_fit(clip.truth, voice)
    spoken_s = len(clip.samples) * max(
        float(voice.speaking.mean()) * len(voice.speaking) / 100, 0.01
    )
    beside = {"strokes a second": count / spoken_s}
    return Reading(
        value=sum(f.matched * f.count for f in fits) / count,
        control=sum(f.moved * f.count for f in fits) / count,
        weight=float(count),
        beside=beside if true is None else {**beside, "truth": true.matched, "truth, voice moved": true.moved},
    )  # fmt: skip


def _stroke_fit(track: Track, voice: strokes.Stresses) -> strokes.Fit | None:
    ends = strokes.stroke_ends(track.own_points[:, [0, 21]], track.motion.fps)
    return strokes.fit(ends, voice)


def _near(threshold: float) -> Metric:
    return Metric(
        name=f"pck_{round(threshold * 100):02d}", unit="", need="truth", better="higher", control=_SHIFTED_TRUTH,
        definition=f"share of the 42 key points within {threshold:g} m of the true ones",
        read=partial(_against_truth, partial(_pck, threshold)),
    )  # fmt: skip


def _own(name: str, unit: str, definition: str, read: Callable) -> Metric:
    return Metric(
        name=name, unit=unit, definition=definition, better="as control", control=_OWN, read=read
    )


def _samples(name: str, unit: str, definition: str, function: Callable) -> Metric:
    return Metric(
        name=name, unit=unit, definition=definition, need="samples", control="one sample moved in time",
        read=partial(_of_samples, function),
    )  # fmt: skip


METRICS: tuple[Metric, ...] = (
    _samples("div", "m", "mean absolute difference over all pairs of the samples of one voice and all numbers of the "
             "42 key points (Ye et al. 2022; DiffSHEG; TalkSHOW's code)", motion.diversity),
    _samples("div_talkshow", "m²", "unbiased variance over the samples of one voice, its length over xyz, summed over "
             "the 42 key points (TalkSHOW's test)", spread.sample_variance),
    _samples("var_cross", "m²", "variance over the samples of one voice, mean of everything (Audio2Photoreal)",
             spread.cross_variance),
    _own("var_k", "m²", "variance over time, mean of everything (Audio2Photoreal's Div_k)", _time_variance),
    _own("l1div", "m", "sum over the 126 numbers of the distance to the clip's mean, mean over frames (EMAGE)", _l1div),
    *(_beat(name) for name in VARIANTS),
    Metric(
        name="ba_strokes", unit="", need="voice", better="higher", control="its own voice moved by 0.3 to 1.5 s",
        definition="mean over the wrists' moves that come to a stop while somebody speaks of exp(-d²/2 sigma²), d from "
        "the stop to the nearest stressed syllable, sigma 0.06 s",
        read=_strokes,
    ),
    *(_near(threshold) for threshold in (0.05, 0.1, 0.2, 0.5)),
    Metric(
        name="srgr", unit="", need="truth with `semantic`", better="higher", control=_SHIFTED_TRUTH, version=2,
        definition="share of key points within 0.1 m (sum over axes), frames weighted by semantic score / 0.165 (BEAT)",
        read=partial(_against_truth, _srgr),
    ),
    Metric(
        name="lvd", unit="m a frame", need="truth", better="lower", control=_SHIFTED_TRUTH,
        definition="difference of the speeds from the true ones, summed over the 42 key points, mean over time, 30 fps "
        "(TalkSHOW)",
        read=partial(_against_truth, _lvd),
    ),
    *SET_METRICS,
    _own("jerk", "m/s³", "mean length of the third finite difference of the 42 key points, times fps³ (GENEA)",
         partial(_of_each, motion.jerk)),
    _own("acceleration", "m/s²", "mean length of the second finite difference of the 42 key points, times fps² (GENEA)",
         partial(_of_each, motion.acceleration)),
    _own("rest_fraction", "", "share of the frames in which the key points move slower than 5 cm/s on average",
         partial(_of_each, motion.rest_fraction)),
)  # fmt: skip


def evaluate_motion(
    inputs: Inputs, output: Path, *, command: str, jobs: int = 1, seed: int = 0
) -> Iterator[Event]:
    """Measure motions and write the report; the true set is read alongside for the distances between sets."""
    whole, metrics, measure = plan(inputs)
    yield from evaluate(
        whole, output, metrics, measure, title="Motion", command=command, jobs=jobs, seed=seed
    )


def plan(inputs: Inputs) -> tuple[Inputs, tuple[Metric, ...], Measure]:
    """All items to read (the true set with them), the metrics, and how an item is measured."""
    true = [
        Item(name=name, generated=(p,)) for name, p in named_apart(inputs.truths, TRUTH).items()
    ]
    return replace(inputs, items=(*inputs.items, *true)), METRICS, measure_motion


def measure_motion(item: Item) -> Measured:
    """All measures of one item's motions; of the true set only what distances between sets want."""
    clip, notes = read_clip(item)
    metrics = SET_METRICS if item.name.startswith(TRUTH) else METRICS
    measured = read_all(item, clip, metrics, notes)
    finite = {n: r for n, r in measured.readings.items() if math.isfinite(r.value)}
    return replace(measured, readings=finite)
