"""The inside of a mouth: teeth above, tongue and teeth below that drop with the jaw, before the dark (ours).

A photo of closed lips does not say where the teeth stand, and a network that must guess paints their average.  The
details' networks say *where* the inside is seen; what is seen there is drawn, from MakeHuman's CC0 teeth
(`studio/mouth_picture.py` made the layers), in the light and colour of the photo's own skin.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
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
OWN_CHANGE = (0.6, 1.1)
"""How much a photo's own teeth may change the colour of the drawn ones."""
SOLID = 0.9
"""Cover of a layer from which its colour is its own."""
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

    upper: Float32[np.ndarray, "t t 4"]
    lower: Float32[np.ndarray, "s s 4"]
    tongue: Float32[np.ndarray, "s s 4"]
    drop: float
    """Half sides by which the lower layers sink as the jaw opens by 1."""
    open: float
    """The jaw's opening when they were drawn."""
    tint: Float32[np.ndarray, "3"]
    """What the photo's light makes of them."""
    sink: float = LOWER_SINK
    """Half sides by which the lower layers stand deeper than the studio's."""

    def draw(
        self, places: Float32[np.ndarray, "h w 2"], jaw: float
    ) -> Float32[np.ndarray, "h w 3"]:
        """The inside at places of the window (-1..1), in [-1, 1], with the jaw open by 0..1."""
        sunk = places - np.array([0.0, self.sink + self.drop * (jaw - self.open)], np.float32)
        light = np.broadcast_to(np.array(DARK, np.float32), (*places.shape[:2], 3))
        below, above = LOWER_LIGHT, 1.0
        for layer, at, share in (
            (self.tongue, sunk, below),
            (self.lower, sunk, below),
            (self.upper, places, above),
        ):
            found = _fetch(layer, at)
            light = light * (1.0 - found[..., 3:]) + share * found[..., :3]
        return np.clip(light * self.tint, 0.0, 1.0) * 2.0 - 1.0


def _fetch(layer: Float32[np.ndarray, "s s 4"], places: np.ndarray) -> Float32[np.ndarray, "h w 4"]:
    side = layer.shape[0]
    x, y = (np.ascontiguousarray((places[..., k] + 1.0) * (side / 2) - 0.5) for k in (0, 1))
    return cv2.remap(layer, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT)


@cache
def mouth_inside() -> MouthInside:
    """The layers that ship with the package."""
    tensors = load_file(ASSETS / "mouth" / "inside.safetensors")
    upper, lower, tongue = (
        np.ascontiguousarray(tensors[name].permute(1, 2, 0).numpy(), np.float32) / 255.0
        for name in ("upper", "lower", "tongue")
    )
    return MouthInside(
        upper=upper,
        lower=lower,
        tongue=tongue,
        drop=float(tensors["drop"]),
        open=float(tensors["open"]),
        tint=np.ones(3, np.float32),
    )


def inside_of(
    window: Float[Tensor, "3 s s"], own: Float32[np.ndarray, "t t 4"] | None
) -> MouthInside:
    """The layers in the light of a photo's mouth window; `own`: the upper teeth that the photo shows, if any.

    The lower teeth then take the own ones' colour, and stand as far below them as below the drawn ones.
    """
    inside, tint = mouth_inside(), tint_of(window)
    if own is None or float(own[..., 3].max()) < SOLID:
        return replace(inside, tint=tint)
    upper = np.concatenate([own[..., :3] / tint, own[..., 3:]], axis=-1)
    change = _colour(upper) / _colour(inside.upper)
    change *= float(np.clip(change.mean(), *OWN_CHANGE)) / float(change.mean())
    lower = inside.lower * np.append(change, 1.0).astype(np.float32)
    sink = LOWER_SINK + max(_bottom(upper) - _bottom(inside.upper), 0.0)
    return replace(inside, tint=tint, upper=upper, lower=lower, sink=sink)


def _colour(layer: Float32[np.ndarray, "s s 4"]) -> Float32[np.ndarray, "3"]:
    """The colour of a row's teeth: of the third of it that is bluest, gums being red."""
    seen = layer[layer[..., 3] >= SOLID][:, :3]
    return np.median(seen[seen[:, 2] >= np.percentile(seen[:, 2], 67)], axis=0)


def _bottom(layer: Float32[np.ndarray, "s s 4"]) -> float:
    """How far down a row of teeth reaches in the middle of the window, in half sides."""
    side = len(layer)
    middle = layer[:, round(0.45 * side) : round(0.55 * side), 3].mean(1)
    return float(np.flatnonzero(middle > 0.5).max(initial=0)) * 2.0 / side - 1.0


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
