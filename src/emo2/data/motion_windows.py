"""Windows of performances for stage 1: sound as a microphone might have heard it, and the motion to it.

A performance is a voice with the motion that a studio's performer (or a tracker) gave it.  Files hold many
performances; a batch is a function of its step, so training resumes exactly.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from jaxtyping import Bool, Float, Int
from safetensors import safe_open
from torch import Tensor
from torch.nn import functional as F

from emo2 import weights
from emo2.config import Config
from emo2.data.sound_changes import change_sound
from emo2.errors import UserError
from emo2.motion.channels import HAND_ROW, one_hemisphere, pack
from emo2.motion.stage import MotionBatch
from emo2.signals import HAND_NUMBERS, Motion
from emo2.speech import ROW_RATE, gain_of, level_counts, samples_for

_PER_FILE = 64
PERFORMANCES = "performances-*.safetensors"
"""Names of their files, in a folder or in folders inside it."""
_FASTEST = 1.35
_SLOWEST = 0.72


@dataclass(frozen=True, kw_only=True)
class Performance:
    """A voice and the motion to it."""

    samples: Int[Tensor, " n"]
    """int16 at the encoder's rate, brought to the usual level."""
    rows: Float[Tensor, "frames c"]
    """`channels.pack` of the motion, half precision."""
    visibility: Float[Tensor, "frames 2"]
    phones: Int[Tensor, " frames"]
    """Number of the phone that sounds; -1 unknown."""
    style: int
    """Place in `MotionConfig.styles`; -1 unknown."""
    known: Bool[Tensor, "frames c"] | None = None
    """Which numbers of the rows were measured (real film); None: all are true."""

    def masked(self, known: Bool[Tensor, "frames c"]) -> Performance:
        """The same with what is not known of it."""
        return replace(self, known=known)


def performance(
    samples: Float[Tensor, " n"],
    sample_rate: int,
    phones: Int[Tensor, " frames"],
    motion: Motion,
    style: str,
    config: Config,
) -> Performance:
    """Level the voice and pack the motion."""
    if sample_rate != config.speech.sample_rate:
        raise ValueError(
            f"found {sample_rate} samples a second, expected {config.speech.sample_rate}; resample"
        )
    if motion.fps != ROW_RATE:
        raise ValueError(
            f"found {motion.fps} frames a second, expected {ROW_RATE}; resample the motion"
        )
    styles = config.motion.styles
    size = sample_rate // ROW_RATE
    pieces = samples[: len(samples) // size * size].view(-1, size)
    levelled = samples * gain_of(level_counts(pieces))
    return Performance(
        samples=(levelled.clamp(-1.0, 1.0) * 32_767).to(torch.int16),
        rows=pack(motion, hints=config.motion.hints).half(),
        visibility=motion.visibility.half(),
        phones=phones[: len(motion)].to(torch.int16),
        style=styles.index(style) if style in styles else -1,
    )


def save_performances(folder: Path, performances: Iterable[Performance]) -> Iterator[Path]:
    """Write performances into numbered files, each yielded when it is whole."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    held: list[Performance] = []
    number = len(list(folder.glob("performances-*.safetensors")))
    for item in performances:
        held.append(item)
        if len(held) == _PER_FILE:
            yield _write(folder / f"performances-{number:05d}.safetensors", held)
            number, held = number + 1, []
    if held:
        yield _write(folder / f"performances-{number:05d}.safetensors", held)


def _write(path: Path, items: Sequence[Performance]) -> Path:
    tensors = {}
    for i, item in enumerate(items):
        tensors |= {
            f"{i}.samples": item.samples,
            f"{i}.rows": item.rows.contiguous(),
            f"{i}.visibility": item.visibility.contiguous(),
            f"{i}.phones": item.phones.contiguous(),
            f"{i}.style": torch.tensor(item.style),
        }
        if item.known is not None:
            tensors[f"{i}.known"] = item.known.to(torch.uint8)
    return weights.write(path, tensors, {"count": str(len(items)), "format": "1"})


def write_performance_file(path: Path, items: Sequence[Performance]) -> Path:
    """One file of performances, whole or not at all; `PERFORMANCES` must find its name."""
    return _write(path, items)


def write_performances(
    folder: Path,
    config: Config,
    *,
    first: int,
    count: int,
) -> list[Path]:
    """Let the studio perform the seeds `first` .. and keep what it made."""
    from emo2.studio.performance import performance_set  # needs speech synthesisers

    takes = (
        performance(
            torch.as_tensor(take.samples).float(),
            take.sample_rate,
            take.phones,
            take.motion,
            take.style,
            config,
        )
        for take in performance_set(first, count, fps=float(ROW_RATE))
    )
    return list(save_performances(folder, takes))


def load_performances(folder: Path, config: Config) -> list[Performance]:
    """All performances of a folder, in memory (an hour is about 150 MB)."""
    paths = sorted(Path(folder).rglob(PERFORMANCES))
    if not paths:
        raise UserError(
            f"{folder} holds no performances-*.safetensors; make some with `emo2 studio`"
        )
    found = []
    for path in paths:
        with safe_open(path, framework="pt") as file:
            count = int((file.metadata() or {})["count"])
            for i in range(count):
                parts = {
                    n: file.get_tensor(f"{i}.{n}")
                    for n in ("samples", "rows", "visibility", "phones")
                }
                if f"{i}.known" in file.keys():  # noqa: SIM118
                    parts["known"] = file.get_tensor(f"{i}.known").bool()
                found.append(Performance(**parts, style=int(file.get_tensor(f"{i}.style"))))
    return [p for p in found if len(p.rows) >= config.motion.window // 2]


class MotionWindows:
    """Batches of windows from performances, each by its step's number."""

    def __init__(
        self,
        performances: Sequence[Performance],
        config: Config,
        *,
        batch: int,
        seed: int = 0,
        changes: bool = True,
        real_share: float | None = None,
    ) -> None:
        """`changes` False leaves sound and pace as they are (evaluation); `real_share`: of windows of real film.

        Without it, real film is drawn as often as its length says.
        """
        if not performances:
            raise UserError("there is no performance to train on; make some with `emo2 studio`")
        self.performances = performances
        self.config = config
        self.batch = batch
        self.seed = seed
        self.changes = changes
        lengths = torch.tensor([float(len(p.rows)) for p in performances])
        real = torch.tensor([p.known is not None for p in performances])
        self.chance = chances(lengths, real, real_share)
        self.usual_speeds = self._usual_speeds()

    def _usual_speeds(self) -> dict[int, float]:
        """Metres a second of the wrists while someone speaks, the mean over a style's performances.

        Speed is told against the style's own: a usual speed must not make the calm lively.
        """
        found: dict[int, list[float]] = {}
        for item in self.performances[:2000]:
            speed = _hand_speed(item.rows.float(), item.visibility, item.phones)
            if not math.isnan(speed):
                found.setdefault(item.style, []).append(speed)
        return {style: sum(speeds) / len(speeds) for style, speeds in found.items()}

    def at(self, step: int) -> MotionBatch:
        """The batch of a step."""
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + step)
        chosen = torch.multinomial(self.chance, self.batch, replacement=True, generator=generator)
        items = [self.performances[int(i)] for i in chosen]
        windows = [self._window(item, generator) for item in items]
        known = None
        if any(item.known is not None for item in items):
            known = torch.stack([w[6] for w in windows])
        sound = torch.stack([w[0] for w in windows])
        if self.changes:
            sound = change_sound(sound, self.config.speech.sample_rate, generator)
        return MotionBatch(
            sound=sound,
            motion=torch.stack([w[1] for w in windows]),
            visibility=torch.stack([w[2] for w in windows]),
            phones=torch.stack([w[3] for w in windows]),
            style=torch.tensor([w[4] for w in windows]),
            speed=torch.tensor([w[5] for w in windows]),
            known=known,
        )

    def _window(
        self, item: Performance, generator: torch.Generator
    ) -> tuple[Tensor, Tensor, Tensor, Tensor, int, float, Tensor]:
        """Sound, rows, visibility, phones, style, speed, and what is known of the rows, of a random window."""
        size = self.config.motion.window
        pace = 1.0
        if self.changes and float(torch.rand(1, generator=generator)) < 0.7:
            low, high = math.log(_SLOWEST), math.log(_FASTEST)
            pace = math.exp(low + (high - low) * float(torch.rand(1, generator=generator)))
        frames = len(item.rows)
        room = max(frames - 1 - math.ceil((size - 1) * pace), 0)
        first = int(torch.randint(0, room + 1, (1,), generator=generator))
        at = first + torch.arange(size) * pace
        low = at.long().clamp(max=frames - 1)
        high = (low + 1).clamp(max=frames - 1)
        share = (at - low).clamp(0.0, 1.0)[:, None]
        before = item.rows[low].float()
        after = one_hemisphere_each(item.rows[high].float(), before)
        rows = torch.lerp(before, after, share)
        seen = item.visibility[low].float() * (at < frames)[:, None]
        phones = item.phones[low].long()
        usual = self.usual_speeds.get(item.style, 1.0)
        speed = _hand_speed(rows, seen, phones) / max(usual, 0.01)
        sound = _heard(item.samples, first, pace, size, self.config)
        known = torch.ones_like(rows, dtype=torch.bool)
        if item.known is not None:
            known = item.known[low] & item.known[high] & (at < frames)[:, None]
        return sound, rows, seen, phones, item.style, speed, known


def chances(
    weights: Float[Tensor, " n"], real: Bool[Tensor, " n"], share: float | None
) -> Float[Tensor, " n"]:
    """How likely each item is drawn: by its weight, real film together by `share` where both kinds are there."""
    if share is None or bool(real.all()) or not bool(real.any()):
        return weights / weights.sum()
    made = weights * ~real / (weights * ~real).sum()
    filmed = weights * real / (weights * real).sum()
    return (1.0 - share) * made + share * filmed


def one_hemisphere_each(
    rows: Float[Tensor, "f c"], towards: Float[Tensor, "f c"]
) -> Float[Tensor, "f c"]:
    """As `one_hemisphere`, frame by frame."""
    turns = rows[:, :HAND_ROW].view(-1, 2, HAND_NUMBERS)[..., :-3].unflatten(-1, (16, 4))
    guide = towards[:, :HAND_ROW].view(-1, 2, HAND_NUMBERS)[..., :-3].unflatten(-1, (16, 4))
    if not bool(((turns * guide).sum(-1) < 0).any()):
        return rows
    return torch.stack([one_hemisphere(r, t) for r, t in zip(rows, towards, strict=True)])


def _heard(
    samples: Tensor, first: int, pace: float, size: int, config: Config
) -> Float[Tensor, " n"]:
    """The window's samples with the encoder's context, played at `pace`; silence beyond the ends."""
    hop = config.speech.sample_rate // ROW_RATE
    count = samples_for(size, config.speech)
    margin = (count - size * hop) // 2
    begin = round(first * hop - margin * pace)
    wanted = round(count * pace)
    left, right = max(-begin, 0), max(begin + wanted - len(samples), 0)
    part = samples[max(begin, 0) : max(begin + wanted, 0)].float() / 32_768
    part = F.pad(part, (left, right))[:wanted]
    if wanted == count:
        return part
    return F.interpolate(part[None, None], size=count, mode="linear", align_corners=True)[0, 0]


def _hand_speed(rows: Tensor, seen: Tensor, phones: Tensor) -> float:
    """Mean speed of seen wrists while someone speaks, m/s; NaN where that is too seldom to say."""
    wrists = rows[:, :HAND_ROW].view(-1, 2, HAND_NUMBERS)[..., -3:]
    pace = (wrists[1:] - wrists[:-1]).norm(dim=-1) * ROW_RATE
    counted = (seen[1:] > 0) & (phones[1:, None] != 0)
    return float(pace[counted].mean()) if int(counted.sum()) >= 20 else math.nan
