"""Colours of hair, cloth and skin, in linear light."""

from __future__ import annotations

import numpy as np
from numpy import ndarray
from numpy.random import Generator

HAIR_COLOURS = np.array(
    [
        (0.05, 0.04, 0.035), (0.10, 0.06, 0.04), (0.2, 0.11, 0.06), (0.33, 0.2, 0.1),
        (0.55, 0.4, 0.2), (0.4, 0.14, 0.06), (0.45, 0.44, 0.43), (0.75, 0.74, 0.72),
    ]
)  # fmt: skip
"""Black, browns, blond, red, grey, white."""


def cloth_colour(rng: Generator) -> ndarray:
    """Often black, white, grey or blue, as clothes are."""
    grey = rng.choice([0.02, 0.15, 0.8], p=[0.4, 0.3, 0.3]) * rng.uniform(0.7, 1.2)
    colour = rng.random(3) ** 2
    colour = colour.mean() + (colour - colour.mean()) * rng.uniform(0.3, 1.0)
    return np.clip(grey * np.ones(3) if rng.random() < 0.45 else colour, 0, 1)


def skin_colour(rng: Generator) -> ndarray:
    """From pale to dark."""
    melanin = rng.random()
    return np.array([0.75, 0.48, 0.36]) * (1 - melanin) + np.array([0.12, 0.06, 0.035]) * melanin
