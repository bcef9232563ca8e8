"""One training loop for everything that has a `loss`: stage 1, stage 2 and the portrait finder.

The loop is a generator of steps.  What a step trains on is a function of its number, and the whole state is
written as safetensors, so a run that was stopped goes on exactly where it was.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from emo2 import weights
from emo2.config import Config
from emo2.curve import LossCurve
from emo2.data.order import Given, Order, folders_given
from emo2.errors import UserError
from emo2.presets import PRESETS

log = logging.getLogger(__name__)

VOICES = 1_500
"""Performances that the studio makes when stage 1 is given no data (about three hours, in some minutes)."""

TABLE_BATCHES = 100
"""Batches to which the motion basis's table is fitted (`VideoStage.fit_table`)."""

PREVIEW_VOICE = 900_000
"""Seed of the voice in previews; training voices are far below it."""

Batch = Any
"""A frozen dataclass of tensors, or one tensor."""

BatchAt = Callable[[int], Batch]
"""Step number to its batch: the same number, the same batch."""

Preview = Callable[[nn.Module, Path, int], None]
"""(stage with averaged weights, folder, step): writes what `sample` makes."""

Finish = Callable[[nn.Module], None]
"""What is fitted rather than trained, on the averaged weights when training is over."""


class Trainable(Protocol):
    """What the loop needs of a stage; it is an `nn.Module` besides."""

    def loss(self, batch: Batch, generator: torch.Generator) -> Tensor | Mapping[str, Tensor]:
        """The loss, or named terms with the one to minimise under `loss`."""
        ...


@dataclass(frozen=True, kw_only=True)
class TrainOptions:
    """How to train."""

    steps: int = 10_000
    rate: float = 4e-4
    """AdamW's, after the warm-up; falls to 0 over the last fifth."""
    warm_up: int = 100
    decay: float = 0.01
    """Weight decay."""
    average: float = 0.999
    """Decay of the exponential moving average; shorter while the run is young."""
    clip: float = 1.0
    """Largest norm of a step's gradient."""
    bf16: bool = True
    device: str = "cpu"
    seed: int = 0
    save_every: int = 200
    preview_every: int = 0
    """0: no previews."""
    resume: bool = False


@dataclass(frozen=True, kw_only=True)
class Step:
    """One step that was made."""

    index: int
    loss: float
    terms: dict[str, float]
    seconds: float
    """Wall time since the loop (re)started."""


def train(
    stage: nn.Module,
    batch_at: BatchAt,
    out: Path,
    *,
    config: Config,
    part: str,
    options: TrainOptions,
    preview: Preview | None = None,
    finish: Finish | None = None,
) -> Iterator[Step]:
    """Train `stage`, one step a yield; `out` gets state, averaged weights (`<part>.safetensors`) and curves.

    `finish` is done once after the last step, also where a run was stopped before it.
    """
    run = _Run(stage, out, config, part, options)
    if options.resume and run.state_path.exists():
        run.restore()
    began = time.perf_counter()
    with LossCurve(out, resume=run.step > 0) as curve:
        while run.step < options.steps:
            terms = run.advance(batch_at(run.step))
            seconds = time.perf_counter() - began
            curve.add(run.step, seconds, terms)
            if run.step % options.save_every == 0 or run.step == options.steps:
                run.save(seconds)
            if preview and options.preview_every and run.step % options.preview_every == 0:
                run.show(preview)
            yield Step(index=run.step, loss=terms["loss"], terms=terms, seconds=seconds)
    if finish and run.finished != run.step:
        run.averaging(finish)
        run.finished = run.step
        run.save(time.perf_counter() - began)


class _Run:
    """Everything that must survive a stop."""

    def __init__(
        self, stage: nn.Module, out: Path, config: Config, part: str, options: TrainOptions
    ) -> None:
        self.stage = stage.to(options.device).train()
        self.out, self.config, self.part, self.options = Path(out), config, part, options
        self.out.mkdir(parents=True, exist_ok=True)
        self.state_path = self.out / f"{part}-state.safetensors"
        self.names = [n for n, p in stage.named_parameters() if p.requires_grad]
        self.parameters = [p for p in stage.parameters() if p.requires_grad]
        decayed = [p for p in self.parameters if p.dim() > 1]
        plain = [p for p in self.parameters if p.dim() <= 1]
        self.optimiser = torch.optim.AdamW(
            [
                {"params": decayed, "weight_decay": options.decay},
                {"params": plain, "weight_decay": 0.0},
            ],
            lr=options.rate,
            betas=(0.9, 0.99),
        )
        self.averages = [p.detach().clone() for p in self.parameters]
        self.generator = torch.Generator().manual_seed(options.seed)
        self.step = 0
        self.finished = -1
        """The step after which `finish` was done."""

    def advance(self, batch: Batch) -> dict[str, float]:
        """One optimiser step; the terms it saw."""
        options = self.options
        for group in self.optimiser.param_groups:
            group["lr"] = options.rate * _rate_share(self.step, options)
        device = torch.device(options.device)
        # Autocast lives here alone: master weights stay float32 and the networks need not know.
        with torch.autocast(device.type, torch.bfloat16, enabled=options.bf16):
            found = self.stage.loss(_moved(batch, device), self.generator)  # type: ignore[operator]
        terms = {"loss": found} if isinstance(found, Tensor) else dict(found)
        self.optimiser.zero_grad(set_to_none=True)
        terms["loss"].backward()
        norm = nn.utils.clip_grad_norm_(self.parameters, options.clip)
        if not bool(torch.isfinite(norm)):
            raise FloatingPointError(
                f"the gradient is not finite at step {self.step}; lower the rate"
            )
        self.optimiser.step()
        self.step += 1
        share = min(options.average, (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            for average, parameter in zip(self.averages, self.parameters, strict=True):
                average.lerp_(parameter, 1.0 - share)
        return {name: float(term.detach()) for name, term in terms.items()} | {
            "gradient": float(norm)
        }

    def averaged(self) -> dict[str, Tensor]:
        """The stage's tensors with averaged parameters."""
        return self.stage.state_dict() | dict(zip(self.names, self.averages, strict=True))

    def save(self, seconds: float) -> None:
        """State for going on, and averaged weights for use; each whole or not at all."""
        moments = self.optimiser.state
        tensors = {f"stage.{n}": t.contiguous() for n, t in self.stage.state_dict().items()}
        for name, parameter, average in zip(
            self.names, self.parameters, self.averages, strict=True
        ):
            tensors[f"average.{name}"] = average
            for key, value in moments[parameter].items():
                tensors[f"{key}.{name}"] = value
        tensors["generator"] = self.generator.get_state()
        temporary = self.state_path.with_suffix(".part")
        save_file(
            tensors, temporary, metadata={"step": str(self.step), "finished": str(self.finished)}
        )
        temporary.replace(self.state_path)
        weights.save(
            self.out / f"{self.part}.safetensors", self.averaged(), self.config, part=self.part,
            step=self.step, seconds=round(seconds),
        )  # fmt: skip

    def restore(self) -> None:
        """The inverse of the first half of `save`."""
        with safe_open(self.state_path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            facts = file.metadata() or {}
        self.step, self.finished = int(facts["step"]), int(facts.get("finished", -1))
        self.stage.load_state_dict(_under(tensors, "stage."))
        averages = _under(tensors, "average.")
        for name, parameter, average in zip(
            self.names, self.parameters, self.averages, strict=True
        ):
            average.copy_(averages[name])
            self.optimiser.state[parameter] = {
                key: tensors[f"{key}.{name}"].to("cpu" if key == "step" else parameter.device)
                for key in ("step", "exp_avg", "exp_avg_sq")
                if f"{key}.{name}" in tensors  # no gradient, no moments
            }
        self.generator.set_state(tensors["generator"])
        log.info("resumed at step %d from %s", self.step, self.state_path)

    def show(self, preview: Preview) -> None:
        """Run a preview on the averaged weights."""
        self.averaging(lambda stage: preview(stage, self.out / "previews", self.step))

    def averaging(self, act: Finish) -> None:
        """Do something with the averaged weights in place, then put the raw ones back."""
        raw = [p.detach().clone() for p in self.parameters]
        self._put(self.averages)
        self.stage.eval()
        act(self.stage)
        self.stage.train()
        self._put(raw)

    @torch.no_grad()
    def _put(self, values: list[Tensor]) -> None:
        for parameter, value in zip(self.parameters, values, strict=True):
            parameter.copy_(value)


def _rate_share(step: int, options: TrainOptions) -> float:
    """Warm-up, plateau, then a straight line to 0 over the last fifth."""
    warm = min(1.0, (step + 1) / max(options.warm_up, 1))
    left = (options.steps - step) / max(0.2 * options.steps, 1.0)
    return min(warm, left, 1.0)


def _moved(batch: Batch, device: torch.device) -> Batch:
    if isinstance(batch, Tensor):
        return batch.to(device)
    if is_dataclass(batch) and not isinstance(batch, type):
        moved = {f.name: _moved(getattr(batch, f.name), device) for f in fields(batch)}
        return replace(batch, **moved)
    if isinstance(batch, dict):
        return {name: _moved(value, device) for name, value in batch.items()}
    return batch


def _under(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)}


def train_part(
    part: str,
    data: Given,
    out: Path,
    *,
    batch: int,
    options: TrainOptions,
    real_share: float | None = None,
) -> Iterator[Step]:
    """`emo2 train`: a part of the compact preset on the studio's data, and on real film."""
    config = PRESETS["compact"]
    out = Path(out)
    if part not in _BUILDERS:
        raise UserError(f"unknown part {part!r}; give one of {', '.join(_BUILDERS)}")
    torch.manual_seed(options.seed)  # first weights only: torch's initialisers take no generator
    built = _BUILDERS[part](
        Order(
            config=config, data=folders_given(data), out=out, batch=batch, seed=options.seed,
            real_share=real_share,
        )
    )  # fmt: skip
    options = replace(options, preview_every=1000 if built.preview else 0)
    yield from train(
        built.stage,
        built.batch_at,
        out,
        config=config,
        part=built.name,
        options=options,
        preview=built.preview,
        finish=built.finish,
    )


@dataclass(frozen=True, kw_only=True)
class _Built:
    stage: nn.Module
    batch_at: BatchAt
    name: str
    """Of the weights file."""
    preview: Preview | None = None
    finish: Finish | None = None


def _motion_part(order: Order) -> _Built:
    from emo2.data.motion_windows import MotionWindows, load_performances, write_performances
    from emo2.motion import SpeechMotion

    folders = order.data
    if not folders:
        folder = order.out / "performances"
        folders = (folder,)
        if not folder.is_dir():
            log.info("no --data: the studio performs %d voices first", VOICES)
            write_performances(folder, order.config, first=0, count=VOICES)
    performances = [p for f in folders for p in load_performances(f, order.config)]
    stage = SpeechMotion(order.config)
    whole = [p.rows for p in performances if p.known is None]
    if not whole:
        raise UserError("real film alone does not tell all of a motion; add the studio's: --data")
    stage.motion.measure(torch.cat(whole)[::5].float())
    windows = MotionWindows(
        performances, order.config, batch=order.batch, seed=order.seed, real_share=order.real_share
    )
    return _Built(stage=stage, batch_at=windows.at, name="speech_motion", preview=_motion_preview)


def _motion_preview(stage: nn.Module, folder: Path, step: int) -> None:
    """A motion file for a voice of the studio, through `sample`."""
    from emo2.hands import save
    from emo2.media import speech_from_samples
    from emo2.motion import SpeechMotion
    from emo2.studio.performance import performance_set

    assert isinstance(stage, SpeechMotion)
    take = next(performance_set(PREVIEW_VOICE, 1))
    speech = speech_from_samples(torch.as_tensor(take.samples), sample_rate=take.sample_rate)
    motion = stage.motion.sample(stage.speech.encode(speech, take.motion.fps), seed=0)
    folder.mkdir(parents=True, exist_ok=True)
    save(motion, folder / f"motion-{step:06d}.npz")


def _video_part(order: Order) -> _Built:
    from emo2.data.shards import Draw, PeopleBatches, StillsAndTakes
    from emo2.video import VideoStage

    folders, share = order.folders(), order.real_share
    batches = StillsAndTakes(
        folders, order.config, people=order.batch, seed=order.seed, real_share=share
    )
    plain = Draw(people=order.batch, augment=False, half=True)
    stills = PeopleBatches(order.folders(real=False), plain, seed=order.seed)

    def fit_table(stage: nn.Module) -> None:
        assert isinstance(stage, VideoStage)
        device = next(stage.parameters()).device
        used = stage.fit_table(stills.at(n).to(device) for n in range(TABLE_BATCHES))
        log.info("the table of face actions is fitted to %d frames", used)

    stage = VideoStage(order.config.video)
    return _Built(stage=stage, batch_at=batches.at, name="video", finish=fit_table)


def _finder_part(order: Order) -> _Built:
    from emo2.portrait.data import FinderBatches
    from emo2.portrait.stage import PortraitFinder

    finder = order.config.finder
    sizes = (order.batch, order.batch, order.batch)
    batches = FinderBatches(order.folders(real=False), finder, seed=order.seed, sizes=sizes)
    stage = PortraitFinder(finder)
    stage.measure(batches.faces())
    return _Built(stage=stage, batch_at=batches.at, name="finder")


_BUILDERS = {"motion": _motion_part, "video": _video_part, "finder": _finder_part}
