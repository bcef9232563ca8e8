"""A take: speech becomes a whole performance, face, head, body and hands, as one `Motion`.

`perform` is deterministic in its seed; `performance_set` is an endless cast of speakers for training.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from emo2.signals import FACE_ACTIONS, Motion
from emo2.studio import corpus, real_voices, voices
from emo2.studio.gesture import Habit, hands_track
from emo2.studio.mouth import Manner, mouth_actions
from emo2.studio.phones import SILENCE, Phone, join, per_frame
from emo2.studio.presence import (
    Temper,
    add_eyes,
    blinks,
    body_track,
    brows,
    gaze_track,
    head_track,
)
from emo2.studio.prosody import Prosody, measure


@dataclass(frozen=True, kw_only=True)
class Style:
    """A way to perform."""

    habit: Habit = field(default_factory=Habit)
    temper: Temper = field(default_factory=Temper)
    opening: float = 1.0
    """Scale of mouth opening."""


STYLES: dict[str, Style] = {
    "neutral": Style(),
    "calm": Style(
        habit=Habit(activity=0.6, density=0.55, size=0.65, pace=0.8, both=0.5,
                    kinds=("beat", "open", "present")),
        temper=Temper(head=0.65, nods=0.7, brows=0.6, glances=0.8, blink_gap_s=4.2),
        opening=0.92,
    ),
    "lively": Style(
        habit=Habit(activity=0.95, density=0.95, size=1.45, pace=1.15, both=0.65, raised=0.4,
                    kinds=("beat", "open", "lift", "sweep", "present", "point")),
        temper=Temper(head=1.4, nods=1.35, brows=1.5, glances=1.2, blink_gap_s=3.0),
        opening=1.12,
    ),
    "presenter": Style(
        habit=Habit(activity=0.92, density=0.85, size=1.15, both=0.8, raised=0.2,
                    kinds=("beat", "open", "present", "pinch", "sweep")),
        temper=Temper(head=1.0, nods=1.2, brows=1.1, glances=0.6),
        opening=1.05,
    ),
}  # fmt: skip
"""The styles of `MotionConfig.styles`, and what each means."""

_REST_ODDS = {
    "hanging": 0.18, "folded": 0.16, "offering": 0.22, "framing": 0.22, "resting": 0.12,
    "clasped high": 0.10,
}  # fmt: skip


class Performance(NamedTuple):
    """A take with its voice, as training wants it."""

    samples: Float[np.ndarray, " n"]
    """Mono, [-1, 1]."""
    sample_rate: int
    phones: Int[Tensor, " frames"]
    """Number of the phone in `phones.PHONES`."""
    motion: Motion
    style: str
    speed: float


def perform(
    samples: Float[np.ndarray, " n"],
    rate: int,
    phones: Sequence[Phone],
    *,
    style: str = "neutral",
    speed: float = 1.0,
    seed: int = 0,
    fps: float = 25.0,
    rest: str | None = None,
) -> Motion:
    """Motion of ceil(duration * fps) frames; `speed` scales the hands' own, `rest` names a pose of `REST_POSES`."""
    if style not in STYLES:
        raise ValueError(f"no style {style!r}; expected one of {', '.join(STYLES)}")
    rng = np.random.default_rng((seed, 29))
    rest = rest or str(rng.choice(list(_REST_ODDS), p=list(_REST_ODDS.values())))
    chosen = STYLES[style]
    prosody = measure(samples, rate, phones, fps=fps)
    head = head_track(prosody, chosen.temper, rng)
    body = body_track(prosody, head, chosen.temper, rng)
    gaze = gaze_track(prosody, head, chosen.temper, rng)
    face = _face(prosody, phones, chosen, gaze, rng)
    hands = hands_track(prosody, body[:, 5], chosen.habit, rng, rest=rest, speed=speed)
    ones = torch.ones(len(face), 2)
    return Motion(
        hands=torch.from_numpy(hands),
        visibility=ones,
        confidence=ones.clone(),
        betas=torch.zeros(10),
        fps=fps,
        face=torch.from_numpy(face),
        head=torch.from_numpy(head.astype(np.float32)),
        body=torch.from_numpy(body.astype(np.float32)),
        gaze=torch.from_numpy(gaze.astype(np.float32)),
    )


def _face(
    prosody: Prosody,
    phones: Sequence[Phone],
    style: Style,
    gaze: Float[np.ndarray, "frames 2"],
    rng: np.random.Generator,
) -> Float[np.ndarray, "frames 52"]:
    """Mouth, lids, eyes and brows."""
    manner = Manner(
        opening=style.opening * float(rng.uniform(0.88, 1.18)),
        rounding=float(rng.uniform(0.85, 1.15)),
        spreading=float(rng.uniform(0.8, 1.2)),
        smile=float(max(0.0, rng.normal(0.03, 0.04))),
        skew=float(np.clip(rng.normal(0, 0.04), -0.12, 0.12)),
    )
    face = mouth_actions(phones, prosody.loudness, fps=prosody.fps, manner=manner)
    add_eyes(face, gaze, blinks(prosody, style.temper, rng))
    inner, outer, down = brows(prosody, style.temper, rng)
    for name, track in (
        ("browInnerUp", inner), ("browOuterUpLeft", outer), ("browOuterUpRight", 0.9 * outer),
        ("browDownLeft", down), ("browDownRight", down),
        ("eyeWideLeft", 0.3 * outer), ("eyeWideRight", 0.3 * outer),
    ):  # fmt: skip
        face[:, FACE_ACTIONS.index(name)] = np.clip(track, 0, 1)
    return face


def performance_set(
    seed: int,
    count: int,
    *,
    cache: Path | None = None,
    fps: float = 25.0,
    recordings: Path | None = None,
    real_share: float = 0.25,
) -> Iterator[Performance]:
    """Takes `seed` .. `seed + count - 1`, each of its own speaker, text, style, speed and rest pose.

    Synthetic voices are kept in `cache`.  With a folder of recordings that share of the takes is real (the first
    use of a folder aligns it, which is slow; `cache` keeps that too).
    """
    real = real_voices.takes(recordings, cache_folder=cache) if recordings else []
    for number in range(seed, seed + count):
        rng = np.random.default_rng((number, 5))
        if real and rng.random() < real_share:
            samples, rate, phones = real[int(rng.integers(len(real)))]
        else:
            text, language = corpus.write(number)
            samples, rate, phones = voices.synthesise(
                text, number, language=language, cache_folder=cache
            )
        samples, phones = _with_silence(samples, rate, phones, rng)
        style = str(rng.choice(list(STYLES)))
        speed = float(np.exp(rng.normal(0, 0.22)).clip(0.55, 1.7))
        motion = perform(samples, rate, phones, style=style, speed=speed, seed=number, fps=fps)
        numbers = per_frame(phones, len(motion), fps)
        yield Performance(samples, rate, numbers, motion, style, speed)


def _with_silence(
    samples: Float[np.ndarray, " n"], rate: int, phones: Sequence[Phone], rng: np.random.Generator
) -> tuple[np.ndarray, tuple[Phone, ...]]:
    """The take with silence before, after and now and then in a pause: rest must be learned too."""
    pauses = [p.middle_s for p in phones if p.name == SILENCE and p.duration_s > 0.12]
    cuts = [0.0, len(samples) / rate]
    lengths = [float(rng.choice((0.0, rng.uniform(0.1, 1.0)))), float(rng.uniform(0.0, 1.5))]
    if pauses and rng.random() < 0.3:
        cuts.insert(1, float(rng.choice(pauses)))
        lengths.insert(1, float(rng.uniform(0.6, 3.0)))
    pieces, parts, moved, at = [], [], 0.0, 0.0
    for cut, length in zip(cuts, lengths, strict=True):
        pieces += [samples[round(at * rate) : round(cut * rate)]]
        pieces += [1e-4 * rng.standard_normal(round(length * rate)).astype(np.float32)]
        for phone in phones:
            start, end = max(phone.start_s, at), min(phone.end_s, cut)
            if end > start:
                parts.append(Phone(name=phone.name, start_s=start + moved, end_s=end + moved))
        parts.append(Phone(name=SILENCE, start_s=cut + moved, end_s=cut + moved + length))
        at, moved = cut, moved + length
    return np.concatenate(pieces), join(parts)
