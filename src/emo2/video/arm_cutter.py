"""What of the picture around an arm is upper arm, forearm, hand, the rest of the person, or none of it, and where the elbow is:
learned (ours).

A small U-Net sees a window around the arm and the bones that the portrait finder found.  A right arm is shown in a mirror.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Float32, Int, UInt8
from torch import Tensor, nn

from emo2.video.layer_masks import Limb

CLASSES = ("none", "person", "upper_arm", "forearm", "hand")
"""`person`: what of it is not this arm."""
SIDE = 96
"""Pixels a side of the window."""
BONES = 4
"""Planes that show bones: upper arm, forearm, fingers, the other arm."""
_WIDTHS = (24, 40, 64, 96)
_GROUPS = 8
_MARGIN = 0.4
"""Shoulder widths around the arm's points that the window shows ..."""
_SMALLEST = 0.5
"""... and half its smallest side, in the same."""
_THICK = 0.1
"""Shoulder widths that a bone is drawn thick; a finger has a third of it."""
_FINGER = 0.35
_FINE = 4
"""Bits of a pixel that drawn lines count."""
_HANGING = (0.12, 0.72)
"""Shoulder widths from a left shoulder to its elbow, in the picture."""
_SPOT = 2.5
"""Standard deviation of an elbow's spot, pixels of the window."""
_ELBOW_WEIGHT = 0.03
_NEAR = 8
"""Pixels of the window around the highest heat that count as there."""
_SURE = 0.5
"""Share of the heat around its peak from which an elbow is believed."""
_ALIAS = 0.35
"""Blur before a picture is shrunk, in pixels of the window."""

ArmShares = Float32[np.ndarray, "5 h w"]
"""Probabilities of `CLASSES` for every pixel of a picture."""
Bone = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True, kw_only=True)
class ArmPictures:
    """Windows around arms, and what is what in them."""

    inputs: Float[Tensor, "n 7 s s"]
    """RGB in [-1, 1], bones in [0, 1]."""
    labels: Int[Tensor, "n s s"]
    """Index into `CLASSES`."""
    weight: Float[Tensor, "n s s"]
    elbows: Float[Tensor, "n 2"]
    """Pixels of the window; beyond it where it does not show them."""


class _Block(nn.Module):
    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.second = nn.Conv2d(outputs, outputs, 3, padding=1)
        self.norms = nn.ModuleList(nn.GroupNorm(_GROUPS, outputs) for _ in range(2))
        self.skip = nn.Conv2d(inputs, outputs, 1) if inputs != outputs else nn.Identity()

    def forward(self, x: Float[Tensor, "n c y x"]) -> Float[Tensor, "n d y x"]:
        inner = F.silu(self.norms[0](self.first(x)))
        return F.silu(self.norms[1](self.second(inner)) + self.skip(x))


class ArmCutter(nn.Module):
    """Logits of `CLASSES` for every pixel of a window, and last of the elbow's being there."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3 + BONES, _WIDTHS[0], 3, padding=1)
        inputs = (_WIDTHS[0], *_WIDTHS)
        self.down = nn.ModuleList(_Block(i, o) for i, o in zip(inputs, _WIDTHS, strict=False))
        self.middle = _Block(_WIDTHS[-1], _WIDTHS[-1])
        self.up = nn.ModuleList(
            _Block(low + high, high)
            for low, high in itertools.pairwise(reversed(_WIDTHS))
        )  # fmt: skip
        self.head = nn.Conv2d(_WIDTHS[0], len(CLASSES) + 1, 1)

    def forward(self, inputs: Float[Tensor, "n 7 s s"]) -> Float[Tensor, "n 6 s s"]:
        x, skips = self.stem(inputs), []
        for depth, block in enumerate(self.down):
            x = block(F.avg_pool2d(x, 2) if depth else x)
            skips.append(x)
        x = self.middle(skips.pop())
        for block in self.up:
            wide = F.interpolate(x, scale_factor=2, mode="bilinear")
            x = block(torch.cat([wide, skips.pop()], 1))
        return self.head(x)

    def losses(self, batch: ArmPictures) -> dict[str, Tensor]:
        """Cross-entropies of what is what, and of where the elbow is."""
        said = self(batch.inputs).float()
        parts = F.cross_entropy(said[:, :-1], batch.labels, reduction="none")
        elbow = _away(said[:, -1], batch.elbows)
        return {"cutter": (parts * batch.weight).mean(), "elbow": _ELBOW_WEIGHT * elbow}


def _away(heat: Float[Tensor, "n s s"], elbows: Float[Tensor, "n 2"]) -> Float[Tensor, ""]:
    """Cross-entropy of heat against a spot, of the elbows that are in the window."""
    inside = ((elbows > 1) & (elbows < SIDE - 1)).all(1)
    squares = (_middles(heat) - elbows[:, None, None]).square().sum(-1)
    spot = torch.exp(-squares / (2 * _SPOT**2))
    spot = spot / spot.sum((1, 2), keepdim=True).clamp_min(1e-6)
    told = -(spot * F.log_softmax(heat.flatten(1), 1).view_as(heat)).sum((1, 2))
    return (told * inside).sum() / inside.sum().clamp_min(1)


def _middles(heat: Float[Tensor, "n s s"]) -> Float[Tensor, "s s 2"]:
    """x, y of the pixels' middles."""
    middle = torch.arange(SIDE, device=heat.device) + 0.5
    return torch.stack(torch.meshgrid(middle, middle, indexing="xy"), -1)


@dataclass(frozen=True, kw_only=True)
class Window:
    """A square of a picture, shown in `SIDE` x `SIDE` pixels."""

    middle: Float[np.ndarray, "2"]
    half: float
    mirrored: bool

    @staticmethod
    def around(points: Float[np.ndarray, "n 2"], unit: float, *, mirrored: bool) -> Window:
        """The window of an arm; all in pixels, `unit` is the shoulder width."""
        low, high = points.min(0) - _MARGIN * unit, points.max(0) + _MARGIN * unit
        half = max(float((high - low).max()) / 2, _SMALLEST * unit)
        return Window(middle=(low + high) / 2, half=half, mirrored=mirrored)

    def matrix(self, scale: float = 1.0) -> Float[np.ndarray, "2 3"]:
        """From pixels of the picture, `scale` times as many, to pixels of the window, as OpenCV counts them."""
        zoom = SIDE / (2 * self.half * scale)
        corner = scale * (self.middle - self.half)
        matrix = np.array([[zoom, 0, -corner[0] * zoom], [0, zoom, -corner[1] * zoom]])
        matrix[:, 2] += 0.5 * (zoom - 1)  # pixels' middles
        if self.mirrored:
            matrix[0] = -matrix[0]
            matrix[0, 2] += SIDE - 1
        return matrix

    def places(self, points: Float[np.ndarray, "n 2"]) -> Float32[np.ndarray, "n 2"]:
        """Places of the picture in pixels of the window."""
        places = (points - self.middle) / (2 * self.half) + 0.5
        if self.mirrored:
            places = places * np.array([-1, 1]) + np.array([1, 0])
        return (places * SIDE).astype(np.float32)

    def back(self, place: Float[np.ndarray, "2"]) -> Float32[np.ndarray, "2"]:
        """The picture's place of a place of the window."""
        share = place / SIDE
        if self.mirrored:
            share = share * np.array([-1, 1]) + np.array([1, 0])
        return ((share - 0.5) * (2 * self.half) + self.middle).astype(np.float32)

    def cut(self, image: UInt8[np.ndarray, "h w 3"]) -> Float32[np.ndarray, "s s 3"]:
        """The picture in the window, 0..1; beyond its edges grey."""
        zoom = SIDE / (2 * self.half)
        if zoom < 0.7:
            image = cv2.GaussianBlur(image, (0, 0), _ALIAS / zoom)
        return self.shown(image, self.matrix(), beyond=128).astype(np.float32) / 255

    def shown(self, image: np.ndarray, matrix: np.ndarray, *, beyond: float) -> np.ndarray:
        return cv2.warpAffine(
            image, matrix, (SIDE, SIDE), flags=cv2.INTER_LINEAR,
            borderMode=cv2.BORDER_CONSTANT, borderValue=(beyond, beyond, beyond),
        )  # fmt: skip


def hanging_elbow(
    shoulder: Float32[np.ndarray, "2"], unit: float, side: int
) -> Float32[np.ndarray, "2"]:
    """Where an elbow of a person who gestures mostly is: below the shoulder and a little out."""
    out = np.array(_HANGING) * (-1 if side else 1, 1)
    return (shoulder + unit * out).astype(np.float32)


def bones_of(
    shoulder: np.ndarray,
    elbow: np.ndarray,
    hand: np.ndarray,
    chains: Sequence[Sequence[int]],
    other: Float32[np.ndarray, "3 2"],
) -> tuple[list[Bone], ...]:
    """What the planes show; `hand` begins with the wrist, `chains` are its fingers, `other` is the other arm."""
    fingers = [(hand[a], hand[b]) for chain in chains for a, b in itertools.pairwise(chain)]
    return [(shoulder, elbow)], [(elbow, hand[0])], fingers, list(itertools.pairwise(other))


def bone_planes(
    window: Window, unit: float, groups: Sequence[Sequence[Bone]]
) -> Float32[np.ndarray, "4 s s"]:
    """Bones as lines: one plane for each group, the third of them fingers."""
    thick = _THICK * unit / (2 * window.half) * SIDE
    planes = np.zeros((BONES, SIDE, SIDE), np.uint8)
    for index, bones in enumerate(groups):
        width = max(1, int(thick * (_FINGER if index == 2 else 1)))
        for start, end in bones:
            a, b = (window.places(np.stack([start, end])) * 2**_FINE).astype(int).tolist()
            cv2.line(planes[index], a, b, 255, width, cv2.LINE_AA, _FINE)
    return planes.astype(np.float32) / 255


def told(
    image: Float32[np.ndarray, "s s 3"], planes: Float32[np.ndarray, "4 s s"]
) -> Float32[np.ndarray, "7 s s"]:
    """What the network sees: the picture in [0, 1], bones."""
    return np.concatenate([2 * image.transpose(2, 0, 1) - 1, planes]).astype(np.float32)


@dataclass(frozen=True, kw_only=True)
class ArmSight:
    """What the cutter says of an arm."""

    shares: ArmShares
    """What is outside the window is none."""
    elbow: Float32[np.ndarray, "2"] | None
    """Pixels of the picture; None where it is not sure."""


def see_arm(
    cutter: ArmCutter,
    image: UInt8[np.ndarray, "h w 3"],
    limb: Limb,
    other: Float32[np.ndarray, "3 2"],
) -> ArmSight:
    """The arm in all of the picture; `other`: shoulder, elbow and wrist of the other arm, in pixels."""
    window = Window.around(limb.points(), limb.unit, mirrored=limb.side == 1)
    groups = bones_of(limb.shoulder, limb.elbow, limb.hand, limb.chains, other)
    seen = told(window.cut(image), bone_planes(window, limb.unit, groups))
    with torch.no_grad():
        said = cutter(torch.from_numpy(seen)[None])[0].float()
    height, width = image.shape[:2]

    def back(share: np.ndarray, kind: int, border: int) -> np.ndarray:
        flags = kind | cv2.WARP_INVERSE_MAP
        return cv2.warpAffine(
            share, window.matrix(), (width, height), flags=flags, borderMode=border
        )

    known = torch.softmax(said[:-1], 0).numpy()
    inside = back(np.ones_like(known[0]), cv2.INTER_LINEAR, cv2.BORDER_CONSTANT) > 0.99
    wide = np.stack([back(share, cv2.INTER_CUBIC, cv2.BORDER_REPLICATE) for share in known])
    nothing = np.zeros(len(CLASSES), np.float32)
    nothing[0] = 1
    shares = np.where(inside, wide.clip(0, 1), nothing[:, None, None]).astype(np.float32)
    return ArmSight(shares=shares, elbow=_elbow(said[-1], window))


def _elbow(heat: Float[Tensor, "s s"], window: Window) -> Float32[np.ndarray, "2"] | None:
    """Mean place of the heat around its peak, in the picture."""
    there = torch.softmax(heat.flatten(), 0).view(1, 1, SIDE, SIDE)
    peak = int(F.avg_pool2d(there, 9, 1, 4).flatten().argmax())
    places, top = _middles(heat[None]), torch.tensor((peak % SIDE, peak // SIDE)) + 0.5
    near = there[0, 0] * ((places - top).norm(dim=-1) < _NEAR)
    sure = float(near.sum())
    if sure < _SURE:
        return None
    return window.back(((near[..., None] * places).sum((0, 1)) / sure).numpy())


def fore_of(shares: ArmShares) -> Bool[np.ndarray, "h w"]:
    """Forearm and hand rather than upper arm."""
    return shares[3] + shares[4] > shares[2]
