"""Clean prefixes of training windows, as later windows of a film begin with the end of the one before."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from emo2.config import MotionConfig


def draw_known(
    config: MotionConfig, count: int, frames: int, generator: torch.Generator
) -> Bool[Tensor, "b f"]:
    """Which frames are shown clean: mostly a whole prefix, sometimes the one frame a photo gives, sometimes none."""
    draw = torch.rand(count, generator=generator)
    length = torch.full((count,), config.prefix)
    length[draw < 0.3] = 1
    length[draw < config.dropout] = 0
    return torch.arange(frames)[None] < length[:, None]


def rough(clean: Float[Tensor, "b f c"], generator: torch.Generator) -> Float[Tensor, "b f c"]:
    """A prefix is the network's own work, so it learns to stand on slightly wrong ones."""
    return clean + 0.03 * torch.randn(clean.shape, generator=generator).to(clean)
