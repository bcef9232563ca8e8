"""Golden vectors: a folder of deterministic weights, inputs and outputs of somebody else's network.

Weights and inputs are not stored but follow from a rule, a number from (seed, name, place): raw words of
Philox4x64-10 under a key from sha256, and exact arithmetic only, so that they are the same everywhere.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from emo2.errors import UserError


def uniform(seed: int, name: str, count: int) -> np.ndarray:
    """So many numbers in [0, 1): the upper 53 bits of each word; the key is the name's digest."""
    digest = hashlib.sha256(f"{seed}:{name}".encode()).digest()
    words = np.random.Philox(key=int.from_bytes(digest[:16], "little")).random_raw(max(count, 1))
    return ((words >> np.uint64(11)).astype(np.float64) * 2.0**-53)[:count]


def parameter(seed: int, name: str, shape: tuple[int, ...], gain: float = 1.0) -> Tensor | None:
    """The value of the parameter "<module>.<key>"; None for tables of positions, which are a formula.

    Linear and convolution weights have variance gain^2 / fan-in; gains of norms lie around 1, biases around 0.
    """
    leaf = name.rsplit(".", 1)[-1]
    if leaf == "pe":
        return None
    if leaf == "num_batches_tracked":
        return torch.zeros(shape, dtype=torch.int64)
    around_zero = 2.0 * uniform(seed, name, math.prod(shape)) - 1.0
    if leaf == "running_var":
        values = 1.0 + 0.5 * around_zero
    elif leaf in ("running_mean", "bias"):
        values = 0.1 * around_zero
    elif len(shape) <= 1 or leaf == "weight_g":
        values = 1.0 + 0.2 * around_zero
    else:
        values = around_zero * (gain * math.sqrt(3.0 / math.prod(shape[1:])))
    return torch.from_numpy(values.astype(np.float32).reshape(shape))


def made_input(seed: int, name: str, shape: tuple[int, ...], kind: str) -> Tensor:
    """An input: `normal` has mean 0 and variance 1 (uniform on +-sqrt 3), `unit` lies in [0, 1)."""
    values = uniform(seed, name, math.prod(shape))
    if kind == "normal":
        values = (2.0 * values - 1.0) * math.sqrt(3.0)
    return torch.from_numpy(values.astype(np.float32).reshape(shape))


@dataclass(frozen=True)
class Golden:
    """The golden vectors of one project."""

    name: str
    """Of its files."""
    spec: Mapping[str, Any]
    shapes: Mapping[str, Mapping[str, tuple[int, ...]]]
    """For each module: keys and shapes of the network that was run."""
    tensors: Mapping[str, Tensor]
    _made: dict[str, dict[str, Tensor]] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    @property
    def known(self) -> dict[str, Any]:
        """What no shape says."""
        return {
            **self.spec.get("common", {}),
            **self.spec.get("config_tiny", self.spec.get("config", {})),
        }

    def weights(self, module: str) -> dict[str, Tensor]:
        """The weights of a module, tables of positions excepted; made once for all cases and precisions."""
        if module not in self._made:
            self._made[module] = self._weights(module)
        return dict(self._made[module])

    def _weights(self, module: str) -> dict[str, Tensor]:
        gain = self.spec.get("fill_gain", {}).get(module, 1.0)
        made = {
            key: parameter(self.spec["seed"], f"{module}.{key}", shape, gain)
            for key, shape in self.shapes[module].items()
        }
        return {key: value for key, value in made.items() if value is not None}

    def inputs(self, case: str) -> dict[str, Tensor]:
        """All inputs of a case, those that are not stored made by the rule; the digest of each must be right."""
        found = {}
        for name, told in self.spec["cases"][case]["inputs"].items():
            value = self.tensors.get(f"{case}/in/{name}")
            if value is None:
                full = f"input.{case}.{name}"
                value = made_input(self.spec["seed"], full, tuple(told["shape"]), told["kind"])
            digest = hashlib.sha256(value.numpy().astype(np.float32).tobytes()).hexdigest()
            if digest != told.get("sha256", digest):
                raise UserError(f"{self.name}: input {case}/{name} is not what its digest says")
            found[name] = value
        return found

    def outputs(self, case: str) -> dict[str, Tensor]:
        """Stored results of a case by site."""
        wanted = {n: t for n, t in self.tensors.items() if n.startswith(f"{case}/")}
        return {n: t for n, t in wanted.items() if not n.startswith(f"{case}/in/")}

    def sliced(self, site: str, values: Tensor) -> Tensor:
        """Of whole values, the part that is stored."""
        told = self.spec.get("tensors", {}).get(site, {}).get("slice")
        if told is None:
            return values
        index = torch.arange(0, values.shape[told["axis"]], told["step"])
        return values.index_select(told["axis"], index)


def read(folder: Path, name: str) -> Golden:
    """The golden vectors of that name in a folder."""
    paths = [folder / f"{name}.json", folder / "keys" / f"{name}.json"]
    try:
        spec, keys = (json.loads(path.read_text()) for path in paths)
        with safe_open(folder / f"{name}.safetensors", framework="pt") as file:
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - not a dict
    except (OSError, ValueError, SafetensorError) as error:
        raise UserError(
            f"{folder} holds no complete golden vectors of {name} ({error}); "
            f"expected {name}.json, {name}.safetensors and keys/{name}.json"
        ) from error
    shapes = {
        module: {key: tuple(s) for key, told in table.items() if (s := _used(told)) is not None}
        for module, table in keys.items()
    }
    return Golden(name, spec, shapes, tensors)


def full_shapes(keys: Mapping[str, Any]) -> dict[str, dict[str, tuple[int, ...]]]:
    """Of a keys file: names and shapes of full size, where it gives pairs of [full size, the one run]."""
    return {
        module: {
            key: tuple(told[0])
            for key, told in table.items()
            if _is_pair(told) and told[0] is not None
        }
        for module, table in keys.items()
    }


def _is_pair(told: list[Any]) -> bool:
    return len(told) == 2 and all(part is None or isinstance(part, list) for part in told)


def _used(told: list[Any]) -> list[int] | None:
    """The shape that was run, of a shape or of [full size, the one run]; None: not in that network."""
    return told[1] if _is_pair(told) else told
