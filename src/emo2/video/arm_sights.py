"""Arms of a portrait as the cutter sees them: what is arm, and elbows that the portrait finder was not sure of.

Part of the arm layers (design §6); runs once per photo.
"""

from __future__ import annotations

from collections.abc import Container
from dataclasses import replace

import numpy as np
import torch
from jaxtyping import UInt8

from emo2.signals import HAND_SIDES, Portrait
from emo2.video.arm_cutter import ArmCutter, ArmShares, ArmSight, hanging_elbow, see_arm
from emo2.video.layer_masks import Limb, draw_hand, find_limb

_SURE = 0.5
"""Confidence from which the finder's elbow is believed (its error there is a third of that below, on renders)."""
_KNOWN = 0.5
"""Mean share of arm on the palm from which the cutter knows the arm."""


def see_arms(
    cutter: ArmCutter,
    pixels: UInt8[np.ndarray, "h w 3"],
    found: Portrait,
    portrait: Portrait,
    *,
    skip: Container[int] = (),
) -> tuple[Portrait, dict[int, ArmSight]]:
    """The portrait with elbows where the cutter sees them, and what it says of the arms that it knows, by side.

    `found`: the portrait as the finder left it, whose confidence in elbows counts; `skip`: sides not to look at.
    """
    sights: dict[int, ArmSight] = {}
    body = portrait.body_points.clone()
    for side in range(len(HAND_SIDES)):
        limb = find_limb(portrait, side)
        if side in skip or not isinstance(limb, Limb):
            continue
        unsure = float(found.body_points[4 + side, 2]) < _SURE
        if unsure:
            shoulder = body[2 + side, :2].numpy().astype(np.float32)
            limb = replace(limb, shoulder=shoulder, elbow=hanging_elbow(shoulder, limb.unit, side))
        sight = see_arm(cutter, pixels, limb, _other(found, side))
        if not knows(sight.shares, limb):
            continue
        sights[side] = sight
        if unsure and sight.elbow is not None:
            body[4 + side, :2] = torch.from_numpy(sight.elbow)
            body[4 + side, 2] = _SURE
    return replace(portrait, body_points=body), sights


def _other(portrait: Portrait, side: int) -> np.ndarray:
    """Shoulder, elbow and wrist of the other arm."""
    return portrait.body_points[[3 - side, 5 - side, 7 - side], :2].numpy().astype(np.float32)


def knows(shares: ArmShares, limb: Limb) -> bool:
    """Whether the cutter sees an arm where the finder found its hand."""
    palm = np.zeros(shares.shape[1:], np.uint8)
    draw_hand(palm, limb, 1, 1, palm=True)
    return float(shares[2:].sum(0)[palm > 0].mean()) > _KNOWN
