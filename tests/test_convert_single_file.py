"""Stable Diffusion as one file, and a disk that fills while a file is written."""

from __future__ import annotations

import re
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from emo2.cli import main
from emo2.config import CodecConfig
from emo2.convert import families
from emo2.convert.golden import Golden, read
from emo2.convert.single_file import PREFIX, unet_name
from emo2.errors import UserError
from emo2.video.sd_vae import STABLE_DIFFUSION, build_vae, load_vae, vae_names

PARITY = Path(__file__).parent / "parity"


@pytest.fixture(scope="module")
def anyone() -> Golden:
    return read(PARITY, "animateanyone")


@pytest.fixture(scope="module")
def weights(anyone: Golden) -> dict[str, Tensor]:
    return anyone.weights("denoising_unet")


def latent_diffusions(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """diffusers' names to latent diffusion's, written down from the layout: layer by layer, counted through."""
    places = {"conv_in.": "input_blocks.0.0.", "conv_norm_out.": "out.0.", "conv_out.": "out.2."}
    places |= {f"time_embedding.linear_{i}.": f"time_embed.{2 * (i - 1)}." for i in (1, 2)}
    places |= {"mid_block.resnets.0.": "middle_block.0.", "mid_block.resnets.1.": "middle_block.2."}
    places["mid_block.attentions.0."] = "middle_block.1."
    for level in range(4):
        for layer in range(2):
            place = f"input_blocks.{1 + 3 * level + layer}"
            places[f"down_blocks.{level}.resnets.{layer}."] = f"{place}.0."
            places[f"down_blocks.{level}.attentions.{layer}."] = f"{place}.1."
        places[f"down_blocks.{level}.downsamplers.0.conv."] = f"input_blocks.{3 * level + 3}.0.op."
        for layer in range(3):
            place = f"output_blocks.{3 * level + layer}"
            places[f"up_blocks.{level}.resnets.{layer}."] = f"{place}.0."
            places[f"up_blocks.{level}.attentions.{layer}."] = f"{place}.1."
        last = 1 if level == 0 else 2  # the first level up has no attention
        places[f"up_blocks.{level}.upsamplers.0.conv."] = (
            f"output_blocks.{3 * level + 2}.{last}.conv."
        )
    inside = {"norm1": "in_layers.0", "conv1": "in_layers.2", "time_emb_proj": "emb_layers.1",
              "norm2": "out_layers.0", "conv2": "out_layers.3", "conv_shortcut": "skip_connection"}  # fmt: skip
    named = {}
    for name, tensor in tensors.items():
        start = max((p for p in places if name.startswith(p)), key=len)
        rest = name.removeprefix(start)
        if ".resnets." in start:
            rest = re.sub(r"^\w+(?=\.)", lambda m: inside[m[0]], rest)
        named[PREFIX + places[start] + rest] = tensor
    return named


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, weights: dict[str, Tensor]) -> Path:
    """One file with all that Stable Diffusion's has, and AnimateDiff's beside it."""
    made = tmp_path_factory.mktemp("sd")
    motion = {n: t for n, t in weights.items() if ".motion_modules." in n}
    whole = latent_diffusions({n: t for n, t in weights.items() if n not in motion})
    whole |= {
        "first_stage_model.encoder.conv_in.bias": torch.zeros(4),
        "cond_stage_model.transformer.text_model.final_layer_norm.bias": torch.zeros(4),
        "model_ema.decay": torch.zeros(()),
        "betas": torch.zeros(1000),
    }
    torch.save({"state_dict": whole}, made / "v1-5-pruned-emaonly.ckpt")
    torch.save({"state_dict": motion}, made / "mm_sd_v15_v2.ckpt")
    return made


@pytest.mark.parametrize("name", ["", "v1-5-pruned-emaonly.ckpt"])
def test_the_one_file_becomes_what_diffusers_folder_becomes(
    tmp_path: Path, folder: Path, weights: dict[str, Tensor], name: str
) -> None:
    ours = tmp_path / "ours.safetensors"
    found = families.convert(folder / name, ours)
    assert [path.name for path in found.files] == ["v1-5-pruned-emaonly.ckpt", "mm_sd_v15_v2.ckpt"]
    families.convert_back(ours, "animatediff", tmp_path / "back")
    back = {n: t for p in (tmp_path / "back").iterdir() for n, t in load_file(p).items()}
    assert {n for n in back if not n.endswith(".pe")} == set(weights)
    assert all(torch.equal(back[n], t) for n, t in weights.items())


def test_names_are_those_of_diffusers_converter(weights: dict[str, Tensor]) -> None:
    from diffusers.loaders.single_file_utils import convert_ldm_unet_checkpoint

    plain = {n: t for n, t in weights.items() if ".motion_modules." not in n}
    whole = latent_diffusions(plain)
    config = {"class_embed_type": None, "addition_embed_type": None, "layers_per_block": 2}
    theirs = convert_ldm_unet_checkpoint(dict(whole), config)
    ours = {unet_name(n.removeprefix(PREFIX)): t for n, t in whole.items()}
    assert set(ours) == set(theirs) == set(plain)
    assert len(ours) == 686
    assert all(ours[n] is t for n, t in theirs.items())


def test_without_the_motion_module_the_sentence_says_where_it_is(
    tmp_path: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    alone = tmp_path / "sd.ckpt"
    alone.write_bytes((folder / "v1-5-pruned-emaonly.ckpt").read_bytes())
    assert main(["convert", str(alone), "-o", str(tmp_path / "ours.safetensors")]) == 2
    said = capsys.readouterr().err
    assert "Stable Diffusion 1.5 in one file; put AnimateDiff's mm_sd_v15_v2" in said
    assert [path.name for path in tmp_path.iterdir()] == ["sd.ckpt"]


def test_a_part_that_is_missing_in_the_one_file_is_named(
    tmp_path: Path, weights: dict[str, Tensor], capsys: pytest.CaptureFixture[str]
) -> None:
    whole = latent_diffusions({n: t for n, t in weights.items() if ".motion_modules." not in n})
    whole[f"{PREFIX}output_blocks.2.1.odd.weight"] = whole.pop(
        f"{PREFIX}output_blocks.2.1.conv.weight"
    )
    save_file(whole, tmp_path / "sd.safetensors")
    motion = {n: t for n, t in weights.items() if ".motion_modules." in n}
    save_file(motion, tmp_path / "mm_sd_v15_v2.safetensors")
    assert main(["convert", str(tmp_path), "-o", str(tmp_path / "ours.safetensors")]) == 2
    assert "up_blocks.0.upsamplers.0.conv.weight" in capsys.readouterr().err


def test_the_autoencoder_is_read_from_the_same_file(tmp_path: Path) -> None:
    """Names alone: a whole Stable Diffusion's file has schedules and two other networks beside it."""
    with torch.device("meta"):
        names = set(build_vae(STABLE_DIFFUSION).state_dict())
    small = {f"first_stage_model.{n}": torch.zeros(1, 1) for n in names}
    small |= {"betas": torch.zeros(3), "model.diffusion_model.out.2.bias": torch.zeros(4)}
    assert set(vae_names(small)) == names
    save_file({"betas": torch.zeros(3)}, tmp_path / "sd.safetensors")
    with pytest.raises(UserError, match="does not fit"):
        load_vae(CodecConfig(kind="sd"), tmp_path / "sd.safetensors")


@contextmanager
def files_up_to(size: int) -> Iterator[None]:
    """No file may grow beyond that many bytes: writing fails in the middle, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_disk_that_fills_while_writing_leaves_one_sentence_and_nothing_else(
    tmp_path: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "new" / "deep" / "ours.safetensors"
    with files_up_to(300_000):
        assert main(["convert", str(folder), "-o", str(out)]) == 2
    said = capsys.readouterr().err
    assert "ours.safetensors grew larger than a file may be" in said
    assert len(said.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_fills_at_the_second_file_takes_the_first_away(
    tmp_path: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ours = tmp_path / "ours.safetensors"
    families.convert(folder, ours)
    back = tmp_path / "back"
    families.convert_back(ours, "animatediff", back)
    sizes = [p.stat().st_size for p in sorted(back.iterdir(), key=lambda p: p.name != "mm_sd_v15_v2.safetensors")]  # fmt: skip
    assert sizes[0] < sizes[1]  # in order of writing
    with files_up_to(sum(sizes) // 2):
        again = tmp_path / "again"
        assert main(["convert", str(ours), "--to", "animatediff", "-o", str(again)]) == 2
        assert main(["convert", str(ours), "--to", "animatediff", "-o", str(back)]) == 2
    assert "grew larger" in capsys.readouterr().err
    assert not again.exists()
    assert [p.stat().st_size for p in sorted(back.iterdir(), key=lambda p: p.name != "mm_sd_v15_v2.safetensors")] == sizes  # fmt: skip
