"""Takes: consecutive frames of a performance, with its voice, posed on a person."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float, Integer
from numpy import ndarray
from numpy.random import Generator

from emo2.signals import Motion
from emo2.studio.performance import Performance, performance_set
from emo2.studio.pose import ArmPose, Pose

SAMPLE_RATE = 16_000
LEAD_S = 1.0
"""Voice before the first and after the last frame, so that features have their context."""


@dataclass(frozen=True, kw_only=True)
class Take:
    """A stretch of a performance."""

    samples: Float[ndarray, " n"]
    """Voice at `SAMPLE_RATE` from `LEAD_S` before the first frame to `LEAD_S` after the last."""
    phones: Integer[ndarray, " k"]
    motion: Motion
    """The stretch's frames."""
    opening: Motion
    """The performance's first frame: how the performer rests."""
    style: str
    speed: float
    phases: Integer[ndarray, "k 2"] | None = None
    """Place in `gesture.PHASES`, left and right hand; None where the performance does not say."""

    def poses(self, reference: Pose) -> list[Pose]:
        """The frames on a person whose photo shows the reference: moves go on from there."""
        motion = self.motion
        face, head, body = (_numpy(t) for t in (motion.face, motion.head, motion.body))
        hands = motion.hands.numpy()
        out = []
        for k in range(len(motion)):
            moved = reference.body + body[k]
            moved[3:] = body[k, 3:]
            arms = tuple(
                ArmPose(hand=hands[k, side], pole=reference.arms[side].pole) for side in (0, 1)
            )
            out.append(
                Pose(
                    actions=face[k].astype(np.float64), head=reference.head + head[k], body=moved,
                    arms=(arms[0], arms[1]),
                )
            )  # fmt: skip
        return out


def find_take(
    rng: Generator, seed: int, frames: int, *, voices: Path | None = None, cache: Path | None = None
) -> Take:
    """A stretch of the seed's performance, in speech rather than in the silence around it."""
    for attempt in range(20):
        number = seed + 10_000_000 * attempt
        found = next(iter(performance_set(number, 1, recordings=voices, cache=cache)))
        if len(found.motion) >= frames:
            return cut(found, _start(rng, found, frames), frames)
    raise ValueError(
        f"no performance of at least {frames} frames from seed {seed}; ask for fewer frames"
    )


def _start(rng: Generator, found: Performance, frames: int) -> int:
    last = len(found.motion) - frames
    starts = rng.integers(0, last + 1, 4)
    speaking = [(_numpy(found.motion.face)[s : s + frames].std(0).sum()) for s in starts]
    return int(starts[int(np.argmax(speaking))] if rng.random() < 0.8 else starts[0])


def cut(found: Performance, start: int, frames: int) -> Take:
    """Frames [start, start + frames) of a performance with their voice."""
    fps, phases = found.motion.fps, found.gesture_phases
    return Take(
        samples=_window(found, start / fps - LEAD_S, frames / fps + 2 * LEAD_S),
        phones=found.phones[start : start + frames].numpy().astype(np.int32),
        motion=_slice(found.motion, start, frames),
        opening=_slice(found.motion, 0, 1),
        style=found.style,
        speed=found.speed,
        phases=None if phases is None else phases[start : start + frames].numpy().astype(np.uint8),
    )


def _window(found: Performance, start_s: float, length_s: float) -> Float[ndarray, " n"]:
    """Linear interpolation is enough here: speech features stop well below 8 kHz."""
    times = start_s + np.arange(round(length_s * SAMPLE_RATE)) / SAMPLE_RATE
    places = times * found.sample_rate
    samples = np.interp(places, np.arange(len(found.samples)), found.samples, left=0.0, right=0.0)
    return samples.astype(np.float32)


def _slice(motion: Motion, start: int, frames: int) -> Motion:
    part = slice(start, start + frames)
    return Motion(
        hands=motion.hands[part], visibility=motion.visibility[part], confidence=motion.confidence[part],
        betas=motion.betas, fps=motion.fps,
        face=None if motion.face is None else motion.face[part],
        head=None if motion.head is None else motion.head[part],
        body=None if motion.body is None else motion.body[part],
        gaze=None if motion.gaze is None else motion.gaze[part],
    )  # fmt: skip


def _numpy(track: object) -> ndarray:
    assert track is not None, "the studio's performances have every track"
    return track.numpy()  # type: ignore[attr-defined]
