"""SMPL-X sequences (BEAT2, SHOW) as `Motion`: hands where the arms' rotations put them.

The body model is its owner's, so the arms hang on a stand-in skeleton of an adult's usual measures (ours), with the
shoulders as far apart as everywhere here.  Where the body stands and which way it turns is left out.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from emo2.hands.foreign import smplx_fingers
from emo2.hands.model import from_mano
from emo2.hands.rotations import axis_angle_to_matrix
from emo2.signals import Motion

_SPINE = (3, 6, 9)
_ARMS = ((13, 16, 18, 20), (14, 17, 19, 21))
"""Left, right: collar, shoulder, elbow, wrist of SMPL-X's joints."""
_OFFSETS = {
    3: (0.0, 0.11, -0.02), 6: (0.0, 0.13, 0.01), 9: (0.0, 0.05, 0.01),
    13: (0.05, 0.11, -0.01), 16: (0.13, 0.03, -0.02), 18: (0.27, -0.01, -0.01), 20: (0.25, 0.01, 0.0),
}  # fmt: skip
"""Metres from the parent at rest (arms out, x to the person's left, y up, z to the front); right is the mirror."""


def smplx_motion(
    poses: Float[Tensor, "frames n"],
    fps: float,
    left_mean: Float[Tensor, "45"] | None = None,
    right_mean: Float[Tensor, "45"] | None = None,
) -> Motion:
    """Both hands of a sequence of 165 pose numbers a frame; means as in `smplx_fingers`."""
    fingers = smplx_fingers(poses, left_mean, right_mean)
    turns = axis_angle_to_matrix(poses.float().unflatten(-1, (55, 3)))
    wrists, world = _arms(turns)
    flip = torch.diag(torch.tensor((-1.0, 1.0, 1.0)))
    hands = []
    for side, name in enumerate(("left", "right")):
        rotations = torch.cat((world[side][:, None], fingers[side].float()), 1)
        if name == "left":  # told as the right hand that is its mirror image
            rotations = flip @ rotations @ flip
        hands.append(from_mano(rotations, wrists[:, side], name))
    ones = torch.ones(len(poses), 2)
    return Motion(
        hands=torch.stack(hands, 1), visibility=ones, confidence=ones.clone(),
        betas=torch.zeros(10), fps=fps,
    )  # fmt: skip


def _arms(
    turns: Float[Tensor, "frames 55 3 3"],
) -> tuple[Float[Tensor, "frames 2 3"], list[Float[Tensor, "frames 3 3"]]]:
    """Wrists in the picture frame about the middle of the shoulders, and their rotations (SMPL-X axes)."""
    place = turns.new_zeros(len(turns), 3)
    turn = torch.eye(3).expand(len(turns), 3, 3)  # the root's own turn is left out
    for joint in _SPINE:
        place = place + turn @ turns.new_tensor(_OFFSETS[joint])
        turn = turn @ turns[:, joint]
    shoulders, wrists, world = [], [], []
    for side, chain in enumerate(_ARMS):
        at, own = place, turn
        for joint, left in zip(chain, _ARMS[0], strict=True):
            offset = turns.new_tensor(_OFFSETS[left])
            offset = offset if side == 0 else offset * turns.new_tensor((-1.0, 1.0, 1.0))
            at = at + (own @ offset[:, None]).squeeze(-1)
            own = own @ turns[:, joint]
            if joint == chain[1]:
                shoulders.append(at)
        wrists.append(at)
        world.append(own)
    middle = (shoulders[0] + shoulders[1]) / 2
    picture = (torch.stack(wrists, 1) - middle[:, None]) * turns.new_tensor((1.0, -1.0, 1.0))
    return picture, world
