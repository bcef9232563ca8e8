"""Fréchet distance between two sets of features: one implementation for motion, pictures, films and expressions.

Dowson and Landau 1982, as pytorch-fid has it: unbiased covariances, nothing added to them.  With S1 = F F', the trace of the
root of S1 S2 is that of the root of F' S2 F, which is symmetric: eigenvalues of symmetric matrices are all it takes.
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
    factor = root(first.covariance)
    roots = _root_trace(factor.T @ second.covariance @ factor)
    gap = (first.mean - second.mean).square().sum()
    traces = torch.trace(first.covariance) + torch.trace(second.covariance)
    return float(gap + traces - 2 * roots)


def root(covariance: Float[Tensor, "d d"]) -> Float[Tensor, "d r"]:
    """A factor F with F F' = S, as narrow as the rank allows."""
    values, vectors = torch.linalg.eigh(covariance.double())
    kept = values > values.amax() * len(values) * torch.finfo(torch.float64).eps
    return vectors[:, kept] * values[kept].sqrt()


def _root_trace(symmetric: Float[Tensor, "r r"]) -> Tensor:
    return torch.linalg.eigvalsh(symmetric).clamp(min=0).sqrt().sum()


class Redrawn:
    """The distance of weighted rows from a fixed set, again and again: what draws of a bootstrap cost little.

    Rows are turned once into the fixed set's own axes; a draw is then one symmetric eigenvalue problem, as wide as the
    fewer of the drawn rows and the fixed set's rank.
    """

    def __init__(self, rows: Float[Tensor, "n d"], fixed: Moments) -> None:
        self._fixed = float(torch.trace(fixed.covariance))
        self._rows = rows.double() - fixed.mean
        self._sizes = self._rows.square().sum(1)
        self._turned = self._rows @ root(fixed.covariance)

    def __call__(self, weights: Float[Tensor, " n"]) -> float:
        """`weights`: how often each row counts."""
        weights = weights.to(self._rows)
        count = weights.sum()
        mean = weights @ self._rows / count
        gap = mean.square().sum()
        own = ((weights @ self._sizes) - count * gap) / (count - 1)
        used = weights > 0
        middle = weights @ self._turned / count
        spread = (self._turned[used] - middle) * (weights[used, None] / (count - 1)).sqrt()
        inner = spread @ spread.T if len(spread) < spread.shape[1] else spread.T @ spread
        return float(gap + own + self._fixed - 2 * _root_trace(inner))


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
