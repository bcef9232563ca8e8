"""Distillation: a student's few steps end where its teacher's many guided ones do, and its weights say so."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Literal

import pytest
import torch
from test_motion import some_features, some_motion
from test_train import TINY, take
from torch import Tensor, nn

from emo2 import weights
from emo2.config import COMPACT
from emo2.data.motion_windows import MotionWindows, save_performances
from emo2.diffusion import Denoiser, NoiseProcess, final, guided, sample
from emo2.distil import Course
from emo2.errors import UserError
from emo2.motion import SpeechMotion
from emo2.parts import train_part
from emo2.train import TrainOptions

QUICK = TrainOptions(steps=4, bf16=False, save_every=2, warm_up=1, distil=2, rate=1e-3)
STYLED = replace(TINY, motion=replace(TINY.motion, steps=10, depth=2))
CENTRES = torch.tensor([[-2.0, 0.0], [2.0, 0.5], [0.5, 2.0]])
"""Of three kinds of points in a plane."""


def mixture(process: NoiseProcess, shares: Tensor) -> Denoiser:
    """What the best network would say of noisy points of a mixture of Gaussians; shares (b, 3) are each point's."""
    spread_of_kind = 0.3

    def denoise(noisy: Tensor, time: Tensor) -> Tensor:
        signal, spread = process.parts(noisy, time)
        variance = (signal * spread_of_kind) ** 2 + spread**2
        off = noisy[:, None] - signal[..., None] * CENTRES
        near = (-off.square().sum(-1) / (2 * variance)).exp() * shares + 1e-12
        near = near / near.sum(-1, keepdim=True)
        gain = signal * spread_of_kind**2 / variance
        clean = (near[..., None] * (CENTRES + gain[..., None] * off)).sum(1)
        if process.target == "x0":
            return clean
        noise = (noisy - signal * clean) / spread
        return noise if process.target == "noise" else signal * noise - spread * clean

    return denoise


def teacher_of_kinds(process: NoiseProcess, kind: Tensor) -> Denoiser:
    """Guided towards a kind, as stage 2 is."""
    told = nn.functional.one_hot(kind, 3).float()
    return guided(mixture(process, told), mixture(process, torch.ones_like(told) / 3), 2.0)


@pytest.mark.parametrize("target", ["x0", "noise", "velocity"])
@pytest.mark.parametrize("steps", [1, 2, 4, 5])
def test_who_says_what_the_course_asks_ends_where_the_teacher_does(
    steps: int, target: Literal["x0", "noise", "velocity"]
) -> None:
    process = NoiseProcess(schedule="scaled_linear", target=target)
    course = Course.of(process, steps)
    kind = torch.arange(12) % 3
    teacher = teacher_of_kinds(process, kind)

    def student(noisy: Tensor, time: Tensor) -> Tensor:
        clean = course.aim(teacher, noisy, time)
        signal, spread = process.parts(noisy, time)
        return process.target_of(clean, (noisy - signal * clean) / spread, time)

    noise = torch.randn(12, 2, generator=torch.Generator().manual_seed(0))
    many = final(sample(teacher, noise, process, steps=20))
    few = final(sample(student, noise, process, steps=steps))
    torch.testing.assert_close(few, many, atol=2e-3, rtol=0)


def test_a_course_begins_in_noise_ends_clean_and_draws_only_its_own_times() -> None:
    course = Course.of(NoiseProcess(), 4)
    assert course.stops.shape == (4, 6)
    assert course.stops[:, 0].tolist() == [999, 749, 499, 249]
    assert course.stops[:, -1].tolist() == [749, 499, 249, -1]
    drawn = course.draw_times(64, torch.Generator().manual_seed(0))
    assert set(drawn.tolist()) == {999, 749, 499, 249}
    odd = Course.of(NoiseProcess(), 3).stops  # 1000 is no multiple of 3
    assert odd[-1, -1] == -1
    assert bool((odd[:, :-1] > odd[:, 1:]).all())


def test_errors_where_little_noise_is_left_weigh_more() -> None:
    course, like = Course.of(NoiseProcess(), 4), torch.zeros(4, 2)
    weight = course.weight(course.stops[:, 0], like).flatten()
    assert weight[:2].tolist() == [1.0, 1.0]
    assert float(weight[3]) > 4.0


class Points(nn.Module):
    """A small network that says the noise in points, told their kind."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(2 + 3 + 4, 96), nn.SiLU(), nn.Linear(96, 96), nn.SiLU(), nn.Linear(96, 2)
        )

    def bound(self, kind: Tensor, times: Tensor) -> Denoiser:
        told = nn.functional.one_hot(kind, 3).float()

        def denoise(noisy: Tensor, time: Tensor) -> Tensor:
            place = (time[:, None] == times).float()
            return noisy + self.layers(torch.cat([noisy, told, place], dim=1))

        return denoise


def test_a_student_at_four_evaluations_beats_its_teacher_at_four_steps() -> None:
    """The schedule, target and steps of `full` on a mixture whose best denoiser is known exactly."""
    torch.manual_seed(0)
    process = NoiseProcess(schedule="scaled_linear", target="noise")
    course, network = Course.of(process, 4, usual=40), Points()
    optimiser = torch.optim.Adam(network.parameters(), lr=6e-3)
    generator = torch.Generator().manual_seed(1)
    for step in range(200):
        kind = torch.randint(0, 3, (256,), generator=generator)
        clean = CENTRES[kind] + 0.3 * torch.randn(256, 2, generator=generator)
        noise = torch.randn(256, 2, generator=generator)
        time = course.draw_times(256, generator)
        noisy = process.add_noise(clean, noise, time)
        aim = course.aim(teacher_of_kinds(process, kind), noisy, time)
        said = process.clean_of(network.bound(kind, course.stops[:, 0])(noisy, time), noisy, time)
        error = (course.weight(time, clean) * (said - aim).square()).mean()
        optimiser.param_groups[0]["lr"] = 6e-3 * (1 - step / 200)
        optimiser.zero_grad()
        error.backward()
        optimiser.step()
    kind = torch.arange(3).repeat(100)
    noise = torch.randn(300, 2, generator=torch.Generator().manual_seed(2))
    teacher = teacher_of_kinds(process, kind)
    wanted = final(sample(teacher, noise, process, steps=40))

    def off(denoise: Denoiser) -> float:
        with torch.no_grad():
            return float(
                (final(sample(denoise, noise, process, steps=4)) - wanted).norm(dim=1).mean()
            )

    assert off(network.bound(kind, course.stops[:, 0])) < 0.6 * off(teacher)


# ---- stage 1 ----


def teacher(tmp_path: Path) -> Path:
    """Weights of a stage 1 whose transformer says something, and performances beside them."""
    torch.manual_seed(3)
    made = SpeechMotion(STYLED)
    for layer in made.modules():
        if isinstance(layer, nn.Linear) and not layer.weight.any():
            nn.init.normal_(layer.weight, std=0.1)
    takes = [take(seed=i) for i in range(2)]
    made.motion.measure(torch.cat([t.rows for t in takes]).float())
    list(save_performances(tmp_path / "data", takes))
    path = tmp_path / "speech_motion.safetensors"
    return weights.save(path, made.state_dict(), STYLED, part="speech_motion", step=40)


def distilled(tmp_path: Path, out: str, start: Path | None, **wishes: object) -> Path:
    options = replace(QUICK, **wishes)  # type: ignore[arg-type]
    data, folder = tmp_path / "data", tmp_path / out
    list(train_part("motion", data, folder, batch=2, options=options, start=start))
    return folder / "speech_motion.safetensors"


def counting(model: SpeechMotion) -> Callable[[], int]:
    """How many windows the transformer has been asked about."""
    asked = []
    model.motion.net.register_forward_hook(lambda *given: asked.append(len(given[1][0])))
    return lambda: sum(asked)


def test_a_student_takes_its_steps_alone_and_only_the_transformer_has_learned(
    tmp_path: Path,
) -> None:
    start = teacher(tmp_path)
    before, _, _ = weights.load(start)
    after, config, facts = weights.load(distilled(tmp_path, "out", start))
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed
    assert all(name.startswith("motion.net.") for name in changed)
    assert config == replace(STYLED, motion=STYLED.motion.distilled_to(2))
    assert (facts["step"], facts["steps_distilled"]) == ("44", "4")
    model = SpeechMotion(config)
    weights.fill(model, after, start)
    asked = counting(model)
    heard = some_features(20)  # one window
    model.motion.sample(heard, start=some_motion(1), style="lively", seed=0)
    assert asked() == 2  # no second pass: guidance is inside


def test_the_teacher_of_stage_one_is_guided_as_it_samples(tmp_path: Path) -> None:
    tensors, config, _ = weights.load(teacher(tmp_path))
    model = SpeechMotion(config)
    weights.fill(model, tensors, tmp_path)
    model.distil(2)
    assert model.tutor is not None
    of_teacher: list[int] = []
    model.tutor.network.net.register_forward_hook(lambda *given: of_teacher.append(1))
    batch = MotionWindows([take()], config, batch=2).at(0)
    terms = model.loss(batch, torch.Generator().manual_seed(0))
    assert len(of_teacher) == 2 * 10  # ten of its twenty steps, each with and without the style
    assert not any(p.requires_grad for p in model.tutor.network.parameters())
    terms["loss"].backward()
    assert model.motion.net.row_in.weight.grad is not None
    assert model.speech.conv_1.weight.grad is None
    assert not [name for name in model.state_dict() if "tutor" in name]


def test_a_stopped_student_goes_on_exactly_and_with_its_own_teacher_alone(tmp_path: Path) -> None:
    start = teacher(tmp_path)
    whole, _, told = weights.load(distilled(tmp_path, "whole", start))
    run = train_part(
        "motion", tmp_path / "data", tmp_path / "parts", batch=2, options=QUICK, start=start
    )
    for step in run:
        if step.index == 3:  # one step after the last save
            run.close()
            break
    again, _, facts = weights.load(distilled(tmp_path, "parts", start, resume=True))
    assert all(torch.equal(again[name], whole[name]) for name in whole)
    assert {k: v for k, v in facts.items() if k != "seconds"} == {
        k: v for k, v in told.items() if k != "seconds"
    }
    other = tmp_path / "other.safetensors"
    weights.save(other, whole, STYLED, part="speech_motion")
    for wrong in ({"start": other}, {"start": start, "distil": 4}):
        with pytest.raises(UserError, match="student of another teacher or of other steps"):
            distilled(tmp_path, "parts", resume=True, **wrong)  # type: ignore[arg-type]
    with pytest.raises(UserError, match="go on with its --only and --distil"):
        distilled(tmp_path, "parts", start, resume=True, distil=0)


def test_a_student_may_teach_and_is_an_ordinary_stage_again_when_trained_on(tmp_path: Path) -> None:
    first = distilled(tmp_path, "four", teacher(tmp_path), distil=4)
    second = distilled(tmp_path, "two", first, distil=2)
    assert weights.load(second)[1].motion.distilled == 2
    with pytest.raises(UserError, match="found --distil 3, give 1, 2"):
        distilled(tmp_path, "three", first, distil=3)
    on = distilled(tmp_path, "on", first, distil=0)
    _, config, facts = weights.load(on)
    assert facts["steps_distilled"] == "4"
    usual = COMPACT.motion
    assert config.motion == replace(
        STYLED.motion, steps=usual.steps, style_guidance=usual.style_guidance
    )


def test_distilled_stage_one_refuses_other_steps(tmp_path: Path) -> None:
    config = replace(STYLED, motion=STYLED.motion.distilled_to(4))
    model = SpeechMotion(config)
    with pytest.raises(ValueError, match="made for 4 steps; found 3"):
        model.motion.sample(some_features(20), steps=3)


def test_what_cannot_be_distilled_is_said(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="needs a teacher; give its weights: --from"):
        distilled(tmp_path, "out", None)
    for part, only in (("finder", None), ("video", None), ("video", "painter")):
        run = train_part(
            part, tmp_path, tmp_path / "out", options=QUICK, start="compact", only=only
        )
        with pytest.raises(UserError, match="--distil is for what has a diffusion"):
            next(run)
