"""Beat alignment of a set of motions: each against its own voice, and against the voices of the others.

A wrong voice is the control that counts (Nagy et al. 2025): real speech sets in five or six times a second, so almost any
motion aligns with it.  A single voice is shifted in time instead, which stands beside always.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from emo2.metrics.beats import VARIANTS, Beats, Variant, align_beats, score_beats
from emo2.metrics.figures import Figure, Metric, Reading, Rows, mean_figure
from emo2.metrics.motion_clips import RATE, Clip, Track

SWAPS = 8
"""Other voices that each motion is held against."""
OTHERS = "the voices of the other items"
SHIFTED = "its own voice shifted in time, mean of 20 shifts"
BOTH = "the voices of the other items; where there is none, its own shifted"


@dataclass(frozen=True, kw_only=True)
class Beating:
    """When one take beats, and how long it lasts."""

    beats: Beats
    duration_s: float


def alignment_rows(name: str, clip: Clip) -> dict[str, np.ndarray]:
    """Onsets of the voice and beats of every sample and of the truth; nothing where there is no voice."""
    variant = VARIANTS[name]
    onsets = clip.onsets(variant.onsets)
    if onsets is None:
        return {}
    rows = {"onsets": onsets.double().numpy()}
    for index, track in enumerate(clip.samples):
        rows |= _packed(f"made{index}", variant, track)
    return rows if clip.truth is None else {**rows, **_packed("true", variant, clip.truth)}


def _packed(prefix: str, variant: Variant, track: Track) -> dict[str, np.ndarray]:
    """A row a beat: joint and frame; and the numbers of joints and seconds."""
    beats = variant.beats(track.moving(variant.fps))
    rows = [torch.stack((torch.full_like(b, float(j)), b), 1) for j, b in enumerate(beats)]
    facts = np.array([len(beats), len(track.points) / RATE])
    return {f"{prefix} beats": torch.cat(rows).numpy(), f"{prefix} facts": facts}


def _unpacked(prefix: str, rows: Mapping[str, np.ndarray]) -> Beating:
    joints, seconds = rows[f"{prefix} facts"]
    table = torch.from_numpy(rows[f"{prefix} beats"])
    beats = [table[table[:, 0] == joint, 1] for joint in range(int(joints))]
    return Beating(beats=beats, duration_s=float(seconds))


def alignment_figure(metric: Metric, rows: Rows, seed: int) -> Figure | None:
    """Mean over the items; the control is each motion under wrong voices."""
    variant, names = VARIANTS[metric.name], list(rows)
    voices = [torch.from_numpy(rows[n]["onsets"]) for n in names]
    readings: dict[str, Reading] = {}
    swapped = []
    for index, name in enumerate(names):
        following = [voices[(index + k) % len(names)] for k in range(1, len(names))]
        others = [v for v in following if not torch.equal(v, voices[index])][:SWAPS]
        found = _reading(variant, rows[name], voices[index], others)
        if found is not None:
            readings[name], is_swapped = found
            swapped.append(is_swapped)
    figure = mean_figure(metric, readings, seed)
    if figure is None:
        return None
    said = OTHERS if all(swapped) else BOTH if any(swapped) else SHIFTED
    return replace(figure, control_is=said)


def _reading(
    variant: Variant,
    rows: Mapping[str, np.ndarray],
    voice: Float[Tensor, " onsets"],
    others: Sequence[Float[Tensor, " _"]],
) -> tuple[Reading, bool] | None:
    """Of one item, mean over its samples; and whether other voices could be had.  None without an onset in its time."""
    made = [_unpacked(f"made{i}", rows) for i in range(sum(n.startswith("made") for n in rows) // 2)]  # fmt: skip
    own = [align_beats(variant, m.beats, m.duration_s, voice) for m in made]
    heard = int((voice < max(m.duration_s for m in made)).sum())
    if not heard:
        return None
    wrong = [
        score
        for m in made
        for other in others
        if (score := score_beats(variant, m.beats, m.duration_s, other)) is not None
    ]
    shifted = float(np.mean([a.shuffled for a in own]))
    beside = {
        "voice shifted": shifted,
        "chance": float(np.mean([a.chance for a in own])),
        "beats a second": float(np.mean([a.beats_per_s for a in own])),
        "onsets a second": heard / max(m.duration_s for m in made),
    }
    if "true facts" in rows:
        true = _unpacked("true", rows)
        beside["truth"] = align_beats(variant, true.beats, true.duration_s, voice).matched
    reading = Reading(
        value=float(np.mean([a.matched for a in own])),
        control=float(np.mean(wrong)) if wrong else shifted,
        weight=float(heard),
        beside=beside,
    )
    return reading, bool(wrong)
