"""Speech encoders from files: a transformers folder, OpenAI's tiny.pt, or a part of ours.

`load_encoder(config)` takes what `emo2 download wav2vec2` (or whisper) fetched; `load_encoder(config, source)` any
of the three forms.  Names are mapped by tables and loaded strictly; what may be absent is named below.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from emo2 import weights
from emo2.config import Config, SpeechConfig
from emo2.errors import UserError
from emo2.sources import SOURCES, folder_of, read_folder, read_tensors, require, tensors_in
from emo2.speech.mel import SpeechEncoder
from emo2.speech.wav2vec2 import Wav2Vec2Encoder
from emo2.speech.whisper import WhisperEncoder

PART = "speech"
"""Name of the part in a safetensors file of ours."""

Ears = SpeechEncoder | Wav2Vec2Encoder | WhisperEncoder

_HEADS = ("lm_head.", "quantizer.", "project_q.", "project_hid.")
"""Of wav2vec 2.0's training; not part of the encoder."""
_UNTRAINED = ("masked_spec_embed",)
"""Used in training alone; some files lack it."""

_OPENAI = (
    (r"^blocks\.", "layers."),
    (r"\.attn\.(query|key|value)\.", lambda m: f".self_attn.{m[1][0]}_proj."),
    (r"\.attn\.out\.", ".self_attn.out_proj."),
    (r"\.attn_ln\.", ".self_attn_layer_norm."),
    (r"\.mlp\.0\.", ".fc1."),
    (r"\.mlp\.2\.", ".fc2."),
    (r"\.mlp_ln\.", ".final_layer_norm."),
    (r"^ln_post\.", "layer_norm."),
    (r"^positional_embedding$", "embed_positions.weight"),
)
"""OpenAI's names of Whisper's encoder to those of transformers, applied in this order."""


def load_encoder(config: SpeechConfig, source: Path | None = None) -> Ears:
    """The encoder a preset asks for, with weights; our compact one without (stage 1 brings its own)."""
    if config.kind == "mel":
        return SpeechEncoder(config)
    if source is None:
        source = require(config.kind)
    if source.is_file():
        network, tensors = _from_file(config.kind, source)
    else:
        network, tensors = _from_folder(config.kind, source)
    weights.fill(network, tensors, source)
    network.eval().requires_grad_(False)
    return encoder_of(config, network)


def encoder_of(config: SpeechConfig, network: nn.Module) -> Ears:
    """Our encoder around a stock network (or a small random one, in tests)."""
    if config.kind == "whisper":
        return WhisperEncoder(config, network)
    return Wav2Vec2Encoder(config, network)


def save_encoder(encoder: Wav2Vec2Encoder | WhisperEncoder, config: Config, path: Path) -> Path:
    """The stock network as a part of ours: one file with its shape inside, for `load_encoder`."""
    shape = json.dumps(encoder.network.config.to_dict(), default=str)
    return weights.save(
        path,
        encoder.network.state_dict(),
        config,
        part=PART,
        network=shape,
        kind=encoder.config.kind,
    )


def build_network(kind: str, shape: Mapping[str, Any]) -> nn.Module:
    """A stock network with random weights; `shape` is its config.json."""
    try:
        import transformers
        from transformers.models.whisper.modeling_whisper import WhisperEncoder as StockWhisper
    except ImportError as error:
        raise UserError(
            f"{kind} needs the package transformers, which is not installed; pip install 'emo2[full]'"
        ) from error
    if kind == "whisper":
        return StockWhisper(transformers.WhisperConfig.from_dict(dict(shape)))
    return transformers.Wav2Vec2Model(transformers.Wav2Vec2Config.from_dict(dict(shape)))


def _from_folder(kind: str, folder: Path) -> tuple[nn.Module, dict[str, Tensor]]:
    shape, tensors = read_folder(kind, folder, ("model.safetensors", "pytorch_model.bin"))
    found = shape.get("model_type")
    if found != kind:
        raise UserError(
            f"{folder} holds a model of type {found!r}, expected {kind!r}; "
            f"give a folder like huggingface.co/{SOURCES[kind].repository}"
        )
    network = build_network(kind, shape)
    return network, _named(kind, tensors, network)


def _from_file(kind: str, file: Path) -> tuple[nn.Module, dict[str, Tensor]]:
    if file.suffix == ".safetensors":
        tensors, _, facts = weights.load(file, part=PART)
        if facts.get("kind") != kind:
            raise UserError(f"{file} holds {facts.get('kind')!r}, this preset hears with {kind!r}")
        return build_network(kind, json.loads(facts["network"])), tensors
    found = read_tensors(file)
    sizes = found.get("dims")
    if kind != "whisper" or not isinstance(sizes, dict):
        raise UserError(
            f"{file} is no Whisper file of OpenAI's (no sizes in it); give a folder as "
            f"`emo2 download {kind}` makes it ({folder_of(kind)})"
        )
    width = sizes["n_audio_state"]
    shape = {
        "d_model": width,
        "encoder_layers": sizes["n_audio_layer"],
        "encoder_attention_heads": sizes["n_audio_head"],
        "encoder_ffn_dim": 4 * width,
        "num_mel_bins": sizes["n_mels"],
        "max_source_positions": sizes["n_audio_ctx"],
    }
    network = build_network(kind, shape)
    return network, _named(kind, tensors_in(found), network)


def _named(kind: str, tensors: Mapping[str, Tensor], network: nn.Module) -> dict[str, Tensor]:
    if kind == "whisper":
        return whisper_names(tensors)
    named = wav2vec2_names(tensors)
    own = network.state_dict()
    return {n: own[n] for n in _UNTRAINED if n in own and n not in named} | {
        n: t for n, t in named.items() if n in own or n not in _UNTRAINED
    }


def whisper_names(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Whisper's encoder under the names of transformers, from OpenAI's names or from a whole model's."""
    named = {}
    for name, value in tensors.items():
        name = name.removeprefix("model.")
        if name.startswith(("decoder.", "proj_out.")):
            continue
        name = name.removeprefix("encoder.")
        for pattern, ours in _OPENAI:
            name = re.sub(pattern, ours, name)
        named[name] = value
    return named


def wav2vec2_names(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """wav2vec 2.0 under the names of today's transformers: no heads, weight norm as a parametrisation."""
    named = {}
    for name, value in tensors.items():
        if name.startswith(_HEADS):
            continue
        name = name.removeprefix("wav2vec2.")
        name = name.replace(".conv.weight_g", ".conv.parametrizations.weight.original0")
        name = name.replace(".conv.weight_v", ".conv.parametrizations.weight.original1")
        named[name] = value
    return named
