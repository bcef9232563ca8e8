"""Strokes on stresses: moves that stop on the bursts of a voice, and the same moves with the voice elsewhere."""

from __future__ import annotations

import wave
from pathlib import Path

import numpy as np
import pytest
import torch
from test_metrics_motion import gesture

from emo2.hands import save
from emo2.metrics import motion_report
from emo2.metrics.figures import Reading
from emo2.metrics.inputs import Item
from emo2.metrics.strokes import Stresses, find_stresses, fit, stroke_ends
from emo2.signals import Motion
from emo2.studio import corpus, voices
from emo2.studio.performance import Direction, perform

FPS = 25.0


def wrists(times: np.ndarray, seconds: float, fps: float = FPS) -> torch.Tensor:
    """The left hand goes to and fro by 8 cm, each way a minimum-jerk move of 0.4 s that ends at a time; the right rests."""
    at = (np.arange(round(seconds * fps)) + 0.5) / fps  # a frame shows the middle of its time
    place = np.zeros_like(at)
    for k, end in enumerate(times):
        share = np.clip((at - (end - 0.4)) / 0.4, 0, 1)
        place += (-1) ** k * 0.08 * (10 * share**3 - 15 * share**4 + 6 * share**5)
    out = torch.zeros(len(at), 2, 3)
    out[:, 0, 1] = torch.from_numpy(place)
    return out


def bursts(times: np.ndarray, seconds: float, rate: int = 16_000) -> np.ndarray:
    """Vowels of a tenth of a second at 700 Hz over a murmur."""
    at = np.arange(round(seconds * rate)) / rate
    level = 0.02 + sum(np.exp(-0.5 * ((at - t) / 0.05) ** 2) for t in times)
    return (0.3 * level * np.sin(2 * np.pi * 700 * at)).astype(np.float32)


@pytest.fixture(scope="module")
def beats() -> np.ndarray:
    """Times without a rhythm, half a second apart and more."""
    return 0.8 + np.cumsum(np.random.default_rng(0).uniform(0.5, 0.9, 40))


@pytest.mark.parametrize("fps", [25.0, 30.0])
def test_a_minimum_jerk_stroke_ends_where_it_was_told_to(beats: np.ndarray, fps: float) -> None:
    found = stroke_ends(wrists(beats, 32.0, fps), fps)
    assert len(found) == len(beats)
    # the speed has fallen to a quarter 0.05 s before the hand stands
    assert np.abs(found - (beats - 0.05)).max() < 0.01


def test_small_moves_and_moves_that_do_not_stop_are_no_strokes() -> None:
    beats = np.arange(1.0, 20.0, 0.7)
    assert len(stroke_ends(0.1 * wrists(beats, 22.0), FPS)) == 0
    turning = torch.zeros(200, 2, 3)
    angle = torch.arange(200) * 0.3
    turning[:, 0, 0], turning[:, 0, 1] = 0.1 * angle.cos(), 0.1 * angle.sin()
    assert len(stroke_ends(turning, FPS)) == 0


def test_bursts_are_the_stresses_and_the_loudest_of_near_ones_counts(beats: np.ndarray) -> None:
    found = find_stresses(bursts(beats, 32.0), 16_000)
    assert np.abs(found.times - beats).max() < 0.02
    near = bursts(beats, 32.0) + 0.5 * bursts(beats + 0.15, 32.0)
    assert np.abs(find_stresses(near, 16_000).times - beats).max() < 0.03
    assert found.speaking[int(100 * beats[3])]
    assert not find_stresses(np.zeros(16_000), 16_000).speaking.any()
    assert len(find_stresses(np.zeros(50), 16_000).times) == 0


def test_hands_that_stop_on_the_stresses_are_told_from_the_same_hands_with_the_voice_moved(
    beats: np.ndarray,
) -> None:
    ends = stroke_ends(wrists(beats + 0.05, 32.0), FPS)
    voice = find_stresses(bursts(beats, 32.0), 16_000)
    late = Stresses(voice.times + 0.3, np.roll(voice.speaking, 30))
    own, other = fit(ends, voice), fit(ends, late)
    assert own is not None
    assert other is not None
    assert own.matched > 0.9
    assert own.moved < 0.4
    assert other.matched < own.moved + 0.05
    assert fit(np.zeros(0), voice) is None
    assert fit(ends + 100.0, voice) is None


def test_pauses_that_hands_and_voice_share_count_on_neither_side() -> None:
    rng = np.random.default_rng(1)
    differences = []
    for _ in range(30):  # both stop for two seconds, and fall where they like in between
        spoken = [4.0 * turn + 2.0 * rng.random(4) for turn in range(10)]
        struck = [4.0 * turn + 2.0 * rng.random(3) for turn in range(10)]
        speaking = np.tile(np.repeat((True, False), 200), 10)
        found = fit(
            np.sort(np.concatenate(struck)), Stresses(np.sort(np.concatenate(spoken)), speaking)
        )
        assert found is not None
        differences.append(found.matched - found.moved)
    assert abs(float(np.mean(differences))) < 0.03


def test_the_studios_strokes_end_on_its_stresses() -> None:
    readings = []
    for seed in range(5):
        text = " ".join(corpus.write(seed + 1000 * k, english_share=1.0)[0] for k in range(2))
        samples, rate, phones = voices.synthesise(text, seed, language="en-us")
        motion = perform(samples, rate, phones, direction=Direction(style="lively"), seed=seed)
        found = fit(stroke_ends(motion.hands[..., 64:], motion.fps), find_stresses(samples, rate))
        assert found is not None
        readings.append((found.matched - found.moved, found.count))
    assert np.average([r for r, _ in readings], weights=[n for _, n in readings]) > 0.06


def test_the_report_reads_strokes_and_counts_each_once(beats: np.ndarray, tmp_path: Path) -> None:
    still = gesture(800, 1, size=0.0)
    moved = still.hands.clone()
    moved[..., 64:] += wrists(beats + 0.05, 32.0)
    made = Motion(**{**still.__dict__, "hands": moved, "fps": FPS})
    save(made, tmp_path / "a.npz")
    held = Motion(**{**still.__dict__, "fps": FPS})
    save(held, tmp_path / "b.npz")
    with wave.open(str(tmp_path / "a.wav"), "wb") as out:
        out.setparams((1, 2, 16_000, 0, "NONE", ""))
        out.writeframes((bursts(beats, 32.0) * 32_767).astype("<i2").tobytes())

    def read(*names: str) -> Reading | None:
        item = Item(
            name="a", generated=tuple(tmp_path / n for n in names), voice=tmp_path / "a.wav"
        )
        return next(m for m in motion_report.METRICS if m.name == "ba_strokes").read(  # type: ignore[misc]
            motion_report.read_clip(item)[0]
        )

    one, two = read("a.npz"), read("a.npz", "b.npz")
    assert one is not None
    assert two is not None
    assert one.value > 0.8
    assert (one.value, one.weight) == (two.value, two.weight)
    assert read("b.npz") is None
