"""Where the lips of a photo are apart: the inner edges of both, to a fraction of a pixel, by colour (ours).

The finder's points say where a mouth is, not where its lips end.  But lips are redder than all that shows between
them, teeth or dark; so in an upright window about the mouth every column has a valley of redness between two crests, and
the lips' edges are half-way down.  Only what is clear in one unbroken stretch of columns counts: a photo with closed
lips, or with a mouth that cannot be read, has none.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Bool, Float32

from emo2.portrait.parting import Parting, upright
from emo2.signals import Portrait

SIDE = 224
REACH = 0.7
"""Half the window's side, in eye-to-mouth distances."""
UNIT = SIDE / 2 / REACH
"""Pixels of the window in an eye-to-mouth distance."""
LIP = round(0.24 * UNIT)
"""Rows within which a valley's crests are looked for."""
STEP, STEP_COST = 1, 0.15
"""Rows by which the valley moves between columns, and what a row costs."""
ASTRAY = 0.14 * UNIT
"""Rows off the finder's line between the lips that cost half as much as no valley at all."""
STANDS_OUT = 0.35
"""Height of a crest over its valley, in heights of the photo's lips over its skin, from which it is one."""
DARK, SHADE = (0.6, 0.8), (0.35, 0.6)
"""Shares of light lost against the lips around from which a place begins to count, and counts, as no lip; and as a
line between lips, of which only the way to the corners is read."""
REDDER = 8.0
"""Height of the lips over the skin, in Lab's a, under which they are not told from it."""
CLEAR = 0.4
"""Least height of the crests, by redness alone, where lips are apart and not merely in the shade."""
ROUGH = 1.2
"""Rows a column by which a lip's edge never rises or falls; noise does."""
ASIDE = 0.06
"""How far outside the finder's outer points edges may lie, and half of how far inside its inner ones."""
OUTER_TOP, OUTER_BOTTOM, INNER_TOP, INNER_BOTTOM = (
    slice(50, 53),
    slice(56, 59),
    slice(61, 64),
    slice(65, 68),
)
TEETH = 0.72
"""Light inside, against the lighter lip's, from which teeth are seen there."""
INSET = 2
"""Rows of light at the edges that are the lips'."""
HOLE = 0.12
"""Gap from which the inside of a mouth may be all dark."""
LEAST_GAP = 0.055
"""Gap, in eye-to-mouth distances, under which lips are as good as closed."""
CORNER, TAPER = 0.3, 0.06
"""How far beyond the clear stretch a gap ends at most, and beyond the shade that prolongs it."""
LEAST_WIDTH = 0.15
"""Width under which they are."""


@dataclass(frozen=True, kw_only=True)
class Lips(Parting):
    """Lips that are apart, by their inner edges; the unit is the eye-to-mouth distance."""

    clear: float
    """How much redder lips are than what is between them, in heights of the lips over the skin."""


def find_lips(portrait: Portrait) -> Lips | None:
    """The lips of a portrait where they are surely apart."""
    points = portrait.face_points.double().cpu().numpy()
    eyes = (points[36:42].mean(0) + points[42:48].mean(0)) / 2
    centre = points[60:68].mean(0)
    down = centre - eyes
    if float(np.hypot(*down)) < 8.0:
        return None
    axes = np.stack([[down[1], -down[0]], down], axis=-1)
    marks = (((points - centre) @ np.linalg.inv(axes).T)[:, 1]).astype(np.float32)
    steps = _units(np.arange(SIDE))
    window = upright(portrait, centre, axes, steps, steps)
    lab = cv2.cvtColor(window, cv2.COLOR_RGB2LAB)
    light = cv2.GaussianBlur(lab[..., 0], (0, 0), 1.0)
    red, height = _redness(lab[..., 1])
    if height < REDDER:
        return None
    line = (float(marks[60:68].mean()) / REACH + 1.0) * SIDE / 2
    lipness, shaded = (red - height * _dark(light, *by) for by in (DARK, SHADE))
    path = _valley(lipness, height, line)
    upper, lower, clear = _edges(lipness, path, height)
    found = _stretch(clear > STANDS_OUT, clear)
    if found is None or _roughness(upper[found], lower[found]) > ROUGH:
        return None
    # Upper lips often lie in the shade, lower ones hardly ever: what is dark above them is the mouth.
    lower = np.maximum(lower, _edges(shaded, path, height)[1])
    to_corners = _valley(shaded, height, line)
    upper, lower = _prolonged((upper, lower), found, _edges(shaded, to_corners, height))
    upper, lower = _smooth(upper, lower, to_corners)
    redness = _edges(red, path, height)[2][_middle(found)]
    lips = Lips(
        centre=centre.astype(np.float32),
        axes=axes.astype(np.float32),
        across=_units(np.arange(SIDE)),
        upper=_units(upper),
        lower=_units(lower),
        clear=float(np.median(redness)),
    )
    if (found.stop - found.start) / UNIT < LEAST_WIDTH or not _likely(lips, marks, found):
        return None
    if lips.gap < HOLE and _lightness(light, upper, lower, _middle(found)) < TEETH:
        return None
    return lips


def _likely(lips: Lips, marks: Float32[np.ndarray, "68"], found: slice) -> bool:
    """Whether lips are clearly apart, and about where the finder's points (their places down) have them."""
    top, bottom = float(lips.upper[found].min()), float(lips.lower[found].max())
    near = (
        top > float(marks[OUTER_TOP].mean()) - ASIDE
        and bottom < float(marks[OUTER_BOTTOM].mean()) + ASIDE
        and top < float(marks[INNER_TOP].mean()) + 2.0 * ASIDE
        and bottom > float(marks[INNER_BOTTOM].mean()) - 2.0 * ASIDE
    )
    return near and lips.clear >= CLEAR and lips.gap >= LEAST_GAP


def _units(places: np.ndarray) -> Float32[np.ndarray, " n"]:
    return (((places + 0.5) * 2.0 / SIDE - 1.0) * REACH).astype(np.float32)


def _redness(red: Float32[np.ndarray, "s s"]) -> tuple[Float32[np.ndarray, "s s"], float]:
    """Lab's a, smoothed, and the height of the lips over the skin in it."""
    red = cv2.GaussianBlur(red, (0, 0), 1.5)
    third = SIDE // 3
    lip = np.percentile(red[third + 4 : 2 * third - 4, third : 2 * third], 92)
    skin = np.median(red[round(0.75 * SIDE) :, SIDE // 4 : 3 * SIDE // 4])
    # A tongue is redder than lips, and no third lip.
    return np.minimum(red, lip), float(lip - skin)


def _dark(light: np.ndarray, low: float, high: float) -> Float32[np.ndarray, "s s"]:
    """How surely a place is a dark one between lighter ones, 0..1, by the share of light that is lost there."""
    lost = 1.0 - light / np.maximum(np.minimum(*_crests(light)), 1.0)
    return ((lost - low) / (high - low)).clip(0.0, 1.0)


def _crests(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The highest values above and below each place, within `LIP` rows."""
    padded = np.pad(values, ((LIP, LIP), (0, 0)), mode="edge")
    spans = np.lib.stride_tricks.sliding_window_view(padded, LIP, axis=0).max(-1)
    return spans[:SIDE], spans[LIP + 1 : LIP + 1 + SIDE]


def _valley(red: np.ndarray, height: float, line: float) -> np.ndarray:
    """The row of the deepest unbroken valley in each column (dynamic programming)."""
    deep = ((np.minimum(*_crests(red)) - red) / height).clip(0.0, 1.2)
    away = (np.arange(SIDE, dtype=np.float32)[:, None] - line) / ASTRAY
    cost = 0.5 * away * away - deep
    total, rows = cost[:, 0], np.arange(SIDE)
    origin = np.zeros((SIDE, SIDE), int)
    moves = np.arange(-STEP, STEP + 1)
    for column in range(1, SIDE):
        padded = np.pad(total, STEP, constant_values=np.inf)
        ways = np.stack([padded[STEP + m : STEP + m + SIDE] + STEP_COST * abs(m) for m in moves])
        best = ways.argmin(0)
        origin[:, column] = rows + moves[best]
        total = ways[best, rows] + cost[:, column]
    path = np.zeros(SIDE, int)
    path[-1] = int(total.argmin())
    for column in range(SIDE - 1, 0, -1):
        path[column - 1] = origin[path[column], column]
    return path


def _edges(
    red: np.ndarray, path: np.ndarray, height: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Half-way up from the valley to its crests, above and below; and the lower crest's height in each column."""
    edges, heights = np.zeros((2, SIDE)), np.zeros((2, SIDE))
    for column, row in enumerate(path):
        base = float(red[max(row - 1, 0) : row + 2, column].mean())
        for side, way in enumerate((-1, 1)):
            slope = red[row::way, column][: LIP + 1]
            crest = _crest(slope, base, height)
            level = base + 0.5 * (slope[crest] - base)
            over = int((slope[: crest + 1] >= level).argmax())
            share = 1.0
            if over:
                share = float((level - slope[over - 1]) / max(slope[over] - slope[over - 1], 1e-6))
            edges[side, column] = row + way * max(over - 1 + share, 0.0)
            heights[side, column] = (slope[crest] - base) / height
    return edges[0], edges[1], heights.min(0)


def _crest(slope: np.ndarray, base: float, height: float) -> int:
    """The first place that stands out and from which it goes down again by a third."""
    best = 0
    for place, value in enumerate(slope):
        if value > slope[best]:
            best = place
        elif slope[best] - base > STANDS_OUT * height and value < base + 0.7 * (slope[best] - base):
            break
    return best


def _lightness(light: np.ndarray, upper: np.ndarray, lower: np.ndarray, among: slice) -> float:
    """The lightest between the lips against the lighter of the lips; the median over columns."""
    shares = []
    lip = round(0.03 * UNIT)
    for column in range(among.start, among.stop):
        first, last = int(upper[column]), int(np.ceil(lower[column])) + 1
        above = light[max(first - lip, 0) : first + 1, column].mean()
        below = light[last : last + lip, column].mean()
        inside = light[min(first + INSET, last - 1) : max(last - INSET, first + 1), column]
        shares.append(inside.max(initial=0.0) / max(above, below, 1.0))
    return float(np.median(shares))


def _stretch(clear: Bool[np.ndarray, " n"], by: np.ndarray) -> slice | None:
    """The unbroken stretch of clear columns with the most in it; breaks of 0.03 are bridged."""
    return max(_spans(clear), key=lambda span: float(by[span].sum()), default=None)


def _spans(clear: Bool[np.ndarray, " n"]) -> list[slice]:
    bridge = np.ones(round(0.03 * UNIT) | 1, np.uint8)
    whole = cv2.morphologyEx(clear.astype(np.uint8)[None], cv2.MORPH_CLOSE, bridge[None])[0]
    ends = np.flatnonzero(np.diff(np.pad(whole, 1).astype(int)))
    return [slice(int(a), int(b)) for a, b in zip(ends[::2], ends[1::2], strict=True)]


def _roughness(upper: np.ndarray, lower: np.ndarray) -> float:
    """By how many rows the rougher edge goes up or down from column to column; the mean."""
    return (
        max(float(np.abs(np.diff(edge)).mean()) for edge in (upper, lower))
        if len(upper) > 1
        else 0.0
    )


def _middle(found: slice) -> slice:
    """The middle half of a stretch."""
    quarter = (found.stop - found.start) // 4
    return slice(found.start + quarter, found.stop - quarter)


def _prolonged(
    edges: tuple[np.ndarray, np.ndarray],
    found: slice,
    shaded: tuple[np.ndarray, np.ndarray, np.ndarray],
) -> tuple[np.ndarray, np.ndarray]:
    """Edges within what was found, prolonged by those of the shade towards the corners; not a number beyond.

    There the gap must close steadily: a lip in the shade looks like one.
    """
    across = np.arange(SIDE)
    outside = np.maximum(np.maximum(found.start - across, across - (found.stop - 1)), 0) / UNIT
    apart = shaded[2] > STANDS_OUT
    apart[found] = True
    spans = _spans(apart)
    whole = next(span for span in spans if span.start <= found.start < span.stop)
    middle = np.where(outside > 0, (shaded[0] + shaded[1]) / 2, (edges[0] + edges[1]) / 2)
    gap = edges[1] - edges[0]
    ends = gap[np.clip(across, found.start, found.stop - 1)]
    gap = np.where(
        outside > 0, np.minimum(shaded[1] - shaded[0], ends * (1.0 - outside / CORNER)), gap
    )
    known = np.zeros(SIDE, bool)
    known[whole] = True
    half = np.where(known, gap.clip(0.0) / 2, np.nan)
    return middle - half, middle + half


def _smooth(
    upper: np.ndarray, lower: np.ndarray, line: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Both edges as smooth lines that follow the outermost of what is known, and meet on `line` beyond it."""
    across = np.arange(SIDE)
    known = np.flatnonzero(np.isfinite(upper))
    edges = []
    for edge, outermost in ((upper, cv2.erode), (lower, cv2.dilate)):
        values = cv2.medianBlur(np.ascontiguousarray(edge[None, known], np.float32), 5)
        values = outermost(values, np.ones((1, round(0.06 * UNIT) | 1)))
        edges.append(np.interp(across, known, values[0]))
    beyond = np.maximum(np.maximum(known[0] - across, across - known[-1]), 0) / UNIT
    middle = (edges[0] + edges[1]) / 2
    middle += (line - middle) * (beyond / TAPER).clip(0.0, 1.0)
    half = (edges[1] - edges[0]).clip(0.0) / 2 * (1.0 - beyond / TAPER).clip(0.0, 1.0)
    smooth = (0, 0), 0.02 * UNIT
    return tuple(cv2.GaussianBlur(z[None], *smooth)[0] for z in (middle - half, middle + half))
