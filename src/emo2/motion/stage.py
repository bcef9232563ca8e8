"""MotionStage: stage 1 as one object with two verbs, `loss` and `sample`."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from emo2.config import Config
from emo2.diffusion import Denoiser, NoiseProcess, final, guided, sample
from emo2.hands.model import HandModel, hand_points
from emo2.hands.standin import stand_in
from emo2.motion.batch import MotionBatch, hands_known
from emo2.motion.channels import (
    FACE,
    HANDS,
    is_mouth,
    one_hemisphere,
    pack,
    row_width,
    spread_floor,
    unpack,
)
from emo2.motion.finish import Finish, hushed
from emo2.motion.joining import eased
from emo2.motion.lips import CONTEXT, closure, meet
from emo2.motion.network import MotionDiT
from emo2.motion.prefixes import draw_known, rough
from emo2.motion.terms import unrest
from emo2.nn import zeroed
from emo2.reel import Reel, join
from emo2.signals import FACE_ACTIONS, HAND_NUMBERS, Motion, SpeechFeatures

MOUTH_WEIGHT = 4.0
"""Weight of a mouth number in the loss against any other."""

VELOCITY_WEIGHT = 1.0
POINT_WEIGHT = 20.0
"""Per square metre: 0.22 m off counts as one spread."""

REST_WEIGHT = 10.0
LIPS_WEIGHT = 1.0
CLOSED_WEIGHT = 4.0
"""Weight of frames whose lips meet, in the lips' term: they are few, and seen at once when missed."""

LIPS_UNIT = 0.1
"""Gap between the lips that counts as one spread; 1 is the jaw wide open."""

CLOSED_BELOW = 0.03
EXPECTED_WEIGHT = 2.0
PHONE_WEIGHT = 0.1
POINT_FRAMES = 8
"""Frames of a window whose key points are compared; all would cost more than the network."""

JAW = FACE.start + FACE_ACTIONS.index("jawOpen")
CLOSE = FACE.start + FACE_ACTIONS.index("mouthClose")

MOUTH_NOISE = 0.3
"""Share of the starting noise that mouth numbers get: they are nearly fixed by the sound."""


class MotionStage(nn.Module):
    """Speech features to motion (EMO2 §3.1)."""

    mean: Tensor
    spread: Tensor
    mouth: Tensor
    """1 where a number is a mouth action."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config, self.fps = config.motion, config.fps
        self.process = NoiseProcess(schedule="cosine", target="x0")
        channels = row_width(hints=config.motion.hints)
        self.net = MotionDiT(config)
        # What the sound alone says of the mouth; the transformer adds to it (ours).
        self.expected = nn.Sequential(
            nn.Linear(config.speech.width, config.speech.width),
            nn.GELU(),
            zeroed(nn.Linear(config.speech.width, channels)),
        )
        self.phone = nn.Linear(config.speech.width, config.speech.phones)
        self.register_buffer("mean", torch.zeros(channels))
        self.register_buffer("spread", torch.ones(channels))
        self.register_buffer("mouth", is_mouth(hints=config.motion.hints).float(), persistent=False)
        self._hand: list[HandModel] = []

    # ---- standardised numbers ----

    def measure(self, rows: Float[Tensor, "n c"]) -> None:
        """Take mean and spread of the training data from some of its rows; all must be known."""
        rows = one_hemisphere(rows, self._guide(rows))
        floor = spread_floor(hints=self.config.hints)
        self.mean.copy_(rows.mean(0))
        self.spread.copy_(rows.std(0).clamp(min=floor))

    def _guide(self, rows: Tensor) -> Tensor:
        """Quaternions to choose signs by: the first principal direction of each joint's."""
        guide = torch.zeros(rows.shape[-1])
        for hand in range(2):
            for joint in range(16):
                at = hand * HAND_NUMBERS + 4 * joint
                turns = rows[:, at : at + 4].double()
                guide[at : at + 4] = torch.linalg.eigh(turns.T @ turns)[1][:, -1].float()
        return guide

    def standard(self, rows: Float[Tensor, "*b c"]) -> Float[Tensor, "*b c"]:
        """Rows in units of their spread."""
        return (one_hemisphere(rows, self.mean) - self.mean) / self.spread

    def natural(self, rows: Float[Tensor, "*b c"]) -> Float[Tensor, "*b c"]:
        """Rows in their own units."""
        return rows * self.spread + self.mean

    # ---- training ----

    def loss(
        self, speech: Float[Tensor, "b f d"], batch: MotionBatch, generator: torch.Generator
    ) -> dict[str, Tensor]:
        """Named terms; `loss` is their weighted sum (design §4)."""
        true = batch.share_known()
        clean = self.standard(batch.motion) * true
        count, frames, _ = clean.shape
        time = self.process.draw_times(count, generator).to(clean.device)
        noise = torch.randn(clean.shape, generator=generator).to(clean)
        known = draw_known(self.config, count, frames, generator).to(clean.device)
        noisy = self.process.add_noise(clean, noise, time)
        noisy = torch.where(known[..., None], rough(clean, generator), noisy)
        keep = (torch.rand(3, count, generator=generator) >= self.config.dropout).to(clean.device)
        predicted = self._clean_rows(
            noisy,
            time,
            speech=speech,
            heard=keep[0],
            known=known,
            seen=batch.visibility,
            style=torch.where(keep[1], batch.style, -1),
            speed=torch.where(keep[2], batch.speed, torch.nan),
        )
        return self.judge(predicted, clean, known, batch, generator)

    def judge(
        self,
        predicted: Float[Tensor, "b f c"],
        clean: Float[Tensor, "b f c"],
        known: Bool[Tensor, "b f"],
        batch: MotionBatch,
        generator: torch.Generator,
    ) -> dict[str, Tensor]:
        """The terms of standardised rows that were to be `clean`, and their weighted sum as `loss`."""
        true = batch.share_known()
        terms = self._terms(predicted.float(), clean, known, true, batch.visibility, generator)
        total = terms["rows"] + VELOCITY_WEIGHT * terms["velocity"] + POINT_WEIGHT * terms["points"]
        off = torch.where(known[..., None], 0.0, (predicted.float() - clean) * true)
        terms["rest"] = unrest(off, batch.phones == 0, batch.visibility)
        total = total + LIPS_WEIGHT * terms["lips"] + REST_WEIGHT * terms["rest"]
        return {"loss": total} | {name: term.detach() for name, term in terms.items()}

    def _clean_rows(
        self, noisy: Tensor, time: Tensor, *, speech: Tensor, heard: Tensor, **conditions: Tensor
    ) -> Tensor:
        """The network's clean rows: what the sound says of the mouth, plus what the transformer adds."""
        said = self.expected(speech) * self.mouth * heard[:, None, None]
        return said + self.net(noisy, time, speech=speech, heard=heard, **conditions)

    def _terms(
        self,
        predicted: Tensor,
        clean: Tensor,
        known: Tensor,
        true: Tensor,
        seen: Tensor,
        generator: torch.Generator,
    ) -> dict[str, Tensor]:
        """Rows, velocity and key points where they may be judged: new frames, hands that are seen, true numbers."""
        weight = (1.0 + (MOUTH_WEIGHT - 1.0) * self.mouth).expand_as(clean).clone()
        shown = seen.repeat_interleave(HAND_NUMBERS, dim=-1)
        weight[..., HANDS] = weight[..., HANDS] * shown
        weight = weight * ~known[..., None] * true
        error = predicted - clean
        rows = (weight * error.square()).sum() / weight.sum().clamp(min=1.0)
        # The frame before the first new one is the clean prefix, so the border's velocity is judged too.
        standing = torch.where(known[..., None], torch.zeros_like(error), error)
        step = weight[:, 1:] * (standing[:, 1:] - standing[:, :-1]).square()
        velocity = step.sum() / weight[:, 1:].sum().clamp(min=1.0)
        frames = torch.randperm(clean.shape[1], generator=generator)[:POINT_FRAMES]
        judged = seen[:, frames] * ~known[:, frames, None] * hands_known(true[:, frames])
        miss = self._points(predicted[:, frames]) - self._points(clean[:, frames])
        points = (
            (judged[..., None] * miss.square().sum(-1)).sum() / judged.sum().clamp(min=1.0) / 21
        )
        lips = self._lips(predicted, clean, ~known[..., None] * true)
        return {"rows": rows, "velocity": velocity, "points": points, "lips": lips}

    def _lips(self, predicted: Tensor, clean: Tensor, judged: Tensor) -> Tensor:
        """Gap between the lips, `jawOpen - mouthClose`: small errors of either decide whether they meet."""
        if not self.config.hints:
            return predicted.sum() * 0.0
        ours, true = ((r[..., JAW] - r[..., CLOSE]) for r in map(self.natural, (predicted, clean)))
        weight = judged[..., [JAW, CLOSE]].amin(-1) * (
            1.0 + (CLOSED_WEIGHT - 1.0) * (true < CLOSED_BELOW)
        )
        error = ((ours - true) / LIPS_UNIT).square()
        return (weight * error).sum() / weight.sum().clamp(min=1.0)

    def _points(self, rows: Tensor) -> Tensor:
        """Key points of standardised rows, metres."""
        if not self._hand:
            self._hand.append(stand_in())  # read once, when first needed: sampling needs none
        model = self._hand[0].to(rows.device)
        hands = self.natural(rows)[..., HANDS].unflatten(-1, (2, HAND_NUMBERS))
        with torch.autocast(rows.device.type, enabled=False):  # or points are millimetres off
            return hand_points(model, hands, torch.zeros(10, device=rows.device))

    def speech_loss(self, speech: Float[Tensor, "b f d"], batch: MotionBatch) -> dict[str, Tensor]:
        """What keeps the encoder honest: the mouth and the phone, from the sound alone."""
        said, true = self.expected(speech).float(), batch.share_known()
        clean, judged = self.standard(batch.motion) * true, self.mouth * true
        expected = ((said - clean) * judged).square().sum() / judged.sum().clamp(min=1.0)
        lips = self._lips(said, clean, true)
        named = self.phone(speech).float().flatten(0, 1)
        known = bool((batch.phones >= 0).any())
        phones = named.sum() * 0.0
        if known:
            phones = F.cross_entropy(named, batch.phones.flatten(), ignore_index=-1)
        loss = EXPECTED_WEIGHT * expected + LIPS_WEIGHT * lips + PHONE_WEIGHT * phones
        terms = {"expected": expected, "expected_lips": lips, "phones": phones}
        return {"loss": loss} | {name: term.detach() for name, term in terms.items()}

    # ---- sampling ----

    def sample(self, features: SpeechFeatures, **wishes: Any) -> Motion:  # noqa: ANN401
        """Motion for a whole voice: all of `windows`."""
        return join(list(self.windows(features, **wishes)))

    def windows(
        self,
        features: SpeechFeatures | Reel[SpeechFeatures],
        *,
        start: Motion | None = None,
        style: str | None = None,
        speed: float | None = 1.0,
        amplitude: float = 1.0,
        seed: int = 0,
        steps: int | None = None,
    ) -> Iterator[Motion]:
        """Motion, window after window as it is asked for; its first frame is `start`'s where given.

        `style`: one of the config's, or None; `speed`: of the hands, 1 usual; `amplitude` scales the moves of
        hands, head and body about the start (0: none); the same seed gives the same motion.
        """
        if steps and self.config.distilled not in (0, steps):
            raise ValueError(f"made for {self.config.distilled} steps; found {steps}")
        heard = Reel.of(features)
        told = self._style(style)
        finish, done = None, 0
        for rows in self._windows(heard, start, told, speed, seed, steps):
            part = heard.between(done, done + len(rows))
            if finish is None:
                about = self.mean.cpu() if start is None else rows[0]
                finish = Finish(part, about, amplitude)
            done += len(rows)
            heard.forget(done - self.config.prefix)
            speech = part.values.flatten(1).to(self.mean.device)
            energy = hushed(part.energy, self.phone, speech)
            made = finish.add(rows, energy, last=done == len(heard))
            seen = None if start is None else start.visibility[:1].expand(len(made), 2).clone()
            if len(made):
                betas = None if start is None else start.betas
                yield unpack(made, part.fps, visibility=seen, betas=betas)

    def _style(self, name: str | None) -> int:
        if name is None:
            return -1
        if name not in self.config.styles:
            raise ValueError(f"unknown style {name!r}; give one of {', '.join(self.config.styles)}")
        return self.config.styles.index(name)

    def _windows(
        self,
        features: Reel[SpeechFeatures],
        start: Motion | None,
        style: int,
        speed: float | None,
        seed: int,
        steps: int | None,
    ) -> Iterator[Float[Tensor, "f c"]]:
        """New rows, window after window; every window draws its whole noise, so that none depends on the length."""
        generator = torch.Generator().manual_seed(seed)
        device = self.mean.device
        size, prefix = self.config.window, self.config.prefix
        hints = self.config.hints
        known = torch.zeros(0, len(self.mean), device=device)
        if start is not None:
            known = self.standard(pack(start, hints=hints)[:1].to(device))
        seen = torch.ones(1, size, 2, device=device)
        if start is not None:
            seen = seen * start.visibility[:1].to(device)
        done, total = 0, len(features)
        while done < total:
            begin = max(done - prefix, 0)
            ahead = features.between(begin, min(begin + size + CONTEXT, total))
            speech = ahead.values.flatten(1).to(device)
            part = _padded(speech[:size], size)
            noise = torch.randn(size, len(self.mean), generator=generator).to(device)
            rows = self._window(noise, part, known, seen, style, speed, steps)
            rows = eased(rows, len(known), self.fps)
            new = slice(done - begin, min(size, total - begin))
            share = closure(self.phone, ahead)[:size]
            fresh = meet(self.natural(rows[: len(share)]), share)[new]
            known = rows[-prefix:]
            done += len(fresh)
            yield fresh.cpu()

    @torch.inference_mode()
    def _window(
        self,
        noise: Float[Tensor, "f c"],
        speech: Float[Tensor, "f d"],
        prefix: Float[Tensor, "p c"],
        seen: Float[Tensor, "1 f 2"],
        style: int,
        speed: float | None,
        steps: int | None,
    ) -> Float[Tensor, "f c"]:
        """One window of standardised rows that begins with `prefix`."""
        device = noise.device
        size = len(noise)
        known = (torch.arange(size, device=device) < len(prefix))[None]
        clean = F.pad(prefix, (0, 0, 0, size - len(prefix)))[None]
        denoiser, calls = self.denoiser(
            speech[None],
            clean,
            known=known,
            seen=seen,
            style=torch.full((1,), style, device=device),
            speed=torch.full((1,), math.nan if speed is None else speed, device=device),
        )
        count = steps or max(1, self.config.steps // calls)
        noise = self.first_noise(noise[None])
        rows = final(sample(denoiser, noise, self.process, steps=count))
        return torch.where(known[..., None], clean, rows)[0]

    def first_noise(self, noise: Float[Tensor, "b f c"]) -> Float[Tensor, "b f c"]:
        """Noise as sampling begins with it: less for the mouth."""
        return noise * (1.0 - (1.0 - MOUTH_NOISE) * self.mouth)

    def denoiser(
        self,
        speech: Float[Tensor, "b f d"],
        clean: Float[Tensor, "b f c"],
        *,
        known: Bool[Tensor, "b f"],
        seen: Float[Tensor, "b f 2"],
        style: Int[Tensor, " b"],
        speed: Float[Tensor, " b"],
    ) -> tuple[Denoiser, int]:
        """The network with its conditions bound and guided as the config says, and its evaluations a call.

        `known` frames are always shown as they are in `clean`.
        """

        def bound(*, heard: bool, told: Tensor) -> Denoiser:
            conditions = {
                "speech": speech,
                "heard": torch.full((len(speech),), heard, device=speech.device),
                "known": known,
                "seen": seen,
                "style": told,
                "speed": speed,
            }
            return lambda noisy, time: self._clean_rows(
                torch.where(known[..., None], clean, noisy), time, **conditions
            )

        untold = torch.full_like(style, -1)
        denoiser, calls = bound(heard=True, told=style), 1
        if self.config.style_guidance != 1.0 and bool((style >= 0).any()):
            plain = bound(heard=True, told=untold)
            denoiser = guided(denoiser, plain, self._beside_mouth(self.config.style_guidance))
            calls += 1
        if self.config.guidance != 1.0:
            free = bound(heard=False, told=untold)
            denoiser = guided(denoiser, free, self._beside_mouth(self.config.guidance))
            calls += 1
        return denoiser, calls

    def _beside_mouth(self, scale: float) -> Float[Tensor, " c"]:
        """A guidance scale for all numbers but the mouth's, which the sound fixes."""
        return scale + (1.0 - scale) * self.mouth


def _padded(rows: Float[Tensor, "n d"], size: int) -> Float[Tensor, "size d"]:
    """The last row repeated until the window is full."""
    return rows if len(rows) == size else torch.cat((rows, rows[-1:].expand(size - len(rows), -1)))
