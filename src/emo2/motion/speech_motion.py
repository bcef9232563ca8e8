"""The speech encoder and stage 1 as they are trained: together, or the transformer as the student of a teacher."""

from __future__ import annotations

import copy

import torch
from jaxtyping import Float
from torch import Tensor, nn

from emo2.config import Config
from emo2.distil import Course, Tutor
from emo2.motion.batch import MotionBatch
from emo2.motion.prefixes import draw_known, rough
from emo2.motion.stage import MotionStage
from emo2.speech import SpeechEncoder

DIFFUSED_SHARE = 0.5
"""Of a batch's windows, those that the transformer sees: it is dearer than the encoder and learns sooner."""


class SpeechMotion(nn.Module):
    """The speech encoder and stage 1, trained together; keys are those of their weights file."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.speech = SpeechEncoder(config.speech)
        self.motion = MotionStage(config)
        self.tutor: Tutor[MotionStage] | None = None

    def loss(self, batch: MotionBatch, generator: torch.Generator) -> dict[str, Tensor]:
        """`MotionStage.loss` on encoded sound; the transformer sees a share of the windows."""
        if self.tutor is not None:
            with torch.no_grad():
                heard = self.speech(batch.sound)
            return self._student_loss(self.tutor, heard, batch, generator)
        speech = self.speech(batch.sound)
        count = max(1, round(DIFFUSED_SHARE * len(speech)))
        terms = self.motion.loss(speech[:count], batch.first(count), generator)
        heard = self.motion.speech_loss(speech, batch)
        return terms | heard | {"loss": terms["loss"] + heard["loss"]}

    def distil(self, steps: int) -> None:
        """From now on `loss` teaches the transformer to do in `steps` evaluations what it does now; all else stays."""
        stage, was = self.motion, self.motion.config
        course = Course.of(stage.process, steps, made_for=was.distilled)
        self.tutor = Tutor(course, copy.deepcopy(stage).eval().requires_grad_(False))
        stage.config = was.distilled_to(steps)
        self.requires_grad_(False)
        stage.net.requires_grad_(True)

    def _student_loss(
        self,
        tutor: Tutor[MotionStage],
        speech: Float[Tensor, "b f d"],
        batch: MotionBatch,
        generator: torch.Generator,
    ) -> dict[str, Tensor]:
        """The stage's own terms, with what the teacher makes of the same noisy rows in the place of the truth."""
        stage, teacher = self.motion, tutor.on(speech.device)
        clean = stage.standard(batch.motion) * batch.share_known()
        count, frames, _ = clean.shape
        time = tutor.course.draw_times(count, generator).to(clean.device)
        noise = stage.first_noise(torch.randn(clean.shape, generator=generator).to(clean))
        noisy = stage.process.add_noise(clean, noise, time)
        known = draw_known(stage.config, count, frames, generator).to(clean.device)
        keep = (torch.rand(2, count, generator=generator) >= stage.config.dropout).to(clean.device)
        given = {
            "known": known,
            "seen": batch.visibility,
            "style": torch.where(keep[0], batch.style, -1),
            "speed": torch.where(keep[1], batch.speed, torch.nan),
        }
        prefix = rough(clean, generator)
        aim = tutor.course.aim(teacher.denoiser(speech, prefix, **given)[0], noisy, time)
        said = stage.denoiser(speech, prefix, **given)[0](noisy, time)
        return stage.judge(said, aim, known, batch, generator)
