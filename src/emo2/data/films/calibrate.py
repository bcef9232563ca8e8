"""Fits the factors from what a film shows of a face to face actions, on rendered people whose actions are known.

`python -m emo2.data.films.calibrate TRAIN TEST SHAPE -o FILE`: folders of the studio's face shards, and a file of the
mean face.  An action counts as known where its reading of held-out people correlates well with the truth.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
from jaxtyping import Float
from numpy import ndarray
from safetensors import safe_open
from safetensors.numpy import save_file

from emo2.data.films.faces import (
    FEATURES,
    Measures,
    carried,
    eye_distance,
    features_of,
    fit_head,
    head_of,
)
from emo2.data.films.flow import Matcher
from emo2.signals import FACE_ACTIONS
from emo2.video.examples import MIRROR_ACTIONS

KNOWN_FROM = 0.75
"""Correlation on held-out people from which on an action counts as read."""
FINDER_NOISE = 0.03
"""Error of the finder's points on the reference, in distances between the eyes."""
READ = {"jawOpen": "opening", "eyeBlinkLeft": "left_eye", "eyeBlinkRight": "right_eye"}
"""Actions that are read, and from which feature."""


def read_labelled(
    folders: list[Path], measures: Measures, seed: int = 0
) -> Iterator[tuple[Float[ndarray, "4"], Float[ndarray, "52"], ndarray, ndarray]]:
    """(features, actions against the reference, head as read, head as it is) of every frame of some shards."""
    rng = np.random.default_rng(seed)
    for path in sorted(p for folder in folders for p in folder.glob("*.safetensors")):
        with safe_open(path, framework="np") as file:
            takes = "takes" in (file.metadata() or {}).get("kind", "")
            for who in range(file.get_slice("frames").get_shape()[0]):
                yield from _read_person(file, who, measures, rng, takes=takes)


def _read_person(
    file: safe_open, who: int, measures: Measures, rng: np.random.Generator, *, takes: bool
) -> Iterator[tuple[ndarray, ndarray, ndarray, ndarray]]:
    def of(name: str) -> ndarray:
        return file.get_slice(name)[who]

    picture = np.ascontiguousarray(of("reference").transpose(1, 2, 0))
    points = of("face_points")[0].astype(np.float32) * picture.shape[0]
    points = points + FINDER_NOISE * eye_distance(points) * rng.normal(size=points.shape)
    points = points.astype(np.float32)
    matcher, rest = Matcher(picture), fit_head(points, measures)
    own, before = of("reference_actions"), of("reference_head")
    for frame, actions, head in zip(of("frames"), of("actions"), of("head"), strict=True):
        if not takes:
            matcher.restart()
        frame = np.ascontiguousarray(frame.transpose(1, 2, 0))
        match = matcher.see(frame)
        found, sure = carried(points, match.back, match.kept)
        fit = fit_head(found, measures, sure)
        features = features_of(found, points, (fit, rest), (frame, picture), measures)
        read = head_of(fit, rest, measures) - head_of(rest, rest, measures)
        yield features, actions - own, read, head - before


def calibrate(
    train: list[Path], test: list[Path], measures: Measures
) -> tuple[Measures, Float[ndarray, "52"], Float[ndarray, "6"]]:
    """The map, its correlation with the truth on held-out people, and that of the head's channels."""
    x, y, *_ = (np.stack(z) for z in zip(*read_labelled(train, measures), strict=True))
    weights = np.zeros((len(FACE_ACTIONS), len(FEATURES)), np.float32)
    for name, feature in READ.items():
        action, column = FACE_ACTIONS.index(name), [FEATURES.index(feature), len(FEATURES) - 1]
        weights[action, column], *_ = np.linalg.lstsq(x[:, column], y[:, action], rcond=None)
    x, y, read, head = (np.stack(z) for z in zip(*read_labelled(test, measures, 1), strict=True))
    found = x @ weights.T
    right = np.array([_correlation(a, b) for a, b in zip(found.T, y.T, strict=True)], np.float32)
    pose = np.array([_correlation(a, b) for a, b in zip(read.T, head.T, strict=True)], np.float32)
    known = right >= KNOWN_FROM
    known &= known[MIRROR_ACTIONS]  # both sides or none
    return replace(measures, weights=weights * known[:, None], known=known), right, pose


def _correlation(a: ndarray, b: ndarray) -> float:
    return 0.0 if a.std() < 1e-6 or b.std() < 1e-6 else float(np.corrcoef(a, b)[0, 1])


def main() -> None:
    """Fit, and write the file that the package ships."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--train", type=Path, nargs="+", required=True)
    parser.add_argument("--test", type=Path, nargs="+", required=True)
    parser.add_argument("--shape", type=Path, required=True, help="68 x 3 .npy, the neck as row 69")
    parser.add_argument("-o", "--output", type=Path, required=True)
    told = parser.parse_args()
    shape = np.load(told.shape).astype(np.float32)
    empty = Measures(
        shape=shape[:68], neck=shape[68], weights=np.zeros((52, 4), np.float32),
        known=np.zeros(52, bool),
    )  # fmt: skip
    found, right, pose = calibrate(told.train, told.test, empty)
    told.output.parent.mkdir(parents=True, exist_ok=True)
    save_file(
        {
            "shape": found.shape, "neck": found.neck, "weights": found.weights,
            "known": found.known.astype(np.uint8), "correlation": right, "head_correlation": pose,
        },
        told.output,
    )  # fmt: skip


if __name__ == "__main__":
    main()
