"""A signal that comes in pieces: frames are made when they are asked for, and let go when they are behind.

Between two modules of the flow a reel stands for the whole signal while only a stretch of it is in memory.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any, ClassVar, Generic, Protocol, TypeVar, runtime_checkable

import torch


@runtime_checkable
class Strip(Protocol):
    """A frozen dataclass with some fields that have a row a frame."""

    PER_FRAME: ClassVar[tuple[str, ...]]

    def __len__(self) -> int:
        """Frames."""
        ...


S = TypeVar("S", bound=Strip)


class Reel(Generic[S]):
    """`length` frames whose pieces are taken from `pieces` when they are first needed."""

    def __init__(self, pieces: Iterable[S], length: int) -> None:
        self._source = iter(pieces)
        self._length = length
        self._held: list[S] = []
        self._first = 0
        """Number of the first frame held."""
        self._made = 0
        self._wanted = 0

    @staticmethod
    def of(signal: S | Reel[S]) -> Reel[S]:
        """A signal that is whole as a reel; a reel as it is."""
        return signal if isinstance(signal, Reel) else Reel([signal], len(signal))

    def __len__(self) -> int:
        return self._length

    def whole(self) -> S:
        """All frames; only while none are forgotten."""
        return self.between(0, self._length)

    def between(self, start: int, stop: int) -> S:
        """Frames start..stop-1; not before what was forgotten."""
        if not self._wanted <= start < stop <= self._length:
            raise ValueError(
                f"frames {start}..{stop} of a reel that holds {self._wanted}..{self._length}"
            )
        while self._made < stop:
            self._pull()
        parts, at = [], self._first
        for piece in self._held:
            low, high = max(start - at, 0), min(stop - at, len(piece))
            if low < high:
                parts.append(cut(piece, low, high))
            at += len(piece)
        return join(parts)

    def forget(self, before: int) -> None:
        """Let go of the frames before `before`: nobody will ask for them again."""
        self._wanted = max(self._wanted, min(before, self._length))
        while self._made < self._wanted:
            self._pull()
        self._drop()

    def _pull(self) -> None:
        piece = next(self._source, None)
        if piece is None:
            raise ValueError(f"the signal ends at frame {self._made} of {self._length}")
        self._held.append(piece)
        self._made += len(piece)
        self._drop()

    def _drop(self) -> None:
        while self._held and self._first + len(self._held[0]) <= self._wanted:
            self._first += len(self._held.pop(0))


def cut(strip: S, start: int, stop: int) -> S:
    """Frames start..stop-1."""
    return _with(strip, lambda name: getattr(strip, name)[start:stop])


def join(strips: Sequence[S]) -> S:
    """One after the other; what is not per frame is the first's."""
    if len(strips) == 1:
        return strips[0]
    return _with(strips[0], lambda name: torch.cat([getattr(s, name) for s in strips]))


def _with(strip: S, of: Any) -> S:  # noqa: ANN401 - a function of a field's name
    names = [name for name in strip.PER_FRAME if getattr(strip, name) is not None]
    return replace(strip, **{name: of(name) for name in names})  # type: ignore[type-var]
