"""Whether two hands lie in each other, as those of folded hands do (ours)."""

from __future__ import annotations

from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor

from emo2.portrait.looking import Hand, overlap

_TOGETHER = 0.35
"""Overlap of their squares from which hands cannot be told apart by it."""
_SURER, _LESS = 0.8, 0.6
"""Confidence of the surer and of the other one; photos of folded hands have .9 and more, .73 and more."""
_APART = 0.7
"""Face sides between the wrists under which two hands may be one, seen twice (folded ones of photos: 1.4 to 2) ..."""
OTHER = 1.2
"""... and for one that was only looked for where the other is: a single hand seen so has its wrist up to .9 away."""
_INSIDE = 0.9
"""Share of each hand's points that must be in the picture."""


def lie_together(first: Hand, second: Hand) -> bool:
    """Whether they are in one place."""
    return overlap(first.square, second.square) > _TOGETHER


def are_folded(
    hands: Sequence[Hand | None],
    face: Float[Tensor, "68 2"],
    size: tuple[int, int],
    *,
    apart: float = _APART,
) -> bool:
    """Two hands in one place, each surely one, below the face; `size`: (height, width) of the picture."""
    first, second = hands
    if first is None or second is None or not lie_together(first, second):
        return False
    less, surer = sorted((first.confidence, second.confidence))
    low, high = face.amin(0), face.amax(0)
    side = float((high - low).max())
    between = float((first.points[0, :2] - second.points[0, :2]).norm())
    if less < _LESS or surer < _SURER or between < apart * side:
        return False
    for hand in (first, second):
        points = hand.points[:, :2]
        inside = (points > 0).all(1) & (points < points.new_tensor((size[1], size[0]))).all(1)
        if float(inside.float().mean()) < _INSIDE or bool((points[:, 1] < high[1]).any()):
            return False
    return True
