"""Known answers: what is done to a motion or a film is known, and each measure moves as it must and no other."""

from __future__ import annotations

import re
import wave
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from test_metrics_film import opened, person, signals, write_film
from test_metrics_film_report import write_voice
from test_metrics_motion import gesture

from emo2 import pipeline
from emo2.hands import save
from emo2.metrics import film_own, film_report, motion_report
from emo2.metrics.alignment import OTHERS, SHIFTED
from emo2.metrics.beats import VARIANTS
from emo2.metrics.figures import Figure
from emo2.metrics.film_loaded import LoadedFilm
from emo2.metrics.inputs import Item
from emo2.metrics.lips import LAGS
from emo2.metrics.measuring import Measured, conclude, read_all
from emo2.metrics.motion_clips import TRUTH, Clip, Track, read_track
from emo2.metrics.networks import NetworkFolder
from emo2.portrait.stage import PortraitFinder
from emo2.signals import Motion, Portrait

__all__ = ["person"]
FRAMES = 180
MOTION = {m.name: m for m in motion_report.METRICS}

# ---------------------------------------------------------------------------------------------------------- motions


def jittered(motion: Motion) -> Motion:
    """Both wrists with 3 mm of white noise."""
    hands = motion.hands.clone()
    hands[..., 64:] += 0.003 * torch.randn(
        hands[..., 64:].shape, generator=torch.Generator().manual_seed(0)
    )
    return replace(motion, hands=hands)


def moved(motion: Motion) -> Motion:
    """Both hands 10 cm to one side."""
    hands = motion.hands.clone()
    hands[..., 64] += 0.1
    return replace(motion, hands=hands)


def frozen(motion: Motion) -> Motion:
    """The first frame, held."""
    return replace(motion, hands=motion.hands[:1].expand_as(motion.hands).clone())


def late(motion: Motion) -> Motion:
    """Half a second later, round the end."""
    return replace(motion, hands=motion.hands.roll(15, 0))


CHANGES: dict[str, Callable[[Motion], Motion]] = {
    "itself": lambda motion: motion,
    "jittered": jittered,
    "moved": moved,
    "frozen": frozen,
    "late": late,
}
UP, DOWN, SAME = "up", "down", "same"
MOVES: dict[str, dict[str, str]] = {
    "div": {"frozen": DOWN, "moved": SAME, "late": SAME},
    "div_talkshow": {"frozen": DOWN, "moved": SAME, "late": SAME},
    "var_cross": {"frozen": DOWN, "moved": SAME, "late": SAME},
    "var_k": {"frozen": DOWN, "moved": SAME, "late": SAME},
    "l1div": {"frozen": DOWN, "moved": SAME, "late": SAME},
    "pck_05": {"moved": DOWN, "frozen": DOWN, "late": DOWN, "jittered": SAME},
    "pck_10": {"frozen": DOWN, "late": DOWN, "jittered": SAME},
    "pck_20": {"moved": SAME, "jittered": SAME},
    "pck_50": {"moved": SAME, "jittered": SAME, "late": SAME},
    "srgr": {"moved": DOWN, "frozen": DOWN, "late": DOWN},
    "lvd": {"moved": SAME, "jittered": UP, "frozen": UP, "late": UP},
    "fd_g": {"moved": UP, "frozen": UP, "late": SAME, "jittered": SAME},
    "fd_g_points": {"moved": UP, "frozen": UP, "late": SAME},
    "fd_k": {"moved": SAME, "jittered": UP, "frozen": UP},
    "fd_k_points": {"moved": SAME, "jittered": UP, "frozen": UP},
    "fgd": {"moved": UP, "frozen": UP},
    "hellinger": {"moved": SAME, "jittered": UP, "frozen": UP},
    "jerk": {"moved": SAME, "jittered": UP, "frozen": DOWN},
    "acceleration": {"moved": SAME, "jittered": UP, "frozen": DOWN},
    "rest_fraction": {"moved": SAME, "jittered": DOWN, "frozen": UP},
}
"""How each figure stands to that of the truth itself: of rests and small moves, so that all of it can change."""


@pytest.fixture(scope="module")
def motions() -> dict[str, dict[str, Figure]]:
    """Figures of every change, two samples each of four truths with semantic weights."""
    truths = [gesture(FRAMES, seed, size=0.02 + 0.01 * seed) for seed in range(4)]
    weights = torch.full((FRAMES,), 0.165)
    figures = {}
    for name, change in CHANGES.items():
        measured = []
        for index, true in enumerate(truths):
            made = tuple(Track(change(m)) for m in (true, gesture(FRAMES, index + 20)))
            made = (made[0], made[0]) if name == "frozen" else made
            clip = Clip(samples=made, truth=Track(true, semantic=weights), voice=None)
            pairs = Clip(samples=made[:1], truth=clip.truth, voice=None)
            several = [m for m in motion_report.METRICS if m.need == "samples"]
            others = [m for m in motion_report.METRICS if m.need != "samples"]
            item = Item(name=str(index), generated=())
            both = read_all(item, clip, several), read_all(item, pairs, others)
            readings = {**both[0].readings, **both[1].readings}
            measured.append(Measured(name=item.name, readings=readings, rows=both[1].rows))
            own = Clip(samples=(Track(true),), truth=None, voice=None)
            rows = read_all(item, own, motion_report.SET_METRICS).rows
            measured.append(Measured(name=f"{TRUTH}{index}", rows=rows))
        figures[name] = {f.name: f for f in conclude(motion_report.METRICS, measured, 0)}
    return figures


@pytest.mark.parametrize("name", list(MOVES))
def test_a_measure_of_motion_moves_as_it_must(
    name: str, motions: dict[str, dict[str, Figure]]
) -> None:
    for change, way in MOVES[name].items():
        start, here = motions["itself"][name].value, motions[change][name].value
        control = motions["itself"][name].control or 0.0
        room = 0.05 * max(abs(start), abs(control)) + 1e-9
        if way == UP:
            assert here > start + room, change
        elif way == DOWN:
            assert here < start - room, change
        else:
            assert here == pytest.approx(start, abs=room), change


def test_the_frozen_and_the_true_have_the_values_that_need_no_measuring(
    motions: dict[str, dict[str, Figure]],
) -> None:
    still, true = motions["frozen"], motions["itself"]
    zero = ("div", "div_talkshow", "var_cross", "var_k", "l1div", "acceleration")
    assert [still[n].value for n in zero] == pytest.approx([0] * len(zero), abs=1e-5)
    assert still["rest_fraction"].value == 1
    perfect = ("pck_05", "pck_10", "pck_20", "pck_50", "srgr")
    assert [true[n].value for n in perfect] == pytest.approx([1] * len(perfect))
    apart = ("lvd", "fd_g", "fd_k", "fd_g_points", "fd_k_points", "hellinger")
    assert [true[n].value for n in apart] == pytest.approx([0] * len(apart), abs=1e-6)


def test_groups_of_a_set_are_as_diverse_as_their_like_and_frozen_ones_not_at_all() -> None:
    metric = MOTION["div_50"]

    def windows(motion: Motion) -> dict[str, np.ndarray]:
        assert metric.rows is not None
        return metric.rows(Clip(samples=(Track(motion),), truth=None, voice=None))

    long = [gesture(50 * 88, seed) for seed in (1, 2)]
    made, true = windows(long[0])["windows"], windows(long[1])
    assert len(made) == 50
    items = {str(i): {"windows": made[i::10]} for i in range(10)}
    held = windows(frozen(long[0]))["windows"]
    like = metric.conclude(metric, {**items, f"{TRUTH}0": true}, 0)
    still = metric.conclude(metric, {str(i): {"windows": held[i::10]} for i in range(10)}, 0)
    assert like is not None
    assert still is not None
    assert like.value == pytest.approx(like.control, rel=0.1)
    assert like.ci is not None
    assert like.ci[0] < like.value < like.ci[1] < 1.3 * like.value
    assert still.value == pytest.approx(0, abs=1e-6)
    assert still.ci == pytest.approx((0, 0), abs=1e-6)


def clicks(path: Path, times: np.ndarray, seconds: float) -> Path:
    """A voice of clicks at these times."""
    track = np.zeros(round(seconds * 16_000))
    wave_form = 0.8 * np.sin(2 * np.pi * 440 * np.arange(800) / 16_000) * np.exp(-np.arange(800) / 150)  # fmt: skip
    for at in (round(t * 16_000) for t in times):
        stretch = track[at : at + 800]
        stretch += wave_form[: len(stretch)]
    with wave.open(str(path), "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(16_000)
        out.writeframes((track.clip(-1, 1) * 32_767).astype("<i2").tobytes())
    return path


@pytest.mark.parametrize("name", list(VARIANTS))
def test_a_swapped_voice_lowers_every_beat_alignment_to_its_control(
    name: str, tmp_path: Path
) -> None:
    variant, items = VARIANTS[name], []
    for seed in range(3):
        path = tmp_path / f"{seed}.npz"
        save(gesture(300, 30 + seed), path)
        beats = variant.beats(read_track(path).moving(variant.fps))
        own = max(beats, key=len) / variant.fps
        voice = clicks(tmp_path / f"{seed}.wav", own.numpy(), 14.0)  # four seconds longer
        items.append(Item(name=str(seed), generated=(path,), voice=voice))

    def figure(items: list[Item]) -> Figure:
        measured = [
            Measured(name=i.name, rows={name: MOTION[name].rows(motion_report.read_clip(i)[0])})
            for i in items
            if MOTION[name].rows is not None
        ]
        (found,) = conclude([MOTION[name]], measured, 0)
        return found

    right = figure(items)
    wrong = figure([replace(a, voice=b.voice) for a, b in zip(items, items[1:] + items[:1], strict=True)])  # fmt: skip
    assert right.control is not None
    assert right.control_is == OTHERS
    assert right.value > right.control + 0.03
    assert wrong.value < right.value - 0.03
    assert wrong.value == pytest.approx(right.control, abs=0.06)
    assert right.beside["beats a second"] > 0
    alone = figure(items[:1])
    assert alone.control_is == SHIFTED
    assert alone.control == alone.beside["voice shifted"]


def test_a_voice_that_goes_on_after_the_motion_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    save(gesture(300, 40), path)
    times = np.arange(0.4, 9.8, 0.61)
    values = []
    for seconds in (10.0, 30.0):
        more = np.concatenate((times, np.arange(10.5, seconds - 0.2, 0.61)))
        voice = clicks(tmp_path / f"{seconds}.wav", more, seconds)
        clip, _ = motion_report.read_clip(Item(name="a", generated=(path,), voice=voice))
        rows = MOTION["ba_emage"].rows
        assert rows is not None
        (figure,) = conclude([MOTION["ba_emage"]], [Measured(name="a", rows={"ba_emage": rows(clip)})], 0)  # fmt: skip
        values.append((figure.value, figure.control, figure.beside["onsets a second"]))
    assert values[1] == pytest.approx(values[0], abs=0.02)


# ------------------------------------------------------------------------------------------------------------ films

NOISE = 12.0
"""Levels of 255, standard deviation."""


@pytest.fixture(scope="module")
def finder() -> PortraitFinder:
    return pipeline.load("compact").finder


@pytest.fixture(scope="module")
def films(
    person: Portrait, finder: PortraitFinder, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Measured]:
    """A talking film against itself: as it is, its first frame held, and with noise."""
    folder = tmp_path_factory.mktemp("known")
    wish = signals(36, 3)
    wish = (wish - wish.min()) / (wish.max() - wish.min())
    voice = write_voice(folder / "voice.wav", 0.4 + 0.5 * wish)
    pictures = [((opened(person, 8 * float(w)).permute(1, 2, 0).numpy() + 1) * 127.5) for w in wish]
    rng = np.random.default_rng(0)
    made = {
        "clean": pictures,
        "frozen": pictures[:1] * len(pictures),
        "noisy": [p * 0.8 + 25 + rng.normal(0, NOISE, p.shape) for p in pictures],
    }
    found, first = {}, None
    for name, frames in made.items():
        eight_bit = [f.round().clip(0, 255).astype(np.uint8) for f in frames]
        film = write_film(folder / f"{name}.mkv", eight_bit, 25)
        item = Item(name=name, generated=(film,), truth=folder / "clean.mkv", voice=voice)
        loaded = LoadedFilm(item, finder, NetworkFolder(folder / "none"))
        if first is not None:
            vars(loaded)["truth"] = first.generated  # read once, not three times
        with torch.inference_mode():
            found[name] = read_all(item, loaded, film_own.OWN)
        first = first or loaded
    return found


def value(films: dict[str, Measured], film: str, name: str) -> float:
    return films[film].readings[name].value


def test_a_frozen_film_scores_as_its_held_frame_and_nothing_moves(
    films: dict[str, Measured],
) -> None:
    for name in ("psnr", "ssim"):
        reading = films["frozen"].readings[name]
        assert reading.value == pytest.approx(reading.control, rel=1e-5)
        assert reading.value < value(films, "clean", name)
    for name in ("flicker", "head_speed", "blink_rate"):
        assert value(films, "frozen", name) == pytest.approx(0, abs=0.02), name
    # the points of a held picture settle for some frames, by next to nothing, and a correlation knows no size
    assert abs(value(films, "frozen", "mouth_mouth_r")) < 0.15
    assert value(films, "frozen", "sharpness_change") == pytest.approx(1, abs=0.03)
    assert (
        value(films, "frozen", "identity_drift") < 0.1
    )  # places are averaged over time: they settle
    (frozen,) = figures_of(films, "mouth_voice_quick_r", {"frozen": 0})
    assert abs(frozen.value) < 0.3


def test_a_noisy_film_loses_what_noise_takes_and_flickers(films: dict[str, Measured]) -> None:
    assert value(films, "clean", "psnr") == 100
    assert value(films, "noisy", "psnr") < 20 * np.log10(255 / NOISE)
    assert value(films, "noisy", "ssim") < 0.9
    # a pair of frames differs by twice the noise's variance; warping by flow smooths a part of it away
    assert 1.0 * NOISE < value(films, "noisy", "flicker") < 1.45 * NOISE
    assert value(films, "noisy", "flicker") > 3 * value(films, "clean", "flicker")
    assert value(films, "noisy", "mouth_mouth_r") > 0.7  # and the mouth is still seen to move


def figures_of(films: dict[str, Measured], name: str, lags: dict[str, int]) -> list[Figure]:
    """A figure of mouth and voice for each film alone, its mouth moved in time by whole frames."""
    found = []
    (metric,) = (m for m in film_own.OWN if m.name == name)
    for film, lag in lags.items():
        rows = films[film].rows[name]
        shifted = {"mouth": np.roll(rows["mouth"], lag), "voice": rows["voice"]}
        found += conclude([metric], [Measured(name=film, rows={name: shifted})], 0)
    return found


@pytest.mark.parametrize("late", [-2, 0, 3])
def test_a_followed_mouth_moved_by_some_frames_is_late_by_as_many(
    late: int, films: dict[str, Measured]
) -> None:
    assert LAGS > 3
    (own,) = figures_of(films, "mouth_voice_lag", {"clean": 0})
    (there,) = figures_of(films, "mouth_voice_lag", {"clean": late})
    assert there.value - own.value == pytest.approx(late, abs=0.2)
    assert own.value == pytest.approx(0, abs=0.5)


def test_a_swapped_voice_fits_a_mouth_less(films: dict[str, Measured]) -> None:
    for name in ("mouth_voice_r", "mouth_voice_quick_r"):
        (metric,) = (m for m in film_own.OWN if m.name == name)
        rows = films["clean"].rows[name]
        other = (signals(len(rows["voice"]), 11) * 0.2 + 0.6).numpy()
        stranger = {"mouth": np.roll(rows["mouth"], 17), "voice": other}
        measured = [
            Measured(name="clean", rows={name: rows}),
            Measured(name="other", rows={name: stranger}),
        ]
        (figure,) = conclude([metric], measured, 0)
        swapped = [replace(m, rows={name: {**m.rows[name], "voice": v}}) for m, v in zip(measured, (other, rows["voice"]), strict=True)]  # fmt: skip
        (wrong,) = conclude([metric], swapped, 0)
        assert figure.per_item["clean"] > 0.7
        assert figure.control_is == "voices of the other films"
        (alone,) = conclude([metric], measured[:1], 0)
        assert alone.control_is == "its own voice, shifted in time"
        assert wrong.per_item["clean"] < figure.per_item["clean"] - 0.3


# ---------------------------------------------------------------------------------------------- which test says what


def test_every_metric_stands_in_the_table_of_known_answers_with_tests_that_exist() -> None:
    root = Path(__file__).parents[1]
    table = (root / "docs" / "metrics" / "known-answers.md").read_text()
    rows = dict(re.findall(r"^\| `(\w+)` \|.*\| (.*?) \|$", table, re.MULTILINE))
    names = {m.name for m in (*motion_report.METRICS, *film_report.METRICS)}
    assert set(rows) == names
    there = {
        f"{path.stem}:{test}"
        for path in Path(__file__).parent.glob("test_*.py")
        for test in re.findall(r"^def (test_\w+)", path.read_text(), re.MULTILINE)
    }
    named = {name: re.findall(r"`([\w:]+)`", row) for name, row in rows.items()}
    assert [name for name, tests in named.items() if not tests] == []
    assert [t for tests in named.values() for t in tests if t not in there] == []
    # and of motion every figure but those of a voice moves in the matrix above; div_50 needs 50 windows
    assert {m for m in MOTION if not m.startswith("ba_")} - set(MOVES) == {"div_50"}
