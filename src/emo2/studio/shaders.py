"""GLSL of the renderer.  Colours are shaded in linear light and encoded with gamma 2.2 at the end."""

BACKGROUND_VERTEX = """#version 330
in vec2 corner; out vec2 place;
void main() { place = corner * 0.5 + 0.5; gl_Position = vec4(corner, 0.999, 1.0); }
"""

BACKGROUND_FRAGMENT = """#version 330
uniform sampler2D picture; in vec2 place; out vec4 colour;
void main() { colour = vec4(texture(picture, place).rgb, 1.0); }
"""

COLOUR_VERTEX = """#version 330
uniform mat4 matrix;
in vec3 point; in vec3 normal; in vec2 uv; in vec3 rest; in float cavity; in float ambient;
out float free; out vec3 at; out vec3 facing; out vec2 place; out vec3 resting; out float open;
void main() {
    at = point; facing = normal; place = uv; resting = rest; open = cavity; free = ambient;
    gl_Position = matrix * vec4(point, 1.0);
}
"""

COLOUR_FRAGMENT = """in vec3 at; in vec3 facing; in vec2 place; in vec3 resting; in float open; in float free;
uniform sampler2D picture; uniform int flat_steps; uniform float softness;
uniform int kind;  // place in material.KINDS: 0 skin, 2 eyes, 5 teeth, 6 tongue, 7 clothes, 8 beard, 9 paint, 11 lens
uniform float cover;
uniform vec3 tint; uniform vec3 lower_tint; uniform float waist; uniform float gamma; uniform float repaint; uniform float gloss; uniform vec3 pattern;
uniform vec3 eye; uniform vec3 key; uniform vec3 fill; uniform vec3 rim;
uniform vec3 key_colour; uniform vec3 fill_colour; uniform vec3 rim_colour;
uniform vec3 sky; uniform vec3 ground; uniform float exposure;
uniform sampler2D shade; uniform mat4 shade_matrix; uniform float shadow; uniform float shade_cell;
out vec4 colour;

float lit(vec3 p) {  // share of the key light that reaches a point
#ifndef SHADOW
    return 1.0;
#else
    vec3 q = (shade_matrix * vec4(p, 1.0)).xyz * 0.5 + 0.5;
    float sum = 0.0;
    for (int y = -1; y <= 1; y++)
        for (int x = -1; x <= 1; x++)
            sum += step(q.z, texture(shade, q.xy + shade_cell * softness * vec2(x, y)).r);
    return 1.0 - shadow * (1.0 - sum / 9.0);
#endif
}

float hash(vec2 p) { return fract(sin(dot(p, vec2(127.1, 311.7))) * 43758.5453); }

float print_of(vec3 p, float style, float scale) {  // 0 or 1 over cloth, on resting coordinates
    vec2 q = p.xy * scale;
    if (style < 1.5) return step(0.5, fract(q.y));                              // stripes across
    if (style < 2.5) return step(0.5, fract(q.x));                              // stripes along
    if (style < 3.5) return 0.5 * (step(0.5, fract(q.x)) + step(0.5, fract(q.y)));  // checks
    if (style < 4.5) return step(length(fract(q) - 0.5), 0.25);                 // dots
    return hash(floor(q * 2.0));                                                // blotches
}

float noise(vec2 p) {
    vec2 i = floor(p), f = smoothstep(0.0, 1.0, fract(p));
    return mix(mix(hash(i), hash(i + vec2(1, 0)), f.x), mix(hash(i + vec2(0, 1)), hash(i + vec2(1, 1)), f.x), f.y);
}

vec3 wrap(float cosine, vec3 amount) { return max((vec3(cosine) + amount) / (1.0 + amount), 0.0); }

void main() {
    vec4 texel = texture(picture, place);
#ifdef FLAT
    texel.rgb = texture(picture, place, 3.5).rgb;  // a cartoon's colours have no detail
#endif
    vec3 base = pow(texel.rgb, vec3(2.2 * gamma));
    float grey = dot(base, vec3(0.3, 0.59, 0.11));
    vec3 dye = resting.y > waist ? tint : lower_tint;
    base = mix(base * dye, dye * clamp(0.25 + 1.5 * grey, 0.0, 1.6), repaint);
#ifdef PRINT
    if (resting.y > waist) base *= 1.0 - pattern.z * print_of(resting, pattern.x, pattern.y);
#endif
#ifdef LAYER
    float strands = 0.5;
    if (kind == 8) {  // hairs hang: narrow across, long down, on the skin's resting place
        strands = noise(vec2((resting.x + resting.z) * 900.0, resting.y * 260.0 + 7.0 * place.y));
        base *= 0.55 + 0.9 * strands;
    }
#endif
    vec3 n = normalize(facing);
    vec3 v = normalize(eye - at);
    if (dot(n, v) < 0.0 && !gl_FrontFacing) n = -n;
    vec3 keyed = key_colour * lit(at + n * 0.006 + key * 0.004);
    vec3 soft = kind == 0 ? vec3(0.45, 0.25, 0.18) : vec3(0.2);  // light bleeds redly through skin
    float up = 0.5 + 0.5 * n.y;
    vec3 light = mix(ground, sky, up) * free;
    light += keyed * wrap(dot(n, key), soft);
    light += fill_colour * wrap(dot(n, fill), soft);
    light += rim_colour * max(dot(n, rim), 0.0);
    if (kind == 2) light *= 0.75;  // the socket shades the eye
#ifdef FLAT
    float level = dot(light, vec3(0.3, 0.59, 0.11)) * exposure;  // few levels, as a draughtsman fills them
    light *= (floor(level * float(flat_steps)) + 0.75) / (float(flat_steps) * max(level, 1e-3));
#endif
    float grazing = pow(1.0 - max(dot(n, v), 0.0), 4.0);
    float sharp = kind == 2 ? 180.0 : (kind == 0 ? 22.0 : (kind == 5 ? 60.0 : 14.0));
    vec3 h = normalize(key + v);
    float shine = gloss * pow(max(dot(n, h), 0.0), sharp) * step(0.0, dot(n, key));
    vec3 spec = keyed * shine * (kind == 2 ? 2.5 : 0.35);
    spec += (0.25 * grazing * gloss) * (sky + rim_colour);
#ifdef FLAT
    spec = step(0.3, spec) * 0.5 * float(kind == 2);
#endif
    vec3 shaded = (base * light + spec * open) * mix(0.04, 1.0, open);
    shaded *= exposure;
    shaded /= 1.0 + max(shaded - 0.7, 0.0);  // soft shoulder instead of clipping
    float alpha = (kind == 0 || kind == 5 || kind == 6) ? 1.0 : texel.a;
#ifdef LAYER
    if (kind == 8) alpha = cover * smoothstep(-0.25, 0.25, place.x * (1.25 - 0.9 * place.y) - strands);
    if (kind == 9) alpha = cover * place.x;
    if (kind == 11) alpha = clamp(cover + 0.5 * dot(spec, vec3(0.3)), 0.0, 1.0);
    if (alpha < 0.01) discard;
#else
    if (alpha < 0.25) discard;
#endif
    if (kind == 2) alpha = 1.0;  // the cornea's clear part is cut out, the rest is solid
    colour = vec4(pow(max(shaded, 0.0), vec3(1.0 / 2.2)), alpha);
}
"""

TRACE_VERTEX = """#version 330
uniform mat4 matrix;
in vec3 point; in vec2 uv; in float part; in vec3 before;
out vec2 place; out vec3 reference_at; out float depth; flat out float label;
void main() {
    place = uv; reference_at = before; label = part;
    gl_Position = matrix * vec4(point, 1.0);
    depth = gl_Position.w;
}
"""

TRACE_FRAGMENT = """#version 330
in vec2 place; in vec3 reference_at; in float depth; flat in float label;
uniform sampler2D picture; uniform sampler2D reference; uniform vec2 cell; uniform float tolerance;
out vec4 found;
void main() {
    if (texture(picture, place).a < 0.4) discard;
    float best = 1e3;
    vec2 centre = vec2(reference_at.x, 1.0 - reference_at.y);
    for (int y = -1; y <= 1; y++)
        for (int x = -1; x <= 1; x++)
            best = min(best, abs(texture(reference, centre + cell * vec2(x, y)).r - reference_at.z));
    bool inside = all(greaterThan(centre, vec2(0.0))) && all(lessThan(centre, vec2(1.0)));
    found = vec4(reference_at.xy, depth, 2.0 * label + 0.5 + (inside && best < tolerance ? 1.0 : 0.0));
}
"""

SHADE_VERTEX = """#version 330
uniform mat4 matrix; in vec3 point; in vec2 uv; out vec2 place;
void main() { place = uv; gl_Position = matrix * vec4(point, 1.0); }
"""

SHADE_FRAGMENT = """#version 330
uniform sampler2D picture; in vec2 place;
void main() { if (texture(picture, place).a < 0.5) discard; }
"""

SURFACE_VERTEX = """#version 330
uniform mat4 matrix;
in vec3 point; in vec3 normal; in vec2 uv;
out vec3 at; out vec3 facing; out vec2 place; out float depth;
void main() {
    at = point; facing = normal; place = uv;
    gl_Position = matrix * vec4(point, 1.0);
    depth = gl_Position.w;
}
"""

SURFACE_FRAGMENT = """#version 330
in vec3 at; in vec3 facing; in vec2 place; in float depth;
uniform sampler2D picture; uniform sampler2D segments; uniform int first;
uniform vec3 right; uniform vec3 down; uniform vec3 near; uniform vec3 eye;
out vec4 found;
void main() {
    if (texture(picture, place).a < 0.4) discard;
    vec3 n = normalize(facing);
    if (dot(n, eye - at) < 0.0 && !gl_FrontFacing) n = -n;
    int triangle = first + gl_PrimitiveID;
    float segment = floor(255.0 * texelFetch(segments, ivec2(triangle % 1024, triangle / 1024), 0).r + 0.5);
    found = vec4(dot(n, right), dot(n, down), depth, 2.0 * segment + 0.5 + (dot(n, near) < 0.0 ? 1.0 : 0.0));
}
"""
