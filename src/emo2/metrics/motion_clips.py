"""Motion files as the measures want them: key points in metres, at the rates the formulas were made for."""

from __future__ import annotations

import zipfile
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from emo2 import media
from emo2.errors import UserError
from emo2.hands import hand_points, load_motion, resample, stand_in
from emo2.hands.smplx import smplx_motion
from emo2.metrics.beats import Moving, moving
from emo2.metrics.inputs import Item
from emo2.metrics.onsets import detect_onsets
from emo2.metrics.strokes import Stresses, find_stresses
from emo2.signals import Motion

RATE = 30.0
"""Frames a second of every measure of a set or of pairs; smoothness is taken at each file's own rate."""
Points = Float[Tensor, "frames 42 3"]
TRUTH = "truth/"
"""Begins the names of the true set's items."""
_SHORTEST = 8


@dataclass(frozen=True)
class Track:
    """One motion and what is derived from it."""

    motion: Motion
    semantic: Float[Tensor, " frames"] | None = None
    """Weight of each frame's gesture, where the file has one (SRGR)."""

    @cached_property
    def own_points(self) -> Points:
        """At the file's own rate."""
        return points_of(self.motion)

    @cached_property
    def points(self) -> Points:
        """At 30 frames a second."""
        return self.own_points if self.motion.fps == RATE else points_of(self._at(RATE))

    def moving(self, fps: float) -> Moving:
        """For beat alignment."""
        motion = self._at(fps)
        return moving(motion, self.points if fps == RATE else points_of(motion))

    def _at(self, fps: float) -> Motion:
        return self.motion if self.motion.fps == fps else resample(self.motion, fps)


@dataclass(frozen=True)
class Clip:
    """One item, read."""

    samples: tuple[Track, ...]
    truth: Track | None
    voice: Path | None

    @cached_property
    def together(self) -> Float[Tensor, "samples frames 42 3"]:
        """All samples, cut to the shortest."""
        frames = min(len(t.points) for t in self.samples)
        return torch.stack([t.points[:frames] for t in self.samples])

    def onsets(self, kind: str) -> Float[Tensor, " onsets"] | None:
        """Onsets of the voice, where there is one."""
        if self.voice is None:
            return None
        return self._onsets[kind]

    @cached_property
    def _heard(self) -> tuple[Float[np.ndarray, " n"], int]:
        assert self.voice is not None
        speech = media.read_voice(self.voice)
        return torch.cat(list(speech.voice.blocks(65_536))).numpy(), speech.sample_rate

    @cached_property
    def _onsets(self) -> dict[str, Tensor]:
        samples, rate = self._heard
        return {
            kind: detect_onsets(samples, rate, backtrack=kind == "backtracked")
            for kind in ("detected", "backtracked")
        }

    @cached_property
    def stresses(self) -> Stresses | None:
        """Syllables of the voice that stand out, where there is one."""
        return None if self.voice is None else find_stresses(*self._heard)


def points_of(motion: Motion) -> Points:
    """21 key points of the left, then of the right hand, metres."""
    with torch.no_grad():
        return hand_points(stand_in(), motion.hands, motion.betas).flatten(1, 2)


def read_clip(item: Item) -> tuple[Clip, tuple[str, ...]]:
    """The item's files, and what to say of them."""
    samples = tuple(read_track(path) for path in item.generated)
    truth = None if item.truth is None else read_track(item.truth)
    notes = []
    rates = {t.motion.fps for t in (*samples, *([truth] if truth else []))} - {RATE}
    if rates:
        said = ", ".join(f"{r:g}" for r in sorted(rates))
        notes.append(
            f"motion of {said} frames a second was brought to 30 for all but jerk, acceleration and rest"
        )
    if truth is not None:
        length = len(truth.points) / RATE
        for path, track in zip(item.generated, samples, strict=True):
            if abs(len(track.points) / RATE - length) > 0.5:
                notes.append(
                    f"{path.name} lasts {len(track.points) / RATE:.1f} s, its truth {length:.1f} s: "
                    "pairs are compared over the shorter"
                )
    return Clip(samples=samples, truth=truth, voice=item.voice), tuple(notes)


def read_track(path: Path) -> Track:
    """An emo2 motion, or an SMPL-X sequence (`poses`, 165 numbers a frame)."""
    extra = _arrays(path)
    if "poses" in extra and "hands" not in extra:
        track = Track(smplx_motion(*_smplx(path, extra)))
    else:
        track = Track(load_motion(path))
    if len(track.motion) < _SHORTEST:
        raise UserError(
            f"{path} has {len(track.motion)} frames; measures need at least {_SHORTEST}"
        )
    if "semantic" not in extra:
        return track
    semantic = torch.from_numpy(np.asarray(extra["semantic"], dtype=np.float32))
    if semantic.shape != (len(track.motion),):
        raise UserError(
            f"{path}: 'semantic' has the shape {tuple(semantic.shape)}, expected one weight for each of "
            f"{len(track.motion)} frames"
        )
    return replace(track, semantic=semantic)


def _arrays(path: Path) -> dict[str, np.ndarray]:
    """Arrays that are not part of an emo2 motion; nothing for anything else than a plain .npz."""
    if path.suffix.lower() != ".npz" or not path.is_file():
        return {}
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            names = set(archive.files)
            wanted = {"semantic"} & names
            if "poses" in names and "hands" not in names:
                wanted |= {"poses", "mocap_frame_rate", "mocap_framerate"} & names
            return {n: archive[n] for n in wanted}
    except (ValueError, OSError, EOFError, KeyError, zipfile.BadZipFile):
        return {}  # `load_motion` says what is wrong with it


def _smplx(path: Path, arrays: dict[str, np.ndarray]) -> tuple[Tensor, float]:
    poses = np.asarray(arrays["poses"], dtype=np.float32)
    if poses.ndim != 2 or poses.shape[1] != 165:
        raise UserError(
            f"{path}: 'poses' has the shape {poses.shape}, expected SMPL-X's (frames, 165)"
        )
    if not np.isfinite(poses).all():
        raise UserError(f"{path}: 'poses' holds numbers that are not finite; mend those frames")
    rate = arrays.get("mocap_frame_rate", arrays.get("mocap_framerate", np.array(RATE)))
    return torch.from_numpy(poses), float(rate)
