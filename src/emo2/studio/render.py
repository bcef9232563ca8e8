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
from emo2.studio.colouring import (
    Colouring,
    Variant,
    set_lights,
    set_material,
    set_matrix,
    variant,
)
from emo2.studio.people import Person
from emo2.studio.pose import Bones, Pose
from emo2.studio.scene import Camera, Lights, light_matrix
from emo2.studio.shaders import (
    BACKGROUND_FRAGMENT,
    BACKGROUND_VERTEX,
    SHADE_FRAGMENT,
    SHADE_VERTEX,
    TRACE_FRAGMENT,
    TRACE_VERTEX,
)
from emo2.studio.skinning import pose_vertices, vertex_normals

Size = tuple[int, int]
_SOFT_EDGED = ("hair", "eyebrows", "eyelashes", "beard", "paint", "lens")
_SHADOWLESS = ("eyes", "eyebrows", "eyelashes", "teeth", "tongue", "beard", "lens")
_MAX_PICTURES = 48
_SKY = np.array(
    [(0, 1, 0.1), (0.7, 0.5, 0.5), (-0.7, 0.5, 0.5), (0, 0.1, 1), (0.6, -0.2, 0.8), (-0.6, -0.2, 0.8)], np.float32
)  # fmt: skip
_SKY /= np.linalg.norm(_SKY, axis=1, keepdims=True)
"""Directions from which light comes everywhere, the camera's side above all."""


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
        self.colouring, self.shade["picture"] = Colouring(gl, cells), 0
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
        texture.filter = (moderngl.LINEAR_MIPMAP_NEAREST, moderngl.LINEAR)
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
        self.ambient_buffer = gl.buffer(np.ones(count, np.float32).tobytes())
        self.reference_depth = np.zeros(renderer.trace_size, np.float32)
        self.index_buffer = gl.buffer(person.triangles.tobytes())
        moving, fix, ref = self.moving_buffer, self.fixed_buffer, self.reference_buffer
        self.colour_arrays: dict[Variant, moderngl.VertexArray] = {}
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

    def _colour_array(self, which: Variant) -> moderngl.VertexArray:
        if which not in self.colour_arrays:
            r = self.renderer
            self.colour_arrays[which] = r.gl.vertex_array(
                r.colouring.program(which),
                [
                    (self.moving_buffer, "3f 3f", "point", "normal"),
                    (self.fixed_buffer, "2f 3f 1f 4x", "uv", "rest", "cavity"),
                    (self.ambient_buffer, "1f", "ambient"),
                ],
                self.index_buffer,
            )
        return self.colour_arrays[which]

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

    def flow_to(self, before: Still, view: Camera) -> Float[ndarray, "h w 2"]:
        """Backward flow of the pose to another one than the reference."""
        kept = self.reference_buffer.read()
        self.reference_buffer.write(
            np.ascontiguousarray(before.screen[self.person.corners]).tobytes()
        )
        flow = self.trace(view).flow
        self.reference_buffer.write(kept)
        return flow

    def occlude(self, strength: float) -> None:
        """Ambient occlusion of the pose, kept for all that follow: what share of the sky each vertex sees.

        Seen from a few directions, as in shadow mapping (a coarse form of Landis 2002).
        """
        points, normals = self.moving[:, :3], self.moving[:, 3:]
        seen, total = np.zeros(len(points), np.float32), np.full(len(points), 1e-3, np.float32)
        for toward in _SKY:
            matrix = self._map_shade(toward)
            depths = np.frombuffer(self.renderer.shaded.read(), np.float32)
            depths = depths.reshape(self.renderer.shaded.height, -1)
            place = (points + 0.006 * normals) @ matrix[:3, :3].T + matrix[:3, 3]
            cells = ((place * 0.5 + 0.5) * [depths.shape[1], depths.shape[0], 1.0]).astype(np.int32)
            column, row = (np.clip(cells[:, k], 0, len(depths) - 1) for k in (0, 1))
            share = np.maximum(normals @ toward, 0)
            total += share
            seen += share * (place[:, 2] * 0.5 + 0.5 < depths[row, column] + 0.004)
        free = 1 - strength * (1 - (seen / total) ** 2)
        self.ambient_buffer.write(free.astype(np.float32).tobytes())

    def draw(
        self, view: Camera, lights: Lights, behind: UInt8[ndarray, "h w 3"], *, flat_steps: int = 0
    ) -> UInt8[ndarray, "h w 3"]:
        """The picture of the pose before a background; light in `flat_steps` levels, if not 0."""
        r = self.renderer
        gl = r.gl
        shade = self._map_shade(lights.key) if lights.shadow > 0 else None
        r.shaded.use(1)
        r.target.use()
        r.target.clear()
        gl.disable(moderngl.DEPTH_TEST)
        r.behind_picture.write(np.ascontiguousarray(behind[::-1]).tobytes())
        r.behind_picture.use(0)
        r.screen.render(moderngl.TRIANGLE_STRIP)
        gl.enable(moderngl.DEPTH_TEST)
        lit: set[Variant] = set()
        for material, first, count in self.person.draws:
            which = variant(material, lights, flat_steps)
            program = r.colouring.program(which)
            if which not in lit:
                lit.add(which)
                set_lights(program, view, lights, flat_steps)
                if shade is not None:
                    set_matrix(program, "shade_matrix", shade)
            set_material(program, material)
            if material.kind in _SOFT_EDGED:
                gl.enable(moderngl.BLEND)
            r.picture(material.picture).use(0)
            self._colour_array(which).render(vertices=count * 3, first=first * 3)
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
            *self.colour_arrays.values(), self.trace_array, self.shade_array, self.moving_buffer, self.fixed_buffer,
            self.reference_buffer, self.index_buffer, self.ambient_buffer,
        ):  # fmt: skip
            item.release()

    def _map_shade(self, toward: Float[ndarray, "3"]) -> Float[ndarray, "4 4"]:
        """What a light in that direction sees, into the map: where it does not reach, there is shadow."""
        r = self.renderer
        points = self.moving[::7, :3]
        matrix = light_matrix(toward, points.min(0), points.max(0))
        set_matrix(r.shade, "matrix", matrix)
        r.shade_target.use()
        r.shade_target.clear(depth=1.0)
        r.gl.enable(moderngl.DEPTH_TEST)
        for material, first, count in self.person.draws:
            if material.kind in _SHADOWLESS or not material.is_solid:
                continue
            r.picture(material.picture).use(0)
            self.shade_array.render(vertices=count * 3, first=first * 3)
        return matrix

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
