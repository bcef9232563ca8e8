"""How the parts of a person look: what the shaders are told of each."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

KINDS = (
    "skin", "hair", "eyes", "eyebrows", "eyelashes", "teeth", "tongue", "clothes", "beard", "paint", "glasses",
    "lens",
)  # fmt: skip
"""The shader knows them by their place here."""


@dataclass(frozen=True, kw_only=True)
class Material:
    """How a part of a person reflects light."""

    kind: str
    """One of `KINDS`."""
    picture: Path | None = None
    tint: tuple[float, float, float] = (1.0, 1.0, 1.0)
    gamma: float = 1.0
    repaint: float = 0.0
    """0: the picture's own colours; 1: its lightness in the tint's colour."""
    gloss: float = 0.3
    lower_tint: tuple[float, float, float] | None = None
    """Of what hangs below `waist` (trousers, skirt); the tint where it is None."""
    waist: float = -9.0
    """Resting height, metres."""
    pattern: tuple[int, float, float] = (0, 1.0, 0.0)
    """Print on cloth: kind, scale, strength."""
    segment: str = ""
    """Of `segments.SEGMENT_NAMES`, where neither kind nor place tell it."""
    is_solid: bool = True
    """False for what is drawn over a surface and hides nothing: make-up, clear glass, single hairs."""
    cover: float = 1.0
    """How much of what lies below is hidden by beard, paint or lens."""
    level: float = 0.0
    """Of a layer of beard: 0 at the skin, 1 at the tips."""
