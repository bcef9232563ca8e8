"""Painting what arms hide: smooth fill from the right surroundings, and the photo's own texture on top.

Part of the arm layers (design §6); runs once per photo.  Images here are float32 (h, w, 3) in 0..1.
"""

from __future__ import annotations

import cv2
import numpy as np
from jaxtyping import Bool, Float32

_TEXTURE_PIECES = 8
_ALIKE = 0.1
"""Texture is borrowed only where the colours differ by less."""
_FILL_SIDE = 192
"""Pixels a side at which smooth colour is solved for."""
_CARRY, _NEARER = 4.0, 3
"""Weight of a smooth fill, and power of the distance with which what is carried along loses weight."""
_UPRIGHT = 3.0
"""By how much farther what is above or below counts: ledges and tables are wider than they are high."""
_CALM, _CRISP = (1.5, 5.0), 40.0
"""Blur in pixels of what is carried along, beside its source and so many pixels away: leaves and pages make no stripes."""
_TORSO_SHARE = 0.7
"""How much of the surroundings must be torso before a hidden place is: arms hang beside the torso, so the
torso's edge lies near the arm's inner side, not in its middle."""


def spread(
    image: Float32[np.ndarray, "h w 3"], weight: Float32[np.ndarray, "h w"]
) -> Float32[np.ndarray, "h w 3"]:
    """Colours of where `weight` is 1, continued smoothly to where it is 0 (pull-push pyramid)."""
    levels = [(image * weight[..., None], weight)]
    while min(levels[-1][1].shape) > 2 and levels[-1][1].min() < 0.999:
        colour, known = levels[-1]
        colour, known = cv2.pyrDown(colour), cv2.pyrDown(known)
        gain = np.where(known > 1e-6, np.minimum(1, 2 * known) / np.maximum(known, 1e-6), 0)
        levels.append((colour * gain[..., None], (known * gain).astype(np.float32)))
    colour, known = levels[-1]
    filled = colour / np.maximum(known, 1e-6)[..., None]
    for colour, known in reversed(levels[:-1]):
        filled = cv2.pyrUp(filled, dstsize=known.shape[::-1])
        filled = colour + (1 - known[..., None]) * filled
    return filled.astype(np.float32)


def shrunk(
    image: Float32[np.ndarray, "h w 3"], known: Bool[np.ndarray, "h w"], longest: int
) -> tuple[Float32[np.ndarray, "r c 3"], Float32[np.ndarray, "r c"]]:
    """The image at a long side of at most `longest`, of known pixels alone, and what share of each pixel they are."""
    height, width = known.shape
    scale = min(1.0, longest / max(height, width))
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    weight = cv2.resize(known.astype(np.float32), size, interpolation=cv2.INTER_AREA)
    small = cv2.resize(image * known[..., None], size, interpolation=cv2.INTER_AREA)
    return small / np.maximum(weight, 1e-3)[..., None], weight


def smooth_fill(
    image: Float32[np.ndarray, "h w 3"], known: Bool[np.ndarray, "h w"]
) -> Float32[np.ndarray, "h w 3"]:
    """`spread`, relaxed towards the membrane through the known pixels so that no pyramid blocks show."""
    if not known.any() or known.all():
        return image.copy()
    height, width = known.shape
    small, weight = shrunk(image, known, _FILL_SIDE)
    held = (weight > 0.5)[..., None]
    small = spread(small, held[..., 0].astype(np.float32))
    fixed = small.copy()
    for radius in (6.0, 3.0, 1.5):  # coarse to fine: each round is a diffusion step, the known held
        for _ in range(8):
            small = np.where(held, fixed, cv2.GaussianBlur(small, (0, 0), radius))
    filled = cv2.resize(small, (width, height), interpolation=cv2.INTER_LINEAR)
    return np.where(known[..., None], image, filled).astype(np.float32)


def carried_fill(
    image: Float32[np.ndarray, "h w 3"], known: Bool[np.ndarray, "h w"]
) -> Float32[np.ndarray, "h w 3"]:
    """What rooms are made of goes on level and upright: each place as the known ones in its row and column, the nearer the
    more; far from all of them as `smooth_fill` has it."""
    if not known.any() or known.all():
        return image.copy()
    size = max(image.shape[:2])
    total = smooth_fill(image, known) * (_CARRY / size) ** _NEARER
    weight = np.full(known.shape, (_CARRY / size) ** _NEARER, np.float32)
    near, far = (masked_blur(image, known, radius) for radius in _CALM)
    for turned in (False, True):
        crisp, calm, there = (z.swapaxes(0, 1) if turned else z for z in (near, far, known))
        places, rows = np.arange(there.shape[1]), np.arange(there.shape[0])[:, None]
        before = np.maximum.accumulate(np.where(there, places, -size * 9), 1)
        after = np.minimum.accumulate(np.where(there, places, size * 9)[:, ::-1], 1)[:, ::-1]
        for nearest in (before, after):
            away = np.abs(places - nearest) * (_UPRIGHT if turned else 1.0)
            share = (1 / (away + 2.0)) ** _NEARER
            at = rows, nearest.clip(0, len(places) - 1)
            blend = (np.abs(places - nearest) / _CRISP).clip(0, 1)[..., None]
            found = ((1 - blend) * crisp[at] + blend * calm[at]) * share[..., None]
            total += found.swapaxes(0, 1) if turned else found
            weight += share.T if turned else share
    filled = cv2.GaussianBlur((total / weight[..., None]).astype(np.float32), (0, 0), 1.5)
    return np.where(known[..., None], image, filled).astype(np.float32)


def hidden_torso(
    person: Bool[np.ndarray, "h w"], hole: Bool[np.ndarray, "h w"]
) -> Float32[np.ndarray, "h w"]:
    """Soft mask 0..1 of torso, continued behind the hole from what surrounds it."""
    seen = (~hole).astype(np.float32)
    label = np.repeat(person.astype(np.float32)[..., None], 3, 2)
    share = smooth_fill(label, seen > 0.5)[..., 0]
    crisp = np.where(hole, cv2.GaussianBlur(share, (0, 0), 2.0) > _TORSO_SHARE, person)
    return cv2.GaussianBlur(crisp.astype(np.float32), (0, 0), 1.5)


def borrowed_texture(
    image: Float32[np.ndarray, "h w 3"],
    filled: Float32[np.ndarray, "h w 3"],
    usable: Bool[np.ndarray, "h w"],
    hole: Bool[np.ndarray, "h w"],
    scale: float,
) -> Float32[np.ndarray, "h w 3"]:
    """Texture (finer than `scale` pixels) for the hole's pixels, shifted there in a few pieces from near, usable places of like colour."""
    low = masked_blur(image, usable, scale)
    usable = _shrink(usable, 5)
    around = usable & (cv2.dilate(hole.astype(np.uint8), np.ones((41, 41), np.uint8)) > 0)
    texture = image - low
    usual = float(np.median(np.abs(texture[around]))) if around.any() else 0.0
    texture = texture.clip(-4 * usual, 4 * usual)  # a lone edge on a smooth wall is no texture
    found = np.zeros_like(image)
    ys, xs = np.nonzero(hole)
    reach = max(8, max(hole.shape) // 2)
    shifts = [
        (round(radius * np.sin(angle)), round(radius * np.cos(angle)), radius / reach)
        for radius in np.linspace(0.08, 1.0, 12) * reach
        for angle in np.linspace(0, 2 * np.pi, 16, endpoint=False)
    ]

    def hits(ys: np.ndarray, xs: np.ndarray, dy: int, dx: int) -> np.ndarray:
        y, x = ys + dy, xs + dx
        inside = (y >= 0) & (y < hole.shape[0]) & (x >= 0) & (x < hole.shape[1])
        y, x = np.where(inside, y, 0), np.where(inside, x, 0)
        alike = np.abs(low[y, x] - filled[ys, xs]).max(-1) < _ALIKE
        return inside & usable[y, x] & alike

    for _ in range(_TEXTURE_PIECES):
        if len(ys) < 20:
            break
        thin = slice(None, None, max(1, len(ys) // 800))
        score = [hits(ys[thin], xs[thin], dy, dx).mean() - 0.2 * far for dy, dx, far in shifts]
        dy, dx, _far = shifts[int(np.argmax(score))]
        hit = hits(ys, xs, dy, dx)
        if not hit.any():
            break
        found[ys[hit], xs[hit]] = texture[ys[hit] + dy, xs[hit] + dx]
        ys, xs = ys[~hit], xs[~hit]
    return found


def paint(
    image: Float32[np.ndarray, "h w 3"],
    hole: Bool[np.ndarray, "h w"],
    source: Bool[np.ndarray, "h w"],
    scale: float = 10.0,
    *,
    room: bool = False,
) -> Float32[np.ndarray, "h w 3"]:
    """The image with the hole filled from `source` pixels only: smooth colour (`room`: with level and upright edges) plus
    texture finer than `scale`."""
    usable = source & ~hole
    if not usable.any():
        usable = ~hole
    if not usable.any():
        return image
    filled = carried_fill(image, usable) if room else smooth_fill(image, usable)
    filled = filled + borrowed_texture(image, filled, usable, hole, scale).clip(-0.2, 0.2)
    return np.where(hole[..., None], filled.clip(0, 1), image).astype(np.float32)


def masked_blur(
    image: np.ndarray, mask: Bool[np.ndarray, "h w"], radius: float
) -> Float32[np.ndarray, "h w 3"]:
    """Gaussian mean of the mask's pixels alone."""
    weight = mask.astype(np.float32)
    colour = cv2.GaussianBlur(image * weight[..., None], (0, 0), radius)
    return colour / np.maximum(cv2.GaussianBlur(weight, (0, 0), radius), 1e-4)[..., None]


def _shrink(mask: Bool[np.ndarray, "h w"], radius: int) -> Bool[np.ndarray, "h w"]:
    return cv2.erode(mask.astype(np.uint8), np.ones((2 * radius + 1,) * 2, np.uint8)) > 0


def along_bone(
    image: Float32[np.ndarray, "h w 3"],
    seen: Bool[np.ndarray, "h w"],
    direction: Float32[np.ndarray, "2"],
    width: float,
) -> Float32[np.ndarray, "h w 3"]:
    """Continues a limb's colours *across* the bone: a sleeve's hem goes round the arm, not along it."""
    scale = min(1.0, _FILL_SIDE / max(seen.shape))
    height, breadth = seen.shape
    size = (max(1, round(breadth * scale)), max(1, round(height * scale)))
    weight = cv2.resize(seen.astype(np.float32), size, interpolation=cv2.INTER_AREA)
    stack = cv2.resize(image * seen[..., None], size, interpolation=cv2.INTER_AREA)
    stack = np.dstack([stack, weight])
    angle = float(np.degrees(np.arctan2(direction[1], direction[0])))
    diagonal = int(np.hypot(*size)) + 2
    turn = cv2.getRotationMatrix2D((size[0] / 2, size[1] / 2), angle, 1.0)
    turn[:, 2] += [diagonal / 2 - size[0] / 2, diagonal / 2 - size[1] / 2]
    turned = cv2.warpAffine(stack, turn, (diagonal, diagonal))
    filled = spread(image, seen.astype(np.float32))
    for reach in (2.0, 1.0, 0.5, 0.25):  # the nearer, the better
        across, narrow = max(width * scale * reach, 0.7), max(width * scale / 8, 0.7)
        blurred = cv2.GaussianBlur(turned, (0, 0), sigmaX=narrow, sigmaY=across)
        back = cv2.warpAffine(blurred, turn, size, flags=cv2.WARP_INVERSE_MAP | cv2.INTER_LINEAR)
        back = cv2.resize(back, (breadth, height), interpolation=cv2.INTER_LINEAR)
        sure = np.clip(back[..., 3:] * 20, 0, 1)
        filled = sure * back[..., :3] / np.maximum(back[..., 3:], 1e-4) + (1 - sure) * filled
    return np.where(seen[..., None], image, filled).astype(np.float32)
