"""A portrait at the size of its film: scaled, and cut around the face where the format differs."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from emo2.signals import FOLDED, Portrait


def reframe(portrait: Portrait, size: tuple[int, int] | None, longest: int) -> Portrait:
    """The portrait at `size` (height, width); None: its own size, its long side at most `longest`.

    Another format than the photo's fills the frame: what is cut off is taken from the side that is
    farther from the face.
    """
    height, width = portrait.size
    if size is None:
        scale = min(1.0, longest / max(height, width))
        size = (round(height * scale), round(width * scale))
    if size == portrait.size:
        return portrait
    scale = max(size[0] / height, size[1] / width)
    inner = (max(size[0], round(height * scale)), max(size[1], round(width * scale)))
    factor = torch.tensor([inner[1] / width, inner[0] / height])
    centre = (portrait.face_box.view(2, 2).mean(0) * factor).tolist()
    x0 = _offset(centre[0], size[1], inner[1])
    y0 = _offset(centre[1], size[0], inner[0])
    shift = torch.tensor([float(x0), float(y0)])

    def picture(values: Tensor) -> Tensor:
        scaled = interpolate(values[None], inner, mode="bicubic", antialias=True)[0]
        return scaled[:, y0 : y0 + size[0], x0 : x0 + size[1]].contiguous()

    def points(values: Tensor) -> Tensor:
        return torch.cat([values[..., :2] * factor - shift, values[..., 2:]], dim=-1)

    hand_points = points(portrait.hand_points)
    limits = torch.tensor([size[1], size[0]])
    inside = (
        ((hand_points[..., :2] >= 0) & (hand_points[..., :2] <= limits)).all(-1).float().mean(-1)
    )
    folded = portrait.folded and bool(inside.min() > 0.9)
    notes = tuple(note for note in portrait.notes if folded or note != FOLDED)
    limbs, parts = portrait.limb_masks, portrait.body_masks
    return replace(
        portrait,
        image=picture(portrait.image).clamp(-1, 1),
        face_box=points(portrait.face_box.view(2, 2)).flatten(),
        face_points=points(portrait.face_points),
        body_points=points(portrait.body_points),
        hand_points=hand_points,
        hands_present=(
            portrait.hands_present[0] and bool(inside[0] > 0.8),
            portrait.hands_present[1] and bool(inside[1] > 0.8),
        ),
        folded=folded,
        notes=notes,
        limb_masks=None if limbs is None else picture(limbs).clamp(0, 1),
        body_masks=None if parts is None else picture(parts).clamp(0, 1),
    )


def _offset(centre: float, side: int, inner: int) -> int:
    """Where a cut of `side` begins so that `centre` is as near its middle as `inner` allows."""
    return int(min(max(round(centre - side / 2), 0), inner - side))
