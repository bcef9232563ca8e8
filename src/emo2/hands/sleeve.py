"""Arms for the preview: the elbow from the wrist by two-bone inverse kinematics, skin and a sleeve around both bones."""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from emo2.hands.model import from_numbers, swap_frame

_UPPER_M, _FORE_M = 0.29, 0.25
_SHOULDER_M = 0.18
_CORNERS = 24
_ELBOW_SHARE = 4  # rings that round the elbow
_CUFF_M = 0.055


class _Ring(NamedTuple):
    """One ring of the tube: metres from the wrist (negative: inside the hand), radii across and through."""

    at: float
    across: float
    through: float
    sleeve: bool


_RINGS = (
    _Ring(-0.014, 0.0230, 0.0120, sleeve=False),
    _Ring(0.000, 0.0262, 0.0165, sleeve=False),
    _Ring(0.020, 0.0262, 0.0185, sleeve=False),
    _Ring(_CUFF_M + 0.004, 0.0290, 0.0225, sleeve=False),
    _Ring(_CUFF_M, 0.0300, 0.0240, sleeve=True),
    _Ring(_CUFF_M, 0.0370, 0.0310, sleeve=True),
    _Ring(_CUFF_M + 0.010, 0.0385, 0.0325, sleeve=True),
    _Ring(0.100, 0.0410, 0.0365, sleeve=True),
    _Ring(0.150, 0.0450, 0.0420, sleeve=True),
    _Ring(0.190, 0.0470, 0.0450, sleeve=True),
    *[_Ring(0.190 + 0.12 * k / _ELBOW_SHARE, 0.0475, 0.0465, sleeve=True) for k in range(1, 5)],
    _Ring(0.380, 0.0500, 0.0500, sleeve=True),
    _Ring(0.460, 0.0530, 0.0530, sleeve=True),
    _Ring(_FORE_M + _UPPER_M, 0.0560, 0.0560, sleeve=True),
)
"""The path bends at the elbow, 0.25 m from the wrist."""

SLEEVE = np.repeat([r.sleeve for r in _RINGS], _CORNERS)
"""Which vertices of an arm are cloth; the rest is skin."""
ALONG = np.repeat([max(r.at, 0) / (_FORE_M + _UPPER_M) for r in _RINGS], _CORNERS)
"""0 at the wrist, 1 at the shoulder, per vertex."""


def elbows(wrists: Float[Tensor, "*b 2 3"]) -> Float[Tensor, "*b 2 3"]:
    """Elbows (left, right) below and outside of the line from shoulder to wrist; a far wrist stretches the arm."""
    shoulder = _shoulders(wrists)
    side = shoulder[..., :1].sign()
    pole = torch.cat((side * 0.55, torch.ones_like(side), -0.35 * torch.ones_like(side)), -1)
    reach = wrists - shoulder
    far = reach.norm(dim=-1, keepdim=True).clamp_min(1e-4)
    along = reach / far
    near = far.clamp(abs(_UPPER_M - _FORE_M) + 1e-3, _UPPER_M + _FORE_M - 1e-3)
    share = (_UPPER_M**2 - _FORE_M**2 + near**2) / (2 * near)
    out = (_UPPER_M**2 - share**2).clamp_min(0).sqrt()
    away = pole - (pole * along).sum(-1, keepdim=True) * along
    away = torch.nn.functional.normalize(away, dim=-1)
    return shoulder + along * share * (far / near) + away * out


def arms(hands: Float[Tensor, "*b 2 67"]) -> Float[Tensor, "*b 2 n 3"]:
    """Vertices of both arms in the picture frame: oval at the wrist as the hand is turned, round further up."""
    wrists = hands[..., 64:]
    fingers, thumb = _hand_axes(hands)
    places = _path(wrists, fingers)
    rings, across = [], thumb
    for k, ring in enumerate(_RINGS):
        ahead = places[min(k + 1, len(places) - 1)] - places[max(k - 1, 0)]
        ahead = torch.nn.functional.normalize(ahead, dim=-1)
        across = across - (across * ahead).sum(-1, keepdim=True) * ahead
        across = torch.nn.functional.normalize(across, dim=-1)
        through = torch.linalg.cross(ahead, across)
        angle = torch.arange(_CORNERS, dtype=hands.dtype)[:, None] * (2 * torch.pi / _CORNERS)
        oval = (
            ring.across * angle.cos() * across[..., None, :]
            + ring.through * angle.sin() * through[..., None, :]
        )
        rings.append(places[k][..., None, :] + oval)
    return torch.cat(rings, -2)


@cache
def arm_faces() -> Int[np.ndarray, "f 3"]:
    """Faces of one arm, wound for `raster.rasterise` in the picture frame."""
    faces = []
    for ring in range(len(_RINGS) - 1):
        for corner in range(_CORNERS):
            a, b = ring * _CORNERS + corner, ring * _CORNERS + (corner + 1) % _CORNERS
            faces += [(a, b, a + _CORNERS), (b, b + _CORNERS, a + _CORNERS)]
    return np.array(faces)


def _shoulders(like: Float[Tensor, "*b 2 3"]) -> Float[Tensor, "2 3"]:
    """Left, right; the person's left is the image's right."""
    return like.new_tensor(((_SHOULDER_M, 0.0, -0.02), (-_SHOULDER_M, 0.0, -0.02)))


def _path(wrists: Float[Tensor, "*b 2 3"], fingers: Float[Tensor, "*b 2 3"]) -> list[Tensor]:
    """Centres of the rings: out of the hand, along the forearm, round the elbow, up to the shoulder."""
    elbow = elbows(wrists)
    fore = (elbow - wrists) / _FORE_M
    upper = (_shoulders(wrists) - elbow) / _UPPER_M
    places = []
    for ring in _RINGS:
        if ring.at < 0:
            places.append(wrists - ring.at * fingers)
            continue
        beyond = ring.at - _FORE_M
        place = wrists + ring.at * fore if beyond <= 0 else elbow + beyond * upper
        bend = 1 - abs(beyond) / 0.06
        if bend > 0:  # cut the corner at the elbow
            inner = elbow + 0.02 * (upper - fore)
            place = torch.lerp(place, inner, 0.6 * bend)
        places.append(place)
    return places


def _hand_axes(
    hands: Float[Tensor, "*b 2 67"],
) -> tuple[Float[Tensor, "*b 2 3"], Float[Tensor, "*b 2 3"]]:
    """Where the fingers and where the thumb's side point, in the picture frame."""
    both = []
    for index, side in enumerate(("left", "right")):
        rotations, _ = from_numbers(swap_frame(hands[..., index, :], side))
        axes = torch.stack((-rotations[..., 0, :, 0], rotations[..., 0, :, 2]), -2)
        empty = axes.new_zeros(*axes.shape[:-1], 64)
        both.append(swap_frame(torch.cat((empty, axes), -1), side)[..., 64:])
    fingers, thumb = torch.stack(both, -3).unbind(-2)
    return fingers, thumb
