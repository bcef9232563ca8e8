"""`emo2 evaluate motion`: the measures of hand motion."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from jaxtyping import Float
from torch import Tensor

from emo2.generate import Event
from emo2.hands import hand_points, load_motion, stand_in
from emo2.metrics import motion
from emo2.metrics.evaluation import evaluate
from emo2.metrics.figures import Metric, Reading
from emo2.metrics.inputs import Inputs, Item
from emo2.metrics.measuring import Measured, read_all

SUFFIXES = (".npz", ".json")

Points = Float[Tensor, "frames 42 3"]


@dataclass(frozen=True, kw_only=True)
class Clip:
    """One item, read: 21 key points of each hand in metres."""

    samples: tuple[Points, ...]
    truth: Points | None
    fps: float


def _smoothness(function: Callable[[Points, float], float], clip: Clip) -> Reading:
    """Mean over samples, the truth's own as control."""
    values = [function(points, clip.fps) for points in clip.samples]
    control = None if clip.truth is None else function(clip.truth, clip.fps)
    return Reading(value=sum(values) / len(values), control=control)


METRICS: tuple[Metric, ...] = (
    Metric(
        name="jerk",
        unit="m/s³",
        definition="mean length of the third finite difference of the 42 key points, times fps³ (GENEA)",
        better="as control",
        control="the truth's own",
        read=partial(_smoothness, motion.jerk),
    ),
    Metric(
        name="acceleration",
        unit="m/s²",
        definition="mean length of the second finite difference of the 42 key points, times fps² (GENEA)",
        better="as control",
        control="the truth's own",
        read=partial(_smoothness, motion.acceleration),
    ),
    Metric(
        name="rest_fraction",
        unit="",
        definition="share of the frames in which the key points move slower than 5 cm/s on average",
        better="as control",
        control="the truth's own",
        read=partial(_smoothness, motion.rest_fraction),
    ),
)


def evaluate_motion(
    inputs: Inputs, output: Path, *, command: str, jobs: int = 1, seed: int = 0
) -> Iterator[Event]:
    """Measure motions and write the report."""
    yield from evaluate(
        inputs,
        output,
        METRICS,
        measure_motion,
        title="Motion",
        command=command,
        jobs=jobs,
        seed=seed,
    )


def measure_motion(item: Item) -> Measured:
    """All measures of one item's motions."""
    made = [load_motion(path) for path in item.generated]
    truth = None if item.truth is None else load_motion(item.truth)
    points = [hand_points(stand_in(), m.hands, m.betas).flatten(1, 2) for m in made]
    true = (
        None if truth is None else hand_points(stand_in(), truth.hands, truth.betas).flatten(1, 2)
    )
    return read_all(item, Clip(samples=tuple(points), truth=true, fps=made[0].fps), METRICS)
