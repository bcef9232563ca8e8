"""Stage 2 over Stable Diffusion's latents: from a photo, a voice and a motion to film (EMO §3, EMO2 §3).

One object for EMO's own variant (`full`) and for every family of public checkpoints: `loss` trains it, `sample`
makes clips.  A family differs in its config and in its `Sampling`, nowhere else.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from emo2.config import VideoConfig
from emo2.diffusion import Solver
from emo2.distil import Tutor
from emo2.errors import UserError
from emo2.reel import Reel
from emo2.signals import Clip, Motion, Portrait, SpeechFeatures
from emo2.video.conditions import FrameConditions
from emo2.video.face_regions import NO_EMBEDDING, regions_of
from emo2.video.families import FAMILIES, require_voice
from emo2.video.film_conditions import FilmLook, Stretch, Told
from emo2.video.film_examples import Dropping, FilmExamples
from emo2.video.latent_sampling import (
    CHAPTER,
    Descent,
    Predict,
    chapter_at,
    sample_chapter,
    sample_clip,
)
from emo2.video.latent_student import become_student, student_loss
from emo2.video.latent_training import choose, denoising_loss
from emo2.video.network import LatentLook, VideoNetwork
from emo2.video.placement import Placement, decoded_ahead, one_at_a_time
from emo2.video.script import dequantise, quantise
from emo2.video.unet import UNet
from emo2.video.windows import Laying

SIDE = 64
"""A film's sides are multiples of this: eight pixels a latent cell, three halvings of the grid."""


@runtime_checkable
class Codec(Protocol):
    """Pixels to latents and back (`SdVae`)."""

    def encode(self, frames: Float[Tensor, "b f 3 _ _"]) -> Float[Tensor, "b f 4 _ _"]:
        """Latents of frames."""
        ...

    def decode(self, latents: Float[Tensor, "b f 4 _ _"]) -> Float[Tensor, "b f 3 _ _"]:
        """Frames of latents."""
        ...


@dataclass(frozen=True, kw_only=True)
class Wishes:
    """What of the sampling a user may choose; None: the family's own."""

    guidance: float | None = None
    solver: Solver = "ddim"
    speed: float = 1.0
    embedding: Float[Tensor, "1 e"] | None = None
    """Of the face, for families that want one."""
    laying: Laying = field(default_factory=Laying)
    """Of the windows, for families that work in them."""


class LatentStage(VideoNetwork):
    """Reference network, denoiser and projections, over a codec that is not trained here."""

    def __init__(self, config: VideoConfig) -> None:
        super().__init__(config)
        self.way = FAMILIES[config.family]
        self.placement = Placement()
        self.wishes = Wishes()
        self.dropping = Dropping()
        self.chapter = CHAPTER
        """Frames that are denoised at once where a family works in windows."""
        self.tutor: Tutor[UNet] | None = None
        self._codec: list[Codec] = []  # in a list: no part of this module's weights
        self._denoisers: list[nn.Module] = [self.denoiser]

    @property
    def codec(self) -> Codec:
        """The codec, which whoever loads the stage hands in."""
        if not self._codec:
            raise ValueError("this stage has no codec; give it one with `use`")
        return self._codec[0]

    def use(
        self, codec: Codec, *, placement: Placement | None = None, wishes: Wishes | None = None
    ) -> LatentStage:
        """Take a codec, a place to run and the user's wishes."""
        self._codec = [codec]
        self.wishes = wishes or self.wishes
        is_plain = self.wishes.guidance in (None, 1.0) and self.wishes.solver == "ddim"
        if self.config.distilled and not is_plain:
            raise UserError(
                "these weights are distilled: guidance is inside, and they know DDIM alone; leave --guidance and "
                "--solver out"
            )
        windows = self.wishes.laying.of(self.way.windows, self.config.family)
        self.way = replace(self.way, windows=windows)
        if placement is not None:
            self.placement = placement
            placement.settle(self)
            if isinstance(codec, nn.Module):
                placement.settle(codec)
            self._denoisers = placement.denoisers(self.denoiser)
        return self

    # -------------------------------------------------------------------------------------- before the film

    @property
    def notes(self) -> tuple[str, ...]:
        """What a user should know before the film is made."""
        wants_face = self.config.face_tokens.kind != "none"
        return (NO_EMBEDDING,) if wants_face and self.wishes.embedding is None else ()

    def film_size(self, photo: tuple[int, int], wanted: tuple[int, int] | None) -> tuple[int, int]:
        """The film's (height, width): as wanted, or the photo's format at the size the weights were trained at."""
        if wanted is not None:
            if any(side % SIDE for side in wanted):
                near = "x".join(str(max(SIDE, round(side / SIDE) * SIDE)) for side in wanted)
                raise UserError(
                    f"the film's size is {wanted[0]}x{wanted[1]}, but this preset makes films whose sides "
                    f"are multiples of {SIDE}; give --size {near}"
                )
            return wanted
        if self.config.denoiser.regions:  # Hallo saw squares alone
            return self.way.size
        scale = math.sqrt(math.prod(self.way.size) / math.prod(photo))
        height, width = (max(SIDE, round(side * scale / SIDE) * SIDE) for side in photo)
        return height, width

    @torch.no_grad()
    def look(self, portrait: Portrait) -> FilmLook:
        """The photo's latents and face; once per film."""
        require_voice(self.config.family)
        if any(side % SIDE for side in portrait.size):
            raise UserError(
                f"the picture is {portrait.size[0]}x{portrait.size[1]}; its sides must be multiples of {SIDE}"
            )
        place = self.placement
        photo = self.encode(portrait.image[None])
        context, regions = None, None
        if self.config.face_tokens.kind != "none":
            embedding = self.wishes.embedding
            if embedding is None:
                embedding = torch.zeros(1, self.config.face_tokens.inputs)
            assert self.face_tokens is not None
            with place.using(self.face_tokens):
                context = self.face_context(embedding.to(place.device, place.dtype))
        if self.config.denoiser.regions:
            masks = regions_of(portrait, levels=len(self.config.denoiser.widths)).masks
            regions = tuple(m[None].to(place.device, place.dtype) for m in masks)
        return FilmLook(portrait=portrait, photo=photo, context=context, regions=regions)

    @torch.no_grad()
    def encode(self, images: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n c g k"]:
        """Latents of pictures, in the networks' own numbers."""
        place = self.placement
        codec = self.codec
        with place.using(*([codec] if isinstance(codec, nn.Module) else [])):
            return codec.encode(images[None].to(place.device, place.dtype))[0].to(place.dtype)

    @torch.no_grad()
    def decode(self, latents: Float[Tensor, "1 f c h w"]) -> Float[Tensor, "f 3 y x"]:
        """Frames of latents, on the CPU."""
        place = self.placement
        return (
            self.codec.decode(latents.to(place.device, place.dtype))[0].float().clamp(-1, 1).cpu()
        )

    # ------------------------------------------------------------------------------------------- the film

    def sample(
        self,
        look: FilmLook,
        features: SpeechFeatures,
        motion: Motion | Reel[Motion],
        *,
        seed: int = 0,
        steps: int | None = None,
        start: int = 0,
        state: dict[str, Tensor] | None = None,
    ) -> Iterator[Clip]:
        """Clip after clip from frame `start` on, which must begin a clip; `state` is that of the clip before."""
        if start % self.config.clip_frames:
            raise ValueError(
                f"a clip has {self.config.clip_frames} frames; frame {start} begins none"
            )
        moves = Reel.of(motion)
        told = Told(
            network=self, way=self.way, look=look, features=features, motion=moves,
            opening=moves.between(0, 1), speed=self.wishes.speed,
        )  # fmt: skip
        descent = Descent(
            way=self.way,
            steps=self.config.steps_for(steps or None),
            solver=self.wishes.solver,
            seed=seed,
        )
        make = self._in_clips if self.way.windows is None else self._in_windows
        yield from make(told, descent, start, state or {})

    def _in_clips(
        self, told: Told, descent: Descent, start: int, state: dict[str, Tensor]
    ) -> Iterator[Clip]:
        """Each clip continues the last frames of the one before (EMO §3.2, Hallo)."""
        length, total = self.config.clip_frames, len(told.motion)
        for first in range(start, total, length):
            told.motion.forget(first)
            frames = self._clip(told, descent, first, state.get("motion_frames"))
            frames = frames[: total - first]
            state = {"motion_frames": quantise(frames[-self.config.motion_frames :])}
            yield Clip(frames=frames, start=first, fps=told.opening.fps, state=state)

    @torch.no_grad()
    def _clip(
        self, told: Told, descent: Descent, first: int, before: Tensor | None
    ) -> Float[Tensor, "f 3 h w"]:
        look, length = told.look, self.config.clip_frames
        last = None if before is None else self.encode(dequantise(before))[None]
        with self._denoising():
            seen = self._see_before(look, last)
            predict = self._predict(self.denoiser, seen, told.stretch(range(first, first + length)))
            shape = tuple(look.photo.shape[1:])
            latents = sample_clip(first, length, descent, predict, shape)
        with self._decoding():
            return self.decode(latents)

    def _see_before(self, look: FilmLook, last: Tensor | None) -> LatentLook:
        """A film's first clip: zero features (EMO), or copies of the photo where the weights expect them (Hallo)."""
        begins = last is None
        if last is None:
            last = look.photo[:, None].expand(-1, self.config.motion_frames, -1, -1, -1)
        seen = self._see(look, last)
        if begins and not self.way.starts_with_photo:
            assert seen.motion is not None
            seen = replace(seen, motion=tuple(f * 0.0 for f in seen.motion))
        return seen

    def _in_windows(
        self, told: Told, descent: Descent, start: int, state: dict[str, Tensor]
    ) -> Iterator[Clip]:
        """Chapter after chapter; a chapter's latents are decoded clip by clip."""
        assert self.way.windows is not None
        total, first = len(told.motion), start
        known, ahead = state.get("known"), state.get("ahead")
        while first < total:
            if ahead is None:
                told.motion.forget(first - self.way.windows.overlap)
                ahead = self._chapter(told, descent, first, known)
                known = ahead[:, ahead.shape[1] - self.way.windows.overlap :].clone()
            assert known is not None
            with self._decoding():
                parts = ahead.split(self.config.clip_frames, dim=1)
                for frames in decoded_ahead(self.decode, parts, self.placement.device):
                    ahead = ahead[:, len(frames) :]
                    state = {"known": known} | ({"ahead": ahead.clone()} if ahead.shape[1] else {})
                    yield Clip(frames=frames, start=first, fps=told.opening.fps, state=state)
                    first += len(frames)
            ahead = None

    @torch.no_grad()
    def _chapter(
        self, told: Told, descent: Descent, first: int, known: Tensor | None
    ) -> Float[Tensor, "1 f c h w"]:
        assert self.way.windows is not None
        chapter = chapter_at(first, len(told.motion), self.way.windows, self.chapter)
        with self._denoising():
            seen = self._see(told.look, None)
            stretch = told.stretch(chapter.frames)
            predicts = [self._predict(denoiser, seen, stretch) for denoiser in self._denoisers]
            shape = tuple(told.look.photo.shape[1:])
            return sample_chapter(chapter, descent, predicts, shape, known if first else None)

    # ------------------------------------------------------------------------------------------- the parts

    @property
    def guidance(self) -> float:
        """Scale of classifier-free guidance; at 1 the unconditional half is not evaluated."""
        wished = self.wishes.guidance
        return self.config.guidance if wished is None else wished

    def _see(self, look: FilmLook, before: Tensor | None) -> LatentLook:
        with self.placement.using(self.reference):
            return self.read(
                look.photo, context=look.context, before=before, guided=self._is_guided,
                reuse=self.placement.reuse,
            )  # fmt: skip

    @property
    def _is_guided(self) -> bool:
        return self.guidance != 1.0 or not self.placement.reuse

    def _predict(self, denoiser: nn.Module, seen: LatentLook, stretch: Stretch) -> Predict:
        """The guided prediction for some frames, on the denoiser's own device."""
        device = next(denoiser.parameters()).device
        like = torch.zeros((), dtype=self.placement.dtype, device=device)
        seen = seen.to(device)
        scale, is_guided, reuse = self.guidance, self._is_guided, self.placement.reuse
        held: dict[tuple[int, ...], FrameConditions] = {}  # of the last window only

        def predict(noisy: Tensor, time: int, frames: Sequence[int]) -> Tensor:
            key = tuple(frames)
            if key not in held:
                held.clear()
                given = stretch.of(frames, like)
                held[key] = self.halves(given, reuse=reuse) if is_guided else given
            at = torch.tensor([time], device=device)
            said = self.run(denoiser, noisy.to(like), at, seen, held[key]).float()
            if is_guided:
                said = said[:1] + scale * (said[1:] - said[:1])
            return said.to(noisy)

        return predict

    @contextmanager
    def _denoising(self) -> Iterator[None]:
        """The denoiser and what feeds it are on their device, whole or layer by layer."""
        place = self.placement
        feeding = [m for m in (self.face_tokens, self.audio_tokens) if m is not None]
        if place.offload != "layers":
            with place.using(self.denoiser, *feeding):
                yield
            return
        end = one_at_a_time(self.denoiser, place.device)
        try:
            with place.using(*feeding):
                yield
        finally:
            end()

    @contextmanager
    def _decoding(self) -> Iterator[None]:
        codec = self.codec
        with self.placement.using(*([codec] if isinstance(codec, nn.Module) else [])):
            yield

    # -------------------------------------------------------------------------------------------- training

    def loss(self, batch: FilmExamples, generator: torch.Generator) -> dict[str, Tensor]:
        """The clip objective (EMO §3.3): what is predicted of noisy latents, against the process's target."""
        if self.tutor is not None:
            return {"loss": student_loss(self, self.tutor, batch, generator)}
        return {"loss": denoising_loss(self, batch, generator)}

    def distil(self, steps: int) -> None:
        """From now on `loss` teaches the denoiser to do in `steps` evaluations what it does now, guidance inside."""
        become_student(self, steps)

    def train_only(self, *parts: str) -> LatentStage:
        """Let `loss` train these of `TRAINED`; the rest stays as it is."""
        choose(self, parts)
        return self
