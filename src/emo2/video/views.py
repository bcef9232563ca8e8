"""Views: square windows on a portrait that the networks work in, and how their results become one frame.

The face has a view of its own; where more of the person is in the picture, a wider body view carries head and torso.
Their flows are blended softly into one field over the whole photo, the photo is warped once at full resolution, and
each view's paint is laid over it (design §6).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Float32
from torch import Tensor

from emo2.signals import Portrait
from emo2.video.codec import STILL
from emo2.video.examples import BODY_VIEW, FACE_VIEW, marks_of

FACE_SHARE = 0.55
"""Height of the face box in the face view."""
FACE_MIDDLE = 0.55
"""Where the middle of the face box lies in the face view, from its top."""
BODY_SHARE = 0.17
"""Height of the face box in the body view."""
BODY_TOP = 0.2
"""Where the face box begins in the body view."""
USUAL_MARKS = ((0.5, 0.67), (0.26, 0.14), (0.73, 0.14))
"""Mouth and eyes in a face box, where nothing better is known."""
_CRISP = 0.35
"""Strength of the unsharp mask over what has moved far **(ours)**: a grid's flow squeezes and stretches what it carries ..."""
_CRISP_FROM = 0.04
"""... the more the farther; in full from this share of the narrowest view's side."""
_CRISP_OVER = 0.02
"""What a crisped pixel may go beyond its neighbours: no halo is seen of that."""
_STRIP = 32
_AROUND = np.ones((3, 3), np.uint8)
NEED_BODY = 1.2
"""A picture this many times the face view's height or width gets a body view too."""
BORDER = {FACE_VIEW: 0.14, BODY_VIEW: 0.05}
"""Share of a view's side over which it fades into what lies under it."""


@dataclass(frozen=True, kw_only=True)
class View:
    """A square window on the photo; may reach beyond it."""

    kind: float
    """`FACE_VIEW` or `BODY_VIEW`."""
    left: int
    top: int
    side: int

    def cut(self, images: Float[Tensor, "n 3 h w"], size: int) -> Float[Tensor, "n 3 s s"]:
        """The window of the images at `size` pixels a side, the picture's border repeated outside it."""
        height, width = images.shape[-2:]
        y0, y1 = max(self.top, 0), min(self.top + self.side, height)
        x0, x1 = max(self.left, 0), min(self.left + self.side, width)
        inside = images[..., y0:y1, x0:x1]
        margins = (
            x0 - self.left,
            self.left + self.side - x1,
            y0 - self.top,
            self.top + self.side - y1,
        )
        whole = F.pad(inside, margins, mode="replicate")
        return F.interpolate(
            whole, size=(size, size), mode="bilinear", align_corners=False, antialias=True
        )

    def place(self, points: Float[Tensor, "n 2"]) -> Float[Tensor, "n 2"]:
        """Pixels of the photo in view units."""
        return (points - torch.tensor([self.left, self.top]).to(points)) / self.side


def face_marks(portrait: Portrait) -> Float[Tensor, "3 2"]:
    """Mouth and eyes in pixels; from the face box where the points do not lie in it."""
    low, high = portrait.face_box[:2], portrait.face_box[2:]
    marks = marks_of(portrait.face_points)
    if bool(((marks > low) & (marks < high)).all()) and bool(marks[0, 1] > marks[1:, 1].max()):
        return marks
    return low + (high - low) * torch.tensor(USUAL_MARKS)


def choose_views(portrait: Portrait) -> tuple[View, ...]:
    """The views that a portrait needs, widest first, the face last."""
    x0, y0, x1, y1 = portrait.face_box.tolist()
    height, width = portrait.size
    middle_x, middle_y, tall = (x0 + x1) / 2, (y0 + y1) / 2, max(y1 - y0, 0.8 * (x1 - x0), 8.0)
    side = round(tall / FACE_SHARE)
    face = View(
        kind=FACE_VIEW,
        left=round(middle_x - side / 2),
        top=round(middle_y - FACE_MIDDLE * side),
        side=side,
    )
    if max(height, width) <= NEED_BODY * side:
        return (face,)
    wide = round(tall / BODY_SHARE)
    body = View(
        kind=BODY_VIEW, left=round(middle_x - wide / 2), top=round(y0 - BODY_TOP * wide), side=wide
    )
    return body, face


@dataclass(frozen=True, kw_only=True)
class Window:
    """The part of a view that lies inside the picture, with the view's weight there."""

    rows: slice
    columns: slice
    weight: Float32[np.ndarray, "h w"]
    inner: tuple[slice, slice]
    """The same part inside the view, in pixels of the photo."""
    side: int


def window_of(view: View, size: tuple[int, int]) -> Window:
    """Where a view lies in a picture of that size; it fades out where it ends inside the picture."""
    height, width = size
    fade = max(BORDER[view.kind] * view.side, 1.0)
    weights = []
    slices = []
    inner = []
    for start, extent in ((view.top, height), (view.left, width)):
        low, high = max(start, 0), min(start + view.side, extent)
        places = np.arange(low, high, dtype=np.float32) + 0.5 - start
        near = np.full_like(places, np.inf)
        if start > 0:
            near = np.minimum(near, places)
        if start + view.side < extent:
            near = np.minimum(near, view.side - places)
        ramp = np.clip(near / fade, 0.0, 1.0)
        weights.append(ramp * ramp * (3.0 - 2.0 * ramp))
        slices.append(slice(low, high))
        inner.append(slice(low - start, high - start))
    return Window(
        rows=slices[0],
        columns=slices[1],
        weight=(weights[0][:, None] * weights[1][None]).astype(np.float32),
        inner=(inner[0], inner[1]),
        side=view.side,
    )


class Composer:
    """Turns the views' flows and paint into frames of the whole photo; everything that stays is made once."""

    def __init__(self, photo: Float[Tensor, "3 h w"], views: Sequence[View]) -> None:
        self.photo = np.ascontiguousarray(photo.permute(1, 2, 0).cpu().numpy(), dtype=np.float32)
        height, width = self.photo.shape[:2]
        self.windows = [window_of(view, (height, width)) for view in views]
        xs, ys = np.meshgrid(
            np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32)
        )
        self.places = np.stack([xs, ys], axis=-1)

    def flow(self, flows: Sequence[Float[Tensor, "2 g g"]]) -> Float32[np.ndarray, "h w 2"]:
        """One backward flow over the photo, in its pixels, from the views' flows (in views' sides), widest first."""
        whole = np.zeros_like(self.places)
        for window, flow in zip(self.windows, flows, strict=True):
            cells = np.ascontiguousarray(flow.permute(1, 2, 0).cpu().numpy(), dtype=np.float32)
            size = np.linalg.norm(cells, axis=-1, keepdims=True)
            cells = cells * np.clip(size / STILL - 0.5, 0.0, 1.0)
            pixels = self._grow(cells, window) * window.side
            part = whole[window.rows, window.columns]
            part += (pixels - part) * window.weight[..., None]
        return whole

    def seen(self, visible: Sequence[Float[Tensor, "1 g g"]]) -> Float32[np.ndarray, "h w"]:
        """How sure the views are that the photo shows what the frame must, over the whole photo."""
        whole = np.ones(self.places.shape[:2], np.float32)
        for window, share in zip(self.windows, visible, strict=True):
            cells = np.ascontiguousarray(share[0].float().cpu().numpy())
            part = whole[window.rows, window.columns]
            part += (self._grow(cells, window) - part) * window.weight
        return whole

    def warp(self, flow: Float32[np.ndarray, "h w 2"]) -> Float32[np.ndarray, "h w 3"]:
        """The photo fetched from where the flow points; cubic, as linear would soften whatever moves, and crisped."""
        places = self.places + flow
        x, y = np.ascontiguousarray(places[..., 0]), np.ascontiguousarray(places[..., 1])
        frame = cv2.remap(self.photo, x, y, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
        crisp(frame, flow, _CRISP_FROM * self.windows[-1].side)
        return frame

    def paint(
        self,
        frame: Float32[np.ndarray, "h w 3"],
        index: int,
        paint: Tensor,
        alpha: Tensor,
        free: Float32[np.ndarray, "h w 1"] | None = None,
        behind: tuple[Float32[np.ndarray, "h w 3"], Float32[np.ndarray, "h w 1"]] | None = None,
    ) -> None:
        """Lay one view's paint (3 s s) over the frame where its alpha (1 s s) is, by the share that is `free`.

        `behind`: a picture that takes the paint's place, by its share.
        """
        window = self.windows[index]
        if float(alpha.max()) < 0.01:
            return
        both = torch.cat([paint, alpha]).permute(1, 2, 0).cpu().numpy()
        both = self._grow(np.ascontiguousarray(both, dtype=np.float32), window)
        share = both[..., 3:] * window.weight[..., None]
        if free is not None:
            share = share * free[window.rows, window.columns]
        colours = both[..., :3]
        if behind is not None:
            picture, instead = (z[window.rows, window.columns] for z in behind)
            colours = colours + (picture - colours) * instead
        part = frame[window.rows, window.columns]
        part += (colours - part) * share

    @staticmethod
    def _grow(cells: np.ndarray, window: Window) -> np.ndarray:
        """A view's maps at the photo's resolution, cut to what lies in the picture."""
        whole = cv2.resize(cells, (window.side, window.side), interpolation=cv2.INTER_LINEAR)
        return whole[window.inner]


def crisp(
    frame: Float32[np.ndarray, "h w 3"], flow: Float32[np.ndarray, "h w 2"], far: float
) -> None:
    """An unsharp mask in place, by how far a pixel was fetched (`far` pixels: in full), within its neighbours' range.

    In strips, whose arrays stay in the cache: three times as fast as at once.
    """
    height, before = len(frame), frame[:0]
    for top in range(0, height, _STRIP):
        bottom = min(top + _STRIP, height)
        share = cv2.max(*(np.abs(flow[top:bottom, :, k]) for k in (0, 1)))
        part = np.concatenate([before, frame[top : min(bottom + 1, height)]])
        first = len(before)
        before = frame[bottom - 1 : bottom].copy()
        if float(share.max()) < 0.05 * far:
            continue
        weight = np.minimum(share * (_CRISP / far), _CRISP)
        own = slice(first, first + bottom - top)
        fine = cv2.subtract(part, cv2.GaussianBlur(part, (3, 3), 0.8))[own]
        fine = cv2.add(cv2.multiply(fine, cv2.merge([weight, weight, weight])), part[own])
        low, high = cv2.erode(part, _AROUND)[own], cv2.dilate(part, _AROUND)[own]
        frame[top:bottom] = cv2.max(cv2.min(fine, high + _CRISP_OVER), low - _CRISP_OVER)


def as_frames(frames: Sequence[np.ndarray]) -> Float[Tensor, "f 3 h w"]:
    """Composed frames as a clip's tensor."""
    joined = torch.from_numpy(np.stack(frames)).permute(0, 3, 1, 2)
    return joined.clamp(-1.0, 1.0).contiguous()
