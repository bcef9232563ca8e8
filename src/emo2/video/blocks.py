"""The blocks of stage 2's U-Net: residual, spatial with reference and audio, audio by regions, temporal.

The topology is Stable Diffusion 1.5's with AnimateDiff's temporal modules (EMO §3.2, design §6), so that public
checkpoints map onto it name by name.  Frames are folded into the batch, frame fastest, for all spatial work;
only `TemporalBlock` mixes frames.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from emo2.config import UNetConfig
from emo2.errors import UserError
from emo2.nn import Attention, FeedForward, Projected, zeroed
from emo2.video.conditions import SiteReference

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
    """Spatial self-attention with the reference, then context, then audio, then the feed-forward (EMO §3.2).

    `concat`: the reference's normalised tokens join keys and values of the self-attention.  `cross`: a
    reference-attention of its own follows the self-attention (EMO).
    """

    def __init__(self, config: UNetConfig, width: int, *, inner: int | None = None) -> None:
        super().__init__()
        outer, width = width, inner or width
        heads = config.heads
        self.norm = nn.GroupNorm(config.groups, outer, eps=TRANSFORMER_EPS)
        self.proj_in = nn.Conv2d(outer, width, 1)
        self.norm1 = nn.LayerNorm(width)
        self.self_attention = Attention(width, heads)
        self.crosses = config.reference == "cross"
        self.reference_weight = config.reference_weight
        self.unread_bias = config.unread_bias
        if self.crosses:
            self.reference_norm = nn.LayerNorm(width)
            self.reference_attention = Attention(width, heads)
        self.has_context = config.context_width > 0
        if self.has_context:
            self.context_norm = nn.LayerNorm(width)
            self.context_attention = Attention(width, heads, context_width=config.context_width)
        self.shows_context = config.feature == "context"
        self.hears = config.audio_width > 0 and not config.audio_blocks
        self.audio_weight = config.audio_weight
        if self.hears:
            self.norm2 = nn.LayerNorm(width)
            self.audio_attention = Attention(width, heads, context_width=config.audio_width)
        self.norm3 = nn.LayerNorm(width)
        self.feed_forward = FeedForward(width, gated=True)
        self.proj_out = nn.Conv2d(width, outer, 1)

    def forward(
        self,
        x: Float[Tensor, "n c h w"],
        *,
        audio: Float[Tensor, "k t a"] | None = None,
        context: Float[Tensor, "_ s e"] | None = None,
        reference: SiteReference | None = None,
    ) -> tuple[Float[Tensor, "n c h w"], Float[Tensor, "n hw d"]]:
        """The block's output and the site's feature: the normalised input of its self- (or context) attention."""
        height = x.shape[-2]
        y = rearrange(self.proj_in(self.norm(x)), "n c h w -> n (h w) c")
        feature = self.norm1(y)
        y = y + self._attend_to_self(feature, None if self.crosses else reference)
        if self.crosses and reference is not None:
            y = y + self._attend_to_reference(y, reference)
        if self.has_context and context is not None:
            looking = self.context_norm(y)
            feature = looking if self.shows_context else feature
            y = y + self.context_attention(looking, context)
        if self.hears and audio is not None:
            z = self.norm2(y[y.shape[0] - audio.shape[0] :])
            y = y + self.audio_weight * _heard(self.audio_attention, z, audio, y.shape[0])
        y = y + self.feed_forward(self.norm3(y))
        return x + self.proj_out(rearrange(y, "n (h w) c -> n c h w", h=height)), feature

    def project_reference(self, feature: Float[Tensor, "g u c"]) -> Projected:
        """Keys and values of a site's reference feature, once for all passes."""
        attention = self.reference_attention if self.crosses else self.self_attention
        return attention.project(feature)

    def _attend_to_self(self, z: Tensor, reference: SiteReference | None) -> Tensor:
        if reference is None:
            return self.self_attention(z)
        unread = reference.unread
        if reference.wasteful:
            joined = torch.cat([z, _tokens_of_all(reference, z.shape[0])], dim=1)
            every = self.self_attention(z, joined)
            return torch.cat([self.self_attention(z[:unread]), every[unread:]])
        reads = self.self_attention(z[unread:], extra=reference.tokens, order=reference.order)
        return reads if not unread else torch.cat([self.self_attention(z[:unread]), reads])

    def _attend_to_reference(self, y: Tensor, reference: SiteReference) -> Tensor:
        unread = reference.unread
        if reference.wasteful:
            tokens = _tokens_of_all(reference, y.shape[0])
            reads = self.reference_attention(self.reference_norm(y), tokens)[unread:]
        else:
            looking = self.reference_norm(y[unread:])
            reads = self.reference_attention(looking, reference.tokens, order=reference.order)
        if unread:
            nothing = torch.zeros_like(y[:unread])
            if self.unread_bias:
                nothing = nothing + self.reference_attention.to_out.bias
            reads = torch.cat([nothing, reads])
        return self.reference_weight * reads


def _tokens_of_all(reference: SiteReference, rows: int) -> Float[Tensor, "n u c"]:
    """The reference's tokens once more for every row, those that do not read it included."""
    tokens, order = reference.tokens, reference.order
    assert isinstance(tokens, Tensor)
    reading = rows - reference.unread
    if order is None:
        order = torch.arange(reading, device=tokens.device) // (reading // tokens.shape[0])
    unread = order.new_zeros(reference.unread)
    return tokens[torch.cat([unread, order])]


def _heard(attention: Attention, z: Tensor, audio: Tensor, rows: int) -> Float[Tensor, "n hw d"]:
    """Audio attention of the rows that hear; before them rows that hear zeros, whose keys and values are zero."""
    found = attention(z, audio)
    silent = rows - len(found)
    if not silent:
        return found
    bias = attention.to_out.bias.to(found)
    return torch.cat([bias.expand(silent, *found.shape[1:]), found])


class AudioBlock(nn.Module):
    """Spatial self-attention, then audio attention with a branch for every region of the picture (Hallo §3.2).

    The inner width may be narrower than the level's.
    """

    def __init__(self, config: UNetConfig, width: int, inner: int) -> None:
        super().__init__()
        heads = config.heads
        self.norm = nn.GroupNorm(config.groups, width, eps=TRANSFORMER_EPS)
        self.proj_in = nn.Conv2d(width, inner, 1)
        self.norm1 = nn.LayerNorm(inner)
        self.self_attention = Attention(inner, heads)
        self.norm2 = nn.LayerNorm(inner)
        self.audio_attentions = nn.ModuleList(
            Attention(inner, heads, context_width=config.audio_width) for _ in range(config.regions)
        )
        self.mixes = nn.ModuleList(
            zeroed(nn.Conv2d(inner, inner, 1)) for _ in range(config.regions)
        )
        self.norm3 = nn.LayerNorm(inner)
        self.feed_forward = FeedForward(inner, gated=True)
        self.proj_out = nn.Conv2d(inner, width, 1)

    def forward(
        self,
        x: Float[Tensor, "n c h w"],
        audio: Float[Tensor, "k t a"],
        *,
        regions: Float[Tensor, "n r hw"] | None,
        weights: tuple[float, ...],
    ) -> Float[Tensor, "n c h w"]:
        """`regions`: where each branch counts; None: everywhere."""
        height = x.shape[-2]
        y = rearrange(self.proj_in(self.norm(x)), "n c h w -> n (h w) c")
        y = y + self.self_attention(self.norm1(y))
        z = self.norm2(y)
        for branch, (attention, mix) in enumerate(
            zip(self.audio_attentions, self.mixes, strict=True)
        ):
            assert isinstance(attention, Attention)
            heard = _heard(attention, z[len(z) - len(audio) :], audio, len(z))
            if regions is not None:
                heard = heard * regions[:, branch, :, None]
            heard = rearrange(heard, "n (h w) c -> n c h w", h=height)
            y = y + weights[branch] * rearrange(mix(heard), "n c h w -> n (h w) c")
        y = y + self.feed_forward(self.norm3(y))
        return x + self.proj_out(rearrange(y, "n (h w) c -> n c h w", h=height))


class SpeedAttention(nn.Module):
    """The clip's frames look at its speeds: the codes of neighbouring frames, an MLP, attention along the frames.

    EMO §3.2 (speed layers). Ours: the tokens are as wide as the level and know their places, and the output starts
    at zero.
    """

    def __init__(self, codes: int, width: int, heads: int) -> None:
        super().__init__()
        self.linear_1 = nn.Linear(codes, width)
        self.linear_2 = nn.Linear(width, width)
        self.norm = nn.LayerNorm(width)
        self.attention = Attention(width, heads)
        zeroed(self.attention.to_out)

    def forward(
        self,
        y: Float[Tensor, "n f c"],
        speed: Float[Tensor, "b f s"],
        places: Float[Tensor, "1 f c"],
    ) -> Float[Tensor, "n f c"]:
        """What is added; every clip's speeds serve all cells of its grid."""
        tokens = self.linear_2(F.silu(self.linear_1(speed.to(y.dtype)))) + places
        return self.attention(self.norm(y) + places, tokens)


class TemporalBlock(nn.Module):
    """Self-attention over frames, twice, with the motion frames' features joined in front along the frame axis.

    EMO §3.2 and AnimateDiff: positions are added to the normalised input of each attention; speed as well, or by
    an attention of its own behind them (EMO). The output projection starts at zero, so that a new block leaves
    every frame of the image model as it is.
    """

    def __init__(self, config: UNetConfig, width: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(config.groups, width, eps=TRANSFORMER_EPS)
        self.norms_motion = config.motion_is_normed
        self.max_frames = config.max_frames
        self.proj_in = nn.Linear(width, width)
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(2))
        self.attentions = nn.ModuleList(Attention(width, config.heads) for _ in range(2))
        speeds = config.speed_buckets * (2 * config.audio_window + 1)
        self.speed: SpeedAttention | nn.Module | None = None
        if speeds and config.speed_layer == "cross":
            self.speed = SpeedAttention(speeds, width, config.heads)
        elif speeds:
            self.speed = zeroed(nn.Linear(speeds, width))
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
        """`speed`: the code of frames f-m..f+m, joined."""
        batch, frames, _, height, _ = x.shape
        y = rearrange(x, "b f c h w -> (b f) c h w")
        if torch.is_grad_enabled() and not y.requires_grad:
            y = (
                y.contiguous()
            )  # where nothing before learns, torch's norm crashes on channels last (2.13, CPU)
        y = self.norm(y)
        y = rearrange(y, "(b f) c h w -> (b h w) f c", b=batch)
        before = 0
        if motion is not None:
            before = motion.shape[1]
            y = torch.cat([self._motion(motion), y], dim=1)
        y = self.proj_in(y)
        places = shift = self._positions(before + frames, y)
        crosses = isinstance(self.speed, SpeedAttention)
        if self.speed is not None and speed is not None and not crosses:
            pace = F.pad(self.speed(speed), (0, 0, before, 0))
            shift = shift + pace.repeat_interleave(y.shape[0] // batch, 0)
        for norm, attention in zip(self.norms, self.attentions, strict=True):
            placed = norm(y) + shift
            y = y + attention(placed)
        y = y[:, before:]  # from here on frames no longer mix but by their speeds
        if self.speed is not None and speed is not None and crosses:
            y = y + self.speed(y, speed, places[:, before:])
        y = y + self.feed_forward(self.feed_forward_norm(y))
        y = self.proj_out(y)
        return x + rearrange(y, "(b h w) f c -> b f c h w", b=batch, h=height)

    def _motion(self, motion: Float[Tensor, "b m hw c"]) -> Float[Tensor, "bhw m c"]:
        batch = motion.shape[0]
        if self.norms_motion:
            motion = rearrange(
                self.norm(rearrange(motion, "b m n c -> (b m) c n")),
                "(b m) c n -> b m n c",
                b=batch,
            )
        return rearrange(motion, "b m n c -> (b n) m c")

    def _positions(self, count: int, y: Tensor) -> Float[Tensor, "1 f c"]:
        if self.max_frames and count > self.max_frames:
            raise UserError(
                f"{count} frames at once (motion frames included), but these weights know positions for "
                f"{self.max_frames}; give shorter windows"
            )
        places = torch.arange(float(count), device=y.device)
        return sinusoids(places, y.shape[-1]).to(y.dtype)[None]
