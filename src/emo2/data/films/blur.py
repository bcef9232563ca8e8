"""How blurred a face is: Crété et al. 2007, "The blur effect": blurring again changes a sharp picture, not a blurred one."""

from __future__ import annotations

import cv2
import numpy as np
from jaxtyping import Float
from numpy import ndarray

TAPS = 9
"""Pixels of the second blur."""


def blur_of(grey: Float[ndarray, "h w"]) -> float:
    """0 (sharp) to 1 (blurred), the worse of both directions."""
    worst = 0.0
    for axis, size in ((0, (1, TAPS)), (1, (TAPS, 1))):
        again = cv2.blur(grey, size)
        steps = np.abs(np.diff(grey, axis=axis))
        left = np.abs(np.diff(again, axis=axis))
        lost = np.maximum(steps - left, 0.0).sum()
        worst = max(worst, 1.0 - float(lost / max(float(steps.sum()), 1e-6)))
    return worst
