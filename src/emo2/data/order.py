"""What a part is to be trained on: folders of the studio's shards and of sets made of real film."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from emo2.config import Config
from emo2.errors import UserError

REAL = "film-"
"""Names of shards made of real film begin so (`emo2 data prepare`)."""
PERFORMED = "performances-"
"""Names of stage 1's files begin so; they are no shards of pictures."""

Given = Path | Sequence[Path] | None


@dataclass(frozen=True, kw_only=True)
class Order:
    """A part, and what it learns from."""

    config: Config
    data: tuple[Path, ...]
    """Empty: none was given."""
    out: Path
    batch: int | None
    """Items a step; None: the part's own."""
    seed: int
    real_share: float | None = None
    """Of what is drawn: from real film; None: as much as there is of it."""
    only: str | None = None
    """The one part of stage 2 that is trained; None: all."""

    def folders(self, *, real: bool = True) -> list[Path]:
        """The shards' folders: those of `data`, and those in them that hold shards; `real`: also of real film."""
        if not self.data:
            raise UserError("training this part needs shards; give --data with a folder of them")
        return shard_folders(self.data, real=real)


def folders_given(data: Given) -> tuple[Path, ...]:
    """One folder or several, each checked."""
    folders = () if data is None else (data,) if isinstance(data, Path) else tuple(data)
    for folder in folders:
        if not Path(folder).is_dir():
            raise UserError(f"{folder} is no folder; give the folder that `emo2 studio` wrote")
    return tuple(Path(folder) for folder in folders)


def shard_folders(data: Sequence[Path], *, real: bool = True) -> list[Path]:
    """All folders that hold shards of pictures, in order."""
    inside = set()
    for path in (p for folder in data for p in Path(folder).rglob("*.safetensors")):
        if not path.name.startswith(PERFORMED) and (real or not is_real(path)):
            inside.add(path.parent)
    if not inside:
        names = ", ".join(map(str, data))
        raise UserError(f"{names} holds no shards (*.safetensors); make some: emo2 studio")
    return sorted(inside)


def is_real(path: Path) -> bool:
    """Whether a shard is made of real film."""
    return path.name.startswith(REAL)
