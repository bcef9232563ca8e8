"""Hand skeletons as EchoMimic v2's pose encoder knows them: 21 points a hand, 20 coloured bones, on black.

The look is DWPose's: hues in the order of the bones, points as discs over them.  EchoMimic v2 draws on a canvas whose
shorter side has 800 pixels, shrinks it, and swaps red and blue on the way; its weights saw that, so ours do as well.
Its users had to bring pose files made for another picture and align photo and poses by hand; here stage 1's hands pass
through the photo's own camera, so they lie where the photo's hands are and nothing is left to align **(ours)**.
"""

from __future__ import annotations

import colorsys

import cv2
import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from emo2.guidance import Camera
from emo2.hands.model import HandModel, pose_hands
from emo2.hands.standin import stand_in
from emo2.signals import Motion

BONES = tuple(
    (0 if j == 0 else 4 * finger + j, 4 * finger + j + 1) for finger in range(5) for j in range(4)
)
"""From the wrist along thumb, index, middle, ring and little finger (OpenPose order of the 21 points)."""
CANVAS = 800
"""Shorter side of the canvas, in pixels."""
LINE = 2
DISC = 4
"""Width of a bone, radius of a point, on the canvas."""


def draw_hand_skeletons(
    motion: Motion,
    camera: Camera,
    size: tuple[int, int],
    *,
    frames: range | None = None,
    model: HandModel | None = None,
) -> Float[Tensor, "f 3 h w"]:
    """Some frames' hands at `size`, in [0, 1]; a hand is as bright as it is sure, and absent where it is not seen."""
    frames = range(len(motion)) if frames is None else frames
    chosen = slice(frames.start, frames.stop)
    with torch.no_grad():
        posed = pose_hands(model or stand_in(), motion.hands[chosen].cpu(), motion.betas.cpu())
    scale = CANVAS / min(size)
    canvas = int(size[0] * scale), int(size[1] * scale)
    places = camera.resized(canvas).project(posed.points).numpy()
    sure = (motion.confidence * (motion.visibility > 0.5))[chosen].clamp(0, 1).cpu().numpy()
    maps = np.zeros((len(frames), *size, 3), np.float32)
    for f in range(len(frames)):
        image = np.zeros((*canvas, 3), np.uint8)
        for hand in range(2):
            if sure[f, hand] > 0:
                _draw_hand(image, places[f, hand].clip(-4096, 4096), float(sure[f, hand]))
        maps[f] = cv2.resize(image, size[::-1], interpolation=cv2.INTER_LINEAR)
    return torch.from_numpy(maps / 255).permute(0, 3, 1, 2)


def _draw_hand(image: np.ndarray, points: np.ndarray, sure: float) -> None:
    """A bone is as bright as both its ends are sure, a point as it is; what lies left of or above the picture is left out."""
    at = [(int(x), int(y)) for x, y in points]
    inside = [x > 0 and y > 0 for x, y in at]
    for number, (start, end) in enumerate(BONES):
        if inside[start] and inside[end]:
            red, green, blue = colorsys.hsv_to_rgb(number / len(BONES), 1.0, sure * sure)
            cv2.line(image, at[start], at[end], (blue * 255, green * 255, red * 255), LINE)
    for place, is_inside in zip(at, inside, strict=True):
        if is_inside:
            cv2.circle(image, place, DISC, (sure * 255, 0, 0), -1)
