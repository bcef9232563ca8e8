"""What stands behind the head: the photo's own pixels, at rest, wherever the moved head does not cover them (ours).

The flow knows no edge between hair and wall, so a turning head drags the wall along and leaves a ghost where it was.
Around the head the frame is therefore laid over a plate: the photo with the person painted out once.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np
from jaxtyping import Float32, UInt8

from emo2.signals import Portrait
from emo2.video.disks import disk
from emo2.video.hair_finding import find_locks
from emo2.video.hanging_hair import Lock
from emo2.video.head_edge import Edge, HeadEdge, moved
from emo2.video.painted_out import painted_out

MARGIN, FEATHER = 0.05, 0.07
"""Around the person: what surely moves with it, and over which it fades; in face heights."""
EDGE = 0.015
"""Softness of the person's own edge, in face heights."""
ENDS = (0.0, 0.45)
"""Below the chin the plate fades out, between these, in face heights: bodies are not cut from what is behind them."""
HEAD_PIXELS = 80.0
"""Height of a face, in pixels, when the head is cut out."""
SKULL_MIDDLE, SKULL_SIDES, SKULL_HEIGHT = 0.12, 0.08, 0.84
"""The ellipse that is surely head and hair: its middle below the brows, what it adds to the face's sides, half its
height; in face heights (brow to chin)."""
SURE = 0.88
"""How much smaller what is surely head."""
HAIR = 2.0
"""How much larger hair may be than that ellipse."""
SHOULDERS = 0.45
"""Where shoulders are below the chin, in face heights."""
THREAD = 0.03
"""Where hair that hangs is taken out of the person, nothing thinner than twice this stays outside of it; in face heights."""
MOST = 0.97
"""A head that fills more of the picture has nothing behind it."""


@dataclass(frozen=True, kw_only=True)
class Backdrop:
    """Plate and matte of one photo."""

    plate: Float32[np.ndarray, "h w 3"]
    """The photo without the head, in [-1, 1]."""
    wall: Float32[np.ndarray, "h w 3"]
    """The same without hair that hangs."""
    locks: tuple[Lock, ...]
    """Hair that hangs before the wall and behind the head."""
    held: Float32[np.ndarray, "h w"]
    """0 where the plate shows in the photo itself, 1 where whatever is there moves."""
    person: Float32[np.ndarray, "h w"]
    """1 on the person, with a narrow soft edge: only there may a network's paint stand for what the photo hides."""
    here: Float32[np.ndarray, "h w"]
    """1 where the plate may show at all."""
    rows: int
    """Below this row it never does."""
    edge: HeadEdge

    @staticmethod
    def build(portrait: Portrait) -> Backdrop | None:
        """Cut the head out: about a second, once a photo; None where there is nothing to see behind it."""
        height, width = portrait.size
        x0, y0, x1, y1 = portrait.face_box.tolist()
        tall = max(y1 - y0, 1.0)
        rows = min(height, round(y1 + ENDS[1] * tall))
        photo = np.ascontiguousarray(portrait.image.permute(1, 2, 0).cpu().numpy(), np.float32)
        pixels = ((photo + 1.0) * 127.5).clip(0, 255).astype(np.uint8)
        person = head_mask(pixels, (x0, y0, x1, y1))
        if portrait.limb_masks is not None:
            limbs = portrait.limb_masks.amax(0).cpu().numpy()
            person = np.maximum(person, (limbs > 0.3).astype(np.float32))
        locks = find_locks(pixels, person, (x0, y0, x1, y1))
        for lock in locks:
            person = _without(person, lock, (x0 + x1) / 2, THREAD * tall)
        sure = _grown(person, MARGIN * tall)
        held = cv2.GaussianBlur(
            _grown(person, (MARGIN + FEATHER) * tall), (0, 0), FEATHER * tall / 2
        )
        held = np.maximum(held, sure)
        if held[:rows].mean() > MOST:
            return None
        ys = np.arange(height, dtype=np.float32)
        fade = np.clip((y1 + ENDS[1] * tall - ys) / ((ENDS[1] - ENDS[0]) * tall), 0.0, 1.0)
        here = np.broadcast_to((fade * fade * (3 - 2 * fade))[:, None], (height, width))
        here, rows = np.ascontiguousarray(here, np.float32), max(rows, 1)
        matte = cv2.GaussianBlur(_grown(person, EDGE * tall), (0, 0), EDGE * tall)
        wall = painted_out(
            photo, np.maximum.reduce([sure, *(_grown(lock, MARGIN * tall) for lock in locks)]) > 0.5
        )
        return Backdrop(
            plate=np.where((sure > 0.5)[..., None], wall, photo) if locks else wall,
            wall=wall,
            locks=tuple(
                Lock.build(photo, lock > 0.5, person > 0.5, (x0, y0, x1, y1)) for lock in locks
            ),
            held=held,
            person=matte,
            here=here,
            rows=rows,
            edge=HeadEdge.build(matte, (x0, y0, x1, y1), rows),
        )

    def follow(
        self, flow: Float32[np.ndarray, "h w 2"], visible: Float32[np.ndarray, "h w"]
    ) -> Edge | None:
        """Let the head's edge go with it, in place, and hair that hangs; None where the head rests (`HeadEdge.follow`)."""
        edge = self.edge.follow(flow, visible)
        if edge is None or not self.locks:
            return edge
        plate, hair = self.wall.copy(), np.zeros((*self.person.shape, 1), np.float32)
        for lock in self.locks:
            part = hair[lock.box]
            part[:] = np.maximum(part, lock.lay(plate, edge)[..., None])
        return replace(edge, plate=plate, hair=hair[edge.box] * (1.0 - edge.head))

    def behind(self, places: Float32[np.ndarray, "h w 2"]) -> Float32[np.ndarray, "h w 1"]:
        """1 where the plate, not paint, stands for what the moved photo hides; for every row of the picture."""
        found = np.zeros((*places.shape[:2], 1), np.float32)
        found[: self.rows] = self._away_from(self.person, places[: self.rows])
        return found

    def lay(
        self,
        frame: Float32[np.ndarray, "h w 3"],
        places: Float32[np.ndarray, "h w 2"],
        edge: Edge | None = None,
    ) -> None:
        """Show the plate, in place; `places`: where in the photo each pixel of the frame comes from."""
        part, shown = slice(0, self.rows), self._away_from(self.held, places[: self.rows])
        if edge is not None:
            bare = edge.bare * self.here[edge.box][..., None]
            shown[edge.box] = np.maximum(shown[edge.box], bare)
            if edge.hair is not None:
                shown[edge.box] = np.maximum(shown[edge.box], edge.hair)
        frame[part] += (self.plate_of(edge)[part] - frame[part]) * shown

    def plate_of(self, edge: Edge | None) -> Float32[np.ndarray, "h w 3"]:
        """What is behind the head in a frame."""
        return self.plate if edge is None or edge.plate is None else edge.plate

    def _away_from(
        self, matte: Float32[np.ndarray, "h w"], places: Float32[np.ndarray, "rows w 2"]
    ) -> Float32[np.ndarray, "rows w 1"]:
        """How far the moved matte leaves the upper rows free, where the plate may show."""
        return ((1.0 - moved(matte, places)) * self.here[: self.rows])[..., None]


def head_mask(
    pixels: UInt8[np.ndarray, "h w 3"], box: tuple[float, float, float, float]
) -> Float32[np.ndarray, "h w"]:
    """1 on head, hair, neck and shoulders: a skull's ellipse, and what looks like it and like what is below (GrabCut)."""
    x0, y0, x1, y1 = box
    tall, middle = max(y1 - y0, 1.0), (x0 + x1) / 2
    scale = min(HEAD_PIXELS / tall, 1.0)
    small = cv2.resize(pixels, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    trimap = np.full(small.shape[:2], cv2.GC_BGD, np.uint8)

    def ellipse(value: int, grown: float) -> None:
        centre = (round(middle * scale), round((y0 + SKULL_MIDDLE * tall) * scale))
        half = ((x1 - x0) / 2 + SKULL_SIDES * tall, SKULL_HEIGHT * tall)
        cv2.ellipse(
            trimap, centre, (round(half[0] * grown * scale), round(half[1] * grown * scale)),
            0, 0, 360, value, -1,
        )  # fmt: skip

    ellipse(cv2.GC_PR_BGD, HAIR)
    trimap[round(y1 * scale) :, :] = cv2.GC_PR_BGD
    shoulder = round((y1 + SHOULDERS * tall) * scale)
    wide = round(tall * scale)
    trimap[shoulder:, max(round(middle * scale) - wide, 0) : round(middle * scale) + wide] = (
        cv2.GC_PR_FGD
    )
    ellipse(cv2.GC_PR_FGD, 1.0)
    ellipse(cv2.GC_FGD, SURE)
    models = np.zeros((2, 1, 65), np.float64)
    whole = (0, 0, small.shape[1], small.shape[0])
    mask = trimap.copy()
    cv2.setRNGSeed(0)  # GrabCut draws its first clusters at random
    cv2.grabCut(small, mask, whole, models[0], models[1], 3, cv2.GC_INIT_WITH_MASK)
    found = ((mask == cv2.GC_FGD) | (mask == cv2.GC_PR_FGD)).astype(np.float32)
    size = (pixels.shape[1], pixels.shape[0])
    return (cv2.resize(found, size, interpolation=cv2.INTER_LINEAR) > 0.3).astype(np.float32)


def _without(
    person: Float32[np.ndarray, "h w"],
    lock: Float32[np.ndarray, "h w"],
    middle: float,
    thin: float,
) -> Float32[np.ndarray, "h w"]:
    """The person without hanging hair, nor what is left of it at its outer side, thinner than twice `thin`."""
    rest = np.minimum(person, 1.0 - lock)
    core = _grown(1.0 - _grown(1.0 - rest, thin), thin)
    reach, on_left = round(3 * thin) + 1, float(np.flatnonzero(lock.any(0)).mean()) < middle
    outside = cv2.dilate(lock, np.ones((1, reach)), anchor=(0 if on_left else reach - 1, 0))
    return np.where(outside > 0.5, np.minimum(rest, core), rest)


def _grown(mask: Float32[np.ndarray, "h w"], radius: float) -> Float32[np.ndarray, "h w"]:
    return cv2.dilate(mask, disk(radius))
