"""What every input file must be before anything opens it, and how media faults become one sentence."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from emo2.errors import UserError

_NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def require_file(path: Path, what: str) -> None:
    """Raise a `UserError` unless `path` is a readable, non-empty file; `what` names its role."""
    if path.is_dir():
        raise UserError(f"{path} is a folder; give the file of the {what}.")
    if not path.exists():
        raise UserError(f"{path} does not exist; give an existing {what}.")
    try:
        with path.open("rb") as file:
            empty = not file.read(1)
    except OSError as error:
        raise UserError(
            f"{path} cannot be read ({error.strerror}); give a {what} that you may read."
        ) from error
    if empty:
        raise UserError(f"{path} is empty (0 bytes); give a whole {what}.")


def write_fault(path: Path, error: OSError) -> UserError:
    """The sentence for a failed write of `path`."""
    if error.errno in _NO_SPACE:
        return UserError(
            f"The disk is full: {path} could not be written; free some space and run the same "
            "command again, it goes on where it stopped."
        )
    return UserError(
        f"{path} cannot be written ({error.strerror or error}); give an output in a folder you may "
        "write to."
    )


def write_text(path: Path, text: str) -> None:
    """The whole text under its name, or nothing."""
    partial = path.with_name(f".{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.write_text(text, encoding="utf-8")
        os.replace(partial, path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise write_fault(path, error) from error
