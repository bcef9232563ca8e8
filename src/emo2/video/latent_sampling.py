"""From noise to latents of a film: clip after clip, or in windows over a chapter of it.

The originals denoise a whole film at once, in windows, and hold all of it at every step.  Here a long film is cut into
chapters **(ours)**: each is denoised as they do it, and begins with the last frames of the chapter before, held to what
they have become (at each step: their latents with that step's noise), so that chapters join and memory does not grow.
A film that fits into one chapter is sampled exactly as the originals sample it.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from emo2.diffusion import NoiseProcess, Solver
from emo2.errors import UserError
from emo2.video.families import Sampling
from emo2.video.windows import Blend, Windows, share

CHAPTER = 240
"""Frames of a chapter: ten seconds."""

Predict = Callable[[Tensor, int, Sequence[int]], Tensor]
"""(noisy latents (1 f c h w) of some frames, training step, which frames of the film) -> guided prediction."""


@dataclass(frozen=True, kw_only=True)
class Descent:
    """How to come from noise to latents."""

    way: Sampling
    steps: int
    solver: Solver = "ddim"
    seed: int = 0

    def noise(self, frames: int, shape: tuple[int, ...], place: int) -> Float[Tensor, "1 f c h w"]:
        """The first noise of the clip or chapter that begins at film frame `place`; drawn on the CPU."""
        return self.way.first_noise((1, frames, *shape), self._generator(place))

    def solve(self, place: int) -> tuple[Any, dict[str, torch.Generator]]:
        """The solver, ready, and what its steps want besides."""
        if self.solver == "unipc" and self.way.process.zero_snr:
            raise UserError(
                "unipc cannot begin at pure noise, as these weights do; take ddim, lcm or tcd"
            )
        solver = self.way.process.scheduler(self.solver)
        with (
            warnings.catch_warnings()
        ):  # UniPC hands tensors to numpy in a way numpy 2 disapproves of
            warnings.simplefilter("ignore", DeprecationWarning)
            solver.set_timesteps(self.steps)
        draws = self.solver in ("lcm", "tcd")
        return solver, {"generator": self._generator(place + 1)} if draws else {}

    def _generator(self, place: int) -> torch.Generator:
        return torch.Generator().manual_seed((self.seed * 1_000_003 + 2 * place) % 2**63)


@dataclass(frozen=True, kw_only=True)
class Chapter:
    """A stretch of the film that is denoised at once."""

    first: int
    """Its first frame that no chapter before has made."""
    stop: int
    known: int
    """Frames before `first` that it begins with."""
    windows: Windows

    @property
    def frames(self) -> range:
        """Its film frames, the known ones included."""
        return range(self.first - self.known, self.stop)


def chapter_at(first: int, total: int, windows: Windows, length: int = CHAPTER) -> Chapter:
    """The chapter that makes frame `first`, which begins one.

    Only a film of a single chapter runs on over its end as its family does: the end of a chapter is not the film's.
    """
    stop = min(first + length, total)
    if (
        total - stop < windows.size
    ):  # no crumbs: a last chapter shorter than a window joins this one
        stop = total
    is_whole = first == 0 and stop == total
    known = min(windows.overlap, first)
    ways = windows if is_whole else replace(windows, beyond="clean")
    return Chapter(first=first, stop=stop, known=known, windows=ways)


def sample_chapter(
    chapter: Chapter,
    descent: Descent,
    predicts: Sequence[Predict],
    shape: tuple[int, ...],
    known: Float[Tensor, "1 k c h w"] | None = None,
) -> Float[Tensor, "1 f c h w"]:
    """Latents of a chapter's new frames; `predicts` has one entry a device, among which windows are shared."""
    frames = chapter.frames
    x = first = descent.noise(len(frames), shape, frames.start)
    solver, draws = descent.solve(frames.start)
    for number, time in enumerate(solver.timesteps):
        if known is not None:
            x = torch.cat(
                [_at(descent.way.process, known, first, int(time)), x[:, known.shape[1] :]], 1
            )
        said = _all_windows(chapter, x, int(time), number, predicts)
        x = solver.step(said, time, x, **draws).prev_sample
    return x[:, chapter.known :]


def sample_clip(
    place: int, frames: int, descent: Descent, predict: Predict, shape: tuple[int, ...]
) -> Float[Tensor, "1 f c h w"]:
    """Latents of the clip that begins at frame `place`."""
    x = descent.noise(frames, shape, place)
    solver, draws = descent.solve(place)
    for time in solver.timesteps:
        said = predict(x, int(time), range(place, place + frames))
        x = solver.step(said, time, x, **draws).prev_sample
    return x


def _at(process: NoiseProcess, clean: Tensor, noise: Tensor, time: int) -> Tensor:
    """Known latents as noisy as the others are at that step."""
    return process.add_noise(clean, noise[:, : clean.shape[1]], torch.tensor([time]))


def _all_windows(
    chapter: Chapter, x: Tensor, time: int, number: int, predicts: Sequence[Predict]
) -> Tensor:
    """The mean of all windows' predictions at one step."""
    windows = chapter.windows.at(x.shape[1], number)
    start = chapter.frames.start

    def run(part: list[list[int]], predict: Predict) -> list[Tensor]:
        return [predict(x[:, window], time, [start + f for f in window]) for window in part]

    parts = share(windows, len(predicts))
    if len(predicts) == 1:
        said = run(parts[0], predicts[0])
    else:
        with ThreadPoolExecutor(len(predicts)) as pool:
            found = pool.map(_quietly(run), parts, predicts)
            said = [prediction for device in found for prediction in device]
    blend = Blend(x.shape[1])
    for window, prediction in zip(windows, said, strict=True):
        blend.add(window, prediction)
    return blend.mean()


def _quietly(run: Callable[..., list[Tensor]]) -> Callable[..., list[Tensor]]:
    """Gradient mode belongs to a thread: a new one would record what nobody asks for."""

    def work(*given: Any) -> list[Tensor]:  # noqa: ANN401 - handed through
        with torch.no_grad():
            return run(*given)

    return work
