"""Rotations as quaternions (w, x, y, z), matrices, axis-angle and six numbers; mirrored and reflected.

Every function works on the last dimensions of batched torch tensors and is differentiable.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

_TINY = 1e-12


def quaternion_to_matrix(quaternion: Float[Tensor, "*b 4"]) -> Float[Tensor, "*b 3 3"]:
    """Rotation matrices of quaternions of any length but 0 (they are normalised here)."""
    unit = quaternion / quaternion.square().sum(-1, keepdim=True).clamp_min(_TINY).sqrt()
    w, x, y, z = unit.unbind(-1)
    rows = (
        1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y),
        2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x),
        2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y),
    )  # fmt: skip
    return torch.stack(rows, -1).unflatten(-1, (3, 3))


def matrix_to_quaternion(matrix: Float[Tensor, "*b 3 3"]) -> Float[Tensor, "*b 4"]:
    """Unit quaternions with w >= 0.  Of the four equivalent formulas the best conditioned is taken."""
    m00, m01, m02, m10, m11, m12, m20, m21, m22 = matrix.flatten(-2).unbind(-1)
    candidates = torch.stack(
        (
            torch.stack((1 + m00 + m11 + m22, m21 - m12, m02 - m20, m10 - m01), -1),
            torch.stack((m21 - m12, 1 + m00 - m11 - m22, m10 + m01, m02 + m20), -1),
            torch.stack((m02 - m20, m10 + m01, 1 - m00 + m11 - m22, m21 + m12), -1),
            torch.stack((m10 - m01, m02 + m20, m21 + m12, 1 - m00 - m11 + m22), -1),
        ),
        -2,
    )
    best = torch.diagonal(candidates, dim1=-2, dim2=-1).argmax(-1)
    index = best[..., None, None].expand(*best.shape, 1, 4)
    chosen = candidates.gather(-2, index).squeeze(-2)
    unit = chosen / chosen.square().sum(-1, keepdim=True).clamp_min(_TINY).sqrt()
    return torch.where(unit[..., :1] < 0, -unit, unit)


def axis_angle_to_matrix(vector: Float[Tensor, "*b 3"]) -> Float[Tensor, "*b 3 3"]:
    """Rodrigues' formula; the vector's length is the angle in radians.  Smooth at 0."""
    squared = vector.square().sum(-1, keepdim=True)
    small = squared < 1e-8
    angle = torch.where(small, torch.ones_like(squared), squared).sqrt()
    half_sinc = torch.where(small, 0.5 - squared / 48, torch.sin(angle / 2) / angle)
    cosine = torch.where(small, 1 - squared / 8, torch.cos(angle / 2))
    return quaternion_to_matrix(torch.cat((cosine, vector * half_sinc), -1))


def matrix_to_axis_angle(matrix: Float[Tensor, "*b 3 3"]) -> Float[Tensor, "*b 3"]:
    """The vector of at most pi length."""
    quaternion = matrix_to_quaternion(matrix)
    vector = quaternion[..., 1:]
    squared = vector.square().sum(-1, keepdim=True)
    small = squared < 1e-12
    sine = torch.where(small, torch.ones_like(squared), squared).sqrt()
    angle = 2 * torch.atan2(sine, quaternion[..., :1])
    return vector * torch.where(small, 2 * torch.ones_like(sine), angle / sine)


def matrix_to_six_columns(matrix: Float[Tensor, "*b 3 3"]) -> Float[Tensor, "*b 6"]:
    """First column, then second column.  (PyTorch3D takes the first two *rows*: the transposed matrix.)"""
    return torch.cat((matrix[..., :, 0], matrix[..., :, 1]), -1)


def six_columns_to_matrix(six: Float[Tensor, "*b 6"]) -> Float[Tensor, "*b 3 3"]:
    """Gram-Schmidt on two columns (Zhou et al. 2019, "On the Continuity of Rotation Representations")."""
    first = torch.nn.functional.normalize(six[..., :3], dim=-1)
    second = six[..., 3:] - (first * six[..., 3:]).sum(-1, keepdim=True) * first
    second = torch.nn.functional.normalize(second, dim=-1)
    return torch.stack((first, second, torch.linalg.cross(first, second)), -1)


def matrix_to_six_rows(matrix: Float[Tensor, "*b 3 3"]) -> Float[Tensor, "*b 6"]:
    """First row, then second row: PyTorch3D's and EMAGE's order."""
    return matrix_to_six_columns(matrix.transpose(-1, -2))


def six_rows_to_matrix(six: Float[Tensor, "*b 6"]) -> Float[Tensor, "*b 3 3"]:
    """The inverse of `matrix_to_six_rows`."""
    return six_columns_to_matrix(six).transpose(-1, -2)


def hamer_six_to_matrix(six: Float[Tensor, "*b 6"]) -> Float[Tensor, "*b 3 3"]:
    """HaMeR's head: `reshape(-1, 2, 3)`, the first three numbers are the first column."""
    return six_columns_to_matrix(six)


def multiply_quaternions(
    first: Float[Tensor, "*b 4"], second: Float[Tensor, "*b 4"]
) -> Float[Tensor, "*b 4"]:
    """Hamilton product: the rotation `second`, followed by `first`."""
    w1, x1, y1, z1 = first.unbind(-1)
    w2, x2, y2, z2 = second.unbind(-1)
    return torch.stack(
        (
            w1 * w2 - x1 * x2 - y1 * y2 - z1 * z2,
            w1 * x2 + x1 * w2 + y1 * z2 - z1 * y2,
            w1 * y2 - x1 * z2 + y1 * w2 + z1 * x2,
            w1 * z2 + x1 * y2 - y1 * x2 + z1 * w2,
        ),
        -1,
    )


def slerp(
    first: Float[Tensor, "*b 4"], second: Float[Tensor, "*b 4"], share: Float[Tensor, "*b"]
) -> Float[Tensor, "*b 4"]:
    """Spherical interpolation along the shorter arc; `share` 0 gives `first`, beyond 1 it extrapolates."""
    dot = (first * second).sum(-1, keepdim=True)
    second = torch.where(dot < 0, -second, second)
    dot = dot.abs().clamp(max=1.0)
    angle = torch.acos(dot.clamp(max=1 - 1e-7))
    near = dot > 1 - 1e-6  # the sines vanish: a straight line is exact enough
    share = share[..., None]
    sine = torch.where(near, torch.ones_like(angle), torch.sin(angle))
    a = torch.where(near, 1 - share, torch.sin((1 - share) * angle) / sine)
    b = torch.where(near, share, torch.sin(share * angle) / sine)
    return torch.nn.functional.normalize(a * first + b * second, dim=-1)


def continuous(quaternions: Float[Tensor, "frames *b 4"]) -> Float[Tensor, "frames *b 4"]:
    """The same rotations with signs chosen so that consecutive frames lie on one hemisphere."""
    dots = (quaternions[1:] * quaternions[:-1]).sum(-1)
    signs = torch.where(dots < 0, -1.0, 1.0).to(quaternions.dtype)
    start = torch.ones_like(quaternions[:1, ..., 0])
    return quaternions * torch.cumprod(torch.cat((start, signs)), 0)[..., None]
