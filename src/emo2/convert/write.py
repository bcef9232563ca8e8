"""A safetensors file written tensor by tensor, so that a large network is never in memory whole.

The format: eight bytes with the length of the header, the header (JSON: for each tensor kind, shape and place), the
tensors' bytes.  The file takes its name when it is whole.
"""

from __future__ import annotations

import json
import math
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from emo2.convert.foreign import DTYPES, Stored
from emo2.errors import UserError

_NAMES = {dtype: name for name, dtype in DTYPES.items()}


def write(path: Path, tensors: Mapping[str, Stored], metadata: Mapping[str, str]) -> Path:
    """Write them in order; too little space is said before anything is written."""
    header: dict[str, Any] = {"__metadata__": dict(metadata)}
    offset = 0
    for name, stored in tensors.items():
        size = math.prod(stored.shape) * stored.dtype.itemsize
        header[name] = {
            "dtype": _NAMES[stored.dtype],
            "shape": list(stored.shape),
            "data_offsets": [offset, offset + size],
        }
        offset += size
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    made = _make_folders(path.parent)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        _check_space(path, 8 + len(text) + offset)
        with temporary.open("wb") as file:
            file.write(len(text).to_bytes(8, "little"))
            file.write(text)
            for stored in tensors.values():
                values = stored.read().detach().contiguous().reshape(-1)
                file.write(values.view(torch.uint8).numpy().data)
        temporary.replace(path)
    except BaseException as error:
        temporary.unlink(missing_ok=True)
        for folder in reversed(made):
            folder.rmdir()
        if isinstance(error, OSError):
            error.filename = error.filename or str(path)
        raise
    return path


def write_all(
    folder: Path, files: Mapping[str, Mapping[str, Stored]], metadata: Mapping[str, str]
) -> list[Path]:
    """Write several files of one network, by stem: all of them, or no new one."""
    made = _make_folders(folder)
    paths = [folder / f"{stem}.safetensors" for stem in files]
    new = [path for path in paths if not path.exists()]
    try:
        return [write(p, t, metadata) for p, t in zip(paths, files.values(), strict=True)]
    except BaseException:
        for path in new:
            path.unlink(missing_ok=True)
        for made_folder in reversed(made):
            made_folder.rmdir()
        raise


def _make_folders(folder: Path) -> list[Path]:
    """Those of the folders above a file that were missing, the outermost first; they exist now."""
    missing = [p for p in (folder, *folder.parents) if not p.exists()][::-1]
    folder.mkdir(parents=True, exist_ok=True)
    return missing


def _check_space(path: Path, size: int) -> None:
    free = shutil.disk_usage(path.parent).free
    if free < size:
        raise UserError(
            f"{path} needs {size / 1e9:.2f} GB and the disk has {free / 1e9:.2f} GB left; "
            "free some space or give another place"
        )
