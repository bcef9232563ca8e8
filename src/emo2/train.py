"""One training loop for everything that has a `loss`: stage 1, stage 2 and the portrait finder.

The loop is a generator of steps.  What a step trains on is a function of its number, and the whole state is
written as safetensors, so a run that was stopped goes on exactly where it was.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, fields, is_dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import torch
from safetensors import safe_open
from torch import Tensor, nn

from emo2 import weights
from emo2.config import Config
from emo2.curve import LossCurve
from emo2.errors import UserError

log = logging.getLogger(__name__)

RATE = 4e-4
"""AdamW's, where neither the user nor what is trained says another."""

Batch = Any
"""A frozen dataclass of tensors, or one tensor."""

BatchAt = Callable[[int], Batch]
"""Step number to its batch: the same number, the same batch."""

Preview = Callable[[nn.Module, Path, int], None]
"""(stage with averaged weights, folder, step): writes what `sample` makes."""

Fit = Callable[[nn.Module], None]
"""What is fitted rather than trained."""


class Trainable(Protocol):
    """What the loop needs of a stage; it is an `nn.Module` besides."""

    def loss(self, batch: Batch, generator: torch.Generator) -> Tensor | Mapping[str, Tensor]:
        """The loss, or named terms with the one to minimise under `loss`."""
        ...


@dataclass(frozen=True, kw_only=True)
class TrainOptions:
    """How to train."""

    steps: int = 10_000
    rate: float | None = None
    """AdamW's, after the warm-up; falls to 0 over the last fifth. None: `RATE`."""
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
    distil: int = 0
    """Steps that a student is taught to sample with; 0: nobody is taught.  For whoever builds what is trained."""


@dataclass(frozen=True, kw_only=True)
class Extras:
    """What only some runs have besides steps."""

    begin: Fit | None = None
    """Done once before the first step."""
    finish: Fit | None = None
    """Done once after the last step, on the averaged weights, also where a run was stopped before it."""
    preview: Preview | None = None
    facts: Mapping[str, str] = field(default_factory=dict)
    """Of the weights that the run begins with; those that it writes keep them."""
    counters: tuple[str, ...] = ("step",)
    """Facts that count steps: this run's are added to those of `facts`."""


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
    extras: Extras | None = None,
) -> Iterator[Step]:
    """Train `stage`, one step a yield; `out` gets state, averaged weights (`<part>.safetensors`) and curves."""
    extras = extras or Extras()
    resumed = options.resume and state_of(out, part).exists()
    if extras.begin and not resumed:
        extras.begin(stage.to(options.device).eval())
    run = _Run(stage, out, config, part, options, extras)
    if resumed:
        run.restore()
    began = time.perf_counter()
    with LossCurve(out, resume=run.step > 0) as curve:
        while run.step < options.steps:
            terms = run.advance(batch_at(run.step))
            seconds = time.perf_counter() - began
            curve.add(run.step, seconds, terms)
            if run.step % options.save_every == 0 or run.step == options.steps:
                run.save(seconds)
            if extras.preview and options.preview_every and run.step % options.preview_every == 0:
                run.show(extras.preview)
            yield Step(index=run.step, loss=terms["loss"], terms=terms, seconds=seconds)
    if extras.finish and run.finished != run.step:
        run.averaging(extras.finish)
        run.finished = run.step
        run.save(time.perf_counter() - began)


def state_of(out: Path, part: str) -> Path:
    """Where a run leaves what it goes on from."""
    return Path(out) / f"{part}-state.safetensors"


class _Run:
    """Everything that must survive a stop."""

    def __init__(
        self,
        stage: nn.Module,
        out: Path,
        config: Config,
        part: str,
        options: TrainOptions,
        extras: Extras,
    ) -> None:
        self.stage = stage.to(options.device).train()
        self.out, self.config, self.part, self.options = Path(out), config, part, options
        self.out.mkdir(parents=True, exist_ok=True)
        self.state_path = state_of(out, part)
        self.rate = RATE if options.rate is None else options.rate
        self.facts, self.counters = dict(extras.facts), extras.counters
        self.names = [n for n, p in stage.named_parameters() if p.requires_grad]
        self.parameters = [p for p in stage.parameters() if p.requires_grad]
        decayed = [p for p in self.parameters if p.dim() > 1]
        plain = [p for p in self.parameters if p.dim() <= 1]
        self.optimiser = torch.optim.AdamW(
            [
                {"params": decayed, "weight_decay": options.decay},
                {"params": plain, "weight_decay": 0.0},
            ],
            lr=self.rate,
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
            group["lr"] = self.rate * _rate_share(self.step, options)
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
        weights.write(
            self.state_path,
            tensors,
            {
                "step": str(self.step),
                "finished": str(self.finished),
                "facts": json.dumps(self.facts),
                "counters": json.dumps(self.counters),
            },
        )
        told: dict[str, Any] = self.facts | {
            name: int(self.facts.get(name, 0)) + self.step for name in self.counters
        }
        told["seconds"] = round(seconds)
        path = self.out / f"{self.part}.safetensors"
        weights.save(path, self.averaged(), self.config, part=self.part, **told)

    def restore(self) -> None:
        """The inverse of the first half of `save`."""
        with safe_open(self.state_path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            facts = file.metadata() or {}
        trained = tuple(json.loads(facts.get("counters", '["step"]')))
        if trained != self.counters:
            raise UserError(
                f"{self.out} holds a run that counts {', '.join(trained)}, this one counts "
                f"{', '.join(self.counters)}; go on with its --only and --distil, or give another --out"
            )
        self.facts = json.loads(facts.get("facts", "{}"))
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

    def averaging(self, act: Fit) -> None:
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
