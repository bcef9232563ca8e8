"""Where long hair hangs beside the neck: coloured like the crown, unlike wall and skin, from the ear down (ours)."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Bool, Float, Float32, UInt8

from emo2.video.disks import disk, grown

PIXELS = 80.0
"""Height of a face, in pixels, when hair is looked for."""
CROWN, INSIDE = 0.38, 0.08
"""So far above the brows, and inside of the head's matte, is hair or forehead; in face heights."""
CHEEKS, NECK = (0.3, 0.6, 0.6), (0.88, 1.25, 0.35)
"""Skin, without eyes and mouth, is so far below the brows, in face heights, and aside, in half widths of the face."""
HAIRS, SKINS, WALLS = 2, 3, 4
"""Colours that each is made of."""
NO_SKIN, LEAST_LIKE = -12.0, -16.0
"""Log density of skin below which a crown's pixel is hair, and of hair that a lock's pixel has at least."""
LEAST_CROWN = 0.08
"""Share of the crown that is hair at least: hats and bald heads tell nothing."""
SPREAD, LIGHT = 20.0, 0.6
"""Variance that a colour has at least; weight of how light it is against its hue, for hair shines."""
ALIKE = 0.25
"""Share of the wall that may look like hair: beyond it nothing can be said."""
LOOSE, FROM, TO, ASIDE = 0.0, 0.45, 0.45, 1.1
"""Locks begin so far below the brows outside of the head's matte and so far in it, end below the chin and reach aside
by so much, in face heights."""
HANGS = (-0.3, 0.12)
"""A lock reaches from above the first to below the second, in face heights below the chin."""
THREADS = 0.15
"""How far thin hair goes on from a lock, in face heights."""
SMOOTH = 0.01
"""Over which a lock's outline is, in face heights."""
WIDE, TAIL = 0.06, (-0.2, 0.08)
"""Least mean width of a lock; its least one from above the chin to it, for tails are tied; in face heights."""
BARE, BESIDE = (0.12, 1.0, 1.5), (0.35, 0.4)
"""Wall is so far from the matte, from so far above the brows, so far aside; further down than the brows and the
fourth only beyond the face and the fifth: there hair may hang."""
CENTRE, NEARBY, JOINED = (0.25, 0.03), 0.06, 0.8
"""In no more than the second's share of its rows a lock hangs nearer to the middle than the first; above the chin it is
nearer to the head than the third in the fourth's share of them."""
BEYOND, HAIRY, DOUBT = (0.03, 0.08), 2.0, 0.3
"""Between the first two, in face heights outside of a lock, hair is by no more than the third (in log density) less likely
than wall in no more than the fourth's share of places: else it is the wall that is dark."""
_FEW = 20

Face = tuple[float, float, float, float]


@dataclass(frozen=True, kw_only=True)
class Colours:
    """Normal distributions of colour."""

    parts: tuple[tuple[float, Float[np.ndarray, "3"], Float[np.ndarray, "3 3"]], ...]
    """Log weight over the root of the determinant, mean, inverse covariance."""

    @staticmethod
    def of(pixels: Float32[np.ndarray, "n 3"], count: int) -> Colours:
        """`count` clusters (k-means, begun from equal shares by light: nothing is drawn), a normal distribution each."""
        rounds = (cv2.TERM_CRITERIA_COUNT + cv2.TERM_CRITERIA_EPS, 20, 0.5)
        rank = np.argsort(np.argsort(pixels[:, 0], kind="stable"))
        start = (rank * count // len(pixels)).astype(np.int32)[:, None]
        _, found, _ = cv2.kmeans(pixels, count, start, rounds, 1, cv2.KMEANS_USE_INITIAL_LABELS)
        parts = []
        for index in range(count):
            own = pixels[found[:, 0] == index]
            if len(own) >= _FEW / WALLS:
                spread = np.cov(own.T) + np.eye(3) * SPREAD
                weight = np.log(len(own) / len(pixels)) - 0.5 * np.log(np.linalg.det(spread))
                parts.append((float(weight), own.mean(0), np.linalg.inv(spread)))
        return Colours(parts=tuple(parts))

    def fit(self, pixels: Float32[np.ndarray, "h w 3"]) -> Float[np.ndarray, "h w"]:
        """Log density of every pixel."""
        each = [
            weight - 0.5 * np.einsum("...i,ij,...j->...", pixels - mean, inverse, pixels - mean)
            for weight, mean, inverse in self.parts
        ]
        return np.logaddexp.reduce(each, axis=0)


def find_locks(
    pixels: UInt8[np.ndarray, "h w 3"], person: Float32[np.ndarray, "h w"], face: Face
) -> tuple[Float32[np.ndarray, "h w"], ...]:
    """Masks of hanging hair, one a side at most; `person`: the matte of head, neck and shoulders."""
    x0, y0, x1, y1 = face
    tall, middle = max(y1 - y0, 1.0), (x0 + x1) / 2
    scale = min(PIXELS / tall, 1.0)
    small = cv2.resize(pixels, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    height, width = small.shape[:2]
    matte = cv2.resize(person, (width, height), interpolation=cv2.INTER_AREA)
    down, across = np.mgrid[:height, :width].astype(np.float32) / np.float32(scale * tall)
    down, across = down - y0 / tall, across - middle / tall  # of the brows, in face heights
    unit = scale * tall
    fits = _fits(small, matte, down, np.abs(across), (x1 - x0) / 2 / tall, unit)
    if fits is None:
        return ()
    alike, doubtful = fits
    zone = alike & (down > np.where(matte > 0.5, FROM, LOOSE)) & (down < 1.0 + TO)
    zone &= np.abs(across) < ASIDE
    near, other = grown(matte > 0.5, NEARBY * unit), (matte > 0.5) & ~alike
    found = []
    for side in (across < 0, across > 0):
        for piece in _pieces(zone & side, matte < 0.5, unit):
            if hangs(piece, near, doubtful, down, across):
                whole = cv2.resize((piece & ~other).astype(np.float32), pixels.shape[1::-1])
                whole = cv2.GaussianBlur(whole, (0, 0), SMOOTH * tall)
                found.append((whole > 0.4).astype(np.float32))
                break
    return tuple(found)


def _fits(
    small: UInt8[np.ndarray, "r c 3"],
    matte: Float32[np.ndarray, "r c"],
    down: Float32[np.ndarray, "r c"],
    aside: Float32[np.ndarray, "r c"],
    wide: float,
    unit: float,
) -> tuple[Bool[np.ndarray, "r c"], Bool[np.ndarray, "r c"]] | None:
    """What is coloured like hair, and what is as like hair as wall; None where nothing can be told."""
    lab = cv2.cvtColor(small, cv2.COLOR_RGB2LAB).astype(np.float32) * np.array(
        [LIGHT, 1, 1], np.float32
    )
    crown = ~grown(matte < 0.5, INSIDE * unit) & (down < -CROWN)
    cheeks, neck = (
        (down > top) & (down < bottom) & (aside < share * wide)
        for top, bottom, share in (CHEEKS, NECK)
    )
    wall = ~grown(matte > 0.05, BARE[0] * unit)
    wall &= (down > -BARE[1]) & (down < 1.1) & (aside < BARE[2])
    wall &= (down < BESIDE[0]) | (aside > wide + BESIDE[1])
    if min(crown.sum(), cheeks.sum(), wall.sum()) < _FEW:
        return None
    hair = crown & (Colours.of(lab[cheeks], 2).fit(lab) < NO_SKIN)
    if hair.sum() < max(LEAST_CROWN * crown.sum(), _FEW):
        return None
    like_skin = Colours.of(lab[cheeks | neck], SKINS).fit(lab)
    like_hair = Colours.of(lab[hair], HAIRS).fit(lab)
    like_wall = Colours.of(lab[wall], WALLS).fit(lab)
    alike = (like_hair > np.maximum(like_wall, like_skin)) & (like_hair > LEAST_LIKE)
    return None if alike[wall].mean() > ALIKE else (alike, like_hair > like_wall - HAIRY)


def _pieces(
    alike: Bool[np.ndarray, "r c"], free: Bool[np.ndarray, "r c"], unit: float
) -> list[Bool[np.ndarray, "r c"]]:
    """Separate pieces without crumbs and holes, threads of `THREADS` at most and only where `free`, the largest first."""
    whole = cv2.morphologyEx(alike.astype(np.uint8), cv2.MORPH_CLOSE, disk(0.03 * unit))
    thick = cv2.morphologyEx(whole, cv2.MORPH_OPEN, disk(0.02 * unit))
    count, labels, stats, _ = cv2.connectedComponentsWithStats(thick, connectivity=4)
    order = sorted(range(1, count), key=lambda label: -stats[label, cv2.CC_STAT_AREA])
    least = WIDE * unit * (HANGS[1] - HANGS[0]) * unit
    found = []
    for label in order:
        if stats[label, cv2.CC_STAT_AREA] >= least:
            near = (whole > 0) & free & grown(labels == label, THREADS * unit)
            near |= labels == label
            _, joined = cv2.connectedComponents(near.astype(np.uint8), connectivity=4)
            found.append(near & np.isin(joined, np.unique(joined[labels == label])))
    return found


def hangs(
    piece: Bool[np.ndarray, "r c"],
    head: Bool[np.ndarray, "r c"],
    doubtful: Bool[np.ndarray, "r c"],
    down: Float32[np.ndarray, "r c"],
    across: Float32[np.ndarray, "r c"],
) -> bool:
    """Whether a piece that is coloured like hair hangs beside the neck, from the `head` (grown) down."""
    rows, unit = piece.any(1), 1.0 / float(down[1, 0] - down[0, 0])
    high, low = down[rows][0, 0] - 1.0, down[rows][-1, 0] - 1.0
    if high > HANGS[0] or low < HANGS[1] or piece.sum() < WIDE * unit * rows.sum():
        return False
    if (piece & (np.abs(across) < CENTRE[0])).any(1).sum() > CENTRE[1] * rows.sum():
        return False
    neck = (down[:, 0] > 1.0 + TAIL[0]) & (down[:, 0] < 1.0)
    if piece[neck].sum(1).min() < TAIL[1] * unit:
        return False
    upper = piece & (down < 0.9)
    if (upper & head).any(1).sum() < JOINED * upper.any(1).sum():
        return False
    outside = grown(piece, BEYOND[1] * unit) & ~grown(piece, BEYOND[0] * unit)
    outside &= ~head & (down > FROM) & (down < 1.1)
    return bool(not outside.any() or doubtful[outside].mean() < DOUBT)
