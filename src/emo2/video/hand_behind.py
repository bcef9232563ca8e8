"""What a hand with a layer of its own leaves behind: its arm's plane without it, forearm and sleeve gone on with.

Part of the arm layers (design §6); runs once per photo.
"""

from __future__ import annotations

import cv2
import numpy as np
from jaxtyping import Bool, Float32

from emo2.video import layer_paint
from emo2.video.disks import disk
from emo2.video.layer_cut import Plane, ease
from emo2.video.layer_masks import (
    Limb,
    between,
    filled_hull,
    foreshortened,
    like_skin,
    pixel_grid,
    segment_distance,
)

_ALIKE = 0.3
"""Difference of colours (of 2) up to which a forearm is as bare as its hand."""
_LIGHT = 90
"""Difference of light (Lab) from the hand's usual colour up to which a place of its hue is skin, whatever falls on it."""
_FOREARM, _FEWEST = 0.6, 30
"""Share from which a pixel is surely forearm, and how many tell its colours."""
_WIDEST = 1.6
"""Half widths of an arm beside its bone within which a forearm's outline is read."""
_RIM, _ABOUT = 0.015, 0.06
"""Shoulder widths beside a hand where its shadow and edge are painted over too, where its forearm's outline is read."""
_SLEEVE_REACH = 0.35
"""Shoulder widths about the wrist within which a sleeve is continued behind the hand."""
_CUFF_REACH = 0.2
"""... and within which it must be cloth that shows, for the most part."""


def without_hand(
    plane: Plane,
    taken: Float32[np.ndarray, "h w"],
    limb: Limb,
    forearm: Float32[np.ndarray, "h w"] | None = None,
    wrist: Float32[np.ndarray, "n 2"] | None = None,
) -> Float32[np.ndarray, "h w 4"]:
    """The arm's plane with its hand gone, and the forearm behind it completed; `forearm`: share of it, where that is known;
    `wrist`: points of the hand's end, pixels of the photo."""
    colour = _without_crumbs(plane.colour * (1 - taken)[..., None])
    shown = None if forearm is None else _shown(colour[..., 3], taken) & (forearm > _FOREARM)
    if shown is None or shown.sum() < _FEWEST:
        whole = _forearm_behind(colour, plane, taken, limb, wrist=wrist)
        return sleeve_behind(whole, plane, taken, limb)
    whole = _forearm_behind(colour, plane, taken, limb, shown, wrist)
    return whole if _bare(plane, taken, shown) else sleeve_behind(whole, plane, taken, limb)


def _bare(
    plane: Plane, taken: Float32[np.ndarray, "h w"], forearm: Bool[np.ndarray, "h w"]
) -> bool:
    """Whether a forearm has the colour of its hand."""
    hand = _surely_hand(plane, taken)
    return bool(hand.any() and _like_hand(plane, hand)[forearm].mean() > 0.5)


def _shown(
    alpha: Float32[np.ndarray, "h w"], taken: Float32[np.ndarray, "h w"]
) -> Bool[np.ndarray, "h w"]:
    """Where the plane surely shows what it does, away from the hand's rim."""
    rim = cv2.dilate((taken > 0.02).astype(np.uint8), np.ones((7, 7), np.uint8))
    return (alpha > 0.95) & (rim == 0)


def _like_hand(plane: Plane, hand: Bool[np.ndarray, "h w"]) -> Bool[np.ndarray, "h w"]:
    pixels = ((plane.colour[..., :3] + 1) * 127.5).clip(0, 255).astype(np.uint8)
    return like_skin(pixels, hand, _LIGHT)


def _without_crumbs(colour: Float32[np.ndarray, "h w 4"]) -> Float32[np.ndarray, "h w 4"]:
    """Without what the hand left behind of itself: pieces far smaller than the arm."""
    _, labels, stats, _ = cv2.connectedComponentsWithStats(
        (colour[..., 3] > 0.02).astype(np.uint8), connectivity=8
    )
    area = stats[:, cv2.CC_STAT_AREA].copy()
    area[0] = 0
    return colour * (area >= 0.1 * area.max())[labels][..., None]


def _forearm_behind(
    colour: Float32[np.ndarray, "h w 4"],
    plane: Plane,
    taken: Float32[np.ndarray, "h w"],
    limb: Limb,
    forearm: Bool[np.ndarray, "h w"] | None = None,
    wrist: Float32[np.ndarray, "n 2"] | None = None,
) -> Float32[np.ndarray, "h w 4"]:
    """The plane without its hand, its forearm completed as far as the `wrist`, or as a tube; `forearm`: where it is surely seen."""
    alpha = colour[..., 3]
    if _behind_fingers(limb):
        return colour
    grid = pixel_grid(taken.shape) + np.array(plane.box[:2], np.float32)
    away, place = segment_distance(grid, limb.elbow, limb.wrist)
    half = _half_width(alpha, away, place, limb)
    tube = 1 - ease(away, 0.85 * half, 1.05 * half)
    if not (tube * taken > 0.02).any() or not (alpha > 0.95).any():
        return colour
    near = (
        forearm
        if forearm is not None
        else _beside_tube(plane, alpha, taken, away < 1.1 * half, place)
    )
    if not near.any():
        return colour
    shades = colour[..., :3] / np.maximum(alpha, 1e-3)[..., None]
    if wrist is None:
        return _continued(colour, shades, near, tube * ease(taken, 0.0, 0.6))
    end = filled_hull(wrist - np.array(plane.box[:2], np.float32), taken.shape)
    beside = _grown(taken, _ABOUT * limb.unit) > 0
    tube = _to_wrist(near & beside & (away < _WIDEST * limb.radius) & (place < 1), end, limb)
    if _bare(plane, taken, near):  # into the hand's own colour
        joint = end & _surely_hand(plane, taken) & (place > 1)
        shades, near = np.where(joint[..., None], plane.colour[..., :3], shades), near | joint
    hidden = tube * _grown(taken, _RIM * limb.unit)
    known = near & ((hidden < 0.02) | (taken > 0.9))
    return _held_by(_continued(colour * (1 - hidden)[..., None], shades, known, tube), tube)


def _held_by(
    colour: Float32[np.ndarray, "h w 4"], tube: Float32[np.ndarray, "h w"]
) -> Float32[np.ndarray, "h w 4"]:
    """What hangs together with the completed forearm: other pieces are wall between fingers."""
    shown = (colour[..., 3] > 0.02).astype(np.uint8)
    around = np.ones((3, 3), np.uint8)
    # Threads along the hand's rim hold nothing.
    solid = cv2.morphologyEx(shown, cv2.MORPH_OPEN, around) > 0
    pieces = (solid | (tube > 0.5)).astype(np.uint8)
    _, labels = cv2.connectedComponents(pieces, connectivity=8)
    held = np.bincount(labels[tube > 0.5], minlength=int(labels.max()) + 1) > 0
    held[0] = False
    kept = cv2.dilate(held[np.asarray(labels, np.intp)].astype(np.uint8), around)
    return colour * kept[..., None].astype(np.float32)


def _grown(taken: Float32[np.ndarray, "h w"], reach: float) -> Float32[np.ndarray, "h w"]:
    """Surely what is taken, and so many pixels beside it."""
    return ease(cv2.dilate(taken, disk(reach)), 0.0, 0.6)


def _to_wrist(
    forearm: Bool[np.ndarray, "h w"], end: Bool[np.ndarray, "h w"], limb: Limb
) -> Float32[np.ndarray, "h w"]:
    """The forearm that is seen, and all between it and its hand's end."""
    count, labels, stats, _ = cv2.connectedComponentsWithStats(forearm.astype(np.uint8))
    if count > 1:
        forearm = labels == 1 + int(stats[1:, cv2.CC_STAT_AREA].argmax())
    whole = between(forearm | end).astype(np.float32)
    return cv2.GaussianBlur(whole, (0, 0), max(0.7, 0.003 * limb.unit))


def _behind_fingers(limb: Limb) -> bool:
    """Whether the forearm points at the viewer from behind the hand: a tube painted there would only stick out."""
    fore, fingers = limb.elbow - limb.wrist, limb.hand[1:].mean(0) - limb.wrist
    return foreshortened(limb) and float(fore @ fingers) > 0


def _beside_tube(
    plane: Plane,
    alpha: Float32[np.ndarray, "h w"],
    taken: Float32[np.ndarray, "h w"],
    tube: Bool[np.ndarray, "h w"],
    place: Float32[np.ndarray, "h w"],
) -> Bool[np.ndarray, "h w"]:
    """What is taken for forearm where nobody knows: near its bone, near the wrist, of the hand's colour if much of it is."""
    near = _shown(alpha, taken) & tube
    close = near & (place > 0.5)
    near = close if close.sum() > _FEWEST else near
    hand = _surely_hand(plane, taken)
    if hand.any():  # a bare forearm is completed with skin, whatever sleeve hangs near it
        off = np.abs(plane.colour[..., :3] - np.median(plane.colour[..., :3][hand], axis=0)).max(-1)
        bare = near & (off < _ALIKE)
        near = bare if bare.sum() > 0.3 * near.sum() else near
    return near


def sleeve_behind(
    colour: Float32[np.ndarray, "h w 4"],
    plane: Plane,
    taken: Float32[np.ndarray, "h w"],
    limb: Limb,
) -> Float32[np.ndarray, "h w 4"]:
    """The plane without its hand, its sleeve continued where thumb or palm lay before it."""
    alpha = colour[..., 3]
    hand = _surely_hand(plane, taken)
    if not hand.any():
        return colour
    skin = _like_hand(plane, hand)
    rim = cv2.dilate((taken > 0.02).astype(np.uint8), np.ones((5, 5), np.uint8))
    cloth = (alpha > 0.95) & (rim == 0) & ~skin
    near = np.linalg.norm(pixel_grid(alpha.shape) + plane.box[:2] - limb.wrist, axis=-1) / limb.unit
    shown = (alpha > 0.95) & (rim == 0) & (near < _CUFF_REACH)
    if cloth[shown].sum() < 0.6 * max(shown.sum(), 1):
        return colour  # a bare forearm
    cloth &= near < _SLEEVE_REACH
    beside = cv2.dilate(cloth.astype(np.uint8), np.ones((7, 7), np.uint8))
    whole = (between((beside > 0) & (alpha > 0.5)) & (taken > 0.02)).astype(np.float32)
    if not whole.any() or not cloth.any():
        return colour
    under = cv2.GaussianBlur(np.maximum(whole, cloth.astype(np.float32)), (0, 0), 1.0)
    under = under * ease(cv2.blur(whole, (5, 5)), 0.0, 0.5)
    return _continued(colour, colour[..., :3], cloth, under)


def _surely_hand(plane: Plane, taken: Float32[np.ndarray, "h w"]) -> Bool[np.ndarray, "h w"]:
    return (plane.colour[..., 3] > 0.95) & (taken > 0.9)


def _continued(
    colour: Float32[np.ndarray, "h w 4"],
    shades: Float32[np.ndarray, "h w 3"],
    known: Bool[np.ndarray, "h w"],
    share: Float32[np.ndarray, "h w"],
) -> Float32[np.ndarray, "h w 4"]:
    """The plane with the `known` shades, continued smoothly, under what it shows, by their share."""
    filled = layer_paint.smooth_fill(
        np.where(known[..., None], shades, 0).astype(np.float32), known
    )
    under = np.dstack((filled * share[..., None], share))
    return (colour + (1 - colour[..., 3])[..., None] * under).astype(np.float32)


def _half_width(
    alpha: Float32[np.ndarray, "h w"],
    away: Float32[np.ndarray, "h w"],
    place: Float32[np.ndarray, "h w"],
    limb: Limb,
) -> float:
    """Of the forearm towards the wrist, as the photo shows it; the usual where it does not."""
    shown = (alpha > 0.5) & (place > 0.55) & (place < 0.95) & (away < 1.6 * limb.radius)
    if shown.sum() < 30:
        return 0.75 * limb.radius
    return float(np.clip(np.quantile(away[shown], 0.8), 0.45 * limb.radius, 1.1 * limb.radius))
