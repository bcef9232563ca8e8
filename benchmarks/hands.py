"""Hands in the film against the truth, on rendered people that nothing was trained on.

    python benchmarks/hands.py --assets FOLDER --cache FOLDER                 30 people, 3 poses each
    python benchmarks/hands.py --assets FOLDER --cache FOLDER --people 8

The photo is looked at by the portrait finder alone (`--oracle`: told the true points); the asked pose is the true change
of wrist, hand and fingers, of elbows only where it says so.  First table: where films fetch arms from that the photo shows,
against where they were, as a share of the error of a photo that does not move: pixel by pixel, and on the grid of stage 2's
latents; poses held back to a film's limits ("film"), and as they come ("free").
Second table, as they come: the photo itself, layers moved by the skeleton, layers moved by the hand's mesh where one fits,
and pixels fetched by the true flow, which is as far as fetching goes (its points are the photo's).
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy import ndarray

from emo2 import pipeline
from emo2.data.shards import FIRST_ARM
from emo2.errors import UserError
from emo2.hands.change import hand_change
from emo2.portrait.find import find
from emo2.signals import Portrait
from emo2.studio import labels
from emo2.studio.acting import first_pose
from emo2.studio.assets import Library
from emo2.studio.casting import Casting, cast
from emo2.studio.gesturing import Arms, first_arms, next_arms
from emo2.studio.hand_shapes import HandPose
from emo2.studio.make import FIRST_TEST_SEED
from emo2.studio.people import PART_NAMES
from emo2.studio.pose import Pose
from emo2.studio.render import Renderer, still
from emo2.studio.scene import background, lights
from emo2.studio.views import body_camera
from emo2.video.hand_layer import hand_pose
from emo2.video.layer_chart import chart
from emo2.video.layer_cut import Arm
from emo2.video.layer_motion import MAX_FLEX, MAX_SHIFT, MAX_TILT, MAX_TURN, VIEW_DISTANCE
from emo2.video.layers import Layers

SIZE = 384
POSES = 3
"""Poses beside the photo's own, and as many held back to a film's limits."""
HAND_PARTS = (PART_NAMES.index("left_hand"), PART_NAMES.index("right_hand"))
ROWS = ("upper arms", "forearms", "hands with a mesh", "hands by the skeleton")
GRID = 64
"""Cells a side of the flow in stage 2's latents."""
MOVES = ("film", "film, elbows told", "free, elbows told")
Flows = defaultdict[tuple[str, str], ndarray]
"""By moves and part: sums of the flow's error, of a still photo's, pixels, pixels that no layer covers; of cells the first two."""
MOVED = 0.01
"""A hand whose wrist moves less than this share of the picture, and does not turn, is no test."""


def main() -> None:
    """Film, compose, measure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--assets", type=Path, required=True)
    parser.add_argument("--cache", type=Path, required=True, help="where filmed people are kept")
    parser.add_argument("--people", type=int, default=30)
    parser.add_argument("--oracle", action="store_true", help="the photo's true points")
    parser.add_argument("--preset", default="compact", help="whose finder looks")
    args = parser.parse_args()
    torch.set_num_threads(1)
    models = pipeline.load(args.preset)
    finder, arms = models.finder, models.video.arms
    table: dict[str, list[float]] = defaultdict(list)
    flows: Flows = defaultdict(lambda: np.zeros(6))
    counts: dict[str, int] = defaultdict(int)
    for seed in range(FIRST_TEST_SEED + 100, FIRST_TEST_SEED + 100 + args.people):
        shot = filmed(seed, args.assets, args.cache)
        photo = torch.from_numpy(shot["pic"][0]).permute(2, 0, 1).float() / 127.5 - 1
        try:
            portrait = find(photo, finder)
        except UserError:
            continue
        if args.oracle:
            portrait = with_true_points(portrait, shot)
        ways = {
            way: Layers.build(
                portrait, surface=arms.surface, cutter=arms.cutter, meshes=way == "mesh"
            )
            for way in ("skeleton", "mesh")
        }
        told = {way: replace(layers, elbows_told=True) for way, layers in ways.items()}
        counts["people"] += 1
        counts["hands moved"] += len(ways["mesh"].arms)
        counts["hands with a mesh"] += sum(arm.hand is not None for arm in ways["mesh"].arms)
        for frame in range(1, len(shot["pic"])):
            free = frame <= len(shot["pic"]) // 2
            if free:
                measure(shot, frame, told, table)
                measure_flow(shot, frame, told["mesh"], flows, "free, elbows told")
            else:
                measure_flow(shot, frame, ways["mesh"], flows, "film")
                measure_flow(shot, frame, told["mesh"], flows, "film, elbows told")
    print(", ".join(f"{n} {name}" for name, n in counts.items()))
    print_flows(flows)
    print(
        "| layers | hands | PSNR, visible hand pixels | PSNR, hand box | points off, % of height |"
    )
    print("|---|--:|--:|--:|--:|")
    for kind in ("all", "with a mesh", "with a mesh, turned or bent"):
        for way in ("photo", "skeleton", "mesh", "true flow"):
            rows = [table[f"{kind} {way} {name}"] for name in ("visible", "box", "points")]
            if rows[0]:
                visible, box, points = np.mean(rows[0]), np.mean(rows[1]), np.median(rows[2])
                print(
                    f"| {way}, {kind} | {len(rows[0])} | {visible:.2f} | {box:.2f} | {points:.2f} |"
                )


def print_flows(flows: Flows) -> None:
    """A row for each part of arms and each kind of moves."""
    print(
        "| moves | what | error, px | a still photo's | ratio | ratio, cells of latents | not covered | of layers, beside arms |"
    )
    print("|---|---|--:|--:|--:|--:|--:|--:|")
    for moves in MOVES:
        beside = flows[moves, "layers"][:2]
        for what in (*ROWS, "arms that layers move", "all arms of the picture"):
            error, still, count, bare, off, away = flows[moves, what]
            if not count:
                continue
            false = (
                f"{beside[0] / max(beside[1], 1):.3f}" if what == "arms that layers move" else ""
            )
            print(
                f"| {moves} | {what} | {error / count:.2f} | {still / count:.2f} | "
                f"{error / max(still, 1e-9):.3f} | {off / max(away, 1e-9):.3f} | {bare / count:.3f} | {false} |"
            )


def with_true_points(portrait: Portrait, shot: dict[str, ndarray]) -> Portrait:
    """The portrait with the truth in the place of what was found of hands, wrists, elbows and shoulders."""
    scale = torch.tensor([SIZE, SIZE, 0.9])
    parts = shot["parts"][0]
    seen = [
        bool((parts == HAND_PARTS[side]).sum() > 150 and shot["hand"][0, side, :, 2].mean() > 0.5)
        for side in (0, 1)
    ]
    body = torch.from_numpy(shot["body"][0]).clone()
    body[:, 2] = ((body[:, :2] > 0) & (body[:, :2] < 1)).all(1).float()
    hand = torch.from_numpy(shot["hand"][0]).clone()
    hand[..., 2] = 1.0
    return replace(
        portrait,
        body_points=body * scale,
        hand_points=hand * scale,
        hands_present=(seen[0], seen[1]),
    )


def measure_flow(
    shot: dict[str, ndarray], frame: int, layers: Layers, flows: Flows, moves: str
) -> None:
    """Where the film fetches arms from that the photo shows, against where they were; nothing but arms moves here."""
    drawn = chart(layers, None, asked(shot, frame))
    true = shot["flow"][frame].astype(np.float32)
    error, still = (np.linalg.norm(z, axis=-1) for z in (drawn.flow - true, true))
    bare = drawn.moved < 0.5
    cells, layered = in_cells(drawn.flow, ~bare)
    cells = np.where(layered[..., None] > 0, cells, in_cells(drawn.flow, drawn.painted < 0.5)[0])
    parts = shot["parts"][frame]
    for side in (0, 1):
        arm = next((arm for arm in layers.arms if arm.limb.side == side), None)
        names = ("upper arms", "forearms", "hands")
        if arm is not None:
            names = (*names[:2], "hands with a mesh" if arm.hand else "hands by the skeleton")
        for part, name in enumerate(names):
            here = (parts == FIRST_ARM + 3 * side + part) & shot["seen"][frame]
            far, share = in_cells(true, here)
            sums = np.array(
                [
                    error[here].sum(), still[here].sum(), here.sum(), bare[here].sum(),
                    (np.linalg.norm(cells - far, axis=-1) * share).sum(), (np.linalg.norm(far, axis=-1) * share).sum(),
                ]
            )  # fmt: skip
            flows[moves, "all arms of the picture"] += sums
            if arm is not None:
                flows[moves, name] += sums
                flows[moves, "arms that layers move"] += sums
    beside = np.array([(~bare & (parts < FIRST_ARM)).sum(), (~bare).sum()])
    flows[moves, "layers"][:2] += beside


def in_cells(flow: ndarray, where: ndarray) -> tuple[ndarray, ndarray]:
    """The flow's mean over some pixels of each cell of the latents' grid, and the share of a cell that these are."""
    step = flow.shape[0] // GRID
    shape = (GRID, step, GRID, step)
    share = where.reshape(shape).mean((1, 3))
    total = (flow * where[..., None]).reshape(*shape, 2).mean((1, 3))
    return total / np.maximum(share, 1e-6)[..., None], share


def filmed(seed: int, assets: Path, cache: Path) -> dict[str, ndarray]:
    """A person at rest and in up to three poses of arms and hands, with exact labels."""
    cache.mkdir(parents=True, exist_ok=True)
    path = cache / f"{seed}.npz"
    if path.exists():
        with np.load(path) as shot:
            if "flow" in shot:
                return dict(shot)
    made = film(seed, assets)
    np.savez_compressed(path, **made)  # type: ignore[arg-type]
    return made


def film(seed: int, assets: Path) -> dict[str, ndarray]:
    """Render it: the photo, poses as they come, and the same poses held to what layers can show."""
    rng = np.random.default_rng(seed)
    renderer = Renderer((SIZE, SIZE), trace=(SIZE, SIZE), supersample=1.3)
    person = cast(rng, Casting(library=Library(assets), is_test=True, low_m=-1.15))
    view = body_camera(rng, person, "hips")
    arms = first_arms(rng)
    first = replace(first_pose(rng), arms=arms.poses(person))
    others: list[Arms] = []
    for _ in range(40):
        other = next_arms(rng, arms)
        others += [other] if other is not arms else []
        if len(others) == POSES:
            break
    actor = renderer.actor(person)
    light, behind = lights(rng), background(rng, SIZE, SIZE)
    rows: dict[str, list[ndarray]] = defaultdict(list)

    def shoot(pose: Pose) -> None:
        posed = still(person, pose, view)
        if rows:
            actor.pose(posed)
        trace = actor.trace(view) if rows else actor.set_reference(posed, view)
        rows["pic"].append(actor.draw(view, light, behind))
        rows["seen"].append(trace.seen > 0.5)
        rows["flow"].append((trace.flow * SIZE).astype(np.float16))
        rows["parts"].append(trace.parts)
        rows["body"].append(labels.body_points(person, posed, view, trace))
        rows["hand"].append(labels.hand_points(person, posed, view, trace))
        rows["numbers"].append(np.stack([posed.bones.hand_numbers(side) for side in (0, 1)]))

    shoot(first)
    for other in others:
        shoot(replace(first, arms=other.poses(person)))
    for number, other in enumerate(others):
        shot = {name: np.stack(values) for name, values in rows.items()}
        held = _held_back(arms, other, asked(shot, number + 1))
        shoot(replace(first, arms=held.poses(person)))
    actor.release()
    return {name: np.stack(values) for name, values in rows.items()}


def _held_back(first: Arms, other: Arms, poses: ndarray) -> Arms:
    """Arms on the way to others, as far as a film's limits let them (`video/layer_motion.py`)."""
    hands = []
    for side, (one, two) in enumerate(zip(first.hands, other.hands, strict=True)):
        row = poses[side]
        sizes = (
            float(np.linalg.norm(row[:2])) / (MAX_SHIFT * SIZE),
            abs(float(row[2])) / MAX_TURN,
            float(np.linalg.norm(row[6:8])) / MAX_TILT,
            float(np.abs(row[8:]).max()) / MAX_FLEX,
        )
        hands.append(_between(one, two, min(1.0, 0.95 / max(*sizes, 1e-6))))
    return Arms(hands=(hands[0], hands[1]), pole=first.pole)


def _between(one: HandPose, two: HandPose, share: float) -> HandPose:
    def mixed(a: tuple[float, ...], b: tuple[float, ...]) -> tuple[float, ...]:
        return tuple((np.array(a) + share * np.subtract(b, a)).tolist())

    return HandPose(
        wrist=mixed(one.wrist, two.wrist),  # type: ignore[arg-type]
        fingers=mixed(one.fingers, two.fingers),  # type: ignore[arg-type]
        palm=mixed(one.palm, two.palm),  # type: ignore[arg-type]
        shape=mixed(one.shape, two.shape),
    )


def asked(shot: dict[str, ndarray], frame: int) -> ndarray:
    """The true change of both arms as rows of a pose (`POSE`, then `HAND`)."""
    numbers = torch.from_numpy(shot["numbers"][[0, frame]])
    change = hand_change(numbers, numbers[:1])[1].float().numpy()
    wrists = (shot["hand"][frame, :, 0, :2] - shot["hand"][0, :, 0, :2]) * SIZE
    elbows = (shot["body"][frame, 4:6, :2] - shot["body"][0, 4:6, :2]) * SIZE
    nearer = shot["numbers"][frame, :, 66:] - shot["numbers"][0, :, 66:]
    zoom = (nearer / VIEW_DISTANCE).clip(-0.06, 0.06)
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
    films["true flow"] = fetched(photo, shot["flow"][frame].astype(np.float32))
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
            mover = {"skeleton": skeleton, "mesh": arm}.get(way)
            off = np.linalg.norm(
                carried(mover, points[0, :, :2] * SIZE, poses[side]) - points[frame, :, :2] * SIZE,
                axis=1,
            )
            for kind in kinds:
                table[f"{kind} {way} visible"].append(psnr(film, truth, hand & shot["seen"][frame]))
                table[f"{kind} {way} box"].append(psnr(film, truth, box))
                table[f"{kind} {way} points"].append(100 * float(np.median(off)) / SIZE)


def fetched(photo: ndarray, flow: ndarray) -> ndarray:
    """The photo where it truly came from: what fetching alone can reach where light does not change."""
    places = np.stack(np.meshgrid(*(np.arange(SIZE, dtype=np.float32),) * 2), -1) + flow
    x, y = (np.ascontiguousarray(places[..., k]) for k in (0, 1))
    return cv2.remap(photo, x, y, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)


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
