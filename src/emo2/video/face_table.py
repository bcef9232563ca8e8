"""What each face action does to a face like any other: a table in coordinates that mouth and eyes span.

An affine map takes the eyes to (-1, 0) and (1, 0) and the mouth to (0, 1), whoever is seen and however large; in
these coordinates an action moves nearly the same places the same way.  `fit` finds the table by least squares, from
what the rest of the expectation leaves over; the rest has then only this person's difference to learn.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from einops import rearrange, repeat
from jaxtyping import Float
from torch import Tensor, nn

from emo2.video.codec import FLOW_SCALE
from emo2.video.examples import BODY, FACE_ACTIONS, FACE_VIEW, HEAD, UNITS, Examples

CELLS = 60
CHANNELS = 3
"""Flow along the face's two axes; visibility as the latent has it."""
LOW, HIGH = (-2.2, -1.0), (2.2, 1.9)
"""The table's corners: forehead to chin, ear to ear."""
REACH_FADE = 0.5
"""Over how much outside the table's corners `face_reach` falls to 0."""


def axes_of(marks: Float[Tensor, "b 3 2"]) -> tuple[Float[Tensor, "b 2"], Float[Tensor, "b 2 2"]]:
    """Origin (between the eyes) and the two axes as columns: half the way from eye to eye, the way to the mouth."""
    mouth, left, right = marks.unbind(1)
    origin = (left + right) / 2
    return origin, torch.stack([(right - left) / 2, mouth - origin], dim=-1)


class FaceTable(nn.Module):
    """Flow and visibility of a face's actions from mouth and eyes alone."""

    values: Float[Tensor, "a 3 y x"]

    def __init__(self) -> None:
        super().__init__()
        # A buffer: it is fitted, not trained; a step of Adam is larger than most of its values.
        self.register_buffer("values", torch.zeros(FACE_ACTIONS, CHANNELS, CELLS, CELLS))

    def forward(
        self, marks: Float[Tensor, "b 3 2"], actions: Float[Tensor, "b f a"], side: int
    ) -> Float[Tensor, "b f 3 s s"]:
        """Backward flow in views' sides, and visibility, on a grid of `side` cells; zero outside the table."""
        count = actions.shape[1]
        own = torch.einsum("bfa,acyx->bfcyx", actions, self.values)
        places = _places(marks, side)
        low, high = (torch.tensor(corner).to(places) for corner in (LOW, HIGH))
        grid = (places - low) / (high - low) * 2.0 - 1.0
        found = F.grid_sample(
            rearrange(own, "b f c y x -> (b f) c y x"),
            repeat(grid, "b y x c -> (b f) y x c", f=count),
            align_corners=False,
        )
        found = rearrange(found, "(b f) c y x -> b f c y x", f=count)
        return _turn(axes_of(marks)[1], found)


def face_reach(marks: Float[Tensor, "b 3 2"], side: int) -> Float[Tensor, "b 1 s s"]:
    """1 on the face and a little around it, 0 where no face action moves anything: hair, neck, what is behind."""
    places = _places(marks, side)
    low, high = (torch.tensor(corner).to(places) for corner in (LOW, HIGH))
    inside = torch.minimum(places - low, high - places).amin(-1)
    return (1.0 + inside / REACH_FADE).clamp(0.0, 1.0)[:, None]


def _places(marks: Float[Tensor, "b 3 2"], side: int) -> Float[Tensor, "b s s 2"]:
    """Where a grid's cells lie along the two axes of a face."""
    origin, axes = axes_of(marks)
    middles = (torch.arange(side, device=marks.device, dtype=marks.dtype) + 0.5) / side
    ys, xs = torch.meshgrid(middles, middles, indexing="ij")
    away = torch.stack([xs, ys], dim=-1) - origin[:, None, None]
    return torch.einsum("bij,byxj->byxi", torch.linalg.inv(axes), away)


def _turn(matrix: Float[Tensor, "b 2 2"], values: Float[Tensor, "b f 3 y x"]) -> Tensor:
    """Flow into other axes; visibility knows none."""
    flow, seen = values.split([2, 1], dim=2)
    return torch.cat([torch.einsum("bij,bfjyx->bfiyx", matrix, flow), seen], dim=2)


class TableFit:
    """Least squares for a `FaceTable`, one batch after the other; only the sums are kept."""

    def __init__(self) -> None:
        self.inner = torch.zeros(FACE_ACTIONS + 1, FACE_ACTIONS + 1, dtype=torch.float64)
        self.outer = torch.zeros(FACE_ACTIONS + 1, CHANNELS * CELLS * CELLS, dtype=torch.float64)

    def learn(
        self,
        batch: Examples,
        asked: Float[Tensor, "b f 64"],
        wanted: Float[Tensor, "b f c s s"],
        expected: Float[Tensor, "b f c s s"],
    ) -> int:
        """Add what `expected` leaves of the true (unpacked) latents; the number of frames that counted.

        Those count whose head and torso are where the reference has them, in views of the face.  `asked`: the
        conditions as the basis is told them, against the photo's own actions as they were read.
        """
        flow, seen, _ = (wanted - expected).split([2, 1, wanted.shape[2] - 3], dim=2)
        flow = flow * FLOW_SCALE * (batch.visibility > 0.3)
        left_over = torch.cat([flow, seen], dim=2)
        given = batch.conditions / UNITS
        moved = given[..., HEAD.start : BODY.stop - 1].abs().amax(-1)  # breath moves no face
        told = (batch.view == FACE_VIEW) & batch.known_groups()[:, 0]
        still = ((moved < 0.1) & told[:, None]).float()
        actions = asked[..., :FACE_ACTIONS] / UNITS[:FACE_ACTIONS]
        self.add(batch.marks, actions, left_over, still)
        return int(still.sum())

    def add(
        self,
        marks: Float[Tensor, "b 3 2"],
        actions: Float[Tensor, "b f a"],
        left_over: Float[Tensor, "b f 3 s s"],
        counts: Float[Tensor, "b f"],
    ) -> None:
        """Flow (in views' sides) and visibility that are left over; frames with a count of 0 are left out (heads that moved)."""
        origin, axes = axes_of(marks)
        across, down = (
            torch.linspace(low, high, 2 * CELLS + 1)[1::2]
            for low, high in zip(LOW, HIGH, strict=True)
        )
        ys, xs = torch.meshgrid(down, across, indexing="ij")
        places = torch.einsum("bij,yxj->byxi", axes, torch.stack([xs, ys], dim=-1))
        grid = (places + origin[:, None, None]) * 2.0 - 1.0
        count = actions.shape[1]
        found = F.grid_sample(
            rearrange(left_over, "b f c y x -> (b f) c y x"),
            repeat(grid, "b y x c -> (b f) y x c", f=count),
            align_corners=False,
        )
        found = rearrange(found, "(b f) c y x -> b f c y x", f=count)
        own = _turn(torch.linalg.inv(axes), found)
        terms = torch.cat([actions, torch.ones_like(actions[..., :1])], dim=-1).flatten(0, 1)
        weighted = terms * counts.flatten()[:, None]
        self.inner += (weighted.T @ terms).double()
        self.outer += (weighted.T @ own.flatten(0, 1).flatten(1)).double()

    def solve(self, ridge: float = 3.0) -> Float[Tensor, "a 3 y x"]:
        """The table; `ridge` counts frames without any flow that are added for every action."""
        damped = self.inner + ridge * torch.eye(len(self.inner), dtype=torch.float64)
        table = torch.linalg.solve(damped, self.outer)[:FACE_ACTIONS]
        return table.reshape(FACE_ACTIONS, CHANNELS, CELLS, CELLS).float()
