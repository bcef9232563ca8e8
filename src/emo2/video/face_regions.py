"""What Hallo asks of the photo's face: the locator's region, soft masks of background, face and lips, an embedding.

Hallo finds its regions with a mesh of 468 points; ours come from the finder's 68, which end at the brows, so the
forehead is added **(ours)**.  Regions are upright boxes, masks are made on a grid of 64 cells a side, blurred, and
spread from 0 to 1, as Hallo's are.
"""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from emo2.errors import UserError
from emo2.signals import Portrait

FOREHEAD = 0.35
"""Added above the brows, in heights from brow to chin **(ours)**."""
FACE_GROWS, LIPS_GROW = 1.2, 2.0
"""Boxes around face and lips are this much larger than what they hold."""
GRID = 64
FACE_BLUR, LIPS_BLUR = 51, 31
"""Sides of the Gaussian kernels on the grid."""
EMBEDDING = 512
"""Numbers of an InsightFace (ArcFace) embedding."""

NO_EMBEDDING = (
    "no face embedding was given (--face-embedding FILE, 512 numbers of InsightFace, which is free for "
    "non-commercial use alone): the film goes on with zeros, and likeness rests on the reference network"
)


@dataclass(frozen=True, kw_only=True)
class Regions:
    """Of one photo, for the whole film."""

    locator: Float[Tensor, "3 h w"]
    """The face's box, in [0, 1], at the picture's size."""
    masks: tuple[Float[Tensor, "3 _"], ...]
    """Background, face, lips in 0..1 at 1/8, 1/16, 1/32, 1/64 of the picture's size, cells row by row."""


def regions_of(portrait: Portrait, levels: int = 4) -> Regions:
    """The regions of the portrait's face."""
    height, width = portrait.size
    points = portrait.face_points.cpu()
    face = points[:27].clone()
    top, bottom = face[17:, 1].min(), face[:17, 1].max()
    face[17:27, 1] = top - FOREHEAD * (bottom - top)
    face_box = _grown(face, FACE_GROWS, (height, width))
    face_soft = _soft(face_box, FACE_BLUR)
    lips_soft = _soft(_grown(points[48:68], LIPS_GROW, (height, width)), LIPS_BLUR)
    parts = np.stack([1 - face_soft, (face_soft - lips_soft).clip(0), lips_soft])
    cells = torch.from_numpy(parts.astype(np.float32))[None]
    masks = []
    for level in range(levels):
        size = (height // 8 >> level, width // 8 >> level)
        scaled = F.interpolate(cells, size, mode="bilinear", align_corners=False, antialias=True)
        masks.append(scaled[0].flatten(1).clamp(0, 1))
    return Regions(locator=torch.from_numpy(face_box).expand(3, -1, -1), masks=tuple(masks))


def _grown(
    points: Float[Tensor, "n 2"], factor: float, size: tuple[int, int]
) -> Float[np.ndarray, "h w"]:
    """The box around the points, grown about its middle and pushed back into the picture, as a picture of 0 and 1."""
    image = np.zeros(size, np.float32)
    slices = []
    for axis, length in ((1, size[0]), (0, size[1])):
        low, high = float(points[:, axis].min()), float(points[:, axis].max())
        middle, half = (low + high) / 2, max((high - low) / 2 * factor, 1.0)
        low, high = middle - half, middle + half
        shift = max(0.0, -low) - max(0.0, high - length)
        slices.append(slice(round(max(low + shift, 0)), round(min(high + shift, length))))
    image[slices[0], slices[1]] = 1.0
    return image


def _soft(box: Float[np.ndarray, "h w"], kernel: int) -> Float[np.ndarray, "g g"]:
    small = cv2.resize(box, (GRID, GRID), interpolation=cv2.INTER_LINEAR)
    blurred = cv2.GaussianBlur(small, (kernel, kernel), 0)
    low, high = float(blurred.min()), float(blurred.max())
    return (blurred - low) / max(high - low, 1e-6)


def read_embedding(path: Path, numbers: int = EMBEDDING) -> Float[Tensor, "1 n"]:
    """The face embedding in a .npy or .npz file: one array of `numbers` numbers."""
    wanted = f"a .npy or .npz file with one array of {numbers} numbers (InsightFace's `embedding`)"
    if not Path(path).is_file():
        raise UserError(f"{path} is not there; expected {wanted}")
    try:
        found = np.load(path, allow_pickle=False)
        if isinstance(found, np.lib.npyio.NpzFile):
            names = found.files
            if len(names) != 1:
                raise UserError(f"{path} holds {len(names)} arrays; expected {wanted}")
            found = found[names[0]]
        values = np.asarray(found, dtype=np.float32).reshape(-1)
    except UserError:
        raise
    except (ValueError, TypeError, OSError, EOFError, zipfile.BadZipFile) as error:
        raise UserError(f"{path} cannot be read as numbers; give {wanted}") from error
    if len(values) != numbers or not np.isfinite(values).all():
        raise UserError(f"{path} holds {len(values)} numbers; expected {wanted}")
    return torch.from_numpy(values.copy())[None]
