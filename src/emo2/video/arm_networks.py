"""What is learned of arms: how to cut them out of a photo, and how they move."""

from __future__ import annotations

import copy

from torch import Tensor, nn

from emo2.signals import Portrait
from emo2.video.arm_cutter import ArmCutter, ArmPictures
from emo2.video.arm_surface import ArmExamples, ArmSurface
from emo2.video.folded_hands import FoldedHands
from emo2.video.layers import Layers

ArmBatch = ArmExamples | ArmPictures


class ArmNetworks(nn.Module):
    """Trained apart from the rest of stage 2 and from each other."""

    def __init__(self) -> None:
        super().__init__()
        self.cutter = ArmCutter()
        self.surface = ArmSurface()

    def losses(self, batch: ArmBatch) -> dict[str, Tensor]:
        """Of the network that a batch is for."""
        if isinstance(batch, ArmPictures):
            return self.cutter.losses(batch)
        return self.surface.losses(batch)

    def layers(self, portrait: Portrait) -> Layers:
        """The arms of a photo; layers work on the CPU."""
        surface, cutter = copy.deepcopy(self.surface).cpu(), copy.deepcopy(self.cutter).cpu()
        return Layers.build(portrait, surface=surface, cutter=cutter)

    def folded(self, portrait: Portrait) -> FoldedHands | None:
        """The hands of a photo that lie in each other; None of any other photo."""
        return FoldedHands.build(portrait, copy.deepcopy(self.cutter).cpu())
