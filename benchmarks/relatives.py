"""Time of a denoising step with and without what the originals do not reuse, in our own code, at equal output.

    python benchmarks/relatives.py                      small networks on this CPU
    python benchmarks/relatives.py --compile            ours also through torch.compile, whole
    python benchmarks/relatives.py --widths 320 640 1280 1280 --size 512 --device cuda --dtype bfloat16 --compile

The structure without reuse is the originals': the reference's keys and values projected for every frame and step, both
halves of guidance always, the unconditional half attending to the reference and to silence for nothing.  Runs alternate, medians
are shown; on a CPU the time is the process's own, so that other work on the machine does not count.  The reference network
itself runs once a film in the originals as in ours (once a clip where there are motion frames) and is timed by `emo2 bench`, not
here.  How to time an original itself against ours: benchmarks/relatives.md.
"""

from __future__ import annotations

import argparse
import copy
import platform
import statistics
import time
from collections.abc import Mapping
from dataclasses import replace

import torch

from emo2.presets import PRESETS
from emo2.video.conditions import FrameConditions
from emo2.video.network import VideoNetwork
from emo2.video.placement import Placement


def main() -> None:
    """Measure, and print a table in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--preset", default="echomimic-v2")
    parser.add_argument("--widths", type=int, nargs=4, default=[32, 64, 128, 128])
    parser.add_argument("--size", type=int, default=256, help="pixels a side")
    parser.add_argument("--frames", type=int, default=12)
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--compile", action="store_true", help="ours compiled too, a row each")
    args = parser.parse_args()
    dtype, device = getattr(torch, args.dtype), torch.device(args.device)
    torch.manual_seed(0)
    network = build(args.preset, tuple(args.widths)).to(device, dtype).eval()
    print(
        f"{platform.processor() or platform.machine()}, {torch.get_num_threads()} threads, "
        f"{args.preset}, widths {args.widths}, {args.size} px, {args.frames} frames, {args.dtype}\n"
    )
    print(
        "| ours | guidance | evaluations a step | reuse s | no reuse s | ratio | largest difference |"
    )
    print("|---|--:|--:|--:|--:|--:|--:|")
    compiled = copy.deepcopy(network)
    Placement(devices=(args.device,), compiled=args.compile).compile(compiled.denoiser)
    for ours in (network, compiled) if args.compile else (network,):
        for scale in (2.5, 1.0):
            print(row({True: ours, False: network}, args, scale), flush=True)


def build(preset: str, widths: tuple[int, ...]) -> VideoNetwork:
    """The preset's network at other widths, with random weights that are zero nowhere."""
    video = PRESETS[preset].video
    video = replace(
        video,
        reference=replace(video.reference, widths=widths),
        denoiser=replace(video.denoiser, widths=widths),
    )
    network = VideoNetwork(video).requires_grad_(False)
    for parameter in network.parameters():
        if parameter.dim() > 1:
            parameter.copy_(torch.randn_like(parameter) * (0.7 / parameter[0].numel() ** 0.5))
    return network


@torch.inference_mode()
def row(networks: Mapping[bool, VideoNetwork], args: argparse.Namespace, scale: float) -> str:
    """One line of the table; `networks`: the same with reuse and without, the first perhaps compiled."""
    network = networks[False]
    like = next(network.parameters())
    cells = args.size // 8
    config = network.config.denoiser
    photo = torch.randn(1, 4, cells, cells).to(like)
    noisy = torch.randn(1, args.frames, 4, cells, cells).to(like)
    given = FrameConditions(
        audio=torch.randn(1, args.frames, 50, config.audio_width).to(like),
        maps=torch.rand(1, args.frames, config.guidance_channels, args.size, args.size).to(like),
    )
    step = torch.tensor([500], device=like.device)
    is_guided = scale != 1.0
    ways = {}
    for reuse in (True, False):
        halves = is_guided or not reuse
        look = network.read(photo, guided=halves, reuse=reuse)
        frames = network.halves(given, reuse=reuse) if halves else network.conditions(given)
        ways[reuse] = (look, frames, halves)

    def predict(reuse: bool) -> torch.Tensor:
        look, frames, halves = ways[reuse]
        said = networks[reuse].denoise(noisy, step, look, frames)
        return said[:1] + scale * (said[1:] - said[:1]) if halves else said

    times: dict[bool, list[float]] = {True: [], False: []}
    outputs = {reuse: predict(reuse) for reuse in ways}
    for _ in range(args.runs):
        for reuse in ways:
            times[reuse].append(timed(predict, reuse, like.device))
    fast, slow = (statistics.median(times[reuse]) for reuse in (True, False))
    apart = float((outputs[True] - outputs[False]).abs().max())
    ratio = statistics.median(b / a for a, b in zip(times[True], times[False], strict=True))
    way = "plain" if networks[True] is network else "compiled"
    return (f"| {way} | {scale:g} | {2 if is_guided else 1} and 2 | {fast:.3f} | {slow:.3f} "
            f"| {ratio:.2f} | {apart:.1e} |")  # fmt: skip


def timed(predict, reuse: bool, device: torch.device) -> float:  # noqa: ANN001 - a closure
    """Seconds of one step: the processor's own on a CPU, the clock's on a GPU."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        begun = time.perf_counter()
        predict(reuse)
        torch.cuda.synchronize(device)
        return time.perf_counter() - begun
    begun = time.process_time()
    predict(reuse)
    return time.process_time() - begun


if __name__ == "__main__":
    main()
