"""Mouth, lids, head and hands of stage 1 on held-out sentences whose phones are known exactly.

    python benchmarks/closures.py --sentences 200
    python benchmarks/closures.py --sentences 60 --start 900200 --pace 1.5      the same voices, half as fast again
    python benchmarks/closures.py --songs SONG ...        does the mouth follow a song's energy

The sentences are the studio's (flite's and espeak-ng's voices, seeds 900000 and up, never trained on).  A bilabial
(m b p) is closed where the gap between the lips comes under a tenth of the person's open range (95th percentile of
the gap while speaking) in one of its frames; an open vowel is open where the gap exceeds that tenth.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from dataclasses import dataclass, fields, replace
from pathlib import Path
from statistics import mean

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from emo2 import media, pipeline
from emo2.metrics.lips import near_correlation
from emo2.metrics.mouth import lip_sync
from emo2.motion import SpeechMotion
from emo2.motion.finish import activity
from emo2.signals import FACE_ACTIONS, Motion, SpeechFeatures
from emo2.studio import corpus, voices
from emo2.studio.performance import perform
from emo2.studio.phones import BILABIALS, SILENCE, Phone

OPEN_VOWELS = frozenset(("aa", "ae", "ao", "ah", "aw", "ay", "eh", "ow"))
FIRST = 900_000
_SAMPLE_RATE = 16_000


@dataclass(frozen=True, kw_only=True)
class Row:
    """One motion's numbers; NaN where there was nothing to count."""

    bilabials_shut: float
    vowels_open: float
    jerk: float
    """Mean third difference of the gap, jaws a second cubed."""
    energy_r: float
    """Gap against the voice's energy, best lag within two frames."""
    gap_in_silence: float
    blinks_per_min: float
    head_deg_per_s: float
    wrists_speaking: float
    wrists_in_silence: float


def main() -> None:
    """Measure, and print tables in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--preset", default="compact")
    parser.add_argument("--sentences", type=int, default=200)
    parser.add_argument("--start", type=int, default=FIRST, help="seed of the first sentence")
    parser.add_argument("--pace", type=float, default=1.0, help="of the voices' own pace")
    parser.add_argument("--songs", type=Path, nargs="*", default=[])
    args = parser.parse_args()
    config, model = pipeline.load_stage_1(args.preset)
    if args.songs:
        songs(model, config.fps, args.songs)
        return
    styles = config.motion.styles
    made, true = [], []
    for number in range(args.start, args.start + args.sentences):
        text, language = corpus.write(number, english_share=1.0)
        usual = voices.cast(language, number)
        speaker = replace(usual, rate=args.pace * usual.rate)
        samples, rate, phones = voices.synthesise(text, number, language=language, speaker=speaker)
        samples, phones = _with_rest(samples, rate, phones)
        speech = media.speech_from_samples(torch.from_numpy(samples), sample_rate=rate)
        features = model.speech.encode(speech, config.fps)
        options = pipeline.Options(seed=number, style=styles[number % len(styles)])
        made.append(
            measure(pipeline.plan(model.motion, None, features, options).whole(), features, phones)
        )
        true.append(measure(perform(samples, rate, phones, seed=number), features, phones))
    names = [f.name.replace("_", " ") for f in fields(Row)]
    print(f"| {args.sentences} sentences | {' | '.join(names)} |\n|---|" + "--:|" * len(names))
    for name, rows in (("stage 1", made), ("the studio", true)):
        means = (_mean(getattr(row, f.name) for row in rows) for f in fields(Row))
        print(f"| {name} | {' | '.join(f'{value:.3g}' for value in means)} |", flush=True)


def _with_rest(
    samples: Float[np.ndarray, " n"], rate: int, phones: tuple[Phone, ...]
) -> tuple[Float[np.ndarray, " m"], tuple[Phone, ...]]:
    """Two seconds of silence after the sentence."""
    end = len(samples) / rate
    joined = np.concatenate((samples, np.zeros(2 * rate, np.float32)))
    return joined, (*phones, Phone(name=SILENCE, start_s=end, end_s=end + 2.0))


def lips(motion: Motion) -> Float[Tensor, " frames"]:
    """Gap between the lips in units of `jawOpen`."""
    assert motion.face is not None
    jaw, close = (motion.face[:, FACE_ACTIONS.index(n)] for n in ("jawOpen", "mouthClose"))
    lower = motion.face[:, FACE_ACTIONS.index("mouthLowerDownLeft")]
    return (jaw - close).clamp(min=0) + lower


def measure(motion: Motion, features: SpeechFeatures, phones: Iterable[Phone]) -> Row:
    """All measures of one motion."""
    fps, gap = motion.fps, lips(motion)
    assert motion.face is not None
    assert motion.head is not None
    share = activity(features.energy, fps, features.loud)[: len(gap)]
    speaking, silent = share > 0.99, share < 0.01
    limit = 0.1 * float(gap[speaking].quantile(0.95)) if speaking.any() else 0.0
    shut, opened = [], []
    for phone in phones:
        first, last = round(phone.start_s * fps - 0.5), round(phone.end_s * fps - 0.5)
        part = gap[max(first, 0) : max(last, first + 1)]
        if not len(part):
            continue
        if phone.name in BILABIALS:
            shut.append(float(part.min() <= limit))
        if phone.name in OPEN_VOWELS:
            opened.append(float(part.max() > limit))
    lids = motion.face[:, FACE_ACTIONS.index("eyeBlinkLeft")] > 0.5
    blinks = int((lids[1:] & ~lids[:-1]).sum())
    turn = motion.head[:, :3].diff(dim=0).norm(dim=-1).rad2deg() * fps
    wrists = motion.hands[..., 64:].diff(dim=0).norm(dim=-1).mean(-1) * fps
    return Row(
        bilabials_shut=_mean(shut),
        vowels_open=_mean(opened),
        jerk=float(gap.diff(n=3).abs().mean()) * fps**3,
        energy_r=near_correlation(gap, features.energy[: len(gap)]),
        gap_in_silence=_where(gap, silent),
        blinks_per_min=60 * blinks / (len(gap) / fps),
        head_deg_per_s=float(turn.mean()),
        wrists_speaking=_where(wrists, speaking[1:]),
        wrists_in_silence=_where(wrists, silent[1:]),
    )


def _where(values: Tensor, chosen: Bool[Tensor, " frames"]) -> float:
    return float(values[chosen].mean()) if chosen.any() else float("nan")


def _mean(values: Iterable[float]) -> float:
    return mean([v for v in values if v == v] or [float("nan")])


def songs(model: SpeechMotion, fps: float, paths: list[Path]) -> None:
    """Correlation of the mouth's opening with the song's energy, shifted songs beside it."""
    print(
        "| song | correlation | lag, frames | shifted, mean | shifted, 95 % |\n|---|--:|--:|--:|--:|"
    )
    for path in paths:
        features = model.speech.encode(media.read_voice(path), fps)
        motion = pipeline.plan(model.motion, None, features, pipeline.Options()).whole()
        found = lip_sync(lips(motion), features.energy[: len(motion)])
        print(f"| {path.stem} | {found.correlation:.2f} | {found.lag} | {found.shuffled:.2f} "
              f"| {found.shuffled_high:.2f} |", flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
