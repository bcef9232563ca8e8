"""The inside of a mouth: teeth above, tongue and teeth below that drop with the jaw, before the dark (ours).

A photo of closed lips does not say where the teeth stand, and a network that must guess paints their average.  The
details' networks say *where* the inside is seen; what is seen there is drawn, from MakeHuman's CC0 teeth
(`studio/mouth_picture.py` made the layers), in the light and colour of the photo's own skin.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import cv2
import numpy as np
import torch
from jaxtyping import Float, Float32
from safetensors.torch import load_file
from torch import Tensor

from emo2.weights import ASSETS

DARK = (0.085, 0.03, 0.03)
"""Of the mouth behind everything, in the light of `USUAL_SKIN`."""
USUAL_SKIN = (0.72, 0.55, 0.47)
SKIN_SHARE = 0.5
"""How far teeth take the hue of the skin's light."""
GAIN = (0.4, 1.1)
SURE = (0.15, 0.5)
"""Alphas between which drawn teeth take over from painted colour."""
SHADE = 0.45
"""Light that is left close to the lips."""
LOWER_LIGHT = 0.8
"""Of the light above reaches the lower teeth and the tongue."""
LOWER_SINK = 0.05
"""Half sides by which the lower layers stand deeper than the studio's: speakers show little of them."""


@dataclass(frozen=True, kw_only=True)
class MouthInside:
    """Premultiplied RGBA layers in the mouth window's coordinates, in [0, 1]."""

    upper: Float32[np.ndarray, "s s 4"]
    lower: Float32[np.ndarray, "s s 4"]
    tongue: Float32[np.ndarray, "s s 4"]
    drop: float
    """Half sides by which the lower layers sink as the jaw opens by 1."""
    open: float
    """The jaw's opening when they were drawn."""

    def draw(
        self, places: Float32[np.ndarray, "h w 2"], jaw: float, tint: Float32[np.ndarray, "3"]
    ) -> Float32[np.ndarray, "h w 3"]:
        """The inside at places of the window (-1..1), in [-1, 1], with the jaw open by 0..1."""
        sunk = places - np.array([0.0, LOWER_SINK + self.drop * (jaw - self.open)], np.float32)
        light = np.broadcast_to(np.array(DARK, np.float32), (*places.shape[:2], 3))
        below, above = LOWER_LIGHT, 1.0
        for layer, at, share in (
            (self.tongue, sunk, below),
            (self.lower, sunk, below),
            (self.upper, places, above),
        ):
            found = _fetch(layer, at)
            light = light * (1.0 - found[..., 3:]) + share * found[..., :3]
        return np.clip(light * tint, 0.0, 1.0) * 2.0 - 1.0


def _fetch(layer: Float32[np.ndarray, "s s 4"], places: np.ndarray) -> Float32[np.ndarray, "h w 4"]:
    side = layer.shape[0]
    x, y = (np.ascontiguousarray((places[..., k] + 1.0) * (side / 2) - 0.5) for k in (0, 1))
    return cv2.remap(layer, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT)


@cache
def mouth_inside() -> MouthInside:
    """The layers that ship with the package."""
    tensors = load_file(ASSETS / "mouth" / "inside.safetensors")
    layers = {
        name: np.ascontiguousarray(tensors[name].permute(1, 2, 0).numpy(), np.float32) / 255.0
        for name in ("upper", "lower", "tongue")
    }
    return MouthInside(**layers, drop=float(tensors["drop"]), open=float(tensors["open"]))


def tint_of(window: Float[Tensor, "3 s s"]) -> Float32[np.ndarray, "3"]:
    """What the light of a photo does to teeth, from the skin around its mouth: brightness, some of the hue.

    A picture without colour gets teeth without colour by the same rule.
    """
    side = window.shape[-1]
    ring = torch.ones(side, side, dtype=torch.bool)
    low, high = round(0.22 * side), round(0.78 * side)
    ring[low:high, low:high] = False
    margin = round(0.1 * side)
    ring[:margin], ring[-margin:] = False, False
    skin = ((window[:, ring].float().cpu() + 1.0) / 2.0).median(dim=1).values.numpy()
    usual = np.array(USUAL_SKIN, np.float32)
    gain = float(np.clip(skin.mean() / usual.mean(), *GAIN))
    hue = (skin / max(float(skin.mean()), 0.05)) / (usual / usual.mean())
    return (gain * (1.0 + SKIN_SHARE * (hue - 1.0))).astype(np.float32)


def over(
    paint: Float32[np.ndarray, "h w 3"],
    alpha: Float32[np.ndarray, "h w 1"],
    inside: Float32[np.ndarray, "h w 3"],
) -> Float32[np.ndarray, "h w 3"]:
    """The inside over painted colours, where the window's alpha is sure of it; darker close to the lips."""
    low, high = SURE
    share = np.clip((alpha - low) / (high - low), 0.0, 1.0)
    shaded = (inside + 1.0) * (SHADE + (1.0 - SHADE) * share * share) - 1.0
    return paint + (shaded - paint) * share
