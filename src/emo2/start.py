"""The photo's own pose as the first frame of a motion, so that a film begins where the photo stands (ours).

Wrists and the direction of the hands are read from the finder's points; which way a palm looks follows from
the order of its fingers.  Curl and depth cannot be read from points in the plane: they are a relaxed hand's.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import normalize

from emo2.guidance import Camera, fit_camera
from emo2.hands import shape_hand
from emo2.signals import BODY_POINTS, HAND_SIDES, Motion, Portrait

DEPTH_M = 0.2
"""Hands before the body, in metres before the plane of the shoulders."""
HANGING_M = {"left": (0.2, 0.6, 0.05), "right": (-0.2, 0.6, 0.05)}
"""Where a hand that the photo does not show is taken to be."""
RESTING_M = {"left": (0.24, 0.5, 0.04), "right": (-0.24, 0.5, 0.04)}
"""Where a hand that may come into the picture begins: as stage 1 knows hanging arms."""
RELAXED = 0.35
_INDEX, _MIDDLE, _PINKY = 5, 9, 17


def pose_of(
    portrait: Portrait, *, fps: float, entering: tuple[bool, bool] = (False, False)
) -> Motion:
    """One frame: the photo's hands where they are seen, the face, head and body as they are there.

    A hand that is `entering` (left, right) hangs below the picture and is told to be seen: it may come up.
    """
    camera = fit_camera(portrait)
    hands = [
        _hanging(side) if entering[side] else _hand_of(portrait, camera, side) for side in range(2)
    ]
    seen = torch.tensor(
        [
            [
                float(portrait.folded or a or b)
                for a, b in zip(portrait.hands_present, entering, strict=True)
            ]
        ]
    )
    sure = portrait.hand_points[..., 2].mean(-1)[None] * seen
    return Motion(
        hands=torch.stack(hands)[None],
        visibility=seen,
        confidence=sure.clamp(0, 1),
        betas=torch.zeros(10),
        fps=fps,
        face=torch.zeros(1, 52),
        head=torch.zeros(1, 6),
        body=torch.zeros(1, 6),
        gaze=torch.zeros(1, 2),
    )


def _hand_of(portrait: Portrait, camera: Camera, side: int) -> Float[Tensor, "67"]:
    name = HAND_SIDES[side]
    points = portrait.hand_points[side, :, :2]
    wrist = portrait.body_points[BODY_POINTS.index(f"{name}_wrist")]
    relaxed = torch.full((5,), RELAXED)
    if portrait.hands_present[side] or portrait.folded:
        at = torch.cat([camera.lift(points[0]), torch.tensor([DEPTH_M])])
        palm, thumb = points[_MIDDLE] - points[0], points[_INDEX] - points[_PINKY]
        return shape_hand(
            name,
            at,
            fingers_to=_flat(palm),
            palm_to=_palm_direction(palm, thumb, name),
            curl=relaxed,
        )
    at = torch.tensor(HANGING_M[name])
    if wrist[2] > 0.5:
        at = torch.cat([camera.lift(wrist[:2]), torch.tensor([DEPTH_M])])
    return _hanging(side, at)


def _hanging(side: int, at: Float[Tensor, "3"] | None = None) -> Float[Tensor, "67"]:
    """A relaxed hand, fingers down and palm inwards."""
    name = HAND_SIDES[side]
    inwards = torch.tensor((-1.0 if name == "left" else 1.0, 0.0, 0.0))
    return shape_hand(
        name, torch.tensor(RESTING_M[name]) if at is None else at,
        fingers_to=torch.tensor((0.0, 1.0, 0.0)), palm_to=inwards, curl=torch.full((5,), RELAXED),
    )  # fmt: skip


def _flat(direction: Float[Tensor, "2"]) -> Float[Tensor, "3"]:
    """A direction in the picture as one in space, in the picture's plane; downwards where it has no length."""
    if float(direction.norm()) < 1e-3:
        return torch.tensor((0.0, 1.0, 0.0))
    return normalize(torch.cat([direction, torch.zeros(1)]), dim=0)


def _palm_direction(
    palm: Float[Tensor, "2"], thumb: Float[Tensor, "2"], side: str
) -> Float[Tensor, "3"]:
    """To the camera or away from it: a right hand with fingers up and thumb to the image's right shows its palm."""
    turn = float(thumb[0] * palm[1] - thumb[1] * palm[0])
    shows_palm = turn < 0 if side == "right" else turn > 0
    return torch.tensor((0.0, 0.0, 1.0 if shows_palm else -1.0))
