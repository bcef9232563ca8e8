"""The U-Net of stage 2: one class for the reference network and for the denoiser (EMO §3.2, design §6).

Reference features go in and come out as arguments: `forward` returns, beside its output, the normalised inputs of
its spatial attentions, one per site in a fixed order; another pass takes such a list.  Pairing is by position and
checked by shape.  The motion frames' features travel the same way and join the temporal modules.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float, Num
from torch import Tensor, nn

from emo2.config import UNetConfig
from emo2.nn import Projected, TimeEmbedding, zeroed
from emo2.video.blocks import AudioBlock, ResidualBlock, SpatialBlock, TemporalBlock
from emo2.video.conditions import Features, FrameConditions, Passing, Reference
from emo2.video.guiders import guidance_encoder

MIDDLE = -1
"""The middle's level: as the last one, with attention if any level has it."""


class Layer(nn.Module):
    """One step of a level: residual block, then, where the level has them: spatial attention, audio transformer,
    temporal module."""

    def __init__(self, config: UNetConfig, inputs: int, level: int, *, audio_inner: int) -> None:
        super().__init__()
        width = config.widths[level]
        self.level = level
        self.residual = ResidualBlock(inputs, width, 4 * config.widths[0], config.groups)
        self.spatial = SpatialBlock(config, width) if _attends(config, level) else None
        self.audio = AudioBlock(config, width, audio_inner) if audio_inner else None
        self.temporal = TemporalBlock(config, width) if config.temporal else None
        self.temporal_idle = config.temporal_idle and self.spatial is None
        self.sees_motion = self.spatial is not None and (
            level == MIDDLE or not config.motion_in_middle_only
        )

    def forward(self, x: Tensor, time: Tensor, clip: Passing) -> Tensor:
        x = self.residual(x, time)
        if self.spatial is not None:
            reference = clip.site_reference(x.shape[1])
            x, feature = self.spatial(
                x, audio=clip.audio, context=clip.context, reference=reference
            )
            clip.passed(feature)
        if self.audio is not None and clip.audio is not None:
            x = self.audio(
                x,
                clip.audio,
                regions=clip.region(self.level, x.shape[0]),
                weights=clip.region_weights if self.sees_motion else (1.0,) * len(self.audio.mixes),
            )
        if self.temporal is not None and not self.temporal_idle:
            motion = clip.motion_feature(x) if self.sees_motion else None
            frames = rearrange(x, "(b f) c h w -> b f c h w", f=clip.count)
            frames = self.temporal(frames, motion=motion, speed=clip.speed)
            x = rearrange(frames, "b f c h w -> (b f) c h w")
        return x


class Middle(nn.Module):
    """The lowest level: residual block, spatial attention, temporal module, residual block."""

    def __init__(self, config: UNetConfig, *, audio_inner: int) -> None:
        super().__init__()
        width = config.widths[-1]
        self.first = Layer(config, width, MIDDLE, audio_inner=audio_inner)
        self.second = ResidualBlock(width, width, 4 * config.widths[0], config.groups)

    def forward(self, x: Tensor, time: Tensor, clip: Passing) -> Tensor:
        return self.second(self.first(x, time, clip), time)


def _attends(config: UNetConfig, level: int) -> bool:
    return any(config.attention) if level == MIDDLE else config.attention[level]


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
        self.guidance = guidance_encoder(config)
        inner = iter(_audio_inner(config))
        self.down = nn.ModuleList()
        self.downsamplers = nn.ModuleList()
        skips = [widths[0]]
        for level, width in enumerate(widths):
            inputs = [widths[max(level - 1, 0)]] + [width] * (config.layers - 1)
            layers = [Layer(config, i, level, audio_inner=next(inner)) for i in inputs]
            self.down.append(nn.ModuleList(layers))
            skips += [width] * config.layers
            if level + 1 < len(widths):
                self.downsamplers.append(nn.Conv2d(width, width, 3, 2, padding=1))
                skips.append(width)
        self.middle = Middle(config, audio_inner=next(inner))
        self.up = nn.ModuleList()
        self.upsamplers = nn.ModuleList()
        current = widths[-1]
        for level in reversed(range(len(widths))):
            layers = []
            for _ in range(config.layers + 1):
                inputs = current + skips.pop()
                layers.append(Layer(config, inputs, level, audio_inner=next(inner)))
                current = widths[level]
            self.up.append(nn.ModuleList(layers))
            if level:
                self.upsamplers.append(nn.Conv2d(current, current, 3, padding=1))
        head, kernel = config.out_channels, config.out_kernel
        has_norm = head and config.out_norm
        self.norm_out = nn.GroupNorm(config.groups, widths[0], eps=1e-5) if has_norm else None
        self.conv_out = nn.Conv2d(widths[0], head, kernel, padding=kernel // 2) if head else None

    def forward(
        self,
        x: Float[Tensor, "b f c h w"],
        time: Num[Tensor, " b"],
        *,
        frames: FrameConditions | None = None,
        reference: Sequence[Float[Tensor, "_ _ _"]] | Reference | None = None,
        motion: Features | None = None,
    ) -> tuple[Float[Tensor, "b f o _ _"], Features]:
        """The network's output, and the features of its spatial attentions (all frames, in order of the sites).

        A network that reads a reference keeps no features; one without a head puts out its last level.
        """
        frames = frames or FrameConditions()
        batch, count = x.shape[:2]
        clip = Passing(self.config, count, frames, reference, motion)
        embedding = self._embed(time, count, frames)
        y = rearrange(x, "b f c h w -> (b f) c h w")
        for conv in self.stem:
            y = F.silu(conv(y))
        y = self._down_and_up(self.conv_in(y), embedding, clip, self._guidance(frames, count))
        clip.finish()
        if self.conv_out is not None:
            y = self.conv_out(F.silu(y if self.norm_out is None else self.norm_out(y)))
        return rearrange(y, "(b f) c h w -> b f c h w", b=batch), tuple(clip.features)

    @property
    def head(self) -> nn.Conv2d:
        """The last convolution of a network that has one."""
        assert self.conv_out is not None
        return self.conv_out

    def guide(self, maps: Float[Tensor, "b f c h w"]) -> tuple[Float[Tensor, "b f _ _ _"], ...]:
        """Guidance maps encoded, for `FrameConditions.guidance`: once for many passes."""
        if self.guidance is None:
            raise ValueError("this network has no guidance encoder")
        features = self.guidance(rearrange(maps, "b f c h w -> (b f) c h w"))
        return tuple(rearrange(x, "(b f) c h w -> b f c h w", b=maps.shape[0]) for x in features)

    def project(self, features: Sequence[Float[Tensor, "g _ _"]]) -> tuple[Projected, ...]:
        """Keys and values of a reference's features, for `Reference.sites`: once for many passes."""
        blocks = [layer.spatial for layer in self.modules() if isinstance(layer, Layer)]
        blocks = [block for block in blocks if block is not None]
        return tuple(b.project_reference(f) for b, f in zip(blocks, features, strict=True))

    def _guidance(self, frames: FrameConditions, count: int) -> tuple[Tensor, ...]:
        """What is added after the first convolution and behind the levels on the way down."""
        if self.guidance is None:
            return ()
        features = frames.guidance
        if features is None:
            features = () if frames.maps is None else self.guide(frames.maps)
        return tuple(
            rearrange(x.expand(-1, count, -1, -1, -1), "b f c h w -> (b f) c h w") for x in features
        )

    def _down_and_up(
        self, y: Tensor, embedding: Tensor, clip: Passing, guidance: tuple[Tensor, ...]
    ) -> Tensor:
        if guidance:
            y = y + guidance[0]
        skips = [y]
        for level, layers in enumerate(self.down):
            for layer in _layers(layers):
                y = layer(y, embedding, clip)
                skips.append(y)
            if level < len(self.downsamplers):
                y = self.downsamplers[level](y)
                skips.append(y)
            if level + 1 < len(guidance):
                y = y + guidance[level + 1]
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


def _audio_inner(config: UNetConfig) -> list[int]:
    """Inner width of every layer's audio transformer, in the order of the layers; 0: none."""
    levels = range(len(config.widths))
    down = [level for level in levels for _ in range(config.layers)]
    up = [level for level in reversed(levels) for _ in range(config.layers + 1)]
    attends = [_attends(config, level) for level in (*down, MIDDLE, *up)]
    if config.audio_blocks and len(config.audio_blocks) != sum(attends):
        raise ValueError(f"{len(config.audio_blocks)} audio transformers for {sum(attends)} sites")
    widths = iter(config.audio_blocks)
    return [next(widths, 0) if has else 0 for has in attends]


def _layers(layers: nn.Module) -> Iterator[Layer]:
    for layer in layers.children():
        assert isinstance(layer, Layer)
        yield layer
