"""How each public family's own script samples a film: noise, steps, guidance, windows, seed.

These are facts of the published inference scripts; networks and their switches stand elsewhere.  A pipeline takes
its `Sampling` here:

    way = FAMILIES["echomimic-v2"]
    noise = way.first_noise((1, frames, 4, h, w), generator)
    solver = way.process.scheduler("ddim"); solver.set_timesteps(way.steps)
    for window in way.windows.at(frames, step): ...
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from emo2.diffusion import NoiseProcess
from emo2.errors import UserError
from emo2.video.guides import Guide
from emo2.video.windows import Windows

_LINEAR = NoiseProcess(schedule="linear", target="velocity", zero_snr=True)
_SCALED = NoiseProcess(schedule="scaled_linear", target="velocity", zero_snr=True)


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """A family's way from noise to a film, with DDIM."""

    process: NoiseProcess
    steps: int
    guidance: float
    fps: float
    """Where the family names none (AnimateAnyone, MusePose follow their driving film): 25."""
    seed: int
    """The scripts' own; ours comes from the user."""
    windows: Windows | None
    """None: clip after clip, joined by motion frames."""
    clip_frames: int = 0
    """Frames of a clip where there are no windows."""
    motion_frames: int = 0
    size: tuple[int, int] = (512, 512)
    guide: Guide | None = None
    """What the guidance encoder is shown; None: poses that no voice gives."""
    starts_with_photo: bool = False
    """A film's first clip continues copies of the photo (Hallo) rather than zero features (EMO)."""
    noise_limit: float | None = None
    """The first noise is clamped to plus and minus this."""

    def first_noise(
        self, shape: tuple[int, ...], generator: torch.Generator
    ) -> Float[Tensor, "..."]:
        """Where sampling begins; drawn on the CPU."""
        noise = torch.randn(shape, generator=generator)
        return (
            noise if self.noise_limit is None else noise.clamp(-self.noise_limit, self.noise_limit)
        )


_HALLO = Sampling(
    process=_LINEAR, steps=40, guidance=3.5, fps=25, seed=42,
    windows=None, clip_frames=16, motion_frames=2, guide="face_region", starts_with_photo=True,
)  # fmt: skip
_ECHO_1 = Sampling(
    process=_LINEAR, steps=30, guidance=2.5, fps=24, seed=420, noise_limit=1.5, guide="face_box",
    windows=Windows(size=12, overlap=3, shift=2, beyond="wrap", closed=True),
)  # fmt: skip
_ECHO_2 = Sampling(
    process=_LINEAR, steps=30, guidance=2.5, fps=24, seed=3407, noise_limit=1.5, size=(768, 768), guide="hand_skeleton",
    windows=Windows(size=12, overlap=3, shift=3, beyond="wrap", closed=True),
)  # fmt: skip

FAMILIES: dict[str, Sampling] = {
    # EMO (E1 §3) names DDIM, 40 steps, n = 4, f = 12; schedule and target are Stable Diffusion 1.5's, guidance is ours.
    "full": Sampling(
        process=NoiseProcess(schedule="scaled_linear", target="noise"), steps=40, guidance=3.5,
        fps=25, seed=0, windows=None, clip_frames=12, motion_frames=4, guide="surface",
    ),
    "hallo": _HALLO,
    "hallo2": _HALLO,
    "echomimic-v1": _ECHO_1,
    "echomimic-v1-acc": replace(_ECHO_1, steps=6, guidance=1.0),
    # The pose variants of v1 shift by 3 and do not clamp.
    "echomimic-v1-pose": replace(
        _ECHO_1, noise_limit=None, guide=None, windows=Windows(size=12, overlap=3, shift=3, beyond="wrap", closed=True)
    ),
    "echomimic-v2": _ECHO_2,
    "echomimic-v2-acc": replace(_ECHO_2, steps=6, guidance=1.0),
    "animateanyone": Sampling(
        process=_LINEAR, steps=30, guidance=3.5, fps=25, seed=42, size=(784, 512),
        windows=Windows(size=24, overlap=4, beyond="wrap", closed=True),
    ),
    "musepose": Sampling(
        process=_SCALED, steps=20, guidance=3.5, fps=25, seed=99, size=(768, 768),
        windows=Windows(size=48, overlap=4, beyond="wrap"),
    ),
    "aniportrait": Sampling(
        process=_LINEAR, steps=25, guidance=3.5, fps=30, seed=42,
        windows=Windows(size=16, overlap=4, beyond="wrap", closed=True),
    ),
    "vexpress": Sampling(
        process=_SCALED, steps=25, guidance=3.5, fps=30, seed=42,
        windows=Windows(size=24, overlap=4, beyond="mirror"),
    ),
}  # fmt: skip


def require_voice(family: str) -> None:
    """Refuse a family whose films no voice can drive; what is no public family passes."""
    way = FAMILIES.get(family)
    if way is not None and way.guide is None:
        able = ", ".join(name for name, other in FAMILIES.items() if other.guide is not None)
        raise UserError(
            f"{family} is driven by poses that no voice gives; films from a voice are made by {able}"
        )
