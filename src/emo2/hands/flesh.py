"""A fitted hand made to the photo's measure: its outline drawn out to the photo's, so that texture and mesh agree.

Ours.  A model of ten shapes has other fingers than the person.  What of the mask the mesh leaves bare pulls at the
nearest skin, what lies outside of the mask is pushed in; the demands are smoothed over the mesh.  The offsets live on
the resting mesh, so that they bend with their fingers.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import torch
from jaxtyping import Bool, Float32, Int
from torch import Tensor

from emo2.hands.fit import HandFit, Sight, finger_rotations
from emo2.hands.model import HandModel, chain, hand_faces, picture_signs
from emo2.hands.raster import rasterise

_ROUNDS = 14
_STILL = 0.12
"""Weight of the wish to stay where nothing pulls."""
_SOFTNESS = 6.0
"""Of the smoothing over the mesh: larger spreads a pull farther."""
_MOST_M = 0.016
"""Largest offset."""
_PLACES = 700
_WRIST_M = 0.01
"""Length of the skin about the wrist, to either side."""


@dataclass(frozen=True, kw_only=True)
class Flesh:
    """A hand of the photo: fitted pose and its own resting mesh."""

    fit: HandFit
    faces: Int[np.ndarray, "f 3"]
    shaped: Float32[np.ndarray, "v 3"]
    """At rest, model frame, metres from the wrist."""
    joints: Float32[np.ndarray, "16 3"]
    weights: Float32[np.ndarray, "v 16"]

    @property
    def scale(self) -> float:
        """Pixels a metre."""
        return float(self.fit.log_scale.exp())

    def posed(self, flex: Tensor | None = None) -> Float32[np.ndarray, "v 3"]:
        """Vertices in pixels (x right, y down, z to the camera), with other bends than the photo's."""
        turns, places = _bones(self.fit, torch.from_numpy(self.joints), flex)
        shift = places - np.einsum("jrc,jc->jr", turns, self.joints)
        affine = np.concatenate((turns, shift[..., None]), -1).reshape(16, 12)
        blended = (self.weights @ affine).reshape(-1, 3, 4)
        metres = np.einsum("vrc,vc->vr", blended[..., :3], self.shaped) + blended[..., 3]
        pixels = metres * picture_signs(self.fit.side).numpy() * self.scale
        pixels[:, :2] += self.fit.wrist.numpy()
        return pixels.astype(np.float32)

    def wrist(self) -> Float32[np.ndarray, "n 2"]:
        """Where the hand ends and its forearm begins: places of the skin about the wrist, pixels."""
        return self.posed()[np.abs(self.shaped[:, 0]) < _WRIST_M, :2]


def _bones(
    fit: HandFit, joints: Tensor, flex: Tensor | None
) -> tuple[Float32[np.ndarray, "16 3 3"], Float32[np.ndarray, "16 3"]]:
    with torch.no_grad():
        fingers = finger_rotations(fit.flex if flex is None else flex, fit.aim)
        turns, places = chain(torch.cat((fit.root[None], fingers)), joints)
    return turns.numpy(), places.numpy()


def flesh_of(model: HandModel, fit: HandFit, sight: Sight | None = None) -> Flesh:
    """The fit as it is, or drawn out to the outline in `sight`."""
    with torch.no_grad():
        joints = model.joints(fit.betas)
        shaped = model.template + torch.einsum("vck,k->vc", model.shape_dirs, fit.betas)
    plain = Flesh(
        fit=fit, faces=hand_faces(model, fit.side).numpy(), shaped=(shaped - joints[0]).numpy(),
        joints=(joints - joints[0]).numpy(), weights=model.weights.numpy(),
    )  # fmt: skip
    if sight is None or sight.inside is None or sight.hand is None:
        return plain
    offset = _offsets(plain, sight)
    turns, _ = _bones(fit, torch.from_numpy(plain.joints), None)
    blended = np.einsum("vj,jrc->vrc", plain.weights, turns)
    metres = np.column_stack((offset, np.zeros(len(offset)))) / plain.scale
    metres = metres * picture_signs(fit.side).numpy()
    local = np.linalg.solve(blended, metres[..., None])[..., 0]
    return Flesh(
        fit=fit, faces=plain.faces, shaped=(plain.shaped + local).astype(np.float32), joints=plain.joints,
        weights=plain.weights,
    )  # fmt: skip


def _offsets(plain: Flesh, sight: Sight) -> Float32[np.ndarray, "v 2"]:
    """Shifts in the picture that bring the mesh's outline to the mask's, smooth over the mesh."""
    assert sight.inside is not None
    assert sight.hand is not None
    mesh = plain.posed()
    grow = 0.05 * plain.scale
    height, width = sight.inside.shape
    x0, y0 = (max(0, int(v - grow)) for v in mesh[:, :2].min(0))
    x1, y1 = (int(v + grow) for v in mesh[:, :2].max(0))
    rows, columns = slice(y0, min(y1, height)), slice(x0, min(x1, width))
    hand, inside = sight.hand[rows, columns] > 0.5, sight.inside[rows, columns] > 0.5
    away = cv2.distanceTransform((~inside).astype(np.uint8), cv2.DIST_L2, 5)
    slope = np.stack((cv2.Sobel(away, cv2.CV_32F, 1, 0), cv2.Sobel(away, cv2.CV_32F, 0, 1)), -1) / 8
    smooth = _smoother(plain.faces, len(mesh))
    local = mesh - np.array([x0, y0, 0], np.float32)
    offset = np.zeros((len(mesh), 2), np.float32)
    for _ in range(_ROUNDS):
        moved = local.copy()
        moved[:, :2] += offset
        wish, weight = _pulls(moved, plain.faces, hand)
        x, y = (moved[:, k].astype(int).clip(0, away.shape[1 - k] - 1) for k in (0, 1))
        push = -away[y, x, None] * slope[y, x]
        out = away[y, x] > 0.5
        wish[out], weight[out] = push[out], 1
        total = smooth @ np.column_stack((wish * weight[:, None], weight + _STILL))
        offset = offset + 0.8 * total[:, :2] / total[:, 2:]
        size = np.linalg.norm(offset, axis=1, keepdims=True)
        offset = offset * np.minimum(1, _MOST_M * plain.scale / np.maximum(size, 1e-6))
    return offset.astype(np.float32)


def _pulls(
    moved: Float32[np.ndarray, "v 3"], faces: Int[np.ndarray, "f 3"], hand: Bool[np.ndarray, "h w"]
) -> tuple[Float32[np.ndarray, "v 2"], Float32[np.ndarray, "v"]]:
    """Where bare pixels of the hand want their nearest vertices, and whether any does."""
    wish, weight = np.zeros((len(moved), 2), np.float32), np.zeros(len(moved), np.float32)
    bare = hand.copy()
    bare.reshape(-1)[rasterise(moved, faces, hand.shape).pixel] = False
    ys, xs = np.nonzero(bare)
    if len(ys) == 0:
        return wish, weight
    chosen = np.linspace(0, len(ys) - 1, min(_PLACES, len(ys))).round().astype(int)
    places = np.stack((xs[chosen], ys[chosen]), 1).astype(np.float32) + 0.5
    far = ((places[:, None] - moved[None, :, :2]) ** 2).sum(-1)
    nearest = far.argmin(1)
    count = np.bincount(nearest, minlength=len(moved))
    for axis in (0, 1):
        pull = places[:, axis] - moved[nearest, axis]
        wish[:, axis] = np.bincount(nearest, pull, len(moved)) / np.maximum(count, 1)
    return wish, (count > 0).astype(np.float32)


def _smoother(faces: Int[np.ndarray, "f 3"], count: int) -> Float32[np.ndarray, "v v"]:
    """(1 + s L)^-1 with the mesh's graph Laplacian L."""
    start, end = (np.concatenate([faces[:, a] for a in order]) for order in ((0, 1, 2), (1, 2, 0)))
    graph = np.zeros((count, count), np.float32)
    graph[start, end] = graph[end, start] = 1
    laplacian = np.diag(graph.sum(1)) - graph
    return np.linalg.inv(np.eye(count, dtype=np.float32) + _SOFTNESS / 6 * laplacian)
