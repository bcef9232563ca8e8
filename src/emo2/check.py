"""`emo2 check`: what was found in a photo and a voice, what is wrong and why, and how to mend it."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from emo2 import media
from emo2.errors import UserError
from emo2.pipeline import load_finder
from emo2.portrait import find
from emo2.signals import HAND_SIDES, Portrait, Speech
from emo2.video.entering_place import notes_with_entering

SMALL_FACE = 96
"""Pixels of a face box below which the film's mouth has little to work with."""
SURE = 0.5


@dataclass(kw_only=True)
class Report:
    """Findings as sentences for a person and as facts for a machine."""

    is_usable: bool = True
    lines: list[str] = field(default_factory=list)
    facts: dict[str, object] = field(default_factory=dict)

    def say(self, line: str, **facts: object) -> None:
        """A finding."""
        self.lines.append(line)
        self.facts |= facts

    def warn(self, line: str) -> None:
        """A flaw a film can live with."""
        self.lines.append(f"note: {line}")
        self.facts.setdefault("notes", []).append(line)  # type: ignore[union-attr]

    def refuse(self, error: Exception) -> None:
        """A fault no film can be made with."""
        self.is_usable = False
        self.lines.append(f"wrong: {error}")
        self.facts.setdefault("wrong", []).append(str(error))  # type: ignore[union-attr]


def check(photo: Path, voice: Path | None, *, preset: str = "compact") -> Report:
    """Look at the photo, and at the voice where one is given."""
    report = Report()
    finder = load_finder(preset)
    try:
        image = media.read_photo(photo)
        _tell_picture(report, photo, image)
        _tell_portrait(report, find(image, finder))
    except UserError as error:
        report.refuse(error)
    if voice is not None:
        try:
            _tell_voice(report, voice, media.read_voice(voice))
        except UserError as error:
            report.refuse(error)
    report.say("a film can be made" if report.is_usable else "no film can be made of this")
    return report


def _tell_picture(report: Report, path: Path, image: Tensor) -> None:
    height, width = image.shape[-2:]
    report.say(f"{path}: {width} x {height} pixels", height=height, width=width)
    grey = image.mean(0)
    if float(grey.std()) < 0.05:
        report.warn("the picture has almost no contrast; give one with the person well lit")


def _tell_portrait(report: Report, portrait: Portrait) -> None:
    x0, y0, x1, y1 = (round(v) for v in portrait.face_box.tolist())
    side = max(x1 - x0, y1 - y0)
    report.say(
        f"face: {x1 - x0} x {y1 - y0} pixels at ({x0}, {y0}), {side / portrait.size[0]:.0%} of the height",
        face_box=[x0, y0, x1, y1],
    )
    if side < SMALL_FACE:
        report.warn(
            f"the face is only {side} pixels large, so its mouth will be coarse; "
            f"cut the picture closer or give a larger one (face of {SMALL_FACE} pixels or more)"
        )
    seen = [bool(p) for p in (portrait.body_points[2:4, 2] > SURE).tolist()]
    shoulders = {2: "both", 1: "one", 0: "none"}[sum(seen)]
    report.say(f"shoulders in view: {shoulders}", shoulders=sum(seen))
    hands = [side for side, here in zip(HAND_SIDES, portrait.hands_present, strict=True) if here]
    said = " and ".join(hands) if hands else "none sure enough to move"
    if portrait.folded:
        hands, said = list(HAND_SIDES), "both, in each other"
    report.say(f"hands: {said}", hands=hands)
    for note in notes_with_entering(portrait):
        report.warn(note)


def _tell_voice(report: Report, path: Path, speech: Speech) -> None:
    peak, loud, clipped, total = 0.0, [], 0, 0
    for block in speech.voice.blocks(speech.sample_rate // 10):
        peak = max(peak, float(block.abs().max()))
        loud.append(float(block.square().mean()))
        clipped += int((block.abs() > 0.999).sum())
        total += len(block)
    levels = torch.tensor(loud).clamp_min(1e-12).log10() * 10
    quiet = float((levels < levels.max() - 40).float().mean())
    report.say(
        f"{path}: {speech.duration_s:.1f} s, peak {20 * math.log10(max(peak, 1e-9)):.0f} dBFS, "
        f"{quiet:.0%} of it pauses",
        duration_s=round(speech.duration_s, 3),
        pauses=round(quiet, 3),
    )
    if peak < 0.03:
        report.warn("the voice is very faint; raise its level to about -3 dBFS")
    if clipped > 0.001 * total:
        report.warn("the voice is clipped; record it at a lower level")
