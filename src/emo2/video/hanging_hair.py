"""Long hair that hangs behind the neck: it follows the head where it leaves it and rests where it ends (ours).

A head's matte ends at ears and jaw, and what the flow says of hair below them is nearly nothing: ears left their hair.
A lock is a layer between the head and the wall: its rows bend from the head's motion to the body's, and it goes on
behind head and neck.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Bool, Float, Float32

from emo2.video.disks import grown
from emo2.video.head_edge import Box, Edge, moved
from emo2.video.painted_out import painted_out

BEHIND = (0.3, 0.25)
"""How far hair goes on behind head and neck, up and inwards, in face heights."""
SOFT = 0.015
"""Softness of its outline, in face heights."""
ALONG, EDGES = 0.04, 0.004
"""Over which its outline takes the picture's, in face heights, and least variance of an edge there (of light in -1..1)."""
WISPS = 0.03
"""So far beyond it nothing of the photo stays where the head moves, in face heights."""
MIXED = 0.03
"""So near the head the photo's hair has the head's colours in it, in face heights."""
NEXT = 0.06
"""Gaps between head and lock are hair, up to this, in face heights."""
EARS = (0.1, 0.45)
"""From where to where below the brows a lock's head is, in face heights; below it begins to hang."""
ROOT = (0.1, 0.25)
"""How far out of and into the head's outline, in face heights."""
RESTS = 0.12
"""The last of a lock goes with the body, in face heights."""
ROOM = 0.25
"""How far locks may move, in face heights."""


@dataclass(frozen=True, kw_only=True)
class Lock:
    """Hair that hangs on one side, within a box of the picture."""

    box: Box
    colour: Float32[np.ndarray, "y x 3"]
    """Hair, and how it goes on behind the head."""
    alpha: Float32[np.ndarray, "y x"]
    here: Float32[np.ndarray, "y x"]
    """1 where the photo itself shows it."""
    rest: Float32[np.ndarray, "y x 2"]
    """Where each pixel is, within the box."""
    follows: Float32[np.ndarray, "y 1"]
    """1 for rows that go with the head, 0 for those that go with the body."""
    shows: Float32[np.ndarray, "y 1"]
    """1 for rows that the layer shows; it ends where it goes as the picture does."""
    root: Box
    """Where the head moves it."""
    end: Box
    """Where the body does."""

    @staticmethod
    def build(
        photo: Float32[np.ndarray, "h w 3"],
        mask: Bool[np.ndarray, "h w"],
        head: Bool[np.ndarray, "h w"],
        face: tuple[float, float, float, float],
    ) -> Lock:
        """`mask`: what the photo shows of it; `head`: the person without it; `face`: its box."""
        x0, y0, x1, y1 = face
        tall = max(y1 - y0, 1.0)
        rows, columns = (np.flatnonzero(mask.any(axis)) for axis in (1, 0))
        top, bottom = int(rows[0]), int(rows[-1]) + 1
        left, right = int(columns[0]), int(columns[-1]) + 1
        room, up = round(ROOM * tall), round(BEHIND[0] * tall)
        box = (
            slice(max(top - up - room, 0), min(bottom + room, mask.shape[0])),
            slice(max(left - room, 0), min(right + room, mask.shape[1])),
        )
        here, before = mask[box], head[box]
        on_left = bool(left + right < x0 + x1)
        behind = _carried_on(here, up, round(BEHIND[1] * tall), on_left)
        behind &= _closed(here | before, NEXT * tall) & ~here
        soft = SOFT * tall
        seen = grown(here | (behind & ~before), WISPS * tall)
        shown = cv2.GaussianBlur(seen.astype(np.float32), (0, 0), soft)
        mixed = grown(before, MIXED * tall)
        pure = here & ~mixed
        hair = painted_out(photo[box], ~(pure if pure.any() else here))
        colour = np.where((mixed | behind)[..., None], hair, photo[box]).astype(np.float32)
        ys, xs = (np.arange(n, dtype=np.float32) for n in here.shape)
        ears = tuple(max(round(y0 + share * tall), 0) for share in EARS)
        end, still, ear = bottom - box[0].start, RESTS * tall, ears[1] - box[0].start
        outline = np.flatnonzero(head[slice(*ears)].any(0))
        outline = outline if outline.size else np.array([x0, x1])
        side, inwards = (float(outline[0]), 1) if on_left else (float(outline[-1]), -1)
        reach = sorted((side - inwards * ROOT[0] * tall, side + inwards * ROOT[1] * tall))
        return Lock(
            box=box,
            colour=colour,
            alpha=_along_edges(here | behind, colour, max(round(ALONG * tall), 1)),
            here=shown,
            rest=np.stack(np.meshgrid(xs, ys), axis=-1),
            follows=_ramp((end - still - ys) / max(end - still - ear, 1.0))[:, None],
            shows=_ramp((end - ys) / still)[:, None],
            root=(slice(*ears), slice(max(round(reach[0]), 0), max(round(reach[1]), 1))),
            end=(slice(bottom - round(still), bottom), slice(left, right)),
        )

    def lay(self, plate: Float32[np.ndarray, "h w 3"], edge: Edge) -> Float32[np.ndarray, "y x"]:
        """Draw it, in place, over what is behind it, as the head moves it; where it is and was, within its box."""
        body = mean_flow(edge.flow, None, within(self.end, edge.box))
        root = within(self.root, edge.box)
        head = mean_flow(edge.carried, edge.head[..., 0], root)
        offset = body + (head - body) * self.follows
        places = self.rest + offset[:, None].astype(np.float32)
        alpha = moved(self.alpha, places)
        x, y = (np.ascontiguousarray(places[..., k]) for k in (0, 1))
        colour = cv2.remap(self.colour, x, y, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
        part = plate[self.box]
        part += (colour - part) * alpha[..., None]
        return np.maximum(alpha, self.here) * self.shows


def mean_flow(
    flow: Float32[np.ndarray, "y x 2"], weight: Float32[np.ndarray, "y x"] | None, box: Box
) -> Float[np.ndarray, "2"]:
    """The flow in a box, where there is weight."""
    near = flow[box].reshape(-1, 2)
    share = np.ones(len(near), np.float32) if weight is None else weight[box].ravel()
    return share @ near / max(float(share.sum()), 1e-3)


def within(box: Box, other: Box) -> Box:
    """A box of the picture, counted from another's corner."""
    rows, columns = (
        slice(max(a.start - b.start, 0), max(min(a.stop, b.stop) - b.start, 0))
        for a, b in zip(box, other, strict=True)
    )
    return rows, columns


def _carried_on(
    here: Bool[np.ndarray, "y x"], up: int, inwards: int, on_left: bool
) -> Bool[np.ndarray, "y x"]:
    """Hair and what is above it and towards the neck."""
    above = cv2.dilate(here.astype(np.uint8), np.ones((up + 1, 1), np.uint8), anchor=(0, 0))
    across = np.ones((1, inwards + 1), np.uint8)
    return cv2.dilate(above, across, anchor=(inwards if on_left else 0, 0)) > 0


def _ramp(values: Float32[np.ndarray, "n"]) -> Float32[np.ndarray, "n"]:
    x = values.clip(0.0, 1.0)
    return (x * x * (3.0 - 2.0 * x)).astype(np.float32)


def _along_edges(
    mask: Bool[np.ndarray, "y x"], image: Float32[np.ndarray, "y x 3"], reach: int
) -> Float32[np.ndarray, "y x"]:
    """A soft mask whose outline is the picture's own (guided filter, He et al. 2013, by how light it is)."""
    guide = image.mean(-1)

    def near(values: np.ndarray) -> np.ndarray:
        return cv2.blur(values, (2 * reach + 1, 2 * reach + 1))

    rough = mask.astype(np.float32)
    light, share = near(guide), near(rough)
    slope = (near(guide * rough) - light * share) / (near(guide * guide) - light * light + EDGES)
    fine = near(slope) * guide + near(share - slope * light)
    return ((fine - 0.5) * 1.6 + 0.5).clip(0.0, 1.0).astype(np.float32)


def _closed(mask: Bool[np.ndarray, "h w"], radius: float) -> Bool[np.ndarray, "h w"]:
    return ~grown(~grown(mask, radius), radius)
