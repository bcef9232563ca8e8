"""What the latent stage's denoiser is told of a stretch of the film; computed once, read in every step and window."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from emo2.config import VideoConfig
from emo2.nn import speed_code
from emo2.reel import Reel, join
from emo2.signals import Motion, Portrait, SpeechFeatures
from emo2.speech.tokens import around, half_frame_windows, step_tokens
from emo2.video.conditions import FrameConditions
from emo2.video.families import Sampling
from emo2.video.guides import STILL, guide_maps
from emo2.video.network import VideoNetwork

_AT_ONCE = 8  # frames whose maps are encoded together


@dataclass(frozen=True, kw_only=True)
class FilmLook:
    """The photo, looked at once for the whole film."""

    portrait: Portrait
    photo: Float[Tensor, "1 c h w"]
    """Its latents."""
    context: Float[Tensor, "1 t e"] | None
    """Face tokens, where the family has them."""
    regions: tuple[Float[Tensor, "1 r _"], ...] | None
    """Where the branches of Hallo's audio transformers count."""


@dataclass(frozen=True, kw_only=True)
class Told:
    """A film's conditions, cut to size by frame numbers."""

    network: VideoNetwork
    way: Sampling
    look: FilmLook
    features: SpeechFeatures
    motion: Reel[Motion]
    opening: Motion
    """The film's first frame: maps count from it."""
    speed: float = 1.0
    """Of the head, 1 being usual, for networks that were taught it (EMO §3.2)."""

    def stretch(self, frames: range) -> Stretch:
        """Conditions of some consecutive frames; where they run over the film's end, its last frame goes on."""
        config = self.network.config.denoiser
        like = self.look.photo
        moves = self.motion.between(frames.start, min(frames.stop, len(self.motion)))
        audio, speed, confidence = None, None, None
        if config.audio_width:
            rows = speech_rows(self.features.values, self.network.config, frames, moves.fps)
            audio = self.network.audio_context(rows[None].to(like))
        if config.speed_buckets:
            pace = torch.full((1, len(frames)), self.speed)
            speed = speed_code(pace, config.speed_buckets).to(like)
        if config.hand_confidence:
            confidence = _to_length(moves.confidence[None], len(frames)).clamp(0, 1).to(like)
        return Stretch(
            first=frames.start,
            given=FrameConditions(
                audio=audio,
                context=self.look.context,
                speed=speed,
                guidance=self._guidance(moves, len(frames)),
                confidence=confidence,
                regions=self.look.regions,
            ),
        )

    def _guidance(self, moves: Motion, count: int) -> tuple[Tensor, ...] | None:
        """The maps, encoded once for all steps; kept on the CPU, for there may be many."""
        guide = self.way.guide
        if guide is None or not self.network.config.denoiser.guidance_channels:
            return None
        last = 1 if guide in STILL else len(moves)
        shown = join([self.opening, moves])  # so that its frame 0 is the film's
        parts = []
        for start in range(1, 1 + last, _AT_ONCE):
            some = range(start, min(start + _AT_ONCE, 1 + last))
            maps = guide_maps(guide, self.look.portrait, shown, some).to(self.look.photo)
            parts.append([g.cpu() for g in self.network.denoiser.guide(maps)])
        joined = tuple(torch.cat(level, dim=1) for level in zip(*parts, strict=True))
        return joined if guide in STILL else tuple(_to_length(g, count) for g in joined)


@dataclass(frozen=True, kw_only=True)
class Stretch:
    """Conditions of the frames from `first` on."""

    first: int
    given: FrameConditions

    def of(self, frames: Sequence[int], like: Tensor) -> FrameConditions:
        """Those of some frames of the film, where `like` is."""
        chosen = torch.tensor([f - self.first for f in frames])

        def take(values: Tensor) -> Tensor:
            if values.shape[1] == 1 < len(frames):
                return values.to(like)
            return values.index_select(1, chosen.to(values.device)).to(like)

        given = self.given
        guidance, regions = given.guidance, given.regions
        return replace(
            given,
            audio=None if given.audio is None else take(given.audio),
            context=None if given.context is None else given.context.to(like),
            speed=None if given.speed is None else take(given.speed),
            confidence=None if given.confidence is None else take(given.confidence),
            guidance=None if guidance is None else tuple(take(g) for g in guidance),
            regions=None if regions is None else tuple(r.to(like) for r in regions),
        )


def speech_rows(
    values: Float[Tensor, "n layers a"], config: VideoConfig, frames: range, fps: float
) -> Float[Tensor, "f *rest"]:
    """What the network's audio side takes for some frames of the film.

    Hallo's projection gets neighbours on an axis of their own, EMO's attention gets them all as tokens, V-Express ten
    half-frames, EchoMimic ten Whisper steps.
    """
    tokens, window = config.audio_tokens, config.denoiser.audio_window
    if tokens.kind == "stack":
        return around(values, frames, tokens.rows // 2)
    if tokens.kind == "perceiver":
        return half_frame_windows(values, frames)
    if window:
        return rearrange(around(values, frames, window), "f m layers a -> f (m layers) a")
    return step_tokens(values, frames, fps)


def _to_length(values: Tensor, count: int) -> Tensor:
    """The last frame again until there are so many."""
    return values.index_select(1, torch.arange(count).clamp(max=values.shape[1] - 1))
