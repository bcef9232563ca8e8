"""The studio's takes as examples for the stage over Stable Diffusion's latents."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from safetensors import safe_open

from emo2.data.shards import Draw, Hear, PeopleBatches, holds_takes, list_shards
from emo2.errors import UserError
from emo2.video.examples import head_speed
from emo2.video.film_examples import FilmExamples


class FilmTakes:
    """Batches by number: frames in a row with voice, guidance maps at the frames' size, and the head's speed."""

    def __init__(
        self,
        folders: Sequence[Path],
        *,
        people: int,
        frames: int,
        seed: int = 0,
        hear: Hear | None = None,
        real_share: float | None = None,
    ) -> None:
        takes = [folder for folder in folders if holds_takes(folder)]
        if not takes:
            raise UserError(
                "none of the shards are takes (frames in a row); make some: emo2 studio --kind takes"
            )
        shapes = [_shape(folder) for folder in takes]
        side = shapes[0][3]
        self.frames = min(frames, *(shape[1] for shape in shapes))
        """What every take holds, at most as many as wanted."""
        draw = Draw(people=people, frames=self.frames, consecutive=True, maps=side)
        self.batches = PeopleBatches(takes, draw, seed=seed, hear=hear, real_share=real_share)

    def at(self, number: int) -> FilmExamples:
        """Batch `number`."""
        found = self.batches.at(number)
        return FilmExamples(
            reference=found.reference,
            frames=found.frames,
            audio=found.audio,
            maps=found.maps,
            confidence=found.confidence,
            speed=head_speed(found.conditions),
        )


def _shape(folder: Path) -> list[int]:
    """People, frames, channels and size of a folder's first shard."""
    with safe_open(list_shards([folder])[0], framework="pt") as shard:
        return shard.get_slice("frames").get_shape()
