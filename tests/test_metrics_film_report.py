"""`emo2 evaluate film` on films made here: a talking jaw whose voice, lag and truth are known."""

from __future__ import annotations

import json
import wave
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from test_metrics_film import opened, person, signals, write_film
from test_metrics_networks import MeanColour, Peaks, as_script

from emo2 import pipeline
from emo2.metrics.figures import Reading
from emo2.metrics.film_networks import WITH_NETWORKS, available, set_distance
from emo2.metrics.film_own import OWN
from emo2.metrics.film_report import METRICS, evaluate_film, joined
from emo2.metrics.frechet import Moments, distance, moments
from emo2.metrics.inputs import Inputs, Item
from emo2.metrics.measuring import Measured
from emo2.metrics.networks import NetworkFolder
from emo2.portrait.stage import PortraitFinder
from emo2.signals import Portrait

__all__ = ["person"]
FRAMES = 36
LATE = 3


@pytest.fixture(scope="module")
def finder() -> PortraitFinder:
    return pipeline.load("compact").finder


def write_voice(path: Path, loudness: torch.Tensor) -> Path:
    """Noise whose level follows 0..1 from -60 to 0 dB, 25 values a second."""
    level = np.repeat(10 ** ((60 * loudness.numpy() - 60) / 20), 640)
    noise = np.random.default_rng(0).uniform(-1, 1, len(level))
    with wave.open(str(path), "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(16_000)
        out.writeframes((noise * level * 32767).astype("<i2").tobytes())
    return path


@pytest.fixture(scope="module")
def report(person: Portrait, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict, Path, Inputs]:
    """Two talking films that come three frames late, the first its own truth, with small networks."""
    folder = tmp_path_factory.mktemp("films")
    items = []
    for seed in (1, 2):
        wish = signals(FRAMES, seed)
        wish = (wish - wish.min()) / (wish.max() - wish.min())
        voice = write_voice(folder / f"{seed}.wav", 0.4 + 0.5 * wish)
        late = torch.cat([wish[:1].expand(LATE), wish[:-LATE]])
        frames = [
            ((opened(person, 8 * float(w)).permute(1, 2, 0).numpy() + 1) * 127.5).round().clip(0, 255).astype(np.uint8)
            for w in late
        ]  # fmt: skip
        film = write_film(folder / f"{seed}.mkv", frames, 25)
        truth = film if seed == 1 else None  # the second is measured without one
        items.append(Item(name=str(seed), generated=(film,), truth=truth, voice=voice))
    (folder / "1.phones").write_text("0.2 0.3 B\n0.8 1.0 AA1\n")
    networks = folder / "networks"
    networks.mkdir()
    as_script(MeanColour(), networks / "inception-2015-12-05.pt")
    as_script(Peaks(), networks / "dw-ll_ucoco_384.pt")
    spare = folder / "spare.mkv"
    spare.write_bytes(items[1].generated[0].read_bytes())
    inputs = Inputs(items=tuple(items), truths=(*items[0].generated, spare))
    list(evaluate_film(inputs, folder / "report", command="test", networks=networks))
    return json.loads((folder / "report" / "report.json").read_text()), folder, inputs


def test_a_film_that_comes_late_reports_its_frames(report: tuple[dict, Path, Inputs]) -> None:
    metrics = report[0]["metrics"]
    assert metrics["mouth_voice_lag"]["value"] == pytest.approx(LATE, abs=0.5)
    assert metrics["mouth_voice_lag"]["n"] == 2


def test_a_film_against_itself_is_perfect_and_a_held_frame_is_not(
    report: tuple[dict, Path, Inputs],
) -> None:
    metrics = report[0]["metrics"]
    assert metrics["psnr"]["value"] == 100
    assert metrics["psnr"]["beside"]["plus 48.13"] == pytest.approx(148.13, abs=0.01)
    assert metrics["psnr"]["control"] < 60  # the new demo photo is wider, so less of it moves
    assert metrics["ssim"]["value"] == pytest.approx(1)
    assert metrics["mouth_mouth_r"]["value"] == pytest.approx(1)
    assert metrics["mouth_mouth_r"]["control"] < 0.7
    assert metrics["psnr"]["n"] == 1
    assert metrics["flicker"]["n"] == 2
    assert metrics["sharpness_change"]["value"] == pytest.approx(1, abs=0.1)
    assert metrics["identity_drift"]["value"] < 3
    assert metrics["lip_closure"]["n"] == metrics["open_vowel"]["n"] == 1


def test_networks_that_are_there_give_figures_and_the_others_none(
    report: tuple[dict, Path, Inputs],
) -> None:
    metrics = report[0]["metrics"]
    # every fifth of 36 frames: two generated films, one true film and one more that nothing was generated for
    assert (metrics["fid"]["n"], metrics["fid"]["beside"]["true rows"]) == (16, 16)
    assert 0 <= metrics["fid"]["value"] < 1
    assert "true: spare" not in metrics["flicker"]["per_item"]
    assert metrics["hkc"]["value"] == pytest.approx(0.8)
    assert metrics["hkv"]["value"] == pytest.approx(0)
    assert {"fvd", "csim", "sync_c", "lpips", "e_fid"} & set(metrics) == set()
    text = (report[1] / "report" / "report.md").read_text()
    assert "left out: fvd, lpips, sync_c, sync_d, csim, f_sim, e_fid" in text
    assert "inception-2015-12-05.pt" in text


def test_what_was_measured_is_not_measured_again(report: tuple[dict, Path, Inputs]) -> None:
    _, folder, inputs = report
    events: Iterator = evaluate_film(
        inputs, folder / "report", command="test", networks=folder / "networks"
    )
    progress = [e for e in events if e.kind == "progress"]
    assert [(e.done, e.total) for e in progress] == [(3, 3)]


def test_every_metric_says_itself() -> None:
    names = [m.name for m in METRICS]
    assert len(set(names)) == len(names)
    assert [
        m.name for m in METRICS if not m.definition or (m.conclude is None) == (m.read is None)
    ] == []
    assert [m.name for m in OWN if m.read is None and m.rows is None] == []


def test_several_films_of_one_item_count_as_their_mean() -> None:
    def sample(value: float, rows: int) -> Measured:
        reading = Reading(value=value, control=1.0, weight=2.0, beside={"seconds": value})
        return Measured(
            name="x",
            readings={"flicker": reading},
            rows={"fid": {"generated": np.full((rows, 2), value), "truth": np.zeros((3, 2))}},
        )

    both = joined([sample(1.0, 2), sample(3.0, 4)])
    assert both.readings["flicker"] == Reading(
        value=2.0, control=1.0, weight=2.0, beside={"seconds": 2.0}
    )
    assert both.rows["fid"]["generated"].tolist() == [[1.0, 1.0]] * 2 + [[3.0, 3.0]] * 4
    assert both.rows["fid"]["truth"].shape == (3, 2)  # once
    alone = joined([sample(1.0, 2)])
    assert alone.readings == sample(1.0, 2).readings


def test_new_weights_are_a_new_measure(tmp_path: Path) -> None:
    assert available(NetworkFolder(tmp_path)) == ()
    (tmp_path / "i3d_torchscript.pt").write_bytes(b"a")
    (first,) = available(NetworkFolder(tmp_path))
    (tmp_path / "i3d_torchscript.pt").write_bytes(b"b")
    (second,) = available(NetworkFolder(tmp_path))
    assert (first.name, second.name) == ("fvd", "fvd")
    assert first.version != second.version


@pytest.mark.parametrize("name", ["fid", "fvd", "e_fid"])
def test_a_sample_too_small_for_a_distance_is_warned_of(name: str) -> None:
    fid = next(m for m in WITH_NETWORKS if m.name == name)
    rng = np.random.default_rng(0)
    rows = {
        str(i): {"generated": rng.standard_normal((20, 8)), "truth": rng.standard_normal((20, 8))}
        for i in range(4)
    }
    figure = set_distance(fid, rows, 0)
    assert figure is not None
    assert figure.n == 80
    assert figure.ci is not None
    assert any("no difference" in w for w in figure.warnings)
    shifted = {n: {"generated": r["generated"] + 3, "truth": r["truth"]} for n, r in rows.items()}
    far = set_distance(fid, shifted, 0)
    assert far is not None
    assert far.value == pytest.approx(8 * 9, rel=0.2)
    assert far.warnings == ("4 items only: the interval is too narrow",)
    assert far.ci is not None
    true = moments(torch.from_numpy(r["truth"]) for r in rows.values())
    endless = Moments(
        count=1, mean=torch.full((8,), 3.0).double(), covariance=torch.eye(8).double()
    )
    assert far.ci[0] < distance(endless, true) < far.ci[1]
    twice = {n: {**r, "truth": rows["0"]["truth"]} for n, r in rows.items()}
    once = set_distance(fid, twice, 0)
    assert once is not None
    assert once.beside["true rows"] == 20  # one true film, four generated for it
    few = set_distance(fid, {"a": {n: r[:5] for n, r in rows["0"].items()}}, 0)
    assert few is not None
    assert any("full rank" in w for w in few.warnings)
    assert any("draws its rows" in w for w in few.warnings)
    assert few.ci is not None
    assert Reading(value=1).control is None
