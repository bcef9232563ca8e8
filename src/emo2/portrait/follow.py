"""A face followed through a film: every frame is looked at where the last one left off.

Two looks a frame, straight and in the mirror, whose errors differ; where the face is lost, it is sought anew.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from emo2.portrait.find import find_faces, tilt
from emo2.portrait.looking import look, square_about
from emo2.portrait.stage import PortraitFinder
from emo2.portrait.views import MIRROR_FACE

_LOST = 0.3
"""Presence under which a look has lost the face."""
_STRANGE = 0.5
"""Strangeness from which what is seen is no face (people: below 0.4)."""
_SEEK_EVERY = 5
"""Frames between searches while there is no face: seeking is dear."""


class FaceFollower:
    """Sees one frame after another and says where the face is: at first the largest there is."""

    def __init__(self, finder: PortraitFinder) -> None:
        self.finder = finder
        self._last: Tensor | None = None
        self._away = 0

    @torch.inference_mode()
    def see(self, frame: Float[Tensor, "3 h w"]) -> Float[Tensor, "68 2"] | None:
        """The face's 68 points in pixels; None where it is not seen."""
        found = None if self._last is None else self._near(frame, self._last)
        if found is None and self._away % _SEEK_EVERY == 0:
            faces = find_faces(frame, self.finder)
            found = self._near(frame, faces[0].points) if faces else None
        self._away = 0 if found is not None else self._away + 1
        self._last = self._last if found is None else found
        return found

    def _near(
        self, frame: Float[Tensor, "3 h w"], points: Float[Tensor, "68 2"]
    ) -> Float[Tensor, "68 2"] | None:
        """The face near where it was; None where it is not there."""
        looks = []
        for mirrored in (False, True):
            about = square_about(points, reach=1.6, turn=tilt(points))
            square = replace(about, mirrored=mirrored)
            found, _, present = look(frame, self.finder.face, square, self.finder.config.crop)
            if present < _LOST:
                return None
            looks.append(found[list(MIRROR_FACE)] if mirrored else found)
        mean = torch.stack(looks).mean(0)
        return mean if self.finder.strangeness(mean) < _STRANGE else None
