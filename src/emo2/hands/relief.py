"""What skin of a hand looks like beside its mean colour: nails, knuckles, lines and palm, for any person's tone (ours).

The table is made by `bake_relief` from MakeHuman's CC0 skins: for a light and a dark skin, the back and the palm of the
resting stand-in seen straight on, as stops (base-2 logarithms of linear light) against the back's mean.
"""

from __future__ import annotations

from functools import cache
from importlib.resources import as_file, files

import cv2
import numpy as np
from jaxtyping import Float32

from emo2.hands.raster import vertex_normals
from emo2.hands.standin import stand_in

_FILE = "assets/hands/skin_relief.npz"
STOPS = 3.0
"""Of the largest byte."""
_DARK_SHARE = 0.6
"""Of the dark skin's stops that is used: its painted palm is lighter than most."""
LOW_M = (-0.092, -0.059)
"""x, z of the charts' first corner in the stand-in's template, metres."""
PIXELS_A_METRE = 1400
_CHUNK = 2048
_SIDES = 0.5
"""Sine of the slope over which one chart goes over into the other."""


@cache
def _tables() -> Float32[np.ndarray, "2 2 h w 3"]:
    """Light and dark skin; back and palm."""
    with as_file(files("emo2") / _FILE) as path, np.load(path) as stored:
        return (stored["relief"].astype(np.float32) / 127.5 - 1) * np.float32(STOPS)


def relief(darkness: float) -> Float32[np.ndarray, "h2 w 3"]:
    """Stops of back, then palm below it; `darkness`: 0 the light skin, 1 the dark one."""
    light, dark = _tables()
    return np.concatenate(list(light + (_DARK_SHARE * dark - light) * np.float32(darkness)))


@cache
def places() -> Float32[np.ndarray, "v 2"]:
    """x, y of the stand-in's vertices on the back's chart, pixels."""
    template = stand_in().template.numpy()
    return ((template[:, [0, 2]] - np.array(LOW_M)) * PIXELS_A_METRE - 0.5).astype(np.float32)


@cache
def palm_share() -> Float32[np.ndarray, "v 1"]:
    """How far each vertex of the stand-in looks to the palm at rest, 0..1: both charts show what lies between."""
    model = stand_in()
    normals = vertex_normals(model.template.numpy(), model.faces.numpy())
    return np.clip(0.5 - normals[:, 1:2] / (2 * _SIDES), 0, 1).astype(np.float32)


def read(
    table: Float32[np.ndarray, "h2 w 3"], place: Float32[np.ndarray, "n 2"]
) -> Float32[np.ndarray, "n 3"]:
    """The table's values at places in pixels."""
    count = len(place)
    rows = max(1, -(-count // _CHUNK))
    padded = np.zeros((rows * _CHUNK, 2), np.float32)
    padded[:count] = place
    x, y = (np.ascontiguousarray(padded[:, k].reshape(rows, _CHUNK)) for k in (0, 1))
    found = cv2.remap(table, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return found.reshape(-1, 3)[:count]
