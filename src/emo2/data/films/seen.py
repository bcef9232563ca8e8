"""The second pass over a shot: its views as small pictures, matched with the reference, and what the face does."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from numpy import ndarray
from torch import Tensor

from emo2.data.films.faces import (
    HeadFit,
    Measures,
    actions_of,
    carried,
    features_of,
    fit_head,
    head_of,
)
from emo2.data.films.flow import Grid, Match, matches, on_grid
from emo2.data.films.follow import FPS, LOOK_SIDE
from emo2.data.films.hands import HandLooker, HandTrack, Tracked, from_tracker, nothing
from emo2.data.films.limits import Limits
from emo2.data.films.plan import NAMES, Plan, in_view, inside
from emo2.errors import UserError
from emo2.guidance import fit_camera
from emo2.portrait import find
from emo2.portrait.looking import Square
from emo2.portrait.stage import PortraitFinder
from emo2.portrait.views import IGNORED
from emo2.signals import Portrait
from emo2.video.codec import warp
from emo2.video.views import View

SIDE, PARTS_SIDE = 256, 128
_SURE_PART = 0.6
_HULL = (*range(17), *range(26, 16, -1))
"""Outline of the face."""


@dataclass(frozen=True, kw_only=True)
class SeenView:
    """A view of a shot with all that was measured; f frames, positions in view units."""

    name: str
    pictures: UInt8[ndarray, "f s s 3"]
    flow: Float[ndarray, "f 2 g g"]
    visibility: UInt8[ndarray, "f g g"]
    sure: UInt8[ndarray, "f g g"]
    parts: UInt8[ndarray, "f p p"]
    face: Float[ndarray, "f 68 2"]
    body: Float[ndarray, "f 8 3"]
    """As the reference's points are carried along."""
    marks: tuple[str, ...]
    psnr_held: Float[ndarray, " f"]
    psnr_moved: Float[ndarray, " f"]
    """Of the held and of the moved reference against the frame, dB, over what is visible."""
    view: View


@dataclass(frozen=True, kw_only=True)
class SeenShot:
    """A shot with its views, and what head, face and hands do in it."""

    plan: Plan
    views: tuple[SeenView, ...]
    head: Float[ndarray, "f 6"]
    actions: Float[ndarray, "f 52"]
    actions_known: Bool[ndarray, "52"]
    opening: Float[ndarray, " f"]
    """Of the mouth against the reference, in distances between the eyes."""
    hands: HandTrack


@dataclass(frozen=True, kw_only=True)
class Eyes:
    """What the second pass looks with."""

    finder: PortraitFinder
    measures: Measures
    limits: Limits
    tracked: Tracked | None
    size: tuple[int, int]
    """(height, width) of the film."""


class ShotReader:
    """Takes in the frames of a planned shot."""

    def __init__(self, plan: Plan, eyes: Eyes) -> None:
        self.plan, self.eyes = plan, eyes
        self.pictures: list[list[ndarray]] = [[] for _ in plan.views]
        self.portrait: Portrait | None = None
        self.scale = min(1.0, LOOK_SIDE / max(eyes.size))
        self.looker = None
        if eyes.tracked is None and any(NAMES[v.kind] == "body" for v in plan.views):
            self.looker = HandLooker(eyes.finder)

    def see(self, index: int, frame: Float[Tensor, "3 h w"]) -> None:
        """The shot's next frame."""
        for view, pictures in zip(self.plan.views, self.pictures, strict=True):
            cut = view.cut(frame[None], SIDE)[0].clamp(-1.0, 1.0)
            pixels = ((cut + 1.0) * 127.5).round().byte()
            pictures.append(np.ascontiguousarray(pixels.permute(1, 2, 0).numpy()))
        is_reference = index == self.plan.reference
        looks = self.looker is not None and self.looker.wants(index, len(self.plan.shot))
        if not is_reference and not looks:
            return
        small = self._small(frame)
        if self.looker is not None and looks:
            self.looker.see(index, small)
        if is_reference:
            try:
                self.portrait = find(small, self.eyes.finder)
            except UserError:  # followed, but not found anew: the face points must do
                self.portrait = None

    def _small(self, frame: Float[Tensor, "3 h w"]) -> Float[Tensor, "3 y x"]:
        if self.scale == 1.0:
            return frame
        size = (round(self.eyes.size[1] * self.scale), round(self.eyes.size[0] * self.scale))
        pixels = cv2.resize(frame.permute(1, 2, 0).numpy(), size, interpolation=cv2.INTER_AREA)
        return torch.from_numpy(np.ascontiguousarray(pixels)).permute(2, 0, 1)

    def shot(self) -> SeenShot:
        """All of it, measured."""
        views, faces, border = [], None, None
        body = _body_of(self.portrait, self.scale)
        for view, pictures in zip(self.plan.views, self.pictures, strict=True):
            frames = np.stack(pictures)
            seen, faces, border = _measure(frames, view, body, self.plan, self.eyes, border)
            views.append(seen)
        assert faces is not None
        actions, known = actions_of(faces.features, self.eyes.measures)
        is_face = NAMES[self.plan.views[-1].kind] == "face"
        return SeenShot(
            plan=self.plan, views=tuple(views), head=faces.head, actions=actions * is_face,
            actions_known=known & is_face, opening=faces.opening, hands=self._hands(),
        )  # fmt: skip

    def _hands(self) -> HandTrack:
        frames = len(self.plan.shot)
        if self.eyes.tracked is not None and self.portrait is not None:
            camera = fit_camera(self.portrait).resized(self.eyes.size)
            return from_tracker(self.eyes.tracked, camera, self.plan.shot.start, frames, FPS)
        if self.looker is not None:
            return self.looker.track(frames, self.scale)
        return nothing(frames)


@dataclass(frozen=True)
class _Faces:
    """What the face does in every frame."""

    head: Float[ndarray, "f 6"]
    features: Float[ndarray, "f 4"]
    opening: Float[ndarray, " f"]


def _measure(
    pictures: UInt8[ndarray, "f s s 3"],
    view: View,
    body: Float[ndarray, "8 3"],
    plan: Plan,
    eyes: Eyes,
    border: Float[ndarray, " f"] | None,
) -> tuple[SeenView, _Faces, Float[ndarray, " f"]]:
    """Match all frames of a view with the reference, and read the face off the matches.

    `border`: what the camera does, in the film's pixels, where a wider view has told it; it comes back.
    """
    frames, corner = len(pictures), np.array([view.left, view.top], np.float32)
    pixels = np.float32(SIDE / view.side)
    face = (plan.shot.points[plan.reference] - corner) * pixels
    own_body = np.concatenate([(body[:, :2] - corner) * pixels, body[:, 2:]], 1)
    within = inside(view, eyes.size, SIDE)
    rest, hull = fit_head(face, eyes.measures), _hull(face)
    out = _Arrays(frames)
    reference = pictures[plan.reference]
    for index, match in matches(pictures, plan.reference):
        out.keep(index, on_grid(match, within), pictures[index], reference)
        points, sure = carried(face, match.back, match.kept)
        fit = fit_head(points, eyes.measures, sure)
        out.read(index, (points, face), (fit, rest), (pictures[index], reference), eyes.measures)
        out.body[index] = _carried_body(own_body, match)
        out.border[index] = _border(match, within) * view.side
        out.shown[index] = float(match.kept[hull].mean())
    border = out.border if border is None else border
    marks = _view_marks(out, view, plan, eyes, border / view.side)
    seen = SeenView(
        name=NAMES[view.kind], pictures=pictures, flow=out.flow, visibility=out.visibility,
        sure=out.sure, parts=_parts(pictures, view, eyes.finder),
        face=(plan.shot.points - corner) / np.float32(view.side), body=out.body, marks=marks,
        psnr_held=out.psnr[:, 0], psnr_moved=out.psnr[:, 1], view=view,
    )  # fmt: skip
    return seen, _Faces(out.head, np.stack(out.features), out.opening), border


class _Arrays:
    """Rows that fill up in the order of matching."""

    def __init__(self, frames: int) -> None:
        self.flow = np.zeros((frames, 2, 64, 64), np.float32)
        self.visibility = np.zeros((frames, 64, 64), np.uint8)
        self.sure = np.zeros((frames, 64, 64), np.uint8)
        self.body = np.zeros((frames, 8, 3), np.float32)
        self.head = np.zeros((frames, 6), np.float32)
        self.opening = np.zeros(frames, np.float32)
        self.border = np.zeros(frames, np.float32)
        self.shown = np.zeros(frames, np.float32)
        self.psnr = np.zeros((frames, 2), np.float32)
        self.features: list[ndarray] = [np.zeros(0)] * frames

    def keep(self, index: int, grid: Grid, picture: ndarray, reference: ndarray) -> None:
        """A frame's labels, and how well they explain it."""
        self.flow[index], self.visibility[index] = grid.flow, grid.visibility
        self.sure[index] = grid.sure
        self.psnr[index] = explained(picture, reference, grid.flow, grid.visibility, grid.sure)

    def read(
        self,
        index: int,
        points: tuple[ndarray, ndarray],
        fits: tuple[HeadFit, HeadFit],
        pictures: tuple[ndarray, ndarray],
        measures: Measures,
    ) -> None:
        """A frame's head and face; each pair: the frame's, then the reference's."""
        self.head[index] = head_of(fits[0], fits[1], measures)
        features = features_of(points[0], points[1], fits, pictures, measures)
        self.features[index] = features
        self.opening[index] = features[0]


def explained(
    picture: UInt8[ndarray, "s s 3"],
    reference: UInt8[ndarray, "s s 3"],
    flow: Float[ndarray, "2 g g"],
    visibility: UInt8[ndarray, "g g"],
    sure: UInt8[ndarray, "g g"],
) -> tuple[float, float]:
    """PSNR in dB of the reference as it is, and moved by the labels, over pixels that are visible and in the picture."""
    side = picture.shape[0]
    moved = move(reference, flow)
    seen = cv2.resize(np.minimum(visibility, sure), (side, side)) > 127
    if not seen.any():
        return 0.0, 0.0
    scores = []
    for guess in (reference, moved):
        error = (guess.astype(np.float32) - picture.astype(np.float32))[seen] / 255.0
        scores.append(float(-10.0 * np.log10(max(float((error**2).mean()), 1e-6))))
    return scores[0], scores[1]


def move(
    reference: UInt8[ndarray, "s s 3"], flow: Float[ndarray, "2 g g"]
) -> UInt8[ndarray, "s s 3"]:
    """The reference fetched from where the labels point."""
    image = torch.from_numpy(reference).permute(2, 0, 1)[None].float()
    moved = warp(image, torch.from_numpy(flow)[None])[0]
    return moved.round().byte().permute(1, 2, 0).numpy()


def _carried_body(body: Float[ndarray, "8 3"], match: Match) -> Float[ndarray, "8 3"]:
    """The reference's body points where the flow takes them, view units; seen as long as they are found again."""
    side = match.kept.shape[0]
    place = np.floor(body[:, :2]).astype(int)
    within = ((place >= 0) & (place < side)).all(1)
    x, y = place.clip(0, side - 1).T
    moved = body[:, :2] + match.back[y, x] * within[:, None]
    seen = (body[:, 2] > 0.3) & within & (match.kept[y, x] > 0.5)
    return np.concatenate([moved / side, seen[:, None]], 1).astype(np.float32)


def _body_of(portrait: Portrait | None, scale: float) -> Float[ndarray, "8 3"]:
    """Body points of the reference in the film's pixels."""
    if portrait is None:
        return np.zeros((8, 3), np.float32)
    return portrait.body_points.numpy().astype(np.float32) / np.array(
        [scale, scale, 1.0], np.float32
    )


def _hull(face: Float[ndarray, "68 2"]) -> Bool[ndarray, "s s"]:
    mask = np.zeros((SIDE, SIDE), np.uint8)
    cv2.fillPoly(mask, [np.round(face[list(_HULL)]).astype(np.int32)], 1)
    return mask > 0


def _border(match: Match, within: Bool[ndarray, "s s"]) -> float:
    """How far the picture's upper corners and sides move, in sides of the view: what the camera does.

    A quarter of them may show the person or a curtain; where the camera moves, all of them do.
    """
    edge = within & (match.visibility > 0.5)
    edge[SIDE // 2 :] = False  # shoulders and arms are there
    edge[:, SIDE // 8 : -SIDE // 8] = False
    if edge.sum() < 50:
        return 0.0
    return float(np.percentile(np.linalg.norm(match.flow[edge], axis=-1), 25)) / SIDE


def _view_marks(
    out: _Arrays, view: View, plan: Plan, eyes: Eyes, border: Float[ndarray, " f"]
) -> tuple[str, ...]:
    """The shot's marks, and the view's own; `border` in sides of the view."""
    marks = []
    for index, mark in enumerate(plan.marks):
        checks = {
            "out of view": not in_view(plan.shot.points[index], view, eyes.size),
            "camera moves": border[index] > eyes.limits.most_camera_move,
            "face hidden": out.shown[index] < eyes.limits.least_seen,
        }
        marks.append(mark or next((reason for reason, wrong in checks.items() if wrong), ""))
    return tuple(marks)


def _parts(
    pictures: UInt8[ndarray, "f s s 3"], view: View, finder: PortraitFinder
) -> UInt8[ndarray, "f p p"]:
    """Parts of the body where the finder is sure of them; of the body view alone, whose framing it knows."""
    if NAMES[view.kind] != "body":
        return np.full((len(pictures), PARTS_SIDE, PARTS_SIDE), IGNORED, np.uint8)
    return np.stack([_part_map(picture, finder) for picture in pictures])


@torch.inference_mode()
def _part_map(picture: UInt8[ndarray, "s s 3"], finder: PortraitFinder) -> UInt8[ndarray, "p p"]:
    image = torch.from_numpy(picture).permute(2, 0, 1).float() / 127.5 - 1.0
    whole = Square(SIDE / 2, SIDE / 2, SIDE).crop(image, finder.config.size)
    chances = finder.scene(whole).parts.float().softmax(1)
    size = (PARTS_SIDE, PARTS_SIDE)
    grown = torch.nn.functional.interpolate(chances, size, mode="bilinear", align_corners=False)
    best = grown[0].max(0)
    return torch.where(best.values > _SURE_PART, best.indices, IGNORED).byte().numpy()


def read_planned(
    frames: Iterator[Float[Tensor, "3 h w"]], plans: list[Plan], eyes: Eyes
) -> Iterator[SeenShot]:
    """The planned shots of a film, one after the other; `plans` in the film's order, `frames` from its first on."""
    waiting = [plan for plan in plans if plan.views]
    reader: ShotReader | None = None
    for index, frame in enumerate(frames):
        while waiting and index >= waiting[0].shot.start + len(waiting[0].shot):
            waiting.pop(0)
        if not waiting:
            return
        plan = waiting[0]
        place = index - plan.shot.start
        if place < 0:
            continue
        reader = ShotReader(plan, eyes) if reader is None or place == 0 else reader
        reader.see(place, frame)
        if place == len(plan.shot) - 1:
            yield reader.shot()
            reader = None
