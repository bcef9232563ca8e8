"""Hands: the model (MANO's file or the free stand-in), the `Motion` file, its editing and its exports."""

from emo2.hands.edit import (
    mirror_motion,
    resample,
    retime,
    slice_motion,
    with_amplitude,
)
from emo2.hands.export import to_bvh, to_json
from emo2.hands.mano import load_hand
from emo2.hands.model import (
    HandModel,
    Hands,
    from_mano,
    from_numbers,
    hand_points,
    mirror,
    pose_hands,
    to_numbers,
)
from emo2.hands.motion_file import load_motion, save
from emo2.hands.pose import shape_hand
from emo2.hands.standin import stand_in

__all__ = [
    "HandModel", "Hands", "from_mano", "from_numbers", "hand_points", "load_hand", "load_motion", "mirror",
    "mirror_motion", "pose_hands", "resample", "retime", "save", "shape_hand", "slice_motion", "stand_in",
    "to_bvh", "to_json", "to_numbers", "with_amplitude",
]  # fmt: skip
