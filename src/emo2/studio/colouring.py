"""The colour programs: one shader in as many variants as there are things to leave out.

Software GL walks through a branch whether it is taken or not, so what a material or a light does not need is left out
when the shader is compiled: shadows, prints, hairs of beards, flat levels of light.
"""

from __future__ import annotations

import moderngl
import numpy as np
from jaxtyping import Float
from numpy import ndarray

from emo2.studio.material import KINDS, Material
from emo2.studio.scene import Camera, Lights
from emo2.studio.shaders import COLOUR_FRAGMENT, COLOUR_VERTEX

Variant = tuple[str, ...]
"""What is compiled in: of SHADOW, PRINT, LAYER, FLAT."""


def variant(material: Material, lights: Lights, flat_steps: int) -> Variant:
    """The least that a material needs in that light."""
    wanted = {
        "SHADOW": lights.shadow > 0,
        "PRINT": material.kind == "clothes" and material.pattern[0] > 0,
        "LAYER": material.kind in ("beard", "paint", "lens"),
        "FLAT": flat_steps > 0,
    }
    return tuple(name for name, is_wanted in wanted.items() if is_wanted)


class Colouring:
    """Compiles each variant when it is first needed."""

    def __init__(self, gl: moderngl.Context, shade_cells: int) -> None:
        self.gl, self.shade_cell = gl, 1.0 / shade_cells
        self.programs: dict[Variant, moderngl.Program] = {}

    def program(self, which: Variant) -> moderngl.Program:
        """A variant."""
        if which not in self.programs:
            defines = "#version 330\n" + "".join(f"#define {name}\n" for name in which)
            made = self.gl.program(
                vertex_shader=COLOUR_VERTEX, fragment_shader=defines + COLOUR_FRAGMENT
            )
            put(made, picture=0, shade=1, shade_cell=self.shade_cell)
            self.programs[which] = made
        return self.programs[which]


def put(program: moderngl.Program, **values: object) -> None:
    """Set uniforms; those that a variant was compiled without are passed over."""
    for name, value in values.items():
        uniform = program.get(name, None)
        if isinstance(uniform, moderngl.Uniform):
            uniform.value = value


def set_matrix(program: moderngl.Program, name: str, matrix: Float[ndarray, "4 4"]) -> None:
    """Give a program a matrix."""
    uniform = program[name]
    assert isinstance(uniform, moderngl.Uniform)
    uniform.write(np.ascontiguousarray(matrix.T).tobytes())  # OpenGL wants columns


def set_lights(program: moderngl.Program, view: Camera, lights: Lights, flat_steps: int) -> None:
    """Camera and lights of a program."""
    set_matrix(program, "matrix", view.matrix)
    for name in ("key", "fill", "rim"):
        direction = tuple(float(v) for v in getattr(lights, name))
        put(program, **{name: direction, f"{name}_colour": getattr(lights, f"{name}_colour")})
    put(
        program, eye=tuple(float(v) for v in view.eye), sky=lights.sky, ground=lights.ground,
        exposure=lights.exposure, shadow=lights.shadow, softness=lights.softness, flat_steps=flat_steps,
    )  # fmt: skip


def set_material(program: moderngl.Program, material: Material) -> None:
    """What a program draws next."""
    put(
        program, kind=KINDS.index(material.kind), tint=material.tint,
        lower_tint=material.lower_tint or material.tint, waist=material.waist, gamma=material.gamma,
        repaint=material.repaint, gloss=material.gloss, cover=material.cover,
        pattern=tuple(float(v) for v in material.pattern),
    )  # fmt: skip
