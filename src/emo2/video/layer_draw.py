"""Laying planes over a frame: what moves them, and how they are drawn.

Part of the arm layers (design §6); runs for every frame.  Pictures have channels last, RGB in [-1, 1].
"""

from __future__ import annotations

import cv2
import numpy as np

from emo2.video.arm_surface import ArmSurface, fetched
from emo2.video.layer_cut import Box, Plane, ease
from emo2.video.layer_masks import Limb, segment_distance
from emo2.video.layer_motion import source_of

_SHOULDER = 0.45
"""Shoulder widths around the joint within which the body goes along."""
_STRIDE = 8
"""Pixels between the points at which a warp is computed; it is smooth in between."""


def part_of(picture: np.ndarray, box: Box) -> np.ndarray:
    """A view of the box."""
    return picture[box[1] : box[3], box[0] : box[2]]


def lay_over(frame: np.ndarray, colour: np.ndarray, box: Box) -> None:
    """A premultiplied RGBA picture over the frame in its box."""
    clear = 1 - cv2.extractChannel(colour, 3)
    part = frame[box[1] : box[3], box[0] : box[2]]
    part *= cv2.merge([clear, clear, clear])
    part += cv2.cvtColor(colour, cv2.COLOR_RGBA2RGB)


def fetched_by(picture: np.ndarray, flow: np.ndarray | None, box: Box) -> np.ndarray:
    """The picture over a box, fetched from where the frame's flow points."""
    if flow is None:
        return picture
    flow = part_of(flow, box)
    if np.abs(flow).max() < 0.02:
        return picture
    height, width = picture.shape[:2]
    xs, ys = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
    return cv2.remap(
        picture, xs + flow[..., 0], ys + flow[..., 1], cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REPLICATE,
    )  # fmt: skip


def ride_of(flow: np.ndarray | None, point: np.ndarray, radius: float) -> np.ndarray:
    """Mean flow around a point: how the body carries the arm."""
    if flow is None:
        return np.zeros(2, np.float32)
    height, width = flow.shape[:2]
    x, y = int(np.clip(point[0], 0, width - 1)), int(np.clip(point[1], 0, height - 1))
    r = max(1, round(radius))
    return flow[max(0, y - r) : y + r + 1, max(0, x - r) : x + r + 1].reshape(-1, 2).mean(0)


def _target(box: Box, reach: float, size: tuple[int, int]) -> tuple[Box, np.ndarray]:
    """The plane's box grown by its largest move, and coarse positions over it (cell centres)."""
    grow = int(np.ceil(reach)) + 2
    x0, y0 = max(box[0] - grow, 0), max(box[1] - grow, 0)
    x1, y1 = min(box[2] + grow, size[1]), min(box[3] + grow, size[0])
    xs = x0 + (np.arange(-(-(x1 - x0) // _STRIDE), dtype=np.float32) + 0.5) * _STRIDE
    ys = y0 + (np.arange(-(-(y1 - y0) // _STRIDE), dtype=np.float32) + 0.5) * _STRIDE
    return (x0, y0, x1, y1), np.stack(np.meshgrid(xs, ys), -1)


def _draw(frame: np.ndarray, plane: Plane, box: Box, move: np.ndarray) -> None:
    """The plane over the frame's box; `move` leads to photo positions from the coarse points of `_target`."""
    map_x, map_y = _sources(move, box)
    colour = cv2.remap(
        plane.colour, map_x - plane.box[0], map_y - plane.box[1], cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_CONSTANT,
    )  # fmt: skip
    lay_over(frame, colour, box)


def _sources(move: np.ndarray, box: Box) -> tuple[np.ndarray, np.ndarray]:
    """x and y of where each pixel of a box is fetched; `move` is told at the coarse points of `_target`.

    The displacement is interpolated, not the position: cv2.resize holds values beyond the outermost centres.
    """
    x0, y0, x1, y1 = box
    full = (move.shape[1] * _STRIDE, move.shape[0] * _STRIDE)
    move = cv2.resize(move, full, interpolation=cv2.INTER_LINEAR)[: y1 - y0, : x1 - x0]
    map_x = move[..., 0] + np.arange(x0, x1, dtype=np.float32)
    return map_x, move[..., 1] + np.arange(y0, y1, dtype=np.float32)[:, None]


def lay_plane(
    frame: np.ndarray,
    plane: Plane,
    limb: Limb,
    flow: np.ndarray | None,
    pose: np.ndarray,
    surface: ArmSurface | None,
) -> None:
    ride = ride_of(flow, limb.shoulder, 0.1 * limb.unit)
    span = float(np.linalg.norm(limb.hand - limb.wrist, axis=1).max()) + 0.1 * limb.unit
    turning = (abs(pose[2]) + abs(pose[3])) * span
    reach = max(np.abs(pose[:2]).max() + turning, np.abs(pose[4:6]).max()) + np.abs(ride).max()
    box, target = _target(plane.box, float(reach), frame.shape[:2])
    carried = target + ride
    if flow is not None:  # at the shoulder exactly with the body, further down as one piece
        height, width = flow.shape[:2]
        x = target[..., 0].clip(0, width - 1).astype(int)
        y = target[..., 1].clip(0, height - 1).astype(int)
        weights = plane.field.at(target)
        hold = np.clip(weights.max(-1, keepdims=True) / 0.5, 0, 1)
        carried = target + hold * ride + (1 - hold) * flow[y, x]
    source = source_of(carried, plane.field, limb.wrist, pose[:6])
    if surface is not None:
        learned = fetched(surface, limb, pose, carried, plane.part)
        rigid = plane.field.at(source)[..., 2:]
        source = rigid * source + (1 - rigid) * learned
    _draw(frame, plane, box, source - target)


def shrug(
    frame: np.ndarray, limb: Limb, flow: np.ndarray | None, pose: np.ndarray, surface: ArmSurface
) -> None:
    """The shoulder goes along with its arm, in place: there the body itself is warped, less the farther it is from the arm."""
    height, width = frame.shape[:2]
    low = np.floor(limb.shoulder - _SHOULDER * limb.unit).astype(int).clip(0)
    high = np.minimum(np.ceil(limb.shoulder + _SHOULDER * limb.unit).astype(int), (width, height))
    if (high - low).min() < 2:
        return
    box = (int(low[0]), int(low[1]), int(high[0]), int(high[1]))
    box, target = _target(box, 0, (height, width))
    carried = target + ride_of(flow, limb.shoulder, 0.1 * limb.unit)
    share = _shoulder_share(carried, limb)[..., None]
    move = share * (fetched(surface, limb, pose, carried, "upper") - carried)
    if np.abs(move).max() < 0.05:
        return
    x0, y0, x1, y1 = box
    map_x, map_y = _sources(move, box)
    frame[y0:y1, x0:x1] = cv2.remap(
        frame, map_x, map_y, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE
    )


def _shoulder_share(places: np.ndarray, limb: Limb) -> np.ndarray:
    """1 on the shoulder's cap, 0 at the neck, on the trunk and at the rim of the box."""
    distance, along = segment_distance(places, limb.shoulder, limb.elbow)
    length = float(np.linalg.norm(limb.elbow - limb.shoulder))
    across = 1 - ease(distance / limb.unit, 0.14, 0.3)
    down = ease(along * length / limb.unit, -0.22, -0.02)
    near = 1 - ease(np.linalg.norm(places - limb.shoulder, axis=-1) / limb.unit, 0.3, _SHOULDER)
    return across * down * near
