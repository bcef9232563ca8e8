"""The portrait that `make demo` brings to life: a made-up person, so that nobody's likeness ships with emo2."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy import ndarray
from PIL import Image

from emo2.studio.acting import look, put
from emo2.studio.assets import Library
from emo2.studio.casting import Casting, cast
from emo2.studio.hand_shapes import REST_POSES, SHAPES
from emo2.studio.pose import Pose, arm_pose
from emo2.studio.render import Renderer, still
from emo2.studio.scene import Framing, Lights, camera

SIZE = (832, 832)
"""Height and width."""

_STUDIO = Lights(
    key=np.array([-0.45, 0.5, 0.74]), fill=np.array([0.7, 0.1, 0.7]), rim=np.array([0.6, 0.5, -0.62]),
    key_colour=(0.95, 0.9, 0.84), fill_colour=(0.22, 0.24, 0.28), rim_colour=(0.3, 0.32, 0.36),
    sky=(0.42, 0.43, 0.46), ground=(0.24, 0.22, 0.21), exposure=0.85, shadow=0.75,
)  # fmt: skip


def draw_portrait(path: Path, assets: Path | None, *, seed: int = 317) -> None:
    """Write a half-body portrait, both hands open in view, before a calm wall."""
    rng = np.random.default_rng(seed)
    person = cast(rng, Casting(library=Library(assets), low_m=-1.0))
    hand = replace(
        REST_POSES["offering"],
        wrist=(0.25, 0.27, 0.12),
        fingers=(0.86, -0.42, 0.28),
        palm=(-0.1, -0.3, 0.95),
        shape=SHAPES["open"],
    )
    actions = np.zeros(52)
    put(actions, "mouthSmile", 0.5)
    put(actions, "browInnerUp", 0.15)
    put(actions, "browOuterUp", 0.15)
    look(actions, 0.0, 0.0)
    pole = np.array([0.35, -0.9, -0.6])
    pose = Pose(
        actions=actions,
        head=np.array([0.06, 0.0, 0.02, 0, 0, 0]),
        arms=(arm_pose(hand, 0, pole), arm_pose(hand, 1, pole)),
    )
    neck, top = float(person.shape.heads["neck01"][1]), float(person.shape.base[:13380, 1].max())
    bottom = neck - 0.53
    height = (top - bottom) / 0.92
    view = camera(
        Framing(
            centre=np.array([0, bottom + height / 2, 0.05]),
            half_height=height / 2,
            distance=2.6,
            aspect=SIZE[1] / SIZE[0],
        )
    )
    renderer = Renderer(SIZE, supersample=2.0)
    actor = renderer.actor(person)
    actor.pose(still(person, pose, view))
    Image.fromarray(actor.draw(view, _STUDIO, _wall(*SIZE))).save(path)


def _wall(height: int, width: int) -> ndarray:
    """A grey-green wall that falls off into the corners."""
    y, x = np.mgrid[0:height, 0:width] / [[[height]], [[width]]]
    light = 1.05 - 0.55 * np.hypot(x - 0.42, 0.8 * (y - 0.35))
    wall = np.array([118, 134, 128]) * light[..., None]
    grain = np.random.default_rng(0).normal(0, 1.2, (height, width, 1))
    return np.clip(wall + grain, 0, 255).astype(np.uint8)
