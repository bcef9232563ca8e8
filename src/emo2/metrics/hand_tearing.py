"""Torn hands: skin of one hand that hangs together in no way.

A hand, however its fingers are spread, is one piece of skin; a hand torn by a warp is several.  Skin is the colour of
the person's own cheeks (`portrait/skin.py`).  A ring, a sleeve or a prop may part it too, therefore a film is held
against its own beginning.
"""

from __future__ import annotations

import cv2
import numpy as np
from jaxtyping import Bool, Float32

from emo2.portrait.skin import skin_mask
from emo2.signals import Portrait

_SIDE = 480
_ROOM = 0.25
"""Room around a hand's points, in their extent."""
_SPECK = 0.02
"""Pieces under this share of the hand's skin are noise."""
_LEAST = 60
"""Pixels of skin under which nothing is said."""


def loose_skin(portrait: Portrait) -> tuple[float | None, float | None]:
    """Per hand (left, right), the share of its skin outside its largest piece; None where no hand is seen."""
    scale = _SIDE / max(portrait.size)
    pixels = ((portrait.image.permute(1, 2, 0).numpy() + 1) * 127.5).round().clip(0, 255)
    way = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    small = cv2.resize(pixels.astype(np.uint8), None, fx=scale, fy=scale, interpolation=way)
    mask = skin_mask(small, portrait.face_box.numpy() * scale)
    found: list[float | None] = []
    for side in range(2):
        points = portrait.hand_points[side, :, :2].numpy() * scale
        seen = mask is not None and portrait.hands_present[side]
        found.append(_loose(mask, points.astype(np.float32)) if seen and mask is not None else None)
    return found[0], found[1]


def _loose(mask: Bool[np.ndarray, "h w"], points: Float32[np.ndarray, "21 2"]) -> float | None:
    """Pieces count that lie within the hand's box or hold one of its points: a face behind is neither."""
    low, high = points.min(0), points.max(0)
    room = _ROOM * float((high - low).max())
    height, width = mask.shape
    x0, y0 = (max(0, int(v)) for v in low - room)
    x1, y1 = min(width, int(high[0] + room) + 1), min(height, int(high[1] + room) + 1)
    if x1 - x0 < 8 or y1 - y0 < 8:
        return None
    count, labels = cv2.connectedComponents(mask.astype(np.uint8), connectivity=8)
    inside = labels[y0:y1, x0:x1]
    xs = points[:, 0].astype(int).clip(0, width - 1)
    ys = points[:, 1].astype(int).clip(0, height - 1)
    held = set(labels[ys, xs].tolist())
    sizes = np.bincount(labels.ravel(), minlength=count)
    here = np.bincount(inside.ravel(), minlength=count)
    own = [here[i] for i in range(1, count) if i in held or here[i] >= 0.95 * sizes[i]]
    total = sum(own)
    if total < _LEAST:
        return None
    pieces = [size for size in own if size >= _SPECK * total]
    return float(1 - max(pieces) / sum(pieces)) if pieces else None


def tearing(values: Float32[np.ndarray, "samples 2"], start: int) -> tuple[float, float] | None:
    """Mean loose share beyond the film's own beginning, and that beginning's; NaN where a hand was not seen.

    `start`: samples that make the beginning.
    """
    excess, begun = [], []
    for column in values.T:
        seen = column[np.isfinite(column)]
        if len(seen) <= start:
            continue
        usual = float(np.median(seen[:start]))
        begun.append(usual)
        excess.append(float(np.clip(seen[start:] - usual, 0, None).mean()))
    return (float(np.mean(excess)), float(np.mean(begun))) if excess else None
