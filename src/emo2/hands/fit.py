"""The hand model fitted to a photo's hand: from its 21 points and its mask to joint angles and a camera.

Ours, after the usual two steps of such fits (Bogo et al. 2016, "Keep it SMPL"): key points with priors from
many starts, then the silhouette.  Points in the plane leave open which way a hand leans; starts lean every way, and the
mask, the length of the palm and the direction of the forearm decide.  Everything is in pixels of the photo.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Float32
from torch import Tensor

from emo2.hands.model import HandModel, picture_signs
from emo2.hands.pose import FINGER_FAN, THUMB_AXIS
from emo2.hands.rotations import axis_angle_to_matrix, matrix_to_axis_angle

FLEX = 15
"""Bends of the finger joints, MANO's order; radians, positive closes the hand."""
AIM = 6
"""Fan of the four fingers' roots (index, middle, pinky, ring), and two more turns of the thumb's root."""
_FIRST = (1, 4, 7, 10, 13)
_KNUCKLES = (5, 9, 13, 17)
_USUAL_FLEX = (0.25, 0.35, 0.2) * 4 + (0.1, 0.15, 0.2)
_LEAST_FLEX = (-0.35, -0.05, -0.1) * 4 + (-0.5, -0.4, -0.5)
_MOST_FLEX = (1.5, 1.8, 1.2) * 4 + (0.9, 0.9, 1.2)
_FLEX_SPREAD = 0.45
_AIM_SPREAD = (0.12, 0.1, 0.18, 0.12, 0.3, 0.3)
_SCALE_SPREAD = 0.14
"""Of the logarithm of the hand's size against the shoulders': people differ, and hands are nearer to the camera."""
_POINT_NOISE = 0.08
"""Error of a sure key point in hand lengths (measured on photos, by eye)."""
_HAND_M = 0.19
"""Wrist to middle finger tip."""
_EDGE_NOISE = 0.02
_SURE_TURN = 0.3
"""Sine between palm and knuckles from which the points say for sure which side of the hand is seen."""
_COVER = 260
"""Pixels of the mask that are asked whether the mesh lies over them."""
_STEPS, _MASK_STEPS = 50, 160


@dataclass(frozen=True, kw_only=True)
class Sight:
    """What the photo shows of one hand."""

    side: str
    points: Float[Tensor, "21 3"]
    """x, y in pixels and confidence."""
    elbow: Float[Tensor, "2"]
    inside: Float32[np.ndarray, "h w"] | None
    """0..1: where the hand or its arm is, over the whole photo."""
    hand: Float32[np.ndarray, "h w"] | None
    """0..1: where the hand is; a part of `inside`."""
    scale: float
    """Pixels a metre at the shoulders."""


@dataclass(frozen=True, kw_only=True)
class HandFit:
    """A hand of the photo as a posed model; batched while it is sought."""

    side: str
    root: Float[Tensor, "*b 3 3"]
    """Of the right-hand model, model frame."""
    flex: Float[Tensor, "*b 15"]
    aim: Float[Tensor, "*b 6"]
    betas: Float[Tensor, "*b 10"]
    log_scale: Float[Tensor, "*b"]
    """Logarithm of pixels a metre."""
    wrist: Float[Tensor, "*b 2"]
    """Pixels."""
    overlap: float = 0.0
    """Quality: intersection over union of mesh and mask."""
    miss: float = 1.0
    """Quality: median distance of mesh points from the photo's points, in hand lengths."""

    def posed(
        self, model: HandModel, chosen: slice = slice(None)
    ) -> tuple[Float[Tensor, "*b n 3"], Float[Tensor, "*b 21 3"]]:
        """Chosen vertices and key points in pixels (x right, y down, z to the camera)."""
        joints = torch.cat((self.root[..., None, :, :], finger_rotations(self.flex, self.aim)), -3)
        wrist = -model.joints(self.betas)[..., 0, :]
        vertices, points = model.some(joints, self.betas, wrist, chosen)
        return self._placed(vertices), self._placed(points)

    def posed_points(self, model: HandModel) -> Float[Tensor, "*b 21 3"]:
        """The key points of `posed` alone; cheap."""
        joints = torch.cat((self.root[..., None, :, :], finger_rotations(self.flex, self.aim)), -3)
        wrist = -model.joints(self.betas)[..., 0, :]
        return self._placed(model.points(joints, self.betas, wrist))

    def _placed(self, metres: Float[Tensor, "*b n 3"]) -> Float[Tensor, "*b n 3"]:
        signs = picture_signs(self.side).to(metres)
        pixels = metres * signs * self.log_scale.exp()[..., None, None]
        return pixels + F.pad(self.wrist, (0, 1))[..., None, :]


def finger_rotations(
    flex: Float[Tensor, "*b 15"], aim: Float[Tensor, "*b 6"]
) -> Float[Tensor, "*b 15 3 3"]:
    """Joint rotations of a right hand (model frame) from bends and aims."""
    axes, second, third = _axes(flex)
    turns = flex[..., None] * axes
    roots = [first - 1 for first in _FIRST]
    sideways = torch.zeros_like(turns)
    up = flex.new_tensor((0.0, 1.0, 0.0))
    fan = aim[..., :4, None] * up
    thumb = aim[..., 4:5, None] * second + aim[..., 5:6, None] * third
    sideways[..., roots, :] = torch.cat((fan, thumb), -2)
    return axis_angle_to_matrix(sideways) @ axis_angle_to_matrix(turns)


def flexion_axes() -> Float[Tensor, "15 3"]:
    """Axes about which `HandFit.flex` bends the joints (model frame of the right hand)."""
    return _axes(torch.zeros(1))[0]


def _axes(like: Tensor) -> tuple[Float[Tensor, "15 3"], Float[Tensor, "3"], Float[Tensor, "3"]]:
    """Flexion axis of every joint; the thumb's two other axes."""
    axes = [
        (math.sin(FINGER_FAN[name]), 0.0, math.cos(FINGER_FAN[name]))
        for name in ("index", "middle", "pinky", "ring")
        for _ in range(3)
    ]
    thumb = F.normalize(like.new_tensor(THUMB_AXIS), dim=0)
    second = F.normalize(torch.linalg.cross(thumb, like.new_tensor((0.0, 0.0, 1.0))), dim=0)
    third = torch.linalg.cross(thumb, second)
    return torch.cat((like.new_tensor(axes), thumb.expand(3, 3))), second, third


Copied = TypeVar("Copied", HandModel, Sight)


def fit_hand(model: HandModel, sight: Sight) -> HandFit:
    """The model in the pose of the photo's hand.  About a second; look at `overlap` and `miss` before using it."""
    # A film is made in inference mode, whose tensors no gradient may touch: the fit works on copies outside of it.
    with torch.inference_mode(False), torch.enable_grad():
        model, sight = _copied(model), _copied(sight)
        starts = _starts(model, sight)
        fits, costs = descend(model, sight, starts, _STEPS, None)
        if sight.inside is not None:
            mask = _Mask.of(sight)
            best = _different(fits, costs)
            fits, costs = descend(model, sight, _chosen(fits, best), _MASK_STEPS, mask)
    fit = _chosen(fits, costs.argmin()[None])
    fit = replace(fit, **{name: getattr(fit, name)[0].detach() for name in (*_FREE, "root")})
    return _judged(model, sight, fit)


def _copied(value: Copied) -> Copied:
    """A dataclass with its tensors copied."""
    tensors = {n: t.clone() for n, t in vars(value).items() if isinstance(t, Tensor)}
    return replace(value, **tensors)


_FREE = ("flex", "aim", "betas", "log_scale", "wrist")


def _starts(model: HandModel, sight: Sight) -> HandFit:
    """Hands along the photo's points, leaning every way."""
    points = sight.points
    fingers = points[list(_KNUCKLES), :2].mean(0) - points[0, :2]
    across = points[5, :2] - points[17, :2]
    turn = float(across[0] * fingers[1] - across[1] * fingers[0])
    facing = 1.0 if (turn < 0) == (sight.side == "right") else -1.0
    signs = picture_signs(sight.side)
    roots = []
    flips = (1,) if abs(turn) > _SURE_TURN * float(across.norm() * fingers.norm()) else (1, -1)
    for flip, lean, roll in itertools.product(flips, (-0.8, -0.3, 0.3, 0.8), (-0.9, 0.0, 0.9)):
        along = F.normalize(F.pad(fingers, (0, 1)), dim=0)
        palm = torch.tensor((0.0, 0.0, facing * flip))
        side = torch.linalg.cross(along, palm)
        along, palm = (
            math.cos(lean) * along + math.sin(lean) * palm,
            math.cos(lean) * palm - math.sin(lean) * along,
        )
        palm = math.cos(roll) * palm + math.sin(roll) * side
        roots.append(_frame(along * signs, palm * signs))
    count = len(roots)
    rest = torch.stack(
        (torch.tensor((-1.0, 0, 0)), torch.tensor((0, -1.0, 0)), torch.tensor((0, 0, 1.0))), 1
    )
    length = float((points[:, :2] - points[0, :2]).norm(dim=1).max())
    scale = max(math.log(sight.scale), math.log(max(length, 1.0) / _HAND_M) - 0.1)
    return HandFit(
        side=sight.side,
        root=torch.stack(roots) @ rest.T,
        flex=torch.tensor(_USUAL_FLEX).expand(count, FLEX).clone(),
        aim=torch.zeros(count, AIM),
        betas=torch.zeros(count, 10),
        log_scale=torch.full((count,), scale),
        wrist=points[0, :2].expand(count, 2).clone(),
    )


def _frame(along: Float[Tensor, "3"], palm: Float[Tensor, "3"]) -> Float[Tensor, "3 3"]:
    along, palm = F.normalize(along, dim=0), F.normalize(palm, dim=0)
    return torch.stack((along, palm, torch.linalg.cross(along, palm)), 1)


@dataclass(frozen=True)
class _Mask:
    """The mask as a field of distances, and places that the mesh must cover."""

    outside: Float[Tensor, "1 1 h w"]
    """Pixels to the mask, over a crop."""
    corner: Float[Tensor, "2"]
    places: Float[Tensor, "n 2"]
    """Pixels of the hand."""

    @staticmethod
    def of(sight: Sight) -> _Mask:
        import cv2

        assert sight.inside is not None
        assert sight.hand is not None
        points = sight.points[:, :2].numpy()
        reach = 0.8 * _length(sight)
        height, width = sight.inside.shape
        x0, y0 = (max(0, int(v - reach)) for v in points.min(0))
        x1, y1 = (int(v + reach) for v in points.max(0))
        crop = sight.inside[y0 : min(y1, height), x0 : min(x1, width)] > 0.5
        away = cv2.distanceTransform((~crop).astype(np.uint8), cv2.DIST_L2, 5)
        ys, xs = np.nonzero(sight.hand > 0.5)
        chosen = np.linspace(0, len(ys) - 1, min(_COVER, len(ys))).round().astype(int)
        places = np.stack((xs[chosen], ys[chosen]), 1).astype(np.float32) + 0.5
        return _Mask(
            torch.from_numpy(away)[None, None],
            torch.tensor((x0, y0)).float(),
            torch.from_numpy(places),
        )

    def distance(self, pixels: Float[Tensor, "b n 2"]) -> Float[Tensor, "b n"]:
        """How far outside the mask the pixels lie."""
        height, width = self.outside.shape[-2:]
        place = (pixels - self.corner) / pixels.new_tensor((width, height)) * 2 - 1
        field = self.outside.expand(len(pixels), -1, -1, -1)
        return F.grid_sample(field, place[:, :, None], padding_mode="border", align_corners=False)[
            :, 0, :, 0
        ]


def _length(sight: Sight) -> float:
    """The hand's length in pixels as far as can be told."""
    points = sight.points
    seen = float((points[:, :2] - points[0, :2]).norm(dim=1).max())
    return max(seen, 0.8 * _HAND_M * sight.scale)


def descend(
    model: HandModel, sight: Sight, start: HandFit, steps: int, mask: _Mask | None
) -> tuple[HandFit, Float[Tensor, " b"]]:
    """Adam on all starts at once."""
    free = {name: getattr(start, name).detach().clone().requires_grad_() for name in _FREE}
    turn = torch.zeros_like(start.wrist[..., :1]).expand(-1, 3).clone().requires_grad_()
    unit = _length(sight)
    rates = [0.06, 0.03, 0.06, 0.02, 0.01 * unit, 0.06]
    moving = [*free.values(), turn]
    means, squares = ([torch.zeros_like(t) for t in moving] for _ in range(2))
    fit, cost = start, start.log_scale
    for step in range(steps + 1):
        fit = replace(start, root=axis_angle_to_matrix(turn) @ start.root, **free)
        cost = _cost(model, sight, fit, mask, unit, sharp=1 + 2 * step / steps)
        if step == steps:
            break
        slopes = torch.autograd.grad(cost.sum(), moving)
        slow = 0.5 + 0.5 * math.cos(math.pi * step / steps) + 0.02
        with torch.no_grad():  # Adam, by hand: importing torch.optim costs more than the whole fit
            for value, slope, mean, square, rate in zip(
                moving, slopes, means, squares, rates, strict=True
            ):
                mean.mul_(0.9).add_(slope, alpha=0.1)
                square.mul_(0.95).addcmul_(slope, slope, value=0.05)
                gain = slow * rate * math.sqrt(1 - 0.95 ** (step + 1)) / (1 - 0.9 ** (step + 1))
                value.addcdiv_(mean, square.sqrt() + 1e-9, value=-gain)
    return replace(
        fit, root=fit.root.detach(), **{n: t.detach() for n, t in free.items()}
    ), cost.detach()


def _cost(
    model: HandModel,
    sight: Sight,
    fit: HandFit,
    mask: _Mask | None,
    unit: float,
    *,
    sharp: float,
) -> Float[Tensor, " b"]:
    """Minus log likelihood of the points (and of the mask) and of the pose, up to a constant."""
    if mask is None:
        points = fit.posed_points(model)
        cost = torch.zeros_like(fit.log_scale)
    else:
        vertices, points = fit.posed(model, slice(None, None, 2))
        pixels = vertices[..., :2]
        blur = _EDGE_NOISE * unit / sharp
        out = (mask.distance(pixels) / blur).square()
        cost = 12 * _tamed(out).mean(-1)
        if len(mask.places):
            near = _nearest(mask.places, pixels)
            bare = (F.relu(near - 0.012 * unit) / blur).square()
            cost = cost + 20 * _tamed(bare).mean(-1)
    off = (points[..., :2] - sight.points[:, :2]).norm(dim=-1) / (_POINT_NOISE * unit)
    weight = sight.points[:, 2].clamp(0, 1)
    squared = off.square()
    cost = cost + (weight * squared / (1 + squared / 9)).sum(-1) / (2 * sharp)
    return cost + _prior(fit, sight) + _wrist_bend(points, sight, fit)


def _tamed(squares: Tensor) -> Tensor:
    """Squares near 0, growing like a line beyond (pseudo-Huber): far pixels still pull."""
    return 4 * ((1 + squares / 2).sqrt() - 1)


def _nearest(places: Float[Tensor, "n 2"], pixels: Float[Tensor, "b m 2"]) -> Float[Tensor, "b n"]:
    """Distance of each place from the nearest of the pixels."""
    with torch.no_grad():
        index = torch.cdist(places.expand(len(pixels), -1, -1), pixels).argmin(-1)
    found = pixels.gather(1, index[..., None].expand(-1, -1, 2))
    return ((found - places).square().sum(-1) + 1e-4).sqrt()


def _prior(fit: HandFit, sight: Sight) -> Float[Tensor, " b"]:
    """How unusual the pose and the size are."""
    flex = fit.flex
    usual, least, most = (flex.new_tensor(v) for v in (_USUAL_FLEX, _LEAST_FLEX, _MOST_FLEX))
    cost = ((flex - usual) / _FLEX_SPREAD).square().sum(-1) / 2
    cost = cost + 40 * (F.relu(least - flex) + F.relu(flex - most)).square().sum(-1)
    fingers = flex[..., [0, 1, 2, 3, 4, 5, 9, 10, 11, 6, 7, 8]].unflatten(-1, (4, 3))
    cost = cost + ((fingers[..., 1:, :] - fingers[..., :-1, :]) / 0.35).square().sum((-1, -2)) / 2
    cost = cost + ((flex[..., 2:12:3] - 0.6 * flex[..., 1:12:3]) / 0.25).square().sum(-1) / 2
    cost = cost + (fit.aim / flex.new_tensor(_AIM_SPREAD)).square().sum(-1) / 2
    cost = cost + fit.betas.square().sum(-1) / 3
    size = (fit.log_scale - math.log(sight.scale) - 0.08) / _SCALE_SPREAD
    return cost + size.square() / 2


def _wrist_bend(points: Float[Tensor, "b 21 3"], sight: Sight, fit: HandFit) -> Float[Tensor, " b"]:
    """Hands go on from their forearm, give or take; the forearm comes towards the camera as its length says."""
    arm = points[..., 0, :2] - sight.elbow
    length = 0.25 * fit.log_scale.exp()
    seen = arm.norm(dim=-1)
    depth = (length.square() - seen.square()).clamp_min(0.01 * length.square()).sqrt()
    arm = F.normalize(torch.cat((arm, depth.detach()[..., None]), -1), dim=-1)
    palm = F.normalize(points[..., 9, :] - points[..., 0, :], dim=-1)
    bend = torch.acos((arm * palm).sum(-1).clamp(-0.99, 0.99))
    return 3 * F.relu(bend - 0.5).square()


def _different(fits: HandFit, costs: Float[Tensor, " b"], count: int = 3) -> Tensor:
    """The best starts that do not say the same."""
    chosen: list[int] = []
    for index in costs.argsort().tolist():
        turned = fits.root[chosen].transpose(-1, -2) @ fits.root[index]
        if not chosen or float(matrix_to_axis_angle(turned).norm(dim=-1).min()) > 0.5:
            chosen.append(index)
        if len(chosen) == count:
            break
    return torch.tensor(chosen)


def _chosen(fits: HandFit, index: Tensor) -> HandFit:
    return replace(fits, **{name: getattr(fits, name)[index] for name in (*_FREE, "root")})


def _judged(model: HandModel, sight: Sight, fit: HandFit) -> HandFit:
    """The fit with its quality."""
    from emo2.hands.model import hand_faces
    from emo2.hands.raster import rasterise

    with torch.no_grad():
        vertices, points = fit.posed(model)
    off = (points[:, :2] - sight.points[:, :2]).norm(dim=-1)[sight.points[:, 2] > 0.3]
    miss = float(off.median()) / _length(sight) if len(off) else 1.0
    if sight.inside is None or sight.hand is None:
        return replace(fit, miss=miss)
    shape = sight.inside.shape
    covered = np.zeros(shape, bool)
    seen = rasterise(vertices.numpy(), hand_faces(model, sight.side).numpy(), (shape[0], shape[1]))
    covered.reshape(-1)[seen.pixel] = True
    both = (covered & (sight.inside > 0.5)).sum()
    either = (covered | (sight.hand > 0.5)).sum()
    return replace(fit, miss=miss, overlap=float(both) / max(float(either), 1.0))
