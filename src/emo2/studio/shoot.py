"""Shooting one person in a number of poses: pictures with everything that is told about them."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy import ndarray
from numpy.random import Generator

from emo2.studio import labels as told
from emo2.studio.card import Facts
from emo2.studio.develop import Development, Exposure
from emo2.studio.people import Person
from emo2.studio.pose import Pose
from emo2.studio.render import Actor, Renderer, Still, still
from emo2.studio.scene import Camera, background, lights, moods
from emo2.studio.surface import SurfacePass, packed

_OF_SURFACE = ("depth", "normals", "segments")
_LOOK_STREAM = 43
"""Light and look have a generator of their own, so that who and what is seen of a seed does not depend on them."""


class Filmed(NamedTuple):
    """A person's share of a shard."""

    tensors: dict[str, ndarray]
    facts: Facts


@dataclass(frozen=True, kw_only=True)
class Scene:
    """Who is shot, from where, in which poses; the first is the reference."""

    person: Person
    view: Camera
    poses: list[Pose]


@dataclass(frozen=True, kw_only=True)
class Set:
    """A place to shoot: the renderer, and what is to be told."""

    renderer: Renderer
    labels: tuple[str, ...] = ()
    """Of `SHARD_LABELS`."""
    is_film: bool = False
    """Whether the poses follow each other in time."""

    def shoot(self, scene: Scene, rng: Generator, seed: int) -> Filmed:
        """All pictures and labels of a scene."""
        person, view = scene.person, scene.view
        own = np.random.default_rng((seed, _LOOK_STREAM))
        height, width = self.renderer.size
        light, behind = moods(own, lights(rng)), background(rng, height, width)
        development = Development(own, size=(height, width), is_film=self.is_film)
        actor = self.renderer.actor(person)
        surface = None
        if set(self.labels) & set(_OF_SURFACE) or development.is_cartoon:
            surface = SurfacePass(self.renderer, actor)
        places = told.body_places(person)
        rows: dict[str, list[ndarray]] = defaultdict(list)
        exposures, before = [], None
        for k, pose in enumerate(scene.poses):
            posed = still(person, pose, view)
            if k == 0:
                trace = actor.set_reference(posed, view)
                if light.occlusion > 0:
                    actor.occlude(light.occlusion)
            else:
                actor.pose(posed)
                trace = actor.trace(view)
                flow, visible = told.grid_flow(trace)
                rows["flow"].append(flow)
                rows["visibility"].append(visible)
            shown = surface(view) if surface else None
            exposures.append(
                Exposure(
                    picture=actor.draw(view, light, behind, flat_steps=development.flat_steps),
                    surface=shown,
                    move=self._move(actor, view, trace.flow, before)
                    if development.shutter
                    else None,
                )
            )
            before = posed if k else None
            rows["parts"].append(told.part_grid(trace))
            rows["face_points"].append(told.face_points(posed, places))
            rows["body_points"].append(told.body_points(person, posed, view, trace))
            rows["hand_points"].append(told.hand_points(person, posed, view, trace))
            rows["hands"].append(np.stack([posed.bones.hand_numbers(side) for side in (0, 1)]))
            if "gaze" in self.labels:
                rows["gaze"].append(told.gaze(person, pose, posed, view))
            for name, label in (packed(shown) if shown else {}).items():
                if name in self.labels:
                    rows[name].append(label)
        if surface:
            surface.release()
        actor.release()
        developed = development(exposures).transpose(0, 3, 1, 2)
        return _filmed(rows, developed, scene, development.facts)

    def _move(
        self, actor: Actor, view: Camera, flow: ndarray, before: Still | None
    ) -> ndarray | None:
        """What motion blur follows: the way from the frame before, or towards the reference."""
        if not self.is_film:
            return flow
        return None if before is None else actor.flow_to(before, view)


def _filmed(
    rows: dict[str, list[ndarray]], pictures: ndarray, scene: Scene, facts: Facts
) -> Filmed:
    tensors = {name: np.stack(values) for name, values in rows.items()}
    tensors |= {
        "reference": pictures[0],
        "frames": pictures[1:],
        "flow": tensors["flow"].astype(np.float16),
        "face_box": np.stack([told.face_box(points) for points in rows["face_points"]]),
    }
    for name in ("actions", "head", "body"):
        values = np.stack([getattr(pose, name) for pose in scene.poses]).astype(np.float32)
        tensors |= {name: values[1:], f"reference_{name}": values[0]}
    return Filmed(tensors, {**scene.person.facts, **facts})
