"""The loss curve of a training run, as a file and in TensorBoard."""

from __future__ import annotations

import csv
import logging
from pathlib import Path

log = logging.getLogger(__name__)


class LossCurve:
    """The loss curve: a csv file, and TensorBoard where it is installed."""

    def __init__(self, out: Path, *, resume: bool) -> None:
        self.path = out / "loss.csv"
        self.resume = resume and self.path.exists()
        self.names: list[str] = []

    def __enter__(self) -> LossCurve:
        self.file = self.path.open("a" if self.resume else "w", newline="")
        self.writer = csv.writer(self.file)
        try:
            from torch.utils.tensorboard import SummaryWriter  # slow to load, and optional
        except ImportError:
            self.board = None
            log.warning("tensorboard is not installed: the loss curve goes to %s alone", self.path)
        else:
            self.board = SummaryWriter(str(self.path.parent / "tensorboard"))
        return self

    def add(self, step: int, seconds: float, terms: dict[str, float]) -> None:
        """Write the terms of one step."""
        if not self.names:
            self.names = list(terms)
            if not self.resume:
                self.writer.writerow(["step", "seconds", *self.names])
        self.writer.writerow([step, f"{seconds:.1f}", *(f"{terms[n]:.5g}" for n in self.names)])
        self.file.flush()
        if self.board is not None:
            for name, value in terms.items():
                self.board.add_scalar(name, value, step)

    def __exit__(self, *_: object) -> None:
        self.file.close()
        if self.board is not None:
            self.board.close()
