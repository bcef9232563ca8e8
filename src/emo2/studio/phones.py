"""The studio's phone set: one alphabet for every synthesiser, recogniser and language.

ARPAbet in small letters, plus silence, breath and the few sounds of other languages whose mouth shape differs.
Everything that times speech (flite, espeak-ng, pocketsphinx) is mapped to it here; `mouth` gives each its shape.
"""

from __future__ import annotations

import itertools
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Int
from torch import Tensor

SILENCE = "sil"

PHONES = (
    "sil", "breath",
    "aa", "ae", "ah", "ao", "aw", "ax", "ay", "eh", "er", "ey", "ih", "iy", "ow", "oy", "uh", "uw",
    "ue", "oe",
    "b", "ch", "d", "dh", "f", "g", "hh", "jh", "k", "kh", "l", "m", "n", "ng", "p", "q", "r", "s",
    "sh", "t", "th", "v", "w", "y", "z", "zh",
)  # fmt: skip
"""Every phone; its place is its number.  `ue oe`: rounded front vowels; `kh`: ach/ich; `q`: glottal stop."""

VOWELS = frozenset(PHONES[2:20])
BILABIALS = frozenset("mbp")
LABIODENTALS = frozenset("fv")

_NUMBER = {name: i for i, name in enumerate(PHONES)}


@dataclass(frozen=True, kw_only=True)
class Phone:
    """A phone and when it sounds."""

    name: str
    """One of `PHONES`."""
    start_s: float
    end_s: float

    @property
    def middle_s(self) -> float:
        """Midpoint in seconds."""
        return 0.5 * (self.start_s + self.end_s)

    @property
    def duration_s(self) -> float:
        """Length in seconds."""
        return self.end_s - self.start_s


def number(name: str) -> int:
    """Place of a phone in `PHONES`."""
    if name not in _NUMBER:
        raise ValueError(f"{name!r} is no phone of the studio; expected one of {' '.join(PHONES)}")
    return _NUMBER[name]


def per_frame(phones: Sequence[Phone], frames: int, fps: float) -> Int[Tensor, " frames"]:
    """Number of the phone sounding in the middle of each frame; silence where none does."""
    numbers = torch.zeros(frames, dtype=torch.int64)
    for phone in phones:
        first = max(0, int(-(-(phone.start_s * fps - 0.5) // 1)))
        last = int(-(-(phone.end_s * fps - 0.5) // 1))
        numbers[first:last] = number(phone.name)
    return numbers


# ---- ARPAbet as flite and pocketsphinx write it ----

_ARPABET = {
    "pau": "sil", "h#": "sil", "brth": "breath", "ssil": "sil", "+spn+": "breath", "+nsn+": "breath",
    "<sil>": "sil", "<s>": "sil", "</s>": "sil", "[noise]": "breath", "[speech]": "breath",
    "axr": "er", "dx": "d", "el": "l", "em": "m", "en": "n", "nx": "n", "ix": "ih", "ux": "uw",
    "hv": "hh", "wh": "w", "oh": "ao", "i": "iy", "e": "eh", "a": "aa", "o": "ow", "u": "uw",
}  # fmt: skip


def from_arpabet(name: str) -> str:
    """Phone of an ARPAbet symbol (stress digits allowed) or of a recogniser's filler."""
    bare = name.strip().lower()
    if bare not in _ARPABET:
        bare = bare.rstrip("0123456789")
    bare = _ARPABET.get(bare, bare)
    if bare not in _NUMBER:
        raise ValueError(f"{name!r} is no ARPAbet phone; expected such as AA, b, pau or SIL")
    return bare


# ---- IPA as espeak-ng writes it ----

_IPA = {
    "aɪ": "ay", "aʊ": "aw", "eɪ": "ey", "oʊ": "ow", "əʊ": "ow", "ɔɪ": "oy", "ɔø": "oy", "ɔʏ": "oy",
    "dʒ": "jh", "dʑ": "jh", "dʐ": "jh", "tʃ": "ch", "tɕ": "ch", "tʂ": "ch",
    "ts": "t s", "dz": "d z", "pf": "p f", "ɪə": "ih ax", "ʊə": "uh ax", "eə": "eh ax",
    "i": "iy", "ɪ": "ih", "ɨ": "ih", "ɯ": "ih", "y": "ue", "ʏ": "ue", "ø": "oe", "œ": "oe",
    "e": "ey1", "ɛ": "eh", "ɜ": "er", "ɚ": "er", "ɝ": "er", "ə": "ax", "ɐ": "ax", "ɘ": "ax", "ᵻ": "ih",
    "æ": "ae", "a": "aa", "ä": "aa", "ɑ": "aa", "ʌ": "ah", "ɒ": "ao", "ɔ": "ao", "o": "ow1", "ɤ": "ax",
    "u": "uw", "ʊ": "uh", "ʉ": "uw", "ɵ": "oe",
    "p": "p", "b": "b", "ɓ": "b", "m": "m", "t": "t", "d": "d", "ʈ": "t", "ɖ": "d", "n": "n", "ɳ": "n",
    "ɲ": "n", "ŋ": "ng", "ɴ": "ng", "k": "k", "c": "k", "q": "k", "ɡ": "g", "g": "g", "ɟ": "g",
    "f": "f", "v": "v", "ɸ": "f", "β": "v", "ʋ": "v", "ɱ": "v", "θ": "th", "ð": "dh",
    "s": "s", "z": "z", "ʃ": "sh", "ʒ": "zh", "ʂ": "sh", "ʐ": "zh", "ɕ": "sh", "ʑ": "zh",
    "ç": "kh", "x": "kh", "χ": "kh", "ɣ": "g", "h": "hh", "ɦ": "hh", "ħ": "hh", "ʕ": "q", "ʔ": "q",
    "l": "l", "ɫ": "l", "ɭ": "l", "ʎ": "l", "ɬ": "l", "r": "r", "ɹ": "r", "ɾ": "d1", "ʁ": "kh", "ɻ": "r",
    "ʀ": "kh", "ɽ": "d", "j": "y", "w": "w", "ʍ": "w", "ɥ": "ue", "ɰ": "g",
}  # fmt: skip
_ALIAS = {"ey1": "eh", "ow1": "ow", "d1": "d"}
# espeak marks language switches as "(en)" and puts tones, stress and length beside the letters.
_IGNORED = set("ːˑˈˌ˥˦˧˨˩|‿.-_' \u200d^ʲʰʷˠˤ0123456789")


def from_ipa(symbol: str) -> tuple[str, ...]:
    """Phones of one espeak-ng phoneme in IPA, in order; nothing for marks that make no sound."""
    if symbol.startswith("("):
        return ()
    letters = "".join(
        c
        for c in unicodedata.normalize("NFD", symbol)
        if c not in _IGNORED and not unicodedata.combining(c)
    )
    # NFD splits c-cedilla, which is a letter of its own in IPA.
    if unicodedata.normalize("NFC", symbol).startswith("ç"):
        letters = letters.replace("c", "ç", 1)
    names: list[str] = []
    while letters:
        size = 2 if letters[:2] in _IPA else 1
        mapped = _IPA.get(letters[:size], "")
        names += [_ALIAS.get(n, n) for n in mapped.split()]
        letters = letters[size:]
    return tuple(names)


def join(phones: Iterable[Phone]) -> tuple[Phone, ...]:
    """The same phones in order, gaps filled with silence, equal neighbours of silence merged."""
    joined: list[Phone] = []
    for phone in sorted(phones, key=lambda p: p.start_s):
        if phone.duration_s <= 0:
            continue
        end = joined[-1].end_s if joined else 0.0
        if phone.start_s > end + 1e-3:
            joined.append(Phone(name=SILENCE, start_s=end, end_s=phone.start_s))
        joined.append(phone)
    merged: list[Phone] = []
    for is_silent, group in itertools.groupby(joined, key=lambda p: p.name == SILENCE):
        members = list(group)
        if is_silent:
            members = [Phone(name=SILENCE, start_s=members[0].start_s, end_s=members[-1].end_s)]
        merged += members
    return tuple(merged)
