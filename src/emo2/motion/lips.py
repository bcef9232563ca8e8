"""Lips that begin to meet do meet (ours): where the encoder hears m, b or p, the gap that the network left is closed.

At a quick pace an m lasts one frame and its sound is loudest between two, so the voice is heard at half frames too
(`SpeechFeatures.halfway`). Every peak of what is heard closes the lips at its own time, which lies between frames; they
come and go as the studio's do (`studio/mouth.py:closure`), for lips that shut at once tremble.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from emo2.motion.channels import FACE
from emo2.signals import FACE_ACTIONS, SpeechFeatures

BILABIALS = (20, 31, 34)
"""Places of b, m and p among the phones of the phone head (the studio's `PHONES`)."""

CONTEXT = 5
"""Frames to either side on which a frame's closure depends."""

_HEARD = (0.1, 0.25)
"""Probability of a bilabial at which the lips begin to close, and at which they are closed."""

_NEAR = 2
"""Half frames to either side among which a peak is the highest, and over which a longer sound is steady."""

_LATE = 1
"""Half frames by which a sound is heard later than it sounds (measured: 12 ms and more)."""

_HOLD = 0.3
"""Frames to either side of a sound for which the lips are closed."""

_BEFORE, _AFTER = 2.5, 1.75
"""Frames in which they close, and open again."""

_REACH = range(-5, 9)
"""Half frames from a frame to the sounds that may close it."""

_JAW, _CLOSE, *_LOWER = (
    FACE.start + FACE_ACTIONS.index(name)
    for name in ("jawOpen", "mouthClose", "mouthLowerDownLeft", "mouthLowerDownRight")
)


@torch.inference_mode()
def closure(phone: nn.Linear, speech: SpeechFeatures) -> Float[Tensor, " f"]:
    """0..1: how far lips are closed by what `phone`, the head that names phones, hears in the speech.

    Where nobody listened at half frames, the mean of two frames is heard between them.
    """
    at = _bilabial(phone, speech.values)
    later = 0.5 * (at + _moved(at, 1))
    if speech.halfway is not None:
        later = _bilabial(phone, speech.halfway)
    heard = torch.stack((at, later), dim=1).flatten()
    near = torch.stack([_moved(heard, place) for place in range(-_NEAR, _NEAR + 1)])
    is_peak = (heard > near[_NEAR + 1 :]).all(0) & (heard >= near[:_NEAR]).all(0)
    share = (torch.where(is_peak, heard, near.amin(0)) - _HEARD[0]) / (_HEARD[1] - _HEARD[0])
    share = share.clamp(0.0, 1.0)
    share = share * share * (3.0 - 2.0 * share)
    pull = sum((place * part for place, part in enumerate(near, -_NEAR)), torch.zeros_like(heard))
    centre = pull / near.sum(0).clamp(min=1e-6) - _LATE
    shut = torch.zeros_like(at)
    for place in _REACH:
        lag = -0.5 * (place + _moved(centre, place)[::2])
        shut = torch.maximum(shut, _moved(share, place)[::2] * _hold(lag))
    return shut


def _bilabial(phone: nn.Linear, values: Float[Tensor, "f layers d"]) -> Float[Tensor, " f"]:
    speech = values.flatten(1).to(phone.weight.device)
    return phone(speech).float().softmax(-1)[:, BILABIALS].sum(-1)


def _moved(values: Float[Tensor, " n"], by: int) -> Float[Tensor, " n"]:
    """What is `by` places further on; nothing beyond the ends."""
    if by >= 0:
        return F.pad(values[by:], (0, min(by, len(values))))
    return F.pad(values[:by], (min(-by, len(values)), 0))


def _hold(lag: Float[Tensor, " f"]) -> Float[Tensor, " f"]:
    """The closure so many frames after a sound: whole near it, in a half wave before and after."""
    away = torch.maximum((-lag - _HOLD) / _BEFORE, (lag - _HOLD) / _AFTER)
    return 0.5 + 0.5 * torch.cos(math.pi * away.clamp(0.0, 1.0))


def meet(rows: Float[Tensor, "f c"], share: Float[Tensor, " f"]) -> Float[Tensor, "f c"]:
    """Rows with lips closed as far as `closure` says; where the network closes them, too, the further of both holds.

    A frame's gap is at most the open share of the widest among it and its neighbours: were it that of its own, two
    closures that do not quite coincide would multiply, and the lips tremble.
    """
    if rows.shape[-1] < FACE.stop:
        return rows
    gap = (rows[:, _JAW] - rows[:, _CLOSE]).clamp(min=0.0)
    met = rows.clone()
    met[:, _CLOSE] = rows[:, _CLOSE] + (gap - _capped(gap[:, None], share)[:, 0])
    met[:, _LOWER] = _capped(rows[:, _LOWER], share)
    return met


def _capped(opening: Float[Tensor, "f n"], share: Float[Tensor, " f"]) -> Float[Tensor, "f n"]:
    widest = F.max_pool1d(opening.T, 3, stride=1, padding=1).T
    return torch.minimum(opening, (1.0 - share[:, None]) * widest)
