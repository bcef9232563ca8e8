"""Stage 2 over Stable Diffusion's latents: films of any length, of every family that a voice can drive."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from small_families import heard, small_portrait, small_stage

from emo2.errors import UserError
from emo2.signals import Clip, Motion, Portrait
from emo2.start import pose_of
from emo2.video.latent_sampling import chapter_at
from emo2.video.latent_stage import LatentStage, Wishes
from emo2.video.windows import Windows

FAMILIES = ("full", "hallo", "echomimic-v1", "echomimic-v2")


def still(portrait: Portrait, frames: int) -> Motion:
    """The photo's own pose, so many times, the hands moving a little."""
    pose = replace(pose_of(portrait, fps=24.0), confidence=torch.ones(1, 2))
    names = ("hands", "visibility", "confidence", "face", "head", "body", "gaze")
    motion = replace(
        pose, **{name: getattr(pose, name).repeat_interleave(frames, 0) for name in names}
    )
    moved = motion.hands.clone()
    moved[:, :, -3] += torch.linspace(0, 0.1, frames)[:, None]
    return replace(motion, hands=moved)


def film(
    stage: LatentStage, name: str, portrait: Portrait, frames: int, **wishes: object
) -> list[Clip]:
    """A film of so many frames."""
    look = stage.look(portrait)
    features, motion = heard(name, frames), still(portrait, frames)
    return list(stage.sample(look, features, motion, **wishes))  # type: ignore[arg-type]


def joined(clips: list[Clip]) -> torch.Tensor:
    return torch.cat([clip.frames for clip in clips])


@pytest.mark.parametrize("name", FAMILIES)
def test_a_film_lasts_as_long_as_its_motion(name: str, drawn_portrait: Portrait) -> None:
    portrait = small_portrait(drawn_portrait, (64, 64))
    stage = small_stage(name)
    frames = stage.config.clip_frames + 3
    clips = film(stage, name, portrait, frames)
    assert [clip.start for clip in clips] == [0, stage.config.clip_frames]
    assert joined(clips).shape == (frames, 3, 64, 64)
    assert float(joined(clips).std()) > 0.05


@pytest.mark.parametrize("name", FAMILIES)
def test_the_same_seed_gives_the_same_film(name: str, drawn_portrait: Portrait) -> None:
    portrait = small_portrait(drawn_portrait, (64, 64))
    stage = small_stage(name)
    one, again, other = (joined(film(stage, name, portrait, 4, seed=seed)) for seed in (1, 1, 2))
    assert torch.equal(one, again)
    assert not torch.allclose(one, other)


@pytest.mark.parametrize("name", ["full", "hallo", "echomimic-v2"])
def test_a_film_taken_up_at_any_clip_goes_on_unchanged(name: str, drawn_portrait: Portrait) -> None:
    portrait = small_portrait(drawn_portrait, (64, 64))
    stage = small_stage(name)
    stage.chapter = 8
    whole = film(stage, name, portrait, 13)
    for number in (1, 3):
        rest = film(
            stage, name, portrait, 13, start=whole[number].start, state=whole[number - 1].state
        )
        assert [clip.start for clip in rest] == [clip.start for clip in whole[number:]]
        assert torch.equal(joined(rest), joined(whole[number:])), number


def test_a_long_films_state_does_not_grow(drawn_portrait: Portrait) -> None:
    portrait = small_portrait(drawn_portrait, (64, 64))
    stage = small_stage("echomimic-v2")
    stage.chapter = 8
    sizes = [
        sum(t.numel() for t in clip.state.values())
        for clip in film(stage, "echomimic-v2", portrait, 20, steps=1)
    ]
    assert max(sizes) <= (8 + 1) * 4 * 8 * 8
    assert min(sizes) == 1 * 4 * 8 * 8


def test_chapters_cover_the_film_once_and_begin_with_what_is_known() -> None:
    windows = Windows(size=4, overlap=1, shift=1, beyond="wrap", closed=True)
    first, made = 0, []
    while first < 21:
        chapter = chapter_at(first, 21, windows, 8)
        assert chapter.known == min(1, first)
        assert list(chapter.frames) == list(range(first - chapter.known, chapter.stop))
        assert chapter.windows.beyond == "clean"  # an inner end is not the film's
        made += range(chapter.first, chapter.stop)
        first = chapter.stop
    assert made == list(range(21))
    assert chapter_at(8, 18, windows, 8).stop == 18  # no crumb of two frames
    assert chapter_at(0, 7, windows, 8).windows == windows


def test_the_hands_change_echomimics_film_and_the_face_stays_out_of_it(
    drawn_portrait: Portrait,
) -> None:
    portrait = small_portrait(drawn_portrait, (64, 64))
    stage = small_stage("echomimic-v2")
    look, features, motion = stage.look(portrait), heard("echomimic-v2", 4), still(portrait, 4)
    usual = joined(list(stage.sample(look, features, motion)))
    moved = motion.hands.clone()
    moved[..., -3] += 0.1
    others = {
        "hands": replace(motion, hands=moved),
        "face": replace(motion, face=torch.ones_like(motion.face)),  # type: ignore[arg-type]
    }
    changed = {
        name: not torch.equal(usual, joined(list(stage.sample(look, features, other))))
        for name, other in others.items()
    }
    assert changed == {"hands": True, "face": False}


@pytest.mark.parametrize("name", FAMILIES)
def test_the_voice_and_the_photo_change_the_film(name: str, drawn_portrait: Portrait) -> None:
    portrait = small_portrait(drawn_portrait, (64, 64))
    stage = small_stage(name)
    motion = still(portrait, 4)
    usual = joined(list(stage.sample(stage.look(portrait), heard(name, 4), motion)))
    voice = joined(list(stage.sample(stage.look(portrait), heard(name, 4, seed=9), motion)))
    other = replace(portrait, image=portrait.image.flip(0))
    photo = joined(list(stage.sample(stage.look(other), heard(name, 4), motion)))
    assert not torch.allclose(usual, voice)
    assert not torch.allclose(usual, photo)


def test_hallo_knows_a_face_by_its_embedding_and_says_when_it_has_none(
    drawn_portrait: Portrait,
) -> None:
    portrait = small_portrait(drawn_portrait, (64, 64))
    known = torch.randn(1, 512, generator=torch.Generator().manual_seed(1))
    without, with_ = small_stage("hallo"), small_stage("hallo", wishes=Wishes(embedding=known))
    assert "no face embedding" in without.notes[0]
    assert with_.notes == ()
    films = [joined(film(stage, "hallo", portrait, 4)) for stage in (without, with_)]
    assert not torch.allclose(*films)
    assert small_stage("echomimic-v2").notes == ()


def test_films_need_not_be_square(drawn_portrait: Portrait) -> None:
    portrait = small_portrait(drawn_portrait, (128, 64))
    for name in ("hallo", "echomimic-v2"):
        assert film(small_stage(name), name, portrait, 4)[0].frames.shape == (4, 3, 128, 64)


def test_a_films_size_follows_the_photos_format_and_the_weights() -> None:
    tall = small_stage("echomimic-v2").film_size((1000, 500), None)
    assert tall == (1088, 512)
    assert small_stage("hallo").film_size((1000, 500), None) == (512, 512)
    assert small_stage("hallo").film_size((1000, 500), (256, 320)) == (256, 320)
    with pytest.raises(UserError, match=r"500x300, .* multiples of 64; give --size 512x320"):
        small_stage("hallo").film_size((1000, 500), (500, 300))


def test_a_family_driven_by_poses_says_so(drawn_portrait: Portrait) -> None:
    stage = small_stage("animateanyone")
    with pytest.raises(UserError, match="animateanyone is driven by poses that no voice gives"):
        stage.look(small_portrait(drawn_portrait, (64, 64)))


@pytest.mark.parametrize(
    ("name", "solver"), [("echomimic-v2", "lcm"), ("echomimic-v2", "tcd"), ("full", "unipc")]
)
def test_few_step_samplers_make_a_film_too(
    name: str, solver: str, drawn_portrait: Portrait
) -> None:
    portrait = small_portrait(drawn_portrait, (64, 64))
    wishes = Wishes(guidance=1.0, solver=solver)  # type: ignore[arg-type]
    one, again = (
        joined(film(small_stage(name, wishes=wishes), name, portrait, 4)) for _ in range(2)
    )
    assert bool(one.isfinite().all())
    assert torch.equal(one, again)


def test_a_sampler_that_cannot_begin_at_pure_noise_is_refused(drawn_portrait: Portrait) -> None:
    portrait = small_portrait(drawn_portrait, (64, 64))
    with pytest.raises(UserError, match="unipc cannot begin at pure noise"):
        film(
            small_stage("echomimic-v2", wishes=Wishes(solver="unipc")), "echomimic-v2", portrait, 4
        )
