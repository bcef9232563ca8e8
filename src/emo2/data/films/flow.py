"""Optical flow from every frame of a shot to its reference frame, and how far it can be believed.

Flow is DIS (Kroeger et al. 2016, OpenCV's) twice: begun at rest, and begun at the flow of the neighbour nearer to the
reference, chained by one small step; each pixel takes what explains it better.  The same the other way round gives
the forward-backward check (Sundaram et al. 2010, eq. 5, with limits of our own), and the two pictures a second,
independent one.  Ours is how both make a soft visibility and a confidence: hard masks drew halos on real film.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from jaxtyping import Bool, Float, UInt8
from numpy import ndarray

LEAST_MISS_PX, MISS_SHARE = 0.6, 0.06
"""Forward-backward distance that is fine: pixels, and a share of the flow's length; twice as much is a failure."""
SAME, OTHER = 0.025, 0.08
"""Difference of two places' colours (0..1) up to which they look the same, from which on they do not."""
TEXTURE = 0.35
"""Pixels by which flow may be off: what that changes at an edge is no difference."""
PATCH = 5
"""Pixels a side over which places are compared."""
FAR = 0.5
"""Pictures beyond the picture that a flow may lead."""


@dataclass(frozen=True, kw_only=True)
class Match:
    """A frame against the reference, a value a pixel."""

    flow: Float[ndarray, "h w 2"]
    """Backward: the place in the reference is the own place plus this; x, y, pixels."""
    back: Float[ndarray, "h w 2"]
    """The reference's pixels' way into the frame."""
    visibility: Float[ndarray, "h w"]
    """0..1: whether the reference shows what is here."""
    sure: Float[ndarray, "h w"]
    """0..1: how far flow and visibility are to be believed."""
    kept: Float[ndarray, "h w"]
    """0..1: whether a place of the reference is found in the frame by `back`."""


class Matcher:
    """Sees frames in order, away from the reference, and matches each with it."""

    def __init__(self, reference: UInt8[ndarray, "h w 3"]) -> None:
        height, width = reference.shape[:2]
        xs, ys = np.meshgrid(
            np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32)
        )
        self._places = np.stack([xs, ys], -1)
        self._dis = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
        self._reference, self._grey = reference, _grey(reference)
        self._slope = _slopes(self._grey)
        self.restart()

    def restart(self) -> None:
        """What comes next neighbours the reference itself."""
        still = np.zeros_like(self._places)
        self._last: tuple[ndarray, ndarray, ndarray] = (self._grey, still, still)

    def see(self, frame: UInt8[ndarray, "h w 3"]) -> Match:
        """Match a frame; it follows the one that was seen last."""
        grey = _grey(frame)
        before, flow_before, back_before = self._last
        step, step_back = self._calc(grey, before), self._calc(before, grey)
        flows = [
            self._calc(grey, self._grey, step + self._at(flow_before, step)),
            self._calc(grey, self._grey),
        ]
        backs = [
            self._calc(self._grey, grey, back_before + self._at(step_back, back_before)),
            self._calc(self._grey, grey),
        ]
        slope = _slopes(grey)
        flow, unlike = self._better(frame, self._reference, flows, slope + self._slope)
        back, unlike_back = self._better(self._reference, frame, backs, slope + self._slope)
        self._last = (grey, flow, back)
        visibility, sure = self._judge(flow, back, unlike)
        kept, _ = self._judge(back, flow, unlike_back)
        return Match(flow=flow, back=back, visibility=visibility, sure=sure, kept=kept)

    def _judge(
        self, flow: ndarray, back: ndarray, unlike: ndarray
    ) -> tuple[Float[ndarray, "h w"], Float[ndarray, "h w"]]:
        """Visibility and confidence from both checks."""
        height, width = unlike.shape
        miss = np.linalg.norm(flow + self._at(back, flow), axis=-1)
        limit = LEAST_MISS_PX + MISS_SHARE * np.linalg.norm(flow, axis=-1)
        returns = np.clip(2.0 - miss / limit, 0.0, 1.0)
        alike = np.clip((OTHER - unlike) / (OTHER - SAME), 0.0, 1.0)
        same = np.clip(2.0 - 2.0 * unlike / SAME, 0.0, 1.0)
        goal = self._places + flow
        outside = (
            (goal[..., 0] < -0.5)
            | (goal[..., 1] < -0.5)
            | (goal[..., 0] > width - 0.5)
            | (goal[..., 1] > height - 0.5)
        )
        seen = alike * np.maximum(returns, same) * ~outside
        sure = np.maximum(1.0 - 0.8 * np.abs(returns - alike), outside)
        return seen.astype(np.float32), sure.astype(np.float32)

    def _better(
        self, frame: ndarray, other: ndarray, flows: list[ndarray], slope: ndarray
    ) -> tuple[Float[ndarray, "h w 2"], Float[ndarray, "h w"]]:
        """Per pixel the flow that explains its surroundings better, and how unlike its goal then is."""
        costs = [self._unlike(frame, other, flow, slope) for flow in flows]
        wide = [cv2.blur(cost, (3 * PATCH, 3 * PATCH)) for cost in costs]
        second = wide[1] < 0.9 * wide[0]
        flow = np.where(second[..., None], flows[1], flows[0])
        return flow, np.where(second, costs[1], costs[0])

    def _unlike(
        self, frame: ndarray, other: ndarray, flow: ndarray, slope: ndarray
    ) -> Float[ndarray, "h w"]:
        """Mean colour difference over a patch, less what a small error of the flow makes at edges; 0..1."""
        found = self._fetch(other, flow)
        apart = cv2.absdiff(frame, found).astype(np.float32).mean(-1) / 255.0
        return cv2.blur(np.maximum(apart - TEXTURE * slope, 0.0), (PATCH, PATCH))

    def _calc(self, grey: ndarray, other: ndarray, start: ndarray | None = None) -> ndarray:
        """Flow that leads at most `FAR` pictures out: where nothing is found again DIS runs away, from frame to frame farther."""
        dis: Any = self._dis  # its stub wants the start as an array
        flow = dis.calc(grey, other, None if start is None else start.copy())
        height, width = grey.shape
        side = np.array([width, height], np.float32)
        goal = self._places + np.nan_to_num(flow, posinf=0.0, neginf=0.0)
        return np.clip(goal, -FAR * side, (1.0 + FAR) * side) - self._places

    def _at(self, values: ndarray, flow: ndarray) -> ndarray:
        """A field's values where a flow leads."""
        return self._fetch(values, flow)

    def _fetch(self, image: ndarray, flow: ndarray) -> ndarray:
        goal = self._places + flow
        x, y = np.ascontiguousarray(goal[..., 0]), np.ascontiguousarray(goal[..., 1])
        return cv2.remap(image, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)


def matches(frames: UInt8[ndarray, "f h w 3"], reference: int) -> Iterator[tuple[int, Match]]:
    """Every frame of a shot against one of them; in the order away from it, afterwards then before."""
    matcher = Matcher(frames[reference])
    for way in (range(reference, len(frames)), range(reference - 1, -1, -1)):
        matcher.restart()
        for index in way:
            yield index, matcher.see(frames[index])


@dataclass(frozen=True, kw_only=True)
class Grid:
    """A match on the latent's grid, as the studio's labels have it."""

    flow: Float[ndarray, "2 g g"]
    """In sides of the view."""
    visibility: UInt8[ndarray, "g g"]
    sure: UInt8[ndarray, "g g"]


def on_grid(match: Match, inside: Bool[ndarray, "h w"], side: int = 64) -> Grid:
    """Cells take the flow of what of them is seen; outside of the picture nothing is sure."""
    height = match.flow.shape[0]
    step = height // side
    weight = match.visibility * match.sure + 1e-3
    total = _cells(weight, step)
    flow = np.stack([_cells(match.flow[..., k] * weight, step) / total for k in (0, 1)])
    seen, sure = _cells(match.visibility, step), _cells(match.sure * inside, step)
    return Grid(
        flow=(flow / height).astype(np.float32),
        visibility=np.round(seen * 255).astype(np.uint8),
        sure=np.round(sure * 255).astype(np.uint8),
    )


def _cells(values: ndarray, step: int) -> ndarray:
    """Means over squares of `step` pixels."""
    side = values.shape[0] // step
    return values.reshape(side, step, side, step).mean((1, 3))


def _grey(image: UInt8[ndarray, "h w 3"]) -> UInt8[ndarray, "h w"]:
    return cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)


def _slopes(grey: UInt8[ndarray, "h w"]) -> Float[ndarray, "h w"]:
    """Largest change to a neighbouring pixel, 0..1."""
    square = np.ones((3, 3), np.uint8)
    return cv2.morphologyEx(grey, cv2.MORPH_GRADIENT, square).astype(np.float32) / 510.0
