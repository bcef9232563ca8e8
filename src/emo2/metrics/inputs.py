"""What is measured: items of generated files with their truth and voice, from folders, files and manifests.

Files belong together by their stem.  Several results of one voice are its samples: `STEM@0.npz`, `STEM@1.npz`, or
a folder `STEM/` of files.  A manifest says the pairs itself: CSV with a header, or a JSON list of objects, with
the columns `generated` and, where there are any, `truth`, `voice` and `name`; paths are relative to the manifest.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from emo2.errors import UserError

VOICE_SUFFIXES = (".wav", ".flac", ".mp3", ".m4a", ".ogg", ".opus", ".aac", ".mp4", ".mov", ".mkv")
PHONE_SUFFIXES = (".phones", ".align")
"""Times of the voice's sounds, beside a film, its truth or its voice."""
SAMPLE_MARK = "@"
_COLUMNS = ("generated", "truth", "voice", "name")


@dataclass(frozen=True, kw_only=True)
class Item:
    """One voice or clip: what was generated for it, and what it is held against."""

    name: str
    generated: tuple[Path, ...]
    """One file, or several samples."""
    truth: Path | None = None
    voice: Path | None = None

    @property
    def files(self) -> tuple[Path, ...]:
        """All files of the item, in order; with the phones that lie beside them."""
        own = (*self.generated, *(p for p in (self.truth, self.voice) if p is not None))
        return (*own, *(phones for p in own for phones in phones_beside(p)))


def phones_beside(path: Path) -> tuple[Path, ...]:
    """The files of phones that are named as this one."""
    places = (path.with_suffix(suffix) for suffix in PHONE_SUFFIXES)
    return tuple(p for p in places if p.is_file())


def named_apart(paths: Sequence[Path], prefix: str) -> dict[str, Path]:
    """Each file under the prefix and its stem; where stems repeat (other folders), numbered."""
    found: dict[str, Path] = {}
    for path in paths:
        name, count = f"{prefix}{path.stem}", 1
        while name in found:
            count += 1
            name = f"{prefix}{path.stem} ({count})"
        found[name] = path
    return found


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """All items, and what to tell the user of how they were found."""

    items: tuple[Item, ...]
    truths: tuple[Path, ...] = ()
    """The whole true set, paired or not."""
    notes: tuple[str, ...] = ()


def find_inputs(
    generated: Path,
    truth: Path | None,
    voices: Path | None,
    *,
    suffixes: tuple[str, ...],
    what: str,
) -> Inputs:
    """Items of a folder, a single file or a manifest; `what` names them in the sentences."""
    if not generated.exists():
        raise UserError(f"{generated} does not exist; give a folder of {what} files or a manifest")
    if is_manifest(generated):
        items, notes = _read_manifest(generated), []
    else:
        items = [Item(name=n, generated=p) for n, p in _by_stem(generated, suffixes, what).items()]
        notes = []
    true_files = {} if truth is None else _by_stem(truth, suffixes, f"true {what}")
    voice_files = {} if voices is None else _by_stem(voices, VOICE_SUFFIXES, "voice")
    # One file against one file needs no equal names.
    if len(items) == 1 and generated.is_file():
        name = items[0].name
        if truth is not None and truth.is_file():
            true_files = {name: next(iter(true_files.values()))}
        if voices is not None and voices.is_file():
            voice_files = {name: next(iter(voice_files.values()))}
    paired = [_with(item, true_files, voice_files) for item in items]
    notes += _notes(paired, true_files, voice_files)
    known = {i.truth for i in paired if i.truth is not None}
    truths = {p for files in true_files.values() for p in files} | known
    return Inputs(items=tuple(paired), truths=tuple(sorted(truths)), notes=tuple(notes))


def _with(
    item: Item, truths: dict[str, tuple[Path, ...]], voices: dict[str, tuple[Path, ...]]
) -> Item:
    truth = item.truth or next(iter(truths.get(item.name, ())), None)
    voice = item.voice or next(iter(voices.get(item.name, ())), None)
    return Item(name=item.name, generated=item.generated, truth=truth, voice=voice)


def _notes(
    items: list[Item], truths: dict[str, tuple[Path, ...]], voices: dict[str, tuple[Path, ...]]
) -> list[str]:
    """What did not pair; a set of truths without equal stems still serves the distances between sets."""
    notes = []
    for what, given, missing in (
        ("truth", truths, [i.name for i in items if i.truth is None]),
        ("voice", voices, [i.name for i in items if i.voice is None]),
    ):
        if given and missing:
            shown = ", ".join(missing[:3]) + (", ..." if len(missing) > 3 else "")
            notes.append(
                f"{len(missing)} of {len(items)} have no {what} of the same stem ({shown}): "
                f"measures that need it leave them out"
            )
    return notes


def _by_stem(path: Path, suffixes: tuple[str, ...], what: str) -> dict[str, tuple[Path, ...]]:
    """Files of a folder (or the one file) by stem, samples together, in the order of names."""
    if not path.exists():
        raise UserError(f"{path} does not exist; give a folder of {what} files")
    if path.is_file():
        if path.suffix.lower() not in suffixes:
            raise UserError(f"{path} is no {what} file; expected one of {', '.join(suffixes)}")
        return {path.stem: (path,)}
    found = _in_folder(path, suffixes)
    if not found:
        raise UserError(
            f"{path} holds no {what} files; expected files that end in {', '.join(suffixes)}"
        )
    for name, files in found.items():
        stems = [p.stem for p in files if p.parent == path]
        if len(set(stems)) < len(stems):
            twins = ", ".join(p.name for p in files)
            raise UserError(f"{path} holds {name!r} twice ({twins}); keep one of them")
    return {name: tuple(files) for name, files in found.items()}


def _in_folder(path: Path, suffixes: tuple[str, ...]) -> dict[str, list[Path]]:
    """Files by stem without the sample's mark, and the files of folders by the folder's name."""
    found: dict[str, list[Path]] = {}
    for entry in sorted(path.iterdir()):
        if entry.name.startswith("."):
            continue
        if entry.is_file() and entry.suffix.lower() in suffixes:
            found.setdefault(entry.stem.rsplit(SAMPLE_MARK, 1)[0], []).append(entry)
        elif entry.is_dir():
            inner = [p for p in sorted(entry.iterdir()) if p.suffix.lower() in suffixes]
            if inner:
                found.setdefault(entry.name, []).extend(inner)
    return found


def is_manifest(path: Path) -> bool:
    """Whether a file is a list of pairs: any .csv, and a .json that is a list, not a motion."""
    if not path.is_file() or path.suffix.lower() != ".json":
        return path.is_file() and path.suffix.lower() == ".csv"
    try:
        return isinstance(json.loads(path.read_text(encoding="utf-8")), list)
    except (ValueError, OSError):
        return False


def _read_manifest(path: Path) -> list[Item]:
    try:
        if path.suffix.lower() == ".csv":
            with path.open(newline="", encoding="utf-8-sig") as file:
                rows: Any = list(csv.DictReader(file))
        else:
            rows = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError, csv.Error) as error:
        raise UserError(
            f"{path} cannot be read as a manifest ({error}); expected CSV with a header, or a JSON list"
        ) from error
    if not isinstance(rows, list) or not rows or not all(isinstance(r, dict) for r in rows):
        raise UserError(f"{path} is no list of pairs; expected rows with {', '.join(_COLUMNS)}")
    items: list[Item] = []
    for number, row in enumerate(rows, 1):
        items.append(_manifest_item(path, number, row))
    names = [item.name for item in items]
    twins = sorted({n for n in names if names.count(n) > 1})
    if twins:
        raise UserError(f"{path} names {twins[0]!r} twice; give each row its own name")
    return items


def _manifest_item(path: Path, number: int, row: Mapping[str, object]) -> Item:
    if unknown := sorted(str(k) for k in row if k not in _COLUMNS):
        raise UserError(
            f"{path} has the column {unknown[0]!r}; expected only {', '.join(_COLUMNS)}"
        )
    given = row.get("generated")
    values = list(given) if isinstance(given, list) else [given]
    if not values or not all(isinstance(v, str) and v for v in values):
        raise UserError(f"{path}, row {number}: no 'generated' file; every row needs one")

    def place(value: object) -> Path:
        found = path.parent / str(value)
        if not found.is_file():
            raise UserError(f"{path}, row {number}: {found} does not exist; mend the path")
        return found

    files = tuple(place(v) for v in values)
    return Item(
        name=str(row.get("name") or files[0].stem),
        generated=files,
        truth=place(row["truth"]) if row.get("truth") else None,
        voice=place(row["voice"]) if row.get("voice") else None,
    )
