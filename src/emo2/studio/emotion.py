"""Feeling in a performance: when an emotion (`motion/emotions.py`) is on a face, and laughter (ours)."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float
from scipy.ndimage import gaussian_filter1d

from emo2.motion.emotions import EMOTIONS, places_of
from emo2.signals import FACE_ACTIONS
from emo2.studio.presence import pulse
from emo2.studio.prosody import Prosody


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
        for place in places_of(action, flip=flip):
            face[:, place] = np.clip(face[:, place] + amount * course, 0, 1)


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
            for place in places_of(action, flip=False):
                face[:, place] = np.maximum(face[:, place], amount * course)
        jaw = FACE_ACTIONS.index("jawOpen")
        inside = (times > start) & (times < end)
        opened = np.where(inside, (0.14 + 0.22 * prosody.loudness) * course, 0.0)
        face[:, jaw] = np.maximum(face[:, jaw], gaussian_filter1d(opened, 0.03 * prosody.fps))
        head[:, 1] += course * (-0.07 + 0.05 * shake)
        body[:, 1] += 0.03 * course * shake
        body[:, 3:5] += (0.008 * course * (0.3 + shake))[:, None]
