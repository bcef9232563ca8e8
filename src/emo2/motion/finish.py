"""What is done to sampled motion beside the network (ours): silence closes the mouth and rests the hands, strokes
end on stressed syllables, tremor is filtered, and lids that begin to close do close.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn

from emo2.motion.channels import FACE, HAND_ROW, MOUTH_ACTIONS, is_mouth, one_hemisphere
from emo2.motion.rest import Rest
from emo2.motion.strokes import Strokes
from emo2.signals import FACE_ACTIONS, SpeechFeatures

QUIET_BELOW_LOUD = 0.6
"""36 dB below the voice's loud passages is silence (energy is in units of 60 dB)."""

HOLD_S = 0.2
"""A gap in the sound shorter than this to either side is no silence: stops and lip closures are silent too."""

_OPENING = tuple(FACE_ACTIONS.index(n) for n in MOUTH_ACTIONS if not n.startswith("mouthSmile"))


class Finish:
    """Rows as they come out of the network, finished; those wait that later ones may still change.

    Every filter sees `reach` frames to each side; strokes, rest and blinks keep a state and wait for what they need.
    So the result does not depend on the windows.
    """

    def __init__(
        self,
        features: SpeechFeatures,
        about: Float[Tensor, " c"],
        amplitude: float,
    ) -> None:
        """`features`: of any frames, for rate and loudness; `amplitude` scales the moves about one pose."""
        self.fps, self.loud = features.fps, features.loud
        self.about, self.amplitude = about, amplitude
        self.reach = len(_KERNEL) // 2 + max(1, round(HOLD_S * self.fps)) + _SOFT
        self.rows, self.energy = torch.zeros(0, len(about)), torch.zeros(0)
        self.context = 0
        """Frames held that have been given out already."""
        self.strokes = Strokes(self.fps, self.loud)
        self.shares = torch.zeros(0)
        """Activity of the frames that wait in `strokes`."""
        self.rest, self.blinks = Rest(), Blinks(self.fps)
        self.waiting = self.rows

    def add(
        self, rows: Float[Tensor, "n c"], energy: Float[Tensor, " n"], *, last: bool
    ) -> Float[Tensor, "m c"]:
        """The rows that are finished now that these are there."""
        self.rows = torch.cat((self.rows, rows))
        self.energy = torch.cat((self.energy, energy))
        ready = len(self.rows) if last else max(len(self.rows) - self.reach, self.context)
        filtered, share = self._filtered()
        now = slice(self.context, ready)
        placed = self.strokes.add(filtered[now], self.energy[now], last=last)
        self.shares = torch.cat((self.shares, share[now]))
        done = self.rest.add(placed, self.shares[: len(placed)])
        self.shares = self.shares[len(placed) :]
        keep = max(ready - self.reach, 0)
        self.rows, self.energy = self.rows[keep:], self.energy[keep:]
        self.context = ready - keep
        if done.shape[-1] == HAND_ROW:
            return done
        self.waiting = torch.cat((self.waiting, done))
        faces = self.blinks.add(done[:, FACE], last=last)
        whole, self.waiting = self.waiting[: len(faces)], self.waiting[len(faces) :]
        return torch.cat((whole[:, : FACE.start], faces, whole[:, FACE.stop :]), dim=1)

    def _filtered(self) -> tuple[Float[Tensor, "n c"], Float[Tensor, " n"]]:
        """What is held without tremor, of the wished size, the mouth at rest in silence; and the activity."""
        rows = scaled(smooth(self.rows), self.about, self.amplitude)
        share = activity(self.energy, self.fps, self.loud)
        if rows.shape[-1] > HAND_ROW:
            rows[:, FACE] = rest_gate(rows[:, FACE].clamp(0.0, 1.0), share)
        return rows, share


def scaled(
    rows: Float[Tensor, "f c"], about: Float[Tensor, " c"], amplitude: float
) -> Float[Tensor, "f c"]:
    """Hands, head and body (not the face) moved by `amplitude` times as much about one pose."""
    if amplitude == 1.0:
        return rows
    moved = about + amplitude * (one_hemisphere(rows, about) - about)
    if rows.shape[-1] > HAND_ROW:
        moved[:, FACE] = rows[:, FACE]
    return moved


def rest_gate(
    face: Float[Tensor, "frames 52"], activity: Float[Tensor, " frames"]
) -> Float[Tensor, "frames 52"]:
    """The face with its mouth at rest where the voice has been silent for some time to both sides."""
    gated = face.clone()
    gated[:, _OPENING] = face[:, _OPENING] * activity[:, None]
    return gated


SURELY_SILENT = 0.5
"""Probability of silence, by the head that names phones, from which a frame is silent however loud its noise is."""

_SILENCE = 0
"""Place of silence among the phones of the phone head (the studio's `PHONES`)."""


@torch.inference_mode()
def hushed(
    energy: Float[Tensor, " f"], phone: nn.Module, speech: Float[Tensor, "f d"]
) -> Float[Tensor, " f"]:
    """Energy of the voice alone: none where `phone`, the head that names phones, hears silence in the speech.

    Rooms, applause and hiss stand less than 36 dB below most real voices, so loudness alone finds no pause in them.
    """
    silent = phone(speech).float().softmax(-1)[:, _SILENCE] > SURELY_SILENT
    return torch.where(silent.to(energy.device), 0.0, energy)


_SOFT = 2
"""Frames to each side over which the gate opens and closes."""


def activity(energy: Float[Tensor, " frames"], fps: float, loud: float) -> Float[Tensor, " frames"]:
    """0 in silence, 1 in speech, smooth between; silence is judged against the voice's own loud passages."""
    is_loud = (energy > loud - QUIET_BELOW_LOUD).float() * float(loud > 0)
    reach = max(1, round(HOLD_S * fps))
    near = torch.nn.functional.max_pool1d(is_loud[None], 2 * reach + 1, stride=1, padding=reach)
    soft = torch.nn.functional.avg_pool1d(
        torch.nn.functional.pad(near, (_SOFT, _SOFT), mode="replicate"), 2 * _SOFT + 1, stride=1
    )
    return soft[0]


_KERNEL = torch.tensor((1.0, 6.0, 15.0, 20.0, 15.0, 6.0, 1.0)) / 64.0
"""Binomial, 1.2 frames wide: keeps strokes, removes what trembles from frame to frame."""

_BLINKS = tuple(FACE.start + FACE_ACTIONS.index(f"eyeBlink{side}") for side in ("Left", "Right"))


def smooth(rows: Float[Tensor, "frames c"]) -> Float[Tensor, "frames c"]:
    """Rows without tremor; mouth and blinks, which are quick, and the two end frames stay as they are."""
    reach = len(_KERNEL) // 2
    if len(rows) <= reach:
        return rows.clone()
    # Reflected through the end points, so that the first frame remains the photo's pose.
    before = 2.0 * rows[:1] - rows[1 : reach + 1].flip(0)
    after = 2.0 * rows[-1:] - rows[-reach - 1 : -1].flip(0)
    signal = torch.cat((before, rows, after))
    # Summed in one order wherever a row stands, so that windows give the same bits as the whole.
    calm = torch.zeros_like(rows)
    for place, weight in enumerate(_KERNEL.tolist()):
        calm = calm + weight * signal[place : place + len(rows)]
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

_SHUT_S = 0.08
"""Time in which lids close."""


def full_blinks(face: Float[Tensor, "frames 52"], fps: float) -> Float[Tensor, "frames 52"]:
    """The face with each begun blink made whole: shut within 0.08 s, open again 0.2 s later."""
    return Blinks(fps).add(face, last=True)


class Blinks:
    """`full_blinks` for faces that come in pieces; those wait whose lids a later frame may still change."""

    def __init__(self, fps: float) -> None:
        self.fps = fps
        self.apart = max(1, round(_BLINK_APART_S / 2 * fps))
        self.pause = round(_BLINK_AT_LAST_S / 2 * fps)
        """Frames after a blink before one may be made where none was begun."""
        self.faces = torch.zeros(0, len(FACE_ACTIONS))
        self.done = 0
        """Frames given out; `faces` begin here."""
        self.lids, self.base = torch.zeros(0), 0
        """Closure of the lids from frame `base` on."""
        self.times: list[int] = []
        self.searched = 0
        """All peaks before this frame have been seen."""

    def add(self, face: Float[Tensor, "n 52"], *, last: bool) -> Float[Tensor, "m 52"]:
        """The faces that are whole now that these are there."""
        self.faces = torch.cat((self.faces, face))
        self.lids = torch.cat((self.lids, face[:, _LIDS].mean(dim=-1)))
        total = self.base + len(self.lids)
        self._decide(total if last else max(total - self.apart, self.searched))
        latest = self.times[-1] if self.times else 0
        ready = total
        if not last:  # the lids begin to close two frames before a blink
            coming = min(self.searched, latest + self.pause)
            ready = max(coming - math.ceil(_SHUT_S * self.fps), self.done)
        count = ready - self.done
        whole = self._blinked(self.faces[:count])
        self.faces, self.done = self.faces[count:], ready
        keep = max(total - round(2 * _BLINK_AT_LAST_S * self.fps) - self.base, 0)
        self.lids, self.base = self.lids[keep:], self.base + keep
        self.times = self.times[-4:]
        return whole

    def _decide(self, known: int) -> None:
        """Blinks are at peaks of the lids' closure, and at the best moment where none comes for too long."""
        if not len(self.lids):
            return
        width = 2 * self.apart + 1
        highest = torch.nn.functional.max_pool1d(self.lids[None], width, 1, self.apart)[0]
        is_peak = (self.lids >= highest) & (self.lids > _BLINK_FROM)
        peaks = [self.base + i for i in is_peak.nonzero()[:, 0].tolist()]
        for peak in [*(p for p in peaks if self.searched <= p < known), known]:
            latest = self.times[-1] if self.times else 0
            while peak - latest > _BLINK_AT_LAST_S * self.fps:
                first, until = latest + self.pause, latest + round(_BLINK_AT_LAST_S * self.fps)
                best = self.lids[first - self.base : until - self.base].argmax()
                latest = first + int(best)
                self.times.append(latest)
            is_apart = peak - latest >= self.apart
            if not self.times:
                is_apart = peak >= _BLINK_NEVER_BEFORE_S * self.fps
            if peak < known and is_apart:
                self.times.append(peak)
        self.searched = known

    def _blinked(self, face: Float[Tensor, "n 52"]) -> Float[Tensor, "n 52"]:
        time = torch.arange(self.done, self.done + len(face)) / self.fps
        pulse = torch.zeros(len(face))
        for at in self.times:
            since = time - at / self.fps
            shut = torch.where(since < 0, 1.0 + since / _SHUT_S, 1.0 - (since - 0.04) / 0.16)
            pulse = torch.maximum(pulse, shut.clamp(0.0, 1.0))
        whole = face.clone()
        whole[:, _LIDS] = torch.maximum(face[:, _LIDS].clamp(max=0.5), pulse[:, None])
        return whole
