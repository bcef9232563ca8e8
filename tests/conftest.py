"""What several tests share: a preset of small networks, a drawn portrait, a made-up voice."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from made_up import made_up_voice

from emo2 import media, pipeline
from emo2.config import COMPACT, Config, DetailConfig
from emo2.pipeline import Models
from emo2.signals import Portrait, Speech


@pytest.fixture(scope="session")
def small_config() -> Config:
    """The compact preset with every size cut down, for networks with random weights."""
    video = COMPACT.video
    widths = {"widths": (16, 16, 32), "groups": 8, "heads": 2}
    basis = 4
    return replace(
        COMPACT,
        name="small",
        speech=replace(COMPACT.speech, width=32, depth=1, mels=40),
        motion=replace(COMPACT.motion, width=32, depth=1, heads=2, window=40, prefix=5, steps=2),
        video=replace(
            video,
            codec=replace(video.codec, grid=16, view=64, painter_widths=(8, 8, 8)),
            details=DetailConfig(mouth_side=24, eye_side=16, widths=(8, 8, 16)),
            basis=basis,
            clip_frames=6,
            motion_frames=2,
            steps=2,  # the tests sample, whatever the preset ships with
            reference=replace(
                video.reference, **widths, stem=(8, 8, 16),
                out_channels=(1 + video.conditions + basis + 7) * 24 + 4,
            ),
            denoiser=replace(video.denoiser, **widths, audio_width=32),
        ),
    )  # fmt: skip


@pytest.fixture(scope="session")
def small_models(small_config: Config) -> Models:
    """Networks of the small preset with random weights that move and paint a little."""
    generator = torch.Generator().manual_seed(7)
    models = pipeline.build(small_config)
    for part in pipeline.parts_of(models).values():
        for parameter in part.parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            parameter.data = 0.08 * noise if parameter.dim() > 1 else parameter.data + 0.02 * noise
        part.eval().requires_grad_(False)
    return models


@pytest.fixture
def drawn_portrait() -> Portrait:
    """A drawn bust with both hands raised, 160 x 128, with its points where they were drawn."""
    y, x = torch.meshgrid(torch.arange(160.0), torch.arange(128.0), indexing="ij")
    image = torch.stack([x / 64 - 1, y / 80 - 1, (x * y / 8000).sin()])
    angle = torch.linspace(0, math.pi, 17)
    face = torch.full((68, 2), 64.0)
    face[:17, 0], face[:17, 1] = 64 - 18 * angle.cos(), 36 + 20 * angle.sin()
    face[17:27, 0], face[17:27, 1] = torch.linspace(50, 78, 10), 30.0
    face[36:, 1] = 44.0
    body = [(64, 14), (64, 62), (100, 80), (28, 80), (110, 120), (18, 120), (98, 130), (30, 130)]
    hand = [
        (0, 0),
        *[(7, -5)] * 4,
        *[(5, -17)] * 4,
        *[(1, -19)] * 4,
        *[(-2, -18)] * 4,
        *[(-5, -16)] * 4,
    ]
    right = torch.tensor(hand, dtype=torch.float32) + torch.tensor([30.0, 130.0])
    left = torch.tensor(hand, dtype=torch.float32) * torch.tensor([-1.0, 1.0]) + torch.tensor(
        [98.0, 130.0]
    )
    masks = torch.zeros(4, 160, 128)
    masks[0, 118:132, 96:114], masks[1, 108:132, 88:104] = 1.0, 1.0
    masks[2, 118:132, 14:32], masks[3, 108:132, 24:40] = 1.0, 1.0
    return Portrait(
        image=image,
        face_box=torch.tensor([46.0, 30.0, 82.0, 56.0]),
        face_points=face,
        body_points=torch.cat([torch.tensor(body, dtype=torch.float32), torch.ones(8, 1)], dim=1),
        hand_points=torch.cat([torch.stack([left, right]), torch.full((2, 21, 1), 0.9)], dim=2),
        hands_present=(True, True),
        limb_masks=masks,
    )


@pytest.fixture
def drawn_bust(drawn_portrait: Portrait) -> Portrait:
    """The same without hands: no layers to cut, so it is quick."""
    return replace(drawn_portrait, hands_present=(False, False), limb_masks=None)


@pytest.fixture
def short_voice() -> Speech:
    """Half a second and a bit: 14 frames."""
    return media.speech_from_samples(made_up_voice(0.55), sample_rate=16_000)


@pytest.fixture(scope="session")
def demo() -> Path:
    """The folder of the demo's photo and voice."""
    from emo2.weights import ASSETS

    return ASSETS / "demo"
