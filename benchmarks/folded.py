"""Folded hands in the film against the truth, on rendered people that nothing was trained on.

    python benchmarks/folded.py --assets FOLDER                 10 people, 4 moves each
    python benchmarks/folded.py --assets FOLDER --sheet FILE    and a picture of them

Both wrists move together by a few centimetres, as far as a film lets them.  How many are found, and where the film fetches
hands and forearms from that the photo shows, against where they were, as a share of the error of a photo that does not move.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy import ndarray

from emo2 import pipeline
from emo2.data.shards import FIRST_ARM
from emo2.errors import UserError
from emo2.portrait.find import find
from emo2.signals import Portrait
from emo2.studio import labels
from emo2.studio.acting import first_pose
from emo2.studio.assets import Library
from emo2.studio.casting import Casting, cast
from emo2.studio.gesturing import Arms
from emo2.studio.hand_shapes import REST_POSES
from emo2.studio.make import FIRST_TEST_SEED
from emo2.studio.render import Renderer, still
from emo2.studio.scene import background, lights
from emo2.studio.views import body_camera
from emo2.video.folded_hands import FoldedHands

SIZE = 384
MOVES_M = ((0.0, -0.03), (0.0, 0.03), (0.012, -0.02), (-0.012, 0.015))
"""Of both wrists, to the image's right and down."""
PARTS = {"forearms": (1,), "hands": (2,)}


def main() -> None:
    """Film, find, compare."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--assets", type=Path, required=True)
    parser.add_argument("--people", type=int, default=10)
    parser.add_argument("--sheet", type=Path, help="write photo and farthest frames, true and made")
    parser.add_argument("--preset", default="compact")
    args = parser.parse_args()
    torch.set_num_threads(1)
    models = pipeline.load(args.preset)
    sums = {name: np.zeros(3) for name in PARTS}
    rows, found, spent = [], 0, []
    for seed in range(FIRST_TEST_SEED + 200, FIRST_TEST_SEED + 200 + args.people):
        shot = film(seed, args.assets)
        photo = torch.from_numpy(shot["pic"][0]).permute(2, 0, 1).float() / 127.5 - 1
        try:
            portrait = find(photo, models.finder)
        except UserError:
            continue
        hands = models.video.arms.folded(portrait)
        print(seed, "folded" if hands else "no", portrait.notes)
        if hands is None:
            rows.append([shot["pic"][0]] * (2 * len(MOVES_M)))
            continue
        found += 1
        rows.append(compare(shot, portrait, hands, sums, spent))
    print(
        f"found {found} of {args.people}; {1000 * float(np.median(spent)):.1f} ms a frame at {SIZE}"
    )
    print("| what | error, px | a still photo's | ratio |\n|---|--:|--:|--:|")
    for name, (error, away, count) in sums.items():
        print(f"| {name} | {error / count:.2f} | {away / count:.2f} | {error / away:.3f} |")
    if args.sheet:
        sheet = np.vstack([np.hstack([p[SIZE // 3 :] for p in row]) for row in rows])
        cv2.imwrite(str(args.sheet), sheet[..., ::-1])


def compare(
    shot: dict[str, ndarray], portrait: Portrait, hands: FoldedHands, sums: dict[str, ndarray], spent: list[float],
) -> list[ndarray]:  # fmt: skip
    """Adds to the sums; the true frames and those made of the photo, in turn."""
    picture = portrait.image.permute(1, 2, 0).numpy()
    xs, ys = np.meshgrid(*(np.arange(SIZE, dtype=np.float32),) * 2)
    shown = []
    for number in range(1, 1 + len(MOVES_M)):
        way = (shot["wrists"][number] - shot["wrists"][0]).mean(0) * SIZE
        begun = time.perf_counter()
        flow = hands.moved(np.zeros((SIZE, SIZE, 2), np.float32), float(way[0]), float(way[1]), 0.0)
        spent.append(time.perf_counter() - begun)
        true = shot["flow"][number].astype(np.float32)
        error, away = (np.linalg.norm(z, axis=-1) for z in (flow - true, true))
        for name, parts in PARTS.items():
            which = [FIRST_ARM + 3 * side + part for side in (0, 1) for part in parts]
            here = np.isin(shot["parts"][number], which) & shot["seen"][number]
            sums[name] += error[here].sum(), away[here].sum(), here.sum()
        made = cv2.remap(
            picture, xs + flow[..., 0], ys + flow[..., 1], cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE
        )  # fmt: skip
        shown += [shot["pic"][number], ((made + 1) * 127.5).clip(0, 255).astype(np.uint8)]
    return shown


def film(seed: int, assets: Path) -> dict[str, ndarray]:
    """A person with folded hands at rest and moved, with exact labels."""
    rng = np.random.default_rng(seed)
    renderer = Renderer((SIZE, SIZE), trace=(SIZE, SIZE), supersample=1.3)
    person = cast(rng, Casting(library=Library(assets), is_test=True, low_m=-1.15))
    view = body_camera(rng, person, "hips")
    rest, front = REST_POSES["folded"], int(rng.integers(2))
    pair = [rest.moved(0, 0, 0), rest.moved(0, 0, 0)]
    pair[front] = rest.moved(0, -0.02, 0.035)  # as the performer folds them
    first, pole = first_pose(rng), np.array([0.5, -0.8, -0.6])
    actor, light, behind = renderer.actor(person), lights(rng), background(rng, SIZE, SIZE)
    rows: dict[str, list[ndarray]] = {k: [] for k in ("pic", "seen", "flow", "parts", "wrists")}
    for right, down in ((0.0, 0.0), *MOVES_M):
        hands = (pair[0].moved(right, down, 0), pair[1].moved(-right, down, 0))
        posed = still(person, replace(first, arms=Arms(hands=hands, pole=pole).poses(person)), view)
        if rows["pic"]:
            actor.pose(posed)
        trace = actor.trace(view) if rows["pic"] else actor.set_reference(posed, view)
        rows["pic"].append(actor.draw(view, light, behind))
        rows["seen"].append(trace.seen > 0.5)
        rows["flow"].append(trace.flow * SIZE)
        rows["parts"].append(trace.parts)
        rows["wrists"].append(labels.hand_points(person, posed, view, trace)[:, 0, :2])
    actor.release()
    return {name: np.stack(values) for name, values in rows.items()}


if __name__ == "__main__":
    main()
