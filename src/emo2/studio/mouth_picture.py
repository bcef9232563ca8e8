"""The inside of a mouth as three layers (teeth above, teeth below, tongue), drawn once for `video/mouth_inside.py`.

Photos seldom show it, and a network that has to guess where teeth stand paints their average, a grey blur.  So the
layers are drawn from MakeHuman's CC0 teeth and tongue, in the mouth window's own coordinates, lit as inside a mouth.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from numpy import ndarray
from safetensors.torch import save_file
from torch import Tensor

from emo2.signals import FACE_ACTIONS
from emo2.studio import labels
from emo2.studio.assets import Library
from emo2.studio.material import Material
from emo2.studio.people import (
    Person,
    Piece,
    anatomy,
    assemble,
    body_piece,
    move_teeth,
    proxy_piece,
    teeth_rows,
)
from emo2.studio.pose import Pose
from emo2.studio.render import Renderer, still
from emo2.studio.scene import Camera, Framing, Lights, camera
from emo2.video.details import Placement, cut_window, place_windows
from emo2.video.examples import marks_of

SIDE = 160
UPPER_M, LOWER_M = 0.0065, 0.0035
"""How far teeth stand below MakeHuman's: the middle of what `casting` draws."""
OPEN = 0.4
"""Of the jaw, when the lower layers are drawn."""
_LIGHTS = Lights(
    key=np.array([0.0, 0.25, 1.0]), fill=np.array([0.0, 0.0, 1.0]), rim=np.array([0.0, 1.0, -1.0]),
    key_colour=(0.75, 0.74, 0.72), fill_colour=(0.2, 0.2, 0.2), rim_colour=(0.0, 0.0, 0.0),
    sky=(0.45, 0.45, 0.45), ground=(0.3, 0.3, 0.3), exposure=0.85,
)  # fmt: skip


def draw_mouth(path: Path, assets: Path) -> None:
    """Write the three layers and how far the lower ones drop with the jaw."""
    library = Library(assets)
    renderer = Renderer((768, 768), supersample=1.5)
    view, window = _window(_person(library, "skin"))
    layers = {name: _person(library, name) for name in ("upper", "lower", "tongue")}
    drawn = {name: _layer(renderer, who, view, window, OPEN) for name, who in layers.items()}
    heights = [_middle(_layer(renderer, layers["lower"], view, window, jaw)) for jaw in (0.2, 0.6)]
    tensors = {name: (z * 255).round().to(torch.uint8) for name, z in drawn.items()}
    tensors["drop"] = torch.tensor((heights[1] - heights[0]) / 0.4)
    tensors["open"] = torch.tensor(OPEN)
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({n: t.contiguous() for n, t in tensors.items()}, path)


def _person(library: Library, part: str) -> Person:
    """Somebody without any peculiarity, of whom one part is drawn."""
    shape = anatomy().shape({}, {})
    low = float(shape.heads["neck01"][1]) - 0.1
    teeth = library.proxy(library.names("teeth")[0])
    tongue = library.proxy("tongue/tongue01/tongue01.mhclo")
    white = Material(kind="teeth", picture=teeth.picture, gloss=0.4)
    red = Material(kind="tongue", picture=tongue.picture, tint=(0.62, 0.42, 0.4), gloss=0.2)
    both = move_teeth(proxy_piece(teeth, white, shape.base, low), upper_m=UPPER_M, lower_m=LOWER_M)
    row = 1 if part == "lower" else 0
    pieces = {
        "skin": body_piece(Material(kind="skin"), shape.base[:, 1] > low),
        "teeth": _row_of_teeth(both, row) if part in ("upper", "lower") else both,
        "tongue": proxy_piece(tongue, red, shape.base, low),
    }
    person = assemble(shape, list(pieces.values()))
    kind = part if part in pieces else "teeth"
    return replace(person, draws=tuple(d for d in person.draws if d[0].kind == kind))


def _row_of_teeth(piece: Piece, row: int) -> Piece:
    """The triangles of one row: 0 above, 1 below."""
    mine = (piece.places @ teeth_rows())[:, row] > 0.5
    chosen = mine[piece.mesh.faces].all(1)
    mesh = replace(piece.mesh, faces=piece.mesh.faces[chosen], face_uv=piece.mesh.face_uv[chosen])
    return replace(piece, mesh=mesh)


def _pose(jaw: float) -> Pose:
    actions = np.zeros(len(FACE_ACTIONS))
    actions[FACE_ACTIONS.index("jawOpen")] = jaw
    return Pose(actions=actions, head=np.zeros(6), body=np.zeros(6))


def _window(person: Person) -> tuple[Camera, Placement]:
    """A camera on the face, and the mouth's window in its picture."""
    head = person.shape.heads["neck01"] + np.array([0.0, 0.12, 0.1])
    view = camera(Framing(centre=head, half_height=0.11, distance=1.6))
    posed = still(person, _pose(0.0), view)
    points = labels.face_points(posed, labels.body_places(person))
    marks = marks_of(torch.from_numpy(np.ascontiguousarray(points)).float())
    return view, place_windows(marks[None])[0]


def _layer(
    renderer: Renderer, person: Person, view: Camera, window: Placement, jaw: float
) -> Float[Tensor, "4 s s"]:
    """Premultiplied RGBA in [0, 1]: what is drawn before black, and how much less shows of white."""
    actor = renderer.actor(person)
    actor.pose(still(person, _pose(jaw), view))
    black, white = (
        actor.draw(view, _LIGHTS, np.full((768, 768, 3), c, np.uint8)) for c in (0, 255)
    )
    actor.release()
    alpha = 1.0 - (white.astype(np.float32) - black).mean(-1, keepdims=True) / 255
    values = np.concatenate([black / np.float32(255), alpha], -1)
    image = torch.from_numpy(np.ascontiguousarray(values.transpose(2, 0, 1)))[None].float()
    return cut_window(image, window.places(SIDE))[0].clamp(0.0, 1.0)


def _middle(layer: Float[Tensor, "4 s s"]) -> float:
    """Height of a layer's middle, in half sides."""
    rows: ndarray = layer[3].sum(1).numpy()
    places = (np.arange(len(rows)) + 0.5) * (2.0 / len(rows)) - 1.0
    return float((rows * places).sum() / rows.sum())


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="draw the inside of the mouth")
    parser.add_argument("output", type=Path)
    parser.add_argument("--assets", type=Path, required=True, help="MakeHuman's folder")
    given = parser.parse_args()
    draw_mouth(given.output, given.assets)
