"""Stage 2: from a photo, a voice and a motion to film (EMO §3, EMO2 §3, design §6)."""

from emo2.video.stage import VideoStage

__all__ = ["VideoStage"]
