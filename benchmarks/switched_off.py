"""What each step of stage 2's expectation gives on held-out faces: switched off in turn, on the shipped weights.

    python benchmarks/switched_off.py held/face --people 16      (sets as benchmarks/heldout.py takes them)

Not the same as training without it: networks that never had a step would have learned to do without.  Error of the flow in
pixels of a view of 256 where the photo shows what the frame must, over the whole view and over the person.  Last, the true
flow on the grid's 64 cells a side and on half of them: how near to the true frame the warped photo comes at best.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from emo2 import pipeline
from emo2.metrics.flow import psnr, ssim
from emo2.video import VideoStage, prior
from emo2.video.own_actions import EXPRESSION, against
from emo2.video.script import dequantise
from emo2.video.views import Composer, View, as_frames

from heldout import VIEW, people, places_of, told  # isort: skip - the folder of benchmarks is on the path


def main() -> None:
    """Measure, and print tables in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("faces", type=Path)
    parser.add_argument("--preset", default="compact")
    parser.add_argument("--people", type=int, default=16)
    args = parser.parse_args()
    torch.set_num_threads(1)
    stage = pipeline.load(args.preset).video
    assert isinstance(stage, VideoStage)
    table: dict[str, list[float]] = defaultdict(list)
    for person in islice(people(args.faces), args.people):
        measure(stage, person, table)
        ceiling(person, table)
    mean = {name: sum(values) / len(values) for name, values in table.items()}
    print(f"| {args.people} people | view | of a still photo | person | of a still photo |\n|---|--:|--:|--:|--:|")  # fmt: skip
    for name in dict.fromkeys(key[0] for key in mean if key[1] == "view"):
        cells = []
        for where in ("view", "person"):
            error = mean[name, where]
            cells += [f"{error:.2f}", f"{error / mean['a still photo', where]:.3f}"]
        print(f"| {name} | {' | '.join(cells)} |")
    print("\n| the photo by the true flow | PSNR, dB | SSIM |\n|---|--:|--:|")
    for name in dict.fromkeys(key[0] for key in mean if key[1] == "psnr"):
        print(f"| {name} | {mean[name, 'psnr']:.2f} | {mean[name, 'ssim']:.3f} |", flush=True)


def variants(own: Float[Tensor, "b 52"]) -> Iterator[tuple[str, Tensor, dict[str, object]]]:
    """Name, the photo's own actions as they are told, and what of `video/prior.py` is replaced."""
    spoken = torch.tensor(EXPRESSION, device=own.device)

    def loose(cells: Tensor, matte: Tensor) -> Tensor:
        del matte
        return cells

    def no_table(_self: object, marks: Tensor, actions: Tensor, size: int) -> Tensor:
        return torch.zeros(*actions.shape[:2], 3, size, size, device=marks.device)

    yield "as shipped", own, {}
    yield "no settling of the flow", own, {"settle": lambda flow: flow}
    yield "no matte", own, {"stand_before": loose}
    yield "no table of actions", own, {"FaceTable.forward": no_table}
    yield "own actions not told", own * 0.0, {}
    yield "own expression told, own speech not", own * spoken, {}


@contextmanager
def replaced(changes: dict[str, object]) -> Iterator[None]:
    """`video/prior.py` with some of its names replaced."""
    kept = []
    for path, value in changes.items():
        holder, name = prior, path
        if "." in path:
            first, name = path.split(".")
            holder = getattr(prior, first)
        kept.append((holder, name, getattr(holder, name)))
        setattr(holder, name, value)
    try:
        yield
    finally:
        for holder, name, value in kept:
            setattr(holder, name, value)


@torch.inference_mode()
def measure(stage: VideoStage, person: dict[str, Tensor], table: dict) -> None:
    """Errors of every variant on one person."""
    reference, conditions, marks = told(person)
    seen = stage.see(reference[:, None], person["view"], marks)
    flow = person["flow"].float()
    here, _ = places_of(person["parts"], flow.shape[-1])
    visible = person["visibility"].float() > 127
    where = {"view": visible, "person": visible & here}
    for place, mask in where.items():
        table["a still photo", place].append(float((flow.norm(dim=1) * VIEW)[mask].mean()))
    for name, own, changes in variants(stage.own(reference, marks)):
        with replaced(changes):
            asked = against(conditions, own, person["view"])
            field = stage.codec.field(stage.basis(seen.output, marks, asked).mean)
        error = (field.flow[0] - flow).norm(dim=1) * VIEW
        for place, mask in where.items():
            table[name, place].append(float(error[mask].mean()))


@torch.inference_mode()
def ceiling(person: dict[str, Tensor], table: dict) -> None:
    """The photo moved by the true flow, on the whole grid and on half of it; where the photo shows what is there."""
    reference, flow = dequantise(person["reference"]), person["flow"].float()
    composer = Composer(
        reference, [View(kind=float(person["view"]), left=0, top=0, side=reference.shape[-1])]
    )
    half = F.avg_pool2d(flow, 2)
    for number, true in enumerate(dequantise(person["frames"])):
        fields = {
            "still": torch.zeros_like(flow[number]),
            f"{half.shape[-1]} cells a side": half[number],
            f"{flow.shape[-1]} cells a side": flow[number],
        }
        for name, field in fields.items():
            if field.shape[-1] != flow.shape[-1]:
                field = F.interpolate(field[None], flow.shape[-2:], mode="bilinear")[0]
            shown = as_frames([composer.warp(composer.flow([field]))])[0]
            pair = (shown + 1.0) / 2.0, (true + 1.0) / 2.0
            table[name, "psnr"].append(psnr(*pair))
            table[name, "ssim"].append(ssim(*pair))


if __name__ == "__main__":
    main()
