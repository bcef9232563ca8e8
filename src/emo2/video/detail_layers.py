"""The details of mouth and eyes on the whole photo: fetched through the head's motion, at the photo's own resolution."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import torch
from jaxtyping import Float, Float32
from torch import Tensor

from emo2.nn import quick
from emo2.signals import FACE_ACTIONS
from emo2.video.codec import STILL, Field
from emo2.video.detail_loss import given_of
from emo2.video.details import (
    DetailNet,
    Details,
    Placement,
    WindowLook,
    cut_window,
    place_windows,
    to_view,
    window_weight,
)
from emo2.video.mouth_inside import MouthInside, inside_of, over
from emo2.video.own_teeth import OwnTeeth
from emo2.video.views import View

_JAW = FACE_ACTIONS.index("jawOpen")
OWN_SIDE = 256
"""Pixels a side of the layer of the photo's own teeth."""
NO_PAINT = 0.02
"""Alpha below this is none."""


@dataclass(frozen=True, kw_only=True)
class Laid:
    """One window in one frame: what it does to a rectangle of the picture."""

    rows: slice
    columns: slice
    flow: Float32[np.ndarray, "h w 2"]
    """Added to the picture's backward flow, in pixels."""
    paint: Float32[np.ndarray, "h w 3"]
    alpha: Float32[np.ndarray, "h w 1"]
    weight: Float32[np.ndarray, "h w 1"]
    """How far the window answers for its pixels, 0..1: other paint stays off."""

    def paint_on(self, frame: Float32[np.ndarray, "h w 3"]) -> None:
        """Lay the paint over the frame, in place."""
        part = frame[self.rows, self.columns]
        part += (self.paint - part) * self.alpha


@dataclass(frozen=True, kw_only=True)
class DetailWindow:
    """A window of the photo, looked at once a film."""

    network: DetailNet
    placement: Placement
    side: int
    look: WindowLook
    inside: MouthInside | None = None
    """What is seen in it where the lips are apart; None where there are no lips."""

    def make(self, field: Field, actions: Float[Tensor, "1 f 52"]) -> MadeWindow:
        """The window in some frames; `field`: the expectation with head and torso at rest."""
        given = given_of(field, self.placement, self.placement.places(self.side))
        with quick(given.device):
            made = self.network(self.look, given, self.placement.actions(actions))
        flow = to_view(made.flow[0], self.placement.axes.expand(given.shape[1], -1, -1))
        fade = window_weight(self.side).to(flow).expand(len(flow), -1, -1, -1)
        values = torch.cat([flow, fade, made.alpha[0], made.paint[0]], dim=1)
        return MadeWindow(
            values=np.ascontiguousarray(values.permute(0, 2, 3, 1).cpu().numpy(), np.float32),
            centre=self.placement.centre[0].cpu().numpy(),
            axes=self.placement.axes[0].cpu().numpy(),
            jaw=None if self.inside is None else actions[0, :, _JAW].cpu().numpy(),
            inside=self.inside,
        )


@dataclass(frozen=True, kw_only=True)
class MadeWindow:
    """A window of a clip's frames, ready to be laid."""

    values: Float32[np.ndarray, "f s t 7"]
    """Flow in views' sides (2), weight, alpha, paint (3)."""
    centre: Float32[np.ndarray, "2"]
    axes: Float32[np.ndarray, "2 2"]
    """As in `Placement`."""
    jaw: Float32[np.ndarray, " f"] | None = None
    """Opening of the jaw, 0..1, where the window shows a mouth's inside."""
    inside: MouthInside | None = None

    def lay(
        self, number: int, view: View, carry: Float32[np.ndarray, "g g 2"], size: tuple[int, int]
    ) -> Laid | None:
        """Frame `number` on a picture of that size; `carry`: the flow of head and torso over the view."""
        reach = np.abs(self.axes).sum(1) + np.abs(carry).max(axis=(0, 1))
        low = np.floor((self.centre - reach) * view.side + (view.left, view.top)).astype(int)
        high = np.ceil((self.centre + reach) * view.side + (view.left, view.top)).astype(int)
        x0, y0 = np.maximum(low, 0)
        x1, y1 = np.minimum(high, (size[1], size[0]))
        if x1 <= x0 or y1 <= y0:
            return None
        xs = (np.arange(x0, x1, dtype=np.float32) + 0.5 - view.left) / view.side
        ys = (np.arange(y0, y1, dtype=np.float32) + 0.5 - view.top) / view.side
        places = np.stack(np.meshgrid(xs, ys), axis=-1)
        places = places + _read(carry, places, cv2.BORDER_REPLICATE)
        spots = (places - self.centre) @ np.linalg.inv(self.axes).T.astype(np.float32)
        found = _read(self.values[number], (spots + 1.0) / 2.0, cv2.BORDER_CONSTANT)
        flow = found[..., :2]
        # As in the composer: what hardly moves stays on its own pixels, and sharp.
        length = np.linalg.norm(flow, axis=-1, keepdims=True)
        flow = flow * np.clip(length / STILL - 0.5, 0.0, 1.0) * view.side
        alpha, paint = found[..., 3:4], found[..., 4:]
        if self.jaw is not None and self.inside is not None:
            inner = self.inside.draw(spots.astype(np.float32), float(self.jaw[number]))
            paint = over(paint, alpha, inner)
        return Laid(
            rows=slice(y0, y1),
            columns=slice(x0, x1),
            flow=flow,
            paint=paint,
            alpha=np.where(alpha < NO_PAINT, np.float32(0.0), alpha),
            weight=found[..., 2:3],
        )


def _read(
    values: Float32[np.ndarray, "a b c"], places: Float32[np.ndarray, "h w 2"], border: int
) -> Float32[np.ndarray, "h w c"]:
    """Values of a grid at places in its sides."""
    height, width = values.shape[:2]
    x = np.ascontiguousarray(places[..., 0] * width - 0.5)
    y = np.ascontiguousarray(places[..., 1] * height - 0.5)
    # OpenCV remaps at most four channels at once.
    parts = [
        cv2.remap(np.ascontiguousarray(part), x, y, cv2.INTER_LINEAR, borderMode=border)
        for part in np.split(values, range(4, values.shape[-1], 4), axis=-1)
    ]
    return np.concatenate([p if p.ndim == 3 else p[..., None] for p in parts], axis=-1)


def look_at_windows(
    details: Details,
    image: Float[Tensor, "1 3 s s"],
    marks: Float[Tensor, "1 3 2"],
    view: View,
    teeth: OwnTeeth | None = None,
) -> tuple[DetailWindow, ...]:
    """The windows of a view of the face; `teeth`: those that the photo shows."""
    windows = []
    rows = zip(place_windows(marks), details.networks(), details.sides(), strict=True)
    for placement, network, side in rows:
        photo = cut_window(image, placement.places(side))
        inside = None
        if network is details.mouth:
            inside = inside_of(photo[0], _own_layer(teeth, placement, view))
        windows.append(
            DetailWindow(
                network=network,
                placement=placement,
                side=side,
                look=network.look(photo),
                inside=inside,
            )
        )
    return tuple(windows)


def _own_layer(
    teeth: OwnTeeth | None, placement: Placement, view: View
) -> Float32[np.ndarray, "s s 4"] | None:
    """The photo's teeth over the mouth's window."""
    if teeth is None:
        return None
    places = placement.places(OWN_SIDE)[0].cpu().numpy() * view.side
    return teeth.at(places + np.array([view.left, view.top], np.float32) - 0.5)


@dataclass(frozen=True, kw_only=True)
class CarriedWindow:
    """A window of a clip's frames, where it lies, and how head and torso carry it."""

    window: MadeWindow
    view: View
    carry: Float32[np.ndarray, "f g g 2"]


def carried(
    view: View,
    windows: tuple[DetailWindow, ...],
    rest: Field,
    actions: Float[Tensor, "1 f 52"],
    carry: Float[Tensor, "f 2 g g"],
) -> list[CarriedWindow]:
    """The windows of a view in a clip's frames; `rest`: the expectation with head and torso at rest."""
    flow = np.ascontiguousarray(carry.permute(0, 2, 3, 1).cpu().numpy(), np.float32)
    return [CarriedWindow(window=w.make(rest, actions), view=view, carry=flow) for w in windows]


def lay_windows(
    windows: list[CarriedWindow], number: int, flow: Float32[np.ndarray, "h w 2"]
) -> tuple[list[Laid], Float32[np.ndarray, "h w 1"] | None]:
    """Add the windows' flow to a frame's, in place; the windows to paint, and where other paint may go."""
    size = (flow.shape[0], flow.shape[1])
    laid = [w.window.lay(number, w.view, w.carry[number], size) for w in windows]
    found = [one for one in laid if one is not None]
    if not found:
        return [], None
    free = np.ones((*size, 1), np.float32)
    for one in found:
        flow[one.rows, one.columns] += one.flow
        free[one.rows, one.columns] *= 1.0 - one.weight
    return found, free
