"""A take: speech becomes a whole performance, face, head, body and hands, as one `Motion`.

`perform` is deterministic in its seed; `performance_set` is an endless cast of speakers for training.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from emo2.motion.emotions import EMOTIONS
from emo2.signals import FACE_ACTIONS, Motion
from emo2.studio import corpus, real_voices, voice_changes, voices
from emo2.studio.emotion import express, laugh
from emo2.studio.mouth import Manner, mouth_actions
from emo2.studio.phones import SILENCE, Phone, join, per_frame
from emo2.studio.presence import (
    add_eyes,
    blinks,
    body_track,
    brows,
    gaze_track,
    head_track,
)
from emo2.studio.prosody import Prosody, measure
from emo2.studio.styles import STYLES, Style
from emo2.studio.wrist_path import hands_track

_REST_ODDS = {
    "hanging": 0.18, "folded": 0.16, "offering": 0.22, "framing": 0.22, "resting": 0.12,
    "clasped high": 0.10,
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Direction:
    """What a performer is told."""

    style: str = "neutral"
    """One of `STYLES`."""
    speed: float = 1.0
    """Scale of the hands' own pace."""
    emotion: str = "neutral"
    """One of `EMOTIONS`."""
    strength: float = 0.8
    """Of the emotion, 0..1."""
    rest: str | None = None
    """One of `REST_POSES`; None: the seed decides."""
    laughs: tuple[tuple[float, float], ...] = ()
    """Laughter in the voice, seconds."""


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
    emotion: str = "neutral"
    gesture_phases: Int[Tensor, "frames 2"] | None = None
    """Place in `gesture.PHASES`, left and right hand."""


def perform(
    samples: Float[np.ndarray, " n"],
    rate: int,
    phones: Sequence[Phone],
    *,
    direction: Direction = Direction(),
    seed: int = 0,
    fps: float = 25.0,
) -> Motion:
    """Motion of ceil(duration * fps) frames."""
    return perform_with_phases(samples, rate, phones, direction=direction, seed=seed, fps=fps)[0]


def perform_with_phases(
    samples: Float[np.ndarray, " n"],
    rate: int,
    phones: Sequence[Phone],
    *,
    direction: Direction = Direction(),
    seed: int = 0,
    fps: float = 25.0,
) -> tuple[Motion, Int[Tensor, "frames 2"]]:
    """As `perform`, and the phases of both hands' gestures."""
    for name, given, known in (
        ("style", direction.style, STYLES), ("emotion", direction.emotion, EMOTIONS),
    ):  # fmt: skip
        if given not in known:
            raise ValueError(f"no {name} {given!r}; expected one of {', '.join(known)}")
    rng = np.random.default_rng((seed, 29))
    rest = direction.rest or str(rng.choice(list(_REST_ODDS), p=list(_REST_ODDS.values())))
    chosen, speed = _felt(STYLES[direction.style], direction)
    prosody = measure(samples, rate, phones, fps=fps)
    head = head_track(prosody, chosen.temper, rng)
    if direction.emotion != "neutral":
        down, aside = EMOTIONS[direction.emotion].head_deg
        head[:, 1] += np.deg2rad(down) * direction.strength
        head[:, 2] += np.deg2rad(aside) * direction.strength * rng.choice((-1, 1))
    body = body_track(prosody, head, chosen.temper, rng)
    gaze = gaze_track(prosody, head, chosen.temper, rng)
    face = _face(prosody, phones, chosen, gaze, rng)
    express(face, direction.emotion, direction.strength, prosody, rng)
    laugh(face, head, body, direction.laughs, prosody)
    hands, phases = hands_track(prosody, body[:, 5], chosen.habit, rng, rest=rest, speed=speed)
    ones = torch.ones(len(face), 2)
    motion = Motion(
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
    return motion, torch.from_numpy(phases)


def _felt(style: Style, direction: Direction) -> tuple[Style, float]:
    """The style as the emotion colours it, and the pace of the hands."""
    emotion, share = EMOTIONS[direction.emotion], direction.strength
    habit = replace(style.habit, size=style.habit.size * emotion.size**share)
    opening = style.opening * emotion.opening**share
    return replace(style, habit=habit, opening=opening), direction.speed * emotion.tempo**share


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


_EMOTIONAL_SHARE = 0.4
_SUNG_S = 5.0
"""So much of a text is sung; sung it lasts two to three times as long."""
_KINDS = {"speech": 0.68, "song": 0.16, "whisper": 0.07, "laughter": 0.09}
"""What made-up voices do, and how often."""


def performance_set(
    seed: int,
    count: int,
    *,
    cache: Path | None = None,
    fps: float = 25.0,
    recordings: Path | None = None,
    real_share: float = 0.25,
) -> Iterator[Performance]:
    """Takes `seed` .. `seed + count - 1`, each of its own speaker, text, style, feeling, speed and rest pose.

    Synthetic voices are kept in `cache`.  With a folder of recordings that share of the takes is real (the first
    use of a folder aligns it, which is slow; `cache` keeps that too).
    """
    real = real_voices.takes(recordings, cache_folder=cache) if recordings else []
    for number in range(seed, seed + count):
        rng = np.random.default_rng((number, 5))
        style = str(rng.choice(list(STYLES)))
        emotion, strength = "neutral", float(rng.uniform(0.35, 1.0))
        if rng.random() < _EMOTIONAL_SHARE:
            emotion = str(rng.choice([name for name in EMOTIONS if name != "neutral"]))
        laughs: tuple[tuple[float, float], ...] = ()
        if real and rng.random() < real_share:
            samples, rate, phones = real[int(rng.integers(len(real)))]
        else:
            samples, rate, phones, laughs, kind = _made_up(number, emotion, strength, cache, rng)
            if kind == "song" and rng.random() < 0.4:
                style = "singer"
        samples, phones, laughs = _with_silence(samples, rate, phones, laughs, rng)
        if rng.random() < 0.3:
            samples, phones = voice_changes.with_breaths(samples, rate, phones, rng)
        speed = float(np.exp(rng.normal(0, 0.18)).clip(0.6, 1.6))
        direction = Direction(
            style=style, speed=speed, emotion=emotion, strength=strength, laughs=laughs
        )
        motion, phases = perform_with_phases(
            samples, rate, phones, direction=direction, seed=number, fps=fps
        )
        numbers = per_frame(phones, len(motion), fps)
        yield Performance(samples, rate, numbers, motion, style, speed, emotion, phases)


def _made_up(
    number: int, emotion: str, strength: float, cache: Path | None, rng: np.random.Generator
) -> tuple[np.ndarray, int, tuple[Phone, ...], tuple[tuple[float, float], ...], str]:
    """A synthetic voice that feels what it should: samples, rate, phones, laughter, and what it does."""
    text, language = corpus.write(number)
    pitch, pace, liveliness = (v**strength for v in EMOTIONS[emotion].voice)
    usual = voices.cast(language, number)
    speaker = replace(
        usual, pitch=usual.pitch * pitch, rate=usual.rate * pace,
        liveliness=usual.liveliness * liveliness,
    )  # fmt: skip
    kind = str(rng.choice(list(_KINDS), p=list(_KINDS.values())))
    samples, rate, phones = voices.synthesise(
        text, number, language=language, speaker=speaker, cache_folder=cache
    )
    if kind == "song":
        phones = tuple(p for p in phones if p.end_s < _SUNG_S) or phones[:4]
        samples = samples[: round(phones[-1].end_s * rate)]
        samples, phones = voice_changes.sing(samples, rate, phones, rng)
    elif kind == "whisper":
        samples = voice_changes.whisper(samples, rate, rng)
    elif kind == "laughter":
        bright = replace(usual, pitch=1.25 * usual.pitch, rate=1.4 * usual.rate, liveliness=1.5)
        ha = " ".join(["ha"] * int(rng.integers(3, 8)))
        burst, _, sounds = voices.synthesise(
            ha, number, language=language, speaker=bright, cache_folder=cache
        )
        at = len(samples) / rate
        laughs = ((at, at + len(burst) / rate),)
        moved = [Phone(name=p.name, start_s=p.start_s + at, end_s=p.end_s + at) for p in sounds]
        return np.concatenate((samples, burst)), rate, join([*phones, *moved]), laughs, kind
    return samples, rate, phones, (), kind


def _with_silence(
    samples: Float[np.ndarray, " n"],
    rate: int,
    phones: Sequence[Phone],
    laughs: tuple[tuple[float, float], ...],
    rng: np.random.Generator,
) -> tuple[np.ndarray, tuple[Phone, ...], tuple[tuple[float, float], ...]]:
    """The take with silence before, after and now and then in a pause: rest must be learned too."""
    pauses = [p.middle_s for p in phones if p.name == SILENCE and p.duration_s > 0.12]
    cuts = [0.0, len(samples) / rate]
    lengths = [float(rng.choice((0.0, rng.uniform(0.1, 1.6)))), float(rng.uniform(0.0, 2.5))]
    if pauses and rng.random() < 0.45:
        cuts.insert(1, float(rng.choice(pauses)))
        lengths.insert(1, float(rng.uniform(0.6, 5.0)))
    pieces, parts, moved, at = [], [], 0.0, 0.0
    kept = []
    for cut, length in zip(cuts, lengths, strict=True):
        pieces += [samples[round(at * rate) : round(cut * rate)]]
        pieces += [1e-4 * rng.standard_normal(round(length * rate)).astype(np.float32)]
        for phone in phones:
            start, end = max(phone.start_s, at), min(phone.end_s, cut)
            if end > start:
                parts.append(Phone(name=phone.name, start_s=start + moved, end_s=end + moved))
        kept += [(a + moved, b + moved) for a, b in laughs if at <= a < cut]
        parts.append(Phone(name=SILENCE, start_s=cut + moved, end_s=cut + moved + length))
        at, moved = cut, moved + length
    return np.concatenate(pieces), join(parts), tuple(kept)
