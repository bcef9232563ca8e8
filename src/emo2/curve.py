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
        """Open both; a run that goes on keeps the columns that are there."""
        if self.resume:
            self.names = next(csv.reader(self.path.read_text().splitlines()))[2:]
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
        """Write the terms of one step; not every step has all of them."""
        if not set(terms) <= set(self.names):
            self._widen([name for name in terms if name not in self.names])
        values = (f"{terms[n]:.5g}" if n in terms else "" for n in self.names)
        self.writer.writerow([step, f"{seconds:.1f}", *values])
        self.file.flush()
        if self.board is not None:
            for name, value in terms.items():
                self.board.add_scalar(name, value, step)

    def _widen(self, names: list[str]) -> None:
        """Give the file more columns, empty so far."""
        self.file.close()
        rows = list(csv.reader(self.path.read_text().splitlines()))[1:]
        self.names += names
        self.file = self.path.open("w", newline="")
        self.writer = csv.writer(self.file)
        self.writer.writerow(["step", "seconds", *self.names])
        self.writer.writerows(row + [""] * len(names) for row in rows)

    def __exit__(self, *_: object) -> None:
        self.file.close()
        if self.board is not None:
            self.board.close()
