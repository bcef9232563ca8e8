"""CSIM, F-SIM and E-FID: faces through a recogniser and through a face reconstruction, both the user's.

CSIM is the cosine of ArcFace features (Deng et al. 2019) of the reference picture and of each frame; E-FID (EMO §4)
the Fréchet distance of the 64 expression numbers of Deng et al. 2019 (face reconstruction), one row a frame.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import cv2
import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from emo2.errors import UserError
from emo2.metrics.aligned import aligned_face, five_points
from emo2.metrics.networks import Network

EXPRESSION = slice(80, 144)
"""Of the 257 numbers: identity 80, expression 64, texture 80, angle 3, light 27, shift 3."""
_RECONSTRUCTION_SIDE = 224
_RESCALE = 102.0


def arcface_input(
    image: Float[Tensor, "3 h w"], points: Float[Tensor, "68 2"]
) -> Float[Tensor, "1 3 112 112"]:
    """The aligned face, RGB, (v - 127.5) / 127.5."""
    face = aligned_face(image, points)
    # back to whole 8-bit levels, which is what the recogniser was given when it learned
    return (((face + 1) * 127.5).round().clamp(0, 255) / 127.5 - 1)[None]


def face_row(
    image: Float[Tensor, "3 h w"], points: Float[Tensor, "68 2"], network: Network
) -> Float[Tensor, " d"]:
    """A face's feature, one long."""
    row = network(arcface_input(image, points))[0].flatten().float()
    return row / row.norm().clamp_min(1e-12)


def cosines(
    reference: Float[Tensor, " d"], rows: Iterable[Float[Tensor, " d"]]
) -> Float[Tensor, " n"]:
    """Of one face with each of many."""
    return torch.tensor([float(reference @ row) for row in rows])


def standard_points(path: Path) -> Float[np.ndarray, "5 3"]:
    """Deng 2019's five 3-D points, from its 68 in `similarity_Lm3D_all.mat` (needs SciPy)."""
    from scipy.io import loadmat

    try:
        lm = np.asarray(loadmat(str(path))["lm"], dtype=np.float64)
    except (KeyError, ValueError, NotImplementedError) as error:
        raise UserError(
            f"{path} holds no 'lm' ({error}); give the file of Deep3DFaceRecon."
        ) from error
    if lm.shape != (68, 3):
        raise UserError(f"{path} holds {lm.shape} numbers, expected 68 x 3.")
    return np.stack([lm[[36, 39]].mean(0), lm[[42, 45]].mean(0), lm[30], lm[48], lm[54]])


def weak_perspective(
    points: Float[np.ndarray, "5 2"], solid: Float[np.ndarray, "5 3"]
) -> tuple[Float[np.ndarray, "2"], float]:
    """Shift and scale of the least-squares affine camera from 3-D points to picture points (y upwards)."""
    system = np.zeros((10, 8))
    system[0::2, 0:3], system[0::2, 3] = solid, 1
    system[1::2, 4:7], system[1::2, 7] = solid, 1
    found = np.linalg.lstsq(system, points.reshape(-1), rcond=None)[0]
    scale = (np.linalg.norm(found[0:3]) + np.linalg.norm(found[4:7])) / 2
    return np.array([found[3], found[7]]), float(scale)


def reconstruction_input(
    image: Float[Tensor, "3 h w"],
    points: Float[Tensor, "68 2"],
    solid: Float[np.ndarray, "5 3"],
) -> Float[Tensor, "1 3 224 224"]:
    """The face scaled to 102 units and put into the middle of 224 x 224, RGB in [0, 1]."""
    height, width = image.shape[-2:]
    # the corners of the eyes, not the middle of all their points
    five = five_points(points)
    five[0], five[1] = points[[36, 39]].mean(0), points[[42, 45]].mean(0)
    flat = five.double().numpy() - 0.5
    flat[:, 1] = height - 1 - flat[:, 1]
    shift, scale = weak_perspective(flat, solid)
    scale = _RESCALE / scale
    wide, high = int(width * scale), int(height * scale)
    left = int(wide / 2 - _RECONSTRUCTION_SIDE / 2 + (shift[0] - width / 2) * scale)
    top = int(high / 2 - _RECONSTRUCTION_SIDE / 2 + (height / 2 - shift[1]) * scale)
    pixels = ((image.permute(1, 2, 0).numpy() + 1) / 2).astype(np.float32)
    way = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    sized = cv2.resize(pixels, (max(wide, 1), max(high, 1)), interpolation=way)
    side = _RECONSTRUCTION_SIDE
    result = np.zeros((side, side, 3), np.float32)
    x0, y0 = max(left, 0), max(top, 0)
    x1, y1 = min(left + side, sized.shape[1]), min(top + side, sized.shape[0])
    if x1 > x0 and y1 > y0:
        result[y0 - top : y1 - top, x0 - left : x1 - left] = sized[y0:y1, x0:x1]
    return torch.from_numpy(result.clip(0, 1)).permute(2, 0, 1)[None]


def expression_row(
    image: Float[Tensor, "3 h w"],
    points: Float[Tensor, "68 2"],
    solid: Float[np.ndarray, "5 3"],
    network: Network,
) -> Float[Tensor, "64"]:
    """The expression numbers of a frame."""
    out = network(reconstruction_input(image, points, solid))
    row = torch.cat([o.flatten() for o in out]).float()
    if len(row) != 257:
        raise UserError(
            f"the face reconstruction gives {len(row)} numbers, expected 257 (80 identity, 64 expression, ...)."
        )
    return row[EXPRESSION]
