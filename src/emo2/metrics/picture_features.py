"""FID, FVD and LPIPS: pictures and clips through networks of the user's; resizing and windows as the field has them.

Sources: Heusel et al. 2017 and pytorch-fid (FID), Unterthiner et al. 2018 and StyleGAN-V's reading (FVD), Zhang et al.
2018 (LPIPS).  Pictures come in as everywhere in emo2: RGB in [-1, 1].
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from emo2.metrics.networks import fill, load_script, load_tensors

FID_SIDE = 299
FVD_SIDE = 224
WINDOW = 16
"""Frames of a clip of FVD."""
_BATCH = 8
_SHIFT, _SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)
"""LPIPS' own colours."""


def inception_input(frames: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n 3 299 299"]:
    """pytorch-fid's resizing: bilinear without antialiasing; values 0 to 255 as the TorchScript wants them."""
    small = functional.interpolate(
        frames, (FID_SIDE, FID_SIDE), mode="bilinear", align_corners=False
    )
    return (small + 1) * 127.5


def inception_features(
    frames: Iterable[Float[Tensor, "3 h w"]], path: Path
) -> Float[Tensor, "n d"]:
    """The pool3 row of every frame."""
    module = load_script(path)
    rows = [
        module(inception_input(torch.stack(batch)), return_features=True).flatten(1)
        for batch in _batches(frames, _BATCH)
    ]
    return torch.cat(rows) if rows else torch.zeros(0, 1)


def fvd_input(clip: Float[Tensor, "t 3 h w"]) -> Float[Tensor, "3 t 224 224"]:
    """Short side to 224, bilinear, then the middle square (StyleGAN-V's input, in [-1, 1])."""
    height, width = clip.shape[-2:]
    scale = FVD_SIDE / min(height, width)
    size = (
        (FVD_SIDE, math.ceil(width * scale)) if height < width else (math.ceil(height * scale), FVD_SIDE)
    )  # fmt: skip
    sized = functional.interpolate(clip, size, mode="bilinear", align_corners=False)
    top, left = (size[0] - FVD_SIDE) // 2, (size[1] - FVD_SIDE) // 2
    return sized[..., top : top + FVD_SIDE, left : left + FVD_SIDE].transpose(0, 1).contiguous()


def i3d_features(frames: Iterable[Float[Tensor, "3 h w"]], path: Path) -> Float[Tensor, "n d"]:
    """The 400 numbers before the softmax of every whole window of 16 frames, one after the other."""
    module = load_script(path)
    rows = []
    for window in _batches(frames, WINDOW):
        if len(window) == WINDOW:
            clip = fvd_input(torch.stack(window))[None]
            rows.append(module(clip, rescale=False, resize=False, return_features=True).flatten(1))
    return torch.cat(rows) if rows else torch.zeros(0, 1)


class Lpips(nn.Module):
    """LPIPS 0.1 on AlexNet: unit-length features, squared differences, a learned weight a channel."""

    WIDTHS = (64, 192, 384, 256, 256)

    def __init__(self) -> None:
        super().__init__()
        shapes = ((3, 11, 4, 2), (64, 5, 1, 2), (192, 3, 1, 1), (384, 3, 1, 1), (256, 3, 1, 1))
        self.layers = nn.ModuleList(
            nn.Conv2d(before, width, kernel, stride, padding)
            for (before, kernel, stride, padding), width in zip(shapes, self.WIDTHS, strict=True)
        )
        self.heads = nn.ParameterList(torch.zeros(1, width, 1, 1) for width in self.WIDTHS)

    @classmethod
    def load(cls, trunk: Path, heads: Path) -> Lpips:
        """From torchvision's AlexNet and the heads of the LPIPS package."""
        found, weights = load_tensors(trunk), load_tensors(heads)
        state = {
            f"layers.{ours}.{part}": found[f"features.{theirs}.{part}"]
            for ours, theirs in enumerate((0, 3, 6, 8, 10))
            for part in ("weight", "bias")
            if f"features.{theirs}.{part}" in found
        }
        for name, tensor in weights.items():
            if name.startswith("lin") and name.endswith("model.1.weight"):
                state[f"heads.{name[3]}"] = tensor
        module = cls()
        fill(module, state, trunk)
        return module.eval()

    def features(self, image: Float[Tensor, "n 3 h w"]) -> list[Tensor]:
        """Rectified outputs of the five layers, each pixel's made one long."""
        shift = torch.tensor(_SHIFT).view(1, 3, 1, 1)
        x = (image - shift) / torch.tensor(_SCALE).view(1, 3, 1, 1)
        found = []
        for index, layer in enumerate(self.layers):
            if index in (1, 2):
                x = functional.max_pool2d(x, 3, 2)
            x = layer(x).relu()
            found.append(x / (x.square().sum(1, keepdim=True).sqrt() + 1e-10))
        return found

    @torch.inference_mode()
    def forward(
        self, first: Float[Tensor, "n 3 h w"], second: Float[Tensor, "n 3 h w"]
    ) -> Float[Tensor, " n"]:
        """Distance of pictures in [-1, 1]: maps of all layers at the picture's size, added, then their mean."""
        size, total = first.shape[-2:], torch.zeros(len(first))
        for a, b, head in zip(self.features(first), self.features(second), self.heads, strict=True):
            gap = ((a - b) ** 2 * head).sum(1, keepdim=True)
            full = functional.interpolate(gap, size, mode="bilinear", align_corners=False)
            total = total + full.mean((1, 2, 3))
        return total


def _batches(frames: Iterable[Tensor], size: int) -> Iterator[list[Tensor]]:
    held: list[Tensor] = []
    for frame in frames:
        held.append(frame)
        if len(held) == size:
            yield held
            held = []
    if held:
        yield held
