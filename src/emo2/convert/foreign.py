"""Other people's weights files, read tensor by tensor: safetensors whole or in shards, and pickles without code.

Pickles (.pth, .bin, .ckpt, .pt) are opened with `weights_only` and mapped from the disk, so that nothing in them
runs and a large file is not in memory twice.
"""

from __future__ import annotations

import json
import pickle
import re
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from emo2.errors import UserError

PICKLES = (".pth", ".bin", ".ckpt", ".pt")
ENDINGS = (".safetensors", *PICKLES)
INDICES = tuple(f"{ending}.index.json" for ending in (".safetensors", ".bin"))


@dataclass(frozen=True)
class Stored:
    """A tensor in a file."""

    shape: tuple[int, ...]
    dtype: torch.dtype
    read: Callable[[], Tensor]
    file: Path


Tensors = dict[str, Stored]


def find(folder: Path, stem: str) -> Path | None:
    """The file (or index of shards) of that name in a folder, the least deep one."""
    wanted = {f"{stem}{ending}" for ending in (*ENDINGS, *INDICES)}
    found = [p for p in folder.rglob(f"{stem}.*") if p.name in wanted]
    return min(found, key=lambda p: (len(p.parts), str(p)), default=None)


def read(path: Path) -> Tensors:
    """All tensors of a file, by name; a wrapping `state_dict` and the prefix `module.` are taken off."""
    if path.name.endswith(".index.json"):
        return _shards(path)
    tensors = _safetensors(path) if path.suffix == ".safetensors" else _pickle(path)
    if tensors and all(name.startswith("module.") for name in tensors):
        tensors = {name.removeprefix("module."): t for name, t in tensors.items()}
    return tensors


def _shards(index: Path) -> Tensors:
    try:
        told: Mapping[str, str] = json.loads(index.read_text())["weight_map"]
    except (OSError, ValueError, KeyError) as error:
        raise UserError(f"{index} is no index of shards ({error}); fetch it again") from error
    names = sorted(set(told.values()))
    missing = [name for name in names if not (index.parent / name).is_file()]
    if missing:
        raise UserError(
            f"{index} names {len(names)} shards, but {', '.join(missing)} is not beside it; fetch all of them"
        )
    tensors = {key: t for name in names for key, t in read(index.parent / name).items()}
    lost = sorted(set(told) - set(tensors))
    if lost:
        raise UserError(
            f"{index} promises {', '.join(lost)}, which no shard holds; fetch them again"
        )
    return tensors


def _safetensors(path: Path) -> Tensors:
    try:
        file = safe_open(path, framework="pt")  # stays open while its tensors are wanted

        def reader(name: str) -> Callable[[], Tensor]:
            return lambda: file.get_tensor(name)

        slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118 - not a dict
        return {
            name: Stored(tuple(s.get_shape()), DTYPES[s.get_dtype()], reader(name), path)
            for name, s in slices.items()
        }
    except (SafetensorError, KeyError) as error:
        raise UserError(
            f"{path} is cut off or no safetensors file ({error}); fetch it again"
        ) from error


def _pickle(path: Path) -> Tensors:
    try:
        content = _unpickled(path)
    except pickle.UnpicklingError as error:
        if _REFUSED.search(str(error)) and _first_byte(path) in (b"\x80", b"P"):
            raise UserError(
                f"{path} holds code beside its tensors and is not opened; "
                "have whoever made it save its state_dict alone, best as safetensors"
            ) from error
        raise UserError(f"{path} is cut off or no file of weights; fetch it again") from error
    except (RuntimeError, EOFError, ValueError, KeyError) as error:
        raise UserError(f"{path} is cut off or no file of weights; fetch it again") from error
    while isinstance(content, dict) and isinstance(content.get("state_dict"), dict):
        content = content["state_dict"]
    if not isinstance(content, dict) or not any(isinstance(t, Tensor) for t in content.values()):
        raise UserError(f"{path} holds no tensors by name; give a file of a network's weights")
    return {str(n): _held(t, path) for n, t in content.items() if isinstance(t, Tensor)}


def _unpickled(path: Path) -> Any:  # noqa: ANN401 - whatever lies in the file
    try:
        return torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except RuntimeError as error:
        if "mmap can only be used" not in str(error):
            raise
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about the pickle's protocol
        return torch.load(path, map_location="cpu", weights_only=True)


_REFUSED = re.compile(r"Unsupported (global|class|operand)|GLOBAL|REDUCE")
"""What torch says of a pickle that would run something, or use what a table of tensors never needs."""


def _first_byte(path: Path) -> bytes:
    """0x80 begins a pickle, P an archive with one."""
    with path.open("rb") as file:
        return file.read(1)


def _held(tensor: Tensor, path: Path) -> Stored:
    return Stored(tuple(tensor.shape), tensor.dtype, lambda: tensor, path)


DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
"""Kinds of numbers under their names in safetensors."""
