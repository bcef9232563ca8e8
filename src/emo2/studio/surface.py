"""What every pixel of the view shows, told exactly: depth, normal, segment; drawn only when these labels are asked for."""

from __future__ import annotations

from dataclasses import dataclass

import moderngl
import numpy as np
from jaxtyping import Float, UInt8
from numpy import ndarray

from emo2.studio.colouring import set_matrix
from emo2.studio.render import Actor, Renderer
from emo2.studio.scene import Camera
from emo2.studio.segments import segments_of
from emo2.studio.shaders import SURFACE_FRAGMENT, SURFACE_VERTEX

_ROW = 1024
"""Width of the table of triangles; the shader knows it."""


@dataclass(frozen=True, kw_only=True)
class Surface:
    """Per pixel, top row first."""

    depth: Float[ndarray, "h w"]
    """Metres along the view; 0 on the background."""
    normals: Float[ndarray, "h w 3"]
    """Unit vectors: to the image's right, down, towards the camera; 0 on the background."""
    segments: UInt8[ndarray, "h w"]
    """Index into `segments.SEGMENT_NAMES`."""


class SurfacePass:
    """The pass for one actor; release it before the actor."""

    def __init__(self, renderer: Renderer, actor: Actor) -> None:
        self.renderer, self.actor = renderer, actor
        gl, size = renderer.gl, (renderer.size[1], renderer.size[0])
        self.program = gl.program(vertex_shader=SURFACE_VERTEX, fragment_shader=SURFACE_FRAGMENT)
        self.told = gl.texture(size, 4, dtype="f4")
        self.edge = gl.depth_renderbuffer(size)
        self.target = gl.framebuffer([self.told], self.edge)
        labels = segments_of(actor.person)
        rows = -(-len(labels) // _ROW)
        table = np.zeros(rows * _ROW, np.uint8)
        table[: len(labels)] = labels
        self.labels = gl.texture((_ROW, rows), 1, table.tobytes())
        self.program["picture"], self.program["segments"] = 0, 1
        self.array = gl.vertex_array(
            self.program,
            [
                (actor.moving_buffer, "3f 3f", "point", "normal"),
                (actor.fixed_buffer, f"2f {actor.fixed_stride - 8}x", "uv"),
            ],
            actor.index_buffer,
        )

    def __call__(self, view: Camera) -> Surface:
        """The surface of the actor's pose."""
        r = self.renderer
        self.target.use()
        self.target.clear(0.0, 0.0, 0.0, 0.0)
        r.gl.enable(moderngl.DEPTH_TEST)
        set_matrix(self.program, "matrix", view.matrix)
        for row, name in zip(view.axes, ("right", "down", "near"), strict=True):
            self.program[name] = tuple(float(v) for v in row)
        self.program["eye"] = tuple(float(v) for v in view.eye)
        self.labels.use(1)
        for material, first, count in self.actor.person.draws:
            if material.is_solid:
                r.picture(material.picture).use(0)
                self.program["first"] = first
                self.array.render(vertices=count * 3, first=first * 3)
        values = np.frombuffer(self.told.read(), np.float32).reshape(*r.size, 4)[::-1]
        packed = values[..., 3]  # 2 * segment + 0.5, and 1 more where the normal faces away
        segments = np.floor(packed / 2).astype(np.uint8)
        flat = values[..., :2]
        height = np.sqrt(np.maximum(1 - (flat**2).sum(-1), 0))
        height = np.where(packed - 2.0 * segments > 1, -height, height) * (packed > 0)
        return Surface(
            depth=values[..., 2].copy(),
            normals=np.concatenate([flat, height[..., None]], -1),
            segments=segments,
        )

    def release(self) -> None:
        """Free the device's memory."""
        for item in (self.array, self.labels, self.target, self.told, self.edge, self.program):
            item.release()


DEPTH_UNIT_M = 1e-4
"""Of the shards' depth: uint16 reaches 6.5 m."""


def packed(surface: Surface) -> dict[str, ndarray]:
    """The labels as shards hold them: `depth` in tenths of millimetres, `normals` times 127, `segments`."""
    depth = np.clip(np.round(surface.depth / DEPTH_UNIT_M), 0, 65535).astype(np.uint16)
    normals = np.round(surface.normals.transpose(2, 0, 1) * 127).astype(np.int8)
    return {"depth": depth, "normals": normals, "segments": surface.segments}
