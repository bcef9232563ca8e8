"""The blocks of stage 2's U-Net: residual, spatial with reference and audio, temporal with motion frames.

The topology is Stable Diffusion 1.5's with AnimateDiff's temporal modules (EMO §3.2, design §6), so that public
checkpoints map onto it name by name.  Frames are folded into the batch, frame fastest, for all spatial work;
only `TemporalBlock` mixes frames.
"""

from __future__ import annotations

import itertools
import math

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from emo2.nn import Attention, FeedForward, zeroed

RESIDUAL_EPS = 1e-5
TRANSFORMER_EPS = 1e-6


def sinusoids(positions: Float[Tensor, " n"], width: int) -> Float[Tensor, "n d"]:
    """Interleaved sine and cosine of the positions, wavelengths from 2 pi to 20 000 pi (temporal modules)."""
    rates = torch.exp(
        torch.arange(0, width, 2, device=positions.device) * (-math.log(10_000.0) / width)
    )
    angles = positions.float()[:, None] * rates
    return torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(1)[:, :width]


class ResidualBlock(nn.Module):
    """Two convolutions with the time embedding added between them; GroupNorm statistics are per frame."""

    def __init__(self, inputs: int, width: int, time_width: int, groups: int) -> None:
        super().__init__()
        self.norm1 = nn.GroupNorm(groups, inputs, eps=RESIDUAL_EPS)
        self.conv1 = nn.Conv2d(inputs, width, 3, padding=1)
        self.time = nn.Linear(time_width, width)
        self.norm2 = nn.GroupNorm(groups, width, eps=RESIDUAL_EPS)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1)
        self.shortcut = nn.Identity() if inputs == width else nn.Conv2d(inputs, width, 1)

    def forward(
        self, x: Float[Tensor, "n c h w"], time: Float[Tensor, "n d"]
    ) -> Float[Tensor, "n e h w"]:
        inner = self.conv1(F.silu(self.norm1(x))) + self.time(F.silu(time))[:, :, None, None]
        return self.shortcut(x) + self.conv2(F.silu(self.norm2(inner)))


class SpatialBlock(nn.Module):
    """Spatial self-attention with the reference, then audio attention, then the feed-forward (EMO §3.2).

    `concat`: the reference's normalised tokens join keys and values of the self-attention.  `cross`: a
    reference-attention of its own follows the self-attention (EMO).
    """

    def __init__(
        self, width: int, heads: int, groups: int, *, reference: str | None, audio_width: int
    ) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(groups, width, eps=TRANSFORMER_EPS)
        self.proj_in = nn.Conv2d(width, width, 1)
        self.norm1 = nn.LayerNorm(width)
        self.self_attention = Attention(width, heads)
        self.crosses = reference == "cross"
        if self.crosses:
            self.reference_norm = nn.LayerNorm(width)
            self.reference_attention = Attention(width, heads)
        self.hears = audio_width > 0
        if self.hears:
            self.norm2 = nn.LayerNorm(width)
            self.audio_attention = Attention(width, heads, context_width=audio_width)
        self.norm3 = nn.LayerNorm(width)
        self.feed_forward = FeedForward(width, gated=True)
        self.proj_out = nn.Conv2d(width, width, 1)

    def forward(
        self,
        x: Float[Tensor, "n c h w"],
        *,
        audio: Float[Tensor, "n t a"] | None = None,
        reference: Float[Tensor, "g u c"] | None = None,
    ) -> tuple[Float[Tensor, "n c h w"], Float[Tensor, "n hw c"]]:
        """The block's output and the site's feature: the normalised input of its self-attention."""
        height = x.shape[-2]
        y = rearrange(self.proj_in(self.norm(x)), "n c h w -> n (h w) c")
        feature = self.norm1(y)
        y = y + self.self_attention(feature, extra=None if self.crosses else reference)
        if self.crosses and reference is not None:
            repeats = y.shape[0] // reference.shape[0]
            tokens = reference.repeat_interleave(repeats, 0)
            y = y + self.reference_attention(self.reference_norm(y), tokens)
        if self.hears and audio is not None:
            y = y + self.audio_attention(self.norm2(y), audio)
        y = y + self.feed_forward(self.norm3(y))
        return x + self.proj_out(rearrange(y, "n (h w) c -> n c h w", h=height)), feature


class TemporalBlock(nn.Module):
    """Self-attention over frames, twice, with the motion frames' features joined in front along the frame axis.

    EMO §3.2 and AnimateDiff: positions are added to the normalised input of each attention, speed as well; the
    output projection starts at zero, so that a new block leaves every frame of the image model as it is.
    """

    def __init__(self, width: int, heads: int, groups: int, *, speed_width: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(groups, width, eps=TRANSFORMER_EPS)
        self.proj_in = nn.Linear(width, width)
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(2))
        self.attentions = nn.ModuleList(Attention(width, heads) for _ in range(2))
        self.speed = zeroed(nn.Linear(speed_width, width)) if speed_width else None
        self.feed_forward_norm = nn.LayerNorm(width)
        self.feed_forward = FeedForward(width, gated=True)
        self.proj_out = zeroed(nn.Linear(width, width))

    def forward(
        self,
        x: Float[Tensor, "b f c h w"],
        *,
        motion: Float[Tensor, "b m hw c"] | None = None,
        speed: Float[Tensor, "b f s"] | None = None,
    ) -> Float[Tensor, "b f c h w"]:
        batch, frames, _, height, _ = x.shape
        y = self.norm(rearrange(x, "b f c h w -> (b f) c h w"))
        y = rearrange(y, "(b f) c h w -> (b h w) f c", b=batch)
        before = 0
        if motion is not None:
            before = motion.shape[1]
            y = torch.cat([rearrange(motion, "b m n c -> (b n) m c"), y], dim=1)
        y = self.proj_in(y)
        shift = sinusoids(torch.arange(float(before + frames), device=y.device), y.shape[-1]).to(
            y.dtype
        )[None]
        if self.speed is not None and speed is not None:
            pace = F.pad(self.speed(speed), (0, 0, before, 0))
            shift = shift + pace.repeat_interleave(y.shape[0] // batch, 0)
        for norm, attention in zip(self.norms, self.attentions, strict=True):
            placed = norm(y) + shift
            y = y + attention(placed)
        y = y + self.feed_forward(self.feed_forward_norm(y))
        y = self.proj_out(y[:, before:])
        return x + rearrange(y, "(b h w) f c -> b f c h w", b=batch, h=height)


class GuidanceEncoder(nn.Module):
    """Guidance maps to the first level's grid; the last convolution starts at zero (design §6, EMO's Face Locator).

    Each width after the first halves the maps' size, as the pose guiders of the open relatives do.
    """

    def __init__(self, channels: int, widths: tuple[int, ...], out: int) -> None:
        super().__init__()
        self.conv_in = nn.Conv2d(channels, widths[0], 3, padding=1)
        blocks: list[nn.Module] = []
        for inputs, outputs in itertools.pairwise(widths):
            blocks += [
                nn.Conv2d(inputs, inputs, 3, padding=1),
                nn.Conv2d(inputs, outputs, 3, 2, padding=1),
            ]
        self.blocks = nn.ModuleList(blocks)
        self.conv_out = zeroed(nn.Conv2d(widths[-1], out, 3, padding=1))

    def forward(self, maps: Float[Tensor, "n c h w"]) -> Float[Tensor, "n d g k"]:
        x = F.silu(self.conv_in(maps))
        for block in self.blocks:
            x = F.silu(block(x))
        return self.conv_out(x)
