"""What the details' networks are trained on: windows of frames whose head stays where the photo has it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from einops import rearrange, repeat
from jaxtyping import Float
from torch import Tensor

from emo2.video.codec import Field
from emo2.video.details import (
    Detail,
    Details,
    Placement,
    cut_window,
    place_windows,
    to_view,
    to_window,
    window_weight,
)
from emo2.video.examples import FACE_ACTIONS, FACE_VIEW, Examples, is_still
from emo2.video.own_actions import own_loss
from emo2.video.painter import slopes

AROUND = 3
"""Pixels around what is hidden in which the paint is trained as well."""


@dataclass(frozen=True, kw_only=True)
class Windows:
    """One kind of window of a batch, cut out: frames folded into the batch, frame fastest."""

    placement: Placement
    places: Float[Tensor, "n s s 2"]
    given: Float[Tensor, "b f 3 s s"]
    reference: Float[Tensor, "n 3 h w"]
    frames: Float[Tensor, "n 3 s s"]
    flow: Float[Tensor, "n 2 s s"]
    """True backward flow, in views' sides."""
    hidden: Float[Tensor, "n 1 s s"]


def given_of(
    field: Field, placement: Placement, places: Float[Tensor, "b s s 2"]
) -> Float[Tensor, "b f 3 s s"]:
    """What a field says of a window: flow in the window's half sides, and visibility."""
    count = field.flow.shape[1]
    cells = rearrange(torch.cat([field.flow, field.visibility], dim=2), "b f c g k -> b (f c) g k")
    found = rearrange(cut_window(cells, places), "b (f c) y x -> (b f) c y x", f=count)
    axes = placement.axes.repeat_interleave(count, 0)
    flow = to_window(found[:, :2], axes)
    return rearrange(torch.cat([flow, found[:, 2:]], dim=1), "(b f) c y x -> b f c y x", f=count)


def cut_windows(batch: Examples, field: Field, placement: Placement, side: int) -> Windows:
    """A kind of window from pictures, labels and the expectation's field."""
    count = batch.frames.shape[1]
    near = placement.places(side)
    places = near.repeat_interleave(count, 0)
    flow, seen = (
        cut_window(rearrange(z, "b f c g k -> (b f) c g k"), places)
        for z in (batch.flow, batch.visibility)
    )
    return Windows(
        placement=placement,
        places=places,
        given=given_of(field, placement, near),
        reference=repeat(batch.reference, "b c h w -> (b f) c h w", f=count),
        frames=cut_window(rearrange(batch.frames, "b f c h w -> (b f) c h w"), places),
        flow=flow,
        hidden=1.0 - seen,
    )


def detail_losses(
    details: Details, batch: Examples, field: Field, *, eyes: bool = True
) -> dict[str, Tensor]:
    """All terms over the windows of mouth and, if wanted, eyes; `field`: the expectation with the head at rest."""
    told = (batch.view == FACE_VIEW) & batch.known_groups()[:, 0]
    counts = is_still(batch.conditions[..., FACE_ACTIONS:]) & told[:, None]
    share = counts.flatten().float().view(-1, 1, 1, 1)
    actions = batch.conditions[..., :FACE_ACTIONS]
    totals: dict[str, Tensor] = {}
    windows = zip(place_windows(batch.marks), details.networks(), details.sides(), strict=True)
    for placement, network, side in windows:
        if network is details.eye and not eyes:
            continue
        with torch.autocast(batch.frames.device.type, enabled=False):
            window = cut_windows(batch, field, placement, side)
            photo = cut_window(batch.reference, placement.places(side))
        look = network.look(photo)
        made = network(look, window.given, placement.actions(actions))
        own = placement.actions(batch.reference_actions[:, None])[:, 0]
        with torch.autocast(batch.frames.device.type, enabled=False):
            terms = window_losses(made, window, share)
            terms["own"] = (
                own_loss(look.own.float(), own, batch.known_groups()[:, 0]) * share.amax()
            )
            for name, term in terms.items():
                totals[name] = totals.get(name, torch.zeros((), device=term.device)) + term
    return {f"detail_{name}": term for name, term in totals.items()}


def show(made: Detail, window: Windows) -> tuple[Tensor, Tensor]:
    """The photo's pixels moved, and with the paint on them: (n 3 s s) each."""
    axes = window.placement.axes.repeat_interleave(made.flow.shape[1], 0)
    given = to_view(window.given.flatten(0, 1)[:, :2], axes)
    flow = given + to_view(made.flow.flatten(0, 1).float(), axes)
    moved = cut_window(window.reference, window.places + rearrange(flow, "n c y x -> n y x c"))
    return moved, torch.lerp(moved, made.paint.flatten(0, 1), made.alpha.flatten(0, 1))


def focus(side: int) -> Float[Tensor, "1 1 s s"]:
    """Weight of a window's pixels: lips and lids, in its middle, count five times as much as the skin around them."""
    places = (torch.arange(side) + 0.5) * (2.0 / side) - 1.0
    across, down = (places / 0.65).pow(4), (places / 0.5).pow(4)
    return (1.0 + 4.0 * torch.exp(-across[None] - down[:, None]))[None, None]


def window_losses(
    made: Detail, window: Windows, share: Float[Tensor, "n 1 1 1"]
) -> dict[str, Tensor]:
    """Pictures, their slopes, the paint alone where something is hidden, alpha, and flow; frames count by `share`."""
    moved, frames = show(made, window)
    paint, logit = made.paint.flatten(0, 1), made.logit.flatten(0, 1)
    axes = window.placement.axes.repeat_interleave(made.flow.shape[1], 0)
    flow = window.given.flatten(0, 1)[:, :2] + made.flow.flatten(0, 1)
    wrong = (flow - to_window(window.flow, axes)).square().sum(1, keepdim=True)
    fade = window_weight(frames.shape[-1]).to(frames) * focus(frames.shape[-1]).to(frames)
    hidden = window.hidden
    around = F.max_pool2d(hidden, 2 * AROUND + 1, 1, AROUND)
    weight = share * fade * (1.0 + 3.0 * around)
    place = share * fade * (0.02 + around)
    seen = share * fade * (1.0 - around)
    entropy = F.binary_cross_entropy_with_logits(logit, hidden, reduction="none")

    def mean(error: Tensor, by: Tensor) -> Tensor:
        return (error * by).sum() / (by.sum() * error.shape[1] + 1e-3)

    return {
        "frames": mean((frames - window.frames).abs(), weight),
        "slopes": 0.5 * slopes(frames, window.frames, weight / (weight.mean() + 1e-6)),
        "moved": 0.3 * mean((moved - window.frames).abs(), seen),
        "paint": 0.5 * mean((paint - window.frames).abs(), place)
        + 0.25 * slopes(paint, window.frames, place / (place.mean() + 1e-6)),
        "alpha": 0.4 * mean(entropy, weight),
        "flow": 2.0 * mean((wrong + 1e-4).sqrt() - 1e-2, seen),
    }
