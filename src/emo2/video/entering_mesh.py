"""A hand that enters the picture, with forearm and sleeve, as one mesh, and the colours of its surface (ours)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import cv2
import numpy as np
import torch
from jaxtyping import Float32, Int

from emo2.hands.forearm import Tube, bare, sleeve, tube_faces, wrist_loop
from emo2.hands.model import hand_faces, pose_hands
from emo2.hands.raster import Coverage, vertex_normals
from emo2.hands.relief import palm_share, places, read
from emo2.hands.standin import stand_in
from emo2.signals import HAND_SIDES
from emo2.video.entering_look import ArmLook
from emo2.video.entering_pose import LimbPose
from emo2.video.layer_cut import ease

_CUFF_M = 0.035
"""From the wrist to a sleeve's edge."""
_INTO_SLEEVE_M = 0.022
_BARE_M = 0.28
_RINGS = 24
_FADE_M = 0.06
"""From the wrist over which the hand's relief fades on the arm."""
_ELBOW_M, _BEFORE_ELBOW_M = (0.235, 0.28), (0.185, 0.24)
"""Metres from the wrist over which a drawn arm ends."""
_GIRTH_M = 0.13
"""Half around a sleeve."""


@dataclass(frozen=True, kw_only=True)
class Mesh:
    """Vertices in metres, and what stays the same from frame to frame."""

    points: Float32[np.ndarray, "v 3"]
    faces: Int[np.ndarray, "f 3"]
    along: Float32[np.ndarray, " v"]
    """Metres from the wrist on the arm; on the hand 0."""
    around: Float32[np.ndarray, " v"]
    """0..1 on the arm."""
    starts: tuple[int, int]
    """Faces at which bare arm and sleeve begin."""

    def solid(self, *, shown: bool) -> Float32[np.ndarray, "v 1"]:
        """Opacity: at the elbow the drawn arm goes over into the photo's own; `shown`: in view."""
        return 1 - ease(self.along, *(_ELBOW_M if shown else _BEFORE_ELBOW_M))[:, None]

    def normals(self, points: Float32[np.ndarray, "v 3"]) -> Float32[np.ndarray, "v 3"]:
        """Of the vertices at `points`; the hand's edge and the arm's first ring are one skin."""
        normals = vertex_normals(points, self.faces)
        ring = list(wrist_loop())
        first = _hand_size() + np.arange(len(ring))
        both = normals[ring] + normals[first]
        both /= np.linalg.norm(both, axis=1, keepdims=True).clip(1e-6)
        normals[ring] = normals[first] = both
        return normals.astype(np.float32)

    def colours(
        self, seen: Coverage, side: int, look: ArmLook, scale: float
    ) -> Float32[np.ndarray, "n 3"]:
        """Linear, without light, of the covered pixels; `scale`: the photo's pixels a metre."""
        out = np.empty((len(seen.pixel), 3), np.float32)
        first, second = self.starts
        cloth = look.cloth[side]

        def paint(here: np.ndarray, start: int) -> Coverage:
            return Coverage(seen.pixel[here], seen.face[here] - start, seen.corner[here])

        here = seen.face < first
        some = paint(here, 0)
        half = len(look.relief) // 2
        place = some.mix(np.hstack((places(), palm_share())), self.faces[:first])
        back, palm = place[:, :2], place[:, 2:]
        back[:, 1] = back[:, 1].clip(0, half - 1)
        stops = read(look.relief, back)
        stops += palm * (read(look.relief, back + np.array((0, half), np.float32)) - stops)
        out[here] = look.skin * np.exp2(stops)
        here = (seen.face >= first) & (seen.face < second)
        out[here] = look.skin * np.exp2(
            paint(here, first).mix(self._arm_stops(look), self.faces[first:second])
        )
        here = seen.face >= second
        if cloth is not None and here.any():
            turn = np.abs(2 * self.around - 1) * _GIRTH_M
            where = (np.column_stack((turn, self.along)) * scale).astype(np.float32)
            place = paint(here, second).mix(where, self.faces[second:])
            for k, limit in ((0, cloth.shape[1]), (1, cloth.shape[0])):  # mirrored, again and again
                turns = np.abs((place[:, k] + limit) % (2 * limit) - limit)
                place[:, k] = turns.clip(0, limit - 1)
            out[here] = read(cloth, place)
        return out

    def _arm_stops(self, look: ArmLook) -> Float32[np.ndarray, "v 3"]:
        """The wrist's relief, gone on with along the arm until it fades."""
        ring, hand = list(wrist_loop()), _hand_size()
        sides = (np.zeros(2, np.float32), np.array((0, len(look.relief) // 2), np.float32))
        edge = np.mean([read(look.relief, places()[ring] + shift) for shift in sides], axis=0)
        stops = np.zeros((len(self.points), 3), np.float32)
        fade = np.clip(1 - self.along[hand:] / _FADE_M, 0, 1)
        stops[hand:] = edge[np.arange(len(fade)) % len(ring)] * fade[:, None]
        return stops


def limb_mesh(pose: LimbPose, side: int, folds: Float32[np.ndarray, "r n"] | None) -> Mesh:
    """The mesh in a pose; `folds`: a sleeve's creases, None for a bare arm."""
    numbers = torch.from_numpy(np.stack((pose.numbers, pose.numbers)))
    with torch.no_grad():
        hand = pose_hands(stand_in(), numbers, torch.zeros(10)).vertices[side].numpy()[:-1]
    loop, wrist = hand[list(wrist_loop())], pose.numbers[64:]
    until = _BARE_M if folds is None else _CUFF_M + _INTO_SLEEVE_M
    tubes: list[Tube] = [bare(loop, wrist, pose.elbow, until)]
    if folds is not None:
        tubes.append(sleeve(loop, wrist, pose.elbow, _CUFF_M, folds))
    nothing = np.zeros(len(hand), np.float32)
    faces = _faces(side, tuple(len(tube.along) for tube in tubes))
    return Mesh(
        points=np.concatenate((hand, *(tube.points for tube in tubes))),
        faces=faces,
        along=np.concatenate((nothing, *(tube.along for tube in tubes))),
        around=np.concatenate((nothing, *(tube.around for tube in tubes))),
        starts=(len(_open_faces(side)), len(_faces(side, (len(tubes[0].along),)))),
    )


def creases(rng: np.random.Generator) -> Float32[np.ndarray, "r n"]:
    """Of a sleeve, metres outwards: bands that wander around it, deeper towards the elbow."""
    count = len(wrist_loop())
    rough = np.tile(rng.standard_normal((_RINGS + 12, count)), (1, 3))
    smooth = cv2.GaussianBlur(rough, (0, 0), sigmaX=3.2, sigmaY=1.1)[6:-6, count : 2 * count]
    deep = np.interp(np.arange(_RINGS), (0, 2, 8, _RINGS), (0.0, 0.0004, 0.0016, 0.0022))
    folds = smooth / smooth.std() * deep[:, None]
    folds[:3] = 0  # the edge
    return folds.astype(np.float32)


def _hand_size() -> int:
    """Vertices of a hand without its lid."""
    return len(stand_in().template) - 1


@cache
def _open_faces(side: int) -> Int[np.ndarray, "f 3"]:
    """A hand's faces without the lid over the wrist."""
    faces = hand_faces(stand_in(), HAND_SIDES[side]).numpy()
    return faces[~(faces == _hand_size()).any(1)]


@cache
def _faces(side: int, tubes: tuple[int, ...]) -> Int[np.ndarray, "f 3"]:
    """Of a hand and of tubes with so many vertices, wound outwards."""
    parts, start = [_open_faces(side)], _hand_size()
    for size in tubes:
        faces = tube_faces(size // len(wrist_loop())) + start
        parts.append(faces if HAND_SIDES[side] == "left" else faces[:, ::-1])
        start += size
    return np.concatenate(parts)
