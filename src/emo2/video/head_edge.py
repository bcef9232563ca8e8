"""The moving head's edge: what belongs to it goes whole, and what it has left is told (ours).

A field of flow on a grid fades from the head's to none over some cells.  Across them hair would be smeared, and beside
the head the field still points at the old one.  The flow of what is surely visible head is therefore carried over the
edge, and the photo's own matte, read there, says which pixels are the head's.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Float32

from emo2.video.disks import disk

PIXELS = 80.0
"""Height of a face, in pixels, when the head's flow is carried."""
NEAR = 0.08
"""How far, in face heights, that flow is taken from."""
INNER = 5
"""How many of those pixels the head is narrowed by: a soft edge of the old head is no head."""
EVEN = 0.1
"""Over which the carried flow is evened out, in face heights: crowns move less than temples, and an outline has no kinks."""
SOME = 0.02
"""Share of surely visible head around a place from which its flow is known there."""
LEAST = 1e-4
"""Share of surely visible head around a place from which its flow counts there."""
UNCOVERED = (0.55, 0.9)
"""Visibility below which a place is surely one that the photo hides, and above which it surely is not."""
RIM = 0.15
"""How far into the head, in face heights, its edge reaches; mouths lie deeper."""
CHIN = 0.15
"""Over which height, in face heights, what the flow fetches of a head beside it begins to be taken for left behind."""
SOFT = 0.1
"""Matte from which on a pixel is fetched as the head's: across its soft edge colours are mixed, not flows."""
RESTS = 0.004
"""Flow, in face heights, up to which a head rests."""
AROUND = (1.6, 1.6)
"""How far from the middle of the face the head may reach, across and up, in face heights."""

Box = tuple[slice, slice]
"""Rows and columns."""


@dataclass(frozen=True, kw_only=True)
class Edge:
    """What a frame's head does at its edge; all within a box of the picture."""

    box: Box
    bare: Float32[np.ndarray, "y x 1"]
    """1 where what is behind the head shows, which the photo hides."""
    own: Float32[np.ndarray, "y x 1"]
    """1 where the photo's own pixels are the head's, whatever else is painted."""
    head: Float32[np.ndarray, "y x 1"]
    """1 where the moved head is, and below it neck and shoulders."""
    carried: Float32[np.ndarray, "y x 2"]
    """The head's flow, as far as it goes on beside it."""
    flow: Float32[np.ndarray, "y x 2"]
    """The picture's flow, the head's edge with it."""
    plate: Float32[np.ndarray, "h w 3"] | None = None
    """What is behind the head in this frame; None: as in the photo."""
    hair: Float32[np.ndarray, "y x 1"] | None = None
    """1 where hair behind the head is or was."""


@dataclass(frozen=True, kw_only=True)
class HeadEdge:
    """The edge of one photo's head."""

    person: Float32[np.ndarray, "h w"]
    """Matte of the photo, with a narrow soft edge."""
    rim: Float32[np.ndarray, "h w"]
    """1 on the matte's edge and outside of it, 0 well inside."""
    above: Float32[np.ndarray, "h w"]
    """1 above the chin."""
    box: Box
    rest: Float32[np.ndarray, "y x 2"]
    """Where each pixel of the box is."""
    tall: float
    """Height of the face, pixels."""

    @staticmethod
    def build(
        person: Float32[np.ndarray, "h w"],
        face: tuple[float, float, float, float],
        rows: int,
    ) -> HeadEdge:
        """`person`: the soft matte; `face`: its box, in pixels; from the row `rows` on nothing is done."""
        x0, y0, x1, y1 = face
        tall = max(y1 - y0, 1.0)
        height, width = person.shape
        inside = cv2.erode(person, disk(RIM * tall / 2))
        rim = 1.0 - cv2.GaussianBlur(inside, (0, 0), RIM * tall / 4) * inside
        middle = (x0 + x1) / 2
        box = (
            slice(max(round((y0 + y1) / 2 - AROUND[1] * tall), 0), rows),
            slice(max(round(middle - AROUND[0] * tall), 0), round(middle + AROUND[0] * tall)),
        )
        ys, xs = np.arange(height, dtype=np.float32), np.arange(width, dtype=np.float32)
        above = np.clip((y1 - ys) / (CHIN * tall), 0.0, 1.0)
        return HeadEdge(
            person=person,
            rim=rim.astype(np.float32),
            above=np.broadcast_to(above[:, None], (height, width)),
            box=box,
            rest=np.stack(np.meshgrid(xs[box[1]], ys[box[0]]), axis=-1),
            tall=tall,
        )

    def follow(
        self, flow: Float32[np.ndarray, "h w 2"], visible: Float32[np.ndarray, "h w"]
    ) -> Edge | None:
        """Let the edge go with the head, in place; None where the head rests.

        `visible`: 0 where the photo does not show what the frame must.
        """
        given = flow[self.box]
        if not given.size or np.abs(given).max() < RESTS * self.tall:
            return None
        shown = 1.0 - uncovered(visible[self.box])
        fetched = moved(self.person, self.rest + given)
        carried = self._carry(given, fetched * shown)
        places = self.rest + carried
        head = moved(self.person, places)
        own = np.minimum(head / SOFT, 1.0) * moved(self.rim, places)
        above = self.above[self.box]
        own = np.maximum(own, head * (1.0 - fetched)) * above  # no wall in the head
        # The head's pixels beside the moved head are smeared out, or left behind where it was.
        ghost = np.minimum(fetched / SOFT, 1.0) * above
        bare = np.maximum(1.0 - shown, ghost) * (1.0 - head)
        given += own[..., None] * (carried - given)
        return Edge(
            box=self.box, bare=bare[..., None], own=own[..., None], head=head[..., None],
            carried=carried, flow=given,
        )  # fmt: skip

    def _carry(
        self, flow: Float32[np.ndarray, "y x 2"], head: Float32[np.ndarray, "y x"]
    ) -> Float32[np.ndarray, "y x 2"]:
        """The flow of surely visible head (1 in `head`), continued to where there is none."""
        height, width = head.shape
        scale = min(PIXELS / self.tall, 1.0)
        size = max(round(width * scale), 1), max(round(height * scale), 1)

        def small(values: np.ndarray) -> np.ndarray:
            return cv2.resize(values, size, interpolation=cv2.INTER_AREA)

        surely = cv2.erode(small(head), np.ones((INNER, INNER), np.uint8)) ** 4
        near = small(flow)
        reach = NEAR * self.tall * scale
        total = cv2.GaussianBlur(surely, (0, 0), reach) + LEAST
        whole = cv2.GaussianBlur(near * surely[..., None], (0, 0), reach) + LEAST * near
        change = (1.0 - surely)[..., None] * (
            self._evened(whole / total[..., None], np.minimum(total / SOME, 1.0), scale) - near
        )
        return flow + cv2.resize(change, (width, height), interpolation=cv2.INTER_LINEAR)

    def _evened(
        self, carried: Float32[np.ndarray, "r c 2"], known: Float32[np.ndarray, "r c"], scale: float
    ) -> Float32[np.ndarray, "r c 2"]:
        """Carried flow without jumps along the outline, where any is `known` (0..1)."""
        reach = EVEN * self.tall * scale
        near = np.maximum(cv2.GaussianBlur(known, (0, 0), reach), LEAST)
        even = cv2.GaussianBlur(carried * known[..., None], (0, 0), reach) / near[..., None]
        return carried + known[..., None] * (even - carried)


def moved(
    matte: Float32[np.ndarray, "h w"], places: Float32[np.ndarray, "y x 2"]
) -> Float32[np.ndarray, "y x"]:
    """A matte read at places, its border repeated."""
    x, y = (np.ascontiguousarray(places[..., k]) for k in (0, 1))
    return cv2.remap(matte, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)


def uncovered(visible: Float32[np.ndarray, "y x"]) -> Float32[np.ndarray, "y x"]:
    """1 where a frame shows what the photo hides, by how visible a network says it is there."""
    low, high = UNCOVERED
    return np.clip((high - visible) / (high - low), 0.0, 1.0)
