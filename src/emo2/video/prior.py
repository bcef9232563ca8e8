"""The motion basis: a frame's expected latent is bilinear in the photo and in what is known of the frame.

The reference network's output holds, once per photo, basis latents B_k; a frame's expectation is
B_0 + sum_k phi_k(c) B_k with phi the conditions themselves and a few learned functions of them (design §6).
The same output holds a log-scale, so that the denoiser sees a standardised residual.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Bool, Float
from torch import Tensor, nn

from emo2.config import VideoConfig
from emo2.nn import zeroed
from emo2.video.codec import (
    FLOW_SCALE,
    VISIBILITY_RANGE,
    VISIBILITY_SCALE,
    RelativeCodec,
    warp,
)
from emo2.video.examples import (
    BODY,
    FACE_ACTIONS,
    HEAD,
    UNITS,
    at_rest,
    face_planes,
    known_of,
)
from emo2.video.face_table import FaceTable

SCALE_TERMS = 7
"""Terms of the log-scale: one, three flags of what is known, size of the face's, head's and torso's change."""
CUT = 8.0
"""Largest standardised residual."""
LOG_SCALE = (-4.0, 2.0)

FREQUENCIES = (1.5, 3.0, 6.0, 12.0)
"""Of places, in radians an eye-to-mouth distance: the highest tells the lids of an eye apart."""
PLACES_WIDTH = 128
SETTLED = 2
"""Rounds of `settle`: what is left is under a tenth of a pixel for the turns that are trained on."""
HIDES = 3.0
"""By how much a place that the person has left loses visibility, in latent units."""
START_MATTE = 3.0
"""Logit of a matte before anything is known: all of it moves."""


@dataclass(frozen=True, kw_only=True)
class Expectation:
    """Mean and scale (mean absolute deviation) of a frame's latent before anything is sampled."""

    mean: Float[Tensor, "b f c s s"]
    scale: Float[Tensor, "b f c s s"]


def basis_channels(config: VideoConfig, latent: int) -> int:
    """Channels that the reference network must put out for `MotionBasis`: latents, then the matte."""
    return (1 + config.conditions + config.basis + SCALE_TERMS) * latent + config.codec.pack**2


class MotionBasis(nn.Module):
    """Conditions and the reference network's output to a frame's expected latent."""

    def __init__(self, config: VideoConfig) -> None:
        super().__init__()
        self.codec = RelativeCodec(config.codec)
        self.channels = self.codec.channels
        self.table = FaceTable()
        if config.reference.out_channels != basis_channels(config, self.channels):
            raise ValueError(
                f"the reference network puts out {config.reference.out_channels} channels; "
                f"a basis of {config.basis} needs {basis_channels(config, self.channels)}"
            )
        self.functions = nn.Sequential(
            nn.Linear(config.conditions + 3, 128),
            nn.SiLU(),
            nn.Linear(128, 128),
            nn.SiLU(),
            nn.Linear(128, config.basis),
        )

    def forward(
        self,
        output: Float[Tensor, "b k s s"],
        marks: Float[Tensor, "b 3 2"],
        conditions: Float[Tensor, "b f 64"],
        known: Bool[Tensor, "b 3"] | None = None,
    ) -> Expectation:
        """`known`: which of face, head and torso are given; all of them if None.

        The face's actions, like head and torso, are told against the photo's own (`own_actions.against`).  Head and
        torso move the picture first; the face acts in the moved picture: F(p) = H(p) + A(p + H(p)).
        """
        if known is None:
            known = torch.ones(len(output), 3, dtype=torch.bool, device=output.device)
        # A training loop's bfloat16 is too coarse for places: it would move lips by a pixel.
        with torch.autocast(output.device.type, enabled=False):
            return self._expect(output.float(), marks.float(), conditions, known)

    def carry(
        self, output: Float[Tensor, "b k s s"], conditions: Float[Tensor, "b f 64"]
    ) -> Float[Tensor, "b f 2 g g"]:
        """The flow by which head and torso alone carry the face, in views' sides."""
        known = torch.ones(len(output), 3, dtype=torch.bool, device=output.device)
        given = known_of(torch.cat([conditions, at_rest(conditions)], dim=1), known)
        held = self.codec.cells(self._held(output.float(), given))[:, :, :2] * FLOW_SCALE
        moved, rest = held.chunk(2, dim=1)
        return moved - rest

    def matte(self, output: Float[Tensor, "b k s s"]) -> Float[Tensor, "b 1 g g"]:
        """Logit of how surely each cell of the photo is the person's, who moves, and not what is behind."""
        return self.codec.unpack(output[:, -(self.codec.config.pack**2) :].float())

    def _held(self, output: Tensor, given: Tensor) -> Tensor:
        """What head and torso do, and what is not the sum of the face's actions."""
        still, _, posing, free, _ = self._kinds(output)
        resting = given[:, :1].clone()
        resting[..., :-3] = 0.0
        given = torch.cat([resting, given], dim=1)
        pose = given[..., FACE_ACTIONS:-3]
        terms = torch.cat([torch.ones_like(given[..., :1]), pose, self.functions(given)], -1)
        held = torch.bmm(terms, torch.cat([still, posing, free], 1))
        held = held.reshape(*given.shape[:2], self.channels, *output.shape[-2:])
        rest, cells = self.codec.cells(held).split([1, given.shape[1] - 1], dim=1)
        flow = (cells[:, :, :2] - rest[:, :, :2]).flatten(0, 1)  # a photo at rest stays as it is
        cells = torch.cat([settle(flow), cells[:, :, 2:].flatten(0, 1)], dim=1)
        return self.codec.pack(cells).view_as(held[:, 1:])

    def _kinds(self, output: Tensor) -> tuple[Tensor, ...]:
        """The basis latents, flat: of no condition, of face actions, of the pose, of learned functions; scales."""
        output = output[:, : -(self.codec.config.pack**2)]
        batch, _, side, _ = output.shape
        free = self.functions[-1].out_features
        pose = UNITS.numel() - FACE_ACTIONS
        flat = output.reshape(batch, -1, self.channels * side * side)
        return flat.split([1, FACE_ACTIONS, pose, free, SCALE_TERMS], dim=1)

    def _expect(
        self, output: Tensor, marks: Tensor, conditions: Tensor, known: Tensor
    ) -> Expectation:
        given = known_of(conditions, known)
        actions = given[..., :FACE_ACTIONS]
        held = self._held(output, given)
        _, acting, _, _, scales = self._kinds(output)
        acted = torch.bmm(actions, acting).reshape(held.shape)
        mean = self._follow(held, acted, marks, actions, self.matte(output))
        log_scale = torch.bmm(scale_terms(given), scales).reshape(held.shape)
        return Expectation(mean=mean, scale=log_scale.clamp(*LOG_SCALE).exp())

    def _follow(
        self, held: Tensor, acted: Tensor, marks: Tensor, actions: Tensor, matte: Tensor
    ) -> Tensor:
        """What the face does, carried along by what head and torso do; what is behind them stays."""
        batch, count = held.shape[:2]
        held, acted = (
            self.codec.unpack(rearrange(z, "b f c h w -> (b f) c h w")) for z in (held, acted)
        )
        usual = rearrange(self.table(marks, actions, acted.shape[-1]), "b f c h w -> (b f) c h w")
        flow, seen = usual.split([2, 1], dim=1)
        acted = acted + F.pad(torch.cat([flow / FLOW_SCALE, seen], 1), (0, 0, 0, 0, 0, 3))
        whole = held + warp(acted, held[:, :2] * FLOW_SCALE)
        whole = stand_before(whole, matte.repeat_interleave(count, 0))
        return rearrange(self.codec.pack(whole), "(b f) c h w -> b f c h w", b=batch)


def scale_terms(given: Float[Tensor, "b f 67"]) -> Float[Tensor, "b f 7"]:
    """What the log-scale is linear in, from conditions as `known_of` gives them (`SCALE_TERMS`)."""
    parts = (given[..., :FACE_ACTIONS], given[..., HEAD], given[..., BODY])
    sizes = [z.abs().mean(-1, keepdim=True) for z in parts]
    return torch.cat([torch.ones_like(given[..., :1]), given[..., -3:], *sizes], dim=-1)


def settle(flow: Float[Tensor, "n 2 g g"]) -> Float[Tensor, "n 2 g g"]:
    """Backward flow F of a frame's cells, in latent units, from the photo's own B: F(p) = B(p + F(p)).

    How far a part of a turning head goes belongs to the part, not to the place that it comes to: noses stand out
    wherever they are.  Found by repetition, as the field is smooth.
    """
    found = flow
    for _ in range(SETTLED):
        found = warp(flow, found * FLOW_SCALE)
    return found


def stand_before(
    cells: Float[Tensor, "n 6 g g"], matte: Float[Tensor, "n 1 g g"]
) -> Float[Tensor, "n 6 g g"]:
    """Cells in which only the person moves: the wall stays, and what of it the person stood before is hidden.

    `matte`: of the photo, logits; a frame's person is where the flow fetches one.
    """
    person = warp(matte, cells[:, :2] * FLOW_SCALE).sigmoid()
    left = (matte.sigmoid() - person).relu()
    return torch.cat([cells[:, :2] * person, cells[:, 2:3] - HIDES * left, cells[:, 3:]], dim=1)


class FacePlaces(nn.Module):
    """The basis of a face like any other: from each cell's place against mouth and eyes alone.

    Added to the reference network's output, which then has only this person's difference to learn.
    """

    def __init__(self, config: VideoConfig) -> None:
        super().__init__()
        self.side = RelativeCodec(config.codec).side
        inputs = 9 + 6 * 2 * len(FREQUENCIES)
        self.layers = nn.Sequential(
            nn.Conv2d(inputs, PLACES_WIDTH, 1),
            nn.SiLU(),
            nn.Conv2d(PLACES_WIDTH, PLACES_WIDTH, 1),
            nn.SiLU(),
            zeroed(nn.Conv2d(PLACES_WIDTH, config.reference.out_channels, 1)),
        )

    def forward(self, marks: Float[Tensor, "b 3 2"]) -> Float[Tensor, "b k s s"]:
        planes = face_planes(marks, self.side)
        away = 2.0 * planes[:, :6]
        waves = [wave(away * f) for f in FREQUENCIES for wave in (torch.sin, torch.cos)]
        return self.layers(torch.cat([planes, *waves], dim=1))


@torch.no_grad()
def start_basis(layer: nn.Conv2d, codec: RelativeCodec) -> None:
    """Initialise the reference network's last layer: nothing moves, everything is seen, little is certain."""
    nn.init.normal_(layer.weight, std=0.003)
    assert layer.bias is not None
    nn.init.zeros_(layer.bias)
    cells = torch.zeros(1, 6, codec.config.pack, codec.config.pack)
    cells[:, 2] = torch.tensor(1.0 - VISIBILITY_RANGE).logit() / VISIBILITY_SCALE
    layer.bias[: codec.channels] = codec.pack(cells).flatten()
    layer.bias[-(codec.config.pack**2) :] = START_MATTE


def standardise(
    latents: Float[Tensor, "b f c s s"], expected: Expectation
) -> Float[Tensor, "b f c s s"]:
    """What the expectation leaves over, in units of its scale; rare large values are cut."""
    return ((latents - expected.mean) / expected.scale).clamp(-CUT, CUT)
