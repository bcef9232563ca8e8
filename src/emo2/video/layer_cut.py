"""Cutting arms into planes: alpha from masks, colours without background in them, and the parts that move.

Part of the arm layers (design §6); runs once per photo.  All arrays lie over one box of the photo, float32,
colours in 0..1 until they become a `Plane`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import cv2
import numpy as np
from jaxtyping import Bool, Float32

from emo2.video import layer_paint
from emo2.video.arm_outline import hidden_width, without_wall
from emo2.video.arm_surface import ArmPart
from emo2.video.layer_masks import (
    Limb,
    between,
    divide,
    folds,
    foreshortened,
    like_skin,
    pixel_grid,
    segment_distance,
)
from emo2.video.layer_motion import Field

if TYPE_CHECKING:
    from emo2.video.hand_layer import HandLayer

Box = tuple[int, int, int, int]
"""x0, y0, x1, y1 in pixels."""

_FIELD_STRIDE = 4
_PLANE_MELT = (0.02, 0.1)
"""Between these shares of the upper arm, from the shoulder, the plane takes over from the body ..."""
_GAP_MELT = (0.1, 0.22)
"""... here the gap behind it opens: later, so that no gap shows through the plane's soft beginning ..."""
_SWING = 0.2
"""... and from here on the upper arm moves."""
_WRIST = 0.06
"""About a wrist whose hand has a layer of its own, in shoulder widths: what follows it as one piece."""
_SAME_PLACE = 0.1
"""Shoulder widths between elbow and wrist under which the elbow is no place of its own."""
_FLESH = 0.05
"""Shoulder widths about a hand's points within which its flesh ends: half a finger (.03) and what points are off."""
_RIM = 0.015
"""Shoulder widths about a hand's mask that go with it."""
_UPPER_WIDE = 1.3
"""Half widths of an arm from its upper bone up to which it may be upper arm."""
_SLEEVE_WIDE = 2.5
"""... and its sleeve, beside a bare forearm's hand."""
_WIDENS = 1.0
"""Half widths of an arm by which a forearm at its elbow is wider to either side than at its wrist, at most."""
_SOFT = 0.03
"""Of colours of a hidden upper arm, shoulder widths."""
_LIGHT = 90
"""By how much a forearm may be lighter or darker than its hand (Lab)."""
_EDGE = 3
"""Pixels on either side of a mask's edge that may be mixed, at a shoulder width of 300 pixels."""


@dataclass(frozen=True, kw_only=True)
class Plane:
    """A cut-out with its own colours beyond its edge."""

    colour: Float32[np.ndarray, "h w 4"]
    """Premultiplied RGBA, RGB in [-1, 1]."""
    box: Box
    field: Field
    part: ArmPart = "arm"


@dataclass(frozen=True, kw_only=True)
class HandCut:
    """A hand that moves by itself, as the planes of its arm need it."""

    mask: Float32[np.ndarray, "h w"]
    """Over the box."""
    wrist: Float32[np.ndarray, "n 2"]
    """Where its skin ends, pixels of the photo."""


@dataclass(frozen=True, kw_only=True)
class Arm:
    """One arm of the photo, ready to move."""

    limb: Limb
    planes: tuple[Plane, ...]
    """In the order of drawing: the whole arm; or the upper arm, then forearm and hand, where these lie before it."""
    stretch: float
    """Pixels by which hand and elbow may part."""
    hand: HandLayer | None = None
    """The hand where its mesh was fitted; the planes then end at the wrist."""


def matte(
    image: Float32[np.ndarray, "h w 3"], mask: Float32[np.ndarray, "h w"], unit: float
) -> tuple[Float32[np.ndarray, "h w"], Float32[np.ndarray, "h w 3"]]:
    """Alpha and foreground colour of a mask: near its edge a pixel is seen as a mix of in- and outside.

    alpha = (I - B)(F - B) / |F - B|^2 with F and B spread from surely inside and outside; where they are
    alike the smoothed mask stands.
    """
    edge = max(2, round(_EDGE * unit / 300))
    smooth = cv2.GaussianBlur(mask, (0, 0), 0.5 * edge)
    hard = (smooth > 0.5).astype(np.uint8)
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * edge + 1,) * 2)
    inside, outside = cv2.erode(hard, kernel), 1 - cv2.dilate(hard, kernel)
    fore = layer_paint.spread(image, inside.astype(np.float32))
    behind = layer_paint.spread(image, outside.astype(np.float32))
    gap = fore - behind
    contrast = (gap * gap).sum(-1)
    mix = ((image - behind) * gap).sum(-1) / np.maximum(contrast, 1e-4)
    trust = contrast / (contrast + 0.03)
    band = cv2.GaussianBlur(trust * mix.clip(0, 1) + (1 - trust) * smooth, (0, 0), 0.6)
    alpha = np.where(inside > 0, 1.0, np.where(outside > 0, 0.0, band)).astype(np.float32)
    keep = np.clip((alpha - 0.9) / 0.1, 0, 1)[..., None]
    return alpha, (keep * image + (1 - keep) * fore).astype(np.float32)


@dataclass(frozen=True, kw_only=True)
class Bones:
    """Distances (pixels) to the arm's parts, and places along its bones, over the box."""

    hand: Float32[np.ndarray, "h w"]
    fore: Float32[np.ndarray, "h w"]
    along_fore: Float32[np.ndarray, "h w"]
    """0 at the elbow, 1 at the wrist."""
    upper: Float32[np.ndarray, "h w"]
    along_upper: Float32[np.ndarray, "h w"]
    """0 at the shoulder, 1 at the elbow."""
    origin: tuple[int, int]
    """x, y of the box in the photo."""


def measure(shape: tuple[int, int], limb: Limb, origin: tuple[int, int]) -> Bones:
    """`Bones` over a box of that shape."""
    grid = pixel_grid(shape) + np.array(origin, np.float32)
    hull = np.zeros(shape, np.uint8)
    points = (limb.hand - np.array(origin, np.float32)).astype(np.int32)
    cv2.fillConvexPoly(hull, cv2.convexHull(points), 1)
    fore, along_fore = segment_distance(grid, limb.elbow, limb.wrist)
    upper, along_upper = segment_distance(grid, limb.shoulder, limb.elbow)
    if foreshortened(limb):  # the arm ends at what is farther from the shoulder
        reach, along_reach = segment_distance(grid, limb.shoulder, limb.wrist)
        if np.linalg.norm(limb.wrist - limb.shoulder) > np.linalg.norm(limb.elbow - limb.shoulder):
            upper, along_upper = reach, along_reach
    return Bones(
        hand=cv2.distanceTransform(1 - hull, cv2.DIST_L2, 5),
        fore=fore, along_fore=along_fore, upper=upper, along_upper=along_upper, origin=origin,
    )  # fmt: skip


def _from_top(bones: Bones, arm: Bool[np.ndarray, "h w"]) -> Bones:
    """The upper arm counted from where the mask begins: a sleeve cut off further down must still begin at rest."""
    upper = bones.along_upper[arm & (bones.upper < bones.fore) & (bones.along_upper < 1)]
    if len(upper) == 0:
        return bones
    top = float(np.clip(np.quantile(upper, 0.02), 0, 0.6))
    return replace(bones, along_upper=((bones.along_upper - top) / (1 - top)).astype(np.float32))


def hand_share(bones: Bones, limb: Limb, reach: float) -> Float32[np.ndarray, "h w"]:
    """Skinning share of the hand: 1 at the hand, falling along the forearm, and over `reach` shoulder widths."""
    unit = limb.unit
    near = 1 - ease(bones.hand, 0.02 * unit, reach * unit)
    owner = ease(bones.upper / (bones.upper + bones.fore + 1e-3), 0.3, 0.7)
    along = np.clip(bones.along_fore, 0, 1) * owner if not limb.pinned_elbow else 0 * near
    if foreshortened(limb) and np.linalg.norm(limb.wrist - limb.elbow) < _SAME_PLACE * unit:
        # Linear from shoulder to hand: what is straight stays straight, and a raised thumb pulls no shoulder.
        core = 1 - ease(bones.hand, 0.02 * unit, 0.08 * unit)
        near = np.maximum(core, _lift(np.clip((bones.along_upper - 0.08) / 0.77, 0, 1)))
    share = np.maximum(near, along)
    if limb.pinned_elbow:  # still around the pin, where the arm leaves what can be moved
        share = share * ease(bones.upper, 0.1 * unit, 0.4 * unit)
    return cv2.GaussianBlur(share.astype(np.float32), (0, 0), 0.02 * unit)


def _lift(place: Float32[np.ndarray, "h w"]) -> Float32[np.ndarray, "h w"]:
    """Nearly linear from 0 to 1, with a level start: where the gap opens, the arm must still be where the photo has it."""
    return (place * place / (place + 0.15) * 1.15).astype(np.float32)


def _turn_share(bones: Bones, limb: Limb) -> Float32[np.ndarray, "h w"]:
    """The wrist turns the hand, not the arm."""
    return 1 - ease(bones.hand, 0.02 * limb.unit, 0.16 * limb.unit)


def fore_part(
    image: Float32[np.ndarray, "h w 3"], arm: Bool[np.ndarray, "h w"], limb: Limb, bones: Bones
) -> Bool[np.ndarray, "h w"]:
    """Forearm and hand, where they lie before the upper arm: by bones and along the edge between."""
    unit = limb.unit
    width = (
        0.1 - 0.04 * np.clip(bones.along_fore, 0, 1)
    ) * unit  # a forearm is thinner at the wrist
    front = (bones.hand < 0.01 * unit) | (bones.fore < 0.6 * width)
    back = arm & (bones.hand > 0.06 * unit) & (bones.fore > 1.2 * width)
    grown = arm & divide(image, front, back, ~arm)
    # Crumbs that hang neither with the hand nor with the upper arm are fingers.
    rest = arm & ~_hanging_together(grown, front)
    return arm & ~_hanging_together(rest, back & (bones.hand > 0.1 * unit))


def _beside_forearm(
    image: Float32[np.ndarray, "h w 3"],
    front: Bool[np.ndarray, "h w"],
    hand: HandCut,
    limb: Limb,
    bones: Bones,
) -> Bool[np.ndarray, "h w"]:
    """What is called forearm beside a hand but is its upper arm or sleeve behind it: a bare forearm ends at the wrist, as wide
    as that, and widens towards its elbow."""
    rim = np.ones((2 * max(2, round(_RIM * limb.unit)) + 1,) * 2, np.uint8)
    beside = cv2.dilate((hand.mask > 0.5).astype(np.uint8), rim) == 0
    grid = pixel_grid((front.shape[0], front.shape[1])) + np.array(bones.origin, np.float32)
    bone = (limb.wrist - limb.elbow) / max(float(np.linalg.norm(limb.wrist - limb.elbow)), 1e-6)
    across = np.array([-bone[1], bone[0]], np.float32)
    offset, ends = (grid - limb.wrist) @ across, (hand.wrist - limb.wrist) @ across
    low, high = float(ends.min()), float(ends.max())
    room = 0.1 * (high - low) + _WIDENS * limb.radius * (1 - bones.along_fore)
    outside = (offset < low - room) | (offset > high + room) | (bones.along_fore > 1)
    shown = front & beside & ~outside & (bones.along_fore > 0.3)
    pixels = (image * 255).clip(0, 255).astype(np.uint8)
    palm = cv2.erode((hand.mask > 0.5).astype(np.uint8), rim) > 0
    skin = like_skin(pixels, palm, _LIGHT) if palm.any() else np.zeros_like(front)
    if not shown.any() or skin[shown].mean() < 0.5:
        return np.zeros_like(front)
    cloth = ~skin & (bones.along_fore > 0.5) & (bones.upper < _SLEEVE_WIDE * limb.radius)
    return beside & (cloth | (outside & (bones.upper < _UPPER_WIDE * limb.radius)))


def _elbow_fade(limb: Limb) -> float:
    """Share of the forearm over which it takes over from the upper arm's plane."""
    length = float(np.linalg.norm(limb.wrist - limb.elbow))
    return min(0.5, max(0.25, 0.04 * limb.unit / max(length, 1.0)))


def _hanging_together(
    mask: Bool[np.ndarray, "h w"], seeds: Bool[np.ndarray, "h w"]
) -> Bool[np.ndarray, "h w"]:
    """The pieces of a mask that hold a good part of the seeds, smoothed."""
    smooth = cv2.morphologyEx(mask.astype(np.uint8), cv2.MORPH_OPEN, np.ones((5, 5), np.uint8)) > 0
    _, labels = cv2.connectedComponents((smooth | (mask & seeds)).astype(np.uint8), connectivity=4)
    held = np.bincount(labels[seeds & (labels > 0)], minlength=labels.max() + 1)
    return (held > 0.1 * max(held.sum(), 1))[labels] & (labels > 0)


def plane(
    colour: Float32[np.ndarray, "h w 3"],
    alpha: Float32[np.ndarray, "h w"],
    weights: tuple[Float32[np.ndarray, "h w"], ...],
    origin: tuple[int, int],
    part: ArmPart = "arm",
) -> Plane | None:
    """The cut-out around what alpha shows (None where it shows nothing); `weights`: shares as in `Field`."""
    rows, columns = np.nonzero(alpha.max(1) > 0.004)[0], np.nonzero(alpha.max(0) > 0.004)[0]
    if len(rows) == 0:
        return None
    y0, y1, x0, x1 = int(rows[0]), int(rows[-1]) + 1, int(columns[0]), int(columns[-1]) + 1
    a = alpha[y0:y1, x0:x1, None]
    premultiplied = np.dstack([(2 * colour[y0:y1, x0:x1] - 1) * a, a]).astype(np.float32)
    step = _FIELD_STRIDE
    height, width = (max(1, side // step) for side in alpha.shape)
    whole = np.dstack(weights)[: height * step, : width * step]
    coarse = cv2.resize(whole, (width, height), interpolation=cv2.INTER_AREA).astype(np.float32)
    field = Field(weights=coarse, origin=origin, stride=step)
    box = (origin[0] + x0, origin[1] + y0, origin[0] + x1, origin[1] + y1)
    return Plane(colour=premultiplied, box=box, field=field, part=part)


def cut(
    image: Float32[np.ndarray, "h w 3"],
    mask: Float32[np.ndarray, "h w"],
    limb: Limb,
    origin: tuple[int, int],
    *,
    hand: HandCut | None = None,
    fore: Bool[np.ndarray, "h w"] | None = None,
) -> tuple[Arm, Float32[np.ndarray, "h w"]]:
    """The arm's planes and the alpha of all that moves; an arm without planes shows nothing.

    `hand`: where the hand moves by itself, so that its plane need only follow the wrist; `fore`: what of the arm is forearm
    and hand, if that is known.
    """
    alpha, colour = matte(image, mask, limb.unit)
    bones = _from_top(measure(mask.shape, limb, origin), mask > 0.5)
    if folds(limb):
        arm = mask > 0.5
        front = fore_part(image, arm, limb, bones) if fore is None else arm & fore
        if hand is not None:
            front &= ~_beside_forearm(image, front, hand, limb, bones)
        arm = without_wall(image, arm, front, limb.unit)
        planes, moved = _cut_folded((colour, alpha), (arm, front), image, limb, bones, origin)
        stretch = 0.6 * float(np.linalg.norm(limb.wrist - limb.elbow))
    else:
        if hand is not None:  # a thumb before a sleeve does not pull it
            grid = pixel_grid(mask.shape) + np.array(origin, np.float32)
            away = np.linalg.norm(grid - limb.wrist, axis=-1) - _WRIST * limb.unit
            bones = replace(bones, hand=np.maximum(away, 0).astype(np.float32))
        share = hand_share(bones, limb, 0.5 if limb.pinned_elbow else 0.3)
        if limb.pinned_elbow:
            begins, opens, swing = ease(share, 0, 0.05), ease(share, 0.02, 0.1), 0 * share
        else:
            begins = np.maximum(ease(bones.along_upper, *_PLANE_MELT), ease(share, 0.1, 0.3))
            opens = np.maximum(ease(bones.along_upper, *_GAP_MELT), ease(share, 0.3, 0.5))
            swing = _lift(np.clip((bones.along_upper - 0.1) / 0.9, 0, 1))
            share = share * begins
        planes = [plane(colour, alpha * begins, (share, swing, _turn_share(bones, limb)), origin)]
        moved = alpha * opens
        stretch = 0.6 * max(float(np.linalg.norm(limb.wrist - limb.elbow)), 0.4 * limb.unit)
    kept = tuple(p for p in planes if p is not None)
    return Arm(limb=limb, planes=kept, stretch=stretch), moved.astype(np.float32)


def _cut_folded(
    cutout: tuple[Float32[np.ndarray, "h w 3"], Float32[np.ndarray, "h w"]],
    parts: tuple[Bool[np.ndarray, "h w"], Bool[np.ndarray, "h w"]],
    image: Float32[np.ndarray, "h w 3"],
    limb: Limb,
    bones: Bones,
    origin: tuple[int, int],
) -> tuple[list[Plane | None], Float32[np.ndarray, "h w"]]:
    """Upper arm, completed where hand and forearm hide it, and these before it; `parts`: all of the arm, what of it is before."""
    (colour, alpha), (arm, front) = cutout, parts
    unit, fade = limb.unit, _elbow_fade(limb)
    front_alpha, front_colour = matte(image, front.astype(np.float32), unit)
    near_hand = 1 - (bones.hand / unit - _FLESH) / 0.1
    begins = np.clip(np.maximum(bones.along_fore / fade, near_hand), 0, 1)
    inside = front_alpha * begins
    rim = np.ones((2 * max(2, round(unit / 100)) + 1,) * 2, np.uint8)
    seen = arm & (cv2.dilate((front & (begins > 0.02)).astype(np.uint8), rim) == 0)
    no_hand = arm & (bones.hand > _FLESH * unit) & (bones.upper < _UPPER_WIDE * limb.radius)
    hidden = layer_paint.along_bone(
        colour, (seen | no_hand) & (alpha > 0.95), limb.elbow - limb.shoulder, limb.radius
    )
    smooth = cv2.GaussianBlur(hidden, (0, 0), _SOFT * unit)
    hidden = np.where(seen[..., None], hidden, smooth).astype(np.float32)
    elbow = (1 - ease(bones.along_fore, 0.8 * fade, 2.5 * fade)) * ease(
        bones.hand, 0.04 * unit, 0.1 * unit
    )
    elbow = np.where(bones.fore < 0.12 * unit, elbow, 0)
    clear = np.maximum(cv2.blur(seen.astype(np.float32), (7, 7)), elbow)[..., None]
    behind_colour = clear * colour + (1 - clear) * hidden
    width = np.quantile(bones.upper[seen], 0.9) if seen.any() else limb.radius
    width = min(width, _UPPER_WIDE * limb.radius)
    under = (bones.upper < width) & (bones.along_upper < 1.05) & between(no_hand)
    under &= hidden_width(seen, front, limb, origin)
    behind = arm & (~front | (begins < 0.98) | under)
    shape = _blur_inside(behind.astype(np.float32), arm, max(1.0, unit / 300))
    shape = alpha * _extend(shape, arm)
    still = np.zeros_like(alpha)
    planes = [
        plane(
            behind_colour, shape * ease(bones.along_upper, *_PLANE_MELT),
            (still, ease(bones.along_upper, _SWING, 1), still), origin, "upper",
        ),
        plane(
            front_colour, inside,
            (hand_share(bones, limb, 0.16), still + 1, _turn_share(bones, limb)), origin, "forearm",
        ),
    ]  # fmt: skip
    return planes, np.maximum(inside, shape * ease(bones.along_upper, *_GAP_MELT))


def _blur_inside(
    values: Float32[np.ndarray, "h w"], region: Bool[np.ndarray, "h w"], radius: float
) -> Float32[np.ndarray, "h w"]:
    """Gaussian mean over the region only, so that its rim is not thinned."""
    weight = region.astype(np.float32)
    total = cv2.GaussianBlur(values * weight, (0, 0), radius)
    return (total / np.maximum(cv2.GaussianBlur(weight, (0, 0), radius), 1e-3)).clip(0, 1)


def ease(values: np.ndarray, low: float, high: float) -> np.ndarray:
    """Smoothstep from 0 at `low` to 1 at `high`."""
    t = np.clip((values - low) / (high - low), 0, 1)
    return (t * t * (3 - 2 * t)).astype(np.float32)


def _extend(
    share: Float32[np.ndarray, "h w"], arm: Bool[np.ndarray, "h w"]
) -> Float32[np.ndarray, "h w"]:
    """The share continued over the soft edge outside the arm."""
    weight = arm.astype(np.float32)
    wide = cv2.blur(share * weight, (9, 9)) / np.maximum(cv2.blur(weight, (9, 9)), 1e-3)
    return np.where(arm, share, wide.clip(0, 1)).astype(np.float32)
