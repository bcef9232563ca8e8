"""Two edges of a face that are apart, lips or lids, in coordinates of their own."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Float, Float32

from emo2.signals import Portrait


@dataclass(frozen=True, kw_only=True)
class Parting:
    """Where the edges are: across and down from `centre`, in lengths of `axes`."""

    centre: Float32[np.ndarray, "2"]
    axes: Float32[np.ndarray, "2 2"]
    """Columns: the unit across and down, in the photo's pixels."""
    across: Float32[np.ndarray, " n"]
    """Evenly spaced."""
    upper: Float32[np.ndarray, " n"]
    """How far down the upper edge is; where the edges meet, their line."""
    lower: Float32[np.ndarray, " n"]

    @property
    def gap(self) -> float:
        """The widest gap."""
        return float((self.lower - self.upper).max())

    @property
    def unit(self) -> float:
        """The unit down, in the photo's pixels."""
        return float(np.hypot(*self.axes[:, 1]))

    @property
    def step(self) -> float:
        """From one place of `across` to the next."""
        return float(self.across[1] - self.across[0])

    def inside(self, pixels: Float32[np.ndarray, "*n 2"]) -> Float32[np.ndarray, "*n 2"]:
        """The photo's pixels in these coordinates."""
        return ((pixels - self.centre) @ np.linalg.inv(self.axes).T).astype(np.float32)

    def outside(self, places: Float32[np.ndarray, "*n 2"]) -> Float32[np.ndarray, "*n 2"]:
        """The inverse of `inside`."""
        return (places @ self.axes.T + self.centre).astype(np.float32)

    def at(
        self, across: Float32[np.ndarray, "*n"], line: Float32[np.ndarray, " n"]
    ) -> Float32[np.ndarray, "*n"]:
        """A line's values at places across."""
        return np.interp(across, self.across, line).astype(np.float32)


def upright(
    portrait: Portrait,
    centre: Float[np.ndarray, "2"],
    axes: Float[np.ndarray, "2 2"],
    across: Float32[np.ndarray, " n"],
    down: Float32[np.ndarray, " m"],
) -> Float32[np.ndarray, "m n 3"]:
    """The photo at places in such coordinates, RGB in [0, 1]; `down` is evenly spaced."""
    image = portrait.image.permute(1, 2, 0).float().cpu().numpy()
    places = np.stack(np.meshgrid(across, down), axis=-1) @ axes.T + centre
    places = places.astype(np.float32)
    low = np.floor(places.min((0, 1)) - 4).astype(int).clip(0)
    high = np.ceil(places.max((0, 1)) + 4).astype(int)
    part = np.ascontiguousarray(image[low[1] : high[1], low[0] : high[0]])
    coarse = float(np.hypot(*axes[:, 1])) * float(down[1] - down[0])
    if coarse > 1.5:
        part = cv2.GaussianBlur(part, (0, 0), 0.4 * coarse)
    x, y = (np.ascontiguousarray(places[..., k] - low[k], np.float32) for k in (0, 1))
    found = cv2.remap(part, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return ((found + 1.0) / 2.0).clip(0.0, 1.0)
