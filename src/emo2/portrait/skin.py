"""Hands by their colour: where the finder is unsure of hands that look like the face's skin and stand free.

The face is always there, so its skin is known; hands of that colour, apart from head and neck, of a hand's size and
beside the body's middle, are surely enough hands to be moved a little.  Which way fingers point is only estimated.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from itertools import pairwise

import cv2
import numpy as np
import torch
from jaxtyping import Bool, Float32

from emo2.signals import BODY_POINTS, FOLDED, HAND_SIDES, Portrait

_SIDE = 320
_CHROMA = 11.0
"""Distance in Lab's a, b within which a colour is the face's."""
_CONFIDENCE = 0.5
_AGREED = 0.55
"""Confidence where the finder sees a hand on the same skin."""
_LAID = (float(np.float32(_CONFIDENCE)), float(np.float32(_AGREED)))
_SKIN_WITHIN = 0.5
"""Share of skin between a hand's points under which it is none."""
_SKIN_AROUND = 0.15
"""Share of skin in the ring around a hand from which it is no hand, or cannot be told from what is there."""
_SHOULDERS_IN_FACES = 2.6
_HINTED, _HINTED_SKIN = 0.3, 0.2
"""Mean confidence of a hand's points, and share of skin between them, from which there may be a hand."""
_OTHERS = 0.15
"""Share of a place of arms that is the other arm's from which a hand lies on that."""


@dataclass(frozen=True, kw_only=True)
class Blob:
    """A piece of skin, in pixels of the small picture."""

    mask: Bool[np.ndarray, "h w"]
    points: Float32[np.ndarray, "n 2"]
    """All its pixels (x, y)."""

    @property
    def centre(self) -> Float32[np.ndarray, "2"]:
        """Mean position."""
        return self.points.mean(0)


@dataclass(frozen=True, kw_only=True)
class Body:
    """What blobs are judged by, in pixels of the small picture."""

    face: Float32[np.ndarray, "4"]
    unit: float
    """Shoulder width."""
    shoulders: Float32[np.ndarray, "2 2"]
    """Left, right."""

    @property
    def middle(self) -> float:
        """The x of the body's middle."""
        return float(self.shoulders[:, 0].mean())


def with_hands_by_skin(portrait: Portrait, *, keep: Collection[int] = ()) -> Portrait:
    """The portrait, with its hands laid on the skin that shows them, and hands added that the finder saw not.

    `keep`: sides of which the finder is known to be right.  Folded hands stay as they are.
    """
    if portrait.folded:
        return portrait
    small, scale = _small(portrait)
    body = _body_of(portrait, scale)
    mask = skin_mask(small, body.face)
    if mask is None:
        return portrait
    result = portrait
    if not any(portrait.hands_present):
        folded = _folded_blob(mask, body)
        if folded is not None:
            for side, name in enumerate(HAND_SIDES):
                points = _folded_points(folded, body, side) / scale
                result = _with_hand(result, points, side, name, _CONFIDENCE)
            notes = (*(note for note in portrait.notes if " hand" not in note), FOLDED)
            return replace(result, hands_present=(False, False), folded=True, notes=notes)
    for side, name in enumerate(HAND_SIDES):
        blob = _hand_blob(mask, body, side)
        if blob is None or side in keep or _by_skin(portrait, side):
            continue
        points = _arm_points(blob, body, side) / scale
        if not portrait.hands_present[side]:
            result = _with_hand(result, points, side, name, _CONFIDENCE, blob.mask)
        elif _agree(blob, portrait.hand_points[side].numpy() * scale, body):
            result = _with_hand(result, points, side, name, _AGREED, blob.mask)
    return result


def hand_by_skin(portrait: Portrait, side: int) -> Bool[np.ndarray, "h w"] | None:
    """The skin on which `with_hands_by_skin` laid this hand, with what is bare of its forearm; None where it did not."""
    laid = float(portrait.hand_points[side, 0, 2]) in _LAID
    if not laid or portrait.limb_masks is None:
        return None
    return portrait.limb_masks[2 * side + 1].cpu().numpy() > 0.5


def _small(portrait: Portrait) -> tuple[np.ndarray, float]:
    """The picture in bytes at `_SIDE`, and its scale."""
    scale = _SIDE / max(portrait.size)
    pixels = ((portrait.image.permute(1, 2, 0).cpu().numpy() + 1) * 127.5).clip(0, 255)
    pixels = pixels.astype(np.uint8)
    return cv2.resize(pixels, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA), scale


def lies_on_other(portrait: Portrait, side: int) -> bool:
    """Whether a hand lies on an arm whose own hand was not found: cut out alone it would take pieces of that along."""
    if portrait.hands_present[1 - side] or portrait.body_masks is None:
        return False
    hull = np.zeros(portrait.size, np.uint8)
    points = portrait.hand_points[side, :, :2].numpy().astype(np.int32)
    cv2.fillConvexPoly(hull, cv2.convexHull(points), 1)
    own, other = (
        float(portrait.body_masks[1 + arm].numpy()[hull > 0].sum()) for arm in (side, 1 - side)
    )
    return other > _OTHERS * (own + other)


def stands_free(portrait: Portrait, side: int) -> bool:
    """Whether there is skin here and none around it but towards the elbow: else it may be an elbow, or a table."""
    hand = portrait.hand_points[side].numpy()
    if float(hand[0, 2]) in _LAID:
        return True
    small, scale = _small(portrait)
    body = _body_of(portrait, scale)
    mask = skin_mask(small, body.face)
    if mask is None:
        return True
    hull = np.zeros(mask.shape, np.uint8)
    cv2.fillConvexPoly(hull, cv2.convexHull((hand[:, :2] * scale).astype(np.int32)), 1)
    away = cv2.distanceTransform(1 - hull, cv2.DIST_L2, 3) / body.unit
    arm = np.zeros(mask.shape, np.uint8)
    for other in range(2):  # the other arm may lie against it: folded hands
        elbow, wrist = (
            [int(v) for v in portrait.body_points[i + other, :2].numpy() * scale] for i in (4, 6)
        )
        thick = max(1, round(0.25 * body.unit))
        cv2.line(arm, elbow, wrist, 1, thick)
        points = (portrait.hand_points[other, :, :2].numpy() * scale).astype(np.int32)
        if portrait.hands_present[other]:
            if other != side:
                cv2.polylines(arm, [cv2.convexHull(points)], True, 1, thick)
            cv2.fillConvexPoly(arm, cv2.convexHull(points), 1)
    if not (hull > 0).any() or mask[hull > 0].mean() < _SKIN_WITHIN:
        return False
    ring = (away > 0.06) & (away < 0.13) & (arm == 0)
    return not ring.any() or float(mask[ring].mean()) < _SKIN_AROUND


def _by_skin(portrait: Portrait, side: int) -> bool:
    """Whether this hand was put there by this very module."""
    return portrait.hands_present[side] and bool(
        (portrait.hand_points[side, :, 2] == _CONFIDENCE).all()
    )


def _agree(blob: Blob, points: Float32[np.ndarray, "21 3"], body: Body) -> bool:
    """Whether the finder's hand lies on this skin."""
    reach = 2 * round(0.04 * body.unit) + 1
    around = cv2.dilate(blob.mask.astype(np.uint8), np.ones((reach, reach), np.uint8))
    x, y = points[:, 0].astype(int), points[:, 1].astype(int)
    inside = (x >= 0) & (y >= 0) & (x < around.shape[1]) & (y < around.shape[0])
    hit = around[y.clip(0, around.shape[0] - 1), x.clip(0, around.shape[1] - 1)] > 0
    return bool((hit & inside).mean() > 0.5)


def _body_of(portrait: Portrait, scale: float) -> Body:
    face = portrait.face_box.numpy() * scale
    tall = float(face[3] - face[1])
    points = portrait.body_points.numpy()[2:4]
    by_face = _SHOULDERS_IN_FACES * tall
    unit = float(np.linalg.norm(points[0, :2] - points[1, :2])) * scale
    if points[:, 2].min() >= 0.3 and 0.65 * by_face < unit < 1.6 * by_face:
        shoulders = points[:, :2] * scale
    else:
        unit = by_face
        chest = np.array([(face[0] + face[2]) / 2, face[3] + 0.75 * tall])
        half = np.array([unit / 2, 0])
        shoulders = np.stack([chest + half, chest - half])
    return Body(face=face.astype(np.float32), unit=unit, shoulders=shoulders.astype(np.float32))


def skin_mask(small: np.ndarray, face: Float32[np.ndarray, "4"]) -> Bool[np.ndarray, "h w"] | None:
    """Where the colour is that of cheeks and nose; None where that says too little."""
    lab = cv2.cvtColor(cv2.GaussianBlur(small, (0, 0), 1), cv2.COLOR_RGB2LAB).astype(np.float32)
    x0, y0, x1, y1 = face
    wide, tall = x1 - x0, y1 - y0
    rows = slice(max(int(y0 + 0.2 * tall), 0), max(int(y0 + 0.8 * tall), 1))
    columns = slice(max(int(x0 + 0.2 * wide), 0), max(int(x1 - 0.2 * wide), 1))
    cheeks = lab[rows, columns].reshape(-1, 3)
    if len(cheeks) < 30:
        return None
    usual = np.median(cheeks, axis=0)
    cheeks = cheeks[np.abs(cheeks[:, 1:] - usual[1:]).max(1) < 15]
    usual = np.median(cheeks, axis=0)
    if np.hypot(*(usual[1:] - 128)) < 6:  # a grey picture: everything is skin
        return None
    off = lab - usual
    mask = np.hypot(off[..., 1], off[..., 2]) < _CHROMA
    mask &= (lab[..., 0] > 0.45 * usual[0]) & (off[..., 0] < 60)
    opened = cv2.morphologyEx(mask.astype(np.uint8), cv2.MORPH_OPEN, np.ones((3, 3), np.uint8))
    return opened > 0


def _hand_blob(mask: Bool[np.ndarray, "h w"], body: Body, side: int) -> Blob | None:
    """The piece of skin that is this hand (with forearm where bare); None where none is surely."""
    count, labels, stats, _ = cv2.connectedComponentsWithStats(
        mask.astype(np.uint8), connectivity=4
    )
    tall = body.face[3] - body.face[1]
    head = np.zeros(mask.shape, bool)
    rows = slice(0, max(int(body.face[3] + 0.3 * tall), 1))
    head[rows, max(int(body.face[0] - 0.2 * tall), 0) : int(body.face[2] + 0.2 * tall)] = True
    best, best_area = None, 0.0
    for label in range(1, count):
        area = stats[label, cv2.CC_STAT_AREA] / body.unit**2
        if not 0.025 < area < 0.3 or area < best_area:
            continue
        piece = labels == label
        if not (piece & head).any() and _is_hand(piece, stats[label], body, side):
            ys, xs = np.nonzero(piece)
            best = Blob(mask=piece, points=np.stack([xs, ys], -1).astype(np.float32))
            best_area = area
    return best


def _is_hand(piece: Bool[np.ndarray, "h w"], stats: np.ndarray, body: Body, side: int) -> bool:
    """Size, shape and place of a hand."""
    x, y, wide, high = (int(v) for v in stats[:4])
    height, width = piece.shape
    if x <= 1 or y <= 1 or x + wide >= width - 1 or y + high >= height - 1:
        return False
    if max(wide, high) > 0.75 * body.unit or min(wide, high) < 0.14 * body.unit:
        return False
    outward = (x + wide / 2 - body.middle) * (1 if side == 0 else -1) / body.unit
    below = (y + high / 2 - body.shoulders[:, 1].mean()) / body.unit
    if not (0.35 < outward < 0.85 and 0.35 < below < 1.2):
        return False
    contours, _ = cv2.findContours(piece.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    outline = max(contours, key=cv2.contourArea)
    hull = cv2.contourArea(cv2.convexHull(outline))
    filled = cv2.contourArea(outline)
    solid = piece.sum() / max(filled, 1)  # rings and lattices of background are no hands
    return bool(filled > 0.55 * hull and solid > 0.85)


def _folded_blob(mask: Bool[np.ndarray, "h w"], body: Body) -> Blob | None:
    """One piece of skin from elbow to elbow: bare forearms with hands folded before the body."""
    count, labels, stats, _ = cv2.connectedComponentsWithStats(
        mask.astype(np.uint8), connectivity=4
    )
    height, width = mask.shape
    for label in range(1, count):
        x, y, wide, high, area = (int(v) for v in stats[label])
        outside = x <= 1 or x + wide >= width - 1 or y + high >= height - 1
        low = (y - body.shoulders[:, 1].mean()) / body.unit
        centred = abs(x + wide / 2 - body.middle) < 0.2 * body.unit
        sized = 0.9 < wide / body.unit < 1.8 and 0.2 < high / body.unit < 0.8
        if outside or not centred or not sized or low < 0.2 or not 0.1 < area / body.unit**2 < 0.5:
            continue
        ys, xs = np.nonzero(labels == label)
        middle = np.abs(xs - body.middle) < 0.15 * body.unit
        columns = len(np.unique(xs)) / max(np.ptp(xs) + 1, 1)
        if middle.sum() > 0.03 * body.unit**2 and columns > 0.98:
            return Blob(mask=labels == label, points=np.stack([xs, ys], -1).astype(np.float32))
    return None


def _folded_points(blob: Blob, body: Body, side: int) -> Float32[np.ndarray, "24 2"]:
    """Shoulder, elbow, wrist and 21 points of one of two folded hands."""
    sign = 1.0 if side == 0 else -1.0
    outward = (blob.points[:, 0] - body.middle) * sign
    end = blob.points[outward > outward.max() - 0.2 * body.unit]
    elbow = np.array([end[:, 0].mean(), np.quantile(end[:, 1], 0.75)])
    hand = blob.points[np.abs(outward) < 0.25 * body.unit]
    near = blob.points[np.abs(outward - 0.28 * body.unit) < 0.05 * body.unit]
    wrist = near.mean(0) if len(near) else hand.mean(0)
    return np.vstack([body.shoulders[side], elbow, _fan(wrist, hand)]).astype(np.float32)


def _arm_points(blob: Blob, body: Body, side: int) -> Float32[np.ndarray, "24 2"]:
    """Shoulder, elbow, wrist, then 21 points of the hand."""
    sign = 1.0 if side == 0 else -1.0  # towards the image's right is outwards for the left hand
    # What is bare of the forearm counts as hand: one piece that moves whole cannot tear at a guessed wrist.
    inner = blob.centre[0] - sign * 0.35 * np.ptp(blob.points[:, 0])
    wrist = np.array([inner, blob.centre[1]])
    elbow = wrist - np.array([sign * 0.03, 0.04]) * body.unit
    return np.vstack([body.shoulders[side], elbow, _fan(wrist, blob.points)]).astype(np.float32)


def _fan(wrist: np.ndarray, hand: Float32[np.ndarray, "n 2"]) -> np.ndarray:
    """Wrist twice (arm's and hand's), then five fingers towards the hand's farthest places, side by side."""
    arms = hand - wrist
    facing = np.arctan2(*(hand.mean(0) - wrist)[::-1])
    angle = (np.arctan2(arms[:, 1], arms[:, 0]) - facing + np.pi) % (2 * np.pi) - np.pi
    far = np.linalg.norm(arms, axis=1)
    borders = np.quantile(angle, np.linspace(0.02, 0.98, 6))
    rows = [wrist, wrist]
    for low, high in pairwise(borders):
        inside = np.nonzero((angle >= low) & (angle <= high))[0]
        tip = hand[inside[np.argmax(far[inside])]] if len(inside) else hand.mean(0)
        rows += [wrist + share * (tip - wrist) for share in (0.4, 0.6, 0.8, 1.03)]
    return np.stack(rows)


def _with_hand(
    portrait: Portrait,
    points: np.ndarray,
    side: int,
    name: str,
    confidence: float,
    skin: Bool[np.ndarray, "h w"] | None = None,
) -> Portrait:
    """The portrait with one hand and its arm filled in; `skin`: where it lies in the small picture."""

    def sure(rows: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(np.column_stack([rows, np.full(len(rows), confidence)])).float()

    body, hands = portrait.body_points.clone(), portrait.hand_points.clone()
    for joint, row in zip(("shoulder", "elbow", "wrist"), sure(points[:3]), strict=True):
        index = BODY_POINTS.index(f"{name}_{joint}")
        if joint != "shoulder" or body[index, 2] < 0.3:
            body[index] = row
    hands[side] = sure(points[3:])
    present = tuple(here or i == side for i, here in enumerate(portrait.hands_present))
    notes = list(portrait.notes)
    if not portrait.hands_present[side]:
        notes = [note for note in notes if f"{name} hand" not in note]
        notes.append(f"The {name} hand was found by its skin alone; it moves a little.")
    masks = portrait.limb_masks
    if masks is not None:  # they belong to the points that were replaced
        masks = masks.clone()
        masks[2 * side : 2 * side + 2] = 0
    if skin is not None:
        masks = torch.zeros(4, *portrait.size) if masks is None else masks
        wide = cv2.resize(
            skin.astype(np.float32), portrait.size[::-1], interpolation=cv2.INTER_LINEAR
        )
        masks[2 * side + 1] = torch.from_numpy(wide)
    return replace(
        portrait, body_points=body, hand_points=hands, hands_present=present,
        limb_masks=masks, notes=tuple(notes),
    )  # fmt: skip


def shows_hand(portrait: Portrait, side: int) -> bool:
    """Whether the finder, however unsurely, sees this hand, and skin is there."""
    hand = portrait.hand_points[side].numpy()
    if float(hand[:, 2].mean()) < _HINTED:
        return False
    small, scale = _small(portrait)
    mask = skin_mask(small, _body_of(portrait, scale).face)
    if mask is None:
        return True
    hull = np.zeros(mask.shape, np.uint8)
    cv2.fillConvexPoly(hull, cv2.convexHull((hand[:, :2] * scale).astype(np.int32)), 1)
    return bool((hull > 0).any() and mask[hull > 0].mean() > _HINTED_SKIN)
