"""What the networks attend to at a film frame, picked from `SpeechFeatures` clip by clip.

    around(features.values, range(first, stop))              EMO, Hallo: frames f-2 .. f+2, all layers
    half_frame_windows(features.values, range(first, stop))  V-Express: ten half-frame rows
    step_tokens(features.values, range(first, stop), fps)    EchoMimic: ten Whisper steps x five layers

Frames may lie beyond the features; the last rows are then repeated (V-Express: zeros).
"""

from __future__ import annotations

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from emo2.speech.whisper import STEP_RATE

STEPS_BEFORE, STEPS_AFTER = 4, 6
"""Whisper steps that count for a frame, from its own on: 4 before, itself and 5 after."""
HALF_FRAMES_BEFORE, HALF_FRAMES = 4, 10


def around(
    values: Float[Tensor, "n layers width"], frames: range, reach: int = 2
) -> Float[Tensor, "f offsets layers width"]:
    """Each frame's neighbours from -reach to +reach, clamped to the film."""
    offsets = torch.arange(-reach, reach + 1)
    at = (torch.tensor(frames)[:, None] + offsets).clamp(0, len(values) - 1)
    return values[at]


def half_frame_windows(
    values: Float[Tensor, "n 1 width"], frames: range
) -> Float[Tensor, "f 10 width"]:
    """Rows 2 i - 4 to 2 i + 5 for frame i, zeros outside the film."""
    at = 2 * torch.tensor(frames)[:, None] - HALF_FRAMES_BEFORE + torch.arange(HALF_FRAMES)
    inside = (at >= 0) & (at < len(values))
    found = values[at.clamp(0, len(values) - 1), 0]
    return found * inside[..., None].to(found)


def step_tokens(
    values: Float[Tensor, "steps layers width"], frames: range, fps: float
) -> Float[Tensor, "f tokens width"]:
    """Steps -4 to +5 around int(i 50 / fps), clamped; step by step, all layers of each."""
    own = torch.tensor([int(i * STEP_RATE / fps) for i in frames])
    at = own[:, None] + torch.arange(-STEPS_BEFORE, STEPS_AFTER)
    found = values[at.clamp(0, len(values) - 1)]
    return rearrange(found, "f steps layers width -> f (steps layers) width")


def step_windows(steps: int, fps: float) -> int:
    """How many frames EchoMimic makes of so many steps: until int(i 50 / fps) lies past the last, that one included."""
    count = 0
    while int(count * STEP_RATE / fps) <= steps:
        count += 1
    return count + 1
