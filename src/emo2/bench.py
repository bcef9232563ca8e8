"""`emo2 bench`: how fast stage 2 over Stable Diffusion's latents is here, against the ceiling its own FLOPs set.

The law (design §9): frames/s <= peak / (evaluations x FLOP a frame + FLOP of decoding).  FLOPs are counted on the calls
that are timed; the peak is that of a large matrix product, measured in the same run.  Weights are random: they cost
what real ones cost.
"""

from __future__ import annotations

import platform
import resource
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from emo2.config import VideoConfig
from emo2.errors import UserError
from emo2.pipeline import device_of
from emo2.presets import PRESETS
from emo2.video.conditions import FrameConditions
from emo2.video.network import VideoNetwork
from emo2.video.placement import Placement
from emo2.video.sd_vae import STABLE_DIFFUSION, SdVae, build_vae

_MATRIX = {"cpu": 1024, "cuda": 8192}
"""Side of the matrices whose product says what the machine can do."""


@dataclass(frozen=True, kw_only=True)
class Trial:
    """What to time."""

    preset: str = "echomimic-v2"
    size: tuple[int, int] = (512, 512)
    steps: int | None = None
    guidance: float | None = None
    width: int | None = None
    """Of the first level, for a small network of the same structure; None: the preset's own."""
    tiny_decoder: bool = False
    runs: int = 3
    placement: Placement


def trial_of(words: Mapping[str, Any]) -> Trial:
    """The trial that the command's flags describe."""
    is_cuda = device_of(words["device"]).type == "cuda"
    placement = Placement(
        devices=(words["device"],),
        dtype=getattr(torch, words["dtype"] or ("bfloat16" if is_cuda else "float32")),
        channels_last=is_cuda,
        compiled=words["compile"],
        reuse=not words["no_reuse"],
    )
    names = ("preset", "size", "steps", "guidance", "width", "tiny_decoder")
    return Trial(placement=placement, **{name: words[name] for name in names})


@dataclass(frozen=True, kw_only=True)
class Reading:
    """One stage, timed."""

    seconds: float
    flops: float


def bench(trial: Trial) -> dict[str, str]:
    """Facts by name, in the order to show them."""
    if trial.preset not in PRESETS or PRESETS[trial.preset].video.codec.kind != "sd":
        names = ", ".join(n for n, c in PRESETS.items() if c.video.codec.kind == "sd")
        raise UserError(f"no preset over latents is called {trial.preset!r}; give one of {names}")
    config = _sized(PRESETS[trial.preset].video, trial.width)
    steps = trial.steps or config.steps
    guidance = config.guidance if trial.guidance is None else trial.guidance
    place = trial.placement
    if place.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(place.device)
    with torch.inference_mode():
        peak = matmul_peak(place)
        readings = _readings(config, trial, guidance != 1.0 or not place.reuse)
        peak = max(peak, matmul_peak(place))  # a busy machine may have been slow at first
    frames = config.clip_frames
    step, decode = readings["denoiser step"], readings["decoding"]
    looks = readings["reference pass"] if config.motion_frames else Reading(seconds=0.0, flops=0.0)
    reached = frames / (
        steps * step.seconds + decode.seconds + looks.seconds
    )  # once a clip, or a film
    ceiling = peak * frames / (steps * step.flops + decode.flops + looks.flops)
    shown = {
        name: f"{r.seconds:.3f} s, {r.flops / 1e9:.0f} GFLOP, {r.flops / r.seconds / peak:.0%} of the peak"
        for name, r in readings.items()
    }
    return {
        "machine": _machine(place),
        "preset": f"{trial.preset}, {trial.size[0]}x{trial.size[1]}, clips of {frames}, {place.dtype}".replace(
            "torch.", ""
        ),
        "peak of a matrix product": f"{peak / 1e12:.3f} TFLOP/s",
        **shown,
        "frames/s": f"{reached:.4g} ({steps} steps, guidance {guidance:g})",
        "ceiling": f"{ceiling:.4g} frames/s by the FLOPs counted",
        "share of the ceiling": f"{reached / ceiling:.0%}",
        "peak memory": _memory(place),
    }


def matmul_peak(place: Placement) -> float:
    """FLOP/s of the best of some large matrix products."""
    side = _MATRIX[place.device.type]
    a = torch.randn(side, side, device=place.device).to(place.dtype)
    return 2.0 * side**3 / min(timed(lambda: a @ a, place.device) for _ in range(8))


def _readings(config: VideoConfig, trial: Trial, is_guided: bool) -> dict[str, Reading]:
    """Of a clip: the reference pass, one step of the denoiser, decoding."""
    place = trial.placement
    network = _filled(VideoNetwork, config)
    place.settle(network)
    place.compile(network.denoiser)
    like = torch.zeros((), device=place.device, dtype=place.dtype)
    cells = trial.size[0] // 8, trial.size[1] // 8
    photo = torch.randn(1, 4, *cells).to(like)
    noisy = torch.randn(1, config.clip_frames, 4, *cells).to(like)
    motion = config.motion_frames
    before = torch.randn(1, motion, 4, *cells).to(like) if motion else None
    given = _conditions(config, trial.size, like)
    context = given.context

    def see() -> object:
        return network.read(
            photo, context=context, before=before, guided=is_guided, reuse=place.reuse
        )

    look = network.read(photo, context=context, before=before, guided=is_guided, reuse=place.reuse)
    frames = network.halves(given, reuse=place.reuse) if is_guided else network.conditions(given)
    time_step = torch.tensor([500], device=place.device)
    readings = {
        "reference pass": read(see, trial),
        "denoiser step": read(lambda: network.denoise(noisy, time_step, look, frames), trial),
    }
    del network, look, frames
    shape = STABLE_DIFFUSION | (
        {} if trial.width is None else {"block_out_channels": [32, 32, 64, 64]}
    )
    tiny = build_vae({}, "AutoencoderTiny") if trial.tiny_decoder else None
    codec = SdVae(config.codec, build_vae(shape), tiny)
    place.settle(codec)
    readings["decoding"] = read(lambda: codec.decode(noisy), trial)
    return readings


def _filled(kind: type[VideoNetwork], config: VideoConfig) -> VideoNetwork:
    """The network with numbers in it that cost what real ones do; initialisation would take minutes."""
    with torch.device("meta"):
        network = kind(config)
    return network.to_empty(device="cpu").requires_grad_(False).apply(_fill).eval()


def _fill(module: nn.Module) -> None:
    for parameter in module.parameters(recurse=False):
        fan = parameter[0].numel() if parameter.dim() > 1 else 1
        nn.init.constant_(parameter, 0.5 / fan)


def _conditions(config: VideoConfig, size: tuple[int, int], like: torch.Tensor) -> FrameConditions:
    """Random conditions of a clip, of every kind that the denoiser takes."""
    unet, frames = config.denoiser, config.clip_frames
    tokens = config.audio_tokens.tokens or 50
    maps = None
    if unet.guidance_channels:
        maps = torch.rand(1, frames, unet.guidance_channels, *size).to(like)
    cells = [(size[0] // 8 >> level) * (size[1] // 8 >> level) for level in range(len(unet.widths))]
    return FrameConditions(
        audio=torch.randn(1, frames, tokens, unet.audio_width).to(like)
        if unet.audio_width
        else None,
        context=torch.randn(1, 4, unet.context_width).to(like) if unet.context_width else None,
        maps=maps,
        regions=tuple(torch.rand(1, unet.regions, n).to(like) for n in cells)
        if unet.regions
        else None,
    )


def _sized(config: VideoConfig, width: int | None) -> VideoConfig:
    """The same structure at another width."""
    if width is None:
        return config
    widths = tuple(width * w // config.denoiser.widths[0] for w in config.denoiser.widths)
    if width % (unit := config.denoiser.groups):
        raise UserError(f"a width of {width} does not divide into {unit} groups; give a multiple")
    blocks = tuple(width * w // config.denoiser.widths[0] for w in config.denoiser.audio_blocks)
    return replace(
        config,
        reference=replace(config.reference, widths=widths),
        denoiser=replace(config.denoiser, widths=widths, audio_blocks=blocks),
    )


def read(work: Callable[[], object], trial: Trial) -> Reading:
    """The median of some runs, and the FLOPs of one."""
    with FlopCounterMode(display=False) as counter:
        work()
    times = [timed(work, trial.placement.device) for _ in range(trial.runs)]
    return Reading(seconds=statistics.median(times), flops=float(counter.get_total_flops()))


def timed(work: Callable[[], object], device: torch.device) -> float:
    """Seconds on the clock until the device is done."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    begun = time.perf_counter()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - begun


def _machine(place: Placement) -> str:
    if place.device.type == "cuda":
        return f"{torch.cuda.get_device_name(place.device)}, torch {torch.__version__}"
    return f"{platform.machine()}, {torch.get_num_threads()} threads, torch {torch.__version__}"


def _memory(place: Placement) -> str:
    if place.device.type == "cuda":
        return f"{torch.cuda.max_memory_allocated(place.device) / 1e9:.2f} GB on the device"
    return f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6:.2f} GB of the process"
