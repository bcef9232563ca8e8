"""The networks of the portrait finder: one for whole pictures, one for crops about a face or a hand.

Both are one shape: a convolutional pyramid down to 1/16 and back up to 1/4 of the input, with heat maps
on top.  They stand before the two stages of the flow and are our own (no paper describes them).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from emo2.config import FinderConfig
from emo2.signals import BODY_POINTS

STRIDE = 4
"""Input pixels a cell of every map."""
FACE_POINTS = 68
HAND_POINTS = 21
PARTS = 9
"""background, torso, head, left upper arm, forearm, hand, and the same three on the right"""
PARTS_AT = 0.5
"""Where a cell's part is told, input pixels from its corner: labels are taken by OpenCV's nearest, which is the first."""
_GROUPS = 8


class SceneMaps(NamedTuple):
    """What the whole-picture network says, on a grid of a quarter of its input."""

    face: Float[Tensor, "b 1 h w"]
    """Logit that a face has its centre here."""
    face_size: Float[Tensor, "b 1 h w"]
    """Log of the side of the face whose centre is here, in input pixels."""
    body: Float[Tensor, "b 8 h w"]
    """Logits of the `BODY_POINTS`."""
    hand: Float[Tensor, "b 2 h w"]
    """Logits of the centres of left and right hands."""
    hand_size: Float[Tensor, "b 2 h w"]
    parts: Float[Tensor, "b 9 h w"]
    """Logits of what the first pixel of a cell shows (`PARTS_AT`)."""


class CropMaps(NamedTuple):
    """What a crop network says: one heat map a point, in logits, and whether the thing is there."""

    points: Float[Tensor, "b points h w"]
    present: Float[Tensor, " b"]
    masks: Float[Tensor, "b masks h w"]


class Residual(nn.Module):
    """Two 3x3 convolutions beside a shortcut."""

    def __init__(self, before: int, after: int, stride: int = 1) -> None:
        super().__init__()
        self.conv_1 = nn.Conv2d(before, after, 3, stride, 1, bias=False)
        self.norm_1 = nn.GroupNorm(_GROUPS, after)
        self.conv_2 = nn.Conv2d(after, after, 3, 1, 1, bias=False)
        self.norm_2 = nn.GroupNorm(_GROUPS, after)
        self.shortcut = (
            nn.Identity()
            if before == after and stride == 1
            else nn.Conv2d(before, after, 1, stride)
        )

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d h2 w2"]:
        hidden = functional.silu(self.norm_1(self.conv_1(x)))
        return functional.silu(self.shortcut(x) + self.norm_2(self.conv_2(hidden)))


class Pyramid(nn.Module):
    """Pixels to features at a quarter of their resolution that know the whole input."""

    def __init__(self, config: FinderConfig) -> None:
        super().__init__()
        half, quarter, eighth, deep = config.widths
        self.stem = nn.Sequential(
            nn.Conv2d(3, half, 5, 2, 2, bias=False), nn.GroupNorm(_GROUPS, half), nn.SiLU()
        )
        self.quarter = Residual(half, quarter, 2)
        self.eighth = nn.Sequential(Residual(quarter, eighth, 2), Residual(eighth, eighth))
        self.deep = nn.Sequential(Residual(eighth, deep, 2), Residual(deep, deep))
        self.whole = nn.Linear(deep, deep)
        self.join_eighth = nn.Conv2d(deep, eighth, 1)
        self.up_eighth = Residual(eighth, eighth)
        self.join_quarter = nn.Conv2d(eighth, quarter, 1)
        self.up_quarter = Residual(quarter, quarter)

    def forward(
        self, x: Float[Tensor, "b 3 h w"]
    ) -> tuple[Float[Tensor, "b c h2 w2"], Float[Tensor, "b d"]]:
        quarter = self.quarter(self.stem(x))
        eighth = self.eighth(quarter)
        deep = self.deep(eighth)
        summary = deep.mean((2, 3))
        deep = deep + self.whole(summary)[:, :, None, None]
        eighth = self.up_eighth(eighth + _double(self.join_eighth(deep)))
        return self.up_quarter(quarter + _double(self.join_quarter(eighth))), summary


class SceneNet(nn.Module):
    """The whole picture: every face, the body's points, where the hands are, and which part is where."""

    def __init__(self, config: FinderConfig) -> None:
        super().__init__()
        self.pyramid = Pyramid(config)
        self.sizes = [1, 1, len(BODY_POINTS), 2, 2, PARTS]
        # almost every cell is empty, and faces are tens of pixels wide: say so from the start
        usual = (-4.0, 3.5, -4.0, -4.0, 3.5, 0.0)
        start = [v for v, n in zip(usual, self.sizes, strict=True) for _ in range(n)]
        self.head = _head(config.widths[1], torch.tensor(start))

    def forward(self, x: Float[Tensor, "b 3 h w"]) -> SceneMaps:
        features, _ = self.pyramid(x)
        return SceneMaps(*self.head(features).split(self.sizes, 1))


class CropNet(nn.Module):
    """A square crop around one face or one hand: its points and masks."""

    def __init__(self, config: FinderConfig, points: int, masks: int) -> None:
        super().__init__()
        self.pyramid = Pyramid(config)
        self.sizes = [points, masks]
        self.head = _head(config.widths[1], torch.zeros(points + masks))
        self.present = nn.Linear(config.widths[3], 1)

    def forward(self, x: Float[Tensor, "b 3 h w"]) -> CropMaps:
        features, summary = self.pyramid(x)
        points, masks = self.head(features).split(self.sizes, 1)
        return CropMaps(points, self.present(summary)[:, 0], masks)


def positions(
    logits: Float[Tensor, "b points h w"], *, sharpness: float = 1.0
) -> tuple[Float[Tensor, "b points 2"], Float[Tensor, "b points"]]:
    """Expected (x, y) of each heat map in input pixels, and its spread (standard deviation) in pixels.

    A `sharpness` above 1 lets the peak count for more than far-off doubts, which draw to the middle.
    """
    height, width = logits.shape[-2:]
    weight = (sharpness * logits.float()).flatten(2).softmax(-1).unflatten(-1, (height, width))
    x = torch.arange(width, device=logits.device) + 0.5
    y = torch.arange(height, device=logits.device) + 0.5
    across, down = weight.sum(-2), weight.sum(-1)
    centre_x, centre_y = (across * x).sum(-1), (down * y).sum(-1)
    variance = (across * (x - centre_x[..., None]) ** 2).sum(-1)
    variance = variance + (down * (y - centre_y[..., None]) ** 2).sum(-1)
    return torch.stack([centre_x, centre_y], -1) * STRIDE, variance.clamp_min(0).sqrt() * STRIDE


def _head(before: int, start: Float[Tensor, " after"]) -> nn.Sequential:
    """The last layers of a network; `start` is what they say before they have learned anything."""
    last = nn.Conv2d(before, len(start), 1)
    with torch.no_grad():
        assert last.bias is not None
        last.bias.copy_(start)
    return nn.Sequential(
        nn.Conv2d(before, before, 3, 1, 1, bias=False),
        nn.GroupNorm(_GROUPS, before),
        nn.SiLU(),
        last,
    )


def _double(x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h2 w2"]:
    return functional.interpolate(x, scale_factor=2.0, mode="nearest")
