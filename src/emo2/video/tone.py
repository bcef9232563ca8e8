"""Photos without colours of their own, black and white or brown with age: what is painted into them has none either (ours)."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Float32

from emo2.signals import Portrait

LIGHT = np.array([0.299, 0.587, 0.114], np.float32)
"""Share of each colour in how light a pixel is (ITU-R BT.601)."""
_SIDE = 256
"""Pixels a side at most in which colours are judged: noise and JPEG's blocks are averaged."""
_BINS = 64
_RARE = 0.01
"""Share of the pixels that may be off the curve: specks, a stamp."""
_OFF = 0.1
"""Most that others are, of a range of 2. Photos in colour have .14 and more, 39 of them; the same as grey JPEG .01, browned
and with coloured grain .04 (one .085, where brown was cut off at the brightest)."""
_STEPS = 1024
"""Shades of the table."""


@dataclass(frozen=True, kw_only=True)
class Tone:
    """The only colours that a photo has: one for each shade."""

    table: Float32[np.ndarray, "shades 3"]
    """RGB in [-1, 1], by how light."""

    @staticmethod
    def build(portrait: Portrait) -> Tone | None:
        """None where colours are not given by how light they are."""
        image = np.ascontiguousarray(portrait.image.permute(1, 2, 0).cpu().numpy(), np.float32)
        scale = min(1.0, _SIDE / max(image.shape[:2]))
        small = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        colours = small.reshape(-1, 3)
        light = colours @ LIGHT
        bins = ((light + 1.0) / 2.0 * _BINS).astype(int).clip(0, _BINS - 1)
        count = np.bincount(bins, minlength=_BINS)
        met = count > 0

        def means(values: np.ndarray) -> np.ndarray:
            return np.bincount(bins, values, _BINS)[met] / count[met]

        shades, curve = means(light), [means(channel) for channel in colours.T]
        told = np.stack([np.interp(light, shades, channel) for channel in curve], axis=-1)
        if np.quantile(np.abs(colours - told).max(-1), 1.0 - _RARE) > _OFF:
            return None
        # A shade beyond those that the photo has keeps the tint of the nearest.
        steps = np.linspace(-1.0, 1.0, _STEPS)
        tints = (np.interp(steps, shades, channel - shades) for channel in curve)
        table = np.stack([(steps + tint).clip(-1.0, 1.0) for tint in tints], axis=-1)
        return Tone(table=table.astype(np.float32))

    def keep(self, frame: Float32[np.ndarray, "h w 3"]) -> None:
        """Give every pixel the colour of its shade, in place."""
        shade = np.rint((cv2.transform(frame, LIGHT[None]) + 1.0) * (0.5 * (_STEPS - 1)))
        frame[:] = self.table[shade.astype(np.int32).clip(0, _STEPS - 1)]
