"""Does the mouth follow the voice: opening measured from a film's frames against the voice's energy.

    python benchmarks/lips.py                       makes the demo's film and measures it
    python benchmarks/lips.py PHOTO VOICE FILM ...  films that were made already, three paths each

Pearson correlation at the best lag within two frames, next to the same with shifted voices (mean and 95th percentile).
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import av
import torch

from emo2 import media, pipeline
from emo2.framing import reframe
from emo2.generate import Job, generate
from emo2.metrics import lip_sync, mouth_opening, voice_envelope
from emo2.portrait import find

DEMO = Path(__file__).parent.parent / "src" / "emo2" / "assets" / "demo"


def main() -> None:
    """Measure, and print a table in Markdown."""
    paths = [Path(p) for p in sys.argv[1:]]
    if len(paths) % 3:
        raise SystemExit("give PHOTO VOICE FILM, three paths a film, or nothing for the demo")
    print(f"torch {torch.__version__}; `python {' '.join(sys.argv)}`\n")
    print("| film | frames | correlation | lag | shifted voice, mean | shifted voice, 95 % |")
    print("|---|--:|--:|--:|--:|--:|")
    if paths:
        for i in range(0, len(paths), 3):
            row(*paths[i : i + 3])
        return
    with tempfile.TemporaryDirectory() as folder:
        film = Path(folder) / "demo.mp4"
        photo, voice = DEMO / "photo.jpg", DEMO / "voice.flac"
        for _event in generate(Job(photo=photo, voice=voice, output=film)):
            pass
        row(photo, voice, film)


def row(photo: Path, voice: Path, film: Path) -> None:
    """One film's line."""
    fps, size = facts(film)
    finder = pipeline.load("compact").finder
    portrait = reframe(find(media.read_photo(photo), finder), size, max(size))
    opening = mouth_opening(frames(film), portrait.image, portrait.face_points)
    speech = media.read_voice(voice)
    samples = torch.cat(list(speech.voice.blocks(65536)))
    envelope = voice_envelope(samples, speech.sample_rate, fps, len(opening))
    result = lip_sync(opening, envelope)
    print(
        f"| {film.name} | {len(opening)} | {result.correlation:.2f} | {result.lag:+d} "
        f"| {result.shuffled:.2f} | {result.shuffled_high:.2f} |",
        flush=True,
    )


def facts(film: Path) -> tuple[float, tuple[int, int]]:
    """Rate and (height, width) of a film."""
    with av.open(str(film)) as container:
        stream = container.streams.video[0]
        return float(stream.average_rate or 25), (stream.height, stream.width)


def frames(film: Path) -> Iterator[torch.Tensor]:
    """A film's frames, one after the other."""
    with av.open(str(film)) as container:
        for frame in container.decode(video=0):
            pixels = torch.from_numpy(frame.to_ndarray(format="rgb24"))
            yield pixels.permute(2, 0, 1).float() / 127.5 - 1


if __name__ == "__main__":
    main()
