"""Reports: items are found and paired, nothing is measured twice, intervals cover, and the files say what they must."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from emo2.errors import UserError
from emo2.generate import Event
from emo2.metrics.evaluation import evaluate
from emo2.metrics.figures import (
    Figure,
    Metric,
    Reading,
    above_interval,
    bootstrap_mean,
    bootstrap_of,
    mean_figure,
)
from emo2.metrics.inputs import Item, find_inputs, named_apart
from emo2.metrics.measuring import Measured, read_all
from emo2.metrics.report import Report, as_markdown, short, write_report


def write(path: Path, text: str = "1") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def find(folder: Path, truth: Path | None = None, voices: Path | None = None) -> tuple[Item, ...]:
    return find_inputs(folder, truth, voices, suffixes=(".txt",), what="text").items


def test_files_pair_by_stem_and_samples_stay_together(tmp_path: Path) -> None:
    for name in ("made/a@0.txt", "made/a@1.txt", "made/b.txt", "made/c/x.txt", "made/c/y.txt"):
        write(tmp_path / name)
    true, voice = write(tmp_path / "true/a.txt"), write(tmp_path / "voices/b.wav")
    items = {i.name: i for i in find(tmp_path / "made", tmp_path / "true", tmp_path / "voices")}
    assert sorted(items) == ["a", "b", "c"]
    assert [p.name for p in items["a"].generated] == ["a@0.txt", "a@1.txt"]
    assert [p.name for p in items["c"].generated] == ["x.txt", "y.txt"]
    assert (items["a"].truth, items["b"].truth) == (true, None)
    assert items["b"].voice == voice
    inputs = find_inputs(
        tmp_path / "made", tmp_path / "true", None, suffixes=(".txt",), what="text"
    )
    assert inputs.notes[0].startswith("2 of 3 have no truth of the same stem (b, c)")


def test_true_files_of_one_stem_from_two_folders_are_both_kept(tmp_path: Path) -> None:
    paths = [write(tmp_path / f"{n}/take.txt") for n in "abc"]
    named = named_apart(paths, "truth/")
    assert list(named) == ["truth/take", "truth/take (2)", "truth/take (3)"]
    assert list(named.values()) == paths


def test_phones_beside_a_file_belong_to_it(tmp_path: Path) -> None:
    voice = write(tmp_path / "voices/a.wav")
    write(tmp_path / "made/a.txt")
    (item,) = find(tmp_path / "made", voices=tmp_path / "voices")
    assert [p.name for p in item.files] == ["a.txt", "a.wav"]
    write(voice.with_suffix(".phones"))
    assert [p.name for p in item.files] == ["a.txt", "a.wav", "a.phones"]


def test_one_file_against_one_file_needs_no_equal_names(tmp_path: Path) -> None:
    made, true = write(tmp_path / "made.txt"), write(tmp_path / "other.txt")
    assert find(made, true)[0].truth == true


@pytest.mark.parametrize("kind", ["csv", "json"])
def test_a_manifest_says_the_pairs_itself(tmp_path: Path, kind: str) -> None:
    for name in ("x/1.txt", "y/2.txt", "z.wav"):
        write(tmp_path / name)
    rows = [{"generated": "x/1.txt", "truth": "y/2.txt", "voice": "z.wav", "name": "one"}]
    text = (
        json.dumps(rows)
        if kind == "json"
        else "generated,truth,voice,name\nx/1.txt,y/2.txt,z.wav,one\n"
    )
    (item,) = find(write(tmp_path / f"pairs.{kind}", text))
    assert item.name == "one"
    assert [p.name for p in item.files] == ["1.txt", "2.txt", "z.wav"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("generated,film\na.txt,b\n", "column 'film'"),
        ("truth\na.txt\n", "no 'generated' file"),
        ("generated\nmissing.txt\n", "missing.txt does not exist"),
        ("generated\na.txt\na.txt\n", "'a' twice"),
        ("", "no list of pairs"),
    ],
)
def test_a_faulty_manifest_is_named(tmp_path: Path, text: str, said: str) -> None:
    write(tmp_path / "a.txt")
    with pytest.raises(UserError, match=said):
        find(write(tmp_path / "pairs.csv", text))


def test_wrong_inputs_are_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="does not exist"):
        find(tmp_path / "nothing")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="holds no text files"):
        find(tmp_path / "empty")
    with pytest.raises(UserError, match="is no text file"):
        find(write(tmp_path / "a.png"))
    write(tmp_path / "twice/a.txt")
    write(tmp_path / "twice/a.TXT")
    with pytest.raises(UserError, match="twice"):
        find(tmp_path / "twice")


def length(path: Path) -> Reading:
    return Reading(value=float(path.read_text()), control=1.0, beside={"double": 2.0})


def rows(path: Path) -> dict[str, np.ndarray]:
    return {"made": np.full((3, 2), float(path.read_text()))}


def all_rows(metric: Metric, by_item: dict, seed: int) -> Figure:
    made = np.concatenate([r["made"] for r in by_item.values()])
    return Figure(
        name=metric.name, value=float(made.mean()), unit=metric.unit, n=len(made), ci=(0.0, 9.0)
    )


LENGTH = Metric(name="length", unit="m", definition="how long", control="nothing", read=length)
SPREAD = Metric(name="spread", unit="m", definition="rows", rows=rows, conclude=all_rows)


def measure(item: Item, log: Path) -> Measured:
    with log.open("a") as file:
        file.write(item.name + "\n")
    return read_all(item, item.generated[0], (LENGTH, SPREAD))


def run(folder: Path, output: Path, log: Path, *, jobs: int = 1, seed: int = 0) -> list[Event]:
    inputs = find_inputs(folder, None, None, suffixes=(".txt",), what="text")
    measure_one = partial(measure, log=log)
    made = evaluate(
        inputs, output, (LENGTH, SPREAD), measure_one, title="T", command="emo2 x", jobs=jobs, seed=seed
    )  # fmt: skip
    return list(made)


def test_the_report_has_the_agreed_form(tmp_path: Path) -> None:
    for i in range(6):
        write(tmp_path / f"made/{i}.txt", str(i))
    events = run(tmp_path / "made", tmp_path / "report", tmp_path / "log")
    assert events[-1].kind == "done"
    found = json.loads((tmp_path / "report/report.json").read_text())
    assert set(found) == {"metrics", "command", "versions"}
    assert found["command"] == "emo2 x"
    assert {"emo2", "python", "torch", "numpy"} <= set(found["versions"])
    figure = found["metrics"]["length"]
    assert (figure["value"], figure["unit"], figure["n"], figure["control"]) == (2.5, "m", 6, 1.0)
    low, high = figure["ci"]
    assert 0 < low < 2.5 < high < 5
    assert figure["minus_control"][0] == 1.5
    assert found["metrics"]["spread"]["value"] == 2.5
    table = (tmp_path / "report/report.md").read_text()
    assert "| `length` | 2.500 |" in table
    page = (tmp_path / "report/report.html").read_text()
    assert page.count("<svg") == 2
    assert "<script" not in page
    assert "http" not in page


def test_what_was_measured_is_kept_and_only_changes_are_measured(tmp_path: Path) -> None:
    for i in range(3):
        write(tmp_path / f"made/{i}.txt", str(i))
    first = run(tmp_path / "made", tmp_path / "report", tmp_path / "log")
    with (tmp_path / "report/items.jsonl").open("a") as file:
        file.write('{"key": "cut off by a ki')
    write(tmp_path / "made/1.txt", "10")
    second = run(tmp_path / "made", tmp_path / "report", tmp_path / "log")
    assert (tmp_path / "log").read_text().split() == ["0", "1", "2", "1"]
    assert any("2 of 3 were measured before" in e.text for e in second)
    assert not any("measured before" in e.text for e in first)
    found = json.loads((tmp_path / "report/report.json").read_text())["metrics"]
    assert found["length"]["value"] == found["spread"]["value"] == 4.0
    run(tmp_path / "made", tmp_path / "report", tmp_path / "log", seed=1)
    assert (
        len((tmp_path / "log").read_text().split()) == 4
    )  # another seed draws, it does not measure


def measure_slowly(item: Item, log: Path) -> Measured:
    time.sleep(0.3 * int(item.name))
    with log.open("a") as file:
        file.write(f"{os.getpid()}\n")
    return read_all(item, item.generated[0], (LENGTH, SPREAD))


def run_slowly(folder: Path) -> None:
    """What the killed process of the next test runs."""
    inputs = find_inputs(folder / "made", None, None, suffixes=(".txt",), what="text")
    slow = partial(measure_slowly, log=folder / "pids")
    list(
        evaluate(inputs, folder / "report", (LENGTH, SPREAD), slow, title="T", command="x", jobs=2)
    )


def test_a_killed_run_leaves_no_process_behind_and_goes_on_where_it_was(tmp_path: Path) -> None:
    for i in (0, 1, 50, 60):
        write(tmp_path / f"made/{i}.txt", "2")
    script = tmp_path / "run.py"
    script.write_text(
        "import sys\nfrom pathlib import Path\n"
        "from test_metrics_report import run_slowly\n"
        "if __name__ == '__main__':\n    run_slowly(Path(sys.argv[1]))\n"
    )
    path = os.pathsep.join([str(Path(__file__).parent), *sys.path])
    child = subprocess.Popen(
        [sys.executable, str(script), str(tmp_path)], env={**os.environ, "PYTHONPATH": path}
    )
    kept = tmp_path / "report/items.jsonl"
    for _ in range(1200):
        if kept.exists() and kept.read_text().count("\n") == 2:
            break
        time.sleep(0.1)
    child.kill()
    child.wait()
    workers = {int(pid) for pid in (tmp_path / "pids").read_text().split()}
    assert workers
    for _ in range(200):
        if not any(is_running(pid) for pid in workers):
            break
        time.sleep(0.1)
    assert [pid for pid in workers if is_running(pid)] == []
    events = run(tmp_path / "made", tmp_path / "report", tmp_path / "log")
    assert any("2 of 4 were measured before" in e.text for e in events)
    assert sorted((tmp_path / "log").read_text().split()) == ["50", "60"]


def is_running(pid: int) -> bool:
    """Whether there is such a process that is not merely waiting to be counted out."""
    try:
        return "State:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False


def test_several_processes_give_the_same_report(tmp_path: Path) -> None:
    for i in range(3):
        write(tmp_path / f"made/{i}.txt", str(i))
    run(tmp_path / "made", tmp_path / "one", tmp_path / "log")
    run(tmp_path / "made", tmp_path / "two", tmp_path / "log", jobs=2)
    one, two = ((tmp_path / n / "report.json").read_bytes() for n in ("one", "two"))
    assert one == two


def test_the_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    hits = 0
    for trial in range(200):
        low, high = bootstrap_mean(rng.normal(3.0, 2.0, 40), seed=trial, draws=400) or (0, 0)
        hits += low <= 3.0 <= high
    assert 0.89 < hits / 200 < 0.99
    assert bootstrap_mean(np.ones(1)) is None


def test_an_interval_of_a_distance_is_freed_of_what_repeats_add() -> None:
    values = np.random.default_rng(1).normal(0, 1, 60)

    def off(chosen: np.ndarray) -> float:
        return float(1.0 + len(np.unique(chosen)) / 60 + 0.01 * values[chosen].mean())

    low, high = bootstrap_of(off, 60) or (0, 0)
    assert low > off(np.arange(60))  # repeats took 0.37 away: reversed, the interval lies above
    assert high - low < 0.3


def test_a_value_above_its_interval_is_said_to_be_bias() -> None:
    assert above_interval(3.0, (1.0, 2.0)) != ()
    assert above_interval(2.0, (1.0, 2.0)) == above_interval(0.5, (1.0, 2.0)) == ()
    assert above_interval(3.0, None) == ()


def test_weights_controls_and_missing_numbers_are_respected() -> None:
    readings = {
        "a": Reading(value=1.0, control=0.5, weight=3.0, beside={"rate": 2.0}),
        "b": Reading(value=5.0, control=0.5, weight=1.0),
        "c": Reading(value=math.nan),
    }
    figure = mean_figure(LENGTH, readings)
    assert figure is not None
    assert (figure.value, figure.control, figure.n) == (2.0, 0.5, 2)
    assert figure.beside == {"rate": 2.0}
    assert figure.warnings == ("2 items only: the interval is too narrow",)
    assert mean_figure(LENGTH, {"c": Reading(value=math.nan)}) is None


def test_numbers_that_could_not_be_had_are_null_in_json_and_a_dash_in_words(tmp_path: Path) -> None:
    figure = Figure(name="x", value=math.inf, unit="", n=1, control=math.nan)
    report = Report(title="T", figures=(figure,), command="c")
    write_report(report, tmp_path)
    found = json.loads((tmp_path / "report.json").read_text())["metrics"]["x"]
    assert (found["value"], found["ci"], found["control"]) == (None, [None, None], None)
    assert "| `x` | – | – |" in as_markdown(report)
    assert [short(v) for v in (0.0, 1234.5, 0.012345, 1e-7)] == [
        "0",
        "1234",
        "0.01235",
        "1e-07",
    ]


def test_a_file_where_the_report_should_be_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "made/a.txt")
    with pytest.raises(UserError, match="give a folder"):
        run(tmp_path / "made", write(tmp_path / "report"), tmp_path / "log")


def test_every_metric_has_its_page_every_page_its_metric_and_each_says_all() -> None:
    from emo2.metrics import film_report, motion_report

    folder = Path(__file__).parents[1] / "docs" / "metrics"
    pages = {p.stem: p.read_text() for p in folder.glob("*.md")}
    names = {m.name for m in (*motion_report.METRICS, *film_report.METRICS)}
    assert sorted(names - pages.keys()) == []
    assert sorted(pages.keys() - names) == ["known-answers", "networks"]
    said = ("Formula.", "Source.", "Control.", "Pitfalls.", "Good.", "Against papers.")
    assert [(n, s) for n in names for s in said if f"**{s}**" not in pages[n]] == []
