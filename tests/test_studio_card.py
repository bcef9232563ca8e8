"""The dataset card beside a set of shards says what is in the folder, whoever wrote it and in whatever order."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

pytest.importorskip("anny", reason="the studio extra is not installed")

from emo2.errors import UserError
from emo2.studio.card import made_with, ranges, source, write_card
from emo2.studio.make import make_shards


def shard(folder: Path, seeds: list[int], **facts: object) -> Path:
    """A small file with a shard's header."""
    told = {"format": 2, "view": "face", "kind": "poses", "seeds": seeds, "labels": []}
    told["people"] = [{"gender": 0.1 * (s % 10), "age": 0.6, "look": "photo"} for s in seeds]
    told = {k: v for k, v in {**told, **facts}.items() if v is not None}
    path = folder / f"{told['view']}-{told['kind']}-{seeds[0]:07d}.safetensors"
    tensors = {"frames": np.zeros((len(seeds), 3, 3, 2, 2), np.uint8)}
    save_file(tensors, path, metadata={k: json.dumps(v) for k, v in told.items()})
    return path


def card(folder: Path) -> dict:
    return json.loads((folder / "card.json").read_text())


def test_workers_who_write_at_once_leave_one_true_card(tmp_path: Path) -> None:
    def work(first: int) -> None:
        for start in range(first, first + 12, 4):
            shard(tmp_path, list(range(start, start + 4)))
            write_card(tmp_path)

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(work, range(0, 72, 12)))
    told = card(tmp_path)
    assert told["people"] == 72
    assert told["frames"] == 72 * 4
    assert told["seeds"] == [[0, 71]]
    assert told["runs"][0]["commands"] == [
        "emo2 studio DIR --view face --kind poses --start 0 --people 72"
    ]
    assert not list(tmp_path.glob(".*.part"))


def test_the_card_tells_split_people_labels_and_licences(tmp_path: Path) -> None:
    assets = tmp_path / "skins and hair"
    assets.mkdir()
    (assets / "LICENSE.md").write_text("# CC0 1.0\n\nmore\n")
    (assets / "a.webp").write_bytes(b"12345")
    folder = tmp_path / "set"
    folder.mkdir()
    shard(folder, [0, 1, 5], assets=source(assets), made_with=made_with("llvmpipe"))
    shard(folder, [900_000, 900_001], labels=["depth"], fps=25.0, kind="takes")
    write_card(folder)
    told, text = card(folder), (folder / "README.md").read_text()
    assert told["split"] == {"training": 3, "held out": 2}
    assert told["seeds"] == [[0, 1], [5, 5], [900_000, 900_001]]
    assert told["who"]["sex"] == {"between": 1, "female": 4}
    assert told["who"]["look"] == {"photo": 5}
    assert told["assets"][0]["licence"] == "CC0 1.0"
    assert "--assets 'skins and hair' --start 5 --people 1" in text
    assert "--labels depth --start 900000 --people 2" in text
    assert "llvmpipe" in text
    assert "| `frames` | U8 3 x 3 x 2 x 2 |" in text
    assert told["runs"][1]["seconds"] == pytest.approx(2 * 3 / 25)


def test_old_and_broken_files_are_told_apart(tmp_path: Path) -> None:
    shard(tmp_path, [1, 2], format=1, people=None, labels=None)
    (tmp_path / "torn.safetensors").write_bytes(b"torn")
    write_card(tmp_path)
    told = card(tmp_path)
    assert told["people"] == told["not recorded"] == 2
    assert told["formats"] == [1]
    assert told["unreadable"] == ["torn.safetensors"]
    assert "torn.safetensors" in (tmp_path / "README.md").read_text()


def test_somebody_elses_readme_stays(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("mine")
    assert write_card(tmp_path).name == "CARD.md"
    assert (tmp_path / "README.md").read_text() == "mine"


def test_ranges_join_what_lies_side_by_side() -> None:
    assert ranges([7, 3, 4, 5, 9, 8]) == [[3, 5], [7, 9]]
    assert ranges([]) == []


def test_held_out_people_are_not_filmed_into_a_training_range(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="--held-out"):
        next(make_shards(tmp_path, seeds=range(899_990, 900_010)))
