"""Parts that both diffusion networks are made of: attention, feed-forward, time and speed embeddings.

Shared by stage 1 (`motion`) and stage 2 (`video`); sizes are arguments here because the parts have no
config of their own.  Names follow the public U-Nets (`to_q`, `to_out`, GEGLU), so that a table can map keys.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from einops import rearrange
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

SPEED_TOP = 2.0
"""Largest speed with a bucket of its own; 1 is the usual speed of the training data."""


def quick(device: torch.device) -> torch.autocast:
    """bfloat16 for convolutions where the CPU multiplies it (AVX-512 BF16); elsewhere nothing changes.

    For networks whose output stays near a picture: a painted pixel moves by less than a grey level.
    """
    has_bf16 = device.type == "cpu" and torch.cpu._is_avx512_bf16_supported()
    return torch.autocast(device.type, torch.bfloat16, enabled=has_bf16)


def timestep_embedding(
    time: Float[Tensor, " b"], width: int, *, max_period: float = 10_000.0
) -> Float[Tensor, "b width"]:
    """Sinusoids of the diffusion time, cosines first (as in Stable Diffusion); `time` in training steps."""
    half = width // 2
    frequencies = torch.exp(
        -math.log(max_period) * torch.arange(half, device=time.device, dtype=torch.float32) / half
    )
    angles = time.float()[:, None] * frequencies
    return F.pad(torch.cat((angles.cos(), angles.sin()), dim=-1), (0, width - 2 * half))


class TimeEmbedding(nn.Module):
    """Diffusion time to the vector that every block sees: sinusoids, then two layers."""

    def __init__(self, width: int, *, sinusoids: int | None = None) -> None:
        super().__init__()
        self.sinusoids = sinusoids or width
        self.linear_1 = nn.Linear(self.sinusoids, width)
        self.linear_2 = nn.Linear(width, width)

    def forward(self, time: Float[Tensor, " b"]) -> Float[Tensor, "b d"]:
        code = timestep_embedding(time, self.sinusoids).to(self.linear_1.weight.dtype)
        return self.linear_2(F.silu(self.linear_1(code)))


def speed_code(
    speed: Float[Tensor, "*batch"], buckets: int, *, top: float = SPEED_TOP
) -> Float[Tensor, "*batch buckets"]:
    """EMO's bucket code s_i = tanh(3 (w - c_i) / r_i) of speed w (EMO, speed layers).

    Centres c_i evenly on 0..`top`, radius the distance of two neighbours (ours; EMO does not state them).
    """
    centres = torch.linspace(0.0, top, buckets, device=speed.device, dtype=torch.float32)
    radius = top / max(buckets - 1, 1)
    return torch.tanh(3.0 * (speed.float()[..., None] - centres) / radius)


class SpeedEmbedding(nn.Module):
    """Speed to a vector that is added to the time embedding; all zeros where the speed is withheld."""

    def __init__(self, buckets: int, width: int) -> None:
        super().__init__()
        self.buckets = buckets
        self.linear_1 = nn.Linear(buckets, width)
        self.linear_2 = nn.Linear(width, width)

    def forward(
        self, speed: Float[Tensor, " b"], known: Bool[Tensor, " b"] | None = None
    ) -> Float[Tensor, "b d"]:
        code = speed_code(speed, self.buckets).to(self.linear_1.weight.dtype)
        vector = self.linear_2(F.silu(self.linear_1(code)))
        return vector if known is None else vector * known[:, None]


Rotary = tuple[Float[Tensor, "n half"], Float[Tensor, "n half"]]
"""Cosines and sines of rotary positions."""


def rotary(positions: Float[Tensor, " n"], width: int, *, max_period: float = 1_000.0) -> Rotary:
    """Rotary position angles for heads of `width` channels (Su et al. 2021, RoFormer eq. 34)."""
    half = width // 2
    frequencies = max_period ** (-torch.arange(half, device=positions.device) / half)
    angles = positions.float()[:, None] * frequencies
    return angles.cos(), angles.sin()


def rotate(x: Float[Tensor, "b heads n d"], turn: Rotary) -> Float[Tensor, "b heads n d"]:
    """Turn queries or keys by their positions' angles."""
    cos, sin = (part.to(x.dtype) for part in turn)
    first, second = x.chunk(2, dim=-1)
    return torch.cat((first * cos - second * sin, first * sin + second * cos), dim=-1)


SHORT = 256
"""Up to so many positions a side, training attends by plain products."""


def attend(
    q: Float[Tensor, "b heads n d"],
    k: Float[Tensor, "b heads m d"],
    v: Float[Tensor, "b heads m d"],
    mask: Tensor | None = None,
) -> Float[Tensor, "b heads n d"]:
    """Scaled dot-product attention (Vaswani et al. 2017 eq. 1)."""
    is_short = max(q.shape[-2], k.shape[-2]) <= SHORT
    if not (torch.is_grad_enabled() and is_short and q.device.type == "cpu"):
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
    # The fused kernel's backward pass on a CPU took longer than all of a block's layers together.
    scores = (q * q.shape[-1] ** -0.5) @ k.transpose(-1, -2)
    if mask is not None:
        scores = scores.masked_fill(~mask, float("-inf"))
    return scores.softmax(dim=-1).to(v.dtype) @ v


@dataclass(frozen=True)
class Projected:
    """A context's keys and values: projected once, attended to in many passes (`Attention.project`)."""

    keys: Float[Tensor, "g m d"]
    values: Float[Tensor, "g m d"]

    @property
    def shape(self) -> torch.Size:
        """That of the keys."""
        return self.keys.shape

    def to(self, device: torch.device) -> Projected:
        """The same on another device."""
        return Projected(self.keys.to(device), self.values.to(device))

    def rows(self, order: Int[Tensor, " n"] | int) -> Projected:
        """Of each row that looks at them: those of the rows that `order` names, or each row that many times."""
        if isinstance(order, int):
            if order == 1:
                return self
            return Projected(
                self.keys.repeat_interleave(order, 0), self.values.repeat_interleave(order, 0)
            )
        return Projected(self.keys[order], self.values[order])


class Attention(nn.Module):
    """Multi-head attention of `x` to itself or to a context of another width."""

    def __init__(
        self, width: int, heads: int, *, context_width: int | None = None, bias: bool = False
    ) -> None:
        super().__init__()
        if width % heads:
            raise ValueError(f"width {width} does not divide into {heads} heads")
        self.heads = heads
        self.to_q = nn.Linear(width, width, bias=bias)
        self.to_k = nn.Linear(context_width or width, width, bias=bias)
        self.to_v = nn.Linear(context_width or width, width, bias=bias)
        self.to_out = nn.Linear(width, width)

    def project(self, context: Float[Tensor, "g m c"]) -> Projected:
        """Keys and values of a context, to be given in its place."""
        return Projected(self.to_k(context), self.to_v(context))

    def forward(
        self,
        x: Float[Tensor, "b n d"],
        context: Float[Tensor, "g m c"] | Projected | None = None,
        *,
        extra: Float[Tensor, "e u c"] | Projected | None = None,
        order: Int[Tensor, " b"] | None = None,
        mask: Tensor | None = None,
        turn: Rotary | None = None,
        context_turn: Rotary | None = None,
    ) -> Float[Tensor, "b n d"]:
        """`mask`: True (or 0) where attention is allowed, broadcast to (b, heads, n, m).

        `extra` joins the context's tokens.  Context and extra may have fewer rows than `x`: each then serves
        as many consecutive rows of `x` (a clip's frames share one reference), so that its keys and values are
        projected once; `order` names for every row of `x` the row of `extra` (or else of `context`) it looks at.
        """
        split = "b n (heads d) -> b heads n d"
        q = rearrange(self.to_q(x), split, heads=self.heads)
        given = self._rows(
            x if context is None else context, x, None if extra is not None else order
        )
        if extra is not None:
            joined = self._rows(extra, x, order)
            given = Projected(
                torch.cat((given.keys, joined.keys), dim=1),
                torch.cat((given.values, joined.values), dim=1),
            )
        k = rearrange(given.keys, split, heads=self.heads)
        v = rearrange(given.values, split, heads=self.heads)
        if turn is not None:
            q = rotate(q, turn)
            k = rotate(k, turn if context_turn is None else context_turn)
        mixed = attend(q, k, v, mask)
        return self.to_out(rearrange(mixed, "b heads n d -> b n (heads d)"))

    def _rows(self, context: Tensor | Projected, x: Tensor, order: Tensor | None) -> Projected:
        projected = context if isinstance(context, Projected) else self.project(context)
        return projected.rows(x.shape[0] // projected.shape[0] if order is None else order)


class FeedForward(nn.Module):
    """Two layers with GELU, or gated (GEGLU, as in Stable Diffusion's transformer blocks)."""

    def __init__(self, width: int, *, factor: int = 4, gated: bool = False) -> None:
        super().__init__()
        self.gated = gated
        inner = width * factor
        self.proj = nn.Linear(width, inner * (2 if gated else 1))
        self.out = nn.Linear(inner, width)

    def forward(self, x: Float[Tensor, "*batch d"]) -> Float[Tensor, "*batch d"]:
        hidden = self.proj(x)
        if self.gated:
            value, gate = hidden.chunk(2, dim=-1)
            return self.out(value * F.gelu(gate))
        return self.out(F.gelu(hidden, approximate="tanh"))


def modulate(
    x: Float[Tensor, "b n d"], shift: Float[Tensor, "b d"], scale: Float[Tensor, "b d"]
) -> Float[Tensor, "b n d"]:
    """Adaptive normalisation: x (1 + scale) + shift (Peebles and Xie 2023, DiT)."""
    return x * (1.0 + scale[:, None]) + shift[:, None]


def zeroed(module: nn.Module) -> nn.Module:
    """The same module with all parameters zero: at first it changes nothing."""
    for parameter in module.parameters():
        nn.init.zeros_(parameter)
    return module


def band_mask(n: int, m: int, radius: int, *, offset: int = 0) -> Bool[Tensor, "n m"]:
    """True where position i of n may look at position j of m: |i + offset - j| <= radius."""
    rows = torch.arange(n)[:, None] + offset
    return (rows - torch.arange(m)[None]).abs() <= radius
