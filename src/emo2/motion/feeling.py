"""An emotion that the user asks for, laid over what stage 1 plans (ours).

Stage 1 hears what is said, not how it is meant: angry, glad and sad voices get the same face.  The studio's
performances lay emotions over a face by rule, and so does a film: more where the voice is loud, less in silence, never
constant, from nothing on, so that a film begins with the photo's own face.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from emo2.errors import UserError
from emo2.motion.emotions import EMOTIONS, Emotion, places_of
from emo2.reel import Reel
from emo2.signals import FACE_ACTIONS, HEAD_CHANNELS, Motion, SpeechFeatures

BLOCK = 8
"""Frames made together."""
STRONGEST = 1.5
"""Beyond, faces are caricatures."""
ALWAYS, LOUD = 0.8, 0.7
"""Share of an emotion in silence, and what the loudest passages add."""
FOLLOWS_S, WAVERS_S, WAVERS = 0.4, 0.9, 0.2
"""Time in which a face follows the voice; time and size of what comes and goes by itself."""
RANGE = 0.6
"""From the voice's loud passages down to silence: 36 dB (energy is in units of 60 dB)."""
_JAW, _CLOSE = (FACE_ACTIONS.index(name) for name in ("jawOpen", "mouthClose"))
_PARTED = 0.1
"""Gap between the lips from which on an emotion may part them more."""


@dataclass(frozen=True, kw_only=True)
class Feeling:
    """One of `EMOTIONS`, and how strong, 0..`STRONGEST`."""

    name: str
    strength: float = 1.0

    @staticmethod
    def of(text: str) -> Feeling:
        """From NAME or NAME:STRENGTH; a `UserError` where there is no such."""
        name, _, strength = text.partition(":")
        if name not in EMOTIONS:
            raise UserError(f"unknown emotion {name!r}; give one of {', '.join(EMOTIONS)}")
        try:
            amount = float(strength or 1.0)
        except ValueError:
            amount = math.nan
        if not 0.0 <= amount <= STRONGEST:
            raise UserError(
                f"the strength of {name} is {strength!r}; give a number from 0 to {STRONGEST}, as in {name}:0.7"
            )
        return Feeling(name=name, strength=amount)

    @property
    def emotion(self) -> Emotion:
        """What it changes."""
        return EMOTIONS[self.name]

    @property
    def size(self) -> float:
        """Scale of gestures."""
        return self.emotion.size**self.strength

    @property
    def tempo(self) -> float:
        """Scale of the hands' pace."""
        return self.emotion.tempo**self.strength


def felt(
    motion: Reel[Motion], heard: SpeechFeatures | Reel[SpeechFeatures], feeling: Feeling, seed: int
) -> Reel[Motion]:
    """The motion with an emotion on its face and in its head's bearing; same frames, made as they are asked for."""
    if feeling.name == "neutral" or feeling.strength == 0.0:
        return motion
    return Reel(_pieces(motion, Reel.of(heard), feeling, seed), len(motion))


def _pieces(
    motion: Reel[Motion], heard: Reel[SpeechFeatures], feeling: Feeling, seed: int
) -> Iterator[Motion]:
    generator = torch.Generator().manual_seed((seed * 1_000_003 + 91) % 2**63)
    # Contempt sits on one side, and a head leans to one.
    flip = bool(torch.rand(1, generator=generator) < 0.5)
    level = waver = 0.0
    for start in range(0, len(motion), BLOCK):
        stop = min(start + BLOCK, len(motion))
        part = motion.between(start, stop)
        motion.forget(stop)
        sound = heard.between(min(start, len(heard) - 1), min(stop, len(heard)))
        loudness = ((sound.energy - sound.loud) / RANGE + 1.0).clamp(0.0, 1.0).tolist()
        loudness += loudness[-1:] * (len(part) - len(loudness))
        course = []
        for value in loudness:
            level += (ALWAYS + LOUD * value - level) / (FOLLOWS_S * part.fps)
            decay = math.exp(-1.0 / (WAVERS_S * part.fps))
            draw = float(torch.randn(1, generator=generator))
            waver = decay * waver + math.sqrt(1.0 - decay * decay) * draw
            course.append(max(feeling.strength * level * (1.0 + WAVERS * waver), 0.0))
        yield _laid(part, torch.tensor(course), feeling, flip=flip)


def _laid(part: Motion, course: Float[Tensor, " f"], feeling: Feeling, *, flip: bool) -> Motion:
    """Some frames with so much of the emotion in each."""
    assert part.face is not None
    emotion, face = feeling.emotion, part.face.clone()
    gap = (face[:, _JAW] - face[:, _CLOSE]).clamp(min=0.0)
    opened = gap * (emotion.opening**course - 1.0)
    parted = (gap / _PARTED).clamp(max=1.0)
    face[:, _JAW] += opened
    for action, amount in emotion.face.items():
        share = course * parted if action.startswith("mouthUpperUp") else course
        for place in places_of(action, flip=flip):
            face[:, place] += amount * share
    head = part.head
    if head is not None:
        head = head.clone()
        down, aside = (math.radians(value) for value in emotion.head_deg)
        head[:, HEAD_CHANNELS.index("pitch")] += down * course
        head[:, HEAD_CHANNELS.index("roll")] += (-aside if flip else aside) * course
    return replace(part, face=face.clamp(0.0, 1.0), head=head)
