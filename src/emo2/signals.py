"""The nouns that flow between the modules: one frozen dataclass each (design: "The nouns").

Inside the package images and video are float RGB, channels first, in [-1, 1]; audio is mono float with its
rate; sizes are (height, width); every signal carries its rate.  Pixel positions are (x, y) with the centre
of the first pixel at (0.5, 0.5).  "Left" and "right" are always the depicted person's own.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor

HAND_SIDES = ("left", "right")
HAND_NUMBERS = 67
"""Per hand and frame: 16 joint rotations as quaternions (w, x, y, z) in MANO order, then wrist translation."""

FACE_ACTIONS = (
    "browDownLeft", "browDownRight", "browInnerUp", "browOuterUpLeft", "browOuterUpRight", "cheekPuff",
    "cheekSquintLeft", "cheekSquintRight", "eyeBlinkLeft", "eyeBlinkRight", "eyeLookDownLeft",
    "eyeLookDownRight", "eyeLookInLeft", "eyeLookInRight", "eyeLookOutLeft", "eyeLookOutRight",
    "eyeLookUpLeft", "eyeLookUpRight", "eyeSquintLeft", "eyeSquintRight", "eyeWideLeft", "eyeWideRight",
    "jawForward", "jawLeft", "jawOpen", "jawRight", "mouthClose", "mouthDimpleLeft", "mouthDimpleRight",
    "mouthFrownLeft", "mouthFrownRight", "mouthFunnel", "mouthLeft", "mouthLowerDownLeft",
    "mouthLowerDownRight", "mouthPressLeft", "mouthPressRight", "mouthPucker", "mouthRight",
    "mouthRollLower", "mouthRollUpper", "mouthShrugLower", "mouthShrugUpper", "mouthSmileLeft",
    "mouthSmileRight", "mouthStretchLeft", "mouthStretchRight", "mouthUpperUpLeft", "mouthUpperUpRight",
    "noseSneerLeft", "noseSneerRight", "tongueOut",
)  # fmt: skip
"""The 52 ARKit face actions, in the order of every `face` tensor."""

HEAD_CHANNELS = ("yaw", "pitch", "roll", "dx", "dy", "dz")
"""Head against torso: radians (yaw: towards the image's right, pitch: down, roll: clockwise in the image), metres."""

BODY_CHANNELS = ("yaw", "pitch", "roll", "left_shoulder_up", "right_shoulder_up", "breath")
"""Torso in radians (signs as the head's), shoulders raised in metres, breath in 0..1."""

BODY_POINTS = (
    "head_top", "neck", "left_shoulder", "right_shoulder",
    "left_elbow", "right_elbow", "left_wrist", "right_wrist",
)  # fmt: skip
"""Order of `Portrait.body_points`."""


FOLDED = "The hands lie in each other; they move as one."
"""The note of a portrait with folded hands."""


@runtime_checkable
class Voice(Protocol):
    """What `Speech` needs of a source of samples."""

    def blocks(self, size: int) -> Iterator[Float[Tensor, " n"]]:
        """Consecutive blocks of at most `size` mono samples, from the beginning."""
        ...


@dataclass(frozen=True, kw_only=True)
class Portrait:
    """A picture and what was found in it."""

    image: Float[Tensor, "3 h w"]
    """RGB in [-1, 1]."""
    face_box: Float[Tensor, "4"]
    """x0, y0, x1, y1 in pixels: brow to chin, ear to ear."""
    face_points: Float[Tensor, "68 2"]
    """iBUG-68 order, pixels."""
    body_points: Float[Tensor, "8 3"]
    """x, y in pixels and confidence 0..1, in the order of `BODY_POINTS`."""
    hand_points: Float[Tensor, "2 21 3"]
    """x, y in pixels and confidence 0..1; left, right; OpenPose order of the 21 points."""
    hands_present: tuple[bool, bool]
    """Left, right: seen surely enough to be moved, each by itself."""
    folded: bool = False
    """The hands lie in each other (`hand_points` are theirs, neither is present by itself): they move as one."""
    limb_masks: Float[Tensor, "4 h w"] | None = None
    """Soft masks 0..1: left forearm with sleeve, left hand, right forearm with sleeve, right hand."""
    body_masks: Float[Tensor, "3 h w"] | None = None
    """Soft and coarse shares 0..1: torso with head, left arm with hand, right arm; the rest is what is behind."""
    notes: tuple[str, ...] = ()
    """Sentences for the user: what is unsure and what follows."""

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) in pixels."""
        return self.image.shape[-2], self.image.shape[-1]


@dataclass(frozen=True, kw_only=True)
class Speech:
    """A voice, read in blocks so that hours fit."""

    voice: Voice
    """Mono float samples in [-1, 1] at `sample_rate`."""
    sample_rate: int
    num_samples: int
    source: Path | None = None
    """The user's own file, muxed into the film untouched; None for samples that were passed in."""

    @property
    def duration_s(self) -> float:
        """Length in seconds."""
        return self.num_samples / self.sample_rate


@dataclass(frozen=True, kw_only=True)
class SpeechFeatures:
    """Encoded speech, one row a video frame."""

    values: Float[Tensor, "frames layers width"]
    energy: Float[Tensor, " frames"]
    """Loudness of the frame in 0..1 (0: -60 dBFS or less)."""
    voiced: Float[Tensor, " frames"]
    """Probability that the frame is voiced, 0..1."""
    fps: float
    loud: float = 2 / 3
    """Energy of the whole voice's loud passages, by which silence is told; -20 dBFS where nobody measured it."""
    halfway: Float[Tensor, "frames layers width"] | None = None
    """What is heard half a frame later, where the encoder listens there too: at 25 frames a second an m may fall between."""

    PER_FRAME: ClassVar[tuple[str, ...]] = ("values", "energy", "voiced", "halfway")

    def __len__(self) -> int:
        return self.values.shape[0]


@dataclass(frozen=True, kw_only=True)
class Motion:
    """Hands, and optionally the hints: what stage 1 makes, a person may edit and stage 2 obeys."""

    hands: Float[Tensor, "frames 2 67"]
    """Left, right: 16 unit quaternions (w, x, y, z), then the wrist in metres, in the frame of design §3."""
    visibility: Float[Tensor, "frames 2"]
    """1 where the hand is seen, else 0."""
    confidence: Float[Tensor, "frames 2"]
    """0..1."""
    betas: Float[Tensor, "10"]
    """Hand shape."""
    fps: float
    face: Float[Tensor, "frames 52"] | None = None
    """0..1, order of `FACE_ACTIONS`."""
    head: Float[Tensor, "frames 6"] | None = None
    """Order of `HEAD_CHANNELS`."""
    body: Float[Tensor, "frames 6"] | None = None
    """Order of `BODY_CHANNELS`."""
    gaze: Float[Tensor, "frames 2"] | None = None
    """Yaw (image's right) and pitch (down) of the eyes against the head, radians."""

    PER_FRAME: ClassVar[tuple[str, ...]] = (
        "hands",
        "visibility",
        "confidence",
        "face",
        "head",
        "body",
        "gaze",
    )

    def __len__(self) -> int:
        return self.hands.shape[0]


@dataclass(frozen=True, kw_only=True)
class GuidanceMaps:
    """Per frame rasters of `Motion` (design §5)."""

    hand_surface: Float[Tensor, "frames 3 h w"]
    """Colour-coded hand mesh on white, [-1, 1]."""
    key_points: Float[Tensor, "frames 3 h w"]
    """Coloured discs and limbs on black, [-1, 1]."""
    hand_masks: Float[Tensor, "frames 2 h w"]
    """0..1; left, right."""
    confidence: Float[Tensor, "frames 2"]
    face_region: Float[Tensor, "1 h w"]
    """Soft mask 0..1 of where the face may be (EMO's Face Locator)."""


@dataclass(frozen=True, kw_only=True)
class Appearance:
    """What the reference network says of a portrait's view; computed once per film."""

    features: tuple[Float[Tensor, "b _ _"], ...]
    """Normalised inputs of the spatial attentions, one per site, in order."""
    output: Float[Tensor, "b c h w"] | None = None
    """The network's output: in `compact` the motion basis, in `full` nothing."""
    own: Float[Tensor, "b 52"] | None = None
    """The photo's own face actions (`compact`), in the units of stage 2's conditions."""


@dataclass(frozen=True, kw_only=True)
class Clip:
    """Some consecutive frames of the film."""

    frames: Float[Tensor, "f 3 h w"]
    """RGB in [-1, 1]."""
    start: int
    """Index of the first frame in the film."""
    fps: float
    readings: dict[str, float] = field(default_factory=dict)
    """Quality readings by name."""
    state: dict[str, Tensor] = field(default_factory=dict)
    """What making the next clip needs of this one (motion frames): with it a killed run goes on here."""
