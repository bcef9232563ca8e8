"""Low-rank weights for the denoiser: LCM, TCD and other few-step distillations of Stable Diffusion 1.5.

A LoRA file names layers of Stable Diffusion's U-Net, in the way of diffusers or of kohya's scripts; our denoiser has
those layers under its own names.  Each adds scale (alpha / rank) up down to a weight, once, when it is loaded.
Layers a denoiser has in another shape or not at all (attention to text where ours hears) are left out and counted.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from emo2.convert.names import theirs
from emo2.errors import UserError
from emo2.sources import read_tensors, tensors_in
from emo2.video.network import VideoNetwork

log = logging.getLogger(__name__)

_DOWN = re.compile(r"^(.*)\.(?:lora_down|lora_A|lora\.down)(?:\.default)?\.weight$")
_UP = (".lora_up", ".lora_B", ".lora.up")


def add_lora(network: VideoNetwork, path: Path, *, scale: float = 1.0) -> int:
    """Add a file's low-rank weights to the denoiser; how many layers took some."""
    tensors = tensors_in(read_tensors(path))
    layers = {_plain(name): module for name, module in _layers(network)}
    added = missed = 0
    for layer, (down, up, alpha) in _pairs(tensors).items():
        module = layers.get(layer)
        if module is None or not _add(module, down, up, scale * alpha):
            missed += 1
        else:
            added += 1
    if not added:
        raise UserError(
            f"{path} has no low-rank weights for Stable Diffusion 1.5's U-Net "
            f"({len(tensors)} tensors, none that fits); give a LoRA of that model"
        )
    if missed:
        log.warning("%s: %d layers added, %d are not in this denoiser", path, added, missed)
    return added


def _layers(network: VideoNetwork) -> list[tuple[str, nn.Module]]:
    """The denoiser's layers by Stable Diffusion's names."""
    found = []
    for name, module in network.denoiser.named_modules():
        if isinstance(module, nn.Linear | nn.Conv2d):
            found.append((theirs("denoiser", f"{name}.weight").removesuffix(".weight"), module))
    return found


def _plain(name: str) -> str:
    """A layer's name without what the two ways of writing it differ in."""
    name = re.sub(r"^(unet\.|base_model\.model\.|lora_unet_)", "", name)
    return re.sub(r"[._]", "", name)


def _pairs(tensors: Mapping[str, Tensor]) -> dict[str, tuple[Tensor, Tensor, float]]:
    """Of every layer: down, up, and alpha over rank."""
    found = {}
    for name, down in tensors.items():
        match = _DOWN.match(name)
        if match is None:
            continue
        ups = [t for n, t in tensors.items() if n.startswith(tuple(match[1] + u for u in _UP))]
        if len(ups) != 1:
            raise UserError(f"the LoRA file has no upper half for {match[1]}; fetch it again")
        alpha = tensors.get(f"{match[1]}.alpha")
        rank = down.shape[0]
        factor = 1.0 if alpha is None else float(alpha) / rank
        found[_plain(match[1])] = (down, ups[0], factor)
    return found


def _add(module: nn.Module, down: Tensor, up: Tensor, factor: float) -> bool:
    """Add to a layer's weight if the shapes say it is that layer."""
    weight = module.weight
    assert isinstance(weight, Tensor)
    change = (up.flatten(1).float() @ down.flatten(1).float()) * factor
    if change.numel() != weight.numel() or change.shape[0] != weight.shape[0]:
        return False
    with torch.no_grad():
        weight += change.view(weight.shape).to(weight)
    return True
