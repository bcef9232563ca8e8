"""What the latent stage trains on: a person's picture, consecutive frames, and what is known of each."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class FilmExamples:
    """A batch: b people, n consecutive frames of each, of which the first `before` are motion frames."""

    reference: Float[Tensor, "b 3 h w"]
    """Another picture of the same person."""
    frames: Float[Tensor, "b n 3 h w"]
    before: int = 0
    audio: Float[Tensor, "b n layers a"] | None = None
    """Speech features."""
    maps: Float[Tensor, "b _ c h w"] | None = None
    """Guidance maps of the n frames, or one for all."""
    confidence: Float[Tensor, "b n 2"] | None = None
    speed: Float[Tensor, "b n"] | None = None
    """Turning speed of the head, 1 being usual (EMO §3.2)."""

    def part(self, frames: slice, *, before: int) -> FilmExamples:
        """Some of the frames, with all that belongs to them."""

        def cut(values: Tensor | None) -> Tensor | None:
            return values if values is None or values.shape[1] == 1 else values[:, frames]

        return replace(
            self,
            frames=self.frames[:, frames],
            before=before,
            audio=cut(self.audio),
            maps=cut(self.maps),
            confidence=cut(self.confidence),
            speed=cut(self.speed),
        )

    def to(self, device: torch.device | str) -> FilmExamples:
        """The same on another device."""
        tensors = {f.name: getattr(self, f.name) for f in fields(self)}
        moved = {name: t.to(device) for name, t in tensors.items() if isinstance(t, Tensor)}
        return replace(self, **moved)


@dataclass(frozen=True, kw_only=True)
class Dropping:
    """Shares of training examples in which something is withheld, each on its own **(ours; E1 states none)**."""

    motion: float = 0.2
    """Motion frames become zeros: a film's first clip."""
    audio: float = 0.05
    reference: float = 0.05
    """So that guidance has an unconditional half."""


def drop_parts(count: int, share: float, generator: torch.Generator) -> Bool[Tensor, " b"]:
    """Which examples go without."""
    return torch.rand(count, generator=generator) < share
