"""`emo2 download NAME`: other people's weights from the Hugging Face hub, or from a folder where there is no network.

`plan` finds out what there is to fetch (sizes, checksums, licence), the user agrees, `fetch` does it: resumed where
it broke off, each file checked before it takes its name, everything noted in `checksums.json`, which a later
`--from` reads on a machine without network.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from emo2.errors import UserError
from emo2.generate import Event
from emo2.sources import SOURCES, Source, folder_of

NOTES = "checksums.json"
_STAGING = ".fetching"
_NETWORK = ("huggingface_hub", "httpx", "httpx2", "httpcore", "httpcore2", "requests", "urllib3")
"""Packages whose errors mean that the hub could not be asked."""


@dataclass(frozen=True, kw_only=True)
class File:
    """A file to fetch."""

    path: str
    """In the repository, or the file itself."""
    size: int
    check: str = ""
    """"sha256:..." or "git:..." (git's own hash, which the hub has for small files); empty: nothing is known."""

    @property
    def name(self) -> str:
        """What it is called here."""
        return Path(self.path).name


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What `fetch` will do."""

    name: str
    source: Source
    folder: Path
    files: tuple[File, ...]
    revision: str = ""
    """The repository's commit; empty: the files lie on this machine."""

    @property
    def lines(self) -> list[str]:
        """For the user, before anything is fetched."""
        size = sum(f.size for f in self.files)
        where = f"huggingface.co/{self.source.repository}" if self.revision else "this machine"
        return [
            f"{self.name}: {self.source.what}",
            f"from {where}: {', '.join(f.name for f in self.files)} ({_readable(size)})",
            f"to {self.folder}",
            f"licence: {self.source.licence}",
        ]


def plan(name: str, *, output: Path | None = None, local: Path | None = None) -> Plan:
    """What is to be fetched for a name; asks the hub, or looks into the folder `local`."""
    if name not in SOURCES:
        raise UserError(f"unknown name {name!r}; there are {', '.join(SOURCES)}")
    source, folder = SOURCES[name], output or folder_of(name)
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder} is a file; give a folder to put {name} into")
    if local is not None:
        return Plan(
            name=name, source=source, folder=folder, files=_local_files(source, name, local)
        )
    with _AskingHub(source):
        from huggingface_hub import HfApi

        info = HfApi(endpoint=os.environ.get("HF_ENDPOINT")).model_info(
            source.repository, files_metadata=True, timeout=30
        )
    there = {s.rfilename: s for s in info.siblings or []}
    files = tuple(_on_hub(there, file, source) for file in source.files)
    return Plan(name=name, source=source, folder=folder, files=files, revision=str(info.sha))


def fetch(plan: Plan, *, bars: bool = False) -> Iterator[Event]:
    """Fetch, check and name the files; what is there and whole is left.  `bars`: let the hub's library draw some."""
    _require_space(plan)
    plan.folder.mkdir(parents=True, exist_ok=True)
    noted: dict[str, dict[str, str | int]] = {}
    for i, file in enumerate(plan.files):
        yield Event(kind="progress", stage="files", done=i, total=len(plan.files))
        target = plan.folder / file.name
        digests = _digests(target) if _has_size(target, file) else {}
        if not digests or not _agrees(file, digests):
            part = _from_hub(plan, file, bars) if plan.revision else _copied(plan, file)
            digests = _digests(part)
            if part.stat().st_size != file.size or not _agrees(file, digests):
                part.unlink()
                raise UserError(_wrong(plan, file, digests["sha256"]))
            part.replace(target)
        noted[file.name] = {"sha256": digests["sha256"], "size": file.size}
        yield Event(kind="note", text=f"{file.name}: {_readable(file.size)}, {_said(file)}")
    files = _others(plan.folder) | noted
    notes = {"repository": plan.source.repository, "revision": plan.revision, "files": files}
    part = plan.folder / f".{NOTES}"
    part.write_text(json.dumps(notes, indent=1))
    part.replace(plan.folder / NOTES)
    shutil.rmtree(plan.folder / _STAGING, ignore_errors=True)
    yield Event(kind="progress", stage="files", done=len(plan.files), total=len(plan.files))
    yield Event(kind="done", text=f"{plan.name} is in {plan.folder}", path=plan.folder)


def _wrong(plan: Plan, file: File, found: str) -> str:
    """What to do about a file that is not what it should be."""
    advice = "it was thrown away: run the same command again"
    if not plan.revision:
        advice = f"fetch it again where there is a network, or delete {NOTES} beside it"
    return (
        f"{file.name} is not what {plan.source.repository} says it is (checksum {found[:12]}, "
        f"expected {file.check or file.size}); {advice}"
    )


# ------------------------------------------------------------------------------------------ the hub


class _AskingHub:
    """Turns what goes wrong with the hub into a sentence."""

    def __init__(self, source: Source) -> None:
        self.source = source

    def __enter__(self) -> None:
        try:
            import huggingface_hub  # noqa: F401 - to say what is missing before anything else
        except ImportError as error:
            raise UserError(
                "fetching needs the package huggingface_hub, which is not installed; pip install "
                "'emo2[full]', or give the files with --from DIR"
            ) from error

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:  # noqa: ANN401
        if error is None or getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT):
            return
        if type(error).__module__.split(".")[0] not in _NETWORK and not isinstance(
            error, ConnectionError | TimeoutError
        ):
            return
        raise UserError(self._sentence(error)) from error

    def _sentence(self, error: BaseException) -> str:
        from huggingface_hub.errors import HfHubHTTPError, RepositoryNotFoundError

        place = f"huggingface.co/{self.source.repository}"
        status = getattr(getattr(error, "response", None), "status_code", None)
        if isinstance(error, RepositoryNotFoundError) or status in (401, 404):
            return (
                f"{place} is gone, or wants you to log in or to accept its licence; look at the page "
                "in a browser, then give the files with --from DIR"
            )
        if isinstance(error, HfHubHTTPError) and status is not None:
            return f"{place} answered with status {status}; try again later, or give the files with --from DIR"
        reason = (" ".join(str(error).split()) or type(error).__name__)[:120]
        return (
            f"{place} cannot be reached ({reason}); connect to the network and run the same command again, "
            "it goes on where it stopped, or give the files with --from DIR"
        )


def _on_hub(there: dict[str, Any], file: str, source: Source) -> File:
    """The file of that name, under whatever folder the repository keeps it."""
    found = [file] if file in there else [n for n in there if n.endswith(f"/{file}")]
    if len(found) != 1:
        weights = sorted(
            n for n in there if n.endswith((".pth", ".pt", ".bin", ".safetensors", ".ckpt"))
        )
        raise UserError(
            f"huggingface.co/{source.repository} has {len(found) or 'no'} {file} any more; it has "
            f"{', '.join(weights[:12]) or 'no weights'}: give the right files with --from DIR"
        )
    entry = there[found[0]]
    lfs = getattr(entry, "lfs", None)
    sha256 = getattr(lfs, "sha256", None)
    git = getattr(entry, "blob_id", None)
    check = f"sha256:{sha256}" if sha256 else f"git:{git}" if git else ""
    return File(path=found[0], size=int(entry.size or getattr(lfs, "size", 0) or 0), check=check)


def _from_hub(plan: Plan, file: File, bars: bool) -> Path:
    with _AskingHub(plan.source):
        from huggingface_hub import hf_hub_url
        from huggingface_hub.file_download import http_get
        from huggingface_hub.utils import build_hf_headers
        from huggingface_hub.utils.tqdm import tqdm

        class Quiet(tqdm):
            def __init__(self, *args: Any, **settings: Any) -> None:  # noqa: ANN401
                super().__init__(*args, **{**settings, "disable": True})

        url = hf_hub_url(
            plan.source.repository,
            file.path,
            revision=plan.revision,
            endpoint=os.environ.get("HF_ENDPOINT"),
        )
        # `hf_hub_download` begins a file anew after a kill; its own worker can go on in one of ours.
        part = plan.folder / _STAGING / f"{file.name}.{plan.revision[:12]}"
        part.parent.mkdir(exist_ok=True)
        with part.open("ab") as out:
            if out.tell() > file.size:
                out.truncate(0)
            http_get(
                url,
                out,
                resume_size=out.tell(),
                headers=build_hf_headers(library_name="emo2"),
                expected_size=file.size,
                displayed_filename=file.name,
                tqdm_class=None if bars else Quiet,
            )
        return part


# -------------------------------------------------------------------------------------- local files


def _local_files(source: Source, name: str, local: Path) -> tuple[File, ...]:
    if not local.is_dir():
        raise UserError(f"{local} is not a folder; give the folder that holds the files of {name}")
    return tuple(_found(source, file, name, local) for file in source.files)


def _found(source: Source, file: str, name: str, local: Path) -> File:
    short = Path(file).name
    for path in (local / file, local / short, local / name / short):
        if path.is_file():
            said = _noted(path.parent, short)
            size = said.get("size", path.stat().st_size)
            check = f"sha256:{said['sha256']}" if "sha256" in said else ""
            return File(path=str(path.absolute()), size=int(size), check=check)
    raise UserError(
        f"{local} has no {file}; it takes {', '.join(source.files)} of huggingface.co/{source.repository}"
    )


def _others(folder: Path) -> dict[str, Any]:
    """What was noted of the folder's files before, as far as they are still there; damaged notes are written anew."""
    names = [path.name for path in folder.iterdir() if path.is_file()]
    try:
        return {name: said for name in names if (said := _noted(folder, name))}
    except UserError:
        return {}


def _noted(folder: Path, name: str) -> dict[str, Any]:
    try:
        return dict(json.loads((folder / NOTES).read_text())["files"].get(name, {}))
    except FileNotFoundError:
        return {}
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        raise UserError(
            f"{folder / NOTES} is damaged; delete it to go without checksums"
        ) from error


def _copied(plan: Plan, file: File) -> Path:
    part = plan.folder / f".{file.name}.part"
    shutil.copyfile(file.path, part)
    return part


# ---------------------------------------------------------------------------------- sizes and sums


def _require_space(plan: Plan) -> None:
    missing = sum(f.size for f in plan.files if not _has_size(plan.folder / f.name, f))
    place = next(p for p in (plan.folder, *plan.folder.absolute().parents) if p.exists())
    free = shutil.disk_usage(place).free
    if free < missing:
        raise UserError(
            f"{plan.name} takes {_readable(missing)} and {place} has {_readable(free)} free; "
            "free some space or give another folder with --output"
        )


def _has_size(path: Path, file: File) -> bool:
    return path.is_file() and path.stat().st_size == file.size


def _digests(path: Path) -> dict[str, str]:
    """sha256, and git's hash of the file as a blob."""
    whole, git = hashlib.sha256(), hashlib.sha1(usedforsecurity=False)
    git.update(f"blob {path.stat().st_size}\0".encode())
    with path.open("rb") as file:
        while block := file.read(1 << 22):
            whole.update(block)
            git.update(block)
    return {"sha256": whole.hexdigest(), "git": git.hexdigest()}


def _agrees(file: File, digests: dict[str, str]) -> bool:
    kind, _, value = file.check.partition(":")
    return not value or digests[kind] == value


def _said(file: File) -> str:
    return "checksum right" if file.check else "no checksum known"


def _readable(size: int) -> str:
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.1f} MB"
