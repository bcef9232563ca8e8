"""The command `emo2 data`: its flags, and what it calls.  No torch at import."""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from emo2.arguments import count

if TYPE_CHECKING:
    from emo2.generate import Event


def data_flags(parser: argparse.ArgumentParser) -> None:
    """Flags of `emo2 data prepare`."""
    add = parser.add_argument
    add("what", choices=("prepare",), help="real films to a training set")
    add("films", type=Path, nargs="+", metavar="FILMS", help="films, or folders of them")
    add("-o", "--output", type=Path, required=True, metavar="SET", help="folder of the set")
    add("--view", choices=("both", "face", "body"), default="both", help="what is cut out")
    add("--frames", type=count, default=24, metavar="N", help="frames of a window")
    add("--silent", action="store_true", help="keep shots without a voice, as pictures")
    add("--hands", type=Path, metavar="DIR", help="a tracker's hands, STEM.npz (docs/films.md)")
    add("--licence", default="", metavar="TEXT", help="of these films, for the set's card")
    add("--jobs", type=count, default=1, metavar="N", help="processes")


def run_data(parsed: argparse.Namespace) -> Iterator[Event]:
    """Prepare a set, with events on the way."""
    from emo2.data.films.one import Wishes
    from emo2.data.films.prepare import prepare

    views = ("face", "body") if parsed.view == "both" else (parsed.view,)
    wishes = Wishes(views=views, frames=parsed.frames, silent=parsed.silent)
    command = shlex.join(["emo2", *sys.argv[1:]])
    yield from prepare(
        parsed.films, parsed.output, wishes, hands=parsed.hands, licence=parsed.licence,
        jobs=parsed.jobs, command=command,
    )  # fmt: skip
