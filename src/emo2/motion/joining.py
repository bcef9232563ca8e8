"""Where one window of motion ends and the next begins: hands, head and torso go on from where they are (ours).

The clean prefix tells the network where the motion stands, but its first new frame may still be a step away.
That step is taken off and given back over the next frames.  The face is left alone: lips follow the voice at once.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

from emo2.motion.channels import FACE

FRAMES = 12
"""Frames over which a step at the border is spread: half a second."""


def eased(rows: Float[Tensor, "f c"], known: int) -> Float[Tensor, "f c"]:
    """Rows whose frames after the first `known` ones go on from those without a step."""
    if known < 2 or known >= len(rows):
        return rows
    last, before = rows[known - 1], rows[known - 2]
    step = rows[known] - (last + 0.5 * (last - before))
    step = step.clone()
    step[FACE] = 0.0
    count = min(FRAMES, len(rows) - known)
    places = torch.arange(count, device=rows.device, dtype=rows.dtype) / FRAMES
    share = 0.5 + 0.5 * torch.cos(math.pi * places)
    out = rows.clone()
    out[known : known + count] -= share[:, None] * step
    return out
