"""The upper teeth that a photo shows, kept for the film's open mouth (ours).

Upper teeth stand still in the head.  Where a photo shows enough of them, its own pixels at their own place say more of
the person than any drawn row; the lips, brought together over them, uncover them again.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Float32

from emo2.portrait.lips import Lips
from emo2.signals import Portrait

ENOUGH = 0.11
"""Gap between the lips, in eye-to-mouth distances, from which the teeth in it are enough."""
SHARE = 0.5
"""Share of the gap's middle that must be teeth."""
LIT = (0.45, 0.65)
"""Light against that of the brightest teeth from which a place begins to count, and counts, as tooth."""
BRIGHT = 0.5
"""Light of the brightest teeth against the skin's, at least."""
LONGEST = 0.17
"""Length of an upper tooth, from the lip's edge downwards; what is lower belongs to the jaw."""
ROOT = 0.15
"""How far the teeth go on under the upper lip."""
RIM = 0.008
"""Cut off at the lips' edges."""


@dataclass(frozen=True, kw_only=True)
class OwnTeeth:
    """Upper teeth, as premultiplied RGBA in [0, 1] over the mouth's coordinates (see `Lips`)."""

    lips: Lips
    picture: Float32[np.ndarray, "s s 4"]

    def at(self, pixels: Float32[np.ndarray, "h w 2"]) -> Float32[np.ndarray, "h w 4"]:
        """What is seen of them at places of the photo."""
        places = (self.lips.inside(pixels) - self.lips.across[0]) / self.lips.step
        x, y = (np.ascontiguousarray(places[..., k], np.float32) for k in (0, 1))
        return cv2.remap(self.picture, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT)


def teeth_of(portrait: Portrait, lips: Lips) -> OwnTeeth | None:
    """The upper teeth between a portrait's lips; None where too little of them is seen."""
    if lips.gap < ENOUGH:
        return None
    steps = lips.across
    pixels = lips.outside(np.stack(np.meshgrid(steps, steps), axis=-1))
    image = np.ascontiguousarray(portrait.image.permute(1, 2, 0).cpu().numpy(), np.float32)
    x, y = (np.ascontiguousarray(pixels[..., k]) for k in (0, 1))
    seen = cv2.remap(image, x, y, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
    seen = ((seen + 1.0) / 2.0).clip(0.0, 1.0)
    rim = RIM + 0.5 / lips.unit
    down, top = steps[:, None], lips.upper[None] + rim
    between = (down > top) & (down < np.minimum(lips.lower - rim, top + LONGEST))
    light = seen.mean(-1)
    if not between.any():
        return None
    bright = float(np.percentile(light[between], 85))
    if bright < BRIGHT * float(np.median(light)):
        return None
    tooth = ((light / bright - LIT[0]) / (LIT[1] - LIT[0])).clip(0.0, 1.0) * between
    wide = np.flatnonzero(between.any(0))
    middle = slice(*np.percentile(wide, (25, 75)).astype(int))
    if float(tooth[:, middle].sum() / max(between[:, middle].sum(), 1)) < SHARE:
        return None
    return OwnTeeth(lips=lips, picture=_picture(seen, tooth > 0.5, down, top))


def _picture(
    seen: np.ndarray, tooth: np.ndarray, down: np.ndarray, top: np.ndarray
) -> Float32[np.ndarray, "s s 4"]:
    """From the roots under the lip down to each column's last tooth row; soft edges."""
    rows = np.arange(len(seen))
    first, last = tooth.argmax(0), len(rows) - 1 - tooth[::-1].argmax(0)
    whole = (down > top - ROOT) & (rows[:, None] <= last) & tooth.any(0)
    # What hides the roots is not tooth: a column's first tooth row goes on upwards.
    taken = np.maximum(rows[:, None], np.minimum(first + 1, last))
    colours = seen[taken, np.arange(seen.shape[1])[None]]
    alpha = cv2.GaussianBlur(whole.astype(np.float32), (0, 0), 1.2)[..., None]
    return np.concatenate([colours * alpha, alpha], axis=-1).astype(np.float32)
