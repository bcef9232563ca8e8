"""Gestures planned at the wrists (EMO2's idea: the hand is the end effector).

A gesture phrase is preparation, strokes, holds, retraction (Kendon 2004).  Strokes end on stressed syllables.  A
phrase lives inside one turn of speech: it begins when the voice does and is over when the voice fades, so that
in silence the hands rest.  `wrist_path` moves the hands along the plan.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import numpy as np

from emo2.studio.hand_shapes import JOINED, REST_POSES, SHAPES, HandPose
from emo2.studio.prosody import Prosody, Stress
from emo2.studio.strokes import mix, stroke, touch

PHASES = ("rest", "preparation", "stroke", "hold", "retraction", "touch")
"""Phases of a gesture; a frame's phase is its place here.  Self-touch is no gesture and has its own."""

_FIRST_STROKE_S = 0.65
"""A take begins at rest: no stroke ends sooner."""
_TURN_GAP_S = 0.45
"""A pause longer than this ends a turn: hands retract before it, and hold through shorter ones."""
_FADE_S = 0.12
"""Hands may still be on their way home so long after the voice has ended."""


@dataclass(frozen=True, kw_only=True)
class Habit:
    """How a style gestures."""

    activity: float = 0.92
    """Share of ideas with gestures."""
    density: float = 0.9
    """Share of the stresses that get a stroke."""
    size: float = 1.0
    """Scale of strokes; 1: about 9 cm."""
    pace: float = 1.0
    """Scale of speed."""
    both: float = 0.6
    """Share of gestures with both hands."""
    mirrored: float = 0.6
    """Of these, the share in which they mirror each other; else they take turns, or one supports."""
    raised: float = 0.0
    """How far up from the belly gestures take place: 1 is 12 cm."""
    spread: float = 0.0
    """How far outwards: 1 is 8 cm."""
    hold: float = 1.0
    """Scale of the time that a hand stays after its last stroke."""
    stay: float = 0.2
    """Share of gestures after which the hands stay where they are until the next, voice or no voice."""
    touch: float = 0.0
    """Share of ideas spent in self-touch instead."""
    kinds: tuple[str, ...] = ("beat", "beat", "open", "lift", "sweep", "present")


@dataclass
class Keys:
    """A hand's plan: poses at moments; it rests at each and moves between."""

    moments: list[float] = field(default_factory=list)
    poses: list[HandPose] = field(default_factory=list)
    phases: list[str] = field(default_factory=list)
    """Of the move that leads to the key."""
    arcs: list[tuple[float, float, float]] = field(default_factory=list)
    """Bend of the path that leads to the key, metres."""

    def add(
        self,
        moment: float,
        pose: HandPose,
        phase: str,
        arc: tuple[float, float, float] = (0, 0, 0),
    ) -> None:
        """Append a key, not before the last one."""
        last = self.moments[-1] if self.moments else -np.inf
        self.moments.append(max(moment, last + 1e-3))
        self.poses.append(pose)
        self.phases.append(phase)
        self.arcs.append(arc)


@dataclass(frozen=True, kw_only=True)
class _Idea:
    """Some stresses with one gesture phrase, inside a turn of speech."""

    stresses: tuple[Stress, ...]
    turn: tuple[float, float]
    """When the turn's voice begins and ends."""
    next_s: float
    """When the next idea's first stroke ends; infinity where none follows."""
    is_touch: bool


_SPACE = (
    HandPose(wrist=(0.21, 0.25, 0.26), fingers=(0.25, -0.15, 0.95), palm=(-0.8, 0.1, 0.3),
             shape=SHAPES["open"]),
    HandPose(wrist=(0.17, 0.22, 0.28), fingers=(-0.1, -0.35, 0.9), palm=(-0.75, 0.45, 0.1),
             shape=SHAPES["relaxed"]),
    HandPose(wrist=(0.25, 0.22, 0.24), fingers=(0.45, -0.25, 0.8), palm=(-0.45, -0.6, 0.35),
             shape=SHAPES["open"]),
)  # fmt: skip


def _centre(rest: HandPose, rest_name: str, habit: Habit, rng: np.random.Generator) -> HandPose:
    """Where a gesture takes place: before the chest, nearer the rest pose if that is raised."""
    space = _SPACE[int(rng.integers(len(_SPACE)))]
    near = {"hanging": 0.95, "resting": 0.7, "folded": 0.75, "clasped high": 0.6}
    share = near.get(rest_name, float(rng.uniform(0.2, 0.6)))
    share = min(1.0, share + 0.4 * abs(habit.raised))
    x, y, z = rng.normal(0, 0.016, 3)
    pose = mix(rest, space, share)
    return pose.moved(float(x) + 0.08 * habit.spread, float(y) - 0.12 * habit.raised, float(z))


def _turns(prosody: Prosody) -> list[tuple[float, float]]:
    """Stretches of speech with only short pauses in them."""
    turns: list[tuple[float, float]] = []
    for start, end in prosody.phrases:
        if turns and start - turns[-1][1] < _TURN_GAP_S:
            turns[-1] = (turns[-1][0], end)
        else:
            turns.append((start, end))
    return turns


def _ideas(
    prosody: Prosody, habit: Habit, speed: float, rest_name: str, rng: np.random.Generator
) -> list[_Idea]:
    """Stresses that get strokes, grouped into gesture phrases."""
    gap = 0.42 / min(speed * max(habit.pace, 1.0), 1.6)
    stay_s = 2.4 if rest_name in ("hanging", "resting") else 1.5
    found: list[tuple[list[Stress], tuple[float, float], bool]] = []
    for turn in _turns(prosody):
        active, touching, until, open_idea = False, False, -1.0, False
        for stress in (s for s in prosody.stresses if turn[0] <= s.time_s <= turn[1]):
            if stress.time_s >= until:  # an idea lasts a second or three; each is gestured or not
                active = rng.random() < habit.activity
                touching = rng.random() < habit.touch
                until = stress.time_s + float(rng.uniform(1.2, 3.2))
                open_idea = open_idea and not touching
            likely = habit.density * (0.45 + 0.8 * stress.strength)
            is_late = stress.time_s > turn[1] - 0.35
            is_soon = stress.time_s < _FIRST_STROKE_S / speed
            if not active or is_late or is_soon or rng.random() > likely:
                continue
            rest_s = stress.time_s - found[-1][0][-1].time_s if open_idea else np.inf
            if touching or rest_s > stay_s:
                found.append(([stress], turn, touching))
                open_idea = not touching
                active = active and not touching
            elif rest_s > gap:
                found[-1][0].append(stress)
    nexts = [*(later[0].time_s for later, _, _ in found[1:]), np.inf][: len(found)]
    return [
        _Idea(stresses=tuple(stresses), turn=turn, next_s=float(after), is_touch=is_touch)
        for (stresses, turn, is_touch), after in zip(found, nexts, strict=True)
    ]


def plan(
    prosody: Prosody, habit: Habit, rest_name: str, speed: float, rng: np.random.Generator
) -> tuple[Keys, Keys]:
    """Keys of the left and the right hand for the whole take; speed 1 is the style's own."""
    if rest_name not in REST_POSES:
        raise ValueError(f"no rest pose {rest_name!r}; expected one of {', '.join(REST_POSES)}")
    rests = _rest_pair(rest_name, rng)
    hands = (Keys(), Keys())
    for keys, rest in zip(hands, rests, strict=True):
        keys.add(-1.0, rest, "rest")
    for idea in _ideas(prosody, habit, speed, rest_name, rng):
        centre = _centre(rests[0], rest_name, habit, rng)
        for side, own, stresses, seed in _shared_out(idea, habit, rest_name, rng):
            part = replace(idea, stresses=stresses)
            mover = _Mover(hands[side], rests[side], own, speed, np.random.default_rng(seed))
            if idea.is_touch:
                mover.touch(part)
            else:
                mover.gesture(part, centre)
    for keys, rest in zip(hands, rests, strict=True):
        is_home = keys.poses[-1] == rest
        last = rest if is_home else keys.poses[-1]
        keys.add(
            max(prosody.duration_s, keys.moments[-1]) + 3.0, last, "rest" if is_home else "hold"
        )
    return hands


def _shared_out(
    idea: _Idea, habit: Habit, rest_name: str, rng: np.random.Generator
) -> Iterator[tuple[int, Habit, tuple[Stress, ...], int]]:
    """Which hand does which stresses, how, and the seed of its choices: equal seeds mirror each other."""
    lead = int(rng.random() < 0.55)
    seeds = [int(s) for s in rng.integers(2**31, size=2)]
    if idea.is_touch or (rng.random() >= habit.both and rest_name not in JOINED):
        yield lead, habit, idea.stresses, seeds[0]
        return
    draw = rng.random()
    if draw < habit.mirrored or len(idea.stresses) < 2:
        for side in (0, 1):
            own = habit if side == lead else replace(habit, size=0.8 * habit.size)
            yield side, own, idea.stresses, seeds[0]
    elif draw < habit.mirrored + 0.6 * (1 - habit.mirrored):  # the hands take turns
        yield lead, habit, idea.stresses[::2], seeds[0]
        yield 1 - lead, habit, idea.stresses[1::2], seeds[1]
    else:  # one acts, the other is only held up
        yield lead, habit, idea.stresses, seeds[0]
        held = replace(habit, size=0.25 * habit.size, kinds=("beat", "present"))
        yield 1 - lead, held, idea.stresses[:1], seeds[1]


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


@dataclass
class _Mover:
    """Writes gesture phrases into one hand's keys."""

    keys: Keys
    rest: HandPose
    habit: Habit
    speed: float
    rng: np.random.Generator

    def gesture(self, idea: _Idea, centre: HandPose) -> None:
        """Append preparation, strokes, holds and retraction."""
        keys, rng, quick = self.keys, self.rng, self.habit.pace * self.speed
        lag = float(rng.normal(0, 0.02))
        travel = np.linalg.norm(np.subtract(centre.wrist, keys.poses[-1].wrist))
        prepare_s = float(np.clip((0.32 + 0.9 * travel) / quick, 0.3, 1.1))
        # No stroke that the hand could not reach in time, and none that sets out in silence.
        free = max(keys.moments[-1], idea.turn[0] - 0.08, 0.0) + 0.9 * prepare_s + 0.2
        strokes = [s for s in idea.stresses if s.time_s > free]
        kind = str(rng.choice(self.habit.kinds))
        for i, stress in enumerate(strokes):
            if i == 0 or rng.random() < 0.35:
                kind = str(rng.choice(self.habit.kinds))
            size = self.habit.size * (0.55 + 0.6 * stress.strength) * (0.85 + 0.15 * self.speed)
            before, end = stroke(kind, centre, size, rng)
            at = stress.time_s + lag
            start = at - float(np.clip(rng.uniform(0.26, 0.42) / quick, 0.18, 0.6))
            if i == 0:
                leave = max(start - prepare_s, keys.moments[-1] + 0.02, idea.turn[0] - 0.08, 0.04)
                still = "rest" if keys.poses[-1] == self.rest else "hold"
                keys.add(leave, keys.poses[-1], still)
                keys.add(max(start, leave + 0.25), before, "preparation", (0.02, 0.0, 0.03))
            else:
                back_s = float(np.clip(rng.uniform(0.32, 0.55) / quick, 0.24, 0.8))
                hold = max(keys.moments[-1] + 0.02, start - back_s)
                self._hold(hold, centre)
                keys.add(max(start, hold + 0.2), before, "preparation", (0.01, -0.01, -0.01))
            keys.add(max(at, keys.moments[-1] + 0.18), end, "stroke")
        if strokes:
            self._end(idea, centre)

    def touch(self, idea: _Idea) -> None:
        """A hand goes to the body, stays, and comes back."""
        keys, rng = self.keys, self.rng
        leave = max(idea.stresses[0].time_s - 0.3, keys.moments[-1] + 0.05, 0.1)
        there = touch(rng)
        arrive = leave + float(rng.uniform(0.6, 0.9))
        if arrive + 0.9 > idea.turn[1]:
            return
        keys.add(leave, keys.poses[-1], "rest" if keys.poses[-1] == self.rest else "hold")
        keys.add(arrive, there, "touch", (0.0, 0.0, 0.04))
        self.keys.add(
            min(arrive + float(rng.uniform(0.5, 2.5)), max(idea.turn[1] - 0.5, arrive + 0.2)),
            there.moved(float(rng.normal(0, 0.006)), float(rng.normal(0, 0.008)), 0), "touch",
        )  # fmt: skip
        self._home(idea.turn[1] + _FADE_S)

    def _hold(self, until: float, centre: HandPose) -> None:
        """A held hand is never stiff: it drifts back and sinks a little."""
        last, rng = self.keys.poses[-1], self.rng
        seconds = until - self.keys.moments[-1]
        share = float(np.clip(0.4 * seconds, 0.0, 0.3))
        drift = 0.008 * min(1.0, 2 * seconds)
        pose = mix(last, centre, share).moved(
            float(rng.normal(0, drift)), 0.02 * share, float(rng.normal(0, drift))
        )
        self.keys.add(until, pose, "hold")

    def _end(self, idea: _Idea, centre: HandPose) -> None:
        """Hold after the last stroke; then home before the voice is gone, or stay up for what follows."""
        keys, rng = self.keys, self.rng
        last = keys.moments[-1]
        over = idea.turn[1] + _FADE_S
        held_s = self.habit.hold * float(rng.uniform(0.3, 1.3))
        follows_soon = idea.next_s - last < 1.8 and idea.next_s < over
        if follows_soon or rng.random() < self.habit.stay:
            self._hold(min(last + held_s, max(over, last + 0.15)), centre)
            return
        way = np.linalg.norm(np.subtract(self.rest.wrist, keys.poses[-1].wrist))
        home_s = float(np.clip((0.45 + 1.0 * way) / (self.habit.pace * self.speed), 0.45, 1.4))
        leave = max(min(last + held_s, over - home_s), last + 0.08)
        self._hold(leave, centre)
        self._home(over)

    def _home(self, over: float) -> None:
        """Back to rest, quickly if the voice is about to end."""
        last = self.keys.moments[-1]
        way = np.linalg.norm(np.subtract(self.rest.wrist, self.keys.poses[-1].wrist))
        usual = float(np.clip((0.45 + 1.0 * way) / (self.habit.pace * self.speed), 0.45, 1.4))
        quickest = float(np.clip(0.3 + 0.7 * way, 0.35, 0.7))
        self.keys.add(
            last + max(min(usual, over - last), quickest), self.rest, "retraction", (0.01, 0, 0.02)
        )
