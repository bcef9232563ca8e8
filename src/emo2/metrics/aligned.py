"""A face laid on a fixed frame: the five-point similarity warp to 112 x 112 that face recognisers use.

The template is ArcFace's (Deng et al. 2019): middles of the eyes, tip of the nose, corners of the mouth.
"""

from __future__ import annotations

import cv2
import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

SIDE = 112
TEMPLATE = (
    (38.2946, 51.6963), (73.5318, 51.5014), (56.0252, 71.7366), (41.5493, 92.3655), (70.7299, 92.2041),
)  # fmt: skip
"""Places in 112 x 112, the centre of the first pixel at (0, 0)."""


def five_points(points: Float[Tensor, "68 2"]) -> Float[Tensor, "5 2"]:
    """Left and right eye (as the picture shows them), tip of the nose, corners of the mouth."""
    return torch.stack(
        [points[36:42].mean(0), points[42:48].mean(0), points[30], points[48], points[54]]
    )


def similarity(source: Float[Tensor, "n 2"], target: Float[Tensor, "n 2"]) -> Float[Tensor, "2 3"]:
    """The similarity (turn, scale, shift; no mirror) that lays one set of points best on another (Umeyama 1991)."""
    a, b = source.double(), target.double()
    mean_a, mean_b = a.mean(0), b.mean(0)
    a, b = a - mean_a, b - mean_b
    # as complex numbers the best turn and scale is one least-squares quotient
    size = a.square().sum().clamp_min(1e-12)
    real = (a * b).sum() / size
    imaginary = (a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0]).sum() / size
    turn = torch.stack([torch.stack([real, -imaginary]), torch.stack([imaginary, real])])
    return torch.cat([turn, (mean_b - turn @ mean_a)[:, None]], 1).float()


def warp(
    image: Float[Tensor, "3 h w"], matrix: Float[Tensor, "2 3"], side: int
) -> Float[Tensor, "3 side side"]:
    """The picture under a map of pixel centres; bilinear, black outside (as face recognisers have it)."""
    pixels = image.permute(1, 2, 0).numpy()
    warped = cv2.warpAffine(
        pixels, matrix.double().numpy(), (side, side), borderValue=(-1.0, -1.0, -1.0)
    )
    return torch.from_numpy(np.ascontiguousarray(warped)).permute(2, 0, 1)


def aligned_face(
    image: Float[Tensor, "3 h w"], points: Float[Tensor, "68 2"], side: int = SIDE
) -> Float[Tensor, "3 side side"]:
    """The face on the template; `points` have the first pixel's centre at (0.5, 0.5), as everywhere in emo2."""
    template = torch.tensor(TEMPLATE) * (side / SIDE)
    return warp(image, similarity(five_points(points) - 0.5, template), side)
