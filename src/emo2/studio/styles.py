"""Named ways to perform: how hands, head and mouth of each style differ.  `MotionConfig.styles` lists the same names."""

from __future__ import annotations

from dataclasses import dataclass, field

from emo2.studio.gesture import Habit
from emo2.studio.presence import Temper


@dataclass(frozen=True, kw_only=True)
class Style:
    """A way to perform."""

    habit: Habit = field(default_factory=Habit)
    temper: Temper = field(default_factory=Temper)
    opening: float = 1.0
    """Scale of mouth opening."""


_ICONIC = ("big", "small", "tall", "round", "path", "sweep")

STYLES: dict[str, Style] = {
    "neutral": Style(),
    "calm": Style(
        habit=Habit(activity=0.65, density=0.55, size=0.6, pace=0.75, both=0.55, raised=-0.1,
                    hold=1.6, kinds=("beat", "open", "present")),
        temper=Temper(head=0.6, nods=0.6, brows=0.6, glances=0.8, blink_gap_s=4.2),
        opening=0.92,
    ),
    "lively": Style(
        habit=Habit(activity=0.97, density=0.97, size=1.5, pace=1.2, both=0.65, raised=0.4,
                    spread=0.3, stay=0.1,
                    kinds=("beat", "open", "lift", "sweep", "present", "point", "big")),
        temper=Temper(head=1.5, nods=1.35, brows=1.5, glances=1.2, blink_gap_s=3.0),
        opening=1.12,
    ),
    "presenter": Style(
        habit=Habit(activity=0.95, density=0.8, size=1.05, pace=0.95, both=0.95, mirrored=0.95,
                    raised=0.25, spread=0.7, hold=1.5, stay=0.75,
                    kinds=("open", "present", "open", "big", "stop")),
        temper=Temper(head=0.9, nods=1.1, brows=1.0, glances=0.5),
        opening=1.05,
    ),
    "storyteller": Style(
        habit=Habit(activity=0.95, density=0.85, size=1.6, pace=0.95, both=0.45, mirrored=0.3,
                    raised=0.35, hold=0.9, kinds=(*_ICONIC, *_ICONIC, "point", "self", "count")),
        temper=Temper(head=1.6, nods=0.9, brows=1.6, glances=1.8, sway=1.6),
        opening=1.08,
    ),
    "shy": Style(
        habit=Habit(activity=0.4, density=0.45, size=0.35, pace=0.85, both=0.3, raised=-0.5,
                    spread=-0.4, hold=0.5, stay=0.0, touch=0.35, kinds=("beat", "small", "self")),
        temper=Temper(head=0.8, nods=0.5, brows=0.7, glances=1.9, blink_gap_s=3.0, bow_deg=7.0,
                      averted=0.55),
        opening=0.85,
    ),
    "emphatic": Style(
        habit=Habit(activity=0.98, density=1.0, size=1.15, pace=1.5, both=0.6, mirrored=0.9,
                    raised=0.3, spread=-0.2, hold=1.2, stay=0.3,
                    kinds=("chop", "pound", "chop", "pound", "point", "pinch")),
        temper=Temper(head=1.0, nods=2.3, brows=1.3, glances=0.4),
        opening=1.15,
    ),
    "singer": Style(
        habit=Habit(activity=0.9, density=0.45, size=1.7, pace=0.55, both=0.5, mirrored=0.7,
                    raised=0.5, spread=0.5, hold=2.6, stay=0.5,
                    kinds=("reach", "reach", "lift", "open")),
        temper=Temper(head=1.1, nods=0.3, brows=1.2, glances=0.7, bow_deg=-3.0, sway=3.0),
        opening=1.2,
    ),
    "sign-like": Style(
        habit=Habit(activity=1.0, density=1.0, size=1.2, pace=1.45, both=0.75, mirrored=0.35,
                    raised=1.0, spread=-0.3, hold=0.8, stay=0.6, kinds=("sign",)),
        temper=Temper(head=0.8, nods=0.8, brows=1.5, glances=0.4),
        opening=1.0,
    ),
}  # fmt: skip
"""What each style means."""
