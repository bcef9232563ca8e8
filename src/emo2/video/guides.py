"""What a family's guidance encoder is shown of motion and photo, at the film's size."""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from emo2.guidance import draw, fit_camera
from emo2.signals import Motion, Portrait
from emo2.video.face_regions import regions_of
from emo2.video.hand_skeleton import draw_hand_skeletons

Guide = Literal["surface", "hand_skeleton", "face_region", "face_box"]
"""EMO2's maps (hand surface, key points, face region); EchoMimic v2's hands; Hallo's region; EchoMimic v1's box."""

STILL: tuple[Guide, ...] = ("face_region", "face_box")
"""One picture serves the whole film."""


def guide_maps(
    guide: Guide, portrait: Portrait, motion: Motion, frames: range
) -> Float[Tensor, "1 f c h w"]:
    """The maps of some frames, or the one picture that serves all."""
    if guide in STILL:
        locator = regions_of(portrait, levels=0).locator
        return locator[None, None, : 1 if guide == "face_box" else 3]
    camera = fit_camera(portrait)
    if guide == "hand_skeleton":
        return draw_hand_skeletons(motion, camera, portrait.size, frames=frames)[None]
    drawn = draw(motion, camera, portrait.size, frames=frames)
    region = drawn.face_region.expand(len(frames), -1, -1, -1)
    return torch.cat([drawn.hand_surface, drawn.key_points, region], dim=1)[None]
