"""What is done to sampled motion beside the network (ours): silence closes the mouth, tremor is
filtered, and lids that begin to close do close.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from emo2.motion.channels import FACE, MOUTH_ACTIONS, is_mouth
from emo2.signals import FACE_ACTIONS, SpeechFeatures

QUIET_BELOW_LOUD = 0.6
"""36 dB below the voice's loud passages is silence (energy is in units of 60 dB)."""

HOLD_S = 0.2
"""A gap in the sound shorter than this to either side is no silence: stops and lip closures are silent too."""

_OPENING = tuple(FACE_ACTIONS.index(n) for n in MOUTH_ACTIONS if not n.startswith("mouthSmile"))


def rest_gate(
    face: Float[Tensor, "frames 52"], features: SpeechFeatures
) -> Float[Tensor, "frames 52"]:
    """The face with its mouth at rest where the voice has been silent for some time to both sides."""
    open_share = activity(features.energy, features.fps)
    gated = face.clone()
    gated[:, _OPENING] = face[:, _OPENING] * open_share[:, None]
    return gated


def activity(energy: Float[Tensor, " frames"], fps: float) -> Float[Tensor, " frames"]:
    """0 in silence, 1 in speech, smooth between; silence is judged against the voice's own loud passages."""
    loud = torch.quantile(energy[:: max(1, len(energy) // 100_000)], 0.95)
    is_loud = (energy > loud - QUIET_BELOW_LOUD).float() * float(loud > 0)
    reach = max(1, round(HOLD_S * fps))
    near = torch.nn.functional.max_pool1d(is_loud[None], 2 * reach + 1, stride=1, padding=reach)
    soft = torch.nn.functional.avg_pool1d(
        torch.nn.functional.pad(near, (2, 2), mode="replicate"), 5, stride=1
    )
    return soft[0]


_KERNEL = torch.tensor((1.0, 6.0, 15.0, 20.0, 15.0, 6.0, 1.0)) / 64.0
"""Binomial, 1.2 frames wide: keeps strokes, removes what trembles from frame to frame."""

_BLINKS = tuple(FACE.start + FACE_ACTIONS.index(f"eyeBlink{side}") for side in ("Left", "Right"))


def smooth(rows: Float[Tensor, "frames c"]) -> Float[Tensor, "frames c"]:
    """Rows without tremor; mouth and blinks, which are quick, and the two end frames stay as they are."""
    reach = len(_KERNEL) // 2
    if len(rows) <= reach:
        return rows
    # Reflected through the end points, so that the first frame remains the photo's pose.
    before = 2.0 * rows[:1] - rows[1 : reach + 1].flip(0)
    after = 2.0 * rows[-1:] - rows[-reach - 1 : -1].flip(0)
    signal = torch.cat((before, rows, after)).T[:, None]
    calm = torch.nn.functional.conv1d(signal, _KERNEL[None, None])[:, 0].T
    quick = torch.zeros(rows.shape[-1], dtype=torch.bool)
    if rows.shape[-1] >= FACE.stop:
        quick = is_mouth(hints=True)
        quick[list(_BLINKS)] = True
    return torch.where(quick, rows, calm)


_LIDS = tuple(i - FACE.start for i in _BLINKS)
_BLINK_FROM = 0.1
"""Lid closure that counts as the wish to blink; few sampling steps leave most wishes half done."""

_BLINK_APART_S = 1.5
_BLINK_NEVER_BEFORE_S = 0.4
"""The first frame is the photo's, with its eyes as they are."""

_BLINK_AT_LAST_S = 6.0
"""Longest time with open eyes."""


def full_blinks(face: Float[Tensor, "frames 52"], fps: float) -> Float[Tensor, "frames 52"]:
    """The face with each begun blink made whole: shut within 0.08 s, open again 0.2 s later."""
    lids = face[:, _LIDS].mean(dim=-1)
    time = torch.arange(len(face)) / fps
    pulse = torch.zeros(len(face))
    for at in _blink_times(lids, fps):
        since = time - at / fps
        shut = torch.where(since < 0, 1.0 + since / 0.08, 1.0 - (since - 0.04) / 0.16)
        pulse = torch.maximum(pulse, shut.clamp(0.0, 1.0))
    whole = face.clone()
    whole[:, _LIDS] = torch.maximum(face[:, _LIDS].clamp(max=0.5), pulse[:, None])
    return whole


def _blink_times(lids: Float[Tensor, " frames"], fps: float) -> list[int]:
    """Frames of the blinks: peaks of the lids' closure, and the best moment where none comes for too long."""
    apart = max(1, round(_BLINK_APART_S / 2 * fps))
    highest = torch.nn.functional.max_pool1d(lids[None], 2 * apart + 1, stride=1, padding=apart)[0]
    peaks = ((lids >= highest) & (lids > _BLINK_FROM)).nonzero()[:, 0].tolist()
    times: list[int] = []
    for peak in [*peaks, len(lids)]:
        last = times[-1] if times else 0
        while peak - last > _BLINK_AT_LAST_S * fps:
            first = last + round(_BLINK_AT_LAST_S / 2 * fps)
            until = last + round(_BLINK_AT_LAST_S * fps)
            last = first + int(lids[first:until].argmax())
            times.append(last)
        is_apart = peak - times[-1] >= apart if times else peak >= _BLINK_NEVER_BEFORE_S * fps
        if peak < len(lids) and is_apart:
            times.append(peak)
    return times
