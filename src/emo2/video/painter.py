"""The painter: what the photo does not show, at a view's own resolution (design §6).

A small U-Net looks at the warped view, at what the latent says of it and at the untouched photo, and paints the
inside of the mouth, teeth, closed lids and uncovered background.  It puts out a soft alpha with its colours: where
that is 0 the photo's own pixels stay, so that identity and sharpness are not its business.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from einops import rearrange, repeat
from jaxtyping import Float
from torch import Tensor, nn

from emo2.config import VideoConfig
from emo2.nn import zeroed
from emo2.video.codec import FLOW_SCALE, Field, grow, warp
from emo2.video.examples import Examples

INPUTS = 12
"""Warped view, visibility, colour, untouched view, flow."""
FOLD = 2
"""Pixels a side folded into channels: the first level works at half the view's resolution."""
SQUARE = 128
"""Pixels a side of the squares that the painter is trained on."""
MARGIN = 5
"""Pixels around what is hidden in which the colours are trained as well."""
HIDDEN_WEIGHT = 1.0
"""Weight of a hidden pixel against a seen one in the alpha's loss."""


@dataclass(frozen=True, kw_only=True)
class Painted:
    """A view before and after the painter."""

    moved: Float[Tensor, "n 3 h w"]
    """The photo's own pixels, warped."""
    paint: Float[Tensor, "n 3 h w"]
    logit: Float[Tensor, "n 1 h w"]

    @property
    def alpha(self) -> Float[Tensor, "n 1 h w"]:
        """How much paint covers the pixels, 0..1."""
        return self.logit.sigmoid()

    @property
    def frames(self) -> Float[Tensor, "n 3 h w"]:
        """Paint over pixels."""
        return torch.lerp(self.moved, self.paint, self.alpha)


class PaintBlock(nn.Module):
    """Two convolutions around a residual, modulated by the conditions; no statistics, so that any cut gives the same."""

    def __init__(self, width: int, conditions: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width, width, 3, padding=1)
        self.modulation = nn.Linear(conditions, 2 * width)
        self.conv2 = zeroed(nn.Conv2d(width, width, 3, padding=1))

    def forward(self, x: Float[Tensor, "n c h w"], conditions: Float[Tensor, "n k"]) -> Tensor:
        scale, shift = self.modulation(conditions)[:, :, None, None].chunk(2, dim=1)
        inner = self.conv1(F.silu(x)) * (1.0 + scale) + shift
        return x + self.conv2(F.silu(inner))


@dataclass(frozen=True, kw_only=True)
class Canvas:
    """What the painter sees, at pixel resolution."""

    moved: Float[Tensor, "n 3 h w"]
    visibility: Float[Tensor, "n 1 h w"]
    colour: Float[Tensor, "n 3 h w"]
    flow: Float[Tensor, "n 2 h w"]
    photo: Float[Tensor, "n 3 h w"]

    def cut(self, corners: Sequence[tuple[int, int]], side: int) -> Canvas:
        """A square of each, from its (top, left) on."""
        return Canvas(**{name: cut(z, corners, side) for name, z in vars(self).items()})


def cut(
    images: Float[Tensor, "n c h w"], corners: Sequence[tuple[int, int]], side: int
) -> Float[Tensor, "n c s s"]:
    """A square of each image, from its (top, left) on."""
    return torch.stack(
        [
            image[:, top : top + side, left : left + side]
            for image, (top, left) in zip(images, corners, strict=True)
        ]
    )


def prepare(field: Field, reference: Float[Tensor, "b 3 h w"]) -> Canvas:
    """All of a view; frames come out folded into the batch, frame fastest."""
    count = field.flow.shape[1]
    size = (reference.shape[-2], reference.shape[-1])
    flow, seen, colour = (
        rearrange(z, "b f c g k -> (b f) c g k")
        for z in (field.flow, field.visibility, field.colour)
    )
    photo = repeat(reference, "b c h w -> (b f) c h w", f=count)
    return Canvas(
        moved=warp(photo, flow),
        visibility=grow(seen, size),
        colour=grow(colour, size),
        flow=grow(flow, size) / FLOW_SCALE,
        photo=photo,
    )


class Painter(nn.Module):
    """Canvas and conditions to colours and alpha."""

    def __init__(self, config: VideoConfig) -> None:
        super().__init__()
        first, second, third = config.codec.painter_widths
        conditions = config.denoiser.condition_width
        self.conv_in = nn.Conv2d(INPUTS * FOLD**2, first, 3, padding=1)
        self.down1 = nn.Conv2d(first, second, 3, 2, padding=1)
        self.block1 = PaintBlock(second, conditions)
        self.down2 = nn.Conv2d(second, third, 3, 2, padding=1)
        self.block2 = PaintBlock(third, conditions)
        self.block3 = PaintBlock(third, conditions)
        self.up1 = nn.Conv2d(third + second, second, 3, padding=1)
        self.up0 = nn.Conv2d(second + first, first, 3, padding=1)
        self.conv_out = zeroed(nn.Conv2d(first, 4 * FOLD**2, 3, padding=1))

    def forward(self, canvas: Canvas, hints: Float[Tensor, "n k"]) -> Painted:
        """Sides of the canvas divide by eight."""
        seen = canvas.visibility
        inputs = [canvas.moved, seen, canvas.colour, canvas.flow, canvas.photo]
        fine = F.silu(self.conv_in(F.pixel_unshuffle(torch.cat(inputs, dim=1), FOLD)))
        middle = self.block1(self.down1(fine), hints)
        coarse = self.block3(self.block2(self.down2(middle), hints), hints)
        x = self.up1(torch.cat([F.interpolate(coarse, scale_factor=2.0), middle], dim=1))
        x = self.up0(torch.cat([F.interpolate(F.silu(x), scale_factor=2.0), fine], dim=1))
        x = F.pixel_shuffle(self.conv_out(F.silu(x)), FOLD)
        # Before training, what is hidden is painted with the latent's own colour.
        base = canvas.moved * seen + canvas.colour
        logit = x[:, 3:] + 6.0 * (1.0 - seen) - 4.0
        return Painted(moved=canvas.moved, paint=base + x[:, :3], logit=logit)


def draw_corners(
    importance: Float[Tensor, "n h w"], side: int, generator: torch.Generator
) -> list[tuple[int, int]]:
    """Squares to train on: two of three about a point of mouth or eyes, the others anywhere."""
    height, width = importance.shape[-2:]
    corners = []
    for weights in importance:
        somewhere = torch.rand(3, generator=generator)
        if somewhere[0] < 2 / 3:
            low = F.avg_pool2d((weights - 1.0).clamp_min(1e-6)[None], 8)[0]
            place = int(torch.multinomial(low.flatten().cpu(), 1, generator=generator))
            middle = (place // low.shape[1] * 8, place % low.shape[1] * 8)
        else:
            middle = (int(somewhere[1] * height), int(somewhere[2] * width))
        top, left = (m - side // 2 for m in middle)
        corners.append((min(max(top, 0), height - side), min(max(left, 0), width - side)))
    return corners


def half_true(batch: Examples, field: Field, generator: torch.Generator) -> Field:
    """The field for half of the people, the true flow and visibility for the others."""
    truth = (torch.rand(len(batch.view), generator=generator) < 0.5).to(batch.view.device)
    truth = truth.view(-1, 1, 1, 1, 1)
    return Field(
        flow=torch.where(truth, batch.flow, field.flow),
        visibility=torch.where(truth, batch.visibility, field.visibility),
        colour=field.colour,
    )


def losses_on_squares(
    painter: Painter,
    batch: Examples,
    field: Field,
    hints: Float[Tensor, "n k"],
    generator: torch.Generator,
) -> dict[str, Tensor]:
    """`painter_loss` on a square of every frame of the batch."""
    size = (batch.frames.shape[-2], batch.frames.shape[-1])
    hidden, importance = (
        grow(rearrange(z, "b f c g k -> (b f) c g k"), size)
        for z in (1.0 - batch.visibility, batch.importance)
    )
    side = min(SQUARE, size[0])
    corners = draw_corners(importance[:, 0], side, generator)
    frames = rearrange(batch.frames, "b f c h w -> (b f) c h w")
    frames, hidden, importance = (cut(z, corners, side) for z in (frames, hidden, importance))
    painted = painter(prepare(field, batch.reference).cut(corners, side), hints)
    return painter_loss(painted, frames, hidden, importance)


def painter_loss(
    painted: Painted,
    frames: Float[Tensor, "n 3 h w"],
    hidden: Float[Tensor, "n 1 h w"],
    importance: Float[Tensor, "n 1 h w"],
) -> dict[str, Tensor]:
    """Frames, and each half of them on its own: colours where something is hidden, alpha against what is hidden.

    L1 and, for sharpness, L1 of neighbours' differences.  The halves have their own losses because paint learns
    nothing under an alpha of 0, and alpha nothing from paint that is no better than the pixels.
    """
    weight = importance * (1.0 + 4.0 * hidden)
    weight = weight / weight.mean()
    around = F.max_pool2d(hidden, 2 * MARGIN + 1, 1, MARGIN)
    place = importance * (0.05 + around)
    place = place / place.mean()
    entropy = F.binary_cross_entropy_with_logits(painted.logit, hidden, reduction="none")
    balance = 1.0 + (HIDDEN_WEIGHT - 1.0) * hidden
    made = painted.frames
    return {
        "frames": (weight * (made - frames).abs()).mean(),
        "paint": 0.5 * (place * (painted.paint - frames).abs()).mean(),
        "sharpness": 0.5 * slopes(made, frames, weight)
        + 0.5 * slopes(painted.paint, frames, place),
        "alpha": 0.2 * (entropy * balance).mean(),
    }


def slopes(made: Tensor, frames: Tensor, weight: Tensor) -> Tensor:
    total = torch.zeros((), device=frames.device)
    for axis in (-1, -2):
        error = (made.diff(dim=axis) - frames.diff(dim=axis)).abs()
        total = total + (error * weight.narrow(axis, 1, frames.shape[axis] - 1)).mean()
    return total
