"""Feeling on a face and in a voice: what joy, anger, sadness, surprise and contempt add to a performance (ours).

Which actions take part follows the prototypes of the Facial Action Coding System (Ekman and Friesen 1978) in
ARKit's names; how much, and when, is ours.  Lips that must meet still meet: nothing here opens or rounds them.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float
from scipy.ndimage import gaussian_filter1d

from emo2.signals import FACE_ACTIONS
from emo2.studio.presence import pulse
from emo2.studio.prosody import Prosody


@dataclass(frozen=True, kw_only=True)
class Emotion:
    """What a feeling changes, at full strength."""

    face: dict[str, float] = field(default_factory=dict)
    """Added to actions; a name without a side moves both."""
    opening: float = 1.0
    """Scale of mouth opening."""
    size: float = 1.0
    """Scale of gestures."""
    tempo: float = 1.0
    """Scale of the pace of hands and head."""
    head_deg: tuple[float, float] = (0.0, 0.0)
    """Head down, head to the side."""
    voice: tuple[float, float, float] = (1.0, 1.0, 1.0)
    """Scales of a made-up voice's pitch, rate and range."""


EMOTIONS: dict[str, Emotion] = {
    "neutral": Emotion(),
    "joy": Emotion(
        face={"mouthSmile": 0.4, "cheekSquint": 0.35, "eyeSquint": 0.12, "mouthDimple": 0.1,
              "browOuterUp": 0.1},
        opening=1.1, size=1.1, tempo=1.08, head_deg=(-2.0, 1.5), voice=(1.12, 1.06, 1.4),
    ),
    "anger": Emotion(
        face={"browDown": 0.6, "eyeSquint": 0.3, "noseSneer": 0.25, "mouthUpperUp": 0.06,
              "mouthFrown": 0.12, "eyeWide": 0.1},
        opening=1.15, size=1.15, tempo=1.15, head_deg=(3.0, 0.0), voice=(1.05, 1.12, 1.5),
    ),
    "sadness": Emotion(
        face={"browInnerUp": 0.5, "mouthFrown": 0.35, "eyeSquint": 0.12, "mouthShrugLower": 0.15},
        opening=0.85, size=0.7, tempo=0.78, head_deg=(5.0, 2.0), voice=(0.9, 0.82, 0.6),
    ),
    "surprise": Emotion(
        face={"browInnerUp": 0.5, "browOuterUp": 0.55, "eyeWide": 0.5},
        opening=1.2, size=1.05, tempo=1.05, head_deg=(-3.0, 0.0), voice=(1.18, 1.0, 1.6),
    ),
    "contempt": Emotion(
        face={"mouthSmileLeft": 0.3, "mouthDimpleLeft": 0.35, "eyeSquint": 0.25, "browDownLeft": 0.2,
              "browOuterUpRight": 0.25, "noseSneerLeft": 0.12},
        opening=0.95, size=0.85, tempo=0.9, head_deg=(-4.0, 3.0), voice=(0.95, 0.94, 0.8),
    ),
}  # fmt: skip
"""The six feelings."""


def express(
    face: Float[np.ndarray, "frames 52"],
    name: str,
    strength: float,
    prosody: Prosody,
    rng: np.random.Generator,
) -> None:
    """Lay a feeling over a face, in place: more where the voice is loud, less in silence, never constant."""
    frames, fps = len(face), prosody.fps
    course = 0.45 + 0.4 * prosody.speaking + 0.35 * prosody.loudness
    course = gaussian_filter1d(course, 0.25 * fps, mode="nearest")
    slow = gaussian_filter1d(rng.standard_normal(frames + int(8 * fps)), 0.9 * fps)[:frames]
    course = np.clip(strength * course * (1 + 1.2 * slow), 0.0, 1.3)
    flip = rng.random() < 0.5  # contempt may sit on either side
    for action, amount in EMOTIONS[name].face.items():
        for place in _places(action, flip=flip):
            face[:, place] = np.clip(face[:, place] + amount * course, 0, 1)


def _places(action: str, *, flip: bool) -> list[int]:
    if action in FACE_ACTIONS:
        if flip:
            swap = {"Left": "Right", "Right": "Left"}
            side = "Left" if action.endswith("Left") else "Right"
            action = action.removesuffix(side) + swap[side] if action.endswith(side) else action
        return [FACE_ACTIONS.index(action)]
    return [FACE_ACTIONS.index(action + side) for side in ("Left", "Right")]


def laugh(
    face: Float[np.ndarray, "frames 52"],
    head: Float[np.ndarray, "frames 6"],
    body: Float[np.ndarray, "frames 6"],
    spans: tuple[tuple[float, float], ...],
    prosody: Prosody,
) -> None:
    """Laughter in the given seconds, in place: a smile that opens, narrow eyes, head back, shoulders that shake."""
    times = (np.arange(len(face)) + 0.5) / prosody.fps
    for start, end in spans:
        middle, half = 0.5 * (start + end), 0.5 * (end - start)
        course = pulse(times, middle, half + 0.35, half + 0.6)
        course = np.minimum(1.0, 1.8 * course)
        shake = prosody.loudness - gaussian_filter1d(prosody.loudness, 0.25 * prosody.fps)
        for action, amount in (("mouthSmile", 0.7), ("cheekSquint", 0.65), ("eyeSquint", 0.4)):
            for place in _places(action, flip=False):
                face[:, place] = np.maximum(face[:, place], amount * course)
        jaw = FACE_ACTIONS.index("jawOpen")
        inside = (times > start) & (times < end)
        opened = np.where(inside, (0.14 + 0.22 * prosody.loudness) * course, 0.0)
        face[:, jaw] = np.maximum(face[:, jaw], gaussian_filter1d(opened, 0.03 * prosody.fps))
        head[:, 1] += course * (-0.07 + 0.05 * shake)
        body[:, 1] += 0.03 * course * shake
        body[:, 3:5] += (0.008 * course * (0.3 + shake))[:, None]
