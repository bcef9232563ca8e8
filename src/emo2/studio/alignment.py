"""Real voices timed by phones, with pocketsphinx: recognise (unless the text is known), then align.

The recogniser's model is American English.  Its words are checked against a second opinion, phones recognised
without words: where the two disagree (another language, a song) the wordless phones are taken.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from jaxtyping import Float
from scipy.signal import resample_poly

from emo2.studio.phones import SILENCE, VOWELS, Phone, from_arpabet, join

_RATE = 16_000
_FRAME_S = 0.01
_TRUSTED = 0.58
"""Agreement of aligned and wordless phones above which the words are believed."""


@dataclass(frozen=True, kw_only=True)
class Alignment:
    """Phones of a real voice, and how far to trust them."""

    phones: tuple[Phone, ...]
    words: str
    """What was recognised or given; empty when only phones were."""
    agreement: float
    """0..1: share of sounding time on which aligned and wordless phones are of one kind."""


@cache
def _decoder(kind: str) -> Any:  # noqa: ANN401 (pocketsphinx has no types)
    try:
        import pocketsphinx
    except ImportError:
        raise FileNotFoundError(
            "pocketsphinx is not installed; real voices need it: pip install 'emo2[studio]'"
        ) from None
    if kind == "words":
        return pocketsphinx.Decoder(samprate=_RATE, loglevel="FATAL")
    model = f"{pocketsphinx.get_model_path()}/en-us/en-us-phone.lm.bin"
    return pocketsphinx.Decoder(
        samprate=_RATE, loglevel="FATAL", lm=None, allphone=model, beam=1e-20, pbeam=1e-20, lw=2.0
    )


def _run(decoder: Any, raw: bytes) -> None:  # noqa: ANN401
    decoder.start_utt()
    decoder.process_raw(raw, full_utt=True)
    decoder.end_utt()


def _recognise(raw: bytes) -> str:
    """Words heard, without fillers and variant marks."""
    decoder = _decoder("words")
    decoder.activate_search()  # the language model again, after an alignment
    _run(decoder, raw)
    words = [s.word for s in decoder.seg() if s.word[0] not in "<[+"]
    return " ".join(re.sub(r"\(\d+\)", "", word) for word in words)


def _known(decoder: Any, text: str) -> str:  # noqa: ANN401
    """The words of a text that the dictionary has."""
    words = re.sub(r"[^a-z' ]+", " ", text.lower().replace("’", "'")).split()
    return " ".join(w for w in words if decoder.lookup_word(w))


def _aligned(raw: bytes, text: str) -> list[Phone]:
    """Phones of known words; empty where they do not fit the sound."""
    decoder = _decoder("words")
    try:
        decoder.set_align_text(text)
        _run(decoder, raw)
        words = [(s.word, s.start_frame, s.end_frame + 1) for s in decoder.seg() or ()]
    except RuntimeError:
        return []
    try:
        decoder.set_alignment()
        _run(decoder, raw)
        timed = [(p.name, p.start, p.duration) for word in decoder.get_alignment() for p in word]
    except RuntimeError:
        # pocketsphinx's pass over states misses its last state on some takes; its word times stand.
        timed = [part for word in words for part in _shared_out(decoder, *word)]
    return [
        Phone(name=from_arpabet(name), start_s=start * _FRAME_S, end_s=(start + length) * _FRAME_S)
        for name, start, length in timed
    ]


_LENGTHS = {"AX": 0.6, "T": 0.7, "D": 0.6, "DH": 0.6, "B": 0.8, "S": 1.2, "SH": 1.2}


def _shared_out(
    decoder: Any,  # noqa: ANN401
    word: str,
    first: int,
    last: int,
) -> list[tuple[str, int, float]]:
    """Phones of the dictionary spread over a word's time by their usual lengths."""
    if word[0] in "<[+":
        return [("SIL", first, last - first)]
    names = decoder.lookup_word(word).split()
    vowel = [1.5 if name[0] in "AEIOU" else 1.0 for name in names]
    length = np.array([_LENGTHS.get(n, v) for n, v in zip(names, vowel, strict=True)])
    ends = first + np.cumsum(length / length.sum()) * (last - first)
    starts = np.concatenate(((first,), ends[:-1]))
    return [(n, a, b - a) for n, a, b in zip(names, starts, ends, strict=True)]


def _wordless(raw: bytes) -> list[Phone]:
    decoder = _decoder("phones")
    _run(decoder, raw)
    return [
        Phone(
            name=from_arpabet(s.word),
            start_s=s.start_frame * _FRAME_S,
            end_s=(s.end_frame + 1) * _FRAME_S,
        )
        for s in decoder.seg()
    ]


def _quiet(samples: Float[np.ndarray, " n"]) -> np.ndarray:
    """Which 10 ms frames hold no speech: 32 dB below the loud ones, or near the noise floor."""
    size = int(_RATE * _FRAME_S)
    frames = len(samples) // size
    power = (samples[: frames * size].reshape(frames, size).astype(np.float64) ** 2).mean(1)
    level = 10 * np.log10(np.convolve(power, np.ones(3) / 3, "same") + 1e-10)
    loud, floor = np.percentile(level, 95), np.percentile(level, 5)
    return level < max(loud - 32, min(floor + 5, loud - 20))


def _with_pauses(phones: Sequence[Phone], quiet: np.ndarray) -> list[Phone]:
    """Phones shortened where they run into a pause the aligner did not see."""
    out: list[Phone] = []
    for phone in phones:
        first, last = round(phone.start_s / _FRAME_S), round(phone.end_s / _FRAME_S)
        sounding = np.flatnonzero(~quiet[first:last])
        if phone.name == SILENCE or phone.duration_s < 0.1 or not len(sounding):
            out.append(phone)
            continue
        start, end = first + sounding[0], first + sounding[-1] + 1
        # Stops are silent while the mouth is shut: only long gaps are pauses.
        start = first if start - first < 8 else start - 2
        end = last if last - end < 8 else end + 2
        out.append(Phone(name=phone.name, start_s=start * _FRAME_S, end_s=end * _FRAME_S))
    return out


_KINDS = {
    **dict.fromkeys("mbp", "lips"), **dict.fromkeys("fv", "teeth"), "sil": "sil", "breath": "sil",
    **dict.fromkeys(("w", "uw", "ow", "uh", "ao", "oy", "ue", "oe", "r", "er"), "round"),
    **dict.fromkeys(("s", "z", "sh", "zh", "ch", "jh"), "hiss"),
}  # fmt: skip


def kind(name: str) -> str:
    """What a phone looks like, coarsely: lips, teeth, round, hiss, open, sil or other."""
    return _KINDS.get(name, "open" if name in VOWELS else "other")


def agreement(a: Sequence[Phone], b: Sequence[Phone], duration_s: float) -> float:
    """Share of the time sounding in both on which the phones are of one kind."""
    steps = np.arange(0.0, duration_s, _FRAME_S) + 0.5 * _FRAME_S

    def kinds(phones: Sequence[Phone]) -> np.ndarray:
        out = np.full(len(steps), "sil", dtype="<U8")
        for phone in phones:
            out[(steps >= phone.start_s) & (steps < phone.end_s)] = kind(phone.name)
        return out

    first, second = kinds(a), kinds(b)
    sounding = (first != "sil") & (second != "sil")
    return float((first == second)[sounding].mean()) if sounding.any() else 0.0


def align(samples: Float[np.ndarray, " n"], rate: int, text: str | None = None) -> Alignment:
    """Phones of a voice; give the text where it is known.  Meant for pieces of at most about 20 s."""
    shared = int(np.gcd(rate, _RATE))
    heard = resample_poly(samples, _RATE // shared, rate // shared) if rate != _RATE else samples
    heard = heard / max(float(np.abs(heard).max(initial=0.0)), 1e-4) * 0.7
    raw = np.round(heard * 32767).astype(np.int16).tobytes()
    duration = len(samples) / rate
    quiet = _quiet(heard)
    plain = _with_pauses(_wordless(raw), quiet)
    words, timed = "", []
    # A given text may not be what was said; then what is heard is tried.
    for guess in (lambda: _known(_decoder("words"), text or ""), lambda: _recognise(raw)):
        words = guess()
        timed = _with_pauses(_aligned(raw, words), quiet) if words else []
        if timed:
            break
    agreed = agreement(timed, plain, duration) if timed else 0.0
    if agreed < _TRUSTED:
        words, timed = "", plain
    end = Phone(name=SILENCE, start_s=timed[-1].end_s if timed else 0.0, end_s=duration)
    return Alignment(phones=join([*timed, end]), words=words, agreement=agreed)
