"""Reading MANO's file: a made-up hand in the true layout, as a Python 2 pickle with chumpy and scipy, and as npz."""

from __future__ import annotations

import io
import os
import pickle
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import scipy.sparse
import torch

from emo2.hands import HandModel, load_hand, stand_in
from emo2.hands.mano import repair_left
from emo2.hands.model import MANO_TIPS, PARENTS


def made_up_hand() -> dict[str, np.ndarray]:
    """Random numbers in the shapes of the official file."""
    noise = np.random.default_rng(0)
    weights = noise.random((778, 16))
    regressor = noise.random((16, 778)) * (noise.random((16, 778)) < 0.02)
    tree = np.stack((np.array(PARENTS, np.int64), np.arange(16)))
    tree[0, 0] = 4294967295  # the official file writes the root's parent as an unsigned -1
    return {
        "v_template": noise.standard_normal((778, 3)) * 0.05,
        "shapedirs": noise.standard_normal((778, 3, 10)) * 1e-3,
        "posedirs": noise.standard_normal((778, 3, 135)) * 1e-4,
        "J_regressor": regressor / regressor.sum(1, keepdims=True),
        "weights": weights / weights.sum(1, keepdims=True),
        "kintree_table": tree,
        "f": noise.integers(0, 778, (1538, 3)).astype(np.uint32),
        "hands_components": noise.standard_normal((45, 45)),
        "hands_mean": noise.standard_normal(45) * 0.1,
    }


class Python2Pickler(pickle._Pickler):
    """Writes bytes as Python 2 wrote its str, and names as they were then."""

    dispatch: ClassVar = dict(pickle._Pickler.dispatch)

    def save_py2_str(self, value: bytes) -> None:
        self.write(b"T" + len(value).to_bytes(4, "little") + value)
        self.memoize(value)

    dispatch[bytes] = save_py2_str


def as_python2(data: object) -> bytes:
    buffer = io.BytesIO()
    Python2Pickler(buffer, protocol=2).dump(data)
    raw = buffer.getvalue().replace(b"cnumpy._core.multiarray\n", b"cnumpy.core.multiarray\n")
    return raw.replace(b"cscipy.sparse._csc\n", b"cscipy.sparse.csc\n")


@pytest.fixture
def chumpy() -> Iterator[types.SimpleNamespace]:
    """Classes under chumpy's names, only while the file is written."""

    class Ch:
        def __init__(self, **state: object) -> None:
            self.__dict__.update(state)

    class Select(Ch):
        pass

    modules = {n: types.ModuleType(n) for n in ("chumpy", "chumpy.ch", "chumpy.reordering")}
    Ch.__module__, Ch.__qualname__ = "chumpy.ch", "Ch"
    Select.__module__, Select.__qualname__ = "chumpy.reordering", "Select"
    modules["chumpy.ch"].Ch = Ch
    modules["chumpy.reordering"].Select = Select
    sys.modules.update(modules)
    yield types.SimpleNamespace(Ch=Ch, Select=Select)
    for name in modules:
        del sys.modules[name]


def official_layout(
    hand: dict[str, np.ndarray], chumpy: types.SimpleNamespace
) -> dict[str, object]:
    """shapedirs as a selection from a wider table, the template as a Ch, the regressor sparse by columns."""
    wide = np.concatenate((hand["shapedirs"], np.full((778, 3, 7), 9.0)), -1)
    picked = np.arange(wide.size).reshape(wide.shape)[..., :10]
    select = chumpy.Select(
        a=chumpy.Ch(x=wide, dirty=True), idxs=picked.ravel(), preferred_shape=(778, 3, 10)
    )
    return {
        **hand,
        "v_template": chumpy.Ch(x=hand["v_template"]),
        "shapedirs": select,
        "J_regressor": scipy.sparse.csc_matrix(hand["J_regressor"]),
        "bs_style": "lbs",
        "bs_type": "lrotmin",
    }


def require_equal_to(model: HandModel, hand: dict[str, np.ndarray]) -> None:
    assert model.is_mano
    assert model.tips == MANO_TIPS
    for ours, theirs in (
        (model.template, "v_template"), (model.shape_dirs, "shapedirs"), (model.pose_dirs, "posedirs"),
        (model.joint_regressor, "J_regressor"), (model.weights, "weights"), (model.faces, "f"),
        (model.mean_pose, "hands_mean"), (model.components, "hands_components"),
    ):  # fmt: skip
        assert np.allclose(ours.numpy(), hand[theirs], atol=1e-6), theirs


def test_the_official_pickle_loads_without_chumpy(
    tmp_path: Path, chumpy: types.SimpleNamespace
) -> None:
    hand = made_up_hand()
    raw = as_python2(official_layout(hand, chumpy))
    for name in ("chumpy", "chumpy.ch", "chumpy.reordering"):
        sys.modules[name] = None  # type: ignore[assignment]  # importing it now would fail
    path = tmp_path / "MANO_RIGHT.pkl"
    path.write_bytes(raw)
    model = load_hand(path)
    require_equal_to(model, hand)
    vertices, points = model.forward(torch.eye(3).expand(16, 3, 3), torch.zeros(10), torch.zeros(3))
    assert np.allclose(vertices.numpy(), hand["v_template"], atol=1e-5)
    assert torch.allclose(points[4], vertices[744])
    assert torch.allclose(points[20], vertices[671])


def test_a_pickle_of_today_without_chumpy_loads_too(tmp_path: Path) -> None:
    hand = made_up_hand()
    hand["J_regressor"] = scipy.sparse.csr_matrix(hand["J_regressor"])
    path = tmp_path / "MANO_RIGHT.pkl"
    path.write_bytes(pickle.dumps(hand))
    dense = {**hand, "J_regressor": hand["J_regressor"].toarray()}
    require_equal_to(load_hand(path), dense)


def test_an_npz_with_the_same_keys_loads(tmp_path: Path) -> None:
    hand = made_up_hand()
    np.savez(tmp_path / "MANO_RIGHT.npz", **hand)
    require_equal_to(load_hand(tmp_path / "MANO_RIGHT.npz"), hand)


class Attack:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, ("attacked",)


def test_a_pickle_that_names_anything_else_is_refused_and_not_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "MANO_RIGHT.pkl"
    path.write_bytes(pickle.dumps({**made_up_hand(), "bs_style": Attack()}))
    with pytest.raises(ValueError, match="mkdir"):
        load_hand(path)
    assert not (tmp_path / "attacked").exists()


@pytest.mark.parametrize(
    "name", [b"builtins\neval", b"builtins\ngetattr", b"numpy\nload", b"scipy\nio", b"emo2\nload"]
)
def test_dangerous_names_do_not_pass(tmp_path: Path, name: bytes) -> None:
    path = tmp_path / "MANO_RIGHT.pkl"
    path.write_bytes(b"\x80\x02c" + name + b"\n.")
    with pytest.raises(ValueError, match="no use for"):
        load_hand(path)


def test_a_file_that_is_not_a_hand_is_refused_in_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no hand model"):
        load_hand(tmp_path / "none.pkl")
    text = tmp_path / "text.pkl"
    text.write_text("hello")
    with pytest.raises(ValueError, match="not a readable hand model"):
        load_hand(text)
    hand = made_up_hand()
    np.savez(tmp_path / "a.npz", **{k: v for k, v in hand.items() if k != "weights"})
    with pytest.raises(ValueError, match="lacks 'weights'"):
        load_hand(tmp_path / "a.npz")
    np.savez(tmp_path / "b.npz", **{**hand, "weights": hand["weights"][:, :15]})
    with pytest.raises(
        ValueError, match=r"weights has the shape \(778, 15\), expected \(778, 16\)"
    ):
        load_hand(tmp_path / "b.npz")
    tree = hand["kintree_table"].copy()
    tree[0, 7] = 3
    np.savez(tmp_path / "c.npz", **{**hand, "kintree_table": tree})
    with pytest.raises(ValueError, match="another joint tree"):
        load_hand(tmp_path / "c.npz")


def test_the_left_file_is_refused_because_left_is_made_by_mirroring(tmp_path: Path) -> None:
    np.savez(tmp_path / "MANO_LEFT.npz", **made_up_hand())
    with pytest.raises(ValueError, match="MANO_RIGHT"):
        load_hand(tmp_path / "MANO_LEFT.npz")


def test_the_left_files_shape_directions_are_repaired_only_where_they_are_wrong() -> None:
    right = made_up_hand()["shapedirs"]
    true_left = right * np.array((-1.0, 1.0, 1.0))[:, None]
    assert np.allclose(repair_left(right.copy(), right), true_left)
    assert np.allclose(repair_left(true_left, right), true_left)


def test_the_stand_in_cannot_be_mistaken_for_mano() -> None:
    assert stand_in().name.count("not MANO") == 1
    assert stand_in().pose_dirs is None
