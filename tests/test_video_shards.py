"""Shards to batches: what is read, how it is augmented, which takes and voices belong together."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from emo2.config import COMPACT
from emo2.data.guidance_labels import LEAST_SURE, maps_of
from emo2.data.mixing import KINDS, Mix, MixedBatches, StillsAndTakes, mix_for
from emo2.data.shards import (
    MIRROR_ACTIONS,
    Draw,
    PeopleBatches,
    arms_weight,
    importance,
    mirror,
)
from emo2.errors import UserError
from emo2.signals import FACE_ACTIONS
from emo2.video.examples import HEAD


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def guidance_labels(people: int, frames: int) -> dict[str, Tensor]:
    """Hands before the body's middle, the left one to the image's right of the other; all in sight."""
    hands = torch.zeros(people, frames + 1, 2, 67)
    hands[..., 0:64:4] = 1.0
    hands[..., 0, 64:] = torch.tensor((0.3, -0.1, 0.2))
    hands[..., 1, 64:] = torch.tensor((-0.1, -0.1, 0.2))
    body = torch.tensor(
        [(0.5, 0.1), (0.5, 0.4), (0.7, 0.5), (0.3, 0.5), (0.8, 0.7), (0.2, 0.7), (0.7, 0.9), (0.3, 0.9)]
    )  # fmt: skip
    body = torch.cat((body, torch.ones(8, 1)), dim=-1)
    return {
        "hands": hands,
        "hand_points": torch.ones(people, frames + 1, 2, 21, 3),
        "body_points": body.expand(people, frames + 1, 8, 3).clone(),
        "face_box": torch.tensor((0.4, 0.1, 0.6, 0.4)).expand(people, frames + 1, 4).clone(),
    }


def make_shard(
    path: Path,
    *,
    people: int = 2,
    frames: int = 6,
    kind: str = "stills",
    view: str = "face",
    still: bool = False,
) -> None:
    """`still`: no head moves."""
    path.parent.mkdir(exist_ok=True)

    def bytes_of(*shape: int) -> Tensor:
        return (torch.rand(*shape, generator=torch.Generator().manual_seed(7)) * 255).to(
            torch.uint8
        )

    points = torch.rand(people, frames + 1, 68, 2, generator=torch.Generator().manual_seed(8))
    tensors = {
        "reference": bytes_of(people, 3, 64, 64),
        "frames": bytes_of(people, frames, 3, 64, 64),
        "flow": (noise(people, frames, 2, 32, 32) * 0.02).half(),
        "visibility": bytes_of(people, frames, 32, 32),
        "actions": noise(people, frames, 52).abs(),
        "reference_actions": noise(people, 52, seed=9).abs(),
        "head": torch.ones(people, frames, 6) if still else noise(people, frames, 6),
        "reference_head": torch.ones(people, 6),
        "body": noise(people, frames, 6) * (not still),
        "reference_body": torch.zeros(people, 6),
        "face_points": points,
        "parts": torch.zeros(people, frames + 1, 64, 64, dtype=torch.uint8),
        "samples": torch.zeros(people, 32_000),
        **guidance_labels(people, frames),
    }
    facts = {"view": view, "sample_rate": "16000", "fps": "25.0", "start_s": "1.0", "kind": kind}
    save_file(tensors, path, metadata=facts)


def test_a_batch_depends_on_its_number_alone_and_conditions_are_relative_to_the_reference(
    tmp_path: Path,
) -> None:
    make_shard(tmp_path / "a.safetensors")
    draw = Draw(people=3, frames=4, augment=False)
    batches = PeopleBatches([tmp_path], draw, seed=5)
    first, again = batches.at(1), PeopleBatches([tmp_path], draw, seed=5).at(1)
    assert torch.equal(first.frames, again.frames)
    assert not torch.equal(first.conditions, batches.at(2).conditions)
    assert first.frames.shape == (3, 4, 3, 64, 64)
    heads = noise(2, 6, 6) - 1.0
    found = (heads.view(-1, 1, 6) - first.conditions[0, 0, HEAD]).abs().sum(-1).min()
    assert found < 1e-6


def test_a_shard_with_few_frames_fills_the_batch_and_a_short_take_is_refused(
    tmp_path: Path,
) -> None:
    make_shard(tmp_path / "a.safetensors")
    draw = Draw(people=1, frames=9, augment=False)
    assert PeopleBatches([tmp_path], draw).at(0).frames.shape[1] == 9
    with pytest.raises(UserError, match="in a row"):
        PeopleBatches([tmp_path], dataclasses.replace(draw, consecutive=True)).at(0)


def test_a_take_brings_the_voice_of_its_own_frames(tmp_path: Path) -> None:
    make_shard(tmp_path / "a.safetensors")

    def hear(samples: Tensor, sample_rate: int, fps: float) -> Tensor:
        count = int(len(samples) / sample_rate * fps)
        return torch.arange(float(count)).view(-1, 1, 1)

    draw = Draw(people=2, frames=3, consecutive=True, augment=False)
    batch = PeopleBatches([tmp_path], draw, hear=hear).at(0)
    assert batch.audio is not None
    rows = batch.audio[:, :, 0, 0]
    assert bool((rows.diff(dim=1) == 1).all())
    assert bool((rows[:, 0] >= 25).all())
    assert bool((rows[:, -1] <= 25 + 5).all())


def test_takes_take_turns_with_single_pictures(tmp_path: Path) -> None:
    make_shard(tmp_path / "stills" / "a.safetensors")
    make_shard(tmp_path / "takes" / "a.safetensors", frames=14, kind="takes")
    folders = [tmp_path / "stills", tmp_path / "takes"]
    config = dataclasses.replace(COMPACT, name=str(tmp_path))
    both = StillsAndTakes(folders, config, people=2)
    assert [both.at(n).consecutive for n in range(4)] == [False, True, False, True]
    assert both.at(1).frames.shape[1] == COMPACT.video.motion_frames + COMPACT.video.clip_frames
    assert not StillsAndTakes(folders[:1], config, people=2).at(1).consecutive


def test_kinds_come_by_their_shares_and_leave_them_to_the_others_where_they_are_not(
    tmp_path: Path,
) -> None:
    make_shard(tmp_path / "faces.safetensors", still=True)
    make_shard(tmp_path / "bodies.safetensors", view="body")
    make_shard(tmp_path / "takes.safetensors", kind="takes", frames=9)
    mix = Mix(draw=Draw(people=1, frames=2, augment=False), faces=0.5, bodies=0.2, takes=0.3)
    batches = MixedBatches([tmp_path], mix, seed=3)
    assert {kind: len(batches.shards[kind]) for kind in KINDS} == dict.fromkeys(KINDS, 1)
    assert torch.equal(batches.at(7).frames, MixedBatches([tmp_path], mix, seed=3).at(7).frames)
    views = torch.tensor([float(batches.at(n).view) for n in range(60)])
    assert 0.05 < float(views.mean()) < 0.4
    (tmp_path / "bodies.safetensors").unlink()
    rest = MixedBatches([tmp_path], mix)
    assert not any(float(rest.at(n).view) for n in range(9))
    (tmp_path / "takes.safetensors").unlink()
    with pytest.raises(UserError, match=r"needs takes; .* holds none: make some"):
        MixedBatches([tmp_path], dataclasses.replace(mix, faces=0.0, bodies=0.0))


def test_details_are_fed_faces_at_rest_and_more_that_show_their_teeth(tmp_path: Path) -> None:
    make_shard(tmp_path / "moved.safetensors")
    with pytest.raises(UserError, match="needs faces"):
        MixedBatches([tmp_path], mix_for("details", COMPACT.video))
    make_shard(tmp_path / "still.safetensors", people=9, still=True)
    tensors = load_file(tmp_path / "still.safetensors")
    tensors["reference_actions"][:] = 0.0
    tensors["reference_actions"][4, FACE_ACTIONS.index("mouthUpperUpLeft")] = 0.4
    save_file(tensors, tmp_path / "still.safetensors", metadata={"view": "face", "kind": "poses"})
    mix = mix_for("details", COMPACT.video, people=40)
    mix = dataclasses.replace(mix, draw=dataclasses.replace(mix.draw, augment=False))
    batch = MixedBatches([tmp_path], mix).at(0)
    assert not batch.conditions[..., HEAD].any()
    shown = (batch.reference_actions.amax(-1) > 0).float().mean()
    assert 0.25 < float(shown) < 0.6  # 0.42 wanted; 1 of 9 has them


def test_takes_bring_guidance_maps_of_their_frames(tmp_path: Path) -> None:
    make_shard(tmp_path / "a.safetensors", frames=8)
    draw = Draw(people=6, frames=5, consecutive=True, maps=64)
    batch = PeopleBatches([tmp_path], draw, seed=1).at(0)
    again = PeopleBatches([tmp_path], draw, seed=1).at(0)
    assert batch.maps is not None
    assert batch.confidence is not None
    assert torch.equal(batch.maps, again.maps)
    assert batch.maps.shape == (6, 5, 7, 64, 64)
    assert batch.confidence.shape == (6, 5, 2)
    assert float(batch.confidence.min()) >= LEAST_SURE
    assert 0 < float((batch.confidence == 1).float().mean()) < 1  # some are surer than others
    drawn = (batch.maps[:, :, :3] < 1).any(2)
    assert float(drawn.flatten(2).any(-1).float().mean()) > 0.5
    assert float(batch.maps[:, :, 6].amax()) == 1.0


def test_a_mirrored_person_has_mirrored_maps(tmp_path: Path) -> None:
    labels = {name: tensor[0] for name, tensor in guidance_labels(1, 4).items()}
    labels |= {"face_points": noise(5, 68, 2) * 0.05 + 0.3}
    for name in ("head", "body"):
        labels |= {name: noise(4, 6) * 0.1, f"reference_{name}": torch.zeros(6)}
    chosen, sure = torch.arange(3), torch.Generator()
    plain, turned = (
        maps_of(labels.__getitem__, chosen, 64, sure.manual_seed(1), mirrored=mirrored)[0]
        for mirrored in (False, True)
    )
    shape, image = ((m[:, :3] < 1).any(1).float() for m in (plain, turned.flip(-1)))
    assert float((shape * image).sum() / shape.sum()) > 0.9
    assert float((shape * image.flip(-1)).sum() / shape.sum()) < 0.6  # the hands do not stand alike
    torch.testing.assert_close(plain[:, 6], turned[:, 6].flip(-1), atol=1e-3, rtol=0)


def test_an_empty_folder_is_said(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no shards"):
        PeopleBatches([tmp_path], Draw())


def test_mirroring_twice_changes_nothing_and_once_swaps_the_sides(tmp_path: Path) -> None:
    make_shard(tmp_path / "a.safetensors")
    batch = PeopleBatches([tmp_path], Draw(people=2, frames=3, augment=False)).at(0)
    twice = mirror(mirror(batch))
    for field in dataclasses.fields(batch):
        value = getattr(batch, field.name)
        if isinstance(value, Tensor):
            torch.testing.assert_close(getattr(twice, field.name), value)
    left, right = (FACE_ACTIONS.index(f"jaw{side}") for side in ("Left", "Right"))
    assert MIRROR_ACTIONS[left] == right
    turned = mirror(batch)
    assert torch.equal(turned.conditions[..., left], batch.conditions[..., right])
    assert torch.equal(turned.conditions[..., HEAD.start], -batch.conditions[..., HEAD.start])
    assert torch.equal(turned.flow[..., 0, :, :], -batch.flow[..., 0, :, :].flip(-1))


def test_mouth_and_eyes_weigh_more_than_the_rest() -> None:
    points = torch.full((1, 68, 2), 0.5)
    points[:, 48:68] = torch.tensor([0.5, 0.8]) + noise(20, 2) * 0.03
    points[:, 36:42] = torch.tensor([0.3, 0.3]) + noise(6, 2) * 0.02
    points[:, 42:48] = torch.tensor([0.7, 0.3]) + noise(6, 2) * 0.02
    weight = importance(points, 32)[0, 0]
    assert weight[25, 16] > 3
    assert weight[9, 9] > 3
    assert weight[9, 22] > 3
    assert weight[31, 0] < 1.01


def test_moving_arms_count_next_to_nothing_in_the_bodys_field() -> None:
    parts = torch.zeros(2, 64, 64, dtype=torch.uint8)
    parts[0, 40:50, 10:20] = 5
    parts[1, 40:50, 40:50] = 5
    seen = torch.full((1, 32, 32), 255.0)
    seen[:, 20:25, 5:10] = 0.0
    weight = arms_weight(parts, {"flow": torch.zeros(1, 2, 32, 32), "visibility": seen})[0, 0]
    assert weight[22, 7] == 0.0
    assert abs(weight[22, 22] - 0.1) < 1e-6
    assert weight[5, 5] == 1.0
