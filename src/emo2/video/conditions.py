"""What the denoiser is told: of each frame (`FrameConditions`), and of the photo (`Reference`).

`Passing` hands both from layer to layer during one forward pass, pairs features with sites by position and
collects the features of a reference network.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from emo2.config import UNetConfig, VideoConfig
from emo2.nn import Projected

Features = tuple[Float[Tensor, "b _ _ _"], ...]
"""One tensor per spatial attention: normalised tokens of every frame."""


@dataclass(frozen=True, kw_only=True)
class FrameConditions:
    """What is known of each frame of the clip; every part may be missing."""

    audio: Float[Tensor, "b f n a"] | None = None
    """Audio tokens: the feature rows of frames f-m..f+m, layer by layer (`audio_tokens`), or projected ones."""
    silent: int = 0
    """So many clips at the batch's beginning have zeros for audio (guidance's unconditional half): attention to them
    is its bias alone and is not computed."""
    context: Float[Tensor, "b t e"] | None = None
    """Tokens of the whole clip: picture, face or text."""
    hints: Float[Tensor, "b f k"] | None = None
    """Condition vector, added to the time embedding."""
    speed: Float[Tensor, "b f s"] | None = None
    """Speed buckets (`speed_code`)."""
    maps: Float[Tensor, "b _ c h w"] | None = None
    """Guidance maps, at 2^(len(guidance_widths)-1) times the latent grid; a single frame stands for all."""
    guidance: tuple[Float[Tensor, "b _ _ _ _"], ...] | None = None
    """What `UNet.guide` made of the maps: takes their place, so that they are encoded once for many passes; a
    single frame stands for all."""
    confidence: Float[Tensor, "b f 2"] | None = None
    """How much each hand of the guidance maps is to be believed, 0..1."""
    regions: tuple[Float[Tensor, "_ r _"], ...] | None = None
    """Where each branch of the audio transformers counts (Hallo: picture, face, lips), 0..1: one tensor a level,
    a column a cell of its grid; one row for all clips, or a row a clip."""
    region_weights: tuple[float, ...] | None = None
    """How much each branch counts at all; None: 1."""

    def part(self, part: slice, guidance: FrameConditions) -> FrameConditions:
        """The conditions of some of the frames, with their guidance maps."""

        def cut(values: Tensor | None) -> Tensor | None:
            return None if values is None else values[:, part]

        return replace(
            self,
            audio=cut(self.audio),
            hints=cut(self.hints),
            speed=cut(self.speed),
            maps=guidance.maps,
            guidance=guidance.guidance,
            confidence=guidance.confidence,
        )


def audio_tokens(values: Float[Tensor, "b f layers a"], window: int) -> Float[Tensor, "b f n a"]:
    """Join the rows of frames f-m..f+m as tokens, borders repeated (EMO §3.2: A_gen(f), m = `window`)."""
    frames = values.shape[1]
    index = torch.arange(frames)[:, None] + torch.arange(-window, window + 1)
    joined = values[:, index.clamp(0, frames - 1).to(values.device)]
    return rearrange(joined, "b f m layers a -> b f (m layers) a")


@dataclass(frozen=True, kw_only=True)
class Reference:
    """The photo as the denoiser reads it: one entry a site, features or their keys and values (`UNet.project`).

    The rows of an entry share the clips that read it evenly, in order.
    """

    sites: tuple[Float[Tensor, "g _ _"] | Projected, ...]
    unread: int = 0
    """So many clips at the batch's beginning read no reference: guidance's unconditional half."""
    alternates: bool = False
    """Frame j of f reads row (f + j) mod g instead (Hallo's accident, `HabitsConfig.alternating_reference`)."""
    wasteful: bool = False
    """Everything is computed for all frames, read or not, as the originals do it; for comparison of speed."""

    def to(self, device: torch.device) -> Reference:
        """The same on another device."""
        return replace(self, sites=tuple(site.to(device) for site in self.sites))


@dataclass(frozen=True)
class SiteReference:
    """A reference at one site: as `Reference`, counted in frames."""

    tokens: Float[Tensor, "g u c"] | Projected
    unread: int = 0
    order: Tensor | None = None
    """For every frame that reads, its row of the tokens; None: even shares."""
    wasteful: bool = False


class Passing:
    """One forward pass's conditions, handed from layer to layer; counts the sites and collects their features."""

    def __init__(
        self,
        config: UNetConfig,
        count: int,
        frames: FrameConditions,
        reference: Sequence[Tensor] | Reference | None,
        motion: Features | None,
    ) -> None:
        self.count = count
        if reference is not None and not isinstance(reference, Reference):
            reference = Reference(sites=tuple(reference))
        self.reference = reference
        self.motion = motion
        self.audio = (
            None
            if frames.audio is None
            else rearrange(frames.audio[frames.silent :], "b f n a -> (b f) n a")
        )
        self.context = frames.context
        self.speed = (
            None if frames.speed is None else _join_neighbours(frames.speed, config.audio_window)
        )
        self.regions = frames.regions
        self.region_weights = frames.region_weights or (1.0,) * config.regions
        self.keeps = config.reference is None
        self.sites = 0
        self.features: list[Tensor] = []

    def site_reference(self, width: int) -> SiteReference | None:
        """The reference of the site that comes next."""
        if self.reference is None:
            return None
        tokens = _feature("reference", self.reference.sites, self.sites, width)
        order = None
        if self.reference.alternates:
            turns = torch.arange(self.count, 2 * self.count) % tokens.shape[0]
            order = turns.to(_device(tokens))
        unread = self.reference.unread * self.count
        return SiteReference(tokens, unread, order, self.reference.wasteful)

    def passed(self, feature: Float[Tensor, "n hw c"]) -> None:
        """A site lies behind; its feature is kept if this network is one that is read."""
        self.sites += 1
        if self.keeps:
            self.features.append(rearrange(feature, "(b f) n d -> b f n d", f=self.count))

    def motion_feature(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "b m hw c"] | None:
        """The motion frames' feature of the site just passed."""
        if self.motion is None:
            return None
        site = self.sites - 1
        motion = _feature("motion", self.motion, site, x.shape[1])
        assert isinstance(motion, Tensor)
        cells = x.shape[-2] * x.shape[-1]
        if motion.shape[2] != cells:
            raise ValueError(
                f"motion feature {site} has {motion.shape[2]} tokens, its site "
                f"{cells}; compute it at the denoiser's grid"
            )
        return motion

    def region(self, level: int, rows: int) -> Float[Tensor, "n r hw"] | None:
        """Where the branches of a level's audio transformers count, for every frame."""
        if self.regions is None:
            return None
        masks = self.regions[level]
        return masks.repeat_interleave(rows // masks.shape[0], 0)

    def finish(self) -> None:
        """Every given feature must have met its site."""
        sites = None if self.reference is None else self.reference.sites
        for name, given in (("reference", sites), ("motion", self.motion)):
            if given is not None and len(given) != self.sites:
                raise ValueError(f"{len(given)} {name} features for {self.sites} attention sites")


def _feature(
    name: str, given: Sequence[Tensor | Projected], site: int, width: int
) -> Tensor | Projected:
    if site >= len(given):
        raise ValueError(f"{len(given)} {name} features, but there is an attention site {site}")
    if given[site].shape[-1] != width:
        raise ValueError(f"{name} feature {site} is {given[site].shape[-1]} wide, its site {width}")
    return given[site]


def _device(tokens: Tensor | Projected) -> torch.device:
    return tokens.keys.device if isinstance(tokens, Projected) else tokens.device


def _join_neighbours(speed: Float[Tensor, "b f s"], window: int) -> Float[Tensor, "b f ms"]:
    return rearrange(audio_tokens(speed[:, :, None], window), "b f m s -> b f (m s)")


def maps_side(config: VideoConfig) -> int:
    """Pixels a side of the guidance maps that the denoiser is shown; 0: none."""
    if not config.denoiser.guidance_channels:
        return 0
    return config.codec.grid // config.codec.pack * 2 ** (len(config.denoiser.guidance_widths) - 1)
