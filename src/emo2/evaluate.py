"""The commands `emo2 evaluate` and `emo2 compare`: their flags, and what they call.  No torch at import."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from emo2.arguments import count, whole

if TYPE_CHECKING:
    from emo2.generate import Event


def evaluate_flags(parser: argparse.ArgumentParser) -> None:
    """Flags of `emo2 evaluate`."""
    add = parser.add_argument
    add("what", choices=("motion", "film"), help="motion files, or films")
    add(
        "generated", type=Path, metavar="GENERATED", help="a folder, a file, or a manifest of pairs"
    )
    add("--truth", type=Path, metavar="SET", help="the real ones: paired by stem")
    add("--voices", type=Path, metavar="DIR", help="the voices: paired by stem")
    add("-o", "--output", type=Path, required=True, metavar="DIR", help="folder of the report")
    add("--jobs", type=count, default=1, metavar="N", help="processes")
    add("--seed", type=whole, default=0, metavar="N", help="of intervals and controls")


def compare_flags(parser: argparse.ArgumentParser) -> None:
    """Flags of `emo2 compare`."""
    add = parser.add_argument
    add(
        "systems",
        type=Path,
        nargs="+",
        metavar="SYSTEM",
        help="folders of films or motions, equal stems",
    )
    add("--truth", type=Path, metavar="SET", help="the real ones: paired by stem")
    add("--voices", type=Path, metavar="DIR", help="the voices: paired by stem")
    add("-o", "--output", type=Path, required=True, metavar="DIR", help="folder of the comparison")
    add(
        "--blind",
        action="store_true",
        help="letters for names in the films; the key in its own file",
    )
    add("--no-films", action="store_true", help="tables only")
    add("--jobs", type=count, default=1, metavar="N", help="processes")
    add("--seed", type=whole, default=0, metavar="N", help="of intervals and of the blind order")


def run_compare(parsed: argparse.Namespace) -> Iterator[Event]:
    """Measure several systems, with events on the way."""
    from emo2.metrics.compare import Wishes, compare

    names = ("systems", "truth", "voices", "output", "blind", "no_films", "jobs", "seed")
    command = said("compare", {name: getattr(parsed, name) for name in names})
    wishes = Wishes(
        truth=parsed.truth, voices=parsed.voices, blind=parsed.blind, films=not parsed.no_films,
        jobs=parsed.jobs, seed=parsed.seed,
    )  # fmt: skip
    yield from compare(parsed.systems, parsed.output, wishes, command=command)


def run_evaluate(parsed: argparse.Namespace) -> Iterator[Event]:
    """Measure and report, with events on the way."""
    from emo2.metrics.inputs import find_inputs

    names = ("what", "generated", "truth", "voices", "output", "jobs", "seed")
    command = said("evaluate", {name: getattr(parsed, name) for name in names})
    given = (parsed.generated, parsed.truth, parsed.voices)
    if parsed.what == "film":
        from emo2.metrics.film_report import SUFFIXES, evaluate_film

        inputs = find_inputs(*given, suffixes=SUFFIXES, what="film")
        run = evaluate_film
    else:
        from emo2.metrics.motion_report import SUFFIXES, evaluate_motion

        inputs = find_inputs(*given, suffixes=SUFFIXES, what="motion")
        run = evaluate_motion
    yield from run(inputs, parsed.output, command=command, jobs=parsed.jobs, seed=parsed.seed)


def said(name: str, values: dict[str, object]) -> str:
    """The command as one would type it: words first, then flags."""
    words, flags = ["emo2", name], []
    for key, value in values.items():
        if key in ("what", "generated", "systems"):
            words += [str(v) for v in (value if isinstance(value, list | tuple) else [value])]
        elif value not in (None, False):
            flags += [f"--{key.replace('_', '-')}", *([] if value is True else [str(value)])]
    return shlex.join(words + flags)
