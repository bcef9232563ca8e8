"""Hands that lie in each other: both hands and forearms as one piece of the photo that moves a little (ours).

Nothing is cut out: hands are stiff, forearms hinge at their elbows, and what lies around follows softly, cloth over a part
of a shoulder width, what is behind the person over much less.  That is one smooth field over the photo, made once; a frame
takes as much of it as stage 1's two wrists have in common.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
from jaxtyping import Bool, Float32

from emo2.signals import HAND_SIDES, Portrait
from emo2.video.arm_cutter import ArmCutter, ArmShares
from emo2.video.arm_sights import see_arms
from emo2.video.layer_cut import Box
from emo2.video.layer_masks import Limb, draw_hull, find_limb, pixel, segment_distance
from emo2.video.layer_person import person_mask

_COMMON = 0.5
"""Share of the mean of both wrists' shifts that folded hands make."""
_TURN = 0.3
"""The same of the turn."""
_ASIDE, _UPRIGHT = 0.014, 0.03
"""Most of a shift, in heights of the picture."""
_MAX_TURN = float(np.radians(4))
_ROOM = 1.2
"""Share of what lies between the hands and the picture's lower edge by which they may rise: what is there is drawn out."""
_CLOTH = 0.2
"""Shoulder widths over which cloth goes along ..."""
_BEHIND = (0.02, 0.05)
"""... and what is behind the person: beside what stays, and how much more beside what moves in full (less would fold)."""
_BESIDE = 0.15
"""Shoulder widths that count as beside."""
_THICK = 0.03
"""Shoulder widths by which what is stiff is wider than hands and forearms."""
_SLIVER = 0.09
"""Shoulder widths across under which a piece of hand is a misread finger."""
_CELLS = 64
"""Cells of the field along a shoulder width."""
_REACH = 1.0
"""Shoulder widths around hands and forearms that the field covers."""
_TIP = 0.08
"""Shoulder widths of hand in a row of pixels from which it counts as the lowest."""
_SOFT = 2.0
"""Cells over which wrists bend."""
_NECK = 0.3
"""Face heights below the chin above which nothing moves."""
_SWEEPS, _OVER = 300, 1.85
"""Rounds of the solver, and its over-relaxation."""


@dataclass(frozen=True, kw_only=True)
class _Grid:
    """Cells over a box of a picture."""

    box: Box
    cell: int

    @staticmethod
    def around(moved: Bool[np.ndarray, "h w"], unit: float) -> _Grid:
        """Cells around what moves, as far as it may take anything along, and no farther than the picture."""
        cell = max(2, round(unit / _CELLS))
        low, high = [], []
        for axis, end in ((0, moved.shape[1]), (1, moved.shape[0])):
            places = np.nonzero(moved.any(axis))[0]
            start = max(int((places.min() - _REACH * unit) // cell) * cell, 0)
            stop = min(float(places.max()) + _REACH * unit, end)
            low.append(start)
            high.append(start + int(np.ceil((stop - start) / cell)) * cell)
        return _Grid(box=(low[0], low[1], high[0], high[1]), cell=cell)

    def shares(self, mask: Bool[np.ndarray, "h w"]) -> Float32[np.ndarray, "r c"]:
        """Of each cell; beyond the picture it goes on as it ends."""
        x0, y0, x1, y1 = self.box
        part = mask[y0:y1, x0:x1].astype(np.float32)
        down, right = y1 - y0 - part.shape[0], x1 - x0 - part.shape[1]
        part = cv2.copyMakeBorder(part, 0, down, 0, right, cv2.BORDER_REPLICATE)
        size = (part.shape[1] // self.cell, part.shape[0] // self.cell)
        return cv2.resize(part, size, interpolation=cv2.INTER_AREA)

    def middles(self) -> Float32[np.ndarray, "r c 2"]:
        """Places of the cells' middles, as pixels are counted in flows: the first one's is 0."""
        x0, y0, x1, y1 = self.box
        half = self.cell / 2 - 0.5
        xs, ys = (np.arange(a, b, self.cell) + half for a, b in ((x0, x1), (y0, y1)))
        return np.stack(np.meshgrid(xs, ys), -1).astype(np.float32)

    def at(
        self, values: Float32[np.ndarray, "r c k"], places: Float32[np.ndarray, "r c 2"]
    ) -> Float32[np.ndarray, "r c k"]:
        """Values at places of the picture."""
        half = self.cell / 2 - 0.5
        x, y = ((places[..., k] - self.box[k] - half) / self.cell for k in range(2))
        return cv2.remap(values, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)


@dataclass(frozen=True, kw_only=True)
class FoldedHands:
    """The field of one photo; told on cells of a box, displacements forwards: where a place of the photo goes."""

    grid: _Grid
    """May reach beyond the picture to the right and below, as it is made of whole cells."""
    sinking: Float32[np.ndarray, "h w"]
    """Share of the hands' shift ..."""
    rising: Float32[np.ndarray, "h w"]
    """... and of an upward one, nothing at the picture's lower edge: nothing is known of what comes from below it."""
    turning: Float32[np.ndarray, "h w 2"]
    """Pixels for a radian."""
    limits: tuple[float, float, float]
    """Pixels aside, upwards, downwards."""

    @staticmethod
    def build(portrait: Portrait, cutter: ArmCutter | None = None) -> FoldedHands | None:
        """The hands of a portrait that says they are folded; None of any other."""
        if not portrait.folded:
            return None
        pixels = ((portrait.image.permute(1, 2, 0).cpu().numpy() + 1) * 127.5).clip(0, 255)
        pixels = pixels.astype(np.uint8)
        found = replace(portrait, hands_present=(True, True))
        shares: dict[int, ArmShares] = {}
        if cutter is not None:
            found, sights = see_arms(cutter, pixels, portrait, found)
            shares = {side: sight.shares for side, sight in sights.items()}
        limbs = [find_limb(found, side) for side in range(len(HAND_SIDES))]
        limbs = [limb for limb in limbs if isinstance(limb, Limb)]
        if len(limbs) != len(HAND_SIDES):
            return None
        size = portrait.size
        hands, arms = _hands(limbs, shares, size), _forearms(limbs, shares, size)
        known = np.maximum.reduce([hands, *arms]).astype(np.float32)
        person = person_mask(pixels, portrait, known, limbs, list(shares.values()))
        box = portrait.face_box.numpy()
        return _field(limbs, hands, arms, person, float(box[3] + _NECK * (box[3] - box[1])))

    def shift(self, pose: Float32[np.ndarray, "2 c"]) -> tuple[float, float, float]:
        """What both wrists (rows of `layer_motion.POSE`) have in common: pixels to the right and down, radians."""
        x, y, turn = (float(v) for v in pose[:, :3].mean(0))
        aside, up, down = self.limits
        return (
            _softly(_COMMON * x, aside),
            _softly(_COMMON * y, up if y < 0 else down),
            _softly(_TURN * turn, _MAX_TURN),
        )

    def carry(
        self, flow: Float32[np.ndarray, "h w 2"], pose: Float32[np.ndarray, "2 c"]
    ) -> Float32[np.ndarray, "h w 2"]:
        """The body's backward flow with the hands moved before the body is, as a pose asks."""
        return self.moved(flow, *self.shift(pose))

    def moved(
        self, flow: Float32[np.ndarray, "h w 2"], x: float, y: float, turn: float
    ) -> Float32[np.ndarray, "h w 2"]:
        """The same by pixels and radians."""
        aside = self.sinking * np.float32(x)
        upright = (self.rising if y < 0 else self.sinking) * np.float32(y)
        forward = np.stack([aside, upright], -1) + np.float32(turn) * self.turning
        if float(np.abs(forward).max()) < 0.01:
            return flow
        grid = self.grid
        places, back = grid.middles(), -forward
        for _ in range(4):
            back = -grid.at(forward, places + back)
        x0, y0, x1, y1 = grid.box
        height, width = flow.shape[:2]
        rows = places[:, 0, 1].astype(int).clip(0, height - 1)
        columns = places[0, :, 0].astype(int).clip(0, width - 1)
        back = grid.at(back, places + flow[np.ix_(rows, columns)])
        grown = cv2.resize(back, (x1 - x0, y1 - y0), interpolation=cv2.INTER_LINEAR)
        result = flow.copy()
        part = result[y0:y1, x0:x1]
        part += grown[: part.shape[0], : part.shape[1]]
        return result


def _softly(value: float, limit: float) -> float:
    return limit * float(np.tanh(value / limit)) if limit > 0 else 0.0


def _hands(
    limbs: Sequence[Limb], shares: dict[int, ArmShares], size: tuple[int, int]
) -> Bool[np.ndarray, "h w"]:
    """Both hands: what the cutter calls so, or all that lies between their points."""
    drawn = np.zeros(size, np.uint8)
    for limb in limbs:
        if limb.side in shares:
            drawn |= (shares[limb.side][4] > 0.5).astype(np.uint8)
        else:
            draw_hull(drawn, limb, 1)
    kernel = _disc(0.5 * _SLIVER * limbs[0].unit)
    return cv2.morphologyEx(drawn, cv2.MORPH_OPEN, kernel) > 0


def _forearms(
    limbs: Sequence[Limb], shares: dict[int, ArmShares], size: tuple[int, int]
) -> list[Bool[np.ndarray, "h w"]]:
    """The forearm of each."""
    found = []
    for limb in limbs:
        if limb.side in shares:
            found.append(shares[limb.side][3] > 0.5)
        else:
            line = np.zeros(size, np.uint8)
            thick = max(1, round(2 * limb.radius))
            cv2.line(line, pixel(limb.elbow), pixel(limb.wrist), 1, thick)
            found.append(line > 0)
    return found


def _disc(radius: float) -> np.ndarray:
    side = 2 * round(radius) + 1
    return cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side))


def _field(
    limbs: Sequence[Limb],
    hands: Bool[np.ndarray, "h w"],
    arms: Sequence[Bool[np.ndarray, "h w"]],
    person: Bool[np.ndarray, "h w"],
    neck: float,
) -> FoldedHands:
    """Stiff hands, hinged forearms, and a membrane held to the photo by springs around them; nothing moves above `neck`."""
    (height, width), unit = person.shape, limbs[0].unit
    grid = _Grid.around(np.logical_or.reduce([hands, *arms]), unit)
    rim = _disc(_THICK * unit)
    moved = [grid.shares(cv2.dilate(m.astype(np.uint8), rim) > 0) > 0.5 for m in (hands, *arms)]
    middles = grid.middles()
    known, values = _stiff(limbs, moved, middles)
    x0, y0, x1, y1 = grid.box
    fixed = middles[..., 1] < neck
    for edge, inside in (
        (np.s_[:, 0], x0 > 0), (np.s_[:, -1], x1 < width), (np.s_[0], y0 > 0), (np.s_[-1], y1 < height),
    ):  # fmt: skip
        fixed[edge] |= inside
    beside = cv2.dilate(values[..., 0], _disc(_BESIDE * unit / grid.cell))
    reach = np.where(grid.shares(person) > 0.5, _CLOTH, _BEHIND[0] + _BEHIND[1] * beside)
    spring = np.square(grid.cell / (unit * reach)).astype(np.float32)
    free = _membrane(values * ~fixed[..., None], known | fixed, spring)
    lowest = float(np.nonzero(hands.sum(1) > _TIP * unit)[0].max(initial=0))
    up = down = _UPRIGHT * height
    if y1 >= height:
        up = float(np.clip(_ROOM * (height - 0.5 * grid.cell - lowest), 0, up))
        known &= middles[..., 1] <= lowest
        fixed[-1] = True
    held = _membrane(values * (known & ~fixed)[..., None], known | fixed, spring)
    return FoldedHands(
        grid=grid, sinking=free[..., 0], rising=held[..., 0], turning=held[..., 1:],
        limits=(_ASIDE * height, up, down),
    )  # fmt: skip


def _stiff(
    limbs: Sequence[Limb],
    moved: Sequence[Bool[np.ndarray, "r c"]],
    middles: Float32[np.ndarray, "r c 2"],
) -> tuple[Bool[np.ndarray, "r c"], Float32[np.ndarray, "r c 3"]]:
    """Where the field is known, and its share of the shift and pixels for a radian there."""
    hands, *arms = moved
    values = np.zeros((*hands.shape, 3), np.float32)
    centre = np.mean([limb.wrist for limb in limbs], axis=0)
    values[..., 0] = 1
    values[..., 1:] = _across(middles - centre)
    along = np.zeros(hands.shape, np.float32)
    for limb, arm in zip(limbs, arms, strict=True):
        _, place = segment_distance(middles, limb.elbow, limb.wrist)
        share = place.clip(0, 1)
        own = arm & ~hands & (share >= along)
        along = np.where(own, share, along)
        values[own] = share[own][:, None] * np.append(1, _across(limb.wrist - centre))
    known = np.logical_or.reduce(moved)
    weight = cv2.GaussianBlur(known.astype(np.float32), (0, 0), _SOFT)
    soft = cv2.GaussianBlur(values * known[..., None], (0, 0), _SOFT)
    return known, soft / np.maximum(weight, 1e-6)[..., None] * known[..., None]


def _across(arm: Float32[np.ndarray, "*b 2"]) -> Float32[np.ndarray, "*b 2"]:
    """Which way a place goes when it turns clockwise in the picture."""
    return np.stack([-arm[..., 1], arm[..., 0]], -1)


def _membrane(
    values: Float32[np.ndarray, "r c k"],
    known: Bool[np.ndarray, "r c"],
    spring: Float32[np.ndarray, "r c"],
) -> Float32[np.ndarray, "r c k"]:
    """Laplace u = spring u where u is not known; free at the rim. By successive over-relaxation, red and black in turn."""
    found = values.astype(np.float64)
    rows, columns = np.indices(known.shape)
    share = (1 / (4 + spring))[..., None]
    turns = [(~known & ((rows + columns) % 2 == colour))[..., None] for colour in range(2)]
    for _ in range(_SWEEPS):
        for turn in turns:
            wide = np.pad(found, ((1, 1), (1, 1), (0, 0)), mode="edge")
            around = wide[:-2, 1:-1] + wide[2:, 1:-1] + wide[1:-1, :-2] + wide[1:-1, 2:]
            found += turn * (_OVER * (around * share - found))
    return found.astype(np.float32)
