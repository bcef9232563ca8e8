"""What a hand does on a stressed syllable: beats, iconic and deictic strokes, signs, and self-touch kept apart.

A stroke is two poses, before and at its end (McNeill 1992 names the kinds); `gesture` sets them in time.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from emo2.studio.hand_shapes import SHAPES, HandPose

Stroke = tuple[HandPose, HandPose]
"""Before the stroke, at its end."""

_Drawn = Callable[[HandPose, float, np.random.Generator], Stroke]
_SIZE_M = 0.085


def mix(a: HandPose, b: HandPose, share: float) -> HandPose:
    """Between two poses; share 1 is the second."""

    def between(p: tuple[float, ...], q: tuple[float, ...]) -> tuple[float, ...]:
        return tuple(x + share * (y - x) for x, y in zip(p, q, strict=True))

    return HandPose(
        wrist=between(a.wrist, b.wrist),  # type: ignore[arg-type]
        fingers=between(a.fingers, b.fingers),  # type: ignore[arg-type]
        palm=between(a.palm, b.palm),  # type: ignore[arg-type]
        shape=between(a.shape, b.shape),
    )


def turned(pose: HandPose, palm: tuple[float, float, float], share: float = 0.75) -> HandPose:
    """The pose with its palm towards another side."""
    return mix(pose, replace(pose, palm=palm), share)


# ---- beats ----


def _beat(c: HandPose, a: float, rng: np.random.Generator) -> Stroke:
    return c.moved(0.1 * a, -0.6 * a, -0.1 * a), c.moved(0.15 * a, 0.55 * a, 0.5 * a)


def _chop(c: HandPose, a: float, rng: np.random.Generator) -> Stroke:
    """The edge of a flat hand comes down."""
    edge = replace(c, shape=SHAPES["flat"], palm=(-0.95, 0.1, 0.2), fingers=(0.0, -0.3, 0.95))
    return edge.moved(0, -1.0 * a, -0.2 * a), edge.moved(0, 0.7 * a, 0.5 * a)


def _pound(c: HandPose, a: float, rng: np.random.Generator) -> Stroke:
    """A loose fist comes down."""
    fist = replace(turned(c, (-0.7, 0.6, 0.1), 0.6), shape=SHAPES["loose fist"])
    return fist.moved(0, -0.9 * a, 0), fist.moved(-0.1 * a, 0.6 * a, 0.5 * a)


def _pinch(c: HandPose, a: float, rng: np.random.Generator) -> Stroke:
    held = replace(c, shape=SHAPES["pinch"], fingers=(-0.1, -0.6, 0.75))
    return held.moved(0, -0.6 * a, 0), held.moved(0, 0.4 * a, 0.2 * a)


# ---- open hands ----


def _open(c: HandPose, a: float, rng: np.random.Generator) -> Stroke:
    end = mix(c, replace(c, fingers=(0.7, -0.1, 0.65), palm=(-0.35, -0.75, 0.4)), 0.8)
    return c.moved(-0.5 * a, -0.2 * a, 0), replace(
        end.moved(1.0 * a, 0.1 * a, 0.3 * a), shape=SHAPES["open"]
    )


def _lift(c: HandPose, a: float, rng: np.random.Generator) -> Stroke:
    return c.moved(0, 0.3 * a, 0), replace(
        c.moved(0.3 * a, -1.1 * a, 0.2 * a), shape=SHAPES["wide"]
    )


def _present(c: HandPose, a: float, rng: np.random.Generator) -> Stroke:
    end = turned(c, (-0.2, -0.9, 0.3), 0.7)
    return c.moved(0, 0.1 * a, -0.6 * a), end.moved(0.2 * a, -0.1 * a, 0.9 * a)


def _stop(c: HandPose, a: float, rng: np.random.Generator) -> Stroke:
    """The palm to the front."""
    end = replace(c, fingers=(0.05, -0.92, 0.3), palm=(-0.1, 0.25, 0.95), shape=SHAPES["flat"])
    return c.moved(0, -0.3 * a, -0.5 * a), end.moved(0.1 * a, -0.7 * a, 0.7 * a)


def _reach(c: HandPose, a: float, rng: np.random.Generator) -> Stroke:
    """A slow offering upwards and out, as singers do."""
    end = replace(c, fingers=(0.5, -0.45, 0.75), palm=(-0.4, -0.8, 0.35), shape=SHAPES["open"])
    return c.moved(-0.5 * a, 0.5 * a, -0.3 * a), end.moved(1.3 * a, -1.2 * a, 0.8 * a)


# ---- iconic: the hands draw what is said ----


def _sweep(c: HandPose, a: float, rng: np.random.Generator) -> Stroke:
    way = float(rng.choice((-1.0, 1.0)))
    return c.moved(-0.8 * way * a, 0, 0), c.moved(way * a, 0.15 * a, 0.1 * a)


def _big(c: HandPose, a: float, rng: np.random.Generator) -> Stroke:
    """This wide."""
    wide = replace(c, fingers=(0.1, -0.3, 0.95), palm=(-0.95, 0.0, 0.25), shape=SHAPES["wide"])
    return wide.moved(-0.8 * a, 0, 0), wide.moved(1.7 * a, -0.3 * a, 0.2 * a)


def _small(c: HandPose, a: float, rng: np.random.Generator) -> Stroke:
    tiny = replace(c, fingers=(-0.2, -0.55, 0.8), palm=(-0.8, 0.3, 0.4), shape=SHAPES["pinch"])
    return tiny.moved(0.3 * a, 0.3 * a, -0.2 * a), tiny.moved(-0.5 * a, -0.8 * a, 0.4 * a)


def _tall(c: HandPose, a: float, rng: np.random.Generator) -> Stroke:
    """A flat hand shows how high."""
    flat = replace(c, fingers=(-0.5, -0.1, 0.85), palm=(0.0, 1.0, 0.1), shape=SHAPES["flat"])
    return flat.moved(0, 0.8 * a, 0), flat.moved(0.3 * a, -1.8 * a, 0.2 * a)


def _round(c: HandPose, a: float, rng: np.random.Generator) -> Stroke:
    """Around something: from above to below along its side."""
    cup = replace(c, palm=(-0.8, 0.5, 0.3), shape=SHAPES["cupped"])
    return cup.moved(-0.3 * a, -1.3 * a, 0), turned(cup, (-0.6, -0.75, 0.2)).moved(
        -0.2 * a, 1.1 * a, 0.3 * a
    )


def _path(c: HandPose, a: float, rng: np.random.Generator) -> Stroke:
    """From here to there."""
    way = float(rng.choice((-1.0, 1.0)))
    finger = replace(c, fingers=(-0.1, -0.35, 0.93), palm=(-0.6, 0.75, 0.1), shape=SHAPES["point"])
    return finger.moved(-1.4 * way * a, 0.3 * a, -0.2 * a), finger.moved(
        1.4 * way * a, -0.6 * a, 0.6 * a
    )


def _count(c: HandPose, a: float, rng: np.random.Generator) -> Stroke:
    up = replace(c, fingers=(-0.1, -0.9, 0.4), palm=(-0.3, 0.2, -0.9), shape=SHAPES["two"])
    return up.moved(0, 0.5 * a, -0.2 * a), up.moved(0, -0.5 * a, 0.3 * a)


# ---- deictic ----


def _point(c: HandPose, a: float, rng: np.random.Generator) -> Stroke:
    end = replace(c, fingers=(-0.05, -0.25, 0.97), palm=(-0.55, 0.8, 0.1), shape=SHAPES["point"])
    return replace(c.moved(0, 0, -0.5 * a), shape=SHAPES["point"]), end.moved(
        -0.2 * a, -0.4 * a, 0.9 * a
    )


def _self(c: HandPose, a: float, rng: np.random.Generator) -> Stroke:
    """Towards one's own chest, a hand's breadth away."""
    me = replace(
        c, wrist=(0.12, 0.19, 0.24), fingers=(-0.85, -0.35, 0.1), palm=(-0.1, 0.1, -0.95),
        shape=SHAPES["relaxed"],
    )  # fmt: skip
    return mix(c, me, 0.4).moved(0.2 * a, 0, 0.4 * a), me


# ---- hand shapes in quick succession, as in signing ----


def _sign(c: HandPose, a: float, rng: np.random.Generator) -> Stroke:
    """Another shape, another side of the palm, another place before the chest."""
    names = ("flat", "point", "two", "wide", "loose fist", "pinch", "cupped", "open")
    sides = ((-0.9, 0.1, 0.3), (-0.2, 0.3, 0.9), (-0.2, -0.9, 0.3), (-0.1, 0.3, -0.9))
    up = (-0.25, -0.75, 0.55) if rng.random() < 0.65 else (-0.6, -0.2, 0.75)
    shaped = replace(
        c, shape=SHAPES[str(rng.choice(names))], palm=sides[int(rng.integers(4))], fingers=up
    )
    away = rng.normal(0, 1, 3) * (0.8 * a, 0.8 * a, 0.35 * a)
    move = rng.normal(0, 1, 3) * (0.8 * a, 0.8 * a, 0.5 * a)
    start = shaped.moved(*(float(v) for v in away))
    return start, start.moved(*(float(v) for v in move))


KINDS: dict[str, _Drawn] = {
    "beat": _beat, "chop": _chop, "pound": _pound, "pinch": _pinch,
    "open": _open, "lift": _lift, "present": _present, "stop": _stop, "reach": _reach,
    "sweep": _sweep, "big": _big, "small": _small, "tall": _tall, "round": _round, "path": _path,
    "count": _count, "point": _point, "self": _self, "sign": _sign,
}  # fmt: skip
"""Every stroke: beats, open hands, iconic, deictic, signs."""


def stroke(kind: str, centre: HandPose, size: float, rng: np.random.Generator) -> Stroke:
    """Pose before the stroke and at its end; size 1 is a move of about 9 cm."""
    if kind not in KINDS:
        raise ValueError(f"unknown stroke {kind!r}; expected one of {', '.join(KINDS)}")
    return KINDS[kind](centre, _SIZE_M * size * float(rng.uniform(0.7, 1.3)), rng)


def touch(rng: np.random.Generator) -> HandPose:
    """Where a hand lies in self-touch: the chest, or the other forearm."""
    if rng.random() < 0.5:
        return HandPose(
            wrist=(0.10, 0.20, 0.20), fingers=(-0.9, -0.2, 0.05), palm=(-0.05, 0.1, -1.0),
            shape=SHAPES["relaxed"],
        )  # fmt: skip
    return HandPose(
        wrist=(0.06, 0.33, 0.25), fingers=(-0.95, 0.1, 0.1), palm=(-0.1, 0.75, -0.6),
        shape=SHAPES["cupped"],
    )  # fmt: skip
