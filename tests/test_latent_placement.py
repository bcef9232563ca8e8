"""However the networks are placed, the film is the same: fast paths change seconds, not pictures."""

from __future__ import annotations

import pytest
import torch
from small_families import small_portrait, small_stage
from test_latent_stage import film, joined

from emo2.errors import UserError
from emo2.signals import Portrait
from emo2.video.latent_stage import LatentStage, Wishes
from emo2.video.placement import Placement, decoded_ahead
from emo2.video.windows import Laying

NAME = "echomimic-v2"


@pytest.fixture
def portrait(drawn_portrait: Portrait) -> Portrait:
    return small_portrait(drawn_portrait, (64, 64))


@pytest.fixture
def usual(portrait: Portrait) -> torch.Tensor:
    """Ten frames, in windows, guided."""
    return joined(film(small_stage(NAME), NAME, portrait, 10))


@pytest.mark.parametrize(
    "placement",
    [
        Placement(devices=("cpu", "cpu")),
        Placement(offload="parts"),
        Placement(offload="layers"),
        Placement(channels_last=True),
        Placement(reuse=False),
    ],
    ids=["two devices", "parts in turn", "layers in turn", "channels last", "no reuse"],
)
def test_placement_does_not_change_the_film(
    placement: Placement, portrait: Portrait, usual: torch.Tensor
) -> None:
    found = joined(film(small_stage(NAME, placement), NAME, portrait, 10))
    assert float((found - usual).abs().max()) < 1e-4


@pytest.mark.parametrize("name", ["full", "hallo", "vexpress", "aniportrait"])
def test_the_structure_without_reuse_predicts_the_same(name: str) -> None:
    stage = small_stage(name)
    generator = torch.Generator().manual_seed(5)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator)

    config = stage.config.denoiser
    context = draw(1, 2, config.context_width) if config.context_width else None
    before = draw(1, 2, 4, 8, 8) if stage.config.motion_frames else None
    photo, noisy, time = draw(1, 4, 8, 8), draw(1, 4, 4, 8, 8), torch.tensor([500])
    from emo2.video.conditions import FrameConditions

    given = FrameConditions(
        audio=draw(1, 4, 3, config.audio_width) if config.audio_width else None, context=context
    )
    said = [
        stage.denoise(
            noisy, time,
            stage.read(photo, context=context, before=before, reuse=reuse),
            stage.halves(given, reuse=reuse),
        )
        for reuse in (True, False)
    ]  # fmt: skip
    assert torch.allclose(*said, atol=1e-5)


def test_windows_are_laid_as_wished(portrait: Portrait, usual: torch.Tensor) -> None:
    other = Wishes(laying=Laying(overlap=0, shift=2, beyond="clean"))
    stage = small_stage(NAME, wishes=other, clip_frames=4)
    assert stage.way.windows is not None
    assert stage.way.windows.at(10, 1) == [[0, 1, 2, 3], [2, 3, 4, 5], [6, 7, 8, 9]]
    found = joined(film(stage, NAME, portrait, 10))
    assert found.shape == usual.shape
    assert float((found - usual).abs().max()) > 1e-3
    chapters = small_stage(NAME, wishes=other, clip_frames=4)
    chapters.chapter = 4  # nothing is shared: chapters without overlap are films of their own
    assert joined(film(chapters, NAME, portrait, 10)).shape == usual.shape
    with pytest.raises(UserError, match="windows have 4 frames; give 0 to 3"):
        small_stage(NAME, wishes=Wishes(laying=Laying(overlap=4)))
    with pytest.raises(UserError, match="leave --shift and --beyond out"):
        small_stage("hallo", wishes=Wishes(laying=Laying(shift=1, beyond="wrap")))


def test_every_device_gets_a_compiled_denoiser() -> None:
    """Compiling itself waits for the first call."""
    made = Placement(devices=("cpu", "cpu"), compiled=True).denoisers(small_stage(NAME).denoiser)
    assert all(each._compiled_call_impl is not None for each in made)
    assert made[0] is not made[1]


def test_bf16_stays_near(portrait: Portrait, usual: torch.Tensor) -> None:
    found = joined(film(small_stage(NAME, Placement(dtype=torch.bfloat16)), NAME, portrait, 10))
    assert found.dtype == torch.float32
    assert float((found - usual).abs().mean()) < 0.1


def test_guidance_of_one_evaluates_one_half(portrait: Portrait) -> None:
    def rows(stage: LatentStage) -> set[int]:
        seen: set[int] = set()
        handle = stage.denoiser.conv_in.register_forward_hook(
            lambda _, inputs, __: seen.add(inputs[0].shape[0])
        )
        film(stage, NAME, portrait, 4)
        handle.remove()
        return seen

    once, full = Wishes(guidance=1.0), Wishes(guidance=2.5)
    assert rows(small_stage(NAME, wishes=once)) == {4}
    assert rows(small_stage(NAME, wishes=full)) == {8}
    assert rows(small_stage(NAME, Placement(reuse=False), wishes=once)) == {8}


def test_the_reference_is_projected_once_a_film(portrait: Portrait) -> None:
    counts = {}
    for reuse in (True, False):
        stage = small_stage(NAME, Placement(reuse=reuse))
        tokens = [0]
        project = next(m for n, m in stage.denoiser.named_modules() if n.endswith("attention.to_k"))
        handle = project.register_forward_hook(
            lambda _, inputs, __, tokens=tokens: tokens.__setitem__(
                0, tokens[0] + inputs[0].shape[0] * inputs[0].shape[1]
            )
        )
        film(stage, NAME, portrait, 4, steps=4)
        handle.remove()
        counts[reuse] = tokens[0]
    cells, frames, steps = 64, 4, 4
    assert counts[True] == cells * (1 + 2 * frames * steps)
    assert counts[False] == cells * (2 * 2 * frames + frames) * steps


def test_what_does_not_go_together_is_said() -> None:
    with pytest.raises(UserError, match="leave --offload out"):
        Placement(devices=("cuda:0", "cuda:1"), offload="parts")
    with pytest.raises(UserError, match="cannot be compiled whole"):
        Placement(offload="layers", compiled=True)


def test_decoding_ahead_keeps_the_order_and_passes_errors_on() -> None:
    parts = [torch.full((1, 2), float(i)) for i in range(5)]
    found = list(decoded_ahead(lambda part: part * 2, parts, torch.device("cpu")))
    assert [float(f[0, 0]) for f in found] == [0.0, 2.0, 4.0, 6.0, 8.0]

    def fail(part: torch.Tensor) -> torch.Tensor:
        raise UserError("no more memory")

    with pytest.raises(UserError, match="no more memory"):
        list(decoded_ahead(fail, parts, torch.device("cpu")))


@pytest.mark.slow
def test_the_denoiser_compiles_whole() -> None:
    """In a process of its own: the shape checks of the tests cannot be traced."""
    import subprocess
    import sys
    from pathlib import Path

    code = (
        "import sys, torch; sys.path += ['src', 'tests'];"
        "from small_families import small_stage;"
        "from emo2.video.conditions import FrameConditions as F;"
        "s = small_stage('echomimic-v2');"
        "look = s.read(torch.randn(1, 4, 8, 8));"
        "given = s.halves(F(audio=torch.randn(1, 4, 50, 8), maps=torch.rand(1, 4, 3, 64, 64)));"
        "x, t = torch.randn(1, 4, 4, 8, 8), torch.tensor([5]);"
        "plain = s.denoise(x, t, look, given);"
        "s.denoiser.compile(fullgraph=True, backend='aot_eager');"
        "print(float((s.denoise(x, t, look, given) - plain).abs().max()) < 1e-5)"
    )
    root = Path(__file__).parents[1]
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=root)
    assert run.stdout.strip() == "True", run.stderr[-2000:]
