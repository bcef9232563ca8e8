"""The networks some measures need: the user's own files in one folder, checked, loaded, never faked.

Which files, from where and under which licence: docs/metrics/networks.md.  A file that is absent leaves its figures
out, and the report says so in one sentence.
"""

from __future__ import annotations

import hashlib
import os
import re
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor

from emo2.errors import UserError

_SUMS = "SHA256SUMS"
_NAMED_SUM = re.compile(r"-([0-9a-f]{8})\.\w+$")


@dataclass(frozen=True, kw_only=True)
class NetworkFile:
    """One network a user may bring."""

    names: tuple[str, ...]
    """File names looked for, in this order."""
    serves: tuple[str, ...]
    """Metrics that need it."""
    what: str


NETWORKS: Mapping[str, NetworkFile] = {
    "inception": NetworkFile(
        names=("inception-2015-12-05.pt",), serves=("fid",), what="Inception v3, TorchScript"
    ),
    "i3d": NetworkFile(
        names=("i3d_torchscript.pt",), serves=("fvd",), what="I3D (Kinetics-400), TorchScript"
    ),
    "alexnet": NetworkFile(
        names=("alexnet-owt-7be5be79.pth",), serves=("lpips",), what="AlexNet, tensors"
    ),
    "lpips": NetworkFile(
        names=("lpips_alex_v0.1.pth", "alex.pth"), serves=("lpips",), what="LPIPS heads, tensors"
    ),
    "syncnet": NetworkFile(
        names=("syncnet_v2.model",), serves=("sync_c", "sync_d"), what="SyncNet v2, tensors"
    ),
    "arcface": NetworkFile(
        names=("w600k_r50.onnx", "glintr100.onnx", "arcface.pt"),
        serves=("csim", "f_sim"), what="ArcFace, ONNX or TorchScript",
    ),
    "deng2019": NetworkFile(
        names=("deng2019_recon.pt", "deng2019_recon.onnx"),
        serves=("e_fid",), what="Deng 2019 reconstruction (epoch_20), TorchScript or ONNX",
    ),
    "lm3d": NetworkFile(
        names=("similarity_Lm3D_all.mat",), serves=("e_fid",), what="its 3-D standard points"
    ),
    "wholebody": NetworkFile(
        names=("dw-ll_ucoco_384.onnx", "dw-ll_ucoco_384.pt"),
        serves=("hkc", "hkv"), what="DWPose whole-body key points, ONNX or TorchScript",
    ),
}  # fmt: skip

Network = Callable[[Tensor], tuple[Tensor, ...]]
"""A batch in, the network's outputs out."""


def default_folder() -> Path:
    """`$EMO2_NETWORKS`, else `networks` in the user's cache."""
    given = os.environ.get("EMO2_NETWORKS")
    if given:
        return Path(given)
    cache = os.environ.get("XDG_CACHE_HOME")
    return (Path(cache) if cache else Path.home() / ".cache") / "emo2" / "networks"


@dataclass(frozen=True)
class NetworkFolder:
    """The folder in which a user's networks lie; it need not exist."""

    folder: Path

    def path(self, key: str) -> Path | None:
        """The file of a network, checked; None where there is none."""
        for name in NETWORKS[key].names:
            path = self.folder / name
            if path.is_file():
                self._check(path)
                return path
        return None

    def has(self, *keys: str) -> bool:
        """Whether all of these are there."""
        return all(self.path(key) is not None for key in keys)

    def missing(self) -> str | None:
        """One sentence on what is left out because a network is not there."""
        absent = [n for key, n in NETWORKS.items() if self.path(key) is None]
        if not absent:
            return None
        figures = ", ".join(dict.fromkeys(name for n in absent for name in n.serves))
        files = ", ".join(n.names[0] for n in absent)
        return (
            f"left out: {figures}, which need {files} in {self.folder}; docs/metrics/networks.md says where "
            "they come from"
        )

    def checksums(self) -> dict[str, str]:
        """The first 16 digits of the sha256 of every file that is there, for the report."""
        paths = (self.path(key) for key in NETWORKS)
        return {path.name: _sha256(path)[:16] for path in paths if path is not None}

    def _check(self, path: Path) -> None:
        """Against SHA256SUMS where it names the file, and against eight digits in the file's own name."""
        expected = _NAMED_SUM.search(path.name)
        begins = [expected[1]] if expected else []
        sums = self.folder / _SUMS
        if sums.is_file():
            for line in sums.read_text().splitlines():
                fields = line.split()
                if len(fields) == 2 and fields[1].lstrip("*") == path.name:
                    begins.append(fields[0].lower())
        if not begins:
            return
        found = _sha256(path)
        for wanted in begins:
            if not found.startswith(wanted):
                raise UserError(
                    f"{path} has the sha256 {found[:16]}..., expected {wanted[:16]}...; fetch it again, "
                    f"or mend {_SUMS}."
                )


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def load_network(path: Path) -> Network:
    """A TorchScript or ONNX file as a function of a batch."""
    if path.suffix == ".onnx":
        return _load_onnx(path)
    module = load_script(path)

    def run(batch: Tensor) -> tuple[Tensor, ...]:
        with torch.inference_mode():
            out = module(batch)
        return tuple(out) if isinstance(out, tuple | list) else (out,)

    return run


def load_script(path: Path) -> torch.jit.ScriptModule:
    """A TorchScript file; what is none is a `UserError`."""
    try:
        with (
            warnings.catch_warnings()
        ):  # torch means to replace the format; the files of the field are in it
            warnings.simplefilter("ignore", DeprecationWarning)
            return torch.jit.load(str(path), map_location="cpu").eval()
    except (RuntimeError, ValueError) as error:
        raise UserError(
            f"{path} is not TorchScript ({str(error).splitlines()[0]}); give the file that "
            "docs/metrics/networks.md names."
        ) from error


def _load_onnx(path: Path) -> Network:
    try:
        net = cv2.dnn.readNetFromONNX(str(path))
    except cv2.error as error:
        raise UserError(f"{path} is not ONNX that OpenCV reads ({error.err}).") from error
    names = net.getUnconnectedOutLayersNames()

    def run(batch: Tensor) -> tuple[Tensor, ...]:
        net.setInput(np.ascontiguousarray(batch.numpy(), dtype=np.float32))
        return tuple(torch.from_numpy(np.array(out)) for out in net.forward(names))

    return run


def load_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of somebody's checkpoint, nothing else of it."""
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch names a dozen kinds
        raise UserError(
            f"{path} holds no plain tensors ({str(error).splitlines()[0]}); give the file that "
            "docs/metrics/networks.md names."
        ) from error
    if not isinstance(state, Mapping) or not all(isinstance(v, Tensor) for v in state.values()):
        raise UserError(f"{path} is no table of tensors; expected name and tensor pairs.")
    return dict(state)


def fill(module: torch.nn.Module, state: dict[str, Tensor], path: Path) -> None:
    """Load strictly; counters of batches are allowed to be absent."""
    own = module.state_dict()
    state = {k: v for k, v in state.items() if not k.endswith("num_batches_tracked")}
    wanted = {k for k in own if not k.endswith("num_batches_tracked")}
    odd = sorted(wanted ^ set(state)) or [
        k for k in sorted(wanted) if own[k].shape != state[k].shape
    ]
    if odd:
        raise UserError(f"{path} does not fit the network ({odd[0]}); give the original file.")
    module.load_state_dict({**own, **state})
