"""Hands in the film against the truth, on rendered people that nothing was trained on.

    python benchmarks/hands.py --assets FOLDER --cache FOLDER                 30 people, 3 poses each
    python benchmarks/hands.py --assets FOLDER --cache FOLDER --people 8

The photo is looked at by the portrait finder alone; the asked pose is the true change of wrist, hand and fingers.
Rows: the photo itself, layers moved by the skeleton, layers moved by the hand's mesh where one fits.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy import ndarray

from emo2 import pipeline
from emo2.errors import UserError
from emo2.hands.change import hand_change
from emo2.portrait.find import find
from emo2.studio import labels
from emo2.studio.acting import first_pose
from emo2.studio.assets import Library
from emo2.studio.casting import Casting, cast
from emo2.studio.gesturing import first_arms, next_arms
from emo2.studio.make import FIRST_TEST_SEED
from emo2.studio.people import PART_NAMES
from emo2.studio.render import Renderer, still
from emo2.studio.scene import background, lights
from emo2.studio.views import body_camera
from emo2.video.hand_layer import hand_pose
from emo2.video.layer_cut import Arm
from emo2.video.layers import Layers

SIZE = 384
HAND_PARTS = (PART_NAMES.index("left_hand"), PART_NAMES.index("right_hand"))
MOVED = 0.01
"""A hand whose wrist moves less than this share of the picture, and does not turn, is no test."""


def main() -> None:
    """Film, compose, measure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--assets", type=Path, required=True)
    parser.add_argument("--cache", type=Path, required=True, help="where filmed people are kept")
    parser.add_argument("--people", type=int, default=30)
    args = parser.parse_args()
    torch.set_num_threads(1)
    finder = pipeline.load_finder()
    table: dict[str, list[float]] = defaultdict(list)
    counts: dict[str, int] = defaultdict(int)
    for seed in range(FIRST_TEST_SEED + 100, FIRST_TEST_SEED + 100 + args.people):
        shot = filmed(seed, args.assets, args.cache)
        photo = torch.from_numpy(shot["pic"][0]).permute(2, 0, 1).float() / 127.5 - 1
        try:
            portrait = find(photo, finder)
        except UserError:
            continue
        ways = {"skeleton": Layers.build(portrait, meshes=False), "mesh": Layers.build(portrait)}
        counts["people"] += 1
        counts["hands moved"] += len(ways["mesh"].arms)
        counts["hands with a mesh"] += sum(arm.hand is not None for arm in ways["mesh"].arms)
        for frame in range(1, len(shot["pic"])):
            measure(shot, frame, ways, table)
    print(", ".join(f"{n} {name}" for name, n in counts.items()))
    print(
        "| layers | hands | PSNR, visible hand pixels | PSNR, hand box | points off, % of height |"
    )
    print("|---|--:|--:|--:|--:|")
    for kind in ("all", "with a mesh", "with a mesh, turned or bent"):
        for way in ("photo", "skeleton", "mesh"):
            rows = [table[f"{kind} {way} {name}"] for name in ("visible", "box", "points")]
            if rows[0]:
                visible, box, points = np.mean(rows[0]), np.mean(rows[1]), np.median(rows[2])
                print(
                    f"| {way}, {kind} | {len(rows[0])} | {visible:.2f} | {box:.2f} | {points:.2f} |"
                )


def filmed(seed: int, assets: Path, cache: Path) -> dict[str, ndarray]:
    """A person at rest and in up to three poses of arms and hands, with exact labels."""
    cache.mkdir(parents=True, exist_ok=True)
    path = cache / f"{seed}.npz"
    if not path.exists():
        np.savez_compressed(path, **film(seed, assets))
    with np.load(path) as shot:
        return dict(shot)


def film(seed: int, assets: Path) -> dict[str, ndarray]:
    """Render it."""
    rng = np.random.default_rng(seed)
    renderer = Renderer((SIZE, SIZE), trace=(SIZE, SIZE), supersample=1.3)
    person = cast(rng, Casting(library=Library(assets), is_test=True, low_m=-1.15))
    view = body_camera(rng, person, "hips")
    arms = first_arms(rng)
    poses = [replace(first_pose(rng), arms=arms.poses(person))]
    for _ in range(40):
        other = next_arms(rng, arms)
        if other is not arms:
            poses.append(replace(poses[0], arms=other.poses(person)))
        if len(poses) == 4:
            break
    actor = renderer.actor(person)
    light, behind = lights(rng), background(rng, SIZE, SIZE)
    rows: dict[str, list[ndarray]] = defaultdict(list)
    for index, pose in enumerate(poses):
        posed = still(person, pose, view)
        if index:
            actor.pose(posed)
        trace = actor.trace(view) if index else actor.set_reference(posed, view)
        rows["seen"].append(trace.seen > 0.5)
        rows["pic"].append(actor.draw(view, light, behind))
        rows["parts"].append(trace.parts)
        rows["body"].append(labels.body_points(person, posed, view, trace))
        rows["hand"].append(labels.hand_points(person, posed, view, trace))
        rows["numbers"].append(np.stack([posed.bones.hand_numbers(side) for side in (0, 1)]))
    actor.release()
    return {name: np.stack(values) for name, values in rows.items()}


def asked(shot: dict[str, ndarray], frame: int) -> ndarray:
    """The true change of both arms as rows of a pose (`POSE`, then `HAND`)."""
    numbers = torch.from_numpy(shot["numbers"][[0, frame]])
    change = hand_change(numbers, numbers[:1])[1].float().numpy()
    wrists = (shot["hand"][frame, :, 0, :2] - shot["hand"][0, :, 0, :2]) * SIZE
    elbows = (shot["body"][frame, 4:6, :2] - shot["body"][0, 4:6, :2]) * SIZE
    zoom = np.zeros((2, 1), np.float32)
    return np.concatenate([wrists, change[:, :1], zoom, elbows, change[:, 1:]], 1).astype(
        np.float32
    )


def measure(
    shot: dict[str, ndarray], frame: int, ways: dict[str, Layers], table: dict[str, list[float]]
) -> None:
    """All hands of one pose that every way of moving can move."""
    photo, truth = (shot["pic"][k].astype(np.float32) / 127.5 - 1 for k in (0, frame))
    poses = asked(shot, frame)
    films = {"photo": photo}
    for way, layers in ways.items():
        films[way] = photo.copy()
        layers.lay(films[way], None, poses)
    for arm in ways["mesh"].arms:
        side = arm.limb.side
        turned = float(np.linalg.norm(poses[side, [2, 6, 7]])) + float(
            np.abs(poses[side, 8:]).max()
        )
        far = float(np.linalg.norm(poses[side, :2])) / SIZE
        hand = shot["parts"][frame] == HAND_PARTS[side]
        points = shot["hand"][:, side]
        if (
            (far < MOVED and turned < 0.1)
            or hand.sum() < 60
            or points[[0, frame], :, 2].mean() < 0.5
        ):
            continue
        kinds = ["all"]
        if arm.hand is not None:
            kinds += ["with a mesh"] + ["with a mesh, turned or bent"] * (turned > 0.35)
        ys, xs = np.nonzero(hand)
        box = np.zeros_like(hand)
        box[max(ys.min() - 4, 0) : ys.max() + 5, max(xs.min() - 4, 0) : xs.max() + 5] = True
        for way, film in films.items():
            skeleton = next((a for a in ways["skeleton"].arms if a.limb.side == side), None)
            mover = {"photo": None, "skeleton": skeleton, "mesh": arm}[way]
            off = np.linalg.norm(
                carried(mover, points[0, :, :2] * SIZE, poses[side]) - points[frame, :, :2] * SIZE,
                axis=1,
            )
            for kind in kinds:
                table[f"{kind} {way} visible"].append(psnr(film, truth, hand & shot["seen"][frame]))
                table[f"{kind} {way} box"].append(psnr(film, truth, box))
                table[f"{kind} {way} points"].append(100 * float(np.median(off)) / SIZE)


def carried(arm: Arm | None, points: ndarray, pose: ndarray) -> ndarray:
    """Where the photo's points of a hand come to lie."""
    if arm is None:
        return points
    if arm.hand is not None:
        moved, _ = arm.hand.moved(hand_pose(pose))
        rest = arm.hand.rest[: len(moved) // 2]
        nearest = ((points[:, None] - rest[None, :, :2]) ** 2).sum(-1).argmin(1)
        return points + moved[nearest, :2] - rest[nearest, :2]
    cos, sin = np.cos(pose[2]), np.sin(pose[2])
    turn = np.array([[cos, -sin], [sin, cos]])
    return arm.limb.wrist + (points - arm.limb.wrist) @ turn.T + pose[:2]


def psnr(film: ndarray, truth: ndarray, where: ndarray) -> float:
    """Decibels over the chosen pixels, of values in [-1, 1]."""
    error = float(np.square(film[where].clip(-1, 1) - truth[where]).mean()) if where.any() else 4.0
    return -10 * float(np.log10(max(error / 4, 1e-6)))


if __name__ == "__main__":
    main()
