"""emo2: a photo and a voice become a film, in two diffusion stages with hand motion between them.

    import emo2

    models = emo2.load("compact")
    for clip in emo2.animate(models, portrait, speech, options=emo2.Options(seed=1)):
        ...  # clip.frames: (f, 3, h, w) in [-1, 1]

The names below are imported when first used, so that `emo2 --help` needs no torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from emo2.config import Config
    from emo2.errors import UserError
    from emo2.media import read_photo, read_voice
    from emo2.pipeline import Models, Options, animate, load
    from emo2.portrait import find
    from emo2.presets import PRESETS

__version__ = "0.1.0"
__all__ = [
    "PRESETS",
    "Config",
    "Models",
    "Options",
    "UserError",
    "animate",
    "find",
    "load",
    "read_photo",
    "read_voice",
]

_HOME = {
    "PRESETS": "presets",
    "Config": "config",
    "Models": "pipeline",
    "Options": "pipeline",
    "UserError": "errors",
    "animate": "pipeline",
    "find": "portrait",
    "load": "pipeline",
    "read_photo": "media",
    "read_voice": "media",
}


def __getattr__(name: str) -> Any:  # noqa: ANN401 - whatever the name is
    if name not in _HOME:
        raise AttributeError(f"module 'emo2' has no attribute {name!r}")
    return getattr(importlib.import_module(f"emo2.{_HOME[name]}"), name)
