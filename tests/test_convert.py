"""Public weights to ours and back: every key, every layout of files, and a sentence for everything that is wrong."""

from __future__ import annotations

import dataclasses
import json
import pickle
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from emo2 import weights
from emo2.cli import main
from emo2.convert import families
from emo2.convert.golden import Golden, read
from emo2.convert.layouts import LAYOUTS
from emo2.convert.names import POSITIONS, table
from emo2.convert.sizes import fitted
from emo2.errors import UserError
from emo2.presets import PRESETS
from emo2.video.latent_load import read_stage, read_start
from emo2.video.network import VideoNetwork

FOLDER = Path(__file__).parent / "parity"
PROJECTS = [name.replace("-", "_") for name in LAYOUTS if name != "animatediff"]


@pytest.fixture(scope="module")
def echomimic() -> Golden:
    return read(FOLDER, "echomimic_v2")


@pytest.fixture
def published(tmp_path: Path, echomimic: Golden) -> Path:
    """EchoMimic v2's files at tiny size: the denoiser in three pieces, as pickles, tables of positions beside."""
    folder = tmp_path / "published"
    (folder / "unet").mkdir(parents=True)
    whole = echomimic.weights("denoising_unet")
    motion = {n: t for n, t in whole.items() if ".motion_modules." in n}
    motion |= {
        n: torch.zeros(s)
        for n, s in echomimic.shapes["denoising_unet"].items()
        if n.endswith(".pe")
    }
    plain = {n: t for n, t in whole.items() if n not in motion}
    attention = {n: t for n, t in plain.items() if ".attentions." in n}
    base = {n: t for n, t in plain.items() if ".attentions." not in n} | {
        n: torch.zeros(t.shape[0], 7) for n, t in plain.items() if n.endswith("attn2.to_k.weight")
    }
    save_file(base, folder / "unet" / "diffusion_pytorch_model.safetensors")
    torch.save({"state_dict": motion, "step": 7}, folder / "motion_module.pth")
    torch.save(attention, folder / "denoising_unet.pth")
    torch.save(echomimic.weights("reference_unet"), folder / "reference_unet.pth")
    torch.save(
        {f"module.{n}": t for n, t in echomimic.weights("pose_encoder").items()},
        folder / "pose_encoder.pth",
    )
    return folder


@pytest.mark.parametrize("project", PROJECTS)
def test_every_key_of_full_size_maps_and_none_is_left_over(project: str) -> None:
    keys = json.loads((FOLDER / "keys" / f"{project}.json").read_text())
    layout = LAYOUTS[project.replace("_", "-")]
    shapes = {
        ours: {key: tuple(told[0]) for key, told in keys[theirs].items()}
        for ours, theirs in layout.modules.items()
    }
    assert set(layout.modules.values()) == set(keys)
    preset = PRESETS[layout.name].video
    assert fitted(preset, shapes) == preset
    with torch.device("meta"):
        network = VideoNetwork(preset)
    names, tensors = table(network), network.state_dict()
    for module, there in shapes.items():
        weights_there = {n for n in there if not POSITIONS.search(n)}
        assert weights_there == set(names[module])
        assert {n: tuple(tensors[names[module][n]].shape) for n in weights_there} == {
            n: there[n] for n in weights_there
        }
    mapped = [ours for public in names.values() for ours in public.values()]
    assert sorted(mapped) == sorted(tensors)
    positions = families._positions(network, preset.denoiser.max_frames, FOLDER)
    assert {n: t.shape for n, t in positions.items()} == {
        n: s for n, s in shapes["denoiser"].items() if POSITIONS.search(n)
    }


def test_full_is_stable_diffusions_and_animatediffs_structure() -> None:
    with torch.device("meta"):
        network = VideoNetwork(PRESETS["full"].video)
    names = set(table(network)["denoiser"])
    keys = json.loads((FOLDER / "keys" / "animateanyone.json").read_text())["denoising_unet"]
    spatial = {
        n for n in keys if not POSITIONS.search(n) and "attn2" not in n and ".norm2." not in n
    }
    assert spatial <= names
    assert sum("motion_modules" in n for n in names) > 500
    assert sum(p.numel() for p in network.parameters()) > 2e9


def test_pieces_are_merged_and_come_back_as_they_were(
    tmp_path: Path, published: Path, echomimic: Golden
) -> None:
    ours = tmp_path / "ours.safetensors"
    assert main(["convert", str(published), "-o", str(ours)]) == 0
    facts = weights.facts_of(ours)
    assert "EchoMimicV2" in facts["source"]
    assert "Apache" in facts["licence"]
    tensors, config, _ = weights.load(ours, part="video")
    assert config.name == "echomimic-v2"
    assert config.video.denoiser.widths == (32, 64, 128, 128)
    VideoNetwork(config.video).load_state_dict(tensors, strict=True)
    back = tmp_path / "back"
    assert main(["convert", str(ours), "--to", "echomimic-v2", "-o", str(back)]) == 0
    for module in LAYOUTS["echomimic-v2"].modules.values():
        there, wanted = load_file(back / f"{module}.safetensors"), echomimic.weights(module)
        assert set(wanted) == {n for n in there if not n.endswith(".pe")}
        assert all(torch.equal(there[n], t) for n, t in wanted.items())
    assert sum(n.endswith(".pe") for n in load_file(back / "denoising_unet.safetensors")) == 42
    again = tmp_path / "again.safetensors"
    families.convert(back, again)
    assert torch.equal(
        load_file(again)["denoiser.conv_in.weight"], tensors["denoiser.conv_in.weight"]
    )


def test_hallos_one_file_is_read_by_its_prefixes_and_written_so(tmp_path: Path) -> None:
    hallo = read(FOLDER, "hallo")
    net = {f"{m}.{n}": t.half() for m in hallo.shapes for n, t in hallo.weights(m).items()}
    torch.save(net, tmp_path / "net.pth")
    ours = tmp_path / "ours.safetensors"
    families.convert(tmp_path / "net.pth", ours)
    assert load_file(ours)["face_tokens.proj.weight"].dtype == torch.float16
    made = families.convert_back(ours, "hallo", tmp_path / "back")
    there = load_file(made[0])
    assert {n for n in there if not n.endswith(".pe")} == set(net)
    assert all(torch.equal(there[n], t) for n, t in net.items())


def test_stable_diffusion_and_animatediff_become_a_start_and_come_back(tmp_path: Path) -> None:
    anyone = read(FOLDER, "animateanyone")
    whole = anyone.weights("denoising_unet")
    motion = {n: t for n, t in whole.items() if ".motion_modules." in n}
    base = {n: t for n, t in whole.items() if n not in motion}
    assert len(base) == 686
    (tmp_path / "unet").mkdir()
    save_file(base, tmp_path / "unet" / "diffusion_pytorch_model.safetensors")
    torch.save({"state_dict": motion}, tmp_path / "mm_sd_v15_v2.ckpt")
    ours = tmp_path / "ours.safetensors"
    families.convert(tmp_path, ours)
    tensors, config, _ = weights.load(ours)
    assert config.name == "animatediff"
    VideoNetwork(config.video).load_state_dict(tensors, strict=True)
    name = "down.0.0.spatial.context_attention.to_k.weight"
    assert torch.equal(tensors[f"reference.{name}"], tensors[f"denoiser.{name}"])
    with pytest.raises(UserError, match="tensors to begin training with"):
        read_stage(ours)
    stage, config = read_start(ours)
    assert (config.name, stage.config.family) == ("full", "full")
    mine = stage.state_dict()
    shared = [n for n, t in tensors.items() if n in mine and mine[n].shape == t.shape]
    assert all(torch.equal(mine[n], tensors[n]) for n in shared)
    assert {"self_attention", "temporal", "residual", "feed_forward"} <= {
        part for n in shared for part in n.split(".")
    }
    lost = {n for n in tensors if n not in shared}  # attention to text, and a reference's head
    assert all("context_" in n or n.startswith("reference.") for n in lost)
    families.convert_back(ours, "animatediff", tmp_path / "back")
    there = load_file(tmp_path / "back" / "diffusion_pytorch_model.safetensors")
    assert all(torch.equal(there[n], t) for n, t in base.items())
    moving = load_file(tmp_path / "back" / "mm_sd_v15_v2.safetensors")
    assert all(torch.equal(moving[n], t) for n, t in motion.items())


def test_the_accelerated_variant_takes_its_own_files_and_settings(
    tmp_path: Path, published: Path
) -> None:
    fast = torch.load(published / "denoising_unet.pth", weights_only=True)
    torch.save({n: t + 1 for n, t in fast.items()}, published / "denoising_unet_acc.pth")
    ours = tmp_path / "ours.safetensors"
    families.convert(published, ours, variant="acc")
    tensors, config, _ = weights.load(ours)
    assert (config.video.steps, config.video.guidance) == (6, 1.0)
    name = "down_blocks.0.attentions.0.proj_in.weight"
    assert torch.equal(tensors["denoiser.down.0.0.spatial.proj_in.weight"], fast[name] + 1)


def test_a_variant_that_is_not_there_is_refused_and_one_that_is_there_alone_is_named(
    tmp_path: Path, published: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = str(tmp_path / "ours.safetensors")
    said = sentence(capsys, str(published), "-o", out, "--variant", "acc")
    assert "no file of echomimic-v2 whose name ends in _acc" in said
    for stem in ("denoising_unet", "motion_module"):
        (published / f"{stem}.pth").rename(published / f"{stem}_acc.pth")
    said = sentence(capsys, str(published), "-o", out)
    assert "lacks denoising_unet" in said
    assert "or take --variant acc" in said
    assert main(["convert", str(published), "-o", out, "--variant", "acc"]) == 0


def test_missing_and_unexpected_keys_are_all_named(tmp_path: Path, published: Path) -> None:
    path = published / "pose_encoder.pth"
    tensors = torch.load(path, weights_only=True)
    tensors["module.odd"] = tensors.pop("module.conv_out.bias")
    torch.save(tensors, path)
    with pytest.raises(
        UserError, match=r"missing key: pose_encoder.conv_out.bias; 1 unexpected.*odd"
    ):
        families.convert(published, tmp_path / "ours.safetensors")
    assert not (tmp_path / "ours.safetensors").exists()


def sentence(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """What the command says when it leaves with code 2."""
    assert main(["convert", *arguments]) == 2
    return capsys.readouterr().err


def test_the_wrong_family_is_said(
    tmp_path: Path, published: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = str(tmp_path / "ours.safetensors")
    said = sentence(capsys, str(published), "-o", out, "--family", "musepose")
    assert "lacks pose_guider of musepose" in said
    assert "it looks like echomimic-v2" in said
    said = sentence(capsys, str(published), "-o", out, "--family", "hallo")
    assert "has no net of hallo" in said
    assert "it looks like echomimic-v2" in said
    shutil.copy(published / "pose_encoder.pth", published / "pose_guider.pth")
    said = sentence(capsys, str(published), "-o", out, "--family", "animateanyone")
    assert "missing key" in said
    assert "another family" in said


def test_a_pickle_with_code_inside_is_not_opened(
    tmp_path: Path, published: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    class Evil:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return eval, (f"open({str(tmp_path / 'ran')!r}, 'w').close()",)

    torch.save({"conv_in.weight": Evil()}, published / "pose_encoder.pth")
    said = sentence(capsys, str(published), "-o", str(tmp_path / "ours.safetensors"))
    assert "holds code beside its tensors" in said
    (published / "pose_encoder.pth").write_bytes(pickle.dumps({"x": Evil()}))
    said = sentence(capsys, str(published), "-o", str(tmp_path / "ours.safetensors"))
    assert "holds code beside its tensors" in said
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("name", ["reference_unet.pth", "unet/diffusion_pytorch_model.safetensors"])
def test_a_file_cut_off_is_said(
    tmp_path: Path, published: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = published / name
    path.write_bytes(path.read_bytes()[:-1000])
    said = sentence(capsys, str(published), "-o", str(tmp_path / "ours.safetensors"))
    assert "is cut off or no" in said


def test_a_missing_shard_is_named(
    tmp_path: Path, published: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = published / "unet" / "diffusion_pytorch_model.safetensors"
    tensors = load_file(path)
    path.unlink()
    names = sorted(tensors)
    shards = {"a.safetensors": names[::2], "b.safetensors": names[1::2]}
    for shard, held in shards.items():
        save_file({n: tensors[n] for n in held}, path.parent / shard)
    index = {"weight_map": {n: shard for shard, held in shards.items() for n in held}}
    path.with_name(f"{path.name}.index.json").write_text(json.dumps(index))
    families.convert(published, tmp_path / "ours.safetensors")
    (path.parent / "b.safetensors").unlink()
    said = sentence(capsys, str(published), "-o", str(tmp_path / "ours.safetensors"))
    assert "b.safetensors is not beside it" in said


def test_a_full_disk_is_said_before_anything_is_written(
    tmp_path: Path,
    published: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1000))
    out = tmp_path / "out"
    said = sentence(capsys, str(published), "-o", str(out / "ours.safetensors"))
    assert "free some space" in said
    assert not out.exists()


def test_other_sources_are_refused_in_a_sentence(
    tmp_path: Path, published: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = str(tmp_path / "ours.safetensors")
    assert "does not exist" in sentence(capsys, str(tmp_path / "nowhere"), "-o", out)
    empty = tmp_path / "empty"
    empty.mkdir()
    assert "no published weights" in sentence(capsys, str(empty), "-o", out)
    assert "give the folder" in sentence(capsys, str(published / "reference_unet.pth"), "-o", out)
    assert "unknown family" in sentence(capsys, str(published), "-o", out, "--family", "emo")
    assert "give SOURCE" in sentence(capsys)
    video = weights.ASSETS / "compact" / "video.safetensors"
    assert "no public family" in sentence(capsys, str(video), "--to", "hallo", "-o", out)


def test_golden_vectors_of_other_sizes_and_seeds_are_run_and_a_wrong_one_fails(
    tmp_path: Path, echomimic: Golden, capsys: pytest.CaptureFixture[str]
) -> None:
    """A folder whose `keys` give one shape each, whose cases store final outputs only and no inputs."""
    (tmp_path / "keys").mkdir()
    spec = {k: v for k, v in echomimic.spec.items() if k != "tensors"}
    case = dict(spec["cases"]["a"])
    case["inputs"] = {
        n: {k: v for k, v in told.items() if k != "sha256"} for n, told in case["inputs"].items()
    }
    case = case | {"frames": 2}
    case["inputs"]["latents"]["shape"] = [1, 4, 2, 8, 16]
    case["inputs"]["ref_latents"]["shape"] = [1, 4, 8, 16]
    case["inputs"]["audio"]["shape"] = [1, 2, 50, 48]
    case["inputs"]["pose"]["shape"] = [1, 3, 2, 64, 128]
    spec |= {"cases": {"z": case}, "seed": 9}
    keys = {m: {n: list(s) for n, s in told.items()} for m, told in echomimic.shapes.items()}
    (tmp_path / "echomimic_v2.json").write_text(json.dumps(spec))
    (tmp_path / "keys" / "echomimic_v2.json").write_text(json.dumps(keys))
    from emo2.convert.parity import Run, config_of, filled

    made = dataclasses.replace(echomimic, spec=spec, tensors={})
    network = filled(made, config_of(made), torch.float64)
    with torch.no_grad():
        output = Run(made, "z", network, torch.float64).output("out").float().contiguous()
    save_file({"z/out": output}, tmp_path / "echomimic_v2.safetensors")
    assert main(["convert", "--verify", str(tmp_path)]) == 0
    assert "echomimic_v2       z/out" in capsys.readouterr().out
    output[0, 0, 0, 0, 0] += 1e-3
    save_file({"z/out": output}, tmp_path / "echomimic_v2.safetensors")
    assert main(["convert", "--verify", str(tmp_path)]) == 1
    assert "FAILS" in capsys.readouterr().out
