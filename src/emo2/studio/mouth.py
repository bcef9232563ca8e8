"""Phones to mouth actions: coarticulation by dominance functions (Cohen & Massaro 1993).

Every phone wants some articulators somewhere, more or less urgently; what each articulator does at a moment is
the mean of the wishes, weighted by negative exponentials of the distance in time (their eq. 1-3).  On top, the
closures a listener sees at once are guaranteed (ours): lips meet at m b p, the lower lip meets the teeth at f v.
Gap between the lips of the studio's face: 0.33 dm x jawOpen; `mouthClose` equal to `jawOpen` shuts it exactly.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from emo2.signals import FACE_ACTIONS
from emo2.studio.phones import BILABIALS, LABIODENTALS, VOWELS, Phone

ARTICULATORS = ("jaw", "lower", "upper", "pucker", "funnel", "wide", "tongue")
"""Jaw, lower lip down, upper lip up, lips forward, lips ring-shaped, corners out, tongue tip forward."""

_FADE_S = {"before": 0.055, "after": 0.045}
_REACH_S = 0.6
_CHUNK = 512
_SUSTAINED_S = 0.24


@dataclass(frozen=True, kw_only=True)
class Manner:
    """How a speaker articulates."""

    opening: float = 1.0
    """Scale of jaw and lip opening."""
    rounding: float = 1.0
    spreading: float = 1.0
    smile: float = 0.0
    """Resting smile, 0..0.3."""
    skew: float = 0.0
    """Left-right difference of the corners, -0.15..0.15."""


# jaw, lower, upper, pucker, funnel, wide, tongue; None: the phone does not care.
_N = None
_SHAPES: dict[str, tuple[float | None, ...]] = {
    "sil": (0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0),
    "breath": (0.10, 0.05, 0.02, 0.0, 0.05, 0.0, 0.0),
    "aa": (0.46, 0.16, 0.10, 0.0, 0.05, 0.08, 0.0),
    "ae": (0.40, 0.22, 0.14, 0.0, 0.0, 0.30, 0.0),
    "ah": (0.32, 0.14, 0.08, _N, 0.04, 0.08, 0.0),
    "ao": (0.38, 0.12, 0.08, 0.30, 0.38, 0.0, 0.0),
    "ax": (0.20, 0.10, 0.05, _N, 0.04, 0.06, 0.0),
    "eh": (0.29, 0.20, 0.12, 0.0, 0.0, 0.28, 0.0),
    "er": (0.19, 0.12, 0.08, 0.25, 0.30, 0.0, 0.0),
    "ih": (0.18, 0.18, 0.10, 0.0, 0.0, 0.24, 0.0),
    "iy": (0.12, 0.20, 0.12, 0.0, 0.0, 0.44, 0.0),
    "ow": (0.26, 0.06, 0.04, 0.62, 0.42, 0.0, 0.0),
    "uh": (0.17, 0.06, 0.04, 0.50, 0.32, 0.0, 0.0),
    "uw": (0.10, 0.02, 0.02, 0.95, 0.28, 0.0, 0.0),
    "ue": (0.09, 0.02, 0.03, 0.90, 0.28, 0.0, 0.0),
    "oe": (0.20, 0.08, 0.06, 0.52, 0.42, 0.0, 0.0),
    "b": (0.08, 0.0, 0.0, _N, 0.0, _N, 0.0),
    "m": (0.08, 0.0, 0.0, _N, 0.0, _N, 0.0),
    "p": (0.07, 0.0, 0.0, _N, 0.0, _N, 0.0),
    "f": (0.07, 0.0, 0.16, _N, 0.0, 0.10, 0.0),
    "v": (0.07, 0.0, 0.16, _N, 0.0, 0.10, 0.0),
    "w": (0.08, 0.01, 0.01, 0.98, 0.22, 0.0, 0.0),
    "r": (0.13, 0.08, 0.06, 0.36, 0.34, 0.0, _N),
    "sh": (0.07, 0.20, 0.16, 0.34, 0.42, 0.0, 0.0),
    "zh": (0.07, 0.20, 0.16, 0.34, 0.42, 0.0, 0.0),
    "ch": (0.07, 0.20, 0.16, 0.32, 0.40, 0.0, 0.0),
    "jh": (0.07, 0.20, 0.16, 0.32, 0.40, 0.0, 0.0),
    "s": (0.05, 0.20, 0.12, _N, _N, 0.28, 0.0),
    "z": (0.05, 0.20, 0.12, _N, _N, 0.26, 0.0),
    "t": (0.08, 0.14, 0.08, _N, _N, 0.12, 0.0),
    "d": (0.09, 0.14, 0.08, _N, _N, 0.12, 0.0),
    "n": (0.10, 0.12, 0.07, _N, _N, 0.10, 0.0),
    "l": (0.14, 0.14, 0.08, _N, _N, 0.08, 0.10),
    "th": (0.11, 0.14, 0.08, 0.0, 0.0, 0.08, 0.32),
    "dh": (0.11, 0.14, 0.08, 0.0, 0.0, 0.08, 0.26),
    "g": (0.14, 0.10, 0.06, _N, _N, _N, 0.0),
    "k": (0.14, 0.10, 0.06, _N, _N, _N, 0.0),
    "ng": (0.14, 0.10, 0.06, _N, _N, _N, 0.0),
    "kh": (0.14, 0.12, 0.06, _N, _N, _N, 0.0),
    "hh": (_N, 0.06, 0.04, _N, _N, _N, 0.0),
    "q": (_N, _N, _N, _N, _N, _N, 0.0),
    "y": (0.11, 0.16, 0.10, 0.0, 0.0, 0.32, 0.0),
}
_DIPHTHONGS = {"ay": ("aa", "ih"), "aw": ("aa", "uh"), "ey": ("eh", "iy"), "oy": ("ao", "ih")}

# Urgency of a wish: how strongly (against a neighbour's 1) and how it falls off (1/s), before and after.
_SILENT = (0.9, 14.0, 14.0)
_OPEN = (1.25, 16.0, 16.0)
_VOWEL = (1.0, 15.0, 15.0)
_ROUND = (1.7, 9.0, 15.0)
_CONSONANT = (0.8, 24.0, 24.0)
_FIRM = (1.6, 22.0, 22.0)
_CARELESS = 0.02
_OPEN_VOWELS = frozenset(("aa", "ae", "ao", "ah", "eh", "ow"))
_VOWELS = frozenset(("ax", "er", "ih", "iy", "uh", "uw", "ue", "oe", "y"))
_FIRM_PHONES = BILABIALS | LABIODENTALS | frozenset(("s", "z", "sh", "zh", "ch", "jh", "th", "dh"))


@dataclass(frozen=True)
class _Wishes:
    """Targets and dominance of phones as arrays (phones, articulators)."""

    middle: Float[np.ndarray, " n"]
    core: Float[np.ndarray, " n"]
    """Half the time, in seconds, during which the wish is at its full strength."""
    target: Float[np.ndarray, "n 7"]
    strength: Float[np.ndarray, "n 7"]
    before: Float[np.ndarray, "n 7"]
    after: Float[np.ndarray, "n 7"]


def _urgency(name: str) -> tuple[float, float, float]:
    if name in ("sil", "breath"):
        return _SILENT
    if name in _OPEN_VOWELS:
        return _OPEN
    if name in _VOWELS:
        return _VOWEL
    return _FIRM if name in _FIRM_PHONES else _CONSONANT


def _segments(phones: Sequence[Phone]) -> list[Phone]:
    """Phones with diphthongs cut into their two vowels."""
    parts: list[Phone] = []
    for phone in phones:
        if phone.name in _DIPHTHONGS:
            first, second = _DIPHTHONGS[phone.name]
            cut = phone.start_s + 0.6 * phone.duration_s
            parts.append(Phone(name=first, start_s=phone.start_s, end_s=cut))
            parts.append(Phone(name=second, start_s=cut, end_s=phone.end_s))
        else:
            parts.append(phone)
    return parts


def _wishes(phones: Sequence[Phone]) -> _Wishes:
    parts = _segments(phones)
    n, k = len(parts), len(ARTICULATORS)
    target, strength = np.zeros((n, k)), np.full((n, k), _CARELESS)
    before, after = np.zeros((n, k)), np.zeros((n, k))
    for i, part in enumerate(parts):
        urgency, rise, fall = _urgency(part.name)
        before[i], after[i] = rise, fall
        for j, wish in enumerate(_SHAPES[part.name]):
            if wish is None:
                continue
            target[i, j], strength[i, j] = wish, urgency
            if ARTICULATORS[j] in ("pucker", "funnel") and wish > 0.2:
                strength[i, j], before[i, j], after[i, j] = _ROUND
    lengths = np.array([p.duration_s for p in parts])
    silent = np.array([p.name == "sil" for p in parts])
    # A pause holds the lips shut but for the time they need to move; sounds are a passing goal.
    core = np.where(silent, np.maximum(0.5 * lengths - 0.09, 0.0), 0.22 * lengths)
    # A sustained vowel, as in singing, is held and opens further.
    sung = np.array([p.name in VOWELS for p in parts]) & (lengths > _SUSTAINED_S)
    core = np.where(sung, 0.5 * lengths - 0.08, core)
    further = 1 + 0.45 * np.clip((lengths - _SUSTAINED_S) / 0.4, 0, 1) * sung
    target[:, :3] *= further[:, None]
    middle = np.array([p.middle_s for p in parts])
    return _Wishes(middle, core, target, strength, before, after)


def articulate(
    phones: Sequence[Phone], times: Float[np.ndarray, " frames"]
) -> Float[np.ndarray, "frames 7"]:
    """Articulator positions, 0..1, at the given times (seconds), before loudness and closures."""
    tracks = np.zeros((len(times), len(ARTICULATORS)))
    if not phones:
        return tracks
    wishes = _wishes(phones)
    for first in range(0, len(times), _CHUNK):
        now = times[first : first + _CHUNK]
        near = (wishes.middle + wishes.core > now[0] - _REACH_S) & (
            wishes.middle - wishes.core < now[-1] + _REACH_S
        )
        if not near.any():
            continue
        lag = now[:, None] - wishes.middle[near]
        outside = np.maximum(np.abs(lag) - wishes.core[near], 0.0)[..., None]
        rate = np.where((lag < 0)[..., None], wishes.before[near], wishes.after[near])
        dominance = wishes.strength[near] * np.exp(-rate * outside)
        total = dominance.sum(1) + 1e-9
        tracks[first : first + _CHUNK] = (dominance * wishes.target[near]).sum(1) / total
    return tracks


def closure(
    phones: Sequence[Phone],
    names: frozenset[str],
    times: Float[np.ndarray, " frames"],
    *,
    fps: float,
) -> Float[np.ndarray, " frames"]:
    """0..1: how far the closure of the named phones has come; 1 in at least one frame of each."""
    shut = np.zeros(len(times))
    for phone in phones:
        if phone.name not in names:
            continue
        # Half a frame either side of the middle always holds a frame, however short the phone is.
        hold = max(0.32 * phone.duration_s, 0.51 / fps)
        lag = times - phone.middle_s
        early = (-lag - hold) / _FADE_S["before"]
        late = (lag - hold) / _FADE_S["after"]
        away = np.clip(np.maximum(early, late), 0.0, 1.0)
        shut = np.maximum(shut, 0.5 + 0.5 * np.cos(np.pi * away))
    return shut


def mouth_actions(
    phones: Sequence[Phone],
    loudness: Float[np.ndarray, " frames"],
    *,
    fps: float,
    manner: Manner = Manner(),
) -> Float[np.ndarray, "frames 52"]:
    """Face actions of the mouth per frame (the others zero); loudness 0..1 against the speaker's own peak."""
    times = (np.arange(len(loudness)) + 0.5) / fps
    tracks = dict(zip(ARTICULATORS, articulate(phones, times).T, strict=True))
    lips = closure(phones, BILABIALS, times, fps=fps)
    teeth = closure(phones, LABIODENTALS, times, fps=fps) * (1 - lips)
    effort = manner.opening * (0.52 + 0.7 * loudness)
    free = (1 - lips) * (1 - teeth)
    jaw = np.clip(tracks["jaw"] * effort, 0, 0.85)
    # The jaw hardly drops while the lips or the teeth hold: they would have to stretch.
    jaw = jaw * (1 - 0.55 * lips) * (1 - 0.6 * teeth)
    actions = {
        "jawOpen": jaw,
        "mouthClose": jaw * lips,
        "mouthLowerDown": tracks["lower"] * effort * free,
        "mouthUpperUp": tracks["upper"] * effort * (1 - lips) + 0.18 * teeth,
        "mouthPucker": tracks["pucker"] * manner.rounding * (1 - 0.35 * lips) * (1 - 0.5 * teeth),
        "mouthFunnel": tracks["funnel"] * manner.rounding * free,
        "mouthStretch": 0.55 * tracks["wide"] * manner.spreading * (1 - 0.4 * lips),
        "mouthSmile": 0.45 * tracks["wide"] * manner.spreading * (1 - 0.3 * lips) + manner.smile,
        "mouthDimple": 0.20 * tracks["wide"] * manner.spreading,
        "mouthPress": 0.38 * lips,
        "mouthRollLower": 0.10 * lips + 0.55 * teeth,
        "mouthRollUpper": 0.10 * lips,
        "tongueOut": tracks["tongue"] * free,
    }
    return _spread(actions, len(times), manner.skew)


def _spread(
    actions: dict[str, Float[np.ndarray, " frames"]], frames: int, skew: float
) -> Float[np.ndarray, "frames 52"]:
    """Named tracks as a face tensor; a name without a side moves both sides."""
    face = np.zeros((frames, len(FACE_ACTIONS)), np.float32)
    for name, track in actions.items():
        if name in FACE_ACTIONS:
            face[:, FACE_ACTIONS.index(name)] = np.clip(track, 0, 1)
            continue
        for side, sign in (("Left", 1.0), ("Right", -1.0)):
            face[:, FACE_ACTIONS.index(name + side)] = np.clip(track * (1 + sign * skew), 0, 1)
    return face
