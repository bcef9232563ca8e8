"""How the families of public checkpoints are laid out: modules, files, and what may be done with the weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Layout:
    """One family's; its sizes and switches are the preset of the same name (`presets.py`)."""

    name: str
    title: str
    modules: Mapping[str, str]
    """Our modules (`names.PREFIXES`), and what the family calls them: also the names of their files."""
    single: str | None = None
    """The one file that holds all modules, each under its name and a dot; None: a file a module."""
    repository: str
    """On the Hugging Face hub."""
    licence: str
    merged: tuple[str, ...] = ()
    """Files whose tensors lie under those of the denoiser's file (motion module), in order of loading."""


BASE = "diffusion_pytorch_model"
"""Stable Diffusion's U-Net, as diffusers names its file."""
_MERGED = ("motion_module",)

LAYOUTS: dict[str, Layout] = {
    layout.name: layout
    for layout in (
        Layout(
            name="hallo",
            title="Hallo, Hallo2",
            modules={
                "reference": "reference_unet",
                "denoiser": "denoising_unet",
                "guidance": "face_locator",
                "face_tokens": "imageproj",
                "audio_tokens": "audioproj",
            },
            single="net",
            repository="fudan-generative-ai/hallo2",
            licence="code MIT; weights made with InsightFace's embeddings, whose models are non-commercial",
        ),
        Layout(
            name="echomimic-v1",
            title="EchoMimic",
            modules={
                "reference": "reference_unet",
                "denoiser": "denoising_unet",
                "guidance": "face_locator",
            },
            merged=_MERGED,
            repository="BadToBest/EchoMimic",
            licence="code Apache-2.0; the hub's page says what holds for the weights",
        ),
        Layout(
            name="echomimic-v2",
            title="EchoMimic v2",
            modules={
                "reference": "reference_unet",
                "denoiser": "denoising_unet",
                "guidance": "pose_encoder",
            },
            merged=_MERGED,
            repository="BadToBest/EchoMimicV2",
            licence="code Apache-2.0; the hub's page says what holds for the weights",
        ),
        Layout(
            name="animateanyone",
            title="Moore-AnimateAnyone",
            modules={
                "reference": "reference_unet",
                "denoiser": "denoising_unet",
                "guidance": "pose_guider",
            },
            merged=_MERGED,
            repository="patrolli/AnimateAnyone",
            licence="code Apache-2.0; the hub's page says what holds for the weights",
        ),
        Layout(
            name="musepose",
            title="MusePose",
            modules={
                "reference": "reference_unet",
                "denoiser": "denoising_unet",
                "guidance": "pose_guider",
            },
            merged=_MERGED,
            repository="TMElyralab/MusePose",
            licence="code MIT; weights for non-commercial research only",
        ),
        Layout(
            name="aniportrait",
            title="AniPortrait",
            modules={
                "reference": "reference_unet",
                "denoiser": "denoising_unet",
                "guidance": "pose_guider",
            },
            merged=_MERGED,
            repository="ZJYang/AniPortrait",
            licence="code Apache-2.0; the hub's page says what holds for the weights",
        ),
        Layout(
            name="vexpress",
            title="V-Express",
            modules={
                "reference": "reference_net",
                "denoiser": "denoising_unet",
                "guidance": "v_kps_guider",
                "audio_tokens": "audio_projection",
            },
            merged=_MERGED,
            repository="tk93/V-Express",
            licence="no licence file; its README allows research only for the weights",
        ),
        Layout(
            name="animatediff",
            title="Stable Diffusion 1.5 with AnimateDiff",
            modules={"reference": BASE, "denoiser": BASE},
            merged=("mm_sd_v15_v2",),
            repository="guoyww/animatediff",
            licence="CreativeML OpenRAIL-M (Stable Diffusion); Apache-2.0 (AnimateDiff)",
        ),
    )
}
