"""Where forearms and hands are, to the pixel: the networks' coarse masks, sharpened by the picture's own edges."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from emo2.portrait.looking import Hand, Scene
from emo2.portrait.network import PARTS_AT, STRIDE

_GUIDE_SIDE = 640
"""The picture's long side while masks are sharpened."""
_FOREARMS = (4, 7)
"""Their numbers among the parts: left, right."""
_TRUNK, _ARMS = (1, 2), ((3, 4, 5), (6, 7, 8))
"""Torso and head; upper arm, forearm and hand, left and right."""


def limb_masks(
    image: Float[Tensor, "3 h w"],
    scene: Scene,
    hands: Sequence[Hand | None],
    present: tuple[bool, bool],
) -> Float[Tensor, "4 h w"]:
    """Left forearm with sleeve, left hand, right forearm, right hand, 0..1; zero where a hand is absent."""
    height, width = image.shape[-2:]
    shrink = min(1.0, _GUIDE_SIDE / max(height, width))
    small = (max(1, round(height * shrink)), max(1, round(width * shrink)))
    guide = functional.interpolate(image[None], small, mode="bilinear", antialias=True)[0]
    coarse = torch.zeros(4, *small)
    parts = _parts(scene, small, shrink, _FOREARMS)
    for index, (hand, sure) in enumerate(zip(hands, present, strict=True)):
        if hand is None or not sure:
            continue
        cells = hand.masks.shape[-1]
        close = torch.cat([hand.masks, _window(cells)[None]])
        palm, arm, weight = hand.square.scaled(shrink).uncrop(close, small)
        coarse[2 * index] = weight * arm + (1 - weight) * parts[index]
        coarse[2 * index + 1] = palm
    fine = _guided(guide, coarse, radius=max(2, round(0.012 * max(small))))
    fine = ((fine - 0.5) * 1.8 + 0.5).clamp(0, 1)
    return functional.interpolate(fine[None], (height, width), mode="bilinear")[0]


def body_masks(image: Float[Tensor, "3 h w"], scene: Scene) -> Float[Tensor, "3 h w"]:
    """Probability of torso with head, left arm and right arm, as coarse as the network's cells."""
    groups = (_TRUNK, *_ARMS)
    which = tuple(part for group in groups for part in group)
    parts = _parts(scene, (image.shape[-2], image.shape[-1]), 1.0, which)
    shares = parts.split([len(group) for group in groups])
    return torch.stack([share.sum(0) for share in shares]).clamp(0, 1)


def _parts(
    scene: Scene, size: tuple[int, int], shrink: float, which: tuple[int, ...]
) -> Float[Tensor, "parts h w"]:
    """Probability of these parts, from the narrowest look that covers the place; 0 where none does."""
    total = torch.zeros(len(which), *size)
    for square, maps in reversed(list(zip(scene.squares, scene.maps, strict=True))):
        parts = maps.parts[0].float().softmax(0)[list(which)]
        cells = maps.parts.shape[-1]
        # Cells are laid by their middles.
        early = (STRIDE / 2 - PARTS_AT) / (STRIDE * cells) * square.side
        placed = replace(square, x=square.x - early, y=square.y - early).scaled(shrink)
        *found, weight = placed.uncrop(torch.cat([parts, _window(cells)[None]]), size)
        total = weight * torch.stack(found) + (1 - weight) * total
    return total


def _window(cells: int) -> Float[Tensor, "s s"]:
    """1 inside, falling to 0 at the border: crops fade into what lies around them."""
    ramp = torch.linspace(0, 1, cells)
    edge = (torch.minimum(ramp, 1 - ramp) * 8).clamp(0, 1)
    return torch.minimum(edge[:, None], edge[None])


def _guided(
    guide: Float[Tensor, "3 h w"],
    mask: Float[Tensor, "c h w"],
    *,
    radius: int,
    smooth: float = 4e-3,
) -> Float[Tensor, "c h w"]:
    """Guided filter on a grey guide (He, Sun, Tang 2010, eq. 5 and 6): edges move to the picture's."""

    def mean(x: Tensor) -> Tensor:
        for size, pad in (((2 * radius + 1, 1), (radius, 0)), ((1, 2 * radius + 1), (0, radius))):
            x = functional.avg_pool2d(x, size, 1, pad, count_include_pad=False)
        return x

    results = []
    for (
        channel
    ) in guide:  # the colour that knows the edge best decides, by its share of the variance
        grey = channel[None]
        mean_grey, mean_mask = mean(grey), mean(mask)
        variance = mean(grey * grey) - mean_grey**2
        slope = (mean(grey * mask) - mean_grey * mean_mask) / (variance + smooth)
        results.append(mean(slope) * grey + mean(mean_mask - slope * mean_grey))
    return torch.stack(results).mean(0)
