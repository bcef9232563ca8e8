"""The photo's own face actions: read once from its face, so that what is asked of a face counts from there (ours).

Head and torso are told to the networks against the photo; a face is told absolutely, and a photo that smiles already
has part of it.  The difference is what moves.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from emo2 import signals
from emo2.nn import zeroed
from emo2.video.details import cut_window
from emo2.video.examples import (
    FACE_ACTIONS,
    FACE_VIEW,
    MIRROR_ACTIONS,
    UNITS,
    Examples,
    is_still,
)
from emo2.video.face_table import HIGH, LOW, axes_of

SIDE = 96
"""Pixels a side of the face as it is read: the table's window (`face_table`)."""
WIDTHS = (24, 48, 96, 128)
READ = 24
CELLS = 6
KEPT = ("brow", "cheek", "nose", "eye", "mouthSmile", "mouthFrown", "mouthDimple")
"""How the names of actions begin that are a face's expression, not its speech."""
EXPRESSION = tuple(name.startswith(KEPT) for name in signals.FACE_ACTIONS)


class OwnActions(nn.Module):
    """A photo's 52 face actions, in `UNITS`."""

    def __init__(self) -> None:
        super().__init__()
        channels = (3, *WIDTHS)
        strides = (2, 2, 2, 1)
        self.look = nn.Sequential(
            *(
                layer
                for k, stride in enumerate(strides)
                for layer in (nn.Conv2d(channels[k], channels[k + 1], 3, stride, 1), nn.SiLU())
            ),
            nn.Conv2d(WIDTHS[-1], READ, 1),
            nn.SiLU(),
            nn.AdaptiveAvgPool2d(CELLS),
        )
        self.read = nn.Sequential(
            nn.Linear(READ * CELLS**2, 256),
            nn.SiLU(),
            zeroed(nn.Linear(256, FACE_ACTIONS)),  # nothing is known yet: a neutral face
        )

    def forward(
        self, images: Float[Tensor, "b 3 s s"], marks: Float[Tensor, "b 3 2"]
    ) -> Float[Tensor, "b 52"]:
        """`images`: views; `marks`: mouth and eyes in view units.  The mean of what a face and its mirror image say."""
        with torch.autocast(images.device.type, enabled=False):
            faces = cut_window(images.float(), face_places(marks.float()))
        faces = faces - faces.mean((1, 2, 3), keepdim=True)
        said = self.read(self.look(torch.cat([faces, faces.flip(-1)])).flatten(1)).float()
        one, other = said.chunk(2)
        return (one + other[:, MIRROR_ACTIONS]) / 2


def face_places(marks: Float[Tensor, "b 3 2"]) -> Float[Tensor, "b s s 2"]:
    """The pixels of the face's window, in views' sides."""
    origin, axes = axes_of(marks)
    middles = (torch.arange(SIDE, device=marks.device) + 0.5) / SIDE
    low, high = (torch.tensor(corner).to(marks) for corner in (LOW, HIGH))
    v, u = torch.meshgrid(middles, middles, indexing="ij")
    away = low + torch.stack([u, v], dim=-1) * (high - low)
    return origin[:, None, None] + torch.einsum("bij,yxj->byxi", axes, away)


def natural(own: Float[Tensor, "b 52"]) -> Float[Tensor, "b 52"]:
    """Own actions as face actions, 0 to 1, from `UNITS`."""
    return own * UNITS[:FACE_ACTIONS].to(own)


def against(
    conditions: Float[Tensor, "b f 64"], own: Float[Tensor, "b 52"], view: Float[Tensor, " b"]
) -> Float[Tensor, "b f 64"]:
    """Conditions with the face's actions, too, against the photo's; none in views of the body.

    There a face is too small to be read, and the face's own view lies over it.
    """
    face = conditions[..., :FACE_ACTIONS] - natural(own)[:, None]
    face = face * (view == FACE_VIEW).to(face).view(-1, 1, 1)
    return torch.cat([face, conditions[..., FACE_ACTIONS:]], dim=-1)


def keep_expression(
    conditions: Float[Tensor, "b f 64"], own: Float[Tensor, "b 52"]
) -> Float[Tensor, "b f 64"]:
    """What a film asks of a face whose photo smiles or frowns: speech as it is, expressions on top of the photo's."""
    kept = torch.tensor(EXPRESSION, device=conditions.device)
    has = natural(own).clamp(0.0, 1.0) * kept.to(own)
    face = conditions[..., :FACE_ACTIONS]
    face = torch.where(kept, has[:, None] + (1.0 - has[:, None]) * face, face)
    return torch.cat([face, conditions[..., FACE_ACTIONS:]], dim=-1)


def reading_loss(network: OwnActions, batch: Examples) -> Tensor:
    """`own_loss` over the references, and over those frames whose heads are where the reference has them."""
    told = batch.known_groups()[:, 0]
    still = is_still(batch.conditions[..., FACE_ACTIONS:]) & told[:, None]
    count = batch.frames.shape[1]
    images = F.interpolate(batch.frames[still], batch.reference.shape[-2:], mode="bilinear")
    marks = batch.marks[:, None].expand(-1, count, -1, -1)[still]
    found = network(torch.cat([batch.reference, images]), torch.cat([batch.marks, marks]))
    actions = batch.conditions[..., :FACE_ACTIONS][still]
    known = torch.cat([told, still[still]])
    return own_loss(found, torch.cat([batch.reference_actions, actions]), known)


def own_loss(
    found: Float[Tensor, "b 52"], own: Float[Tensor, "b 52"], known: Bool[Tensor, " b"]
) -> Tensor:
    """How far the photo's own face actions were read wrongly, where they are known."""
    error = (found - own / UNITS[:FACE_ACTIONS].to(own)).square().mean(-1)
    return (error * known).sum() / known.sum().clamp(min=1)
