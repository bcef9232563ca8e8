"""Guidance maps: `Motion` seen through the photo's camera (design §5).

The hand surface carries a fixed colour code: the place on the hand at rest (along the fingers, across the palm,
back to front), so that equal colours in two frames are the same piece of skin; left and right have their channels
in opposite order.  The key points show head, neck and shoulders.  The face region is EMO's Face Locator.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache

import cv2
import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from emo2.hands.model import HandModel, hand_faces, pose_hands
from emo2.hands.raster import rasterise
from emo2.hands.standin import stand_in
from emo2.signals import BODY_POINTS, GuidanceMaps, Motion, Portrait

Array = np.ndarray

SHOULDERS_M = 0.36
"""Width between the shoulder joints in the frame of `Motion` (design §3)."""
FACE_WIDTH_M = 0.15
"""Ear to ear, for a body with such shoulders (ours: median of 97 people of the studio, seen from the front)."""
FACE_HEIGHT_M = 0.146
"""Brow to chin."""
CHIN_ABOVE_SHOULDERS_M = 0.15

_SURE = 0.3  # a point with less confidence is not used
_TURNED = 0.7  # shoulders that look narrower than this share of what the face says belong to a turned body
_SUPERSAMPLE = 2
_CODE_RANGE = (-1.0, 0.6)  # of the hand's colours: white stays the background's

_DISCS = {  # point -> colour in 0..1
    "head_top": (1.0, 0.9, 0.2), "neck": (0.2, 1.0, 0.3), "left_shoulder": (0.2, 0.5, 1.0),
    "right_shoulder": (1.0, 0.3, 0.3),
}  # fmt: skip
_LIMBS = {
    ("head_top", "neck"): (0.6, 0.9, 0.2), ("neck", "left_shoulder"): (0.1, 0.6, 0.5),
    ("neck", "right_shoulder"): (0.6, 0.5, 0.2),
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Camera:
    """Weak perspective: metres of the frame of `Motion` to pixels; everything that depends on the photo."""

    scale: Float[Tensor, "2"]
    """Pixels a metre, along x and y."""
    centre: Float[Tensor, "2"]
    """Pixel of the frame's origin, between the shoulders."""
    size: tuple[int, int]
    """(height, width) of the picture it projects to."""
    body_points: Float[Tensor, "8 3"]
    """The photo's own points (`BODY_POINTS`): x, y in metres, confidence."""
    face_box: Float[Tensor, "4"]
    """x0, y0, x1, y1 in metres."""

    def project(self, points: Float[Tensor, "*b d"]) -> Float[Tensor, "*b 2"]:
        """Metres (x, y and, if given, z, which does not matter) to pixels."""
        return points[..., :2] * self.scale + self.centre

    def lift(self, pixels: Float[Tensor, "*b 2"]) -> Float[Tensor, "*b 2"]:
        """Pixels to metres in the plane of the shoulders."""
        return (pixels - self.centre) / self.scale

    def view(self, box: Float[Tensor, "4"], size: tuple[int, int]) -> Camera:
        """The camera of a crop (x0, y0, x1, y1 in pixels) scaled to `size`."""
        factor = torch.tensor((size[1], size[0])) / (box[2:] - box[:2])
        return replace(
            self, scale=self.scale * factor, centre=(self.centre - box[:2]) * factor, size=size
        )

    def resized(self, size: tuple[int, int]) -> Camera:
        """The camera of the whole picture at another size."""
        return self.view(torch.tensor((0.0, 0.0, self.size[1], self.size[0])), size)


def fit_camera(portrait: Portrait) -> Camera:
    """Put the frame's shoulders onto the photo's; where they are not seen, go by the face.

    A body turned to the side shows narrow shoulders; then the face, which keeps its height, says the scale.
    """
    by_face = face_scale(portrait)
    left, right = (
        portrait.body_points[BODY_POINTS.index(f"{s}_shoulder")] for s in ("left", "right")
    )
    chin = portrait.face_points[8]
    if min(float(left[2]), float(right[2])) >= _SURE:
        wide = float((left[:2] - right[:2]).norm()) / SHOULDERS_M
        scale = max(wide, _TURNED * by_face)
        centre = (left[:2] + right[:2]) / 2
    else:
        scale = by_face
        centre = chin + torch.tensor((0.0, CHIN_ABOVE_SHOULDERS_M)) * scale
    both = torch.tensor((scale, scale))
    points = torch.cat(
        ((portrait.body_points[:, :2] - centre) / both, portrait.body_points[:, 2:]), 1
    )
    return Camera(
        scale=both,
        centre=centre,
        size=portrait.size,
        body_points=points,
        face_box=(portrait.face_box - centre.repeat(2)) / scale,
    )


def draw(
    motion: Motion,
    camera: Camera,
    size: tuple[int, int],
    *,
    frames: range | None = None,
    model: HandModel | None = None,
) -> GuidanceMaps:
    """Draw some frames of the motion at `size` (h, w); the motion's frame 0 is the photo's own pose.

    The camera may be the photo's (it is scaled to `size`) or a crop's (`Camera.view`).
    """
    frames = range(len(motion)) if frames is None else frames
    model = model or stand_in()
    camera = camera.resized(size)
    surface, masks = _draw_hands(motion, camera, frames, model)
    body = _moved_body(motion, camera, frames)
    return GuidanceMaps(
        hand_surface=surface,
        key_points=torch.stack([_draw_body(points, camera) for points in body]),
        hand_masks=masks,
        confidence=motion.confidence[frames.start : frames.stop],
        face_region=_face_region(motion, camera, frames),
    )


def face_scale(portrait: Portrait) -> float:
    """Pixels a metre by the face's larger reading: a turned face is narrow, a bowed one short."""
    points = portrait.face_points
    wide = float((points[0] - points[16]).norm()) / FACE_WIDTH_M
    high = float((points[[19, 24]].mean(0) - points[8]).norm()) / FACE_HEIGHT_M
    return max(wide, high)


def _draw_hands(
    motion: Motion, camera: Camera, frames: range, model: HandModel
) -> tuple[Float[Tensor, "f 3 h w"], Float[Tensor, "f 2 h w"]]:
    chosen = slice(frames.start, frames.stop)
    fine = camera.resized((camera.size[0] * _SUPERSAMPLE, camera.size[1] * _SUPERSAMPLE))
    with torch.no_grad():
        vertices = pose_hands(model, motion.hands[chosen].cpu(), motion.betas.cpu()).vertices
        depth = vertices[..., 2:] * fine.scale.mean()
        pixels = torch.cat((fine.project(vertices), depth), -1).flatten(1, 2).numpy()
    visible = motion.visibility[chosen].cpu().numpy() > 0.5
    faces = _both_faces(model)
    code = _colour_code(model)
    height, width = camera.size
    half = len(faces) // 2
    drawn = np.zeros(
        (len(pixels), 5, height * width), np.float32
    )  # colour above white, left and right mask
    for f, points in enumerate(pixels):
        first, last = 0 if visible[f, 0] else half, len(faces) if visible[f, 1] else half
        if first == last:
            continue
        seen = rasterise(points, faces[first:last], fine.size)
        right = seen.face + first >= half
        values = np.column_stack((seen.mix(code, faces[first:last]) - 1, ~right, right))
        cell = _coarse_cells(seen.pixel, fine.size)
        for channel in range(5):
            drawn[f, channel] = np.bincount(cell, values[:, channel], height * width)
    maps = torch.from_numpy(drawn / _SUPERSAMPLE**2).unflatten(-1, (height, width))
    return maps[:, :3] + 1, maps[:, 3:]


def _coarse_cells(pixel: Int[Array, " n"], size: tuple[int, int]) -> Int[Array, " n"]:
    """Which cell of the map each pixel of the supersampled image of `size` belongs to."""
    y, x = np.divmod(pixel, size[1])
    return (y // _SUPERSAMPLE) * (size[1] // _SUPERSAMPLE) + x // _SUPERSAMPLE


@cache
def _both_faces(model: HandModel) -> Array:
    """Faces of the left mesh, then of the right one behind it in the vertex list."""
    left, right = (hand_faces(model, side).numpy() for side in ("left", "right"))
    return np.concatenate((left, right + len(model.template)))


@cache
def _colour_code(model: HandModel) -> Float[Array, "v2 3"]:
    """Colours of both meshes' vertices: place at rest; the left hand's channels run the other way."""
    low, high = model.template.min(0).values, model.template.max(0).values
    place = ((model.template - low) / (high - low)).numpy()
    code = (_CODE_RANGE[0] + (_CODE_RANGE[1] - _CODE_RANGE[0]) * place).astype(np.float32)
    return np.concatenate((code[:, ::-1], code))


def _moved_body(motion: Motion, camera: Camera, frames: range) -> Float[Tensor, "f 8 3"]:
    """The photo's points, moved by what torso and head do after the motion's first frame; metres."""
    points = camera.body_points
    moved = points.expand(len(frames), -1, -1).clone()
    index = {n: i for i, n in enumerate(BODY_POINTS)}
    if motion.body is not None:
        change = motion.body[frames.start : frames.stop] - motion.body[0]
        spine = torch.tensor(
            (0.0, 0.5, 0.0)
        )  # the torso turns about a point half a metre below the shoulders
        places = torch.cat((points[:, :2], torch.zeros(8, 1)), 1)
        turn = turn_matrix(change[:, :3])
        moved[..., :2] = torch.einsum("frc,pc->fpr", turn, places - spine)[..., :2] + spine[:2]
        moved[:, index["left_shoulder"], 1] -= change[:, 3]
        moved[:, index["right_shoulder"], 1] -= change[:, 4]
    if motion.head is not None:
        neck = moved[:, index["neck"], :2].clone()
        up = torch.cat((moved[:, index["head_top"], :2] - neck, torch.zeros(len(frames), 1)), 1)
        moved[:, index["head_top"], :2] = neck + _head_change(motion, frames, up)
    return moved


def _head_change(motion: Motion, frames: range, arm: Float[Tensor, "f 3"]) -> Float[Tensor, "f 2"]:
    """Where a point fixed to the head goes, seen from the neck, by what the head does after frame 0."""
    assert motion.head is not None
    change = motion.head[frames.start : frames.stop] - motion.head[0]
    turned = torch.einsum("frc,fc->fr", turn_matrix(change[:, :3]), arm)
    return turned[:, :2] + change[:, 3:5]


def turn_matrix(angles: Float[Tensor, "*b 3"]) -> Float[Tensor, "*b 3 3"]:
    """Yaw (z towards x), pitch (z towards y), roll (x towards y) as one matrix: roll after pitch after yaw."""
    yaw, pitch, roll = angles.unbind(-1)
    one, zero = torch.ones_like(yaw), torch.zeros_like(yaw)

    def matrix(*rows: Tensor) -> Tensor:
        return torch.stack(rows, -1).unflatten(-1, (3, 3))

    turn = matrix(yaw.cos(), zero, yaw.sin(), zero, one, zero, -yaw.sin(), zero, yaw.cos())
    nod = matrix(one, zero, zero, zero, pitch.cos(), pitch.sin(), zero, -pitch.sin(), pitch.cos())
    tilt = matrix(roll.cos(), -roll.sin(), zero, roll.sin(), roll.cos(), zero, zero, zero, one)
    return tilt @ nod @ turn


def _draw_body(points: Float[Tensor, "8 3"], camera: Camera) -> Float[Tensor, "3 h w"]:
    """Discs and limbs in colour on black, as far as the photo shows the points."""
    height, width = (s * _SUPERSAMPLE for s in camera.size)
    image = np.zeros((height, width, 3), np.float32)
    fine = camera.project(points) * _SUPERSAMPLE
    sure = {n: points[i, 2] >= _SURE for i, n in enumerate(BODY_POINTS)}
    place = {
        n: tuple(fine[i].clamp(-4096, 4096).round().int().tolist())
        for i, n in enumerate(BODY_POINTS)
    }
    radius = max(2, round(float(camera.scale.mean()) * _SUPERSAMPLE * 0.02))
    for (start, end), colour in _LIMBS.items():
        if sure[start] and sure[end]:
            cv2.line(image, place[start], place[end], colour, max(1, radius))
    for name, colour in _DISCS.items():
        if sure[name]:
            cv2.circle(image, place[name], radius, colour, -1)
    coarse = cv2.resize(image, camera.size[::-1], interpolation=cv2.INTER_AREA)
    return torch.from_numpy(coarse.transpose(2, 0, 1) * 2 - 1)


def _face_region(motion: Motion, camera: Camera, frames: range) -> Float[Tensor, "1 h w"]:
    """A soft box around everywhere the face goes in these frames (EMO §3.1, Face Locator)."""
    box = camera.face_box
    shift = torch.zeros(len(frames), 2)
    if motion.head is not None:
        neck = camera.body_points[BODY_POINTS.index("neck")]
        below = neck[:2] if neck[2] >= _SURE else torch.stack(((box[0] + box[2]) / 2, box[3]))
        arm = torch.cat(((box[:2] + box[2:]) / 2 - below, torch.zeros(1)))
        shift = _head_change(motion, frames, arm.expand(len(frames), 3)) - arm[:2]
    low = camera.project(box[:2] + shift.min(0).values)
    high = camera.project(box[2:] + shift.max(0).values)
    soft = ((high - low).mean() * 0.15).clamp_min(1.0)
    y, x = (torch.arange(s) + 0.5 for s in camera.size)
    across = torch.minimum(x - low[0], high[0] - x) / soft
    down = torch.minimum(y - low[1], high[1] - y) / soft
    return (torch.minimum(across[None], down[:, None]) + 1).clamp(0, 1)[None]
