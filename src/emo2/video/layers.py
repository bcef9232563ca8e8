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

from emo2.portrait.skin import hand_by_skin, with_hands_by_skin
from emo2.signals import HAND_SIDES, Portrait
from emo2.video import layer_paint
from emo2.video.arm_cutter import ArmCutter, ArmShares, fore_of
from emo2.video.arm_finding import FittedHand, fitted_hands, sound_limbs
from emo2.video.arm_sights import see_arms
from emo2.video.arm_surface import ArmSurface, elbow_shift
from emo2.video.hand_layer import give_hand, hand_pose
from emo2.video.hand_sight import LEAST_SURE
from emo2.video.hands_meeting import Meeting, clasped
from emo2.video.layer_cut import Arm, Box, HandCut, cut
from emo2.video.layer_draw import fetched_by, lay_over, lay_plane, part_of, ride_of, shrug
from emo2.video.layer_masks import limb_box
from emo2.video.layer_motion import follow
from emo2.video.layer_person import arm_of, person_mask, without_islands

_GAP_MARGIN = 6
"""Pixels by which the painted gap is wider than the arms, at a shoulder width of 300 pixels."""
_UNSURE_POSE = np.array([0.6, 0.6, 0.3, 1, 0.6, 0.6], np.float32)
"""Share of a pose (`POSE`) that a hand with unsure points makes."""
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
    surface: ArmSurface | None = None
    """How arms between shoulder and wrist move; None: in proportion to their joints."""
    elbows_told: bool = False
    """Poses tell where elbows are; stage 1 does not know, so that films take what `surface` says of such an arm."""

    @staticmethod
    def build(
        portrait: Portrait,
        *,
        surface: ArmSurface | None = None,
        cutter: ArmCutter | None = None,
        meshes: bool = True,
    ) -> Layers:
        """Cut the arms out: once per photo; a second for a megapixel, and one more for each hand's mesh.

        `cutter` says what is arm; None: what the finder says, and colours.
        """
        return replace(_build(portrait, cutter, meshes=meshes), surface=surface)

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
        poses = self._held(pose)
        for arm in self.arms:
            surface = self._surface_of(arm)
            if surface is not None:
                shrug(frame, arm.limb, flow, poses[arm.limb.side], surface)
        for gap in self.gaps:
            lay_over(frame, fetched_by(gap.colour, flow, gap.box), gap.box)
        for arm in self.arms:
            surface = self._surface_of(arm)
            for plane in arm.planes:
                lay_plane(frame, plane, arm.limb, flow, poses[arm.limb.side], surface)
            if arm.hand is not None:
                ride = ride_of(flow, arm.limb.shoulder, 0.1 * arm.limb.unit)
                arm.hand.lay(frame, hand_pose(poses[arm.limb.side]), ride)
        self._lay_rest(frame, flow, poses)

    def _surface_of(self, arm: Arm) -> ArmSurface | None:
        return None if arm.limb.pinned_elbow or self.clasped else self.surface

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
                part = part_of(frame, gap.box)
                part += weight * fetched_by(gap.rest, flow, gap.box)

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
            surface = self._surface_of(arm)
            if surface is not None and not self.elbows_told:
                held[side, 4:6] = elbow_shift(surface, arm.limb, held[side])
            if arm.limb.sureness < LEAST_SURE:
                held[side, :6] *= _UNSURE_POSE
            if arm.limb.pinned_elbow:
                held[side, 4:6] = 0
                size = float(np.linalg.norm(held[side, :2]))
                held[side, :2] *= min(1.0, arm.stretch / max(size, 1e-6))
            else:
                held[side] = follow(held[side], arm.stretch)
        return held


def _build(portrait: Portrait, cutter: ArmCutter | None, *, meshes: bool) -> Layers:
    size = portrait.size
    image = portrait.image.permute(1, 2, 0).cpu().numpy().astype(np.float32) / 2 + 0.5
    pixels = (image * 255 + 0.5).clip(0, 255).astype(np.uint8)
    portrait, fits, shares = _look(portrait, pixels, cutter, meshes=meshes)
    limbs, masks, notes = sound_limbs(pixels, portrait, fits)
    if meshes:
        notes += tuple(
            f"no 3-D hand fits the {HAND_SIDES[limb.side]} hand surely; it moves in the plane only"
            for limb in limbs
            if limb.side not in fits
        )
    if not limbs:
        return Layers(size=size, arms=(), gaps=(), clasped=False, notes=notes)
    any_arm = np.maximum.reduce(masks)
    seen = [shares[limb.side] for limb in limbs if limb.side in shares]
    person = person_mask(pixels, portrait, any_arm, limbs, seen)
    for limb, mask in zip(limbs, masks, strict=True):
        others = np.maximum.reduce([m for m in masks if m is not mask] or [0 * mask])
        mask[:] = np.where(
            others < 0.5, arm_of(person, portrait, limb, mask, image, shares.get(limb.side)), mask
        )
    box = _union([limb_box(limb, size, 0.3 * limb.unit) for limb in limbs])
    local, origin = part_of(image, box), (box[0], box[1])
    arms, moved = [], np.zeros(local.shape[:2], np.float32)
    for limb, mask in zip(limbs, masks, strict=True):
        known = shares.get(limb.side)
        fore = None if known is None else part_of(fore_of(known), box)
        skin = hand_by_skin(portrait, limb.side)
        if fore is not None and skin is not None:
            fore = fore | part_of(skin, box)
        flesh, hand = fits[limb.side].flesh() if limb.side in fits else (None, None)
        shown = None
        if flesh is not None and hand is not None:
            shown = HandCut(mask=part_of(hand, box), wrist=flesh.wrist())
        arm, alpha = cut(local, part_of(mask, box), limb, origin, hand=shown, fore=fore)
        if flesh is not None and hand is not None and arm.planes:
            arm = give_hand(arm, flesh, hand, None if known is None else known[3])
        arms.append(arm)
        moved = np.maximum(moved, alpha)
    any_arm = np.maximum.reduce(masks) > 0.3
    trunk = part_of(without_islands(person, any_arm, portrait), box)
    behind = behind_arms(local, moved, trunk, part_of(any_arm, box), limbs[0].unit)
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
    gaps = tuple(replace(gap, rest=part_of(rest, gap.box).copy()) for gap in layers.gaps)
    return replace(layers, gaps=gaps)


def _look(
    portrait: Portrait, pixels: np.ndarray, cutter: ArmCutter | None, *, meshes: bool
) -> tuple[Portrait, dict[int, FittedHand], dict[int, ArmShares]]:
    """Hands that a mesh fits, others by their skin, elbows and shares by the cutter, where it knows the arm."""
    found, sights = portrait, {}
    if cutter is not None:
        portrait, sights = see_arms(cutter, pixels, found, portrait)
    fits = fitted_hands(pixels, portrait) if meshes else {}
    portrait = with_hands_by_skin(portrait, keep=fits)
    # Whether a hand is there is the finder's to say.
    portrait = replace(portrait, hands_present=found.hands_present)
    if cutter is not None:  # again with the hands that are now elsewhere
        portrait, others = see_arms(cutter, pixels, found, portrait, skip=fits)
        sights = {side: sight for side, sight in sights.items() if side in fits} | others
    shares = {side: sight.shares for side, sight in sights.items()}
    fits = {s: f.without_forearm(shares[s]) if s in shares else f for s, f in fits.items()}
    return portrait, fits, shares


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


def behind_arms(
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
    room = layer_paint.paint(image, hole, outer & ~blocked, scale=6.0, room=True)
    colour = torso[..., None] * cloth + (1 - torso[..., None]) * room
    wide = cv2.dilate(moved, kernel)
    alpha = cv2.GaussianBlur(wide, (0, 0), 0.5 * margin)
    return np.dstack([(2 * colour - 1) * alpha[..., None], alpha]).astype(np.float32)
