"""Gestures planned at the wrists (EMO2's idea: the hand is the end effector).

A gesture phrase is preparation, strokes, holds, retraction (Kendon 2004).  Strokes end on stressed syllables; every
move is a minimum-jerk path (Flash & Hogan 1985) with an arc; the fingers follow the wrist a little late.
Between phrases and in silence the hands rest.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
from jaxtyping import Float
from scipy.ndimage import gaussian_filter1d

from emo2.studio.hand_shapes import (
    JOINED,
    REST_POSES,
    SHAPES,
    HandPose,
    finger_quaternions,
    multiply,
    near_reference,
    orientation,
    turn_about,
)
from emo2.studio.presence import min_jerk
from emo2.studio.prosody import Prosody, Stress

SHOULDER_M = 0.18
"""Half the shoulder width (design §3)."""
REACH_M = 0.51
"""Longest distance of a wrist from its shoulder."""
_FIRST_STROKE_S = 0.65
"""A take begins at rest: no stroke ends sooner."""


@dataclass(frozen=True, kw_only=True)
class Habit:
    """How a style gestures."""

    activity: float = 0.85
    """Share of phrases with gestures."""
    density: float = 0.8
    """Share of the stresses that get a stroke."""
    size: float = 1.0
    """Scale of strokes; 1: about 9 cm."""
    pace: float = 1.0
    """Scale of speed."""
    both: float = 0.6
    """Share of phrases with both hands."""
    raised: float = 0.0
    """How far gestures go up from the rest pose towards the chest, 0..1."""
    kinds: tuple[str, ...] = ("beat", "beat", "open", "lift", "sweep", "present")


@dataclass
class _Keys:
    """A hand's plan: poses at moments; it rests at each and moves between."""

    moments: list[float] = field(default_factory=list)
    poses: list[HandPose] = field(default_factory=list)
    arcs: list[tuple[float, float, float]] = field(default_factory=list)
    """Bend of the path that leads to the key, metres."""

    def add(
        self, moment: float, pose: HandPose, arc: tuple[float, float, float] = (0, 0, 0)
    ) -> None:
        """Append a key, not before the last one."""
        last = self.moments[-1] if self.moments else -np.inf
        self.moments.append(max(moment, last + 1e-3))
        self.poses.append(pose)
        self.arcs.append(arc)


def _mix(a: HandPose, b: HandPose, share: float) -> HandPose:
    """Between two poses; share 1 is the second."""

    def between(p: tuple[float, ...], q: tuple[float, ...]) -> tuple[float, ...]:
        return tuple(x + share * (y - x) for x, y in zip(p, q, strict=True))

    return HandPose(
        wrist=between(a.wrist, b.wrist),  # type: ignore[arg-type]
        fingers=between(a.fingers, b.fingers),  # type: ignore[arg-type]
        palm=between(a.palm, b.palm),  # type: ignore[arg-type]
        shape=between(a.shape, b.shape),
    )


_SPACE = (
    HandPose(wrist=(0.21, 0.25, 0.26), fingers=(0.25, -0.15, 0.95), palm=(-0.8, 0.1, 0.3),
             shape=SHAPES["open"]),
    HandPose(wrist=(0.17, 0.22, 0.28), fingers=(-0.1, -0.35, 0.9), palm=(-0.75, 0.45, 0.1),
             shape=SHAPES["relaxed"]),
    HandPose(wrist=(0.25, 0.22, 0.24), fingers=(0.45, -0.25, 0.8), palm=(-0.45, -0.6, 0.35),
             shape=SHAPES["open"]),
)  # fmt: skip


def _centre(rest: HandPose, rest_name: str, habit: Habit, rng: np.random.Generator) -> HandPose:
    """Where a gesture phrase takes place: the space before the chest, nearer the rest pose if that is raised."""
    space = _SPACE[int(rng.integers(len(_SPACE)))]
    near = {"hanging": 0.95, "resting": 0.7, "folded": 0.75, "clasped high": 0.6}
    share = near.get(rest_name, float(rng.uniform(0.1, 0.5)))
    pose = _mix(rest, space, share)
    jitter = rng.normal(0, 0.018, 3)
    return pose.moved(jitter[0], jitter[1] - 0.07 * habit.raised, jitter[2])


def _stroke(
    kind: str, centre: HandPose, size: float, rng: np.random.Generator
) -> tuple[HandPose, HandPose]:
    """Pose before the stroke and at its end."""
    a = 0.085 * size * float(rng.uniform(0.7, 1.3))
    if kind == "beat":
        before = centre.moved(0.1 * a, -0.6 * a, -0.1 * a)
        return before, centre.moved(0.15 * a, 0.55 * a, 0.5 * a)
    if kind == "open":
        end = _mix(
            centre, replace(centre, fingers=(0.7, -0.1, 0.65), palm=(-0.35, -0.75, 0.4)), 0.8
        )
        end = replace(end.moved(1.0 * a, 0.1 * a, 0.3 * a), shape=SHAPES["open"])
        return centre.moved(-0.5 * a, -0.2 * a, 0), end
    if kind == "lift":
        end = replace(centre.moved(0.3 * a, -1.1 * a, 0.2 * a), shape=SHAPES["wide"])
        return centre.moved(0, 0.3 * a, 0), end
    if kind == "sweep":
        way = float(rng.choice((-1.0, 1.0)))
        return centre.moved(-0.8 * way * a, 0, 0), centre.moved(way * a, 0.15 * a, 0.1 * a)
    if kind == "present":
        end = _mix(centre, replace(centre, palm=(-0.2, -0.9, 0.3)), 0.7)
        return centre.moved(0, 0.1 * a, -0.6 * a), end.moved(0.2 * a, -0.1 * a, 0.9 * a)
    if kind == "point":
        end = replace(centre, fingers=(-0.05, -0.25, 0.97), palm=(-0.55, 0.8, 0.1))
        end = replace(end.moved(-0.2 * a, -0.4 * a, 0.9 * a), shape=SHAPES["point"])
        return replace(centre.moved(0, 0, -0.5 * a), shape=SHAPES["point"]), end
    if kind == "pinch":
        held = replace(centre, shape=SHAPES["pinch"], fingers=(-0.1, -0.6, 0.75))
        return held.moved(0, -0.6 * a, 0), held.moved(0, 0.4 * a, 0.2 * a)
    raise ValueError(f"unknown stroke {kind!r}")


def _units(
    prosody: Prosody, habit: Habit, speed: float, rest_name: str, rng: np.random.Generator
) -> list[list[Stress]]:
    """Stresses that get strokes, grouped into gesture phrases."""
    gap = 0.42 / speed
    stay_s = 2.4 if rest_name in ("hanging", "resting") else 1.5
    units: list[list[Stress]] = []
    active, until = False, -1.0
    for start, end in prosody.phrases:
        until = min(until, start)
        for stress in (s for s in prosody.stresses if start <= s.time_s <= end):
            if stress.time_s >= until:  # an idea lasts a second or three; each is gestured or not
                active = rng.random() < habit.activity
                until = stress.time_s + float(rng.uniform(1.2, 3.2))
            likely = habit.density * (0.45 + 0.8 * stress.strength)
            if not active or rng.random() > likely or stress.time_s < _FIRST_STROKE_S / speed:
                continue
            rest_s = stress.time_s - units[-1][-1].time_s if units else np.inf
            if rest_s > stay_s:
                units.append([stress])
            elif rest_s > gap:
                units[-1].append(stress)
    return units


def _plan(
    prosody: Prosody, habit: Habit, rest_name: str, speed: float, rng: np.random.Generator
) -> tuple[_Keys, _Keys]:
    """Keys of the left and the right hand for the whole take."""
    rests = _rest_pair(rest_name, rng)
    hands = (_Keys(), _Keys())
    for keys, rest in zip(hands, rests, strict=True):
        keys.add(-1.0, rest)
    for unit in _units(prosody, habit, speed, rest_name, rng):
        centre = _centre(rests[0], rest_name, habit, rng)
        both = rng.random() < habit.both or rest_name in JOINED
        lead = int(rng.random() < 0.55)
        seed = int(rng.integers(2**31))  # the same for both hands: they mirror each other
        for side, keys in enumerate(hands):
            if not both and side != lead:
                continue
            own = habit if side == lead else replace(habit, size=0.8 * habit.size)
            _gesture(keys, rests[side], centre, unit, own, speed, np.random.default_rng(seed))
    for keys, rest in zip(hands, rests, strict=True):
        keys.add(max(prosody.duration_s, keys.moments[-1]) + 3.0, rest)
    return hands


def _rest_pair(rest_name: str, rng: np.random.Generator) -> tuple[HandPose, HandPose]:
    """Rest poses of both hands: alike, never equal."""
    pose = REST_POSES[rest_name]
    shared, pair = rng.normal(0, 0.02, 3), []
    front = int(rng.integers(2))
    for side in range(2):
        own = shared + rng.normal(0, 0.008, 3)
        moved = pose.moved(own[0], own[1], 0.5 * own[2])
        if rest_name in JOINED:
            moved = pose.moved(0.3 * own[0], shared[1], shared[2] + (0.035 if side == front else 0))
            moved = moved.moved(0, -0.02 if side == front else 0.0, 0)
        curl = float(rng.normal(0, 0.06))
        shape = tuple(float(np.clip(s + curl + rng.normal(0, 0.02), 0, 1)) for s in moved.shape)
        tilt = tuple(f + float(rng.normal(0, 0.06)) for f in moved.fingers)
        pair.append(replace(moved, shape=shape, fingers=tilt))  # type: ignore[arg-type]
    return pair[0], pair[1]


def _slackened(
    pose: HandPose, centre: HandPose, seconds: float, rng: np.random.Generator
) -> HandPose:
    """A held hand is never stiff: it drifts back and sinks a little."""
    share = float(np.clip(0.45 * seconds, 0.0, 0.4))
    return _mix(pose, centre, share).moved(
        float(rng.normal(0, 0.008)), 0.02 * share + 0.004, float(rng.normal(0, 0.008))
    )


def _gesture(
    keys: _Keys,
    rest: HandPose,
    centre: HandPose,
    unit: list[Stress],
    habit: Habit,
    speed: float,
    rng: np.random.Generator,
) -> None:
    """Append preparation, strokes, holds and retraction to one hand's keys."""
    quick = habit.pace * speed
    hand_lag = float(rng.normal(0, 0.02))
    travel = np.linalg.norm(np.subtract(centre.wrist, keys.poses[-1].wrist))
    prepare_s = float(np.clip((0.35 + 0.9 * travel) / quick, 0.3, 1.2))
    kind = str(rng.choice(habit.kinds))
    free = max(keys.moments[-1], 0.0) + 0.9 * prepare_s + 0.2
    unit = [s for s in unit if s.time_s > free]  # no stroke that the hand could not reach in time
    if not unit:
        return
    for i, stress in enumerate(unit):
        if i == 0 or rng.random() < 0.35:
            kind = str(rng.choice(habit.kinds))
        size = habit.size * (0.55 + 0.6 * stress.strength) * (0.85 + 0.15 * speed)
        before, end = _stroke(kind, centre, size, rng)
        stroke_s = float(np.clip(rng.uniform(0.26, 0.42) / quick, 0.18, 0.6))
        at = stress.time_s + hand_lag
        start = at - stroke_s
        if i == 0:
            leave = max(start - prepare_s, keys.moments[-1] + 0.02, 0.04)
            keys.add(leave, keys.poses[-1])
            keys.add(max(start, leave + 0.25), before, (0.02, 0.0, 0.03))
        else:
            back_s = float(np.clip(rng.uniform(0.32, 0.55) / quick, 0.24, 0.8))
            hold = max(keys.moments[-1] + 0.02, start - back_s)
            keys.add(hold, _slackened(keys.poses[-1], centre, hold - keys.moments[-1], rng))
            keys.add(max(start, hold + 0.2), before, (0.01, -0.01, -0.01))
        keys.add(max(at, keys.moments[-1] + 0.18), end)
    held_s = float(rng.uniform(0.2, 0.9))
    keys.add(keys.moments[-1] + held_s, _slackened(keys.poses[-1], centre, held_s, rng))
    back = np.linalg.norm(np.subtract(rest.wrist, keys.poses[-1].wrist))
    home_s = float(np.clip((0.5 + 1.0 * back) / quick, 0.45, 1.5))
    keys.add(keys.moments[-1] + home_s, rest, (0.01, 0.0, 0.02))


def _follow(
    keys: _Keys, times: np.ndarray, side: int, fps: float
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
) -> Float[np.ndarray, "frames 2 67"]:
    """Both hands (left, right) as `Motion.hands`; speed 1 is the style's own."""
    if rest not in REST_POSES:
        raise ValueError(f"no rest pose {rest!r}; expected one of {', '.join(REST_POSES)}")
    frames, fps = len(prosody.loudness), prosody.fps
    times = (np.arange(frames) + 0.5) / fps
    out = np.zeros((frames, 2, 67), np.float32)
    for side, keys in enumerate(_plan(prosody, habit, rest, speed, rng)):
        wrist, turn, shape = _follow(keys, times, side, fps)
        restless = 0.0015 + 0.0065 * prosody.speaking[:, None]
        wrist = wrist + restless * _alive(rng, frames, 3, 1.2, fps)
        wrist[:, 1] -= 0.006 * (breath - 0.3)
        tremble = 0.02 * _alive(rng, frames, 3, 1.5, fps)
        for axis in range(3):
            turn = multiply(turn_about(np.eye(3)[axis], tremble[:, axis]), turn)
        shape = np.clip(shape + 0.025 * _alive(rng, frames, 7, 1.2, fps), 0, 1)
        out[:, side, :4] = near_reference(turn, side)
        out[:, side, 4:64] = finger_quaternions(shape, side).reshape(frames, 60)
        out[:, side, 64:] = keep_possible(wrist, side)
    return out
