"""Both hands of a film as `Motion` has them: from a tracker's file where the user gives one, else from our finder.

A tracker's file is `STEM.npz` (or `.json` with the same names) beside others in the folder of `--hands`:

| name | shape | what |
|---|---|---|
| `fps` | | of the rows below; the film's own where absent |
| `points` | n 2 21 3 | left, right; x, y in the film's pixels, confidence 0..1; OpenPose's order, which is MediaPipe's |
| `global_orient`, `hand_pose` | n 2 1 3 3; n 2 15 3 3 | HaMeR's or WiLoR's `pred_mano_params`, for the left as they give it (mirrored) |
| `wrist` | n 2 2 | pixels; only needed with the two above where there are no `points` |
| `confidence` | n 2 | where absent: the mean of the points' |

Rotations are taken as they are; points alone are fitted by the hand model (`hands/track.py`).  Depth is a convention
(hands 0.2 m before the shoulders): no film of one camera tells it.
"""

from __future__ import annotations

import itertools
import json
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from numpy import ndarray
from torch import Tensor

from emo2.errors import UserError
from emo2.guidance import Camera
from emo2.hands.foreign import hamer_hand
from emo2.hands.standin import stand_in
from emo2.hands.track import fit_track
from emo2.portrait import find
from emo2.portrait.stage import PortraitFinder
from emo2.signals import HAND_SIDES, Portrait
from emo2.start import DEPTH_M, pose_of

LOOK_EVERY = 8
"""Frames between two looks of our finder: each is dear."""
BETWEEN = 0.6
"""Share of the confidence that is left to frames between two looks."""
TOO_FAR = 0.015
"""Of the picture's height: hands that moved farther between two looks are not told between them (a beat is quicker)."""
_SURE = 0.3


@dataclass(frozen=True, kw_only=True)
class HandTrack:
    """A stretch of frames."""

    numbers: Float[ndarray, "f 2 67"]
    points: Float[ndarray, "f 2 21 3"]
    """Pixels of the film and confidence."""
    confidence: Float[ndarray, "f 2"]
    """0: not seen, or not known."""

    def part(self, start: int, stop: int) -> HandTrack:
        """Some of the frames."""
        span = slice(start, stop)
        return HandTrack(
            numbers=self.numbers[span],
            points=self.points[span],
            confidence=self.confidence[span],
        )


def nothing(frames: int) -> HandTrack:
    """Frames whose hands are not known."""
    numbers = np.zeros((frames, 2, 67), np.float32)
    numbers[..., 0:64:4] = 1.0
    return HandTrack(
        numbers=numbers,
        points=np.zeros((frames, 2, 21, 3), np.float32),
        confidence=np.zeros((frames, 2), np.float32),
    )


# ------------------------------------------------------------------------------------------ a tracker's file


@dataclass(frozen=True, kw_only=True)
class Tracked:
    """A tracker's file, rows at its own rate."""

    fps: float
    points: Float[ndarray, "n 2 21 3"]
    confidence: Float[ndarray, "n 2"]
    orient: Float[ndarray, "n 2 1 3 3"] | None
    pose: Float[ndarray, "n 2 15 3 3"] | None

    def rows(self, start: int, frames: int, fps: float) -> ndarray:
        """Row on show in the middle of each frame; -1 beyond the file's end."""
        rows = np.floor((start + np.arange(frames) + 0.5) / fps * self.fps).astype(int)
        return np.where(rows < len(self.points), rows, -1)


def read_tracked(folder: Path | None, stem: str, film_fps: float) -> Tracked | None:
    """The file of a film, if the folder has one; one that does not fit is a `UserError`."""
    if folder is None:
        return None
    path = next((p for s in (".npz", ".json") if (p := folder / f"{stem}{s}").is_file()), None)
    if path is None:
        return None
    try:
        if path.suffix == ".npz":
            with np.load(path, allow_pickle=False) as archive:
                found = {k: archive[k] for k in archive.files}
        else:
            found = {k: np.asarray(v) for k, v in json.loads(path.read_text()).items()}
    except (OSError, ValueError, zipfile.BadZipFile, AttributeError) as error:
        raise UserError(
            f"{path} cannot be read as hand tracks ({error}); give an .npz with points"
        ) from error
    return _checked(found, path, film_fps)


def _checked(found: dict[str, ndarray], path: Path, film_fps: float) -> Tracked:
    count = next((len(v) for k, v in found.items() if k in ("points", "wrist")), 0)
    shapes = {
        "points": (count, 2, 21, 3), "wrist": (count, 2, 2), "confidence": (count, 2),
        "global_orient": (count, 2, 1, 3, 3), "hand_pose": (count, 2, 15, 3, 3),
    }  # fmt: skip
    for name, shape in shapes.items():
        if name in found and found[name].shape != shape:
            raise UserError(
                f"{path}: {name} has shape {found[name].shape}, expected {shape}; see docs/films.md"
            )
    if not count:
        raise UserError(f"{path} has neither points nor wrist; see docs/films.md for the layout")
    points = np.zeros((count, 2, 21, 3), np.float32)
    if "points" in found:
        points = found["points"].astype(np.float32)
    else:
        points[:, :, 0, :2] = found["wrist"]
    sure = found["confidence"] if "confidence" in found else points[..., 2].mean(-1)
    both = "global_orient" in found and "hand_pose" in found
    return Tracked(
        fps=float(found.get("fps", np.float64(film_fps))),
        points=np.nan_to_num(points),
        confidence=np.nan_to_num(sure).clip(0.0, 1.0).astype(np.float32),
        orient=found["global_orient"].astype(np.float32) if both else None,
        pose=found["hand_pose"].astype(np.float32) if both else None,
    )


def from_tracker(
    tracked: Tracked, camera: Camera, start: int, frames: int, fps: float
) -> HandTrack:
    """The file's frames, as rotations where it has them, else fitted to its points."""
    rows = tracked.rows(start, frames, fps)
    there = (rows >= 0)[:, None].astype(np.float32)
    points, sure = tracked.points[rows], tracked.confidence[rows] * there
    numbers = nothing(frames).numbers
    for side, name in enumerate(HAND_SIDES):
        wrist = camera.lift(torch.from_numpy(points[:, side, 0, :2].copy()))
        wrist = torch.cat([wrist, torch.full((frames, 1), DEPTH_M)], 1)
        if tracked.orient is not None and tracked.pose is not None:
            orient, pose = (
                torch.from_numpy(z[rows][:, side]) for z in (tracked.orient, tracked.pose)
            )
            numbers[:, side] = hamer_hand(orient, pose, wrist, name).numpy()
            continue
        wanted = sure[:, side] > _SURE
        fitted = fit_track(
            stand_in(), torch.from_numpy(points[wanted, side]), name, float(camera.scale.mean())
        )
        numbers[wanted, side] = torch.cat([fitted, wrist[torch.from_numpy(wanted)]], 1).numpy()
    return HandTrack(numbers=numbers, points=points, confidence=sure)


# -------------------------------------------------------------------------------------------- our own finder


class HandLooker:
    """Looks at every eighth frame with our finder and goes from one look to the next."""

    def __init__(self, finder: PortraitFinder) -> None:
        self.finder = finder
        self.looks: list[tuple[int, Portrait | None]] = []

    def wants(self, index: int, frames: int) -> bool:
        """Whether this frame of the shot is one to look at."""
        return index % LOOK_EVERY == 0 or index == frames - 1

    def see(self, index: int, frame: Float[Tensor, "3 h w"]) -> None:
        """Look at a frame of the shot."""
        try:
            self.looks.append((index, find(frame, self.finder)))
        except UserError:  # nobody in this frame
            self.looks.append((index, None))

    def track(self, frames: int, scale: float) -> HandTrack:
        """All frames; `scale`: of the frames that were seen against the film's."""
        track = nothing(frames)
        seen = [(i, *_hands_of(p, scale)) for i, p in self.looks]
        for index, numbers, points, sure in seen:
            track.numbers[index], track.points[index] = numbers, points
            track.confidence[index] = sure
        for first, last in itertools.pairwise(seen):
            self._between(track, first, last, scale)
        return track

    def _between(self, track: HandTrack, first: tuple, last: tuple, scale: float) -> None:
        """Straight from one look to the next, for hands that both saw and that did not go far."""
        height = next((p.size[0] for _, p in self.looks if p is not None), 1)
        for side in range(2):
            sure = min(first[3][side], last[3][side])
            way = np.linalg.norm(first[2][side, 0, :2] - last[2][side, 0, :2])
            if sure <= 0.0 or way * scale > TOO_FAR * height:
                continue
            for index in range(first[0] + 1, last[0]):
                share = np.float32((index - first[0]) / (last[0] - first[0]))
                track.points[index, side] = _mixed(first[2][side], last[2][side], share)
                track.points[index, side, :, 2] *= BETWEEN
                track.numbers[index, side] = _mixed_numbers(first[1][side], last[1][side], share)
                track.confidence[index, side] = BETWEEN * sure


def _hands_of(portrait: Portrait | None, scale: float) -> tuple[ndarray, ndarray, ndarray]:
    """Numbers, points in the film's pixels and confidence of one look."""
    if portrait is None:
        empty = nothing(1)
        return empty.numbers[0], empty.points[0], empty.confidence[0]
    motion = pose_of(portrait, fps=25.0)
    sure = motion.confidence[0].numpy().astype(np.float32)
    points = portrait.hand_points.numpy().astype(np.float32) / [scale, scale, 1.0]
    points[..., 2] *= (sure > 0)[:, None]
    return motion.hands[0].numpy(), points.astype(np.float32), sure


def _mixed(a: ndarray, b: ndarray, share: np.float32) -> ndarray:
    return a + share * (b - a)


def _mixed_numbers(a: ndarray, b: ndarray, share: np.float32) -> ndarray:
    """Quaternions along the shorter way, made unit; wrists straight."""
    first, last = a[:64].reshape(16, 4), b[:64].reshape(16, 4)
    sign = np.where((first * last).sum(1, keepdims=True) < 0, -1.0, 1.0)
    turns = _mixed(first, sign * last, share)
    turns = turns / np.linalg.norm(turns, axis=1, keepdims=True).clip(1e-6)
    return np.concatenate([turns.ravel(), _mixed(a[64:], b[64:], share)]).astype(np.float32)
