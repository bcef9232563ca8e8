"""How arm layers move: from stage-1 hands to 2-D poses anchored at the photo, and the warp of a pose.

Part of the arm layers (design §6).  A layer shows honestly what stays near the photo's own pose (measured:
about 10 % of the picture's height and 30 degrees in the plane), so poses are softly limited to that.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import ClassVar

import cv2
import numpy as np
import torch
from jaxtyping import Bool, Float, Float32
from torch import Tensor

from emo2.guidance import Camera
from emo2.hands.change import FLEX, TILT, TURN, hand_change
from emo2.hands.setting_off import START_S, left_at
from emo2.reel import Reel, join
from emo2.signals import Motion, Portrait

POSE = ("wrist_x", "wrist_y", "turn", "log_scale", "elbow_x", "elbow_y")
"""Order of a 2-D arm pose: pixels, radians (clockwise in the image), natural logarithm, pixels."""
HAND = ("tilt_x", "tilt_y", *(f"flex_{k}" for k in range(15)))
"""What follows where hands have meshes: the rest of the hand's turn, and bends of its joints (MANO's order); radians."""

MAX_SHIFT = 0.10
"""Largest wrist shift, as a share of the picture's height."""
MAX_TURN = float(np.radians(30))
MAX_TILT = float(np.radians(28))
"""Out of the picture's plane, for hands with a mesh: beyond, too much of what is seen is made up."""
MAX_FLEX = 0.4
"""Of a finger joint against the photo, radians."""
_DRIFT_S = 2.5
"""Slower changes than this are drift and are taken out: the photo's pose is where hands rest."""
_SIZE_S = 1.5
"""Span over which the size of the moves is judged."""
_ELBOW_LAG_S = 0.06
_APPEAR_S = 0.1
"""Time in which a hand that comes into sight begins to move."""
_CUT = 2.0
"""Standard deviations after which Gaussian means over time are cut off."""
BLOCK = 64
"""Frames whose poses are made together."""
_ELBOW_SHARE = 0.3
"""Of the wrist's shift, where nothing is known of elbows."""
ZOOM = 0.06
"""Largest change of the logarithm of a hand's size."""
VIEW_DISTANCE = 2.0
"""Metres from camera to person, for the change of size of a hand that comes nearer."""


@dataclass(frozen=True, kw_only=True)
class ArmPoses:
    """Where the arms are, frame after frame, against the photo."""

    values: Float[Tensor, "frames 2 23"]
    """Left, right; channels as in `POSE` and `HAND`."""
    bound: Bool[Tensor, "frames 2"]
    """Where the wish went beyond what a layer can show and was held back."""
    notes: tuple[str, ...] = ()

    PER_FRAME: ClassVar[tuple[str, ...]] = ("values", "bound")

    def __len__(self) -> int:
        return self.values.shape[0]


def anchor(motion: Motion, portrait: Portrait, camera: Camera) -> ArmPoses:
    """2-D poses of both arms: what `motion` does relative to its own slow course, about the photo's pose."""
    if len(motion) == 0:
        return ArmPoses(
            values=torch.zeros(0, 2, len(POSE) + len(HAND)),
            bound=torch.zeros(0, 2, dtype=torch.bool),
        )
    poses = join(list(anchored(Reel.of(motion), portrait, camera)))
    share = poses.bound.float().mean().item()
    text = f"hands wished to move beyond what the photo can show in {share:.0%} of the frames"
    return replace(poses, notes=(text,) if share > 0.02 else ())


def anchored(motion: Reel[Motion], portrait: Portrait, camera: Camera) -> Iterator[ArmPoses]:
    """`anchor`, `BLOCK` frames at a time: each from the motion within `reach` frames around it, however long."""
    opening = motion.between(0, 1)
    for start in range(0, len(motion), BLOCK):
        stop = min(start + BLOCK, len(motion))
        around = reach(opening.fps)
        low, high = max(start - around, 0), min(stop + around, len(motion))
        part = motion.between(low, high)
        values, bound = _poses(part, opening, portrait.size[0], camera, begins=low == 0)
        inside = slice(start - low, stop - low)
        yield ArmPoses(values=values[inside].float(), bound=bound[inside])


def reach(fps: float) -> int:
    """Frames before and after a frame on which its pose depends."""
    spreads = (_DRIFT_S, _SIZE_S, _ELBOW_LAG_S, _APPEAR_S)
    return sum(int(np.ceil(_CUT * spread * fps)) for spread in spreads)


def _poses(
    motion: Motion, opening: Motion, height: int, camera: Camera, *, begins: bool
) -> tuple[Float[Tensor, "frames 2 23"], Bool[Tensor, "frames 2"]]:
    """Poses of a stretch of motion, and where the wish was bound; `begins`: its first frame is the film's."""
    fps, limit = motion.fps, MAX_SHIFT * height
    shift = _swing(motion.hands[..., 64:67].double(), fps, begins=begins)
    pixels = shift[..., :2] * torch.as_tensor(camera.scale, dtype=torch.float64)
    wish = pixels.norm(dim=-1)
    change = hand_change(motion.hands.double(), opening.hands.double())
    change = _swing(change, fps, begins=begins)
    turn, tilt, flex = (change[..., part] for part in (TURN, TILT, FLEX))
    pixels = _soft_limit(_within(pixels, limit, fps), limit)
    turn = _soft_limit(_within(turn, MAX_TURN, fps), MAX_TURN)[..., 0]
    nearer = (shift[..., 2] / VIEW_DISTANCE).clamp(-ZOOM, ZOOM)
    elbow = _ELBOW_SHARE * _smooth(pixels, _ELBOW_LAG_S * fps)
    tilt = _soft_limit(_within(tilt, MAX_TILT, fps), MAX_TILT)
    flex = MAX_FLEX * torch.tanh(flex / MAX_FLEX)
    values = torch.cat([pixels, turn[..., None], nearer[..., None], elbow, tilt, flex], dim=-1)
    seen = motion.visibility.double()[..., None]
    return values * _smooth(seen, _APPEAR_S * fps), wish > limit


def _within(
    values: Float[Tensor, "frames 2 c"], limit: float, fps: float
) -> Float[Tensor, "frames 2 c"]:
    """Scaled down per hand while its large moves go far beyond the limit: else it would cut them all alike."""
    size = values.square().sum(-1, keepdim=True)
    large = (2.0 * _smooth(size, _SIZE_S * fps)).sqrt()  # how far out a swinging hand comes
    return values * (1.2 * limit / large.clamp(min=1e-9)).clamp(max=1)


def _soft_limit(shift: Float[Tensor, "... c"], limit: float) -> Float[Tensor, "... c"]:
    size = shift.norm(dim=-1, keepdim=True)
    return shift * (limit * torch.tanh(size / limit) / size.clamp(min=1e-9))


def _swing(
    values: Float[Tensor, "frames 2 c"], fps: float, *, begins: bool
) -> Float[Tensor, "frames 2 c"]:
    """Without the slow course; where the film begins, from zero on (the photo's pose).

    The way from the photo's pose to where the hands are then is no gesture: it belongs to the slow course.
    """
    if not begins:
        return values - _smooth(values, _DRIFT_S * fps)
    left = left_at(torch.arange(len(values), dtype=torch.float64) / fps)[:, None, None]
    there = min(round(START_S * fps), len(values) - 1)
    arrived = values + left * (values[there] - values[0])
    swing = arrived - _smooth(arrived, _DRIFT_S * fps)
    return swing - swing[:1] * left


def _smooth(values: Float[Tensor, "frames 2 c"], sigma: float) -> Float[Tensor, "frames 2 c"]:
    """Gaussian mean over time (standard deviation in frames), ends held."""
    if len(values) < 2 or sigma < 0.3:
        return values
    reach = int(np.ceil(_CUT * sigma))
    offsets = torch.arange(-reach, reach + 1, dtype=torch.float64)
    kernel = torch.exp(-0.5 * (offsets / sigma) ** 2)
    kernel = kernel / kernel.sum()
    flat = values.double().reshape(len(values), -1).T[:, None]
    flat = torch.nn.functional.pad(flat, (reach, reach), mode="replicate")
    return torch.nn.functional.conv1d(flat, kernel[None, None])[:, 0].T.reshape(values.shape)


@dataclass(frozen=True, kw_only=True)
class Field:
    """How each place of the photo follows the arm's joints, on a coarse grid: smooth skinning weights."""

    weights: Float32[np.ndarray, "h w 3"]
    """Share of the hand's shift (0..1), of the elbow's in what is left (0: still as the shoulder), of its turn."""
    origin: tuple[int, int]
    """x, y of the grid's corner in pixels."""
    stride: int

    def at(self, points: Float32[np.ndarray, "h w 2"]) -> Float32[np.ndarray, "h w 3"]:
        """Weights at pixel positions."""
        x = (points[..., 0] - self.origin[0]) / self.stride - 0.5
        y = (points[..., 1] - self.origin[1]) / self.stride - 0.5
        return cv2.remap(
            self.weights, x.astype(np.float32), y.astype(np.float32), cv2.INTER_LINEAR,
            borderMode=cv2.BORDER_REPLICATE,
        )  # fmt: skip


def source_of(
    target: Float32[np.ndarray, "h w 2"], field: Field, wrist: np.ndarray, pose: np.ndarray
) -> Float32[np.ndarray, "h w 2"]:
    """Photo positions of target positions in a pose: the inverse of the skinning, by iteration.

    Forwards a point q goes to w + s R(q - w) + (1 - a) b e + a d: wrist w, hand share a, elbow share b,
    elbow shift e, wrist shift d, turn R and size s growing with the third share.
    """
    shift, turn, zoom, elbow = pose[:2], float(pose[2]), float(pose[3]), pose[4:6]
    source = target - shift
    for step in range(10):
        weights = field.at(source.astype(np.float32))
        hand, upper = weights[..., :1], weights[..., 1:2]
        arm = target - wrist - ((1 - hand) * upper * elbow + hand * shift)
        rigid = weights[..., 2]
        size = np.exp(-zoom * rigid)
        cos, sin = np.cos(-turn * rigid) * size, np.sin(-turn * rigid) * size
        x, y = arm[..., 0], arm[..., 1]
        moved = wrist + np.stack([cos * x - sin * y, sin * x + cos * y], -1)
        source = moved if step < 2 else 0.4 * source + 0.6 * moved
    return source.astype(np.float32)


def follow(pose: np.ndarray, stretch: float) -> np.ndarray:
    """The pose with the elbow brought along where else the arm would stretch by more than `stretch` pixels."""
    held = pose.copy()
    rest = held[:2] - held[4:6]
    size = float(np.linalg.norm(rest))
    if size > stretch:
        held[4:6] = held[:2] - rest * (stretch / size)
    return held
