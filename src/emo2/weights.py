"""Checkpoints: one safetensors file a part, the config and the facts of its making inside it.

The shipped weights of a preset lie in `assets/<preset>/<part>.safetensors`; `path_of` is the only place
that knows.  Tensors may be stored in half precision and are always loaded as float32, strictly.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from emo2.config import Config, from_json, to_json
from emo2.errors import UserError
from emo2.presets import PRESETS
from emo2.sources import folder_of

FORMAT = 1
PARTS = ("speech_motion", "video", "finder")
"""Stage 1 with its speech encoder, stage 2, and the portrait finder."""

ASSETS = Path(__file__).parent / "assets"


def save(
    path: Path,
    tensors: Mapping[str, Tensor],
    config: Config,
    *,
    part: str,
    dtype: torch.dtype | None = None,
    **facts: str | int | float,
) -> Path:
    """Write one part's tensors; floating ones stored as `dtype` where given (shipping: float16).

    The file appears under its name only when it is whole.  `facts` (step, commit, data ...) are kept as text.
    """
    path = Path(path)
    stored = {
        name: (t.to(dtype) if dtype is not None and t.is_floating_point() else t)
        .detach()
        .cpu()
        .contiguous()
        for name, t in tensors.items()
    }
    metadata = {key: str(value) for key, value in facts.items()}
    metadata |= {"format": str(FORMAT), "part": part, "config": to_json(config)}
    return write(path, stored, metadata)


def write(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> Path:
    """Write a safetensors file of any kind; it appears under its name only when it is whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        whole = {name: tensor.contiguous() for name, tensor in tensors.items()}
        save_file(whole, temporary, metadata=dict(metadata))
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    return path


def load(
    path: Path, *, part: str | None = None, dtype: torch.dtype = torch.float32
) -> tuple[dict[str, Tensor], Config, dict[str, str]]:
    """Tensors (as `dtype`), config and facts of a file that `save` wrote; anything else is a `UserError`."""
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path} is not there; expected a .safetensors file of emo2 weights")
    try:
        with safe_open(path, framework="pt") as file:
            facts = dict(file.metadata() or {})
            _check_facts(path, facts, part)
            tensors = {}
            for name in file.keys():  # noqa: SIM118 - not a dict
                tensor = file.get_tensor(name)
                tensors[name] = tensor.to(dtype) if tensor.is_floating_point() else tensor
    except (SafetensorError, OSError) as error:
        raise UserError(
            f"{path} is damaged or no safetensors file ({error}); fetch or train it again"
        ) from error
    try:
        config = from_json(facts.pop("config"))
        facts = {name: value for name, value in facts.items() if name not in ("format", "part")}
    except (ValueError, TypeError, json.JSONDecodeError) as error:
        raise UserError(
            f"{path} holds a config this emo2 cannot read ({error}); "
            "use the emo2 that wrote it, or train it again"
        ) from error
    return tensors, config, facts


def _check_facts(path: Path, facts: dict[str, str], part: str | None) -> None:
    if "format" not in facts or "config" not in facts:
        raise UserError(
            f"{path} was not written by emo2 (no format and config in it); give emo2 weights"
        )
    if facts["format"] != str(FORMAT):
        raise UserError(
            f"{path} has weights format {facts['format']}, this emo2 reads format {FORMAT}; update emo2"
        )
    if part is not None and facts.get("part") != part:
        raise UserError(
            f"{path} holds the part {facts.get('part')!r}, but {part!r} is needed here; give that file"
        )


def path_of(preset: str, part: str) -> Path:
    """Where the weights of a preset's part are: in the package for a name, beside each other for a folder.

    A preset over Stable Diffusion's latents, and a single file of stage 2, take finder and stage 1 from the package;
    by its name, the first lies converted in the folder of downloads.
    """
    file, shipped = f"{part}.safetensors", ASSETS / "compact" / f"{part}.safetensors"
    if preset in PRESETS:
        if PRESETS[preset].video.codec.kind == "relative":
            return ASSETS / preset / file
        return folder_of(preset) / file if part == "video" else shipped
    given = Path(preset)
    if given.is_file():
        return given if part == "video" else shipped
    if given.is_dir():
        alone = not (given / file).is_file() and part != "video" and is_over_latents(preset)
        return shipped if alone else given / file
    raise UserError(
        f"unknown preset {preset!r}; give one of {', '.join(sorted(PRESETS))}, a converted file of stage 2, "
        f"or a folder that holds {', '.join(f'{p}.safetensors' for p in PARTS)}"
    )


def require_video(preset: str) -> Path:
    """The file of a preset's stage 2; where a public one is missing, how to get it."""
    path = path_of(preset, "video")
    if preset in PRESETS and PRESETS[preset].video.codec.kind == "sd" and not path.is_file():
        raise UserError(
            f"the weights of preset {preset} are not here ({path}); fetch and convert them: "
            f"emo2 download {preset}, then emo2 convert {folder_of(preset)} -o {path}"
        )
    return path


def config_of(path: Path) -> Config | None:
    """The config in a file's header; None where there is no such file or nothing of ours in it."""
    try:
        text = facts_of(path).get("config")
        return None if text is None else from_json(text)
    except (SafetensorError, OSError, ValueError, TypeError):
        return None


def is_over_latents(preset: str) -> bool:
    """Whether a preset's stage 2, as far as it is here, works over Stable Diffusion's latents."""
    config = config_of(path_of(preset, "video"))
    return config is not None and config.video.codec.kind == "sd"


def fill(
    module: torch.nn.Module, tensors: Mapping[str, Tensor], path: Path, *, assign: bool = False
) -> None:
    """Load `tensors` into `module`, strictly: a missing, extra or misshapen tensor is a `UserError`.

    `assign`: the module takes the tensors themselves, so that large ones are in memory once.
    """
    try:
        module.load_state_dict(dict(tensors), strict=True, assign=assign)
    except RuntimeError as error:
        first = " ".join(str(error).split())[:200]
        raise UserError(
            f"{path} does not fit this emo2's networks ({first}); train or fetch it again"
        ) from error


def facts_of(path: Path) -> dict[str, Any]:
    """The facts in a file's header, without reading its tensors; empty where there is no such file."""
    if not Path(path).is_file():
        return {}
    with safe_open(path, framework="pt") as file:
        return dict(file.metadata() or {})
