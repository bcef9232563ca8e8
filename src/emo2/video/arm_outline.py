"""What of an upper arm next to its hand is arm, and how wide it goes on behind the hand (ours).

Part of the arm layers (design §6); runs once per photo.
"""

from __future__ import annotations

import cv2
import numpy as np
from jaxtyping import Bool, Float32

from emo2.video.disks import disk, grown
from emo2.video.layer_masks import Limb, draw_hull, pixel_grid

_NEAR = 0.12
"""Shoulder widths about a hand and its forearm within which a cut is doubted, ..."""
_AROUND = 0.15
"""... and about that, within which the wall shows its colours."""
_CRUMB = 0.015
"""Half the width of what is no arm any more where wall beside it went."""
_RIMS, _OWN = 0.06, 0.05
"""Shoulder widths beside a cut within which the arm may go on, and how far from its colours."""
_FINGERS = 0.04
"""Shoulder widths about a hand in which nothing is added: between fingers there is wall."""
_SAMPLES = 400
_UNLIKE = 0.05
"""Least difference of colours (of 1) from all of the arm's for a place to be wall, ..."""
_MIXED = 0.04
"""At a wall's edge, what is this unlike the arm goes with it."""
_ALIKE = 0.4
"""... and the most from the wall's, as a share of it."""
_BIN = 2.0
"""Pixels of an arm's length that have one width."""
_RIM = 0.06
"""Shoulder widths beyond an arm's edge in which its hand must not begin, for the edge to be seen."""
_LAST = 6
"""Bins before a hand in which an arm's width is read: where a sleeve ends there, of the bare arm if any of it shows."""


def without_wall(
    image: Float32[np.ndarray, "h w 3"],
    arm: Bool[np.ndarray, "h w"],
    front: Bool[np.ndarray, "h w"],
    unit: float,
) -> Bool[np.ndarray, "h w"]:
    """The arm without pieces of wall that were cut with it between the hand (in `front`) and a sleeve."""
    near = cv2.distanceTransform(1 - front.astype(np.uint8), cv2.DIST_L2, 5) < _NEAR * unit
    doubted = arm & ~front & near
    if not doubted.any():
        return arm
    kernel = np.ones((2 * max(2, round(0.01 * unit)) + 1,) * 2, np.uint8)
    inner = cv2.erode(arm.astype(np.uint8), kernel) > 0
    outer = cv2.dilate(arm.astype(np.uint8), kernel) == 0
    around = cv2.distanceTransform(1 - doubted.astype(np.uint8), cv2.DIST_L2, 5) < _AROUND * unit
    own = _samples(image, inner & (front | ~near))
    wall = _samples(image, outer & around)
    if len(own) == 0 or len(wall) == 0:
        return arm
    colours = image[doubted]
    off_own, off_wall = _off(colours, own), _off(colours, wall)
    is_wall, mixed = np.zeros_like(arm), np.zeros_like(arm)
    is_wall[doubted] = (off_own > _UNLIKE) & (off_wall < _ALIKE * off_own)
    mixed[doubted] = off_own > _MIXED
    pieces = cv2.morphologyEx(is_wall.astype(np.uint8), cv2.MORPH_OPEN, np.ones((3, 3), np.uint8))
    left = arm & ~((cv2.dilate(pieces, kernel) > 0) & mixed)
    # What is thinner than this beside a wall that went is its last crumbs.
    solid = cv2.morphologyEx(left.astype(np.uint8), cv2.MORPH_OPEN, disk(_CRUMB * unit))
    beside = grown(pieces > 0, 2.0 * _CRUMB * unit)
    return left & ((solid > 0) | ~(doubted & beside))


def with_rims(
    image: Float32[np.ndarray, "h w 3"],
    arm: Bool[np.ndarray, "h w"],
    limb: Limb,
    may_be: Bool[np.ndarray, "h w"],
) -> Bool[np.ndarray, "h w"]:
    """The arm with rims of it that its cut has left: they would stay where they are when it moves.

    `may_be`: where there is a person and no trunk.  Rims have the arm's colours, and lie not about its fingers.
    """
    unit, solid = limb.unit, arm.astype(np.uint8)
    hand = np.zeros_like(solid)
    draw_hull(hand, limb, 1)
    beside = grown(arm, _RIMS * unit)
    beside &= may_be & ~arm & ~grown(hand > 0, _FINGERS * unit)
    around = grown(beside, _AROUND * unit)
    own = _samples(image, (cv2.erode(solid, disk(0.01 * unit)) > 0) & around)
    if len(own) == 0 or not beside.any():
        return arm
    rims = np.zeros_like(arm)
    rims[beside] = _off(image[beside], own) < _OWN
    whole = cv2.morphologyEx((arm | rims).astype(np.uint8), cv2.MORPH_OPEN, disk(0.01 * unit))
    _, labels = cv2.connectedComponents(((whole > 0) | arm).astype(np.uint8), connectivity=4)
    held = np.bincount(labels[arm], minlength=int(labels.max()) + 1) > 0
    held[0] = False
    return held[np.asarray(labels, np.intp)]


def _samples(
    image: Float32[np.ndarray, "h w 3"], where: Bool[np.ndarray, "h w"]
) -> Float32[np.ndarray, "n 3"]:
    """Colours from all over a region, not too many."""
    found = image[where]
    return found[:: max(1, len(found) // _SAMPLES)]


def _off(
    colours: Float32[np.ndarray, "n 3"], samples: Float32[np.ndarray, "k 3"]
) -> Float32[np.ndarray, " n"]:
    """How far colours are from the nearest of some samples."""
    least = np.full(len(colours), np.inf, np.float32)
    for sample in samples:
        least = np.minimum(least, np.square(colours - sample).sum(-1))
    return np.sqrt(least)


def hidden_width(
    seen: Bool[np.ndarray, "h w"],
    front: Bool[np.ndarray, "h w"],
    limb: Limb,
    origin: tuple[int, int],
) -> Bool[np.ndarray, "h w"]:
    """Within the outline of the upper arm: from where the hand hides an edge it goes on as it was last seen, from the shoulder."""
    bone = limb.elbow - limb.shoulder
    length = float(np.linalg.norm(bone))
    if length < 1.0:
        return np.ones_like(seen)
    along = (bone / length).astype(np.float32)
    grid = pixel_grid((seen.shape[0], seen.shape[1])) + np.array(origin, np.float32) - limb.shoulder
    place = np.floor(grid @ along / _BIN).astype(int)
    across = grid @ np.array([-along[1], along[0]], np.float32)
    place -= int(place.min())
    count = int(place.max()) + 1
    inside = np.ones_like(seen)
    for sign in (1.0, -1.0):
        edge = _extent(place[seen], sign * across[seen], count)
        cover = _beyond(place[front], sign * across[front], edge, _RIM * limb.unit)
        hides = np.flatnonzero(cover & np.isfinite(edge))
        before = edge[: hides[0]] if len(hides) else edge[:0]
        before = before[np.isfinite(before)][-_LAST:]
        if len(before) < _LAST:
            continue
        inside &= (sign * across <= np.quantile(before, 0.25)) | (place < hides[0])
    return inside


def _extent(place: np.ndarray, across: np.ndarray, count: int) -> np.ndarray:
    """How far out something reaches in each bin; minus infinity where it is not."""
    edge = np.full(count, -np.inf)
    np.maximum.at(edge, place, across)
    return edge


def _beyond(place: np.ndarray, across: np.ndarray, edge: np.ndarray, rim: float) -> np.ndarray:
    """Bins in which something lies just beyond an edge, and so may hide more of it."""
    there = (across > edge[place] - 1.0) & (across < edge[place] + rim)
    there |= ~np.isfinite(edge[place])
    return np.bincount(place[there], minlength=len(edge)) > 0
