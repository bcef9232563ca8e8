"""How a job's events are shown: nothing, lines of JSON, a bar, or a line a stage.

For `cli.py` alone; no torch at import.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from emo2.generate import Event


def show(events: Iterable[Event], parsed: argparse.Namespace) -> None:
    """Run through a job's events, showing them as flags and terminal want it."""
    if parsed.quiet:
        for _ in events:
            pass
    elif parsed.json:
        for event in events:
            print(json.dumps({"event": event.kind, **event.facts()}), flush=True)
    elif sys.stderr.isatty():
        _show_bar(events)
    else:
        _show_lines(events)


def _show_bar(events: Iterable[Event]) -> None:
    clock = _Clock()
    for event in events:
        sys.stderr.write("\r\x1b[K")
        if event.kind == "progress":
            done = int(24 * event.done / max(event.total, 1))
            bar = "█" * done + "░" * (24 - done)
            sys.stderr.write(
                f"{event.stage:<8} {bar} {event.done}/{event.total} {clock.left(event)}"
            )
            sys.stderr.flush()
        else:
            print(event.text, file=sys.stderr if event.kind != "done" else sys.stdout, flush=True)


def _show_lines(events: Iterable[Event]) -> None:
    """A line a stage, and one every few seconds within a stage."""
    clock, stage, last = _Clock(), "", 0.0
    for event in events:
        if event.kind != "progress":
            print(event.text, flush=True)
        elif event.stage != stage or time.monotonic() - last > 5 or event.done == event.total:
            count = (
                f": {event.done} of {event.total} {clock.left(event)}" if event.total > 1 else ""
            )
            print(f"{event.stage}{count}".rstrip(), flush=True)
            stage, last = event.stage, time.monotonic()


class _Clock:
    """Time left in a stage, from its own pace."""

    def __init__(self) -> None:
        self.stage, self.begun, self.first = "", 0.0, 0

    def left(self, event: Event) -> str:
        """Such as "0:42 left"; empty while nothing can be said."""
        if event.stage != self.stage:
            self.stage, self.begun, self.first = event.stage, time.monotonic(), event.done
        if event.done <= self.first or event.done >= event.total:
            return ""
        pace = (time.monotonic() - self.begun) / (event.done - self.first)
        minutes, seconds = divmod(round(pace * (event.total - event.done)), 60)
        return f"{minutes}:{seconds:02d} left"


def show_facts(parsed: argparse.Namespace, event: str, facts: dict[str, str]) -> int:
    """Facts by name, a line each, or as one event."""
    if parsed.json:
        print(json.dumps({"event": event, **facts}))
    else:
        width = max(len(name) for name in facts)
        print("\n".join(f"{name:<{width}}  {value}" for name, value in facts.items()))
    return 0
