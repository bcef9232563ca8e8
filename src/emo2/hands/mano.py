"""Read a right-hand model file: the user's own `MANO_RIGHT.pkl` or `.npz`, or the stand-in.

The official file is a Python 2 pickle full of chumpy objects.  chumpy itself no longer installs, and a pickle
may run any code, so it is read by an unpickler that knows numpy arrays and stubs in the place of chumpy's and
scipy's classes, and refuses every other name.
"""

from __future__ import annotations

import io
import pickle
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from emo2.hands.model import MANO_TIPS, PARENTS, HandModel

Array = np.ndarray

_SHAPES = {
    "v_template": ("v", 3), "shapedirs": ("v", 3, 10), "J_regressor": (16, "v"), "weights": ("v", 16),
    "f": ("f", 3), "kintree_table": (2, 16),
}  # fmt: skip
_SAME_SIDE = 1e-6  # mean difference of x shape directions below which MANO_LEFT has the known fault

_NUMPY_NAMES = {"ndarray", "dtype", "_reconstruct", "scalar", "_frombuffer"}
_BUILTINS = {
    "object",
    "list",
    "dict",
    "tuple",
    "set",
    "slice",
    "int",
    "float",
    "complex",
    "bytearray",
}


def load_hand(path: Path | str) -> HandModel:
    """A right hand from an official MANO file (pkl, npz) or the stand-in's npz."""
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no hand model at {path}; give the path of MANO_RIGHT.pkl or .npz")
    if "left" in path.stem.lower():
        raise ValueError(
            f"{path.name} is a left hand; give MANO_RIGHT, the left hand is made by mirroring"
        )
    raw = path.read_bytes()
    data = _read_npz(raw, path) if zipfile.is_zipfile(io.BytesIO(raw)) else _read_pickle(raw, path)
    return _build(data, path)


def repair_left(shape_dirs: Array, right_shape_dirs: Array) -> Array:
    """Shape directions of MANO_LEFT with the sign of x put right (smplx issue 48), where it is wrong.

    The package itself never reads MANO_LEFT; this is for tables that come from elsewhere.
    """
    if np.abs(shape_dirs[:, 0] - right_shape_dirs[:, 0]).mean() < _SAME_SIDE:
        shape_dirs = shape_dirs * np.array((-1.0, 1.0, 1.0), shape_dirs.dtype)[:, None]
    return shape_dirs


def _read_npz(raw: bytes, path: Path) -> dict[str, Any]:
    try:
        with np.load(io.BytesIO(raw), allow_pickle=False) as archive:
            return {k: archive[k] for k in archive.files}
    except (ValueError, OSError, zipfile.BadZipFile, EOFError, KeyError) as error:
        raise ValueError(
            f"{path} is not a readable hand model ({error}); expected MANO's keys as npz"
        ) from error


def _read_pickle(raw: bytes, path: Path) -> dict[str, Any]:
    try:
        data = _HandUnpickler(io.BytesIO(raw), encoding="latin1").load()
        if not isinstance(data, Mapping):
            raise TypeError(f"a {type(data).__name__} instead of a dict")
        return {str(k): _value(v) for k, v in data.items()}
    except Exception as error:  # a damaged pickle raises nearly anything
        raise ValueError(
            f"{path} is not a readable hand model ({error}); expected the official MANO_RIGHT.pkl"
        ) from error


class _Chumpy:
    """Stands in for every chumpy class: keeps the state, computes nothing."""

    def __init__(self, *args: object, **kwargs: object) -> None:
        self.state: dict[str, Any] = {}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.state = state


class _Sparse(_Chumpy):
    """Stands in for scipy's matrices, whose module paths and attributes changed since these files were made."""

    by_column = True

    def toarray(self) -> Array:
        """The dense matrix: `data[k]` lies at `indices[k]` of the row or column that `indptr` says."""
        state = self.state
        shape = tuple(int(n) for n in state["_shape" if "_shape" in state else "shape"])
        starts = np.asarray(state["indptr"], np.int64)
        outer = np.repeat(np.arange(len(starts) - 1), np.diff(starts))
        inner = np.asarray(state["indices"], np.int64)
        dense = np.zeros(shape)
        np.add.at(
            dense, (inner, outer) if self.by_column else (outer, inner), np.asarray(state["data"])
        )
        return dense


class _SparseRows(_Sparse):
    by_column = False


_SPARSE = {
    "csc_matrix": _Sparse,
    "csr_matrix": _SparseRows,
    "csc_array": _Sparse,
    "csr_array": _SparseRows,
}


class _HandUnpickler(pickle.Unpickler):
    """Finds numpy's arrays, the stubs and a few builtin names, and nothing else."""

    def find_class(self, module: str, name: str) -> Any:  # noqa: ANN401 - pickle's signature
        root = module.partition(".")[0]
        if root == "chumpy":
            return _Chumpy
        if root == "numpy" and name in _NUMPY_NAMES:
            return (
                getattr(np, name)
                if hasattr(np, name)
                else super().find_class(_numpy_home(module), name)
            )
        if root == "scipy" and ".sparse" in module and name in _SPARSE:
            return _SPARSE[name]
        if module in ("builtins", "__builtin__") and name in _BUILTINS:
            return super().find_class("builtins", name)
        if (module, name) in (("copy_reg", "_reconstructor"), ("copyreg", "_reconstructor")):
            return super().find_class("copyreg", name)
        if (module, name) == ("_codecs", "encode"):  # how Python 3 writes bytes in old protocols
            return super().find_class(module, name)
        raise pickle.UnpicklingError(f"it names {module}.{name}, which a hand model has no use for")


def _numpy_home(module: str) -> str:
    """numpy.core moved to numpy._core in numpy 2."""
    return module.replace("numpy.core", "numpy._core") if hasattr(np, "_core") else module


def _value(item: object) -> Any:  # noqa: ANN401 - arrays and a few words
    """The plain array of a chumpy object; sparse matrices become dense; the rest stays."""
    if isinstance(item, _Sparse):
        return item.toarray()
    if isinstance(item, _Chumpy):
        state = item.state
        if (
            "a" in state and "idxs" in state
        ):  # chumpy.reordering.Select: shapedirs in the official file
            picked = np.asarray(_value(state["a"])).ravel()[np.asarray(state["idxs"])]
            shape = state.get("preferred_shape")
            return picked if shape is None else picked.reshape(shape)
        if "x" not in state:
            raise ValueError(f"a chumpy object without a value (it has {sorted(state)})")
        return _value(state["x"])
    return item


def _build(data: dict[str, Any], path: Path) -> HandModel:
    _check(data, path)
    parents = np.asarray(data["kintree_table"])[0].astype(np.int64)
    if tuple(parents[1:]) != PARENTS[1:]:
        raise ValueError(
            f"{path} has another joint tree: {parents.tolist()}, expected {list(PARENTS)}"
        )
    is_mano = bool(data.get("is_mano", True))
    tips = tuple(int(t) for t in data.get("tips", MANO_TIPS))
    if max(tips) >= len(data["v_template"]):
        raise ValueError(f"{path} has {len(data['v_template'])} vertices, expected MANO's 778")
    pose_dirs = data.get("posedirs")
    return HandModel(
        name=str(data.get("name", path.name)),
        is_mano=is_mano,
        template=_float(data["v_template"]),
        shape_dirs=_float(data["shapedirs"][..., :10]),
        joint_regressor=_float(data["J_regressor"]),
        weights=_float(data["weights"]),
        faces=torch.from_numpy(np.asarray(data["f"]).astype(np.int64)),
        tips=(tips[0], tips[1], tips[2], tips[3], tips[4]),
        pose_dirs=None if pose_dirs is None else _float(pose_dirs),
        mean_pose=_float(data.get("hands_mean", np.zeros(45))),
        components=_float(data.get("hands_components", np.eye(45))),
    )


def _check(data: dict[str, Any], path: Path) -> None:
    missing = [k for k in _SHAPES if k not in data]
    if missing:
        raise ValueError(f"{path} lacks {missing[0]!r}; found {sorted(data)}, expected MANO's keys")
    count = {"v": len(data["v_template"]), "f": len(data["f"])}
    for key, expected in _SHAPES.items():
        found = np.shape(data[key])
        wanted = tuple(count[n] if isinstance(n, str) else n for n in expected)
        wide = key == "shapedirs" and len(found) == 3 and found[:2] == wanted[:2] and found[2] >= 10
        if found != wanted and not wide:
            raise ValueError(f"{path}: {key} has the shape {found}, expected {wanted}")


def _float(array: object) -> torch.Tensor:
    return torch.from_numpy(np.array(array, np.float32))
