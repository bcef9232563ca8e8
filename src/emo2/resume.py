"""What must be equal for a killed run to be gone on with: files by content, and this package's own code."""

from __future__ import annotations

import hashlib
from pathlib import Path

_BLOCK = 1 << 20
_LARGE = 200 << 20
"""Of files from this size on (public checkpoints have gigabytes) the first block, size and date stand for the rest."""


def digest_files(paths: list[Path], *texts: str) -> str:
    """A hash of the files' contents and of the texts, in order."""
    digest = hashlib.sha256()
    for text in texts:
        digest.update(text.encode() + b"\0")
    for path in paths:
        with path.open("rb") as file:
            facts = path.stat()
            if facts.st_size >= _LARGE:
                digest.update(f"{facts.st_size} {facts.st_mtime_ns}".encode() + file.read(_BLOCK))
            else:
                digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()


def digest_package() -> str:
    """A hash of the source files of this package."""
    root = Path(__file__).parent
    return digest_files(sorted(root.rglob("*.py")))
