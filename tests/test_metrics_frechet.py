"""The Fréchet distance against a library, closed forms, and its own bias."""

from __future__ import annotations

import pytest
import torch
from torchmetrics.image.fid import _compute_fid

from emo2.metrics.frechet import Redrawn, between_halves, bias, distance, frechet, moments


def rows(count: int, width: int, seed: int) -> torch.Tensor:
    """Correlated normal rows."""
    generator = torch.Generator().manual_seed(seed)
    mix = torch.randn(width, width, generator=generator, dtype=torch.float64)
    return torch.randn(count, width, generator=generator, dtype=torch.float64) @ mix


def test_the_distance_agrees_with_torchmetrics() -> None:
    a, b = rows(200, 12, 0), rows(150, 12, 1) + 0.3
    library = _compute_fid(a.mean(0), torch.cov(a.T), b.mean(0), torch.cov(b.T))
    assert frechet(a, b) == pytest.approx(float(library), rel=1e-6)


def test_blocks_give_the_moments_of_the_whole() -> None:
    whole = rows(100, 5, 2)
    merged = moments([whole[:1], whole[1:40], whole[40:40], whole[40:]])
    assert merged.count == 100
    torch.testing.assert_close(merged.mean, whole.mean(0))
    torch.testing.assert_close(merged.covariance, torch.cov(whole.T))


def test_a_shift_adds_its_square_and_nothing_else() -> None:
    a = rows(100, 4, 3)
    assert frechet(a, a + 2.0) == pytest.approx(4 * 2.0**2, rel=1e-6)
    assert frechet(a, a) == pytest.approx(0, abs=1e-6)


def test_the_bias_is_that_of_two_samples_of_one_gaussian() -> None:
    generator = torch.Generator().manual_seed(4)
    scale = torch.linspace(0.2, 2, 24, dtype=torch.float64)
    drawn = [
        torch.randn(2, 200, 24, generator=generator, dtype=torch.float64) * scale for _ in range(20)
    ]
    measured = sum(frechet(a, b) for a, b in drawn) / len(drawn)
    assert bias(torch.diag(scale**2), 200, 200) == pytest.approx(measured, rel=0.05)
    # the values of the facts: 32 and 400 numbers, from 500 rows each
    assert bias(torch.eye(32), 500, 500) == pytest.approx(1.19, abs=0.02)
    assert bias(torch.eye(400), 500, 500) == pytest.approx(162, abs=2)


def test_halves_of_one_set_are_nearer_than_two_sets() -> None:
    a, b = rows(400, 6, 5), rows(400, 6, 6)
    assert between_halves(a) < 0.2 * frechet(a, b)


def test_one_row_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 2"):
        moments([torch.zeros(1, 3)])


def test_the_distance_of_moments_is_that_of_their_rows() -> None:
    a, b = rows(60, 3, 7), rows(50, 3, 8)
    assert distance(moments([a]), moments([b])) == pytest.approx(frechet(a, b))


@pytest.mark.parametrize("count", [80, 20])
def test_a_draw_of_rows_has_the_distance_of_the_rows_drawn(count: int) -> None:
    a, b = rows(count, 30, 9), rows(200, 30, 10) + 0.5
    again = Redrawn(a, moments([b]))
    assert again(torch.ones(count)) == pytest.approx(frechet(a, b), rel=1e-8)
    generator = torch.Generator().manual_seed(0)
    drawn = torch.randint(0, count, (count,), generator=generator)
    times = torch.bincount(drawn, minlength=count).double()
    assert again(times) == pytest.approx(frechet(a[drawn], b), rel=1e-6)
    few = Redrawn(a, moments([b[:12]]))  # a true set of less than full rank
    assert few(torch.ones(count)) == pytest.approx(frechet(a, b[:12]), rel=1e-6)
