"""Strokes that stage 1 ends near a stress end on it; the rest of the motion stays as it was."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from test_metrics_strokes import bursts, wrists

from emo2.metrics.strokes import find_stresses, fit, stroke_ends
from emo2.motion.channels import HANDS, row_width
from emo2.motion.strokes import FASTEST, SLOWEST, Strokes

FRAMES = 800
FPS = 25.0


def rows_of(places: torch.Tensor) -> torch.Tensor:
    """Rows whose wrists are at these places, and whose first face action counts the frames."""
    rows = torch.zeros(len(places), row_width(hints=True))
    hands = rows[:, HANDS].unflatten(-1, (2, -1)).clone()
    hands[..., 0:64:4] = 1.0
    hands[..., -3:] = places.float()
    rows[:, HANDS] = hands.flatten(-2)
    rows[:, HANDS.stop] = torch.arange(len(rows)) / len(rows)
    return rows


def energy_of(samples: np.ndarray) -> torch.Tensor:
    """As stage 1 hears it: a level a frame, 1 at full scale and 0 at -60 dB."""
    pieces = torch.from_numpy(samples)[: FRAMES * 640].view(FRAMES, 640)
    return (1.0 + pieces.square().mean(-1).clamp(min=1e-9).log10() / 6.0).clamp(0.0, 1.0)


@pytest.fixture(scope="module")
def case() -> tuple[torch.Tensor, torch.Tensor, np.ndarray]:
    """Rows whose strokes miss the bursts of a voice by up to 0.16 s, its energy, and its sound."""
    rng = np.random.default_rng(0)
    beats = 0.8 + np.cumsum(rng.uniform(0.5, 0.9, 40))
    sound = bursts(beats, 32.0)
    return rows_of(wrists(beats + rng.uniform(-0.16, 0.16, 40), 32.0)), energy_of(sound), sound


def placed(rows: torch.Tensor, energy: torch.Tensor, size: int = FRAMES) -> torch.Tensor:
    strokes = Strokes(FPS, float(energy.quantile(0.95)))
    parts = [
        strokes.add(rows[at : at + size], energy[at : at + size], last=at + size >= len(rows))
        for at in range(0, len(rows), size)
    ]
    assert size > 300 or len(parts[-1]) <= size + strokes.ahead
    assert strokes.rows is not None
    assert len(strokes.rows) <= 2 * strokes.ahead  # what is held does not grow
    return torch.cat(parts)


def test_strokes_near_a_stress_end_on_it(
    case: tuple[torch.Tensor, torch.Tensor, np.ndarray],
) -> None:
    rows, energy, sound = case
    voice = find_stresses(sound, 16_000)

    def score(made: torch.Tensor) -> float:
        places = made[:, HANDS].unflatten(-1, (2, -1))[..., -3:]
        found = fit(stroke_ends(places, FPS), voice)
        assert found is not None
        return found.matched

    assert score(rows) < 0.55
    assert score(placed(rows, energy)) > 0.85


@pytest.mark.parametrize("size", [1, 7, 90])
def test_strokes_do_not_depend_on_the_windows(
    case: tuple[torch.Tensor, torch.Tensor, np.ndarray], size: int
) -> None:
    rows, energy, _ = case
    assert torch.equal(placed(rows, energy, size), placed(rows, energy))


def test_only_the_hands_time_changes_and_never_by_much(
    case: tuple[torch.Tensor, torch.Tensor, np.ndarray],
) -> None:
    rows, energy, _ = case
    counted = rows_of(torch.arange(FRAMES)[:, None, None].expand(-1, 2, 3) / FRAMES)
    mixed = counted.clone()
    hands = mixed[:, HANDS].unflatten(-1, (2, -1)).clone()
    hands[:, 0] = rows[:, HANDS].unflatten(-1, (2, -1))[
        :, 0
    ]  # the left one strokes, the right one counts frames
    mixed[:, HANDS] = hands.flatten(-2)
    made = placed(mixed, energy)
    assert torch.equal(made[:, HANDS.stop :], mixed[:, HANDS.stop :])
    assert torch.equal(made[0], mixed[0])
    shown = made[:, HANDS][:, -1].double() * FRAMES
    pace = shown[:-1].diff()
    assert float(pace.min()) >= SLOWEST - 1e-3
    assert float(pace.max()) <= FASTEST + 1e-3
    assert float((shown - torch.arange(FRAMES)).abs().max()) <= 6.0


def test_silence_and_still_hands_leave_everything_as_it_is(
    case: tuple[torch.Tensor, torch.Tensor, np.ndarray],
) -> None:
    rows, energy, _ = case
    assert torch.equal(placed(rows, torch.zeros(FRAMES)), rows)
    still = rows_of(torch.zeros(FRAMES, 2, 3))
    assert torch.equal(placed(still, energy), still)
