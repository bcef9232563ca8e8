"""What a hand that the photo does not show must look like in it: the face's skin and light, the sleeve's cloth, the grain.

Ours; read once per photo.  The face is taken for an ellipsoid: how its brightness goes with its normals is the light.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Bool, Float, Float32

from emo2.hands.relief import relief
from emo2.portrait.skin import skin_mask
from emo2.signals import Portrait
from emo2.video.entering_place import Place

GAMMA = 2.2
_STRONGEST = 0.7
"""Most that the light may say of the shape, against what comes from everywhere."""
_FROM_ABOVE = (0.0, -0.28, 0.42)
"""Light that is taken to be there too: a face looks the same way everywhere, and says little of what looks elsewhere."""
_PATCH_M, _INSIDE_M = 0.035, 0.02
_BARE = 0.6
"""Share of skin in the upper arm from which a forearm is bare."""
_PATTERN = 0.8
"""Largest logarithm of a cloth's pattern."""
_ARM_AGAINST_FACE = (0.75, 1.35)
"""Least and most that an arm's colour is believed to differ from the face's."""
_DARK = (0.30, 0.06)
"""Luminance of the skin, linear, of a light skin and of a dark one."""


@dataclass(frozen=True, kw_only=True)
class ArmLook:
    """Colours in linear light."""

    skin: Float32[np.ndarray, "3"]
    relief: Float32[np.ndarray, "h2 w 3"]
    """`hands.relief.relief` for this skin."""
    light: Float32[np.ndarray, "4"]
    """Brightness by normal: 1, x, y, z; 1 where the face looks to the camera."""
    cloth: tuple[Float32[np.ndarray, "s s 3"] | None, ...]
    """Left, right: the sleeve's cloth under full light, at the photo's scale, to be repeated in mirrors; None: bare."""
    grain: float
    """Deviation of the photo's noise, of 2."""
    soft: float
    """Deviation of the photo's own blur, pixels."""

    def shade(self, normals: Float32[np.ndarray, "n 3"]) -> Float32[np.ndarray, " n"]:
        """Brightness of surfaces with unit normals; never quite dark."""
        bright = self.light[0] + normals @ self.light[1:]
        return 0.5 * (bright + np.sqrt(bright * bright + 0.02))


def arm_look(portrait: Portrait, place: Place) -> ArmLook:
    """Read the photo."""
    image = portrait.image.permute(1, 2, 0).cpu().numpy().astype(np.float32) / 2 + 0.5
    linear = image.clip(0, 1) ** GAMMA
    skin, light = _skin_and_light(portrait, linear)
    bright = float(skin @ np.array((0.21, 0.72, 0.07), np.float32))
    dark = float(np.clip((_DARK[0] - bright) / (_DARK[0] - _DARK[1]), 0, 1))
    pixels = (image * 255).clip(0, 255).astype(np.uint8)
    mask = skin_mask(pixels, portrait.face_box.numpy())
    patches = [_upper_arm(linear, portrait, mask, place, side) for side in range(2)]
    is_bare = max(share for _, share in patches) > _BARE  # one arm in the dark is no sleeve
    if is_bare:  # the arm's own skin says best what its hand's is
        arm = np.median(max(patches, key=lambda p: p[1])[0].reshape(-1, 3), axis=0)
        change = (arm / np.maximum(skin, 1e-3)).clip(*_ARM_AGAINST_FACE)
        skin = skin * np.sqrt(change)
    return ArmLook(
        skin=skin.astype(np.float32), relief=relief(dark), light=light,
        cloth=tuple(None if is_bare else patch / light[[0, 3]].sum() for patch, _ in patches),
        grain=_grain(image, place), soft=0.45,
    )  # fmt: skip


def _skin_and_light(
    portrait: Portrait, linear: Float32[np.ndarray, "h w 3"]
) -> tuple[Float32[np.ndarray, "3"], Float32[np.ndarray, "4"]]:
    """The skin's colour under full light, and the light."""
    points = portrait.face_points.numpy().astype(np.float32)
    height, width = linear.shape[:2]
    mask = np.zeros((height, width), np.uint8)
    cv2.fillConvexPoly(mask, cv2.convexHull(points[:27]).astype(np.int32), 1)
    tall = float(points[8, 1] - points[17:27, 1].min())
    mask = cv2.erode(mask, np.ones((3, 3), np.uint8), iterations=max(1, round(0.03 * tall)))
    for part in (points[36:42], points[42:48], points[48:60], points[17:22], points[22:27]):
        hull = cv2.convexHull(part).astype(np.int32)
        cv2.fillConvexPoly(mask, hull, 0)
        cv2.polylines(mask, [hull], True, 0, max(1, round(0.1 * tall)))
    ys, xs = np.nonzero(mask)
    if len(xs) < 30:
        x0, y0, x1, y1 = (int(v) for v in portrait.face_box)
        ys, xs = (z.ravel() for z in np.mgrid[max(y0, 0) : y1, max(x0, 0) : x1])
        ys, xs = ys.clip(0, height - 1), xs.clip(0, width - 1)
    colours = linear[ys, xs]
    grey = colours @ np.array((0.21, 0.72, 0.07), np.float32)
    middle = (points[0] + points[16]) / 2
    half = 0.54 * float(np.linalg.norm(points[0] - points[16]))
    across = (xs + 0.5 - middle[0]) / half
    down = (ys + 0.5 - middle[1]) / (1.15 * max(float(points[8, 1] - middle[1]), 1.0))
    normal = np.stack((across, down, np.sqrt((1 - across**2 - down**2).clip(0.02))), 1)
    normal /= np.linalg.norm(normal, axis=1, keepdims=True)
    usual = max(float(np.median(grey)), 1e-3)
    good = (grey > 0.35 * usual) & (grey < 1.8 * usual)
    basis = np.column_stack((np.ones(len(normal)), normal))
    ridge = np.diag((0.0, 1.0, 1.0, 1.0)) * 0.02 * len(normal)
    fitted = np.array((usual, 0, 0, 0))
    for _ in range(3):
        a, b = basis[good], grey[good]
        fitted = np.linalg.solve(a.T @ a + ridge, a.T @ b)
        off = np.abs(basis @ fitted - grey)
        good = off < 2 * float(np.median(off)) + 1e-4
    slope = fitted[1:] / max(float(fitted[0]), 1e-3)
    slope = 0.6 * slope + 0.6 * np.array(_FROM_ABOVE)
    slope *= min(1.0, _STRONGEST / max(float(np.linalg.norm(slope)), 1e-6))
    light = np.array((1, *slope)) / (1 + slope[2])
    shade = (basis @ light).clip(0.2)
    skin = np.median(colours[good] / shade[good, None], axis=0)
    return skin.astype(np.float32), light.astype(np.float32)


def _upper_arm(
    linear: Float32[np.ndarray, "h w 3"], portrait: Portrait, skin: Bool[np.ndarray, "h w"] | None,
    place: Place, side: int,
) -> tuple[Float32[np.ndarray, "s s 3"], float]:  # fmt: skip
    """What an upper arm wears, without slow shade, and how much of it is skin where it leaves the picture."""
    part, person = _patch(portrait, place, place.leaves[side], side)
    share = 0.0
    last = person[-len(person) // 4 :]  # a short sleeve ends above
    if skin is not None and last.any():
        share = float(skin[part][-len(person) // 4 :][last].mean())
    if share > _BARE and skin is not None:
        person = person & skin[part]
    else:  # farther up, where no background comes in
        shoulder = place.shoulders[side]
        inside = np.array((-_INSIDE_M if side == 0 else _INSIDE_M, 0.0))
        up = shoulder + 0.5 * (place.leaves[side] - shoulder) + inside
        part, person = _patch(portrait, place, up, side)
    patch = linear[part]
    usual = np.median(patch[person], axis=0)
    relief = np.log((patch + 0.01) / (usual + 0.01))
    relief -= cv2.GaussianBlur(relief, (0, 0), 0.25 * len(patch))
    relief = np.where(person[..., None], relief, 0).clip(-_PATTERN, _PATTERN)
    return (usual * np.exp(relief)).astype(np.float32), share


def _patch(
    portrait: Portrait, place: Place, at: Float[np.ndarray, "2"], side: int
) -> tuple[tuple[slice, slice], Bool[np.ndarray, "s s"]]:
    """A square about a place in metres, moved into the picture, and what of it is this arm."""
    reach = max(4, round(_PATCH_M * place.scale))
    x, y = (
        round(min(max(float(v), reach), limit - reach))
        for v, limit in zip(place.pixel(at), place.size[::-1], strict=True)
    )
    part = slice(y - reach, y + reach), slice(x - reach, x + reach)
    person = np.ones((2 * reach, 2 * reach), bool)
    if portrait.body_masks is not None:
        shares = portrait.body_masks[:, part[0], part[1]].cpu().numpy()
        arm = shares[1 + side] > 0.5
        person = arm if arm.mean() > 0.2 else shares.sum(0) > 0.6
    return part, person if person.mean() > 0.2 else np.ones_like(person)


def _grain(image: Float32[np.ndarray, "h w 3"], place: Place) -> float:
    """Noise between shoulders and lower edge: what a small median leaves, its quietest quarter."""
    x0, x1 = sorted(float(v) for v in place.pixel(place.shoulders)[:, 0])
    top = int(min(max(float(place.origin[1]), 0), len(image) - 24))
    part = image[max(top, 0) :, int(max(x0, 0)) : int(max(x1, 8))]
    grey = (part.mean(-1) * 255).clip(0, 255).astype(np.uint8)
    if min(grey.shape) < 8:
        return 0.0
    rest = np.abs(grey.astype(np.float32) - cv2.medianBlur(grey, 3))
    return float(min(2.0 * 1.2 * np.quantile(cv2.blur(rest, (9, 9)), 0.25) / 255, 0.04))
