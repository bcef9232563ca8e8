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
    path.parent.mkdir(parents=True, exist_ok=True)
    _check_space(path, 8 + len(text) + offset)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with temporary.open("wb") as file:
            file.write(len(text).to_bytes(8, "little"))
            file.write(text)
            for stored in tensors.values():
                values = stored.read().detach().contiguous().reshape(-1)
                file.write(values.view(torch.uint8).numpy().data)
        temporary.replace(path)
    except OSError as error:
        error.filename = error.filename or str(path)
        raise
    finally:
        temporary.unlink(missing_ok=True)
    return path


def _check_space(path: Path, size: int) -> None:
    free = shutil.disk_usage(path.parent).free
    if free < size:
        raise UserError(
            f"{path} needs {size / 1e9:.2f} GB and the disk has {free / 1e9:.2f} GB left; "
            "free some space or give another place"
        )
