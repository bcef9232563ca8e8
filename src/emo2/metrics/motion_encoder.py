"""The network behind `fgd`: a small convolutional auto-encoder of hand motion, trained on the studio's performances.

Its distances compare results of this encoder with one another and with nothing else: no two papers share one.
`python -m emo2.metrics.motion_encoder OUT.safetensors` trains it anew.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path

import safetensors.torch
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from emo2 import weights
from emo2.weights import ASSETS

FRAMES = 32
STRIDE = 16
CODES = 32
WEIGHTS = ASSETS / "metrics" / "motion_encoder.safetensors"
_NUMBERS = 126
_WRISTS = (0, 1, 2, 63, 64, 65)
_WRISTS_COUNT = 20.0
"""Six numbers of the wrists weigh as much as the 120 of the fingers."""
_MOVED_M = 0.1
"""Training moves both hands by offsets of this deviation, so that codes follow them beyond the studio's chest space."""
_LOG = logging.getLogger(__name__)


class MotionEncoder(nn.Module):
    """32 frames of both hands' key points to 32 codes and back (in the manner of GENEA's and DiffSHEG's encoders)."""

    mean: Tensor
    spread: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(_NUMBERS))
        self.register_buffer("spread", torch.ones(_NUMBERS))
        self.encode = nn.Sequential(
            nn.Conv1d(_NUMBERS, 64, 4, 2, 1), nn.SiLU(),
            nn.Conv1d(64, 64, 4, 2, 1), nn.SiLU(),
            nn.Conv1d(64, 32, 4, 2, 1), nn.SiLU(),
            nn.Flatten(), nn.Linear(32 * FRAMES // 8, CODES),
        )  # fmt: skip
        self.decode = nn.Sequential(
            nn.Linear(CODES, 32 * FRAMES // 8), nn.Unflatten(1, (32, FRAMES // 8)),
            nn.ConvTranspose1d(32, 64, 4, 2, 1), nn.SiLU(),
            nn.ConvTranspose1d(64, 64, 4, 2, 1), nn.SiLU(),
            nn.ConvTranspose1d(64, _NUMBERS, 4, 2, 1),
        )  # fmt: skip

    def standardised(self, rows: Float[Tensor, "b frames n"]) -> Float[Tensor, "b n frames"]:
        """Channels first, zero mean, unit spread."""
        return ((rows - self.mean) / self.spread).transpose(1, 2)

    def forward(self, rows: Float[Tensor, "b frames n"]) -> Float[Tensor, "b codes"]:
        """Codes of windows."""
        return self.encode(self.standardised(rows))

    def loss(self, rows: Float[Tensor, "b frames n"]) -> Float[Tensor, ""]:
        """L1 of the numbers and of their steps, and of the codes' distances from those of the windows (ours)."""
        wanted = self.standardised(rows)
        codes = self.encode(wanted)
        made = self.decode(codes)
        rebuilt = F.l1_loss(made, wanted) + F.l1_loss(torch.diff(made), torch.diff(wanted))
        return rebuilt + 2.0 * F.l1_loss(F.pdist(codes), self.far_apart(rows))

    def far_apart(self, rows: Float[Tensor, "b frames n"]) -> Float[Tensor, " pairs"]:
        """Distances of the windows: 1 where all numbers differ by their spread; wrists count half."""
        weights = rows.new_ones(_NUMBERS)
        weights[list(_WRISTS)] = _WRISTS_COUNT
        weighted = self.standardised(rows) * (weights / weights.sum() / FRAMES).sqrt()[:, None]
        return F.pdist(weighted.flatten(1))


def hand_rows(points: Float[Tensor, "frames 42 3"]) -> Float[Tensor, "frames 126"]:
    """Wrists where they are, the other key points against their wrist."""
    hands = points.unflatten(1, (2, 21))
    wrists = hands[:, :, :1]
    return torch.cat((wrists, hands[:, :, 1:] - wrists), 2).flatten(1)


def windows_of(rows: Float[Tensor, "frames 126"]) -> Float[Tensor, "windows 32 126"]:
    """Stretches of 32 frames, every 16th frame."""
    if len(rows) < FRAMES:
        return rows.new_zeros(0, FRAMES, _NUMBERS)
    return rows.unfold(0, FRAMES, STRIDE).transpose(1, 2)


def codes_of(points: Float[Tensor, "frames 42 3"]) -> Float[Tensor, "windows 32"]:
    """The shipped encoder's codes of a motion at 30 frames a second."""
    with torch.no_grad():
        return encoder()(windows_of(hand_rows(points.float())))


@cache
def encoder() -> MotionEncoder:
    """The shipped encoder."""
    model = MotionEncoder()
    stored = safetensors.torch.load_file(WEIGHTS)
    model.load_state_dict({name: values.float() for name, values in stored.items()})
    return model.eval().requires_grad_(False)


def train_encoder(
    windows: Float[Tensor, "windows 32 126"], *, steps: int = 800, batch: int = 64, seed: int = 0
) -> Iterator[tuple[int, float, MotionEncoder]]:
    """Train on windows; yields step, loss and the model, which goes on changing.  Same seed, same weights."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = MotionEncoder()
    model.mean.copy_(windows.mean((0, 1)))
    model.spread.copy_(windows.std((0, 1)).clamp(min=0.005))
    generator = torch.Generator().manual_seed(seed)
    optimiser = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    for step in range(1, steps + 1):
        chosen = torch.randint(0, len(windows), (batch // 2,), generator=generator)
        loss = model.loss(torch.cat((windows[chosen], _elsewhere(windows[chosen], generator))))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
        yield step, float(loss.detach()), model


def _elsewhere(
    rows: Float[Tensor, "b frames n"], generator: torch.Generator
) -> Float[Tensor, "b frames n"]:
    """The same windows with each hand moved by an offset of its own."""
    moved = rows.clone()
    offsets = _MOVED_M * torch.randn((len(rows), 1, len(_WRISTS)), generator=generator)
    moved[..., list(_WRISTS)] += offsets
    return moved


def studio_windows(seeds: Sequence[int]) -> Float[Tensor, "windows 32 126"]:
    """Windows of the studio's performances of these seeds, at 30 frames a second."""
    from emo2.metrics.motion_clips import RATE, points_of
    from emo2.studio.performance import performance_set  # needs speech synthesisers

    found = []
    for seed in seeds:
        for take in performance_set(seed, 1, fps=RATE):
            found.append(windows_of(hand_rows(points_of(take.motion))))
    return torch.cat(found)


def save_encoder(model: MotionEncoder, path: Path) -> None:
    """Half precision: the codes change by less than a thousandth of their spread."""
    state = {name: values.half().contiguous() for name, values in model.state_dict().items()}
    weights.write(path, state, {})


def main() -> None:
    """Train on the performances of 80 seeds and write the weights."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    windows = studio_windows(range(700_000, 700_080))
    _LOG.info("%d windows", len(windows))
    model = None
    for step, loss, trained in train_encoder(windows):
        model = trained
        if step % 100 == 0:
            _LOG.info("step %d loss %.4f", step, loss)
    assert model is not None
    save_encoder(model, Path(sys.argv[1]) if len(sys.argv) > 1 else WEIGHTS)


if __name__ == "__main__":
    main()
