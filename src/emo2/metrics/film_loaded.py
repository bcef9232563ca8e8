"""One item of `emo2 evaluate film` with all that its metrics share, read when first asked for."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from emo2.errors import UserError
from emo2.media.voice import read_voice
from emo2.media.watch import film_facts, read_frames
from emo2.metrics import face_features, picture_features, syncnet, whole_body
from emo2.metrics.film_reading import (
    FPS,
    FilmReading,
    paired_frames,
    read_envelope,
    read_film,
    resampling,
)
from emo2.metrics.flow import psnr, ssim
from emo2.metrics.inputs import Item, phones_beside
from emo2.metrics.lips import Phone, read_phones
from emo2.metrics.networks import NetworkFolder, load_network
from emo2.portrait.stage import PortraitFinder

ONLY_TRUE = "true: "
"""Begins the names of true films without a generated one: they serve the distances between sets alone."""
SPARSE = 5
"""Slow networks look at every fifth frame of 25 a second."""


@dataclass(frozen=True, kw_only=True)
class Pairs:
    """Per pair of frames: generated against truth, and the truth's first frame, held, against truth."""

    psnr: Float[np.ndarray, " frames"]
    ssim: Float[np.ndarray, " frames"]
    still_psnr: Float[np.ndarray, " frames"]
    still_ssim: Float[np.ndarray, " frames"]
    lpips: Float[np.ndarray, " some"]
    still_lpips: Float[np.ndarray, " some"]


@dataclass(frozen=True)
class LoadedFilm:
    """A generated film, its truth and its voice."""

    item: Item
    finder: PortraitFinder
    networks: NetworkFolder

    @property
    def film(self) -> Path:
        """The generated film: one (samples of an item are loaded one by one)."""
        return self.item.generated[0]

    @property
    def is_only_true(self) -> bool:
        """Whether this is a true film that nothing was generated for."""
        return self.item.name.startswith(ONLY_TRUE)

    @cached_property
    def generated(self) -> FilmReading:
        """What was seen of the generated film."""
        return read_film(self.film, self.finder)

    @cached_property
    def truth(self) -> FilmReading | None:
        """What was seen of the true one."""
        if self.item.truth is None:
            return None
        return self.generated if self.item.truth == self.film else read_film(self.item.truth, self.finder)  # fmt: skip

    @property
    def voice(self) -> Path:
        """The voice given, else the film's own sound, else (of a film without any) the truth's."""
        if self.item.voice is not None:
            return self.item.voice
        with_sound = (p for p in (self.film, self.item.truth) if p is not None and film_facts(p).has_sound)  # fmt: skip
        return next(with_sound, self.film)

    @property
    def envelope(self) -> Float[Tensor, " frames"] | None:
        """Loudness of the voice; None where there is none, or only silence."""
        return self._heard[0]

    @cached_property
    def _heard(self) -> tuple[Float[Tensor, " frames"] | None, str]:
        """The envelope, and why there is none."""
        try:
            return read_envelope(self.voice, self.generated.frames), ""
        except UserError as error:
            return None, str(error)

    @cached_property
    def notes(self) -> tuple[str, ...]:
        """What was resampled, and what this film gives no figures for."""
        true = self.truth
        found = resampling(self.generated.facts, None if true is None else true.facts)
        name = self.film.name
        if not self.generated.has_face:
            found.append(f"{name}: a face is seen in under half of the frames; its figures are left out")  # fmt: skip
        if self.envelope is None:
            found.append(f"{name}: figures of mouth and voice are left out ({self._heard[1]})")
        if true is not None and abs(true.duration_s - self.generated.duration_s) > 0.5:
            found.append(
                f"{name} lasts {self.generated.duration_s:.1f} s, its truth {true.duration_s:.1f} s: pairs are "
                "compared over the shorter"
            )
        return tuple(found)

    @cached_property
    def phones(self) -> tuple[Phone, ...]:
        """From a `.phones` or `.align` file beside the film, its truth or its voice."""
        for path in (self.film, self.item.truth, self.item.voice):
            if path is not None and (beside := phones_beside(path)):
                return read_phones(beside[0])
        return ()

    @cached_property
    def pairs(self) -> Pairs | None:
        """Frame against frame."""
        if self.item.truth is None:
            return None
        net = self._lpips()
        rows: list[tuple[float, ...]] = []
        distances: list[tuple[float, float]] = []
        still: Tensor | None = None
        for index, (made, true) in enumerate(paired_frames(self.film, self.item.truth)):
            still = true if still is None else still
            pictures = [(v + 1) / 2 for v in (made, true, still)]
            rows.append(
                (
                    psnr(pictures[0], pictures[1]), ssim(pictures[0], pictures[1]),
                    psnr(pictures[2], pictures[1]), ssim(pictures[2], pictures[1]),
                )
            )  # fmt: skip
            if net is not None and index % SPARSE == 0:
                both = net(torch.stack([made, still]), torch.stack([true, true]))
                distances.append((float(both[0]), float(both[1])))
        table = np.array(rows, dtype=float).reshape(-1, 4)
        far = np.array(distances, dtype=float).reshape(-1, 2)
        return Pairs(
            psnr=table[:, 0], ssim=table[:, 1], still_psnr=table[:, 2], still_ssim=table[:, 3],
            lpips=far[:, 0], still_lpips=far[:, 1],
        )  # fmt: skip

    def _lpips(self) -> picture_features.Lpips | None:
        trunk, heads = self.networks.path("alexnet"), self.networks.path("lpips")
        return None if trunk is None or heads is None else picture_features.Lpips.load(trunk, heads)

    @cached_property
    def sync(self) -> tuple[syncnet.Sync, syncnet.Sync] | None:
        """SyncNet's verdict, and that on the voice turned round by half its length."""
        path = self.networks.path("syncnet")
        if path is None or not self.generated.has_face:
            return None
        try:
            speech = read_voice(self.voice, sample_rate=syncnet.RATE)
        except UserError:
            return None
        samples = torch.cat(list(speech.voice.blocks(65536))).clamp(-1, 1)
        boxes = syncnet.boxes(self.generated.points)
        frames = read_frames(self.film, fps=FPS)
        crops = (syncnet.crop(f, b) for f, b in zip(frames, boxes, strict=False))
        sound = (samples * 32767).round().short()
        if min(self.generated.frames, len(samples) * 25 // syncnet.RATE) < syncnet.LEAST_FRAMES:
            return None
        faces, voices = syncnet.towers(syncnet.SyncNet.load(path), crops, sound)
        turned = torch.roll(voices, len(voices) // 2, 0)
        return syncnet.verdict(faces, voices), syncnet.verdict(faces, turned)

    @cached_property
    def cosines(self) -> tuple[float, float] | None:
        """CSIM to the reference (the truth's first face, else the film's own), and the truth's own CSIM."""
        path = self.networks.path("arcface")
        if path is None or not self.generated.has_face:
            return None
        network = load_network(path)

        def rows(reading: FilmReading) -> list[Tensor]:
            return [face_features.face_row(f, p, network) for f, p in sparse_faces(reading)]

        made = rows(self.generated)
        true = rows(self.truth) if self.truth is not None and self.truth.has_face else []
        if not made:
            return None
        reference = true[0] if true else made[0]
        own = float(face_features.cosines(reference, true).mean()) if true else float("nan")
        return float(face_features.cosines(reference, made).mean()), own

    def expressions(self, reading: FilmReading) -> Float[np.ndarray, "n 64"] | None:
        """The 64 expression numbers of every fifth frame."""
        path, standard = self.networks.path("deng2019"), self.networks.path("lm3d")
        if path is None or standard is None or not reading.has_face:
            return None
        network, solid = load_network(path), face_features.standard_points(standard)
        rows = [
            face_features.expression_row(f, p, solid, network) for f, p in sparse_faces(reading)
        ]
        return torch.stack(rows).numpy() if rows else None

    def hands(self, reading: FilmReading) -> whole_body.HandFigures | None:
        """HKC and HKV from every fifth frame."""
        path = self.networks.path("wholebody")
        if path is None or not reading.frames:
            return None
        network = load_network(path)
        frames = sparse(read_frames(reading.path, fps=FPS))
        points = torch.stack([whole_body.key_points(f, network) for f in frames])
        return whole_body.hand_figures(points, reading.facts.size)


def sparse(frames: Iterator[Tensor]) -> Iterator[Tensor]:
    """Every fifth."""
    return (frame for index, frame in enumerate(frames) if index % SPARSE == 0)


def sparse_faces(reading: FilmReading) -> Iterator[tuple[Tensor, Tensor]]:
    """Every fifth frame with its face's points; frames without a face are left out."""
    for index, frame in enumerate(read_frames(reading.path, fps=FPS)):
        if index % SPARSE == 0 and bool(reading.seen[index]):
            yield frame, reading.points[index]
