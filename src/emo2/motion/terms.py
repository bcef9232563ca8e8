"""Terms of stage 1's loss that stand on their own (ours)."""

from __future__ import annotations

from jaxtyping import Bool, Float
from torch import Tensor

from emo2.motion.channels import HANDS


def unrest(
    error: Float[Tensor, "b f c"], still: Bool[Tensor, "b f"], seen: Float[Tensor, "b f 2"]
) -> Float[Tensor, ""]:
    """Mean square of what the hands' velocity is off by in silence: tremor that the eye sees there at once."""
    hands = error[..., HANDS].unflatten(-1, (2, -1))
    step = (hands[:, 1:] - hands[:, :-1]).square().mean(-1)
    where = (still[:, 1:] & still[:, :-1])[..., None] * seen[:, 1:]
    return (where * step).sum() / where.sum().clamp(min=1.0)
