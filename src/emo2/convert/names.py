"""Our parameters' names in the layouts of the public checkpoints, as rules from our name to theirs.

A table is made by running the rules over the names a network has, so that it is complete by construction and reads
both ways: `{theirs: ours}`, module by module.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import nn

Rules = tuple[tuple[str, str], ...]

_INSIDE: Rules = (
    (r"\bself_attention\b", "attn1"),
    (r"\breference_attention\b", "attn1_5"),
    (r"\b(context|audio)_attention\b", "attn2"),
    (r"\baudio_attentions\.(\d)\b", r"attn2_\1"),
    (r"\bmixes\.0\b", "zero_conv_full"),
    (r"\bmixes\.1\b", "zero_conv_face"),
    (r"\bmixes\.2\b", "zero_conv_lip"),
    (r"\breference_norm\b", "norm1_5"),
    (r"\bcontext_norm\b", "norm2"),
    (r"\bfeed_forward\.proj\b", "ff.net.0.proj"),
    (r"\bfeed_forward\.out\b", "ff.net.2"),
    (r"\bfeed_forward_norm\b", "ff_norm"),
    (r"\battentions\.(\d)\.to_", r"attention_blocks.\1.to_"),
    (r"\bto_out\b", "to_out.0"),
    (r"^(attn|zero_conv|norm[s\d]|ff|attention_blocks)", r"transformer_blocks.0.\1"),
)
"""Inside a spatial, audio or temporal transformer."""

_UNET: Rules = (
    (r"^time\.", "time_embedding."),
    (r"^norm_out\.", "conv_norm_out."),
    (r"^(down|up)samplers\.(\d)", r"\1_blocks.\2.\1samplers.0.conv"),
    (r"^middle\.second", "mid_block.resnets.1"),
    (r"^middle\.first\.", "mid_block.0."),
    (r"^(down|up)\.(\d)\.", r"\1_blocks.\2."),
    (r"\.(\d)\.residual\.", r".resnets.\1."),
    (r"\.(\d)\.spatial\.", r".attentions.\1."),
    (r"\.(\d)\.audio\.", r".audio_modules.\1."),
    (r"\.(\d)\.temporal\.", r".motion_modules.\1.temporal_transformer."),
    (r"\.time\.", ".time_emb_proj."),
    (r"\.shortcut\.", ".conv_shortcut."),
)

_SCALED_GUIDER: Rules = (
    (r"^first\.", "conv_layers."),
    (r"^project\.", "final_proj."),
)

_PERCEIVER: Rules = (
    (r"^queries$", "latents"),
    (r"^places\.", "pos_emb."),
    (r"^blocks\.(\d)\.attention\.", r"layers.\1.0."),
    (r"^blocks\.(\d)\.norm\.", r"layers.\1.1.0."),
    (r"^blocks\.(\d)\.proj\.", r"layers.\1.1.1."),
    (r"^blocks\.(\d)\.out\.", r"layers.\1.1.3."),
)

_TRANSFORMER = re.compile(
    r"^(.*?\.(?:attentions\.\d|audio_modules\.\d|temporal_transformer|cross_attn\d))\.(.*)$"
)

PREFIXES = {
    "guidance": "denoiser.guidance.",
    "reference": "reference.",
    "denoiser": "denoiser.",
    "face_tokens": "face_tokens.",
    "audio_tokens": "audio_tokens.",
}
"""Our modules, and how their names begin; the first that fits counts."""

POSITIONS = re.compile(r"\.pos_encoder\.pe$")
"""Tables of positions: a formula (`blocks.sinusoids`), not a weight."""


def theirs(module: str, ours: str) -> str:
    """The public name of a parameter of one of our modules (`PREFIXES`), without the module's own name."""
    if module in ("reference", "denoiser"):
        return _inside(_apply(_UNET, ours))
    if module == "guidance" and re.match(r"(first|project|scale|stages|attentions)\b", ours):
        return _inside(_stage(_apply(_SCALED_GUIDER, ours)))
    if module == "audio_tokens":
        return _apply(_PERCEIVER, ours)
    return ours


def _stage(name: str) -> str:
    """Stages of the guider of several scales are counted from 1."""
    match = re.match(r"^(stages|attentions)\.(\d)\.(.*)$", name)
    if match is None:
        return name
    number = int(match[2]) + 1
    return (
        f".cross_attn{number}.{match[3]}"
        if match[1] == "attentions"
        else f"conv_layers_{number}.{match[3]}"
    )


def _inside(name: str) -> str:
    match = _TRANSFORMER.match(name)
    return name if match is None else f"{match[1]}.{_apply(_INSIDE, match[2])}".lstrip(".")


def _apply(rules: Rules, name: str) -> str:
    for pattern, replacement in rules:
        name = re.sub(pattern, replacement, name)
    return name


def module_of(ours: str) -> tuple[str, str]:
    """Our module that a parameter belongs to, and its name there."""
    for module, prefix in PREFIXES.items():
        if ours.startswith(prefix):
            return module, ours.removeprefix(prefix)
    raise ValueError(f"{ours} belongs to no module of stage 2")


def table(network: nn.Module) -> dict[str, dict[str, str]]:
    """For each of our modules that the network has: public names, and our names for them."""
    found: dict[str, dict[str, str]] = {}
    for ours in network.state_dict():
        module, name = module_of(ours)
        found.setdefault(module, {})[theirs(module, name)] = ours
    return found


def shapes_of(network: nn.Module) -> Mapping[str, tuple[int, ...]]:
    """Our names, and the shapes of what they name."""
    return {name: tuple(t.shape) for name, t in network.state_dict().items()}
