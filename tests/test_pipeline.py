"""The pipeline on small random networks: every input changes the film, nothing else does."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from emo2 import pipeline
from emo2.errors import UserError
from emo2.generate import Job, fit_motion
from emo2.pipeline import Models, Options, animate
from emo2.signals import Motion, Portrait, Speech
from emo2.start import pose_of


def film(models: Models, portrait: Portrait, speech: Speech, **wishes: object) -> torch.Tensor:
    """All frames."""
    options = Options(**wishes)  # type: ignore[arg-type]
    return torch.cat([c.frames for c in animate(models, portrait, speech, options=options)])


def test_a_film_lasts_as_long_as_its_voice(
    small_models: Models, drawn_bust: Portrait, short_voice: Speech
) -> None:
    clips = list(animate(small_models, drawn_bust, short_voice))
    assert [c.start for c in clips] == [0, 6, 12]
    assert sum(len(c.frames) for c in clips) == 14  # 0.55 s at 25 frames a second, rounded up
    assert all(c.frames.shape[1:] == (3, 160, 128) for c in clips)
    assert all(float(c.frames.abs().max()) <= 1.0 for c in clips)


def test_the_same_seed_gives_the_same_film(
    small_models: Models, drawn_portrait: Portrait, short_voice: Speech
) -> None:
    first = film(small_models, drawn_portrait, short_voice, seed=3)
    assert torch.equal(first, film(small_models, drawn_portrait, short_voice, seed=3))
    assert not torch.equal(first, film(small_models, drawn_portrait, short_voice, seed=4))


@pytest.mark.parametrize(
    "wish", [{"style": "lively"}, {"speed": 2.0}, {"amplitude": 0.3}, {"emotion": "joy"}]
)
def test_every_wish_changes_the_film(
    small_models: Models, drawn_bust: Portrait, short_voice: Speech, wish: dict[str, object]
) -> None:
    usual = film(small_models, drawn_bust, short_voice)
    assert not torch.equal(usual, film(small_models, drawn_bust, short_voice, **wish))


def test_another_photo_changes_the_film(
    small_models: Models, drawn_bust: Portrait, short_voice: Speech
) -> None:
    other = replace(drawn_bust, image=drawn_bust.image.flip(0))
    assert not torch.allclose(
        film(small_models, drawn_bust, short_voice), film(small_models, other, short_voice)
    )


def test_a_film_taken_up_at_a_clip_goes_on_unchanged(
    small_models: Models, drawn_bust: Portrait, short_voice: Speech
) -> None:
    options = Options(seed=1)
    features = small_models.speech.encode(short_voice, 25.0)
    motion = pipeline.plan(small_models.motion, drawn_bust, features, options).whole()
    whole = list(pipeline.render(small_models, drawn_bust, features, motion, options))
    rest = list(
        pipeline.render(
            small_models, drawn_bust, features, motion, options, start=6, state=whole[0].state
        )
    )
    assert [c.start for c in rest] == [6, 12]
    assert all(torch.equal(a.frames, b.frames) for a, b in zip(whole[1:], rest, strict=True))


class Listened:
    """A long voice that counts the samples which were taken from it in its last hearing."""

    def __init__(self, seconds: float) -> None:
        generator = torch.Generator().manual_seed(0)
        self.samples = 0.1 * torch.randn(round(seconds * 16_000), generator=generator)
        self.heard = 0

    def blocks(self, size: int) -> Iterator[torch.Tensor]:
        self.heard = 0
        for block in self.samples.split(size):
            self.heard += len(block)
            yield block


def test_the_first_clip_does_not_wait_for_the_end_of_the_voice(
    small_models: Models, drawn_bust: Portrait
) -> None:
    heard = []
    for seconds in (60.0, 90.0):
        voice = Listened(seconds)
        speech = Speech(voice=voice, sample_rate=16_000, num_samples=len(voice.samples))
        clip = next(animate(small_models, drawn_bust, speech))
        assert clip.start == 0
        heard.append(voice.heard)
    assert heard[0] == heard[1] < 45 * 16_000


def test_a_motion_given_whole_makes_the_film_that_stage_1_makes_as_it_goes(
    small_models: Models, drawn_bust: Portrait, short_voice: Speech
) -> None:
    features, _ = pipeline.hear(small_models.speech, short_voice, 25.0)
    motion = pipeline.plan(small_models.motion, drawn_bust, features, Options()).whole()
    given = animate(small_models, drawn_bust, short_voice, motion=motion)
    assert torch.equal(
        torch.cat([clip.frames for clip in given]), film(small_models, drawn_bust, short_voice)
    )


def test_the_state_of_the_clip_before_matters(
    small_models: Models, drawn_bust: Portrait, short_voice: Speech
) -> None:
    options = Options()
    features = small_models.speech.encode(short_voice, 25.0)
    motion = pipeline.plan(small_models.motion, drawn_bust, features, options).whole()
    whole = list(pipeline.render(small_models, drawn_bust, features, motion, options))
    dark = {name: torch.zeros_like(value) for name, value in whole[0].state.items()}
    assert dark
    other = pipeline.render(
        small_models, drawn_bust, features, motion, options, start=6, state=dark
    )
    assert not torch.equal(next(iter(other)).frames, whole[1].frames)


def test_models_come_back_from_their_files(
    small_models: Models, drawn_bust: Portrait, short_voice: Speech, tmp_path: Path
) -> None:
    pipeline.save(small_models, tmp_path)
    again = pipeline.load(tmp_path)
    assert again.config == small_models.config
    assert torch.equal(
        film(small_models, drawn_bust, short_voice), film(again, drawn_bust, short_voice)
    )


def test_weights_of_two_frame_rates_do_not_go_together(
    small_models: Models, tmp_path: Path
) -> None:
    pipeline.save(small_models, tmp_path)
    slow = replace(small_models, config=replace(small_models.config, fps=12.5))
    pipeline.save(slow, tmp_path / "slow")
    (tmp_path / "slow" / "video.safetensors").replace(tmp_path / "video.safetensors")
    with pytest.raises(UserError, match=r"25 frames/s and stage 2 at 12\.5"):
        pipeline.load(tmp_path)


def test_an_unknown_style_names_the_known_ones(
    small_models: Models, drawn_bust: Portrait, short_voice: Speech
) -> None:
    with pytest.raises(UserError, match="unknown style 'wild'; this preset has neutral, calm"):
        film(small_models, drawn_bust, short_voice, style="wild")


@pytest.mark.parametrize("name", ["gpu", "cuda:99", "meta"])
def test_a_device_that_is_not_there_is_refused(name: str) -> None:
    with pytest.raises(UserError, match=r"cpu or cuda|no CUDA device"):
        pipeline.device_of(name)


def test_the_motion_begins_where_the_photo_stands(drawn_portrait: Portrait) -> None:
    from emo2.guidance import fit_camera
    from emo2.hands import pose_hands, stand_in

    start = pose_of(drawn_portrait, fps=25.0)
    points = pose_hands(stand_in(), start.hands, start.betas).points[0]
    drawn = fit_camera(drawn_portrait).project(points)
    seen = drawn_portrait.hand_points[..., :2]
    assert torch.allclose(drawn[:, 0], seen[:, 0], atol=0.5)
    for root in (5, 9, 17):  # index, middle, little finger: the palm lies as it does in the photo
        assert float((drawn[:, root] - seen[:, root]).norm(dim=-1).max()) < 4.0


def test_a_hand_that_the_photo_hides_is_not_seen_in_the_motion(drawn_portrait: Portrait) -> None:
    hidden = replace(drawn_portrait, hands_present=(False, True))
    assert pose_of(hidden, fps=25.0).visibility.tolist() == [[0.0, 1.0]]


def test_a_motion_of_another_length_is_refused(small_models: Models, short_voice: Speech) -> None:
    features = small_models.speech.encode(short_voice, 25.0)
    motion = pipeline.plan(small_models.motion, None, features, Options()).whole()
    assert len(fit_motion(motion, 14, 25.0, "a.npz")) == 14
    with pytest.raises(
        UserError, match=r"a\.npz has 14 frames \(0\.56 s\), but the voice needs 50"
    ):
        fit_motion(motion, 50, 25.0, "a.npz")


def test_a_motion_of_another_rate_is_brought_to_the_films(
    small_models: Models, short_voice: Speech
) -> None:
    features = small_models.speech.encode(short_voice, 12.5)
    motion: Motion = pipeline.plan(small_models.motion, None, features, Options()).whole()
    assert motion.fps == 12.5
    assert fit_motion(motion, len(motion) * 2, 25.0, "a.npz").fps == 25.0


def test_a_fingerprint_stands_for_all_that_shapes_the_film(
    small_models: Models, tmp_path: Path
) -> None:
    pipeline.save(small_models, tmp_path)
    photo, voice = tmp_path / "a.png", tmp_path / "a.wav"
    photo.write_bytes(b"photo")
    voice.write_bytes(b"voice")
    job = Job(photo=photo, voice=voice, output=tmp_path / "a.mp4", preset=str(tmp_path))
    first = job.fingerprint()
    assert replace(job, output=tmp_path / "b.mp4").fingerprint() == first
    wishes = [{"seed": 1}, {"style": "calm"}, {"size": (64, 64)}, {"face": 1}, {"steps": 3}]
    assert first not in {replace(job, **wish).fingerprint() for wish in wishes}  # type: ignore[arg-type]
    voice.write_bytes(b"another")
    assert job.fingerprint() != first
    voice.write_bytes(b"voice")
    assert job.fingerprint() == first
    weights = tmp_path / "video.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    assert job.fingerprint() != first
