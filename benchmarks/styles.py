"""Can the styles be told apart from the motion alone: a small classifier, and what makes them differ.

    python benchmarks/styles.py                      stage 1 on 8 held-out voices, each in every style
    python benchmarks/styles.py --studio 20          the studio's own performances instead
    python benchmarks/styles.py --studio 20 --take WRISTS.npy   beside a real take (frames, 2, 3; metres, 25 fps)

The classifier is linear (Fisher's discriminant with a ridge) on some twenty statistics of a clip of about ten
seconds, and is always asked about a voice that it has not seen.  Chance is one in the number of styles.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from emo2 import media, pipeline
from emo2.metrics.motion import motion_beats
from emo2.signals import FACE_ACTIONS, Motion
from emo2.studio import corpus, voices
from emo2.studio.performance import Direction, perform
from emo2.studio.styles import STYLES

FIRST = 900_000
_REST_M_PER_S = 0.05


@dataclass(frozen=True, kw_only=True)
class Clip:
    """A motion, and who speaks in it how."""

    style: str
    voice: int
    motion: Motion


def main() -> None:
    """Measure, and print tables in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--preset", default="compact")
    parser.add_argument("--voices", type=int, default=8)
    parser.add_argument("--studio", type=int, default=0, help="voices that the studio performs")
    parser.add_argument("--take", type=Path, help="wrists of a real take to print beside it")
    args = parser.parse_args()
    clips = list(performed(args.studio) if args.studio else generated(args.preset, args.voices))
    table(clips, args.take)
    rows = torch.tensor(np.array([statistics(c.motion) for c in clips]))
    known = sorted({c.style for c in clips})
    labels = torch.tensor([known.index(c.style) for c in clips])
    guessed = torch.zeros_like(labels)
    for voice in {c.voice for c in clips}:
        held = torch.tensor([c.voice == voice for c in clips])
        guessed[held] = classify(rows[~held], labels[~held], rows[held])
    right = float((guessed == labels).double().mean())
    print(f"\ntold apart: {right:.1%} of {len(clips)} clips (chance {1 / len(known):.1%})")
    for i, name in enumerate(known):
        wrong = [known[int(g)] for g in guessed[labels == i] if int(g) != i]
        print(f"  {name}: {int((labels == i).sum()) - len(wrong)} right; taken for {wrong}")


def spoken(number: int) -> tuple[np.ndarray, int, tuple]:
    """A held-out voice of about ten seconds."""
    text = " ".join(corpus.write(number + 1000 * k, english_share=1.0)[0] for k in range(2))
    return voices.synthesise(text, number, language="en-us")


def performed(count: int) -> Iterator[Clip]:
    """The studio's performances."""
    for voice in range(count):
        samples, rate, phones = spoken(FIRST + voice)
        for style in STYLES:
            told = Direction(style=style, rest="offering")
            yield Clip(
                style=style, voice=voice,
                motion=perform(samples, rate, phones, direction=told, seed=FIRST + voice),
            )  # fmt: skip


def generated(preset: str, count: int) -> Iterator[Clip]:
    """Stage 1's motions; all begin at the same pose, so that the pose tells nothing."""
    config, model = pipeline.load_stage_1(preset)
    for voice in range(count):
        samples, rate, phones = spoken(FIRST + voice)
        speech = media.speech_from_samples(torch.from_numpy(samples).float(), sample_rate=rate)
        features = model.speech.encode(speech, config.fps)
        start = perform(samples, rate, phones, direction=Direction(rest="offering"), seed=voice)
        for style in config.motion.styles:
            motion = model.motion.sample(features, start=start, style=style, seed=FIRST + voice)
            yield Clip(style=style, voice=voice, motion=motion)


def statistics(motion: Motion) -> list[float]:
    """What a clip's hands, head and face do, in numbers."""
    fps, wrists = motion.fps, motion.hands[..., 64:].double()
    assert motion.face is not None
    assert motion.head is not None
    assert motion.gaze is not None
    speed = wrists.diff(dim=0).norm(dim=-1) * fps
    jerk = wrists.diff(n=3, dim=0).norm(dim=-1).mean() * fps**3
    fingers = motion.hands[..., 4:64].diff(dim=0).norm(dim=-1).mean() * fps
    turns = motion.hands[..., :4].diff(dim=0).norm(dim=-1).mean() * fps
    both = np.corrcoef(speed.T.numpy())[0, 1]
    mirror = wrists * torch.tensor(((1.0, 1.0, 1.0), (-1.0, 1.0, 1.0)))
    head, gaze = motion.head.double(), motion.gaze.double()
    brows = motion.face[:, [FACE_ACTIONS.index(n) for n in ("browInnerUp", "browOuterUpLeft")]]
    jaw = motion.face[:, FACE_ACTIONS.index("jawOpen")]
    logs = torch.stack((
        speed.mean(), speed.quantile(0.9), jerk, fingers, turns, speed.amax(1).quantile(0.98),
        *mirror.std(0).mean(0),
    )).clamp(min=1e-4).log()  # fmt: skip
    plain = (
        *mirror.mean((0, 1)), mirror[..., 1].amin(), mirror[..., 1].quantile(0.25),
        mirror[..., 0].amax(), both, (mirror[:, 0] - mirror[:, 1]).abs().mean(),
        (speed.mean(1) < _REST_M_PER_S).double().mean(), head[:, 1].mean(), *head[:, :3].std(0),
        head[:, 1].diff().std(), gaze[:, 1].mean(), *gaze.std(0), brows.mean(), jaw.mean(),
    )  # fmt: skip
    return [*logs.tolist(), *(float(v) for v in plain)]


def classify(
    rows: Float[Tensor, "n d"], labels: Tensor, asked: Float[Tensor, "m d"], ridge: float = 0.3
) -> Tensor:
    """Labels of the asked rows by Fisher's linear discriminant; the shared covariance gets a ridge."""
    mean, spread = rows.mean(0), rows.std(0).clamp(min=1e-9)
    rows, asked = (rows - mean) / spread, (asked - mean) / spread
    count = int(labels.max()) + 1
    centres = torch.stack([rows[labels == k].mean(0) for k in range(count)])
    inside = rows - centres[labels]
    cov = inside.T @ inside / len(rows) + ridge * torch.eye(rows.shape[1], dtype=rows.dtype)
    ways = torch.linalg.solve(cov, centres.T)
    return (asked @ ways - 0.5 * (centres.T * ways).sum(0)).argmax(1)


def table(clips: list[Clip], take: Path | None) -> None:
    """Space, speed, rate and rest of each style."""
    print("| style | speed m/s | jerk m/s3 | beats/s | space m | height m | at rest | head deg/s |")
    print("|---|" + "--:|" * 7)
    for style in dict.fromkeys(c.style for c in clips):
        motions = [c.motion for c in clips if c.style == style]
        found = np.mean([_habits(m.hands[..., 64:], m.fps, m.head) for m in motions], 0)
        print(f"| {style} | {' | '.join(f'{v:.3g}' for v in found)} |", flush=True)
    if take is not None:
        found = _habits(torch.from_numpy(np.load(take)).float(), 25.0, None)
        print(f"| {take.stem} | {' | '.join(f'{v:.3g}' for v in found)} |")


def _habits(wrists: Float[Tensor, "f 2 3"], fps: float, head: Tensor | None) -> list[float]:
    speed = wrists.diff(dim=0).norm(dim=-1) * fps
    beats = sum(len(b) for b in motion_beats(wrists)) / 2 / (len(wrists) / fps)
    turn = 0.0 if head is None else head[:, :3].diff(dim=0).norm(dim=-1).mean().rad2deg() * fps
    return [
        float(speed.mean()), float(wrists.diff(n=3, dim=0).norm(dim=-1).mean() * fps**3), beats,
        float(wrists.std(0).norm(dim=-1).mean()), float(wrists[..., 1].mean()),
        float((speed.mean(1) < _REST_M_PER_S).float().mean()), float(turn),
    ]  # fmt: skip


if __name__ == "__main__":
    main()
