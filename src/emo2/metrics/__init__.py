"""Measures of a film and of a motion, each beside a control, so that a number cannot flatter (facts of the field:
beat alignment is close to chance on real motion, and jitter raises it)."""

from emo2.metrics.flow import end_point_error, psnr, ssim
from emo2.metrics.motion import Alignment, beat_alignment, diversity, jerk, rest_fraction
from emo2.metrics.mouth import LipSync, lip_sync, mouth_opening, voice_envelope

__all__ = [
    "Alignment",
    "LipSync",
    "beat_alignment",
    "diversity",
    "end_point_error",
    "jerk",
    "lip_sync",
    "mouth_opening",
    "psnr",
    "rest_fraction",
    "ssim",
    "voice_envelope",
]
