"""Lips that begin to meet do meet (ours): where the encoder hears m, b or p, the gap that the network left is closed."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from emo2.motion.channels import FACE
from emo2.signals import FACE_ACTIONS

BILABIALS = (20, 31, 34)
"""Places of b, m and p among the phones of the phone head (the studio's `PHONES`)."""

_HEARD = (0.1, 0.4)
"""Probability of a bilabial at which the lips begin to close, and at which they are closed."""

_JAW, _CLOSE, *_LOWER = (
    FACE.start + FACE_ACTIONS.index(name)
    for name in ("jawOpen", "mouthClose", "mouthLowerDownLeft", "mouthLowerDownRight")
)


@torch.inference_mode()
def meet(
    rows: Float[Tensor, "f c"], phone: nn.Module, speech: Float[Tensor, "f d"]
) -> Float[Tensor, "f c"]:
    """Rows with lips closed as far as `phone`, the head that names phones, hears a bilabial in the speech."""
    if rows.shape[-1] < FACE.stop:
        return rows
    heard = phone(speech).float().softmax(-1)[:, BILABIALS].sum(-1)
    share = ((heard - _HEARD[0]) / (_HEARD[1] - _HEARD[0])).clamp(0.0, 1.0)
    share = share * share * (3.0 - 2.0 * share)
    met = rows.clone()
    gap = (rows[:, _JAW] - rows[:, _CLOSE]).clamp(min=0.0)
    met[:, _CLOSE] = rows[:, _CLOSE] + share * gap
    met[:, _LOWER] = rows[:, _LOWER] * (1.0 - share[:, None])
    return met
