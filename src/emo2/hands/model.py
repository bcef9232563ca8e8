"""The hand model: MANO's parameters to vertices and 21 key points, in torch.

Written from the published equations (Romero et al. 2017, "Embodied Hands", eq. 1-4; Loper et al. 2015,
"SMPL").  One right-hand model serves both hands: the left one is its mirror image, because MANO's own
left-hand file has a known fault in its shape directions.

Two frames meet here.  The *model frame* is MANO's: right-handed, metres; at zero pose the right hand's
fingers point to -x, the palm to -y, the thumb to +z.  The *picture frame* is `Motion`'s (design §3): x to
the image's right, y down, z to the camera, which is left-handed.  `REFLECTION` leads from one to the other;
rotations follow by R' = F R F, and a right hand stays a right hand in the picture.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from emo2.hands.rotations import axis_angle_to_matrix, matrix_to_quaternion, quaternion_to_matrix
from emo2.signals import HAND_NUMBERS

JOINTS = (
    "wrist", "index1", "index2", "index3", "middle1", "middle2", "middle3", "pinky1", "pinky2", "pinky3",
    "ring1", "ring2", "ring3", "thumb1", "thumb2", "thumb3",
)  # fmt: skip
"""MANO's order: note that pinky comes before ring and the thumb is last."""

PARENTS = (-1, 0, 1, 2, 0, 4, 5, 0, 7, 8, 0, 10, 11, 0, 13, 14)

POINT_ORDER = (0, 13, 14, 15, 16, 1, 2, 3, 17, 4, 5, 6, 18, 10, 11, 12, 19, 7, 8, 9, 20)
"""The 21 points (OpenPose, MediaPipe, FreiHAND) taken from the 16 joints and the tips T, I, M, R, P."""

MANO_TIPS = (744, 320, 443, 554, 671)
"""Tip vertices as smplx, HaMeR and WiLoR have them (manotorch: 745, 317, 444, 556, 673)."""

REFLECTION = (1.0, -1.0, 1.0)
"""Diagonal of F: model frame (y up, right-handed) to picture frame (y down, left-handed), and back."""

_SIDE_SIGNS = {  # quaternion (w, x, y, z), then the wrist: picture frame -> frame of the right-hand model
    "right": ((1.0, -1.0, 1.0, -1.0), (1.0, -1.0, 1.0)),
    "left": ((1.0, -1.0, -1.0, 1.0), (-1.0, -1.0, 1.0)),
}


class Hands(NamedTuple):
    """Posed hands in the picture frame, metres."""

    vertices: Float[Tensor, "*b 2 v 3"]
    """Left, right."""
    points: Float[Tensor, "*b 2 21 3"]
    """OpenPose order."""


@dataclass(frozen=True, kw_only=True)
class HandModel:
    """A right hand in MANO's layout (model frame)."""

    name: str
    is_mano: bool
    """False for the free stand-in."""
    template: Float[Tensor, "v 3"]
    shape_dirs: Float[Tensor, "v 3 10"]
    joint_regressor: Float[Tensor, "16 v"]
    weights: Float[Tensor, "v 16"]
    faces: Int[Tensor, "f 3"]
    tips: tuple[int, int, int, int, int]
    """Vertices of thumb, index, middle, ring, pinky tip."""
    pose_dirs: Float[Tensor, "v 3 135"] | None = None
    """None where there are none (the stand-in)."""
    mean_pose: Float[Tensor, "45"] = field(default_factory=lambda: torch.zeros(45))
    """Axis-angle that MANO adds to the finger pose when `flat_hand_mean` is False."""
    components: Float[Tensor, "45 45"] = field(default_factory=lambda: torch.eye(45))
    """Rows: principal components of the finger pose."""

    def to(
        self, device: torch.device | str | None = None, *, dtype: torch.dtype | None = None
    ) -> HandModel:
        """The same model on another device or in another float type."""
        names = ("template", "shape_dirs", "joint_regressor", "weights", "mean_pose", "components")
        moved = {n: getattr(self, n).to(device=device, dtype=dtype) for n in names}
        if self.pose_dirs is not None:
            moved["pose_dirs"] = self.pose_dirs.to(device=device, dtype=dtype)
        return replace(self, **moved)

    def joints(self, betas: Float[Tensor, "*b 10"]) -> Float[Tensor, "*b 16 3"]:
        """Rest joints J(beta)."""
        base = self.joint_regressor @ self.template
        dirs = torch.einsum("jv,vck->jck", self.joint_regressor, self.shape_dirs)
        return base + torch.einsum("jck,...k->...jc", dirs, betas)

    def forward(
        self,
        rotations: Float[Tensor, "*b 16 3 3"],
        betas: Float[Tensor, "*#b 10"],
        translation: Float[Tensor, "*b 3"],
    ) -> tuple[Float[Tensor, "*b v 3"], Float[Tensor, "*b 21 3"]]:
        """Vertices and key points (model frame).  The root turns about J_0(beta), not about the origin."""
        vertices, posed = self._skin(rotations, betas, slice(None))
        points = torch.cat((posed, vertices[..., list(self.tips), :]), -2)[..., POINT_ORDER, :]
        shift = translation[..., None, :]
        return vertices + shift, points + shift

    def some(
        self,
        rotations: Float[Tensor, "*b 16 3 3"],
        betas: Float[Tensor, "*#b 10"],
        translation: Float[Tensor, "*b 3"],
        chosen: slice,
    ) -> tuple[Float[Tensor, "*b n 3"], Float[Tensor, "*b 21 3"]]:
        """`forward` with some of the vertices only."""
        order = [*range(len(self.template))[chosen], *self.tips]
        found, posed = self._skin(rotations, betas, order)
        points = torch.cat((posed, found[..., -5:, :]), -2)[..., POINT_ORDER, :]
        shift = translation[..., None, :]
        return found[..., :-5, :] + shift, points + shift

    def points(
        self,
        rotations: Float[Tensor, "*b 16 3 3"],
        betas: Float[Tensor, "*#b 10"],
        translation: Float[Tensor, "*b 3"],
    ) -> Float[Tensor, "*b 21 3"]:
        """The key points of `forward` alone: only the five tips are skinned (for losses)."""
        tips, posed = self._skin(rotations, betas, list(self.tips))
        return torch.cat((posed, tips), -2)[..., POINT_ORDER, :] + translation[..., None, :]

    def _skin(
        self,
        rotations: Float[Tensor, "*b 16 3 3"],
        betas: Float[Tensor, "*#b 10"],
        chosen: slice | list[int],
    ) -> tuple[Float[Tensor, "*b n 3"], Float[Tensor, "*b 16 3"]]:
        """Linear blend skinning of the chosen vertices, and the posed joints."""
        rest = self.joints(betas)
        rest = rest.expand(*rotations.shape[:-3], *rest.shape[-2:])
        world, posed = chain(rotations, rest)
        shaped = (
            torch.einsum("vck,...k->...vc", self.shape_dirs[chosen], betas) + self.template[chosen]
        )
        if self.pose_dirs is not None:
            bent = rotations[..., 1:, :, :] - torch.eye(
                3, dtype=rotations.dtype, device=rotations.device
            )
            shaped = shaped + torch.einsum(
                "vcp,...p->...vc", self.pose_dirs[chosen], bent.flatten(-3)
            )
        offset = posed - (world @ rest[..., None]).squeeze(-1)
        affine = torch.cat((world, offset[..., None]), -1)
        blended = torch.einsum("vj,...jrc->...vrc", self.weights[chosen], affine)
        vertices = (blended[..., :3] @ shaped[..., None]).squeeze(-1) + blended[..., 3]
        return vertices, posed

    def full_pose(
        self, pose: Float[Tensor, "*b 48"], *, flat_mean: bool
    ) -> Float[Tensor, "*b 16 3 3"]:
        """Axis-angle (global 3, fingers 45) to rotations.  `flat_mean=False` adds MANO's mean pose."""
        if not flat_mean:
            pose = torch.cat((pose[..., :3], pose[..., 3:] + self.mean_pose), -1)
        return axis_angle_to_matrix(pose.unflatten(-1, (16, 3)))

    def component_pose(self, amounts: Float[Tensor, "*b n"]) -> Float[Tensor, "*b 45"]:
        """Finger pose from the first n principal components (mean not added)."""
        return amounts @ self.components[: amounts.shape[-1]]


def chain(
    rotations: Float[Tensor, "*b 16 3 3"], rest: Float[Tensor, "*b 16 3"]
) -> tuple[Float[Tensor, "*b 16 3 3"], Float[Tensor, "*b 16 3"]]:
    """Forward kinematics: every joint's rotation and position in the model frame.

    All five fingers go down their three joints together.
    """
    first = [1, 4, 7, 10, 13]
    world: list[Tensor] = [rotations[..., :1, :, :]]
    place: list[Tensor] = [rest[..., :1, :]]
    turn, at = world[0], place[0]
    parents = [0] * 5
    for step in range(3):
        joints = [j + step for j in first]
        bone = rest[..., joints, :] - rest[..., parents, :]
        at = at + (turn @ bone[..., None]).squeeze(-1)
        turn = turn @ rotations[..., joints, :, :]
        world.append(turn)
        place.append(at)
        parents = joints
    order = [0, 1, 6, 11, 2, 7, 12, 3, 8, 13, 4, 9, 14, 5, 10, 15]  # level by level -> MANO's order
    return torch.cat(world, -3)[..., order, :, :], torch.cat(place, -2)[..., order, :]


def to_numbers(
    rotations: Float[Tensor, "*b 16 3 3"], wrist: Float[Tensor, "*b 3"]
) -> Float[Tensor, "*b 67"]:
    """A hand of `Motion`: 16 quaternions (w, x, y, z; w >= 0), then the wrist (picture frame)."""
    return torch.cat((matrix_to_quaternion(rotations).flatten(-2), wrist), -1)


def from_numbers(
    numbers: Float[Tensor, "*b n"],
) -> tuple[Float[Tensor, "*b 16 3 3"], Float[Tensor, "*b 3"]]:
    """The inverse of `to_numbers`; quaternions of any length are taken as directions."""
    if numbers.shape[-1] != HAND_NUMBERS:
        raise ValueError(
            f"found {numbers.shape[-1]} numbers a hand, expected {HAND_NUMBERS}: 16 quaternions and a wrist"
        )
    return quaternion_to_matrix(numbers[..., :64].unflatten(-1, (16, 4))), numbers[..., 64:]


def swap_frame(numbers: Float[Tensor, "*b 67"], side: str) -> Float[Tensor, "*b 67"]:
    """Picture frame to the right-hand model's frame, or back (its own inverse), for one side's numbers."""
    quaternion, wrist = _SIDE_SIGNS[side]
    signs = torch.tensor(quaternion * 16 + wrist, dtype=numbers.dtype, device=numbers.device)
    return numbers * signs


def mirror(numbers: Float[Tensor, "*b 67"]) -> Float[Tensor, "*b 67"]:
    """A left hand's numbers as the mirrored right hand's, or back: axis-angle (x, y, z) -> (x, -y, -z)."""
    signs = torch.tensor(
        (1.0, 1.0, -1.0, -1.0) * 16 + (-1.0, 1.0, 1.0), dtype=numbers.dtype, device=numbers.device
    )
    return numbers * signs


def pose_hands(
    model: HandModel, hands: Float[Tensor, "*b 2 67"], betas: Float[Tensor, "*#b 10"]
) -> Hands:
    """Both hands of `Motion.hands` (left, right) as meshes and key points in the picture frame."""
    rotations, translation, shape = _placed(model, hands, betas)
    vertices, points = model.forward(rotations, shape, translation)
    signs = _vertex_signs(hands)
    return Hands(vertices * signs, points * signs)


def hand_points(
    model: HandModel, hands: Float[Tensor, "*b 2 67"], betas: Float[Tensor, "*#b 10"]
) -> Float[Tensor, "*b 2 21 3"]:
    """The 21 key points a hand in the picture frame, metres; cheap and differentiable."""
    rotations, translation, shape = _placed(model, hands, betas)
    return model.points(rotations, shape, translation) * _vertex_signs(hands)


def picture_signs(side: str) -> Float[Tensor, "3"]:
    """Turns positions of the right-hand model's frame into those of that side's hand in the picture, and back."""
    return torch.tensor(_SIDE_SIGNS[side][1])


def hand_faces(model: HandModel, side: str) -> Int[Tensor, "f 3"]:
    """Faces of that side's mesh in the picture frame, wound so that (b - a) x (c - a) points outwards.

    The formula of the cross product is meant, in the picture's own numbers.  One reflection (right: F; left:
    F and the mirror, which together turn) reverses the winding.
    """
    return model.faces.flip(-1) if side == "right" else model.faces


def from_mano(
    rotations: Float[Tensor, "*b 16 3 3"],
    wrist: Float[Tensor, "*b 3"],
    side: str,
) -> Float[Tensor, "*b 67"]:
    """Right-hand MANO rotations (model frame) and a wrist in the picture frame, as numbers.

    For the left side pass the rotations of the right hand that is its mirror image.
    """
    numbers = swap_frame(to_numbers(rotations, torch.zeros_like(wrist)), side)
    return torch.cat((numbers[..., :64], wrist), -1)


def _placed(
    model: HandModel, hands: Float[Tensor, "*b 2 67"], betas: Float[Tensor, "*#b 10"]
) -> tuple[Tensor, Tensor, Tensor]:
    """Rotations, MANO translation and betas of both hands as right hands in the model frame."""
    ours = torch.stack(
        (swap_frame(hands[..., 0, :], "left"), swap_frame(hands[..., 1, :], "right")), -2
    )
    rotations, wrist = from_numbers(ours)
    shape = betas[..., None, :]
    return rotations, wrist - model.joints(shape)[..., 0, :], shape


def _vertex_signs(hands: Tensor) -> Float[Tensor, "2 1 3"]:
    signs = [_SIDE_SIGNS["left"][1], _SIDE_SIGNS["right"][1]]
    return torch.tensor(signs, dtype=hands.dtype, device=hands.device)[:, None]
