"""What each part of stage 2 is fed: faces, half bodies and takes by shares, and how many people and frames (ours).

Folders may hold all kinds mixed: a shard's header tells its view and whether its frames follow each other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import torch
from safetensors import safe_open
from torch import Tensor

from emo2 import weights
from emo2.config import Config, VideoConfig
from emo2.data.order import is_real
from emo2.data.shards import (
    REREAD_EVERY,
    Draw,
    Hear,
    join,
    list_shards,
    load_listener,
    read_person,
)
from emo2.errors import UserError
from emo2.signals import FACE_ACTIONS
from emo2.video.conditions import maps_side
from emo2.video.examples import Examples, is_still

Item = TypeVar("Item")

KINDS = ("faces", "bodies", "takes")
STILL_FRAMES = 2
"""Frames with the head at rest that a person must have where only such frames are wanted."""
TOOTHY = 0.12
"""Lift of the upper lip from which on a photo is taken to show upper teeth."""
_LIP = FACE_ACTIONS.index("mouthUpperUpLeft")


@dataclass(frozen=True, kw_only=True)
class Mix:
    """What a part's batches are drawn from, and how."""

    draw: Draw
    faces: float = 0.55
    bodies: float = 0.30
    takes: float = 0.15
    """Shares of the batches; a kind that is not there leaves its share to the others."""
    toothy: float = 0.0
    """Share of the people whose photos surely show upper teeth; the others are drawn from all."""


def mix_for(part: str, config: VideoConfig, *, people: int | None = None) -> Mix:
    """What a part of stage 2 (`video.stage.PARTS`) is fed where it is trained alone."""
    run = config.motion_frames + config.clip_frames
    mixes = {
        "own": Mix(draw=Draw(people=12, frames=4, still=True), faces=0.75, bodies=0.2, takes=0.05),
        "basis": Mix(
            draw=Draw(people=8, frames=12, half=True), faces=0.68, bodies=0.12, takes=0.20
        ),  # a person costs as much as 50 of its frames
        "painter": Mix(draw=Draw(people=6, frames=4)),
        "details": Mix(
            draw=Draw(people=8, frames=6, still=True), faces=1.0, bodies=0.0, takes=0.0, toothy=0.35
        ),
        "denoiser": Mix(
            draw=Draw(people=4, frames=run, consecutive=True, maps=maps_side(config)),
            faces=0.0,
            bodies=0.0,
            takes=1.0,
        ),
    }
    mix = mixes[part]
    return mix if people is None else replace(mix, draw=replace(mix.draw, people=people))


@dataclass(frozen=True, kw_only=True)
class Shard:
    """What is known of a shard before it is read."""

    path: Path
    kind: str
    """One of `KINDS`."""
    people: int
    still: tuple[int, ...]
    """People with at least `STILL_FRAMES` frames whose head and torso are where the reference has them."""
    toothy: tuple[int, ...]
    """Those of them whose reference shows upper teeth."""


def look_into(path: Path) -> Shard:
    """A shard's header and its smallest labels."""
    with safe_open(path, framework="pt") as file:
        facts = file.metadata() or {}
        takes, body = "takes" in facts.get("kind", ""), "body" in facts.get("view", "")

        def moved(name: str) -> Tensor:
            return file.get_tensor(name) - file.get_tensor(f"reference_{name}")[:, None]

        rests = is_still(torch.cat([moved("head"), moved("body")], dim=-1)).sum(1) >= STILL_FRAMES
        shown = rests & (file.get_tensor("reference_actions")[:, _LIP] > TOOTHY)
    return Shard(
        path=path,
        people=len(rests),
        kind="takes" if takes else "bodies" if body else "faces",
        still=tuple(rests.nonzero()[:, 0].tolist()),
        toothy=tuple(shown.nonzero()[:, 0].tolist()),
    )


class MixedBatches:
    """Batches by number, each of one kind, the kinds by their shares.

    Number n depends only on the seed, n and the files that are there.
    """

    def __init__(
        self,
        folders: Sequence[Path],
        mix: Mix,
        *,
        seed: int = 0,
        hear: Hear | None = None,
        real_share: float | None = None,
    ) -> None:
        """`real_share`: of the people, from real film; None: as many as there are files of it."""
        self.folders, self.mix, self.seed, self.hear = list(folders), mix, seed, hear
        self.real_share = real_share
        self.known: dict[Path, Shard] = {}
        self._list()

    def _list(self) -> None:
        """The shards that are there by now; headers are read once."""
        files = list_shards(self.folders)
        self.known |= {path: look_into(path) for path in files if path not in self.known}
        usable = [self.known[path] for path in files]
        if self.mix.draw.still:
            usable = [shard for shard in usable if shard.still]
        self.shards = {kind: [s for s in usable if s.kind == kind] for kind in KINDS}
        shares = [getattr(self.mix, kind) if self.shards[kind] else 0.0 for kind in KINDS]
        self.shares = torch.tensor(shares)
        if not sum(shares):
            wanted = " or ".join(kind for kind in KINDS if getattr(self.mix, kind))
            raise UserError(
                f"training this part needs {wanted}; {', '.join(map(str, self.folders))} holds none: "
                "make some with emo2 studio (--view body: half bodies, --kind takes: takes)"
            )

    def at(self, number: int) -> Examples:
        """Batch `number`."""
        if number % REREAD_EVERY == 0:
            self._list()
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + number)
        kind = KINDS[int(torch.multinomial(self.shares, 1, generator=generator))]
        people = []
        for _ in range(self.mix.draw.people):
            path, who = self._pick(self.shards[kind], generator)
            people.append(read_person(path, self.mix.draw, generator, self.hear, who))
        return join(people)

    def _pick(self, shards: Sequence[Shard], generator: torch.Generator) -> tuple[Path, int | None]:
        """A shard, and which of its people where that matters."""

        def chance() -> float:
            return float(torch.rand(1, generator=generator))

        if self.real_share is not None:
            wanted = chance() < self.real_share
            shards = [s for s in shards if is_real(s.path) is wanted] or shards
        people: Sequence[int] | None = None
        toothy = self.mix.toothy and chance() < self.mix.toothy
        showing = [s for s in shards if s.toothy] if toothy else []
        shard = _one_of(showing or shards, generator)
        people = shard.toothy if showing else shard.still if self.mix.draw.still else None
        return shard.path, None if people is None else _one_of(people, generator)


def _one_of(items: Sequence[Item], generator: torch.Generator) -> Item:
    return items[int(torch.randint(len(items), (1,), generator=generator))]


class StillsAndTakes:
    """Batches for all parts at once: single pictures, and every other time takes with their voices, if there are any."""

    def __init__(
        self,
        folders: Sequence[Path],
        config: Config,
        *,
        people: int,
        seed: int = 0,
        real_share: float | None = None,
        mix: Mix | None = None,
    ) -> None:
        """`mix`: of the single pictures, frames of takes among them; None: the usual shares."""
        draw = Draw(people=people)
        mix = Mix(draw=draw) if mix is None else replace(mix, draw=draw)
        self.stills = MixedBatches(folders, mix, seed=seed, real_share=real_share)
        self.takes = None
        if self.stills.shards["takes"]:
            run = mix_for("denoiser", config.video, people=max(people // 3, 1))
            hear = listener_of(config)
            self.takes = MixedBatches(folders, run, seed=seed, hear=hear, real_share=real_share)

    def at(self, number: int) -> Examples:
        """Batch `number`."""
        if self.takes is not None and number % 2:
            return self.takes.at(number)
        return self.stills.at(number)


def listener_of(config: Config) -> Hear | None:
    """How takes are heard: by the preset's own encoder."""
    return load_listener(weights.path_of(config.name, "speech_motion"))
