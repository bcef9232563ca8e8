"""A folder of golden vectors against all of ours: networks, keys of full size, ears, schedules, windows.

Laid out like tests/parity; any part may be missing, and what is there is run.  What lies in the folder and is no
golden vector that we know is named (`unknown`), so that nothing is passed over in silence.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

from emo2.convert.difference import Difference, Unknown
from emo2.convert.golden import full_shapes, read
from emo2.convert.golden_ears import compare_ears
from emo2.convert.golden_sampling import compare_schedules, compare_windows
from emo2.convert.layouts import LAYOUTS
from emo2.convert.names import POSITIONS, shapes_of, table
from emo2.convert.parity import compare
from emo2.convert.sizes import fitted
from emo2.errors import UserError
from emo2.presets import PRESETS
from emo2.video.network import VideoNetwork

PARTS: dict[str, Callable[[Path], Iterator[Difference]]] = {
    "scheduler": compare_schedules,
    "windows": compare_windows,
    "audio": compare_ears,
}
"""Files that belong to no family, and what runs them."""
_BESIDE = (".py", ".md", ".txt")
"""Endings of what explains the vectors."""


def report(folder: Path) -> Iterator[Difference | Unknown]:
    """All comparisons, then the files that nothing was compared with."""
    yield from verify(folder)
    yield from map(Unknown, unknown(folder))


def verify(folder: Path) -> Iterator[Difference]:
    """Every golden vector of a folder, in float64 and float32 where precision matters."""
    families, parts = _families(folder), [n for n in PARTS if (folder / f"{n}.json").is_file()]
    if not families and not parts:
        others = ", ".join(f"{name}.json" for name in PARTS)
        raise UserError(
            f"{folder} holds no golden vectors; expected keys/NAME.json for each family, or {others}"
        )
    for name in families:
        keys = folder / "keys" / f"{name}.json"
        if keys.is_file():
            yield from _keys(name, keys)
        if (folder / f"{name}.json").is_file() or (folder / f"{name}.safetensors").is_file():
            golden = read(folder, name)
            for dtype in (torch.float64, torch.float32):
                yield from compare(golden, dtype)
    for name in parts:
        yield from PARTS[name](folder)


def unknown(folder: Path) -> list[Path]:
    """Files of the folder that were not run and explain nothing."""
    known = {*_families(folder), *(n for n in PARTS if (folder / f"{n}.json").is_file())}
    return [
        path
        for path in sorted(p for p in folder.rglob("*") if p.is_file())
        if path.suffix not in _BESIDE
        and not any(part.startswith((".", "__")) for part in path.relative_to(folder).parts)
        and not (_is_vector(path, folder) and path.stem in known)
    ]


def _is_vector(path: Path, folder: Path) -> bool:
    if path.parent == folder / "keys":
        return path.suffix == ".json"
    return path.parent == folder and path.suffix in (".json", ".safetensors")


def _families(folder: Path) -> list[str]:
    """Names in the folder that are families of ours."""
    places = [*folder.glob("*.json"), *(folder / "keys").glob("*.json")]
    return sorted({p.stem for p in places if p.stem.replace("_", "-") in LAYOUTS})


def _keys(name: str, path: Path) -> Iterator[Difference]:
    """Names and shapes of full size, where the file gives them: how many find no parameter of ours, or no place."""
    try:
        told: dict[str, Any] = json.loads(path.read_text())
    except ValueError as error:
        raise UserError(f"{path} is no table of keys ({error}); fetch it again") from error
    shapes, layout = full_shapes(told), LAYOUTS[name.replace("_", "-")]
    if not all(shapes.get(theirs) for theirs in layout.modules.values()):
        return
    there = {ours: shapes[theirs] for ours, theirs in layout.modules.items()}
    with torch.device("meta"):
        network = VideoNetwork(fitted(PRESETS[layout.name].video, there))
    own = shapes_of(network)
    ours = {(m, n): own[o] for m, public in table(network).items() for n, o in public.items()}
    theirs = {(m, n): s for m, t in there.items() for n, s in t.items() if not POSITIONS.search(n)}
    odd = [key for key in ours.keys() | theirs.keys() if ours.get(key) != theirs.get(key)]
    odd += [(module, "") for module in shapes.keys() - set(layout.modules.values())]
    site = f"{len(theirs)} keys of full size"
    yield Difference(project=name, site=site, dtype="names", found=float(len(odd)), allowed=0.0)
