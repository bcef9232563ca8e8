"""The photo's own hanging forearm, taken away while a drawn one is up: what is behind it, painted once per photo (ours)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float32

from emo2.signals import Portrait
from emo2.video.entering_place import Place
from emo2.video.layer_cut import Box, ease
from emo2.video.layer_draw import part_of
from emo2.video.layer_masks import Limb, limb_box, pixel_grid, segment_distance
from emo2.video.layer_person import arm_of, person_mask
from emo2.video.layers import behind_arms

_FORE_M = 0.25
_HAND_M = 0.08
_BEGINS_M = (0.005, 0.04)
"""Beyond the elbow, over which the forearm goes."""
_MARGIN_M = 0.06
_NEAR_M, _TORSO = 0.1, 0.5
"""From the forearm's bone within which what has less than this share of trunk is forearm."""
_LEAST, _MOST = 0.045, 0.15
"""Mean width of what was cut, metres, outside of which it is no forearm."""


@dataclass(frozen=True, kw_only=True)
class ForearmGap:
    """What a hanging forearm hides."""

    box: Box
    colour: Float32[np.ndarray, "h w 4"]
    """Premultiplied RGBA, RGB in [-1, 1]."""


def forearm_gaps(portrait: Portrait, place: Place) -> tuple[ForearmGap | None, ...]:
    """Left, right; None where no forearm is in view, or none can be cut."""
    limbs = [
        _limb(place, side) if place.forearms[side] and place.sides[side] else None
        for side in range(2)
    ]
    shown = [limb for limb in limbs if limb is not None]
    if not shown:
        return (None, None)
    image = portrait.image.permute(1, 2, 0).cpu().numpy().astype(np.float32) / 2 + 0.5
    pixels = (image * 255 + 0.5).clip(0, 255).astype(np.uint8)
    nothing = np.zeros(place.size, np.float32)
    person = person_mask(pixels, portrait, nothing, shown)
    arms = {limb.side: arm_of(person, portrait, limb, nothing, image) for limb in shown}
    rest = person
    if portrait.body_masks is not None:
        rest = person & (portrait.body_masks[0].cpu().numpy() < _TORSO)
    fores = {limb.side: _below(arms[limb.side], rest, limb, place.scale) for limb in shown}
    both = np.maximum.reduce(list(arms.values())) > 0.3
    return tuple(
        None if limb is None else _gap(image, person, both, fores[limb.side], limb, place)
        for limb in limbs
    )


def _limb(place: Place, side: int) -> Limb:
    """The hanging arm, its hand below the picture."""
    shoulder, elbow = place.pixel(place.shoulders[side]), place.pixel(place.elbows[side])
    down = place.hangs[side] * place.scale
    wrist = elbow + _FORE_M * down
    across = np.array((-down[1], down[0]))
    tips = [wrist + _HAND_M * (down + s * across) for s in (-0.4, 0.0, 0.4)]
    return Limb(
        side=side, shoulder=shoulder.astype(np.float32), elbow=elbow.astype(np.float32),
        wrist=wrist.astype(np.float32), hand=np.stack((wrist, *tips)).astype(np.float32),
        chains=((0, 1), (0, 2), (0, 3)), unit=0.36 * place.scale, sureness=0.0, pinned_elbow=False,
    )  # fmt: skip


def _below(
    arm: Float32[np.ndarray, "h w"], rest: Bool[np.ndarray, "h w"], limb: Limb, scale: float
) -> Float32[np.ndarray, "h w"]:
    """The forearm alone; near it all of the person that is no trunk (`rest`) counts."""
    away, place = segment_distance(pixel_grid(arm.shape), limb.elbow, limb.wrist)
    metres = place * float(np.linalg.norm(limb.wrist - limb.elbow)) / scale
    near = rest & (away < _NEAR_M * scale)
    return (np.maximum(arm, near) * ease(metres, *_BEGINS_M)).astype(np.float32)


def _gap(
    image: Float32[np.ndarray, "h w 3"], person: Bool[np.ndarray, "h w"], arms: Bool[np.ndarray, "h w"],
    fore: Float32[np.ndarray, "h w"], limb: Limb, place: Place,
) -> ForearmGap | None:  # fmt: skip
    begins = sum(_BEGINS_M) / 2
    visible = (place.bottom - float(place.elbows[limb.side][1]) - begins) * place.scale
    width = float(fore.sum()) / max(visible, 1) / place.scale
    if not _LEAST < width < _MOST:
        return None
    box = limb_box(limb, place.size, _MARGIN_M * place.scale)
    colour = behind_arms(
        part_of(image, box), part_of(fore, box), part_of(person, box), part_of(arms, box), limb.unit
    )
    return ForearmGap(box=box, colour=colour)
