"""What the command's arguments may be: each check says what was found and what was expected."""

from __future__ import annotations

import argparse
import re
from typing import Any

BAD_INPUT = 2


class Parser(argparse.ArgumentParser):
    """argparse with our form of error: one sentence, code 2."""

    def error(self, message: str) -> Any:  # noqa: ANN401 - does not return
        self.exit(BAD_INPUT, f"emo2: {message}; `{self.prog} --help` shows how\n")


def size(text: str) -> tuple[int, int]:
    """HxW, as (height, width)."""
    match = re.fullmatch(r"(\d+)[xX](\d+)", text)
    if match is None or not all(32 <= int(n) <= 4096 for n in match.groups()):
        raise argparse.ArgumentTypeError(
            f"found {text!r}, expected HEIGHTxWIDTH in pixels, each from 32 to 4096, such as 512x384"
        )
    return int(match[1]), int(match[2])


def positive(text: str) -> float:
    """A number above 0, at most 4."""
    return _number(text, low=0.05, high=4.0)


def amount(text: str) -> float:
    """A number from 0 to 4."""
    return _number(text, low=0.0, high=4.0)


def _number(text: str, *, low: float, high: float) -> float:
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not low <= value <= high:
        raise argparse.ArgumentTypeError(
            f"found {text!r}, expected a number from {low:g} to {high:g}"
        )
    return value


def whole(text: str) -> int:
    """A whole number, 0 or more."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"found {text!r}, expected a whole number, 0 or more")
    return int(text)


def count(text: str) -> int:
    """A whole number, 1 or more."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"found {text!r}, expected a whole number, 1 or more")
    return int(text)
