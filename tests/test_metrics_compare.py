"""Comparing systems: a planted difference is found, none is found where there is none, and blind films hide their names."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from made_up import made_up_voice

from emo2 import media
from emo2.errors import UserError
from emo2.hands import save, with_amplitude
from emo2.hands.preview import preview_frames
from emo2.media.watch import film_facts, read_frames
from emo2.metrics.compare import Wishes, compare, differences, holm, signed_rank
from emo2.metrics.figures import Figure
from emo2.metrics.motion_clips import read_track
from emo2.metrics.side_by_side import blind_orders
from emo2.signals import Clip


def figure(values: np.ndarray, name: str = "x") -> Figure:
    per_item = {str(i): float(v) for i, v in enumerate(values)}
    return Figure(name=name, value=float(values.mean()), unit="", n=len(values), per_item=per_item)


def test_a_planted_difference_is_found_and_no_other() -> None:
    rng = np.random.default_rng(0)
    clips = rng.normal(0, 3, 24)  # how hard each clip is: shared by both systems
    first = {n: clips + rng.normal(0, 0.5, 24) for n in "abcd"}
    second = {n: clips + rng.normal(0, 0.5, 24) + (0.7 if n == "a" else 0.0) for n in "abcd"}
    figures = {
        system: [figure(v, n) for n, v in values.items()]
        for system, values in (("one", first), ("two", second))
    }
    found = {d.metric: d for d in differences(figures)}
    assert found["a"].p_corrected < 0.01
    assert found["a"].value == pytest.approx(0.7, abs=0.35)
    assert found["a"].ci is not None
    assert found["a"].ci[0] > 0
    assert all(found[n].p_corrected > 0.05 for n in "bcd")


def test_the_signed_rank_test_agrees_with_its_tables() -> None:
    assert signed_rank(np.array([1.0, 2, 3, 4, 5])) == pytest.approx(2 / 32)
    assert signed_rank(np.array([1.0, 2, 3, 4, -5])) == pytest.approx(2 * 10 / 32)
    assert signed_rank(np.zeros(4)) == 1
    assert signed_rank(np.array([2.0, 2, -2, -2])) == 1  # ties share their ranks
    rng = np.random.default_rng(1)
    false = np.mean([signed_rank(rng.normal(0, 1, 12)) < 0.05 for _ in range(400)])
    assert 0.02 < false < 0.08


def test_holms_correction_steps_down() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.5, 0.9]) == pytest.approx([1.0, 1.0])
    assert holm([]) == []


def system(folder: Path, size: float, clips: int = 2) -> Path:
    """Motions of some clips: the same seeds, larger or smaller."""
    from test_metrics_motion import gesture

    folder.mkdir()
    for i in range(clips):
        save(with_amplitude(gesture(16, i), hands=size), folder / f"{i}.npz")
    return folder


@pytest.mark.parametrize(("clips", "systems"), [(10, 2), (9, 2), (20, 2), (12, 3), (7, 3)])
def test_the_blind_order_is_balanced_drawn_by_lot_and_repeatable(clips: int, systems: int) -> None:
    orders = blind_orders(clips, systems, 5)
    assert orders == blind_orders(clips, systems, 5)
    assert all(sorted(order) == list(range(systems)) for order in orders)
    for place in range(systems):
        counts = np.bincount([order[place] for order in orders], minlength=systems)
        assert counts.max() - counts.min() <= (1 if systems == 2 else 2)
        assert counts.max() <= -(-clips // systems) + (systems > 2)
    others = {str(blind_orders(clips, systems, seed)) for seed in range(8)}
    assert len(others) > 4


def test_two_systems_of_motions_are_compared_in_tables_and_blind_films(tmp_path: Path) -> None:
    one = system(tmp_path / "calm", 1.0)
    system(tmp_path / "wild", 2.0)
    wishes = Wishes(truth=one, blind=True, seed=3)
    pairs = tmp_path / "wild.csv"  # a manifest is a system, too
    pairs.write_text("generated,name\nwild/0.npz,0\nwild/1.npz,1\n")
    events = list(compare([one, pairs], tmp_path / "out", wishes, command="emo2 compare"))
    assert events[-1].kind == "done"
    data = json.loads((tmp_path / "out/compare.json").read_text())
    assert set(data["systems"]) == {"calm", "wild"}
    assert data["systems"]["calm"]["pck_05"]["value"] == 1
    jerk = next(d for d in data["differences"] if d["metric"] == "jerk")
    assert jerk["value"] > 0
    assert jerk["n"] == 2
    assert jerk["p"] == pytest.approx(0.5)  # two clips cannot say more
    assert "| `jerk` |" in (tmp_path / "out/compare.md").read_text()
    key = json.loads((tmp_path / "out/key.json").read_text())
    assert sorted(key) == ["0", "1"]
    assert sorted(key.values()) == [["calm", "wild"], ["wild", "calm"]]
    films = sorted((tmp_path / "out/films").glob("*.mp4"))
    assert [f.stem for f in films] == ["0", "1"]
    self_evident = [p for p in (tmp_path / "out/films").iterdir() if "calm" in p.name]
    assert self_evident == []
    # the picture stands where the key says
    first = next(read_frames(films[0]))
    middle = first.shape[-1] // 2
    halves = (first[:, 24:, : middle - 2], first[:, 24:, -(middle - 2) :])
    for place, name in enumerate(key["0"]):
        path = tmp_path / name / "0.npz"
        wanted = preview_frames(read_track(path).motion, range(1), size=(256, 342))[0]
        near = [float((h[:, :, : wanted.shape[-1]] - wanted).abs().mean()) for h in halves]
        assert near[place] < 0.05


def test_films_keep_their_sound_beside_one_another(tmp_path: Path) -> None:
    from emo2.metrics.inputs import Inputs, Item
    from emo2.metrics.side_by_side import side_by_side

    speech = media.speech_from_samples(made_up_voice(0.5), sample_rate=16_000)
    systems = {}
    for name, grey, frames in (("one", -0.5, 12), ("two", 0.5, 8)):
        path = tmp_path / name / "clip.mp4"
        path.parent.mkdir()
        with media.Film(path, (64, 48), 25.0, speech, resume=False) as film:
            film.write(Clip(frames=torch.full((frames, 3, 64, 48), grey), start=0, fps=25.0))
        systems[name] = Inputs(items=(Item(name="clip", generated=(path,)),))
    list(side_by_side(systems, tmp_path / "films", kind="film", blind=False, seed=0))
    made = tmp_path / "films" / "clip.mp4"
    assert film_facts(made).has_sound
    frames = list(read_frames(made))
    assert len(frames) == 12
    assert frames[-1][:, 100, 20].mean() == pytest.approx(-0.5, abs=0.05)
    assert frames[-1][:, 100, -20].mean() == pytest.approx(
        0.5, abs=0.05
    )  # stays on its last picture
    assert not (tmp_path / "key.json").exists()


def test_systems_that_cannot_be_compared_are_named(tmp_path: Path) -> None:
    def refused(*systems: Path) -> str:
        with pytest.raises(UserError) as error:
            list(compare(systems, tmp_path / "out", Wishes(), command="emo2 compare"))
        return str(error.value)

    one = system(tmp_path / "one", 1.0, clips=1)
    other = tmp_path / "other"
    other.mkdir()
    assert "two or more" in refused(one)
    assert "neither films nor motions" in refused(one, other)
    assert "does not exist" in refused(one, tmp_path / "none")
    save(read_track(one / "0.npz").motion, other / "else.npz")
    assert "no stem in common" in refused(one, other)
