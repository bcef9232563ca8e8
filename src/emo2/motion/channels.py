"""`Motion` as one row of numbers a frame, and which of them mean what.

The row is left hand, right hand (67 each), then with hints face (52), head (6), body (6), gaze (2).
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from emo2.signals import BODY_CHANNELS, FACE_ACTIONS, HAND_NUMBERS, HEAD_CHANNELS, Motion

HAND_ROW = 2 * HAND_NUMBERS
GAZE_CHANNELS = 2
HINT_ROW = len(FACE_ACTIONS) + len(HEAD_CHANNELS) + len(BODY_CHANNELS) + GAZE_CHANNELS

HANDS = slice(0, HAND_ROW)
FACE = slice(HANDS.stop, HANDS.stop + len(FACE_ACTIONS))
HEAD = slice(FACE.stop, FACE.stop + len(HEAD_CHANNELS))
BODY = slice(HEAD.stop, HEAD.stop + len(BODY_CHANNELS))
GAZE = slice(BODY.stop, BODY.stop + GAZE_CHANNELS)

MOUTH_ACTIONS = tuple(
    name for name in FACE_ACTIONS if name.startswith(("jaw", "mouth", "tongue", "cheekPuff"))
)
"""Face actions that follow the sound closely; the others vary with the seed."""

_SPREAD_FLOOR = {"hands": 0.02, "wrist": 0.01, "face": 0.04, "angle": 0.01, "metres": 0.003}
"""Smallest spread a channel is divided by: what hardly moves should hardly count."""


def row_width(*, hints: bool) -> int:
    """Numbers a frame."""
    return HAND_ROW + (HINT_ROW if hints else 0)


def is_mouth(*, hints: bool) -> Bool[Tensor, " c"]:
    """Which numbers are mouth actions."""
    mask = torch.zeros(row_width(hints=hints), dtype=torch.bool)
    if hints:
        for i, name in enumerate(FACE_ACTIONS):
            mask[FACE.start + i] = name in MOUTH_ACTIONS
    return mask


def spread_floor(*, hints: bool) -> Float[Tensor, " c"]:
    """Smallest spread a number, in its own unit."""
    one_hand = [_SPREAD_FLOOR["hands"]] * (HAND_NUMBERS - 3) + [_SPREAD_FLOOR["wrist"]] * 3
    floor = one_hand * 2
    if hints:
        floor += [_SPREAD_FLOOR["face"]] * len(FACE_ACTIONS)
        floor += [_SPREAD_FLOOR["angle"]] * 3 + [_SPREAD_FLOOR["metres"]] * 3
        floor += [_SPREAD_FLOOR["angle"]] * 3 + [_SPREAD_FLOOR["metres"]] * 2 + [0.05]
        floor += [_SPREAD_FLOOR["angle"]] * GAZE_CHANNELS
    return torch.tensor(floor)


def pack(motion: Motion, *, hints: bool = True) -> Float[Tensor, "frames c"]:
    """All numbers of a motion; hints that it lacks are zero, the resting face looking ahead."""
    frames = len(motion)
    parts = [motion.hands.reshape(frames, HAND_ROW)]
    if hints:
        widths = (len(FACE_ACTIONS), len(HEAD_CHANNELS), len(BODY_CHANNELS), GAZE_CHANNELS)
        for part, width in zip(
            (motion.face, motion.head, motion.body, motion.gaze), widths, strict=True
        ):
            parts.append(torch.zeros(frames, width) if part is None else part)
    return torch.cat([part.float() for part in parts], dim=-1)


def unpack(
    rows: Float[Tensor, "frames c"],
    fps: float,
    *,
    visibility: Float[Tensor, "frames 2"] | None = None,
    betas: Float[Tensor, "10"] | None = None,
) -> Motion:
    """A motion of rows in their own units: quaternions made unit, face actions kept in 0..1."""
    frames = rows.shape[0]
    seen = torch.ones(frames, 2) if visibility is None else visibility
    hands = unit_hands(rows[:, HANDS].reshape(frames, 2, HAND_NUMBERS))
    hints = {}
    if rows.shape[-1] > HAND_ROW:
        body = rows[:, BODY].clone()
        body[:, -1] = body[:, -1].clamp(0.0, 1.0)
        hints = {
            "face": rows[:, FACE].clamp(0.0, 1.0),
            "head": rows[:, HEAD],
            "body": body,
            "gaze": rows[:, GAZE],
        }
    return Motion(
        hands=hands,
        visibility=seen,
        confidence=torch.ones(frames, 2),
        betas=torch.zeros(10) if betas is None else betas,
        fps=fps,
        **hints,
    )


def unit_hands(hands: Float[Tensor, "*b 2 67"]) -> Float[Tensor, "*b 2 67"]:
    """Hands whose quaternions have length 1."""
    turns = hands[..., :-3].unflatten(-1, (16, 4))
    turns = torch.nn.functional.normalize(turns, dim=-1, eps=1e-6)
    return torch.cat((turns.flatten(-2), hands[..., -3:]), dim=-1)


def one_hemisphere(
    rows: Float[Tensor, "*b c"], towards: Float[Tensor, " c"]
) -> Float[Tensor, "*b c"]:
    """The same rotations with each quaternion's sign chosen nearest to that of `towards`.

    q and -q are one rotation; averaged or diffused they must not stand on opposite sides.
    """
    turns = rows[..., HANDS].unflatten(-1, (2, HAND_NUMBERS))[..., :-3].unflatten(-1, (16, 4))
    guide = towards[HANDS].unflatten(-1, (2, HAND_NUMBERS))[..., :-3].unflatten(-1, (16, 4))
    sign = torch.where((turns * guide).sum(-1, keepdim=True) < 0, -1.0, 1.0)
    turned = (turns * sign).flatten(-2)
    wrists = rows[..., HANDS].unflatten(-1, (2, HAND_NUMBERS))[..., -3:]
    hands = torch.cat((turned, wrists), dim=-1).flatten(-2)
    return torch.cat((hands, rows[..., HAND_ROW:]), dim=-1)
