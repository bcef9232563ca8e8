"""Where a hand goes that the photo does not show: stage 1's wish, brought to an elbow that stays where the photo's is.

Ours.  The forearm turns about the elbow of the photo's hanging upper arm, and keeps its length.  What stage 1 does in
its gesture space is lifted into the picture where that ends above it; a resting hand hangs below.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Float32
from torch import Tensor
from torch.nn.functional import normalize, softplus

from emo2.hands.forearm import FORE_M
from emo2.hands.model import from_numbers, swap_frame, to_numbers
from emo2.hands.sleeve import elbows
from emo2.video.entering_place import Place

_ELBOW_NEAR_M = 0.02
_RISES = (0.47, 0.25)
"""Heights of a wished wrist below the shoulders, metres, between which it is lifted, from not at all to in full."""
_SPACE_M = 0.235
"""Height of stage 1's gestures, metres below the shoulders."""
_RISE_S = 0.13
"""Deviation of the mean over time of how far a hand is up: stage 1's rise, lifted and on a forearm, would be a blow."""
_CUT = 2.5
_WRIST_ABOVE_EDGE_M = 0.09
_NEARER = 0.11
"""By so much a raised hand stands farther from the camera's axis than in the plane of the shoulders."""
EYE_M = -0.15
"""Height of the camera against the shoulders."""
_HIGHEST_M = 0.0
"""Wrists stay below the shoulders: the face is not to be covered."""
_INWARDS_M = 0.05
"""Raised hands stand so much closer together than stage 1 plans them: what is near the camera looks wider."""
_HAND_M = 0.17
"""From the picture's side to a wrist."""
_ELBOW_FOLLOWS, _SWAY_M = 0.25, 0.12
"""Share of stage 1's own elbow's moves, and the most of them."""
_HANGS_NEAR = 0.15
"""Towards the camera for each metre down, of a hanging forearm."""
_FORWARD_M = 0.16
"""A hand on its way passes at least so far before its elbow: else the forearm would flip over."""
_MOST_UP = 0.96
"""Sine of the steepest forearm."""
_BEND = float(np.radians(48))
"""Most that a hand turns away from its forearm."""


@dataclass(frozen=True, kw_only=True)
class LimbPose:
    """One hand and its elbow, picture frame, metres."""

    numbers: Float32[np.ndarray, "67"]
    elbow: Float32[np.ndarray, "3"]
    up: float
    """How far it is up, 0 (hanging) to 1."""


def pose_reach(fps: float) -> int:
    """Frames before and after a frame on which its pose depends."""
    return math.ceil(_CUT * _RISE_S * fps)


def limb_poses(
    hands: Float[Tensor, "frames 2 67"], place: Place, fps: float
) -> list[tuple[LimbPose, ...]]:
    """Left and right, frame after frame."""
    hands = hands.double()
    wrists = hands[..., 64:]
    planned = elbows(wrists)
    rest = torch.from_numpy(place.elbows).double()
    rest = torch.cat((rest, torch.full((2, 1), _ELBOW_NEAR_M, dtype=torch.float64)), -1)
    sway = (planned - rest) * torch.tensor((1.0, 0.3, 1.0))
    follows = torch.tensor([0.0 if shown else _ELBOW_FOLLOWS for shown in place.forearms])
    elbow = rest + follows[:, None] * sway.clamp(-_SWAY_M, _SWAY_M)
    share = _risen(wrists)
    reach = _wish(wrists, place, share) - elbow
    near = softplus(reach[..., 2] - _FORWARD_M, beta=40.0) + _FORWARD_M
    raised = normalize(torch.stack((reach[..., 0], reach[..., 1], near), -1), dim=-1)
    # More steeply up a forearm cannot go.
    up = raised[..., 1].clamp(min=-_MOST_UP)
    level = normalize(raised[..., [0, 2]], dim=-1) * (1 - up**2).sqrt()[..., None]
    raised = torch.stack((level[..., 0], up, level[..., 1]), -1)
    hangs = torch.cat((torch.from_numpy(place.hangs).double(), torch.full((2, 1), _HANGS_NEAR)), -1)
    calm = _calm(share, fps)
    aim = _between_aims(normalize(hangs, dim=-1).expand_as(raised), raised, calm)
    turned = _turned(hands, normalize(wrists - planned, dim=-1), aim)
    numbers = torch.cat((turned, elbow + FORE_M * aim), -1).float().numpy()
    rows = zip(numbers, elbow.float().numpy(), calm.tolist(), strict=True)
    return [
        tuple(LimbPose(numbers=n[k], elbow=e[k], up=u[k]) for k in range(2)) for n, e, u in rows
    ]


def _risen(wrists: Float[Tensor, "f 2 3"]) -> Float[Tensor, "f 2"]:
    """How far hands are up, 0..1."""
    low, high = _RISES
    share = ((low - wrists[..., 1]) / (low - high)).clamp(0, 1)
    return share * share * (3 - 2 * share)


def _wish(
    wrists: Float[Tensor, "f 2 3"], place: Place, share: Float[Tensor, "f 2"]
) -> Float[Tensor, "f 2 3"]:
    """Where the wrists would be if they were up: above the picture's lower edge, and not beyond its sides."""
    low = _RISES[0]
    edge = place.bottom - _WRIST_ABOVE_EDGE_M
    edge -= _NEARER * (edge - EYE_M)
    down = wrists[..., 1] - (low + share * (_SPACE_M - low)) + min(_SPACE_M, edge)
    down = softplus(down - _HIGHEST_M, beta=25.0) + _HIGHEST_M
    sign = torch.tensor((1.0, -1.0), dtype=torch.float64)
    out = wrists[..., 0] * sign - _INWARDS_M
    widest = max(place.half - _HAND_M, 0.1)
    soft = 0.4 * widest * torch.tanh((out - 0.6 * widest) / (0.4 * widest))
    out = torch.where(out > 0.6 * widest, 0.6 * widest + soft, out)
    return torch.stack((out * sign, down, wrists[..., 2]), -1)


def _between_aims(
    start: Float[Tensor, "f 2 3"], end: Float[Tensor, "f 2 3"], share: Float[Tensor, "f 2"]
) -> Float[Tensor, "f 2 3"]:
    """Directions on the great circle from one to the other: a forearm comes up evenly, past the camera."""
    angle = torch.arccos((start * end).sum(-1).clamp(-0.999, 0.999))[..., None]
    one, two = torch.sin((1 - share[..., None]) * angle), torch.sin(share[..., None] * angle)
    return normalize(one * start + two * end, dim=-1)


def _calm(share: Float[Tensor, "f 2"], fps: float) -> Float[Tensor, "f 2"]:
    """Gaussian mean over time, ends held; summed in one order, so that parts give the bits of the whole."""
    reach = pose_reach(fps)
    weights = torch.exp(-0.5 * (torch.arange(-reach, reach + 1).double() / (_RISE_S * fps)) ** 2)
    held = torch.cat((share[:1].expand(reach, 2), share, share[-1:].expand(reach, 2)))
    total = torch.zeros_like(share)
    for place, weight in enumerate((weights / weights.sum()).tolist()):
        total = total + weight * held[place : place + len(share)]
    return total


def _turned(
    hands: Float[Tensor, "f 2 67"], before: Float[Tensor, "f 2 3"], after: Float[Tensor, "f 2 3"]
) -> Float[Tensor, "f 2 64"]:
    """The hands' rotations, turned as their forearms are, the wrist's bend kept within what wrists do."""
    out = []
    for index, side in enumerate(("left", "right")):
        flip = torch.tensor((1.0, -1.0, 1.0) if side == "right" else (-1.0, -1.0, 1.0)).double()
        rotations, _ = from_numbers(swap_frame(hands[:, index], side))
        root = rotations[:, 0]
        was, goal = before[:, index] * flip, after[:, index] * flip  # model frame
        root = _between(was, goal) @ root
        fingers = -root[..., 0]  # at zero pose they point to -x
        cos = (fingers * goal).sum(-1).clamp(-1, 1)
        angle = torch.arccos(cos)
        wanted = _BEND * torch.tanh(angle / _BEND)
        axis = normalize(torch.linalg.cross(fingers, goal), dim=-1, eps=1e-9)
        root = _about(axis, angle - wanted) @ root
        rotations = torch.cat((root[:, None], rotations[:, 1:]), 1)
        numbers = to_numbers(rotations, torch.zeros_like(goal))
        out.append(swap_frame(numbers, side)[..., :64])
    return torch.stack(out, 1)


def _between(a: Float[Tensor, "f 3"], b: Float[Tensor, "f 3"]) -> Float[Tensor, "f 3 3"]:
    """The smallest turn from direction a to direction b."""
    axis = torch.linalg.cross(a, b)
    size = axis.norm(dim=-1)
    angle = torch.atan2(size, (a * b).sum(-1))
    return _about(axis / size.clamp(min=1e-9)[..., None], angle)


def _about(axis: Float[Tensor, "f 3"], angle: Float[Tensor, " f"]) -> Float[Tensor, "f 3 3"]:
    """Rodrigues."""
    x, y, z = axis.unbind(-1)
    zero = torch.zeros_like(x)
    skew = torch.stack((zero, -z, y, z, zero, -x, -y, x, zero), -1).unflatten(-1, (3, 3))
    sin, cos = angle.sin()[..., None, None], angle.cos()[..., None, None]
    return torch.eye(3, dtype=axis.dtype) + sin * skew + (1 - cos) * (skew @ skew)
