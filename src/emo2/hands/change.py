"""What a hand of `Motion` does against its first frame: turn in the picture's plane, tilt out of it, bends of its joints.

The same numbers move the photo's own hand, whatever pose it has there (ours).
"""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from emo2.hands.fit import flexion_axes
from emo2.hands.model import swap_frame
from emo2.hands.rotations import matrix_to_axis_angle, multiply_quaternions, quaternion_to_matrix
from emo2.signals import HAND_SIDES

TURN, TILT, FLEX = slice(0, 1), slice(1, 3), slice(3, 18)
"""Parts of a change."""


def hand_change(
    hands: Float[Tensor, "frames 2 67"], opening: Float[Tensor, "1 2 67"]
) -> Float[Tensor, "frames 2 18"]:
    """Radians: turn (clockwise in the image, unwrapped), tilt about the picture's x and y, bends in MANO's order."""
    roots, first = hands[..., :4], opening[..., :4]
    inverse = first * first.new_tensor((1.0, -1.0, -1.0, -1.0))
    relative = multiply_quaternions(roots, inverse.expand_as(roots))
    half_twist = torch.atan2(relative[..., 3], relative[..., 0])
    zero = torch.zeros_like(half_twist)
    untwist = torch.stack((half_twist.cos(), zero, zero, -half_twist.sin()), -1)
    leant = multiply_quaternions(relative, untwist)
    tilt = matrix_to_axis_angle(quaternion_to_matrix(leant))[..., :2]
    turn = torch.from_numpy(np.unwrap(2 * half_twist.numpy(), axis=0))[..., None]
    return torch.cat((turn.to(tilt), tilt, _bends(hands) - _bends(opening)), -1)


def _bends(hands: Float[Tensor, "frames 2 67"]) -> Float[Tensor, "frames 2 15"]:
    axes = flexion_axes().to(hands)
    sides = []
    for index, side in enumerate(HAND_SIDES):
        quaternions = swap_frame(hands[:, index], side)[:, 4:64].unflatten(-1, (15, 4))
        vectors = matrix_to_axis_angle(quaternion_to_matrix(quaternions))
        sides.append((vectors * axes).sum(-1))
    return torch.stack(sides, 1)
