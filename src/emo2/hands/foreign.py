"""Hand motion of others' formats: SMPL-X sequences, and the estimators HaMeR and WiLoR.

Each differs from the next in what zero pose means, in the frame of the first rotation and in how a left hand is
told; this module is where those differences end.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from emo2.hands.model import from_mano
from emo2.hands.rotations import axis_angle_to_matrix

SMPLX_LEFT = slice(25 * 3, 40 * 3)
SMPLX_RIGHT = slice(40 * 3, 55 * 3)
"""Columns of the finger joints in SMPL-X poses (T, 165); MANO's order within."""


def smplx_fingers(
    poses: Float[Tensor, "frames n"],
    left_mean: Float[Tensor, "45"] | None = None,
    right_mean: Float[Tensor, "45"] | None = None,
) -> tuple[Float[Tensor, "frames 15 3 3"], Float[Tensor, "frames 15 3 3"]]:
    """Finger rotations of both hands (left in its own, right in its own frame) of an SMPL-X sequence.

    SMPL-X stores poses against the mean hand unless told otherwise (`flat_hand_mean=False` is its default): give
    the file's `hands_meanl` and `hands_meanr`; None means that the poses are already against the flat hand.
    """
    if poses.shape[-1] != 165:
        raise ValueError(f"found {poses.shape[-1]} pose numbers, expected SMPL-X's 165")
    hands = []
    for columns, mean in ((SMPLX_LEFT, left_mean), (SMPLX_RIGHT, right_mean)):
        pose = poses[:, columns] if mean is None else poses[:, columns] + mean
        hands.append(axis_angle_to_matrix(pose.unflatten(-1, (15, 3))))
    return hands[0], hands[1]


def hamer_hand(
    global_orient: Float[Tensor, "*b 1 3 3"],
    hand_pose: Float[Tensor, "*b 15 3 3"],
    wrist: Float[Tensor, "*b 3"],
    side: str,
) -> Float[Tensor, "*b 67"]:
    """`pred_mano_params` of HaMeR or WiLoR and a wrist in the picture frame, as one hand of `Motion`.

    Their rotations are against the flat hand, in a camera frame of x right, y down, z *away*: a half turn about x
    from MANO's.  A left hand is told as the right hand of the mirrored crop, which is what `from_mano` expects.
    """
    half_turn = torch.diag(global_orient.new_tensor((1.0, -1.0, -1.0)))
    return from_mano(torch.cat((half_turn @ global_orient, hand_pose), -3), wrist, side)


def hamer_translation(
    camera: Float[Tensor, "*b 3"],
    box_centre: Float[Tensor, "*b 2"],
    box_side: Float[Tensor, "*b"],
    size: tuple[int, int],
    *,
    left: bool,
) -> Float[Tensor, "*b 3"]:
    """Crop camera (s, tx, ty) to a translation before the whole picture's camera (x right, y down, z away).

    The focal length is 5000 / 256 times the picture's longer side, so the depth is only a convention.  A left
    hand was seen mirrored: its tx changes sign (and so do the x of its vertices).
    """
    height, width = size
    scale, tx, ty = camera.unbind(-1)
    tx = -tx if left else tx
    spread = scale * box_side
    focal = 5000 / 256 * max(height, width)
    return torch.stack(
        (
            tx + 2 * (box_centre[..., 0] - width / 2) / spread,
            ty + 2 * (box_centre[..., 1] - height / 2) / spread,
            2 * focal / spread,
        ),
        -1,
    )
