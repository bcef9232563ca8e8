"""Motion for animators: JSON, and BVH with both hands as skeletons (y up, centimetres, the person faces +z)."""

from __future__ import annotations

from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from emo2.hands.model import JOINTS, PARENTS, HandModel, from_numbers
from emo2.hands.motion_file import as_json
from emo2.hands.standin import stand_in
from emo2.signals import HAND_SIDES, Motion

_CENTIMETRES = 100.0
_TIPS = {3: 1, 6: 2, 9: 4, 12: 3, 15: 0}  # last joint of a finger -> its place in HandModel.tips


def to_json(motion: Motion, path: Path | str) -> None:
    """Everything in the motion as one JSON text, with names and units; `load_motion` reads it back."""
    Path(path).write_text(as_json(motion), encoding="utf-8")


def to_bvh(motion: Motion, path: Path | str, *, model: HandModel | None = None) -> None:
    """Both hands as one BVH tree: a fixed origin between the shoulders, the wrists with place and turn.

    BVH is right-handed with y up: the picture frame reflected in y.
    """
    model = model or stand_in()
    rest = {side: _rest(model, motion.betas.cpu(), side) for side in HAND_SIDES}
    lines = ["HIERARCHY", "ROOT shoulders", "{", "  OFFSET 0 0 0", f"  CHANNELS 6 {_PLACE} {_TURN}"]
    for side in HAND_SIDES:
        lines += _joint(side, 0, *rest[side], depth=1)
    lines += ["}", "MOTION", f"Frames: {len(motion)}", f"Frame Time: {1 / motion.fps:.8f}"]
    lines += [" ".join(f"{v:.5f}" for v in row) for row in _rows(motion).tolist()]
    Path(path).write_text("\n".join(lines) + "\n", encoding="utf-8")


_PLACE = "Xposition Yposition Zposition"
_TURN = "Zrotation Xrotation Yrotation"


def _rest(model: HandModel, betas: Tensor, side: str) -> tuple[Tensor, Tensor]:
    """Joints and tips at rest in BVH's frame, centimetres."""
    joints = model.joints(betas)
    tips = model.template[list(model.tips)] + model.shape_dirs[list(model.tips)] @ betas
    sign = joints.new_tensor((1.0 if side == "right" else -1.0, 1.0, 1.0)) * _CENTIMETRES
    return joints * sign, tips * sign


def _joint(side: str, joint: int, joints: Tensor, tips: Tensor, *, depth: int) -> list[str]:
    """A joint and all below it.  The wrist's offset is 0, because its place is animated."""
    pad = "  " * depth
    offset = joints[joint] - joints[PARENTS[joint]] if joint else torch.zeros(3)
    channels = f"6 {_PLACE} {_TURN}" if joint == 0 else f"3 {_TURN}"
    lines = [f"{pad}JOINT {side}_{JOINTS[joint]}", pad + "{", f"{pad}  OFFSET {_three(offset)}"]
    lines.append(f"{pad}  CHANNELS {channels}")
    for child in range(joint + 1, 16):
        if PARENTS[child] == joint:
            lines += _joint(side, child, joints, tips, depth=depth + 1)
    if joint in _TIPS:
        end = _three(tips[_TIPS[joint]] - joints[joint])
        lines += [f"{pad}  End Site", pad + "  {", f"{pad}    OFFSET {end}", pad + "  }"]
    return [*lines, pad + "}"]


def _three(vector: Tensor) -> str:
    return " ".join(f"{v:.5f}" for v in vector.tolist())


def _rows(motion: Motion) -> Float[Tensor, "frames channels"]:
    """The channel values in the order of the hierarchy: root, then each hand depth first (MANO's own order)."""
    signs = torch.tensor((1.0, -1.0, 1.0, -1.0) * 16 + (1.0, -1.0, 1.0))  # the reflection in y
    columns = [torch.zeros(len(motion), 6)]
    for index in range(len(HAND_SIDES)):
        rotations, wrist = from_numbers(motion.hands[:, index].cpu() * signs)
        columns += [wrist * _CENTIMETRES, _degrees_zxy(rotations).flatten(1)]
    return torch.cat(columns, 1)


def _degrees_zxy(matrix: Float[Tensor, "*b 3 3"]) -> Float[Tensor, "*b 3"]:
    """Angles z, x, y in degrees of R = Rz Rx Ry."""
    x = torch.asin(matrix[..., 2, 1].clamp(-1, 1))
    z = torch.atan2(-matrix[..., 0, 1], matrix[..., 1, 1])
    y = torch.atan2(-matrix[..., 2, 0], matrix[..., 2, 2])
    locked = (
        matrix[..., 2, 1].abs() > 1 - 1e-6
    )  # x at a right angle: only the sum of z and y is defined
    z = torch.where(locked, torch.atan2(matrix[..., 1, 0], matrix[..., 0, 0]), z)
    return torch.rad2deg(torch.stack((z, x, torch.where(locked, torch.zeros_like(y), y)), -1))
