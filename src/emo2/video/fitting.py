"""What of stage 2 is fitted in one go rather than trained."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from emo2.video.examples import Examples, cell_weight, draw_known, known_of
from emo2.video.face_table import TableFit
from emo2.video.prior import CUT, SCALE_TERMS, scale_terms
from emo2.video.stage import WITHHELD, VideoStage

CUTS, DESCENTS = 3, 20
"""How often rare large residuals are cut anew, and steps between, when the scale is fitted."""
RIDGE = 1e-3
"""Keeps terms of the scale that nothing tells apart where they are."""


@torch.no_grad()
def fit_table(stage: VideoStage, batches: Iterable[Examples]) -> int:
    """Fit the basis's table of face actions to what the expectation leaves over; the frames it was fitted to.

    Frames count whose head and torso are where the reference has them.
    """
    fit, used = TableFit(), 0
    for batch in batches:
        seen = stage.see(batch.reference[:, None], batch.view, batch.marks)
        asked = stage.asked(batch)
        expected = stage.basis(seen.output, batch.marks, asked)
        frames = batch.frames, batch.reference, batch.flow, batch.visibility
        wanted, found = map(stage.codec.cells, (stage.codec.encode(*frames), expected.mean))
        used += fit.learn(batch, asked, wanted, found)
    if used:
        stage.basis.table.values += fit.solve()
    return used


@dataclass(frozen=True, kw_only=True)
class Residuals:
    """What the expectation leaves over of some frames, in units of its scale."""

    terms: Float[Tensor, "n 7"]
    """What the log-scale is linear in."""
    values: Float[Tensor, "n c k"]
    weight: Float[Tensor, "n 1 k"]
    """Of the cells, as in the denoiser's loss; 1 on average."""

    def power(self, shift: Float[Tensor, "7 c"]) -> Float[Tensor, "n c"]:
        """Mean square of each frame and channel were the log-scale shifted."""
        size = (self.terms @ shift).exp()[..., None]
        return ((self.values.float() / size).clamp(-CUT, CUT).square() * self.weight).mean(-1)


@torch.no_grad()
def fit_scale(
    stage: VideoStage, batches: Iterable[Examples], generator: torch.Generator
) -> Float[Tensor, " c"]:
    """Bring the standardised residual to unit variance; by how much each channel's scale grew.

    Each channel's log-scale is shifted by a sum of its terms, by maximum likelihood of a normal residual: its mean
    square is then 1 over all frames, and over those in which a group of the conditions is known.  The shift goes into
    the bias of the reference network's head, where the scale comes from.
    """
    found = [residuals(stage, batch, generator) for batch in batches]
    terms = torch.cat([one.terms for one in found]).double()
    shift = terms.new_zeros(SCALE_TERMS, found[0].values.shape[1])
    for _ in range(CUTS):
        power = torch.cat([one.power(shift.float()) for one in found]).double()
        for channel in range(shift.shape[1]):
            shift[:, channel] += _likeliest(terms, power[:, channel])
    bias = stage.reference.head.bias
    assert bias is not None
    matte = stage.config.codec.pack**2  # the last of the head's channels
    bias[-shift.numel() - matte : -matte] += shift.flatten().to(bias)
    grown = (terms @ shift).exp().mean(0).to(bias)
    head = stage.denoiser.head  # what it has learned was told in the old units
    for parameter in head.parameters():
        parameter /= grown.view(-1, *[1] * (parameter.dim() - 1))
    return grown


def _likeliest(terms: Float[Tensor, "n 7"], power: Float[Tensor, " n"]) -> Float[Tensor, "7"]:
    """The shift b that minimises the mean of u + power exp(-2u) / 2 with u = terms b; convex, by damped Newton steps."""
    shift = terms.new_zeros(terms.shape[1])
    damping = RIDGE * torch.eye(len(shift), dtype=terms.dtype)
    for _ in range(DESCENTS):
        left = power * (-2.0 * terms @ shift).exp()
        slope = (terms * (1.0 - left)[:, None]).mean(0) + RIDGE * shift
        bend = 2.0 * (terms * left.clamp_min(1.0)[:, None]).T @ terms / len(terms) + damping
        shift -= torch.linalg.solve(bend, slope)
    return shift


@torch.no_grad()
def residuals(stage: VideoStage, batch: Examples, generator: torch.Generator) -> Residuals:
    """Of a batch of takes, with conditions known and withheld as the denoiser is trained."""
    after = slice(stage.config.motion_frames, None)
    known = draw_known(len(batch.view), generator, withheld=WITHHELD).to(batch.view.device)
    known = known & batch.known_groups()
    seen = stage.see(batch.reference[:, None], batch.view, batch.marks)
    asked = stage.asked(batch)
    expected = stage.basis(seen.output, batch.marks, asked, known)
    latents = stage.codec.encode(batch.frames, batch.reference, batch.flow, batch.visibility)
    values = ((latents - expected.mean) / expected.scale)[:, after]
    weight = cell_weight(batch.importance[:, after], stage.config.codec.pack)
    return Residuals(
        terms=scale_terms(known_of(asked, known))[:, after].flatten(0, 1).cpu(),
        values=rearrange(values, "b f c s t -> (b f) c (s t)").half().cpu(),
        weight=rearrange(weight / weight.mean(), "n c s t -> n c (s t)").cpu(),
    )
