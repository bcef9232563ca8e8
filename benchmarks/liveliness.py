"""Blinks, heads, and what rests in silence: stage 1 on real voices, beside the studio's own takes and real films' heads.

    python benchmarks/liveliness.py VOICE ... --studio 20
    python benchmarks/liveliness.py VOICE ... --films OUT       OUT of real_mouths.py: heads of its real and made films

Head speed is told by bands of frequency (root mean square; Hann window): of a motion in degrees a second, of films in
distances between the eyes a second, the mean place of eight points of the skull.  The points tremble: still heads of
real film have some 0.1 in the bands from 2 Hz on.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from emo2 import media, pipeline
from emo2.metrics.face_signals import eye_distance
from emo2.metrics.film_reading import FPS
from emo2.motion import SpeechMotion
from emo2.motion.finish import activity, hushed
from emo2.signals import FACE_ACTIONS, Motion, SpeechFeatures
from emo2.studio.performance import performance_set

from closures import FIRST, lips  # isort: skip - the folder of benchmarks is on the path

SKULL = (27, 28, 29, 30, 36, 39, 42, 45)
BANDS = ((0.2, 0.5), (0.5, 1.0), (1.0, 2.0), (2.0, 4.0), (4.0, 8.0))


def main() -> None:
    """Measure, and print tables in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("voices", type=Path, nargs="*")
    parser.add_argument("--preset", default="compact")
    parser.add_argument("--studio", type=int, default=0, help="held-out takes of the studio")
    parser.add_argument("--films", type=Path, nargs="*", default=[])
    args = parser.parse_args()
    config, model = pipeline.load_stage_1(args.preset)
    said = " | ".join(f"{low:g}-{high:g} Hz" for low, high in BANDS)
    print(f"| motion | s | blinks/min | head deg/s | {said} | mouth in silence | wrists speaking | in silence | s of silence |")  # fmt: skip
    print("|---|" + "--:|" * (len(BANDS) + 7))
    made = []
    for number, path in enumerate(args.voices):
        features = model.speech.encode(media.read_voice(path), config.fps)
        options = pipeline.Options(seed=number, style=config.motion.styles[0])
        motion = pipeline.plan(model.motion, None, features, options).whole()
        made.append(row(motion, voiced(model, features)))
        line(path.stem, made[-1])
    studio = []
    for take in islice(performance_set(FIRST, args.studio, fps=config.fps), args.studio):
        samples = torch.from_numpy(take.samples).float()
        speech = media.speech_from_samples(samples, sample_rate=take.sample_rate)
        features = model.speech.encode(speech, config.fps)
        studio.append(row(take.motion, voiced(model, features)))
    for name, rows in (("stage 1, all", made), (f"the studio, {args.studio} takes", studio)):
        if rows:
            line(name, over_all(rows))
    if args.films:
        heads(args.films, said)


def voiced(model: SpeechMotion, features: SpeechFeatures) -> SpeechFeatures:
    """Features whose energy is the voice's alone: silent is what the phone head hears as silence, noise or not."""
    energy = hushed(features.energy, model.motion.phone, features.values.flatten(1))
    return replace(features, energy=energy)


def row(motion: Motion, features: SpeechFeatures) -> list[float]:
    """Seconds, blinks a minute, head's speed and its bands, widest mouth in silence, wrists, seconds of silence."""
    assert motion.face is not None
    assert motion.head is not None
    share = activity(features.energy, motion.fps, features.loud)[: len(motion)]
    silent, speaking = share < 0.01, share > 0.99
    lids = motion.face[:, FACE_ACTIONS.index("eyeBlinkLeft")] > 0.5
    seconds = len(motion) / motion.fps
    wrists = motion.hands[..., 64:].diff(dim=0).norm(dim=-1).mean(-1) * motion.fps
    turn = motion.head[:, :3].rad2deg()
    gap = lips(motion)[silent]
    return [
        seconds,
        60 * int((lids[1:] & ~lids[:-1]).sum()) / seconds,
        float(turn.diff(dim=0).norm(dim=-1).mean()) * motion.fps,
        *speeds(turn, motion.fps),
        float(gap.max()) if len(gap) else float("nan"),
        mean_of(wrists[speaking[1:]]),
        mean_of(wrists[silent[1:]]),
        float(silent.sum()) / motion.fps,
    ]


def mean_of(values: Tensor) -> float:
    """NaN where there are none."""
    return float(values.mean()) if len(values) else float("nan")


def over_all(rows: Sequence[Sequence[float]]) -> list[float]:
    """Sums of seconds, the widest mouth, means of the rest weighted by the seconds they were read in."""
    table = np.array(rows)
    seconds, silence = table[:, 0], table[:, -1]
    weights = np.tile(seconds[:, None], (1, table.shape[1]))
    weights[:, -2] = silence
    known = np.isfinite(table) & (weights > 0)
    weights = np.where(known, weights, 0.0)
    total = (np.where(known, table, 0.0) * weights).sum(0) / np.maximum(weights.sum(0), 1e-9)
    total[0], total[-1] = seconds.sum(), silence.sum()
    total[-4] = np.nan_to_num(table[:, -4]).max()
    return total.tolist()


def speeds(track: Float[Tensor, "frames c"], fps: float) -> list[float]:
    """Root mean square speed of a track in each of `BANDS`; NaN where it is too short for one."""
    speed = track.double().diff(dim=0).numpy() * fps
    speed = speed - speed.mean(0)
    window = np.hanning(len(speed))[:, None]
    window = window / np.sqrt(np.square(window).mean())
    power = 2 * np.square(np.abs(np.fft.rfft(speed * window, axis=0))).sum(1) / len(speed) ** 2
    at = np.fft.rfftfreq(len(speed), 1 / fps)
    chosen = [(at >= low) & (at < high) for low, high in BANDS]
    return [float(np.sqrt(power[band].sum())) if band.any() else float("nan") for band in chosen]


def line(name: str, values: Iterable[float]) -> None:
    """A row of the table."""
    print(f"| {name} | {' | '.join(f'{value:.3g}' for value in values)} |", flush=True)


def heads(folders: Sequence[Path], said: str) -> None:
    """Heads of real films beside those of the films made from them."""
    print(f"\n| head, eye distances/s | films | all | {said} |\n|---|" + "--:|" * (len(BANDS) + 2))
    for folder in folders:
        files = sorted((folder / "signals").glob("*.npz"))
        for kind in ("real", "made"):
            rows = []
            for file in files:
                with np.load(file) as kept:
                    points = torch.from_numpy(kept[f"{kind}_face"])
                track = points[:, list(SKULL)].mean(1) / eye_distance(points).median()
                rows.append([float(track.diff(dim=0).norm(dim=-1).mean()) * FPS, *speeds(track, FPS)])  # fmt: skip
            line(f"{folder.name}, {kind}", [len(rows), *np.nanmean(rows, axis=0)])


if __name__ == "__main__":
    main()
