"""The U-Net of stage 2: topology, reference attention, temporal modules, conditions."""

from __future__ import annotations

import dataclasses
import re

import pytest
import torch
from torch import Tensor, nn

from emo2.config import UNetConfig
from emo2.nn import speed_code
from emo2.video.blocks import TemporalBlock
from emo2.video.conditions import FrameConditions, audio_tokens
from emo2.video.unet import UNet

PLAIN = UNetConfig(
    in_channels=4,
    out_channels=4,
    widths=(16, 32, 32),
    layers=1,
    attention=(True, True, False),
    heads=2,
    groups=8,
)
DENOISER = dataclasses.replace(
    PLAIN,
    reference="concat",
    audio_width=12,
    temporal=True,
    condition_width=5,
    speed_buckets=3,
    guidance_channels=7,
    guidance_widths=(4, 8),
    hand_confidence=True,
)
SD_TINY = UNetConfig(
    in_channels=4,
    out_channels=4,
    widths=(16, 32, 48, 48),
    layers=2,
    attention=(True, True, True, False),
    heads=2,
    groups=8,
    audio_width=24,
)


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def network(config: UNetConfig, seed: int = 0) -> UNet:
    """A network whose every weight is random, the zero-initialised ones too."""
    net = UNet(config).eval()
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in net.named_parameters():
        scale = 0.3 if parameter.ndim == 1 else parameter[0].numel() ** -0.5
        values = torch.randn(parameter.shape, generator=generator) * scale
        parameter.data.copy_(1 + values if "norm" in name and name.endswith("weight") else values)
    return net


def silence_temporal_modules(net: nn.Module) -> None:
    for module in net.modules():
        if isinstance(module, TemporalBlock):
            nn.init.zeros_(module.proj_out.weight)
            nn.init.zeros_(module.proj_out.bias)


def features_of(net: UNet, images: Tensor) -> tuple[Tensor, ...]:
    return net(images, torch.zeros(images.shape[0]))[1]


def to_diffusers(name: str) -> str:
    """Our parameter's name in diffusers' Stable Diffusion 1.5 layout."""
    name = re.sub(r"^time\.", "time_embedding.", name)
    name = name.replace("norm_out", "conv_norm_out")
    name = re.sub(r"^(down|up)samplers\.(\d)", r"\1_blocks.\2.\1samplers.0.conv", name)
    name = name.replace("middle.second", "mid_block.resnets.1")
    name = name.replace("middle.first.residual", "mid_block.resnets.0")
    name = name.replace("middle.first.spatial", "mid_block.attentions.0")
    name = re.sub(r"^(down|up)\.(\d)\.(\d)\.residual", r"\1_blocks.\2.resnets.\3", name)
    name = re.sub(r"^(down|up)\.(\d)\.(\d)\.spatial", r"\1_blocks.\2.attentions.\3", name)
    name = name.replace(".time.", ".time_emb_proj.").replace("shortcut", "conv_shortcut")
    inner = r"\.(norm[123]|self_attention|audio_attention|feed_forward)\."
    if ".attentions." in name:
        name = re.sub(inner, r".transformer_blocks.0.\1.", name)
        for ours, theirs in (
            ("self_attention", "attn1"),
            ("audio_attention", "attn2"),
            ("feed_forward.proj", "ff.net.0.proj"),
            ("feed_forward.out", "ff.net.2"),
        ):
            name = name.replace(ours, theirs)
        name = name.replace(".to_out.", ".to_out.0.")
    return name


def test_it_is_stable_diffusion_15_when_nothing_is_added() -> None:
    diffusers = pytest.importorskip("diffusers")
    theirs = diffusers.UNet2DConditionModel(
        sample_size=8,
        block_out_channels=SD_TINY.widths,
        attention_head_dim=SD_TINY.heads,
        norm_num_groups=SD_TINY.groups,
        cross_attention_dim=SD_TINY.audio_width,
    ).eval()
    ours = UNet(SD_TINY).eval()
    weights = {name: theirs.state_dict()[to_diffusers(name)] for name in ours.state_dict()}
    assert len(weights) == len(theirs.state_dict()) == 686
    ours.load_state_dict(weights)
    x, context, time = noise(2, 4, 8, 8), noise(2, 3, 24, seed=1), torch.tensor([3.0, 711.0])
    with torch.no_grad():
        wanted = theirs(x, time, context).sample
        got, features = ours(x[:, None], time, frames=FrameConditions(audio=context[:, None]))
    assert len(features) == 16
    torch.testing.assert_close(got[:, 0], wanted, atol=2e-5, rtol=1e-4)


@torch.no_grad()
def test_frames_are_independent_images_without_temporal_modules() -> None:
    net = network(PLAIN)
    x = noise(1, 3, 4, 16, 16)
    whole = net(x, torch.tensor([5.0]))[0]
    alone = net(x[:, 1:2], torch.tensor([5.0]))[0]
    torch.testing.assert_close(whole[:, 1:2], alone, atol=1e-5, rtol=1e-4)


@torch.no_grad()
def test_zero_initialised_temporal_modules_leave_every_frame_of_the_image_model_alone() -> None:
    net = network(DENOISER)
    silence_temporal_modules(net)
    x = noise(1, 3, 4, 16, 16)
    motion = features_of(network(PLAIN, 1), noise(1, 2, 4, 16, 16, seed=4))
    whole = net(x, torch.tensor([5.0]), motion=motion)[0]
    alone = net(x[:, 2:], torch.tensor([5.0]))[0]
    torch.testing.assert_close(whole[:, 2:], alone, atol=1e-5, rtol=1e-4)


@torch.no_grad()
@pytest.mark.parametrize("mode", ["concat", "cross"])
def test_no_reference_is_the_plain_network_and_another_portrait_changes_the_result(
    mode: str,
) -> None:
    config = dataclasses.replace(PLAIN, reference=mode)
    net, reference = network(config), network(PLAIN, 1)
    shared = {k: v for k, v in net.state_dict().items() if "reference_" not in k}
    plain = UNet(PLAIN).eval()
    plain.load_state_dict(shared)
    x, time = noise(2, 2, 4, 16, 16), torch.tensor([1.0, 9.0])
    looks = [
        [f[:, 0] for f in features_of(reference, noise(2, 1, 4, 16, 16, seed=s))] for s in (2, 3)
    ]
    without = net(x, time)[0]
    torch.testing.assert_close(without, plain(x, time)[0])
    first, second = (net(x, time, reference=look)[0] for look in looks)
    assert (first - without).abs().max() > 1e-2
    assert (first - second).abs().max() > 1e-2


@torch.no_grad()
def test_one_reference_serves_all_frames_of_its_own_clip_only() -> None:
    net, reference = network(dataclasses.replace(PLAIN, reference="concat")), network(PLAIN, 1)
    x, time = noise(2, 2, 4, 16, 16), torch.tensor([1.0, 1.0])
    look = [f[:, 0] for f in features_of(reference, noise(2, 1, 4, 16, 16, seed=2))]
    both = net(x, time, reference=look)[0]
    second = net(x[1:], time[1:], reference=[f[1:] for f in look])[0]
    torch.testing.assert_close(both[1:], second, atol=1e-5, rtol=1e-4)


@torch.no_grad()
def test_features_that_do_not_fit_the_sites_are_refused() -> None:
    net = network(dataclasses.replace(DENOISER, audio_width=0))
    x, time = noise(1, 2, 4, 16, 16), torch.zeros(1)
    sites = features_of(network(PLAIN, 1), noise(1, 2, 4, 16, 16))
    look = [f[:, 0] for f in sites]
    with pytest.raises(ValueError, match="reference features"):
        net(x, time, reference=look[:-1])
    with pytest.raises(ValueError, match="reference features"):
        net(x, time, reference=[*look, look[-1]])
    with pytest.raises(ValueError, match="wide"):
        net(x, time, reference=look[::-1])
    with pytest.raises(ValueError, match="tokens"):
        net(x, time, motion=tuple(f[:, :, :-1] for f in sites))


@torch.no_grad()
def test_every_condition_has_its_effect() -> None:
    net = network(DENOISER)
    x, time = noise(1, 3, 4, 16, 16), torch.tensor([2.0])
    full = {
        "audio": audio_tokens(noise(1, 3, 2, 12, seed=1), 2),
        "hints": noise(1, 3, 5, seed=2),
        "speed": speed_code(torch.tensor([[0.1, 0.4, -0.2]]), 3),
        "maps": noise(1, 3, 7, 32, 32, seed=3),
        "confidence": torch.ones(1, 3, 2),
    }
    whole = net(x, time, frames=FrameConditions(**full))[0]
    for name in full:
        rest = {k: v for k, v in full.items() if k != name}
        assert (net(x, time, frames=FrameConditions(**rest))[0] - whole).abs().max() > 1e-3, name


@torch.no_grad()
def test_motion_frames_reach_the_clip_and_their_order_matters() -> None:
    net = network(DENOISER)
    x, time = noise(1, 3, 4, 16, 16), torch.tensor([2.0])
    motion = features_of(network(PLAIN, 1), noise(1, 2, 4, 16, 16, seed=4))
    with_motion = net(x, time, motion=motion)[0]
    reversed_motion = net(x, time, motion=tuple(f.flip(1) for f in motion))[0]
    assert with_motion.shape == x.shape
    assert (with_motion - net(x, time)[0]).abs().max() > 1e-3
    assert (with_motion - reversed_motion).abs().max() > 1e-3


def test_a_new_network_ignores_guidance_hints_and_confidence() -> None:
    net = UNet(DENOISER).eval()
    x, time = noise(1, 2, 4, 16, 16), torch.tensor([2.0])
    frames = FrameConditions(
        hints=noise(1, 2, 5), maps=noise(1, 2, 7, 32, 32), confidence=torch.ones(1, 2, 2)
    )
    with torch.no_grad():
        torch.testing.assert_close(net(x, time, frames=frames)[0], net(x, time)[0])


def test_audio_tokens_are_the_neighbouring_frames_with_repeated_borders() -> None:
    rows = torch.arange(4.0).reshape(1, 4, 1, 1)
    tokens = audio_tokens(rows, 1)[0, :, :, 0]
    assert tokens.tolist() == [[0, 0, 1], [0, 1, 2], [1, 2, 3], [2, 3, 3]]


def test_odd_grids_come_back_at_their_own_size() -> None:
    net = UNet(PLAIN).eval()
    with torch.no_grad():
        assert net(noise(1, 1, 4, 12, 20), torch.zeros(1))[0].shape == (1, 1, 4, 12, 20)
