"""Stable Diffusion 1.5 as one file (latent diffusion's layout): the U-Net under the names of diffusers.

Such a file holds the U-Net as `model.diffusion_model.*`, the autoencoder as `first_stage_model.*` (`sd_vae.load_vae`
reads that from the same file) and the text encoder, which nobody here needs.  The U-Net's layers are counted through
from the first to the last; every level has two on the way down and three on the way up.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from pathlib import Path

from emo2.convert import foreign
from emo2.convert.foreign import Tensors

PREFIX = "model.diffusion_model."
LAYERS = 2
"""Of a level on the way down; a third place is its downsampler."""

_ENDS = (
    (r"^time_embed\.0\.", "time_embedding.linear_1."),
    (r"^time_embed\.2\.", "time_embedding.linear_2."),
    (r"^input_blocks\.0\.0\.", "conv_in."),
    (r"^out\.0\.", "conv_norm_out."),
    (r"^out\.2\.", "conv_out."),
    (r"^middle_block\.0\.", "mid_block.resnets.0."),
    (r"^middle_block\.1\.", "mid_block.attentions.0."),
    (r"^middle_block\.2\.", "mid_block.resnets.1."),
)
_RESIDUAL = (
    (r"\.in_layers\.0\.", ".norm1."),
    (r"\.in_layers\.2\.", ".conv1."),
    (r"\.emb_layers\.1\.", ".time_emb_proj."),
    (r"\.out_layers\.0\.", ".norm2."),
    (r"\.out_layers\.3\.", ".conv2."),
    (r"\.skip_connection\.", ".conv_shortcut."),
)


def is_single(tensors: Tensors) -> bool:
    """Whether a file's tensors are laid out so."""
    return any(name.startswith(PREFIX) for name in tensors)


def find(folder: Path, *, besides: Collection[str]) -> Path | None:
    """Such a file in a folder, whatever its name; files of those stems are not looked into."""
    paths = [p for p in sorted(folder.iterdir()) if p.suffix in foreign.ENDINGS]
    return next(
        (p for p in paths if p.stem not in besides and is_single(foreign.read(p))),
        None,
    )


def unet(tensors: Tensors) -> Tensors:
    """The U-Net alone, under the names of diffusers; averaged copies (`model_ema`) are left where they are."""
    return {
        unet_name(name.removeprefix(PREFIX)): tensor
        for name, tensor in tensors.items()
        if name.startswith(PREFIX)
    }


def unet_name(name: str) -> str:
    """Latent diffusion's name of a parameter to diffusers'; one that fits nothing stays, and is named later."""
    for pattern, ours in _ENDS:
        name = re.sub(pattern, ours, name)
    name = re.sub(r"^input_blocks\.(\d+)\.(\d)\.(op\.)?", _down, name)
    name = re.sub(r"^output_blocks\.(\d+)\.(\d)\.(conv\.)?", _up, name)
    for pattern, ours in _RESIDUAL:
        name = re.sub(pattern, ours, name)
    return name


def _down(match: re.Match[str]) -> str:
    level, place = divmod(int(match[1]) - 1, LAYERS + 1)
    if match[3]:
        return f"down_blocks.{level}.downsamplers.0.conv."
    kind = "resnets" if match[2] == "0" else "attentions"
    return f"down_blocks.{level}.{kind}.{place}."


def _up(match: re.Match[str]) -> str:
    level, place = divmod(int(match[1]), LAYERS + 1)
    if match[3]:
        return f"up_blocks.{level}.upsamplers.0.conv."
    kind = "resnets" if match[2] == "0" else "attentions"
    return f"up_blocks.{level}.{kind}.{place}."
