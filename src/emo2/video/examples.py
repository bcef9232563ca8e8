"""What stage 2 trains on: a view of a person, frames of it, and everything that is known of them."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from emo2 import signals

FACE_ACTIONS = len(signals.FACE_ACTIONS)
HEAD = slice(52, 58)
BODY = slice(58, 64)
GROUPS = (slice(0, 52), HEAD, BODY)
"""Face, head and torso: what of the conditions can be known or withheld, each on its own."""

UNITS = torch.tensor([0.5] * FACE_ACTIONS + [0.2] * 3 + [0.03] * 3 + [0.1] * 3 + [0.02, 0.02, 0.5])
"""Divides the conditions to about unit size: actions, radians, metres; torso; shoulders, breath."""

FACE_VIEW, BODY_VIEW = 0.0, 1.0

MARKS = (slice(60, 68), slice(36, 42), slice(42, 48))
"""Of the 68 face points: inner lips, the eye on the image's left, the eye on its right."""
MARK_REACH = 0.3
"""Radius of the soft spot at a mark, in eye-to-mouth distances."""

HEAD_SPEED = 0.4
"""Head turning, in rad/s, that counts as speed 1 **(ours)**: usual lively talk."""


STILL_POSE = 1e-4
"""Largest move of head and torso, in radians and metres, that counts as none (breath moves no face)."""


def _mirrored_actions() -> list[int]:
    names = signals.FACE_ACTIONS
    swapped = [n.replace("Left", "*").replace("Right", "Left").replace("*", "Right") for n in names]
    return [names.index(name) for name in swapped]


MIRROR_ACTIONS = _mirrored_actions()
"""Where each face action's mirror image stands."""


@dataclass(frozen=True, kw_only=True)
class Examples:
    """A batch: b views of people, f frames of each; every part about frames may have m motion frames in front."""

    reference: Float[Tensor, "b 3 h w"]
    frames: Float[Tensor, "b f 3 j i"]
    """At the view's size, or half of it where no painter is trained."""
    flow: Float[Tensor, "b f 2 g g"]
    visibility: Float[Tensor, "b f 1 g g"]
    conditions: Float[Tensor, "b f 64"]
    """52 absolute face actions, head and torso against the reference (`condition_vector`)."""
    importance: Float[Tensor, "b f 1 g g"]
    """Weight of each cell in the losses: 1, more at mouth and eyes."""
    view: Float[Tensor, " b"]
    """`FACE_VIEW` or `BODY_VIEW`."""
    marks: Float[Tensor, "b 3 2"]
    """Mouth and eyes of the reference in view units (`marks_of`)."""
    reference_actions: Float[Tensor, "b 52"]
    """The reference's own face actions: nobody is asked for them, but labels know them (`TableFit`)."""
    person: Float[Tensor, "b 1 g g"] | None = None
    """Share of each cell of the reference that is the person's; NaN where nobody knows."""
    known: Bool[Tensor, "b 3"] | None = None
    """Which of `GROUPS` are known at all (of real film not all are); None: all."""
    consecutive: bool = False
    """Frames follow each other at the film's rate (a take)."""
    audio: Float[Tensor, "b f layers a"] | None = None
    maps: Float[Tensor, "b f c y x"] | None = None
    confidence: Float[Tensor, "b f 2"] | None = None
    """Of the hands in the maps."""

    def to(self, device: torch.device | str) -> Examples:
        """The same on another device."""
        tensors = {f.name: getattr(self, f.name) for f in fields(self)}
        moved = {name: t.to(device) for name, t in tensors.items() if isinstance(t, Tensor)}
        return replace(self, **moved)

    def known_groups(self) -> Bool[Tensor, "b 3"]:
        """Which of `GROUPS` are known."""
        if self.known is not None:
            return self.known
        return torch.ones(len(self.view), len(GROUPS), dtype=torch.bool, device=self.view.device)


def marks_of(points: Float[Tensor, "68 2"]) -> Float[Tensor, "3 2"]:
    """Middle of the inner lips and of both eyes."""
    return torch.stack([points[part].mean(0) for part in MARKS])


def face_planes(marks: Float[Tensor, "b 3 2"], side: int) -> Float[Tensor, "b 9 s s"]:
    """Each pixel's place against mouth and eyes in eye-to-mouth distances, and a soft spot at each of them.

    What an action moves is nearly a fixed function of these, whoever is seen and wherever in the view.
    """
    unit = (marks[:, 0] - marks[:, 1:].mean(1)).norm(dim=-1).clamp_min(0.02).view(-1, 1, 1, 1)
    middles = (torch.arange(side, device=marks.device, dtype=marks.dtype) + 0.5) / side
    ys, xs = torch.meshgrid(middles, middles, indexing="ij")
    away = torch.stack([xs, ys])[None, None] - marks[..., None, None]
    away = away / unit[:, None]
    spots = torch.exp(-0.5 * away.square().sum(2) / MARK_REACH**2)
    return torch.cat([away.clamp(-4.0, 4.0).flatten(1, 2) / 2.0, spots], dim=1)


def picture_planes(
    view: Float[Tensor, " b"], marks: Float[Tensor, "b 3 2"], side: int
) -> Float[Tensor, "b 12 s s"]:
    """What the reference network is told beside a picture: each pixel's position, the kind of view, `face_planes`."""
    place = torch.linspace(-1.0, 1.0, side, device=marks.device)
    ys, xs = torch.meshgrid(place, place, indexing="ij")
    kind = view.view(-1, 1, 1, 1).expand(len(view), 1, side, side).to(marks)
    position = torch.stack([xs, ys]).to(marks).expand(len(view), 2, side, side)
    return torch.cat([position, kind, face_planes(marks, side)], dim=1)


def is_still(moved: Float[Tensor, "*frames 12"]) -> Bool[Tensor, "*frames"]:
    """Whether head and torso are where the reference has them, from their moves against it."""
    return moved[..., :11].abs().amax(-1) < STILL_POSE


def at_rest(conditions: Float[Tensor, "b f 64"]) -> Float[Tensor, "b f 64"]:
    """The same face with head and torso where the reference has them."""
    pose = torch.zeros_like(conditions[..., FACE_ACTIONS:])
    return torch.cat([conditions[..., :FACE_ACTIONS], pose], dim=-1)


def known_of(
    conditions: Float[Tensor, "b f 64"], known: Bool[Tensor, "b 3"]
) -> Float[Tensor, "b f 67"]:
    """Conditions in units, zero where a group is withheld, then the three flags that say which are known."""
    values = conditions / UNITS.to(conditions)
    mask = torch.ones_like(values)
    for group, part in enumerate(GROUPS):
        mask[..., part] = known[:, group, None, None].to(mask)
    flags = known[:, None].expand(-1, values.shape[1], -1).to(mask)
    return torch.cat([values * mask, flags], dim=-1)


def draw_known(count: int, generator: torch.Generator, *, withheld: float) -> Bool[Tensor, "b 3"]:
    """Which groups of the conditions each example may know: all, or (share `withheld`) a random part of them."""
    part = torch.rand(count, 3, generator=generator) < 0.5
    everything = torch.rand(count, 1, generator=generator) >= withheld
    return part | everything


def cell_weight(importance: Float[Tensor, "b f 1 g g"], pack: int) -> Float[Tensor, "n 1 s s"]:
    """Importance of packed cells, frame fastest."""
    return F.avg_pool2d(importance.flatten(0, 1), pack)


def head_speed(conditions: Float[Tensor, "b f 64"], fps: float = 25.0) -> Float[Tensor, "b f"]:
    """Turning speed of the head, in units of `HEAD_SPEED` (EMO §3.2: head rotation velocity)."""
    turned = conditions[..., HEAD][..., :3].diff(dim=1).norm(dim=-1) * (fps / HEAD_SPEED)
    return (
        torch.cat([turned[:, :1], turned], dim=1) if turned.shape[1] else conditions[..., 0] * 0.0
    )
