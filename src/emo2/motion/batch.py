"""What stage 1 trains on: windows of sound and motion, and what is known of them."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from emo2.motion.channels import HANDS


@dataclass(frozen=True, kw_only=True)
class MotionBatch:
    """Training windows."""

    sound: Float[Tensor, "b n"]
    """Levelled samples, as many as `speech.samples_for` says for the window."""
    motion: Float[Tensor, "b f c"]
    """Rows in their own units (`channels.pack`)."""
    visibility: Float[Tensor, "b f 2"]
    phones: Int[Tensor, "b f"]
    """Number of the phone that sounds in each frame; -1 where nobody knows."""
    style: Int[Tensor, " b"]
    """Place in `MotionConfig.styles`; -1 where nobody knows."""
    speed: Float[Tensor, " b"]
    """Of the hands against the usual; NaN where nobody knows."""
    known: Bool[Tensor, "b f c"] | None = None
    """Which numbers of the rows are true; None: all.  The others are neither shown nor learned."""

    def first(self, count: int) -> MotionBatch:
        """The first windows."""
        tensors = {f.name: getattr(self, f.name) for f in fields(self)}
        return replace(self, **{n: t[:count] for n, t in tensors.items() if t is not None})

    def share_known(self) -> Float[Tensor, "b f c"]:
        """1 where a number is true, else 0."""
        return torch.ones_like(self.motion) if self.known is None else self.known.to(self.motion)


def hands_known(known: Float[Tensor, "b f c"]) -> Float[Tensor, "b f 2"]:
    """1 where all numbers of a hand are true: only then can its key points be compared."""
    return known[..., HANDS].unflatten(-1, (2, -1)).amin(-1)
