"""What a photo says of a hand to the fit of the hand model: its points, and where its skin is.

Part of the arm layers (design §6).  The finder's soft mask of the hand knows palm and fingers well and thumbs and finger
tips less; skin of the same colour that hangs together with it completes it.
"""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import torch
from jaxtyping import Bool, Float32, UInt8

from emo2.hands import HandModel
from emo2.hands.fit import HandFit, Sight, fit_hand
from emo2.signals import HAND_SIDES, Portrait
from emo2.video.layer_masks import (
    FINGERS,
    Limb,
    draw_hull,
    find_limb,
    grab_cut,
    like_skin,
    pixel_grid,
    segment_distance,
)

_CORE, _MAYBE, _FAINT = 0.7, 0.4, 0.12
"""Of the finder's mask: surely hand; hand; hand if it has the colour."""
_REACH = 0.35
"""Hand lengths from the mask within which skin belongs to the hand."""
_CUT_SIDE = 200
"""Pixels a side of the crop that is cut."""
LEAST_SURE = 0.6
"""Sureness of a hand's points under which no mesh is sought, and its arm moves less."""
_LEAST_CORE = 60
"""Pixels."""
_MOST_BARE = 0.48
"""Share of what lies between a hand's points that its mask may leave out."""
LEAST_OVERLAP, MOST_MISS = 0.72, 0.1
"""A fit whose mesh and mask share less, or whose points lie farther off (hand lengths), is not used."""
POINTED, POINTED_SURE = 0.84, 0.92
"""Hands that point at the viewer (sine) are seen from their tips: their points must be surer than others'."""
MOST_ON_ARM = 0.35
"""Share of the hand's pixels that may lie before its own forearm."""
POINTS_AT_VIEWER = 0.3
"""Length of a forearm in the picture, shoulder widths, under which it points at the viewer."""
MOST_FOLD = 1.0
"""Bend of the fingers' first two joints together, radians, from which a hand is too closed to be told from the photo:
its wrist and palm lie behind its fingers, and what moves would tear off what does not."""


def see_hand(pixels: UInt8[np.ndarray, "h w 3"], portrait: Portrait, side: int) -> Sight | None:
    """The evidence for one hand; None where the finder has no mask of it."""
    limb = find_limb(portrait, side)
    if portrait.limb_masks is None or isinstance(limb, str) or limb.sureness < LEAST_SURE:
        return None
    soft = portrait.limb_masks[2 * limb.side + 1].cpu().numpy().astype(np.float32)
    if (soft > _CORE).sum() < _LEAST_CORE or _beside_mask(limb, soft):
        return None
    other = portrait.limb_masks[3 - 2 * limb.side].cpu().numpy().astype(np.float32)
    other = (other > _MAYBE) & (other > soft)
    cut = _cut_out(pixels, soft, limb, other)
    length = _hand_length(limb)
    away = cv2.distanceTransform((soft <= _MAYBE).astype(np.uint8), cv2.DIST_L2, 5)
    ahead = pixel_grid(soft.shape) @ _along(limb) - limb.wrist @ _along(limb)
    fore, _ = segment_distance(pixel_grid(soft.shape), limb.elbow, limb.wrist)
    beside = (away < _REACH * length) & (ahead > 0.2 * length) & (fore > 0.9 * limb.radius)
    hand = cut & ((soft > _MAYBE) | beside)
    return Sight(
        side=HAND_SIDES[limb.side],
        points=portrait.hand_points[limb.side].float().cpu(),
        elbow=torch.from_numpy(limb.elbow),
        inside=cut.astype(np.float32),
        hand=hand.astype(np.float32),
        scale=limb.unit / 0.36,
    )


def _beside_mask(limb: Limb, soft: Float32[np.ndarray, "h w"]) -> bool:
    """Whether points and mask are not of one hand."""
    hull = np.zeros(soft.shape, np.uint8)
    draw_hull(hull, limb, 1)
    return bool((soft[hull > 0] < 0.5).mean() > _MOST_BARE)


def fit_of(model: HandModel, sight: Sight | None) -> HandFit | None:
    """The hand model in the photo's pose, if it fits."""
    if sight is None:
        return None
    fit = fit_hand(model, sight)
    fold = float(fit.flex[:12].view(4, 3)[:, :2].sum(-1).mean())
    sound = fit.overlap >= LEAST_OVERLAP and fit.miss <= MOST_MISS and fold <= MOST_FOLD
    if _towards_viewer(model, fit) > POINTED:
        sound &= float(sight.points[:, 2].mean()) >= POINTED_SURE
    return fit if sound else None


def _towards_viewer(model: HandModel, fit: HandFit) -> float:
    """Sine between the picture and the way from wrist to middle knuckle, towards the viewer."""
    with torch.no_grad():
        points = fit.posed_points(model)
    way = points[9] - points[0]
    return float(way[2] / way.norm().clamp(min=1e-6))


def lies_on_arm(limb: Limb, fit: HandFit, sight: Sight) -> bool:
    """Whether the hand hides a good part of its own forearm, which nobody could paint behind it; of one that points at the
    viewer little is seen anyway."""
    if float(np.linalg.norm(limb.elbow - limb.wrist)) < POINTS_AT_VIEWER * limb.unit:
        return False
    assert sight.hand is not None
    grid = pixel_grid((sight.hand.shape[0], sight.hand.shape[1]))[sight.hand > 0.5]
    away, _ = segment_distance(grid, limb.elbow, fit.wrist.numpy())
    return bool((away < 0.75 * limb.radius).mean() > MOST_ON_ARM)


def with_fit(limb: Limb, model: HandModel, fit: HandFit) -> Limb:
    """The limb with the fit's key points in the place of the finder's."""
    with torch.no_grad():
        points = fit.posed_points(model)[:, :2].numpy().astype(np.float32)
    return replace(limb, hand=points, chains=FINGERS, wrist=points[0])


def mended(
    mask: Float32[np.ndarray, "h w"], limb: Limb, sight: Sight
) -> Float32[np.ndarray, "h w"]:
    """An arm's mask, right about the hand: with all of its skin, without what lies between its fingers."""
    assert sight.hand is not None
    assert sight.inside is not None
    between = np.zeros(mask.shape, np.uint8)
    draw_hull(between, limb, 1)
    alien = (sight.inside < 0.5) & (between > 0)
    return np.where(alien, 0, np.maximum(mask, sight.hand)).astype(np.float32)


def _along(limb: Limb) -> Float32[np.ndarray, "2"]:
    """From the wrist to the fingers, unit length."""
    way = limb.hand[1:].mean(0) - limb.wrist
    return (way / max(float(np.linalg.norm(way)), 1e-6)).astype(np.float32)


def _hand_length(limb: Limb) -> float:
    return max(float(np.linalg.norm(limb.hand - limb.wrist, axis=1).max()), 0.3 * limb.unit)


def _cut_out(
    pixels: UInt8[np.ndarray, "h w 3"],
    soft: Float32[np.ndarray, "h w"],
    limb: Limb,
    other: Bool[np.ndarray, "h w"],
) -> Bool[np.ndarray, "h w"]:
    """The hand, perhaps with some of its arm, to the pixel: GrabCut in a crop, begun from the finder's mask; `other`:
    surely the other hand."""
    length = _hand_length(limb)
    ys, xs = np.nonzero(soft > _MAYBE)
    grow = int(0.6 * length) + 2
    rows = slice(max(0, ys.min() - grow), ys.max() + grow)
    columns = slice(max(0, xs.min() - grow), xs.max() + grow)
    near, origin = soft[rows, columns], np.array([columns.start, rows.start])
    scale = min(1.0, _CUT_SIDE / max(near.shape))
    size = (max(8, round(near.shape[1] * scale)), max(8, round(near.shape[0] * scale)))
    crop = cv2.resize(pixels[rows, columns], size, interpolation=cv2.INTER_AREA)
    small = cv2.resize(near, size, interpolation=cv2.INTER_AREA)
    away = cv2.distanceTransform((small <= _MAYBE).astype(np.uint8), cv2.DIST_L2, 5)
    trimap = np.where(away < _REACH * length * scale, cv2.GC_PR_BGD, cv2.GC_BGD).astype(np.uint8)
    arm = _places(np.stack((limb.elbow, limb.wrist)), origin, scale)
    cv2.polylines(trimap, [arm], False, cv2.GC_PR_FGD, max(1, round(1.2 * limb.radius * scale)))
    thumb = _places(limb.hand[list(limb.chains[0][1:])], origin, scale)
    cv2.polylines(trimap, [thumb], False, cv2.GC_PR_FGD, max(1, round(0.06 * length * scale)))
    trimap[small > _FAINT] = np.maximum(trimap[small > _FAINT], cv2.GC_PR_BGD)
    trimap[small > _MAYBE] = cv2.GC_PR_FGD
    trimap[small > 0.85] = cv2.GC_FGD
    line = np.zeros_like(trimap)
    cv2.polylines(line, [thumb], False, 1, max(1, round(0.04 * length * scale)))
    for chain in limb.chains[1:]:
        finger = _places(limb.hand[list(chain[1:])], origin, scale)
        cv2.polylines(line, [finger], False, 1, max(1, round(0.04 * length * scale)))
    trimap[(line > 0) & like_skin(crop, small > 0.85)] = cv2.GC_FGD
    away = cv2.resize(other[rows, columns].astype(np.uint8), size, interpolation=cv2.INTER_NEAREST)
    trimap[away > 0] = cv2.GC_BGD
    cut = grab_cut(crop, trimap, 4)
    _, labels = cv2.connectedComponents(cut, connectivity=4)
    held = np.bincount(labels[small > _CORE], minlength=labels.max() + 1)
    held[0] = 0
    kept = (held > 0.1 * max(held.sum(), 1))[labels].astype(np.float32)
    whole = np.zeros(soft.shape, bool)
    whole[rows, columns] = cv2.resize(kept, near.shape[::-1], interpolation=cv2.INTER_LINEAR) > 0.5
    return whole


def _places(points: np.ndarray, origin: np.ndarray, scale: float) -> np.ndarray:
    """Points in the pixels of the crop."""
    return np.floor((points - origin) * scale).astype(np.int32)
