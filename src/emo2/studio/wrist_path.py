"""Hands along a plan: minimum-jerk paths of the wrists (Flash & Hogan 1985) with an arc, fingers a little late.

Wrists stay within the arm's reach and outside the body; between gestures and in silence they are almost still.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int
from scipy.ndimage import gaussian_filter1d

from emo2.studio.gesture import PHASES, Habit, Keys, plan
from emo2.studio.hand_shapes import (
    finger_quaternions,
    multiply,
    near_reference,
    orientation,
    turn_about,
)
from emo2.studio.presence import min_jerk
from emo2.studio.prosody import Prosody

SHOULDER_M = 0.18
"""Half the shoulder width (design §3)."""
REACH_M = 0.51
"""Longest distance of a wrist from its shoulder."""


def _follow(
    keys: Keys, times: np.ndarray, side: int, fps: float
) -> tuple[
    Float[np.ndarray, "frames 3"], Float[np.ndarray, "frames 4"], Float[np.ndarray, "frames 7"]
]:
    """Wrist (image frame), wrist quaternion and finger amounts along the keys."""
    moments = np.array(keys.moments)
    wrist = np.array([p.wrist for p in keys.poses])
    turn = np.array([orientation(p, side) for p in keys.poses])
    shape = np.array([p.shape for p in keys.poses])
    arcs = np.array(keys.arcs, float)

    def at(now: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        after = np.clip(np.searchsorted(moments, now, side="right"), 1, len(moments) - 1)
        raw = (now - moments[after - 1]) / (moments[after] - moments[after - 1])
        return after, min_jerk(raw)[:, None], np.clip(raw, 0, 1)[:, None]

    after, p, raw = at(times)
    path = wrist[after - 1] + p * (wrist[after] - wrist[after - 1])
    path = path + arcs[after] * 16 * raw**2 * (1 - raw) ** 2
    path[:, 0] *= 1.0 if side == 0 else -1.0
    # Muscles round off what the plan's segments leave as corners in speed.
    path = gaussian_filter1d(path, 0.045 * fps, axis=0, mode="nearest")
    after, p, _ = at(times - 0.02)
    turned = turn[after - 1] + p * (turn[after] - turn[after - 1])
    turned /= np.linalg.norm(turned, axis=-1, keepdims=True)
    after, p, _ = at(times - 0.05)
    return path, turned, shape[after - 1] + p * (shape[after] - shape[after - 1])


def _phase_track(keys: Keys, times: np.ndarray) -> Int[np.ndarray, " frames"]:
    after = np.clip(np.searchsorted(keys.moments, times, side="right"), 1, len(keys.moments) - 1)
    return np.array([PHASES.index(name) for name in keys.phases])[after]


def _alive(
    rng: np.random.Generator, frames: int, channels: int, seconds: float, fps: float
) -> np.ndarray:
    """Smooth noise of unit deviation in several channels."""
    sigma = max(0.4 * seconds * fps, 0.5)
    rough = rng.standard_normal((frames, channels))
    return gaussian_filter1d(rough, sigma, axis=0) * np.sqrt(2 * np.sqrt(np.pi) * sigma)


def keep_possible(wrist: Float[np.ndarray, "frames 3"], side: int) -> Float[np.ndarray, "frames 3"]:
    """Wrists within the arm's reach and outside the body."""
    sign = 1.0 if side == 0 else -1.0
    wrist = wrist.copy()
    # An elliptic trunk: half as wide as the shoulders and 0.12 m deep, with room for the wrist.
    out = np.clip(np.abs(wrist[:, 0]) / 0.21, 0, 1)
    inside = wrist[:, 1] < 0.47
    wrist[:, 2] = np.where(
        inside, np.maximum(wrist[:, 2], 0.165 * np.sqrt(1 - out**2)), wrist[:, 2]
    )
    shoulder = np.array((sign * SHOULDER_M, 0.0, 0.0))
    arm = wrist - shoulder
    length = np.linalg.norm(arm, axis=-1, keepdims=True)
    return shoulder + arm * np.minimum(1.0, REACH_M / length)


def hands_track(
    prosody: Prosody,
    breath: Float[np.ndarray, " frames"],
    habit: Habit,
    rng: np.random.Generator,
    *,
    rest: str,
    speed: float = 1.0,
) -> tuple[Float[np.ndarray, "frames 2 67"], Int[np.ndarray, "frames 2"]]:
    """Both hands (left, right) as `Motion.hands`, and their phases; speed 1 is the style's own."""
    frames, fps = len(prosody.loudness), prosody.fps
    times = (np.arange(frames) + 0.5) / fps
    out = np.zeros((frames, 2, 67), np.float32)
    phases = np.zeros((frames, 2), np.int64)
    for side, keys in enumerate(plan(prosody, habit, rest, speed, rng)):
        wrist, turn, shape = _follow(keys, times, side, fps)
        restless = 0.0012 + 0.0058 * prosody.speaking[:, None] ** 2
        wrist = wrist + restless * _alive(rng, frames, 3, 1.4, fps)
        wrist[:, 1] -= 0.006 * (breath - 0.3)
        lively = 0.3 + 0.7 * prosody.speaking[:, None]
        tremble = 0.02 * lively * _alive(rng, frames, 3, 1.5, fps)
        for axis in range(3):
            turn = multiply(turn_about(np.eye(3)[axis], tremble[:, axis]), turn)
        shape = np.clip(shape + 0.025 * lively * _alive(rng, frames, 7, 1.2, fps), 0, 1)
        out[:, side, :4] = near_reference(turn, side)
        out[:, side, 4:64] = finger_quaternions(shape, side).reshape(frames, 60)
        out[:, side, 64:] = keep_possible(wrist, side)
        phases[:, side] = _phase_track(keys, times)
    return out, phases
