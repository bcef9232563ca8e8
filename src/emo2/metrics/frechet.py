"""Fréchet distance between two sets of features: one implementation for motion, pictures, films and expressions.

Dowson and Landau 1982, as pytorch-fid has it: unbiased covariances, nothing added to them.  The trace of the root of
their product comes from eigenvalues, which needs no matrix root.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Moments:
    """Mean and covariance of a set of features."""

    count: int
    mean: Float[Tensor, " d"]
    covariance: Float[Tensor, "d d"]
    """Unbiased."""


def moments(blocks: Iterable[Float[Tensor, "_ d"]]) -> Moments:
    """Of features that come block by block (Chan et al. 1983: means and scatters merge without loss)."""
    count, mean, scatter = 0, torch.zeros(0), torch.zeros(0, 0)
    for block in blocks:
        rows = block.double()
        if not len(rows):
            continue
        own_mean = rows.mean(0)
        centred = rows - own_mean
        own_scatter = centred.T @ centred
        if not count:
            count, mean, scatter = len(rows), own_mean, own_scatter
            continue
        total = count + len(rows)
        gap = own_mean - mean
        scatter = scatter + own_scatter + torch.outer(gap, gap) * (count * len(rows) / total)
        mean = mean + gap * (len(rows) / total)
        count = total
    if count < 2:
        raise ValueError(f"{count} rows have no covariance; give at least 2")
    return Moments(count=count, mean=mean, covariance=scatter / (count - 1))


def frechet(first: Float[Tensor, "n d"], second: Float[Tensor, "m d"]) -> float:
    """Distance of the Gaussians fitted to two sets of rows."""
    return distance(moments([first]), moments([second]))


def distance(first: Moments, second: Moments) -> float:
    """|mean1 - mean2|^2 + trace(S1 + S2 - 2 (S1 S2)^(1/2))."""
    # the product's eigenvalues are real and not negative, up to rounding
    product = first.covariance @ second.covariance
    roots = torch.linalg.eigvals(product).real.clamp(min=0).sqrt().sum()
    gap = (first.mean - second.mean).square().sum()
    traces = torch.trace(first.covariance) + torch.trace(second.covariance)
    return float(gap + traces - 2 * roots)


def bias(covariance: Float[Tensor, "d d"], first: int, second: int) -> float:
    """Distance to expect of two samples of these sizes from one Gaussian; the sample is too small where this matters.

    Second order in the covariances' error (ours, from the Bures metric): (1/n + 1/m) times the sum of the
    eigenvalues plus half the sum over pairs of l_i l_j (1 + [i = j]) / (l_i + l_j).  Too high where n < d.
    """
    values = torch.linalg.eigvalsh(covariance.double()).clamp(min=0)
    pairs = values[:, None] * values / (values[:, None] + values).clamp(min=1e-300)
    both = values.sum() + 0.5 * (pairs.sum() + pairs.diagonal().sum())
    return float(both * (1 / first + 1 / second))


def between_halves(rows: Float[Tensor, "n d"]) -> float:
    """Distance between the even and the odd rows of one set: what no difference looks like at half the size."""
    return frechet(rows[::2], rows[1::2])
