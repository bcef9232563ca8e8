"""Whether a hand's points are believed: looked at again, a little turned, shifted, nearer and farther, they must come out alike.

The network is as sure of a confused hand (thumb and first finger of a hand seen from its back, say) as of one that it reads
rightly, but a confused one comes out differently each time.  Measured in hand lengths: rendered hands and open hands of
photos .01 to .07, confused ones .07 to .27 (37 photos looked at).
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from emo2.portrait.looking import Hand, Square, look, square_about
from emo2.portrait.stage import PortraitFinder

_LOOKS = (
    (0.3, 1.0, 0.0, 0.0), (-0.3, 1.0, 0.0, 0.0), (0.0, 0.85, 0.0, 0.0), (0.0, 1.2, 0.0, 0.0),
    (0.15, 1.1, 0.08, 0.0), (-0.15, 0.95, -0.08, 0.05),
)  # fmt: skip
"""Turn in radians, size, and shift in the hand's own sizes, against the look that found it."""
_STEADY, _FALL = 0.03, 10.0
"""Disagreement up to which points keep their confidence, and how fast they lose it beyond: .6 is left at .07 ..."""
_LEAST = 0.45
"""... and this at the most."""


def disagreement(image: Float[Tensor, "3 h w"], finder: PortraitFinder, hand: Hand) -> float:
    """Mean distance of a look's points from the median look's, in hand lengths."""
    about = square_about(hand.points[:, :2])
    looks = [hand.points[:, :2]]
    for turn, zoom, right, down in _LOOKS:
        square = Square(
            about.x + right * about.side, about.y + down * about.side, 2 * zoom * about.side, turn,
            hand.square.mirrored,
        )  # fmt: skip
        looks.append(look(image, finder.hand, square, finder.config.hand_crop)[0])
    seen = torch.stack(looks)
    length = (seen[0] - seen[0, 0]).norm(dim=-1).max().clamp(min=1.0)
    return float((seen - seen.median(0).values).norm(dim=-1).mean() / length)


def doubted(
    image: Float[Tensor, "3 h w"], finder: PortraitFinder, hand: Hand
) -> Float[Tensor, "21 3"]:
    """The hand's points, less sure where looks disagree."""
    shaken = max(disagreement(image, finder, hand) - _STEADY, 0.0)
    points = hand.points.clone()
    points[:, 2] *= max(1 - _FALL * shaken, _LEAST)
    return points
