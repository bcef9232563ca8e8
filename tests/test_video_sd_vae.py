"""Stable Diffusion's autoencoder at tiny width: the codec's interface, streaming, names, files."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from emo2.config import COMPACT, CodecConfig
from emo2.errors import UserError
from emo2.video.sd_vae import STABLE_DIFFUSION, SdVae, build_vae, load_vae, save_vae, vae_names

CONFIG = CodecConfig(kind="sd")
SHAPE = {
    "block_out_channels": [8, 16, 16],
    "down_block_types": ["DownEncoderBlock2D"] * 3,
    "up_block_types": ["UpDecoderBlock2D"] * 3,
    "layers_per_block": 2,
    "norm_num_groups": 4,
    "sample_size": 32,
}
TINY = {
    "encoder_block_out_channels": [8, 8, 8],
    "decoder_block_out_channels": [8, 8, 8],
    "num_encoder_blocks": [1, 1, 1],
    "num_decoder_blocks": [1, 1, 1],
}


def vae(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return build_vae(SHAPE).eval().requires_grad_(False)


def tiny() -> nn.Module:
    torch.manual_seed(1)
    return build_vae(TINY, "AutoencoderTiny").eval().requires_grad_(False)


def film(batch: int = 1, frames: int = 5) -> Tensor:
    noise = torch.rand(batch, frames, 3, 32, 24, generator=torch.Generator().manual_seed(2))
    return 2.0 * noise - 1.0


def test_latents_are_the_posteriors_mean_at_the_usual_scale() -> None:
    network, frames = vae(), film(2, 3)
    codec = SdVae(CONFIG, network)
    latents = codec.encode(frames)
    assert latents.shape == (2, 3, 4, 8, 6)
    assert (codec.channels, codec.cell, codec.scale) == (4, 4, 0.18215)
    wanted = network.encode(frames[1, 2][None]).latent_dist.mode() * 0.18215
    torch.testing.assert_close(latents[1, 2], wanted[0], atol=1e-6, rtol=0)


def test_training_draws_from_the_posterior_by_a_generator() -> None:
    codec = SdVae(CONFIG, vae())
    drawn = [
        codec.encode(film(), generator=torch.Generator().manual_seed(seed)) for seed in (4, 4, 5)
    ]
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])
    assert not torch.equal(drawn[0], codec.encode(film()))


@pytest.mark.parametrize("at_once", [1, 2, 3, 100])
def test_decoding_in_parts_is_decoding_at_once(at_once: int) -> None:
    network, latents = vae(), torch.randn(2, 5, 4, 8, 6, generator=torch.Generator().manual_seed(3))
    codec = SdVae(CONFIG, network, at_once=at_once)
    wanted = (
        network.decode(latents.flatten(0, 1) / 0.18215).sample.clamp(-1, 1).view(2, 5, 3, 32, 24)
    )
    parts = list(codec.stream(latents))
    assert len(parts) == {1: 5, 2: 5, 3: 5, 100: 1}[at_once]
    torch.testing.assert_close(codec.decode(latents), wanted, atol=1e-5, rtol=0)


def test_frames_come_one_by_one_before_the_last_is_decoded() -> None:
    network, seen = vae(), []
    network.decoder.register_forward_hook(lambda *_: seen.append(1))
    stream = SdVae(CONFIG, network, at_once=1).stream(torch.zeros(1, 4, 4, 8, 6))
    next(stream)
    assert len(seen) == 1


def test_tiles_bound_memory_and_keep_the_size() -> None:
    latents = torch.randn(1, 1, 4, 20, 12, generator=torch.Generator().manual_seed(3))
    frames = SdVae(CONFIG, vae(), tiled=True).decode(latents)
    assert frames.shape == (1, 1, 3, 80, 48)
    assert float(frames.abs().max()) <= 1.0


def test_the_tiny_decoder_takes_the_same_latents() -> None:
    small, latents = tiny(), torch.randn(1, 2, 4, 8, 6, generator=torch.Generator().manual_seed(3))
    codec = SdVae(CONFIG, vae(), small)
    wanted = small.decode(latents[0]).sample.clamp(-1, 1)
    torch.testing.assert_close(codec.decode(latents)[0], wanted, atol=1e-6, rtol=0)
    assert torch.equal(codec.encode(film()), SdVae(CONFIG, vae()).encode(film()))


def test_frames_that_are_no_whole_cells_are_refused() -> None:
    with pytest.raises(ValueError, match="30 x 24 do not divide into cells of 4"):
        SdVae(CONFIG, vae()).encode(film()[..., :30, :])


# -------------------------------------------------------------------------------------------- files


def original(tensors: dict[str, Tensor], prefix: str = "first_stage_model.") -> dict[str, Tensor]:
    """Today's names to the original's, written down anew: levels of the decoder count from the finest."""
    named = {}
    for name, tensor in tensors.items():
        parts = name.split(".")
        if parts[1] == "down_blocks":
            kind = "block" if parts[3] == "resnets" else "downsample"
            parts = [parts[0], "down", parts[2], kind, *parts[4 if kind == "block" else 5 :]]
        elif parts[1] == "up_blocks":
            kind = "block" if parts[3] == "resnets" else "upsample"
            rest = parts[4 if kind == "block" else 5 :]
            parts = [parts[0], "up", str(2 - int(parts[2])), kind, *rest]
        elif parts[1] == "mid_block" and parts[2] == "resnets":
            parts = [parts[0], "mid", f"block_{int(parts[3]) + 1}", *parts[4:]]
        elif parts[1] == "mid_block":
            leaf = {
                "group_norm": "norm",
                "to_q": "q",
                "to_k": "k",
                "to_v": "v",
                "to_out": "proj_out",
            }
            if parts[4] != "group_norm" and parts[-1] == "weight":
                tensor = tensor[:, :, None, None]
            parts = [parts[0], "mid", "attn_1", leaf[parts[4]], parts[-1]]
        elif parts[1] == "conv_norm_out":
            parts[1] = "norm_out"
        named[prefix + ".".join(parts).replace("conv_shortcut", "nin_shortcut")] = tensor
    return named


def test_original_names_become_todays_as_diffusers_own_converter_says() -> None:
    from diffusers.loaders.single_file_utils import convert_ldm_vae_checkpoint

    tensors = dict(vae().state_dict())
    theirs = original(tensors)
    assert len(theirs) == len(tensors)
    ours = vae_names(theirs | {"model.diffusion_model.out": torch.zeros(1)})
    assert sorted(ours) == sorted(tensors)
    assert all(torch.equal(ours[n], t) for n, t in tensors.items())
    converted = convert_ldm_vae_checkpoint(dict(theirs), SHAPE)
    assert sorted(converted) == sorted(ours)
    assert all(torch.equal(ours[n], t) for n, t in converted.items())


def test_older_names_of_diffusers_load_too(tmp_path: Path) -> None:
    network, old = vae(), {}
    for name, tensor in network.state_dict().items():
        for new, was in (
            ("to_q", "query"),
            ("to_k", "key"),
            ("to_v", "value"),
            ("to_out.0", "proj_attn"),
        ):
            name = name.replace(f".attentions.0.{new}.", f".attentions.0.{was}.")
        old[name] = tensor
    (tmp_path / "config.json").write_text(json.dumps(SHAPE | {"_class_name": "AutoencoderKL"}))
    save_file(old, tmp_path / "diffusion_pytorch_model.safetensors")
    codec = load_vae(CONFIG, tmp_path)
    assert torch.equal(codec.encode(film()), SdVae(CONFIG, network).encode(film()))


def test_a_folder_with_a_tiny_decoder_and_a_part_of_ours_load(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(TINY | {"_class_name": "AutoencoderTiny"}))
    save_file(dict(tiny().state_dict()), tmp_path / "diffusion_pytorch_model.safetensors")
    plain = SdVae(CONFIG, vae(), tiny())
    path = save_vae(plain, replace(COMPACT, name="t"), tmp_path / "vae.safetensors")
    codec = load_vae(CONFIG, path, tiny=tmp_path)
    latents = plain.encode(film())
    assert torch.equal(codec.encode(film()), latents)
    assert torch.equal(codec.decode(latents), plain.decode(latents))
    with pytest.raises(UserError, match="holds AutoencoderTiny, expected AutoencoderKL"):
        load_vae(CONFIG, tmp_path)


def test_a_missing_or_foreign_autoencoder_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EMO2_CACHE", str(tmp_path))
    with pytest.raises(UserError, match=r"emo2 download vae.*stabilityai/sd-vae-ft-mse"):
        load_vae(CONFIG)
    save_file({"encoder.conv_in.weight": torch.zeros(1)}, tmp_path / "x.safetensors")
    with pytest.raises(UserError, match="does not fit"):
        load_vae(CONFIG, tmp_path / "x.safetensors")


def test_the_usual_shape_is_stable_diffusions() -> None:
    """248 tensors, 83.7 million numbers: what sd-vae-ft-mse holds."""
    with torch.device("meta"):
        network = build_vae(STABLE_DIFFUSION)
    assert len(network.state_dict()) == 248
    assert sum(p.numel() for p in network.parameters()) == 83_653_863
