"""The full preset's network at tiny width: EMO's order of reference, voice, motion frames, speed and guidance."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from emo2.config import VideoConfig
from emo2.nn import speed_code
from emo2.presets import FULL
from emo2.video.blocks import SpeedAttention, TemporalBlock
from emo2.video.conditions import FrameConditions, Reference
from emo2.video.network import VideoNetwork

SMALL = {"widths": (8, 16, 16, 16), "heads": 2, "groups": 4}
FRAMES = 3


def tiny() -> VideoConfig:
    """`full` with nothing changed but its widths."""
    video = FULL.video
    denoiser = replace(video.denoiser, **SMALL, audio_width=12, guidance_widths=(4, 4, 8, 8))
    return replace(video, reference=replace(video.reference, **SMALL), denoiser=denoiser)


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def fresh() -> VideoNetwork:
    torch.manual_seed(0)
    return VideoNetwork(tiny()).eval().requires_grad_(False)


@pytest.fixture(scope="module")
def trained() -> VideoNetwork:
    """As if it had learnt something: what starts at zero does not stay there."""
    torch.manual_seed(0)
    network = VideoNetwork(tiny()).eval().requires_grad_(False)
    generator = torch.Generator().manual_seed(1)
    for parameter in network.parameters():
        if not parameter.any():
            fan = parameter[0].numel() if parameter.ndim > 1 else 4
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * fan**-0.5)
    return network


def speeds(*values: float) -> Tensor:
    return speed_code(torch.tensor([values]), FULL.video.denoiser.speed_buckets)


def told(**changes: Tensor | None) -> FrameConditions:
    whole = FrameConditions(
        audio=noise(1, FRAMES, 60, 12, seed=2),
        maps=noise(1, FRAMES, 7, 64, 64, seed=3),
        speed=speeds(0.2, 1.0, 1.4),
        confidence=torch.ones(1, FRAMES, 2),
    )
    return replace(whole, **changes)  # type: ignore[arg-type]


def made(
    network: VideoNetwork,
    frames: FrameConditions,
    *,
    photo: Tensor | None = None,
    before: Tensor | None = None,
    first: bool = False,
) -> Tensor:
    """A prediction; `first`: the motion frames' features are zero maps, as in a film's first clip."""
    reference = motion = None
    if photo is not None:
        features = network.features(photo, before=before, guided=False)
        reference = Reference(sites=network.denoiser.project([f[:, 0] for f in features]))
        motion = tuple(f[:, 1:] * (0.0 if first else 1.0) for f in features)
    noisy = noise(1, FRAMES, 4, 8, 8)
    return network.denoiser(
        noisy,
        torch.tensor([400.0]),
        frames=frames,
        reference=reference,
        motion=motion if before is not None else None,
    )[0]


def moved(a: Tensor, b: Tensor) -> float:
    return float((a - b).abs().max())


def test_every_condition_of_emo_reaches_the_film(trained: VideoNetwork) -> None:
    photo, before = noise(1, 4, 8, 8, seed=5), noise(1, 4, 4, 8, 8, seed=6)
    whole = made(trained, told(), photo=photo, before=before)
    assert whole.shape == (1, FRAMES, 4, 8, 8)
    assert bool(whole.isfinite().all())
    others = {
        "photo": made(trained, told(), photo=noise(1, 4, 8, 8, seed=7), before=before),
        "motion frames": made(trained, told(), photo=photo, before=before.flip(1)),
        "no motion frames": made(trained, told(), photo=photo),
        "zero maps": made(trained, told(), photo=photo, before=before, first=True),
        "voice": made(trained, told(audio=noise(1, FRAMES, 60, 12, seed=8)), photo=photo, before=before),
        "speed": made(trained, told(speed=speeds(1.4, 0.1, 0.1)), photo=photo, before=before),
        "maps": made(trained, told(maps=9.0 * noise(1, FRAMES, 7, 64, 64, seed=9)), photo=photo, before=before),
        "confidence": made(trained, told(confidence=torch.zeros(1, FRAMES, 2)), photo=photo, before=before),
    }  # fmt: skip
    assert {name: moved(whole, other) > 1e-3 for name, other in others.items()} == dict.fromkeys(
        others, True
    )


def test_the_reference_has_an_attention_of_its_own(trained: VideoNetwork) -> None:
    """Without its output the photo says nothing: it does not enter the self-attention as well."""
    network = VideoNetwork(tiny()).eval().requires_grad_(False)
    network.load_state_dict(trained.state_dict())
    for name, parameter in network.denoiser.named_parameters():
        if "reference_attention.to_out" in name:
            parameter.zero_()
    photo = noise(1, 4, 8, 8, seed=5)
    torch.testing.assert_close(made(network, told(), photo=photo), made(network, told()))


def test_a_first_clips_zero_maps_say_the_same_whatever_the_photo(trained: VideoNetwork) -> None:
    """Four frames of zeros stand before the clip (EMO §3.2): places are taken, nothing is seen."""
    photo = noise(1, 4, 8, 8, seed=5)
    looks = [
        made(trained, told(), photo=photo, before=noise(1, 4, 4, 8, 8, seed=s), first=True)
        for s in (6, 7)
    ]
    torch.testing.assert_close(looks[0], looks[1])


def test_what_starts_at_zero_changes_nothing(fresh: VideoNetwork) -> None:
    bare = FrameConditions(audio=told().audio)
    torch.testing.assert_close(made(fresh, told()), made(fresh, bare))


def test_temporal_modules_at_zero_leave_every_frame_to_the_image_model(
    fresh: VideoNetwork,
) -> None:
    photo, before = noise(1, 4, 8, 8, seed=5), noise(1, 4, 4, 8, 8, seed=6)
    whole = made(fresh, told(), photo=photo, before=before)
    image = replace(tiny().denoiser, temporal=False, speed_buckets=0)
    alone = VideoNetwork(replace(tiny(), denoiser=image)).eval().requires_grad_(False)
    shared = {n: t for n, t in fresh.state_dict().items() if ".temporal." not in n}
    alone.load_state_dict(shared, strict=True)
    torch.testing.assert_close(whole, made(alone, told(), photo=photo), atol=1e-5, rtol=1e-4)


def test_speed_is_attended_to_along_the_frames_of_its_own_clip() -> None:
    torch.manual_seed(2)
    block = TemporalBlock(tiny().denoiser, 8).eval().requires_grad_(False)
    assert isinstance(block.speed, SpeedAttention)
    codes = noise(2, FRAMES, 45, seed=1)
    x, motion = noise(2, FRAMES, 8, 4, 4), noise(2, 4, 16, 8, seed=3)
    torch.nn.init.normal_(block.proj_out.weight)
    slow = block(x, motion=motion, speed=codes)
    torch.testing.assert_close(slow, block(x, motion=motion))  # its output starts at zero
    torch.nn.init.normal_(block.speed.attention.to_out.weight)
    both = block(x, motion=motion, speed=codes)
    second = block(x[1:], motion=motion[1:], speed=codes[1:])
    torch.testing.assert_close(both[1:], second, atol=1e-5, rtol=1e-4)
    # A frame's speed reaches the others: attention along the frames, not an addition to each.
    other = codes.clone()
    other[:, 2] += 1.0
    assert moved(block(x, motion=motion, speed=other)[:, 0], both[:, 0]) > 1e-3


def test_the_speeds_of_neighbours_are_joined_as_the_voice_is() -> None:
    assert FULL.video.denoiser.speed_layer == "cross"
    network = VideoNetwork(tiny())
    codes = [m.speed.linear_1.in_features for m in network.modules()
             if isinstance(m, TemporalBlock) and isinstance(m.speed, SpeedAttention)]  # fmt: skip
    assert len(codes) == 21
    assert set(codes) == {5 * FULL.video.denoiser.speed_buckets}
