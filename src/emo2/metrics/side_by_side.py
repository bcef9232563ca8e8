"""Films of several systems beside one another, with the sound; blind: letters for names, the order drawn by lot."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from itertools import zip_longest
from pathlib import Path

import cv2
import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from emo2 import media
from emo2.generate import Event
from emo2.hands import resample
from emo2.hands.preview import preview_frames
from emo2.media.files import write_text
from emo2.media.watch import film_facts, read_frames
from emo2.metrics.inputs import Inputs, Item
from emo2.metrics.motion_clips import read_track
from emo2.signals import Clip

_TALL = 256
_BAR = 24
_GAP = 4
_FPS = 25.0
_BLOCK = 25

Picture = Float[Tensor, "3 h w"]


def side_by_side(
    systems: Mapping[str, Inputs], folder: Path, *, kind: str, blind: bool, seed: int
) -> Iterator[Event]:
    """One film a clip; with `blind` also `key.json` in the folder above: who stood where."""
    names = list(systems)
    by_item = {i.name: [] for i in next(iter(systems.values())).items}
    for inputs in systems.values():
        for item in inputs.items:
            by_item[item.name].append(item)
    orders = blind_orders(len(by_item), len(names), seed)
    key: dict[str, list[str]] = {}
    for done, (name, items) in enumerate(by_item.items()):
        order = orders[done] if blind else list(range(len(names)))
        key[name] = [names[i] for i in order]
        labels = [chr(ord("A") + i) for i in range(len(names))] if blind else key[name]
        _film([items[i] for i in order], labels, folder / f"{name}.mp4", kind)
        yield Event(kind="progress", stage="films", done=done + 1, total=len(by_item))
    if blind:
        path = folder.parent / "key.json"
        write_text(path, json.dumps(key, indent=1) + "\n")
        yield Event(kind="note", text=f"who stands where is in {path}: open it last", path=path)


def blind_orders(clips: int, systems: int, seed: int) -> list[list[int]]:
    """Who stands where, clip by clip: every system in every place equally often, but for one, and the clips shuffled.

    Rotations of orders drawn by lot, a Latin square a block; a lot a clip alone may put one system first throughout.
    """
    rng = np.random.default_rng(seed)
    orders: list[list[int]] = []
    while len(orders) < clips:
        drawn = rng.permutation(systems)
        orders += [np.roll(drawn, int(by)).tolist() for by in rng.permutation(systems)]
    return [orders[i] for i in rng.permutation(clips)]


def _film(items: Sequence[Item], labels: Sequence[str], path: Path, kind: str) -> None:
    """The first sample of every system in one row."""
    path.parent.mkdir(parents=True, exist_ok=True)
    streams = [_frames(item, kind) for item in items]
    columns = []
    row: list[Picture | None] = [None] * len(items)
    film: media.Film | None = None
    start = 0
    for pictures in zip_longest(*streams):  # a film that ends early stays on its last picture
        row = [new if new is not None else old for new, old in zip(pictures, row, strict=True)]
        columns.append(_row([p for p in row if p is not None], labels))
        if len(columns) == _BLOCK:
            film, start = _write(film, path, columns, start, items)
            columns = []
    if columns:
        film, start = _write(film, path, columns, start, items)
    if film is not None:
        film.close()


def _write(
    film: media.Film | None, path: Path, columns: list[Picture], start: int, items: Sequence[Item]
) -> tuple[media.Film, int]:
    frames = torch.stack(columns)
    if film is None:
        size = (frames.shape[-2], frames.shape[-1])
        film = media.Film(path, size, _FPS, _sound(items), resume=False)
    film.write(Clip(frames=frames, start=start, fps=_FPS))
    return film, start + len(frames)


def _sound(items: Sequence[Item]) -> Path | None:
    """The voice, or the sound of the first film that has any."""
    for item in items:
        if item.voice is not None:
            return item.voice
    for item in items:
        made = item.generated[0]
        if made.suffix.lower() not in (".npz", ".json") and film_facts(made).has_sound:
            return made
    return None


def _frames(item: Item, kind: str) -> Iterator[Picture]:
    path = item.generated[0]
    if kind == "film":
        height, width = film_facts(path).size
        size = (_TALL, max(2, round(width * _TALL / height / 2) * 2))
        yield from read_frames(path, fps=_FPS, size=size)
        return
    motion = read_track(path).motion
    motion = motion if motion.fps == _FPS else resample(motion, _FPS)
    for start in range(0, len(motion), _BLOCK):
        chosen = range(start, min(start + _BLOCK, len(motion)))
        yield from preview_frames(motion, chosen, size=(_TALL, round(_TALL * 4 / 3 / 2) * 2))


def _row(pictures: Sequence[Picture], labels: Sequence[str]) -> Float[Tensor, "3 tall wide"]:
    """Pictures of one height in a row, each under its label."""
    columns = []
    for index, (picture, label) in enumerate(zip(pictures, labels, strict=True)):
        bar = np.zeros((_BAR, picture.shape[-1], 3), np.uint8)
        white, face = (255, 255, 255), cv2.FONT_HERSHEY_SIMPLEX
        cv2.putText(bar, label[:24], (6, 17), face, 0.5, white, 1, cv2.LINE_AA)
        title = torch.from_numpy(bar).permute(2, 0, 1).float() / 127.5 - 1
        column = torch.cat((title, picture), 1)
        if index:
            column = torch.cat((-torch.ones(3, column.shape[1], _GAP), column), 2)
        columns.append(column)
    row = torch.cat(columns, 2)
    return torch.nn.functional.pad(row, (0, row.shape[-1] % 2), value=-1.0)
