"""From the renderer's picture to a photo, a film frame, a drawing: one look for all frames of a person."""

from __future__ import annotations

import cv2
import numpy as np
from jaxtyping import UInt8
from numpy import ndarray
from numpy.random import Generator


class Development:
    """Colour, lens and hand of the artist, drawn once; the call develops all frames alike."""

    def __init__(self, rng: Generator) -> None:
        self.rng = rng
        self.gamma, self.contrast = rng.uniform(0.75, 1.35), rng.uniform(0.75, 1.2)
        self.lift, self.cast = rng.uniform(-0.06, 0.06), rng.uniform(0.92, 1.08, 3)
        self.saturation = float(rng.choice([0.0, rng.uniform(0.5, 1.4)], p=[0.08, 0.92]))
        self.blur = float(rng.choice([0.0, rng.uniform(0.3, 0.9)], p=[0.65, 0.35]))
        self.noise = float(rng.choice([0.0, rng.uniform(0.005, 0.03)], p=[0.6, 0.4]))
        self.style = str(
            rng.choice(
                ["photo", "median", "poster", "edges", "painting", "ink"],
                p=[0.5, 0.15, 0.1, 0.1, 0.1, 0.05],
            )
        )
        self.strength = rng.random()

    def __call__(self, pictures: UInt8[ndarray, "n h w 3"]) -> UInt8[ndarray, "n h w 3"]:
        """The developed pictures."""
        table = np.linspace(0, 1, 256, dtype=np.float32) ** self.gamma
        table = (table - 0.5) * self.contrast + 0.5 + self.lift
        values = table[:, None] * self.cast
        curve = np.clip(values * 255, 0, 255).astype(np.uint8)
        return np.stack([self._one(picture, curve) for picture in pictures])

    def _one(self, picture: ndarray, curve: ndarray) -> ndarray:
        image = np.stack([cv2.LUT(picture[..., k], curve[:, k]) for k in range(3)], -1)
        if abs(self.saturation - 1) > 0.1:
            grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)[..., None].repeat(3, -1)
            image = cv2.addWeighted(image, self.saturation, grey, 1 - self.saturation, 0)
        image = self._stylise(image)
        if self.blur:
            image = cv2.GaussianBlur(image, (0, 0), self.blur)
        if self.noise:
            grain = self.rng.standard_normal(image.shape, np.float32) * (self.noise * 255)
            image = np.clip(image + grain, 0, 255).astype(np.uint8)
        return image

    def _stylise(self, image: ndarray) -> ndarray:
        if self.style == "median":
            return cv2.medianBlur(image, 3 if self.strength < 0.6 else 5)
        if self.style == "poster":
            steps = 5 + round(7 * self.strength)
            return (np.round(image / 255 * steps) / steps * 255).astype(np.uint8)
        if self.style == "edges":
            soft = cv2.GaussianBlur(image, (0, 0), 1.2)
            amount = 0.5 + self.strength
            return cv2.addWeighted(image, 1 + amount, soft, -amount, 0)
        if self.style == "painting":
            return cv2.bilateralFilter(cv2.medianBlur(image, 3), 5, 30 + 40 * self.strength, 3)
        if self.style == "ink":
            grey = cv2.GaussianBlur(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), (0, 0), 0.8)
            lines = cv2.Laplacian(grey, cv2.CV_16S, ksize=3)
            dark = np.clip(lines * (2 + 4 * self.strength), 0, 180).astype(np.uint8)[..., None]
            return cv2.subtract(cv2.medianBlur(image, 3), dark.repeat(3, -1))
        return image
