"""One site of golden vectors against ours: how far apart, how far allowed."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from emo2.errors import UserError


@dataclass(frozen=True, kw_only=True)
class Difference:
    """One site compared."""

    project: str
    site: str
    dtype: str
    found: float
    """Largest absolute difference; of names and frame numbers: how many differ. NaN: nothing of ours corresponds."""
    allowed: float

    @property
    def passes(self) -> bool:
        """Whether it is small enough; a NaN is not."""
        return self.found <= self.allowed

    @property
    def verdicts(self) -> list[bool]:
        """The one verdict."""
        return [self.passes]

    def line(self) -> str:
        """Family, site, largest difference, verdict."""
        verdict = "ok" if self.passes else f"FAILS (at most {self.allowed:.1e})"
        return f"{self.project:<18} {self.site:<46} {self.dtype:<8} {self.found:.1e}  {verdict}"

    def facts(self) -> dict[str, Any]:
        """The same for machines."""
        return {"event": "compared", **asdict(self), "passes": self.passes}


@dataclass(frozen=True)
class Unknown:
    """A file among golden vectors that is none we know: named, not compared."""

    path: Path

    @property
    def verdicts(self) -> list[bool]:
        """None."""
        return []

    def line(self) -> str:
        """One sentence."""
        return f"{self.path} is no golden vector that emo2 knows: not compared"

    def facts(self) -> dict[str, Any]:
        """The same for machines."""
        return {"event": "unknown", "file": str(self.path)}


def name_of(dtype: torch.dtype) -> str:
    """As it stands in the table."""
    return str(dtype).removeprefix("torch.")


def apart(ours: Tensor | None, wanted: Tensor) -> float:
    """Largest absolute difference; infinite where shapes differ, NaN where there is nothing of ours."""
    if ours is None:
        return math.nan
    if ours.shape != wanted.shape:
        return math.inf
    return float((ours.double() - wanted.double()).abs().max()) if wanted.numel() else 0.0


def different(ours: list[Any] | None, wanted: list[Any]) -> float:
    """How many entries of two lists differ."""
    if ours is None:
        return math.nan
    longer = max(len(ours), len(wanted)) - min(len(ours), len(wanted))
    return float(longer + sum(a != b for a, b in zip(ours, wanted, strict=False)))


def read_spec(folder: Path, name: str) -> dict[str, Any]:
    """A folder's NAME.json."""
    try:
        return dict(json.loads((folder / f"{name}.json").read_text()))
    except (OSError, ValueError, TypeError) as error:
        raise UserError(f"{folder / name}.json cannot be read ({error}); fetch it again") from error


def read_tensors(folder: Path, name: str) -> dict[str, Tensor]:
    """A folder's NAME.safetensors."""
    path = folder / f"{name}.safetensors"
    try:
        with safe_open(path, framework="pt") as file:
            return {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - not a dict
    except (OSError, SafetensorError) as error:
        raise UserError(
            f"{path} cannot be read ({error}); {name}.json wants it beside itself"
        ) from error
