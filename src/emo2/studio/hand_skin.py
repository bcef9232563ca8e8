"""What skin of hands looks like beside its mean, as charts for `hands/relief.py`, from MakeHuman's CC0 skins.

`python -m emo2.studio.hand_skin --assets FOLDER OUT.npz`: the resting stand-in, straight on from its back and from its palm, in
the colours of some light and some dark skins, as stops against the back's mean.  Only the package's maker runs it.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import Bool, Float32, Int
from numpy import ndarray

from emo2.hands.cut_standin import AnnyHand
from emo2.hands.raster import rasterise
from emo2.hands.relief import LOW_M, PIXELS_A_METRE, STOPS, read
from emo2.studio.assets import read_picture

SKINS = (
    ("young_lightskinned_female_diffuse2", "young_lightskinned_male_diffuse2"),
    ("young_darkskinned_male_diffuse", "young_darkskinned_female_diffuse"),
)
"""Means of two: light, dark."""
_SIZE = (205, 270)
_FINE = 2
_GAMMA = 2.2


def draw_hand_skin(path: Path, assets: Path) -> None:
    """Write the table."""
    hand = AnnyHand()
    corners, faces = hand.texture_corners(), hand.faces
    points = hand.cut({}, {}).vertices.astype(np.float32)
    table = []
    for names in SKINS:
        stops = []
        for name in names:
            picture = read_picture(assets / "skins" / f"{name}.webp")[..., :3]
            sides = [_chart(picture, points, faces, corners, side) for side in ("back", "palm")]
            linear = [(np.maximum(colour, 1) / 255) ** _GAMMA for colour, _ in sides]
            mean = np.log(linear[0][sides[0][1]]).mean(0)
            stops.append(np.stack([(np.log(z) - mean) / np.log(2) for z in linear]))
        table.append(np.mean(stops, axis=0))
    code = (np.stack(table) / STOPS * 127.5 + 127.5).round().clip(0, 255).astype(np.uint8)
    np.savez_compressed(path, relief=code)


def _chart(
    picture: ndarray,
    points: Float32[ndarray, "v 3"],
    faces: Int[ndarray, "f 3"],
    corners: Float32[ndarray, "f 3 2"],
    side: str,
) -> tuple[Float32[ndarray, "h w 3"], Bool[ndarray, "h w"]]:
    """Colours of one side, continued beyond its outline, and where it is."""
    scale = PIXELS_A_METRE * _FINE
    sign = 1 if side == "back" else -1
    flat = (points[:, [0, 2]] - np.array(LOW_M)) * scale
    placed = np.column_stack((flat, sign * points[:, 1] * scale)).astype(np.float32)
    order = slice(None, None, -1) if side == "back" else slice(None)
    fine = (_SIZE[0] * _FINE, _SIZE[1] * _FINE)
    seen = rasterise(placed, faces[:, order], fine)
    at = np.einsum("nk,nkc->nc", seen.corner, corners[seen.face][:, order])
    place = at * np.array(picture.shape[1::-1]) - 0.5
    drawn = np.zeros((fine[0] * fine[1], 4), np.float32)
    drawn[seen.pixel, :3] = read(picture.astype(np.float32), place.astype(np.float32))
    drawn[seen.pixel, 3] = 1
    small = cv2.resize(drawn.reshape(*fine, 4), _SIZE[::-1], interpolation=cv2.INTER_AREA)
    inside = cv2.erode((small[..., 3] > 0.98).astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
    _, labels = cv2.distanceTransformWithLabels(
        (~inside).astype(np.uint8), cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL
    )
    nearest = np.asarray(labels, np.intp)
    known = np.zeros((int(nearest.max()) + 1, 3), np.float32)
    known[nearest[inside]] = small[inside][:, :3]
    return known[nearest], inside


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="draw the relief of hands' skin")
    parser.add_argument("out", type=Path)
    parser.add_argument("--assets", type=Path, required=True)
    given = parser.parse_args()
    draw_hand_skin(given.out, given.assets)
