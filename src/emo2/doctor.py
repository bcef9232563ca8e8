"""`emo2 doctor`: this machine, the versions, the presets that are here, and the speed to expect."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
import shutil
import time
from itertools import islice
from pathlib import Path

import torch

from emo2 import __version__, media, pipeline, weights
from emo2.errors import UserError
from emo2.portrait import find
from emo2.presets import PRESETS

_CLIPS = 3
DEMO = weights.ASSETS / "demo"
_PACKAGES = ("torch", "diffusers", "av", "numpy", "safetensors", "opencv-python-headless", "pillow")
_TOOLS = {"flite": "studio voices", "espeak-ng": "studio voices in other languages"}
_EXTRAS = {"anny": "studio", "moderngl": "studio", "pocketsphinx": "studio", "tensorboard": "train"}


def examine(*, measure: bool = True) -> dict[str, str]:
    """Facts by name, in the order to show them."""
    facts = {"emo2": __version__, "python": platform.python_version(), **_machine()}
    facts |= {name: importlib.metadata.version(name) for name in _PACKAGES}
    for module, extra in _EXTRAS.items():
        here = importlib.util.find_spec(module) is not None
        facts[module] = (
            "here" if here else f"missing: pip install 'emo2[{extra}]' for `emo2 {extra}`"
        )
    for tool, use in _TOOLS.items():
        facts[tool] = "here" if shutil.which(tool) else f"missing: apt-get install {tool} for {use}"
    for preset in PRESETS:
        facts[f"preset {preset}"] = _preset(preset)
    if measure:
        facts["speed"] = _speed()
    return facts


def _machine() -> dict[str, str]:
    facts = {
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores, "
        f"torch uses {torch.get_num_threads()}",
        "bf16 on the CPU": "yes" if torch.ops.mkldnn._is_mkldnn_bf16_supported() else "no (slower)",
        "gpu": torch.cuda.get_device_name()
        if torch.cuda.is_available()
        else "none that torch can use",
        "disk free here": f"{shutil.disk_usage(Path.cwd()).free / 1e9:.1f} GB",
    }
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        facts["memory"] = f"{memory / 1e9:.1f} GB"
    return facts


def _preset(preset: str) -> str:
    paths = [weights.path_of(preset, part) for part in weights.PARTS]
    missing = [path.name for path in paths if not path.is_file()]
    if missing:
        return f"weights missing: {', '.join(missing)}"
    size = sum(path.stat().st_size for path in paths) / 1e6
    steps = [weights.facts_of(path).get("step", "?") for path in paths]
    return f"ready, {size:.1f} MB of weights (training steps: {', '.join(steps)})"


def _speed() -> str:
    """Seconds of work per second of film, measured on the first clips of the demo."""
    try:
        begun = time.perf_counter()
        models = pipeline.load("compact")
        loaded = time.perf_counter() - begun
        portrait = find(media.read_photo(DEMO / "photo.jpg"), models.finder)
        speech = media.read_voice(DEMO / "voice.flac")
        begun = time.perf_counter()
        clips = pipeline.animate(models, portrait, speech)
        next(clips)
        first = time.perf_counter() - begun
        frames = sum(len(clip.frames) for clip in islice(clips, _CLIPS))
        pace = (time.perf_counter() - begun - first) / frames
    except (UserError, OSError) as error:
        return f"not measured: {error}"
    height, width = portrait.size
    return (
        f"{pace * models.config.fps:.1f} s of work per second of film at {height}x{width}; "
        f"loading {loaded:.1f} s, first clip after {first:.1f} s"
    )
