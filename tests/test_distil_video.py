"""Distillation of stage 2: the latent denoiser with its guidance inside, and the compact preset's."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from small_families import PoolCodec, heard, small_portrait
from test_full_generate import write_preset
from test_latent_stage import still
from test_recipes import at_tiny_width, examples, stage
from test_train_video import begin, few_batches, trained  # noqa: F401 - a fixture
from test_video_shards import make_shard

from emo2 import weights
from emo2.cli import main
from emo2.errors import UserError
from emo2.recipes import RECIPES, prepared
from emo2.signals import Portrait
from emo2.video.latent_stage import LatentStage, Wishes
from emo2.video.latent_student import bind_teacher
from emo2.video.latent_training import frame_conditions


def film(stage: LatentStage, portrait: Portrait, **wishes: object) -> torch.Tensor:
    """A film of one clip."""
    clips = stage.sample(stage.look(portrait), heard("full", 4), still(portrait, 4), **wishes)  # type: ignore[arg-type]
    return torch.cat([clip.frames for clip in clips])


def test_the_latent_teacher_is_guided_as_films_are() -> None:
    made = stage()
    cut = prepared(examples(2, 6), at_tiny_width(RECIPES["emo2-video"]), torch.Generator())
    made.config = replace(made.config, steps=40)
    made.distil(4)
    tutor = made.tutor
    assert tutor is not None
    assert (tutor.guidance, tutor.course.inner * 4) == (3.5, 40)
    with torch.no_grad():
        for parameter in made.denoiser.parameters():  # the teacher stays what it was
            parameter.mul_(1.1)
        given = frame_conditions(made, cut, torch.Generator(), unheard=0.0)
        photo, before = torch.randn(2, 1, 4, 8, 8), torch.randn(2, 2, 4, 8, 8)
        features = made.see(torch.cat([photo, before], dim=1))
        sites, motion = (tuple(f[:, 0] for f in features), tuple(f[:, 1:] for f in features))
        noisy, time = torch.randn(2, 3, 4, 8, 8), torch.tensor([999, 249])
        said = bind_teacher(made, tutor, given, sites, motion)(noisy, time)
        made.denoiser = tutor.network
        for i in range(2):
            one = replace(
                given,
                **{n: getattr(given, n)[i : i + 1] for n in ("audio", "maps", "confidence")},
            )
            look = made.read(photo[i], before=before[i : i + 1])
            free, told = made.denoise(noisy[i : i + 1], time[i : i + 1], look, made.halves(one))
            torch.testing.assert_close(said[i], free + 3.5 * (told - free), atol=1e-4, rtol=1e-4)


def test_a_recipe_distils_the_denoiser_whole_and_its_films_take_those_steps_alone(
    tmp_path: Path, drawn_portrait: Portrait, capsys: pytest.CaptureFixture[str]
) -> None:
    start = write_preset(tmp_path / "start", "full")
    make_shard(tmp_path / "sets" / "takes.safetensors", frames=7, kind="takes")
    given = ["--data", str(tmp_path / "sets"), "--batch", "1", "--distil", "2", "--steps", "2"]
    run = ["train", "emo-speed", "--out", str(tmp_path / "run"), "--rate", "1e-3", *given]
    assert main(run) == 2
    assert "--distil needs a teacher" in capsys.readouterr().err
    assert main([*run, "--from", str(start)]) == 0
    before, old, _ = weights.load(start)
    after, config, facts = weights.load(tmp_path / "run" / "video.safetensors", part="video")
    changed = {name.split(".")[0] for name in before if not torch.equal(before[name], after[name])}
    assert changed == {"denoiser"}
    heard_by = "denoiser.down.0.0.spatial.audio_attention.to_k.weight"
    assert not torch.equal(before[heard_by], after[heard_by])  # emo-speed alone would leave it
    assert config.video == replace(old.video, steps=2, guidance=1.0, distilled=2)
    assert set(facts) >= {"teacher", "steps_distilled"}

    made = LatentStage(config.video).use(PoolCodec())
    weights.fill(made, after, tmp_path)
    rows: list[int] = []
    made.denoiser.register_forward_hook(lambda *passed: rows.append(len(passed[1][0])))
    portrait = small_portrait(drawn_portrait, (64, 64))
    assert film(made, portrait).shape == (4, 3, 64, 64)
    assert rows == [1, 1]  # two evaluations, guidance inside
    with pytest.raises(UserError, match="distilled to 2 steps and know no others; found --steps 7"):
        film(made, portrait, steps=7)
    for wishes in (Wishes(guidance=2.0), Wishes(solver="unipc")):
        with pytest.raises(UserError, match="leave --guidance and --solver out"):
            made.use(PoolCodec(), wishes=wishes)


def test_the_denoiser_of_compact_is_distilled_and_nothing_else(tmp_path: Path) -> None:
    before, old, _ = weights.load(begin(tmp_path))
    after, config, facts = trained(tmp_path, "denoiser", distil=2, rate=1e-3)
    changed = {name.split(".")[0] for name in before if not torch.equal(before[name], after[name])}
    assert changed == {"denoiser"}  # no scale is fitted: the teacher's is the student's
    assert config.video == old.video.distilled_to(2)
    assert (facts["steps_distilled"], facts["steps_of_denoiser"]) == ("3", "3")
    again, _, _ = trained(tmp_path, "denoiser", "again", distil=2, rate=1e-3)
    assert all(torch.equal(again[name], after[name]) for name in after)
    # What the denoiser does not stand on may be trained on; the basis takes its expectation away.
    student = tmp_path / "out" / "video.safetensors"
    named = replace(config, name="compact")
    weights.save(student, after, named, part="video")
    for only, steps in (("painter", 2), ("basis", 0)):
        _, kept, _ = trained(tmp_path, only, f"on-{only}", start=student)
        assert (kept.video.distilled, kept.video.steps) == (steps, steps)
