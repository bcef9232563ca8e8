"""Families of public checkpoints at tiny sizes, with random weights, and a codec without weights."""

from __future__ import annotations

from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from emo2.config import UNetConfig, VideoConfig
from emo2.presets import PRESETS, audio_block_widths
from emo2.signals import Portrait, SpeechFeatures
from emo2.video.latent_stage import LatentStage, Wishes
from emo2.video.placement import Placement

WIDTHS = (8, 16)


class PoolCodec:
    """Means of 8 x 8 pixels, and a fourth channel of zeros; back by repeating."""

    def encode(self, frames: Tensor) -> Tensor:
        return F.pad(F.avg_pool3d(frames.float(), (1, 8, 8)), (0, 0, 0, 0, 0, 1))

    def decode(self, latents: Tensor) -> Tensor:
        colours = latents[:, :, :3].clamp(-1, 1)
        return colours.repeat_interleave(8, -1).repeat_interleave(8, -2)


def small(name: str, **changes: object) -> VideoConfig:
    """A family's config with small networks; everything else is the family's own."""
    video = PRESETS[name].video

    def unet(config: UNetConfig) -> UNetConfig:
        heads = {"guidance_heads": 2, "guidance_head_width": 4} if config.guidance_heads else {}
        return replace(
            config,
            widths=WIDTHS,
            attention=(True, False),
            layers=1 if not config.audio_blocks else 2,
            heads=2,
            groups=4,
            context_width=8 if config.context_width else 0,
            audio_width=8 if config.audio_width else 0,
            audio_blocks=audio_block_widths(WIDTHS) if config.audio_blocks else (),
            guidance_widths=(4, 4, 4, 8),
            **heads,
        )

    tokens = video.audio_tokens
    return replace(
        video,
        reference=replace(unet(video.reference), layers=2 if video.denoiser.audio_blocks else 1),
        denoiser=unet(video.denoiser),
        face_tokens=replace(video.face_tokens, width=8, tokens=2),
        audio_tokens=replace(
            tokens, inputs=8, layers=min(tokens.layers, 2), hidden=8, tokens=3, width=8
        ),
        **{"steps": 2, "clip_frames": 4, **changes},  # type: ignore[arg-type]
    )


def randomised(stage: LatentStage, seed: int = 3) -> LatentStage:
    """Weights that say something in every layer, zero-initialised ones included."""
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in stage.named_parameters():
        noise = torch.randn(parameter.shape, generator=generator)
        if parameter.dim() > 1:
            parameter.data = noise * (0.7 / parameter[0].numel() ** 0.5)
        else:
            parameter.data = 0.05 * noise + float(name.endswith("weight"))
    return stage.eval()


def small_stage(
    name: str, placement: Placement | None = None, wishes: Wishes | None = None, **changes: object
) -> LatentStage:
    """A family's stage, ready to sample."""
    stage = randomised(LatentStage(small(name, **changes))).requires_grad_(False)
    if stage.way.windows is not None:
        windows = replace(stage.way.windows, size=4, overlap=1, shift=1)
        stage.way = replace(stage.way, windows=windows)
    return stage.use(PoolCodec(), placement=placement, wishes=wishes)


def heard(name: str, frames: int, seed: int = 0) -> SpeechFeatures:
    """Random speech features of the family's kind for so many frames."""
    video = small(name)
    generator = torch.Generator().manual_seed(seed)
    layers = video.audio_tokens.layers if video.audio_tokens.kind == "stack" else 5
    rate = 50.0 if PRESETS[name].speech.kind == "whisper" else PRESETS[name].fps
    count = round(frames * rate / PRESETS[name].fps)
    return SpeechFeatures(
        values=torch.randn(count, layers, 8, generator=generator),
        energy=torch.ones(count), voiced=torch.ones(count), fps=rate,
    )  # fmt: skip


def small_portrait(portrait: Portrait, size: tuple[int, int]) -> Portrait:
    """The portrait cut to a size the latents can have."""
    from emo2.framing import reframe

    return reframe(portrait, size, 1024)
