"""Voice to features: our compact encoder (`mel`), and adapters over stock wav2vec 2.0 and Whisper.

    ears = load_encoder(config.speech)              # or load_encoder(config.speech, folder or file)
    features = ears.encode(speech, fps)             # SpeechFeatures, at its own rate: features.fps
    reel = Reel(ears.stream(speech, fps), ears.count(speech, fps))          # the same, a stretch of it in memory
    tokens.around(features.values, frames)          # what a clip's frames attend to: see `tokens`

transformers is imported when such an encoder is built, and not before.
"""

from emo2.speech.load import Ears, encoder_of, load_encoder, save_encoder
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
    "Ears",
    "SpeechEncoder",
    "context_rows",
    "encoder_of",
    "gain_of",
    "level_counts",
    "level_gain",
    "load_encoder",
    "measure",
    "samples_for",
    "save_encoder",
]
