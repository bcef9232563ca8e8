"""Raw outputs of a stock model's blocks, which its own interface does not give."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn


@contextmanager
def recorded(blocks: Sequence[nn.Module], *, with_input: bool = False) -> Iterator[list[Tensor]]:
    """While open, collects what each block puts out in one forward pass; first what goes into the first, if wanted.

    A stock model normalises after its last block (Whisper) or hides all but the last (wav2vec 2.0).
    """
    found: list[Tensor] = []

    def before(_: nn.Module, inputs: tuple[Any, ...]) -> None:
        found.append(inputs[0])

    def after(_: nn.Module, __: tuple[Any, ...], output: Tensor | tuple[Any, ...]) -> None:
        found.append(output[0] if isinstance(output, tuple) else output)

    handles = [block.register_forward_hook(after) for block in blocks]
    if with_input:
        handles.append(blocks[0].register_forward_pre_hook(before))
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()
