"""A family's config, with the sizes that a checkpoint's own shapes say; its switches are the preset's."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from emo2.config import TokensConfig, UNetConfig, VideoConfig

Shapes = Mapping[str, tuple[int, ...]]
"""Public names of one module, and shapes."""


def fitted(
    preset: VideoConfig, shapes: Mapping[str, Shapes], known: Mapping[str, Any] | None = None
) -> VideoConfig:
    """The preset's config at the sizes of `shapes` (one table a module of ours).

    `known`: what no shape says, under the names of the parity files (attention_heads, norm_num_groups,
    pe_max_len, guider_heads, audio_projection); the preset's where missing.
    """
    known = known or {}
    denoiser = _unet(preset.denoiser, shapes["denoiser"], known)
    if "guidance" in shapes:
        denoiser = _guided(denoiser, shapes["guidance"], known)
    return replace(
        preset,
        denoiser=denoiser,
        reference=_unet(preset.reference, shapes["reference"], known),
        face_tokens=_face(preset.face_tokens, shapes.get("face_tokens", {})),
        audio_tokens=_audio(preset.audio_tokens, shapes.get("audio_tokens", {}), known),
    )


def _unet(config: UNetConfig, shapes: Shapes, known: Mapping[str, Any]) -> UNetConfig:
    levels = _count(shapes, r"^down_blocks\.(\d+)\.resnets\.0\.conv1\.weight$")
    branches = [s[1] for n, s in shapes.items() if n.endswith(".attn2_0.to_k.weight")]
    inside = [s[1] for n, s in shapes.items() if n.endswith(".attn2.to_k.weight")]
    max_frames = [s[1] for n, s in shapes.items() if n.endswith(".pos_encoder.pe")]
    return replace(
        config,
        in_channels=shapes["conv_in.weight"][1],
        out_channels=shapes.get("conv_out.weight", (config.out_channels,))[0]
        if config.out_channels
        else 0,
        widths=tuple(shapes[f"down_blocks.{i}.resnets.0.conv1.weight"][0] for i in range(levels)),
        layers=_count(shapes, r"^down_blocks\.0\.resnets\.(\d+)\.conv1\.weight$"),
        attention=tuple(
            f"down_blocks.{i}.attentions.0.norm.weight" in shapes for i in range(levels)
        ),
        heads=known.get("attention_heads", config.heads),
        groups=known.get("norm_num_groups", config.groups),
        context_width=next(iter(inside), config.context_width) if config.context_width else 0,
        audio_width=_audio_width(config, inside, branches),
        audio_blocks=tuple(_audio_inner(shapes)) or config.audio_blocks
        if config.audio_blocks
        else (),
        max_frames=known.get("pe_max_len", max(max_frames, default=config.max_frames)),
    )


def _audio_width(config: UNetConfig, inside: list[int], branches: list[int]) -> int:
    """Width of audio tokens: of the spatial blocks' second attention, or of the audio transformers' branches."""
    if not config.audio_width:
        return 0
    return next(iter(branches if config.audio_blocks else inside), config.audio_width)


def _audio_inner(shapes: Shapes) -> Iterable[int]:
    """Inner widths of audio transformers, in order of the sites."""
    found = {}
    for name, shape in shapes.items():
        match = re.match(
            r"^(down|mid|up)_block(?:s\.(\d))?\.audio_modules\.(\d)\.proj_in\.weight$", name
        )
        if match:
            found["down mid up".index(match[1]), int(match[2] or 0), int(match[3])] = shape[0]
    return [found[place] for place in sorted(found)]


def _guided(config: UNetConfig, shapes: Shapes, known: Mapping[str, Any]) -> UNetConfig:
    if "conv_in.weight" in shapes:
        last = _count(shapes, r"^blocks\.(\d+)\.weight$")
        widths = [shapes["conv_in.weight"][0]]
        widths += [shapes[f"blocks.{i}.weight"][0] for i in range(1, last, 2)]
        return replace(
            config,
            guidance_channels=shapes["conv_in.weight"][1],
            guidance_widths=tuple(widths),
            guidance_heads=0,
        )
    inner = shapes["cross_attn1.proj_in.weight"][0]
    heads = known.get("guider_heads", config.guidance_heads)
    return replace(
        config,
        guidance_channels=shapes["conv_layers.0.weight"][1],
        guidance_widths=tuple(shapes[f"conv_layers.{i}.weight"][0] for i in (3, 9, 15, 21)),
        guidance_heads=heads,
        guidance_head_width=inner // heads,
    )


def _face(config: TokensConfig, shapes: Shapes) -> TokensConfig:
    if not shapes:
        return config
    (rows, inputs), (width,) = shapes["proj.weight"], shapes["norm.weight"]
    return replace(config, inputs=inputs, tokens=rows // width, width=width)


def _audio(config: TokensConfig, shapes: Shapes, known: Mapping[str, Any]) -> TokensConfig:
    if not shapes:
        return config
    if config.kind == "perceiver":
        heads = known.get("audio_projection", {}).get("heads", config.heads)
        rows, inputs = shapes["pos_emb.weight"]
        _, tokens, hidden = shapes["latents"]
        return replace(
            config,
            inputs=inputs,
            rows=rows,
            hidden=hidden,
            depth=_count(shapes, r"^layers\.(\d+)\.0\.to_q\.weight$"),
            heads=heads,
            head_width=shapes["layers.0.0.to_q.weight"][0] // heads,
            tokens=tokens,
            width=shapes["norm_out.weight"][0],
        )
    hidden, flat = shapes["proj1.weight"]
    (out, _), (width,) = shapes["proj3.weight"], shapes["norm.weight"]
    layers = known.get("audio_layers", config.layers)
    return replace(
        config,
        inputs=flat // (config.rows * layers),
        layers=layers,
        hidden=hidden,
        tokens=out // width,
        width=width,
    )


def _count(shapes: Shapes, pattern: str) -> int:
    """How many numbers the pattern's group takes."""
    return len({m[1] for name in shapes if (m := re.match(pattern, name))})
