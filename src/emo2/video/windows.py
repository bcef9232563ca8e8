"""Windows of frames over a film that is denoised as a whole: which frames, shifted how, and how they blend.

The open relatives denoise a film of any length in overlapping windows: at every step each window is predicted
by itself, predictions are averaged frame by frame, and the scheduler steps the whole film once.

    for step in range(steps):
        blend = Blend(frames)
        for window in windows.at(frames, step):          # share(..., devices) where there are several
            blend.add(window, predict(latents[:, window], audio[:, window], ...))
        latents = scheduler.step(blend.mean(), ...)

A window's order is the order inside the network: position p of the list takes temporal position p, also where
the list has run over the film's end.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from emo2.errors import UserError

Beyond = Literal["wrap", "mirror", "clean"]


@dataclass(frozen=True, kw_only=True)
class Windows:
    """A rule that lays windows over a film."""

    size: int
    """Frames of a window."""
    overlap: int
    """Frames that neighbours share."""
    shift: int = 0
    """Frames by which every window moves on at each denoising step, so that seams do not stay in one place."""
    beyond: Beyond = "clean"
    """Where a window runs over the film's end: on at its beginning (first and last frames are then blended with
    each other), back from its end, or not at all: the last window is moved back until it fits.  Clean is better
    for a film that is no loop; the first two are what public checkpoints were sampled with."""
    closed: bool = False
    """Begin windows up to the last frame; else only while there are frames that no window has seen."""

    def __post_init__(self) -> None:
        if not 0 <= self.overlap < self.size:
            raise ValueError(
                f"windows of {self.size} frames cannot overlap by {self.overlap}; "
                f"give 0 to {self.size - 1}"
            )

    def at(self, frames: int, step: int = 0) -> list[list[int]]:
        """The windows of a film of so many frames at a denoising step, each a list of frame numbers."""
        stride = self.size - self.overlap
        if self.beyond == "clean":
            return self._clean(frames, step * self.shift % stride or stride)
        if frames <= self.size:
            plain = [list(range(frames))]
        else:
            stop = frames if self.closed else frames - self.overlap
            plain = [
                [self._inside(j, frames) for j in range(start, start + self.size)]
                for start in range(0, stop, stride)
            ]
        return [[(j + step * self.shift) % frames for j in window] for window in plain]

    def _inside(self, index: int, frames: int) -> int:
        if index < frames:
            return index
        return index % frames if self.beyond == "wrap" else frames - 2 - index % frames

    def _clean(self, frames: int, first: int) -> list[list[int]]:
        """From 0 on, then from `first` on in strides, and one that ends with the film."""
        last = max(frames - self.size, 0)
        starts = sorted({0, *range(first, last, self.size - self.overlap), last})
        return [list(range(s, min(s + self.size, frames))) for s in starts]


@dataclass(frozen=True, kw_only=True)
class Laying:
    """What a user may change of a family's windows; None: the family's own."""

    overlap: int | None = None
    shift: int | None = None
    beyond: Beyond | None = None

    def of(self, windows: Windows | None, family: str) -> Windows | None:
        """The family's windows, laid as wished."""
        wished = {name: value for name, value in asdict(self).items() if value is not None}
        if not wished:
            return windows
        if windows is None:
            raise UserError(
                f"{family} makes clip after clip, without windows; leave --{' and --'.join(wished)} out"
            )
        if wished.get("overlap", 0) >= windows.size:
            raise UserError(
                f"found --overlap {self.overlap}, but {family}'s windows have {windows.size} frames; "
                f"give 0 to {windows.size - 1}"
            )
        return replace(windows, **wished)


class Blend:
    """The mean of what the windows say of each frame; every window counts alike, without taper.

    Add windows in their own order, whatever device finished first, and the sum is the same to the last bit.
    """

    def __init__(self, frames: int, *, axis: int = 1) -> None:
        self.counts = torch.zeros(frames)
        self.axis = axis
        self._total: Tensor | None = None

    def add(self, window: Sequence[int], said: Float[Tensor, "..."]) -> None:
        """What the network said of a window's frames, along `axis`.

        Where a frame stands twice in a window (mirrored ends), its later place counts.
        """
        if said.shape[self.axis] != len(window):
            raise ValueError(
                f"a window of {len(window)} frames got {said.shape[self.axis]} on axis {self.axis}"
            )
        place = {frame: position for position, frame in enumerate(window)}
        if len(place) < len(window):
            said = said.index_select(
                self.axis, torch.tensor(list(place.values()), device=said.device)
            )
        if self._total is None:
            shape = list(said.shape)
            shape[self.axis] = len(self.counts)
            self._total = said.new_zeros(shape)
        where = torch.tensor(list(place))
        self._total.index_add_(
            self.axis, where.to(self._total.device), said.to(self._total.device, self._total.dtype)
        )
        self.counts[where] += 1.0

    def mean(self) -> Float[Tensor, "..."]:
        """The whole film's prediction."""
        if self._total is None or not bool(self.counts.all()):
            missing = int((self.counts == 0).nonzero()[0])
            raise ValueError(f"no window has said anything of frame {missing}")
        shape = [1] * self._total.dim()
        shape[self.axis] = -1
        return self._total / self.counts.to(self._total).view(shape)


def share(windows: Sequence[list[int]], devices: int) -> list[list[list[int]]]:
    """The windows dealt to devices in neighbouring runs of almost equal length; idle devices get none."""
    bounds = [round(i * len(windows) / devices) for i in range(devices + 1)]
    return [list(windows[a:b]) for a, b in itertools.pairwise(bounds)]
