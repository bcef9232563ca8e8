"""Onsets of recordings, ours beside librosa's (pip install librosa): counts, and how many differ.

python benchmarks/parity_of_onsets.py RECORDING ...
"""

from __future__ import annotations

import argparse
from pathlib import Path

import librosa
import numpy as np
import torch

from emo2 import media
from emo2.metrics.onsets import detect_onsets

HOP = 512


def main() -> None:
    """One line a recording, and the sum."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("recordings", type=Path, nargs="+")
    total = odd = 0
    for path in parser.parse_args().recordings:
        speech = media.read_voice(path)
        samples = torch.cat(list(speech.voice.blocks(65_536))).numpy()
        for backtrack in (False, True):
            ours = detect_onsets(samples, speech.sample_rate, backtrack=backtrack).numpy()
            theirs = librosas(samples, speech.sample_rate, backtrack=backtrack)
            same = len(ours) == len(theirs) and bool(np.allclose(ours, theirs, atol=1e-6))
            total, odd = total + len(theirs), odd + (not same)
            if not same:
                print(f"{path.name}: {len(ours)} and {len(theirs)} onsets, not the same")
    print(f"{total} onsets, {odd} recordings differ")


def librosas(samples: np.ndarray, rate: int, *, backtrack: bool) -> np.ndarray:
    """Seconds."""
    frames = librosa.onset.onset_detect(y=samples, sr=rate, hop_length=HOP)
    if backtrack:
        energy = librosa.feature.rms(y=samples, hop_length=HOP)[0]
        frames = librosa.onset.onset_backtrack(frames, energy)
    return librosa.frames_to_time(frames, sr=rate, hop_length=HOP)


if __name__ == "__main__":
    main()
