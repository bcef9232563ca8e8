"""Between the passes: which frame of a shot is its photo, which views it has, and what is already ruled out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float
from numpy import ndarray

from emo2.data.films.faces import Measures, angles_of, eye_distance, fit_head
from emo2.data.films.follow import Shot
from emo2.data.films.limits import Limits
from emo2.signals import Portrait
from emo2.video.examples import BODY_VIEW, FACE_VIEW
from emo2.video.views import View, choose_views

NAMES = {FACE_VIEW: "face", BODY_VIEW: "body"}
MARGIN = 0.02
"""Share of the view that stays free around a face."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What the second pass does with a shot."""

    shot: Shot
    reference: int
    """Frame of the shot that stands for the photo."""
    marks: tuple[str, ...]
    """Why a frame is left out, whatever the view; "" where it is not."""
    views: tuple[View, ...]
    refused: dict[str, str]
    """Views of the shot that are not made, by name, with the reason."""
    facts: dict[str, float]


def plan_shot(
    shot: Shot, size: tuple[int, int], wanted: Sequence[str], limits: Limits, measures: Measures
) -> Plan:
    """Judge what the first pass saw; `size`: (height, width) of the film."""
    angles = np.array([angles_of(fit_head(p, measures).turn) for p in shot.points])
    marks = _marks(shot, angles, limits)
    fine = [i for i, mark in enumerate(marks) if not mark]
    reference = _choose_reference(shot, angles, fine) if fine else 0
    views: list[View] = []
    refused: dict[str, str] = {}
    for view in choose_views(_portrait(shot.points[reference], size)) if fine else ():
        name = NAMES[view.kind]
        reason = "" if name in wanted else "not wanted"
        if not reason and view.side < limits.least_view_px:
            reason = "too small"
        if not reason and name == "body" and _covered(view, size) < limits.least_body:
            reason = "body cut off"
        if reason:
            refused[name] = reason
        else:
            views.append(view)
    face = shot.points[reference]
    facts = {
        "face_px": float(np.ptp(face[:, 1])),
        "blur": float(np.median(shot.blur)),
        "yaw": float(np.abs(angles[:, 0]).max()) if len(angles) else 0.0,
        "second_face": shot.second_face,
    }
    return Plan(
        shot=shot, reference=reference, marks=tuple(marks), views=tuple(views),
        refused={k: v for k, v in refused.items() if v != "not wanted"}, facts=facts,
    )  # fmt: skip


def without_sound(plan: Plan) -> Plan:
    """The plan of a shot whose views are all refused, since nothing is heard."""
    refused = {NAMES[view.kind]: "no sound" for view in plan.views}
    return replace(plan, views=(), refused={**plan.refused, **refused})


def _marks(shot: Shot, angles: Float[ndarray, "f 3"], limits: Limits) -> list[str]:
    """The first reason that rules a frame out."""
    if not shot.seen.any():
        return ["no face"] * len(shot)
    marks = []
    for index in range(len(shot)):
        yaw, pitch = abs(angles[index, 0]), abs(angles[index, 1])
        checks = {
            "two faces": shot.second_face > limits.second_face,
            "face lost": not shot.seen[index],
            "turned away": yaw > limits.most_yaw or pitch > limits.most_pitch,
            "too dark": shot.light[index] < limits.least_light,
            "blurred": shot.blur[index] > limits.most_blur,
        }
        marks.append(next((reason for reason, wrong in checks.items() if wrong), ""))
    return marks


def _choose_reference(shot: Shot, angles: ndarray, fine: list[int]) -> int:
    """A frame that faces the camera as the shot mostly does, sharp, with its lips together and its eyes open."""
    usual = np.median(shot.points[fine].mean(1), axis=0)
    usual_blur = float(np.median(shot.blur[fine]))

    def cost(index: int) -> float:
        points = shot.points[index]
        unit = max(eye_distance(points), 1.0)
        gap = float((points[65:68, 1] - points[[63, 62, 61], 1]).mean()) / unit
        lids = float((points[[40, 41, 46, 47], 1] - points[[38, 37, 44, 43], 1]).mean()) / unit
        away = float(np.linalg.norm(points.mean(0) - usual)) / unit
        soft = max(0.0, float(shot.blur[index]) - usual_blur)
        return 4.0 * max(gap, 0.0) - lids + 0.5 * away + abs(angles[index, 0]) + 3.0 * soft

    return min(fine, key=cost)


def _portrait(points: Float[ndarray, "68 2"], size: tuple[int, int]) -> Portrait:
    """A portrait of which only face and size are known; no picture."""
    face = torch.from_numpy(points)
    return Portrait(
        image=torch.zeros(1).expand(3, *size),
        face_box=torch.cat([face.amin(0), face.amax(0)]),
        face_points=face,
        body_points=torch.zeros(8, 3),
        hand_points=torch.zeros(2, 21, 3),
        hands_present=(False, False),
    )


def _covered(view: View, size: tuple[int, int]) -> float:
    """Share of the view that the picture covers."""
    height, width = size
    across = min(view.left + view.side, width) - max(view.left, 0)
    down = min(view.top + view.side, height) - max(view.top, 0)
    return max(across, 0) * max(down, 0) / view.side**2


def inside(view: View, size: tuple[int, int], side: int) -> ndarray:
    """(side, side): whether a pixel of the view lies in the picture."""
    steps = (np.arange(side) + 0.5) * view.side / side
    rows = (steps + view.top >= 0) & (steps + view.top < size[0])
    columns = (steps + view.left >= 0) & (steps + view.left < size[1])
    return rows[:, None] & columns[None]


def in_view(points: Float[ndarray, "68 2"], view: View, size: tuple[int, int]) -> bool:
    """Whether a face lies in a view and in the picture."""
    places = (points - [view.left, view.top]) / view.side
    within = bool(((places > MARGIN) & (places < 1 - MARGIN)).all())
    return within and bool(((points >= -2) & (points < [size[1] + 2, size[0] + 2])).all())
