"""Where one window of motion ends and the next begins: hands, head and torso go on from where they are (ours).

The clean prefix tells the network where the motion stands, but its first new frame may still be a step away.
That step is taken off and given back over the next frames.  The face is left alone: lips follow the voice at once.
From the one frame that a film begins with, the photo's pose, they set off as hands at rest do (`setting_off.py`).
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

from emo2.hands.setting_off import left_at
from emo2.motion.channels import FACE

FRAMES = 12
"""Frames over which a step at the border is spread: half a second."""


def eased(rows: Float[Tensor, "f c"], known: int, fps: float) -> Float[Tensor, "f c"]:
    """Rows whose frames after the first `known` ones go on from those without a step."""
    if known < 1 or known >= len(rows):
        return rows
    last = rows[known - 1]
    speed = last - rows[known - 2] if known > 1 else torch.zeros_like(last)
    step = rows[known] - (last + 0.5 * speed)
    step[FACE] = 0.0
    ahead = torch.arange(len(rows) - known, device=rows.device, dtype=rows.dtype)
    share = left_at(ahead / fps) if known == 1 else _fading(ahead / FRAMES)
    out = rows.clone()
    out[known:] -= share[:, None] * step
    return out


def _fading(place: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
    return 0.5 + 0.5 * torch.cos(math.pi * place.clamp(0.0, 1.0))
