"""Where the lids of a photo's open eyes are, to a fraction of a pixel, by colour (ours).

The finder's points say where an eye is; on real photos its contour lies a fifth of the opening too high.  What shows
between lids, white, iris and lashes, is not the colour of the skin above and below, so in an upright window a lens of
eight numbers is moved, from the finder's contour on, to where it holds the most that is no skin and the least that is.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Float, Float32

from emo2.portrait.parting import Parting, upright
from emo2.signals import Portrait

EYES = (slice(36, 42), slice(42, 48))
"""The face points of each: the corner on the left, the upper lid's two, the corner on the right, the lower lid's two."""
BROWS = slice(17, 27)
UNIT = 96
"""Pixels of the window in the width of an eye."""
ACROSS = (np.arange(round(1.7 * UNIT), dtype=np.float32) + 0.5) / UNIT - 0.85
DOWN = (np.arange(round(1.3 * UNIT), dtype=np.float32) + 0.5) / UNIT - 0.65
LEAST_WIDTH = 8.0
"""Pixels of the photo, under which an eye is too small to be measured."""
LOW = 0.03
"""How much lower than the finder's contour eyes of photos are."""
UPPER, LOWER = 0.12, 0.1
"""Least heights of lids over the line between the corners from which the search begins."""
SPREADS = np.array([0.07, 0.06, 0.07, 0.06, 0.05, 0.3, 0.05, 0.3])
"""By how much the lens' numbers usually differ from the finder's."""
DOUBT = 0.012
"""What such a difference costs."""
SKIN = np.array([14.0, 7.0, 9.0], np.float32)
"""Differences in L, a and b that count as one."""
SHADED = (1.0, 0.85)
"""Shares of the skin's light that are skin still."""
DARK, SHADOW = 0.62, 0.7
"""Light above the eye, against that below it, under which it is a brow's; and what skin has there then."""
MOST = 3.0
TRIES = 1500
LEAST_OPEN, CLEAR = 0.12, 0.35
"""Height of an opening, and difference between what is in it and around it, from which an eye is open."""


@dataclass(frozen=True, kw_only=True)
class Eye(Parting):
    """An open eye by its lids' edges, lashes within; the unit is its width."""

    room: float
    """From the upper lid's edge to the brow's middle."""


def find_eyes(portrait: Portrait) -> tuple[Eye | None, Eye | None]:
    """The eyes on the left and on the right of the picture; None where one is not clearly open."""
    points = portrait.face_points.double().cpu().numpy()
    first, second = (_find(portrait, points, part) for part in EYES)
    return first, second


def _find(portrait: Portrait, points: Float[np.ndarray, "68 2"], part: slice) -> Eye | None:
    own = points[part]
    along = own[3] - own[0]
    if float(np.hypot(*along)) < LEAST_WIDTH:
        return None
    axes = np.stack([along, [-along[1], along[0]]], axis=-1)
    centre = (own[0] + own[3]) / 2
    contour, brows = ((p - centre) @ np.linalg.inv(axes).T for p in (own, points[BROWS]))
    window = upright(portrait, centre, axes, ACROSS, DOWN)
    usual = np.array([-0.5, LOW, 0.5, LOW, 0.0, 0.0, LOW, 0.0])
    usual[4] = max(-float(contour[1:3, 1].min()), UPPER)
    usual[6] += max(float(contour[4:, 1].max()), LOWER)
    strange = _strangeness(window, usual)
    lens = _fitted(strange, usual)
    upper, lower = _edges(lens, ACROSS)
    if lens[4] + lens[6] < LEAST_OPEN or _standing_out(strange, upper, lower) < CLEAR:
        return None
    over = brows[np.abs(brows[:, 0]) < 0.5, 1]
    return Eye(
        centre=centre.astype(np.float32),
        axes=axes.astype(np.float32),
        across=ACROSS,
        upper=upper.astype(np.float32),
        lower=lower.astype(np.float32),
        room=float(upper.min() - over.mean()) if len(over) else 0.0,
    )


def _edges(lens: np.ndarray, across: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Upper and lower edge of a lens: its corners (x, y; x, y), then each lid's height and how far its top is aside."""
    left, right = lens[0:2], lens[2:4]
    share = ((across - left[0]) / (right[0] - left[0])).clip(0.0, 1.0)
    line = left[1] + (right[1] - left[1]) * share
    bow, aside = 4.0 * share * (1.0 - share), 2.0 * share - 1.0
    upper = line - lens[4] * bow**0.75 * (1.0 + lens[5] * aside)
    return upper, line + lens[6] * bow**0.9 * (1.0 + lens[7] * aside)


def _strangeness(
    window: Float32[np.ndarray, "m n 3"], usual: np.ndarray
) -> Float32[np.ndarray, "m n"]:
    """How unlike the skin above and below the eye each place is: 0 as skin, 1 surely not, up to `MOST`."""
    lab = cv2.GaussianBlur(cv2.cvtColor(window, cv2.COLOR_RGB2LAB), (0, 0), 1.2)

    def around(low: float, high: float) -> np.ndarray:
        row = np.median(lab[(low <= DOWN) & (high > DOWN)], axis=0)[None]
        return cv2.GaussianBlur(row, (0, 0), 12.0, borderType=cv2.BORDER_REPLICATE)

    above, below = around(-usual[4] - 0.2, -usual[4] - 0.08), around(usual[6] + 0.14, usual[6] + 0.37)  # fmt: skip
    above = np.where(above[..., :1] < DARK * below[..., :1], SHADOW * below, above)
    share = ((DOWN + usual[4] + 0.13) / (usual[4] + usual[6] + 0.37)).clip(0.0, 1.0)[:, None, None]
    skin = above * (1.0 - share) + below * share
    unlike = [np.square((lab - light * skin) / SKIN).sum(-1) for light in SHADED]
    return np.minimum(np.sqrt(np.minimum(*unlike)), MOST).astype(np.float32)


def _fitted(strange: Float32[np.ndarray, "m n"], usual: np.ndarray) -> np.ndarray:
    """The lens that holds most, by a search from coarse to fine, the same every time."""
    upper, lower = _edges(usual, ACROSS)
    inside = (DOWN[:, None] > upper) & (DOWN[:, None] < lower)
    half = 0.5 * float(np.percentile(strange[inside], 70))
    above = np.cumsum(np.pad(strange / max(half, 1e-3) - 1.0, ((1, 0), (0, 0))), axis=0) / UNIT**2
    columns = np.arange(len(ACROSS))

    def held(edge: np.ndarray) -> np.ndarray:
        row = ((edge - DOWN[0]) * UNIT + 0.5).clip(0.0, len(DOWN) - 1e-3)
        whole = row.astype(int)
        return above[whole, columns] + (row - whole) * (above[whole + 1, columns] - above[whole, columns])  # fmt: skip

    def worth(lens: np.ndarray) -> float:
        if lens[2] - lens[0] < 0.5 or not (0.06 < lens[4] < 0.45 and 0.02 < lens[6] < 0.35):
            return -np.inf
        upper, lower = _edges(lens, ACROSS)
        within = (lens[0] < ACROSS) & (lens[2] > ACROSS)
        doubt = np.square((lens - usual) / SPREADS).sum()
        return float(((held(lower) - held(upper)) * within).sum() - DOUBT * doubt)

    draws = np.random.default_rng(0)
    best, most = usual, worth(usual)
    for k in range(TRIES):
        step = SPREADS * (0.8, 0.3, 0.1)[3 * k // TRIES]
        some = draws.random(len(usual)) < 0.5
        lens = best + draws.standard_normal(len(usual)) * step * some
        value = worth(lens)
        if value > most:
            best, most = lens, value
    return best


def _standing_out(
    strange: Float32[np.ndarray, "m n"], upper: np.ndarray, lower: np.ndarray
) -> float:
    """How much stranger the inside is than what is just above and below it."""
    down = DOWN[:, None]
    inside = (down > upper) & (down < lower)
    around = (down > upper - 0.2) & (down < lower + 0.2) & ~inside & (lower - upper > 0.02)
    return float(strange[inside].mean() - np.median(strange[around]))
