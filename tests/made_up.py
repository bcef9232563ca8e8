"""Made-up voices for the tests."""

from __future__ import annotations

import math

import torch


def made_up_voice(seconds: float) -> torch.Tensor:
    """Buzzing syllables with pauses, 16 kHz."""
    time = torch.arange(round(16_000 * seconds)) / 16_000
    buzz = sum((2 * math.pi * 120 * k * time).sin() / k for k in range(1, 12))
    syllables = (2 * math.pi * 2.5 * time).sin().clamp(min=0)
    return 0.2 * (buzz * syllables * (time % 2.0 < 1.6)).float()
