"""Every size in the system, as frozen dataclasses, and the compact preset; the others are in `presets.py`."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, fields, is_dataclass, replace
from typing import Any, Literal, get_args, get_type_hints

from emo2.errors import UserError


@dataclass(frozen=True, kw_only=True)
class SpeechConfig:
    """Speech encoder: samples to one feature row a video frame."""

    kind: Literal["mel", "wav2vec2", "whisper"] = "mel"
    sample_rate: int = 16_000
    mels: int = 80
    width: int = 192
    """Width of a feature row."""
    layers: int = 1
    """Feature layers a row (wav2vec 2.0: all its blocks, or 1, the last; Whisper: its blocks and their input)."""
    rows: Literal["film", "stretched", "halves"] = "film"
    """How wav2vec 2.0's 50 steps a second become rows: interpolated at the middle of each film frame (ours); before
    the transformer, the voice stretched over the film's frames (Hallo); two rows a frame (V-Express). Whisper's rows
    stay steps (EchoMimic)."""
    pad_to: int = 0
    """Silence is added until the rows are a multiple of this (Hallo: its clips of 16)."""
    depth: int = 4
    """Blocks of the compact encoder."""
    phones: int = 48
    """Classes of the phone head that helps training; at least the studio's phones."""


@dataclass(frozen=True, kw_only=True)
class MotionConfig:
    """Stage 1: the transformer that turns speech into hand motion (EMO2 §3, design §4)."""

    width: int = 192
    depth: int = 6
    heads: int = 6
    window: int = 100
    """Frames of a window, the prefix included."""
    prefix: int = 10
    """Clean frames of the previous window at the window's start."""
    hints: bool = True
    """Also generate face, head and body (compact)."""
    styles: tuple[str, ...] = (
        "neutral", "calm", "lively", "presenter", "storyteller", "shy", "emphatic", "singer", "sign-like",
    )  # fmt: skip
    speed_buckets: int = 9
    steps: int = 10
    """Evaluations of the network a window; a step with guidance takes two."""
    guidance: float = 1.0
    style_guidance: float = 1.5
    """Guidance by the style alone, where one is told: styles differ as they were taught to (docs/results.md)."""
    dropout: float = 0.1
    """Share of training windows in which speech, style or prefix is dropped (each on its own)."""
    distilled: int = 0
    """Steps that the weights are made for, guidance inside (`distil.py`); 0: any number."""

    def distilled_to(self, steps: int) -> MotionConfig:
        """The same for weights that take so many steps of one evaluation."""
        return replace(self, steps=steps, guidance=1.0, style_guidance=1.0, distilled=steps)


@dataclass(frozen=True, kw_only=True)
class UNetConfig:
    """One U-Net; reference network and denoiser are two values of it (design §6, docs/checkpoints.md)."""

    in_channels: int
    out_channels: int
    """0: a reference network of which only the features are wanted; it ends without a head."""
    widths: tuple[int, ...] = (64, 96, 128)
    """Of the levels; none at all: there is no such network."""
    layers: int = 1
    """Residual blocks a level on the way down; one more on the way up, as in SD 1.5."""
    attention: tuple[bool, ...] = (False, True, True)
    """Which levels have spatial attention."""
    heads: int = 4
    groups: int = 16
    stem: tuple[int, ...] = ()
    """Stride-2 convolutions before the first level: pixels to the latent grid. Empty: conv_in alone."""
    feature: Literal["self", "context"] = "self"
    """What a site puts out: the normalised input of its self-attention, or of its context attention (V-Express)."""
    reference: Literal["concat", "cross"] | None = None
    reference_weight: float = 1.0
    """Of the reference attention's output, mode `cross`."""
    unread_bias: bool = False
    """Rows that read no reference still get the reference attention's bias: what an all-zero reference gives."""
    context_width: int = 0
    """Width of a context token (picture, face or text), the same for a whole clip; 0: no context attention."""
    audio_width: int = 0
    """Width of an audio token; 0: no audio attention."""
    audio_weight: float = 1.0
    """Of the audio attention's output, inside the spatial block."""
    audio_window: int = 2
    """m: frames f-m..f+m join as audio tokens (EMO §B2)."""
    audio_blocks: tuple[int, ...] = ()
    """Inner widths, site by site, of audio transformers with one masked branch a region (Hallo); empty: audio
    attention inside the spatial blocks."""
    regions: int = 0
    """Branches of an audio transformer: the whole picture, the face, the lips."""
    temporal: bool = False
    temporal_idle: bool = False
    """The temporal modules of levels without spatial attention are there, and stay idle (Hallo's weights)."""
    motion_in_middle_only: bool = False
    """Motion frames and region weights reach the middle level alone (Hallo in evaluation mode: an accident)."""
    motion_is_normed: bool = False
    """Motion frames' features pass the temporal module's GroupNorm too (Hallo)."""
    max_frames: int = 0
    """Positions the temporal modules were trained for, motion frames included; 0: any number."""
    condition_width: int = 0
    """Width of a per-frame condition vector added to the time embedding (hints); 0: none."""
    speed_buckets: int = 0
    speed_layer: Literal["sum", "cross"] = "sum"
    """Speed in the temporal modules: added to the positions, or by a cross-attention of its own (EMO)."""
    guidance_channels: int = 0
    """Channels of the guidance maps; 0: no guidance encoder."""
    guidance_widths: tuple[int, ...] = (8, 16, 32)
    """Widths of the guidance encoder; each after the first halves the maps."""
    guidance_split: tuple[int, ...] = ()
    """Channels of each map where every map has an encoder of its own; empty: one encoder for all."""
    guidance_heads: int = 0
    """Heads of a guidance encoder that puts out one feature a level (AniPortrait); 0: one feature."""
    guidance_head_width: int = 0
    guidance_batch_norm: bool = False
    """Such an encoder normalises by the statistics of the frames at hand, not by the stored ones (AniPortrait)."""
    hand_confidence: bool = False
    out_norm: bool = True
    """Whether a norm stands before the last convolution (V-Express's reference network has none)."""
    out_kernel: int = 3
    """Side of the last convolution (a motion basis has thousands of channels: 1)."""


@dataclass(frozen=True, kw_only=True)
class TokensConfig:
    """A small network that makes tokens for attention of features of another kind."""

    kind: Literal["none", "face", "stack", "perceiver"] = "none"
    """`face`: an embedding to tokens; `stack`: neighbouring rows of several layers, flattened; `perceiver`: learned
    queries look at neighbouring rows."""
    inputs: int = 0
    """Width of a feature row."""
    rows: int = 1
    """Neighbouring rows that count for a frame."""
    layers: int = 1
    """Layers a row."""
    hidden: int = 0
    """Inner width."""
    depth: int = 0
    """Blocks of a perceiver."""
    heads: int = 0
    head_width: int = 0
    tokens: int = 0
    """Tokens that come out."""
    width: int = 0
    """Width of a token."""


@dataclass(frozen=True, kw_only=True)
class HabitsConfig:
    """What a family of public checkpoints does around its network; its weights may expect it (docs/checkpoints.md)."""

    reference_context: Literal["none", "context", "zero"] = "none"
    """What the reference network's context attention sees: the film's own tokens, or one zero token."""
    empty_context: Literal["zero", "face"] = "zero"
    """Context of guidance's unconditional half: zeros, or the tokens of a face embedding of zeros."""
    keeps_guidance: bool = False
    """The unconditional half sees the guidance maps too, rather than a feature of zeros."""
    half_reference: bool = False
    """Reference features are rounded to half precision. The originals do so; better without."""
    mixed_context: bool = False
    """Rows of the reference pass take the halves' context in turn, whatever half they are of (Hallo: an accident)."""
    alternating_reference: bool = False
    """Frames of the conditional half read both halves' reference in turn (Hallo: an accident)."""


@dataclass(frozen=True, kw_only=True)
class CodecConfig:
    """Pixels to latents and back."""

    kind: Literal["relative", "sd"] = "relative"
    grid: int = 64
    """Cells a side of flow, visibility and colour."""
    pack: int = 2
    """Packing of the grid into channels (64 -> 32 x 32 x 24)."""
    view: int = 256
    """Pixels a side of a view."""
    painter_widths: tuple[int, ...] = (16, 40, 72)


@dataclass(frozen=True, kw_only=True)
class DetailConfig:
    """Windows of mouth and eyes at the view's full resolution."""

    mouth_side: int = 96
    eye_side: int = 64
    """Pixels a side of a window; a view of 256 has about as many there."""
    widths: tuple[int, int, int] = (24, 48, 64)
    fold: int = 2
    """Pixels a side folded into channels."""


@dataclass(frozen=True, kw_only=True)
class VideoConfig:
    """Stage 2: reference network, denoiser, codec (EMO §3, EMO2 §3, design §6)."""

    codec: CodecConfig
    family: str = ""
    """How films are sampled over Stable Diffusion's latents (`video/families.py`); empty: the compact way."""
    reference: UNetConfig
    denoiser: UNetConfig
    details: DetailConfig | None = None
    """Windows of mouth and eyes; None: none."""
    face_tokens: TokensConfig = field(default_factory=TokensConfig)
    """Face embedding to context tokens."""
    audio_tokens: TokensConfig = field(default_factory=TokensConfig)
    """Speech features to audio tokens; `none`: features are tokens as they are."""
    habits: HabitsConfig = field(default_factory=HabitsConfig)
    basis: int = 0
    """Learned functions of the conditions in the bilinear prior beside the conditions themselves; 0: no prior."""
    conditions: int = 64
    """Hint numbers a frame: 52 face actions, 6 head, 6 body."""
    clip_frames: int = 8
    motion_frames: int = 4
    steps: int = 2
    """Diffusion steps; 0: the expectation alone."""
    guidance: float = 1.0
    distilled: int = 0
    """Steps that the denoiser is made for, guidance inside (`distil.py`); 0: any number."""

    def distilled_to(self, steps: int) -> VideoConfig:
        """The same for weights that take so many steps of one evaluation."""
        return replace(self, steps=steps, guidance=1.0, distilled=steps)

    def steps_for(self, wished: int | None) -> int:
        """The steps to sample with; distilled weights know only their own."""
        if wished and self.distilled and wished != self.distilled:
            raise UserError(
                f"these weights are distilled to {self.distilled} steps and know no others; found --steps {wished}, "
                "leave it out"
            )
        return self.steps if wished is None else wished


@dataclass(frozen=True, kw_only=True)
class FinderConfig:
    """Portrait finder: face, points, limbs, masks."""

    size: int = 112
    """Pixels a side of the whole-picture pass."""
    crop: int = 64
    """Pixels a side of the face crops."""
    hand_crop: int = 64
    """And of the hand crops; weights that do not tell were trained at 64."""
    widths: tuple[int, ...] = (16, 40, 72, 112)


@dataclass(frozen=True, kw_only=True)
class Config:
    """A preset."""

    name: str
    fps: float = 25.0
    speech: SpeechConfig = field(default_factory=SpeechConfig)
    motion: MotionConfig = field(default_factory=MotionConfig)
    video: VideoConfig
    finder: FinderConfig = field(default_factory=FinderConfig)


_BASIS = 32
_LATENT = 24  # 6 channels of a relative latent, packed 2 x 2
_CONDITIONS = 64
_SCALES = 7  # terms of the log-scale around the expectation
_MATTE = 4  # who of the photo moves, packed 2 x 2

COMPACT = Config(
    name="compact",
    finder=FinderConfig(hand_crop=96),
    video=VideoConfig(
        codec=CodecConfig(),
        details=DetailConfig(),
        basis=_BASIS,
        conditions=_CONDITIONS,
        steps=0,  # measured: with the conditions known, sampling adds only noise so far (docs/results.md)
        reference=UNetConfig(
            in_channels=15,  # colour, position, kind of view, place against mouth and eyes
            out_channels=(1 + _CONDITIONS + _BASIS + _SCALES) * _LATENT + _MATTE,
            stem=(32, 48, 64),
            out_kernel=1,
        ),
        denoiser=UNetConfig(
            in_channels=2 * _LATENT,  # noisy residual and its expectation
            out_channels=_LATENT,
            reference="concat",
            audio_width=192,
            temporal=True,
            condition_width=_CONDITIONS + 4,  # which groups are known (3), kind of view
            speed_buckets=9,
            guidance_channels=7,  # hand surface, key points, face region
            hand_confidence=True,
        ),
    ),
)


def to_json(config: Config) -> str:
    """The config as JSON text, for checkpoint metadata."""
    return json.dumps(asdict(config), sort_keys=True)


def from_json(text: str) -> Config:
    """The inverse of `to_json`; an unknown field is a ValueError that names it."""
    return _build(Config, json.loads(text))


def _dataclass_of(hint: Any) -> type | None:  # noqa: ANN401 - a type or a union of types
    """The dataclass that a field holds, if it holds one or none."""
    kinds = (t for t in (hint, *get_args(hint)) if isinstance(t, type))
    return next((t for t in kinds if is_dataclass(t)), None)


def _build(cls: type, data: dict[str, Any]) -> Any:  # noqa: ANN401 - one of the dataclasses above
    known = {f.name for f in fields(cls)}
    unknown = sorted(set(data) - known)
    if unknown:
        raise ValueError(
            f"unknown field {unknown[0]!r} in {cls.__name__}; this emo2 knows {sorted(known)}"
        )
    hints = get_type_hints(cls)
    values = {}
    for name, value in data.items():
        inner = _dataclass_of(hints[name])
        if inner is not None and value is not None:
            values[name] = _build(inner, value)
        else:
            values[name] = tuple(value) if isinstance(value, list) else value
    return cls(**values)
