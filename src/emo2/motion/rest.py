"""Hands in silence (ours): they come to rest where they are, and set off again with the voice."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from emo2.motion.channels import HANDS

_FOLLOWS_AT_REST = 0.02
"""Share of the way to the planned pose that a resting hand goes in a frame: a second and more for a move."""

_SETTLES, _SETS_OFF = 0.6, 1.4
"""How much less, or more, of the way it goes from one frame to the next."""


class Rest:
    """Follows the hands' plan closely in speech and hardly in silence; one frame after the other."""

    def __init__(self) -> None:
        self.hands = torch.zeros(0)
        self.follows = 1.0

    def add(
        self, rows: Float[Tensor, "n c"], activity: Float[Tensor, " n"]
    ) -> Float[Tensor, "n c"]:
        """The next rows; the very first frame stays as it is."""
        calm = rows.clone()
        for k, share in enumerate(activity.tolist()):
            wanted = max(share, _FOLLOWS_AT_REST)
            # Neither stops nor starts at once: a hand has weight.
            self.follows = min(max(wanted, self.follows * _SETTLES), self.follows * _SETS_OFF, 1.0)
            there = rows[k, HANDS]
            if len(self.hands) and self.follows < 1.0:
                there = torch.lerp(self.hands, there, self.follows)
            self.hands = there
            calm[k, HANDS] = there
        return calm
