"""Do films from a real film's first frame and voice open the mouth as the real film does.

    python benchmarks/real_mouths.py OUT CLIP ... --every 7 --after 3                 GRID: each seventh from the fourth
    python benchmarks/real_mouths.py OUT CLIP ... --seconds 10 --size 768x432         half bodies

Of every clip two films are made from its first frame: with its own voice, and with the voice of the next clip (the
control).  Both are held against the real film by two measures: the finder's points (lower lip below the nose) and
optical flow (chin below the nose, no network).  "Shifted" turns the real mouth round in time.  The real film's own
mouth against its own voice says how far the measure itself sees.  Intervals: 95 %, bootstrap over clips.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass, fields
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from emo2 import arguments, media, pipeline
from emo2.generate import Job, generate
from emo2.media.watch import film_facts, read_frames
from emo2.metrics import mouth_opening, voice_envelope
from emo2.metrics.face_signals import lower_lip, quick
from emo2.metrics.figures import bootstrap_mean
from emo2.metrics.film_reading import FPS
from emo2.metrics.lips import LAGS, by_lag, common_lag, near_correlation, shifted_correlation
from emo2.portrait.follow import FaceFollower
from emo2.portrait.stage import PortraitFinder

from performances import keep_voice  # isort: skip - the folder of benchmarks is on the path

_RATE = 16_000
WAYS = ("points", "flow")


@dataclass(frozen=True, kw_only=True)
class Row:
    """One clip's correlations by one measure."""

    own: float
    other: float
    shifted: float
    own_quick: float
    other_quick: float
    shifted_quick: float
    made_voice_quick: float
    real_voice_quick: float
    real_voice_other_quick: float


@dataclass(frozen=True, kw_only=True)
class Clip:
    """A clip's voice and its mouth by both measures, in the real film and in the two made ones."""

    name: str
    voice: Float[Tensor, " frames"]
    real: dict[str, Tensor]
    made: dict[str, Tensor]
    other: dict[str, Tensor]


def main() -> None:
    """Make the films, measure, and print tables in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("output", type=Path)
    parser.add_argument("clips", type=Path, nargs="+")
    parser.add_argument("--preset", default="compact")
    parser.add_argument("--every", type=int, default=1, help="of the clips in order of names")
    parser.add_argument("--after", type=int, default=0, help="how many are passed over at first")
    parser.add_argument("--seconds", type=float, default=60.0, help="at most, from the beginning")
    parser.add_argument("--size", type=arguments.size, help="of films and photos; else the clip's")
    parser.add_argument("--again", action="store_true", help="measure films that are there")
    args = parser.parse_args()
    clips = sorted(args.clips)[args.after :: args.every]
    for name in ("photos", "voices", "made", "other", "signals"):
        (args.output / name).mkdir(parents=True, exist_ok=True)
    for clip in clips:
        cut(clip, args.output, args.seconds, args.size)
    finder = pipeline.load(args.preset).finder
    found = []
    for place, clip in enumerate(clips):
        voices = {"made": clip.stem, "other": clips[(place + 1) % len(clips)].stem}
        for folder, voice in voices.items():
            if not args.again:
                make(args.output, clip.stem, voice, folder, args.preset)
        found.append(read(args.output, clip, finder, args.seconds, args.size))
    report(found)


def cut(clip: Path, output: Path, seconds: float, size: tuple[int, int] | None) -> None:
    """The clip's first frame as a picture, and its voice."""
    frame = next(read_frames(clip, size=size))
    pixels = ((frame + 1) * 127.5).round().byte().permute(1, 2, 0).numpy()
    Image.fromarray(pixels).save(output / "photos" / f"{clip.stem}.png")
    speech = media.read_voice(clip, sample_rate=_RATE)
    samples = torch.cat(list(speech.voice.blocks(65536)))[: round(seconds * _RATE)]
    keep_voice(output / "voices" / f"{clip.stem}.wav", samples.numpy(), _RATE)


def make(output: Path, photo: str, voice: str, folder: str, preset: str) -> None:
    """One film."""
    job = Job(
        photo=output / "photos" / f"{photo}.png",
        voice=output / "voices" / f"{voice}.wav",
        output=output / folder / f"{photo}.mp4",
        preset=preset,
        resume=False,
    )
    for _event in generate(job):
        pass


def read(
    output: Path, clip: Path, finder: PortraitFinder, seconds: float, size: tuple[int, int] | None
) -> Clip:
    """All mouths of a clip; they are kept in `signals`."""
    films = {
        "real": clip,
        "made": output / "made" / f"{clip.stem}.mp4",
        "other": output / "other" / f"{clip.stem}.mp4",
    }
    size = size or film_facts(clip).size
    seen = {name: signals(path, finder, seconds, size) for name, path in films.items()}
    count = min(len(s["points"]) for s in seen.values())
    speech = media.read_voice(output / "voices" / f"{clip.stem}.wav", sample_rate=_RATE)
    samples = torch.cat(list(speech.voice.blocks(65536)))
    voice = voice_envelope(samples, _RATE, FPS, count)
    rows = {f"{n}_{w}": s[w][:count].numpy() for n, s in seen.items() for w in (*WAYS, "face")}
    np.savez(output / "signals" / f"{clip.stem}.npz", voice=voice.numpy(), **rows)
    mouths = {n: {w: s[w][:count] for w in WAYS} for n, s in seen.items()}
    return Clip(name=clip.stem, voice=voice, **mouths)


def signals(
    film: Path, finder: PortraitFinder, seconds: float, size: tuple[int, int]
) -> dict[str, Tensor]:
    """The mouth by points and by flow, and the face's points; a lost face keeps its last place."""
    follower, points = FaceFollower(finder), []
    for frame in frames(film, seconds, size):
        seen = follower.see(frame)
        if seen is None and not points:
            raise SystemExit(f"{film}: no face in the first frame")
        points.append(points[-1] if seen is None else seen)
    face = torch.stack(points)
    photo = next(frames(film, seconds, size))
    flow = mouth_opening(frames(film, seconds, size), photo, face[0])
    return {"points": lower_lip(face), "flow": flow, "face": face}


def frames(film: Path, seconds: float, size: tuple[int, int]) -> Iterator[Tensor]:
    """Frames at 25 a second."""
    return islice(read_frames(film, fps=FPS, size=size), round(seconds * FPS))


def report(clips: list[Clip]) -> None:
    """Tables: means with intervals, and clip by clip."""
    for way in WAYS:
        rows = [row(clip, clips[(i + 1) % len(clips)], way) for i, clip in enumerate(clips)]
        print(f"\n| by {way}, {len(clips)} clips | own voice | another's | shifted | own - another's |")  # fmt: skip
        print("|---|--:|--:|--:|--:|")
        for name, end in (("mouth, made against real", ""), ("the same, quick", "_quick")):
            own, other, shifted = (
                np.array([getattr(r, f"{w}{end}") for r in rows])
                for w in ("own", "other", "shifted")
            )
            print(f"| {name} | {said(own)} | {said(other)} | {said(shifted)} | {said(own - other)} |")  # fmt: skip
        made = np.array([r.made_voice_quick for r in rows])
        real = np.array([r.real_voice_quick for r in rows])
        wrong = np.array([r.real_voice_other_quick for r in rows])
        print(f"| made mouth against the voice, quick | {said(made)} | | | |")
        print(f"| real mouth against the voice, quick | {said(real)} | {said(wrong)} | | {said(real - wrong)} |")  # fmt: skip
        curves = [by_lag(quick(c.made[way], FPS), quick(c.real[way], FPS), LAGS) for c in clips]
        near = sum(abs(int(c.argmax()) - LAGS) <= 1 for c in curves)
        print(f"\nLag of the made mouth behind the real one: {common_lag(curves):.2f} frames; {near} of {len(clips)} clips within 1.\n")  # fmt: skip
        names = [f.name.replace("_", " ") for f in fields(Row)]
        print(f"| {way} | {' | '.join(names)} |\n|---|" + "--:|" * len(names))
        for clip, values in zip(clips, rows, strict=True):
            shown = " | ".join(f"{getattr(values, f.name):.2f}" for f in fields(Row))
            print(f"| {clip.name} | {shown} |")


def row(clip: Clip, following: Clip, way: str) -> Row:
    """Correlations of one clip."""
    real, made, other = (mouth[way] for mouth in (clip.real, clip.made, clip.other))
    quick_real, quick_made, quick_other = (quick(m, FPS) for m in (real, made, other))
    voice, wrong = quick(clip.voice, FPS), quick(following.voice, FPS)
    return Row(
        own=near_correlation(made, real),
        other=near_correlation(other, real),
        shifted=shifted_correlation(made, real),
        own_quick=near_correlation(quick_made, quick_real),
        other_quick=near_correlation(quick_other, quick_real),
        shifted_quick=shifted_correlation(quick_made, quick_real),
        made_voice_quick=near_correlation(quick_made, voice),
        real_voice_quick=near_correlation(quick_real, voice),
        real_voice_other_quick=near_correlation(quick_real, wrong),
    )


def said(values: Float[np.ndarray, " clips"]) -> str:
    """A mean with its interval."""
    spread = bootstrap_mean(values)
    between = "" if spread is None else f" ({spread[0]:.2f} to {spread[1]:.2f})"
    return f"{values.mean():.3f}{between}"


if __name__ == "__main__":
    main()
