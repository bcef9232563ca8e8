"""The hand of a photo as a layer that its own fitted mesh moves: curl, tilt and turn-over of what the photo shows.

Part of the arm layers (design §6).  The mesh is drawn in the wanted pose; every pixel of it knows where the same piece
of skin lies in the photo, and takes colour and soft edge from there.  A shell around the mesh carries the
edge and what the fit missed.  Skin that the photo hides is filled from the seen skin around it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, Int

from emo2.hands.flesh import Flesh
from emo2.hands.raster import Coverage, rasterise, vertex_normals
from emo2.video.hand_behind import without_hand
from emo2.video.layer_cut import Arm, ease
from emo2.video.layer_motion import Field

Box = tuple[int, int, int, int]

_SHELL_M = 0.004
"""Thickness of the shell: what the fit may miss by."""
_START_M = (-0.004, 0.016)
"""Distances beyond the wrist over which the hand's layer begins ..."""
_STUB_M = (0.008, 0.026)
"""... and over which the arm's layer ends below it."""
_GRAZING = (0.08, 0.3)
"""Cosine between view and normal in the photo under which skin counts as not seen: there a pixel would be a streak."""
_REACH_M = 0.012
"""Distance from the mesh up to which skin of the hand's mask counts as the hand."""
_HIDDEN_M = 0.007
"""Depth behind the photo's surface from which skin is hidden."""
_BEND_LIMITS = (-0.25, 1.5)
_RIM_M = 0.006
"""Width of the soft edge around the hand's mask that goes with it."""
_FINE = 2
"""Supersampling of the mesh's edges."""
_DIFFUSION = 160
"""Rounds in which colours spread over the mesh."""


@dataclass(frozen=True, kw_only=True)
class HandPose:
    """A change against the photo."""

    shift: Float32[np.ndarray, "2"]
    """Of the wrist, pixels."""
    elbow: Float32[np.ndarray, "2"]
    turn: Float32[np.ndarray, "3"]
    """Rotation vector in the picture's numbers (x right, y down, z to the camera)."""
    zoom: float
    """Natural logarithm."""
    flex: Float32[np.ndarray, "15"]
    """Added to the fit's."""


def hand_pose(row: Float32[np.ndarray, " n"]) -> HandPose:
    """From a row of `POSE` and `HAND`; what is missing is the photo's own."""
    rest = np.zeros(17, np.float32)
    rest[: len(row) - 6] = row[6:]
    return HandPose(
        shift=row[:2], elbow=row[4:6], turn=np.array((rest[0], rest[1], row[2]), np.float32), zoom=float(row[3]),
        flex=rest[2:],
    )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class HandLayer:
    """One hand, ready to move."""

    flesh: Flesh
    faces: Int[np.ndarray, "f 3"]
    """Of the mesh, then of the shell around it."""
    rest: Float32[np.ndarray, "v 3"]
    """Mesh and shell in the photo, pixels."""
    along: Float32[np.ndarray, "m"]
    """Metres beyond the wrist, of the mesh's vertices."""
    weights: Float32[np.ndarray, "m 3"]
    """Shares of the arm's field (`Field.weights`) there; 1 in the hand."""
    seen: Float32[np.ndarray, "m"]
    """How well the photo shows the skin, 0..1, neighbours in front not counted."""
    skin: Float32[np.ndarray, "m 3"]
    """Colours without their shade, [0, 1]; spread to where the photo shows none."""
    shade: Float32[np.ndarray, "4"]
    """Brightness by normal: 1, x, y, z."""
    colour: Float32[np.ndarray, "h w 4"]
    """Premultiplied RGBA of the photo's hand, RGB in [-1, 1]."""
    depth: Float32[np.ndarray, "h w"]
    """Of the mesh's front in the photo, pixels; far away where there is none."""
    owned: Float32[np.ndarray, "h w"]
    """1 where the mesh itself lies in the photo: the shell shows nothing of that."""
    box: Box

    @property
    def pixels_a_metre(self) -> float:
        """Scale of the hand."""
        return self.flesh.scale

    def lay(self, frame: Float32[np.ndarray, "h w 3"], pose: HandPose, ride: np.ndarray) -> None:
        """Draw the hand over the frame in place; `ride` is the body's backward flow at the arm."""
        points, normals = self.moved(pose)
        points[:, :2] -= ride
        box = _box_of(points, frame.shape[:2])
        if box is None:
            return
        local = (points - np.array([box[0], box[1], 0], np.float32)) * (_FINE, _FINE, 1)
        size = (box[3] - box[1], box[2] - box[0])
        fine = (size[0] * _FINE, size[1] * _FINE)
        seen = rasterise(local.astype(np.float32), self.faces, fine)
        if not len(seen.pixel):
            return
        premultiplied = cv2.resize(
            self._coloured(seen, fine, normals), size[::-1], interpolation=cv2.INTER_AREA
        )
        part = frame[box[1] : box[3], box[0] : box[2]]
        part *= 1 - premultiplied[..., 3:]
        part += premultiplied[..., :3]

    def moved(
        self, pose: HandPose
    ) -> tuple[Float32[np.ndarray, "v 3"], Float32[np.ndarray, "m 3"]]:
        """Vertices of mesh and shell in a pose, and the mesh's normals."""
        fit, (low, high) = self.flesh.fit, _BEND_LIMITS
        flex = fit.flex + torch.from_numpy(pose.flex)
        flex = torch.maximum(torch.minimum(flex, fit.flex.clamp(min=high)), fit.flex.clamp(max=low))
        mesh = self.flesh.posed(flex)
        wrist = np.append(fit.wrist.numpy(), 0).astype(np.float32)
        hand, upper, rigid = (self.weights[:, k : k + 1] for k in range(3))
        turned = _turned(mesh - wrist, rigid * pose.turn) * np.exp(pose.zoom * rigid)
        shift = (1 - hand) * upper * pose.elbow + hand * pose.shift
        mesh = (wrist + turned).astype(np.float32)
        mesh[:, :2] += shift
        faces = self.faces[: len(self.faces) // 2]
        normals = vertex_normals(mesh, faces).astype(np.float32)
        return _with_shell(mesh, normals, _SHELL_M * self.pixels_a_metre), normals

    def _coloured(
        self, seen: Coverage, size: tuple[int, int], normals: Float32[np.ndarray, "m 3"]
    ) -> Float32[np.ndarray, "h w 4"]:
        """Premultiplied RGBA of the drawn mesh."""
        count = len(self.skin)
        bright = np.column_stack((np.ones(count, np.float32), normals)) @ self.shade
        filled = 2 * (self.skin * bright[:, None]).clip(0, 1) - 1
        table = np.column_stack((self.rest[:count], self.seen, filled)).astype(np.float32)
        shell = table.copy()
        shell[:, :3] = self.rest[count:]
        values = seen.mix(np.concatenate((table, shell)), self.faces)
        solid = seen.face < len(self.faces) // 2
        maps = np.zeros((size[0] * size[1], 8), np.float32)
        maps[:, :2] = -1e4
        maps[seen.pixel, :7] = values
        maps[seen.pixel, 7] = solid
        maps = maps.reshape(*size, 8)
        place_x, place_y = maps[..., 0] - self.box[0] - 0.5, maps[..., 1] - self.box[1] - 0.5
        place_x, place_y = np.ascontiguousarray(place_x), np.ascontiguousarray(place_y)
        photo = cv2.remap(
            self.colour, place_x, place_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT
        )
        front = cv2.remap(
            self.depth,
            place_x,
            place_y,
            cv2.INTER_LINEAR,
            borderMode=cv2.BORDER_CONSTANT,
            borderValue=-1e4,
        )
        behind = (front - maps[..., 2]) / (_HIDDEN_M * self.pixels_a_metre)
        shown = maps[..., 3] * np.clip(2 - behind, 0, 1)
        shown = np.where(maps[..., 7] > 0, shown, 1)
        owned = cv2.remap(
            self.owned, place_x, place_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT
        )
        photo *= (1 - (1 - maps[..., 7]) * owned)[..., None]
        hidden = (maps[..., 7] * (1 - shown)).astype(np.float32)
        hidden = cv2.blur(hidden, (3, 3))[..., None]
        fill = np.dstack((maps[..., 4:7], np.ones(size, np.float32)))
        return photo * (1 - hidden) + fill * hidden


def _with_shell(
    mesh: Float32[np.ndarray, "m 3"], normals: Float32[np.ndarray, "m 3"], thick: float
) -> Float32[np.ndarray, "v 3"]:
    """The mesh, and behind all of it the same mesh blown up."""
    shell = mesh + thick * normals
    shell[:, 2] -= 1e3
    return np.concatenate((mesh, shell))


def _turned(
    vectors: Float32[np.ndarray, "m 3"], rotations: Float32[np.ndarray, "m 3"]
) -> Float32[np.ndarray, "m 3"]:
    """Each vector turned by its rotation vector (Rodrigues)."""
    angle = np.linalg.norm(rotations, axis=1, keepdims=True)
    axis = rotations / np.maximum(angle, 1e-9)
    cos, sin = np.cos(angle), np.sin(angle)
    inner = (axis * vectors).sum(1, keepdims=True)
    return vectors * cos + np.cross(axis, vectors) * sin + axis * inner * (1 - cos)


def _box_of(points: Float32[np.ndarray, "v 3"], size: tuple[int, int]) -> Box | None:
    low, high = np.floor(points[:, :2].min(0)) - 2, np.ceil(points[:, :2].max(0)) + 2
    x0, y0 = max(int(low[0]), 0), max(int(low[1]), 0)
    x1, y1 = min(int(high[0]), size[1]), min(int(high[1]), size[0])
    return (x0, y0, x1, y1) if x0 < x1 and y0 < y1 else None


def give_hand(
    arm: Arm,
    flesh: Flesh,
    hand: Float32[np.ndarray, "h w"],
    forearm: Float32[np.ndarray, "h w"] | None = None,
) -> Arm:
    """The arm with its hand in a layer of its own, taken out of the plane that showed it; masks over the photo."""
    plane = arm.planes[-1]
    alpha = plane.colour[..., 3:]
    colour = (plane.colour[..., :3] / np.maximum(alpha, 1e-3) + 1) / 2
    cutout = Cutout(colour=colour.clip(0, 1), alpha=alpha[..., 0], field=plane.field, box=plane.box)
    x0, y0, x1, y1 = plane.box
    layer, taken = hand_layer(flesh, cutout, hand[y0:y1, x0:x1])
    shown = None if forearm is None else forearm[y0:y1, x0:x1]
    rest = replace(plane, colour=without_hand(plane, taken, arm.limb, shown, flesh.wrist()))
    return replace(arm, planes=(*arm.planes[:-1], rest), hand=layer)


@dataclass(frozen=True, kw_only=True)
class Cutout:
    """What the arm's cut says around the hand: over one box of the photo, colours in [0, 1]."""

    colour: Float32[np.ndarray, "h w 3"]
    alpha: Float32[np.ndarray, "h w"]
    field: Field
    box: Box


def hand_layer(
    flesh: Flesh, cutout: Cutout, hand: Float32[np.ndarray, "h w"]
) -> tuple[HandLayer, Float32[np.ndarray, "h w"]]:
    """The layer, and how much of the arm's plane it takes over (0..1 over the cutout's box)."""
    mesh, faces, scale = flesh.posed(), flesh.faces, flesh.scale
    along = -flesh.shaped[:, 0]
    normals = vertex_normals(mesh, faces).astype(np.float32)
    rest = _with_shell(mesh, normals, _SHELL_M * scale)
    both = np.concatenate((faces, faces + len(mesh)))
    x0, y0, x1, y1 = cutout.box
    size = (y1 - y0, x1 - x0)
    coverage = rasterise(rest - np.array([x0, y0, 0], np.float32), both, size)
    drawn = coverage.mix(np.column_stack((rest[:, 2], np.tile(along, 2))), both)
    depth, place, owned = (np.full(size[0] * size[1], v, np.float32) for v in (-1e4, -1, 0))
    solid = coverage.face < len(faces)
    depth[coverage.pixel] = np.where(solid, drawn[:, 0], -1e4)
    place[coverage.pixel] = drawn[:, 1]
    owned[coverage.pixel] = solid
    depth, place, owned = (v.reshape(size) for v in (depth, place, owned))
    place = _continued(place, _REACH_M * scale)
    rim = 2 * max(2, round(_RIM_M * scale)) + 1
    wide = cv2.dilate(hand, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (rim, rim)))
    shown = cv2.GaussianBlur(cv2.dilate(hand, np.ones((3, 3), np.uint8)), (0, 0), 0.8)
    begins = shown * ease(place, *_START_M)
    taken = cv2.GaussianBlur(wide, (0, 0), 1.0) * ease(place, *_STUB_M)
    weights = cutout.field.at(mesh[None, :, :2])[0]
    weights = weights + (1 - weights) * ease(along, 0.0, 0.03)[:, None]
    skin, shade, seen = _skin_of(mesh, normals, faces, cutout, depth, scale)
    alpha = (cutout.alpha * begins)[..., None]
    layer = HandLayer(
        flesh=flesh, faces=both, rest=rest, along=along, weights=weights.astype(np.float32), seen=seen,
        skin=skin, shade=shade, colour=np.dstack(((2 * cutout.colour - 1) * alpha, alpha)).astype(np.float32),
        depth=depth, owned=owned, box=cutout.box,
    )  # fmt: skip
    return layer, taken


def _continued(place: Float32[np.ndarray, "h w"], reach: float) -> Float32[np.ndarray, "h w"]:
    """Values (-1: none) continued from the nearest pixel that has one."""
    away, labels = cv2.distanceTransformWithLabels(
        (place < 0).astype(np.uint8), cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL
    )
    nearest = np.asarray(labels, np.intp)
    known = np.zeros(int(nearest.max()) + 1, np.float32)
    known[nearest[place >= 0]] = place[place >= 0]
    return np.where(away < reach, known[nearest], -1).astype(np.float32)


def _skin_of(
    mesh: Float32[np.ndarray, "m 3"],
    normals: Float32[np.ndarray, "m 3"],
    faces: Int[np.ndarray, "f 3"],
    cutout: Cutout,
    depth: Float32[np.ndarray, "h w"],
    scale: float,
) -> tuple[Float32[np.ndarray, "m 3"], Float32[np.ndarray, "4"], Float32[np.ndarray, "m"]]:
    """Colours without shade, the shade, and how well each vertex is seen."""
    x = (mesh[None, :, 0] - cutout.box[0] - 0.5).astype(np.float32)
    y = (mesh[None, :, 1] - cutout.box[1] - 0.5).astype(np.float32)
    colour = cv2.remap(cutout.colour, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)[0]
    alpha = cv2.remap(cutout.alpha, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT)[
        0
    ].ravel()
    front = cv2.remap(depth, x, y, cv2.INTER_NEAREST, borderMode=cv2.BORDER_CONSTANT)[0].ravel()
    facing = ease(normals[:, 2], *_GRAZING)
    open_sight = front - mesh[:, 2] < _HIDDEN_M * scale
    known = (facing > 0.7) & open_sight & (alpha > 0.9)
    if known.sum() < 20:
        known = facing > 0.7
    basis = np.column_stack((np.ones(len(mesh)), normals))
    grey = colour @ np.array((0.3, 0.6, 0.1))
    weight = np.diag((0.0, 3.0, 3.0, 3.0))
    fitted = np.linalg.solve(basis[known].T @ basis[known] + weight, basis[known].T @ grey[known])
    shade = (fitted / max(float(grey[known].mean()), 0.05)).astype(np.float32)
    bright = (basis @ shade).clip(0.45, 1.5)
    skin = _spread_on(faces, colour / bright[:, None], known)
    return skin.astype(np.float32), shade, facing


def _spread_on(
    faces: Int[np.ndarray, "f 3"], values: Float[np.ndarray, "m 3"], known: Bool[np.ndarray, "m"]
) -> Float[np.ndarray, "m 3"]:
    """Values of the known vertices, continued over the mesh by diffusion."""
    start, end = (np.concatenate([faces[:, a] for a in order]) for order in ((0, 1, 2), (1, 2, 0)))
    mean = values[known].mean(0)
    out = np.where(known[:, None], values, mean)
    degree = np.maximum(np.bincount(start, minlength=len(out)), 1)[:, None]
    for _ in range(_DIFFUSION):
        total = np.stack([np.bincount(start, out[end, c], minlength=len(out)) for c in range(3)], 1)
        out = np.where(known[:, None], values, total / degree)
    return out
