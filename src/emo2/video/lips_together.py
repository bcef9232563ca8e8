"""A photo's open lips brought together before anything else looks at it (ours).

LivePortrait normalises the lips of its source by a retargeting network (arXiv 2407.03168, section 3.3), so that
actions start from closed lips whatever the photo does.  Here it is geometry: the inner edges that `portrait/lips.py`
measured move to one line, the skin between nose and chin follows, and the teeth are gone.  The networks of the film
then see a mouth as they know it best, and the face actions open it again, over the photo's own teeth.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np
import torch
from jaxtyping import Float, Float32
from torch import Tensor

from emo2.portrait.lips import Lips, find_lips
from emo2.signals import Portrait
from emo2.video.own_teeth import OwnTeeth, teeth_of

TIMES = 2
"""How often lips may be brought together: a tongue or lower teeth may part a wide open mouth in two."""
UPPER_SHARE = 0.3
"""Of a gap that the upper lip closes."""
RIM, RIM_PIXELS = 0.006, 0.5
"""Eye-to-mouth distances, and pixels of the photo besides, by which edges are cut into the lips: none of the teeth stays."""
NOSE, CHIN = 0.15, 0.4
"""Least distances above and below the edges over which the skin follows."""
SIDEWAYS = 0.1
"""How far away from the lips a move spreads to both sides."""
CREASE, CREASE_WIDTH = 0.3, 0.009
"""Light that is lost where lips touch, and over how far."""
INNER, OUTER, NOSE_POINT, CHIN_POINT = slice(60, 68), slice(48, 60), 33, 8
INNER_SHARES = np.array([0.0, 0.28, 0.5, 0.72, 1.0, 0.72, 0.5, 0.28], np.float32)
"""Where the inner points lie between the corners."""
SHUT = 0.01
"""Gap under which lips are shut."""


def lips_together(portrait: Portrait) -> tuple[Portrait, OwnTeeth | None]:
    """The portrait with closed lips, picture and points, and the teeth that it showed.

    The portrait as it is where its lips are not surely apart, or where they do not meet even so.
    """
    lips = find_lips(portrait)
    if lips is None:
        return portrait, None
    closed = portrait
    apart: Lips | None = lips
    for _ in range(TIMES):
        if apart is not None:
            closed = _closed(closed, apart)
            apart = find_lips(closed)
    if apart is not None:
        return portrait, None
    return closed, teeth_of(portrait, lips)


def _closed(portrait: Portrait, lips: Lips) -> Portrait:
    closing = Closing.of(lips, portrait.face_points)
    image = portrait.image.permute(1, 2, 0).cpu().numpy().astype(np.float32, order="C")
    closing.close(image)
    return replace(
        portrait,
        image=torch.from_numpy(image).permute(2, 0, 1).to(portrait.image),
        face_points=closing.points(portrait.face_points),
    )


@dataclass(frozen=True, kw_only=True)
class Closing:
    """Where lips and skin go, in the mouth's coordinates; see `Lips`."""

    lips: Lips
    upper: Float32[np.ndarray, " n"]
    lower: Float32[np.ndarray, " n"]
    seam: Float32[np.ndarray, " n"]
    """The line on which the edges meet."""
    nose: float
    chin: float
    """How far up and down the skin moves."""

    @staticmethod
    def of(lips: Lips, points: Float[Tensor, "68 2"]) -> Closing:
        """From the lips' edges and the face's points."""
        rim = RIM + RIM_PIXELS / lips.unit
        rim = rim * np.clip((lips.lower - lips.upper) / 0.03, 0.0, 1.0)
        upper, lower = lips.upper - rim, lips.lower + rim
        marks = lips.inside(points[[NOSE_POINT, CHIN_POINT]].cpu().numpy())
        return Closing(
            lips=lips,
            upper=upper,
            lower=lower,
            seam=upper + UPPER_SHARE * (lower - upper),
            nose=min(float(marks[0, 1]), float(upper.min()) - NOSE),
            chin=max(float(marks[1, 1]) - 0.1, float(lower.max()) + CHIN),
        )

    def sources(
        self, places: Float32[np.ndarray, "*n 2"]
    ) -> tuple[Float32[np.ndarray, "*n"], Float32[np.ndarray, "*n"]]:
        """How far down the photo shows what belongs to places, taken for upper and for lower lip and skin."""
        across, down = places[..., 0], places[..., 1]
        seam = self.lips.at(across, self.seam)
        sources = []
        for edge, end in ((self.upper, self.nose), (self.lower, self.chin)):
            near = edge - self.seam
            far = cv2.GaussianBlur(near[None], (0, 0), SIDEWAYS / self.lips.step)[0]
            share = ((down - end) / (seam - end)).clip(0.0, 1.0)
            move = self.lips.at(across, far) * (1.0 - share) + self.lips.at(across, near) * share
            sources.append(down + move * share * share * (2.0 - share))
        return sources[0], sources[1]

    def close(self, image: Float32[np.ndarray, "h w 3"]) -> None:
        """Close the lips of the photo, in place."""
        reach = float(self.lips.across[-1])
        corners = [(u, v) for u in (-reach, reach) for v in (self.nose, self.chin)]
        box = self.lips.outside(np.array(corners, np.float32))
        x0, y0 = np.floor(box.min(0)).astype(int).clip(0)
        x1, y1 = np.minimum(np.ceil(box.max(0)).astype(int) + 1, image.shape[1::-1])
        pixels = np.stack(np.meshgrid(np.arange(x0, x1), np.arange(y0, y1)), -1).astype(np.float32)
        places = self.lips.inside(pixels)
        below = self.lips.unit * (places[..., 1] - self.lips.at(places[..., 0], self.seam))
        shares = (below + 0.5).clip(0.0, 1.0)[..., None]
        moved = [
            self._fetch(image, pixels, places, down, (x0, y0)) for down in self.sources(places)
        ]
        part = moved[0] + (moved[1] - moved[0]) * shares
        width = max(CREASE_WIDTH * self.lips.unit, 0.7)
        apart = self.lips.at(
            places[..., 0], ((self.lower - self.upper - 0.01) / 0.06).clip(0.0, 1.0)
        )
        light = 1.0 - CREASE * apart * np.exp(-((below / width) ** 2))
        image[y0:y1, x0:x1] = (part + 1.0) * light[..., None] - 1.0

    def _fetch(
        self, image: np.ndarray, pixels: np.ndarray, places: np.ndarray, down: np.ndarray, at: tuple
    ) -> Float32[np.ndarray, "h w 3"]:
        moved = (down - places[..., 1])[..., None] * self.lips.axes[:, 1]
        still = np.abs(moved).max(-1) < 0.02
        place = pixels + np.where(still[..., None], 0.0, moved).astype(np.float32)
        x, y = (np.ascontiguousarray(place[..., k]) for k in (0, 1))
        return cv2.remap(image, x, y, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)

    def points(self, points: Float[Tensor, "68 2"]) -> Float[Tensor, "68 2"]:
        """The face's points after it: the inner lips along the line, the outer moved with their lip.

        A mouth is at least as wide as it is seen to be apart.
        """
        places = self.lips.inside(points.cpu().numpy())
        apart = self.lips.across[np.flatnonzero(self.lower - self.upper > SHUT)]
        left, right = min(places[48, 0], apart[0]), max(places[54, 0], apart[-1])
        places[[48, 60], 0], places[[54, 64], 0] = left, right
        places[INNER, 0] = left + (right - left) * INNER_SHARES
        places[INNER, 1] = self.lips.at(places[INNER, 0], self.seam)
        steps = np.linspace(self.nose, self.chin, 400, dtype=np.float32)
        for place in places[OUTER]:
            column = np.stack([np.full_like(steps, place[0]), steps], -1)
            upper, lower = self.sources(column)
            seam = self.lips.at(place[:1], self.seam)
            place[1] = np.interp(place[1], np.where(steps < seam, upper, lower), steps)
        places[[48, 54]] = places[[60, 64]]
        result = points.clone()
        for part in (INNER, OUTER):
            result[part] = torch.from_numpy(self.lips.outside(places[part])).to(points)
        return result
