"""One pass over a film: everything that the film measures of films without networks are made of.

Frames stream through; what stays is a few numbers a frame.  Signals of the face are read at 25 frames a second,
whatever the film's rate (the frame on show in the middle of each).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32
from torch import Tensor

from emo2.errors import UserError
from emo2.media.voice import read_voice
from emo2.media.watch import FilmFacts, film_facts, read_frames
from emo2.metrics.face_signals import eye_contrast
from emo2.metrics.hand_tearing import loose_skin
from emo2.metrics.lasting import face_look, native_side, sharpness
from emo2.metrics.mouth import voice_envelope
from emo2.metrics.steadiness import Background, Flicker, Steadiness
from emo2.portrait import find
from emo2.portrait.follow import FaceFollower
from emo2.portrait.stage import PortraitFinder

FPS = 25.0
_LEAST_SIDE = 16
"""Pixels; SSIM's window has 11, flow needs 12."""
_HANDS_EVERY_S = 0.4
_PERSON_EVERY_S = 1.0


@dataclass(frozen=True, kw_only=True)
class FilmReading:
    """What was seen of a film."""

    path: Path
    facts: FilmFacts
    frames: int
    """At 25 a second."""
    points: Float[Tensor, "frames 68 2"]
    """Of the face, pixels; where it is not seen, its last place (before it was ever seen: its first)."""
    seen: Bool[Tensor, " frames"]
    contrast: Float[Tensor, " seen"]
    """Of the eyes; this and the next two: frames with a face only."""
    sharpness: Float[Tensor, " seen"]
    looks: Float[Tensor, "seen 48 3"]
    flicker: Float[Tensor, " pairs"]
    background: Steadiness | None
    loose: Float32[np.ndarray, "samples 2"]
    """Share of each hand's skin that hangs together with nothing, every 0.4 s; NaN where no hand is seen."""

    @property
    def has_face(self) -> bool:
        """Whether a face was seen in at least half of the frames."""
        return self.frames > 0 and float(self.seen.float().mean()) >= 0.5

    @property
    def duration_s(self) -> float:
        """Seconds."""
        return self.frames / FPS


def read_film(path: Path, finder: PortraitFinder) -> FilmReading:
    """Read a film once, from its first frame to its last."""
    facts = facts_of(path)
    follower, flicker, background = FaceFollower(finder), Flicker(), Background(finder)
    places: list[Tensor | None] = []
    contrast, sharp, looks, loose = [], [], [], []
    side = 0
    for index, frame in enumerate(read_frames(path, fps=FPS)):
        points = follower.see(frame)
        places.append(points)
        flicker.see(frame)
        background.see(frame, points, look_for_person=_every(index, _PERSON_EVERY_S))
        if points is not None:
            side = side or native_side(points)
            contrast.append(eye_contrast(frame, points))
            sharp.append(sharpness(frame, points, side))
            looks.append(face_look(frame, points))
        if _every(index, _HANDS_EVERY_S):
            loose.append(_loose_hands(frame, finder))
    return FilmReading(
        path=path,
        facts=facts,
        frames=len(places),
        points=_filled(places),
        seen=torch.tensor([p is not None for p in places], dtype=torch.bool),
        contrast=torch.tensor(contrast),
        sharpness=torch.tensor(sharp),
        looks=torch.stack(looks) if looks else torch.zeros(0, 48, 3),
        flicker=torch.tensor(flicker.values),
        background=background.result(),
        loose=np.array(loose, np.float32).reshape(-1, 2),
    )


def facts_of(path: Path) -> FilmFacts:
    """The header of a film that is large enough to be measured."""
    facts = film_facts(path)
    if min(facts.size) < _LEAST_SIDE:
        said = f"{facts.size[1]}x{facts.size[0]}"
        raise UserError(
            f"{path} is {said} pixels; measures need {_LEAST_SIDE} a side: give it larger"
        )
    return facts


def read_envelope(path: Path, frames: int) -> Float[Tensor, " frames"]:
    """Loudness at 25 a second of a voice or a film's sound; where there is none, or only silence, a `UserError`."""
    speech = read_voice(path)
    samples = torch.cat(list(speech.voice.blocks(65536)))
    return voice_envelope(samples, speech.sample_rate, FPS, frames)


def resampling(facts: FilmFacts, truth: FilmFacts | None) -> list[str]:
    """What is done to a film's rate and size, in sentences without its name: many films, one sentence."""
    said = []
    if abs(facts.fps - FPS) > 0.01:
        said.append(
            f"films of {facts.fps:g} frames a second are read at {FPS:g} (the frame on show in the middle of each)"
        )
    if truth is None:
        return said
    ours, theirs = (f"{f.size[1]}x{f.size[0]} at {f.fps:g} a second" for f in (facts, truth))
    if ours != theirs:
        said.append(
            f"films of {ours} are brought to their truth's {theirs} for psnr, ssim and lpips (area averaging down, "
            "bicubic up, the picture's shape as it comes)"
        )
    return said


def paired_frames(generated: Path, truth: Path) -> Iterator[tuple[Tensor, Tensor]]:
    """Frames of both, the generated film brought to the truth's rate and size; as many as the shorter has."""
    facts = facts_of(truth)
    made = read_frames(generated, fps=facts.fps, size=facts.size)
    return zip(made, read_frames(truth, fps=facts.fps), strict=False)


def _every(index: int, seconds: float) -> bool:
    return index % max(1, round(seconds * FPS)) == 0


def _loose_hands(frame: Float[Tensor, "3 h w"], finder: PortraitFinder) -> tuple[float, float]:
    try:
        left, right = loose_skin(find(frame, finder))
    except UserError:  # no face in this frame
        left, right = None, None
    return (np.nan if left is None else left), (np.nan if right is None else right)


def _filled(places: list[Tensor | None]) -> Float[Tensor, "frames 68 2"]:
    """Gaps filled with the place before, at the start with the first there is."""
    known = next((p for p in places if p is not None), None)
    if known is None:
        return torch.full((len(places), 68, 2), torch.nan)
    rows = []
    for place in places:
        known = known if place is None else place
        rows.append(known)
    return torch.stack(rows)
