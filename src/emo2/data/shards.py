"""Rendered people from shards to batches for stage 2.

A shard is one safetensors file of N people with K frames each (`emo2 studio` writes them).  Tensors are read person
by person, so that a set larger than the memory can be trained on while it is still being rendered.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int, UInt8
from safetensors import safe_open
from torch import Tensor

from emo2 import weights
from emo2.data.guidance_labels import maps_of
from emo2.data.order import is_real
from emo2.errors import UserError
from emo2.media.voice import SampledVoice
from emo2.portrait.views import IGNORED
from emo2.signals import Speech
from emo2.speech import Ears, SpeechEncoder
from emo2.video.examples import BODY_VIEW, FACE_VIEW, MIRROR_ACTIONS, Examples, is_still, marks_of

log = logging.getLogger(__name__)

IMPORTANCE = 16.0
"""Weight of cells at mouth and eyes."""
MOUTH, EYES = slice(48, 68), (slice(36, 42), slice(42, 48))
"""In iBUG-68 order."""
FIRST_ARM = 3
"""Parts from here on are arms and hands."""
MIRROR_SIGNS = torch.tensor([-1.0, 1, -1, -1, 1, 1, -1, 1, -1, 1, 1, 1])
"""Head (yaw, pitch, roll, dx, dy, dz) and torso (yaw, pitch, roll, shoulders, breath) in a mirror."""
MARK_NOISE = 0.06
"""How far the portrait finder may be off at mouth and eyes, in eye-to-mouth distances."""
LEAST_SURE = 0.05
"""Weight that is left to cells whose labels are not believed at all."""
REREAD_EVERY = 50
"""Batches after which the folders are listed again: a set may grow while it is trained on."""


@dataclass(frozen=True, kw_only=True)
class Draw:
    """How a batch is drawn."""

    people: int = 8
    frames: int = 8
    consecutive: bool = False
    """Frames in a row (takes) instead of any frames."""
    augment: bool = True
    """Mirror, and change colours, noise and blur."""
    half: bool = False
    """Frames at half the view's resolution: all that latents need, when no painter is trained."""
    maps: int = 0
    """Side of the guidance maps; 0: none."""
    still: bool = False
    """Frames in which head and torso are where the reference has them, as far as there are any."""


Hear = Callable[[Float[Tensor, " n"], int, float], Float[Tensor, "frames layers a"]]
"""(samples, their rate, frames a second): feature rows of a voice."""


def listener(encoder: Ears) -> Hear:
    """How takes are heard when stage 2 is trained: by the encoder that it will work with."""

    def hear(samples: Tensor, sample_rate: int, fps: float) -> Tensor:
        voice = SampledVoice(samples)
        speech = Speech(voice=voice, sample_rate=sample_rate, num_samples=len(samples))
        return encoder.encode(speech, fps).values.clone()

    return hear


def load_listener(path: Path) -> Hear | None:
    """A listener with the speech encoder of a weights file; None and a warning where there is none."""
    if not path.is_file():
        log.warning("%s is missing: the video network is trained without voices", path)
        return None
    tensors, config, _ = weights.load(path, part="speech_motion")
    encoder = SpeechEncoder(config.speech).eval()
    inside = {
        name.removeprefix("speech."): t for name, t in tensors.items() if name.startswith("speech.")
    }
    weights.fill(encoder, inside, path)
    return listener(encoder)


class PeopleBatches:
    """Batches by number: number n depends only on the seed, n and the files that are there.

    With `hear`, takes bring the features of their voices.
    """

    def __init__(
        self,
        folders: Sequence[Path],
        draw: Draw,
        *,
        seed: int = 0,
        hear: Hear | None = None,
        real_share: float | None = None,
    ) -> None:
        """`real_share`: of the people, from real film; None: as many as there are files of it."""
        self.folders, self.draw, self.seed, self.hear = list(folders), draw, seed, hear
        self.real_share = real_share
        self.files = list_shards(folders)

    def at(self, number: int) -> Examples:
        """Batch `number`."""
        if number % REREAD_EVERY == 0:
            self.files = list_shards(self.folders)
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + number)
        return read_batch(self.files, self.draw, generator, self.hear, self.real_share)


def holds_takes(folder: Path) -> bool:
    """Whether a folder's shards are takes: frames in a row, with a voice."""
    with safe_open(list_shards([folder])[0], framework="pt") as shard:
        return "takes" in (shard.metadata() or {}).get("kind", "")


def list_shards(folders: Sequence[Path]) -> list[Path]:
    """All shards in the folders, in the order of their names."""
    files = sorted(p for folder in folders for p in Path(folder).glob("*.safetensors"))
    if not files:
        raise UserError(
            f"no shards (*.safetensors) in {', '.join(map(str, folders))}; make some with emo2 studio"
        )
    return files


def read_batch(
    files: Sequence[Path],
    draw: Draw,
    generator: torch.Generator,
    hear: Hear | None = None,
    real_share: float | None = None,
) -> Examples:
    """One batch of people drawn from the shards; `real_share` of them from real film, where both kinds are there."""
    real, made = ([f for f in files if is_real(f) is wanted] for wanted in (True, False))
    people = []
    for _ in range(draw.people):
        among = files
        if real_share is not None and real and made:
            among = real if float(torch.rand(1, generator=generator)) < real_share else made
        path = among[int(torch.randint(len(among), (1,), generator=generator))]
        people.append(read_person(path, draw, generator, hear))
    return join(people)


def join(people: Sequence[Examples]) -> Examples:
    """People read one by one as one batch."""
    names = [n for n, v in vars(people[0]).items() if isinstance(v, Tensor)]
    joined = {name: torch.cat([getattr(person, name) for person in people]) for name in names}
    return replace(people[0], **joined)


def read_person(
    path: Path,
    draw: Draw,
    generator: torch.Generator,
    hear: Hear | None = None,
    who: int | None = None,
) -> Examples:
    """One person of a shard (number `who`, or any) with some of its frames."""
    with safe_open(path, framework="pt") as shard:
        facts, labels = shard.metadata() or {}, set(shard.keys())
        people, frames = shard.get_slice("frames").get_shape()[:2]
        if who is None:
            who = int(torch.randint(people, (1,), generator=generator))

        def of(name: str) -> Tensor:
            return shard.get_slice(name)[who]

        among = _still_frames(of) if draw.still else torch.arange(frames)
        chosen = among[_choose(len(among), draw, generator)]
        is_body = "body" in facts.get("view", "")
        mirrored = draw.augment and bool(torch.rand(1, generator=generator) < 0.5)

        rows = {
            name: of(name)[chosen].float()
            for name in ("flow", "visibility", "actions", "head", "body")
        }
        pose = torch.cat(
            [rows["head"] - of("reference_head"), rows["body"] - of("reference_body")], dim=-1
        )
        weight = _weight_of(of, chosen, rows, is_body=is_body, measured="sure" in labels)
        maps, confidence = None, None
        if draw.maps:
            tracked = "hand_confidence" in labels
            drawn = maps_of(of, chosen, draw.maps, generator, mirrored=mirrored, tracked=tracked)
            maps, confidence = (z[None] for z in drawn)
        example = Examples(
            reference=_image(of("reference"))[None],
            frames=frames_of(of("frames")[chosen], draw)[None],
            flow=rows["flow"][None],
            visibility=rows["visibility"][None, :, None] / 255.0,
            conditions=torch.cat([rows["actions"], pose], dim=-1)[None],
            importance=weight[None],
            person=person_share(of("parts")[0], weight.shape[-1])[None],
            marks=marks_of(of("face_points")[0].float())[None],
            reference_actions=of("reference_actions")[None],
            view=torch.tensor([BODY_VIEW if is_body else FACE_VIEW]),
            known=of("known").bool()[None] if "known" in labels else torch.ones(1, 3).bool(),
            consecutive=draw.consecutive,
            audio=None if hear is None else _hear_take(hear, of("samples"), facts, chosen)[None],
        )
    if mirrored:
        example = mirror(example)
    if draw.augment:
        example = augment(example, generator)
    return replace(example, maps=maps, confidence=confidence)


def _weight_of(
    of: Callable[[str], Tensor],
    chosen: Int[Tensor, " f"],
    rows: dict[str, Tensor],
    *,
    is_body: bool,
    measured: bool,
) -> Float[Tensor, "f 1 g g"]:
    """Weight of each cell in the losses; labels that were measured, not known, count as far as they are believed."""
    points = of("face_points")[1:][chosen].float()
    weight = importance(points, rows["flow"].shape[-1])
    if is_body:
        parts = of("parts")[torch.cat([torch.zeros(1).long(), chosen + 1])]
        weight = weight * arms_weight(parts, rows)
    if measured:
        weight = weight * (of("sure")[chosen][:, None] / 255.0).clamp_min(LEAST_SURE)
    return weight


def _hear_take(
    hear: Hear, samples: Tensor, facts: dict[str, str], chosen: Tensor
) -> Float[Tensor, "f layers a"]:
    """Feature rows of the chosen frames; the take's samples begin `start_s` before its first frame."""
    fps = float(facts["fps"])
    rows = hear(samples, int(facts["sample_rate"]), fps)
    return rows[(chosen + round(float(facts["start_s"]) * fps)).clamp(max=len(rows) - 1)]


def _still_frames(of: Callable[[str], Tensor]) -> Int[Tensor, " f"]:
    """Frames without any move of head and torso; all of them where there is none."""
    moved = torch.cat(
        [of("head") - of("reference_head"), of("body") - of("reference_body")], dim=-1
    )
    still = is_still(moved).nonzero()[:, 0]
    return still if len(still) else torch.arange(len(moved))


def _choose(frames: int, draw: Draw, generator: torch.Generator) -> Int[Tensor, " f"]:
    """Indices of the frames to read; some twice where a shard has fewer than are drawn."""
    if draw.consecutive:
        if frames < draw.frames:
            raise UserError(
                f"a take has {frames} frames, {draw.frames} in a row are needed; film longer ones"
            )
        first = int(torch.randint(frames - draw.frames + 1, (1,), generator=generator))
        return torch.arange(first, first + draw.frames)
    rounds = -(-draw.frames // frames)
    order = [torch.randperm(frames, generator=generator) for _ in range(rounds)]
    return torch.cat(order)[: draw.frames].sort().values


def importance(points: Float[Tensor, "f 68 2"], grid: int) -> Float[Tensor, "f 1 g g"]:
    """1, and up to `IMPORTANCE` in soft ellipses over mouth and eyes; points in view units."""
    centres = (torch.arange(grid) + 0.5) / grid
    weight = torch.zeros(points.shape[0], grid, grid)
    for part, margin in ((MOUTH, 0.75), *((eye, 0.9) for eye in EYES)):
        low, high = points[:, part].amin(1), points[:, part].amax(1)
        middle, radius = (low + high) / 2, (high - low) * margin
        radius = torch.maximum(radius, 0.55 * radius.amax(1, keepdim=True)).clamp_min(1.0 / grid)
        x = (centres[None] - middle[:, :1]) / radius[:, :1]
        y = (centres[None] - middle[:, 1:]) / radius[:, 1:]
        weight = torch.maximum(weight, torch.exp(-(x[:, None, :] ** 4 + y[:, :, None] ** 4)))
    return 1.0 + (IMPORTANCE - 1.0) * weight[:, None]


def near_arms(parts: UInt8[Tensor, "g y x"], grid: int) -> Float[Tensor, "f 1 s s"]:
    """1 where a frame, or the reference with which `parts` begins, has arms, and one cell around them."""
    is_arm = (parts[:, None] >= FIRST_ARM) & (parts[:, None] < IGNORED)
    arms = F.max_pool2d(is_arm.float(), parts.shape[-1] // grid)
    return F.max_pool2d(torch.maximum(arms[1:], arms[:1]), 3, 1, 1)


def arms_weight(parts: UInt8[Tensor, "g y x"], rows: dict[str, Tensor]) -> Float[Tensor, "f 1 s s"]:
    """Next to nothing for arms and what they hide: layers move those, the body's field should let them ride along.

    `parts` begins with the reference's.
    """
    near = near_arms(parts, rows["flow"].shape[-1])
    seen = (rows["visibility"][:, None] > 127).float()
    return 1.0 - near * (1.0 - 0.1 * seen)


def person_share(parts: UInt8[Tensor, "y x"], grid: int) -> Float[Tensor, "1 g g"]:
    """How much of each cell is the person's; NaN where a part of it is unknown."""
    known = torch.where(parts == IGNORED, torch.nan, (parts > 0).float())
    return F.avg_pool2d(known[None], parts.shape[-1] // grid)


def augment(example: Examples, generator: torch.Generator) -> Examples:
    """New colours for the whole example; the reference sometimes noisy or blurred."""
    level = torch.rand(8, generator=generator)
    unit = (example.marks[:, :1] - example.marks[:, 1:].mean(1, keepdim=True)).norm(
        dim=-1, keepdim=True
    )
    marks = example.marks + MARK_NOISE * unit * torch.randn(1, 3, 2, generator=generator)
    gain = 1.0 + 0.3 * (torch.rand(3, generator=generator) - 0.5) + 0.4 * (level[0] - 0.5)
    gamma = 2.0 ** (1.2 * (level[1] - 0.5))
    grey = bool(level[2] < 0.08)
    reference, frames = (
        _recolour(z, gain, float(gamma), grey) for z in (example.reference, example.frames)
    )
    if level[3] < 0.25:
        reference = reference + 0.06 * level[4] * torch.randn(reference.shape, generator=generator)
    if level[5] < 0.2:
        side = reference.shape[-1]
        small = int(side * (0.35 + 0.5 * float(level[6])))
        reference = F.interpolate(reference, size=(small, small), mode="area")
        reference = F.interpolate(
            reference, size=(side, side), mode="bilinear", align_corners=False
        )
    return replace(example, marks=marks, reference=reference.clamp(-1, 1), frames=frames)


def mirror(example: Examples) -> Examples:
    """The example in a mirror: pictures, flow, conditions."""
    conditions = example.conditions
    pose = conditions[..., 52:] * MIRROR_SIGNS
    pose = torch.cat([pose[..., :9], pose[..., [10, 9, 11]]], dim=-1)
    flow = example.flow.flip(-1) * torch.tensor([-1.0, 1.0])[:, None, None]
    return replace(
        example,
        reference=example.reference.flip(-1),
        frames=example.frames.flip(-1),
        flow=flow,
        visibility=example.visibility.flip(-1),
        importance=example.importance.flip(-1),
        person=None if example.person is None else example.person.flip(-1),
        marks=torch.stack([1.0 - example.marks[..., 0], example.marks[..., 1]], -1)[:, [0, 2, 1]],
        conditions=torch.cat([conditions[..., MIRROR_ACTIONS], pose], dim=-1),
        reference_actions=example.reference_actions[..., MIRROR_ACTIONS],
    )


def _recolour(image: Tensor, gain: Tensor, gamma: float, grey: bool) -> Tensor:
    """A picture in -1..1 in another light; a batch has millions of pixels, so this works in place on a copy."""
    light = image.add(1.0).mul_(0.5)
    if grey:
        light = light.mean(-3, keepdim=True).expand_as(light).contiguous()
    light.clamp_min_(1e-4).pow_(gamma).mul_(gain.view(3, 1, 1))
    return light.clamp_(0.0, 1.0).mul_(2.0).sub_(1.0)


def frames_of(values: UInt8[Tensor, "f 3 h w"], draw: Draw) -> Float[Tensor, "f 3 y x"]:
    """Frames as the batch wants them."""
    images = _image(values)
    return F.avg_pool2d(images, 2) if draw.half else images


def _image(values: Tensor) -> Tensor:
    return values.float() / 127.5 - 1.0
