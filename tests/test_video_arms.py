"""How the surface of arms moves: learned from exact flow, exact at rest, alike on both sides."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from test_video_layers import make_portrait, pose
from test_video_shards import make_shard
from torch import Tensor

from emo2.data.arm_places import ArmPlaces
from emo2.errors import UserError
from emo2.video.arm_surface import ArmExamples, ArmSurface, arm_row, elbow_shift, fetched
from emo2.video.layer_chart import chart
from emo2.video.layer_masks import Limb, find_limb
from emo2.video.layers import Layers


def taught() -> ArmSurface:
    """Any weights but those that say nothing."""
    torch.manual_seed(0)
    surface = ArmSurface()
    for parameter in surface.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return surface.requires_grad_(requires_grad=False)


def limb(side: int) -> Limb:
    found = find_limb(make_portrait(), side)
    assert isinstance(found, Limb)
    return found


def as_left(right: Limb, flip: Callable[[np.ndarray], np.ndarray]) -> Limb:
    """A right arm in a mirror."""
    return replace(
        right, side=0, shoulder=flip(right.shoulder), elbow=flip(right.elbow), wrist=flip(right.wrist),
        hand=flip(right.hand),
    )  # fmt: skip


def row(**channels: float) -> np.ndarray:
    return pose(**channels)[0].numpy()


def grid(around: np.ndarray) -> np.ndarray:
    xs, ys = np.meshgrid(np.arange(-40, 41, 8.0), np.arange(-40, 41, 8.0))
    return (around + np.stack([xs, ys], -1)).astype(np.float32)


def write_arms(path: Path, *, people: int = 2) -> None:
    """A shard of half bodies whose upper arms lie in columns 8 to 23, forearms in 24 to 47, all of them seen."""
    make_shard(path, people=people, view="body")
    tensors = load_file(path)
    tensors["parts"][..., 8:24], tensors["parts"][..., 24:48] = 3, 4
    tensors["visibility"][:] = 255
    points = tensors["body_points"]
    for index, place in ((2, (0.2, 0.5)), (3, (0.9, 0.5)), (4, (0.4, 0.5))):
        points[:, :, index, :2] = torch.tensor(place)
    tensors["hand_points"][..., 0, :2] = torch.tensor((0.7, 0.5))
    tensors["hand_points"][..., 9, :2] = torch.tensor((0.75, 0.5))
    tensors["hand_points"][:, 1:, :, 0, :2] += torch.tensor(
        (0.02, -0.08)
    )  # the wrists of all frames
    save_file(tensors, path, metadata={"view": "body", "kind": "stills"})


def test_an_arm_at_rest_stays_as_the_photo_has_it_whatever_was_learned() -> None:
    surface, arm = taught(), limb(0)
    places = grid(arm.elbow)
    for part in ("arm", "upper", "forearm"):
        assert np.abs(fetched(surface, arm, row(), places, part) - places).max() < 1e-3
    assert np.abs(elbow_shift(surface, arm, row())).max() == 0
    moved = fetched(surface, arm, row(wrist_x=20), places, "arm")
    assert np.abs(moved - places).max() > 1


def test_untrained_a_forearm_goes_with_its_bone() -> None:
    arm = limb(0)
    places = (0.5 * (arm.elbow + arm.wrist))[None, None].astype(np.float32)
    shift = np.array([6.0, -9.0], np.float32)
    both = row(wrist_x=6, wrist_y=-9, elbow_x=6, elbow_y=-9)
    back = fetched(ArmSurface(), arm, both, places + shift, "forearm")
    assert np.abs(back - places).max() < 0.5


def test_a_right_arm_moves_like_a_left_one_in_a_mirror() -> None:
    surface, right = taught(), limb(1)
    flip = np.array([-1.0, 1.0], np.float32)
    left = as_left(right, lambda points: points * flip)
    asked, places = row(wrist_x=15, wrist_y=-20, turn=0.3, log_scale=0.05), grid(right.elbow)
    mirrored = row(wrist_x=-15, wrist_y=-20, turn=-0.3, log_scale=0.05)
    one = fetched(surface, right, asked, places, "arm")
    other = fetched(surface, left, mirrored, places * flip, "arm")
    assert np.allclose(one, other * flip, atol=1e-3)
    assert np.allclose(
        elbow_shift(surface, right, asked), elbow_shift(surface, left, mirrored) * flip
    )
    assert torch.allclose(arm_row(right, asked), arm_row(left, mirrored))


def test_layers_with_a_surface_rest_exactly_and_guess_the_elbow_where_nobody_tells() -> None:
    portrait = make_portrait()
    layers = Layers.build(portrait, surface=taught(), meshes=False)
    assert torch.allclose(layers.compose(portrait.image, None, pose()), portrait.image, atol=0.02)
    asked = pose(wrist_x=10, wrist_y=-15)
    told = replace(layers, elbows_told=True)
    far = pose(wrist_x=10, wrist_y=-15, elbow_x=9)
    assert torch.equal(
        layers.compose(portrait.image, None, asked), layers.compose(portrait.image, None, far)
    )
    one, other = (told.compose(portrait.image, None, p) for p in (asked, far))
    assert (one - other).abs().max() > 0.05


def test_a_shoulder_goes_along_and_its_map_says_so() -> None:
    portrait = make_portrait()
    asked = pose(wrist_x=10, wrist_y=-30, elbow_x=20, elbow_y=-20).numpy()
    layers = Layers.build(portrait, meshes=False)
    stiff, along = (chart(replace(layers, surface=s), None, asked) for s in (None, taught()))
    x, y = (int(v) for v in limb(0).shoulder)
    assert np.abs(stiff.flow[y - 4 : y, x - 2 : x + 3]).max() < 0.01
    assert np.abs(along.flow[y - 4 : y, x - 2 : x + 3]).max() > 0.2
    assert np.abs(along.flow[:90]).max() < 0.01  # the head does not


def test_batches_of_arms_depend_on_their_number_alone_and_pictures_without_arms_are_refused(
    tmp_path: Path,
) -> None:
    write_arms(tmp_path / "arms" / "body.safetensors")
    arms = [ArmPlaces([tmp_path / "arms"], places=64, seed=3) for _ in range(2)]
    one, again, other = arms[0].at(1), arms[1].at(1), arms[0].at(2)
    assert torch.equal(one.arms, again.arms)
    assert not torch.equal(one.arms, other.arms)
    exact = arms[0].all()
    assert exact.is_fore.any()
    assert not exact.is_fore.all()
    shift = (exact.places - exact.sources).abs().max()
    assert 0 < shift < 0.2  # the shard's flow, in shoulder widths
    make_shard(tmp_path / "faces" / "face.safetensors")
    with pytest.raises(UserError, match="shows no arms"):
        ArmPlaces([tmp_path / "faces"])


def test_the_surface_learns_what_a_stiff_arm_cannot_say(tmp_path: Path) -> None:
    write_arms(tmp_path / "body.safetensors")
    places = ArmPlaces([tmp_path], places=256)
    surface = ArmSurface()
    optimiser = torch.optim.AdamW(surface.parameters(), lr=1e-2)

    def loss(batch: ArmExamples) -> Tensor:
        return torch.stack(list(surface.losses(batch).values())).sum()

    first = loss(places.all()).item()
    for number in range(60):
        optimiser.zero_grad()
        loss(places.at(number)).backward()
        optimiser.step()
    assert loss(places.all()).item() < 0.7 * first
