"""What a film is made from, read clip by clip: voice, motion, guidance maps, noise."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from emo2.hands import slice_motion
from emo2.signals import GuidanceMaps, Motion, SpeechFeatures
from emo2.video.layer_motion import ArmPoses
from emo2.video.views import View

DrawMaps = Callable[[int, int, Tensor, int], GuidanceMaps]
"""(first, stop, box, size): guidance maps of the frames first..stop in a box of the photo (x0, y0, x1, y1 in
pixels, as floats), at `size` pixels a side.  Drawn when a clip is made, so that memory does not grow."""


def condition_vector(motion: Motion) -> Float[Tensor, "frames 64"]:
    """Face actions, head and torso of a motion; zero where it has none (the photo's own pose)."""
    count = len(motion)
    parts = [(motion.face, 52), (motion.head, 6), (motion.body, 6)]
    return torch.cat(
        [torch.zeros(count, n) if part is None else part.float() for part, n in parts], dim=-1
    )


@dataclass(frozen=True, kw_only=True)
class Script:
    """Everything that happens in the film, whoever is seen in it."""

    features: SpeechFeatures
    motion: Motion
    maps: DrawMaps | None
    arms: ArmPoses | None
    """Where the arms' layers go; None where none move."""
    seed: int
    steps: int

    def conditions(self, first: int, stop: int) -> Float[Tensor, "1 f 64"]:
        """Condition vectors of some frames."""
        return condition_vector(slice_motion(self.motion, first, stop))[None]

    def audio(self, first: int, stop: int) -> Float[Tensor, "1 f layers a"]:
        """Feature rows of some frames; the last row again where the voice ends before the motion."""
        rows = torch.arange(first, stop).clamp(max=len(self.features.values) - 1)
        return self.features.values[rows.to(self.features.values.device)][None]

    def noise(self, shape: tuple[int, ...], clip: int, view: int) -> Tensor:
        """A clip's noise: it depends on the seed, the clip and the view alone."""
        generator = torch.Generator().manual_seed(
            (self.seed * 1_000_003 + clip * 16 + view) % 2**63
        )
        return torch.randn(shape, generator=generator)

    def guidance(
        self, view: View, size: int, first: int, stop: int
    ) -> tuple[Tensor, Tensor] | None:
        """Maps (1 f 7 size size) in a view and the hands' confidence (1 f 2) of some frames, if there are any."""
        if self.maps is None:
            return None
        box = (view.left, view.top, view.left + view.side, view.top + view.side)
        drawn = self.maps(first, stop, torch.tensor(box, dtype=torch.float32), size)
        region = drawn.face_region.expand(stop - first, -1, -1, -1)
        maps = torch.cat([drawn.hand_surface, drawn.key_points, region], dim=1)
        return maps[None], drawn.confidence[None]


def quantise(frames: Float[Tensor, "n 3 s s"]) -> Tensor:
    """To bytes, as what goes to disk; what a resumed run reads is then what an unbroken one goes on with."""
    return ((frames + 1.0) * 127.5).round().clamp(0, 255).to(torch.uint8)


def dequantise(values: Tensor) -> Float[Tensor, "*shape"]:
    """The inverse of `quantise`."""
    return values.float() / 127.5 - 1.0
