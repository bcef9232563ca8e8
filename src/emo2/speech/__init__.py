"""Voice to features: our compact encoder (`mel`), and adapters over stock wav2vec 2.0 and Whisper."""

from emo2.speech.mel import (
    ROW_RATE,
    SpeechEncoder,
    context_rows,
    gain_of,
    level_counts,
    level_gain,
    measure,
    samples_for,
)

__all__ = [
    "ROW_RATE",
    "SpeechEncoder",
    "context_rows",
    "gain_of",
    "level_counts",
    "level_gain",
    "measure",
    "samples_for",
]
