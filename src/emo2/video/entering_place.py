"""Whether a hand that the photo does not show may enter it, and where its arm hangs (ours).

It may where the trunk goes down to the picture's lower edge, the elbow hangs about there or below it, and nothing like a hand is
in sight: an arm that the photo shows beyond its elbow would become a third one.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float32

from emo2.guidance import face_scale, fit_camera
from emo2.portrait.skin import shows_hand, with_hands_by_skin
from emo2.signals import HAND_SIDES, Portrait

UPPER_M = 0.29
_SHOULDER_M = 0.18
_LOWER_EDGE_M = (0.08, 0.36)
"""Below the shoulders: less is a bust, whose hands are far below; more shows the forearms."""
_TURNED = 1.32
"""Scale by the face against scale by the shoulders from which a body is turned away."""
_SURE = 0.3
_TRUNK = 0.5
"""Share of trunk in the middle of the lower edge."""
_MIDDLE_M = 0.1
_EDGE_M = 0.05
"""Height of what counts as the lower edge."""
_USUAL = 0.07
"""Outwards for each metre down, of an arm of which the photo says nothing."""
_SLANT = (-0.1, 0.42)
"""Least and most that is believed."""
_ARM_M2 = 0.0004
"""Area of an arm at the edge from which its place is believed."""


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a photo's shoulders, arms and lower edge are; metres in the frame of `Motion`, but of the face's scale."""

    sides: tuple[bool, bool]
    """Left, right: whether this hand may enter."""
    size: tuple[int, int]
    scale: float
    """Pixels a metre."""
    origin: Float32[np.ndarray, "2"]
    """Pixel between the shoulders."""
    bottom: float
    """The lower edge, below the shoulders."""
    half: float
    """From the origin to the nearer side of the picture."""
    shoulders: Float32[np.ndarray, "2 2"]
    elbows: Float32[np.ndarray, "2 2"]

    def pixel(self, metres: Float[np.ndarray, "*b 2"]) -> Float[np.ndarray, "*b 2"]:
        """In the plane of the shoulders."""
        return metres * self.scale + self.origin


def entering_sides(portrait: Portrait) -> tuple[bool, bool]:
    """Left, right: whether this hand may enter the picture."""
    return entering_place(portrait).sides


def notes_with_entering(portrait: Portrait) -> tuple[str, ...]:
    """The portrait's notes, what they say of hands that may enter replaced."""
    sides = entering_sides(portrait)
    names = [f"{name} hand" for name, may in zip(HAND_SIDES, sides, strict=True) if may]
    kept = tuple(note for note in portrait.notes if not any(name in note for name in names))
    said = (
        f"The {name} is not in the photo; one is drawn that comes in from below when the voice raises it."
        for name in names
    )
    return (*kept, *said)


def entering_place(portrait: Portrait) -> Place:
    """Read the photo."""
    camera = fit_camera(portrait)
    scale, origin = face_scale(portrait), camera.centre.numpy().astype(np.float32)
    height, width = portrait.size
    found = portrait.body_points[2:4].numpy()
    sure = float(found[:, 2].min()) >= _SURE
    sign = np.array((1.0, -1.0), np.float32)
    shoulders = np.stack((sign * _SHOULDER_M, np.zeros(2)), 1)
    wide = float(np.linalg.norm(found[0, :2] - found[1, :2])) / (2 * _SHOULDER_M)
    if sure:
        shoulders = (found[:, :2] - origin) / scale
    bottom = (height - float(origin[1])) / scale
    slants = np.array([_slant(portrait, shoulders, side, scale, origin) for side in range(2)])
    down = UPPER_M / np.sqrt(1 + slants**2)
    elbows = shoulders + np.stack((sign * slants * down, down), 1)
    is_fit = sure and scale < _TURNED * wide and _LOWER_EDGE_M[0] < bottom < _LOWER_EDGE_M[1]
    is_fit = is_fit and _trunk_below(portrait, origin, scale)
    seen = with_hands_by_skin(portrait).hands_present
    sides = tuple(
        bool(
            is_fit and not seen[k] and not shows_hand(portrait, k) and elbows[k, 1] > bottom - 0.06
        )
        for k in range(2)
    )
    return Place(
        sides=(sides[0], sides[1]), size=portrait.size, scale=scale, origin=origin, bottom=bottom,
        half=min(float(origin[0]), width - float(origin[0])) / scale,
        shoulders=shoulders.astype(np.float32), elbows=elbows.astype(np.float32),
    )  # fmt: skip


def _trunk_below(portrait: Portrait, origin: np.ndarray, scale: float) -> bool:
    """Whether the middle of the picture's lower edge is trunk."""
    if portrait.body_masks is None:
        return False
    middle, reach = float(origin[0]), _MIDDLE_M * scale
    rows = max(2, round(_EDGE_M * scale))
    part = portrait.body_masks[0, -rows:, max(int(middle - reach), 0) : max(int(middle + reach), 1)]
    return bool(part.numel()) and float(part.mean()) > _TRUNK


def _slant(
    portrait: Portrait, shoulders: np.ndarray, side: int, scale: float, origin: np.ndarray
) -> float:
    """How far an upper arm goes outwards for each metre down, by where it leaves the picture."""
    masks, sign = portrait.body_masks, 1.0 if side == 0 else -1.0
    if masks is None:
        return _USUAL
    rows = max(2, round(_EDGE_M * scale))
    share = masks[1 + side, -rows:].clamp(0, 1).numpy().copy()
    share[share < 0.3] = 0
    if share.sum() / scale**2 < _ARM_M2:
        return _USUAL
    x = float((share.sum(0) * np.arange(share.shape[1])).sum() / share.sum())
    across = sign * ((x - origin[0]) / scale - shoulders[side, 0])
    down = (portrait.size[0] - rows / 2 - origin[1]) / scale - shoulders[side, 1]
    return float(np.clip(across / max(down, 0.03), *_SLANT))
