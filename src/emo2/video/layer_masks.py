"""What of a photo is arm: limbs from key points, and masks of person and arms by graph cuts seeded with them.

Part of the arm layers (design §6).  The cuts are GrabCut (Rother et al. 2004) on a small crop; the skeleton
says where the arm surely is, may be and cannot be, the finder's masks (`Portrait.limb_masks`) refine that.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Bool, Float32, UInt8

from emo2.signals import HAND_SIDES, Portrait

FINGERS = tuple((0, *range(1 + 4 * f, 5 + 4 * f)) for f in range(5))
"""Chains of the 21 hand points, wrist to tip."""
SURE = 0.3
"""Confidence from which a point is believed."""
_LIKELY = 0.15
"""Confidence from which an elbow in the picture is believed: the finder is rarely sure of elbows, and far off even more rarely."""
_UPPER_ARM = (0.8, 1.15)
"""Its length in shoulder widths as a photo from the front shows one that hangs (measured on photos: .75 to .88), and the most."""
_FOREARM = 0.75
"""The same of a forearm, at most."""
_BEYOND = (0.285, 0.55)
"""Shoulder widths beyond the wrist, towards the fingers, from which an elbow less sure than this is a finger (on renders
wrong elbows lie .35 and more beyond and are less sure than .5, right ones do not)."""
_RADIUS = 0.115
"""Half width of a clothed arm in shoulder widths (measured on photos: 0.08 bare to 0.14)."""
_HUE = 14
"""Difference of hue (Lab) from the hand's usual colour up to which a place is skin."""
CUT_SIDE = 320
"""Pixels a side of the crop that is cut."""
_ELLIPSE = cv2.MORPH_ELLIPSE


@dataclass(frozen=True, kw_only=True)
class Limb:
    """One arm in the photo, in pixels."""

    side: int
    """Index into `HAND_SIDES`."""
    shoulder: Float32[np.ndarray, "2"]
    elbow: Float32[np.ndarray, "2"]
    wrist: Float32[np.ndarray, "2"]
    hand: Float32[np.ndarray, "n 2"]
    """The believed ones of the 21 points; the wrist first."""
    chains: tuple[tuple[int, ...], ...]
    """Fingers as indices into `hand`."""
    unit: float
    """Shoulder width: the ruler of every length here."""
    sureness: float
    """Mean confidence of the hand's points, 0..1."""
    pinned_elbow: bool
    """The elbow is outside the picture or unsure: `elbow` is then where motion must vanish."""

    @property
    def radius(self) -> float:
        """Expected half width of the arm."""
        return _RADIUS * self.unit

    def points(self) -> Float32[np.ndarray, "n 2"]:
        """All of it."""
        return np.vstack([self.shoulder[None], self.elbow[None], self.wrist[None], self.hand])


def ruler(portrait: Portrait) -> float:
    """Shoulder width in pixels; from the face where the shoulders are not both sure."""
    points = portrait.body_points.numpy()
    left, right = points[2], points[3]
    face = float(portrait.face_box[3] - portrait.face_box[1])
    by_face = 2.6 * face  # brow to chin is about 0.14 m, the shoulders 0.36 m
    if min(left[2], right[2]) < SURE:
        return by_face
    width = float(np.linalg.norm(left[:2] - right[:2]))
    return float(np.clip(width, 0.6 * by_face, 2.0 * by_face)) if face > 0 else width


def find_limb(portrait: Portrait, side: int) -> Limb | str:
    """The arm of a side, or the reason why it cannot be moved."""
    name = HAND_SIDES[side]
    if not portrait.hands_present[side]:
        return f"the {name} hand is not surely in the picture; it stays still"
    height, width = portrait.size
    body, hand = portrait.body_points.numpy(), portrait.hand_points[side].numpy()
    unit = ruler(portrait)
    believed = [i for i in range(21) if hand[i, 2] >= SURE]
    if 0 not in believed and body[6 + side, 2] >= SURE:
        hand = hand.copy()
        hand[0] = body[6 + side]
        believed = [0, *believed]
    if 0 not in believed or len(believed) < 8:
        return f"only {len(believed)} of 21 points of the {name} hand were found; it stays still"
    points = hand[believed, :2].astype(np.float32)
    outside = (points < 1).any(1) | (points > np.array([width, height]) - 1).any(1)
    if outside.mean() > 0.1:
        return f"the {name} hand is cut off by the picture's edge; it stays still"
    place = {index: at for at, index in enumerate(believed)}
    sureness = float(hand[believed, 2].mean())
    chains = tuple(tuple(place[i] for i in chain if i in place) for chain in FINGERS)
    wrist = points[0]
    fingers = points[1:].mean(0) - wrist
    inside = bool((body[4 + side, :2] >= 0).all() and (body[4 + side, :2] < (width, height)).all())
    if inside and not _may_be_elbow(body, side, wrist, fingers, unit):
        body = body.copy()
        body[4 + side] = (*_hanging_elbow(body[2 + side, :2], wrist, side, unit), _LIKELY)
    shoulder, elbow, pinned = _arm(body, side, wrist, unit, (height, width))
    return Limb(
        side=side, shoulder=shoulder, elbow=elbow, wrist=wrist, hand=points, chains=chains,
        unit=unit,
        sureness=sureness, pinned_elbow=pinned,
    )  # fmt: skip


def _may_be_elbow(
    body: np.ndarray, side: int, wrist: np.ndarray, fingers: np.ndarray, unit: float
) -> bool:
    """Whether the finder's elbow can be one: within an upper arm's length, and, unless it is sure, not beyond the hand; one
    of which nothing is known can."""
    shoulder, elbow = body[2 + side], body[4 + side]
    if shoulder[2] < SURE or elbow[2] < _LIKELY:
        return True
    beyond = float((elbow[:2] - wrist) @ fingers) / max(float(np.linalg.norm(fingers)), 1e-6)
    length = float(np.linalg.norm(elbow[:2] - shoulder[:2]))
    near = beyond < _BEYOND[0] * unit or elbow[2] >= _BEYOND[1]
    return bool(length < _UPPER_ARM[1] * unit and near)


def _hanging_elbow(
    shoulder: np.ndarray, wrist: np.ndarray, side: int, unit: float
) -> Float32[np.ndarray, "2"]:
    """Where the elbow of an upper arm that hangs down is; no farther from the wrist than a forearm."""
    outwards = 1.0 if side == 0 else -1.0
    elbow = shoulder + unit * _UPPER_ARM[0] * np.array([0.05 * outwards, 1.0])
    way = elbow - wrist
    return (wrist + way * min(1.0, _FOREARM * unit / max(float(np.linalg.norm(way)), 1e-6))).astype(
        np.float32
    )


def _arm(
    body: np.ndarray, side: int, wrist: np.ndarray, unit: float, size: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray, bool]:
    """Shoulder, elbow, and whether the elbow had to be replaced by a pin."""
    height, width = size
    shoulder, elbow = body[2 + side], body[4 + side]
    inside = 0 <= elbow[0] < width and 0 <= elbow[1] < height
    if inside and shoulder[2] >= SURE and elbow[2] >= _LIKELY:
        return shoulder[:2].astype(np.float32), elbow[:2].astype(np.float32), False
    towards = elbow[:2] - wrist if elbow[2] >= _LIKELY else np.array([0.0, 0.6 * unit])
    length = float(np.linalg.norm(towards)) + 1e-6
    towards = towards / length
    reach = min(length, 0.75 * unit)
    for axis, limit in (
        (0, width - 1),
        (1, height - 1),
    ):  # stop where the forearm leaves the picture
        if abs(towards[axis]) > 1e-6:
            to_edge = ((limit if towards[axis] > 0 else 0) - wrist[axis]) / towards[axis]
            reach = min(reach, max(to_edge, 1.0))
    pin = (wrist + reach * towards).astype(np.float32)
    return pin, pin, True


def folds(limb: Limb) -> bool:
    """Whether forearm and hand lie before the upper arm in the picture, so that they need planes of their own."""
    upper, fore = limb.shoulder - limb.elbow, limb.wrist - limb.elbow
    long, short = float(np.linalg.norm(upper)), float(np.linalg.norm(fore))
    if limb.pinned_elbow or short < 0.15 * limb.unit or long < 0.3 * limb.unit:
        return False
    return float(upper @ fore) > float(np.cos(np.radians(40))) * long * short


def foreshortened(limb: Limb) -> bool:
    """Whether the forearm points at the camera, so that its bone in the picture says little."""
    length = float(np.linalg.norm(limb.wrist - limb.elbow))
    return not limb.pinned_elbow and not folds(limb) and length < 0.3 * limb.unit


def segment_distance(
    grid: Float32[np.ndarray, "... 2"], a: np.ndarray, b: np.ndarray
) -> tuple[Float32[np.ndarray, "..."], Float32[np.ndarray, "..."]]:
    """Distance of points to the segment a-b, and the unclamped place along it (0 at a, 1 at b)."""
    along = b - a
    length2 = float(along @ along)
    if length2 < 1e-6:
        return np.linalg.norm(grid - a, axis=-1), np.zeros(grid.shape[:-1], np.float32)
    place = ((grid - a) @ along) / length2
    foot = a + np.clip(place, 0, 1)[..., None] * along
    return np.linalg.norm(grid - foot, axis=-1), place.astype(np.float32)


def pixel(point: np.ndarray) -> tuple[int, int]:
    return int(np.floor(point[0])), int(np.floor(point[1]))


def draw_hand(canvas: np.ndarray, limb: Limb, value: int, width: float, *, palm: bool) -> None:
    """Finger lines, and the convex hull of the palm (knuckles and wrist) where asked."""
    for chain in limb.chains:
        for a, b in itertools.pairwise(chain):
            line = pixel(limb.hand[a]), pixel(limb.hand[b])
            cv2.line(canvas, *line, value, max(1, round(width)))
    if palm:
        roots = [chain[i] for chain in limb.chains for i in (0, 1) if len(chain) > i]
        hull = cv2.convexHull(limb.hand[sorted(set(roots))].astype(np.int32))
        cv2.fillConvexPoly(canvas, hull, value)


def filled_hull(
    points: Float32[np.ndarray, "n 2"], shape: tuple[int, ...]
) -> Bool[np.ndarray, "h w"]:
    """All that lies between points, in pixels; nothing if there are fewer than three."""
    filled = np.zeros(shape, np.uint8)
    if len(points) > 2:
        cv2.fillConvexPoly(filled, cv2.convexHull(points.round().astype(np.int32)), 1)
    return filled > 0


def between(places: Bool[np.ndarray, "h w"]) -> Bool[np.ndarray, "h w"]:
    """All that lies between places of a picture."""
    ys, xs = np.nonzero(places)
    return filled_hull(np.stack([xs, ys], -1).astype(np.float32), places.shape)


def draw_hull(canvas: np.ndarray, limb: Limb, value: int) -> None:
    """All that lies between the points of the hand."""
    cv2.fillConvexPoly(canvas, cv2.convexHull(limb.hand.astype(np.int32)), value)


def draw_arm(canvas: np.ndarray, limb: Limb, value: int, width: float) -> None:
    for a, b in ((limb.shoulder, limb.elbow), (limb.elbow, limb.wrist)):
        cv2.line(canvas, pixel(a), pixel(b), value, max(1, round(width)))


def scaled(limb: Limb, origin: np.ndarray, scale: float) -> Limb:
    def move(points: np.ndarray) -> np.ndarray:
        return ((points - origin) * scale).astype(np.float32)

    return Limb(
        side=limb.side, shoulder=move(limb.shoulder), elbow=move(limb.elbow), wrist=move(limb.wrist),
        hand=move(limb.hand), chains=limb.chains, unit=limb.unit * scale, sureness=limb.sureness, pinned_elbow=limb.pinned_elbow,
    )  # fmt: skip


def grab_cut(image: np.ndarray, trimap: np.ndarray, rounds: int) -> np.ndarray:
    """Foreground of a trimap of cv2.GC_* values; the trimap itself where it leaves nothing to cut."""
    foreground = (trimap & 1).astype(np.uint8)
    if foreground.all() or not foreground.any() or min(image.shape[:2]) < 8:
        return foreground
    cv2.setRNGSeed(0)  # GrabCut's k-means starts at random: the same photo must give the same mask
    mask = trimap.copy()
    box = (0, 0, mask.shape[1], mask.shape[0])  # not read when a mask is given
    cv2.grabCut(
        image, mask, box, np.zeros((1, 65)), np.zeros((1, 65)), rounds, cv2.GC_INIT_WITH_MASK
    )
    return (mask & 1).astype(np.uint8)


def limb_box(limb: Limb, size: tuple[int, int], margin: float) -> tuple[int, int, int, int]:
    """x0, y0, x1, y1 of the arm with a margin in pixels, inside a picture of (height, width)."""
    points = limb.points()
    x0, y0 = np.floor(points.min(0) - margin).astype(int).tolist()
    x1, y1 = np.ceil(points.max(0) + margin).astype(int).tolist()
    return max(x0, 0), max(y0, 0), min(x1, size[1]), min(y1, size[0])


def arm_mask(
    image: UInt8[np.ndarray, "h w 3"], limb: Limb, masks: Float32[np.ndarray, "2 h w"] | None
) -> Float32[np.ndarray, "h w"]:
    """Soft (by scaling only) mask of upper arm, forearm and hand; `masks`: the finder's forearm and hand."""
    height, width = image.shape[:2]
    x0, y0, x1, y1 = limb_box(limb, (height, width), 0.25 * limb.unit)
    scale = min(1.0, CUT_SIDE / max(x1 - x0, y1 - y0))
    crop = cv2.resize(image[y0:y1, x0:x1], None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    near = scaled(limb, np.array([x0, y0]), scale)
    trimap = _arm_trimap(crop.shape[:2], near)
    trimap[_surely_finger(crop, near)] = cv2.GC_FGD
    if masks is not None and masks.max() > 0.6:  # nothing found here says nothing
        found = masks[:, y0:y1, x0:x1].max(0)
        found = cv2.resize(found, crop.shape[1::-1], interpolation=cv2.INTER_AREA)
        maybe = (trimap == cv2.GC_PR_BGD) | (trimap == cv2.GC_PR_FGD)
        trimap[maybe & (found > 0.6)] = cv2.GC_PR_FGD
    mask = _clean(grab_cut(crop, trimap, 4), trimap == cv2.GC_FGD)
    whole = np.zeros((height, width), np.float32)
    whole[y0:y1, x0:x1] = cv2.resize(
        mask.astype(np.float32), (x1 - x0, y1 - y0), interpolation=cv2.INTER_LINEAR
    )
    return whole


def pixel_grid(shape: tuple[int, int]) -> Float32[np.ndarray, "h w 2"]:
    """Positions (x, y) of the pixels' centres."""
    ys, xs = np.mgrid[: shape[0], : shape[1]].astype(np.float32)
    return np.stack([xs + 0.5, ys + 0.5], -1)


def divide(
    image: np.ndarray, front: np.ndarray, back: np.ndarray, other: np.ndarray
) -> Bool[np.ndarray, "h w"]:
    """Grows `front` and `back` until they meet at the strongest edge between them."""
    marks = np.zeros(front.shape, np.int32)
    marks[back], marks[front], marks[other & ~front] = 2, 1, 3
    picture = np.ascontiguousarray((image * 255).clip(0, 255).astype(np.uint8))
    cv2.watershed(cv2.GaussianBlur(picture, (0, 0), 1.5), marks)
    # Watershed lines belong to nobody, and so does the rim beside `other`: they go to the nearer part.
    to_front, to_back = (
        cv2.distanceTransform((marks != label).astype(np.uint8), cv2.DIST_L2, 5) for label in (1, 2)
    )
    return to_front <= to_back


def _arm_trimap(shape: tuple[int, int], limb: Limb) -> np.ndarray:
    """Surely, perhaps and surely not arm."""
    radius = limb.radius
    trimap = np.full(shape, cv2.GC_BGD, np.uint8)
    reach = np.zeros(shape, np.uint8)
    draw_hand(reach, limb, 1, 1.1 * radius, palm=True)
    draw_hull(reach, limb, 1)
    side = 2 * round(0.45 * radius) + 1
    reach = cv2.dilate(reach, cv2.getStructuringElement(_ELLIPSE, (side, side)))
    trimap[reach > 0] = cv2.GC_PR_BGD
    draw_arm(trimap, limb, cv2.GC_PR_BGD, 2.8 * radius)
    if foreshortened(limb):  # cuff and elbow may be anywhere around the wrist
        for joint in (limb.elbow, limb.wrist):
            cv2.circle(trimap, pixel(joint), max(1, round(0.2 * limb.unit)), cv2.GC_PR_BGD, -1)
    # A narrow first guess: a wide one takes bright background beside the arm into the arm's colours.
    draw_arm(trimap, limb, cv2.GC_PR_FGD, 1.3 * radius)
    draw_hand(trimap, limb, cv2.GC_PR_FGD, 0.35 * radius, palm=True)
    # Sure is only the middle of the arm, away from the shoulder: key points are a few pixels off.
    inner = limb.shoulder + 0.3 * (limb.elbow - limb.shoulder)
    cv2.line(trimap, pixel(inner), pixel(limb.elbow), cv2.GC_FGD, max(1, round(0.3 * radius)))
    middle = limb.hand[[chain[1] for chain in limb.chains if len(chain) > 1]].mean(0)
    for a, b in ((limb.elbow, limb.wrist), (limb.wrist, middle)):
        cv2.line(trimap, pixel(a), pixel(b), cv2.GC_FGD, max(1, round(0.3 * radius)))
    return trimap


def fault(mask: Float32[np.ndarray, "h w"], limb: Limb) -> str | None:
    """Why a mask cannot be trusted; None where it can."""
    name = HAND_SIDES[limb.side]
    hand, hull = (np.zeros(mask.shape, np.uint8) for _ in range(2))
    draw_hand(hand, limb, 1, 1, palm=True)
    draw_hull(hull, limb, 1)
    away = cv2.distanceTransform(1 - hull, cv2.DIST_L2, 3)
    for a, b in ((limb.shoulder, limb.elbow), (limb.elbow, limb.wrist)):
        line = np.zeros(mask.shape, np.uint8)
        cv2.line(line, pixel(a), pixel(b), 1, max(1, round(3.2 * limb.radius)))
        away[line > 0] = 0  # the arm may be there
    ring = (away > 0.09 * limb.unit) & (away < 0.13 * limb.unit)
    found = mask > 0.5
    if found[hand > 0].mean() < 0.6:
        return f"the {name} hand does not stand out from what is behind it; it stays still"
    if ring.any() and found[ring].mean() > 0.2:
        return f"the {name} hand runs into a background of its own colour; it stays still"
    return None


def _surely_finger(crop: np.ndarray, limb: Limb) -> np.ndarray:
    """Along the fingers, where the colour is the palm's (a highlight on a finger is, in chroma)."""
    palm, fingers = (np.zeros(crop.shape[:2], np.uint8) for _ in range(2))
    draw_hand(palm, limb, 1, 1, palm=True)
    draw_hand(fingers, limb, 1, 0.2 * limb.radius, palm=False)
    palm = cv2.erode(palm, np.ones((3, 3), np.uint8))
    if palm.sum() < 20:
        return np.zeros(crop.shape[:2], bool)
    return (fingers > 0) & like_skin(crop, palm > 0)


def like_skin(
    image: UInt8[np.ndarray, "h w 3"], sure: Bool[np.ndarray, "h w"], light: float = 70
) -> Bool[np.ndarray, "h w"]:
    """Pixels of the hue of what surely is skin; `light`: by how much they may be lighter or darker (Lab, of 255)."""
    lab = cv2.cvtColor(image, cv2.COLOR_RGB2LAB).astype(np.float32)
    off = np.abs(lab - np.median(lab[sure], axis=0))
    return (np.hypot(off[..., 1], off[..., 2]) < _HUE) & (off[..., 0] < light)


def _clean(mask: np.ndarray, seeds: np.ndarray) -> np.ndarray:
    """Without whiskers, without small holes, and only what hangs together with the seeds."""
    mask = cv2.morphologyEx(mask, cv2.MORPH_CLOSE, np.ones((3, 3), np.uint8))
    opened = cv2.morphologyEx(mask, cv2.MORPH_OPEN, cv2.getStructuringElement(_ELLIPSE, (3, 3)))
    mask = np.bitwise_or(opened, (seeds & (mask > 0)).astype(np.uint8))
    count, labels, stats, _ = cv2.connectedComponentsWithStats(mask, connectivity=4)
    touched = np.unique(labels[seeds & (mask > 0)])
    keep = np.isin(np.arange(count), touched[touched > 0])
    mask = keep[labels.astype(np.intp)].astype(np.uint8)
    count, labels, stats, _ = cv2.connectedComponentsWithStats(1 - mask, connectivity=4)
    small = stats[:, cv2.CC_STAT_AREA] < 0.0004 * mask.size
    return mask | small[labels.astype(np.intp)].astype(np.uint8)
