"""What of a photo is person, and what of the person is this arm: the networks' coarse shares, cut along the picture's edges.

Part of the arm layers (design §6); runs once per photo.  The cut is GrabCut (Rother et al. 2004).  An arm's shares come
from the cutter (`arm_cutter.py`); where it knows no arm, from the finder; where a portrait brings none, simple shapes of a
trunk take their place.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from jaxtyping import Bool, Float32, Int, UInt8

from emo2.portrait.skin import hand_by_skin
from emo2.signals import Portrait
from emo2.video import layer_paint
from emo2.video.arm_cutter import ArmShares
from emo2.video.arm_outline import with_rims
from emo2.video.layer_masks import (
    CUT_SIDE,
    SURE,
    Limb,
    draw_arm,
    draw_hand,
    draw_hull,
    foreshortened,
    grab_cut,
    like_skin,
    limb_box,
    pixel,
    pixel_grid,
    ruler,
    scaled,
)

_TRUNKS = {
    "widest": (1.15, -0.25, 1.2, 1.4),
    "likely": (0.92, -0.1, 1.0, 1.0),
    "inner": (0.8, -0.02, 0.75, 0.8),
    "core": (0.55, 0.15, 0.4, 0.3),
}
"""Simple shapes of the trunk: torso in shoulder widths, its top below the shoulders in the same, head and neck in
face sizes."""
_CERTAIN = (0.12, 0.5, 0.9)
"""Shares of person from which a place may be, probably is, surely is person (looked at on 12 photos)."""
_GRADES = np.array([cv2.GC_BGD, cv2.GC_PR_BGD, cv2.GC_PR_FGD, cv2.GC_FGD], np.uint8)
_OWN = (0.15, 0.7)
"""Shares of an arm, of all that is person, from which a place may be, surely is arm."""
_HOLE = 0.08
"""Shoulder widths across up to which a hole in an arm is filled."""
_NEARER = 0.4
"""Share of the squared distance to the other's colour under which a place is told by colour."""
_TARGET = 0.42
"""The share near which arm and trunk are told apart: an arm too thin shows more than one too wide."""
_UNSURE = (0.25, 0.85)
"""Shares by the cutter between which an edge is looked for in the picture."""
_NO_TRUNK = 0.3
"""Share of trunk under which what is person is arm."""
_NO_FINGER = 0.8
"""Share of wall, and of trunk, from which the cutter is believed between fingers too."""
_FOREARM = 0.42
"""Shoulder widths from elbow and wrist within which a forearm that points at the viewer must lie."""
_ABOUT_HAND = 0.25
"""Shoulder widths around a hand where only skin and the arm's own cut count ..."""
_LIGHT = 90
"""By how much a forearm may be lighter or darker than its hand (Lab)."""
_FORE_WIDE, _SLEEVE = 2.5, (0.7, 4.5)
"""... but for its arm, so many of an arm's half widths wide; and for a sleeve, down this share of the upper arm, wider."""
_SIDE = 320
"""Pixels of the long side at which the person is cut."""
_ELLIPSE = cv2.MORPH_ELLIPSE


def person_mask(
    image: UInt8[np.ndarray, "h w 3"],
    portrait: Portrait,
    arms: Float32[np.ndarray, "h w"],
    limbs: Sequence[Limb],
    cuts: Sequence[ArmShares] = (),
) -> Bool[np.ndarray, "h w"]:
    """Where the person is: torso, neck, head, the given mask of the arms, and what belongs to them.

    `cuts`: what the cutter says around arms that it knows.
    """
    height, width = image.shape[:2]
    scale = _SIDE / max(height, width)
    small = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    sure = cv2.resize(arms, small.shape[1::-1], interpolation=cv2.INTER_AREA) > 0.5
    if portrait.body_masks is None:
        trimap = np.full(small.shape[:2], cv2.GC_BGD, np.uint8)
        for limb in limbs:
            _draw_reach(trimap, scaled(limb, np.zeros(2), scale))
        for value, trunk in (
            (cv2.GC_PR_BGD, "widest"),
            (cv2.GC_PR_FGD, "inner"),
            (cv2.GC_FGD, "core"),
        ):
            _draw_trunk(trimap, portrait, scale, value, trunk)
    else:
        shares = portrait.body_masks.sum(0).cpu().numpy().astype(np.float32)
        share = cv2.resize(shares, small.shape[1::-1], interpolation=cv2.INTER_AREA)
        sure &= share > _CERTAIN[0]
        trimap = _by_colour(small, _GRADES[np.digitize(share, _CERTAIN)], sure)
    trimap[sure] = cv2.GC_FGD
    for shares in cuts:
        none, arm = (
            cv2.resize(z, small.shape[1::-1], interpolation=cv2.INTER_AREA)
            for z in (shares[0], shares[1:].sum(0))
        )
        trimap[(none > _UNSURE[1]) & (arm > 0.002)] = cv2.GC_BGD
        trimap[none < _UNSURE[0]] = cv2.GC_FGD
    mask = grab_cut(small, trimap, 4)
    mask = cv2.morphologyEx(mask, cv2.MORPH_OPEN, cv2.getStructuringElement(_ELLIPSE, (3, 3)))
    soft = cv2.resize(mask.astype(np.float32), (width, height), interpolation=cv2.INTER_LINEAR)
    return soft > 0.5


def without_islands(
    person: Bool[np.ndarray, "h w"], arms: Bool[np.ndarray, "h w"], portrait: Portrait
) -> Bool[np.ndarray, "h w"]:
    """The person without its arms: of what these keep apart what the finder calls trunk, no slivers beside hands, no dark
    screen behind a dark sleeve."""
    rest = person & ~arms
    if portrait.body_masks is None:
        return rest
    share = portrait.body_masks[0].cpu().numpy()
    _, labels = cv2.connectedComponents(rest.astype(np.uint8), connectivity=4)
    count = np.bincount(labels.ravel())
    mean = np.bincount(labels.ravel(), share.ravel()) / np.maximum(count, 1)
    return rest & (mean > _CERTAIN[1])[np.asarray(labels, np.intp)]


def _by_colour(
    image: UInt8[np.ndarray, "h w 3"],
    trimap: UInt8[np.ndarray, "h w"],
    hands: Bool[np.ndarray, "h w"],
) -> UInt8[np.ndarray, "h w"]:
    """Probable places told again by whose colour is nearer, the person's or what is behind, as each goes on from there."""
    picture = cv2.GaussianBlur(image, (0, 0), 1.0).astype(np.float32) / 255
    inside = (trimap == cv2.GC_FGD) | hands
    fore, behind = (
        layer_paint.spread(picture, known.astype(np.float32))
        for known in (inside, trimap == cv2.GC_BGD)
    )
    to_fore, to_behind = (np.square(picture - side).sum(-1) + 1e-4 for side in (fore, behind))
    unsure = (trimap == cv2.GC_PR_BGD) | (trimap == cv2.GC_PR_FGD)
    told = trimap.copy()
    told[unsure & (to_fore < _NEARER * to_behind)] = cv2.GC_PR_FGD
    told[unsure & (to_behind < _NEARER * to_fore)] = cv2.GC_PR_BGD
    told[unsure & (to_behind < _NEARER**3 * to_fore)] = cv2.GC_BGD
    return told


def _draw_reach(trimap: np.ndarray, limb: Limb) -> None:
    """Where a wide sleeve, a cuff or an elbow may be."""
    draw_arm(trimap, limb, cv2.GC_PR_BGD, 0.5 * limb.unit)
    radius = (0.3 if foreshortened(limb) else 0.14) * limb.unit
    for joint in (limb.elbow, limb.wrist):
        cv2.circle(trimap, pixel(joint), max(1, round(radius)), cv2.GC_PR_BGD, -1)


def arm_of(
    person: Bool[np.ndarray, "h w"],
    portrait: Portrait,
    limb: Limb,
    cut: Float32[np.ndarray, "h w"],
    image: Float32[np.ndarray, "h w 3"],
    shares: ArmShares | None = None,
) -> Float32[np.ndarray, "h w"]:
    """An arm's mask made whole: what the person shows of it beside the trunk, and of the cut what is no trunk."""
    if shares is not None:
        arm = _by_shares(image, limb, cut, shares)
        arm = with_rims(image, arm, limb, person & (shares[1] < _NO_TRUNK))
        skin = hand_by_skin(portrait, limb.side)
        return (arm if skin is None else arm | skin).astype(np.float32)
    if portrait.body_masks is None:
        return np.maximum(cut, overlooked(person, portrait, limb)).astype(np.float32)
    shares = portrait.body_masks.cpu().numpy().astype(np.float32)
    arm, rest = shares[1 + limb.side], shares[0] + shares[2 - limb.side]
    own = np.where(arm + rest > 0.05, arm / np.maximum(arm + rest, 0.05), -1).astype(np.float32)
    reach = np.zeros(person.shape, np.uint8)
    draw_arm(reach, limb, 1, 0.5 * limb.unit)
    if foreshortened(limb) or limb.pinned_elbow:
        for joint in (limb.elbow, limb.wrist):
            cv2.circle(reach, pixel(joint), round(_FOREARM * limb.unit), 1, -1)
    fingers = np.zeros(person.shape, np.uint8)  # what is between them the hand's own cut knows
    draw_hull(fingers, limb, 1)
    before = fingers.copy()  # hand and forearm may lie before the trunk
    draw_hand(before, limb, 1, 1.2 * limb.radius, palm=True)
    if portrait.limb_masks is not None:
        found = portrait.limb_masks[2 * limb.side : 2 * limb.side + 2].amax(0).cpu().numpy()
        before[found > 0.5] = 1
    body = np.where(fingers > 0, cut > 0.5, person | (cut > 0.5) & (before > 0))
    hand = (fingers > 0) & (cut > 0.5)
    if hand.any() and not foreshortened(limb):
        skin = like_skin((image * 255).astype(np.uint8), hand, _LIGHT)
        body &= (cut > 0.5) | skin | (_about_hand(fingers, limb) == 0)
    front = (cut > 0.5) & (before > 0)
    beside = body & (own > _OWN[0]) & (reach > 0) & _outside_seam(image, own, body, limb)
    return _piece(front, beside, beside & (own > _OWN[1]), limb).astype(np.float32)


def _about_hand(fingers: UInt8[np.ndarray, "h w"], limb: Limb) -> UInt8[np.ndarray, "h w"]:
    """What is near the hand beside its arm: there the coarse shares are the hand's own and say nothing of what else is there."""
    away = cv2.distanceTransform(1 - fingers, cv2.DIST_L2, 3)
    near = (away < _ABOUT_HAND * limb.unit).astype(np.uint8)
    arm = np.zeros_like(fingers)
    draw_arm(arm, limb, 1, _FORE_WIDE * limb.radius)
    sleeve = limb.shoulder + _SLEEVE[0] * (limb.elbow - limb.shoulder)
    cv2.line(arm, pixel(limb.shoulder), pixel(sleeve), 1, round(_SLEEVE[1] * limb.radius))
    return near & (1 - arm)


def _by_shares(
    image: Float32[np.ndarray, "h w 3"],
    limb: Limb,
    cut: Float32[np.ndarray, "h w"],
    shares: ArmShares,
) -> Bool[np.ndarray, "h w"]:
    """Against the trunk as the cutter says, against what is behind along the picture's edge near there; fingers as they were cut."""
    arm = shares[2:].sum(0)
    x0, y0, x1, y1 = limb_box(limb, arm.shape, 0.45 * limb.unit)
    scale = min(1.0, CUT_SIDE / max(x1 - x0, y1 - y0))
    pixels = (image[y0:y1, x0:x1] * 255 + 0.5).clip(0, 255).astype(np.uint8)
    crop, share = (
        cv2.resize(np.ascontiguousarray(z), None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        for z in (pixels, arm[y0:y1, x0:x1])
    )
    trimap = _GRADES[np.digitize(share, (_UNSURE[0], 0.5, _UNSURE[1]))]
    edge = np.zeros(arm.shape, np.float32)
    edge[y0:y1, x0:x1] = cv2.resize(
        grab_cut(crop, trimap, 3).astype(np.float32), (x1 - x0, y1 - y0)
    )
    mask = np.where(shares[0] > shares[1], edge > 0.5, arm > 0.5)
    fingers = np.zeros(arm.shape, np.uint8)
    draw_hull(fingers, limb, 1)
    hand = ((cut > 0.5) & (shares[:2].max(0) < _NO_FINGER)) | (shares[4] > 0.9)
    mask = np.where(fingers > 0, hand, mask)
    _, labels = cv2.connectedComponents(mask.astype(np.uint8), connectivity=4)
    held = np.bincount(labels[mask & (arm > 0.8)], minlength=labels.max() + 1)
    held[0] = 0
    return (held > 0.1 * max(held.sum(), 1))[labels]


def _outside_seam(
    image: Float32[np.ndarray, "h w 3"],
    own: Float32[np.ndarray, "h w"],
    body: Bool[np.ndarray, "h w"],
    limb: Limb,
) -> Bool[np.ndarray, "h w"]:
    """The arm's side of the line between upper arm and trunk: dynamic programming down the arm, along the strongest edge
    or through what is behind, near where the arm's share is a half."""
    end = max(limb.elbow, limb.wrist, key=lambda p: float(np.linalg.norm(p - limb.shoulder)))
    end = end if foreshortened(limb) else limb.elbow
    down = (end - limb.shoulder) / max(float(np.linalg.norm(end - limb.shoulder)), 1.0)
    inward = np.array([-down[1], down[0]]) * (1.0 if limb.side == 0 else -1.0)
    step = 1.0 + limb.unit / 300
    rows = np.arange(-0.25 * limb.unit, np.linalg.norm(end - limb.shoulder), step)
    columns = np.arange(-0.35 * limb.unit, 0.45 * limb.unit, step)
    places = (limb.shoulder + rows[:, None, None] * down + columns[None, :, None] * inward).astype(
        np.float32
    )

    def seen(values: np.ndarray) -> np.ndarray:
        return cv2.remap(
            values,
            places[..., 0],
            places[..., 1],
            cv2.INTER_LINEAR,
            borderMode=cv2.BORDER_REPLICATE,
        )

    colours = cv2.GaussianBlur(seen(image), (0, 0), 1.2)
    edge = np.abs(np.gradient(colours, axis=1)).sum(-1)
    edge = np.minimum(edge / max(float(np.quantile(edge, 0.95)), 1e-4), 1)
    share, inside = seen(own), seen(body.astype(np.float32)) > 0.5
    cost = np.where(inside, 1 - 0.8 * edge, 0.0) + 12 * (share - _TARGET) ** 2
    line = columns[_cheapest(cost)]
    line = cv2.GaussianBlur(line.astype(np.float32)[:, None], (1, 15), 0).ravel()
    grid = pixel_grid(body.shape) - limb.shoulder
    return grid @ inward < np.interp(grid @ down, rows, line)


def _cheapest(cost: Float32[np.ndarray, "rows columns"]) -> Int[np.ndarray, "rows"]:
    """The column in each row of the cheapest way down; a step aside costs a little."""
    total, turns = cost[0].copy(), []
    for row in cost[1:]:
        sides = np.stack([np.r_[np.inf, total[:-1]], total, np.r_[total[1:], np.inf]])
        sides[[0, 2]] += 0.3
        turns.append(sides.argmin(0))
        total = row + sides.min(0)
    way = [int(total.argmin())]
    for turn in reversed(turns):
        way.append(way[-1] + int(turn[way[-1]]) - 1)
    return np.array(way[::-1])


def _piece(
    front: Bool[np.ndarray, "h w"],
    beside: Bool[np.ndarray, "h w"],
    sure: Bool[np.ndarray, "h w"],
    limb: Limb,
) -> Bool[np.ndarray, "h w"]:
    """Without slivers beside the trunk, and only what hangs together with what is surely arm."""
    mask, core = front | beside, front | sure
    side = 2 * round(0.05 * limb.unit) + 1
    smooth = cv2.morphologyEx(
        mask.astype(np.uint8), cv2.MORPH_OPEN, cv2.getStructuringElement(_ELLIPSE, (side, side))
    )
    hand = np.zeros(mask.shape, np.uint8)
    draw_hand(hand, limb, 1, 0.9 * limb.radius, palm=True)
    kept = (smooth > 0) | (mask & (hand > 0)) | front
    _, labels = cv2.connectedComponents(kept.astype(np.uint8), connectivity=4)
    held = np.bincount(labels[core & kept], minlength=labels.max() + 1)
    held[0] = 0
    whole = (held > 0.1 * max(held.sum(), 1))[labels]
    _, holes, stats, _ = cv2.connectedComponentsWithStats((~whole).astype(np.uint8), connectivity=4)
    small = stats[:, cv2.CC_STAT_AREA] < (_HOLE * limb.unit) ** 2
    fingers = np.zeros(mask.shape, np.uint8)
    draw_hull(fingers, limb, 1)
    return whole | (small[holes] & ~whole & (fingers == 0))


def overlooked(
    person: Bool[np.ndarray, "h w"], portrait: Portrait, limb: Limb
) -> Bool[np.ndarray, "h w"]:
    """Person beside the trunk and around elbow and wrist: sleeve and elbow, whatever the arm's cut said."""
    trunk, reach = (np.zeros(person.shape, np.uint8) for _ in range(2))
    _draw_trunk(trunk, portrait, 1.0, 1, "likely")
    _draw_reach(reach, limb)
    found = (person & (trunk == 0) & (reach > 0)).astype(np.uint8)
    side = 2 * round(0.04 * limb.unit) + 1  # a strip of the trunk's own side is no arm
    return (
        cv2.morphologyEx(found, cv2.MORPH_OPEN, cv2.getStructuringElement(_ELLIPSE, (side, side)))
        > 0
    )


def _draw_trunk(
    trimap: np.ndarray, portrait: Portrait, scale: float, value: int, trunk: str
) -> None:
    """Torso, neck and head as simple shapes; `trunk` is a key of `_TRUNKS`."""
    bottom = trimap.shape[0]
    unit = ruler(portrait) * scale
    x0, y0, x1, y1 = (portrait.face_box.numpy() * scale).tolist()
    middle = np.array([(x0 + x1) / 2, (y0 + y1) / 2])
    body = portrait.body_points.numpy()
    if min(body[2, 2], body[3, 2]) >= SURE:
        left, right = body[2, :2] * scale, body[3, :2] * scale
    else:
        half_unit = np.array([unit / 2, 0])
        neck = middle + np.array([0, 1.1 * (y1 - y0)])
        left, right = neck + half_unit, neck - half_unit
    chest = (left + right) / 2
    wide, drop, head, throat = _TRUNKS[trunk]
    half = wide * abs(left[0] - right[0]) / 2
    top = chest[1] + drop * unit
    corners = [
        [chest[0] - half, top],
        [chest[0] + half, top],
        [chest[0] + half, bottom],
        [chest[0] - half, bottom],
    ]
    cv2.fillConvexPoly(trimap, np.array(corners, np.int32), value)
    size = np.array([x1 - x0, y1 - y0]) * head
    centre = pixel(middle - [0, 0.1 * (y1 - y0)])
    cv2.ellipse(trimap, centre, pixel(size + 1), 0, 0, 360, value, -1)
    cv2.line(trimap, pixel(middle), pixel(chest), value, max(1, round((x1 - x0) * throat)))
