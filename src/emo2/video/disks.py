"""Masks grown by a radius: the round kernel of all that looks a little beyond an outline."""

from __future__ import annotations

import cv2
import numpy as np
from jaxtyping import Bool


def disk(radius: float) -> np.ndarray:
    """A round kernel of a radius in pixels, at least 1."""
    side = 2 * max(round(radius), 1) + 1
    return cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side))


def grown(mask: Bool[np.ndarray, "h w"], radius: float) -> Bool[np.ndarray, "h w"]:
    """A mask and what is so many pixels beside it."""
    return cv2.dilate(mask.astype(np.uint8), disk(radius)) > 0
