"""What joy, anger, sadness, surprise and contempt add to a face and to how a person moves (ours).

Which actions take part follows the prototypes of the Facial Action Coding System (Ekman and Friesen 1978) in
ARKit's names; how much is ours.  Lips that must meet still meet: nothing here opens or rounds them.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from emo2.signals import FACE_ACTIONS


@dataclass(frozen=True, kw_only=True)
class Emotion:
    """What a feeling changes, at full strength."""

    face: dict[str, float] = field(default_factory=dict)
    """Added to actions; a name without a side moves both."""
    opening: float = 1.0
    """Scale of mouth opening."""
    size: float = 1.0
    """Scale of gestures."""
    tempo: float = 1.0
    """Scale of the pace of hands and head."""
    head_deg: tuple[float, float] = (0.0, 0.0)
    """Head down, head to the side."""
    voice: tuple[float, float, float] = (1.0, 1.0, 1.0)
    """Scales of a made-up voice's pitch, rate and range."""


EMOTIONS: dict[str, Emotion] = {
    "neutral": Emotion(),
    "joy": Emotion(
        face={"mouthSmile": 0.4, "cheekSquint": 0.35, "eyeSquint": 0.12, "mouthDimple": 0.1,
              "browOuterUp": 0.1},
        opening=1.1, size=1.1, tempo=1.08, head_deg=(-2.0, 1.5), voice=(1.12, 1.06, 1.4),
    ),
    "anger": Emotion(
        face={"browDown": 0.6, "eyeSquint": 0.3, "noseSneer": 0.25, "mouthUpperUp": 0.06,
              "mouthFrown": 0.12, "eyeWide": 0.1},
        opening=1.15, size=1.15, tempo=1.15, head_deg=(3.0, 0.0), voice=(1.05, 1.12, 1.5),
    ),
    "sadness": Emotion(
        face={"browInnerUp": 0.5, "mouthFrown": 0.35, "eyeSquint": 0.12, "mouthShrugLower": 0.15},
        opening=0.85, size=0.7, tempo=0.78, head_deg=(5.0, 2.0), voice=(0.9, 0.82, 0.6),
    ),
    "surprise": Emotion(
        face={"browInnerUp": 0.5, "browOuterUp": 0.55, "eyeWide": 0.5},
        opening=1.2, size=1.05, tempo=1.05, head_deg=(-3.0, 0.0), voice=(1.18, 1.0, 1.6),
    ),
    "contempt": Emotion(
        face={"mouthSmileLeft": 0.3, "mouthDimpleLeft": 0.35, "eyeSquint": 0.25, "browDownLeft": 0.2,
              "browOuterUpRight": 0.25, "noseSneerLeft": 0.12},
        opening=0.95, size=0.85, tempo=0.9, head_deg=(-4.0, 3.0), voice=(0.95, 0.94, 0.8),
    ),
}  # fmt: skip
"""The six feelings."""


def places_of(action: str, *, flip: bool) -> list[int]:
    """The actions that a name means, both sides where it names none; `flip`: left for right."""
    if action in FACE_ACTIONS:
        if flip:
            swap = {"Left": "Right", "Right": "Left"}
            side = "Left" if action.endswith("Left") else "Right"
            action = action.removesuffix(side) + swap[side] if action.endswith(side) else action
        return [FACE_ACTIONS.index(action)]
    return [FACE_ACTIONS.index(action + side) for side in ("Left", "Right")]
