"""The studio without assets: a plain person, a small renderer, a camera before a face."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy import ndarray

from emo2.errors import UserError
from emo2.studio import acting
from emo2.studio.assets import Library
from emo2.studio.casting import Casting, cast
from emo2.studio.people import Person
from emo2.studio.render import Renderer
from emo2.studio.scene import Camera, Framing, camera

SIZE = 128


def plain_person(**casting: float) -> Person:
    """The same made-up person every time."""
    return cast(np.random.default_rng(3), Casting(library=Library(None), **casting))


def small_renderer() -> Renderer:
    """Of pictures of `SIZE`; the test is skipped where nothing can be rendered."""
    try:
        return Renderer((SIZE, SIZE), supersample=1.0)
    except UserError as error:
        pytest.skip(str(error))


def front(person: Person, half: float = 0.16, **turned: float) -> Camera:
    """A camera before a face; `half`: metres of it up and down."""
    centre = person.shape.heads["head"] + np.array([0, 0.05, 0], np.float32)
    framing = Framing(centre=centre.astype(np.float64), half_height=half, distance=1.5)
    return camera(replace(framing, **turned))


def face(**values: float) -> ndarray:
    """Face actions by name."""
    actions = np.zeros(52)
    for name, value in values.items():
        acting.put(actions, name, value)
    return actions
