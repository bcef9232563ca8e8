"""Edit a motion: cut, join, resample, retime, mirror, and change the size of the gestures part by part."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from emo2.hands.model import mirror
from emo2.hands.rotations import continuous, slerp
from emo2.signals import BODY_CHANNELS, FACE_ACTIONS, HEAD_CHANNELS, Motion

_PER_FRAME = ("hands", "visibility", "confidence", "face", "head", "body", "gaze")
_BLINKS = [FACE_ACTIONS.index(f"eyeBlink{side}") for side in ("Left", "Right")]


def slice_motion(motion: Motion, start: int, stop: int) -> Motion:
    """Frames start..stop-1; both within the motion."""
    if not 0 <= start < stop <= len(motion):
        raise ValueError(
            f"frames {start}..{stop} of a motion of {len(motion)}; expected 0 <= start < stop <= length"
        )
    return _map(motion, lambda _, values: values[start:stop])


def join(motions: Sequence[Motion]) -> Motion:
    """One after the other; same rate and same hints, hand shape of the first."""
    first = motions[0]
    for other in motions[1:]:
        if other.fps != first.fps:
            raise ValueError(
                f"cannot join motions of {first.fps} and {other.fps} frames a second; resample one"
            )
        if any((getattr(other, n) is None) != (getattr(first, n) is None) for n in _PER_FRAME):
            raise ValueError(
                "cannot join motions with different hints; drop those that one of them lacks"
            )
    return _map(first, lambda name, _: torch.cat([getattr(m, name) for m in motions]))


def resample(motion: Motion, fps: float) -> Motion:
    """The same movement at another frame rate (frame i is at i / fps seconds)."""
    if fps <= 0:
        raise ValueError(f"{fps} frames a second; expected more than 0")
    count = max(1, math.ceil(len(motion) / motion.fps * fps - 1e-6))
    return replace(_at(motion, torch.arange(count) * (motion.fps / fps)), fps=fps)


def retime(motion: Motion, speed: float) -> Motion:
    """The movement `speed` times as fast at the same frame rate: fewer or more frames."""
    if speed <= 0:
        raise ValueError(f"speed {speed}; expected more than 0")
    count = max(1, math.ceil(len(motion) / speed - 1e-6))
    return _at(motion, torch.arange(count) * speed)


def mirror_motion(motion: Motion) -> Motion:
    """The movement as in a mirror: left and right change places."""
    swaps = {
        "hands": lambda v: mirror(v.flip(-2)),
        "visibility": lambda v: v.flip(-1),
        "confidence": lambda v: v.flip(-1),
        "face": lambda v: v[:, _MIRRORED_ACTIONS],
        "head": lambda v: (
            v * v.new_tensor([-1.0 if c in ("yaw", "roll", "dx") else 1.0 for c in HEAD_CHANNELS])
        ),
        "body": lambda v: (v * v.new_tensor(_BODY_SIGNS))[:, _MIRRORED_BODY],
        "gaze": lambda v: v * v.new_tensor((-1.0, 1.0)),
    }
    return _map(motion, lambda name, values: swaps[name](values))


def with_amplitude(
    motion: Motion,
    *,
    hands: float = 1.0,
    fingers: float = 1.0,
    face: float = 1.0,
    head: float = 1.0,
    body: float = 1.0,
    gaze: float = 1.0,
) -> Motion:
    """Larger (> 1) or smaller (< 1) movement, each part on its own.

    Hands (wrist place and turn), fingers, head and body change about their first frame, so that a film still
    starts from its photo; face and gaze about rest.  Blinks keep their size: half a blink looks like a fault.
    """
    factors = {"head": head, "body": body}

    def scaled(name: str, values: Tensor) -> Tensor:
        if name == "hands":
            return _scaled_hands(values, hands, fingers)
        if name == "face":
            return torch.where(_not_blinks(values), values * face, values).clamp(0, 1)
        if name == "gaze":
            return values * gaze
        if name in factors:
            return values[:1] + (values - values[:1]) * factors[name]
        return values

    return _map(motion, scaled)


def _scaled_hands(
    hands: Float[Tensor, "frames 2 67"], wrists: float, fingers: float
) -> Float[Tensor, "frames 2 67"]:
    turns = hands[..., :64].unflatten(-1, (16, 4))
    share = turns.new_tensor([wrists] + [fingers] * 15).expand(turns.shape[:-1])
    turns = slerp(turns[:1].expand_as(turns), turns, share)
    place = hands[:1, :, 64:] + (hands[..., 64:] - hands[:1, :, 64:]) * wrists
    return torch.cat((turns.flatten(-2), place), -1)


def _not_blinks(values: Tensor) -> Tensor:
    keep = torch.ones(values.shape[-1], dtype=torch.bool, device=values.device)
    keep[_BLINKS] = False
    return keep


def _at(motion: Motion, times: Float[Tensor, " n"]) -> Motion:
    """The motion at fractional frame numbers; the last frame holds."""
    last = len(motion) - 1
    low = times.floor().long().clamp(0, last)
    high = (low + 1).clamp(max=last)
    share = (times - low).clamp(0, 1).to(motion.hands.dtype)

    def value(name: str, values: Tensor) -> Tensor:
        if name == "visibility":
            return values[times.round().long().clamp(0, last)]
        between = torch.lerp(values[low], values[high], share.reshape(-1, *[1] * (values.ndim - 1)))
        if name != "hands":
            return between
        turns = continuous(values[..., :64].unflatten(-1, (16, 4)))
        spread = share[:, None, None].expand(-1, 2, 16)
        return torch.cat(
            (slerp(turns[low], turns[high], spread).flatten(-2), between[..., 64:]), -1
        )

    return _map(motion, value)


def _map(motion: Motion, change) -> Motion:  # noqa: ANN001 - (name, values) -> values
    present = {n: getattr(motion, n) for n in _PER_FRAME if getattr(motion, n) is not None}
    return replace(motion, **{n: change(n, v) for n, v in present.items()})


def _other_side(name: str) -> str:
    if name.endswith("Left"):
        return name.removesuffix("Left") + "Right"
    return name.removesuffix("Right") + "Left" if name.endswith("Right") else name


_MIRRORED_ACTIONS = [FACE_ACTIONS.index(_other_side(n)) for n in FACE_ACTIONS]
_BODY_SIGNS = [-1.0 if c in ("yaw", "roll") else 1.0 for c in BODY_CHANNELS]
_SHOULDERS = {"left_shoulder_up": "right_shoulder_up", "right_shoulder_up": "left_shoulder_up"}
_MIRRORED_BODY = [BODY_CHANNELS.index(_SHOULDERS.get(c, c)) for c in BODY_CHANNELS]
