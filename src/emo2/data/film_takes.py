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
    ) -> None:
        takes = [folder for folder in folders if holds_takes(folder)]
        if not takes:
            raise UserError(
                "none of the shards are takes (frames in a row); make some: emo2 studio --kind takes"
            )
        with safe_open(list_shards(takes)[0], framework="pt") as shard:
            _, have, _, side, _ = shard.get_slice("frames").get_shape()
        self.frames = min(frames, have)
        """What a take holds, at most as many as wanted."""
        draw = Draw(people=people, frames=self.frames, consecutive=True, maps=side)
        self.batches = PeopleBatches(takes, draw, seed=seed, hear=hear)

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
