"""Mouth against voice, mouth against true mouth, lips at known phones; each with its control.

Signals come from `face_signals.py` (or any other measure of opening); voices from `mouth.voice_envelope`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from emo2.errors import UserError
from emo2.metrics.mouth import correlation

BILABIALS = frozenset({"M", "B", "P"})
OPEN_VOWELS = frozenset({"AA", "AE", "AO", "AW", "AY", "AH", "A", "ɑ", "æ", "ɔ", "a", "ɐ"})
LAGS = 10
"""Frames within which `mouth_voice_lag` looks."""
NEAR = 2
"""Frames of lag that `mouth_voice_r` and `mouth_mouth_r` allow."""
_MARGIN_S = 0.04
_SHUT = 0.2
"""Share of a person's own range of gaps under which lips count as shut."""


@dataclass(frozen=True, kw_only=True)
class Phone:
    """A sound of the voice, in seconds."""

    start_s: float
    end_s: float
    name: str


def by_lag(
    late: Float[Tensor, " frames"], early: Float[Tensor, " frames"], most: int
) -> Float[Tensor, " lags"]:
    """Pearson correlation for every lag from -most to most; positive: the first comes after the second."""
    frames = min(len(late), len(early))
    if frames < 3 * (most + 1):
        raise ValueError(f"{frames} frames are too few for lags up to {most}")
    late, early = late[:frames], early[:frames]
    return torch.tensor(
        [
            correlation(
                late[max(lag, 0) : frames + min(lag, 0)], early[max(-lag, 0) : frames - max(lag, 0)]
            )
            for lag in range(-most, most + 1)
        ]
    )


def near_correlation(late: Float[Tensor, " frames"], early: Float[Tensor, " frames"]) -> float:
    """The best correlation within two frames of lag."""
    return float(by_lag(late, early, NEAR).max())


def shifted_correlation(
    late: Float[Tensor, " frames"], early: Float[Tensor, " frames"], shifts: int = 40
) -> float:
    """The same against the second signal turned round in time by a fifth to four fifths: the mean over shifts."""
    frames = min(len(late), len(early))
    steps = torch.linspace(0.2 * frames, 0.8 * frames, shifts).round().long().tolist()
    values = [near_correlation(late[:frames], torch.roll(early[:frames], s)) for s in steps]
    return sum(values) / len(values)


def common_lag(curves: Sequence[Float[Tensor, " lags"]]) -> float:
    """Lag of the highest mean correlation over films; one film alone may find a chance peak."""
    return peak_lag(torch.stack(list(curves)).mean(0))


def peak_lag(curve: Float[Tensor, " lags"]) -> float:
    """Where the curve is highest, between the frames too: the top of the parabola through the three highest."""
    at = int(curve.argmax())
    whole = float(at - len(curve) // 2)
    if not 0 < at < len(curve) - 1:
        return whole
    before, here, after = (float(v) for v in curve[at - 1 : at + 2])
    bend = before - 2 * here + after
    return whole + (0.5 * (before - after) / bend if bend < 0 else 0.0)


def read_phones(path: Path) -> tuple[Phone, ...]:
    """Phones of a file of lines `start end name`; seconds, or GRID's 1/25000 s in an `.align` of words.

    Of GRID's words only those that begin with b, m or p are taken: their first sound, 0.1 s long.
    """
    phones = []
    for number, line in enumerate(path.read_text().splitlines(), start=1):
        fields = line.split()
        if not fields:
            continue
        try:
            start, end, name = float(fields[0]), float(fields[1]), fields[2]
        except (IndexError, ValueError) as error:
            raise UserError(
                f"{path}, line {number}: found {line!r}, expected START END PHONE in seconds."
            ) from error
        if path.suffix == ".align":
            if name[0] in "bmp":
                phones.append(
                    Phone(start_s=start / 25_000, end_s=start / 25_000 + 0.1, name=name[0].upper())
                )
        else:
            phones.append(Phone(start_s=start, end_s=end, name=name.rstrip("012")))
    return tuple(phones)


@dataclass(frozen=True, kw_only=True)
class PhoneLips:
    """Lips at some phones, as shares of the person's own range of gaps (5th to 95th percentile of the film)."""

    shares: Float[Tensor, " phones"]
    """0: as narrow as ever, 1: as wide."""
    control: float
    """Mean of the same at all moments of the film."""

    @property
    def shut(self) -> float:
        """Share of the phones with shut lips (under 0.2 of the range)."""
        return float((self.shares < _SHUT).float().mean()) if len(self.shares) else float("nan")


def lip_closure(
    gap: Float[Tensor, " frames"], phones: Sequence[Phone], fps: float
) -> PhoneLips | None:
    """The narrowest gap within 40 ms of each m, b, p; None where there is none."""
    wanted = [p for p in phones if p.name.upper() in BILABIALS]
    return _at(gap, wanted, fps, widest=False)


def open_vowel(
    gap: Float[Tensor, " frames"], phones: Sequence[Phone], fps: float
) -> PhoneLips | None:
    """The widest gap within 40 ms of each open vowel; None where there is none."""
    return _at(gap, [p for p in phones if p.name in OPEN_VOWELS], fps, widest=True)


def _at(gap: Tensor, phones: Sequence[Phone], fps: float, *, widest: bool) -> PhoneLips | None:
    low, high = gap.quantile(0.05), gap.quantile(0.95)
    if not phones or float(high - low) < 1e-6:
        return None
    share = ((gap - low) / (high - low)).clamp(0, 1)
    pick = torch.amax if widest else torch.amin
    spans = []
    for phone in phones:
        first = max(0, int((phone.start_s - _MARGIN_S) * fps))
        last = min(len(share), int((phone.end_s + _MARGIN_S) * fps) + 1)
        if last > first:
            spans.append((first, last))
    if not spans:
        return None
    length = max(1, round(sum(b - a for a, b in spans) / len(spans)))
    anywhere = pick(share.unfold(0, min(length, len(share)), 1), 1)
    return PhoneLips(
        shares=torch.stack([pick(share[a:b], 0) for a, b in spans]), control=float(anywhere.mean())
    )
