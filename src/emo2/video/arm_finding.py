"""The arms of a photo that can be cut out surely: limbs, masks, and the hands that a mesh fits.

Part of the arm layers (design §6); runs once per photo.
"""

from __future__ import annotations

import itertools

import numpy as np

from emo2.hands import stand_in
from emo2.hands.fit import HandFit, Sight
from emo2.hands.flesh import Flesh, flesh_of
from emo2.portrait.skin import stands_free
from emo2.signals import HAND_SIDES, Portrait
from emo2.video.hand_sight import fit_of, lies_on_arm, mended, see_hand, with_fit
from emo2.video.hands_meeting import clasped
from emo2.video.layer_masks import Limb, arm_mask, fault, find_limb, segment_distance


def sound_limbs(
    pixels: np.ndarray, portrait: Portrait, seen: Portrait | None
) -> tuple[list[Limb], list[np.ndarray], tuple[str, ...], dict[int, tuple[Flesh, np.ndarray]]]:
    """The arms that can be cut out surely, their masks, what is wrong with the others, and hands by their side.

    `seen` is the portrait as the finder left it, where meshes are wanted: its points and masks belong together.
    """
    found = [find_limb(portrait, side) for side in range(len(HAND_SIDES))]
    notes = [limb for limb in found if isinstance(limb, str)]
    limbs = [limb for limb in found if isinstance(limb, Limb)]
    if seen is None or (len(limbs) == 2 and clasped(limbs)):
        sights: dict[int, Sight | None] = {limb.side: None for limb in limbs}
    else:
        sights = {limb.side: see_hand(pixels, seen, limb.side) for limb in limbs}
    fits = {limb.side: _fit(limb, sights[limb.side]) for limb in limbs}
    masks = _masks(pixels, portrait, limbs)
    limbs = [_refined(limb, fits[limb.side]) for limb in limbs]
    sound: list[tuple[Limb, np.ndarray]] = []
    for limb, cut_out in zip(limbs, masks, strict=True):
        name, sight, mask = HAND_SIDES[limb.side], sights[limb.side], cut_out
        if fits[limb.side] is not None and sight is not None:
            mask = mended(mask, limb, sight)
        trouble = fault(mask, limb)
        if trouble is None and not stands_free(portrait, limb.side):
            trouble = f"the {name} hand does not stand free; it stays still"
        if trouble is None:
            sound.append((limb, mask))
            if sight is not None and fits[limb.side] is None:
                notes.append(f"no 3-D hand fits the {name} hand surely; it moves in the plane only")
        else:
            notes.append(trouble)
    kept = {}
    for limb, _ in sound:
        fit, sight = fits[limb.side], sights[limb.side]
        if fit is not None and sight is not None and sight.hand is not None:
            kept[limb.side] = (flesh_of(stand_in(), fit, sight), sight.hand)
    return [limb for limb, _ in sound], [mask for _, mask in sound], tuple(notes), kept


def _fit(limb: Limb, sight: Sight | None) -> HandFit | None:
    """The hand's mesh, where it fits and what it hides can be painted."""
    fit = fit_of(stand_in(), sight)
    return None if fit is None or sight is None or lies_on_arm(limb, fit, sight) else fit


def _refined(limb: Limb, fit: HandFit | None) -> Limb:
    return limb if fit is None else with_fit(limb, stand_in(), fit)


def _masks(image: np.ndarray, portrait: Portrait, limbs: list[Limb]) -> list[np.ndarray]:
    """Each limb's mask; a place claimed by two belongs to the nearer hand or arm."""
    masks = []
    for limb in limbs:
        given = None
        if portrait.limb_masks is not None:
            given = (
                portrait.limb_masks[2 * limb.side : 2 * limb.side + 2]
                .cpu()
                .numpy()
                .astype(np.float32)
            )
        masks.append(arm_mask(image, limb, given))
    if len(masks) == 2:
        both = (masks[0] > 0) & (masks[1] > 0)
        if both.any():
            ys, xs = np.nonzero(both)
            points = np.stack([xs, ys], -1).astype(np.float32)
            near = [_to_limb(points, limb) for limb in limbs]
            first = near[0] < near[1]
            masks[0][ys[~first], xs[~first]] = 0
            masks[1][ys[first], xs[first]] = 0
    return masks


def _to_limb(points: np.ndarray, limb: Limb) -> np.ndarray:
    bones = [(limb.shoulder, limb.elbow), (limb.elbow, limb.wrist)]
    bones += [(limb.hand[a], limb.hand[b]) for c in limb.chains for a, b in itertools.pairwise(c)]
    return np.min([segment_distance(points, a, b)[0] for a, b in bones], axis=0)
