"""The relative codec: a frame as the motion of the photo's own pixels (design §6).

Per cell of a grid over a view of the photo: backward flow (2), how much of the cell is seen in the photo (1) and the
colour that the photo does not give (3).  The grid is packed 2 x 2 into channels: 64 x 64 x 6 becomes 32 x 32 x 24.
Latents are normalised to about unit size by the constants below; visibility is carried as a logit.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from einops import rearrange, repeat
from jaxtyping import Float
from torch import Tensor

from emo2.config import CodecConfig

CHANNELS = 6
FLOW_SCALE = 0.04
"""Views' sides per latent unit: ten pixels of a view of 256."""
VISIBILITY_SCALE = 2.0
"""Logit per latent unit."""
VISIBILITY_RANGE = 0.02
"""Visibility is kept this far from 0 and 1, where the logit is infinite."""
COLOUR_SCALE = 0.25
STILL = 0.0008
"""Flow (in views' sides; 0.2 px of 256) below which a pixel counts as unmoved, so that still things stay sharp."""


@dataclass(frozen=True, kw_only=True)
class Field:
    """A decoded latent: what happens to each cell of the view."""

    flow: Float[Tensor, "b f 2 g g"]
    """Backward: the photo's position is the cell's own position plus this; x, y, in views' sides."""
    visibility: Float[Tensor, "b f 1 g g"]
    """Share of the cell that the photo shows, 0..1."""
    colour: Float[Tensor, "b f 3 g g"]
    """Added to what is seen; on [-1, 1] images with 0 for mid-grey."""


def warp(
    image: Float[Tensor, "n c h w"], flow: Float[Tensor, "n 2 g k"]
) -> Float[Tensor, "n c h w"]:
    """The image's pixels fetched from where the flow points (in image sides), borders repeated."""
    height, width = image.shape[-2:]
    flow = F.interpolate(flow, size=(height, width), mode="bilinear", align_corners=False)
    ys = (torch.arange(height, device=image.device, dtype=image.dtype) + 0.5) * (2.0 / height) - 1.0
    xs = (torch.arange(width, device=image.device, dtype=image.dtype) + 0.5) * (2.0 / width) - 1.0
    grid = torch.stack(torch.meshgrid(xs, ys, indexing="xy"), dim=-1)[None]
    grid = grid + 2.0 * rearrange(flow, "n c h w -> n h w c")
    return F.grid_sample(image, grid, mode="bilinear", padding_mode="border", align_corners=False)


def grow(maps: Float[Tensor, "n c g k"], size: tuple[int, int]) -> Float[Tensor, "n c h w"]:
    """Grid cells to pixels, bilinear."""
    return F.interpolate(maps, size=size, mode="bilinear", align_corners=False)


class RelativeCodec:
    """Pixels to relative latents and back; has no weights (the painter finishes what it decodes)."""

    def __init__(self, config: CodecConfig) -> None:
        self.config = config

    @property
    def channels(self) -> int:
        """Channels of a latent."""
        return CHANNELS * self.config.pack**2

    @property
    def side(self) -> int:
        """Cells a side of a latent."""
        return self.config.grid // self.config.pack

    def encode(
        self,
        frames: Float[Tensor, "b f 3 j i"],
        reference: Float[Tensor, "b 3 h w"],
        flow: Float[Tensor, "b f 2 g g"],
        visibility: Float[Tensor, "b f 1 g g"],
    ) -> Float[Tensor, "b f c s s"]:
        """Latents of frames whose flow to the reference is known; the colour is what the warp leaves over.

        The colour is read at twice the grid, which costs a quarter of the view's own resolution and is as exact.
        """
        batch, count = frames.shape[:2]
        size = (2 * self.config.grid, 2 * self.config.grid)
        small = F.interpolate(rearrange(frames, "b f c h w -> (b f) c h w"), size=size, mode="area")
        photo = F.interpolate(reference, size=size, mode="area")
        photo = repeat(photo, "b c h w -> (b f) c h w", f=count)
        flows = rearrange(flow, "b f c g k -> (b f) c g k")
        seen = rearrange(visibility, "b f c g k -> (b f) c g k")
        colour = F.avg_pool2d(small - warp(photo, flows) * grow(seen, size), 2)
        seen = seen.clamp(VISIBILITY_RANGE, 1.0 - VISIBILITY_RANGE).logit()
        cells = torch.cat(
            [flows / FLOW_SCALE, seen / VISIBILITY_SCALE, colour / COLOUR_SCALE], dim=1
        )
        return rearrange(self.pack(cells), "(b f) c h w -> b f c h w", b=batch)

    def field(self, latents: Float[Tensor, "b f c s s"]) -> Field:
        """What the latents say, in natural units."""
        flow, seen, colour = self.cells(latents).split([2, 1, 3], dim=2)
        return Field(
            flow=flow * FLOW_SCALE,
            visibility=(seen * VISIBILITY_SCALE).sigmoid(),
            colour=colour * COLOUR_SCALE,
        )

    def cells(self, latents: Float[Tensor, "b f c s s"]) -> Float[Tensor, "b f 6 g g"]:
        """The latents unpacked: flow, visibility, colour, in latent units."""
        cells = self.unpack(rearrange(latents, "b f c h w -> (b f) c h w"))
        return rearrange(cells, "(b f) c g k -> b f c g k", b=latents.shape[0])

    def decode(
        self, latents: Float[Tensor, "b f c s s"], reference: Float[Tensor, "b 3 h w"]
    ) -> Float[Tensor, "b f 3 h w"]:
        """The photo warped, times what is seen, plus the colour: frames before the painter, at the photo's size."""
        return assemble(self.field(latents), reference)

    def pack(self, cells: Float[Tensor, "n c g k"]) -> Float[Tensor, "n d s t"]:
        """Neighbouring cells into channels."""
        return F.pixel_unshuffle(cells, self.config.pack)

    def unpack(self, latents: Float[Tensor, "n d s t"]) -> Float[Tensor, "n c g k"]:
        """The inverse of `pack`."""
        return F.pixel_shuffle(latents, self.config.pack)


def assemble(field: Field, reference: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b f 3 h w"]:
    """Frames from a field and the photo, both of the same view."""
    batch, count = field.flow.shape[:2]
    size = (reference.shape[-2], reference.shape[-1])
    flow, seen, colour = (
        rearrange(part, "b f c g k -> (b f) c g k")
        for part in (field.flow, field.visibility, field.colour)
    )
    moved = warp(repeat(reference, "b c h w -> (b f) c h w", f=count), flow)
    frames = moved * grow(seen, size) + grow(colour, size)
    return rearrange(frames.clamp(-1.0, 1.0), "(b f) c h w -> b f c h w", b=batch)
