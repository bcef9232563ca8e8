"""Stable Diffusion's autoencoder as our codec: pixels to latents of an eighth of the size, and back (full preset).

`AutoencoderKL` of diffusers; a reference is encoded to its posterior's mean, times 0.18215, as all public families
do.  Decoding takes frames a few at a time, so memory does not grow with the clip; `stream` hands them on as they
come.  A tiny decoder (TAESD, `AutoencoderTiny`) reads the same latents at a twentieth of the cost, a little softer.

    codec = load_vae(config.video.codec)                      # what `emo2 download vae` fetched
    codec = load_vae(config.video.codec, tiny=folder_of("tiny-vae"))
    latents = codec.encode(frames)                            # (b, f, 4, h / 8, w / 8)
    for frames in codec.stream(latents): ...                  # (b, n, 3, h, w)
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from einops import rearrange
from jaxtyping import Float
from safetensors import SafetensorError
from torch import Tensor, nn

from emo2 import weights
from emo2.config import CodecConfig, Config
from emo2.errors import UserError
from emo2.sources import read_folder, read_tensors, require, tensors_in

PART = "vae"
"""Name of the part in a safetensors file of ours."""

STABLE_DIFFUSION = {
    "block_out_channels": [128, 256, 512, 512],
    "down_block_types": ["DownEncoderBlock2D"] * 4,
    "up_block_types": ["UpDecoderBlock2D"] * 4,
    "layers_per_block": 2,
    "latent_channels": 4,
    "sample_size": 256,
}
"""The shape of Stable Diffusion 1.5's autoencoder, for files that do not say theirs."""


class SdVae(nn.Module):
    """The codec of the full preset; the interface is `RelativeCodec`'s, whose portrait it does not need."""

    def __init__(
        self,
        config: CodecConfig,
        vae: nn.Module,
        decoder: nn.Module | None = None,
        *,
        at_once: int = 4,
        tiled: bool = False,
    ) -> None:
        """`vae`: an `AutoencoderKL`; `decoder`: an `AutoencoderTiny` that decodes in its place.

        `at_once` frames are decoded together.  `tiled` cuts large frames into overlapping tiles, blended: less
        memory, small differences near the seams.
        """
        super().__init__()
        self.config = config
        self.vae: Any = vae
        self.tiny: Any = decoder
        self.at_once = at_once
        for network in (self.vae, self.tiny):
            if tiled and network is not None:
                network.enable_tiling()

    @property
    def channels(self) -> int:
        """Channels of a latent."""
        return int(self.vae.config.latent_channels)

    @property
    def cell(self) -> int:
        """Pixels a side of a latent cell."""
        return 2 ** (len(self.vae.config.block_out_channels) - 1)

    @property
    def scale(self) -> float:
        """Latents are the posterior's mean times this (0.18215), about unit size."""
        return float(self.vae.config.scaling_factor)

    @torch.inference_mode()
    def encode(
        self,
        frames: Float[Tensor, "b f 3 h w"],
        reference: Float[Tensor, "b 3 h w"] | None = None,
        *,
        generator: torch.Generator | None = None,
    ) -> Float[Tensor, "b f c y x"]:
        """Latents of frames in [-1, 1]: the posterior's mean, or with a `generator` a draw of it (training)."""
        del reference
        height, width = frames.shape[-2:]
        if height % self.cell or width % self.cell:
            raise ValueError(
                f"frames of {height} x {width} do not divide into cells of {self.cell}; "
                "resize or pad them"
            )
        like = next(self.vae.parameters())
        found = []
        for part in rearrange(frames, "b f c h w -> (b f) c h w").split(self.at_once):
            posterior = self.vae.encode(part.to(like)).latent_dist
            latents = posterior.mean
            if generator is not None:
                noise = torch.randn(latents.shape, generator=generator)
                latents = latents + posterior.std * noise.to(latents)
            found.append((latents * self.scale).to(frames.dtype))
        return rearrange(torch.cat(found), "(b f) c h w -> b f c h w", b=len(frames))

    @torch.inference_mode()
    def decode(
        self,
        latents: Float[Tensor, "b f c y x"],
        reference: Float[Tensor, "b 3 h w"] | None = None,
    ) -> Float[Tensor, "b f 3 h w"]:
        """Frames in [-1, 1]."""
        del reference
        return torch.cat(list(self.stream(latents)), dim=1)

    @torch.inference_mode()
    def stream(self, latents: Float[Tensor, "b f c y x"]) -> Iterator[Float[Tensor, "b n 3 h w"]]:
        """The same frames, `at_once` of them at a time (at least one of each film of the batch)."""
        batch = len(latents)
        for part in latents.split(max(self.at_once // batch, 1), dim=1):
            flat = rearrange(part, "b f c y x -> (b f) c y x")
            frames = self._decoded(flat).clamp(-1.0, 1.0).to(latents.dtype)
            yield rearrange(frames, "(b f) c h w -> b f c h w", b=batch)

    def _decoded(self, latents: Float[Tensor, "n c y x"]) -> Float[Tensor, "n 3 h w"]:
        if self.tiny is not None:  # it was taught the scaled latents
            like = next(self.tiny.parameters())
            return self.tiny.decode(latents.to(like) / self.tiny.config.scaling_factor).sample
        like = next(self.vae.parameters())
        return self.vae.decode(latents.to(like) / self.scale).sample


def load_vae(
    config: CodecConfig,
    source: Path | None = None,
    *,
    tiny: Path | None = None,
    at_once: int = 4,
    tiled: bool = False,
) -> SdVae:
    """The codec from files: a diffusers folder, an original file (LDM's names), or a part of ours.

    Without `source`, what `emo2 download vae` fetched; `tiny`: the folder of a tiny decoder.
    """
    source = source or require("vae")
    if source.is_dir():
        network, tensors = _from_folder(source, "AutoencoderKL")
    elif _is_ours(source):
        tensors, _, facts = weights.load(source, part=PART)
        network = build_vae(json.loads(facts["network"]))
    else:
        network, tensors = build_vae(STABLE_DIFFUSION), tensors_in(read_tensors(source))
    weights.fill(network, vae_names(tensors), source)
    decoder = None
    if tiny is not None:
        decoder, tensors = _from_folder(tiny, "AutoencoderTiny")
        weights.fill(decoder, tensors, tiny)
    codec = SdVae(config, network, decoder, at_once=at_once, tiled=tiled)
    return codec.eval().requires_grad_(False)


def save_vae(codec: SdVae, config: Config, path: Path) -> Path:
    """The autoencoder as a part of ours: one file with its shape inside, for `load_vae`."""
    shape = json.dumps(dict(codec.vae.config), default=str)
    return weights.save(path, codec.vae.state_dict(), config, part=PART, network=shape)


def _is_ours(path: Path) -> bool:
    if path.suffix != ".safetensors":
        return False
    try:
        return weights.facts_of(path).get("part") == PART
    except SafetensorError:
        return False  # reading it as a foreign file says what is wrong


def build_vae(shape: Mapping[str, Any], kind: str = "AutoencoderKL") -> nn.Module:
    """An autoencoder of diffusers with random weights; `shape` is its config.json."""
    if kind == "AutoencoderTiny":
        from diffusers.models.autoencoders.autoencoder_tiny import AutoencoderTiny as Network
    else:
        from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL as Network
    made: Any = Network.from_config({k: v for k, v in shape.items() if not k.startswith("_")})
    return made


def _from_folder(folder: Path, kind: str) -> tuple[nn.Module, dict[str, Tensor]]:
    name = "vae" if kind == "AutoencoderKL" else "tiny-vae"
    files = ("diffusion_pytorch_model.safetensors", "diffusion_pytorch_model.bin")
    shape, tensors = read_folder(name, folder, files)
    if shape.get("_class_name", kind) != kind:
        raise UserError(
            f"{folder} holds {shape['_class_name']}, expected {kind}; give the other folder"
        )
    return build_vae(shape, kind), tensors


_OTHERS = ("loss.", "model_ema.", "model.", "cond_stage_model.")
"""What stands beside the autoencoder in original files."""
_FIRST_STAGE = "first_stage_model."
_NAMES = (
    (r"\.down\.(\d+)\.block\.(\d+)\.", r".down_blocks.\1.resnets.\2."),
    (r"\.down\.(\d+)\.downsample\.", r".down_blocks.\1.downsamplers.0."),
    (r"\.up\.(\d+)\.block\.(\d+)\.", r".up_blocks.\1.resnets.\2."),
    (r"\.up\.(\d+)\.upsample\.", r".up_blocks.\1.upsamplers.0."),
    (r"\.nin_shortcut\.", ".conv_shortcut."),
    (r"\.mid\.block_([12])\.", lambda m: f".mid_block.resnets.{int(m[1]) - 1}."),
    (r"\.mid\.attn_1\.norm\.", ".mid_block.attentions.0.group_norm."),
    (r"\.mid\.attn_1\.", ".mid_block.attentions.0."),
    (r"\.attentions\.0\.(q|query)\.", ".attentions.0.to_q."),
    (r"\.attentions\.0\.(k|key)\.", ".attentions.0.to_k."),
    (r"\.attentions\.0\.(v|value)\.", ".attentions.0.to_v."),
    (r"\.attentions\.0\.(proj_out|proj_attn)\.", ".attentions.0.to_out.0."),
    (r"\.norm_out\.", ".conv_norm_out."),
)
"""Names of the original (latent diffusion) and of older diffusers to those of today's, applied in this order."""


def vae_names(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """An autoencoder under the names of today's diffusers; names that are so already stay."""
    if any(
        name.startswith(_FIRST_STAGE) for name in tensors
    ):  # a whole Stable Diffusion in one file
        tensors = {n: t for n, t in tensors.items() if n.startswith(_FIRST_STAGE)}
    levels = {int(m[1]) for n in tensors if (m := re.search(r"decoder\.up\.(\d+)\.", n))}
    named = {}
    for name, value in tensors.items():
        if name.startswith(_OTHERS):
            continue
        name = name.removeprefix(_FIRST_STAGE)
        # The original counts the decoder's levels from the finest.
        name = re.sub(r"\.up\.(\d+)\.", lambda m: f".up.{max(levels) - int(m[1])}.", name)
        for pattern, ours in _NAMES:
            name = re.sub(pattern, ours, name)
        is_linear = re.search(r"\.to_(q|k|v|out\.0)\.weight$", name) is not None
        named[name] = value[:, :, 0, 0] if is_linear and value.dim() == 4 else value
    return named
