"""Hands that enter the picture from below: the photo shows a trunk and not these hands, the voice raises them (ours).

A posed stand-in hand with forearm and sleeve is drawn over the frame in the person's skin, cloth and light.  Each frame
needs its own motion and that of the frame before it, for what the shutter blurs; nothing else of the film.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np
from jaxtyping import Float, Float32

from emo2.hands.raster import Coverage, rasterise
from emo2.signals import Motion, Portrait
from emo2.video.entering_gap import ForearmGap, forearm_gaps
from emo2.video.entering_look import GAMMA, ArmLook, arm_look
from emo2.video.entering_mesh import Mesh, creases, limb_mesh
from emo2.video.entering_place import Place, entering_place
from emo2.video.entering_pose import EYE_M, LimbPose, limb_poses
from emo2.video.layer_cut import ease
from emo2.video.layer_draw import fetched_by, lay_over, ride_of

_FINE = 2
"""Supersampling of edges."""
_DISTANCE_M = 1.7
"""From camera to shoulders: hands that come nearer grow."""
_REACH_M = 0.22
"""From a wrist to the farthest that is drawn above it."""
_SHUTTER = 0.5
"""Share of a frame in which it is open."""
_LONGEST = 40.0
"""Pixels that it blurs at most."""
_SHADOW = 0.30
_SHADOW_BELOW_M, _SHADOW_SOFT_M = 0.035, 0.022
_NARROW_M = (0.006, 0.016)
"""Widths over which the depth of places is judged ..."""
_DEEP_M = 0.02
"""... and the sum of depths below the mean at which no more light is lost."""
_SHUT = np.array((0.30, 0.42, 0.46), np.float32)
"""Share of red, green and blue that narrow places lose at most: skin shines through itself in red."""
_APPEARS = (0.01, 0.12)
"""How far a hand is up where it begins to be drawn, and where all of it is."""
_BEYOND = 24
"""Pixels beyond the picture that are drawn too, for what is blurred back into it."""
_SEED = 7
"""Of creases and noise: every film of a photo has the same."""

Box = tuple[int, int, int, int]
Pair = tuple[LimbPose | None, ...]
"""Left, right; None where a hand is not to be seen."""


@dataclass(frozen=True, kw_only=True)
class Entering:
    """The hands of one photo that may come into view."""

    place: Place
    look: ArmLook
    folds: tuple[Float32[np.ndarray, "r n"], ...]
    """Creases of the sleeves."""
    trunk: Float32[np.ndarray, "h w"]
    """Where a shadow falls, 0..1."""
    noise: Float32[np.ndarray, "h w 1"]
    gaps: tuple[ForearmGap | None, ...]
    """What the photo's own hanging forearms hide, where they are in view."""

    @staticmethod
    def build(portrait: Portrait) -> Entering | None:
        """None where neither hand may; once per photo."""
        place = entering_place(portrait)
        if not any(place.sides):
            return None
        gaps = forearm_gaps(portrait, place)
        sides = tuple(
            may and not (shown and gap is None)
            for may, shown, gap in zip(place.sides, place.forearms, gaps, strict=True)
        )
        place = replace(place, sides=sides)
        look = arm_look(portrait, place)
        trunk = np.zeros(place.size, np.float32)
        if portrait.body_masks is not None:
            trunk = portrait.body_masks[0].clamp(0, 1).cpu().numpy()
            trunk = cv2.GaussianBlur(trunk, (0, 0), 0.01 * place.scale)
        rng = np.random.default_rng(_SEED)
        noise = (look.grain * rng.standard_normal((*place.size, 1))).astype(np.float32)
        folds = creases(rng), creases(rng)
        return Entering(place=place, look=look, folds=folds, trunk=trunk, noise=noise, gaps=gaps)

    def poses(self, motion: Motion) -> list[Pair]:
        """Of every frame; right for those that have `pose_reach` neighbours, or are the film's first and last."""
        seen = motion.visibility > 0.5
        pairs = limb_poses(motion.hands.cpu(), self.place, motion.fps)
        return [
            tuple(p if self.place.sides[k] and bool(here[k]) else None for k, p in enumerate(pair))
            for pair, here in zip(pairs, seen, strict=True)
        ]

    def lay(
        self, frame: Float32[np.ndarray, "h w 3"], flow: np.ndarray | None, now: Pair, before: Pair
    ) -> None:
        """Draw the hands over the frame in place; `flow` is the body's, backward, in pixels."""
        for pose, gap in zip(now, self.gaps, strict=True):
            if pose is not None and gap is not None and (share := _shown(pose)):
                lay_over(frame, share * fetched_by(gap.colour, flow, gap.box), gap.box)
        for side, (pose, old) in enumerate(zip(now, before, strict=True)):
            if pose is not None and _shown(pose):
                self._lay(frame, flow, side, pose, pose if old is None else old)

    def _lay(
        self, frame: np.ndarray, flow: np.ndarray | None, side: int, now: LimbPose, before: LimbPose
    ) -> None:
        top = self._pixels(now.numbers[None, 64:])[0, 1] - _REACH_M * self.place.scale
        if top > self.place.size[0]:
            return
        mesh = limb_mesh(now, side, None if self.look.cloth[side] is None else self.folds[side])
        points = self._pixels(mesh.points)
        shoulder = self.place.shoulders[side] * 0.8 + np.array((0.0, 0.05))
        points[:, :2] -= ride_of(flow, self.place.pixel(shoulder), 0.03 * self.place.scale)
        old, new = (self._pixels(_middle(pose))[0, :2] for pose in (before, now))
        smear = _SHUTTER * (new - old)
        smear *= min(1.0, _LONGEST / max(float(np.hypot(*smear)), 1e-6))
        box = self._box(points, 4 + int(np.abs(smear).max()) // 2)
        if box is None:
            return
        local = (points - np.array([box[0], box[1], 0], np.float32)) * np.float32(_FINE)
        layer = self._drawn(local, mesh, side, (box[3] - box[1], box[2] - box[0]))
        layer = _blurred(cv2.GaussianBlur(layer, (0, 0), self.look.soft), smear) * _shown(now)
        self._shadow(frame, layer[..., 3], box)
        self._over(frame, layer, box)

    def _over(self, frame: np.ndarray, layer: Float32[np.ndarray, "h w 4"], box: Box) -> None:
        height, width = self.place.size
        x0, y0, x1, y1 = max(box[0], 0), max(box[1], 0), min(box[2], width), min(box[3], height)
        inner = layer[y0 - box[1] : y1 - box[1], x0 - box[0] : x1 - box[0]]
        part = frame[y0:y1, x0:x1]
        part *= 1 - inner[..., 3:]
        part += inner[..., :3] + self.noise[y0:y1, x0:x1] * inner[..., 3:]

    def _shadow(self, frame: np.ndarray, alpha: Float32[np.ndarray, "h w"], box: Box) -> None:
        """What the limb takes of the light on the trunk behind it."""
        (height, width), scale = self.place.size, self.place.scale
        soft = _SHADOW_SOFT_M * scale
        grow = round(2.5 * soft)
        wide = cv2.copyMakeBorder(alpha, grow, grow, grow, grow, cv2.BORDER_CONSTANT)
        wide = cv2.GaussianBlur(wide, (0, 0), soft)
        left, top = box[0] - grow, box[1] - grow + round(_SHADOW_BELOW_M * scale)
        x0, y0 = max(left, 0), max(top, 0)
        x1, y1 = min(left + wide.shape[1], width), min(top + wide.shape[0], height)
        if x0 >= x1 or y0 >= y1:
            return
        dark = wide[y0 - top : y1 - top, x0 - left : x1 - left] * self.trunk[y0:y1, x0:x1]
        part = frame[y0:y1, x0:x1]
        part -= (part + 1) * (_SHADOW * dark)[..., None]

    def _pixels(self, metres: Float[np.ndarray, "n 3"]) -> Float32[np.ndarray, "n 3"]:
        """Perspective about the camera's height; depth in pixels too."""
        eye = np.array((0.0, EYE_M))
        near = _DISTANCE_M / (_DISTANCE_M - metres[:, 2:])
        flat = self.place.pixel(eye + (metres[:, :2] - eye) * near)
        return np.hstack((flat, metres[:, 2:] * self.place.scale)).astype(np.float32)

    def _box(self, points: Float32[np.ndarray, "v 3"], margin: int) -> Box | None:
        """What of the picture and a little beyond it the points cover; None where nothing inside."""
        height, width = self.place.size
        low, high = (points[:, :2].min(0) - margin), (points[:, :2].max(0) + margin)
        x0, y0 = max(int(low[0]), -_BEYOND), max(int(low[1]), -_BEYOND)
        x1, y1 = min(int(high[0]) + 1, width + _BEYOND), min(int(high[1]) + 1, height + _BEYOND)
        inside = x0 < min(x1, width) and y0 < min(y1, height) and min(x1, y1) > 0
        return (x0, y0, x1, y1) if inside else None

    def _drawn(
        self, points: Float32[np.ndarray, "v 3"], mesh: Mesh, side: int, size: tuple[int, int]
    ) -> Float32[np.ndarray, "h w 4"]:
        """Premultiplied RGBA over a box, RGB in [-1, 1]; `points` in its finer pixels."""
        fine = rasterise(points, mesh.faces, (size[0] * _FINE, size[1] * _FINE))
        layer = np.zeros((size[0] * size[1], 4), np.float32)
        if not len(fine.pixel):
            return layer.reshape(*size, 4)
        y, x = np.divmod(fine.pixel, size[1] * _FINE)
        cell = (y // _FINE) * size[1] + x // _FINE
        share = np.bincount(cell, minlength=len(layer)).astype(np.float32) / _FINE**2
        # Colours need one place a pixel; edges are mixed by the share that is covered.
        chosen = np.full(len(layer), -1)
        chosen[cell] = np.arange(len(cell))
        pixel = np.flatnonzero(chosen >= 0)
        chosen = chosen[pixel]
        seen = Coverage(pixel, fine.face[chosen], fine.corner[chosen])
        normal = seen.mix(mesh.normals(points), mesh.faces)
        normal /= np.sqrt((normal * normal).sum(1, keepdims=True)).clip(1e-6)
        depth = np.full(len(layer), np.nan, np.float32)
        depth[pixel] = seen.mix(points[:, 2:], mesh.faces)[:, 0] / (self.place.scale * _FINE)
        closed = self._closed(depth.reshape(size)).ravel()[pixel, None]
        colour = mesh.colours(seen, side, self.look, self.place.scale)
        colour *= self.look.shade(normal)[:, None] * (1 - closed * _SHUT)
        layer[pixel, :3] = 2 * colour.clip(0, 1) ** np.float32(1 / GAMMA) - 1
        layer[pixel, 3] = 1
        solid = mesh.solid(shown=self.place.forearms[side])
        layer[pixel] *= share[pixel, None] * seen.mix(solid, mesh.faces)
        return layer.reshape(*size, 4)

    def _closed(self, depth: Float32[np.ndarray, "h w"]) -> Float32[np.ndarray, "h w"]:
        """How narrow a place is, 0..1, by how far it lies below what is around it; depth in metres, NaN: nothing."""
        half = tuple(max(1, n // 2) for n in depth.shape)[::-1]
        filled = np.nan_to_num(depth)
        known, small = (
            cv2.resize(z, half, interpolation=cv2.INTER_AREA)
            for z in ((~np.isnan(depth)).astype(np.float32), filled)
        )
        shut = np.zeros(depth.shape, np.float32)
        for metres in _NARROW_M:
            sigma = 0.5 * metres * self.place.scale
            weight = cv2.GaussianBlur(known, (0, 0), sigma)
            mean = cv2.GaussianBlur(small, (0, 0), sigma) / np.maximum(weight, 1e-3)
            mean, weight = (cv2.resize(z, depth.shape[::-1]) for z in (mean, weight))
            shut += np.clip(mean - filled, 0, 0.02) * weight
        return np.minimum(shut / _DEEP_M, 1)


def _shown(pose: LimbPose) -> float:
    """How much of a limb is drawn: a hanging one is the photo's own, in view or not."""
    return float(ease(np.array([pose.up]), *_APPEARS)[0])


def _middle(pose: LimbPose) -> Float[np.ndarray, "1 3"]:
    """Of the hand, about."""
    wrist = pose.numbers[64:]
    return (wrist + 0.25 * (wrist - pose.elbow))[None]


def _blurred(
    layer: Float32[np.ndarray, "h w 4"], move: Float[np.ndarray, "2"]
) -> Float32[np.ndarray, "h w 4"]:
    """Smeared along a move in pixels, as an open shutter does."""
    length = float(np.hypot(*move))
    if length < 1.0:
        return layer
    reach = int(np.ceil(length / 2)) + 1
    kernel = np.zeros((2 * reach + 1, 2 * reach + 1), np.float32)
    for step in np.linspace(-0.5, 0.5, max(3, 2 * int(np.ceil(length)))):
        (x, y), (fx, fy) = np.divmod(reach + step * move, 1)
        j, i = int(x), int(y)
        kernel[i : i + 2, j : j + 2] += np.outer((1 - fy, fy), (1 - fx, fx))
    return cv2.filter2D(layer, -1, kernel / kernel.sum(), borderType=cv2.BORDER_REPLICATE)
