"""Stage 2's expectation against the truth, on rendered people that nothing was trained on.

    emo2 studio held/face --view face --people 32 --held-out --assets FOLDER     (the same with --view body)
    python benchmarks/heldout.py held/face held/body [--preset FOLDER]

One row a set.  Flow: end-point error where the photo shows what the frame must, in pixels of a view of 256, with all
conditions known and nothing sampled, as a share of the error of a still photo; over everything, without arms and
what they hide (layers move those), over the person without arms.  Pictures: the view as a film composes it, without
arms' layers and the windows of mouth and eyes; "around the head" is .2 face heights about the outline of the true head.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors import safe_open
from torch import Tensor

from emo2 import pipeline
from emo2.data.shards import list_shards, near_arms
from emo2.metrics.flow import psnr, ssim
from emo2.signals import Portrait
from emo2.video import VideoStage
from emo2.video.backdrop import Backdrop
from emo2.video.examples import BODY, BODY_VIEW, FACE_VIEW, HEAD, marks_of
from emo2.video.layers import Layers
from emo2.video.look import Arms, Look
from emo2.video.own_actions import against
from emo2.video.painter import prepare
from emo2.video.script import dequantise
from emo2.video.views import Composer, View, as_frames

VIEW = 256
NO_ARMS = Arms(layers=None, entering=None)
HEAD_PART = 2
"""Head with hair, among the labels' parts."""


def main() -> None:
    """Read, expect, measure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("sets", type=Path, nargs="+")
    parser.add_argument("--preset", default="compact")
    args = parser.parse_args()
    torch.set_num_threads(1)
    stage = pipeline.load(args.preset).video
    assert isinstance(stage, VideoStage)
    print(
        "set, people, [flow error, still, ratio] of all, no arms, person; of turns under .03, to .2, above"
    )
    print("PSNR photo, made; SSIM photo, made; sharpness of the made person against the true one")
    for folder in args.sets:
        table: dict[str, list[float]] = defaultdict(list)
        count = 0
        for person in people(folder):
            measure(stage, person, table)
            count += 1
        report(f"{folder.name}, {count} people", table)


def people(folder: Path) -> Iterator[dict[str, Tensor]]:
    """Every person of a folder's shards with all labels."""
    for path in list_shards([folder]):
        with safe_open(path, framework="pt") as shard:
            body = "body" in (shard.metadata() or {}).get("view", "")
            names = [name for name in shard.keys() if name != "samples"]  # noqa: SIM118
            for who in range(shard.get_slice("frames").get_shape()[0]):
                found = {name: shard.get_slice(name)[who] for name in names}
                yield found | {"view": torch.tensor([BODY_VIEW if body else FACE_VIEW])}


def told(person: dict[str, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    """What stage 2 is told of a person: the reference (1 3 s s), conditions (1 f 64), marks (1 3 2)."""
    pose = [person[name] - person[f"reference_{name}"] for name in ("head", "body")]
    conditions = torch.cat([person["actions"].float(), *pose], dim=-1)[None]
    marks = marks_of(person["face_points"][0].float())[None]
    return dequantise(person["reference"])[None], conditions, marks


@torch.inference_mode()
def measure(stage: VideoStage, person: dict[str, Tensor], table: dict[str, list[float]]) -> None:
    """Add one person's figures to the table."""
    reference, conditions, marks = told(person)
    seen = stage.see(reference[:, None], person["view"], marks)
    asked = against(conditions, stage.own(reference, marks), person["view"])
    field = stage.codec.field(stage.basis(seen.output, marks, asked).mean)
    flow = person["flow"].float()
    error = (field.flow[0] - flow).norm(dim=1) * VIEW
    still = flow.norm(dim=1) * VIEW
    visible = person["visibility"].float() > 127
    here, arms = places_of(person["parts"], flow.shape[-1])
    for name, where in (
        ("all", visible), ("no arms", visible & ~arms), ("person", visible & ~arms & here)
    ):  # fmt: skip
        table[name].append(float(error[where].mean()))
        table[f"{name} still"].append(float(still[where].mean()))
    turned = conditions[0, :, HEAD][:, :3].norm(dim=-1) + conditions[0, :, BODY][:, :3].norm(dim=-1)
    for number, where in enumerate(visible & ~arms & here):
        if where.any():
            name = "small" if turned[number] < 0.03 else "middle" if turned[number] < 0.2 else "far"
            table[name].append(float(error[number][where].mean()))
            table[f"{name} still"].append(float(still[number][where].mean()))
    painted = stage.painter(
        prepare(field, reference), stage.hints(conditions, person["view"]).flatten(0, 1)
    )
    look = look_of(reference[0], person)
    rims = heads_rims(person, reference.shape[-1])
    for number, true in enumerate(dequantise(person["frames"])):
        seen_there = [field.visibility[0, number]]
        flow_there = [field.flow[0, number]]
        picture, _ = look.compose(flow_there, [painted], [], number, seen_there, NO_ARMS)
        frame = as_frames([picture])[0]
        if rims[number].any() and 0.03 < turned[number] < 0.2:
            for name, shown in (("", frame), (" photo", reference[0])):
                off = (shown - true)[:, rims[number]].square().mean() / 4.0
                table[f"rim{name}"].append(float(-10.0 * off.clamp_min(1e-9).log10()))
        for name, shown in (("", frame), (" photo", reference[0])):
            pair = (shown + 1.0) / 2.0, (true + 1.0) / 2.0
            table[f"psnr{name}"].append(psnr(*pair))
            table[f"ssim{name}"].append(ssim(*pair))
        on = F.interpolate(here[number][None, None].float(), true.shape[-2:])[0, 0] > 0
        table["sharp"].append(_edges(frame, on) / max(_edges(true, on), 1e-6))


def look_of(image: Tensor, person: dict[str, Tensor]) -> Look:
    """What a film composes with, by the labels' own face."""
    side = image.shape[-1]
    points = person["face_points"][0].float()[:, :2] * side
    portrait = Portrait(
        image=image, face_points=points, face_box=torch.cat([points.amin(0), points.amax(0)]),
        body_points=torch.zeros(8, 3), hand_points=torch.zeros(2, 21, 3), hands_present=(False, False),
    )  # fmt: skip
    view = View(kind=float(person["view"]), left=0, top=0, side=side)
    return Look(
        views=(), composer=Composer(image, [view]), backdrop=Backdrop.build(portrait),
        layers=Layers(size=portrait.size, arms=(), gaps=(), clasped=False),
    )  # fmt: skip


def heads_rims(person: dict[str, Tensor], side: int) -> Tensor:
    """Pixels about the outline of every frame's head; f h w."""
    head = (person["parts"][1:] == HEAD_PART)[:, None].float()
    head = F.interpolate(head, (side, side))
    points = person["face_points"][0].float()[:, 1] * side
    reach = 2 * max(round(0.1 * float(points.max() - points.min())), 1) + 1
    grown = F.max_pool2d(head, reach, 1, reach // 2)
    narrowed = -F.max_pool2d(-head, reach, 1, reach // 2)
    return (grown > narrowed)[:, 0]


def places_of(parts: Tensor, grid: int) -> tuple[Tensor, Tensor]:
    """Cells of the frames that hold the person, and those with arms of it or of the photo; f g g each."""
    step = parts.shape[-1] // grid
    person = F.max_pool2d((parts[:, None] > 0).float(), step)[1:, 0] > 0
    return person, near_arms(parts, grid)[:, 0] > 0


def _edges(image: Tensor, where: Tensor) -> float:
    """Mean size of the Laplacian of the grey picture."""
    grey = image.mean(0)[None, None]
    kernel = torch.tensor([[0.0, 1, 0], [1, -4, 1], [0, 1, 0]])[None, None]
    return float(F.conv2d(grey, kernel, padding=1)[0, 0].abs()[where].mean())


def report(title: str, table: dict[str, list[float]]) -> None:
    """One set's lines."""
    mean = {name: float(np.mean(values)) for name, values in table.items()}
    print(title)
    for name in ("all", "no arms", "person", "small", "middle", "far"):
        if name in mean:
            error, still = mean[name], mean[f"{name} still"]
            print(f"  {name:8s} {error:6.2f} {still:6.2f} {error / max(still, 1e-9):5.2f}")
    print(
        f"  PSNR {mean['psnr photo']:.1f} {mean['psnr']:.1f}  SSIM {mean['ssim photo']:.3f} "
        f"{mean['ssim']:.3f}  sharpness {mean['sharp']:.2f}"
        f"  around turned heads PSNR {mean['rim photo']:.1f} {mean['rim']:.1f}"
    )


if __name__ == "__main__":
    main()
