"""Emotions that are asked for, laid over a motion."""

from __future__ import annotations

import pytest
import torch

from emo2.errors import UserError
from emo2.motion.emotions import EMOTIONS, places_of
from emo2.motion.feeling import STRONGEST, Feeling, felt
from emo2.reel import Reel, cut
from emo2.signals import FACE_ACTIONS, HEAD_CHANNELS, Motion, SpeechFeatures

FRAMES = 200
JAW, CLOSE = (FACE_ACTIONS.index(name) for name in ("jawOpen", "mouthClose"))


def planned() -> Motion:
    """A mouth that opens and closes four times a second, nothing else."""
    face = torch.zeros(FRAMES, 52)
    face[:, JAW] = 0.2
    face[:, CLOSE] = torch.where(torch.arange(FRAMES) % 6 < 2, 0.2, 0.0)
    return Motion(
        hands=torch.zeros(FRAMES, 2, 67), visibility=torch.ones(FRAMES, 2),
        confidence=torch.ones(FRAMES, 2), betas=torch.zeros(10), fps=25.0, face=face,
        head=torch.zeros(FRAMES, 6), body=torch.zeros(FRAMES, 6), gaze=torch.zeros(FRAMES, 2),
    )  # fmt: skip


def voice() -> SpeechFeatures:
    """Loud for four seconds, then silent."""
    energy = (torch.arange(FRAMES) < 100).float() * 0.7
    return SpeechFeatures(
        values=torch.zeros(FRAMES, 1, 4), energy=energy, voiced=energy, fps=25.0, loud=0.7
    )


def laid(name: str, strength: float = 1.0, seed: int = 0) -> Motion:
    motion = Reel.of(planned())
    return felt(motion, voice(), Feeling(name=name, strength=strength), seed).whole()


def size(motion: Motion, name: str) -> torch.Tensor:
    """How much of an emotion's main action there is in each frame."""
    place = places_of(next(iter(EMOTIONS[name].face)), flip=False)[0]
    assert motion.face is not None
    return motion.face[:, place]


@pytest.mark.parametrize("name", [name for name in EMOTIONS if name not in ("neutral", "contempt")])
def test_an_emotion_comes_from_nothing_and_falls_with_the_voice(name: str) -> None:
    shown = size(laid(name), name)
    assert float(shown[0]) < 0.15 * float(shown[50:100].mean())
    assert float(shown.diff().abs().max()) < 0.2 * float(shown.max())  # no jumps
    assert 0.3 < float(shown[140:].mean() / shown[40:100].mean()) < 0.8
    assert float(size(laid(name, 0.5), name)[50:].mean()) < 0.6 * float(shown[50:].mean())


@pytest.mark.parametrize("name", list(EMOTIONS))
def test_lips_that_meet_still_meet(name: str) -> None:
    before, after = planned().face, laid(name, STRONGEST).face
    assert before is not None
    assert after is not None
    shut = before[:, JAW] == before[:, CLOSE]
    assert torch.equal(after[shut][:, [JAW, CLOSE]], before[shut][:, [JAW, CLOSE]])
    for action in ("mouthUpperUp", "mouthLowerDown", "mouthFunnel"):
        for place in [k for k, known in enumerate(FACE_ACTIONS) if known.startswith(action)]:
            assert float(after[shut][:, place].max()) == 0.0
    if name == "anger":
        assert float(after[~shut][:, JAW].mean()) > 0.21  # and an angry mouth opens wider


def test_contempt_is_on_one_side_which_the_seed_chooses() -> None:
    sides = set()
    for seed in range(8):
        face = laid("contempt", seed=seed).face
        assert face is not None
        left, right = (
            float(face[:, FACE_ACTIONS.index(f"mouthDimple{side}")].max())
            for side in ("Left", "Right")
        )
        assert min(left, right) == 0.0
        sides.add(left > right)
    assert sides == {True, False}


def test_a_sad_head_hangs_and_hands_are_slower_and_smaller() -> None:
    head = laid("sadness").head
    assert head is not None
    assert float(head[60:, HEAD_CHANNELS.index("pitch")].mean()) > 0.05
    assert Feeling.of("sadness").size < 0.8 < 1.1 < Feeling.of("anger").size
    assert Feeling.of("sadness").tempo < 0.8 < 1.1 < Feeling.of("anger").tempo


def test_pieces_do_not_matter_nor_what_nobody_asked_for() -> None:
    whole = laid("joy", seed=3)
    for length in (1, 7, 64):
        motion, heard = planned(), voice()
        cuts = [(a, min(a + length, FRAMES)) for a in range(0, FRAMES, length)]
        pieces = felt(
            Reel((cut(motion, *c) for c in cuts), FRAMES),
            Reel((cut(heard, *c) for c in cuts), FRAMES),
            Feeling(name="joy"),
            3,
        ).whole()
        assert whole.face is not None
        assert pieces.face is not None
        assert torch.equal(pieces.face, whole.face)
    reel = Reel.of(planned())
    assert felt(reel, voice(), Feeling(name="neutral"), 0) is reel
    assert felt(reel, voice(), Feeling(name="joy", strength=0.0), 0) is reel


@pytest.mark.parametrize("text", ["rage", "joy:", "joy:two", "joy:2", "joy:-1", "joy:nan"])
def test_what_is_no_emotion_is_refused(text: str) -> None:
    if text == "joy:":
        assert Feeling.of(text) == Feeling(name="joy")
        return
    with pytest.raises(UserError):
        Feeling.of(text)
