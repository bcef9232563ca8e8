"""Stage 1 in numbers: beat alignment with its controls, diversity over seeds, jerk, rest in silence.

    python benchmarks/gestures.py                        the demo's voice, 8 seeds
    python benchmarks/gestures.py VOICE ... --seeds 50   as published: 50 results a voice
    python benchmarks/gestures.py --studio 20            next to the studio's own performances

Points are the 42 of both hands in metres; beats are those of the wrists and finger tips.  Alignment near its controls
("shifted", "chance") says nothing, however high it is.
"""

from __future__ import annotations

import argparse
from dataclasses import astuple, dataclass, fields
from pathlib import Path
from statistics import mean

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from emo2 import media, pipeline
from emo2.hands import hand_points, stand_in
from emo2.metrics import beat_alignment, diversity, jerk, rest_fraction, voice_envelope
from emo2.metrics.motion import onsets, speed
from emo2.signals import Motion

DEMO = Path(__file__).parent.parent / "src" / "emo2" / "assets" / "demo"
WRISTS_AND_TIPS = [0, 4, 8, 12, 16, 20, 21, 25, 29, 33, 37, 41]
SILENT = 0.25
"""Energy under which a frame is silence (-45 dBFS)."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """One motion's numbers."""

    alignment: float
    shifted: float
    chance: float
    beats_per_s: float
    jerk: float
    speed_in_speech: float
    speed_in_silence: float
    rest_in_silence: float


def main() -> None:
    """Measure, and print a table in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("voices", type=Path, nargs="*", default=[DEMO / "voice.flac"])
    parser.add_argument("--seeds", type=int, default=8)
    parser.add_argument(
        "--studio", type=int, default=0, help="performances of the studio to compare with"
    )
    args = parser.parse_args()
    print(f"torch {torch.__version__}; {args.seeds} seeds\n")
    names = [f.name.replace("_", " ") for f in fields(Row)]
    print(f"| motion | {' | '.join(names)} | diversity m |")
    print("|---|" + "--:|" * (len(names) + 1))
    models = pipeline.load("compact")
    for path in args.voices:
        speech = media.read_voice(path)
        with torch.inference_mode():
            features = models.speech.encode(speech, models.config.fps)
            made = [
                pipeline.plan(models.motion, None, features, pipeline.Options(seed=seed)).whole()
                for seed in range(args.seeds)
            ]
        envelope = features.energy
        all_points = [points_of(motion) for motion in made]
        rows = [measure(p, envelope, features.fps) for p in all_points]
        show(path.name, rows, diversity(torch.stack(all_points)))
    if args.studio:
        show("studio's performances", studio_rows(args.studio), None)


def points_of(motion: Motion) -> Float[Tensor, "frames 42 3"]:
    """Key points of both hands, metres."""
    return hand_points(stand_in(), motion.hands, motion.betas).flatten(1, 2)


def measure(
    points: Float[Tensor, "frames 42 3"], envelope: Float[Tensor, " frames"], fps: float
) -> Row:
    """All measures of one motion."""
    chosen = points[:, WRISTS_AND_TIPS]
    result = beat_alignment(chosen, onsets(envelope, fps), fps)
    wrists = points[:, [0, 21]]
    silent: Bool[Tensor, " frames"] = envelope < SILENT
    moving = speed(wrists, fps)
    return Row(
        alignment=result.matched,
        shifted=result.shuffled,
        chance=result.chance,
        beats_per_s=result.beats_per_s,
        jerk=jerk(points, fps),
        speed_in_speech=_mean(moving[~silent]),
        speed_in_silence=_mean(moving[silent]),
        rest_in_silence=rest_fraction(wrists, fps, silent),
    )


def _mean(values: Tensor) -> float:
    return float(values.mean()) if len(values) else float("nan")


def studio_rows(count: int) -> list[Row]:
    """The studio's own performances, measured alike."""
    from emo2.studio.performance import performance_set

    rows = []
    for take in performance_set(900_000, count):
        samples = torch.from_numpy(take.samples).float()
        envelope = voice_envelope(samples, take.sample_rate, take.motion.fps, len(take.motion))
        rows.append(measure(points_of(take.motion), envelope, take.motion.fps))
    return rows


def show(name: str, rows: list[Row], spread: float | None) -> None:
    """One line, means over the rows; not-a-number where there was no silence."""
    columns = zip(*(astuple(row) for row in rows), strict=True)
    means = [mean([v for v in column if v == v] or [float("nan")]) for column in columns]
    last = "" if spread is None else f"{spread:.3f}"
    print(f"| {name} | {' | '.join(f'{value:.3g}' for value in means)} | {last} |", flush=True)


if __name__ == "__main__":
    main()
