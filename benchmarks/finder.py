"""The portrait finder on rendered people that it was not trained on: what it misses, and how far off it is.

    python benchmarks/finder.py HELD-OUT-SETS                  plain pictures, and altered ones as in training
    python benchmarks/finder.py HELD-OUT-SETS --preset FOLDER  a run's weights (FOLDER/finder.safetensors)

A hand counts as visible where more than half of its points are seen, as found where the portrait has it and its
points lie (median) within half a hand of the truth; a hand elsewhere, or of which under a tenth is seen, is a false
alarm.  What lies between is left out.  Hands whose centres are nearer than a hand's side are counted by themselves:
`find` leaves most of them still on purpose.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from emo2 import pipeline
from emo2.errors import UserError
from emo2.portrait.augment import spoil
from emo2.portrait.find import find
from emo2.portrait.looking import overlap, square_about
from emo2.portrait.stage import PortraitFinder
from emo2.portrait.views import View, face_square, hand_square, read_pool
from emo2.signals import BODY_POINTS, Portrait

MASKS = {"trunk and head": (1, 2), "left arm": (3, 4, 5), "right arm": (6, 7, 8)}
FOREARMS, HANDS = (4, 7), (5, 8)
Rows = dict[str, list[float]]


def main() -> None:
    """Look at every picture twice, print one table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("sets", type=Path, nargs="+", help="folders of held-out shards")
    parser.add_argument("--preset", default="compact", help="a preset, or a folder of a run")
    parser.add_argument("--frames", type=int, default=3, help="pictures of each person")
    parser.add_argument("--limit", type=int, default=1000, help="most pictures")
    args = parser.parse_args()
    torch.set_num_threads(1)
    finder = pipeline.load_finder(args.preset)
    views = read_pool(args.sets, seed=0, frames=args.frames, limit=args.limit).views
    columns = {
        "plain": measured(finder, ((view, view.picture) for view in views)),
        "altered": measured(finder, altered(views)),
    }
    print(f"{len(views)} pictures\n\n| | {' | '.join(columns)} |\n|---|{'--:|' * len(columns)}")
    told = {way: dict(lines(rows)) for way, rows in columns.items()}
    for name in dict.fromkeys(name for column in told.values() for name in column):
        print(f"| {name} | {' | '.join(column.get(name, '') for column in told.values())} |")


def altered(views: Sequence[View]) -> Iterator[tuple[View, np.ndarray]]:
    """Every view spoiled as in training, always in the same way."""
    for number, view in enumerate(views):
        yield view, spoil(np.random.default_rng([7, number]), view.picture.copy())


def measured(finder: PortraitFinder, pictures: Iterator[tuple[View, np.ndarray]]) -> Rows:
    """All single measurements, by name."""
    rows: Rows = defaultdict(list)
    for view, picture in pictures:
        image = torch.from_numpy(picture.copy()).permute(2, 0, 1).float() / 127.5 - 1
        try:
            portrait = find(image, finder)
        except UserError:
            rows["missed"].append(1)
            continue
        off = _far(portrait.face_points, view.face) / face_square(view.face)[2]
        rows["missed"].append(float(np.mean(off) > 0.5))
        if rows["missed"][-1]:
            continue
        rows["face"].append(float(np.mean(off)))
        measure_body(portrait, view, rows)
        measure_hands(portrait, view, rows)
    return rows


def measure_body(portrait: Portrait, view: View, rows: Rows) -> None:
    """Points seen of the body, in face sides, and the shares of trunk and arms."""
    side = face_square(view.face)[2]
    for index, name in enumerate(BODY_POINTS):
        if view.body[index, 2] > 0.5:
            joint = name.removeprefix("left_").removeprefix("right_")
            rows[f"body {joint}"].append(_far(portrait.body_points, view.body)[index] / side)
            rows[f"sure {joint}"].append(float(portrait.body_points[index, 2]) > 0.3)
    assert portrait.body_masks is not None
    for (name, parts), mask in zip(MASKS.items(), portrait.body_masks, strict=True):
        _overlap(rows, name, mask, np.isin(view.parts, parts))


def measure_hands(portrait: Portrait, view: View, rows: Rows) -> None:
    """Hands found, missed and imagined; points and masks of those found."""
    left, right = (square_about(torch.from_numpy(hand[:, :2]), reach=2) for hand in view.hands)
    kind = "touching" if overlap(left, right) > 0.35 else "apart"
    for side, here in enumerate(portrait.hands_present):
        true, found = view.hands[side], portrait.hand_points[side]
        share = float(true[:, 2].mean())
        extent = hand_square(true)[2]
        off = _far(found, true)
        matches = here and share >= 0.1 and float(np.median(off)) < 0.5 * extent
        if share > 0.5:
            rows[f"found {kind}"].append(matches)
        if here and not matches:
            rows["false"].append(1)
        if not matches or share <= 0.5:
            continue
        rows["by skin"].append(bool(torch.isclose(found[:, 2], torch.tensor(0.5)).all()))
        rows["hand points"].append(float(off.mean()) / extent)
        rows["fingers"].append(float(off[[4, 8, 12, 16, 20]].mean()) / extent)
        rows["hand of height"].append(float(off.mean()) / view.picture.shape[0])
        if portrait.limb_masks is not None:
            _overlap(rows, "hands", portrait.limb_masks[2 * side + 1], view.parts == HANDS[side])
            _overlap(rows, "forearms", portrait.limb_masks[2 * side], view.parts == FOREARMS[side])


def _far(found: Tensor, true: np.ndarray) -> np.ndarray:
    return np.linalg.norm(found[:, :2].numpy() - true[:, :2], axis=1)


def _overlap(rows: Rows, name: str, mask: Tensor, true: np.ndarray) -> None:
    """Intersection over union, where there is enough of it to speak of."""
    if true.mean() > 0.002:
        step = mask.shape[0] // true.shape[0]
        said = mask[::step, ::step].numpy() > 0.5
        rows[f"overlap {name}"].append(float((said & true).sum() / (said | true).sum()))


def lines(rows: Rows) -> Iterator[tuple[str, str]]:
    """The table's rows: name and what to print."""
    yield "faces missed", f"{int(sum(rows['missed']))} of {len(rows['missed'])}"
    yield "68 points off, % of a face side, median (90 %)", _percent(rows["face"])
    for name, kind in (("apart", "found apart"), ("closer than a hand", "found touching")):
        yield f"hands found of visible, {name}", f"{int(sum(rows[kind]))} of {len(rows[kind])}"
    yield "hands where none is", f"{len(rows['false'])}"
    yield "of these by skin colour alone", f"{int(sum(rows['by skin']))}"
    yield "21 points off, % of a hand, median (90 %)", _percent(rows["hand points"])
    yield "finger tips off, % of a hand", _percent(rows["fingers"])
    yield "21 points off, % of the picture's height", _percent(rows["hand of height"])
    for name in rows:
        if name.startswith("body "):
            joint = name.removeprefix("body ")
            sure = f"{100 * np.mean(rows[f'sure {joint}']):.0f} % sure"
            yield f"{joint} off, % of a face side", f"{_percent(rows[name])}, {sure}"
    for name in rows:
        if name.startswith("overlap "):
            yield f"overlap of {name.removeprefix('overlap ')}", f"{np.mean(rows[name]):.3f}"


def _percent(values: Sequence[float]) -> str:
    if not values:
        return "-"
    return f"{100 * np.median(values):.2f} ({100 * np.quantile(values, 0.9):.2f})"


if __name__ == "__main__":
    main()
