"""A film of a motion: both hands as shaded meshes with sleeves before a faint bust, the voice under it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from emo2.hands.model import HandModel, Hands, hand_faces, hand_points, pose_hands
from emo2.hands.raster import rasterise, vertex_normals
from emo2.hands.sleeve import ALONG, SLEEVE, arm_faces, arms
from emo2.hands.standin import stand_in
from emo2.media import Film
from emo2.signals import HAND_SIDES, Clip, Motion, Speech

Array = np.ndarray

_SIZE = (480, 640)
_SUPERSAMPLE = 2
_CLIP = 25  # frames encoded together

_SKIN = (0.86, 0.68, 0.58)
_SLEEVES = {"left": (0.24, 0.42, 0.56), "right": (0.62, 0.36, 0.33)}
_TOP, _BOTTOM = (0.93, 0.94, 0.95), (0.80, 0.83, 0.86)
_BUST = (0.74, 0.78, 0.82)
_TORSO = ((0.17, 0.9), (0.22, 0.3), (0.20, 0.0), (0.08, -0.07))  # right half, from the hip up
_ALWAYS_SEEN = ((-0.26, -0.12), (0.26, 0.44))  # metres: the picture never shows less
_LINE = (0.42, 0.50, 0.58)


def _unit(*vector: float) -> Float[Array, "3"]:
    return (np.array(vector) / np.linalg.norm(vector)).astype(np.float32)


_KEY_LIGHT = _unit(-0.40, -0.60, 0.70)  # from above and the image's left
_FILL_LIGHT = _unit(0.65, 0.15, 0.75)
_MIDDLE = _unit(*(_KEY_LIGHT + np.array((0, 0, 1))))  # between light and eye
_WARM, _COOL = np.array(((0.66, 0.64, 0.61), (0.28, 0.28, 0.29)), np.float32)
_SKY, _BOUNCE = np.array(((0.26, 0.29, 0.33), (0.24, 0.19, 0.17)), np.float32)


@dataclass(frozen=True, kw_only=True)
class _Stage:
    """What stays the same for all frames."""

    scale: float
    """Pixels a metre."""
    centre: tuple[float, float]
    """Pixel of the frame's origin."""
    faces: Int[Array, "f 3"]
    colours: Float[Array, "v 4"]
    """Red, green, blue, opacity of both hands' vertices, then of both arms'."""
    counts: tuple[int, int]
    """Vertices of one hand and of one arm."""
    background: Float[Array, "h w 3"]
    start: Float[Tensor, "6"] | None
    """The head in the first frame."""

    def normals(self, points: Float[Array, "v 3"]) -> Float[Array, "v 3"]:
        """Vertex normals; the hands' hidden lids at the wrist do not darken the skin beside them."""
        hand = self.counts[0]
        lids = ((self.faces == hand - 1) | (self.faces == 2 * hand - 1)).any(1)
        return vertex_normals(points, self.faces[~lids]).astype(np.float32)


def render_preview(
    motion: Motion,
    speech: Speech | None,
    path: Path | str,
    *,
    size: tuple[int, int] = _SIZE,
    model: HandModel | None = None,
) -> None:
    """Write the film of a motion; `speech` is muxed in (None: silent)."""
    model = model or stand_in()
    stage = _stage(motion, model, size)
    levels = None if speech is None else _levels(speech, motion)
    with Film(Path(path), size, motion.fps, speech, resume=False) as film:
        for start in range(0, len(motion), _CLIP):
            chosen = range(start, min(start + _CLIP, len(motion)))
            frames = _frames(motion, chosen, model, stage, levels)
            film.write(Clip(frames=frames, start=start, fps=motion.fps))


def preview_frames(
    motion: Motion, frames: range, *, size: tuple[int, int] = _SIZE, model: HandModel | None = None
) -> Float[Tensor, "f 3 h w"]:
    """Some frames of the preview as pictures, for pages and for training logs."""
    model = model or stand_in()
    return _frames(motion, frames, model, _stage(motion, model, size), None)


def _stage(motion: Motion, model: HandModel, size: tuple[int, int]) -> _Stage:
    """Camera, colours and background; the camera keeps the hands of the whole motion in the picture."""
    step = max(1, len(motion) // 200)  # a sample of the frames shows how far the hands go
    with torch.no_grad():
        points = hand_points(model, motion.hands[::step].cpu(), motion.betas.cpu())[..., :2]
    seen = points[motion.visibility[::step].cpu() > 0.5].reshape(-1, 2)
    seen = torch.cat((seen, torch.tensor(_ALWAYS_SEEN)))
    low, high = seen.min(0).values - 0.03, seen.max(0).values + 0.03
    half = float(torch.maximum(high[0], -low[0]))
    scale = min(size[1] / (2 * half), size[0] / float(high[1] - low[1]))
    hand, arm = len(model.template), len(SLEEVE)
    meshes = [hand_faces(model, s).numpy() + i * hand for i, s in enumerate(HAND_SIDES)]
    meshes += [arm_faces() + 2 * hand + i * arm for i in range(2)]
    return _Stage(
        scale=scale,
        centre=(size[1] / 2, size[0] / 2 - scale * float(low[1] + high[1]) / 2),
        faces=np.concatenate(meshes),
        colours=_colours(hand),
        counts=(hand, arm),
        background=_background(size),
        start=None if motion.head is None else motion.head[0],
    )


def _colours(hand: int) -> Float[Array, "v 4"]:
    """Colour and opacity of every vertex: two hands, two arms that fade out towards the shoulders."""
    skin = np.array((*_SKIN, 1.0), np.float32)
    opacity = np.clip((0.95 - ALONG) / 0.45, 0, 1)[:, None]
    sides = []
    for side in HAND_SIDES:
        cloth = np.where(SLEEVE[:, None], np.array(_SLEEVES[side]), np.array(_SKIN))
        sides.append(np.hstack((cloth, opacity)).astype(np.float32))
    return np.concatenate((np.tile(skin, (2 * hand, 1)), *sides))


def _frames(
    motion: Motion, frames: range, model: HandModel, stage: _Stage, levels: Array | None
) -> Float[Tensor, "f 3 h w"]:
    chosen = slice(frames.start, frames.stop)
    with torch.no_grad():
        hands = pose_hands(model, motion.hands[chosen].cpu(), motion.betas.cpu())
        limbs = arms(motion.hands[chosen].cpu())
    pictures = []
    for f, frame in enumerate(frames):
        scene = Hands(hands.vertices[f], hands.points[f])
        picture = _bust(stage, motion, frame)
        points = np.concatenate(
            (scene.vertices.flatten(0, 1).numpy(), limbs[f].flatten(0, 1).numpy())
        )
        shown = (motion.visibility[frame] > 0.5).tolist()
        picture = _draw(stage, picture, points, shown)
        if levels is not None:
            _draw_voice(picture, levels, frame / max(1, len(motion) - 1))
        pictures.append(torch.from_numpy(picture.transpose(2, 0, 1).copy()))
    return torch.stack(pictures).clamp(0, 1) * 2 - 1


def _draw(
    stage: _Stage, picture: Float[Array, "h w 3"], points: Float[Array, "v 3"], shown: list[bool]
) -> Float[Array, "h w 3"]:
    """Shaded meshes with a soft shadow on the background."""
    height, width = picture.shape[:2]
    fine = (height * _SUPERSAMPLE, width * _SUPERSAMPLE)
    pixels = points * (stage.scale * _SUPERSAMPLE)
    pixels[:, :2] += np.array(stage.centre, np.float32) * _SUPERSAMPLE
    faces = stage.faces[_shown_faces(stage, shown)]
    seen = rasterise(pixels.astype(np.float32), faces, fine)
    normals = seen.mix(stage.normals(points), faces)
    colours = seen.mix(stage.colours, faces)
    layer = np.zeros((fine[0] * fine[1], 4), np.float32)  # opacity multiplied in
    layer[seen.pixel, :3] = _shade(normals, colours[:, :3]) * colours[:, 3:]
    layer[seen.pixel, 3] = colours[:, 3]
    layer = cv2.resize(layer.reshape(*fine, 4), (width, height), interpolation=cv2.INTER_AREA)
    fall = np.array(((1, 0, width / 120), (0, 1, height / 60)), np.float32)  # the light is above
    shadow = cv2.warpAffine(layer[..., 3], fall, (width, height))
    soft = cv2.GaussianBlur(shadow, (0, 0), height / 50)
    ground = picture * (1 - 0.22 * soft[..., None])
    return ground * (1 - layer[..., 3:]) + layer[..., :3]


def _shown_faces(stage: _Stage, shown: list[bool]) -> Array:
    """Faces of the sides that are seen."""
    hand, arm = stage.counts
    first = stage.faces[:, 0]
    side = np.where(first < 2 * hand, first // hand, (first - 2 * hand) // arm)
    return np.array(shown)[side]


def _shade(normals: Float[Array, "n 3"], colours: Float[Array, "n 3"]) -> Float[Array, "n 3"]:
    """Soft key light, a fill from the other side, sky from above, warm bounce from below, a little gloss."""
    normals = normals / np.sqrt((normals * normals).sum(1, keepdims=True)).clip(1e-6)
    key = ((normals @ _KEY_LIGHT + np.float32(0.25)) / np.float32(1.25)).clip(0, 1)[:, None]
    fill = (normals @ _FILL_LIGHT).clip(0, 1)[:, None]
    down = normals[:, 1:2] * np.float32(0.5) + np.float32(0.5)
    gloss = (normals @ _MIDDLE).clip(0, 1)[:, None]
    gloss = gloss * gloss
    gloss = gloss * gloss * gloss
    gloss = gloss * gloss * gloss * gloss * np.float32(0.10)  # to the 24th power
    light = key * _WARM + fill * _COOL + _SKY + down * (_BOUNCE - _SKY)
    edge = 1 - normals[:, 2:].clip(0, 1)
    return (colours * (light - edge * edge * edge * np.float32(0.10)) + gloss).clip(0, 1)


def _background(size: tuple[int, int]) -> Float[Array, "h w 3"]:
    share = np.linspace(0, 1, size[0], dtype=np.float32)[:, None, None]
    ground = np.array(_TOP, np.float32) * (1 - share) + np.array(_BOTTOM, np.float32) * share
    return np.broadcast_to(ground, (*size, 3)).copy()


def _bust(stage: _Stage, motion: Motion, frame: int) -> Float[Array, "h w 3"]:
    """The background with a faint head and shoulders, so that one sees whose hands these are."""
    across = nod = tilt = 0.0
    if motion.head is not None and stage.start is not None:
        yaw, pitch, tilt, dx, dy, _ = (motion.head[frame] - stage.start).tolist()
        across, nod = dx + 0.08 * yaw + 0.12 * tilt, dy + 0.06 * pitch
    mask = np.zeros(stage.background.shape[:2], np.float32)

    def pixel(x: float, y: float) -> tuple[int, int]:
        return round(stage.centre[0] + stage.scale * x), round(stage.centre[1] + stage.scale * y)

    def length(metres: float) -> int:
        return max(1, round(stage.scale * metres))

    torso = [(s * x, y) for s, outline in ((-1, _TORSO), (1, _TORSO[::-1])) for x, y in outline]
    cv2.fillPoly(mask, [np.array([pixel(*p) for p in torso])], 1.0)
    cv2.line(mask, pixel(0, -0.02), pixel(across * 0.6, -0.18), 1.0, length(0.10))
    turn = math.degrees(tilt)
    cv2.ellipse(
        mask, pixel(across, -0.24 + nod), (length(0.078), length(0.105)), turn, 0, 360, 1.0, -1
    )
    mask = cv2.GaussianBlur(mask, (0, 0), stage.scale * 0.012)[..., None] * 0.75
    return stage.background * (1 - mask) + np.array(_BUST, np.float32) * mask


def _levels(speech: Speech, motion: Motion) -> Float[Array, " columns"]:
    """Loudness along the voice, in at most 160 columns, read in blocks."""
    columns = min(160, len(motion))
    peaks = np.zeros(columns)
    done = 0
    for block in speech.voice.blocks(speech.sample_rate):
        place = (done + np.arange(len(block))) * columns // max(1, speech.num_samples)
        np.maximum.at(peaks, np.minimum(place, columns - 1), block.abs().numpy())
        done += len(block)
    return peaks / max(float(peaks.max()), 1e-6)


def _draw_voice(picture: Float[Array, "h w 3"], levels: Float[Array, " n"], played: float) -> None:
    """The voice as a strip of bars at the foot; what has been heard is darker."""
    height, width = picture.shape[:2]
    foot, tall, edge = round(height * 0.955), height * 0.035, round(width * 0.06)
    for i, level in enumerate(levels):
        x = round(edge + (width - 2 * edge) * (i + 0.5) / len(levels))
        colour = (
            np.array(_LINE, np.float32)
            if i / len(levels) <= played
            else np.array(_BUST, np.float32)
        )
        half = max(1, round(tall * float(level)))
        picture[foot - half : foot + half, x : x + max(1, width // 480)] = colour
