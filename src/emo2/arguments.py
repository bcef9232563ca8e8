"""What the command's arguments may be: each check says what was found and what was expected."""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import Any

BAD_INPUT = 2


class Parser(argparse.ArgumentParser):
    """argparse with our form of error: one sentence, code 2."""

    def error(self, message: str) -> Any:  # noqa: ANN401 - does not return
        self.exit(BAD_INPUT, f"emo2: {message}; `{self.prog} --help` shows how\n")


def size(text: str) -> tuple[int, int]:
    """HxW, as (height, width)."""
    match = re.fullmatch(r"(\d+)[xX](\d+)", text)
    if match is None or not all(32 <= int(n) <= 4096 for n in match.groups()):
        raise argparse.ArgumentTypeError(
            f"found {text!r}, expected HEIGHTxWIDTH in pixels, each from 32 to 4096, such as 512x384"
        )
    return int(match[1]), int(match[2])


def positive(text: str) -> float:
    """A number above 0, at most 4."""
    return _number(text, low=0.05, high=4.0)


def amount(text: str) -> float:
    """A number from 0 to 4."""
    return _number(text, low=0.0, high=4.0)


def share(text: str) -> float:
    """A number from 0 to 1."""
    return _number(text, low=0.0, high=1.0)


def rate(text: str) -> float:
    """A number above 0, at most 0.1."""
    return _number(text, low=1e-8, high=0.1)


def _number(text: str, *, low: float, high: float) -> float:
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not low <= value <= high:
        raise argparse.ArgumentTypeError(
            f"found {text!r}, expected a number from {low:g} to {high:g}"
        )
    return value


SHARD_LABELS = ("depth", "normals", "segments", "gaze", "phases")
"""What the studio's shards hold only where it is asked for."""


def label_names(text: str) -> tuple[str, ...]:
    """Names of `SHARD_LABELS` with commas between."""
    names = tuple(name.strip() for name in text.split(",") if name.strip())
    for name in names:
        if name not in SHARD_LABELS:
            raise argparse.ArgumentTypeError(f"{name!r} is none of {', '.join(SHARD_LABELS)}")
    return names


def whole(text: str) -> int:
    """A whole number, 0 or more."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"found {text!r}, expected a whole number, 0 or more")
    return int(text)


def count(text: str) -> int:
    """A whole number, 1 or more."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"found {text!r}, expected a whole number, 1 or more")
    return int(text)


def few(text: str) -> int:
    """A whole number from 1 to 100."""
    if not text.isdecimal() or not 1 <= int(text) <= 100:
        raise argparse.ArgumentTypeError(f"found {text!r}, expected a whole number from 1 to 100")
    return int(text)


DTYPES = ("float32", "bfloat16", "float16")
PARTS = ("motion", "video", "finder")
VIDEO_PARTS = ("own", "basis", "painter", "details", "denoiser", "arms", "cutter")
"""Parts of video (stage 2), each of which can be trained alone."""
RECIPES = ("emo-image", "emo-video", "emo-speed", "emo2-image", "emo2-video")
"""What `emo2 train` trains: parts of compact, and recipes for full (`recipes.py`)."""


def latent_flags(group: argparse._ArgumentGroup) -> None:
    """What presets over Stable Diffusion's latents understand besides (docs/full.md)."""
    add = group.add_argument
    add("--guidance", type=amount, metavar="X", help="scale; 1: none, at half the cost")
    add("--solver", choices=("ddim", "unipc", "lcm", "tcd"), default="ddim", help="sampler")
    add("--lora", type=Path, metavar="FILE", help="low-rank weights, such as LCM's or TCD's")
    add("--face-embedding", type=Path, metavar="FILE", help="InsightFace's 512 numbers (hallo)")
    add("--tiny-decoder", action="store_true", help="decode by TAESD: quick, a little softer")
    add("--dtype", choices=DTYPES, help="of the networks; default: bfloat16 on cuda, else float32")
    add("--offload", choices=("parts", "layers"), default="none", help="for small cards")
    add("--compile", action="store_true", help="torch.compile for the denoiser")
    add("--overlap", type=whole, metavar="N", help="frames that neighbouring windows share")
    add("--shift", type=whole, metavar="N", help="frames by which windows move at each step")
    add("--beyond", choices=("wrap", "mirror", "clean"), help="windows at the film's end")


def bench_flags(parser: argparse.ArgumentParser) -> None:
    """What `emo2 bench` times."""
    add = parser.add_argument
    add("--preset", default="echomimic-v2", help="one over Stable Diffusion's latents")
    add("--size", type=size, default=(512, 512), metavar="HxW", help="of the film")
    add("--steps", type=count, metavar="N", help="diffusion steps; default: the preset's")
    add("--guidance", type=amount, metavar="X", help="scale; 1: one evaluation a step")
    add("--width", type=count, metavar="N", help="a smaller network of the same structure")
    add("--device", default="cpu", metavar="D", help="cpu or cuda")
    add("--dtype", choices=DTYPES, help="default: bfloat16 on cuda, else float32")
    add("--compile", action="store_true", help="torch.compile for the denoiser")
    add("--tiny-decoder", action="store_true", help="decode by a network of TAESD's shape")
    add("--no-reuse", action="store_true", help="the structure of the originals, for comparison")


def studio_flags(parser: argparse.ArgumentParser) -> None:
    """What `emo2 studio` films."""
    add = parser.add_argument
    add("output", type=Path, metavar="DIR", help="folder for the shards")
    add("--view", choices=("face", "body"), default="face", help="what the camera frames")
    add(
        "--kind", choices=("poses", "takes"), default="poses", help="single frames, or speech takes"
    )
    add("--start", type=whole, default=0, metavar="N", help="first seed: workers share by ranges")
    add("--people", type=count, default=64, metavar="N", help="how many people")
    add("--held-out", action="store_true", help="people for tests: seeds from 900000 + N on")
    add(
        "--assets",
        type=Path,
        metavar="DIR",
        help="MakeHuman skins, hair, clothes; none: plain bodies",
    )
    add("--voices", type=Path, metavar="DIR", help="real speech to align and perform")
    add("--labels", type=label_names, default=(), metavar="A,B",
        help=f"more labels: {', '.join(SHARD_LABELS)} (phases: takes only)")  # fmt: skip


def convert_flags(parser: argparse.ArgumentParser) -> None:
    """What `emo2 convert` understands."""
    add = parser.add_argument
    add(
        "source", type=Path, nargs="?", metavar="SOURCE", help="folder of a family's files, or file"
    )
    add("-o", "--output", type=Path, metavar="FILE", help="file to write (with --to: a folder)")
    add("--family", default="", metavar="NAME", help="which family; default: found by the keys")
    add("--variant", default="", metavar="V", help="files with this ending: acc, pose, pose_acc")
    add("--to", default="", metavar="NAME", help="write a file of ours as this family's files")
    add("--verify", type=Path, metavar="DIR", help="run every golden vector of a folder")
