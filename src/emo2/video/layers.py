"""Arms and hands as layers: cut out of the photo once, moved by a 2-D skeleton, laid over the body frame.

Design §6 "Layers".  Per photo: the gap behind the arms is painted, each arm becomes an upper-arm plane and a
forearm-and-hand plane with soft edges and clean colours.  Per frame: gap, upper arms, forearms with hands.
What cannot be separated surely stays still and is named in `Layers.notes`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np
import torch
from jaxtyping import Float, Float32
from torch import Tensor

from emo2.portrait.skin import with_hands_by_skin
from emo2.signals import Portrait
from emo2.video import layer_paint
from emo2.video.arm_finding import sound_limbs
from emo2.video.hand_layer import give_hand, hand_pose
from emo2.video.hands_meeting import Meeting, clasped
from emo2.video.layer_cut import Arm, Box, Plane, cut
from emo2.video.layer_masks import Limb, limb_box
from emo2.video.layer_motion import follow, source_of
from emo2.video.layer_person import arm_of, person_mask

_STRIDE = 8
"""Pixels between the points at which a warp is computed; it is smooth in between."""
_GAP_MARGIN = 6
"""Pixels by which the painted gap is wider than the arms, at a shoulder width of 300 pixels."""
_SURE = 0.6
_UNSURE_POSE = np.array([0.6, 0.6, 0.3, 1, 0.6, 0.6], np.float32)
"""Share of a pose (`POSE`) that a hand with less sure points makes ..."""
_UNSURE_ARM = np.array([0.8, 0.8, 1, 1, 0.8, 0.8], np.float32)
"""... and one whose mesh fits: then only its arm is unsure."""
_REST_REACH = 6.0
"""Pixels of movement over which the planes let go of the photo's exact pixels."""


@dataclass(frozen=True, kw_only=True)
class Gap:
    """A part of the photo that arms hide."""

    box: Box
    colour: Float32[np.ndarray, "h w 4"]
    """Premultiplied RGBA of what is behind, RGB in [-1, 1]."""
    rest: Float32[np.ndarray, "h w 3"]
    """What the planes at rest lack of the photo; fades in the first pixels of movement."""


@dataclass(frozen=True, kw_only=True)
class Layers:
    """The moving arms of one photo; `arms` is empty where none can be moved."""

    size: tuple[int, int]
    arms: tuple[Arm, ...]
    """In the order of drawing."""
    gaps: tuple[Gap, ...]
    clasped: bool
    """The hands lie over each other and move as one."""
    meeting: Meeting | None = None
    """How near two hands may come to each other."""
    notes: tuple[str, ...] = ()

    @staticmethod
    def build(portrait: Portrait, *, meshes: bool = True) -> Layers:
        """Cut the arms out: once per photo; a second for a megapixel, and one more for each hand's mesh."""
        return _build(portrait, meshes=meshes)

    @property
    def moves(self) -> tuple[bool, bool]:
        """Left, right: whether this arm moves."""
        sides = {arm.limb.side for arm in self.arms}
        return 0 in sides, 1 in sides

    def compose(
        self,
        body_frame: Float[Tensor, "3 h w"],
        body_flow: Float[Tensor, "2 h w"] | None,
        pose: Float[Tensor, "2 c"],
    ) -> Float[Tensor, "3 h w"]:
        """`body_frame` (the photo warped by `body_flow`) with its arms in `pose`, a row of `ArmPoses.values`.

        `body_flow` is backward, in pixels: photo position = own position + flow.
        """
        frame = body_frame.permute(1, 2, 0).cpu().numpy().copy(order="C")
        flow = None
        if body_flow is not None:
            flow = np.ascontiguousarray(body_flow.permute(1, 2, 0).cpu().numpy())
        self.lay(frame, flow, pose.cpu().numpy())
        return torch.from_numpy(frame).permute(2, 0, 1).contiguous()

    def lay(
        self,
        frame: Float32[np.ndarray, "h w 3"],
        flow: Float32[np.ndarray, "h w 2"] | None,
        pose: Float32[np.ndarray, "2 c"],
    ) -> None:
        """`compose` in place, for arrays with channels last."""
        if not self.arms:
            return
        for gap in self.gaps:
            _over(frame, _fetched(gap.colour, flow, gap.box), gap.box)
        poses = self._held(pose)
        for arm in self.arms:
            for plane in arm.planes:
                _lay_plane(frame, plane, arm.limb, flow, poses[arm.limb.side][:6])
            if arm.hand is not None:
                ride = _ride(flow, arm.limb.shoulder, 0.1 * arm.limb.unit)
                arm.hand.lay(frame, hand_pose(poses[arm.limb.side]), ride)
        self._lay_rest(frame, flow, poses)

    def _lay_rest(
        self, frame: Float32[np.ndarray, "h w 3"], flow: np.ndarray | None, poses: np.ndarray
    ) -> None:
        moved = 0.0
        for arm in self.arms:
            pose, span = poses[arm.limb.side], float(np.abs(arm.limb.hand - arm.limb.wrist).max())
            turns = pose[2:4] if arm.hand is None else np.append(pose[2:4], pose[6:])
            shift = float(np.abs(pose[[0, 1, 4, 5]]).max())
            moved = max(moved, shift, float(np.abs(turns).max()) * span)
        weight = 1 - moved / _REST_REACH
        if weight > 0:
            for gap in self.gaps:
                part = _part(frame, gap.box)
                part += weight * _fetched(gap.rest, flow, gap.box)

    def _held(self, pose: np.ndarray) -> np.ndarray:
        """The pose with clasped hands moved as one, others kept apart, and elbows brought along."""
        held = pose.astype(np.float32)
        if self.clasped:
            held[:, :4] = held[:, :4].mean(0) * np.array([0.6, 0.6, 0.3, 0.5], np.float32)
            held[:, 4:] *= 0.6
        elif self.meeting is not None:
            held = self.meeting.apart(held)
        for arm in self.arms:
            side = arm.limb.side
            if arm.limb.sureness < _SURE:
                held[side, :6] *= _UNSURE_POSE if arm.hand is None else _UNSURE_ARM
            if arm.limb.pinned_elbow:
                held[side, 4:6] = 0
                size = float(np.linalg.norm(held[side, :2]))
                held[side, :2] *= min(1.0, arm.stretch / max(size, 1e-6))
            else:
                held[side] = follow(held[side], arm.stretch)
        return held


def _part(picture: np.ndarray, box: Box) -> np.ndarray:
    """A view of the box."""
    return picture[box[1] : box[3], box[0] : box[2]]


def _over(frame: np.ndarray, colour: np.ndarray, box: Box) -> None:
    """A premultiplied RGBA picture over the frame in its box."""
    clear = 1 - cv2.extractChannel(colour, 3)
    part = frame[box[1] : box[3], box[0] : box[2]]
    part *= cv2.merge([clear, clear, clear])
    part += cv2.cvtColor(colour, cv2.COLOR_RGBA2RGB)


def _fetched(picture: np.ndarray, flow: np.ndarray | None, box: Box) -> np.ndarray:
    """The picture over a box, fetched from where the frame's flow points."""
    if flow is None:
        return picture
    flow = _part(flow, box)
    if np.abs(flow).max() < 0.02:
        return picture
    height, width = picture.shape[:2]
    xs, ys = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
    return cv2.remap(
        picture, xs + flow[..., 0], ys + flow[..., 1], cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REPLICATE,
    )  # fmt: skip


def _ride(flow: np.ndarray | None, point: np.ndarray, radius: float) -> np.ndarray:
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


def _draw(frame: np.ndarray, plane: Plane, box: Box, source: np.ndarray) -> None:
    """The plane over the frame's box; `source` are photo positions at the coarse points of `_target`."""
    x0, y0, x1, y1 = box
    full = (source.shape[1] * _STRIDE, source.shape[0] * _STRIDE)
    # Interpolate the displacement, not the position: cv2.resize holds values beyond the outermost centres.
    coarse = _target_points(box, source.shape[:2])
    move = cv2.resize(source - coarse, full, interpolation=cv2.INTER_LINEAR)[: y1 - y0, : x1 - x0]
    map_x = move[..., 0] + np.arange(x0, x1, dtype=np.float32) - plane.box[0]
    map_y = move[..., 1] + np.arange(y0, y1, dtype=np.float32)[:, None] - plane.box[1]
    colour = cv2.remap(plane.colour, map_x, map_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT)
    _over(frame, colour, box)


def _target_points(box: Box, shape: tuple[int, int]) -> np.ndarray:
    xs = box[0] + (np.arange(shape[1], dtype=np.float32) + 0.5) * _STRIDE
    ys = box[1] + (np.arange(shape[0], dtype=np.float32) + 0.5) * _STRIDE
    return np.stack(np.meshgrid(xs, ys), -1)


def _lay_plane(
    frame: np.ndarray, plane: Plane, limb: Limb, flow: np.ndarray | None, pose: np.ndarray
) -> None:
    ride = _ride(flow, limb.shoulder, 0.1 * limb.unit)
    span = float(np.linalg.norm(limb.hand - limb.wrist, axis=1).max()) + 0.1 * limb.unit
    turning = (abs(pose[2]) + abs(pose[3])) * span
    reach = max(np.abs(pose[:2]).max() + turning, np.abs(pose[4:]).max()) + np.abs(ride).max()
    box, target = _target(plane.box, float(reach), frame.shape[:2])
    carried = target + ride
    if flow is not None:  # at the shoulder exactly with the body, further down as one piece
        height, width = flow.shape[:2]
        x = target[..., 0].clip(0, width - 1).astype(int)
        y = target[..., 1].clip(0, height - 1).astype(int)
        weights = plane.field.at(target)
        hold = np.clip(weights.max(-1, keepdims=True) / 0.5, 0, 1)
        carried = target + hold * ride + (1 - hold) * flow[y, x]
    _draw(frame, plane, box, source_of(carried, plane.field, limb.wrist, pose))


def _build(portrait: Portrait, *, meshes: bool) -> Layers:
    seen, portrait = portrait, with_hands_by_skin(portrait)
    # Whether a hand is there is the finder's to say.
    portrait = replace(portrait, hands_present=seen.hands_present)
    size = portrait.size
    image = portrait.image.permute(1, 2, 0).cpu().numpy().astype(np.float32) / 2 + 0.5
    pixels = (image * 255 + 0.5).clip(0, 255).astype(np.uint8)
    limbs, masks, notes, fits = sound_limbs(pixels, portrait, seen if meshes else None)
    if not limbs:
        return Layers(size=size, arms=(), gaps=(), clasped=False, notes=notes)
    any_arm = np.maximum.reduce(masks)
    person = person_mask(pixels, portrait, any_arm, limbs)
    for limb, mask in zip(limbs, masks, strict=True):
        others = np.maximum.reduce([m for m in masks if m is not mask] or [0 * mask])
        mask[:] = np.where(others < 0.5, arm_of(person, portrait, limb, mask, image), mask)
    box = _union([limb_box(limb, size, 0.3 * limb.unit) for limb in limbs])
    local, origin = _part(image, box), (box[0], box[1])
    arms, moved = [], np.zeros(local.shape[:2], np.float32)
    for limb, mask in zip(limbs, masks, strict=True):
        arm, alpha = cut(local, _part(mask, box), limb, origin, meshed=limb.side in fits)
        if limb.side in fits and arm.planes:
            arm = give_hand(arm, *fits[limb.side])
        arms.append(arm)
        moved = np.maximum(moved, alpha)
    any_arm = np.maximum.reduce(masks)
    behind = _behind(local, moved, _part(person, box), _part(any_arm, box) > 0.3, limbs[0].unit)
    layers = Layers(
        size=size,
        arms=tuple(arms),
        gaps=tuple(_pieces(behind, _shown(arms, box), origin)),
        clasped=len(limbs) == 2 and clasped(limbs),
        meeting=Meeting.of(limbs),
        notes=notes,
    )
    still = 2 * image - 1
    layers.lay(still, None, np.zeros((2, 6), np.float32))
    rest = 2 * image - 1 - still
    gaps = tuple(replace(gap, rest=_part(rest, gap.box).copy()) for gap in layers.gaps)
    return replace(layers, gaps=gaps)


def _shown(arms: list[Arm], box: Box) -> np.ndarray:
    """Where planes at rest are, 0 or 1 over the box."""
    shown = np.zeros((box[3] - box[1], box[2] - box[0]), np.uint8)
    for plane in (plane for arm in arms for plane in arm.planes):
        x0, y0, x1, y1 = plane.box
        part = shown[y0 - box[1] : y1 - box[1], x0 - box[0] : x1 - box[0]]
        part |= (plane.colour[..., 3] > 0).astype(np.uint8)
    return shown


def _pieces(
    behind: Float32[np.ndarray, "h w 4"], shown: np.ndarray, origin: tuple[int, int]
) -> list[Gap]:
    """The separate parts of what is painted or shown by planes, each in its own box."""
    shown = shown | (behind[..., 3] > 0.004).astype(np.uint8)
    count, labels, stats, _ = cv2.connectedComponentsWithStats(shown, connectivity=8)
    gaps = []
    for label in range(1, count):
        x, y, width, height, _area = (int(v) for v in stats[label])
        rows, columns = slice(y, y + height), slice(x, x + width)
        colour = behind[rows, columns] * (labels[rows, columns] == label)[..., None]
        box = (origin[0] + x, origin[1] + y, origin[0] + x + width, origin[1] + y + height)
        gaps.append(Gap(box=box, colour=colour, rest=np.zeros((height, width, 3), np.float32)))
    return gaps


def _union(boxes: list[Box]) -> Box:
    x0, y0, x1, y1 = np.array(boxes).T
    return int(x0.min()), int(y0.min()), int(x1.max()), int(y1.max())


def _behind(
    image: np.ndarray, moved: np.ndarray, person: np.ndarray, limbs: np.ndarray, unit: float
) -> Float32[np.ndarray, "h w 4"]:
    """What the arms hide: torso continued from torso, background from background."""
    margin = max(2, round(_GAP_MARGIN * unit / 300))
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * margin + 1,) * 2)
    hole = cv2.dilate((moved > 0.02).astype(np.uint8), kernel) > 0
    blocked = cv2.dilate((limbs | hole).astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
    torso = layer_paint.hidden_torso(person, blocked)
    inner = cv2.erode(person.astype(np.uint8), kernel) > 0
    outer = cv2.dilate(person.astype(np.uint8), kernel) == 0
    cloth = layer_paint.paint(
        image, hole, inner & ~blocked, scale=3.0
    )  # weave, not collars and pockets
    room = layer_paint.paint(image, hole, outer & ~blocked)
    colour = torso[..., None] * cloth + (1 - torso[..., None]) * room
    wide = cv2.dilate(moved, kernel)
    alpha = cv2.GaussianBlur(wide, (0, 0), 0.5 * margin)
    return np.dstack([(2 * colour - 1) * alpha[..., None], alpha]).astype(np.float32)
