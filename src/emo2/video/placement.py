"""Where stage 2's networks run and in what form: devices, numbers, layout, compiled or not, moved in and out.

Three modes for cards of less memory than the networks want: everything on the device; one part at a time (reference
network, denoiser and decoder take turns); or the denoiser's layers one at a time, for the smallest cards.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from emo2.errors import UserError

Offload = Literal["none", "parts", "layers"]


@dataclass(frozen=True, kw_only=True)
class Placement:
    """How the networks are to run."""

    devices: tuple[str, ...] = ("cpu",)
    """The first does everything, all share the windows of a film."""
    dtype: torch.dtype = torch.float32
    """Of the networks' numbers; noise, solver and film stay float32."""
    offload: Offload = "none"
    channels_last: bool = False
    compiled: bool = False
    """The denoiser's forward pass through torch.compile, whole; CUDA graphs where there is one CUDA device."""
    reuse: bool = True
    """False: the structure of the originals, for comparison: the reference's keys and values projected for every frame
    and step, both halves of guidance always, the unconditional half attending to the reference for nothing."""

    def __post_init__(self) -> None:
        if self.offload != "none" and len(self.devices) > 1:
            raise UserError(
                "windows on several devices need all networks on them; leave --offload out"
            )
        if self.offload == "layers" and self.compiled:
            raise UserError(
                "layers that move in and out cannot be compiled whole; leave one of both out"
            )

    @property
    def device(self) -> torch.device:
        """Where everything but the shared windows runs."""
        return torch.device(self.devices[0])

    @property
    def home(self) -> torch.device:
        """Where a network waits while it has nothing to do."""
        return self.device if self.offload == "none" else torch.device("cpu")

    def settle(self, module: nn.Module) -> nn.Module:
        """The module in the wanted form, at home."""
        module.to(self.home, self.dtype)
        if self.channels_last:
            module.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
        return module

    @contextmanager
    def using(self, *modules: nn.Module) -> Iterator[None]:
        """The modules are on the device inside, and at home again after."""
        for module in modules:
            module.to(self.device)
        try:
            yield
        finally:
            for module in modules:
                module.to(self.home)

    def denoisers(self, denoiser: nn.Module) -> list[nn.Module]:
        """One a device, the first being the one given; compiled where that is wanted."""
        copies = [copy.deepcopy(denoiser).to(device) for device in self.devices[1:]]
        found = [denoiser, *copies]
        for each in found:  # after copying: a copy of a compiled module is a plain one
            self.compile(each)
        return found

    def compile(self, denoiser: nn.Module) -> None:
        """Let every later call run compiled; a part that cannot be is an error, not a slow surprise."""
        if self.compiled:
            mode = "default"
            if self.device.type == "cuda":  # graphs belong to the thread that recorded them
                graphs = len(self.devices) == 1
                mode = "max-autotune" if graphs else "max-autotune-no-cudagraphs"
            denoiser.compile(fullgraph=True, mode=mode)


def one_at_a_time(network: nn.Module, device: torch.device) -> Callable[[], None]:
    """Every layer that has weights is on the device only while it computes; call what is returned to end that.

    These hooks move weights and touch no number; the network's own code knows nothing of them.
    """
    held = []
    for layer in network.modules():
        if any(True for _ in layer.parameters(recurse=False)):
            held.append(layer.register_forward_pre_hook(lambda module, _: _move(module, device)))
            held.append(
                layer.register_forward_hook(
                    lambda module, _, __: _move(module, torch.device("cpu"))
                )
            )

    def end() -> None:
        for handle in held:
            handle.remove()

    return end


def _move(module: nn.Module, device: torch.device) -> None:
    module.to(device)


def decoded_ahead(
    decode: Callable[[Tensor], Tensor], parts: Iterable[Tensor], device: torch.device
) -> Iterator[Tensor]:
    """Frames of each part, the next being decoded while this one is written: a thread, and on CUDA a stream, of its own."""
    stream = torch.cuda.Stream(device) if device.type == "cuda" else None

    def work(part: Tensor) -> Tensor:
        with torch.no_grad():
            if stream is None:
                return decode(part)
            with torch.cuda.stream(stream):
                frames = decode(part)
            stream.synchronize()
            return frames

    waiting: Future[Tensor] | None = None
    with ThreadPoolExecutor(1) as pool:
        for part in parts:
            if stream is not None:
                stream.wait_stream(torch.cuda.current_stream(device))
            coming = pool.submit(work, part)
            if waiting is not None:
                yield waiting.result()
            waiting = coming
        if waiting is not None:
            yield waiting.result()
