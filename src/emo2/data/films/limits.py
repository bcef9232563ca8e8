"""What a shot must be to be trained on, and the sentence for each way of falling short."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Thresholds; each frame, window or shot that misses one is left out with its reason."""

    least_view_px: int = 150
    """Film pixels a side of a view: smaller ones would be enlarged more than 1.7 times to 256."""
    most_blur: float = 0.86
    """Of the face at 112 pixels a side (`blur_of`): half-body films of 1080 x 1920 have up to 0.85."""
    most_yaw: float = 0.7
    most_pitch: float = 0.6
    """Radians from the camera."""
    second_face: float = 0.45
    """A second face this large against the first makes two."""
    least_light: float = 0.04
    """Spread of a face's brightness (0..1): darker or flatter faces show nothing."""
    most_camera_move: float = 0.03
    """How far the picture's upper corners and sides move, in sides of the view: more is the camera, or a zoom."""
    least_seen: float = 0.55
    """Share of the face that the reference must show."""
    least_mouth_move: float = 0.012
    """Spread of the mouth's opening while a voice sounds, in distances between the eyes."""
    least_sync: float = 0.1
    """Correlation of opening and loudness at the best lag, if it is no more than that of shifted voices either."""
    least_body: float = 0.4
    """Share of the body view that the picture covers."""


REASONS = {
    "no face": "no face is seen",
    "face lost": "the face is lost",
    "two faces": "two faces are seen",
    "too small": "the face is too small for the view",
    "blurred": "the face is blurred",
    "too dark": "the face is too dark or flat",
    "turned away": "the head is turned away too far",
    "out of view": "the head leaves the view",
    "camera moves": "the camera moves or zooms",
    "face hidden": "too much of the face is hidden or not found again",
    "too short": "the shot is too short",
    "left over": "they do not fill a window",
    "no sound": "there is no sound (--silent keeps such shots as pictures)",
    "no voice": "no voice is heard",
    "mouth still": "a voice sounds, but this mouth hardly moves",
    "not in time": "the mouth does not move with the voice",
    "body cut off": "too little of the body is in the picture",
}
"""Key to sentence."""


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What became of one shot in one view."""

    film: str
    shot: int
    start_s: float
    frames: int
    view: str
    windows: int = 0
    kept_frames: int = 0
    reasons: dict[str, int] = field(default_factory=dict)
    """Reason to frames that it cost."""
    facts: dict[str, float] = field(default_factory=dict)
    """What was measured."""

    @property
    def sentence(self) -> str:
        """Kept, or why not."""
        if self.windows:
            return "kept" if self.kept_frames == self.frames else "kept in part"
        return "; ".join(REASONS[r] for r in self.reasons) or REASONS["too short"]


def cut_windows(good: Sequence[bool], length: int) -> list[int]:
    """First frames of as many windows of `length` good frames in a row as fit, spread over each good stretch."""
    starts, begin = [], None
    for index, fine in enumerate([*good, False]):
        if fine and begin is None:
            begin = index
        elif not fine and begin is not None:
            room = index - begin
            count = room // length
            gap = (room - count * length) / max(count, 1)
            starts += [begin + round(k * (length + gap) + gap / 2) for k in range(count)]
            begin = None
    return starts


def count_reasons(marks: Sequence[str]) -> dict[str, int]:
    """How many frames each reason cost ("" is none), the commonest first."""
    counts = Counter(m for m in marks if m)
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))
