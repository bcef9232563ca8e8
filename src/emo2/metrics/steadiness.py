"""Flicker and the background: what changes in a film that nothing moved."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor

from emo2.portrait.looking import Square
from emo2.portrait.network import STRIDE
from emo2.portrait.stage import PortraitFinder

_FLOW_SIDE = 256
"""Long side at which flow is measured and frames are compared."""
_LEVELS = 127.5
"""8-bit levels per unit of [-1, 1]."""
_LEAST_BACKGROUND = 0.05
_BESIDE_HEAD = 0.35
"""Room left around the face's box, in its width."""
_SHOULDERS = 1.6
"""Half width of what is taken for the body under the chin, in face widths."""


class Flicker:
    """Temporal warping error (Lai et al. 2018, eq. 5): what is left of the next frame's difference after its flow."""

    def __init__(self) -> None:
        self._flow = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
        self._before: tuple[np.ndarray, np.ndarray] | None = None
        self.values: list[float] = []
        """Root mean square per pair of frames, in 8-bit levels, where the flow is sure."""

    def see(self, frame: Float[Tensor, "3 h w"]) -> None:
        """Compare a frame with the one before."""
        small = _small(frame, _FLOW_SIDE)
        grey = cv2.cvtColor(small.round().clip(0, 255).astype(np.uint8), cv2.COLOR_RGB2GRAY)
        before, self._before = self._before, (small, grey)
        if before is not None:
            self.values.append(self._error(*before, small, grey))

    def _error(
        self, old: np.ndarray, old_grey: np.ndarray, new: np.ndarray, new_grey: np.ndarray
    ) -> float:
        forth = _flow_between(self._flow, old_grey, new_grey)
        back = _flow_between(self._flow, new_grey, old_grey)
        height, width = new_grey.shape
        xs, ys = np.meshgrid(
            np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32)
        )
        at_x, at_y = xs + back[..., 0], ys + back[..., 1]
        warped = cv2.remap(old, at_x, at_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        there = cv2.remap(forth, at_x, at_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        # occlusions by Ruder et al. 2016: there and back must meet
        gap = ((back + there) ** 2).sum(-1)
        size = (back**2).sum(-1) + (there**2).sum(-1)
        sure = gap <= 0.01 * size + 0.5
        sure &= (at_x >= 0) & (at_x <= width - 1) & (at_y >= 0) & (at_y <= height - 1)
        if not sure.any():
            return float("nan")
        return float(np.sqrt(((new - warped)[sure] ** 2).mean()))


def _flow_between(
    flow: cv2.DISOpticalFlow, first: UInt8[np.ndarray, "h w"], second: UInt8[np.ndarray, "h w"]
) -> Float[np.ndarray, "h w 2"]:
    return flow.calc(first, second, None)  # pyright: ignore[reportArgumentType, reportCallIssue]


def _small(frame: Tensor, side: int) -> Float[np.ndarray, "h w 3"]:
    """Pixels in levels 0..255, the long side at most `side`."""
    pixels = (frame.permute(1, 2, 0).numpy() + 1) * _LEVELS
    scale = side / max(pixels.shape[:2])
    if scale < 1:
        pixels = cv2.resize(pixels, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    return np.ascontiguousarray(pixels, dtype=np.float32)


@dataclass(frozen=True, kw_only=True)
class Steadiness:
    """How still the background stands."""

    deviation: float
    """Root mean square of each pixel about its own mean over time, 8-bit levels."""
    share: float
    """Share of the picture that is background throughout."""


class Background:
    """Sums over time of the pixels where the person never is, at most 256 a side."""

    def __init__(self, finder: PortraitFinder) -> None:
        self.finder = finder
        self._count = 0
        self._mean = self._scatter = np.zeros(0)
        self._person = np.zeros(0, bool)

    def see(
        self,
        frame: Float[Tensor, "3 h w"],
        points: Float[Tensor, "68 2"] | None,
        *,
        look_for_person: bool,
    ) -> None:
        """Add a frame; `look_for_person` lets the finder say where the person is, which costs time."""
        small = _small(frame, _FLOW_SIDE).astype(np.float64)
        if not self._count:
            self._mean, self._scatter = np.zeros_like(small), np.zeros_like(small)
            self._person = np.zeros(small.shape[:2], bool)
        self._count += 1
        gap = small - self._mean
        self._mean += gap / self._count
        self._scatter += gap * (small - self._mean)
        if points is not None:
            self._person |= _around(points, (frame.shape[-2], frame.shape[-1]), small.shape[:2])
        if look_for_person:
            seen = person_mask(frame, self.finder).numpy().astype(np.uint8)
            seen = cv2.resize(seen, small.shape[1::-1], interpolation=cv2.INTER_NEAREST)
            self._person |= seen > 0

    def result(self) -> Steadiness | None:
        """None where under 5 % of the picture is background, or under two frames were seen."""
        if self._count < 2:
            return None
        reach = 2 * round(0.03 * max(self._person.shape)) + 1
        grown = cv2.dilate(self._person.astype(np.uint8), np.ones((reach, reach), np.uint8))
        outside = grown == 0
        share = float(outside.mean())
        if share < _LEAST_BACKGROUND:
            return None
        variance = self._scatter[outside] / self._count
        return Steadiness(deviation=float(np.sqrt(variance.mean())), share=share)


@torch.inference_mode()
def person_mask(frame: Float[Tensor, "3 h w"], finder: PortraitFinder) -> Bool[Tensor, "h w"]:
    """Where the finder sees a person's parts."""
    height, width = frame.shape[-2:]
    square = Square(width / 2, height / 2, float(max(height, width)))
    parts = finder.scene(square.crop(frame, finder.config.size)).parts[0].float().softmax(0)
    assert parts.shape[-1] * STRIDE == finder.config.size
    return square.uncrop(1 - parts[:1], (height, width))[0] > 0.4


def _around(
    points: Float[Tensor, "68 2"], size: tuple[int, int], small: tuple[int, ...]
) -> Bool[np.ndarray, "h w"]:
    """Head with room for hair, and the column under it: what a face says of the person without any network."""
    scale = small[0] / size[0]
    low, high = (points.amin(0) * scale).numpy(), (points.amax(0) * scale).numpy()
    wide, tall = high - low
    mask = np.zeros(small[:2], np.uint8)
    top = (int(low[0] - _BESIDE_HEAD * wide), int(low[1] - 0.7 * tall))
    cv2.rectangle(mask, top, (int(high[0] + _BESIDE_HEAD * wide), int(high[1])), 1, -1)
    middle = (low[0] + high[0]) / 2
    left = (int(middle - _SHOULDERS * wide), int(high[1]))
    cv2.rectangle(mask, left, (int(middle + _SHOULDERS * wide), small[0]), 1, -1)
    return mask > 0
