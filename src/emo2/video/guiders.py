"""Guidance maps to features of the latent grid: the encoders of hand surface, key points and face region.

EMO's Face Locator, the pose guiders of the open relatives, and AniPortrait's guider of several scales.  Each puts
out one feature for every place where the U-Net adds one: after its first convolution, and (several scales) behind
every level on the way down.
"""

from __future__ import annotations

import itertools

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from emo2.config import UNetConfig
from emo2.nn import zeroed
from emo2.video.blocks import SpatialBlock

Scales = tuple[Float[Tensor, "n _ _ _"], ...]
Convolution = tuple[int, int, int, int]
"""Channels in, channels out, kernel, stride."""


def guidance_encoder(config: UNetConfig) -> nn.Module | None:
    """The encoder a config asks for."""
    if not config.guidance_channels:
        return None
    if config.guidance_heads:
        return ScaledEncoder(config)
    if config.guidance_split:
        return SplitEncoder(config)
    return GuidanceEncoder(config.guidance_channels, config.guidance_widths, config.widths[0])


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

    def forward(self, maps: Float[Tensor, "n c h w"]) -> Scales:
        x = F.silu(self.conv_in(maps))
        for block in self.blocks:
            x = F.silu(block(x))
        return (self.conv_out(x),)


class SplitEncoder(nn.Module):
    """An encoder for every map, and the sum of what they say (EMO2 fig. 3: hands and key points; EMO: face region)."""

    def __init__(self, config: UNetConfig) -> None:
        super().__init__()
        self.split = config.guidance_split
        if sum(self.split) != config.guidance_channels:
            raise ValueError(f"{self.split} is no split of {config.guidance_channels} channels")
        self.encoders = nn.ModuleList(
            GuidanceEncoder(channels, config.guidance_widths, config.widths[0])
            for channels in self.split
        )

    def forward(self, maps: Float[Tensor, "n c h w"]) -> Scales:
        parts = maps.split(self.split, dim=1)
        said = [encode(part)[0] for encode, part in zip(self.encoders, parts, strict=True)]
        return (torch.stack(said).sum(0),)


class FrameNorm(nn.BatchNorm2d):
    """Batch normalisation by the frames at hand, or by stored statistics; it never learns any (AniPortrait)."""

    def __init__(self, width: int, *, of_the_batch: bool) -> None:
        super().__init__(width, eps=1e-5)
        self.of_the_batch = of_the_batch

    def forward(self, input: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
        if self.of_the_batch:
            return F.batch_norm(input, None, None, self.weight, self.bias, training=True)
        mean, var = self.running_mean, self.running_var
        return F.batch_norm(input, mean, var, self.weight, self.bias, training=False, eps=self.eps)


class ScaledEncoder(nn.Module):
    """AniPortrait's guider: one feature for the first convolution and one for each level, with self-attention."""

    def __init__(self, config: UNetConfig) -> None:
        super().__init__()
        widths, levels = config.guidance_widths, config.widths
        self.of_the_batch = config.guidance_batch_norm
        channels = config.guidance_channels
        steps = [(channels, channels, 3, 1)]
        for inputs, outputs in itertools.pairwise((channels, *widths[:-1])):
            steps += [(inputs, outputs, 4, 2), (outputs, outputs, 3, 1)]
        self.first = self._convolutions([*steps, (widths[-2], widths[-1], 3, 1)])
        self.project = nn.Conv2d(widths[-1], levels[0], 1)
        self.scale = nn.Parameter(torch.ones(1))
        inner = config.guidance_heads * config.guidance_head_width
        plain = UNetConfig(
            in_channels=0, out_channels=0, heads=config.guidance_heads, groups=config.groups
        )
        self.stages = nn.ModuleList()
        self.attentions = nn.ModuleList()
        for inputs, outputs in itertools.pairwise((levels[0], *levels)):
            last = len(self.stages) + 1 == len(levels)
            steps = [(inputs, inputs, 3, 1), (inputs, outputs, 3, 2)]
            self.stages.append(self._convolutions([(inputs, outputs, 3, 1)] if last else steps))
            self.attentions.append(SpatialBlock(plain, outputs, inner=inner))

    def _convolutions(self, steps: list[Convolution]) -> nn.Sequential:
        layers: list[nn.Module] = []
        for inputs, outputs, kernel, stride in steps:
            layers += [
                nn.Conv2d(inputs, outputs, kernel, stride, padding=1),
                FrameNorm(outputs, of_the_batch=self.of_the_batch),
                nn.ReLU(),
            ]
        return nn.Sequential(*layers)

    def forward(self, maps: Float[Tensor, "n c h w"]) -> Scales:
        x = self.project(self.first(maps)) * self.scale
        features = [x]
        for stage, attention in zip(self.stages, self.attentions, strict=True):
            x, _ = attention(stage(x))
            features.append(x)
        return tuple(features)
