"""The preview film: as long as the voice, hands on their sides, both arms attached."""

from __future__ import annotations

import math
from pathlib import Path

import av
import torch

from emo2.hands import shape_hand
from emo2.hands.preview import preview_frames, render_preview
from emo2.hands.sleeve import ALONG, arms, elbows
from emo2.media import speech_from_samples
from emo2.signals import Motion

SMALL = (120, 160)


def gesture(frames: int) -> Motion:
    """Both hands before the belly, moving a little."""
    t = torch.arange(frames) / 25 * 2 * math.pi
    hands = []
    for side, x in (("left", 1.0), ("right", -1.0)):
        wrist = torch.stack((x * (0.15 + 0.02 * t.sin()), 0.3 + 0.02 * t.cos(), 0.2 + 0 * t), -1)
        fingers = torch.tensor((-0.4 * x, -0.8, 0.4)).expand(frames, 3)
        palm = torch.tensor((-0.6 * x, 0.2, 0.5)).expand(frames, 3)
        curl = torch.full((frames, 5), 0.4)
        hands.append(shape_hand(side, wrist, fingers_to=fingers, palm_to=palm, curl=curl))
    return Motion(
        hands=torch.stack(hands, 1), visibility=torch.ones(frames, 2), confidence=torch.ones(frames, 2),
        betas=torch.zeros(10), fps=25.0, head=torch.zeros(frames, 6),
    )  # fmt: skip


def skin(frames: torch.Tensor) -> torch.Tensor:
    """Where the picture is skin-coloured: neither background nor sleeve."""
    red, green, blue = ((frames + 1) / 2).unbind(-3)
    return (red > 1.2 * blue) & (green > 0.68 * red) & (red > 0.25)


def test_the_film_has_the_motions_length_and_the_voice_under_it(tmp_path: Path) -> None:
    samples = 0.3 * torch.sin(torch.arange(19_200) * 0.2)
    speech = speech_from_samples(samples, sample_rate=16_000)
    render_preview(gesture(30), speech, tmp_path / "a.mp4", size=SMALL)
    with av.open(str(tmp_path / "a.mp4")) as film:
        video, audio = film.streams.video[0], film.streams.audio[0]
        frames = list(film.decode(video))
        assert len(frames) == 30
        assert (video.height, video.width) == SMALL
        assert video.average_rate == 25
        assert abs(float(audio.duration * audio.time_base) - 1.2) < 0.1
    assert [p.name for p in tmp_path.iterdir()] == ["a.mp4"]


def test_a_motion_without_voice_gives_a_silent_film(tmp_path: Path) -> None:
    render_preview(gesture(3), None, tmp_path / "a.mp4", size=SMALL)
    with av.open(str(tmp_path / "a.mp4")) as film:
        assert not film.streams.audio


def test_both_hands_are_seen_on_their_own_sides() -> None:
    frames = preview_frames(gesture(2), range(2), size=(240, 320))
    assert frames.shape == (2, 3, 240, 320)
    assert frames.abs().max() <= 1
    mask = skin(frames[0])
    left_half, right_half = mask[:, :160].sum(), mask[:, 160:].sum()
    assert min(left_half, right_half) > 300
    assert 0.5 < left_half / right_half < 2
    assert not mask[:60].any(), "no skin above the chest"


def test_a_hidden_hand_takes_its_arm_along() -> None:
    motion = gesture(1)
    motion.visibility[:, 1] = 0
    mask = skin(preview_frames(motion, range(1), size=(240, 320))[0])
    assert not mask[:, :120].any()
    assert mask[:, 160:].sum() > 300


def test_the_wrists_stay_in_the_picture_however_far_they_go() -> None:
    motion = gesture(1)
    motion.hands[0, 0, 64:] = torch.tensor((0.55, -0.25, 0.1))
    mask = skin(preview_frames(motion, range(1), size=(240, 320))[0])
    assert mask[:120, 200:].any()


def test_arms_keep_their_bones_and_bend_downwards() -> None:
    wrists = gesture(1).hands[0, :, 64:]
    found = elbows(wrists)
    shoulders = torch.tensor(((0.18, 0.0, -0.02), (-0.18, 0.0, -0.02)))
    assert torch.allclose((found - shoulders).norm(dim=-1), torch.tensor(0.29), atol=1e-4)
    assert torch.allclose((found - wrists).norm(dim=-1), torch.tensor(0.25), atol=1e-4)
    assert (found[:, 1] > 0.1).all(), "elbows hang"
    assert found[0, 0] > wrists[0, 0], "outside of the wrists"
    far = elbows(torch.tensor(((0.9, -0.4, 0.0), (-0.9, -0.4, 0.0))))
    assert far.isfinite().all()


def test_the_arm_begins_at_the_wrist_and_ends_at_the_shoulder() -> None:
    hands = gesture(1).hands
    tube = arms(hands)[0]
    along = torch.from_numpy(ALONG)
    assert torch.allclose(tube[1, along == 1].mean(0), torch.tensor((-0.18, 0.0, -0.02)), atol=1e-3)
    ring = torch.from_numpy(ALONG == 0)
    assert (tube[0, ring].mean(0) - hands[0, 0, 64:]).norm() < 0.015
