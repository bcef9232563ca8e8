"""`emo2 generate` with converted public checkpoints: tiny networks, whole command, whole film."""

from __future__ import annotations

import json
import wave
from dataclasses import replace
from pathlib import Path

import av
import pytest
import torch
from made_up import made_up_voice
from safetensors.torch import save_file
from small_families import randomised, small

from emo2 import weights
from emo2.cli import main
from emo2.config import CodecConfig
from emo2.convert.lora import add_lora
from emo2.errors import UserError
from emo2.generate import Job, generate
from emo2.presets import PRESETS
from emo2.speech import encoder_of
from emo2.speech.load import build_network, save_encoder
from emo2.video.latent_stage import LatentStage
from emo2.video.sd_vae import SdVae, build_vae, save_vae

WAV2VEC2 = {
    "model_type": "wav2vec2", "hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2,
    "intermediate_size": 16, "conv_dim": [8] * 7, "num_feat_extract_layers": 7,
    "num_conv_pos_embeddings": 16, "num_conv_pos_embedding_groups": 2,
}  # fmt: skip
WHISPER = {
    "model_type": "whisper", "d_model": 8, "encoder_layers": 4, "encoder_attention_heads": 2,
    "encoder_ffn_dim": 16, "num_mel_bins": 80, "max_source_positions": 1500,
}  # fmt: skip
VAE = {
    "block_out_channels": [8, 8, 8, 8], "down_block_types": ["DownEncoderBlock2D"] * 4,
    "up_block_types": ["UpDecoderBlock2D"] * 4, "layers_per_block": 1, "latent_channels": 4,
    "norm_num_groups": 4, "sample_size": 64,
}  # fmt: skip


def write_preset(folder: Path, name: str) -> Path:
    """A converted checkpoint of tiny networks with its codec and its ears beside it."""
    preset = PRESETS[name]
    video = small(name, clip_frames=12 if preset.video.motion_frames == 0 else 8)
    layers = 2 if preset.speech.kind == "wav2vec2" else 5
    config = replace(preset, video=video, speech=replace(preset.speech, width=8, layers=layers))
    torch.manual_seed(0)
    stage = randomised(LatentStage(video))
    weights.save(folder / "video.safetensors", stage.state_dict(), config, part="video")
    save_vae(SdVae(CodecConfig(kind="sd"), build_vae(VAE)), config, folder / "vae.safetensors")
    shape = WAV2VEC2 if preset.speech.kind == "wav2vec2" else WHISPER
    ears = encoder_of(config.speech, build_network(preset.speech.kind, shape))
    save_encoder(ears, config, folder / "speech.safetensors")  # type: ignore[arg-type]
    return folder / "video.safetensors"


@pytest.fixture
def voice(tmp_path: Path) -> Path:
    """0.9 s of buzzing: 22 frames at 24 a second."""
    path = tmp_path / "voice.wav"
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(16_000)
        file.writeframes((made_up_voice(0.9) * 32767).to(torch.int16).numpy().tobytes())
    return path


def frames_of(film: Path) -> tuple[int, float, tuple[int, int]]:
    """Frames, frames a second, (height, width)."""
    with av.open(str(film)) as container:
        stream = container.streams.video[0]
        count = sum(1 for _ in container.decode(stream))
        assert container.streams.audio
        return count, float(stream.average_rate or 0), (stream.height, stream.width)


@pytest.mark.parametrize(("name", "fps"), [("hallo", 25.0), ("echomimic-v2", 24.0)])
def test_a_converted_checkpoint_makes_a_film(
    name: str,
    fps: float,
    tmp_path: Path,
    demo: Path,
    voice: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    file, film = write_preset(tmp_path, name), tmp_path / "film.mp4"
    words = [
        "generate",
        str(demo / "photo.jpg"),
        str(voice),
        "-o",
        str(film),
        "--preset",
        str(file),
    ]
    assert main([*words, "--size", "64x64", "--steps", "2", "--json"]) == 0
    events = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    said = [event["text"] for event in events if event["event"] == "note"]
    assert any("no face embedding" in text for text in said) == (name == "hallo")
    assert frames_of(film) == (round(0.9 * fps + 0.4), fps, (64, 64))


def test_a_film_of_a_public_preset_goes_on_where_it_was_stopped(
    tmp_path: Path, demo: Path, voice: Path
) -> None:
    file = write_preset(tmp_path, "echomimic-v2")
    whole, halved = tmp_path / "whole.mp4", tmp_path / "halved.mp4"
    setup = {"photo": demo / "photo.jpg", "voice": voice, "preset": str(file), "size": (64, 64),
             "steps": 1}  # fmt: skip
    list(generate(Job(output=whole, **setup)))  # type: ignore[arg-type]
    for event in generate(Job(output=halved, **setup)):  # type: ignore[arg-type]
        if event.kind == "progress" and event.done == 12:
            break
    assert not halved.exists()
    events = list(generate(Job(output=halved, **setup)))  # type: ignore[arg-type]
    assert any("going on after frame 12" in event.text for event in events)
    assert halved.read_bytes() == whole.read_bytes()


def refused(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    """The one sentence with which the command refuses."""
    assert main(list(words)) == 2
    return capsys.readouterr().err.strip()


def test_what_is_missing_is_one_sentence_that_names_the_command(
    tmp_path: Path,
    demo: Path,
    voice: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("EMO2_CACHE", str(tmp_path / "cache"))
    words = ["generate", str(demo / "photo.jpg"), str(voice), "-o", str(tmp_path / "film.mp4")]
    said = refused(capsys, *words, "--preset", "hallo")
    assert "emo2 download hallo" in said
    assert "emo2 convert" in said
    said = refused(capsys, *words, "--preset", "musepose")  # not worth fetching
    assert "driven by poses that no voice gives" in said
    file = write_preset(tmp_path, "echomimic-v2")
    ears, vae = tmp_path / "speech.safetensors", tmp_path / "vae.safetensors"
    for gone, name in ((ears, "whisper"), (vae, "vae")):
        gone.rename(tmp_path / "away")
        assert f"`emo2 download {name}`" in refused(capsys, *words, "--preset", str(file))
        (tmp_path / "away").rename(gone)


def test_wishes_that_the_compact_preset_does_not_know_are_refused(
    tmp_path: Path, demo: Path, voice: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["generate", str(demo / "photo.jpg"), str(voice), "-o", str(tmp_path / "film.mp4")]
    assert "compact has none of them" in refused(capsys, *words, "--guidance", "2")


def test_a_lora_of_stable_diffusion_changes_the_denoiser(tmp_path: Path) -> None:
    stage = randomised(LatentStage(small("echomimic-v2")))
    before = {n: p.clone() for n, p in stage.denoiser.named_parameters()}
    width = stage.denoiser.down[0][0].spatial.self_attention.to_q.weight.shape[0]  # type: ignore[union-attr]
    layer = "down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q"
    down, up = torch.randn(2, width), torch.randn(width, 2)
    tensors = {
        f"lora_unet_{layer}.lora_down.weight": down,
        f"lora_unet_{layer}.lora_up.weight": up,
        f"lora_unet_{layer}.alpha": torch.tensor(1.0),
        "unet.mid_block.resnets.0.conv1.lora_A.weight": torch.ones(1, 16, 3, 3),
        "unet.mid_block.resnets.0.conv1.lora_B.weight": torch.ones(16, 1, 1, 1),
        "lora_unet_no_such_layer.lora_down.weight": down.clone(),
        "lora_unet_no_such_layer.lora_up.weight": up.clone(),
    }
    save_file(tensors, tmp_path / "lora.safetensors")
    assert add_lora(stage, tmp_path / "lora.safetensors") == 2
    after = dict(stage.denoiser.named_parameters())
    changed = {n for n in after if not torch.equal(before[n], after[n])}
    assert len(changed) == 2
    name = next(n for n in changed if n.endswith("to_q.weight"))
    assert torch.allclose(after[name] - before[name], 0.5 * up @ down, atol=1e-5)
    conv = next(n for n in changed if n.endswith("conv1.weight"))
    assert torch.allclose(after[conv] - before[conv], torch.ones(16, 16, 3, 3), atol=1e-5)


def test_a_lora_of_something_else_is_refused(tmp_path: Path) -> None:
    save_file({"a.lora_down.weight": torch.ones(1, 3), "a.lora_up.weight": torch.ones(3, 1)},
              tmp_path / "other.safetensors")  # fmt: skip
    with pytest.raises(UserError, match="no low-rank weights for Stable Diffusion"):
        add_lora(LatentStage(small("full")), tmp_path / "other.safetensors")
    (tmp_path / "page.pth").write_text("<html>not found</html>")
    with pytest.raises(UserError, match="is no file of weights"):
        add_lora(LatentStage(small("full")), tmp_path / "page.pth")
