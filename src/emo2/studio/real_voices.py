"""Recordings of people as takes: read, cut at pauses, timed by phones, kept on disk.

Only recordings whose owner allows training belong in such a folder; that is for the caller to know.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from jaxtyping import Float

from emo2.media.voice import read_voice
from emo2.studio.alignment import align
from emo2.studio.phones import Phone
from emo2.studio.voices import SAMPLE_RATE, keep, recall

_SUFFIXES = frozenset((".wav", ".flac", ".mp3", ".ogg", ".opus", ".m4a"))
_PIECE_S = (3.0, 14.0)
_log = logging.getLogger(__name__)

Take = tuple[Float[np.ndarray, " n"], int, tuple[Phone, ...]]


def pieces(samples: Float[np.ndarray, " n"], rate: int) -> list[np.ndarray]:
    """A recording cut into 3 to 14 seconds, in the quietest moments that allow it."""
    shortest, longest = (int(s * rate) for s in _PIECE_S)
    size = int(0.1 * rate)
    parts = []
    while len(samples) > longest:
        window = samples[shortest:longest].astype(np.float64) ** 2
        loudness = np.convolve(window, np.ones(size) / size, "same")[::80]
        cut = shortest + 80 * int(loudness.argmin())
        parts.append(samples[:cut])
        samples = samples[cut:]
    return [*parts, samples] if len(samples) >= shortest // 2 or not parts else parts


def takes(folder: Path, *, cache_folder: Path | None = None) -> list[Take]:
    """All takes of a folder's recordings; `NAME.txt` beside a recording of one piece gives its words."""
    found = sorted(p for p in folder.rglob("*") if p.suffix.lower() in _SUFFIXES)
    if not found:
        raise FileNotFoundError(
            f"{folder} holds no recordings; expected files such as .wav, .flac or .mp3"
        )
    return [take for path in found for take in _takes_of(path, cache_folder)]


def _takes_of(path: Path, cache_folder: Path | None) -> Iterator[Take]:
    speech = read_voice(path, sample_rate=SAMPLE_RATE)
    blocks = [block.numpy() for block in speech.voice.blocks(SAMPLE_RATE)]
    text_path = path.with_suffix(".txt")
    parts = pieces(np.concatenate(blocks), SAMPLE_RATE)
    text = text_path.read_text() if len(parts) == 1 and text_path.exists() else None
    for part in parts:
        part = (0.8 / max(float(np.abs(part).max()), 1e-3) * part).astype(np.float32)
        key = hashlib.sha1(part.tobytes() + repr((text, 2)).encode()).hexdigest()
        kept = cache_folder / f"real-{key}.npz" if cache_folder else None
        if kept is not None and kept.exists():
            yield recall(kept)
            continue
        found = align(part, SAMPLE_RATE, text)
        _log.info("%s: agreement %.2f, %s", path.name, found.agreement, found.words or "(phones)")
        if kept is not None:
            keep(kept, part, SAMPLE_RATE, found.phones)
        yield part, SAMPLE_RATE, found.phones
