"""Seconds of work per second of film, peak memory over the voice's length, load time, time to the first clip.

    python benchmarks/speed.py                                  the demo's photo, 10 s of voice
    python benchmarks/speed.py PHOTO --size 512x384 --seconds 10 60 600

Every row is a process of its own (peak memory is the process's), one film a row; voices longer than the given one
repeat it.  The table says machine, threads and version, so that it can be pasted into docs/results.md.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
import wave
from itertools import chain
from pathlib import Path

DEMO = Path(__file__).parent.parent / "src" / "emo2" / "assets" / "demo"


def main() -> None:
    """Measure, and print a table in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("photo", type=Path, nargs="?", default=DEMO / "photo.jpg")
    parser.add_argument("--voice", type=Path, default=DEMO / "voice.flac")
    parser.add_argument(
        "--size", default=None, help="HEIGHTxWIDTH; the photo's own where not given"
    )
    parser.add_argument("--seconds", type=float, nargs="+", default=[10.0])
    parser.add_argument("--row", default=None, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.row is not None:
        print(json.dumps(measure(**json.loads(args.row))))
        return
    print(f"{machine()}\n")
    print("| photo | size | voice s | load s | first clip s | work s per film s | peak MB |")
    print("|---|---|--:|--:|--:|--:|--:|")
    with tempfile.TemporaryDirectory() as folder:
        for seconds in args.seconds:
            voice = Path(folder) / f"{seconds:g}.wav"
            write_voice(args.voice, voice, seconds)
            wishes = {"photo": str(args.photo), "voice": str(voice), "size": args.size}
            result = in_a_process({**wishes, "output": str(Path(folder) / "film.mp4")})
            print(
                f"| {args.photo.name} | {result['size']} | {seconds:g} | {result['load_s']:.1f} "
                f"| {result['first_s']:.1f} | {result['work_s'] / seconds:.2f} | {result['peak_mb']:.0f} |",
                flush=True,
            )


def machine() -> str:
    """What the numbers were measured on."""
    import torch

    import emo2

    cores = len(os.sched_getaffinity(0))
    return (
        f"emo2 {emo2.__version__}, torch {torch.__version__}, {torch.get_num_threads()} threads, "
        f"{cores} cores ({platform.machine()}), {time.strftime('%Y-%m-%d')}; `python {' '.join(sys.argv)}`"
    )


def in_a_process(wishes: dict[str, str | None]) -> dict[str, float]:
    """`measure` in a fresh process."""
    command = [sys.executable, __file__, "--row", json.dumps(wishes)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"the film could not be made:\n{done.stderr.strip()[-2000:]}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def measure(photo: str, voice: str, size: str | None, output: str) -> dict[str, float | str]:
    """Make one film; times in seconds from the start of `generate`."""
    begin = time.perf_counter()
    from emo2 import pipeline
    from emo2.generate import Job, generate

    pipeline.load("compact")
    load_s = time.perf_counter() - begin
    pair = None if size is None else tuple(int(n) for n in size.lower().split("x"))
    job = Job(photo=Path(photo), voice=Path(voice), output=Path(output), size=pair, resume=False)
    begin, first_s = time.perf_counter(), 0.0
    for event in generate(job):
        if not first_s and event.stage == "film" and event.done:
            first_s = time.perf_counter() - begin
    work_s = time.perf_counter() - begin
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    made = film_size(Path(output))
    return {"load_s": load_s, "first_s": first_s, "work_s": work_s, "peak_mb": peak, "size": made}


def film_size(path: Path) -> str:
    """Height x width of a film."""
    import av

    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        return f"{stream.height}x{stream.width}"


def write_voice(source: Path, target: Path, seconds: float) -> None:
    """The voice, repeated or cut to a length, as 16-bit wav."""
    from emo2 import media

    speech = media.read_voice(source)
    wanted = round(seconds * speech.sample_rate)
    rounds = -(-wanted // speech.num_samples)
    with wave.open(str(target), "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(speech.sample_rate)
        for block in chain.from_iterable(speech.voice.blocks(65536) for _ in range(rounds)):
            take = block[: max(wanted, 0)]
            wanted -= len(take)
            out.writeframes((take.clamp(-1, 1) * 32767).short().numpy().tobytes())


if __name__ == "__main__":
    main()
