"""A stage over Stable Diffusion's latents, from files: its networks, its codec, its ears, and what the user wishes.

Codec and ears lie beside the weights (`vae`, `speech`) or where `emo2 download` puts them.  Tensors are read in the
numbers they will be used in and taken over as they are, so that two billion parameters are in memory once.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from emo2 import weights
from emo2.config import Config
from emo2.diffusion import Solver
from emo2.errors import UserError
from emo2.presets import PRESETS
from emo2.sources import folder_of
from emo2.speech import Ears, load_encoder
from emo2.video.face_regions import EMBEDDING, read_embedding
from emo2.video.families import FAMILIES
from emo2.video.latent_stage import LatentStage, Wishes
from emo2.video.placement import Placement
from emo2.video.sd_vae import load_vae
from emo2.video.windows import Laying

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Setup:
    """What a user may choose of such a stage; the compact preset knows none of it."""

    placement: Placement = field(default_factory=Placement)
    guidance: float | None = None
    solver: Solver = "ddim"
    embedding: Path | None = None
    """Face embedding (Hallo)."""
    lora: Path | None = None
    """Low-rank weights added to the denoiser's (few-step distillations)."""
    tiny_decoder: bool = False
    laying: Laying = field(default_factory=Laying)


def setup_of(words: Mapping[str, Any]) -> Setup:
    """The setup that the command's flags describe; on CUDA networks are bfloat16, channels last, unless told otherwise."""
    is_fast = words["device"].startswith("cuda") and weights.is_over_latents(words["preset"])
    numbers = words["dtype"] or ("bfloat16" if is_fast else "float32")
    return Setup(
        placement=Placement(
            dtype=getattr(torch, numbers),
            offload=words["offload"],
            channels_last=is_fast,
            compiled=words["compile"],
        ),
        guidance=words["guidance"],
        solver=words["solver"],
        lora=words["lora"],
        embedding=words["face_embedding"],
        tiny_decoder=words["tiny_decoder"],
        laying=Laying(overlap=words["overlap"], shift=words["shift"], beyond=words["beyond"]),
    )


def read_stage(
    path: Path, dtype: torch.dtype = torch.float32
) -> tuple[LatentStage, Config, dict[str, str]]:
    """Stage 2 of a converted file, and what the file says of itself."""
    tensors, config, facts = weights.load(path, part="video", dtype=dtype)
    if config.video.codec.kind != "sd":
        raise UserError(
            f"{path} is a stage 2 of the {config.name} preset; give a folder with all three of its files"
        )
    if config.video.family not in FAMILIES:
        raise UserError(
            f"{path} holds {config.name}: tensors to begin training with (emo2 train emo-image --start {path}), "
            "no networks that make films"
        )
    with torch.device("meta"):
        stage = LatentStage(config.video)
    weights.fill(stage, tensors, path, assign=True)
    return stage.eval().requires_grad_(False), config, facts


def read_start(path: Path) -> tuple[LatentStage, Config]:
    """What training begins with: a stage as it is, or `full` around Stable Diffusion and AnimateDiff (EMO §3.3).

    Of these it takes every tensor that it has under the same name and in the same shape; the rest begins as made.
    """
    config = weights.config_of(path)
    if config is None or config.video.family in FAMILIES or config.video.codec.kind != "sd":
        stage, config, _ = read_stage(path)
        return stage, config
    tensors, found, _ = weights.load(path, part="video")
    full = PRESETS["full"]
    video = replace(
        full.video,
        reference=replace(full.video.reference, widths=found.video.reference.widths),
        denoiser=replace(full.video.denoiser, widths=found.video.denoiser.widths),
    )
    stage = LatentStage(video)
    own = stage.state_dict()
    taken = {n: t for n, t in tensors.items() if n in own and own[n].shape == t.shape}
    weights.fill(stage, own | taken, path)
    text = "%s: %d of the %d tensors of full are taken from %s, the others begin at random"
    log.warning(text, path, len(taken), len(own), found.name)
    return stage.eval().requires_grad_(False), replace(full, video=video)


def furnish(stage: LatentStage, config: Config, path: Path, setup: Setup) -> Ears:
    """Give the stage its codec, its place and the user's wishes; what hears for it."""
    embedding = None
    if setup.embedding is not None:
        embedding = read_embedding(setup.embedding, config.video.face_tokens.inputs or EMBEDDING)
    codec = load_vae(
        config.video.codec,
        beside(path, "vae"),
        tiny=folder_of("tiny-vae") if setup.tiny_decoder else None,
        tiled=setup.placement.offload != "none",
    )
    wishes = Wishes(
        guidance=setup.guidance, solver=setup.solver, embedding=embedding, laying=setup.laying
    )
    stage.use(codec, placement=setup.placement, wishes=wishes)
    return load_encoder(config.speech, beside(path, "speech"))


def beside(path: Path, name: str) -> Path | None:
    """A folder or file of that name beside the weights; None: the downloads'."""
    found = [p for p in (path.parent / name, path.parent / f"{name}.safetensors") if p.exists()]
    return found[0] if found else None
