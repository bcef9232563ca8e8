"""Stage 2 as a whole: training terms, views, and films made clip after clip."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import Tensor, nn

from emo2.config import CodecConfig, UNetConfig, VideoConfig
from emo2.signals import Clip, GuidanceMaps, Motion, Portrait, SpeechFeatures
from emo2.video import VideoStage
from emo2.video.examples import BODY_VIEW, FACE_VIEW, HEAD, Examples, face_planes, head_speed
from emo2.video.fitting import fit_scale, fit_table, residuals
from emo2.video.views import Composer, View, choose_views, face_marks

LATENT = 24
TINY = VideoConfig(
    codec=CodecConfig(grid=32, view=64, painter_widths=(8, 8, 16)),
    basis=4,
    clip_frames=5,
    motion_frames=2,
    reference=UNetConfig(
        in_channels=15,
        out_channels=(1 + 64 + 4 + 7) * LATENT + 4,
        widths=(8, 16),
        attention=(False, True),
        heads=2,
        groups=4,
        stem=(8, 8),
        out_kernel=1,
    ),
    denoiser=UNetConfig(
        in_channels=2 * LATENT,
        out_channels=LATENT,
        widths=(8, 16),
        attention=(False, True),
        heads=2,
        groups=4,
        reference="concat",
        audio_width=6,
        temporal=True,
        condition_width=68,
        speed_buckets=3,
        guidance_channels=7,
        guidance_widths=(4, 4),
        hand_confidence=True,
    ),
)


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def stage() -> VideoStage:
    """A stage whose every network does something."""
    torch.manual_seed(0)
    made = VideoStage(TINY).eval()
    for layer in made.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear) and not layer.weight.any():
            nn.init.normal_(layer.weight, std=0.05)
    return made


def portrait(
    height: int = 90, width: int = 70, box: tuple[float, ...] = (20, 20, 50, 60)
) -> Portrait:
    return Portrait(
        image=noise(3, height, width).mul(0.3).clamp(-1, 1),
        face_box=torch.tensor(box, dtype=torch.float32),
        face_points=torch.zeros(68, 2),
        body_points=torch.zeros(8, 3),
        hand_points=torch.zeros(2, 21, 3),
        hands_present=(False, False),
    )


def script(frames: int = 13) -> tuple[SpeechFeatures, Motion]:
    features = SpeechFeatures(
        values=noise(frames, 1, 6, seed=1),
        energy=torch.zeros(frames),
        voiced=torch.zeros(frames),
        fps=25.0,
    )
    hands = torch.zeros(frames, 2, 67)
    motion = Motion(
        hands=hands,
        visibility=torch.zeros(frames, 2),
        confidence=torch.zeros(frames, 2),
        betas=torch.zeros(10),
        fps=25.0,
        face=noise(frames, 52, seed=2).abs() * 0.3,
        head=noise(frames, 6, seed=3) * 0.1,
        body=noise(frames, 6, seed=4) * 0.05,
    )
    return features, motion


def maps(first: int, stop: int, box: Tensor, side: int) -> GuidanceMaps:
    count = stop - first
    value = torch.linspace(-1, 1, side**2).view(1, 1, side, side).expand(count, 3, -1, -1)
    return GuidanceMaps(
        hand_surface=value,
        key_points=value,
        hand_masks=value[:, :2],
        confidence=torch.ones(count, 2),
        face_region=value[0, :1],
    )


def film(made: VideoStage, **wishes: object) -> list[Clip]:
    features, motion = script()
    photo = portrait()
    return list(made.sample(made.look(photo), photo, features, motion, maps, **wishes))  # type: ignore[arg-type]


def examples(consecutive: bool = True) -> Examples:
    return Examples(
        reference=noise(2, 3, 64, 64).clamp(-1, 1),
        frames=noise(2, 5, 3, 64, 64, seed=1).clamp(-1, 1),
        flow=noise(2, 5, 2, 32, 32, seed=2) * 0.03,
        visibility=torch.rand(2, 5, 1, 32, 32, generator=torch.Generator().manual_seed(3)),
        conditions=noise(2, 5, 64, seed=4) * 0.2,
        importance=torch.ones(2, 5, 1, 32, 32),
        view=torch.tensor([FACE_VIEW, BODY_VIEW]),
        marks=torch.tensor([[0.5, 0.7], [0.4, 0.4], [0.6, 0.4]]).expand(2, 3, 2),
        reference_actions=torch.zeros(2, 52),
        consecutive=consecutive,
        audio=noise(2, 5, 1, 6, seed=5) if consecutive else None,
    )


def test_guidance_maps_and_the_hands_confidence_are_trained() -> None:
    made = stage().train().train_only("denoiser")
    side = 2 * TINY.codec.grid // TINY.codec.pack
    told = dataclasses.replace(
        examples(),
        maps=noise(2, 5, 7, side, side, seed=6),
        confidence=torch.rand(2, 5, 2, generator=torch.Generator().manual_seed(7)),
    )
    made.loss(told, torch.Generator().manual_seed(0))["loss"].backward()
    guided = {
        name: parameter.grad
        for name, parameter in made.denoiser.named_parameters()
        if name.startswith(("guidance", "confidence"))
    }
    assert len(guided) > 4
    assert all(grad is not None and bool(grad.any()) for grad in guided.values())
    made.zero_grad()
    made.loss(examples(), torch.Generator().manual_seed(0))["loss"].backward()
    assert all(made.denoiser.get_parameter(name).grad is None for name in guided)


def test_a_film_has_every_frame_once_at_the_photos_size() -> None:
    clips = film(stage())
    assert [(c.start, len(c.frames)) for c in clips] == [(0, 5), (5, 5), (10, 3)]
    assert all(c.frames.shape[1:] == (3, 90, 70) for c in clips)
    assert all(bool(c.frames.isfinite().all()) and c.frames.abs().max() <= 1 for c in clips)


def test_a_film_taken_up_at_a_clip_goes_on_exactly_as_the_unbroken_one() -> None:
    made = stage()
    clips = film(made, seed=3)
    rest = film(made, seed=3, start=5, state=clips[0].state)
    for whole, again in zip(clips[1:], rest, strict=True):
        assert whole.start == again.start
        assert torch.equal(whole.frames, again.frames)


def test_the_same_seed_gives_the_same_film_and_another_seed_another() -> None:
    made = stage()
    first, again, other = (torch.cat([c.frames for c in film(made, seed=s)]) for s in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_motion_frames_carry_over_from_the_clip_before() -> None:
    made = stage()
    clips = film(made)
    other = {name: 255 - value for name, value in clips[0].state.items()}
    changed = film(made, start=5, state=other)
    assert not torch.equal(changed[0].frames, clips[1].frames)


def test_without_steps_the_film_is_the_expectation_and_knows_no_seed() -> None:
    made = stage()
    first, other = (torch.cat([c.frames for c in film(made, seed=s, steps=0)]) for s in (1, 2))
    assert torch.equal(first, other)


def test_a_denoiser_that_has_learned_nothing_leaves_the_expectation() -> None:
    torch.manual_seed(0)
    made = stage()
    made.denoiser.head.load_state_dict(VideoStage(TINY).denoiser.head.state_dict())
    plain = torch.cat([c.frames for c in film(made, steps=0)])
    for steps in (1, 4):
        assert torch.equal(torch.cat([c.frames for c in film(made, steps=steps)]), plain)


def test_one_step_says_the_mean_of_the_residual_whatever_the_noise() -> None:
    made = stage()
    first, other = (torch.cat([c.frames for c in film(made, seed=s, steps=1)]) for s in (1, 2))
    plain = torch.cat([c.frames for c in film(made, steps=0)])
    assert (first - other).abs().max() < 0.05 * (first - plain).abs().max()


def test_the_scale_is_fitted_to_residuals_of_unit_variance_known_or_not() -> None:
    made = stage()
    batches = [
        dataclasses.replace(examples(), conditions=noise(2, 5, 64, seed=20 + n) * 0.2)
        for n in range(12)
    ]

    def found() -> tuple[Tensor, Tensor]:
        generator = torch.Generator().manual_seed(3)
        parts = [residuals(made, batch, generator) for batch in batches]
        power = torch.cat([part.power(torch.zeros(7, LATENT)) for part in parts])
        return power, torch.cat([part.terms for part in parts])

    before = made.denoiser.head.weight.clone()
    wrong, _ = found()
    grown = fit_scale(made, batches, torch.Generator().manual_seed(3))
    power, terms = found()
    assert (wrong.mean(0) - 1).abs().max() > 0.5
    torch.testing.assert_close(power.mean(0), torch.ones(LATENT), atol=0.03, rtol=0)
    for flag in range(1, 4):
        for known in (0.0, 1.0):
            there = terms[:, flag] == known
            torch.testing.assert_close(power[there].mean(0), torch.ones(LATENT), atol=0.05, rtol=0)
    torch.testing.assert_close(made.denoiser.head.weight * grown.view(-1, 1, 1, 1), before)


def test_a_start_inside_a_clip_is_refused() -> None:
    with pytest.raises(ValueError, match="begins none"):
        film(stage(), start=3)


def test_an_untrained_stage_shows_the_photo() -> None:
    torch.manual_seed(0)
    photo = portrait()
    smooth = torch.nn.functional.avg_pool2d(photo.image[None], 15, 1, 7)[0]
    photo = dataclasses.replace(photo, image=smooth)
    features, motion = script(5)
    made = VideoStage(TINY).eval()
    clip = next(made.sample(made.look(photo), photo, features, motion, None, steps=0))
    assert (clip.frames - photo.image).abs().mean() < 0.02


@pytest.mark.parametrize("part", ["own", "basis", "painter", "denoiser"])
def test_each_part_trains_its_own_networks_and_no_other(part: str) -> None:
    made = stage().train_only(part)
    made.loss(examples(), torch.Generator().manual_seed(0))["loss"].backward()
    owners = {
        "reference": "basis",
        "basis": "basis",
        "places": "basis",
        "own": "own",
        "painter": "painter",
        "denoiser": "denoiser",
        "arms": "arms",
    }
    for name, module in made.named_children():
        moved = any(p.grad is not None and bool(p.grad.any()) for p in module.parameters())
        trained = {"basis", "own"} if part == "basis" else {part}
        assert moved == (owners[name] in trained), name


def test_single_pictures_train_no_denoiser() -> None:
    terms = stage().loss(examples(consecutive=False), torch.Generator().manual_seed(0))
    assert "denoiser" not in terms
    assert "flow" in terms


def test_the_denoisers_loss_falls_when_it_is_trained_on_one_batch() -> None:
    made = stage().train_only("denoiser")
    optimiser = torch.optim.Adam(made.denoiser.parameters(), 3e-3)

    def step() -> float:
        loss = made.loss(examples(), torch.Generator().manual_seed(0))["loss"]
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        return float(loss.detach())

    losses = [step() for _ in range(30)]
    assert losses[-1] < 0.7 * losses[0]


def test_head_speed_is_that_of_turning_and_the_first_frame_has_its_neighbours() -> None:
    conditions = torch.zeros(1, 4, 64)
    conditions[..., HEAD.start] = torch.tensor([0.0, 0.016, 0.032, 0.032])
    torch.testing.assert_close(head_speed(conditions), torch.tensor([[1.0, 1.0, 1.0, 0.0]]))


def test_a_face_picture_needs_one_view_and_a_half_body_picture_two() -> None:
    close = choose_views(portrait(256, 256, (70, 60, 186, 210)))
    assert [v.kind for v in close] == [FACE_VIEW]
    wide = choose_views(portrait(512, 384, (160, 60, 224, 140)))
    assert [v.kind for v in wide] == [BODY_VIEW, FACE_VIEW]
    face = wide[1]
    assert face.left < 160 < 224 < face.left + face.side
    assert face.top < 60 < 140 < face.top + face.side


def test_a_view_beyond_the_picture_repeats_its_border() -> None:
    image = torch.arange(16.0).view(1, 1, 4, 4).expand(1, 3, 4, 4)
    cut = View(kind=FACE_VIEW, left=-2, top=0, side=4).cut(image, 4)
    assert cut[0, 0, 0].tolist() == [0, 0, 0, 1]


def test_still_parts_of_the_photo_stay_bit_for_bit_the_photo() -> None:
    photo = portrait(120, 100, (30, 20, 70, 60))
    composer = Composer(photo.image, choose_views(photo))
    tiny = [torch.full((2, 32, 32), 1e-4) for _ in composer.windows]
    frame = composer.warp(composer.flow(tiny))
    assert (torch.from_numpy(frame).permute(2, 0, 1) == photo.image).all()


def test_a_shift_in_a_view_shifts_the_photo_by_as_many_of_its_pixels() -> None:
    across, down = torch.meshgrid(*[torch.linspace(-0.9, 0.9, 100)] * 2, indexing="xy")
    image = torch.stack([across, down, (across - down) / 2])  # no edges: nothing is crisped
    composer = Composer(image, (View(kind=FACE_VIEW, left=0, top=0, side=100),))
    flow = torch.zeros(2, 32, 32)
    flow[0] = 0.05
    frame = torch.from_numpy(composer.warp(composer.flow([flow]))).permute(2, 0, 1)
    torch.testing.assert_close(frame[:, 1:-1, 1:90], image[:, 1:-1, 6:95], atol=1e-4, rtol=0)


def test_the_faces_planes_follow_mouth_and_eyes_and_their_size() -> None:
    marks = torch.tensor([[[0.5, 0.75], [0.4, 0.45], [0.6, 0.45]]])
    planes = face_planes(marks, 40)[0]
    assert planes.shape == (9, 40, 40)
    for mark, plane in zip(marks[0], planes[6:], strict=True):
        place = int(plane.argmax())
        found = torch.tensor([place % 40 + 0.5, place // 40 + 0.5]) / 40
        assert (found - mark).abs().max() < 1 / 40
    smaller = face_planes(marks * 0.5, 40)[0]
    torch.testing.assert_close(smaller[:2, 5, 5], planes[:2, 11, 11], atol=0.05, rtol=0)


def test_what_moves_by_half_a_pixel_stays_nearly_as_sharp_as_what_rests() -> None:
    stripes = torch.cos(torch.arange(64.0) * (2 * torch.pi / 5)).expand(3, 64, 64)
    composer = Composer(stripes, [View(kind=FACE_VIEW, left=0, top=0, side=64)])
    flow = torch.zeros(2, 8, 8)
    flow[0] = 0.5 / 64
    moved = composer.warp(composer.flow([flow]))[20:44, 20:44]
    assert moved.std() > 0.9 * float(stripes[:, 20:44, 20:44].std())  # linear: 0.81


def test_marks_come_from_the_points_or_else_from_the_face_box() -> None:
    photo = portrait(100, 100, (20, 20, 80, 80))
    usual = face_marks(photo)
    assert bool(((usual > 20) & (usual < 80)).all())
    points = torch.full((68, 2), 50.0)
    points[60:68] = torch.tensor([48.0, 70.0])
    points[36:42] = torch.tensor([35.0, 40.0])
    points[42:48] = torch.tensor([65.0, 40.0])
    found = face_marks(dataclasses.replace(photo, face_points=points))
    assert found.tolist() == [[48, 70], [35, 40], [65, 40]]


def test_fitting_the_table_brings_the_expectation_nearer_to_faces_in_still_heads() -> None:
    made, batch = stage(), examples()
    marks = torch.tensor([[0.5, 0.7], [0.4, 0.4], [0.6, 0.4]]).expand(2, 3, 2)
    conditions = torch.zeros(2, 5, 64)
    conditions[..., :52] = torch.rand(2, 5, 52, generator=torch.Generator().manual_seed(0))
    batch = dataclasses.replace(
        batch, view=torch.zeros(2), marks=marks, conditions=conditions,
        visibility=torch.ones(2, 5, 1, 32, 32),
    )  # fmt: skip

    def error() -> float:
        output = made.see(batch.reference[:, None], batch.view, batch.marks).output
        found = made.codec.field(made.basis(output, marks, conditions).mean).flow
        return float((found - batch.flow)[..., 12:24, 10:22].abs().mean())

    with torch.no_grad():
        before = error()
        assert fit_table(made, [batch]) == 10
        assert error() < 0.9 * before
