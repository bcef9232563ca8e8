"""Painting something out of a photo: its place continued from its border inwards, grain included (ours)."""

from __future__ import annotations

import cv2
import numpy as np
from jaxtyping import Bool, Float32

from emo2.video.layer_paint import masked_blur, shrunk

FILL_PIXELS, FILL_REACH = 240, 4
"""Long side of the picture while the person's place is filled, and how far a filled pixel looks: the first tenth of a
face height inside the border is all that a film shows, and texture is not continued."""
GRAIN = 2.0
"""Pixels that grain and weave are finer than."""


def painted_out(
    photo: Float32[np.ndarray, "h w 3"], person: Bool[np.ndarray, "h w"]
) -> Float32[np.ndarray, "h w 3"]:
    """The photo with the person's place continued from its border inwards, edges too (Telea 2004, OpenCV's), and grain."""
    height, width = person.shape
    around, share = shrunk(photo + 1.0, ~person, FILL_PIXELS)
    pixels = (around * 127.5).clip(0, 255).astype(np.uint8)
    filled = cv2.inpaint(pixels, (share < 0.5).astype(np.uint8), FILL_REACH, cv2.INPAINT_TELEA)
    filled = cv2.resize(filled.astype(np.float32), (width, height), interpolation=cv2.INTER_LINEAR)
    plate = np.where(person[..., None], filled / 127.5 - 1.0, photo).astype(np.float32)
    return plate + mirrored_grain(photo, person)


def mirrored_grain(
    photo: Float32[np.ndarray, "h w 3"], person: Bool[np.ndarray, "h w"]
) -> Float32[np.ndarray, "h w 3"]:
    """What is finer than `GRAIN` pixels in the photo around the person, mirrored at the border; 0 outside of the person."""
    known = ~person
    if not known.any() or known.all():
        return np.zeros_like(photo)
    fine = np.where(known[..., None], photo - masked_blur(photo, known, GRAIN), 0.0)
    usual = float(np.median(np.abs(fine[known])))
    fine = fine.clip(-4.0 * usual, 4.0 * usual).astype(np.float32)  # a strand of hair is no grain
    _, found = cv2.distanceTransformWithLabels(
        person.astype(np.uint8), cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL
    )
    label = found.astype(np.int64)  # of the nearest known pixel
    ys, xs = np.nonzero(known)
    border = np.zeros((int(label.max()) + 1, 2), np.int64)
    border[label[ys, xs]] = np.stack([ys, xs], axis=-1)
    at = np.stack(np.nonzero(person), axis=-1)
    mirrored = 2 * border[label[person]] - at
    mirrored = mirrored.clip(0, np.array(person.shape) - 1)
    grain = np.zeros_like(photo)
    grain[person] = fine[mirrored[:, 0], mirrored[:, 1]]
    return grain
