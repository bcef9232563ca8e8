"""wav2vec 2.0 and Whisper as ears, against the public families' own features (tests/parity)."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch
from parity import fill
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from emo2.config import COMPACT, SpeechConfig
from emo2.convert.golden_ears import GoldenEars, compare_ears
from emo2.errors import UserError
from emo2.reel import Reel
from emo2.signals import Speech
from emo2.speech import SpeechEncoder, load_encoder, save_encoder, tokens
from emo2.speech.load import build_network, whisper_names
from emo2.speech.wav2vec2 import Wav2Vec2Encoder
from emo2.speech.whisper import WhisperEncoder, log_mel

PARITY = Path(__file__).parent / "parity"
ABOUT = json.loads((PARITY / "audio.json").read_text())
GOLDEN = load_file(PARITY / "audio.safetensors")
RATE = 16_000
ALL = SpeechConfig(kind="wav2vec2", width=48, layers=3)
HALLO = replace(ALL, rows="stretched")
VEXPRESS = replace(ALL, rows="halves", layers=1)
ECHOMIMIC = SpeechConfig(kind="whisper", width=48, layers=5)
# The golden values are a float32 run's, which differ from the exact ones by 2 to 4e-6.
WITHIN = {"atol": 1e-5, "rtol": 0}


@dataclass
class Samples:
    samples: Tensor
    size_given: int | None = None

    def blocks(self, size: int) -> Iterator[Tensor]:
        yield from self.samples.split(self.size_given or size)


def voice(samples: Tensor, block: int | None = None) -> Speech:
    return Speech(voice=Samples(samples, block), sample_rate=RATE, num_samples=len(samples))


EARS = GoldenEars(PARITY)


def tensors_of(module: str) -> dict[str, Tensor]:
    """Under the names of the files: wav2vec 2.0's old weight norm, Whisper without its fixed table."""
    filled = fill.state_dict(ABOUT["seed"], module, ABOUT[module]["keys"])
    return {n: torch.from_numpy(v) for n, v in filled.items() if n != "embed_positions.weight"}


def wav2vec2(**changes: int | str) -> nn.Module:
    return EARS.network("wav2vec2", **changes)


def whisper() -> nn.Module:
    return EARS.network("whisper")


def long_voice(seconds: float) -> Tensor:
    """Noise whose loudness and colour change, so that no two stretches are alike."""
    noise = torch.randn(int(seconds * RATE), generator=torch.Generator().manual_seed(5))
    time = torch.arange(len(noise)) / RATE
    swell = 0.05 + 0.1 * (1 + torch.sin(0.9 * time)) * (1 + torch.sin(7.0 * time))
    return swell * (noise + 3.0 * torch.sin(2 * torch.pi * (200 + 40 * torch.sin(time)) * time))


def test_what_hallo_v_express_and_echomimic_hear_are_the_golden_values() -> None:
    found = list(compare_ears(PARITY))
    assert len(found) == 2 * (len(GOLDEN) - 1) + 2
    assert [difference.line() for difference in found if not difference.passes] == []


def test_features_carry_their_rates_and_a_stretch_is_the_wholes() -> None:
    speech = voice(GOLDEN["signal"], block=1_234)
    hallo = Wav2Vec2Encoder(HALLO, wav2vec2()).encode(speech, 25.0)
    assert len(hallo.energy) == len(hallo.voiced) == 25
    halves = Wav2Vec2Encoder(VEXPRESS, wav2vec2()).encode(speech, 30.0)
    windows = tokens.half_frame_windows(halves.values, range(30))
    assert torch.equal(tokens.half_frame_windows(halves.values, range(7, 19)), windows[7:19])
    steps = WhisperEncoder(ECHOMIMIC, whisper()).encode(speech, 24.0)
    torch.testing.assert_close(steps.values, GOLDEN["whisper/stacked"], **WITHIN)
    assert (hallo.fps, halves.fps, steps.fps) == (25.0, 60.0, 50.0)
    assert [tokens.step_windows(50, fps) for fps in (24.0, 25.0)] == [26, 27]


def test_the_signal_is_the_one_the_file_describes() -> None:
    ears = GoldenEars(PARITY)
    del ears.tensors["signal"]
    made = torch.cat(list(ears.speech.voice.blocks(RATE)))
    torch.testing.assert_close(made, GOLDEN["signal"], atol=1e-6, rtol=0)


def test_emos_features_are_all_layers_at_the_films_rate() -> None:
    """At 50 frames a second a frame's middle lies 40 samples from a step's: rows are nearly the raw outputs."""
    network, speech = wav2vec2(), voice(GOLDEN["signal"])
    features = Wav2Vec2Encoder(ALL, network).encode(speech, 25.0)
    assert features.values.shape == (25, 3, 48)
    with torch.inference_mode():
        plain = network(GOLDEN["wav2vec2/input_values"]).last_hidden_state[0]
    at = (torch.arange(25.0) + 0.5) * 2.0 - 200.0 / 320.0
    low = at.floor().long()
    wanted = torch.lerp(plain[low], plain[(low + 1).clamp(max=48)], (at - low)[:, None])
    torch.testing.assert_close(features.values[:, -1], wanted, **WITHIN)


@pytest.mark.parametrize("config", [HALLO, VEXPRESS, ALL], ids=["hallo", "vexpress", "emo"])
def test_all_but_attention_is_exact_in_pieces(config: SpeechConfig) -> None:
    """Statistics over the whole voice, convolutions, stretching, positions: a piece has them as the whole has."""
    samples, network = long_voice(30.0), wav2vec2()
    for layer in network.encoder.layers:
        layer.attention.out_proj.weight.zero_()
    whole = Wav2Vec2Encoder(config, network, piece_s=float("inf")).encode(voice(samples), 25.0)
    ears = Wav2Vec2Encoder(config, network, piece_s=7.0, overlap_s=1.0)
    parts = ears.encode(voice(samples, block=7_777), 25.0)
    assert len(list(ears.blocks(voice(samples), 25.0))) == 6
    torch.testing.assert_close(parts.values, whole.values, **WITHIN)


@pytest.mark.parametrize("config", [HALLO, VEXPRESS, ALL], ids=["hallo", "vexpress", "emo"])
def test_attention_in_pieces_moves_the_features_little(config: SpeechConfig) -> None:
    """The worst case: random weights attend to the whole voice alike, trained ones to what is near."""
    samples, network = long_voice(40.0), wav2vec2()
    whole = Wav2Vec2Encoder(config, network, piece_s=float("inf")).encode(voice(samples), 25.0)
    parts = Wav2Vec2Encoder(config, network, piece_s=24.0, overlap_s=4.0).encode(
        voice(samples), 25.0
    )
    moved = (parts.values - whole.values).abs()
    assert 0.0 < float(moved.mean()) < 0.15 * float(whole.values.std())


def test_a_reel_of_features_is_the_whole_with_a_stretch_of_it_held() -> None:
    ears, speech = (
        Wav2Vec2Encoder(ALL, wav2vec2(), piece_s=4.0, overlap_s=1.0),
        voice(long_voice(9.0)),
    )
    whole = ears.encode(speech, 24.0)
    reel = Reel(ears.stream(speech, 24.0), ears.count(speech, 24.0))
    assert len(reel) == len(whole) == 216
    for start in range(0, 216, 12):
        part = reel.between(start, start + 12)
        assert torch.equal(part.values, whole.values[start : start + 12])
        assert torch.equal(part.energy, whole.energy[start : start + 12])
        reel.forget(start + 12)


def test_loudness_and_voicing_are_those_of_the_compact_ears() -> None:
    speech = voice(long_voice(5.0))
    ours = Wav2Vec2Encoder(ALL, wav2vec2()).encode(speech, 24.0)
    torch.manual_seed(0)
    theirs = SpeechEncoder(SpeechConfig(width=32, depth=1)).encode(speech, 24.0)
    torch.testing.assert_close(ours.energy, theirs.energy, atol=1e-5, rtol=0)
    torch.testing.assert_close(ours.voiced, theirs.voiced, atol=1e-5, rtol=0)
    assert ours.loud == theirs.loud


def test_hallos_last_clip_is_filled_with_silence() -> None:
    ears = Wav2Vec2Encoder(replace(HALLO, pad_to=16), wav2vec2())
    samples = GOLDEN["signal"]
    features = ears.encode(voice(samples), 25.0)
    assert len(features.values) == len(features.energy) == 32
    mean, spread = samples.mean(), (samples.var(unbiased=False) + 1e-7).sqrt()
    filled = torch.cat([(samples - mean) / spread, torch.zeros(7 * 640)])
    with torch.inference_mode():
        heard = ears.network.feature_extractor(filled[None])
        rows = torch.nn.functional.interpolate(heard, 32, mode="linear", align_corners=True)
        hidden, _ = ears.network.feature_projection(rows.transpose(1, 2))
        wanted = ears.network.encoder(hidden).last_hidden_state[0]
    torch.testing.assert_close(features.values[:, -1], wanted, **WITHIN)


def test_larger_models_without_a_norm_over_time_work_too() -> None:
    shape = ABOUT["wav2vec2"]["config"] | {
        "feat_extract_norm": "layer", "do_stable_layer_norm": True, "conv_bias": True,
    }  # fmt: skip
    torch.manual_seed(0)
    network = build_network("wav2vec2", shape).eval().requires_grad_(False)
    samples = GOLDEN["signal"]
    features = Wav2Vec2Encoder(VEXPRESS, network).encode(voice(samples), 25.0)
    with torch.inference_mode():
        plain = network(GOLDEN["wav2vec2/input_values"]).last_hidden_state.transpose(1, 2)
    wanted = torch.nn.functional.interpolate(plain, 50, mode="linear", align_corners=False)[0].T
    torch.testing.assert_close(features.values[:, 0], wanted, **WITHIN)


def test_whisper_in_blocks_is_whisper_in_one(tmp_path: Path) -> None:
    """62 s: two full pieces and a rest; the floor hangs on the loudest spot of all, which lies in the last."""
    samples = long_voice(62.0)
    samples[60 * RATE :] *= 30.0
    padded = torch.nn.functional.pad(samples[None].double(), (200, 200), mode="reflect")[0]
    stft = torch.stft(padded, 400, 160, window=torch.hann_window(400).double(), center=False,
                      return_complex=True)[:, :-1]  # fmt: skip
    from transformers.audio_utils import mel_filter_bank

    filters = torch.from_numpy(
        mel_filter_bank(201, 80, 0.0, 8000.0, RATE, norm="slaney", mel_scale="slaney")
    )
    wanted = (filters.T @ stft.abs().square()).clamp(min=1e-10).log10()
    wanted = ((wanted.clamp(min=float(wanted.max()) - 8.0) + 4.0) / 4.0).float()
    parts = list(log_mel(voice(samples, block=4_321)))
    assert [p.shape[1] for p in parts] == [3000, 3000, 200]
    torch.testing.assert_close(torch.cat(parts, dim=1), wanted, **WITHIN)
    ears = WhisperEncoder(ECHOMIMIC, whisper())
    features = ears.encode(voice(samples), 24.0, store=tmp_path / "rows")
    assert features.values.shape == (3100, 5, 48)
    assert torch.equal(features.values, ears.encode(voice(samples), 24.0).values)
    assert (tmp_path / "rows").stat().st_size == 3100 * 5 * 48 * 4


def test_layers_that_the_network_has_not_are_refused() -> None:
    with pytest.raises(ValueError, match=r"3 blocks; layers is 12"):
        Wav2Vec2Encoder(replace(ALL, layers=12), wav2vec2())
    with pytest.raises(ValueError, match=r"5 layers"):
        WhisperEncoder(replace(ECHOMIMIC, layers=4), whisper())


# ------------------------------------------------------------------------------------------ loading


def folder(path: Path, kind: str, tensors: dict[str, Tensor]) -> Path:
    path.mkdir(exist_ok=True)
    shape = ABOUT[kind]["config"] | {"model_type": kind}
    (path / "config.json").write_text(json.dumps(shape))
    save_file(tensors, path / "model.safetensors")
    return path


def heard(ears: object, speech: Speech) -> Tensor:
    assert isinstance(ears, Wav2Vec2Encoder | WhisperEncoder)
    return ears.encode(speech, 25.0).values


def test_a_folder_of_transformers_loads_strictly_whatever_head_it_has(tmp_path: Path) -> None:
    plain = tensors_of("wav2vec2")
    whole = {f"wav2vec2.{n}": t for n, t in plain.items() if n != "masked_spec_embed"}
    whole["lm_head.weight"] = torch.zeros(3, 48)
    speech = voice(GOLDEN["signal"])
    ears = load_encoder(HALLO, folder(tmp_path / "a", "wav2vec2", whole))
    torch.testing.assert_close(heard(ears, speech), GOLDEN["wav2vec2/hallo_stacked"], **WITHIN)
    del whole["wav2vec2.encoder.layer_norm.bias"]
    with pytest.raises(UserError, match=r"does not fit.*encoder\.layer_norm\.bias"):
        load_encoder(HALLO, folder(tmp_path / "a", "wav2vec2", whole))


def openai(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Names of transformers to OpenAI's, written down anew."""
    named = {}
    for name, tensor in tensors.items():
        for theirs, ours in (
            ("layers.", "blocks."), ("self_attn.q_proj", "attn.query"), ("self_attn.k_proj", "attn.key"),
            ("self_attn.v_proj", "attn.value"), ("self_attn.out_proj", "attn.out"),
            ("self_attn_layer_norm", "attn_ln"), ("fc1", "mlp.0"), ("fc2", "mlp.2"),
            ("final_layer_norm", "mlp_ln"), ("embed_positions.weight", "positional_embedding"),
        ):  # fmt: skip
            name = name.replace(theirs, ours)
        if name.startswith("layer_norm"):
            name = name.replace("layer_norm", "ln_post")
        named[f"encoder.{name}"] = tensor
    return named | {"decoder.ln.weight": torch.zeros(48)}


def test_openais_file_and_transformers_folder_hear_the_same(tmp_path: Path) -> None:
    tensors = dict(whisper().state_dict())
    assert set(whisper_names(openai(tensors))) == set(tensors)
    sizes = {
        "n_mels": 80,
        "n_audio_ctx": 1500,
        "n_audio_state": 48,
        "n_audio_head": 4,
        "n_audio_layer": 4,
    }
    torch.save({"dims": sizes, "model_state_dict": openai(tensors)}, tmp_path / "tiny.pt")
    whole = {f"model.encoder.{n}": t for n, t in tensors.items()}
    whole["model.decoder.layer_norm.weight"] = torch.zeros(48)
    speech = voice(GOLDEN["signal"])
    for source in (tmp_path / "tiny.pt", folder(tmp_path / "b", "whisper", whole)):
        values = heard(load_encoder(ECHOMIMIC, source), speech)
        torch.testing.assert_close(values, GOLDEN["whisper/stacked"], **WITHIN)


def test_a_part_of_ours_keeps_the_stock_networks_shape(tmp_path: Path) -> None:
    ears = Wav2Vec2Encoder(VEXPRESS, wav2vec2())
    path = save_encoder(ears, replace(COMPACT, speech=VEXPRESS), tmp_path / "speech.safetensors")
    speech = voice(GOLDEN["signal"])
    assert torch.equal(heard(load_encoder(VEXPRESS, path), speech), heard(ears, speech))
    with pytest.raises(UserError, match="holds 'wav2vec2', this preset hears with 'whisper'"):
        load_encoder(ECHOMIMIC, path)


def test_a_missing_model_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EMO2_CACHE", str(tmp_path / "cache"))
    with pytest.raises(UserError, match=r"emo2 download wav2vec2.*config\.json and model\.safetensors of "
                       r"huggingface\.co/facebook/wav2vec2-base-960h into .*cache"):  # fmt: skip
        load_encoder(HALLO)
    with pytest.raises(UserError, match="holds a model of type 'wav2vec2', expected 'whisper'"):
        load_encoder(ECHOMIMIC, folder(tmp_path / "c", "wav2vec2", tensors_of("wav2vec2")))
    (tmp_path / "c" / "model.safetensors").write_bytes(b"cut")
    with pytest.raises(UserError, match="damaged or cut off"):
        load_encoder(HALLO, tmp_path / "c")


class Evil:
    def __reduce__(self) -> tuple[object, ...]:
        return (print, ("code ran",))


def test_code_in_a_pickle_never_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save({"dims": {}, "model_state_dict": Evil()}, tmp_path / "tiny.pt")
    with pytest.raises(UserError, match="more than tensors"):
        load_encoder(ECHOMIMIC, tmp_path / "tiny.pt")
    assert capsys.readouterr().out == ""


def test_the_compact_preset_never_imports_transformers() -> None:
    code = (
        "import sys; from emo2 import pipeline, speech; from emo2.config import COMPACT;"
        "speech.load_encoder(COMPACT.speech); print('transformers' in sys.modules)"
    )
    source = str(Path(__file__).parents[1] / "src")
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env={"PYTHONPATH": source}
    )
    assert run.stdout.strip() == "False", run.stderr
    assert isinstance(load_encoder(COMPACT.speech), SpeechEncoder)
