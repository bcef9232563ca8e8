"""Head, eyes, brows and breath: what makes a face that speaks look alive.

Head pose drifts between postures at phrase boundaries, follows the melody and nods at stresses; the eyes rest on
the camera with short glances aside, held still against the head; lids blink every 2 to 6 seconds and at phrase
ends; brows rise at strong stresses; the chest breathes in before phrases.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy.ndimage import gaussian_filter1d

from emo2.signals import FACE_ACTIONS
from emo2.studio.prosody import Prosody

Track = Float[np.ndarray, " frames"]

_DEGREE = np.pi / 180
_GLANCE_RAD = (
    0.35  # eye rotation at which an eyeLook action is 1: about 20 degrees, then saturating
)


@dataclass(frozen=True, kw_only=True)
class Temper:
    """How lively head and face are; 1 is ordinary."""

    head: float = 1.0
    nods: float = 1.0
    brows: float = 1.0
    glances: float = 1.0
    blink_gap_s: float = 3.6
    bow_deg: float = 0.0
    """How far the head is held down."""
    averted: float = 0.0
    """Share of the time in which the eyes avoid the camera."""
    sway: float = 1.0
    """Slow turns and tilts of head and torso."""


def min_jerk(x: np.ndarray) -> np.ndarray:
    """Progress 0..1 of a minimum-jerk move (Flash & Hogan 1985, eq. 4), clipped outside."""
    x = np.clip(x, 0.0, 1.0)
    return x * x * x * (10 + x * (6 * x - 15))


def through(
    times: np.ndarray, moments: np.ndarray, values: Float[np.ndarray, "keys d"]
) -> Float[np.ndarray, "frames d"]:
    """Values that rest at every key and go from one to the next by minimum jerk."""
    after = np.clip(np.searchsorted(moments, times, side="right"), 1, len(moments) - 1)
    start, end = moments[after - 1], moments[after]
    progress = min_jerk((times - start) / np.maximum(end - start, 1e-6))[:, None]
    return values[after - 1] + progress * (values[after] - values[after - 1])


def pulse(times: np.ndarray, moment: float, rise_s: float, fall_s: float) -> np.ndarray:
    """A bump of height 1 at a moment."""
    return min_jerk(1 + (times - moment) / rise_s) * min_jerk(1 - (times - moment) / fall_s)


def _noise(rng: np.random.Generator, frames: int, seconds: float, fps: float) -> np.ndarray:
    """Smooth noise of unit deviation that changes over about that many seconds."""
    sigma = max(0.4 * seconds * fps, 0.5)
    pad = int(4 * sigma)
    rough = rng.standard_normal(frames + 2 * pad)
    smooth = gaussian_filter1d(rough, sigma, mode="nearest")[pad : pad + frames]
    return smooth * np.sqrt(2 * np.sqrt(np.pi) * sigma)


def head_track(
    prosody: Prosody, temper: Temper, rng: np.random.Generator
) -> Float[np.ndarray, "frames 6"]:
    """Yaw, pitch, roll (radians) and shift (metres) of the head."""
    frames, fps = len(prosody.loudness), prosody.fps
    times = (np.arange(frames) + 0.5) / fps
    postures = _postures(prosody, temper, rng, times)
    bow = temper.bow_deg * _DEGREE * float(rng.uniform(0.6, 1.3))
    postures = postures + np.array((0.0, bow, 0.0))
    if temper.sway > 1:
        tilt = (temper.sway - 1) * _DEGREE * np.array((1.4, 0.4, 2.2))
        slow = np.stack([_noise(rng, frames, s, fps) for s in (1.9, 2.3, 1.7)], -1)
        postures = postures + tilt * slow * prosody.speaking[:, None]
    alive = 0.35 + 0.65 * prosody.speaking
    yaw, pitch, roll = postures.T
    yaw = yaw + alive * temper.head * _DEGREE * 1.4 * _noise(rng, frames, 0.55, fps)
    roll = roll + alive * temper.head * _DEGREE * 1.1 * _noise(rng, frames, 0.65, fps)
    pitch = pitch + alive * temper.head * _DEGREE * 0.9 * _noise(rng, frames, 0.5, fps)
    # A rising melody lifts the head (Munhall et al. 2004 found the two correlated).
    pitch = pitch - temper.head * _DEGREE * 1.1 * gaussian_filter1d(prosody.melody, 0.08 * fps)
    for stress in prosody.stresses:
        if rng.random() > 0.35 + 0.5 * stress.strength:
            continue
        size = temper.nods * stress.strength * rng.uniform(1.2, 4.0) * _DEGREE
        lag = rng.normal(0.02, 0.04)
        pitch = pitch + size * pulse(times, stress.time_s + lag, 0.16, rng.uniform(0.22, 0.4))
        if rng.random() < 0.3:
            yaw = yaw + rng.choice((-1, 1)) * 0.6 * size * pulse(times, stress.time_s, 0.2, 0.45)
    pitch = pitch + _listening(prosody, rng, times)
    shift = np.stack(
        (
            0.05 * np.sin(yaw),
            0.02 * pitch + 0.001 * _noise(rng, frames, 2.0, fps),
            0.04 * pitch + 0.003 * temper.head * _noise(rng, frames, 2.5, fps),
        ),
        -1,
    )
    return np.concatenate((np.stack((yaw, pitch, roll), -1), shift), -1)


def _pauses(prosody: Prosody, least_s: float) -> list[tuple[float, float]]:
    """Silences of at least that length."""
    borders = [0.0, *(t for phrase in prosody.phrases for t in phrase), prosody.duration_s]
    return [(a, b) for a, b in zip(borders[::2], borders[1::2], strict=True) if b - a >= least_s]


def _listening(prosody: Prosody, rng: np.random.Generator, times: np.ndarray) -> Track:
    """Small nods now and then while the person only listens."""
    pitch = np.zeros(len(times))
    for start, end in _pauses(prosody, 2.0):
        at = start + float(rng.uniform(0.8, 2.0))
        while at < end - 0.8:
            for k in range(int(rng.integers(1, 3))):
                size = float(rng.uniform(1.0, 2.2)) * _DEGREE
                pitch += size * pulse(times, at + 0.42 * k, 0.22, 0.26)
            at += float(rng.uniform(2.5, 6.0))
    return pitch


def _postures(
    prosody: Prosody, temper: Temper, rng: np.random.Generator, times: np.ndarray
) -> Float[np.ndarray, "frames 3"]:
    """Slow attitudes of the head, changed at phrase boundaries and in long phrases."""
    wide = np.array((4.5, 2.2, 2.6)) * _DEGREE * temper.head
    moments, values = [0.0], [rng.normal(0, 0.4, 3) * wide]
    for start, end in prosody.phrases:
        at = max(start - rng.uniform(0.0, 0.3), moments[-1] + 0.3)
        while at < end:
            spread = rng.uniform(0.3, 0.8)
            moments += [at, at + spread]
            values += [values[-1], rng.normal(0, 1, 3) * wide]
            at = at + spread + rng.uniform(0.8, 2.6)
        moments += [max(end, moments[-1]) + 0.05, max(end, moments[-1]) + 0.9]
        values += [values[-1], 0.35 * values[-1]]
    moments.append(max(prosody.duration_s, moments[-1]) + 2.0)
    values.append(values[-1])
    order = np.maximum.accumulate(np.array(moments))
    return through(times, order, np.array(values))


def blinks(prosody: Prosody, temper: Temper, rng: np.random.Generator) -> Track:
    """Lid closure, 0..1: closing in about 0.09 s, opening in about 0.16 s."""
    frames, fps = len(prosody.loudness), prosody.fps
    times = (np.arange(frames) + 0.5) / fps
    closed = np.zeros(frames)
    ends = [end for _, end in prosody.phrases]
    moment = float(rng.uniform(0.4, temper.blink_gap_s))
    while moment < prosody.duration_s:
        near = [end for end in ends if abs(end - moment) < 0.7]
        if near and rng.random() < 0.7:
            moment = near[0] + float(rng.uniform(-0.05, 0.2))
        # The lids meet in the middle of a frame: so short a moment would else be lost at 25 fps.
        exact = (np.round(moment * fps - 0.5) + 0.5) / fps
        depth = (
            float(rng.uniform(0.94, 1.0)) if rng.random() < 0.92 else float(rng.uniform(0.5, 0.8))
        )
        fall, rise = rng.uniform(0.08, 0.11), rng.uniform(0.12, 0.2)
        closed = np.maximum(closed, depth * pulse(times, exact, fall, rise))
        gap = temper.blink_gap_s * float(np.exp(rng.normal(0, 0.38)))
        moment = moment + float(np.clip(gap, 1.6, 6.5))
        if rng.random() < 0.06:
            moment = exact + 0.4  # now and then a double blink
    return closed


def gaze_track(
    prosody: Prosody, head: Float[np.ndarray, "frames 6"], temper: Temper, rng: np.random.Generator
) -> Float[np.ndarray, "frames 2"]:
    """Yaw and pitch of the eyes against the head: on the camera, with glances and small saccades."""
    frames, fps = len(prosody.loudness), prosody.fps
    times = (np.arange(frames) + 0.5) / fps
    target = np.zeros((frames, 2))
    moment = float(rng.uniform(0.3, 2.0))
    aside = np.zeros(2)
    while moment < prosody.duration_s:
        shy = rng.random() < temper.averted
        begins = any(abs(start - moment) < 0.6 for start, _ in prosody.phrases)
        likely = 0.28 * temper.glances * (1.6 if begins else 1.0)  # one looks away to think
        away = shy or (rng.random() < likely and not aside.any())
        scale = np.array((9.0, 5.0)) if away else np.array((0.8, 0.5))
        aside = (rng.normal(0, 1, 2) * scale + (0.0, 7.0 if shy else 0.0)) * _DEGREE
        target[times >= moment] = aside
        moment += float(rng.uniform(0.35, 1.0) if away else rng.uniform(0.7, 2.6))
        aside = aside if away else np.zeros(2)
    target = gaussian_filter1d(target, 0.012 * fps, axis=0)  # a saccade lasts about 40 ms
    # The eyes stay on their target while the head turns (vestibulo-ocular reflex).
    return np.clip(target - 0.8 * head[:, :2], -0.45, 0.45)


def brows(prosody: Prosody, temper: Temper, rng: np.random.Generator) -> tuple[Track, Track, Track]:
    """Inner brows up, outer brows up, brows down, each 0..1."""
    frames, fps = len(prosody.loudness), prosody.fps
    times = (np.arange(frames) + 0.5) / fps
    inner, outer, down = (np.zeros(frames) for _ in range(3))
    for stress in prosody.stresses:
        if stress.strength < 0.45 or rng.random() > 0.5 * temper.brows:
            continue
        height = stress.strength * rng.uniform(0.15, 0.6) * min(temper.brows, 1.5)
        shape = height * pulse(times, stress.time_s - 0.03, 0.2, rng.uniform(0.3, 0.7))
        if rng.random() < 0.2:
            down = np.maximum(down, 0.7 * shape)
        else:
            inner, outer = np.maximum(inner, shape), np.maximum(outer, 0.8 * shape)
    drift = 0.05 * temper.brows * np.abs(_noise(rng, frames, 3.0, fps))
    return inner + drift, outer + 0.6 * drift, down


def breath_track(prosody: Prosody, rng: np.random.Generator) -> Track:
    """Filling of the chest, 0..1: in before each phrase, out while it lasts, calm in silence."""
    frames, fps = len(prosody.loudness), prosody.fps
    times = (np.arange(frames) + 0.5) / fps
    moments, values = [-4.0], [0.3]
    for start, end in prosody.phrases:
        at = start - 0.45
        while at - moments[-1] > 4.2:
            middle = moments[-1] + rng.uniform(1.5, 2.1)
            moments += [middle, middle + rng.uniform(1.6, 2.2)]
            values += [0.55, 0.25]
        if at > moments[-1] + 0.15:
            moments.append(at)
            values.append(min(values[-1], 0.35))
        full = min(1.0, 0.5 + 0.12 * (end - start)) * rng.uniform(0.85, 1.0)
        moments += [max(start, moments[-1] + 0.2), max(end, moments[-1] + 0.4)]
        values += [full, 0.15 + 0.1 * rng.random()]
    while moments[-1] < prosody.duration_s:
        moments += [moments[-1] + rng.uniform(1.5, 2.1)] * 1
        values.append(0.55 if values[-1] < 0.4 else 0.25)
    moments.append(moments[-1] + 2.0)
    values.append(values[-1])
    return through(times, np.array(moments), np.array(values)[:, None])[:, 0]


def body_track(
    prosody: Prosody,
    head: Float[np.ndarray, "frames 6"],
    temper: Temper,
    rng: np.random.Generator,
) -> Float[np.ndarray, "frames 6"]:
    """Torso yaw, pitch, roll (radians), shoulders up (metres), breath (0..1)."""
    frames, fps = len(prosody.loudness), prosody.fps
    slow = gaussian_filter1d(head[:, :3], 0.35 * fps, axis=0)
    sway = np.stack([_noise(rng, frames, s, fps) for s in (3.5, 4.5, 4.0)], -1)
    wide = np.array((1.0, 0.5, 0.6 * temper.sway)) * (0.5 + 0.5 * temper.head)
    turn = 0.22 * slow + (sway * (0.4 + 0.6 * prosody.speaking[:, None]) * wide) * _DEGREE
    turn = turn + _shifts(prosody, rng)
    breath = breath_track(prosody, rng)
    shrug = np.zeros(frames)
    times = (np.arange(frames) + 0.5) / fps
    for stress in prosody.stresses:
        if rng.random() < 0.12 * temper.nods:
            shrug += rng.uniform(0.003, 0.012) * pulse(times, stress.time_s, 0.25, 0.5)
    up = 0.006 * breath + shrug
    lean = rng.normal(0, 0.15) * shrug
    return np.concatenate((turn, np.stack((up + lean, up - lean, breath), -1)), -1)


def _shifts(prosody: Prosody, rng: np.random.Generator) -> Float[np.ndarray, "frames 3"]:
    """Changes of posture: in longer pauses the weight goes to another side."""
    times = (np.arange(len(prosody.loudness)) + 0.5) / prosody.fps
    moments, values = [-1.0], [np.zeros(3)]
    for start, end in _pauses(prosody, 1.2):
        if rng.random() < 0.5:
            at = max(float(rng.uniform(start, end - 0.6)), moments[-1])
            moments += [at, at + float(rng.uniform(0.8, 1.4))]
            values += [values[-1], rng.normal(0, 1, 3) * np.array((1.6, 0.6, 1.0)) * _DEGREE]
    moments.append(max(prosody.duration_s, moments[-1]) + 2.0)
    values.append(values[-1])
    return through(times, np.array(moments), np.array(values))


def add_eyes(
    face: Float[np.ndarray, "frames 52"], gaze: Float[np.ndarray, "frames 2"], closed: Track
) -> None:
    """Write lids and eye directions into a face tensor, in place."""
    yaw, pitch = (gaze / _GLANCE_RAD).T

    def put(name: str, value: np.ndarray) -> None:
        face[:, FACE_ACTIONS.index(name)] = np.clip(value, 0, 1)

    for side in ("Left", "Right"):
        put("eyeBlink" + side, closed + 0.12 * np.clip(pitch, 0, 1))
        put("eyeLookDown" + side, pitch)
        put("eyeLookUp" + side, -pitch)
    # The person's left eye looks out when it looks towards the image's right.
    put("eyeLookOutLeft", yaw)
    put("eyeLookInRight", yaw)
    put("eyeLookInLeft", -yaw)
    put("eyeLookOutRight", -yaw)
