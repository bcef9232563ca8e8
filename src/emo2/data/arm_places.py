"""Arms of the studio's half bodies as single places: where joints went, and what the photo shows where (exact flow)."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from safetensors import safe_open
from torch import Tensor

from emo2.data.shards import FIRST_ARM, list_shards
from emo2.errors import UserError
from emo2.hands.change import TILT, TURN, hand_change
from emo2.video.arm_surface import JOINTS, ArmExamples
from emo2.video.layer_motion import VIEW_DISTANCE, ZOOM

LABELS = ("body_points", "hand_points", "hands", "parts", "flow", "visibility")
PLACES = 4096
"""A step's, where nothing else is said."""
KNUCKLE = 9
"""Of the 21 points: where the middle finger begins."""
_FEWEST = 3
"""Cells that a part of an arm must show."""
_FARTHEST = 4.0
"""Shoulder widths: a joint farther than that from its shoulder is no arm."""
_JOINT_NOISE = ((0.05, 0.05), (0.015, 0.015), (0.03, 0.03))
"""Shoulder widths by which the portrait finder may be off at elbow, wrist and shoulder ..."""
_RULER_NOISE = 0.08
"""... and the logarithm by which at the shoulder width itself."""


class ArmPlaces:
    """Batches of places on arms; batch `n` is a function of seed and `n`."""

    def __init__(self, folders: Sequence[Path], *, places: int = PLACES, seed: int = 0) -> None:
        arms, owners, rows = [], [], []
        for path in list_shards(folders):
            for arm, cells in _arms_of(path):
                owners.append(torch.full((len(cells),), len(arms)))
                arms.append(arm)
                rows.append(cells)
        if not arms:
            raise no_arms(folders)
        self.arms, self.owners, self.rows = torch.stack(arms), torch.cat(owners), torch.cat(rows)
        self.places, self.seed = places, seed

    def at(self, number: int) -> ArmExamples:
        """Batch `number`, its joints about as wrong as those that the portrait finder finds."""
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + number)
        chosen = torch.randint(len(self.rows), (self.places,), generator=generator)
        rows, arms = self.rows[chosen], self.arms[self.owners[chosen]].clone()
        noise = (
            torch.randn(len(self.arms), 6, generator=generator)
            * torch.tensor(_JOINT_NOISE).flatten()
        )
        elbow, wrist, shoulder = noise[self.owners[chosen]].unflatten(-1, (3, 2)).unbind(1)
        for column, off in ((0, elbow), (2, wrist), (6, elbow), (8, wrist)):
            arms[:, column : column + 2] += off - shoulder
        ruler = _RULER_NOISE * torch.randn(len(self.arms), 1, generator=generator)
        size = ruler[self.owners[chosen]].exp()
        arms[:, :JOINTS] *= size
        return ArmExamples(
            arms=arms,
            places=(rows[:, :2] - shoulder) * size,
            sources=(rows[:, 2:4] - shoulder) * size,
            is_fore=rows[:, 4] > 0,
        )

    def all(self) -> ArmExamples:
        """Every place, joints exact: to measure on."""
        return ArmExamples(
            arms=self.arms[self.owners], places=self.rows[:, :2],
            sources=self.rows[:, 2:4], is_fore=self.rows[:, 4] > 0,
        )  # fmt: skip


def no_arms(folders: Sequence[Path]) -> UserError:
    """What to say of shards that show none."""
    names = ", ".join(map(str, folders))
    return UserError(f"{names} shows no arms; give half bodies: emo2 studio --view body")


def _arms_of(path: Path) -> Iterator[tuple[Float[Tensor, "14"], Float[Tensor, "n 5"]]]:
    """Rows of arms (`ArmExamples.arms`), and of each its places, their sources and 1 on the forearm."""
    with safe_open(path, framework="pt") as shard:
        if not set(LABELS) <= set(shard.keys()):
            return
        labels = {name: shard.get_tensor(name).float() for name in LABELS}
    for who in range(len(labels["flow"])):
        person = {name: values[who] for name, values in labels.items()}
        body = person["body_points"]
        unit = float((body[0, 2, :2] - body[0, 3, :2]).norm())
        change = hand_change(person["hands"], person["hands"][:1])
        for frame, side in itertools.product(range(1, len(body)), (0, 1)):
            ruler = torch.tensor([-1.0 if side else 1.0, 1.0]) / max(unit, 1e-3)
            joints = _joints(person, frame, side)
            row = _row(person, frame, side, joints, change[frame, side], ruler)
            on_picture = bool(((joints[:3, 0] > 0) & (joints[:3, 0] < 1)).all())
            if not on_picture or float(row[:JOINTS].abs().max()) > _FARTHEST:
                continue
            parts = [
                _cells(person, frame, joints[0], ruler, FIRST_ARM + 3 * side + part)
                for part in (0, 1)
            ]
            cells = torch.cat([F.pad(rows, (0, 1), value=part) for part, rows in enumerate(parts)])
            if len(cells):
                yield row, cells


def _joints(person: dict[str, Tensor], frame: int, side: int) -> Float[Tensor, "4 2 2"]:
    """Shoulder, elbow, wrist and middle knuckle, in the reference and in a frame."""
    both = [0, frame]
    body, hand = person["body_points"][both, :, :2], person["hand_points"][both, side, :, :2]
    return torch.stack([body[:, 2 + side], body[:, 4 + side], hand[:, 0], hand[:, KNUCKLE]])


def _row(
    person: dict[str, Tensor],
    frame: int,
    side: int,
    joints: Float[Tensor, "4 2 2"],
    change: Float[Tensor, "18"],
    ruler: Float[Tensor, "2"],
) -> Float[Tensor, "14"]:
    _, elbow, wrist, knuckle = (joints - joints[:1]) * ruler
    mirror, hands = ruler.sign(), person["hands"]
    nearer = (hands[frame, side, 66:] - hands[0, side, 66:]) / VIEW_DISTANCE
    places = [elbow[0], wrist[0], knuckle[0] - wrist[0], elbow[1], wrist[1]]
    turns = [change[TURN] * mirror[0], nearer.clamp(-ZOOM, ZOOM), change[TILT] * mirror.flip(0)]
    return torch.cat([*places, *turns]).float()


def _cells(
    person: dict[str, Tensor],
    frame: int,
    shoulders: Float[Tensor, "2 2"],
    ruler: Float[Tensor, "2"],
    part: int,
) -> Float[Tensor, "n 4"]:
    """Middles of the cells that show a part which the photo shows too, and their sources."""
    here: Bool[Tensor, "g g"] = _mostly(person["parts"][frame] == part, person["flow"].shape[-1])
    here &= person["visibility"][frame - 1] > 127
    rows, columns = here.nonzero(as_tuple=True)
    if len(rows) < _FEWEST:
        return torch.zeros(0, 4)
    places = (torch.stack([columns, rows], -1) + 0.5) / here.shape[-1]
    sources = places + person["flow"][frame - 1][:, rows, columns].T
    return torch.cat([(places - shoulders[1]) * ruler, (sources - shoulders[0]) * ruler], 1)


def _mostly(there: Bool[Tensor, "y x"], side: int) -> Bool[Tensor, "g g"]:
    step = there.shape[0] // side
    return there.unflatten(0, (side, step)).unflatten(2, (side, step)).float().mean((1, 3)) > 0.6
