"""The presets by name: compact, full, and one for each family of public checkpoints (docs/checkpoints.md).

All are values of one `Config`; a family differs from the next in numbers and switches alone.  Sizes are those of
the published weights: Stable Diffusion 1.5's U-Net with AnimateDiff's temporal modules.
"""

from __future__ import annotations

from dataclasses import replace

from emo2.config import (
    COMPACT,
    CodecConfig,
    Config,
    HabitsConfig,
    SpeechConfig,
    TokensConfig,
    UNetConfig,
    VideoConfig,
)

SD_WIDTHS = (320, 640, 1280, 1280)

_SD = UNetConfig(
    in_channels=4,
    out_channels=4,
    widths=SD_WIDTHS,
    layers=2,
    attention=(True, True, True, False),
    heads=8,
    groups=32,
)
_REFERENCE = replace(_SD, out_channels=0)
_DENOISER = replace(
    _SD,
    reference="concat",
    temporal=True,
    max_frames=32,
    guidance_channels=3,
    guidance_widths=(16, 32, 96, 256),
)
_WHISPER = SpeechConfig(kind="whisper", width=384, layers=5)
_WAV2VEC2 = SpeechConfig(kind="wav2vec2", width=768, layers=12)


def audio_block_widths(widths: tuple[int, ...]) -> tuple[int, ...]:
    """Inner widths of Hallo's audio transformers: the first of a level down has that of the level above it, and on
    the way up all have that of the level they lead to (measured from its weights, docs/checkpoints.md)."""
    attended = range(len(widths) - 1)
    down = [w for level in attended for w in (widths[max(level - 1, 0)], widths[level])]
    up = [widths[max(level - 1, 0)] for level in reversed(attended) for _ in range(3)]
    return (*down, widths[-1], *up)


FULL = Config(
    name="full",
    fps=25.0,
    speech=_WAV2VEC2,
    video=VideoConfig(
        codec=CodecConfig(kind="sd"),
        family="full",
        reference=_REFERENCE,
        denoiser=replace(
            _DENOISER,
            reference="cross",
            audio_width=768,
            speed_buckets=9,
            speed_layer="cross",
            guidance_channels=7,  # hand surface, key points, face region
            guidance_split=(3, 3, 1),
            hand_confidence=True,
        ),
        clip_frames=12,
        motion_frames=4,
        steps=40,
        guidance=3.5,
    ),
)

HALLO = Config(
    name="hallo",
    fps=25.0,
    speech=replace(_WAV2VEC2, rows="stretched", pad_to=16),
    video=VideoConfig(
        codec=CodecConfig(kind="sd"),
        family="hallo",
        reference=replace(_REFERENCE, context_width=768),
        denoiser=replace(
            _DENOISER,
            context_width=768,
            audio_width=768,
            audio_blocks=audio_block_widths(SD_WIDTHS),
            regions=3,
            temporal_idle=True,
            motion_is_normed=True,
            guidance_widths=(16, 32, 64, 128),
        ),
        face_tokens=TokensConfig(kind="face", inputs=512, tokens=4, width=768),
        audio_tokens=TokensConfig(
            kind="stack", inputs=768, rows=5, layers=12, hidden=512, tokens=32, width=768
        ),
        habits=HabitsConfig(
            reference_context="context",
            empty_context="face",
            mixed_context=True,
            alternating_reference=True,
        ),
        clip_frames=16,
        motion_frames=2,
        steps=40,
        guidance=3.5,
    ),
)

ECHOMIMIC_V2 = Config(
    name="echomimic-v2",
    fps=24.0,
    speech=_WHISPER,
    video=VideoConfig(
        codec=CodecConfig(kind="sd"),
        family="echomimic-v2",
        reference=_REFERENCE,
        denoiser=replace(_DENOISER, audio_width=384, audio_weight=3.0, audio_window=0),
        clip_frames=12,
        motion_frames=0,
        steps=30,
        guidance=2.5,
    ),
)

ECHOMIMIC_V1 = replace(
    ECHOMIMIC_V2,
    name="echomimic-v1",
    video=replace(
        ECHOMIMIC_V2.video,
        family="echomimic-v1",
        denoiser=replace(ECHOMIMIC_V2.video.denoiser, guidance_channels=1),
    ),
)

ANIMATEANYONE = Config(
    name="animateanyone",
    fps=25.0,
    video=VideoConfig(
        codec=CodecConfig(kind="sd"),
        family="animateanyone",
        reference=replace(_REFERENCE, context_width=768),
        denoiser=replace(_DENOISER, context_width=768),
        habits=HabitsConfig(reference_context="context", keeps_guidance=True),
        clip_frames=24,
        motion_frames=0,
        steps=30,
        guidance=3.5,
    ),
)

MUSEPOSE = replace(
    ANIMATEANYONE,
    name="musepose",
    video=replace(
        ANIMATEANYONE.video,
        family="musepose",
        denoiser=replace(ANIMATEANYONE.video.denoiser, max_frames=128),
        clip_frames=48,
        steps=20,
    ),
)

ANIPORTRAIT = replace(
    ANIMATEANYONE,
    name="aniportrait",
    fps=30.0,
    video=replace(
        ANIMATEANYONE.video,
        family="aniportrait",
        denoiser=replace(
            ANIMATEANYONE.video.denoiser,
            guidance_widths=(16, 32, 64, 128),
            guidance_heads=16,
            guidance_head_width=88,
            guidance_batch_norm=True,
        ),
        clip_frames=16,
        steps=25,
    ),
)

VEXPRESS = Config(
    name="vexpress",
    fps=30.0,
    speech=replace(_WAV2VEC2, layers=1, rows="halves"),
    video=VideoConfig(
        codec=CodecConfig(kind="sd"),
        family="vexpress",
        reference=replace(
            _REFERENCE, out_channels=4, out_norm=False, context_width=768, feature="context"
        ),
        denoiser=replace(
            _DENOISER,
            reference="cross",
            reference_weight=0.95,
            unread_bias=True,
            audio_width=768,
            audio_weight=3.0,
        ),
        audio_tokens=TokensConfig(
            kind="perceiver", inputs=768, rows=10, hidden=768, depth=4, heads=12, head_width=64,
            tokens=5, width=768,
        ),
        habits=HabitsConfig(reference_context="zero"),
        clip_frames=24,
        motion_frames=0,
        steps=25,
        guidance=3.5,
    ),
)  # fmt: skip

ANIMATEDIFF = Config(
    name="animatediff",
    fps=25.0,
    video=VideoConfig(
        codec=CodecConfig(kind="sd"),
        reference=replace(_SD, context_width=768),
        denoiser=replace(_DENOISER, context_width=768, guidance_channels=0),
        habits=HabitsConfig(reference_context="context"),
        clip_frames=12,
        motion_frames=0,
    ),
)
"""No preset: Stable Diffusion 1.5 as reference network and as denoiser, with AnimateDiff's motion modules (EMO §3.3:
both networks begin so). Tensors to start training from."""

PRESETS: dict[str, Config] = {
    config.name: config
    for config in (
        COMPACT,
        FULL,
        HALLO,
        ECHOMIMIC_V1,
        ECHOMIMIC_V2,
        ANIMATEANYONE,
        MUSEPOSE,
        ANIPORTRAIT,
        VEXPRESS,
    )
}
