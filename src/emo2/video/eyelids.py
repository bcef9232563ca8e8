"""Blinks: the photo's own lids drawn over its eyes, at the film's full size (ours).

A network that sees a view of 256 pixels leaves a slit of white or a scribble where lids meet.  Lids are simple: the
edge with its lashes goes down as it is, the skin between brow and lashes unfolds above it, the lower lid comes up a
little.  Where the edges are, `portrait/eyes.py` has measured; where they stand in a frame, the frame's flow says.  The
composed frame is drawn out, not the photo, so that light, brows and gaze stay as they are.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Float32

from emo2.portrait.eyes import Eye, find_eyes
from emo2.signals import FACE_ACTIONS, Portrait
from emo2.video.disks import disk

BLINKS = [FACE_ACTIONS.index(f"eyeBlink{side}") for side in ("Right", "Left")]
"""The actions of the eyes on the left and on the right of the picture."""
LASHES = 0.03
"""Width of the lashes' line below the upper edge, in widths of the eye: it goes down as it is ..."""
ROOTS = 0.08
"""... with what is as close above it, mostly its shadow."""
BROW = 0.17
"""From the middle of a brow down to where skin may be drawn out."""
UPPER_SKIN = (0.14, 0.36)
"""Least and most height over the upper edge that is drawn out ..."""
AT_CORNERS = 0.35
"""... and what is left of it at the corners."""
LASH_HAIR = 0.09
"""Width of dark hairs and lines that are no skin to be drawn out, in widths of the eye."""
LOWER_SKIN = 0.25
MEET = 0.05
"""Share of the opening that the lower lid closes."""
CREASE, CREASE_WIDTH, CREASE_FROM = 0.3, 0.045, 0.6
"""Light lost where lids touch, over how far, and the closure from which they begin to."""
GLINT = 0.05
"""Half the width of light lines that are the white of the eye there."""
LEAST = 0.02
"""Closure under which an eye stays as it is."""
REACH = (1.0, 0.85)
"""What a lid moves, across and down from the eye's middle, in its widths."""
LEAST_SIZE = 0.1
"""Pixels of the photo that one of the frame shows, under which an eye is smeared, and left alone."""
STEP = 8
"""Pixels between places where an eye is looked for in a frame."""


@dataclass(frozen=True, kw_only=True)
class Lid:
    """One eye's lines, along `Eye.across`."""

    eye: Eye
    edge: Float32[np.ndarray, " n"]
    """The upper lid's, lashes included."""
    roots: Float32[np.ndarray, " n"]
    """Where the lid's skin ends and its lashes begin."""
    top: Float32[np.ndarray, " n"]
    """Above, skin stays."""
    seam: Float32[np.ndarray, " n"]
    """Where the lids meet."""
    bow: Float32[np.ndarray, " n"]
    """1 in the middle of the eye, 0 at its corners and beyond."""

    @staticmethod
    def of(eye: Eye) -> Lid:
        """The lines of an eye."""
        gap = (eye.lower - eye.upper).clip(0.0)
        bow = np.sqrt(gap / gap.max())
        edge = eye.upper + np.minimum(LASHES * bow, 0.4 * gap)
        height = float(np.clip(eye.room - BROW, *UPPER_SKIN))
        return Lid(
            eye=eye,
            edge=edge,
            roots=eye.upper - ROOTS * bow,
            top=eye.upper - height * (AT_CORNERS + (1.0 - AT_CORNERS) * bow),
            seam=eye.lower - MEET * (eye.lower - edge),
            bow=bow,
        )


@dataclass(frozen=True, kw_only=True)
class Closing:
    """An eye that closes, in a frame."""

    lid: Lid
    closure: float
    rows: slice
    columns: slice
    spots: Float32[np.ndarray, "h w 2"]
    """What the pixels show, in the eye's coordinates."""
    down: Float32[np.ndarray, "2"]
    """The unit down, in the frame's pixels."""

    def lay(self, frame: Float32[np.ndarray, "h w 3"]) -> None:
        """Close it in a composed frame, in place; what is drawn out is the frame as it was."""
        part, lid = frame[self.rows, self.columns], self.lid
        down, pixels = self.spots[..., 1], float(np.hypot(*self.down))
        fall = self.closure * self._at(lid.seam - lid.edge)
        seam, lower = self._at(lid.seam), self._at(lid.eye.lower)
        rise = self.closure * (lower - seam)
        over, under = self._at(lid.edge) + fall - down, down - (lower - rise)
        before = part.copy()
        for drawn, inside in (
            (self._upper(before, fall, pixels), over),
            (self._lower(before, lower, rise), under),
        ):
            part += (drawn - part) * (inside * pixels + 0.5).clip(0.0, 1.0)[..., None]
        touch = (self.closure - CREASE_FROM) / (1.0 - CREASE_FROM)
        if touch > 0.0:
            self._crease(part, touch * np.exp(-np.square((down - seam) / CREASE_WIDTH)), pixels)

    def _at(self, line: np.ndarray) -> np.ndarray:
        return self.lid.eye.at(self.spots[..., 0], line)

    def _upper(self, part: np.ndarray, fall: np.ndarray, pixels: float) -> np.ndarray:
        """The skin unfolds between the brow, where nothing moves, and the lashes, which move as they are."""
        down, top = self.spots[..., 1], self._at(self.lid.top)
        share = (down - top) / np.maximum(self._at(self.lid.roots) + fall - top, 1e-3)
        share = share.clip(0.0, 1.0)
        moves = -(fall * share * share * (2.0 - share))[..., None] * self.down
        bare = cv2.morphologyEx(part, cv2.MORPH_CLOSE, disk(LASH_HAIR * pixels))
        bare = cv2.GaussianBlur(bare, (0, 0), 0.4 * max(LASH_HAIR * pixels, 1.0))
        clean = np.minimum(3.0 * share, 1.0) * np.minimum(2.0 * self._at(self.lid.bow), 1.0)
        clean = np.where(share < 1.0, self.closure * clean, 0.0)[..., None].astype(np.float32)
        own = _fetched(part, moves)
        return own + (_fetched(bare, moves) - own) * clean

    def _lower(self, part: np.ndarray, lower: np.ndarray, rise: np.ndarray) -> np.ndarray:
        share = ((lower + LOWER_SKIN - self.spots[..., 1]) / (rise + LOWER_SKIN)).clip(0.0, 1.0)
        return _fetched(part, (rise * share * share * (2.0 - share))[..., None] * self.down)

    def _crease(self, part: np.ndarray, near: np.ndarray, pixels: float) -> None:
        """The line where lids touch; no white of the eye stays there: light lines that are narrow go."""
        bow = self._at(self.lid.bow)
        dark = cv2.morphologyEx(part, cv2.MORPH_OPEN, disk(GLINT * pixels))
        part += (dark - part) * (np.minimum(3.0 * bow, 1.0) * near)[..., None]
        part -= (part + 1.0) * (CREASE * bow * near)[..., None]


@dataclass(frozen=True, kw_only=True)
class Eyelids:
    """The lids of a photo's eyes, measured once a film."""

    lids: tuple[Lid, Lid]
    """On the left and on the right of the picture."""

    @staticmethod
    def build(portrait: Portrait) -> Eyelids | None:
        """None where the photo does not show two open eyes: their blinks are left to the networks."""
        first, second = find_eyes(portrait)
        if first is None or second is None:
            return None
        return Eyelids(lids=(Lid.of(first), Lid.of(second)))

    def follow(
        self,
        grid: Float32[np.ndarray, "h w 2"],
        flow: Float32[np.ndarray, "h w 2"],
        closures: Float32[np.ndarray, "2"],
    ) -> tuple[Closing, ...]:
        """The eyes that close in a frame, 0 as in the photo, 1 shut, where the flow of head and face has them.

        `grid`: the pixels' own places.
        """
        wanted = [
            pair for pair in zip(self.lids, closures.tolist(), strict=True) if pair[1] > LEAST
        ]
        if not wanted:
            return ()
        coarse = grid[::STEP, ::STEP] + flow[::STEP, ::STEP]
        found = (_found(lid, grid, flow, coarse, closure) for lid, closure in wanted)
        return tuple(closing for closing in found if closing is not None)


def _found(
    lid: Lid, grid: np.ndarray, flow: np.ndarray, coarse: np.ndarray, closure: float
) -> Closing | None:
    """An eye in a frame, by places of every `STEP`th pixel in the photo; None outside of the picture."""
    rows, columns = np.nonzero((np.abs(lid.eye.inside(coarse)) < REACH).all(-1))
    if len(rows) < 2:
        return None
    y, x = (
        slice(max((int(z.min()) - 1) * STEP, 0), (int(z.max()) + 2) * STEP) for z in (rows, columns)
    )
    here = grid[y, x]
    spots = lid.eye.inside(here + flow[y, x])
    # How the eye lies in the frame: the linear part of the spots over the box.
    place = here.reshape(-1, 2) - here.mean((0, 1))
    turn = np.linalg.lstsq(place, spots.reshape(-1, 2) - spots.mean((0, 1)), rcond=None)[0].T
    if np.linalg.det(turn) * lid.eye.unit**2 < LEAST_SIZE:
        return None
    down = np.linalg.inv(turn)[:, 1].astype(np.float32)
    return Closing(lid=lid, closure=closure, rows=y, columns=x, spots=spots, down=down)


def _fetched(part: np.ndarray, moves: np.ndarray) -> Float32[np.ndarray, "h w 3"]:
    rows, columns = np.indices(part.shape[:2], dtype=np.float32)
    x, y = columns + moves[..., 0], rows + moves[..., 1]
    return cv2.remap(part, x, y, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
