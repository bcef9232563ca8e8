"""What stage 2's diffusion adds over its own one-step expectation, on takes of people held out from training.

    emo2 studio test --kind takes --held-out --people 14 --assets makehuman
    python benchmarks/denoiser.py --data test                      the shipped weights
    python benchmarks/denoiser.py --data test --preset FOLDER --steps 1 2 4

Each take gives its last frames; the true frames before them are the motion frames.  Errors are in pixels of a view of
256 over what is visible, those of visibility in shares.  `variance` is that of the standardised residual, weighted as in
training: what a denoiser that says nothing loses.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from emo2 import pipeline
from emo2.config import Config
from emo2.data.mixing import MixedBatches, listener_of, mix_for
from emo2.data.shards import read_person
from emo2.diffusion import final, sample
from emo2.nn import quick
from emo2.video import VideoStage
from emo2.video.conditions import FrameConditions
from emo2.video.examples import Examples, cell_weight
from emo2.video.prior import Expectation, standardise

KNOWN = {
    "all known": (True, True, True),
    "head, body withheld": (True, False, False),
    "all withheld": (False, False, False),
}


def main() -> None:
    """Measure, and print a table in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, nargs="+", required=True)
    parser.add_argument("--preset", default="compact")
    parser.add_argument("--steps", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--people", type=int, default=14)
    args = parser.parse_args()
    models = pipeline.load(args.preset)
    assert isinstance(models.video, VideoStage)
    takes = list(read_takes(args.data, models.config, args.people))
    names = ["no motion", "0", *map(str, args.steps)]
    print(
        f"{len(takes)} people\n\n| conditions | {' | '.join(names)} | visibility: 0 | {args.steps[0]} | variance |"
    )
    print(f"|---|{'--:|' * (len(names) + 3)}")
    for name, known in KNOWN.items():
        rows: dict[str, list[float]] = defaultdict(list)
        for take in takes:
            for column, value in measure(models.video, take, known, args.steps).items():
                rows[column].append(value)
        means = {column: sum(values) / len(values) for column, values in rows.items()}
        print(f"| {name} | {' | '.join(f'{mean:.3f}' for mean in means.values())} |", flush=True)


def read_takes(folders: list[Path], config: Config, people: int) -> Iterator[Examples]:
    """One take a person, as it was filmed."""
    draw = replace(mix_for("denoiser", config.video).draw, augment=False)
    shards = MixedBatches(folders, mix_for("denoiser", config.video)).shards["takes"]
    hear, left = listener_of(config), people
    for shard in shards:
        for who in range(min(left, shard.people)):
            generator = torch.Generator().manual_seed(who)
            yield read_person(shard.path, draw, generator, hear, who)
        left -= min(left, shard.people)


@torch.inference_mode()
def measure(
    stage: VideoStage, take: Examples, known: tuple[bool, ...], steps: list[int]
) -> dict[str, float]:
    """Errors without motion, of the expectation, and of samples; the residual's variance."""
    before = stage.config.motion_frames
    after = slice(before, None)
    told = torch.tensor([known])
    with quick(torch.device("cpu")):
        seen = stage.see(take.reference[:, None], take.view, take.marks)
        motion = stage.see(take.frames[:, :before], take.view, take.marks).features
    whole = stage.basis(seen.output.float(), take.marks, stage.asked(take), told)
    expected = Expectation(mean=whole.mean[:, after], scale=whole.scale[:, after])
    latents = stage.codec.encode(take.frames, take.reference, take.flow, take.visibility)
    given = stage.frame_conditions(take.conditions, take.view, told, audio=take.audio)
    maps, sure = (z if z is None else z[:, after] for z in (take.maps, take.confidence))
    frames = given.part(after, FrameConditions(maps=maps, confidence=sure))
    reference = [f[:, 0].float() for f in seen.features]

    def denoise(noisy: Tensor, time: Tensor) -> Tensor:
        with quick(torch.device("cpu")):
            made = stage.denoise_with(
                noisy, time, expected.mean, frames, reference, tuple(f.float() for f in motion)
            )
        return made.float()

    off = errors_of(stage, take, after)
    still = stage.codec.encode(
        take.reference[:, None], take.reference, torch.zeros_like(take.flow[:, :1]),
        torch.ones_like(take.visibility[:, :1]),
    )  # fmt: skip
    found = {"no motion": off(still.expand_as(expected.mean))[0]}
    found["0"], seen_off = off(expected.mean)
    noise = torch.randn(expected.mean.shape, generator=torch.Generator().manual_seed(0))
    first = None
    for count in steps:
        residual = final(sample(denoise, noise, stage.process, steps=count))
        found[str(count)], other = off(expected.mean + residual * expected.scale)
        first = other if first is None else first
    left = standardise(latents[:, after], expected).square().flatten(0, 1)
    weight = cell_weight(take.importance[:, after], stage.config.codec.pack)
    variance = float((left * weight).mean() / weight.mean())
    return found | {
        "visibility": seen_off,
        "visibility, sampled": first or 0.0,
        "variance": variance,
    }


def errors_of(
    stage: VideoStage, take: Examples, after: slice
) -> Callable[[Tensor], tuple[float, float]]:
    """Latents to the mean errors of their flow and of their visibility."""
    visible = take.visibility[:, after] > 0.5

    def off(latents: Tensor) -> tuple[float, float]:
        field = stage.codec.field(latents)
        wrong = (field.flow - take.flow[:, after]).norm(dim=2, keepdim=True)
        unseen = (field.visibility - take.visibility[:, after]).abs().mean()
        return float(wrong[visible].mean()) * stage.config.codec.view, float(unseen)

    return off


if __name__ == "__main__":
    main()
