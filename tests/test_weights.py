"""Weights: they come back as they went, and anything else is refused in one sentence."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from emo2 import weights
from emo2.config import COMPACT
from emo2.errors import UserError


@pytest.fixture
def tensors() -> dict[str, torch.Tensor]:
    return {"weight": torch.randn(3, 4), "bias": torch.randn(3), "steps": torch.tensor([7])}


def test_tensors_config_and_facts_come_back(
    tmp_path: Path, tensors: dict[str, torch.Tensor]
) -> None:
    path = weights.save(tmp_path / "a.safetensors", tensors, COMPACT, part="video", step=12)
    loaded, config, facts = weights.load(path, part="video")
    assert set(loaded) == set(tensors)
    assert all(torch.equal(loaded[name], tensors[name]) for name in tensors)
    assert config == COMPACT
    assert facts["step"] == "12"


def test_half_precision_is_loaded_as_float32(
    tmp_path: Path, tensors: dict[str, torch.Tensor]
) -> None:
    path = weights.save(
        tmp_path / "a.safetensors", tensors, COMPACT, part="video", dtype=torch.float16
    )
    loaded, _, _ = weights.load(path)
    assert loaded["weight"].dtype == torch.float32
    assert loaded["steps"].dtype == torch.int64
    assert torch.allclose(loaded["weight"], tensors["weight"], atol=1e-2)


def test_a_failed_save_leaves_nothing_behind(
    tmp_path: Path, tensors: dict[str, torch.Tensor]
) -> None:
    taken = tmp_path / "a.safetensors"
    taken.mkdir()
    with pytest.raises(OSError, match="directory"):
        weights.save(taken, tensors, COMPACT, part="video")
    assert list(tmp_path.iterdir()) == [taken]


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"nothing\.safetensors is not there"):
        weights.load(tmp_path / "nothing.safetensors")


@pytest.mark.parametrize("content", [b"", b"no weights at all", b"\xff" * 64])
def test_a_file_of_something_else_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.safetensors"
    path.write_bytes(content)
    with pytest.raises(UserError, match="damaged or no safetensors"):
        weights.load(path)


def test_a_cut_off_file_is_refused(tmp_path: Path, tensors: dict[str, torch.Tensor]) -> None:
    path = weights.save(tmp_path / "a.safetensors", tensors, COMPACT, part="video")
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(UserError, match="damaged"):
        weights.load(path)


def test_foreign_safetensors_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    save_file({"x": torch.zeros(1)}, path)
    with pytest.raises(UserError, match="not written by emo2"):
        weights.load(path)


def test_the_wrong_part_is_refused(tmp_path: Path, tensors: dict[str, torch.Tensor]) -> None:
    path = weights.save(tmp_path / "a.safetensors", tensors, COMPACT, part="finder")
    with pytest.raises(UserError, match="holds the part 'finder', but 'video'"):
        weights.load(path, part="video")


def test_a_newer_format_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    save_file(
        {"x": torch.zeros(1)}, path, metadata={"format": "99", "part": "video", "config": "{}"}
    )
    with pytest.raises(UserError, match="format 99"):
        weights.load(path)


def test_a_config_with_an_unknown_field_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    config = json.dumps(asdict(COMPACT) | {"colour": "green"})
    save_file(
        {"x": torch.zeros(1)}, path, metadata={"format": "1", "part": "video", "config": config}
    )
    with pytest.raises(UserError, match="colour"):
        weights.load(path)


def test_an_unknown_preset_names_the_known_ones() -> None:
    with pytest.raises(UserError, match=r"unknown preset 'grand'; give one of .*compact"):
        weights.path_of("grand", "video")


def test_networks_are_filled_strictly(tmp_path: Path) -> None:
    module = torch.nn.Linear(4, 3)
    with pytest.raises(UserError, match="does not fit"):
        weights.fill(module, {"weight": torch.zeros(3, 4)}, tmp_path / "a.safetensors")
    weights.fill(module, {"weight": torch.zeros(3, 4), "bias": torch.ones(3)}, tmp_path)
    assert float(module.bias.sum().detach()) == 3.0
