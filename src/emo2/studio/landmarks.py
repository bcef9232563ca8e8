"""The 68 face points of iBUG on MakeHuman's base mesh, chosen by eye and checked on renders.

Only the person's left side is listed; the right side is found by mirroring the resting mesh.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from emo2.studio.assets import base_mesh

# Index in iBUG's order (0 to 67) of a point on the middle line or the person's left, and its base vertex.
_LEFT_AND_MIDDLE = {
    # jaw, chin to ear
    8: 747, 9: 7449, 10: 7463, 11: 7594, 12: 7596, 13: 7614, 14: 7574, 15: 11844, 16: 7037,
    # brow, inner to outer end
    22: 6984, 23: 6956, 24: 6952, 25: 6954, 26: 6987,
    # nose: bridge, then underside
    27: 133, 28: 5063, 29: 201, 30: 294, 33: 317, 34: 7077, 35: 7055,
    # eye: inner corner, upper lid, outer corner, lower lid
    42: 11488, 43: 11483, 44: 11466, 45: 11472, 46: 11478, 47: 11480,
    # lips outside: upper middle to corner, lower
    51: 362, 52: 7117, 53: 11966, 54: 7182, 55: 7130, 56: 7241, 57: 492,
    # lips inside
    62: 474, 63: 7226, 64: 7182, 65: 7236, 66: 493,
}  # fmt: skip

_MIRROR = {
    **{k: 16 - k for k in range(9, 17)}, **{k: 43 - k for k in range(22, 27)}, 34: 32, 35: 31,
    42: 39, 43: 38, 44: 37, 45: 36, 46: 41, 47: 40, 52: 50, 53: 49, 54: 48, 55: 59, 56: 58, 63: 61, 64: 60, 65: 67,
}  # fmt: skip
"""Left point to right point."""


@lru_cache(maxsize=1)
def face_vertices() -> tuple[int, ...]:
    """Base vertex of each of the 68 points."""
    rest = base_mesh().rest
    found = dict(_LEFT_AND_MIDDLE)
    for left, right in _MIRROR.items():
        mirrored = rest[_LEFT_AND_MIDDLE[left]] * np.array([-1, 1, 1], np.float32)
        found[right] = int(np.abs(rest[:13380] - mirrored).sum(1).argmin())
    return tuple(found[k] for k in range(68))
