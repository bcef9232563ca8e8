"""`emo2 compare`: several systems on the same inputs; intervals, paired tests, and a film of them beside one another."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from emo2.errors import UserError
from emo2.generate import Event
from emo2.media.files import write_text
from emo2.metrics import film_report, motion_report
from emo2.metrics.figures import Figure, Metric, bootstrap_mean
from emo2.metrics.inputs import Inputs, find_inputs, is_manifest
from emo2.metrics.measuring import Measured, conclude, measure_all, version_of
from emo2.metrics.report import interval, short, table, versions
from emo2.metrics.side_by_side import side_by_side

_SIGNIFICANT = 0.05


@dataclass(frozen=True, kw_only=True)
class Difference:
    """One system against another in one metric, over the items both have."""

    metric: str
    first: str
    second: str
    value: float
    """Mean over items of second minus first."""
    ci: tuple[float, float] | None
    n: int
    p: float
    """Wilcoxon's signed-rank test, two-sided, exact."""
    p_corrected: float
    """Holm's correction over all tests of the comparison."""


@dataclass(frozen=True, kw_only=True)
class Wishes:
    """What of `emo2 compare` is not the systems."""

    truth: Path | None = None
    voices: Path | None = None
    blind: bool = False
    films: bool = True
    jobs: int = 1
    seed: int = 0


def compare(
    systems: Sequence[Path], output: Path, wishes: Wishes, *, command: str
) -> Iterator[Event]:
    """Measure every system on the items all of them have; write tables, and the films to look at."""
    names = _names(systems)
    if output.exists() and not output.is_dir():
        raise UserError(f"{output} is a file; give a folder for the comparison")
    kind = _kind(systems)
    module = film_report if kind == "film" else motion_report
    found, notes = _shared(names, systems, module.SUFFIXES, kind, wishes)
    yield from (Event(kind="note", text=note) for note in notes)
    figures: dict[str, list[Figure]] = {}
    for name, inputs in found.items():
        whole, metrics, measure = module.plan(inputs)
        measured: list[Measured] = yield from measure_all(
            whole.items, measure, folder=output / "measured" / name,
            version=version_of(metrics), jobs=wishes.jobs,
        )  # fmt: skip
        new = [n for n in dict.fromkeys(n for m in measured for n in m.notes) if n not in notes]
        yield from (Event(kind="note", text=note) for note in new)
        notes += new
        figures[name] = conclude(metrics, measured, wishes.seed)
    if not any(figures.values()):
        raise UserError(
            "none of the measures could be taken; give --truth or --voices, or longer files"
        )
    tests = differences(figures, seed=wishes.seed)
    paths = _write(output, figures, tests, module.METRICS, (command, tuple(notes)))
    for path in paths:
        yield Event(kind="note", text=f"wrote {path}", path=path)
    if wishes.films:
        yield from side_by_side(
            found, output / "films", kind=kind, blind=wishes.blind, seed=wishes.seed
        )
    yield Event(kind="done", text=f"compared {len(names)} systems in {output}", path=output)


def _names(systems: Sequence[Path]) -> list[str]:
    if len(systems) < 2:
        raise UserError(f"found {len(systems)} system, expected two or more folders to compare")
    names = [p.stem if p.is_file() else p.name for p in (s.resolve() for s in systems)]
    if len(set(names)) == len(names):
        return names
    return [f"{i + 1}-{name}" for i, name in enumerate(names)]


def _kind(systems: Sequence[Path]) -> str:
    """Films or motions: what the systems' folders hold."""
    kinds = set()
    for system in systems:
        if not system.exists():
            raise UserError(f"{system} does not exist; give a folder of films or of motions")
        suffixes = {p.suffix.lower() for p in _files(system)}
        found = {"film"} if suffixes & set(film_report.SUFFIXES) else set()
        found |= {"motion"} if ".npz" in suffixes or (not found and ".json" in suffixes) else set()
        if len(found) != 1:
            said = "both films and motions" if found else "neither films nor motions"
            raise UserError(f"{system} holds {said}; expected one of them")
        kinds |= found
    if len(kinds) > 1:
        raise UserError("some systems hold films and others motions; compare like with like")
    return kinds.pop()


def _files(system: Path) -> list[Path]:
    """What a folder holds, a manifest names, or the one file."""
    if system.is_dir():
        return [p for p in system.rglob("*") if p.is_file()]
    if is_manifest(system):
        inputs = find_inputs(system, None, None, suffixes=(), what="film or motion")
        return [path for item in inputs.items for path in item.generated]
    return [system]


def _shared(
    names: list[str], systems: Sequence[Path], suffixes: tuple[str, ...], kind: str, wishes: Wishes
) -> tuple[dict[str, Inputs], list[str]]:
    """Each system's inputs, cut to the items that all have."""
    found = {
        name: find_inputs(system, wishes.truth, wishes.voices, suffixes=suffixes, what=kind)
        for name, system in zip(names, systems, strict=True)
    }
    sets = [{i.name for i in inputs.items} for inputs in found.values()]
    common, every = set.intersection(*sets), set.union(*sets)
    if not common:
        raise UserError(
            f"the systems have no stem in common ({', '.join(sorted(every)[:4])}, ...); name results of "
            "the same input alike"
        )
    notes = list(dict.fromkeys(n for inputs in found.values() for n in inputs.notes))
    if len(common) < len(every):
        notes.append(
            f"{len(every) - len(common)} of {len(every)} stems are not in every system: left out"
        )
    cut = {
        name: replace(inputs, items=tuple(i for i in inputs.items if i.name in common))
        for name, inputs in found.items()
    }
    return cut, notes


def differences(figures: dict[str, list[Figure]], *, seed: int = 0) -> list[Difference]:
    """Every system against the first, in every metric that has a number for each item."""
    first, *others = figures
    raw = []
    for other in others:
        theirs = {f.name: f for f in figures[other]}
        for mine in figures[first]:
            both = theirs.get(mine.name)
            if both is None:
                continue
            shared = sorted(mine.per_item.keys() & both.per_item.keys())
            if len(shared) < 2:
                continue
            gaps = np.array([both.per_item[n] - mine.per_item[n] for n in shared])
            ci = bootstrap_mean(gaps, seed=seed)
            raw.append(
                (mine.name, first, other, float(gaps.mean()), ci, len(shared), signed_rank(gaps))
            )
    corrected = holm([r[-1] for r in raw])
    return [
        Difference(metric=m, first=a, second=b, value=v, ci=ci, n=n, p=p, p_corrected=q)
        for (m, a, b, v, ci, n, p), q in zip(raw, corrected, strict=True)
    ]


def signed_rank(gaps: np.ndarray) -> float:
    """Two-sided p of Wilcoxon's signed-rank test (1945): zeros dropped, ties share ranks, exact for any size."""
    gaps = gaps[np.abs(gaps) > 1e-12 * max(1.0, float(np.abs(gaps).max(initial=0)))]
    if not len(gaps):
        return 1.0
    size = np.abs(gaps)
    # twice the mid-rank, a whole number also where ties share it
    ranks = np.array([2 * int((size < s).sum()) + int((size == s).sum()) + 1 for s in size])
    ways = np.zeros(int(ranks.sum()) + 1)
    ways[0] = 1.0
    for rank in ranks:  # each rank counts or not, with even odds
        moved = np.zeros_like(ways)
        moved[rank:] = ways[: len(ways) - rank]
        ways = (ways + moved) / 2
    at = int(ranks[gaps > 0].sum())
    return float(min(1.0, 2 * min(ways[: at + 1].sum(), ways[at:].sum())))


def holm(values: Sequence[float]) -> list[float]:
    """Holm's step-down correction (1979), in the order given."""
    order = sorted(range(len(values)), key=lambda i: values[i])
    corrected, highest = [1.0] * len(values), 0.0
    for place, i in enumerate(order):
        highest = max(highest, min(1.0, values[i] * (len(values) - place)))
        corrected[i] = highest
    return corrected


def _write(
    output: Path,
    figures: dict[str, list[Figure]],
    tests: list[Difference],
    metrics: Sequence[Metric],
    said: tuple[str, tuple[str, ...]],
) -> list[Path]:
    command, notes = said
    order = [m.name for m in metrics]
    by_name = {s: {f.name: f for f in fs} for s, fs in figures.items()}
    present = [n for n in order if any(n in fs for fs in by_name.values())]
    rows = []
    for name in present:
        row = [f"`{name}`"]
        for system in figures:
            f = by_name[system].get(name)
            row.append("–" if f is None else _cell(f))
        some = next(fs[name] for fs in by_name.values() if name in fs)
        rows.append([*row, some.unit, some.better or "–"])
    lines = [
        "# Comparison",
        "",
        f"`{command}`  ",
        ", ".join(f"{k} {v}" for k, v in versions().items()),
        "",
    ]
    lines += [f"- {n}" for n in notes] + ([""] if notes else [])
    lines += [table(["metric", *figures, "unit", "better"], rows)]
    lines += [
        "Values with 95 % bootstrap intervals over items; after them what each system's control has. Differences item "
        "by item:",
        "",
    ]
    lines += [_tests_table(tests), _TESTS]
    data = {
        "systems": {
            s: {n: {"value": f.value, "ci": list(f.ci) if f.ci else [None, None], "n": f.n, "unit": f.unit,
                    "control": f.control, "control_is": f.control_is}
                for n, f in fs.items()}
            for s, fs in by_name.items()
        },
        "differences": [
            {"metric": d.metric, "first": d.first, "second": d.second, "value": d.value,
             "ci": list(d.ci) if d.ci else [None, None], "n": d.n, "p": d.p, "p_corrected": d.p_corrected}
            for d in tests
        ],
        "command": command, "versions": versions(),
    }  # fmt: skip
    write_text(output / "compare.md", "\n".join(lines) + "\n")
    write_text(output / "compare.json", json.dumps(data, indent=1) + "\n")
    return [output / "compare.md", output / "compare.json"]


def _cell(figure: Figure) -> str:
    said = f"{short(figure.value)} ({interval(figure.ci)})"
    return said if figure.control is None else f"{said}; {short(figure.control)}"


_TESTS = (
    "Interval: paired bootstrap over items. p: Wilcoxon's signed-rank test, two-sided, exact. Corrected: Holm, over all "
    "rows. Distances between sets have no number for each item and are not tested; with 5 items no p is under 0.06."
)


def _tests_table(tests: Sequence[Difference]) -> str:
    rows = [
        [f"`{d.metric}`", f"{d.second} minus {d.first}", short(d.value), interval(d.ci), str(d.n),
         f"{d.p:.3g}", f"{d.p_corrected:.3g}", "differ" if d.p_corrected < _SIGNIFICANT else "no evidence"]
        for d in tests
    ]  # fmt: skip
    return table(["metric", "difference", "mean", "95 %", "n", "p", "corrected", ""], rows)
