"""Lips that begin to meet do meet (ours): where the encoder hears m, b or p, the gap that the network left is closed.

A closure takes two frames, as the sound of one often begins in the first and is heard in the second, and it comes and
goes over a frame to either side, as the studio's do (`studio/mouth.py:closure`): lips that shut at once tremble.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from emo2.motion.channels import FACE
from emo2.signals import FACE_ACTIONS

BILABIALS = (20, 31, 34)
"""Places of b, m and p among the phones of the phone head (the studio's `PHONES`)."""

CONTEXT = 3
"""Frames to either side on which a frame's closure depends."""

_HEARD = (0.07, 0.3)
"""Probability of a bilabial at which the lips begin to close, and at which they are closed."""

_SURE, _LIKELY = 0.15, 0.02
"""Probability of a peak from which the closure takes two frames, and that the second one must have itself."""

_BEFORE, _AFTER = 0.3, 0.25
"""Share of a closure in the frame before it and in the one after it."""

_JAW, _CLOSE, *_LOWER = (
    FACE.start + FACE_ACTIONS.index(name)
    for name in ("jawOpen", "mouthClose", "mouthLowerDownLeft", "mouthLowerDownRight")
)


@torch.inference_mode()
def closure(phone: nn.Module, speech: Float[Tensor, "f d"]) -> Float[Tensor, " f"]:
    """0..1: how far lips are closed by what `phone`, the head that names phones, hears in the speech."""
    heard = _of_two_frames(phone(speech).float().softmax(-1)[:, BILABIALS].sum(-1))
    share = ((heard - _HEARD[0]) / (_HEARD[1] - _HEARD[0])).clamp(0.0, 1.0)
    share = share * share * (3.0 - 2.0 * share)
    near = torch.maximum(_BEFORE * _next(share), _AFTER * _last(share))
    return torch.maximum(share, near)


def _of_two_frames(heard: Float[Tensor, " f"]) -> Float[Tensor, " f"]:
    """Each peak also in the likelier of its neighbours."""
    last, following = _last(heard), _next(heard)
    peak = (heard >= last) & (heard > following) & (heard > _SURE)
    earlier = peak & (last > following) & (last > _LIKELY)
    later = peak & (last <= following) & (following > _LIKELY)
    wide = torch.where(_next(earlier), torch.maximum(heard, following), heard)
    return torch.where(_last(later), torch.maximum(wide, last), wide)


def _last(values: Tensor) -> Tensor:
    """What the frame before has; the first frame its own."""
    return torch.cat((values[:1], values[:-1]))


def _next(values: Tensor) -> Tensor:
    """What the frame after has; the last frame its own."""
    return torch.cat((values[1:], values[-1:]))


def meet(rows: Float[Tensor, "f c"], share: Float[Tensor, " f"]) -> Float[Tensor, "f c"]:
    """Rows with lips closed as far as `closure` says."""
    if rows.shape[-1] < FACE.stop:
        return rows
    gap = (rows[:, _JAW] - rows[:, _CLOSE]).clamp(min=0.0)
    met = rows.clone()
    met[:, _CLOSE] = rows[:, _CLOSE] + share * gap
    met[:, _LOWER] = rows[:, _LOWER] * (1.0 - share[:, None])
    return met
