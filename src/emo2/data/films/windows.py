"""Windows of a seen shot as tensors of the studio's shards, and the shot's voice and motion for stage 1."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float
from numpy import ndarray

from emo2.config import Config
from emo2.data.films.limits import Limits, Verdict, count_reasons, cut_windows
from emo2.data.films.seen import SeenShot, SeenView
from emo2.data.motion_windows import Performance, performance
from emo2.metrics.mouth import lip_sync, voice_envelope
from emo2.motion.channels import BODY, FACE, GAZE, HANDS, HEAD, row_width
from emo2.signals import HAND_NUMBERS, Motion

SAMPLE_RATE, LEAD_S, FPS = 16_000, 1.0, 25
"""As the studio's takes."""
HEARD = 0.5
"""Loudness (`voice_envelope`) from which on a voice counts as heard: -30 dBFS."""
_ENOUGH = 24
"""Frames that correlation needs."""
KNOWN_GROUPS = (0, 1, 0)
"""Face actions (all 52), head, torso: what stage 2 is told of real film."""


@dataclass(frozen=True, kw_only=True)
class Sound:
    """A film's voice, mono."""

    samples: Float[ndarray, " n"]

    def about(self, start: int, frames: int, lead_s: float = LEAD_S) -> Float[ndarray, " m"]:
        """The samples of some frames with what leads to them and follows; silence beyond the ends."""
        first = round((start / FPS - lead_s) * SAMPLE_RATE)
        count = round((frames / FPS + 2 * lead_s) * SAMPLE_RATE)
        out = np.zeros(count, np.float32)
        low, high = max(first, 0), min(first + count, len(self.samples))
        if high > low:
            out[low - first : high - first] = self.samples[low:high]
        return out


@dataclass(frozen=True, kw_only=True)
class Listening:
    """What a shot's sound says of it."""

    reason: str
    """Why the shot is no talking one; "" where it is."""
    facts: dict[str, float]


def listen(seen: SeenShot, sound: Sound | None, limits: Limits) -> Listening:
    """Does a voice sound, and does the mouth move with it."""
    if sound is None:
        return Listening(reason="no sound", facts={})
    shot = seen.plan.shot
    samples = torch.from_numpy(sound.about(shot.start, len(shot), 0.0))
    envelope = voice_envelope(samples, SAMPLE_RATE, FPS, len(shot))
    heard = float((envelope > HEARD).float().mean())
    move = float(seen.opening[(envelope > HEARD).numpy()].std()) if heard > 0 else 0.0
    facts = {"heard": heard, "mouth_move": move}
    if heard < 0.1:
        return Listening(reason="no voice", facts=facts)
    if move < limits.least_mouth_move:
        return Listening(reason="mouth still", facts=facts)
    if len(shot) < _ENOUGH:
        return Listening(reason="", facts=facts)
    sync = lip_sync(torch.from_numpy(seen.opening), envelope)
    facts |= {"sync": sync.correlation, "lag": float(sync.lag), "sync_shifted": sync.shuffled}
    off = sync.correlation < limits.least_sync and sync.correlation <= sync.shuffled
    return Listening(reason="not in time" if off else "", facts=facts)


@dataclass(frozen=True, kw_only=True)
class Window:
    """One person of a shard: a window of a shot in a view."""

    group: str
    """Folder of the set: view, and takes (with their voice) or silent."""
    tensors: dict[str, ndarray]


def cut_shot(
    seen: SeenShot, sound: Sound | None, film: str, number: int, limits: Limits, frames: int, *,
    silent: bool,
) -> tuple[list[Window], list[Verdict]]:  # fmt: skip
    """The windows of a shot that are good in a view, and what became of it in every view."""
    heard = listen(seen, sound, limits)
    keep_silent = silent and heard.reason in ("no sound", "no voice")
    windows, verdicts = [], []
    for view in seen.views:
        marks = list(view.marks)
        if heard.reason and not keep_silent:
            marks = [mark or heard.reason for mark in marks]
        starts = cut_windows([not mark for mark in marks], frames)
        group = f"{view.name}-{'silent' if keep_silent else 'takes'}"
        windows += [
            Window(group=group, tensors=_tensors(seen, view, sound, start, frames))
            for start in starts
        ]
        verdicts.append(_verdict(seen, view, marks, starts, frames, (film, number, heard.facts)))
    return windows, verdicts


def _verdict(
    seen: SeenShot,
    view: SeenView,
    marks: list[str],
    starts: list[int],
    frames: int,
    told: tuple[str, int, dict[str, float]],
) -> Verdict:
    film, number, heard = told
    used = np.zeros(len(marks), bool)
    for start in starts:
        used[start : start + frames] = True
    unused = "left over" if starts else "too short"
    short = [m if m or u else unused for m, u in zip(marks, used, strict=True)]
    facts = {**seen.plan.facts, **heard}
    if used.any():
        facts |= {
            "psnr_held": float(view.psnr_held[used].mean()),
            "psnr_moved": float(view.psnr_moved[used].mean()),
            "visible": float(view.visibility[used].mean()) / 255.0,
            "sure": float(view.sure[used].mean()) / 255.0,
        }
    return Verdict(
        film=film, shot=number, start_s=seen.plan.shot.start / FPS, frames=len(marks),
        view=view.name, windows=len(starts), kept_frames=int(used.sum()),
        reasons=count_reasons(short), facts={k: round(v, 4) for k, v in facts.items()},
    )  # fmt: skip


def _tensors(
    seen: SeenShot, view: SeenView, sound: Sound | None, start: int, frames: int
) -> dict[str, ndarray]:
    """What a studio's shard has of a person, and what is known of it."""
    span = np.arange(start, start + frames)
    rows = np.concatenate([[seen.plan.reference], span])
    hands = seen.hands
    places = hands.points[rows].copy()
    places[..., :2] = (places[..., :2] - [view.view.left, view.view.top]) / view.view.side
    places[..., 2] = (places[..., 2] > 0.0) & (hands.confidence[rows] > 0.0)[..., None]
    head = np.concatenate([seen.head[rows]])
    actions = seen.actions[rows]
    tensors = {
        "reference": view.pictures[seen.plan.reference].transpose(2, 0, 1),
        "frames": view.pictures[span].transpose(0, 3, 1, 2),
        "flow": view.flow[span].astype(np.float16),
        "visibility": view.visibility[span],
        "sure": view.sure[span],
        "parts": view.parts[rows],
        "face_points": view.face[rows],
        "face_box": np.concatenate([view.face[rows].min(1), view.face[rows].max(1)], 1),
        "body_points": view.body[rows],
        "hand_points": places.astype(np.float32),
        "hands": hands.numbers[rows],
        "hand_confidence": hands.confidence[rows],
        "actions": actions[1:], "head": head[1:], "body": np.zeros((frames, 6), np.float32),
        "reference_actions": actions[0], "reference_head": head[0],
        "reference_body": np.zeros(6, np.float32),
        "actions_known": seen.actions_known.astype(np.uint8),
        "known": np.array(KNOWN_GROUPS, np.uint8),
        "phones": np.full(frames, -1, np.int32),
    }  # fmt: skip
    begin = seen.plan.shot.start + start
    heard = sound or Sound(samples=np.zeros(0, np.float32))
    return tensors | {"samples": heard.about(begin, frames)}


def perform(seen: SeenShot, sound: Sound, config: Config) -> Performance:
    """The whole shot for stage 1: its voice, and a row a frame with a mask of what is known."""
    shot, frames = seen.plan.shot, len(seen.plan.shot)
    sure = torch.from_numpy(seen.hands.confidence)
    head = torch.from_numpy(seen.head - np.median(seen.head, axis=0))
    motion = Motion(
        hands=torch.from_numpy(seen.hands.numbers),
        visibility=(sure > 0.0).float(),
        confidence=sure,
        betas=torch.zeros(10),
        fps=float(FPS),
        face=torch.from_numpy(seen.actions),
        head=head,
    )
    samples = torch.from_numpy(sound.about(shot.start, frames, 0.0))
    phones = torch.full((frames,), -1, dtype=torch.long)
    made = performance(samples, SAMPLE_RATE, phones, motion, "", config)
    return made.masked(_known_rows(seen))


def _known_rows(seen: SeenShot) -> Bool[torch.Tensor, "f c"]:
    """Which numbers of which frames were measured: no depth of hands, of the head the angles alone."""
    frames = len(seen.plan.shot)
    fine = torch.tensor([not mark for mark in seen.plan.marks])
    known = torch.zeros(frames, row_width(hints=True), dtype=torch.bool)
    hands = torch.from_numpy(seen.hands.confidence > 0.0).repeat_interleave(HAND_NUMBERS, 1)
    known[:, HANDS] = hands
    known[:, [HAND_NUMBERS - 1, 2 * HAND_NUMBERS - 1]] = False
    known[:, FACE] = torch.from_numpy(seen.actions_known) & fine[:, None]
    known[:, HEAD.start : HEAD.start + 3] = fine[:, None]
    known[:, BODY], known[:, GAZE] = False, False
    return known
