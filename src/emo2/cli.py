"""The command `emo2`: parses, calls, shows progress, and turns mistakes into one sentence and exit code 2.

Nothing heavy is imported before a command needs it, so `emo2 --help` is instant.  This is the only module
that prints, with `progress.py`.
"""

from __future__ import annotations

import argparse
import errno
import json
import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from emo2.arguments import (
    BAD_INPUT,
    PARTS,
    RECIPES,
    VIDEO_PARTS,
    Parser,
    amount,
    bench_flags,
    convert_flags,
    count,
    few,
    latent_flags,
    positive,
    rate,
    share,
    size,
    studio_flags,
    whole,
)
from emo2.data.flags import data_flags
from emo2.errors import UserError
from emo2.evaluate import compare_flags, evaluate_flags
from emo2.progress import show, show_facts

FAILED = 1
STOPPED = 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    parsed = build_parser().parse_args(arguments)
    logging.basicConfig(
        level=logging.ERROR if parsed.quiet else logging.WARNING,
        format="%(levelname)s: %(message)s",
    )
    try:
        return int(parsed.run(parsed) or 0)
    except KeyboardInterrupt:
        return _fail(parsed, "stopped; the same command goes on where this one ended", STOPPED)
    except Exception as error:
        if parsed.debug:
            raise
        sentence = _sentence(error)
        if sentence is not None:
            return _fail(parsed, sentence, BAD_INPUT)
        kind = type(error).__name__
        return _fail(parsed, f"a fault of ours ({kind}: {error}); --debug shows where", FAILED)


def _sentence(error: Exception) -> str | None:
    """What the user can mend, in one line; None for our own faults."""
    if isinstance(error, UserError):
        return " ".join(str(error).split())
    if isinstance(error, OSError) and error.errno in _OS_SENTENCES:
        name = error.filename or "the output"
        return _OS_SENTENCES[error.errno].format(name=name)
    if isinstance(error, FileNotFoundError):
        return " ".join(str(error).split())
    return None


_OS_SENTENCES = {
    errno.ENOENT: "{name} does not exist; check the path",
    errno.EACCES: "{name} may not be read or written by you; mend its permissions or give another path",
    errno.EROFS: "{name} is on a read-only disk; give another path",
    errno.EISDIR: "{name} is a folder; give a file",
    errno.ENOTDIR: "{name} is not a folder; check the path",
    errno.ENOSPC: "the disk is full (writing {name}); free some space and run the same command again",
    errno.EFBIG: "{name} grew larger than a file may be here; lift the limit (ulimit -f) or give another disk",
    errno.EDQUOT: "your disk quota is used up (writing {name}); free some space and run it again",
}


def _fail(parsed: argparse.Namespace, sentence: str, code: int) -> int:
    if getattr(parsed, "json", False):
        print(json.dumps({"event": "error", "message": sentence, "code": code}), flush=True)
    if sys.stderr.isatty():
        sys.stderr.write("\r\x1b[K")
    print(f"emo2: {sentence}", file=sys.stderr)
    return code


# ---------------------------------------------------------------------------------------- arguments


def build_parser() -> argparse.ArgumentParser:
    """All commands and flags."""
    common = Parser(add_help=False)
    common.add_argument("--quiet", action="store_true", help="say nothing but errors")
    common.add_argument("--json", action="store_true", help="one JSON event a line, for machines")
    common.add_argument("--debug", action="store_true", help="show the traceback of an error")
    parser = Parser(prog="emo2", description="A photo and a voice become a film.")
    from emo2 import __version__

    parser.add_argument("--version", action="version", version=f"emo2 {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def command(name: str, run: Any, text: str) -> argparse.ArgumentParser:  # noqa: ANN401
        made = commands.add_parser(name, parents=[common], help=text, description=text + ".")
        made.set_defaults(run=run)
        return made

    _generate_flags(command("generate", run_generate, "make a film from a photo and a voice"))
    _motion_flags(command("motion", run_motion, "make only the hand motion, as a file to edit"))
    check = command(
        "check", run_check, "tell what is found in a photo and a voice, and what is wrong"
    )
    check.add_argument("photo", type=Path, metavar="PHOTO")
    check.add_argument("voice", type=Path, metavar="VOICE", nargs="?")
    check.add_argument("--preset", default="compact", help="whose portrait finder looks")
    doctor = command(
        "doctor", run_doctor, "tell about this machine: versions, presets, expected speed"
    )
    bench_flags(command("bench", run_bench, "time stage 2 over latents against the ceiling"))
    doctor.add_argument("--no-speed", action="store_true", help="skip the measurement of speed")
    _download_flags(
        command(
            "download", run_download, "fetch other people's weights, or take them from a folder"
        )
    )
    studio_flags(command("studio", run_studio, "render people who speak, with exact labels"))
    convert_flags(command("convert", run_convert, "public weights to one file of ours, and back"))
    data_flags(command("data", run_data, "prepare real films to train on"))
    _train_flags(command("train", run_train, "train a part on the studio's shards"))
    evaluate_flags(command("evaluate", run_evaluate, "measure motions or films as the field does"))
    compare_flags(command("compare", run_compare, "measure several systems side by side"))
    return parser


def _voice_flags(parser: argparse.ArgumentParser) -> None:
    """What stage 1 is told, in `generate` and `motion`."""
    parser.add_argument(
        "--preset",
        default="compact",
        help="compact, the name of a public one, a converted file, or a folder",
    )
    parser.add_argument(
        "--seed", type=whole, default=0, metavar="N", help="another number, another film"
    )
    parser.add_argument(
        "--style",
        metavar="S",
        help="neutral, calm, lively, presenter, storyteller, shy, emphatic, singer, sign-like",
    )
    parser.add_argument(
        "--emotion",
        metavar="E",
        help="joy, anger, sadness, surprise, contempt; how strong: joy:0.5, up to 1.5",
    )
    parser.add_argument(
        "--speed", type=positive, default=1.0, metavar="X", help="pace of the hands"
    )
    parser.add_argument(
        "--amplitude", type=amount, default=1.0, metavar="X", help="size of the moves"
    )


def _generate_flags(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("photo", type=Path, metavar="PHOTO", help="a picture of a person")
    add("voice", type=Path, metavar="VOICE", help="a sound file, or a film with sound")
    add("-o", "--output", type=Path, required=True, metavar="FILM", help="the .mp4 to write")
    _voice_flags(parser)
    add("--motion", type=Path, metavar="FILE", help="move by this motion file, not by stage 1")
    add("--save-motion", type=Path, metavar="FILE", help="write the motion that was used")
    add("--size", type=size, metavar="HxW", help="the film's size; default: the photo's")
    add("--face", type=whole, metavar="INDEX", help="which face; default: the largest (0)")
    add("--device", default="cpu", metavar="D", help="cpu, cuda, or several: cuda:0,cuda:1")
    add("--steps", type=count, metavar="N", help="diffusion steps of stage 2")
    add("--keep-frames", type=Path, metavar="DIR", help="also write every frame as PNG")
    add("--no-resume", action="store_true", help="start anew, even where a killed run left clips")
    latent_flags(parser.add_argument_group("presets over Stable Diffusion's latents"))


def _motion_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("voice", type=Path, metavar="VOICE")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="FILE", help="the .npz")
    _voice_flags(parser)
    parser.add_argument(
        "--preview", type=Path, metavar="FILM", help="both hands as an .mp4 with sound"
    )


def _download_flags(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("name", metavar="NAME", help="such as vae, wav2vec2, whisper, hallo, echomimic-v2")
    add(
        "--from",
        type=Path,
        metavar="DIR",
        help="take the files from this folder: no network",
        dest="local",
    )
    add("-o", "--output", type=Path, metavar="DIR",
        help="folder to put them into; default: NAME in $EMO2_CACHE, or in ~/.cache/emo2")  # fmt: skip
    add("--yes", action="store_true", help="agree to the licence without being asked")


def _train_flags(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("part", choices=(*PARTS, *RECIPES), help="a part of compact, or a recipe for full")
    add("--start", "--from", dest="start", metavar="WEIGHTS",
        help="weights to begin with: a file, a folder of them, a preset")  # fmt: skip
    add("--only", choices=VIDEO_PARTS, help="of video, this part alone; the rest stays as it is")
    add("--distil", type=few, default=0, metavar="N",
        help="teach a student to sample in N steps, guidance inside; --from is the teacher")  # fmt: skip
    add("--data", type=Path, nargs="+", metavar="DIR", help="shards: the studio's, real film's")
    add("--real-share", type=share, metavar="X", help="of what is drawn: from real film")
    add("--out", type=Path, required=True, metavar="DIR", help="checkpoints, previews, curves")
    add("--steps", type=count, default=10_000, metavar="N", help="optimiser steps")
    add("--batch", type=count, metavar="N", help="items a step; default: what is trained says")
    add("--rate", type=rate, metavar="X", help="AdamW's; default: what is trained says")
    add("--device", default="cpu", metavar="D", help="cpu or cuda")
    add("--seed", type=whole, default=0, metavar="N", help="order, noise, first weights")
    add("--resume", action="store_true", help="go on at the last checkpoint in --out")


# ----------------------------------------------------------------------------------------- commands


def run_generate(parsed: argparse.Namespace) -> int:
    """A photo and a voice become a film."""
    from emo2.generate import Job, generate
    from emo2.video.latent_load import setup_of

    fields = ("photo", "voice", "output", "preset", "seed", "style", "emotion", "speed", "amplitude",
              "motion", "save_motion", "size", "face", "device", "steps", "keep_frames")  # fmt: skip
    wishes = {name: getattr(parsed, name) for name in fields}
    job = Job(**wishes, resume=not parsed.no_resume, setup=setup_of(vars(parsed)))
    show(generate(job), parsed)
    return 0


def run_motion(parsed: argparse.Namespace) -> int:
    """A voice becomes a motion file."""
    from emo2.generate import MotionJob, make_motion

    fields = ("voice", "output", "preset", "seed", "style", "emotion", "speed", "amplitude",
              "preview")  # fmt: skip
    show(make_motion(MotionJob(**{name: getattr(parsed, name) for name in fields})), parsed)
    return 0


def run_check(parsed: argparse.Namespace) -> int:
    """Say what is found and what is wrong; 0 where a film can be made, else 2."""
    from emo2.check import check

    report = check(parsed.photo, parsed.voice, preset=parsed.preset)
    if parsed.json:
        print(json.dumps({"event": "check", "ok": report.is_usable, **report.facts}))
    elif not parsed.quiet:
        print("\n".join(report.lines))
    return 0 if report.is_usable else BAD_INPUT


def run_doctor(parsed: argparse.Namespace) -> int:
    """Say what this machine is and what to expect of it."""
    from emo2.doctor import examine

    return show_facts(parsed, "doctor", examine(measure=not parsed.no_speed))


def run_bench(parsed: argparse.Namespace) -> int:
    """Time stage 2 over latents against this machine's ceiling."""
    from emo2.bench import bench, trial_of

    return show_facts(parsed, "bench", bench(trial_of(vars(parsed))))


def run_download(parsed: argparse.Namespace) -> int:
    """Show what is fetched and under which licence, ask, fetch."""
    from emo2 import download

    plan = download.plan(parsed.name, output=parsed.output, local=parsed.local)
    if parsed.json:
        print(json.dumps({"event": "plan", "text": "\n".join(plan.lines)}), flush=True)
    elif not parsed.quiet:
        print("\n".join(plan.lines), flush=True)
    if not parsed.yes:
        if not sys.stdin.isatty():
            raise UserError(f"{plan.name} is fetched when you agree to its licence; add --yes")
        if input("Fetch it under this licence? [y/N] ").strip().lower() not in ("y", "yes"):
            raise UserError("nothing was fetched: the licence was not agreed to")
    has_bars = sys.stderr.isatty() and not parsed.json and not parsed.quiet
    show(download.fetch(plan, bars=has_bars), parsed)
    return 0


def run_studio(parsed: argparse.Namespace) -> int:
    """Render shards."""
    from emo2.studio.make import FIRST_TEST_SEED, make_shards

    first = parsed.start + (FIRST_TEST_SEED if parsed.held_out else 0)
    made = make_shards(
        parsed.output,
        view=parsed.view,
        kind=parsed.kind,
        seeds=range(first, first + parsed.people),
        assets=parsed.assets,
        voices=parsed.voices,
        labels=parsed.labels,
    )
    for path in made:
        if not parsed.quiet:
            print(path, flush=True)
    return 0


def run_convert(parsed: argparse.Namespace) -> int:
    """Public weights to ours, ours to public ones, or golden vectors."""
    if parsed.verify:
        return _verify(parsed)
    if parsed.source is None or parsed.output is None:
        raise UserError("give SOURCE and -o FILE, or --verify DIR; `emo2 convert --help` shows how")
    from emo2.convert import families

    if parsed.to:
        made = families.convert_back(parsed.source, parsed.to, parsed.output)
        text = ", ".join(str(path) for path in made)
    else:
        found = families.convert(
            parsed.source, parsed.output, family=parsed.family, variant=parsed.variant
        )
        text = f"{parsed.output}  {families.describe(found)}"
    if parsed.json:
        print(json.dumps({"event": "done", "text": text}))
    elif not parsed.quiet:
        print(text)
    return 0


def _verify(parsed: argparse.Namespace) -> int:
    """Golden vectors against ours: a line a site, and the files that are none we know."""
    from emo2.convert.verify import report

    verdicts: list[bool] = []
    for found in report(parsed.verify):
        verdicts += found.verdicts
        if parsed.json:
            print(json.dumps(found.facts()), flush=True)
        elif not parsed.quiet or not all(found.verdicts):
            print(found.line(), flush=True)
    if not parsed.quiet and not parsed.json:
        print(f"{sum(verdicts)} of {len(verdicts)} pass")
    return 0 if all(verdicts) else FAILED


def run_data(parsed: argparse.Namespace) -> int:
    """Real films become a training set."""
    from emo2.data.flags import run_data as run

    show(run(parsed), parsed)
    return 0


def run_train(parsed: argparse.Namespace) -> int:
    """Train a part."""
    from emo2.recipes import train_by

    for step in train_by(vars(parsed)):
        if not parsed.quiet and (step.index % 50 == 0 or step.index == parsed.steps):
            print(f"step {step.index}  loss {step.loss:.4f}", flush=True)
    return 0


def run_compare(parsed: argparse.Namespace) -> int:
    """Measure several systems, and write tables and films."""
    from emo2.evaluate import run_compare as run

    show(run(parsed), parsed)
    return 0


def run_evaluate(parsed: argparse.Namespace) -> int:
    """Measure, and write a report."""
    from emo2.evaluate import run_evaluate as run

    show(run(parsed), parsed)
    return 0


if __name__ == "__main__":
    sys.exit(main())
