"""Our network against golden vectors: loads a project's weights through the tables, runs its cases, compares.

What is compared: outputs (guided, unguided, with the reference in half precision, and the other modes a file names),
guider features, projected tokens, reference features, and values along the way, seen by forward hooks that exist
for this comparison alone.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Collection, Iterator
from dataclasses import replace
from functools import cached_property
from typing import Any

import torch
from einops import rearrange
from torch import Tensor, nn

from emo2.config import VideoConfig
from emo2.convert.difference import Difference, name_of
from emo2.convert.golden import Golden
from emo2.convert.layouts import LAYOUTS, Layout
from emo2.convert.names import table
from emo2.convert.sizes import fitted
from emo2.errors import UserError
from emo2.presets import PRESETS
from emo2.video.conditions import Features, FrameConditions
from emo2.video.network import VideoNetwork
from emo2.video.unet import UNet

GUIDER_INPUTS = ("pose", "kps", "face_mask")
REGIONS = ("full", "face", "lip")
OUTPUTS_64, OUTPUTS_32, HALF_REFERENCE, WITHIN_32 = 1e-6, 1e-5, 1e-4, 3e-5
"""Tolerances: outputs in float64 and float32, with the reference in half precision; values along the way in float32,
as a share of the largest (they grow to about 30)."""
STORAGE = 2.0**-23
"""Stored values are float32: values along the way, compared in float64, carry that share of rounding."""


@torch.no_grad()
def compare(
    golden: Golden, dtype: torch.dtype, cases: Collection[str] | None = None
) -> Iterator[Difference]:
    """Every stored result of a project (or of some of its cases) against ours, in one precision."""
    network = filled(golden, config_of(golden), dtype)
    for case in golden.spec["cases"] if cases is None else cases:
        run = Run(golden, case, network, dtype)
        for site, wanted in golden.outputs(case).items():
            got = golden.sliced(site, run.value(site.removeprefix(f"{case}/"), wanted))
            if got.shape != wanted.shape:
                raise UserError(
                    f"{golden.name} {site}: ours is {tuple(got.shape)}, stored is {tuple(wanted.shape)}"
                )
            yield Difference(
                project=golden.name,
                site=site,
                dtype=name_of(dtype),
                found=float((got.double() - wanted.double()).abs().max()),
                allowed=_allowed(site, wanted, dtype),
            )


def _allowed(site: str, wanted: Tensor, dtype: torch.dtype) -> float:
    if site.endswith("_fp16"):
        return HALF_REFERENCE
    is_output = site.split("/")[1].startswith("out")
    exact = dtype == torch.float64
    if is_output:
        return OUTPUTS_64 if exact else OUTPUTS_32
    largest = float(wanted.abs().max())
    return max(OUTPUTS_64, STORAGE * largest) if exact else max(OUTPUTS_32, WITHIN_32 * largest)


def layout_of(golden: Golden) -> Layout:
    """The family that a project's file names."""
    name = golden.name.replace("_", "-")
    if name not in LAYOUTS:
        raise UserError(
            f"{golden.name} is no family this emo2 knows; it knows {', '.join(LAYOUTS)}"
        )
    return LAYOUTS[name]


def filled(golden: Golden, config: VideoConfig, dtype: torch.dtype) -> VideoNetwork:
    """A network of that config with the project's weights, strictly."""
    with torch.device("meta"):
        network = VideoNetwork(config)
    names, tensors = table(network), {}
    for module, theirs in layout_of(golden).modules.items():
        weights = golden.weights(theirs)
        if set(weights) != set(names[module]):
            odd = sorted(set(weights) ^ set(names[module]))
            raise UserError(f"{golden.name}: {theirs} has other keys than ours, such as {odd[0]}")
        tensors |= {names[module][key]: value for key, value in weights.items()}
    cast = {n: t.to(dtype) if t.is_floating_point() else t for n, t in tensors.items()}
    network.load_state_dict(cast, strict=True, assign=True)
    return network.eval().requires_grad_(False)


def config_of(golden: Golden) -> VideoConfig:
    """The family's config at the project's sizes."""
    layout = layout_of(golden)
    shapes = {ours: golden.shapes[theirs] for ours, theirs in layout.modules.items()}
    return fitted(PRESETS[layout.name].video, shapes, golden.known)


class Run:
    """One case of a project: its network and inputs, and what comes out by site."""

    def __init__(
        self, golden: Golden, case: str, network: VideoNetwork, dtype: torch.dtype
    ) -> None:
        self.golden, self.network, self.config = golden, network, network.config
        self.told: dict[str, Any] = golden.spec["cases"][case]
        self.given = {name: t.to(dtype) for name, t in golden.inputs(case).items()}
        self.outputs: dict[str, Tensor] = {}
        self.seen: dict[str, Tensor] = {}

    def value(self, site: str, wanted: Tensor) -> Tensor:
        """Ours of a site, in the layout it is stored in."""
        if site.startswith("out"):
            return self.output(site)
        if site.startswith("ref_bank/"):
            return self.reference_features(site.removeprefix("ref_bank/"), wanted.shape[0])
        if site.startswith("trace/"):
            if not self.seen:
                self.output("out")
            return self.seen[site.removeprefix("trace/")]
        if site.startswith("guider"):
            return self.guider(site, wanted.shape[2])
        if site == "face_tokens":
            assert self.context is not None
            return torch.cat([self.network.empty_context(self.context), self.context])
        if site == "audio_tokens":
            assert self.audio is not None
            return self.audio
        raise UserError(f"{self.golden.name}: nothing of ours corresponds to the site {site}")

    # -------------------------------------------------------------------------------- inputs

    @cached_property
    def context(self) -> Tensor | None:
        """Context tokens of the conditional half."""
        if "face_emb" in self.given:
            return self.network.face_context(self.given["face_emb"])
        return self.given.get("clip_embed")

    @cached_property
    def audio(self) -> Tensor | None:
        """Audio tokens of the conditional half."""
        if "audio" in self.given:
            return self.given["audio"]
        values = self.given.get("audio_feat")
        if values is None:
            return None
        frames = values if values.ndim == 5 else values[None]
        return self.network.audio_context(frames)

    @cached_property
    def maps(self) -> Tensor:
        """The guider's input: one image, or one a frame."""
        (values,) = [self.given[name] for name in GUIDER_INPUTS if name in self.given]
        return rearrange(values, "b c f h w -> b f c h w")

    @cached_property
    def frames(self) -> FrameConditions:
        """What the conditional half is told."""
        masks = [
            tuple(self.given[name] for name in (f"{region}_mask_{level}" for region in REGIONS))
            for level in range(len(self.config.denoiser.widths))
            if f"full_mask_{level}" in self.given
        ]
        scale = self.told.get("motion_scale")
        return FrameConditions(
            audio=self.audio,
            context=self.context,
            maps=self.maps,
            regions=tuple(torch.stack(level, dim=1) for level in masks) or None,
            region_weights=None if scale is None else tuple(scale),
        )

    @cached_property
    def photo(self) -> Tensor:
        """The reference image's latents."""
        return self.given["ref_latents"][:1]

    @cached_property
    def before(self) -> Tensor | None:
        """Motion frames' latents."""
        rest = self.given["ref_latents"][1:]
        return rest[None] if len(rest) else None

    # ------------------------------------------------------------------------------- results

    def output(self, name: str) -> Tensor:
        """The denoiser's output in one of the modes that the files name."""
        if name not in self.outputs:
            self.outputs[name] = self._run(name)
        return self.outputs[name]

    def _run(self, name: str) -> Tensor:
        config, guided = self.config, name != "out_nocfg"
        if name == "out_bank_fp16":
            config = replace(config, habits=replace(config.habits, half_reference=True))
        elif name == "out_eval":
            denoiser = replace(config.denoiser, temporal_idle=False, motion_in_middle_only=True)
            config = replace(config, denoiser=denoiser)
        elif name == "out_guider_eval":
            denoiser = replace(config.denoiser, guidance_batch_norm=False)
            config = replace(config, denoiser=denoiser)
        elif name not in ("out", "out_nocfg"):
            raise UserError(f"{self.golden.name}: no mode of ours is called {name}")
        network = with_config(self.network, config)
        look = network.read(self.photo, context=self.context, before=self.before, guided=guided)
        frames = network.halves(self.frames) if guided else network.conditions(self.frames)
        noisy = rearrange(self.given["latents"], "b c f h w -> b f c h w")
        time = torch.tensor([float(self.told["timestep"])])
        watching = Watching(network.denoiser, noisy.shape[1])
        output = network.denoise(noisy, time, look, frames)
        watching.end()
        if name == "out":
            self.seen = watching.seen
        return rearrange(output, "b f c h w -> b c f h w")

    @cached_property
    def _features(self) -> Features:
        return self.network.features(self.photo, context=self.context, before=self.before)

    def reference_features(self, site: str, rows: int) -> Tensor:
        """Features of one site, a row an image; of both halves where so many are stored."""
        features = self._features
        if features[0].shape[0] * features[0].shape[1] < rows:
            assert self.context is not None
            contexts = torch.cat([self.network.empty_context(self.context), self.context])
            features = self.network.see(self.photo[None].expand(2, -1, -1, -1, -1), contexts)
        place = self.golden.spec["reference_site_names"].index(site)
        return rearrange(features[place], "b m n d -> (b m) n d")

    def guider(self, site: str, frames: int) -> Tensor:
        """A guider's feature, `guider`, or `guider_train.k` and `guider_eval.k` of several scales; for so many frames."""
        kind, _, scale = site.partition(".")
        denoiser = self.config.denoiser
        if kind != "guider":
            denoiser = replace(denoiser, guidance_batch_norm=kind == "guider_train")
        network = with_config(self.network, replace(self.config, denoiser=denoiser))
        feature = network.denoiser.guide(self.maps)[int(scale or 0)]
        return rearrange(feature.expand(-1, frames, -1, -1, -1), "b f c h w -> b c f h w")


def with_config(network: VideoNetwork, config: VideoConfig) -> VideoNetwork:
    """The same weights under a config with other switches."""
    if config == network.config:
        return network
    other = copy.copy(network)
    other.config, other.habits = config, config.habits
    if config.denoiser != network.config.denoiser:
        with torch.device("meta"):
            denoiser = UNet(config.denoiser)
        denoiser.load_state_dict(network.denoiser.state_dict(), strict=True, assign=True)
        other._modules = {**network._modules, "denoiser": denoiser.eval().requires_grad_(False)}
    return other


class Watching:
    """Values along the way through a denoiser, under the names of the parity files."""

    def __init__(self, network: UNet, count: int) -> None:
        self.seen: dict[str, Tensor] = {}
        self.count = count
        self.handles: list[Any] = []
        first = network.get_submodule("down.0.0")
        self.handles.append(first.register_forward_pre_hook(self._keep_input))
        places = {
            "resnets": "residual",
            "attentions": "spatial",
            "audio_modules": "audio",
            "motion_modules": "temporal",
        }
        for theirs, ours in places.items():
            module = getattr(first, ours)
            if module is not None:
                self._watch(module, f"down_blocks.0.{theirs}.0")
        levels = len(network.config.widths)
        for way in ("down", "up"):
            for level in range(levels):
                samplers: list[nn.Module] = list(network.get_submodule(f"{way}samplers").children())
                layers = list(network.get_submodule(f"{way}.{level}").children())
                last = samplers[level] if level < len(samplers) else layers[-1]
                self._watch(last, f"{way}_blocks.{level}")
        self._watch(network.middle, "mid_block")

    def end(self) -> None:
        """Stop watching."""
        for handle in self.handles:
            handle.remove()

    def _watch(self, module: nn.Module, site: str) -> None:
        def keep(_module: nn.Module, _inputs: object, output: Tensor | tuple[Tensor, ...]) -> None:
            self._put(site, output if isinstance(output, Tensor) else output[0])

        hook: Callable[..., None] = keep
        self.handles.append(module.register_forward_hook(hook))

    def _keep_input(self, _module: nn.Module, inputs: tuple[Any, ...]) -> None:
        self._put("conv_in_plus_guider", inputs[0])

    def _put(self, site: str, values: Tensor) -> None:
        if values.ndim == 4:
            values = rearrange(values, "(b f) c h w -> b f c h w", f=self.count)
        self.seen[site] = rearrange(values, "b f c h w -> b c f h w")
