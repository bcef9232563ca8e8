"""Where the pixels of laid arms come from: a map of the photo's places, drawn by the layers themselves.

For measuring alone.  The layers are laid once more with places in the place of colours, so what is read is what a film
shows, soft edges and order of drawing included.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float32

from emo2.video.hand_layer import HandLayer
from emo2.video.layer_cut import Arm
from emo2.video.layer_masks import pixel_grid
from emo2.video.layers import Layers


@dataclass(frozen=True, kw_only=True)
class Chart:
    """What a frame shows at each pixel."""

    place: Float32[np.ndarray, "h w 2"]
    """Of the photo that layers show here, x and y of its pixel's middle; a pixel's own place where none does."""
    moved: Float32[np.ndarray, "h w"]
    """Share that layers fetch from the photo."""
    painted: Float32[np.ndarray, "h w"]
    """Share that is made up: the gap behind arms, skin that the photo hides."""

    @property
    def flow(self) -> Float32[np.ndarray, "h w 2"]:
        """Backward: from each pixel to the photo's place that it shows; 0 where layers do not show most of it."""
        away = self.place - _places((self.place.shape[0], self.place.shape[1]))
        return np.where(self.painted[..., None] < 0.5, away, 0).astype(np.float32)


def chart(
    layers: Layers, flow: Float32[np.ndarray, "h w 2"] | None, pose: Float32[np.ndarray, "2 c"]
) -> Chart:
    """What `layers.lay(frame, flow, pose)` fetches from where."""
    places = _places(layers.size)
    drawn = np.dstack((places, np.zeros(layers.size, np.float32)))
    _with_colours(layers, places, known=True).lay(drawn, flow, pose)
    left = np.ones((*layers.size, 3), np.float32)
    _with_colours(layers, places, known=False).lay(left, flow, pose)
    moved, body = drawn[..., 2], left[..., 0]
    known = moved + body
    place = drawn[..., :2] / np.maximum(known, 1e-3)[..., None]
    return Chart(
        place=np.where(known[..., None] > 1e-2, place, places),
        moved=moved,
        painted=(1 - known).clip(0, 1),
    )


def _places(size: tuple[int, int]) -> Float32[np.ndarray, "h w 2"]:
    """Places as warps count them: from the middle of the first pixel."""
    return pixel_grid(size) - 0.5


def _with_colours(layers: Layers, places: np.ndarray, *, known: bool) -> Layers:
    """The layers with x, y and 1 as colours, or with black; gaps are black."""
    gaps = tuple(replace(gap, colour=_black(gap.colour), rest=0 * gap.rest) for gap in layers.gaps)
    arms = tuple(_charted(arm, places, known=known) for arm in layers.arms)
    return replace(layers, gaps=gaps, arms=arms)


def _charted(arm: Arm, places: np.ndarray, *, known: bool) -> Arm:
    def coloured(colour: np.ndarray, box: tuple[int, int, int, int]) -> np.ndarray:
        if not known:
            return _black(colour)
        inside = places[box[1] : box[3], box[0] : box[2]]
        values = np.dstack((inside, np.ones(inside.shape[:2], np.float32)))
        return np.dstack((values * colour[..., 3:], colour[..., 3])).astype(np.float32)

    planes = tuple(replace(p, colour=coloured(p.colour, p.box)) for p in arm.planes)
    hand = arm.hand
    if isinstance(hand, HandLayer):
        hand = replace(
            hand,
            colour=coloured(hand.colour, hand.box),
            skin=np.full_like(hand.skin, 0.5),  # black, as colours run from -1 to 1
            shade=np.array((1, 0, 0, 0), np.float32),
        )
    return replace(arm, planes=planes, hand=hand)


def _black(colour: np.ndarray) -> np.ndarray:
    return (colour * np.array((0, 0, 0, 1), np.float32)).astype(np.float32)
