"""`emo2 data prepare`: films to a training set, film by film, with events on the way.

A set is a folder: shards by view and kind (`face-takes`, `body-takes`, `face-silent`, `body-silent`) as the studio
writes them, `performances` for stage 1, a record a film (`films`), `shots.json` and a card, `README.md`.  A film that
has a record is done: a killed run goes on with the next, and another command may add films.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

from emo2.data.films.card import write_card
from emo2.data.films.one import (
    RECORDS,
    FilmJob,
    Record,
    Wishes,
    prepare_film,
    read_record,
)
from emo2.errors import UserError
from emo2.generate import Event
from emo2.media.files import write_fault, write_text
from emo2.media.watch import film_facts
from emo2.resume import digest_files
from emo2.workers import in_workers

SUFFIXES = (".mp4", ".mov", ".mkv", ".webm", ".avi", ".m4v", ".mpg", ".mpeg", ".ts")
SETTINGS = "settings.json"


def prepare(
    given: Sequence[Path],
    out: Path,
    wishes: Wishes,
    *,
    hands: Path | None = None,
    licence: str = "",
    jobs: int = 1,
    command: str = "",
) -> Iterator[Event]:
    """Make or go on with a set of the films in `given` (files and folders)."""
    if hands is not None and not hands.is_dir():
        raise UserError(f"{hands} is no folder; give the folder of the trackers' files")
    films = find_films(given)
    _agree(out, wishes)
    order = [_job(path, out, wishes, hands, licence) for path in films]
    records: dict[str, Record] = {}
    for job in order:
        found = read_record(out / RECORDS / f"{job.key}.json")
        if found is not None and found.licence == job.licence:
            records[job.key] = found
    waiting = [job for job in order if job.key not in records]
    if records and waiting:
        yield Event(kind="note", text=f"{len(records)} of {len(order)} films are done and kept")
    yield Event(kind="progress", stage="films", done=len(records), total=len(order))
    for _, record in in_workers(prepare_film, waiting, jobs):
        records[record.key] = record
        if record.fault:
            yield Event(kind="note", text=f"{record.film} is left out: {record.fault}")
        yield Event(kind="progress", stage="films", done=len(records), total=len(order))
    everything = _all_records(out)
    write_card(out, everything, wishes, command)
    yield from _conclude(out, [records[job.key] for job in order])


def _conclude(out: Path, records: list[Record]) -> Iterator[Event]:
    windows = sum(v.windows for r in records for v in r.verdicts)
    if all(record.fault for record in records):
        raise UserError(f"none of the {len(records)} films could be read: {records[0].fault}")
    if not windows:
        raise UserError(
            f"nothing of {len(records)} films was good enough to train on; {out / 'README.md'} says why"
        )
    text = f"wrote {windows} windows of {len(records)} films to {out}; README.md there says more"
    yield Event(kind="done", text=text, path=out)


def find_films(given: Sequence[Path]) -> list[Path]:
    """Films named, and all in the folders named; a named file that is no film is a `UserError`."""
    found: list[Path] = []
    for path in given:
        if path.is_dir():
            inside = sorted(p for p in path.rglob("*") if p.suffix.lower() in SUFFIXES)
            if not inside:
                raise UserError(
                    f"{path} holds no films ({', '.join(SUFFIXES)}); give another folder"
                )
            found += inside
        else:
            film_facts(path)
            found.append(path)
    return list(dict.fromkeys(found))


def _job(path: Path, out: Path, wishes: Wishes, hands: Path | None, licence: str) -> FilmJob:
    """A film's key stands for its content and its tracker's file: the same film twice is one."""
    tracks = [p for s in (".npz", ".json") if hands and (p := hands / f"{path.stem}{s}").is_file()]
    stem = re.sub(r"[^A-Za-z0-9_.]+", "_", path.stem)[:40]
    key = f"{stem}-{digest_files([path, *tracks[:1]])[:10]}"
    return FilmJob(path=path, out=out, key=key, wishes=wishes, hands=hands, licence=licence)


def _agree(out: Path, wishes: Wishes) -> None:
    """A set has one kind of windows and one set of limits."""
    settings = json.loads(json.dumps(asdict(wishes)))
    path = out / SETTINGS
    if path.is_file():
        try:
            before = json.loads(path.read_text())
        except (OSError, ValueError):
            before = None
        if before != settings:
            raise UserError(f"{out} was begun with other settings; give another folder for these")
        return
    if out.exists() and not out.is_dir():
        raise UserError(f"{out} is a file; give a folder for the set")
    try:
        if out.is_dir() and any(out.iterdir()):
            raise UserError(f"{out} holds other things; give a new folder or one of these sets")
    except OSError as error:
        raise write_fault(out, error) from error
    write_text(path, json.dumps(settings, indent=1, sort_keys=True))


def _all_records(out: Path) -> list[Record]:
    """All films of the set, also of earlier commands."""
    paths = sorted((out / RECORDS).glob("*.json"))
    return [record for path in paths if (record := read_record(path)) is not None]
