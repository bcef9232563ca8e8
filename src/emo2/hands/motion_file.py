"""The motion file: what stage 1 plans, a person may edit, and stage 2 obeys.

One `.npz` (or, for editing by hand, one `.json`) with a version, the names of all channels and their units.
A file that does not fit is refused in one sentence; nothing is guessed.
"""

from __future__ import annotations

import json
import os
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

from emo2.errors import UserError
from emo2.signals import BODY_CHANNELS, FACE_ACTIONS, HAND_NUMBERS, HEAD_CHANNELS, Motion

Array = np.ndarray

FORMAT = "emo2-motion"
VERSION = 1
UNITS = "quaternions (w, x, y, z); metres; radians; weights 0..1; frames per second"
FRAME = (
    "origin between the shoulders, x to the image's right, y down, z to the camera; shoulders 0.36 m apart; "
    "hands: left, right (the person's own), 16 joints in MANO order, then the wrist"
)
NAMES = {
    "face": FACE_ACTIONS,
    "head": HEAD_CHANNELS,
    "body": BODY_CHANNELS,
    "gaze": ("yaw", "pitch"),
}
_HANDS = {"hands": (2, HAND_NUMBERS), "visibility": (2,), "confidence": (2,)}
_DIGITS = 6  # of a JSON number: a micrometre


def save(motion: Motion, path: Path | str) -> None:
    """Write the motion as `.npz`, or as `.json` where the name says so.  Whole or not at all."""
    path = Path(path)
    partial = path.with_name(f".{path.name}.partial")
    try:
        with partial.open("wb") as file:
            if path.suffix.lower() == ".json":
                file.write(as_json(motion).encode())
            else:
                np.savez_compressed(file, **_contents(motion))
        os.replace(partial, path)
    except OSError as error:
        raise UserError(
            f"cannot write the motion to {path} ({error.strerror}); choose a writable place with room on it"
        ) from error
    finally:
        partial.unlink(missing_ok=True)


def as_json(motion: Motion) -> str:
    """The same content as the `.npz`, as text; one line a frame and signal."""
    lines = []
    for key, value in _contents(motion).items():
        if isinstance(value, np.ndarray) and value.dtype.kind == "f" and value.ndim > 1:
            rows = ",\n  ".join(
                json.dumps(r) for r in value.round(_DIGITS).astype(float).round(_DIGITS).tolist()
            )
            lines.append(f"{json.dumps(key)}: [\n  {rows}\n]")
        else:
            lines.append(f"{json.dumps(key)}: {json.dumps(np.asarray(value).tolist())}")
    return "{\n" + ",\n".join(lines) + "\n}\n"


def load_motion(path: Path | str, *, frames: int | None = None) -> Motion:
    """Read a motion file.  `frames`: the number a film needs; any other is refused."""
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(
            f"no motion file at {path}; emo2 motion VOICE -o FILE.npz makes one"
        )
    data = _read(path)
    if str(data.get("format")) != FORMAT:
        raise UserError(
            f"{path} is not an emo2 motion file; expected one that emo2 motion or --save-motion wrote"
        )
    if int(data.get("version", -1)) != VERSION:
        raise UserError(
            f"{path} has motion format version {data.get('version')}, this emo2 reads version {VERSION}; "
            "make the file anew with this version"
        )
    motion = _motion(data, path)
    if frames is not None and len(motion) != frames:
        raise UserError(
            f"{path} has {len(motion)} frames, the voice needs {frames}; "
            "use the voice it was made for, or resample or retime the motion"
        )
    return motion


def _contents(motion: Motion) -> dict[str, Any]:
    contents: dict[str, Any] = {
        "format": FORMAT, "version": VERSION, "units": UNITS, "frame": FRAME, "fps": float(motion.fps),
    }  # fmt: skip
    for key in (*_HANDS, "betas", *NAMES):
        value = getattr(motion, key)
        if value is None:
            continue
        if key in NAMES:
            contents[f"{key}_names"] = list(NAMES[key])
        contents[key] = value.detach().cpu().numpy().astype(np.float32)
    return contents


def _read(path: Path) -> dict[str, Any]:
    try:
        if path.suffix.lower() == ".json":
            data = json.loads(path.read_text(encoding="utf-8"))
            return data if isinstance(data, dict) else {}
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            return {k: archive[k] for k in archive.files}
    except (ValueError, OSError, EOFError, KeyError, zipfile.BadZipFile) as error:
        raise UserError(
            f"{path} cannot be read as a motion file; expected the .npz or .json that emo2 motion writes"
        ) from error


def _motion(data: dict[str, Any], path: Path) -> Motion:
    """The checked content; anything of another shape, order or range is named."""
    for key in (*_HANDS, "betas", "fps"):
        if key not in data:
            raise UserError(f"{path} lacks {key!r}; expected all of {[*_HANDS, 'betas', 'fps']}")
    frames = len(np.atleast_1d(np.asarray(data["hands"])))
    if frames == 0:
        raise UserError(f"{path} has no frames; expected at least one")
    wanted = {k: (frames, *rest) for k, rest in _HANDS.items()} | {"betas": (10,)}
    for key, names in NAMES.items():
        if key in data:
            wanted[key] = (frames, len(names))
            found = tuple(map(str, data.get(f"{key}_names", ())))
            if found != names:
                raise UserError(
                    f"{path}: the channels of {key!r} are {found[:3]}..., expected {names[:3]}..."
                )
    tensors = {k: _tensor(data[k], shape, f"{path}: {k!r}") for k, shape in wanted.items()}
    fps = float(data["fps"])
    if not 0 < fps < 1000:
        raise UserError(f"{path} has {fps} frames a second; expected a number above 0")
    if (tensors["hands"][..., :64].unflatten(-1, (16, 4)).norm(dim=-1) < 0.1).any():
        raise UserError(
            f"{path}: 'hands' has rotations of length 0; expected unit quaternions (w, x, y, z)"
        )
    return Motion(fps=fps, **tensors)


def _tensor(value: object, shape: tuple[int, ...], what: str) -> torch.Tensor:
    try:
        array = np.asarray(value, np.float32)
    except (ValueError, TypeError) as error:
        raise UserError(f"{what} is not a table of numbers; expected the shape {shape}") from error
    if array.shape != shape:
        raise UserError(f"{what} has the shape {array.shape}, expected {shape}")
    if not np.isfinite(array).all():
        raise UserError(f"{what} holds numbers that are not finite; mend or remove those frames")
    return torch.from_numpy(array.copy())
