"""Signals that come in pieces."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from emo2.reel import Reel
from emo2.signals import SpeechFeatures


def features(first: int, stop: int) -> SpeechFeatures:
    """Rows that say their own number."""
    rows = torch.arange(first, stop, dtype=torch.float32)
    return SpeechFeatures(values=rows[:, None, None], energy=rows, voiced=rows, fps=25.0)


def pieces(made: list[int], stop: int = 100, size: int = 7) -> Iterator[SpeechFeatures]:
    """Pieces of 0..stop-1; `made` learns where each begins."""
    for first in range(0, stop, size):
        made.append(first)
        yield features(first, min(first + size, stop))


@pytest.mark.parametrize("size", [1, 7, 100])
def test_frames_do_not_depend_on_the_pieces(size: int) -> None:
    reel = Reel(pieces([], size=size), 100)
    assert len(reel) == 100
    for start, stop in ((0, 3), (2, 40), (39, 40), (10, 100)):
        assert reel.between(start, stop).energy.tolist() == list(range(start, stop))


def test_nothing_is_made_before_it_is_wanted_nor_kept_when_it_is_behind() -> None:
    made: list[int] = []
    reel = Reel(pieces(made), 100)
    assert made == []
    reel.between(0, 8)
    assert made == [0, 7]
    reel.forget(30)
    assert made == [0, 7, 14, 21, 28]
    assert reel.between(30, 34).energy.tolist() == [30, 31, 32, 33]
    with pytest.raises(ValueError, match=r"holds 30\.\.100"):
        reel.between(29, 34)
    assert len(reel._held) == 1


def test_a_whole_signal_is_a_reel_too_and_a_short_one_is_named() -> None:
    assert Reel.of(features(0, 9)).between(4, 6).energy.tolist() == [4, 5]
    reel = Reel(pieces([], stop=10), 20)
    assert Reel.of(reel) is reel
    with pytest.raises(ValueError, match="ends at frame 10 of 20"):
        reel.between(5, 12)
