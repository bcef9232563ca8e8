"""How near predicted movement and pictures are to true ones: end-point error, PSNR, SSIM."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

_WINDOW = 11
_SIGMA = 1.5
_C1, _C2 = 0.01**2, 0.03**2


def end_point_error(
    flow: Float[Tensor, "b 2 h w"],
    true: Float[Tensor, "b 2 h w"],
    weight: Float[Tensor, "b h w"] | None = None,
) -> float:
    """Mean distance between two flow fields, in their unit; with a weight, its weighted mean."""
    distance = (flow - true).norm(dim=1)
    if weight is None:
        return float(distance.mean())
    return float((distance * weight).sum() / weight.sum().clamp(min=1e-9))


def end_point_share(
    flow: Float[Tensor, "b 2 h w"],
    true: Float[Tensor, "b 2 h w"],
    weight: Float[Tensor, "b h w"] | None = None,
) -> float:
    """End-point error as a share of that of "no motion": 0 is perfect, 1 is as good as standing still."""
    still = end_point_error(torch.zeros_like(true), true, weight)
    return end_point_error(flow, true, weight) / max(still, 1e-9)


def psnr(
    image: Float[Tensor, "... h w"], true: Float[Tensor, "... h w"], peak: float = 1.0
) -> float:
    """Peak signal-to-noise ratio in dB for values of the given range (2 for [-1, 1]); at most 100."""
    error = float(((image - true) ** 2).mean())
    return 100.0 if error < 1e-10 * peak**2 else 20 * math.log10(peak / math.sqrt(error))


def ssim(image: Float[Tensor, "c h w"], true: Float[Tensor, "c h w"]) -> float:
    """Structural similarity for values in [0, 1] (Wang et al. 2004): 11 x 11 Gaussian of 1.5, valid region."""
    if min(image.shape[-2:]) < _WINDOW:
        raise ValueError(
            f"a picture of {tuple(image.shape[-2:])} is smaller than SSIM's window of 11"
        )
    offsets = torch.arange(_WINDOW, dtype=torch.float64) - _WINDOW // 2
    kernel = torch.exp(-0.5 * (offsets / _SIGMA) ** 2)
    kernel = kernel / kernel.sum()

    def mean(values: Tensor) -> Tensor:
        rows = torch.nn.functional.conv2d(values[:, None], kernel.view(1, 1, -1, 1))
        return torch.nn.functional.conv2d(rows, kernel.view(1, 1, 1, -1))[:, 0]

    x, y = image.double(), true.double()
    mean_x, mean_y = mean(x), mean(y)
    var_x, var_y = mean(x * x) - mean_x**2, mean(y * y) - mean_y**2
    both = mean(x * y) - mean_x * mean_y
    top = (2 * mean_x * mean_y + _C1) * (2 * both + _C2)
    bottom = (mean_x**2 + mean_y**2 + _C1) * (var_x + var_y + _C2)
    return float((top / bottom).mean())
