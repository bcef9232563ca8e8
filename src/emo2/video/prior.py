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
    face_planes,
    known_of,
)
from emo2.video.face_table import FaceTable, face_reach

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


@dataclass(frozen=True)
class _Parts:
    """Basis latents, flat: of no condition, of face actions, of the pose, of learned functions; scales; matte."""

    still: Float[Tensor, "b 1 l"]
    acting: Float[Tensor, "b a l"]
    posing: Float[Tensor, "b p l"]
    free: Float[Tensor, "b n l"]
    scales: Float[Tensor, "b 7 l"]
    matte: Float[Tensor, "b 1 g g"]


@dataclass(frozen=True, kw_only=True)
class _Terms:
    """Weights of `_Parts`: of actions and functions for the face; of pose and functions; of the photo itself."""

    acting: Float[Tensor, "b f m"]
    posing: Float[Tensor, "b f k"]
    resting: Float[Tensor, "b 1 j"]


def basis_channels(config: VideoConfig, latent: int) -> int:
    """Channels that the reference network must put out for `MotionBasis`: latents, then the matte."""
    return (1 + config.conditions + config.basis + SCALE_TERMS) * latent + config.codec.pack**2


class MotionBasis(nn.Module):
    """Conditions and the reference network's output to a frame's expected latent."""

    def __init__(self, config: VideoConfig) -> None:
        super().__init__()
        self.codec = RelativeCodec(config.codec)
        self.channels, self.free = self.codec.channels, config.basis
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
        torso move the picture first; the face acts in the moved picture: F(p) = H(p) + A(p + H(p)).  H and A are both
        told in the photo's places (`settle`), and A ends where the face does (`face_table.face_reach`).
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
        terms = self._terms(known_of(conditions, known))
        held = self._held(self._parts(output.float()), terms)
        return self.codec.cells(held)[:, :, :2] * FLOW_SCALE

    def matte(self, output: Float[Tensor, "b k s s"]) -> Float[Tensor, "b 1 g g"]:
        """Logit of how surely each cell of the photo is the person's, who moves, and not what is behind."""
        return self.codec.unpack(output[:, -(self.codec.config.pack**2) :].float())

    def _parts(self, output: Float[Tensor, "b k s s"]) -> _Parts:
        """The reference network's output by what it is for."""
        pose = UNITS.numel() - FACE_ACTIONS
        counts = [n * self.channels for n in (1, FACE_ACTIONS, pose, self.free, SCALE_TERMS)]
        found = output.split([*counts, self.codec.config.pack**2], dim=1)
        flat = (rearrange(z, "b (k c) h w -> b k (c h w)", c=self.channels) for z in found[:-1])
        return _Parts(*flat, matte=self.codec.unpack(found[-1]))

    def _terms(self, given: Float[Tensor, "b f 67"]) -> _Terms:
        """What the basis latents are weighted with.

        A learned function of the face and the pose is parted: what it says of the face alone acts on the face, and
        what the pose adds to that moves the head.  So a head at rest is at rest, whatever its face does.
        """
        still, neutral = given.clone(), given[:, :1].clone()
        still[..., FACE_ACTIONS:-3] = 0.0
        neutral[..., :-3] = 0.0
        free = self.functions(torch.cat([given, still, neutral], dim=1))
        free, of_face, of_none = free.split([given.shape[1]] * 2 + [1], dim=1)
        return _Terms(
            acting=torch.cat([given[..., :FACE_ACTIONS], of_face - of_none], dim=-1),
            posing=torch.cat([given[..., FACE_ACTIONS:-3], free - of_face], dim=-1),
            resting=torch.cat([torch.ones_like(of_none[..., :1]), of_none], dim=-1),
        )

    def _held(self, parts: _Parts, terms: _Terms) -> Float[Tensor, "b f c s s"]:
        """What head and torso do: their flow, and what is seen and of what colour beside the face's part of it."""
        size = parts.matte.shape[-1] // self.codec.config.pack
        rest = torch.bmm(terms.resting, torch.cat([parts.still, parts.free], 1))
        moved = torch.bmm(terms.posing, torch.cat([parts.posing, parts.free], 1))
        rest, moved = (
            self.codec.cells(z.reshape(*z.shape[:2], self.channels, size, size))
            for z in (rest, moved)
        )
        flow = settle(moved[:, :, :2].flatten(0, 1))  # a photo at rest stays as it is
        cells = torch.cat([flow, (rest + moved)[:, :, 2:].flatten(0, 1)], dim=1)
        return rearrange(self.codec.pack(cells), "(b f) c h w -> b f c h w", b=len(rest))

    def _expect(
        self, output: Tensor, marks: Tensor, conditions: Tensor, known: Tensor
    ) -> Expectation:
        given = known_of(conditions, known)
        parts, terms = self._parts(output), self._terms(given)
        held = self._held(parts, terms)
        acting = torch.cat([parts.acting, parts.free], 1)
        acted = torch.bmm(terms.acting, acting).reshape(held.shape)
        mean = self._follow(held, acted, marks, given[..., :FACE_ACTIONS], parts.matte)
        log_scale = torch.bmm(scale_terms(given), parts.scales).reshape(held.shape)
        return Expectation(mean=mean, scale=log_scale.clamp(*LOG_SCALE).exp())

    def _follow(
        self, held: Tensor, acted: Tensor, marks: Tensor, actions: Tensor, matte: Tensor
    ) -> Tensor:
        """What the face does, carried along by what head and torso do; what is behind them stays."""
        batch, count = held.shape[:2]
        held, acted = (
            self.codec.unpack(rearrange(z, "b f c h w -> (b f) c h w")) for z in (held, acted)
        )
        acted = acted * face_reach(marks, acted.shape[-1]).repeat_interleave(count, 0)
        usual = rearrange(self.table(marks, actions, acted.shape[-1]), "b f c h w -> (b f) c h w")
        flow, seen = usual.split([2, 1], dim=1)
        acted = acted + F.pad(torch.cat([flow / FLOW_SCALE, seen], 1), (0, 0, 0, 0, 0, 3))
        acted = torch.cat([settle(acted[:, :2]), acted[:, 2:]], dim=1)
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
