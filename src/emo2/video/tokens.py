"""Small networks that make tokens for attention: of a face embedding, and of speech features.

Hallo's two projections, and the perceiver with which V-Express sums up neighbouring rows of speech.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from emo2.config import TokensConfig
from emo2.nn import attend


def face_projection(config: TokensConfig) -> FaceTokens | None:
    """The network a config asks for, if any."""
    return None if config.kind == "none" else FaceTokens(config)


def audio_projection(config: TokensConfig) -> StackTokens | Perceiver | None:
    """The network a config asks for, if any."""
    if config.kind == "none":
        return None
    return Perceiver(config) if config.kind == "perceiver" else StackTokens(config)


class FaceTokens(nn.Module):
    """A face embedding to some context tokens."""

    def __init__(self, config: TokensConfig) -> None:
        super().__init__()
        self.tokens = config.tokens
        self.proj = nn.Linear(config.inputs, config.tokens * config.width)
        self.norm = nn.LayerNorm(config.width)

    def forward(self, embedding: Float[Tensor, "b e"]) -> Float[Tensor, "b t d"]:
        return self.norm(rearrange(self.proj(embedding), "b (t d) -> b t d", t=self.tokens))


class StackTokens(nn.Module):
    """Neighbouring rows of several layers, flattened, through three linear layers to tokens."""

    def __init__(self, config: TokensConfig) -> None:
        super().__init__()
        self.tokens = config.tokens
        inputs = config.rows * config.layers * config.inputs
        self.proj1 = nn.Linear(inputs, config.hidden)
        self.proj2 = nn.Linear(config.hidden, config.hidden)
        self.proj3 = nn.Linear(config.hidden, config.tokens * config.width)
        self.norm = nn.LayerNorm(config.width)

    def forward(self, values: Float[Tensor, "b f rows layers a"]) -> Float[Tensor, "b f t d"]:
        flat = rearrange(values, "b f rows layers a -> b f (rows layers a)")
        hidden = F.relu(self.proj2(F.relu(self.proj1(flat))))
        return self.norm(rearrange(self.proj3(hidden), "b f (t d) -> b f t d", t=self.tokens))


class PerceiverAttention(nn.Module):
    """Queries look at the rows and at each other; no biases, heads of a width of their own."""

    def __init__(self, config: TokensConfig) -> None:
        super().__init__()
        width, inner = config.hidden, config.heads * config.head_width
        self.heads = config.heads
        self.norm1 = nn.LayerNorm(width)
        self.norm2 = nn.LayerNorm(width)
        self.to_q = nn.Linear(width, inner, bias=False)
        self.to_kv = nn.Linear(width, 2 * inner, bias=False)
        self.to_out = nn.Linear(inner, width, bias=False)

    def forward(
        self, rows: Float[Tensor, "n r d"], queries: Float[Tensor, "n t d"]
    ) -> Float[Tensor, "n t d"]:
        queries = self.norm2(queries)
        keys, values = self.to_kv(torch.cat([self.norm1(rows), queries], dim=1)).chunk(2, dim=-1)
        q, k, v = (
            rearrange(x, "n t (heads d) -> n heads t d", heads=self.heads)
            for x in (self.to_q(queries), keys, values)
        )
        return self.to_out(rearrange(attend(q, k, v), "n heads t d -> n t (heads d)"))


class PerceiverBlock(nn.Module):
    """Attention, then a feed-forward without biases."""

    def __init__(self, config: TokensConfig) -> None:
        super().__init__()
        width = config.hidden
        self.attention = PerceiverAttention(config)
        self.norm = nn.LayerNorm(width)
        self.proj = nn.Linear(width, 4 * width, bias=False)
        self.out = nn.Linear(4 * width, width, bias=False)

    def forward(
        self, rows: Float[Tensor, "n r d"], queries: Float[Tensor, "n t d"]
    ) -> Float[Tensor, "n t d"]:
        queries = queries + self.attention(rows, queries)
        return queries + self.out(F.gelu(self.proj(self.norm(queries))))


class Perceiver(nn.Module):
    """Learned queries sum up the rows around a frame (V-Express)."""

    def __init__(self, config: TokensConfig) -> None:
        super().__init__()
        width = config.hidden
        self.queries = nn.Parameter(torch.randn(1, config.tokens, width) * width**-0.5)
        self.places = nn.Embedding(config.rows, config.inputs)
        self.proj_in = nn.Linear(config.inputs, width)
        self.blocks = nn.ModuleList(PerceiverBlock(config) for _ in range(config.depth))
        self.proj_out = nn.Linear(width, config.width)
        self.norm_out = nn.LayerNorm(config.width)

    def forward(self, values: Float[Tensor, "b f rows a"]) -> Float[Tensor, "b f t d"]:
        batch = values.shape[0]
        rows = rearrange(values, "b f rows a -> (b f) rows a")
        rows = self.proj_in(rows + self.places.weight[: rows.shape[1]])
        queries = self.queries.expand(rows.shape[0], -1, -1)
        for block in self.blocks:
            queries = block(rows, queries)
        return rearrange(self.norm_out(self.proj_out(queries)), "(b f) t d -> b f t d", b=batch)
