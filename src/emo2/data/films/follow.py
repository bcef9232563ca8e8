"""The first pass over a film: its shots, and in every frame the face, how blurred it is, and how many there are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float
from numpy import ndarray
from torch import Tensor

from emo2.data.films.blur import blur_of
from emo2.data.films.cuts import CutFinder
from emo2.media.watch import film_facts, read_frames
from emo2.metrics.aligned import aligned_face
from emo2.portrait.find import find_faces
from emo2.portrait.follow import FaceFollower
from emo2.portrait.stage import PortraitFinder

FPS = 25.0
MOST_FRAMES = 250
"""Longer shots are taken apart: one reference serves ten seconds."""
LOOK_SIDE = 960
"""Longest side at which faces are followed."""
COUNT_EVERY = 50
"""Frames between two countings of faces."""
_INNER = (slice(18, 98), slice(16, 96))
"""The face in the aligned square of 112."""


@dataclass(frozen=True, kw_only=True)
class Shot:
    """A stretch of a film without a cut, as the first pass saw it."""

    start: int
    """First frame, at 25 a second."""
    points: Float[ndarray, "f 68 2"]
    """Pixels of the film; where the face is not seen, its last place."""
    seen: Bool[ndarray, " f"]
    blur: Float[ndarray, " f"]
    """0 sharp, 1 blurred."""
    light: Float[ndarray, " f"]
    """Spread of the face's brightness, 0..1."""
    second_face: float
    """Size of a second face against the first; 0: none."""

    def __len__(self) -> int:
        return len(self.seen)


def read_shots(path: Path, finder: PortraitFinder) -> list[Shot]:
    """Go through a film once."""
    height, width = film_facts(path).size
    scale = min(1.0, LOOK_SIDE / max(height, width))
    size = (round(height * scale), round(width * scale))
    shots: list[Shot] = []
    look: _Look | None = None
    cuts = CutFinder()
    for index, frame in enumerate(read_frames(path, fps=FPS, size=size)):
        if cuts.see(frame) or (look is not None and len(look.rows) >= MOST_FRAMES):
            shots += [look.shot(scale)] if look is not None else []
            look = _Look(finder, index)
        assert look is not None
        look.see(frame)
    return [*shots, look.shot(scale)] if look is not None else []


class _Look:
    """Gathers what is seen of one shot."""

    def __init__(self, finder: PortraitFinder, start: int) -> None:
        self.finder, self.start = finder, start
        self.follower = FaceFollower(finder)
        self.rows: list[tuple[Tensor | None, float, float]] = []
        self.second = 0.0

    def see(self, frame: Float[Tensor, "3 h w"]) -> None:
        points = self.follower.see(frame)
        if len(self.rows) % COUNT_EVERY == COUNT_EVERY // 4:
            with torch.inference_mode():
                faces = find_faces(frame, self.finder)
            sides = [face.square.side for face in faces]
            self.second = max(self.second, sides[1] / sides[0] if len(sides) > 1 else 0.0)
        blur = light = 0.0
        if points is not None:
            grey = aligned_face(frame, points).mean(0)[_INNER].numpy()
            blur, light = blur_of(grey), float(grey.std()) / 2.0
        self.rows.append((points, blur, light))

    def shot(self, scale: float) -> Shot:
        places = [points for points, _, _ in self.rows]
        return Shot(
            start=self.start,
            points=_smoothed(_filled(places)) / np.float32(scale),
            seen=np.array([p is not None for p in places]),
            blur=np.array([s for _, s, _ in self.rows], np.float32),
            light=np.array([s for _, _, s in self.rows], np.float32),
            second_face=self.second,
        )


def _filled(places: Sequence[Tensor | None]) -> Float[ndarray, "f 68 2"]:
    """Gaps filled with the place before; zeros where no face was ever seen."""
    known = next((p for p in places if p is not None), torch.zeros(68, 2))
    rows = []
    for place in places:
        known = known if place is None else place
        rows.append(known.numpy())
    return np.stack(rows).astype(np.float32)


def _smoothed(points: Float[ndarray, "f 68 2"]) -> Float[ndarray, "f 68 2"]:
    """A quarter of each neighbour: the finder's jitter goes, lips stay."""
    padded = np.concatenate([points[:1], points, points[-1:]])
    return 0.25 * padded[:-2] + 0.5 * points + 0.25 * padded[2:]
