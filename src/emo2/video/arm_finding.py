"""The arms of a photo that can be cut out surely: limbs, masks, and the hands that a mesh fits.

Part of the arm layers (design §6); runs once per photo.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float32

from emo2.hands import stand_in
from emo2.hands.fit import HandFit, Sight
from emo2.hands.flesh import Flesh, flesh_of
from emo2.portrait.skin import lies_on_other, stands_free
from emo2.signals import HAND_SIDES, Portrait
from emo2.video.arm_cutter import ArmShares
from emo2.video.hand_sight import fit_of, lies_on_arm, mended, see_hand, with_fit
from emo2.video.hands_meeting import clasped
from emo2.video.layer_masks import Limb, arm_mask, fault, find_limb, segment_distance

_SURELY_FOREARM = 0.6
"""Share from which the cutter is believed against the outline of a hand."""


@dataclass(frozen=True)
class FittedHand:
    """A hand of the photo that a mesh fits, and its arm."""

    limb: Limb
    sight: Sight
    fit: HandFit

    def without_forearm(self, shares: ArmShares) -> FittedHand:
        """The same without what is surely forearm beside the hand."""
        assert self.sight.hand is not None
        return replace(self, sight=replace(self.sight, hand=hand_alone(self.sight.hand, shares)))

    def flesh(self) -> tuple[Flesh, np.ndarray]:
        """The mesh as thick as the photo has it, and the hand's mask."""
        assert self.sight.hand is not None
        return flesh_of(stand_in(), self.fit, self.sight), self.sight.hand


def hand_alone(hand: Float32[np.ndarray, "h w"], shares: ArmShares) -> Float32[np.ndarray, "h w"]:
    """A hand's outline without the strip of forearm that it may have taken along."""
    forearm = (shares[3] > _SURELY_FOREARM) & (shares[4] < 1.0 - _SURELY_FOREARM)
    return np.where(forearm, 0, hand).astype(np.float32)


def fitted_hands(pixels: np.ndarray, portrait: Portrait) -> dict[int, FittedHand]:
    """The hands whose points and mask a mesh fits, by side: of these the finder is right."""
    found = [find_limb(portrait, side) for side in range(len(HAND_SIDES))]
    limbs = [limb for limb in found if isinstance(limb, Limb)]
    if len(limbs) == 2 and clasped(limbs):
        return {}
    hands: dict[int, FittedHand] = {}
    for limb in limbs:
        sight = see_hand(pixels, portrait, limb.side)
        fit = fit_of(stand_in(), sight)
        if fit is not None and sight is not None and not lies_on_arm(limb, fit, sight):
            hands[limb.side] = FittedHand(with_fit(limb, stand_in(), fit), sight, fit)
    return hands


def sound_limbs(
    pixels: np.ndarray, portrait: Portrait, fitted: Mapping[int, FittedHand]
) -> tuple[list[Limb], list[np.ndarray], tuple[str, ...]]:
    """The arms that can be cut out surely, their masks, and what is wrong with the others."""
    found = [find_limb(portrait, side) for side in range(len(HAND_SIDES))]
    notes = [limb for limb in found if isinstance(limb, str)]
    limbs = [limb for limb in found if isinstance(limb, Limb)]
    masks = _masks(pixels, portrait, limbs)
    sound: list[tuple[Limb, np.ndarray]] = []
    for limb, mask in zip(limbs, masks, strict=True):
        hand = fitted.get(limb.side)
        if hand is not None:
            sound_limb, cut_out = hand.limb, mended(mask, hand.limb, hand.sight)
        else:
            sound_limb, cut_out = limb, mask
        trouble = fault(cut_out, sound_limb) or _hampered(portrait, limb.side, hand)
        if trouble is None:
            sound.append((sound_limb, cut_out))
        else:
            notes.append(trouble)
    return [limb for limb, _ in sound], [mask for _, mask in sound], tuple(notes)


def _hampered(portrait: Portrait, side: int, hand: FittedHand | None) -> str | None:
    """What lies about a hand that would go with it."""
    name = HAND_SIDES[side]
    if hand is not None:
        if lies_on_other(portrait, side):
            return (
                f"the {name} hand lies on the other arm, whose hand was not found; it stays still"
            )
    elif not stands_free(portrait, side):
        return f"the {name} hand does not stand free; it stays still"
    return None


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
