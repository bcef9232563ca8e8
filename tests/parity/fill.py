"""Weights and inputs of the parity vectors: they follow from (seed, name, shape) alone, bit for bit."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence

import numpy as np


def uniform(seed: int, name: str, count: int) -> np.ndarray:
    """`count` numbers in [0, 1): raw words of Philox4x64-10, keyed by the first half of sha256("seed:name")."""
    digest = hashlib.sha256(f"{seed}:{name}".encode()).digest()
    words = np.random.Philox(key=int.from_bytes(digest[:16], "little")).random_raw(max(count, 1))
    return ((words >> np.uint64(11)).astype(np.float64) * 2.0**-53)[:count]


def param(seed: int, name: str, shape: Sequence[int], gain: float = 1.0) -> np.ndarray | None:
    """A parameter named "<module>.<key>"; None for the temporal table, which is a formula."""
    leaf = name.rsplit(".", 1)[-1]
    if leaf == "pe":
        return None
    if leaf == "num_batches_tracked":
        return np.zeros(shape, np.int64)
    spread = 2.0 * uniform(seed, name, math.prod(shape)) - 1.0
    if leaf == "running_var":
        value = 1.0 + 0.5 * spread
    elif leaf in ("running_mean", "bias"):
        value = 0.1 * spread
    elif len(shape) <= 1 or leaf == "weight_g":
        value = 1.0 + 0.2 * spread
    else:
        value = spread * (gain * math.sqrt(3.0 / math.prod(shape[1:])))
    return value.astype(np.float32).reshape(shape)


def tensor(seed: int, name: str, shape: Sequence[int], kind: str) -> np.ndarray:
    """An input: "normal" has zero mean and unit variance, "unit" lies in [0, 1)."""
    spread = uniform(seed, name, math.prod(shape))
    if kind == "normal":
        spread = (2.0 * spread - 1.0) * math.sqrt(3.0)
    return spread.astype(np.float32).reshape(shape)


def state_dict(
    seed: int, module: str, shapes: Mapping[str, Sequence[int]], gain: float = 1.0
) -> dict[str, np.ndarray]:
    """All parameters of a module, from a table of key and shape."""
    made = {key: param(seed, f"{module}.{key}", shape, gain) for key, shape in shapes.items()}
    return {key: value for key, value in made.items() if value is not None}
