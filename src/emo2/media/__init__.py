"""Files to signals and back: the only place that knows uint8, channels-last, ffmpeg and Pillow."""

from emo2.media.film import Film, num_frames
from emo2.media.photo import read_photo
from emo2.media.voice import read_voice, speech_from_samples

__all__ = ["Film", "num_frames", "read_photo", "read_voice", "speech_from_samples"]
