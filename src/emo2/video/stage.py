"""Stage 2: from a photo, a voice and a motion to film, clip after clip (EMO §3, EMO2 §3, design §6).

`loss` and `sample` stand on one object and share the noise process, the codec and the expectation around which
the denoiser works.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from jaxtyping import Bool, Float, Num
from torch import Tensor, nn

from emo2.config import VideoConfig
from emo2.diffusion import NoiseProcess, final, sample
from emo2.distil import Tutor
from emo2.nn import quick, speed_code, zeroed
from emo2.reel import Reel
from emo2.signals import Appearance, Clip, Motion, Portrait, SpeechFeatures
from emo2.video.arm_networks import ArmBatch, ArmNetworks
from emo2.video.codec import RelativeCodec
from emo2.video.conditions import Features, FrameConditions, audio_tokens, maps_side
from emo2.video.denoiser_loss import become_student, denoiser_loss
from emo2.video.detail_layers import CarriedWindow, carried, look_at_windows
from emo2.video.detail_loss import detail_losses
from emo2.video.details import Details
from emo2.video.examples import (
    FACE_ACTIONS,
    FACE_VIEW,
    Examples,
    at_rest,
    draw_known,
    head_speed,
    known_of,
    picture_planes,
)
from emo2.video.lips_together import lips_together
from emo2.video.look import Look, Seen, ViewLook
from emo2.video.own_actions import OwnActions, against, own_loss, reading_loss
from emo2.video.painter import Painter, half_true, losses_on_squares, prepare
from emo2.video.prior import Expectation, FacePlaces, MotionBasis, start_basis
from emo2.video.prior_loss import prior_losses
from emo2.video.script import DrawMaps, Script, dequantise
from emo2.video.unet import UNet
from emo2.video.views import as_frames, choose_views, face_marks

PARTS = ("own", "basis", "painter", "details", "denoiser")
"""What is trained together."""
ALONE = (*PARTS, "arms", "cutter")
"""What can be trained alone."""
WITHHELD = 0.5
"""Share of the denoiser's training examples in which a random part of the conditions is withheld."""
EYES = 0.3
"""Share of the steps in which the details of eyes are trained too: they have half of the cost, and least to learn."""


class VideoStage(nn.Module):
    """Reference network, motion basis, denoiser and painter."""

    def __init__(self, config: VideoConfig) -> None:
        super().__init__()
        self.config = config
        self.codec = RelativeCodec(config.codec)
        self.process = NoiseProcess(schedule="cosine", target="x0")
        self.reference = UNet(config.reference)
        self.basis = MotionBasis(config)
        self.places = FacePlaces(config)
        self.own = OwnActions()
        self.arms = ArmNetworks()
        self.denoiser = UNet(config.denoiser)
        self.painter = Painter(config)
        self.details = Details(config.details) if config.details else None
        start_basis(self.reference.head, self.codec)
        # Untrained, the denoiser says that the residual is 0: its film is the expectation, at any number of steps.
        zeroed(self.denoiser.head)
        self.parts: tuple[str, ...] = PARTS
        self.tutor: Tutor[UNet] | None = None

    def train_only(self, *parts: str) -> VideoStage:
        """Let `loss` train these of `ALONE`; the rest stays as it is."""
        if not parts or not set(parts) <= set(ALONE):
            raise ValueError(f"parts to train are {', '.join(ALONE)}; got {parts}")
        self.parts = parts
        owners = {
            "own": (self.own,),
            "basis": (self.reference, self.basis, self.places, self.own),
            "painter": (self.painter,),
            "details": () if self.details is None else (self.details,),
            "denoiser": (self.denoiser,),
            "arms": (self.arms.surface,),
            "cutter": (self.arms.cutter,),
        }
        self.requires_grad_(False)
        for part in parts:
            for module in owners[part]:
                module.requires_grad_(True)
        return self

    def distil(self, steps: int) -> None:
        """From now on `loss` teaches the denoiser to do in `steps` evaluations what it does now."""
        become_student(self, steps)

    def see(
        self,
        images: Float[Tensor, "b m 3 s s"],
        view: Float[Tensor, " b"],
        marks: Float[Tensor, "b 3 2"],
    ) -> Seen:
        """The reference network on views, at time 0: colour, position, kind of view, place against mouth and eyes."""
        batch, count, _, side, _ = images.shape
        planes = picture_planes(view, marks, side).to(images)
        inputs = torch.cat([images, planes[:, None].expand(-1, count, -1, -1, -1)], dim=2)
        output, features = self.reference(inputs, torch.zeros(batch, device=images.device))
        return Seen(features=features, output=output[:, 0] + self.places(marks))

    def asked(self, batch: Examples) -> Float[Tensor, "b f 64"]:
        """Conditions as the basis is told them: against the photo's own face actions, as they are read."""
        own = self.own(batch.reference, batch.marks)
        return against(batch.conditions, own, batch.view)

    def look(self, portrait: Portrait) -> Look:
        """The portrait's views and what the reference network says of them; once per film."""
        portrait, teeth = lips_together(portrait)
        looks = []
        views = choose_views(portrait)
        device = next(self.parameters()).device
        size, points = self.config.codec.view, face_marks(portrait)
        images = [view.cut(portrait.image[None], size).to(device) for view in views]
        places = [view.place(points)[None].to(device) for view in views]
        own = self.own(images[-1], places[-1])  # the last view, the face's, shows them best
        for view, image, marks in zip(views, images, places, strict=True):
            seen = self.see(image[None], torch.tensor([view.kind], device=device), marks)
            features = tuple(f[:, 0] for f in seen.features)
            appearance = Appearance(features=features, output=seen.output, own=own)
            windows = ()
            if self.details is not None and view.kind == FACE_VIEW:
                windows = look_at_windows(self.details, image, marks, view, teeth)
            looks.append(
                ViewLook(
                    view=view, image=image, marks=marks, appearance=appearance, windows=windows
                )
            )
        arms = self.arms.layers(portrait), self.arms.folded(portrait)
        return Look.of(portrait, tuple(looks), *arms)

    def loss(self, batch: Examples | ArmBatch, generator: torch.Generator) -> dict[str, Tensor]:
        """Every term of the parts that are being trained, by name, and their sum as `loss`."""
        is_whole = isinstance(batch, Examples)
        terms = self.losses(batch, generator) if is_whole else self.arms.losses(batch)
        return terms | {"loss": torch.stack(list(terms.values())).sum()}

    def losses(self, batch: Examples, generator: torch.Generator) -> dict[str, Tensor]:
        """The terms alone."""
        terms: dict[str, Tensor] = {}
        if "own" in self.parts:
            terms["own"] = reading_loss(self.own, batch)
        if set(self.parts) == {"own"}:
            return terms
        known = draw_known(
            len(batch.view), generator, withheld=WITHHELD if self._denoises(batch) else 0.2
        )
        known = known.to(batch.view.device) & batch.known_groups()
        with torch.set_grad_enabled("basis" in self.parts and torch.is_grad_enabled()):
            seen = self.see(batch.reference[:, None], batch.view, batch.marks)
            own = self.own(batch.reference, batch.marks)
        asked = against(batch.conditions, own, batch.view)
        if "basis" in self.parts and "own" not in self.parts:
            terms["own"] = own_loss(own, batch.reference_actions, batch.known_groups()[:, 0])
        if set(self.parts) - {"own", "details"}:
            terms |= self._frame_losses(batch, seen, asked, known, generator)
        if "details" in self.parts and self.details is not None:
            with torch.no_grad():
                still = self.basis(seen.output, batch.marks, asked)
            eyes = float(torch.rand(1, generator=generator)) < EYES
            field = self.codec.field(still.mean)
            terms |= detail_losses(self.details, batch, field, eyes=eyes)
        return terms

    def _frame_losses(
        self,
        batch: Examples,
        seen: Seen,
        asked: Float[Tensor, "b f 64"],
        known: Bool[Tensor, "b 3"],
        generator: torch.Generator,
    ) -> dict[str, Tensor]:
        """What is learned from a frame's expectation: basis, painter, denoiser."""
        with torch.set_grad_enabled("basis" in self.parts and torch.is_grad_enabled()):
            expected = self.basis(seen.output, batch.marks, asked, known)
        terms: dict[str, Tensor] = {}
        if "painter" in self.parts:
            terms |= self._painter_losses(batch, expected, generator)
        if set(self.parts) == {"painter"}:
            return terms
        latents = self.codec.encode(batch.frames, batch.reference, batch.flow, batch.visibility)
        if "basis" in self.parts:
            terms |= prior_losses(self.basis, seen.output, expected, latents, batch)
        if self._denoises(batch):
            terms["denoiser"] = denoiser_loss(
                self, batch, seen, expected, latents, known, generator
            )
        return terms

    def _denoises(self, batch: Examples) -> bool:
        return "denoiser" in self.parts and batch.consecutive

    def _painter_losses(
        self, batch: Examples, expected: Expectation, generator: torch.Generator
    ) -> dict[str, Tensor]:
        field = half_true(batch, self.codec.field(expected.mean.detach()), generator)
        hints = self.hints(batch.conditions, batch.view, batch.known_groups()).flatten(0, 1)
        return losses_on_squares(self.painter, batch, field, hints, generator)

    def denoise_with(
        self,
        noisy: Float[Tensor, "b f c s s"],
        time: Num[Tensor, " b"],
        mean: Float[Tensor, "b f c s s"],
        frames: FrameConditions,
        reference: Sequence[Tensor],
        motion: Features,
        network: UNet | None = None,
    ) -> Float[Tensor, "b f c s s"]:
        """The clean residual that the denoiser (or another) sees in a noisy one, beside the expectation."""
        inputs = torch.cat([self.process.linear_guess(noisy, time), mean], dim=2)
        network = self.denoiser if network is None else network
        return network(inputs, time, frames=frames, reference=reference, motion=motion)[0]

    def hints(
        self,
        conditions: Float[Tensor, "b f 64"],
        view: Float[Tensor, " b"],
        known: Bool[Tensor, "b 3"] | None = None,
    ) -> Float[Tensor, "b f k"]:
        """The condition vector of denoiser and painter: conditions, what is known of them, kind of view."""
        if known is None:
            known = torch.ones(len(view), 3, dtype=torch.bool, device=view.device)
        kind = view.view(-1, 1, 1).expand(-1, conditions.shape[1], 1)
        return torch.cat([known_of(conditions, known), kind.to(conditions)], dim=-1)

    def frame_conditions(
        self,
        conditions: Float[Tensor, "b f 64"],
        view: Float[Tensor, " b"],
        known: Bool[Tensor, "b 3"] | None = None,
        *,
        audio: Float[Tensor, "b f layers a"] | None = None,
    ) -> FrameConditions:
        """What the denoiser is told of each frame, guidance maps excepted."""
        config = self.config.denoiser
        return FrameConditions(
            audio=None if audio is None else audio_tokens(audio, config.audio_window),
            hints=self.hints(conditions, view, known),
            speed=speed_code(head_speed(conditions), config.speed_buckets)
            if config.speed_buckets
            else None,
        )

    def sample(  # noqa: PLR0913 - everything a film is made from
        self,
        look: Look,
        portrait: Portrait,
        features: SpeechFeatures | Reel[SpeechFeatures],
        motion: Motion | Reel[Motion],
        maps: DrawMaps | None,
        *,
        seed: int = 0,
        steps: int | None = None,
        start: int = 0,
        state: dict[str, Tensor] | None = None,
    ) -> Iterator[Clip]:
        """Clip after clip from frame `start` on, which must begin a clip; `state` is that of the clip before.

        Noise is drawn on the CPU, one generator a clip, so that a film taken up at any clip goes on unchanged.
        `steps` 0 gives the expectation without any sampling.
        """
        length = self.config.clip_frames
        if start % length:
            raise ValueError(f"a clip has {length} frames; frame {start} begins none")
        steps = self.config.steps_for(steps)
        arms = portrait if look.arms_move else None
        lids = look.eyelids is not None
        script = Script.of(features, motion, maps, arms, seed=seed, steps=steps, lids=lids)
        for first in range(0, len(script.motion), length):
            script.forget(first, max(self.config.denoiser.audio_window, look.reach(script.fps)))
            if first < start:
                continue
            stop = min(first + length, len(script.motion))
            with torch.no_grad():
                frames = self._make_clip(look, script, first, stop, state or {})
                last = self.config.motion_frames, self.config.codec.view
                state = look.last_frames(frames, *last) if steps else {}
            yield Clip(frames=frames, start=first, fps=script.fps, state=state)

    def _make_clip(
        self, look: Look, script: Script, first: int, stop: int, state: dict[str, Tensor]
    ) -> Float[Tensor, "f 3 h w"]:
        fields, painted = [], []
        for index, seen in enumerate(look.views):
            before = state.get(f"motion_frames_{index}")
            field = self.codec.field(self._sample_view(seen, script, first, stop, index, before))
            conditions = seen.conditions(script, first, stop)
            fields.append(field)
            hints = self.hints(conditions, seen.kind).flatten(0, 1)
            with quick(seen.image.device):
                painted.append(self.painter(prepare(field, seen.image), hints))
        windows = [w for view in look.views for w in self._windows(view, script, first, stop)]
        frames, closures = [], script.closures(first, stop)
        for number, arms in enumerate(look.arms(script, first, stop)):
            flows = [field.flow[0, number] for field in fields]
            visible = [field.visibility[0, number] for field in fields]
            eyes = closures[number]
            frame, flow = look.compose(flows, painted, windows, number, visible, arms, eyes)
            look.lay_arms(frame, flow, arms)
            look.keep_tone(frame)
            frames.append(frame)
        return as_frames(frames)

    def _windows(
        self, seen: ViewLook, script: Script, first: int, stop: int
    ) -> list[CarriedWindow]:
        """Mouth and eyes of one clip, and how the head carries them."""
        if not seen.windows:
            return []
        conditions = seen.conditions(script, first, stop)
        asked = seen.asked(conditions)
        rest = self.codec.field(self.basis(seen.output, seen.marks, at_rest(asked)).mean)
        carry = self.basis.carry(seen.output, asked)[0]
        return carried(seen.view, seen.windows, rest, conditions[..., :FACE_ACTIONS], carry)

    def _sample_view(
        self,
        seen: ViewLook,
        script: Script,
        first: int,
        stop: int,
        index: int,
        before: Tensor | None,
    ) -> Float[Tensor, "1 f c s s"]:
        """Latents of one clip in one view; frames beside the clip are read for audio and speed."""
        device = seen.image.device
        margin = self.config.denoiser.audio_window
        low, high = max(first - margin, 0), min(stop + margin, len(script.motion))
        conditions = seen.conditions(script, low, high)
        inside = slice(first - low, stop - low)
        expected = self.basis(seen.output, seen.marks, seen.asked(conditions[:, inside]))
        if not script.steps:
            return expected.mean
        audio = script.audio(low, high).to(device)
        given = self.frame_conditions(conditions, seen.kind, audio=audio)
        guidance = script.guidance(seen.view, maps_side(self.config), first, stop, device)
        frames = given.part(inside, guidance)
        motion = self._see_motion_frames(seen, before)
        clip = first // self.config.clip_frames
        noise = script.noise(tuple(expected.mean.shape), clip, index).to(device)

        def denoise(noisy: Tensor, time: Tensor) -> Tensor:
            features = seen.appearance.features
            return self.denoise_with(noisy, time, expected.mean, frames, features, motion)

        residual = final(sample(denoise, noise, self.process, steps=script.steps))
        return expected.mean + residual * expected.scale

    def _see_motion_frames(self, seen: ViewLook, before: Tensor | None) -> Features:
        """Features of the last frames of the clip before; a film begins with zeros (EMO §3.2)."""
        count = self.config.motion_frames
        if before is None:
            return tuple(
                f[:, None].expand(-1, count, -1, -1) * 0.0 for f in seen.appearance.features
            )
        frames = dequantise(before).to(seen.image.device)[None]
        return self.see(frames, seen.kind, seen.marks).features
