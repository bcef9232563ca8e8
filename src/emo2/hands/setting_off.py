"""How hands leave the pose that a film begins with: as hands at rest set off (Flash and Hogan, 1985).

Stage 1 plans hands that belong to the voice, which may be far from where the photo has them; its way there is
spread over `START_S`, and what the layers take off of it as drift is given back over the same time.
"""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

START_S = 0.8
"""Time of the way; a hand's width at .25 m/s at most, as slow gestures go *(ours)*."""


def left_at(time_s: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
    """What is left of the first pose after some time: 1 at 0 and before, 0 from `START_S` on, by minimum jerk."""
    x = (time_s / START_S).clamp(0.0, 1.0)
    return 1.0 - x**3 * (10.0 - 15.0 * x + 6.0 * x**2)
