"""Strokes that end near a stressed syllable end on it (ours): the hands' time runs a little faster or slower until they do.

Hands that beat with the voice stop on stressed syllables (McNeill 1992); stage 1's stop where they like.  The way they
take stays as it is.  Davis and Agrawala 2018 warp films of dance so; here nothing is known but the next second.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor

from emo2.motion.channels import HANDS

SLOWEST, FASTEST = 0.65, 1.55
"""Pace of the hands' time on the way to a stress."""
_FAR_S = 0.2
"""A stop further than this from every stress stays where it is."""
_SEEN_S, _SOON_S = 0.56, 0.12
"""How far ahead a stop is seen, and how near it may no longer be moved."""
_BACK, _BACK_MOST = 0.2, 0.12
"""Share of its lead or lag that the hands' time gives back in a frame without an aim, and at most so much of a frame."""

_STROKE_M_PER_S = 0.1
_STOPPED, _SLOWED = 0.25, 0.5
"""Shares of a move's highest speed: at the first it has stopped; a minimum under the second is a stop too."""

_APART_S = 0.24
"""A stress is the loudest moment within so much to both sides."""
_FROM_LOUD, _ABOVE_DIPS = 25.0 / 60.0, 2.0 / 60.0
"""It is at most 25 dB under the loud passages, and 2 dB over the dips to both sides (energy is in units of 60 dB)."""


@dataclass
class _Stops:
    """Where one hand comes to a stop, found speed after speed."""

    stops: list[tuple[float, float]] = field(default_factory=list)
    """Place, in frames, and how much speed was lost."""
    top: float = 0.0
    """Highest speed of the move that goes on; 0: the hand has stopped, or has not set out."""
    last: float = 0.0
    count: int = 0

    def add(self, speed: float) -> None:
        """The speed from frame `count` to the next."""
        rises, before = speed >= self.last, self.last
        if self.top > 0 and rises and before <= _SLOWED * self.top:
            self.stops.append((self.count - 0.5, self.top - before))
            self.top = 0.0
        if rises:
            self.top = max(self.top, speed) if speed > _STROKE_M_PER_S else self.top
        elif self.top > 0 and speed <= _STOPPED * self.top:
            share = (_STOPPED * self.top - speed) / (before - speed)
            self.stops.append((self.count + 0.5 - share, self.top - speed))
            self.top = 0.0
        self.last = speed
        self.count += 1


class Strokes:
    """Moves hands in time; rows come in and go out one after the other, however many at once."""

    def __init__(self, fps: float, loud: float) -> None:
        """`loud`: energy of the voice's loud passages; 0 for silence."""
        self.fps, self.loud = fps, loud
        self.far, self.apart = round(_FAR_S * fps), round(_APART_S * fps)
        self.seen, self.soon = round(_SEEN_S * fps), round(_SOON_S * fps)
        self.ahead = 1 + self.far + self.seen + self.far + self.apart + 1
        """Frames after one that its place may depend on."""
        self.rows: Tensor | None = None
        self.energy: list[float] = []
        self.base = 0
        """Frame that the held rows and energies begin with."""
        self.hands = (_Stops(), _Stops())
        self.stresses: list[float] = []
        self.judged = 1
        self.done, self.place = 0, 0.0
        """Frames given out, and the frame of the plan that the next shows."""
        self.aim: tuple[float, float] | None = None
        """Where the plan stops, and when it is to."""

    def add(
        self, rows: Float[Tensor, "n c"], energy: Float[Tensor, " n"], *, last: bool
    ) -> Float[Tensor, "m c"]:
        """The rows whose hands can be placed now that these are there."""
        before = rows[:0] if self.rows is None else self.rows
        self.rows = torch.cat((before, rows))
        self.energy += energy.tolist()
        self._find_stops(before)
        total = self.base + len(self.rows)
        self._find_stresses(total, last=last)
        made = []
        while self.done < total and (last or self.done + self.ahead < total):
            made.append(self._shown(total))
            self._go_on()
        self._forget()
        return torch.stack(made) if made else rows[:0]

    def _find_stops(self, before: Tensor) -> None:
        assert self.rows is not None
        wrists = self.rows[max(len(before) - 1, 0) :, HANDS].unflatten(-1, (2, -1))[..., -3:]
        for speeds in (wrists.diff(dim=0).norm(dim=-1) * self.fps).tolist():
            for hand, speed in zip(self.hands, speeds, strict=True):
                hand.add(speed)

    def _find_stresses(self, total: int, *, last: bool) -> None:
        """Peaks of the energy that no later frame can change."""
        stop = total - 1 if last else total - self.apart
        for frame in range(self.judged, stop):
            at = frame - self.base
            here, left = self.energy[at], self.energy[max(at - self.apart, 0) : at]
            right = self.energy[at + 1 : at + 1 + self.apart]
            is_top = here > max(left) and here >= max(right) and here > self.loud - _FROM_LOUD
            if self.loud > 0 and is_top and here - max(min(left), min(right)) > _ABOVE_DIPS:
                bend = left[-1] - 2.0 * here + right[0]
                self.stresses.append(frame + 0.5 * (left[-1] - right[0]) / bend)
        self.judged = max(self.judged, stop)

    def _shown(self, total: int) -> Float[Tensor, " c"]:
        """The next row, its hands taken from where the plan stands."""
        assert self.rows is not None
        place = min(self.place, total - 1.0)
        low = int(place)
        high = min(low + 1, total - 1)
        row = self.rows[self.done - self.base].clone()
        pair = self.rows[low - self.base, HANDS], self.rows[high - self.base, HANDS]
        row[HANDS] = torch.lerp(*pair, place - low)
        return row

    def _go_on(self) -> None:
        """One frame on, towards the aim or back to the plan's own time."""
        now = self.done
        if self.aim is not None and now + 1 > self.aim[1]:
            self.aim = None
        if self.aim is None:
            self.aim = self._chosen(now)
        lag = now - self.place
        pace = 1.0 + min(max(_BACK * lag, -_BACK_MOST), _BACK_MOST)
        if self.aim is not None:
            pace = (self.aim[0] - self.place) / (self.aim[1] - now)
        self.place += min(max(pace, SLOWEST), FASTEST)
        self.done += 1
        self.place = min(max(self.place, self.done - self.far - 1.0), self.done + self.far + 1.0)

    def _chosen(self, now: int) -> tuple[float, float] | None:
        """The strongest stop soon that a stress is near enough for."""
        best, chosen = 0.0, None
        for place, lost in (s for hand in self.hands for s in hand.stops):
            if not self.soon <= place - self.place <= self.seen:
                continue
            for stress in self.stresses:
                off, left = abs(stress - place), stress - now
                if off > self.far or left < self.soon:
                    continue
                worth = lost * (1.0 - 0.5 * off / self.far)
                if worth > best and SLOWEST <= (place - self.place) / left <= FASTEST:
                    best, chosen = worth, (place, stress)
        return chosen

    def _forget(self) -> None:
        """What no coming frame will look at."""
        assert self.rows is not None
        keep = max(self.done - self.far - self.apart - 2, self.base)
        self.rows, self.energy = self.rows[keep - self.base :], self.energy[keep - self.base :]
        self.base = keep
        for hand in self.hands:
            hand.stops = [s for s in hand.stops if s[0] > keep]
        self.stresses = [s for s in self.stresses if s > keep]
