"""Voices with exact phone times: flite and espeak-ng speak a text, and say when each phone begins.

espeak-ng is called through its library, whose events name each phoneme and its first sample (about a thousand
times real time); flite through its command with `-psdur`.  A voice is drawn from a seed: engine, language,
variant, pitch, rate, and a change of tape speed that also changes the size of the speaker's throat.
"""

from __future__ import annotations

import ctypes
import hashlib
import io
import shutil
import subprocess
import tempfile
import wave
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from scipy.signal import resample_poly

from emo2.studio.phones import Phone, from_arpabet, from_ipa, join

SAMPLE_RATE = 16_000
FLITE_VOICES = ("slt", "rms", "awb", "kal16")

Samples = Float[np.ndarray, " _"]


@dataclass(frozen=True, kw_only=True)
class Speaker:
    """A synthetic voice."""

    engine: str
    """`flite` or `espeak`."""
    voice: str
    """flite: a voice; espeak: language or language+variant."""
    pitch: float = 1.0
    """Of the voice's own pitch."""
    rate: float = 1.0
    """Of the voice's own speaking rate."""
    tape: float = 1.0
    """Tape speed: pitch, throat and rate together."""
    liveliness: float = 1.0
    """Range of the intonation."""


_ESPEAK_VARIANTS = (
    "", "+f1", "+f2", "+f3", "+f4", "+f5", "+m1", "+m2", "+m3", "+m4", "+m5", "+m6", "+m7", "+m8",
    "+klatt", "+klatt2", "+klatt4", "+Alicia", "+Andrea", "+Denis", "+Hugo", "+Lee", "+linda",
    "+marcelo", "+Michael", "+Mike", "+steph", "+belinda", "+Annie", "+anika", "+john", "+whisper",
)  # fmt: skip


def cast(language: str, seed: int) -> Speaker:
    """A speaker of a language (espeak's code, such as `en-us` or `de`) drawn from a seed."""
    rng = np.random.default_rng((seed, 71))
    english = language.startswith("en")
    if english and rng.random() < 0.6:
        return Speaker(
            engine="flite",
            voice=str(rng.choice(FLITE_VOICES)),
            pitch=float(rng.uniform(0.85, 1.2)),
            rate=float(rng.uniform(0.8, 1.25)),
            tape=float(rng.uniform(0.88, 1.16)),
            liveliness=float(rng.uniform(0.8, 2.0)),
        )
    return Speaker(
        engine="espeak",
        voice=language + str(rng.choice(_ESPEAK_VARIANTS)),
        pitch=float(rng.uniform(0.7, 1.35)),
        rate=float(rng.uniform(0.75, 1.25)),
        tape=float(rng.uniform(0.92, 1.1)),
        liveliness=float(rng.uniform(0.7, 1.6)),
    )


def synthesise(
    text: str,
    seed: int,
    *,
    language: str = "en-us",
    speaker: Speaker | None = None,
    cache_folder: Path | None = None,
) -> tuple[Samples, int, tuple[Phone, ...]]:
    """Samples in [-1, 1], their rate, and the phones without gaps; the same for the same arguments."""
    speaker = speaker or cast(language, seed)
    key = hashlib.sha1(repr((text, language, speaker, 3)).encode()).hexdigest()
    kept = cache_folder / f"{key}.npz" if cache_folder else None
    if kept is not None and kept.exists():
        return recall(kept)
    say = _flite if speaker.engine == "flite" else _espeak
    samples, rate, phones = say(text, speaker)
    samples, rate, phones = _at_rate(samples, rate, phones, speaker.tape)
    if kept is not None:
        keep(kept, samples, rate, phones)
    return samples, rate, phones


def _at_rate(
    samples: Samples, rate: int, phones: list[Phone], tape: float
) -> tuple[Samples, int, tuple[Phone, ...]]:
    """Resampled to `SAMPLE_RATE`, played `tape` times as fast."""
    up, down = SAMPLE_RATE, round(rate * tape)
    shared = np.gcd(up, down)
    up, down = up // shared, down // shared
    if max(up, down) > 2000:  # keep the filter short: a ratio within 0.1 % is as good
        up, down = round(1000 * up / down), 1000
    out = resample_poly(samples, up, down)
    scale = rate * up / down / SAMPLE_RATE
    duration = len(out) / SAMPLE_RATE
    moved = [
        replace(p, start_s=p.start_s * scale, end_s=min(p.end_s * scale, duration)) for p in phones
    ]
    moved.append(Phone(name="sil", start_s=moved[-1].end_s if moved else 0.0, end_s=duration))
    peak = float(np.abs(out).max(initial=1e-6))
    # Rounded as `keep` rounds: what is made from a take must not depend on whether it was kept.
    rounded = np.round(0.8 / peak * 32767 * out).astype(np.float32) / 32767
    return rounded, SAMPLE_RATE, join(moved)


def keep(path: Path, samples: Samples, rate: int, phones: tuple[Phone, ...]) -> None:
    """Write a take to disk (16 bit), whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    buffer = io.BytesIO()
    np.savez_compressed(
        buffer,
        samples=np.round(samples * 32767).astype(np.int16),
        rate=rate,
        names=np.array([p.name for p in phones]),
        times=np.array([(p.start_s, p.end_s) for p in phones], np.float64).reshape(-1, 2),
    )
    # Several workers may make the same file: write aside, then move.
    with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as aside:
        aside.write(buffer.getvalue())
    Path(aside.name).replace(path)


def recall(path: Path) -> tuple[Samples, int, tuple[Phone, ...]]:
    """A take that `keep` wrote."""
    with np.load(path) as kept:
        samples = kept["samples"].astype(np.float32) / 32767
        phones = tuple(
            Phone(name=str(name), start_s=float(start), end_s=float(end))
            for name, (start, end) in zip(kept["names"], kept["times"], strict=True)
        )
        return samples, int(kept["rate"]), phones


# ---- flite ----


def _flite(text: str, speaker: Speaker) -> tuple[Samples, int, list[Phone]]:
    command = shutil.which("flite")
    if command is None:
        raise FileNotFoundError(
            "the command flite was not found; install it (Debian: apt install flite)"
        )
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "voice.wav"
        settings = {
            "duration_stretch": 1 / speaker.rate,
            "int_f0_target_mean": {"slt": 170, "rms": 100, "awb": 120, "kal16": 100}[speaker.voice]
            * speaker.pitch,
            "int_f0_target_stddev": 12 * speaker.liveliness,
        }
        arguments = [f for k, v in settings.items() for f in ("--setf", f"{k}={v:.4f}")]
        done = subprocess.run(
            [command, "-voice", speaker.voice, *arguments, "-psdur", "-t", text, "-o", str(out)],
            capture_output=True,
            text=True,
            check=True,
        )
        with wave.open(str(out)) as track:
            rate = track.getframerate()
            raw = np.frombuffer(track.readframes(track.getnframes()), np.int16)
    phones, start = [], 0.0
    for item in done.stdout.split():
        name, end = item.rsplit(":", 1)
        phones.append(Phone(name=from_arpabet(name), start_s=start, end_s=float(end)))
        start = float(end)
    return raw.astype(np.float32) / 32768, rate, phones


# ---- espeak-ng ----


class _Event(ctypes.Structure):
    """`espeak_EVENT` of espeak-ng's speak_lib.h."""

    _fields_ = (
        ("type", ctypes.c_int),
        ("unique_identifier", ctypes.c_uint),
        ("text_position", ctypes.c_int),
        ("length", ctypes.c_int),
        ("audio_position", ctypes.c_int),
        ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p),
        ("string", ctypes.c_char * 8),
    )


_SYNCHRONOUS, _PHONEME_EVENTS, _IPA, _NO_EXIT = 2, 0x1, 0x2, 0x8000
_LIST_END, _PHONEME = 0, 7
_RATE, _PITCH, _RANGE = 1, 3, 4
_UTF8 = 1
_Callback = ctypes.CFUNCTYPE(
    ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(_Event)
)


@cache
def _espeak_library() -> tuple[ctypes.CDLL, int]:
    """The library, initialised, and its sample rate (it is one speaker a process)."""
    try:
        library = ctypes.CDLL("libespeak-ng.so.1")
    except OSError:
        raise FileNotFoundError(
            "the library libespeak-ng.so.1 was not found; install espeak-ng "
            "(Debian: apt install espeak-ng)"
        ) from None
    rate = library.espeak_Initialize(_SYNCHRONOUS, 0, None, _PHONEME_EVENTS | _IPA | _NO_EXIT)
    if rate <= 0:
        raise FileNotFoundError("espeak-ng has no voice data; install espeak-ng-data")
    return library, rate


def _listener(blocks: list[bytes], heard: list[tuple[int, str]]) -> Callable[..., int]:
    def listen(wave_pointer: Any, count: int, events: Any) -> int:  # noqa: ANN401 (C pointers)
        if count > 0:
            blocks.append(ctypes.string_at(wave_pointer, 2 * count))
        i = 0
        while events[i].type != _LIST_END:
            if events[i].type == _PHONEME:
                place = ctypes.addressof(events[i]) + _Event.string.offset
                # Eight bytes, not always ended by a zero: a long symbol may be cut inside a letter.
                symbol = ctypes.string_at(place, 8).split(b"\0")[0].decode(errors="ignore")
                heard.append((events[i].sample, symbol))
            i += 1
        return 0

    return listen


def _espeak(text: str, speaker: Speaker) -> tuple[Samples, int, list[Phone]]:
    library, rate = _espeak_library()
    blocks: list[bytes] = []
    heard: list[tuple[int, str]] = []
    callback = _Callback(_listener(blocks, heard))
    library.espeak_SetSynthCallback(callback)
    if library.espeak_SetVoiceByName(speaker.voice.encode()) != 0:
        raise ValueError(
            f"espeak-ng has no voice {speaker.voice!r}; `espeak-ng --voices` lists them"
        )
    library.espeak_SetParameter(_RATE, round(165 * speaker.rate), 0)
    library.espeak_SetParameter(_PITCH, round(np.clip(50 * speaker.pitch, 0, 99)), 0)
    library.espeak_SetParameter(_RANGE, round(np.clip(50 * speaker.liveliness, 0, 99)), 0)
    data = text.encode()
    library.espeak_Synth(data, len(data) + 1, 0, 1, 0, _UTF8, None, None)
    library.espeak_Synchronize()
    samples = np.frombuffer(b"".join(blocks), np.int16).astype(np.float32) / 32768
    return samples, rate, _timed(heard, samples, rate)


def _timed(heard: list[tuple[int, str]], samples: Samples, rate: int) -> list[Phone]:
    """Phones from the first sample of each symbol; a symbol of several phones is shared out evenly.

    An empty symbol is a pause or only a joint between sounds; what is heard there decides.
    """
    quiet = 0.06 * float(np.sqrt(np.mean(samples**2))) if len(samples) else 0.0
    phones: list[Phone] = []
    ends = [*(sample for sample, _ in heard[1:]), len(samples)][: len(heard)]
    for (start, symbol), end in zip(heard, ends, strict=True):
        if end <= start:
            continue
        names = from_ipa(symbol)
        if not names and phones and np.sqrt(np.mean(samples[start:end] ** 2)) > quiet:
            phones[-1] = replace(phones[-1], end_s=end / rate)
            continue
        names = names or ("sil",)
        step = (end - start) / len(names) / rate
        for i, name in enumerate(names):
            begin = start / rate + i * step
            phones.append(Phone(name=name, start_s=begin, end_s=begin + step))
    return phones
