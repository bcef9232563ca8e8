"""Stage 1 beside the studio's own held-out performances: same voices, styles and first poses; and who rests in silence.

    python benchmarks/performances.py OUT --takes 60
    emo2 evaluate motion OUT/made --truth OUT/true --voices OUT/voices -o OUT/report
    emo2 evaluate motion OUT/true --voices OUT/voices -o OUT/studio       the studio's own strokes and beats

Silence is what comes a second and more after a phone and 0.2 s before the next: retractions that fall into a pause are over.
"""

from __future__ import annotations

import argparse
import wave
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from emo2 import media, pipeline
from emo2.hands import save
from emo2.reel import cut
from emo2.signals import Motion
from emo2.studio.performance import performance_set
from emo2.studio.phones import PHONES, SILENCE

FIRST = 900_000
_AFTER_S, _BEFORE_S = 1.0, 0.2
_STILL_M_PER_S = 0.05


@dataclass(frozen=True, kw_only=True)
class Take:
    """One voice with both motions."""

    made: Motion
    true: Motion
    quiet: Bool[Tensor, " frames"]
    spoken: Bool[Tensor, " frames"]


def main() -> None:
    """Write the files, and print a table in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("output", type=Path)
    parser.add_argument("--preset", default="compact")
    parser.add_argument("--takes", type=int, default=60)
    args = parser.parse_args()
    for name in ("made", "true", "voices"):
        (args.output / name).mkdir(parents=True, exist_ok=True)
    takes = list(performed(args.preset, args.takes, args.output))
    print(
        "| wrists | speaking m/s | in silence m/s | under 5 cm/s in silence | frames of silence |"
    )
    print("|---|--:|--:|--:|--:|")
    for name, motions in (("stage 1", [t.made for t in takes]), ("the studio", [t.true for t in takes])):  # fmt: skip
        speeds = [speed(m) for m in motions]
        talk = torch.cat([v[t.spoken] for v, t in zip(speeds, takes, strict=True)])
        rest = torch.cat([v[t.quiet] for v, t in zip(speeds, takes, strict=True)])
        still = float((rest < _STILL_M_PER_S).float().mean())
        print(f"| {name} | {float(talk.mean()):.3f} | {float(rest.mean()):.4f} | {still:.3f} | {len(rest)} |", flush=True)  # fmt: skip


def performed(preset: str, count: int, output: Path) -> Iterator[Take]:
    """The studio performs, stage 1 does so from the same first frame; both are kept."""
    config, model = pipeline.load_stage_1(preset)
    for number, take in enumerate(performance_set(FIRST, count, fps=config.fps), FIRST):
        samples = torch.from_numpy(take.samples).float()
        speech = media.speech_from_samples(samples, sample_rate=take.sample_rate)
        features = model.speech.encode(speech, config.fps)
        start = cut(take.motion, 0, 1)
        made = model.motion.sample(features, start=start, style=take.style, seed=number)
        save(made, output / "made" / f"{number}.npz")
        save(take.motion, output / "true" / f"{number}.npz")
        keep_voice(output / "voices" / f"{number}.wav", take.samples, take.sample_rate)
        yield Take(made=made, true=take.motion, **pauses(take.phones, config.fps))


def pauses(phones: Int[Tensor, " frames"], fps: float) -> dict[str, Bool[Tensor, " frames"]]:
    """Frames that are silent for long enough, and those in which somebody speaks."""
    spoken = (phones != PHONES.index(SILENCE)) & (phones != PHONES.index("breath"))
    near = spoken.clone()
    for shift in range(1, round(_AFTER_S * fps) + 1):
        near[shift:] |= spoken[:-shift]
    for shift in range(1, round(_BEFORE_S * fps) + 1):
        near[:-shift] |= spoken[shift:]
    return {"quiet": ~near, "spoken": spoken}


def speed(motion: Motion) -> Float[Tensor, " frames"]:
    """Metres a second, mean of both wrists; the first frame stands."""
    steps = motion.hands[..., 64:].diff(dim=0).norm(dim=-1).mean(-1) * motion.fps
    return torch.cat((torch.zeros(1), steps))


def keep_voice(path: Path, samples: Float[np.ndarray, " n"], rate: int) -> None:
    """Mono, 16 bits."""
    with wave.open(str(path), "wb") as out:
        out.setparams((1, 2, rate, 0, "NONE", ""))
        out.writeframes((samples.clip(-1, 1) * 32_767).astype("<i2").tobytes())


if __name__ == "__main__":
    main()
