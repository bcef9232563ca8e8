"""MotionDiT: a diffusion transformer over a window of motion rows (EMO2 Fig. 2; Peebles and Xie 2023)."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from emo2.config import Config
from emo2.motion.channels import row_width
from emo2.nn import (
    Attention,
    FeedForward,
    Rotary,
    SpeedEmbedding,
    TimeEmbedding,
    band_mask,
    modulate,
    rotary,
    zeroed,
)

SPEECH_REACH = 12
"""Frames to each side that a frame's cross-attention hears."""


class _Block(nn.Module):
    """Self-attention, cross-attention to speech, two layers; each modulated and gated (adaLN-zero)."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        width, heads = config.motion.width, config.motion.heads
        self.norm_1 = nn.LayerNorm(width, elementwise_affine=False)
        self.norm_2 = nn.LayerNorm(width, elementwise_affine=False)
        self.norm_3 = nn.LayerNorm(width, elementwise_affine=False)
        self.self_attention = Attention(width, heads)
        self.speech_attention = Attention(width, heads, context_width=config.speech.width)
        self.feed = FeedForward(width, factor=3)
        self.modulation = zeroed(nn.Linear(width, 9 * width))

    def forward(
        self, x: Tensor, condition: Tensor, speech: Tensor, turn: Rotary, near: Tensor
    ) -> Tensor:
        parts = self.modulation(condition).chunk(9, dim=-1)
        shift, scale, gate = parts[0:3]
        attended = self.self_attention(modulate(self.norm_1(x), shift, scale), turn=turn)
        x = x + gate[:, None] * attended
        shift, scale, gate = parts[3:6]
        heard = self.speech_attention(
            modulate(self.norm_2(x), shift, scale), speech, mask=near, turn=turn
        )
        x = x + gate[:, None] * heard
        shift, scale, gate = parts[6:9]
        return x + gate[:, None] * self.feed(modulate(self.norm_3(x), shift, scale))


class MotionDiT(nn.Module):
    """Predicts clean, standardised motion rows from noisy ones, speech, style and speed."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        sizes = config.motion
        width = sizes.width
        channels = row_width(hints=sizes.hints)
        self.head_width = width // sizes.heads
        self.row_in = nn.Linear(channels, width)
        self.known_in = nn.Embedding(2, width)
        self.seen_in = nn.Linear(2, width)
        # Beside cross-attention every frame also gets its own speech row at once (ours): the alignment is
        # known, so it need not be learned.
        self.speech_in = nn.Linear(config.speech.width, width)
        self.no_speech = nn.Parameter(torch.zeros(config.speech.width))
        self.time_in = TimeEmbedding(width)
        self.style_in = nn.Embedding(len(sizes.styles) + 1, width)
        self.speed_in = SpeedEmbedding(sizes.speed_buckets, width)
        self.blocks = nn.ModuleList(_Block(config) for _ in range(sizes.depth))
        self.norm = nn.LayerNorm(width, elementwise_affine=False)
        self.modulation = zeroed(nn.Linear(width, 2 * width))
        self.row_out = zeroed(nn.Linear(width, channels))

    def forward(
        self,
        rows: Float[Tensor, "b f c"],
        time: Int[Tensor, " b"],
        *,
        speech: Float[Tensor, "b f d"],
        heard: Bool[Tensor, " b"],
        known: Bool[Tensor, "b f"],
        seen: Float[Tensor, "b f 2"],
        style: Int[Tensor, " b"],
        speed: Float[Tensor, " b"],
    ) -> Float[Tensor, "b f c"]:
        """`known` frames hold clean rows; `heard` False withholds speech; style -1 and speed NaN withhold these."""
        speech = torch.where(heard[:, None, None], speech, self.no_speech.to(speech.dtype))
        x = (
            self.row_in(rows)
            + self.known_in(known.long())
            + self.seen_in(seen)
            + self.speech_in(speech)
        )
        told = ~speed.isnan()
        condition = self.time_in(time.float()) + self.style_in(style + 1)
        condition = condition + self.speed_in(speed.nan_to_num(1.0), told)
        condition = nn.functional.silu(condition)
        frames = rows.shape[1]
        turn = rotary(
            torch.arange(frames, device=rows.device, dtype=torch.float32), self.head_width
        )
        near = band_mask(frames, frames, SPEECH_REACH).to(rows.device)
        for block in self.blocks:
            x = block(x, condition, speech, turn, near)
        shift, scale = self.modulation(condition).chunk(2, dim=-1)
        return self.row_out(modulate(self.norm(x), shift, scale))
