"""HKC and HKV: how surely hands are seen, and how much they move; key points by the user's DWPose.

CyberHost brought both up without code.  Ours (docs/metrics/hkv.md says why): HKC is the mean score of the 42 points
over frames; HKV the mean over points and x, y of the standard deviation over frames, in picture sizes and in pixels.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from emo2.errors import UserError
from emo2.metrics.networks import Network

POINTS = 133
"""COCO-WholeBody."""
HANDS = slice(91, 133)
"""Left hand, right hand, 21 points each."""
_SIZE = (384, 288)
"""Height, width of the network's input."""
_PADDING = 1.25
_SPLIT = 2.0
_MEAN, _STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)
_SEEN = 0.3
"""Score under which a point is left out of HKV."""
_OFTEN = 0.5
"""A hand seen in a smaller share of the frames is left out of HKV."""


@dataclass(frozen=True, kw_only=True)
class HandFigures:
    """Of one film."""

    hkc: float
    hkv: float | None
    """In shares of the picture's width and height; None where no hand is seen often enough."""
    hkv_px: float | None
    hands_used: int
    seen_share: float
    """Share of frames and hands in which a hand is seen."""


def body_input(
    frame: Float[Tensor, "3 h w"],
) -> tuple[Float[Tensor, "1 3 384 288"], Float[np.ndarray, "2"], Float[np.ndarray, "2"]]:
    """The whole picture as the person's box, padded by 1.25; also its centre and size in pixels (x, y)."""
    height, width = frame.shape[-2:]
    centre = np.array([width, height]) / 2
    size = np.array([width, height]) * _PADDING
    ratio = _SIZE[1] / _SIZE[0]
    size = np.array([size[0], size[0] / ratio]) if size[0] > size[1] * ratio else np.array([size[1] * ratio, size[1]])  # fmt: skip
    scale = _SIZE[1] / size[0]
    matrix = np.array([[scale, 0, _SIZE[1] / 2 - scale * centre[0]], [0, scale, _SIZE[0] / 2 - scale * centre[1]]])  # fmt: skip
    pixels = ((frame.permute(1, 2, 0).numpy() + 1) * 127.5).round().clip(0, 255).astype(np.uint8)
    warped = cv2.warpAffine(pixels, matrix, _SIZE[::-1], flags=cv2.INTER_LINEAR)
    normal = (warped - np.array(_MEAN)) / np.array(_STD)
    return torch.from_numpy(normal).float().permute(2, 0, 1)[None], centre, size


def decode(
    along_x: Float[Tensor, "133 wide"],
    along_y: Float[Tensor, "133 high"],
    centre: Float[np.ndarray, "2"],
    size: Float[np.ndarray, "2"],
) -> Float[Tensor, "133 3"]:
    """Places in pixels and scores from SimCC (the place is the highest bin, the score the lower of the two peaks)."""
    score_x, bin_x = along_x.max(1)
    score_y, bin_y = along_y.max(1)
    score = torch.minimum(score_x, score_y)
    bins = torch.stack([bin_x, bin_y], 1).float() / _SPLIT
    wide = torch.tensor([_SIZE[1], _SIZE[0]], dtype=torch.float32)
    places = bins / wide * torch.from_numpy(size).float() + torch.from_numpy(centre - size / 2).float()  # fmt: skip
    return torch.cat([places, score[:, None]], 1)


def key_points(frame: Float[Tensor, "3 h w"], network: Network) -> Float[Tensor, "133 3"]:
    """x, y in pixels and score of the 133 points."""
    batch, centre, size = body_input(frame)
    out = [o[0] if o.dim() == 3 else o for o in network(batch)]
    by_width = {o.shape[-1]: o for o in out}
    wanted = (int(_SIZE[1] * _SPLIT), int(_SIZE[0] * _SPLIT))
    if set(by_width) != set(wanted) or any(len(o) != POINTS for o in out):
        shapes = [tuple(o.shape) for o in out]
        raise UserError(
            f"the key-point network gives {shapes}, expected 133 x {wanted[0]} and 133 x {wanted[1]}."
        )
    return decode(by_width[wanted[0]], by_width[wanted[1]], centre, size)


def hand_figures(points: Float[Tensor, "frames 133 3"], size: tuple[int, int]) -> HandFigures:
    """HKC and HKV of a film of `size` (height, width)."""
    hands = points[:, HANDS].reshape(len(points), 2, 21, 3).double()
    score = hands[..., 2]
    seen = score.mean(-1) >= _SEEN
    spreads = []
    for side in range(2):
        if float(seen[:, side].double().mean()) < _OFTEN:
            continue
        for joint in range(21):
            rows = hands[score[:, side, joint] >= _SEEN, side, joint, :2]
            if len(rows) >= 2:
                spreads.append(rows.std(0, correction=0))
    used = int((seen.double().mean(0) >= _OFTEN).sum())
    spread = torch.stack(spreads) if spreads else None
    unit = torch.tensor([size[1], size[0]], dtype=torch.float64)
    return HandFigures(
        hkc=float(score.mean()),
        hkv=None if spread is None else float((spread / unit).mean()),
        hkv_px=None if spread is None else float(spread.mean()),
        hands_used=used,
        seen_share=float(seen.double().mean()),
    )
