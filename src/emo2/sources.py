"""Other people's weights: what each name means, where it comes from, under which licence, and where it lies here.

`emo2 download NAME` fetches a name into `home() / NAME`; whoever needs weights looks there unless told otherwise.
Their pickled files are read with `weights_only`, so no code in them runs.
"""

from __future__ import annotations

import json
import os
import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from emo2.errors import UserError


@dataclass(frozen=True, kw_only=True)
class Source:
    """A repository on the Hugging Face hub and the files we want of it."""

    repository: str
    files: tuple[str, ...]
    """As the project's own page names them; a folder in front that the page leaves out is looked up."""
    licence: str
    """What one must know before using the weights; shown before they are fetched."""
    what: str


_MIT = "MIT licence"
_APACHE = "Apache-2.0 licence"
_SD = "CreativeML OpenRAIL-M: free use except for the harms it lists"

SOURCES: dict[str, Source] = {
    "hallo": Source(
        repository="fudan-generative-ai/hallo",
        files=("hallo/net.pth",),
        licence=f"{_MIT}; meant to be used with InsightFace embeddings, whose models are non-commercial",
        what="Hallo: all networks of a talking head at 512 x 512",
    ),
    "hallo2": Source(
        repository="fudan-generative-ai/hallo2",
        files=("hallo2/net.pth",),
        licence=f"{_MIT}; meant to be used with InsightFace embeddings, whose models are non-commercial",
        what="Hallo2: the same networks, trained for long films",
    ),
    "echomimic-v1": Source(
        repository="BadToBest/EchoMimic",
        files=("denoising_unet.pth", "reference_unet.pth", "motion_module.pth", "face_locator.pth"),
        licence=_APACHE,
        what="EchoMimic v1: a talking head by voice",
    ),
    "echomimic-v1-acc": Source(
        repository="BadToBest/EchoMimic",
        files=(
            "denoising_unet_acc.pth", "reference_unet.pth", "motion_module_acc.pth", "face_locator.pth",
        ),
        licence=_APACHE,
        what="EchoMimic v1 for 6 steps",
    ),
    "echomimic-v2": Source(
        repository="BadToBest/EchoMimicV2",
        files=("denoising_unet.pth", "reference_unet.pth", "motion_module.pth", "pose_encoder.pth"),
        licence=_APACHE,
        what="EchoMimic v2: half a body, with hands by pose maps",
    ),
    "echomimic-v2-acc": Source(
        repository="BadToBest/EchoMimicV2",
        files=(
            "denoising_unet_acc.pth", "reference_unet.pth", "motion_module_acc.pth", "pose_encoder.pth",
        ),
        licence=_APACHE,
        what="EchoMimic v2 for 6 steps",
    ),
    "animateanyone": Source(
        repository="patrolli/AnimateAnyone",
        files=("denoising_unet.pth", "reference_unet.pth", "motion_module.pth", "pose_guider.pth"),
        licence=_APACHE,
        what="AnimateAnyone by Moore Threads: a body by pose maps",
    ),
    "musepose": Source(
        repository="TMElyralab/MusePose",
        files=(
            "MusePose/denoising_unet.pth", "MusePose/reference_unet.pth",
            "MusePose/motion_module.pth", "MusePose/pose_guider.pth",
        ),
        licence="weights for non-commercial research only",
        what="MusePose: a dancing body by pose maps",
    ),
    "aniportrait": Source(
        repository="ZJYang/AniPortrait",
        files=("denoising_unet.pth", "reference_unet.pth", "motion_module.pth", "pose_guider.pth"),
        licence=_APACHE,
        what="AniPortrait: a talking head by face meshes",
    ),
    "vexpress": Source(
        repository="tk93/V-Express",
        files=(
            "denoising_unet.bin", "reference_net.bin", "motion_module.bin", "v_kps_guider.bin",
            "audio_projection.bin",
        ),
        licence="weights for non-commercial research only",
        what="V-Express: a talking head by voice and three key points",
    ),
    "sd15": Source(
        repository="stable-diffusion-v1-5/stable-diffusion-v1-5",
        files=("unet/config.json", "unet/diffusion_pytorch_model.safetensors"),
        licence=_SD,
        what="Stable Diffusion 1.5's U-Net, the base of all of them",
    ),
    "animatediff": Source(
        repository="guoyww/animatediff",
        files=("mm_sd_v15_v2.ckpt",),
        licence=_APACHE,
        what="AnimateDiff's temporal modules",
    ),
    "vae": Source(
        repository="stabilityai/sd-vae-ft-mse",
        files=("config.json", "diffusion_pytorch_model.safetensors"),
        licence=_MIT,
        what="Stable Diffusion's autoencoder, as all families use it",
    ),
    "tiny-vae": Source(
        repository="madebyollin/taesd",
        files=("config.json", "diffusion_pytorch_model.safetensors"),
        licence=_MIT,
        what="a small decoder of the same latents (TAESD)",
    ),
    "wav2vec2": Source(
        repository="facebook/wav2vec2-base-960h",
        files=("config.json", "model.safetensors"),
        licence=_APACHE,
        what="wav2vec 2.0: the ears of full, Hallo and V-Express",
    ),
    "whisper": Source(
        repository="openai/whisper-tiny",
        files=("config.json", "model.safetensors"),
        licence=_APACHE,
        what="Whisper tiny: the ears of EchoMimic",
    ),
}  # fmt: skip


def home() -> Path:
    """Where downloads lie: $EMO2_CACHE, or emo2 in the user's cache folder (~/.cache/emo2)."""
    chosen = os.environ.get("EMO2_CACHE")
    if chosen:
        return Path(chosen)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "emo2"


def folder_of(name: str) -> Path:
    """Where the files of a name lie, or would."""
    return home() / name


def require(name: str, folder: Path | None = None) -> Path:
    """The folder of a name's files; one sentence on how to get them where they are missing."""
    source, folder = SOURCES[name], folder or folder_of(name)
    for file in source.files:
        if not (folder / Path(file).name).is_file():
            raise UserError(
                f"{folder / Path(file).name} is not there; `emo2 download {name}` fetches {source.what}, "
                f"or put {' and '.join(Path(f).name for f in source.files)} of huggingface.co/"
                f"{source.repository} into {folder}"
            )
    return folder


def read_folder(
    name: str, folder: Path, files: tuple[str, ...]
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """A network's folder as `emo2 download NAME` makes it: its config.json, and the tensors of the first of `files`."""
    file = next((folder / f for f in files if (folder / f).is_file()), None)
    if file is None or not (folder / "config.json").is_file():
        require(name, folder)  # says which file is missing and how to get it
        raise UserError(
            f"{folder} has no config.json and {' or '.join(files)}; give a whole folder"
        )
    try:
        shape = dict(json.loads((folder / "config.json").read_text()))
    except (ValueError, TypeError) as error:
        raise UserError(
            f"{folder / 'config.json'} is damaged ({error}); fetch the folder again"
        ) from error
    return shape, tensors_in(read_tensors(file))


def read_tensors(path: Path) -> dict[str, Any]:
    """The content of a foreign weights file: .safetensors, or pickled and then without any code in it."""
    if not path.is_file():
        raise UserError(f"{path} is not there; give a weights file (.safetensors, .pth, .pt, .bin)")
    try:
        if path.suffix == ".safetensors":
            return dict(load_file(path))
        found = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        with path.open("rb") as file:
            is_weights = file.read(1) in (b"\x80", b"P")  # a pickle, or an archive with one
        if not is_weights:
            raise UserError(
                f"{path} is no file of weights; give .safetensors, .pth, .pt, .bin"
            ) from error
        raise UserError(
            f"{path} holds more than tensors (code could run when it is opened); "
            "ask its author for a .safetensors file"
        ) from error
    except (SafetensorError, OSError, RuntimeError, EOFError, ValueError, KeyError) as error:
        reason = " ".join(str(error).split())[:120]
        raise UserError(f"{path} is damaged or cut off ({reason}); fetch it again") from error
    if not isinstance(found, dict):
        raise UserError(
            f"{path} holds a {type(found).__name__}, expected named tensors; give weights"
        )
    return found


def tensors_in(found: dict[str, Any]) -> dict[str, Tensor]:
    """The tensors of a file's content, where they lie under "state_dict" or "model_state_dict" too."""
    for key in ("state_dict", "model_state_dict"):
        if isinstance(found.get(key), dict):
            found = found[key]
    return {name: value for name, value in found.items() if isinstance(value, Tensor)}
