"""The hand model fitted to a hand's 21 points frame after frame: the first from many starts, the next from the last."""

from __future__ import annotations

from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from emo2.hands.fit import HandFit, Sight, descend, finger_rotations, fit_hand
from emo2.hands.model import HandModel, from_mano

STEPS = 25
"""Of gradient descent a frame, once the hand is known."""
LOST = 0.15
"""Median distance from the points, in hand lengths, from which on a hand is sought anew."""


def fit_track(
    model: HandModel, points: Float[Tensor, "f 21 3"], side: str, scale: float
) -> Float[Tensor, "f 64"]:
    """The 16 joints' quaternions of each frame; `scale`: pixels a metre at the shoulders."""
    rows: list[Tensor] = []
    last: HandFit | None = None
    for place in points.float():
        sight = _sight(place, side, scale)
        found = None if last is None else _follow(model, sight, last)
        if found is None or found.miss > LOST:
            found = fit_hand(model, sight)
        last = found
        joints = torch.cat((found.root[None], finger_rotations(found.flex, found.aim)))
        rows.append(from_mano(joints, torch.zeros(3), side)[:64])
    return torch.stack(rows) if rows else torch.zeros(0, 64)


def _sight(points: Float[Tensor, "21 3"], side: str, scale: float) -> Sight:
    """Points alone; the forearm is taken to go on straight behind the hand."""
    along = points[9, :2] - points[0, :2]
    elbow = points[0, :2] - along / along.norm().clamp_min(1e-3) * 0.25 * scale
    return Sight(side=side, points=points, elbow=elbow, inside=None, hand=None, scale=scale)


def _follow(model: HandModel, sight: Sight, last: HandFit) -> HandFit:
    """From where the hand was: its last pose, put onto the wrist's new place."""
    names = ("root", "flex", "aim", "betas", "log_scale")
    start = replace(
        last, **{n: getattr(last, n)[None] for n in names}, wrist=sight.points[None, 0, :2]
    )
    with torch.inference_mode(False), torch.enable_grad():
        fits, _ = descend(model, sight, start, STEPS, None)
        fit = replace(fits, **{n: getattr(fits, n)[0].detach() for n in (*names, "wrist")})
        off = (fit.posed_points(model)[:, :2] - sight.points[:, :2]).norm(dim=-1)
    length = float((sight.points[:, :2] - sight.points[0, :2]).norm(dim=1).max())
    return replace(fit, miss=float(off.median()) / max(length, 1.0))
