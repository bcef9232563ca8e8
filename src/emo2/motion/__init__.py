"""Stage 1: from voice to hands, and in the compact preset to face, head and body (EMO2 §3.1, design §4)."""

from emo2.motion.channels import MOUTH_ACTIONS, pack, unpack
from emo2.motion.network import MotionDiT
from emo2.motion.speech_motion import SpeechMotion
from emo2.motion.stage import MotionBatch, MotionStage

__all__ = [
    "MOUTH_ACTIONS",
    "MotionBatch",
    "MotionDiT",
    "MotionStage",
    "SpeechMotion",
    "pack",
    "unpack",
]
