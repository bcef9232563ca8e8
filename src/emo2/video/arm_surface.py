"""How the surface of an arm moves when its joints do: learned from rendered people (ours).

A picture's skeleton tells where bones go, not that an upper arm rolls about its own length, that a sleeve hangs behind its
elbow, or how a forearm widens that comes nearer.  A small network has seen that on people with exact flow: from the
joints at rest and now it says which place of the photo a place of the frame shows.  All lengths are in shoulder widths
from the shoulder; a right arm is told as its mirror image.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Float32
from torch import Tensor, nn

from emo2.nn import zeroed
from emo2.video.layer_masks import Limb
from emo2.video.layer_motion import POSE

ArmPart = Literal["arm", "upper", "forearm"]
"""What a plane shows of an arm."""

ROW = 14
"""Numbers of an arm (`ArmRow`)."""
JOINTS = 10
"""Of them, the first: places."""
_MIDDLE = 2
"""Finger."""
_WIDTH = 96
_PLACES = 18
"""Numbers that tell a place of the frame against the joints."""
_SHORTEST = 0.08
"""Shoulder widths: a bone shorter than that in the picture says nothing of lengths along it."""
_STRETCH = (0.6, 1.6)
_BEYOND = 0.2
"""Shoulder widths of a place that is not on the way of any bone, for an output of 1."""
_MOVED = 0.1
"""Shoulder widths by which an arm has moved for good."""
_ELBOW = 12
"""Numbers of an arm that tell where its elbow goes."""
_SCALES = (1, 10, 1, 1)
"""Of turn, size and tilt, so that they are about as large as places."""


@dataclass(frozen=True, kw_only=True)
class ArmExamples:
    """Places of frames on arms, and what the photo shows there."""

    arms: Float[Tensor, "n 14"]
    """Of each place: elbow, wrist, wrist to middle knuckle at rest; elbow, wrist now; turn, log size, tilt of the hand."""
    places: Float[Tensor, "n 2"]
    sources: Float[Tensor, "n 2"]
    is_fore: Bool[Tensor, " n"]
    """On the forearm, not on the upper arm."""


class ArmSurface(nn.Module):
    """Untrained, upper arm and forearm are stiff about their bones."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Linear(ROW + _PLACES, _WIDTH), nn.SiLU(),
            nn.Linear(_WIDTH, _WIDTH), nn.SiLU(),
            nn.Linear(_WIDTH, _WIDTH), nn.SiLU(),
            zeroed(nn.Linear(_WIDTH, 13)),
        )  # fmt: skip
        self.elbow = nn.Sequential(
            nn.Linear(_ELBOW, 64), nn.SiLU(), nn.Linear(64, 64), nn.SiLU(), zeroed(nn.Linear(64, 2))
        )

    def forward(
        self, arms: Float[Tensor, "n 14"], places: Float[Tensor, "n 2"]
    ) -> tuple[Float[Tensor, "n 2 2"], Float[Tensor, " n"]]:
        """Where the photo shows what is at `places` if that is upper arm, if it is forearm; logit of its being forearm."""
        moved, told = _stiff(arms, places)
        scales = arms.new_tensor((1,) * JOINTS + _SCALES)
        out = self.body(torch.cat([arms * scales, told], -1))
        lean = torch.tensor([[0.0, 4, 0, 0], [0, 0, 4, 0]], device=arms.device)
        shares = torch.softmax(out[:, :8].unflatten(-1, (2, 4)) + lean, -1)
        beyond = (
            _BEYOND * _moved(arms, with_elbow=True)[:, None] * out[:, 8:12].unflatten(-1, (2, 2))
        )
        return torch.einsum("nsk,nkx->nsx", shares, moved) + beyond, out[:, 12]

    def elbow_shift(self, arms: Float[Tensor, "n 14"]) -> Float[Tensor, "n 2"]:
        """How far an elbow goes with its hand, where nobody tells; the row's own elbow of now is not read."""
        shift = arms[:, 8:10] - arms[:, 2:4]
        turns = arms[:, JOINTS:] * arms.new_tensor(_SCALES)
        shift = self.elbow(torch.cat([arms[:, :6], shift, turns], -1))
        return _moved(arms, with_elbow=False) * shift

    def losses(self, batch: ArmExamples) -> dict[str, Tensor]:
        """Shoulder widths off, on arms and at elbows; cross-entropy of the part."""
        with torch.autocast(batch.arms.device.type, enabled=False):  # a place has more digits
            sources, fore = self(batch.arms, batch.places)
            shift = self.elbow_shift(batch.arms)
        own = torch.where(batch.is_fore[:, None], sources[:, 1], sources[:, 0])
        elbow = shift - (batch.arms[:, 6:8] - batch.arms[:, :2])
        part = F.binary_cross_entropy_with_logits(fore, batch.is_fore.float())
        return {
            "arms": _length(own - batch.sources).mean(),
            "elbows": 0.3 * _length(elbow).mean(),
            "arm_parts": 0.02 * part,
        }


def _moved(arms: Float[Tensor, "n 14"], *, with_elbow: bool) -> Float[Tensor, "n 1"]:
    """0 for an arm at rest, where all must stay as the photo has it, 1 for one that has moved."""
    moved = (arms[:, 8:10] - arms[:, 2:4]).norm(dim=-1) + 0.3 * arms[:, JOINTS:].norm(dim=-1)
    if with_elbow:
        moved = moved + (arms[:, 6:8] - arms[:, :2]).norm(dim=-1)
    return (moved / _MOVED).clamp(max=1)[:, None]


def _length(error: Float[Tensor, "n 2"]) -> Float[Tensor, " n"]:
    return (error.square().sum(-1) + 1e-5).sqrt()


def _stiff(
    arms: Float[Tensor, "n 14"], places: Float[Tensor, "n 2"]
) -> tuple[Float[Tensor, "n 4 2"], Float[Tensor, "n 18"]]:
    """Sources if all were still, upper arm, forearm, hand were stiff; and the places against the bones."""
    elbow_0, wrist_0, _, elbow_1, wrist_1 = arms[:, :JOINTS].unflatten(-1, (5, 2)).unbind(1)
    still = torch.zeros_like(places)
    upper, along_upper, across_upper = _carried(places, (still, elbow_1), (still, elbow_0))
    fore, along_fore, across_fore = _carried(places, (elbow_1, wrist_1), (elbow_0, wrist_0))
    x, y = (places - wrist_1).unbind(-1)
    cos, sin = torch.cos(-arms[:, 10]), torch.sin(-arms[:, 10])
    hand = wrist_0 + torch.stack([cos * x - sin * y, sin * x + cos * y], -1)
    moved = torch.stack([places, upper, fore, hand], 1)
    told = torch.cat(
        [
            2 * places, 2 * (places - elbow_1), along_upper, 3 * across_upper, along_fore.clamp(-3, 3), 3 * across_fore,
            2 * (places - wrist_1), 3 * (moved[:, 1:] - places[:, None]).flatten(1), 3 * (elbow_1 - elbow_0),
        ],
        -1,
    )  # fmt: skip
    return moved, told


def _carried(
    places: Float[Tensor, "n 2"],
    bone: tuple[Float[Tensor, "n 2"], Float[Tensor, "n 2"]],
    rest: tuple[Float[Tensor, "n 2"], Float[Tensor, "n 2"]],
) -> tuple[Float[Tensor, "n 2"], Float[Tensor, "n 1"], Float[Tensor, "n 1"]]:
    """Places carried with a bone back to where it rests: stretched along it, not across; where along it, how far across."""
    lengths, directions = [], []
    for start, end in (bone, rest):
        length = (end - start).norm(dim=-1, keepdim=True)
        lengths.append(length.clamp(min=_SHORTEST))
        directions.append((end - start) / length.clamp(min=1e-4))
    arm = places - bone[0]
    along = (arm * directions[0]).sum(-1, keepdim=True)
    across = (arm * _left_of(directions[0])).sum(-1, keepdim=True)
    stretch = (lengths[1] / lengths[0]).clamp(*_STRETCH)
    back = rest[0] + directions[1] * along * stretch + _left_of(directions[1]) * across
    return back, along / lengths[0], across


def _left_of(direction: Float[Tensor, "n 2"]) -> Float[Tensor, "n 2"]:
    return torch.stack([-direction[:, 1], direction[:, 0]], -1)


def arm_row(limb: Limb, pose: Float32[np.ndarray, "c"]) -> Float[Tensor, "14"]:
    """An arm of the photo in a pose (`layer_motion.POSE`, `HAND`), as the network is told it."""
    fingers = limb.chains[_MIDDLE]
    knuckle = limb.hand[fingers[1]] if len(fingers) > 1 else limb.hand.mean(0)
    mirror = _mirror(limb)
    elbow, wrist = (limb.elbow - limb.shoulder) * mirror, (limb.wrist - limb.shoulder) * mirror
    now = elbow + pose[4:6] * mirror, wrist + pose[:2] * mirror
    tilt = pose[6:8] if len(pose) > len(POSE) else np.zeros(2, np.float32)
    lengths = np.concatenate([elbow, wrist, (knuckle - limb.wrist) * mirror, *now]) / limb.unit
    turns = pose[2] * mirror[0], pose[3], *(tilt * mirror[::-1])
    return torch.from_numpy(np.append(lengths, turns).astype(np.float32))


def elbow_shift(
    surface: ArmSurface, limb: Limb, pose: Float32[np.ndarray, "c"]
) -> Float32[np.ndarray, "2"]:
    """Pixels by which the elbow goes along with a pose that does not tell."""
    told = np.concatenate([pose[:4], np.zeros(2), pose[6:]]).astype(np.float32)
    with torch.no_grad():
        shift = surface.elbow_shift(arm_row(limb, told)[None])[0].numpy()
    return (shift * _mirror(limb) * limb.unit).astype(np.float32)


def fetched(
    surface: ArmSurface,
    limb: Limb,
    pose: Float32[np.ndarray, "c"],
    places: Float32[np.ndarray, "h w 2"],
    part: ArmPart,
) -> Float32[np.ndarray, "h w 2"]:
    """Photo positions of positions in a pose, both in pixels, of what shows this part of an arm."""
    mirror = _mirror(limb)
    flat = torch.from_numpy(((places - limb.shoulder) * mirror / limb.unit).reshape(-1, 2))
    with torch.no_grad():
        sources, fore = surface(arm_row(limb, pose).expand(len(flat), -1), flat.float())
    share = {"upper": torch.zeros(1), "forearm": torch.ones(1), "arm": torch.sigmoid(fore)}[part]
    mixed = sources[:, 0] + share[:, None] * (sources[:, 1] - sources[:, 0])
    back = mixed.numpy().reshape(places.shape) * mirror * limb.unit + limb.shoulder
    return back.astype(np.float32)


def _mirror(limb: Limb) -> Float32[np.ndarray, "2"]:
    return np.array([-1.0 if limb.side else 1.0, 1.0], np.float32)
