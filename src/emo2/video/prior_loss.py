"""What the motion basis and the matte are trained on."""

from __future__ import annotations

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from emo2.video.codec import VISIBILITY_SCALE, RelativeCodec
from emo2.video.examples import Examples
from emo2.video.prior import Expectation, MotionBasis

HIDDEN_WEIGHT = 6.0
"""Weight of a hidden cell against a seen one in the visibility's loss: few cells are hidden, and they matter."""
STILLNESS = 0.06
"""Added to a frame's mean flow, in latent units, where its error counts against that."""
EVENNESS = 0.75
"""1: an error counts as a share of its frame's motion, however far a head turns; 0: every pixel counts the same."""
MATTE_WEIGHT = 0.2


def prior_losses(
    basis: MotionBasis,
    output: Float[Tensor, "b k s s"],
    expected: Expectation,
    latents: Float[Tensor, "b f c s s"],
    batch: Examples,
) -> dict[str, Tensor]:
    """All terms, weighted: the expectation's, and the matte's where the person's place is known."""
    terms = prior_loss(expected, latents, batch.importance, basis.codec)
    if batch.person is not None:
        terms["matte"] = MATTE_WEIGHT * matte_loss(basis.matte(output), batch.person)
    return terms


def prior_loss(
    expected: Expectation,
    target: Float[Tensor, "b f c s s"],
    importance: Float[Tensor, "b f 1 g g"],
    codec: RelativeCodec,
) -> dict[str, Tensor]:
    """L1-like on flow and colour, class-balanced cross-entropy on visibility, likelihood of the scale.

    Hidden cells count little for flow (nothing of the photo is fetched there) and much for colour.  A frame's error
    counts against the size of its own motion: else turning heads drown the lips.
    """
    mean, wanted = (
        codec.unpack(z.flatten(0, 1)).split([2, 1, 3], dim=1) for z in (expected.mean, target)
    )
    size = wanted[0].abs().mean((1, 2, 3), keepdim=True)
    weight = importance.flatten(0, 1) / (STILLNESS + size) ** EVENNESS
    weight = weight / weight.mean()
    logit, wanted_logit = (z[1] * VISIBILITY_SCALE for z in (mean, wanted))
    seen = wanted_logit.sigmoid()
    hidden = 1.0 - seen
    flow_weight = weight * (0.2 + 0.8 * seen)
    flow = _smooth_l1(mean[0] - wanted[0])
    colour = _smooth_l1(mean[2] - wanted[2])
    colour_weight = weight * (1.0 + 4.0 * hidden)
    entropy = F.binary_cross_entropy_with_logits(logit, seen, reduction="none")
    floor = F.binary_cross_entropy_with_logits(wanted_logit, seen, reduction="none")
    balance = weight * (1.0 + (HIDDEN_WEIGHT - 1.0) * hidden)
    deviation = (target - expected.mean.detach()).abs()
    return {
        "flow": 3.0 * (flow * flow_weight).mean() / flow_weight.mean(),
        "visibility": 0.5 * ((entropy - floor) * balance).mean(),
        "colour": 0.5 * (colour * colour_weight).mean() / colour_weight.mean(),
        "scale": 0.05 * (deviation / expected.scale + expected.scale.log()).mean(),
    }


def matte_loss(logits: Float[Tensor, "b 1 g g"], person: Float[Tensor, "b 1 g g"]) -> Tensor:
    """Cross-entropy with the share of each cell that is the person's; places where nobody knows (NaN) do not count."""
    told = ~person.isnan()
    error = F.binary_cross_entropy_with_logits(logits, person.nan_to_num(), reduction="none")
    return (error * told).sum() / told.sum().clamp(min=1)


def _smooth_l1(error: Tensor) -> Tensor:
    """Charbonnier: linear beyond a fiftieth of a latent unit (flow: a fifth of a pixel)."""
    return (error.square() + 0.02**2).sqrt() - 0.02
