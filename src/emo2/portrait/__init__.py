"""The portrait finder: a picture to a `Portrait` (face, points, limbs), trained on the studio's people."""

from emo2.portrait.find import find
from emo2.portrait.stage import PortraitFinder

__all__ = ["PortraitFinder", "find"]
