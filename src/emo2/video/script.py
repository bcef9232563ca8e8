"""What a film is made from, read clip by clip: voice, motion, guidance maps, noise."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Float32
from torch import Tensor

from emo2.guidance import fit_camera
from emo2.reel import Reel
from emo2.signals import GuidanceMaps, Motion, Portrait, SpeechFeatures
from emo2.video.conditions import FrameConditions
from emo2.video.eyelids import BLINKS
from emo2.video.layer_motion import BLOCK as ARMS_BLOCK
from emo2.video.layer_motion import ArmPoses, anchored
from emo2.video.layer_motion import reach as arms_reach
from emo2.video.views import View

DrawMaps = Callable[[int, int, Tensor, int], GuidanceMaps]
"""(first, stop, box, size): guidance maps of the frames first..stop in a box of the photo (x0, y0, x1, y1 in
pixels, as floats), at `size` pixels a side.  Drawn when a clip is made, so that memory does not grow."""


HEAD_REACH, BODY_REACH = 0.15, 0.04
"""Turns of the head and of the torso, in radians, up to which the moved photo is sure to look right (by eye)."""


def condition_vector(motion: Motion) -> Float[Tensor, "frames 64"]:
    """Face actions, head and torso of a motion; zero where it has none (the photo's own pose)."""
    count = len(motion)
    face, head, body = (
        torch.zeros(count, n) if part is None else part.float()
        for part, n in ((motion.face, 52), (motion.head, 6), (motion.body, 6))
    )
    return torch.cat([face, *within_reach(head, body)], dim=-1)


def within_reach(
    head: Float[Tensor, "frames 6"], body: Float[Tensor, "frames 6"]
) -> tuple[Float[Tensor, "frames 6"], Float[Tensor, "frames 6"]]:
    """Head and torso drawn in where they turn too far together: beyond the reach hair and cheeks would smear (ours).

    Small turns stay as they are; large ones keep their direction and approach the reach.
    """
    turns = torch.cat([head[:, :3] / HEAD_REACH, body[:, :3] / BODY_REACH], dim=-1)
    far = turns.norm(dim=-1, keepdim=True)
    share = (1.0 + far**3) ** (-1.0 / 3.0)
    breath = body[:, 5:]
    return head * share, torch.cat([body[:, :5] * share, breath], dim=-1)


@dataclass(frozen=True, kw_only=True)
class Script:
    """Everything that happens in the film, whoever is seen in it."""

    features: Reel[SpeechFeatures]
    motion: Reel[Motion]
    maps: DrawMaps | None
    arms: Reel[ArmPoses] | None
    """Where the arms' layers go; None where none move."""
    seed: int
    steps: int
    fps: float
    lids: bool = False
    """Whether eyes are closed by `eyelids.py`: networks are then told open ones."""

    @staticmethod
    def of(
        features: SpeechFeatures | Reel[SpeechFeatures],
        motion: Motion | Reel[Motion],
        maps: DrawMaps | None,
        arms: Portrait | None,
        *,
        seed: int,
        steps: int,
        lids: bool = False,
    ) -> Script:
        """`arms`: whose arms move, if any."""
        moves, poses = Reel.of(motion), None
        if arms is not None:
            poses = Reel(anchored(moves, arms, fit_camera(arms)), len(moves))
        return Script(
            features=Reel.of(features), motion=moves, maps=maps, arms=poses,
            seed=seed, steps=steps, fps=moves.between(0, 1).fps, lids=lids,
        )  # fmt: skip

    def arms_at(self, first: int, stop: int) -> Sequence[Float32[np.ndarray, "2 23"] | None]:
        """Poses of the arms in some frames, as the layers take them; None where none move."""
        if self.arms is None:
            return [None] * (stop - first)
        return list(self.arms.between(first, stop).values.numpy())

    def conditions(self, first: int, stop: int) -> Float[Tensor, "1 f 64"]:
        """Condition vectors of some frames."""
        asked = condition_vector(self.motion.between(first, stop))[None]
        if self.lids:
            asked[..., BLINKS] = 0.0
        return asked

    def closures(self, first: int, stop: int) -> Sequence[Float32[np.ndarray, "2"] | None]:
        """How far eyes are closed in some frames, where lids do that: on the left and on the right of the picture."""
        face = self.motion.between(first, stop).face if self.lids else None
        if face is None:
            return [None] * (stop - first)
        return list(face[:, BLINKS].float().clamp(0.0, 1.0).cpu().numpy())

    def audio(self, first: int, stop: int) -> Float[Tensor, "1 f layers a"]:
        """Feature rows of some frames; the last row again where the voice ends before the motion."""
        last = len(self.features) - 1
        rows = self.features.between(min(first, last), min(stop, last + 1)).values
        return rows[torch.arange(stop - first).clamp(max=len(rows) - 1)][None]

    def forget(self, before: int, margin: int) -> None:
        """Frames more than `margin` before this one are not wanted any more, nor what they were made from."""
        if self.arms is not None:
            self.arms.forget(before)
            margin += ARMS_BLOCK + arms_reach(self.fps)
        self.motion.forget(before - margin)
        self.features.forget(before - margin)

    def noise(self, shape: tuple[int, ...], clip: int, view: int) -> Tensor:
        """A clip's noise: it depends on the seed, the clip and the view alone."""
        generator = torch.Generator().manual_seed(
            (self.seed * 1_000_003 + clip * 16 + view) % 2**63
        )
        return torch.randn(shape, generator=generator)

    def guidance(
        self, view: View, size: int, first: int, stop: int, device: torch.device
    ) -> FrameConditions:
        """Maps (1 f 7 size size) in a view and the hands' confidence (1 f 2) of some frames, if there are any."""
        if self.maps is None or not size:
            return FrameConditions()
        box = (view.left, view.top, view.left + view.side, view.top + view.side)
        drawn = self.maps(first, stop, torch.tensor(box, dtype=torch.float32), size)
        region = drawn.face_region.expand(stop - first, -1, -1, -1)
        maps = torch.cat([drawn.hand_surface, drawn.key_points, region], dim=1)
        return FrameConditions(
            maps=maps[None].to(device), confidence=drawn.confidence[None].to(device)
        )


def quantise(frames: Float[Tensor, "n 3 h w"]) -> Tensor:
    """To bytes, as what goes to disk; what a resumed run reads is then what an unbroken one goes on with."""
    return ((frames + 1.0) * 127.5).round().clamp(0, 255).to(torch.uint8)


def dequantise(values: Tensor) -> Float[Tensor, "*shape"]:
    """The inverse of `quantise`."""
    return values.float() / 127.5 - 1.0
