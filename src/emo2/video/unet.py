"""The U-Net of stage 2: one class for the reference network and for the denoiser (EMO §3.2, design §6).

Reference features go in and come out as arguments: `forward` returns, beside its output, the normalised inputs of
its spatial attentions, one per site in a fixed order; another pass takes such a list.  Pairing is by position and
checked by shape.  The motion frames' features travel the same way and join the temporal modules.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float, Num
from torch import Tensor, nn

from emo2.config import UNetConfig
from emo2.nn import TimeEmbedding, zeroed
from emo2.video.blocks import GuidanceEncoder, ResidualBlock, SpatialBlock, TemporalBlock

Features = tuple[Float[Tensor, "b _ _ _"], ...]
"""One tensor per spatial attention: normalised tokens of every frame."""


@dataclass(frozen=True, kw_only=True)
class FrameConditions:
    """What is known of each frame of the clip; every part may be missing."""

    audio: Float[Tensor, "b f n a"] | None = None
    """Audio tokens: the feature rows of frames f-m..f+m, layer by layer (`audio_tokens`)."""
    hints: Float[Tensor, "b f k"] | None = None
    """Condition vector, added to the time embedding."""
    speed: Float[Tensor, "b f s"] | None = None
    """Speed buckets (`speed_code`)."""
    maps: Float[Tensor, "b f c h w"] | None = None
    """Guidance maps, at 2^(len(guidance_widths)-1) times the latent grid."""
    confidence: Float[Tensor, "b f 2"] | None = None
    """How much each hand of the guidance maps is to be believed, 0..1."""

    def part(self, part: slice, guidance: FrameConditions) -> FrameConditions:
        """The conditions of some of the frames, with their guidance maps."""

        def cut(values: Tensor | None) -> Tensor | None:
            return None if values is None else values[:, part]

        return FrameConditions(
            audio=cut(self.audio),
            hints=cut(self.hints),
            speed=cut(self.speed),
            maps=guidance.maps,
            confidence=guidance.confidence,
        )


def audio_tokens(values: Float[Tensor, "b f layers a"], window: int) -> Float[Tensor, "b f n a"]:
    """Join the rows of frames f-m..f+m as tokens, borders repeated (EMO §3.2: A_gen(f), m = `window`)."""
    frames = values.shape[1]
    index = torch.arange(frames)[:, None] + torch.arange(-window, window + 1)
    joined = values[:, index.clamp(0, frames - 1).to(values.device)]
    return rearrange(joined, "b f m layers a -> b f (m layers) a")


class Layer(nn.Module):
    """One step of a level: residual block, spatial attention where the level has it, temporal module."""

    def __init__(self, config: UNetConfig, inputs: int, width: int, *, attends: bool) -> None:
        super().__init__()
        self.residual = ResidualBlock(inputs, width, 4 * config.widths[0], config.groups)
        self.spatial = spatial_block(config, width) if attends else None
        self.temporal = temporal_block(config, width) if config.temporal else None

    def forward(self, x: Tensor, time: Tensor, clip: _Clip) -> Tensor:
        x = self.residual(x, time)
        features = None
        if self.spatial is not None:
            x, features = clip.attend(self.spatial, x)
        if self.temporal is not None:
            x = clip.mix_frames(self.temporal, x, sees_motion=features is not None)
        return x


class Middle(nn.Module):
    """The lowest level: residual block, spatial attention, temporal module, residual block."""

    def __init__(self, config: UNetConfig) -> None:
        super().__init__()
        width = config.widths[-1]
        self.first = Layer(config, width, width, attends=any(config.attention))
        self.second = ResidualBlock(width, width, 4 * config.widths[0], config.groups)

    def forward(self, x: Tensor, time: Tensor, clip: _Clip) -> Tensor:
        return self.second(self.first(x, time, clip), time)


def spatial_block(config: UNetConfig, width: int) -> SpatialBlock:
    """A spatial block of the config's kind."""
    return SpatialBlock(
        width,
        config.heads,
        config.groups,
        reference=config.reference,
        audio_width=config.audio_width,
    )


def temporal_block(config: UNetConfig, width: int) -> TemporalBlock:
    """A temporal block of the config's kind; its speed code is that of frames f-m..f+m."""
    speed_width = config.speed_buckets * (2 * config.audio_window + 1)
    return TemporalBlock(width, config.heads, config.groups, speed_width=speed_width)


class UNet(nn.Module):
    """Stable Diffusion 1.5's U-Net at any size, with reference, audio, motion frames, speed and guidance."""

    def __init__(self, config: UNetConfig) -> None:
        super().__init__()
        self.config = config
        widths = config.widths
        channels = (config.in_channels, *config.stem)
        self.stem = nn.ModuleList(
            nn.Conv2d(i, o, 3, 2, padding=1) for i, o in itertools.pairwise(channels)
        )
        self.conv_in = nn.Conv2d(channels[-1], widths[0], 3, padding=1)
        self.time = TimeEmbedding(4 * widths[0], sinusoids=widths[0])
        hints = config.condition_width
        self.hints = zeroed(nn.Linear(hints, 4 * widths[0])) if hints else None
        self.confidence = zeroed(nn.Linear(2, 4 * widths[0])) if config.hand_confidence else None
        self.guidance = (
            GuidanceEncoder(config.guidance_channels, config.guidance_widths, widths[0])
            if config.guidance_channels
            else None
        )
        self.down = nn.ModuleList()
        self.downsamplers = nn.ModuleList()
        skips = [widths[0]]
        for level, width in enumerate(widths):
            inputs = [widths[max(level - 1, 0)]] + [width] * (config.layers - 1)
            attends = config.attention[level]
            self.down.append(
                nn.ModuleList(Layer(config, i, width, attends=attends) for i in inputs)
            )
            skips += [width] * config.layers
            if level + 1 < len(widths):
                self.downsamplers.append(nn.Conv2d(width, width, 3, 2, padding=1))
                skips.append(width)
        self.middle = Middle(config)
        self.up = nn.ModuleList()
        self.upsamplers = nn.ModuleList()
        current = widths[-1]
        for level in reversed(range(len(widths))):
            layers = nn.ModuleList()
            for _ in range(config.layers + 1):
                layers.append(
                    Layer(
                        config,
                        current + skips.pop(),
                        widths[level],
                        attends=config.attention[level],
                    )
                )
                current = widths[level]
            self.up.append(layers)
            if level:
                self.upsamplers.append(nn.Conv2d(current, current, 3, padding=1))
        self.norm_out = nn.GroupNorm(config.groups, widths[0], eps=1e-5)
        kernel = config.out_kernel
        self.conv_out = nn.Conv2d(widths[0], config.out_channels, kernel, padding=kernel // 2)

    def forward(
        self,
        x: Float[Tensor, "b f c h w"],
        time: Num[Tensor, " b"],
        *,
        frames: FrameConditions | None = None,
        reference: Sequence[Float[Tensor, "b _ _"]] | None = None,
        motion: Features | None = None,
    ) -> tuple[Float[Tensor, "b f o _ _"], tuple[Tensor, ...]]:
        """The network's output, and the features of its spatial attentions (all frames, in order of the sites)."""
        frames = frames or FrameConditions()
        batch, count = x.shape[:2]
        clip = _Clip(self.config, count, frames, reference, motion)
        embedding = self._embed(time, count, frames)
        y = rearrange(x, "b f c h w -> (b f) c h w")
        for conv in self.stem:
            y = F.silu(conv(y))
        y = self.conv_in(y)
        if self.guidance is not None and frames.maps is not None:
            y = y + self.guidance(rearrange(frames.maps, "b f c h w -> (b f) c h w"))
        y = self._down_and_up(y, embedding, clip)
        clip.finish()
        y = self.conv_out(F.silu(self.norm_out(y)))
        return rearrange(y, "(b f) c h w -> b f c h w", b=batch), tuple(clip.features)

    def _down_and_up(self, y: Tensor, embedding: Tensor, clip: _Clip) -> Tensor:
        skips = [y]
        for level, layers in enumerate(self.down):
            for layer in _layers(layers):
                y = layer(y, embedding, clip)
                skips.append(y)
            if level < len(self.downsamplers):
                y = self.downsamplers[level](y)
                skips.append(y)
        y = self.middle(y, embedding, clip)
        for level, layers in enumerate(self.up):
            for layer in _layers(layers):
                y = layer(torch.cat([y, skips.pop()], dim=1), embedding, clip)
            if level < len(self.upsamplers):
                y = F.interpolate(y, size=skips[-1].shape[-2:], mode="nearest")
                y = self.upsamplers[level](y)
        return y

    def _embed(self, time: Tensor, count: int, frames: FrameConditions) -> Float[Tensor, "n d"]:
        embedding = self.time(time.float())[:, None].expand(-1, count, -1)
        if self.hints is not None and frames.hints is not None:
            embedding = embedding + self.hints(frames.hints)
        if self.confidence is not None and frames.confidence is not None:
            embedding = embedding + self.confidence(frames.confidence)
        return rearrange(embedding, "b f d -> (b f) d")


class _Clip:
    """One forward pass's conditions, handed from layer to layer; collects the features as the sites are passed."""

    def __init__(
        self,
        config: UNetConfig,
        count: int,
        frames: FrameConditions,
        reference: Sequence[Tensor] | None,
        motion: Features | None,
    ) -> None:
        self.count = count
        self.reference = reference
        self.motion = motion
        self.audio = (
            None if frames.audio is None else rearrange(frames.audio, "b f n a -> (b f) n a")
        )
        self.speed = (
            None if frames.speed is None else _join_neighbours(frames.speed, config.audio_window)
        )
        self.features: list[Tensor] = []

    def attend(self, block: SpatialBlock, x: Tensor) -> tuple[Tensor, Tensor]:
        site = len(self.features)
        reference = self._feature("reference", self.reference, site, x.shape[1])
        x, feature = block(x, audio=self.audio, reference=reference)
        self.features.append(rearrange(feature, "(b f) n d -> b f n d", f=self.count))
        return x, feature

    def mix_frames(self, block: TemporalBlock, x: Tensor, *, sees_motion: bool) -> Tensor:
        motion = None
        if sees_motion:
            motion = self._feature("motion", self.motion, len(self.features) - 1, x.shape[1])
            if motion is not None and motion.shape[2] != x.shape[-2] * x.shape[-1]:
                raise ValueError(
                    f"motion feature {len(self.features) - 1} has {motion.shape[2]} tokens, its site "
                    f"{x.shape[-2] * x.shape[-1]}; compute it at the denoiser's grid"
                )
        frames = rearrange(x, "(b f) c h w -> b f c h w", f=self.count)
        return rearrange(block(frames, motion=motion, speed=self.speed), "b f c h w -> (b f) c h w")

    def finish(self) -> None:
        """Every given feature must have met its site."""
        for name, given in (("reference", self.reference), ("motion", self.motion)):
            if given is not None and len(given) != len(self.features):
                raise ValueError(
                    f"{len(given)} {name} features for {len(self.features)} attention sites"
                )

    @staticmethod
    def _feature(name: str, given: Sequence[Tensor] | None, site: int, width: int) -> Tensor | None:
        if given is None:
            return None
        if site >= len(given):
            raise ValueError(f"{len(given)} {name} features, but there is an attention site {site}")
        if given[site].shape[-1] != width:
            raise ValueError(
                f"{name} feature {site} is {given[site].shape[-1]} wide, its site {width}"
            )
        return given[site]


def _join_neighbours(speed: Float[Tensor, "b f s"], window: int) -> Float[Tensor, "b f ms"]:
    return rearrange(audio_tokens(speed[:, :, None], window), "b f m s -> b f (m s)")


def _layers(layers: nn.Module) -> Iterator[Layer]:
    for layer in layers.children():
        assert isinstance(layer, Layer)
        yield layer
