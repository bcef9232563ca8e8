"""Stage 2's networks over Stable Diffusion's latents: reference network, denoiser and token projections.

The part "video" of the full preset and of every family of public checkpoints; what a family does around its network
(`HabitsConfig`) is done here, so that a sampler sees none of it.  One clip, guidance 2.5, for EchoMimic v2:

    network = VideoNetwork(config.video)
    look = network.read(photo)                            # (1, 4, h, w) latents; once a film
    given = FrameConditions(audio=tokens, maps=maps)      # (1, f, 50, 384); (1, f, 3, 8h, 8w) in [0, 1]
    frames = network.halves(given)                        # once a clip
    without, with_ = network.denoise(noisy, time, look, frames)   # noisy (1, f, 4, h, w), time (1,); each step
    prediction = without + 2.5 * (with_ - without)

and for Hallo, whose clips see the last frames of the clip before (the first clip: copies of the photo):

    context = network.face_context(embedding)             # (1, 512) -> (1, 4, 768)
    audio = network.audio_context(features)               # (1, f, 5, 12, 768) -> (1, f, 32, 768)
    look = network.read(photo, context=context, before=last)      # last: (1, 2, 4, h, w); once a clip
    given = FrameConditions(audio=audio, context=context, maps=mask, regions=regions)
                                                          # mask (1, 1, 3, 8h, 8w); regions: a (1, 3, cells) a level

Without guidance: `read(..., guided=False)`, `conditions(given)` for `halves(given)`; one row comes out, not two.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from einops import rearrange
from jaxtyping import Float, Num
from torch import Tensor, nn

from emo2.config import VideoConfig
from emo2.video.conditions import Features, FrameConditions, Reference
from emo2.video.tokens import audio_projection, face_projection
from emo2.video.unet import UNet


@dataclass(frozen=True, kw_only=True)
class LatentLook:
    """A photo (and the last frames of the clip before) as the denoiser reads them."""

    reference: Reference
    motion: Features | None
    rows: int
    """Of the denoiser's batch: 2 with guidance (unconditional first), else 1."""

    def to(self, device: torch.device) -> LatentLook:
        """The same on another device."""
        motion = None if self.motion is None else tuple(f.to(device) for f in self.motion)
        return replace(self, reference=self.reference.to(device), motion=motion)


class VideoNetwork(nn.Module):
    """Reference network, denoiser with its guidance encoder, and the projections of face and speech."""

    def __init__(self, config: VideoConfig) -> None:
        super().__init__()
        self.config = config
        self.habits = config.habits
        self.reference = UNet(config.reference)
        self.denoiser = UNet(config.denoiser)
        self.face_tokens = face_projection(config.face_tokens)
        self.audio_tokens = audio_projection(config.audio_tokens)

    def face_context(self, embedding: Float[Tensor, "b e"]) -> Float[Tensor, "b t d"]:
        """Context tokens of a face embedding; one of zeros is the unconditional half's."""
        assert self.face_tokens is not None
        return self.face_tokens(embedding)

    def audio_context(self, values: Float[Tensor, "b f *rest"]) -> Float[Tensor, "b f n a"]:
        """Audio tokens of a family's speech features; they are the tokens where there is no projection."""
        return values if self.audio_tokens is None else self.audio_tokens(values)

    def empty_context(self, context: Float[Tensor, "1 t d"]) -> Float[Tensor, "1 t d"]:
        """Context of guidance's unconditional half."""
        if self.habits.empty_context == "face":
            nobody = torch.zeros(1, self.config.face_tokens.inputs)
            return self.face_context(nobody.to(context))
        return torch.zeros_like(context)

    def see(
        self, images: Float[Tensor, "b m c h w"], context: Float[Tensor, "b t d"] | None = None
    ) -> Features:
        """The reference network's features of images, at time 0."""
        time = torch.zeros(images.shape[0], device=images.device)
        if self.habits.reference_context == "zero":
            width = self.config.reference.context_width
            context = torch.zeros(images.shape[0], 1, width).to(images)
        return self.reference(images, time, frames=FrameConditions(context=context))[1]

    def read(
        self,
        photo: Float[Tensor, "1 c h w"],
        *,
        context: Float[Tensor, "1 t d"] | None = None,
        before: Float[Tensor, "1 m c h w"] | None = None,
        guided: bool = True,
        reuse: bool = True,
    ) -> LatentLook:
        """Look at the photo and, where the network has motion frames, at those `before` the clip.

        Without `reuse` the denoiser works as the originals do: it projects the reference for every frame at every
        step, for the unconditional half as well, and throws that half's result away.
        """
        features = self.features(photo, context=context, before=before, guided=guided)
        alternates = self.habits.alternating_reference and len(features[0]) > 1
        sites = [f[:, 0] if alternates else f[-1:, 0] for f in features]
        motion = None
        if before is not None:
            rows = 2 if guided else 1
            motion = tuple(f[:, 1:].expand(rows, -1, -1, -1) for f in features)
        reference = Reference(
            sites=self.denoiser.project(sites) if reuse else tuple(sites),
            unread=int(guided),
            alternates=alternates,
            wasteful=not reuse,
        )
        return LatentLook(reference=reference, motion=motion, rows=2 if guided else 1)

    def features(
        self,
        photo: Float[Tensor, "1 c h w"],
        *,
        context: Float[Tensor, "1 t d"] | None = None,
        before: Float[Tensor, "1 m c h w"] | None = None,
        guided: bool = True,
    ) -> Features:
        """Features of photo and frames before; of both halves (unconditional first) where they differ and matter."""
        images = photo[:, None]
        if before is not None:
            images = torch.cat([images, before], dim=1)
        if self.habits.reference_context != "context" or context is None:
            features = self.see(images)
        elif guided and (before is not None or self.habits.alternating_reference):
            features = self._see_halves(images, torch.cat([self.empty_context(context), context]))
        else:
            features = self.see(images, context)
        if self.habits.half_reference:
            features = tuple(f.half().to(f.dtype) for f in features)
        return features

    def _see_halves(
        self, images: Float[Tensor, "1 m c h w"], contexts: Float[Tensor, "2 t d"]
    ) -> Features:
        if not self.habits.mixed_context:
            return self.see(images.expand(2, -1, -1, -1, -1), contexts)
        count = images.shape[1]
        rows = rearrange(images.expand(2, -1, -1, -1, -1), "b m c h w -> (b m) 1 c h w")
        features = self.see(rows, contexts.repeat(count, 1, 1))
        return tuple(rearrange(f, "(b m) 1 n d -> b m n d", b=2) for f in features)

    def conditions(self, frames: FrameConditions) -> FrameConditions:
        """The same with the guidance maps encoded, once for all steps."""
        if frames.maps is None:
            return frames
        return replace(frames, maps=None, guidance=self.denoiser.guide(frames.maps))

    def halves(self, frames: FrameConditions, *, reuse: bool = True) -> FrameConditions:
        """Conditions of both halves of guidance, the unconditional one first; guidance maps encoded.

        Without `reuse` the unconditional half listens to zeros, as in the originals, rather than not at all.
        """
        frames = self.conditions(frames)

        def after_zeros(values: Tensor | None) -> Tensor | None:
            return None if values is None else torch.cat([torch.zeros_like(values), values])

        def twice(values: Tensor | None) -> Tensor | None:
            return None if values is None else torch.cat([values, values])

        context, guidance = frames.context, frames.guidance
        if context is not None:
            context = torch.cat([self.empty_context(context), context])
        if guidance is not None:
            doubled = [(twice if self.habits.keeps_guidance else after_zeros)(g) for g in guidance]
            guidance = tuple(g for g in doubled if g is not None)
        return replace(
            frames,
            audio=after_zeros(frames.audio),
            silent=len(frames.audio) if reuse and frames.audio is not None else 0,
            context=context,
            guidance=guidance,
            hints=twice(frames.hints),
            speed=twice(frames.speed),
            confidence=twice(frames.confidence),
        )

    def denoise(
        self,
        noisy: Float[Tensor, "1 f c h w"],
        time: Num[Tensor, " 1"],
        look: LatentLook,
        frames: FrameConditions,
    ) -> Float[Tensor, "rows f c h w"]:
        """The network's prediction for every half, the unconditional one first."""
        return self.run(self.denoiser, noisy, time, look, frames)

    @staticmethod
    def run(
        denoiser: nn.Module,
        noisy: Float[Tensor, "1 f c h w"],
        time: Num[Tensor, " 1"],
        look: LatentLook,
        frames: FrameConditions,
    ) -> Float[Tensor, "rows f c h w"]:
        """The same with any of several copies of the denoiser."""
        return denoiser(
            noisy.expand(look.rows, -1, -1, -1, -1),
            time.expand(look.rows),
            frames=frames,
            reference=look.reference,
            motion=look.motion,
        )[0]
