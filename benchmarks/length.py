"""What a film's length costs and changes: peak memory against the shortest, work per second, drift per minute.

    python benchmarks/length.py                                the demo's photo, 10, 60 and 600 s of voice
    python benchmarks/length.py PHOTO --size 256x256 --seconds 10 60

Every film is made in a process of its own (peak memory is the process's), then read back: sharpness and look of its last
fifth against its first (docs/metrics/sharpness_change.md, identity_drift.md), a minute.  Memory is flat when no row's
peak is more than 5 % above the first one's.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from speed import DEMO, in_a_process, machine, write_voice

from emo2 import pipeline
from emo2.metrics.film_reading import FPS, read_film
from emo2.metrics.lasting import Change, identity_change, sharpness_change

FLAT = 1.05


def main() -> None:
    """Measure, and print a table in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("photo", type=Path, nargs="?", default=DEMO / "photo.jpg")
    parser.add_argument("--voice", type=Path, default=DEMO / "voice.flac")
    parser.add_argument("--size", default=None, help="HEIGHTxWIDTH")
    parser.add_argument("--seconds", type=float, nargs="+", default=[10.0, 60.0, 600.0])
    args = parser.parse_args()
    print(f"{machine()}\n")
    print(
        "| photo | size | voice s | work s per film s | peak MB | of the first | flat "
        "| sharpness, factor a minute | identity, delta E a minute |"
    )
    print("|---|---|--:|--:|--:|--:|---|--:|--:|")
    first_mb = 0.0
    with tempfile.TemporaryDirectory() as folder:
        for seconds in args.seconds:
            voice, film = Path(folder) / "voice.wav", Path(folder) / "film.mp4"
            write_voice(args.voice, voice, seconds)
            made = in_a_process(
                {
                    "photo": str(args.photo),
                    "voice": str(voice),
                    "size": args.size,
                    "output": str(film),
                }
            )
            first_mb = first_mb or made["peak_mb"]
            ratio = made["peak_mb"] / first_mb
            sharp, look = drift(film)
            print(
                f"| {args.photo.name} | {made['size']} | {seconds:g} | {made['work_s'] / seconds:.2f} "
                f"| {made['peak_mb']:.0f} | {ratio:.2f} | {'yes' if ratio <= FLAT else 'no'} "
                f"| {said(sharp)} | {said(look)} |",
                flush=True,
            )


def drift(film: Path) -> tuple[Change | None, Change | None]:
    """Change of sharpness and of look over a film."""
    reading = read_film(film, pipeline.load("compact").finder)
    return sharpness_change(reading.sharpness, FPS), identity_change(reading.looks, FPS)


def said(change: Change | None) -> str:
    """A change a minute, and over the film with its control; a dash where no face was seen."""
    if change is None:
        return "–"
    return f"{change.per_minute:.3f} (film {change.value:.3f}, control {change.control:.3f})"


if __name__ == "__main__":
    main()
