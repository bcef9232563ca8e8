"""What a face does against its reference frame: head pose, and those of the 52 face actions that can be measured.

Both are read from where optical flow carries the reference's 68 points.  The head is a rigid shape (the mean of the
studio's people) under weak perspective.  The jaw is read from what chin and lower lip do beyond it, each eye's lid
from the eye's contrast, by factors that were fitted on rendered people, whose actions are known (`calibrate.py`).
All other actions are masked: a map from all points read more of them on rendered people, and nonsense on real ones.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import Bool, Float, UInt8
from numpy import ndarray
from safetensors.numpy import load_file

from emo2.signals import FACE_ACTIONS
from emo2.weights import ASSETS

RIGID = (*range(0, 3), *range(14, 17), *range(27, 36), 36, 39, 42, 45)
"""Points that move with the skull: before the ears, nose, corners of the eyes."""
EYE_M = 0.065
"""Distance between the eyes (the studio's mean)."""
EYES = ((36, 42), (42, 48))
LOWER = (8, 57, 66)
"""Chin and lower lip."""
FEATURES = ("opening", "right_eye", "left_eye", "one")
"""How far chin and lower lip have gone down beyond the nose (in distances between the eyes, the head's turn taken
out), the logarithm of each eye's contrast against the reference's (the person's own sides), and 1."""
DISC = 0.08
"""Radius about a point over which its flow is read, in distances between the eyes."""
FILE = ASSETS / "film" / "face_measures.safetensors"


@dataclass(frozen=True)
class Measures:
    """What `calibrate.py` found."""

    shape: Float[ndarray, "68 3"]
    """Mean face in distances between the eyes, from their middle; x right, y down, z to the camera."""
    neck: Float[ndarray, "3"]
    """The head's pivot in the same units."""
    weights: Float[ndarray, "52 4"]
    """Features to actions; zero rows for those that are not read."""
    known: Bool[ndarray, "52"]


@cache
def load_measures(path: Path = FILE) -> Measures:
    """The shipped calibration."""
    found = load_file(path)
    return Measures(
        shape=found["shape"],
        neck=found["neck"],
        weights=found["weights"],
        known=found["known"].astype(bool),
    )


def carried(
    points: Float[ndarray, "68 2"], back: Float[ndarray, "h w 2"], kept: Float[ndarray, "h w"]
) -> tuple[Float[ndarray, "68 2"], Float[ndarray, "68"]]:
    """The reference's points in the frame (pixels), and how surely; each moves as the median about it."""
    height, width = kept.shape
    radius = max(1, round(DISC * eye_distance(points)))
    middle = np.clip(np.floor(points).astype(int), 0, [width - 1, height - 1])
    steps = np.arange(-radius, radius + 1)
    columns = np.clip(middle[:, 0, None, None] + steps[None, None], 0, width - 1)
    rows = np.clip(middle[:, 1, None, None] + steps[None, :, None], 0, height - 1)
    moves = back[rows, columns].reshape(len(points), -1, 2)
    sure = kept[rows, columns].reshape(len(points), -1)
    trusted = np.where(sure[..., None] > 0.5, moves, np.nan)
    few = (sure > 0.5).mean(1) < 0.2
    trusted[few] = moves[few]
    return (points + np.nanmedian(trusted, axis=1)).astype(np.float32), sure.mean(1)


def eye_distance(points: Float[ndarray, "68 2"]) -> float:
    """Pixels between the middles of the eyes."""
    return float(np.linalg.norm(points[42:48].mean(0) - points[36:42].mean(0)))


@dataclass(frozen=True)
class HeadFit:
    """A rigid head under weak perspective."""

    turn: Float[ndarray, "3 3"]
    """Orthonormal: the resting head's axes in the picture's."""
    scale: float
    """Pixels a distance between the eyes."""
    place: Float[ndarray, "2"]
    """Where the middle of the eyes lies."""

    def project(self, places: Float[ndarray, "n 3"]) -> Float[ndarray, "n 2"]:
        """Places of the resting head in the picture."""
        return self.scale * places @ self.turn[:2].T + self.place


def fit_head(
    points: Float[ndarray, "68 2"],
    measures: Measures,
    sure: Float[ndarray, "68"] | None = None,
) -> HeadFit:
    """The pose that lays the mean face's rigid points on these: least squares, then the nearest rotation."""
    chosen = list(RIGID)
    weight = np.ones(len(chosen)) if sure is None else sure[chosen] + 0.05
    weight = weight / weight.sum()
    shape, seen = measures.shape[chosen].astype(np.float64), points[chosen].astype(np.float64)
    middle, centre = weight @ shape, weight @ seen
    root = np.sqrt(weight)[:, None]
    affine, *_ = np.linalg.lstsq((shape - middle) * root, (seen - centre) * root, rcond=None)
    left, sizes, right = np.linalg.svd(affine.T, full_matrices=False)
    rows = left @ right
    turn = np.vstack([rows, np.cross(rows[0], rows[1])])
    # The picture's frame is left-handed as is the model's: their turn is a proper rotation.
    scale = float(sizes.mean())
    place = centre - scale * rows @ middle
    return HeadFit(turn.astype(np.float32), scale, place.astype(np.float32))


def angles_of(turn: Float[ndarray, "3 3"]) -> tuple[float, float, float]:
    """Yaw, pitch and roll of `guidance.turn_matrix`."""
    pitch = float(np.arcsin(np.clip(-turn[2, 1], -1.0, 1.0)))
    yaw = float(np.arctan2(-turn[2, 0], turn[2, 2]))
    roll = float(np.arctan2(-turn[0, 1], turn[1, 1]))
    return yaw, pitch, roll


def head_of(fit: HeadFit, reference: HeadFit, measures: Measures) -> Float[ndarray, "6"]:
    """Channels of `HEAD_CHANNELS`: angles to the camera; the pivot's shift in the picture against the reference's.

    The depth is left at 0: told by size it was five times as large as it is (rendered takes).
    """
    metre = reference.scale / EYE_M
    moved = fit.project(measures.neck[None])[0] - reference.project(measures.neck[None])[0]
    yaw, pitch, roll = angles_of(fit.turn)
    return np.array([yaw, pitch, roll, *(moved / metre), 0.0], np.float32)


def features_of(
    points: Float[ndarray, "68 2"],
    reference: Float[ndarray, "68 2"],
    fits: tuple[HeadFit, HeadFit],
    pictures: tuple[UInt8[ndarray, "h w 3"], UInt8[ndarray, "h w 3"]],
    measures: Measures,
) -> Float[ndarray, "4"]:
    """What actions are read from (`FEATURES`); `fits` and `pictures`: of the frame, then of the reference."""
    fit, rest = fits
    rigid = fit.project(measures.shape) - rest.project(measures.shape)
    own = (points - reference - rigid) / rest.scale
    _, _, roll = angles_of(fit.turn)
    down = own @ np.array([-np.sin(roll), np.cos(roll)])
    opening = down[list(LOWER)].mean() - down[27:36].mean()
    marks = [
        np.log(_contrast(pictures[0], points[a:b]) / _contrast(pictures[1], reference[a:b]))
        for a, b in EYES
    ]
    return np.array([opening, *marks, 1.0], np.float32)


def _contrast(picture: UInt8[ndarray, "h w 3"], eye: Float[ndarray, "6 2"]) -> float:
    """Mean step of brightness down an eye: lids and iris make it, a shut eye has less."""
    wide = float(np.linalg.norm(eye[3] - eye[0]))
    box = _cut(picture, eye.mean(0), 0.7 * wide, 0.45 * wide)
    return float(np.abs(np.diff(box, axis=0)).mean()) + 0.004


def _cut(
    picture: UInt8[ndarray, "h w 3"], centre: Float[ndarray, "2"], across: float, down: float
) -> Float[ndarray, "20 32"]:
    """A box about a place, grey, 0..1."""
    size = (max(2, round(2 * across)), max(2, round(2 * down)))
    box = cv2.getRectSubPix(picture, size, (float(centre[0]) - 0.5, float(centre[1]) - 0.5))
    grey = cv2.cvtColor(box, cv2.COLOR_RGB2GRAY)
    return cv2.resize(grey, (32, 20), interpolation=cv2.INTER_AREA).astype(np.float32) / 255.0


def actions_of(
    features: Float[ndarray, "f 4"], measures: Measures
) -> tuple[Float[ndarray, "f 52"], Bool[ndarray, "52"]]:
    """Actions of a shot's frames, and which of them are known; the least of each action counts as none.

    The reference's own actions cannot be seen, so an action's 5th percentile over the shot is taken for 0.
    """
    raw = features @ measures.weights.T
    least = np.percentile(raw, 5, axis=0)
    found = np.clip(raw - least, 0.0, 1.0) * measures.known
    return found.astype(np.float32), measures.known


def names_known(measures: Measures) -> list[str]:
    """The actions that are read."""
    return [name for name, known in zip(FACE_ACTIONS, measures.known, strict=True) if known]
