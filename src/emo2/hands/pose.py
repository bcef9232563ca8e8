"""Hand poses from what one can say in words: where the fingers point, where the palm looks, how far each curls."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

from emo2.hands.model import swap_frame, to_numbers
from emo2.hands.rotations import axis_angle_to_matrix

FINGERS = ("thumb", "index", "middle", "ring", "pinky")
"""Order of `curl`."""

_FIRST_JOINT = {"index": 1, "middle": 4, "pinky": 7, "ring": 10, "thumb": 13}
_SHARES = (1.0, 1.15, 0.75)  # of a finger's curl at its three joints
FINGER_FAN = {"index": 0.13, "middle": 0.0, "ring": -0.27, "pinky": -0.42}
"""Radians by which the fingers fan out at zero pose, towards the thumb: each bends in its own plane."""
_SPREAD = {"index": 1.0, "middle": 0.15, "ring": -0.6, "pinky": -1.3}
_CLOSING = 0.75  # share of the fan that closes as the hand becomes a fist: curled fingers point at one spot
_FIST = 1.4
_THUMB_SHARES = (0.35, 0.45, 0.7)
THUMB_AXIS = (
    0.71,
    -0.69,
    0.0,
)  # turns the thumb across the palm, towards the little finger's root


def shape_hand(
    side: str,
    wrist: Float[Tensor, "*b 3"],
    *,
    fingers_to: Float[Tensor, "*b 3"],
    palm_to: Float[Tensor, "*b 3"],
    curl: Float[Tensor, "*b 5"],
    spread: Float[Tensor, "*b"] | float = 0.0,
) -> Float[Tensor, "*b 67"]:
    """Numbers of one hand.  All directions and the wrist in the picture frame (x right, y down, z to the camera).

    `fingers_to`: along the palm towards the middle finger's root; `palm_to`: out of the palm (need not be exactly
    perpendicular).  `curl` in radians per finger (`FINGERS`): 0 straight, about 1.4 a fist; it is shared among
    the finger's three joints.  `spread` in radians fans the four fingers out.
    """
    zero = torch.zeros_like(wrist)
    towards = swap_frame(torch.cat((zero.new_zeros(*zero.shape[:-1], 64), fingers_to), -1), side)[
        ..., 64:
    ]
    palm = swap_frame(torch.cat((zero.new_zeros(*zero.shape[:-1], 64), palm_to), -1), side)[
        ..., 64:
    ]
    root = (
        _frame(towards, palm)
        @ _frame(wrist.new_tensor((-1.0, 0, 0)), wrist.new_tensor((0, -1.0, 0))).T
    )
    bends = bend_fingers(curl, spread)
    rotations = torch.cat((root[..., None, :, :], axis_angle_to_matrix(bends)), -3)
    numbers = swap_frame(to_numbers(rotations, zero), side)
    return torch.cat((numbers[..., :64], wrist), -1)


def bend_fingers(
    curl: Float[Tensor, "*b 5"], spread: Float[Tensor, "*b"] | float = 0.0
) -> Float[Tensor, "*b 15 3"]:
    """Axis-angle of the 15 finger joints of a right hand (MANO order, model frame)."""
    spread = torch.as_tensor(spread, dtype=curl.dtype, device=curl.device).expand(curl.shape[:-1])
    bends = [curl.new_zeros(*curl.shape[:-1], 3)] * 15
    thumb_axis = torch.nn.functional.normalize(curl.new_tensor(THUMB_AXIS), dim=0)
    for index, finger in enumerate(FINGERS):
        first, amount = _FIRST_JOINT[finger] - 1, curl[..., index, None]
        shares = _THUMB_SHARES if finger == "thumb" else _SHARES
        axis = thumb_axis
        if finger != "thumb":
            fan = FINGER_FAN[finger]
            axis = curl.new_tensor((math.sin(fan), 0.0, math.cos(fan)))
        for step, share in enumerate(shares):
            bends[first + step] = amount * share * axis
        if finger != "thumb":
            closed = (curl[..., index] / _FIST).clamp(0, 1) * _CLOSING * FINGER_FAN[finger]
            bends[first] = (
                bends[first]
                + curl.new_tensor((0.0, 1.0, 0.0)) * (spread * _SPREAD[finger] - closed)[..., None]
            )
    return torch.stack(bends, -2)


def _frame(fingers_to: Tensor, palm_to: Tensor) -> Float[Tensor, "*b 3 3"]:
    """Columns: fingers, palm (made perpendicular), thumb side."""
    along = torch.nn.functional.normalize(fingers_to, dim=-1)
    out = palm_to - (palm_to * along).sum(-1, keepdim=True) * along
    out = torch.nn.functional.normalize(out, dim=-1)
    return torch.stack((along, out, torch.linalg.cross(along, out)), -1)
