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
_LOWER_EDGE_M = (0.08, 0.52)
"""Below the shoulders: less is a bust, whose hands are far below; more shows hanging hands."""
_HANGS_FROM_M = 0.05
"""From the elbow to where the forearm leaves the picture, from which its direction is read there."""
_FOREARM_FROM_M, _FOREARM_TO_M = 0.03, 0.24
"""Of a forearm in the picture: less is none, with more of it the hand would be seen."""
_ELBOW_SURE, _ON_ARM = 0.45, 0.35
"""Confidence, and share of the arm where it lies, from which a finder's elbow is believed."""
_UPPER_M = (0.17, 0.37)
"""Lengths of an upper arm that are believed."""
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
    forearms: tuple[bool, bool]
    """Left, right: whether the photo shows a part of this forearm."""
    leaves: Float32[np.ndarray, "2 2"]
    """Where the arms leave the picture below."""
    hangs: Float32[np.ndarray, "2 2"]
    """Directions of the forearms, away from the elbows."""

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
    # A face without a size is no measure, but no reason to stop either: nothing fits, and nothing enters.
    scale = max(face_scale(portrait), 1e-3)
    origin = camera.centre.numpy().astype(np.float32)
    height, width = portrait.size
    found = portrait.body_points[2:4].numpy()
    sure = float(found[:, 2].min()) >= _SURE
    sign = np.array((1.0, -1.0), np.float32)
    shoulders = np.stack((sign * _SHOULDER_M, np.zeros(2)), 1)
    wide = float(np.linalg.norm(found[0, :2] - found[1, :2])) / (2 * _SHOULDER_M)
    if sure:
        shoulders = (found[:, :2] - origin) / scale
    bottom = (height - float(origin[1])) / scale
    ends = [_end(portrait, shoulders, side, scale, origin) for side in range(2)]
    elbows = np.stack([_hanging(shoulders[k], ends[k]) for k in range(2)])
    hangs = np.tile(np.array((0.0, 1.0)), (2, 1))
    found_elbows = [
        _found_elbow(portrait, k, shoulders[k], scale, origin, bottom) for k in range(2)
    ]
    for k, (elbow, end) in enumerate(zip(found_elbows, ends, strict=True)):
        elbows[k] = elbows[k] if elbow is None else elbow
        if elbow is not None and end is not None and end[1] - elbow[1] > _HANGS_FROM_M:
            hangs[k] = end - elbow
    leaves = [
        shoulders[k] + (elbows[k] - shoulders[k]) * min(1.0, (bottom - shoulders[k, 1]) / UPPER_M)
        if end is None
        else end
        for k, end in enumerate(ends)
    ]
    hangs /= np.linalg.norm(hangs, axis=1, keepdims=True)
    shown = bottom - elbows[:, 1] > _FOREARM_FROM_M
    is_fit = sure and scale < _TURNED * wide and _LOWER_EDGE_M[0] < bottom < _LOWER_EDGE_M[1]
    is_fit = is_fit and _trunk_below(portrait, origin, scale)
    by_skin = with_hands_by_skin(portrait)
    seen = (True, True) if by_skin.folded else by_skin.hands_present
    told = [(found_elbows[k] is not None and ends[k] is not None) or not shown[k] for k in range(2)]
    sides = tuple(
        bool(is_fit and told[k] and bottom - elbows[k, 1] < _FOREARM_TO_M)
        and not (seen[k] or shows_hand(portrait, k))
        for k in range(2)
    )
    return Place(
        sides=(sides[0], sides[1]), forearms=(bool(shown[0]), bool(shown[1])),
        hangs=hangs.astype(np.float32), leaves=np.stack(leaves).astype(np.float32),
        size=portrait.size, scale=scale, origin=origin, bottom=bottom,
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


def _end(
    portrait: Portrait, shoulders: np.ndarray, side: int, scale: float, origin: np.ndarray
) -> Float[np.ndarray, "2"] | None:
    """Where an arm leaves the picture below, metres; None where none does."""
    masks = portrait.body_masks
    if masks is None:
        return None
    rows = max(2, round(_EDGE_M * scale))
    share = masks[1 + side, -rows:].clamp(0, 1).numpy().copy()
    share[share < 0.3] = 0
    if share.sum() / scale**2 < _ARM_M2:
        return None
    x = float((share.sum(0) * np.arange(share.shape[1])).sum() / share.sum())
    y = portrait.size[0] - rows / 2
    end = (np.array((x, y)) - origin) / scale
    outwards = (end[0] - shoulders[side, 0]) * (1 if side == 0 else -1)
    return end if outwards > -_SLANT[1] and end[1] - shoulders[side, 1] > 0.02 else None


def _hanging(
    shoulder: Float[np.ndarray, "2"], end: Float[np.ndarray, "2"] | None
) -> Float[np.ndarray, "2"]:
    """The elbow of an arm that goes from the shoulder to where it leaves the picture, or hangs."""
    sign = 1.0 if shoulder[0] > 0 else -1.0
    slant = _USUAL
    if end is not None:
        slant = sign * (end[0] - shoulder[0]) / max(float(end[1] - shoulder[1]), 0.03)
        slant = float(np.clip(slant, *_SLANT))
    down = UPPER_M / np.sqrt(1 + slant**2)
    return shoulder + np.array((sign * slant * down, down))


def _found_elbow(
    portrait: Portrait, side: int, shoulder: Float[np.ndarray, "2"], scale: float,
    origin: Float[np.ndarray, "2"], bottom: float,
) -> Float[np.ndarray, "2"] | None:  # fmt: skip
    """The finder's elbow in metres, if it is to be believed: sure, on its arm, an upper arm's length away."""
    x, y, sure = portrait.body_points[4 + side].tolist()
    elbow = (np.array((x, y)) - origin) / scale
    away, (low, high) = elbow - shoulder, _UPPER_M
    right = low < float(np.linalg.norm(away)) < high and away[1] > 0.7 * low
    inside = 0 <= x < portrait.size[1] and elbow[1] < bottom - 0.5 / scale
    if sure < _ELBOW_SURE or not right or not inside or portrait.body_masks is None:
        return None
    return elbow if float(portrait.body_masks[1 + side, int(y), int(x)]) > _ON_ARM else None
