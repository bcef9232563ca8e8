"""How near a motion comes to the true one of the same voice: PCK, SRGR, LVD.

One voice has many good motions, so these say how like the *one* recorded take a result is, not how good it is.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

SEMANTIC_MEAN = 0.165
"""Mean semantic score of BEAT's frames, by which SRGR is divided."""


def pck(
    made: Float[Tensor, "*b joints 3"], true: Float[Tensor, "*b joints 3"], threshold: float
) -> float:
    """Share of the points nearer than the threshold to the true one (Ye et al. 2022); the points' unit."""
    return float(((made - true).double().norm(dim=-1) < threshold).double().mean())


def channel_pck(made: Float[Tensor, "*b"], true: Float[Tensor, "*b"], threshold: float) -> float:
    """The same a number at a time, as DiffSHEG counts SHOW's standardised channels."""
    return float(((made - true).double().abs() < threshold).double().mean())


def srgr(
    made: Float[Tensor, "frames joints 3"],
    true: Float[Tensor, "frames joints 3"],
    semantic: Float[Tensor, " frames"],
    *,
    threshold: float = 0.1,
) -> float:
    """Share of points within the threshold (sum over axes), frames weighted by semantic score (BEAT, EMAGE)."""
    near = ((made - true).double().abs().sum(-1) < threshold).double()
    return float((near * semantic.double()[:, None] / SEMANTIC_MEAN).mean())


def lvd(made: Float[Tensor, "frames joints 3"], true: Float[Tensor, "frames joints 3"]) -> float:
    """Difference of the speeds, summed over joints, mean over time (TalkSHOW); units a frame."""
    speeds = [torch.diff(p.double(), dim=0).norm(dim=-1) for p in (made, true)]
    return float((speeds[0] - speeds[1]).abs().sum(-1).mean())
