"""Speech opens a mouth as far as it asks, whatever the photo's lips were read as (ours).

The closed lips of real photos are often read as somewhat parted (`own_actions`).  Taken off what speech asks, that costs
quiet speech most of its opening; taken off at rest, it only closes lips the more surely.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from emo2 import signals
from emo2.video.examples import FACE_ACTIONS
from emo2.video.own_actions import natural

OPENS = tuple(
    name.startswith(("jawOpen", "mouthLowerDown", "mouthUpperUp")) for name in signals.FACE_ACTIONS
)
WHOLE = 0.1
"""What speech must ask of an action for all of the photo's own to be left out."""
DOUBTED = 0.2
"""The most of an own action that may be a misreading: lips that are farther apart are."""


def as_asked(
    conditions: Float[Tensor, "b f 64"], own: Float[Tensor, "b 52"]
) -> Float[Tensor, "b f 64"]:
    """Conditions from which `own_actions.against` takes the photo's own opening off at rest alone."""
    opens = torch.tensor(OPENS, device=conditions.device)
    doubt = natural(own).clamp(0.0, DOUBTED) * opens
    face = conditions[..., :FACE_ACTIONS]
    face = face + doubt[:, None] * (face / WHOLE).clamp(0.0, 1.0)
    return torch.cat([face, conditions[..., FACE_ACTIONS:]], dim=-1)
