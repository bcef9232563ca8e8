"""Exact labels read off the posed person: points, boxes, flow on the training grid."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, UInt8
from numpy import ndarray

from emo2.studio.landmarks import face_vertices
from emo2.studio.people import SIDES, Person, anatomy
from emo2.studio.pose import Pose
from emo2.studio.render import Still, Trace
from emo2.studio.scene import Camera


def face_points(still: Still, places: dict[int, int]) -> Float[ndarray, "68 2"]:
    """iBUG-68 points in view units; `places` gives a drawn body's vertex for a base vertex."""
    return still.screen[[places[v] for v in face_vertices()], :2]


def face_box(points: Float[ndarray, "68 2"]) -> Float[ndarray, "4"]:
    """x0, y0, x1, y1: brow to chin, ear to ear."""
    return np.concatenate([points.min(0), points.max(0)]).astype(np.float32)


def grid_flow(
    trace: Trace, side: int = 64
) -> tuple[Float[ndarray, "2 side side"], UInt8[ndarray, "side side"]]:
    """Flow and visible fraction on the latent's grid.

    A cell that a surface's edge cuts takes the flow of what is seen in the reference, and of the person before the
    background: a mean across the edge would point nowhere.
    """
    step = trace.seen.shape[0] // side
    seen, person = _cells(trace.seen, step), _cells(trace.parts > 0, step).astype(np.float32)
    flow = _cells(trace.flow, step)
    mostly = person.mean(1, keepdims=True) >= 0.5
    chosen = np.where(mostly, person, 1 - person)
    both = chosen * seen
    weight = np.where(both.sum(1, keepdims=True) > 0, both, chosen)[..., None]
    mean = (flow * weight).sum(1) / np.maximum(weight.sum(1), 1e-6)
    grid = mean.reshape(side, side, 2).transpose(2, 0, 1)
    fraction = np.round(seen.mean(1) * 255).astype(np.uint8).reshape(side, side)
    return np.ascontiguousarray(grid, np.float32), fraction


def _cells(values: ndarray, step: int) -> ndarray:
    """(h, w, ...) to (cells, pixels of a cell, ...)."""
    side = values.shape[0] // step
    rest = values.shape[2:]
    cells = values.reshape(side, step, side, step, *rest).swapaxes(1, 2)
    return cells.reshape(side * side, step * step, *rest)


def part_grid(trace: Trace, side: int = 128) -> UInt8[ndarray, "side side"]:
    """Part labels, every step-th pixel."""
    step = trace.parts.shape[0] // side
    return trace.parts[::step, ::step].astype(np.uint8)


_FINGERS = (1, 2, 3, 4, 5)
_FLESH_M = {"body": 0.13, "wrist": 0.06, "hand": 0.03}
"""How far inside the body a joint lies: it counts as seen when nothing is that far before it."""


def body_points(person: Person, still: Still, view: Camera, trace: Trace) -> Float[ndarray, "8 3"]:
    """x, y in view units and 1 where seen; order of `signals.BODY_POINTS`."""
    bones, heads = still.bones, person.shape.heads
    skull = person.shape.base[:13380]
    points = [
        bones.point("head", skull[skull[:, 1].argmax()]),
        bones.point("spine01", heads["neck01"]),
    ]
    for joint in ("upperarm01", "lowerarm01", "wrist"):
        points += [bones.point(f"{joint}.{s}", heads[f"{joint}.{s}"]) for s in SIDES]
    depths = np.array([_FLESH_M["body"]] * 6 + [_FLESH_M["wrist"]] * 2)
    return seen_points(np.array(points, np.float32), view, trace, depths)


def hand_points(
    person: Person, still: Still, view: Camera, trace: Trace
) -> Float[ndarray, "2 21 3"]:
    """x, y in view units and 1 where seen; left, right; OpenPose order of the 21 points."""
    bones, shape = still.bones, person.shape
    found = []
    for side in SIDES:
        points = [bones.point(f"wrist.{side}", shape.heads[f"wrist.{side}"])]
        for finger in _FINGERS:
            names = [f"finger{finger}-{j}.{side}" for j in (1, 2, 3)]
            points += [bones.point(n, shape.heads[n]) for n in names]
            points.append(bones.point(names[2], shape.tails[names[2]]))
        depths = np.array([_FLESH_M["wrist"]] + [_FLESH_M["hand"]] * 20)
        found.append(seen_points(np.array(points, np.float32), view, trace, depths))
    return np.stack(found)


def seen_points(
    points: Float[ndarray, "n 3"], view: Camera, trace: Trace, depths: Float[ndarray, " n"]
) -> Float[ndarray, "n 3"]:
    """World points in view units; 1 where they lie in the view and not behind something else."""
    places = view.project(points)
    height, width = trace.depth.shape
    column = np.clip((places[:, 0] * width).astype(int), 0, width - 1)
    row = np.clip((places[:, 1] * height).astype(int), 0, height - 1)
    before = trace.depth[row, column]
    open_sight = (before <= 0) | (before > places[:, 2] - depths)
    inside = ((places[:, :2] >= 0) & (places[:, :2] <= 1)).all(1)
    return np.concatenate([places[:, :2], (inside & open_sight)[:, None]], 1).astype(np.float32)


def body_places(person: Person) -> dict[int, int]:
    """Base vertex to the person's vertex, for the naked body's drawn part."""
    return dict(zip(person.body_vertices.tolist(), range(len(person.body_vertices)), strict=True))


_EYES = (slice(14598, 14670), slice(14670, 14742))
"""Base vertices of the left and the right eyeball; at rest both look along z."""


def gaze(person: Person, pose: Pose, still: Still, view: Camera) -> Float[ndarray, "2 3"]:
    """Where the left and the right eye look: unit vectors to the image's right, down, towards the camera.

    Read off the posed eyeballs: the rotation that carries the resting ball onto the moved one (Kabsch 1976).
    """
    found = []
    actions = pose.actions.astype(np.float32)
    for ball in _EYES:
        rest = person.shape.base[ball]
        moves = anatomy().actions[ball] @ np.kron(actions[:, None], np.eye(3, dtype=np.float32))
        moved = rest + moves
        u, _, v = np.linalg.svd((rest - rest.mean(0)).T @ (moved - moved.mean(0)))
        u[:, 2] *= np.linalg.det(u @ v)  # a rotation, no mirror
        look = still.bones.turns["head"] @ (u @ v)[2]
        found.append(view.axes @ look)
    return np.stack(found).astype(np.float32)
