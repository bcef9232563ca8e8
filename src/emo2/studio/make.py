"""Shards: people by seed, filmed with every label, one safetensors file a group of people.

A seed gives the same person and frames wherever it is rendered, so that any number of workers can share a range.

A file holds N people with K frames each, seen in a view of 256 pixels; positions are in sides of the view.

| tensor | shape | what |
|---|---|---|
| `reference`, `frames` | N 3 256 256; N K 3 256 256 | RGB, uint8 |
| `flow` | N K 2 64 64 | backward, x and y: place in the reference = own place + flow |
| `visibility` | N K 64 64 | share of the cell that the reference shows, 255 for all |
| `actions`, `head`, `body` | N K 52, 6, 6 | channels of `signals`; `reference_...` those of the reference |
| `face_points`, `face_box` | N K+1 68 2; 4 | iBUG-68; index 0 is the reference, as in all rows below |
| `body_points`, `hand_points` | N K+1 8 3; 2 21 3 | x, y, and 1 where seen |
| `hands` | N K+1 2 67 | left, right; as in `Motion.hands` |
| `parts` | N K+1 128 128 | index into `people.PART_NAMES` |
| `phones`, `samples` | N K; N n | takes only: the voice from `start_s` before the first frame on |

With `labels` also, where asked for:

| tensor | shape | what |
|---|---|---|
| `depth` | N K+1 256 256 | along the view, tenths of millimetres, uint16; 0: background |
| `normals` | N K+1 3 256 256 | times 127, int8: to the image's right, down, towards the camera |
| `segments` | N K+1 256 256 | index into `segments.SEGMENT_NAMES` |
| `gaze` | N K+1 2 3 | unit vectors of the left and right eye, axes as of normals |
| `phases` | N K 2 | takes only: place in `gesture.PHASES`, left and right hand |
"""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.random import Generator
from safetensors import safe_open

from emo2 import weights
from emo2.arguments import SHARD_LABELS
from emo2.errors import UserError
from emo2.studio.acting import first_pose, next_pose
from emo2.studio.assets import Library
from emo2.studio.card import FIRST_TEST_SEED, Facts, made_with, source, write_card
from emo2.studio.casting import Casting, cast
from emo2.studio.gesturing import first_arms, next_arms
from emo2.studio.people import Person
from emo2.studio.pose import ArmPose, Pose
from emo2.studio.render import Renderer
from emo2.studio.shoot import Filmed, Scene, Set
from emo2.studio.takes import LEAD_S, SAMPLE_RATE, Take, find_take
from emo2.studio.views import View, choose_camera

Kind = Literal["poses", "takes"]

log = logging.getLogger(__name__)

FORMAT = 2
"""1: headers without people, labels, versions and sources; the tensors are the same."""
_CARD_EVERY_S = 30.0
_MORE_STREAM = 41
"""What came to people later has a generator of its own: a seed's poses and framing stay what they were."""
_SIZE, _TRACE = 256, 128
_LOW_M = {"face": -0.3, "body": -1.15}
"""Lowest height that is built, from the base of the neck."""


FRAMES = {"face": 12, "body": 6}
"""Frames of a person, beside the reference; a take always has `TAKE_FRAMES`."""
TAKE_FRAMES = 12
_PEOPLE = 16
"""In one file."""


@dataclass(frozen=True, kw_only=True)
class Order:
    """What to film."""

    view: View = "face"
    kind: Kind = "poses"
    voices: Path | None = None
    """Recordings to perform beside synthetic voices (takes)."""
    labels: tuple[str, ...] = ()
    """Of `SHARD_LABELS`: what is told beside the usual labels."""

    @property
    def frames(self) -> int:
        """Of every person, beside the reference."""
        return TAKE_FRAMES if self.kind == "takes" else FRAMES[self.view]


def make_shards(
    out: Path,
    *,
    view: View = "face",
    kind: Kind = "poses",
    seeds: Sequence[int],
    assets: Path | None = None,
    voices: Path | None = None,
    labels: Sequence[str] = (),
) -> Iterator[Path]:
    """Film the people of `seeds` into files under `out`; files that are there already are skipped.

    A card of all that the folder holds is kept beside them.
    """
    os.environ.setdefault(
        "LP_NUM_THREADS", "0"
    )  # software GL in this thread: workers scale by process
    out.mkdir(parents=True, exist_ok=True)
    order = Order(view=view, kind=kind, voices=voices, labels=_checked(labels, kind))
    if seeds[0] < FIRST_TEST_SEED <= seeds[-1]:
        raise UserError(
            f"seeds {seeds[0]} to {seeds[-1]} mix training people with held-out ones; end before "
            f"{FIRST_TEST_SEED}, or film held-out people apart (--held-out)"
        )
    stage: Stage | None = None
    told = time.perf_counter()
    try:
        for k in range(0, len(seeds), _PEOPLE):
            group = list(seeds[k : k + _PEOPLE])
            name = view if kind == "poses" else f"{view}-takes"
            path = out / f"{name}-{group[0]:07d}-{len(group):03d}.safetensors"
            if path.exists():
                _check_labels(path, order)
            else:
                stage = stage or Stage(Library(assets), order, out)
                started = time.perf_counter()
                _write(path, [stage.film(seed) for seed in group], group, stage)
                taken = (time.perf_counter() - started) / (len(group) * (order.frames + 1))
                log.info("%s: %.0f ms a frame", path.name, taken * 1000)
            if time.perf_counter() - told > _CARD_EVERY_S:
                write_card(out)
                told = time.perf_counter()
            yield path
    finally:
        write_card(out)


def _checked(asked: Sequence[str], kind: Kind) -> tuple[str, ...]:
    """The labels in their order; phases are told of takes alone."""
    names = tuple(name for name in SHARD_LABELS if name in asked)
    if kind == "poses" and "phases" in names:
        raise UserError(
            "gesture phases are labels of performances; film takes (--kind takes), or leave out phases"
        )
    return names


def _check_labels(path: Path, order: Order) -> None:
    """A finished file must carry what is asked for now."""
    if not order.labels:
        return
    with safe_open(path, framework="numpy") as shard:
        missing = [name for name in order.labels if name not in shard.keys()]  # noqa: SIM118
    if missing:
        raise UserError(
            f"{path} is there already without {', '.join(missing)}; film into another folder, or "
            "delete it"
        )


def _write(path: Path, people: list[Filmed], seeds: list[int], stage: Stage) -> None:
    names = list(people[0].tensors)
    tensors = {n: torch.from_numpy(np.stack([p.tensors[n] for p in people])) for n in names}
    order = stage.order
    facts: Facts = {
        "format": FORMAT, "view": order.view, "kind": order.kind, "seeds": seeds,
        "labels": list(order.labels), "people": [p.facts for p in people], **stage.made,
    }  # fmt: skip
    if order.kind == "takes":
        facts |= {"fps": 25.0, "sample_rate": SAMPLE_RATE, "start_s": LEAD_S}
    weights.write(path, tensors, {k: json.dumps(v) for k, v in facts.items()})


class Stage:
    """A renderer and what films one person after the other."""

    def __init__(self, library: Library, order: Order, out: Path) -> None:
        self.library, self.order = library, order
        self.voice_cache = out / "voices"
        self.renderer = Renderer((_SIZE, _SIZE), trace=(_TRACE, _TRACE), supersample=1.3)
        self.set = Set(renderer=self.renderer, labels=order.labels, is_film=order.kind == "takes")
        self.made: Facts = {
            "made_with": made_with(str(self.renderer.gl.info["GL_RENDERER"])),
            "assets": source(library.folder),
            "voices": source(order.voices),
        }

    def film(self, seed: int) -> Filmed:
        """One person: reference and frames with their labels."""
        rng = np.random.default_rng(seed)
        person = cast(
            rng,
            Casting(
                library=self.library,
                is_test=seed >= FIRST_TEST_SEED,
                low_m=_LOW_M[self.order.view],
                more=np.random.default_rng((seed, _MORE_STREAM)),
            ),
        )
        view = choose_camera(rng, person, self.order.view)
        if self.order.kind == "poses":
            scene = Scene(person=person, view=view, poses=self._poses(rng, person))
            return self.set.shoot(scene, rng, seed)
        take = find_take(
            rng, seed, self.order.frames, voices=self.order.voices, cache=self.voice_cache
        )
        reference = _before(rng, take)
        scene = Scene(person=person, view=view, poses=[reference, *take.poses(reference)])
        filmed = self.set.shoot(scene, rng, seed)
        filmed.tensors.update(phones=take.phones, samples=take.samples)
        if "phases" in self.order.labels and take.phases is not None:
            filmed.tensors["phases"] = take.phases
        return Filmed(filmed.tensors, {**filmed.facts, "style": take.style})

    def _poses(self, rng: Generator, person: Person) -> list[Pose]:
        arms = first_arms(rng)
        reference = replace(first_pose(rng), arms=arms.poses(person))
        poses = [reference]
        for _ in range(self.order.frames):
            pose = next_pose(rng, reference)[1]
            if self.order.view == "body":
                pose = replace(pose, arms=next_arms(rng, arms).poses(person))
            poses.append(pose)
        return poses


def _before(rng: Generator, take: Take) -> Pose:
    """The photo a take goes on from: the performer at rest, with a face of its own."""
    hands = take.opening.hands[0].numpy()
    pole = np.array([rng.uniform(0.1, 1.0), -0.8, rng.uniform(-1.0, -0.3)])
    return replace(
        first_pose(rng), arms=(ArmPose(hand=hands[0], pole=pole), ArmPose(hand=hands[1], pole=pole))
    )
