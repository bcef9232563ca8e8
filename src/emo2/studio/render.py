"""The renderer: colour with soft edges, and exactly where every pixel was in the reference frame.

Two passes over one skinned mesh (moderngl on EGL; software GL will do).  Every vertex carries its position in the
reference frame as an attribute, so the second pass reads the backward flow off the rasteriser; a surface point was
seen in the reference where its reference depth agrees with the reference's own depth, as in shadow mapping.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import moderngl
import numpy as np
from jaxtyping import Float, Integer, UInt8
from numpy import ndarray

from emo2.errors import UserError
from emo2.studio.assets import read_picture
from emo2.studio.material import Material
from emo2.studio.people import Person
from emo2.studio.pose import Bones, Pose
from emo2.studio.scene import Camera, Lights, light_matrix
from emo2.studio.shaders import (
    BACKGROUND_FRAGMENT,
    BACKGROUND_VERTEX,
    COLOUR_FRAGMENT,
    COLOUR_VERTEX,
    SHADE_FRAGMENT,
    SHADE_VERTEX,
    TRACE_FRAGMENT,
    TRACE_VERTEX,
)
from emo2.studio.skinning import pose_vertices, vertex_normals

Size = tuple[int, int]
_SOFT_EDGED = ("hair", "eyebrows", "eyelashes")
_SHADOWLESS = ("eyes", "eyebrows", "eyelashes", "teeth", "tongue")
_KINDS = ("skin", "hair", "eyes", "eyebrows", "eyelashes", "teeth", "tongue", "clothes")
_MAX_PICTURES = 48


@dataclass(frozen=True, kw_only=True)
class Still:
    """One posed person before a camera."""

    points: Float[ndarray, "n 3"]
    normals: Float[ndarray, "n 3"]
    screen: Float[ndarray, "n 3"]
    """Of the drawn vertices' points: view x, y in [0, 1] and depth in metres."""
    bones: Bones


@dataclass(frozen=True, kw_only=True)
class Trace:
    """Per pixel, top row first."""

    flow: Float[ndarray, "h w 2"]
    """Backward flow to the reference, in view sides; 0 on the background."""
    seen: Float[ndarray, "h w"]
    """1 where the pixel's surface is seen in the reference."""
    parts: Integer[ndarray, "h w"]
    """Index into `people.PART_NAMES`."""
    depth: Float[ndarray, "h w"]
    """Metres along the view; 0 on the background."""


def still(person: Person, pose: Pose, view: Camera) -> Still:
    """Pose a person before a camera."""
    bones = Bones(person.shape, pose)
    points = pose_vertices(person, pose, bones)
    return Still(
        points=points,
        normals=vertex_normals(person, points),
        screen=view.project(points),
        bones=bones,
    )


def _context() -> moderngl.Context:
    settings: dict[str, Any] = {"standalone": True, "backend": "egl"}
    try:
        return moderngl.create_context(**settings)
    except Exception as error:  # moderngl raises plain Exception here
        raise UserError(
            f"no OpenGL through EGL on this machine ({error}); a driver is needed, in software it is "
            "Debian's libegl1, libegl-mesa0 and libgl1-mesa-dri"
        ) from error


class Renderer:
    """An OpenGL context and its targets.

    `size` is the view's height and width in pixels; colour is drawn `supersample` times as fine, flow and parts are
    told on a grid of `trace` pixels (the size, if it is left out).
    """

    def __init__(
        self,
        size: tuple[int, int] = (256, 256),
        *,
        trace: tuple[int, int] | None = None,
        supersample: float = 1.5,
    ) -> None:
        self.size, self.trace_size = size, trace or size
        gl = self.gl = _context()
        fine: Size = (round(size[1] * supersample), round(size[0] * supersample))
        self.drawn = gl.texture(fine, 4)
        self.target = gl.framebuffer([self.drawn], gl.depth_renderbuffer(fine))
        coarse: Size = (self.trace_size[1], self.trace_size[0])
        self.traced = gl.texture(coarse, 4, dtype="f4")
        self.trace_target = gl.framebuffer([self.traced], gl.depth_renderbuffer(coarse))
        self.reference = gl.texture(coarse, 1, dtype="f4")
        self.reference.filter = (moderngl.NEAREST, moderngl.NEAREST)
        self.colour = gl.program(vertex_shader=COLOUR_VERTEX, fragment_shader=COLOUR_FRAGMENT)
        self.trace = gl.program(vertex_shader=TRACE_VERTEX, fragment_shader=TRACE_FRAGMENT)
        self.shade = gl.program(vertex_shader=SHADE_VERTEX, fragment_shader=SHADE_FRAGMENT)
        cells = 256 * max(1, round(max(size) * supersample / 512))
        self.shaded = gl.depth_texture((cells, cells))
        self.shaded.compare_func = ""
        self.shade_target = gl.framebuffer([], self.shaded)
        self.behind = gl.program(
            vertex_shader=BACKGROUND_VERTEX, fragment_shader=BACKGROUND_FRAGMENT
        )
        corners = np.array([-1, -1, 1, -1, -1, 1, 1, 1], "f4")
        self.screen = gl.vertex_array(self.behind, [(gl.buffer(corners.tobytes()), "2f", "corner")])
        self.behind_picture = gl.texture((size[1], size[0]), 3, alignment=1)
        self.pictures: OrderedDict[Path | None, moderngl.Texture] = OrderedDict()
        self.colour["picture"], self.colour["shade"], self.shade["picture"] = 0, 1, 0
        self.colour["shade_cell"] = 1.0 / cells
        self.trace["picture"] = 0
        self.trace["reference"] = 1
        self.trace["cell"] = (1.0 / coarse[0], 1.0 / coarse[1])

    def actor(self, person: Person) -> Actor:
        """Upload a person."""
        return Actor(self, person)

    def picture(self, path: Path | None) -> moderngl.Texture:
        """A material's picture on the device; white where there is none."""
        if path in self.pictures:
            self.pictures.move_to_end(path)
            return self.pictures[path]
        if len(self.pictures) >= _MAX_PICTURES:
            self.pictures.popitem(last=False)[1].release()
        pixels = np.full((1, 1, 4), 255, np.uint8) if path is None else read_picture(path)
        texture = self.gl.texture((pixels.shape[1], pixels.shape[0]), 4, pixels.tobytes())
        texture.build_mipmaps()
        texture.filter = (moderngl.LINEAR_MIPMAP_LINEAR, moderngl.LINEAR)
        self.pictures[path] = texture
        return texture


class Actor:
    """A person on the device; `pose` it, then draw it; release it when done."""

    def __init__(self, renderer: Renderer, person: Person) -> None:
        self.renderer, self.person = renderer, person
        gl = renderer.gl
        count = len(person.corners)
        self.moving = np.empty((count, 6), np.float32)
        self.moving_buffer = gl.buffer(reserve=self.moving.nbytes)
        fixed = np.concatenate(
            [
                person.uv,
                person.rest[person.corners],
                person.cavity[person.corners, None],
                person.parts[person.corners, None],
            ],
            1,
        ).astype(np.float32)
        self.fixed_buffer, self.fixed_stride = gl.buffer(fixed.tobytes()), fixed.shape[1] * 4
        self.reference_buffer = gl.buffer(reserve=count * 12)
        self.reference_depth = np.zeros(renderer.trace_size, np.float32)
        self.index_buffer = gl.buffer(person.triangles.tobytes())
        moving, fix, ref = self.moving_buffer, self.fixed_buffer, self.reference_buffer
        self.colour_array = gl.vertex_array(
            renderer.colour,
            [(moving, "3f 3f", "point", "normal"), (fix, "2f 3f 1f 4x", "uv", "rest", "cavity")],
            self.index_buffer,
        )
        self.shade_array = gl.vertex_array(
            renderer.shade,
            [(moving, "3f 12x", "point"), (fix, "2f 20x", "uv")],
            self.index_buffer,
        )
        self.trace_array = gl.vertex_array(
            renderer.trace,
            [
                (moving, "3f 12x", "point"),
                (fix, "2f 16x 1f", "uv", "part"),
                (ref, "3f", "before"),
            ],
            self.index_buffer,
        )

    def pose(self, still: Still) -> None:
        """Upload a pose."""
        np.take(still.points, self.person.corners, 0, out=self.moving[:, :3])
        np.take(still.normals, self.person.corners, 0, out=self.moving[:, 3:])
        self.moving_buffer.write(self.moving.tobytes())

    def set_reference(self, still: Still, view: Camera) -> Trace:
        """Make a pose the reference that flow and visibility are told against."""
        self.pose(still)
        self.reference_buffer.write(
            np.ascontiguousarray(still.screen[self.person.corners]).tobytes()
        )
        self._draw_trace(view)
        values = np.frombuffer(self.renderer.traced.read(), np.float32).reshape(
            *self.renderer.trace_size, 4
        )
        depth = np.where(values[..., 3] > 0, values[..., 2], 0.0).astype(np.float32)
        self.renderer.reference.write(depth.tobytes())
        self.reference_depth = depth[::-1]
        return self._trace(values[::-1], self.reference_depth)

    def draw(
        self, view: Camera, lights: Lights, behind: UInt8[ndarray, "h w 3"]
    ) -> UInt8[ndarray, "h w 3"]:
        """The picture of the pose before a background."""
        r = self.renderer
        gl = r.gl
        self._draw_shade(lights)
        r.target.use()
        r.target.clear()
        gl.disable(moderngl.DEPTH_TEST)
        r.behind_picture.write(np.ascontiguousarray(behind[::-1]).tobytes())
        r.behind_picture.use(0)
        r.screen.render(moderngl.TRIANGLE_STRIP)
        gl.enable(moderngl.DEPTH_TEST)
        _set_lights(r.colour, view, lights)
        for material, first, count in self.person.draws:
            _set_material(r.colour, material)
            if material.kind in _SOFT_EDGED:
                gl.enable(moderngl.BLEND)
            r.picture(material.picture).use(0)
            self.colour_array.render(vertices=count * 3, first=first * 3)
            gl.disable(moderngl.BLEND)
        fine = (r.drawn.height, r.drawn.width)
        pixels = np.frombuffer(r.drawn.read(), np.uint8).reshape(*fine, 4)
        small = cv2.resize(pixels[::-1], r.size[::-1], interpolation=cv2.INTER_AREA)
        return np.ascontiguousarray(small[..., :3])

    def trace(self, view: Camera) -> Trace:
        """Flow, visibility and parts of the pose."""
        self._draw_trace(view)
        values = np.frombuffer(self.renderer.traced.read(), np.float32).reshape(
            *self.renderer.trace_size, 4
        )
        return self._trace(values[::-1], self.reference_depth)

    def release(self) -> None:
        """Free the device's memory."""
        for item in (
            self.colour_array, self.trace_array, self.shade_array, self.moving_buffer, self.fixed_buffer,
            self.reference_buffer, self.index_buffer,
        ):  # fmt: skip
            item.release()

    def _draw_shade(self, lights: Lights) -> None:
        """What the key light sees: where it does not reach, there is shadow."""
        r = self.renderer
        r.colour["shadow"] = lights.shadow
        if lights.shadow <= 0:
            return
        points = self.moving[::7, :3]
        matrix = light_matrix(lights.key, points.min(0), points.max(0))
        set_matrix(r.shade, "matrix", matrix)
        set_matrix(r.colour, "shade_matrix", matrix)
        r.shade_target.use()
        r.shade_target.clear(depth=1.0)
        r.gl.enable(moderngl.DEPTH_TEST)
        for material, first, count in self.person.draws:
            if material.kind in _SHADOWLESS or not material.is_solid:
                continue
            r.picture(material.picture).use(0)
            self.shade_array.render(vertices=count * 3, first=first * 3)
        r.shaded.use(1)

    def _draw_trace(self, view: Camera) -> None:
        r = self.renderer
        r.trace_target.use()
        r.trace_target.clear(0.0, 0.0, 0.0, 0.0)
        r.gl.enable(moderngl.DEPTH_TEST)
        set_matrix(r.trace, "matrix", view.matrix)
        r.trace["tolerance"] = 0.002 + 0.8 * view.pixel(r.trace_size[0])
        r.reference.use(1)
        for material, first, count in self.person.draws:
            if not material.is_solid:
                continue
            r.picture(material.picture).use(0)
            self.trace_array.render(vertices=count * 3, first=first * 3)

    def _trace(self, values: ndarray, reference: ndarray) -> Trace:
        height, width = self.renderer.trace_size
        person = values[..., 3] > 0
        packed = values[..., 3]  # 2 * part + 0.5, and 1 more where seen
        parts = np.floor(packed / 2).astype(np.uint8)
        seen = (packed - 2.0 * parts > 1).astype(np.float32)
        y, x = np.mgrid[0:height, 0:width].astype(np.float32)
        flow = np.stack(
            [values[..., 0] - (x + 0.5) / width, values[..., 1] - (y + 0.5) / height], -1
        )
        return Trace(
            flow=np.where(person[..., None], flow, 0).astype(np.float32),
            seen=np.where(person, seen, (reference <= 0).astype(np.float32)),
            parts=np.where(person, parts, 0),
            depth=np.where(person, values[..., 2], 0),
        )


def set_matrix(program: moderngl.Program, name: str, matrix: Float[ndarray, "4 4"]) -> None:
    """Give a program a matrix."""
    uniform = program[name]
    assert isinstance(uniform, moderngl.Uniform)
    uniform.write(np.ascontiguousarray(matrix.T).tobytes())  # OpenGL wants columns


def _set_lights(program: moderngl.Program, view: Camera, lights: Lights) -> None:
    set_matrix(program, "matrix", view.matrix)
    program["eye"] = tuple(float(v) for v in view.eye)
    for name in ("key", "fill", "rim"):
        program[name] = tuple(float(v) for v in getattr(lights, name))
        program[f"{name}_colour"] = getattr(lights, f"{name}_colour")
    program["sky"], program["ground"] = lights.sky, lights.ground
    program["exposure"] = lights.exposure


def _set_material(program: moderngl.Program, material: Material) -> None:
    program["kind"] = _KINDS.index(material.kind)
    program["tint"] = material.tint
    program["lower_tint"] = material.lower_tint or material.tint
    program["waist"] = material.waist
    program["gamma"] = material.gamma
    program["repaint"] = material.repaint
    program["gloss"] = material.gloss
    program["pattern"] = tuple(float(v) for v in material.pattern)
