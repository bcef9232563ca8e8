"""The relative codec, the motion basis and the painter."""

from __future__ import annotations

import torch
from torch import Tensor

from emo2.config import COMPACT
from emo2.video.codec import FLOW_SCALE, VISIBILITY_RANGE, Field, RelativeCodec, assemble, warp
from emo2.video.examples import (
    BODY,
    FACE_ACTIONS,
    GROUPS,
    HEAD,
    UNITS,
    draw_known,
    known_of,
)
from emo2.video.face_table import face_reach
from emo2.video.painter import Painter, cut, draw_corners, prepare
from emo2.video.prior import (
    Expectation,
    MotionBasis,
    basis_channels,
    settle,
    stand_before,
    start_basis,
)
from emo2.video.prior_loss import matte_loss, prior_loss

VIDEO = COMPACT.video
CODEC = RelativeCodec(VIDEO.codec)
GRID = VIDEO.codec.grid
MARKS = torch.tensor([[0.5, 0.7], [0.4, 0.4], [0.6, 0.4]]).expand(2, 3, 2)


def picture(side: int = 256) -> Tensor:
    """A smooth picture, the same at any size."""
    place = (torch.arange(side) + 0.5) / side
    x, y = torch.meshgrid(place, place, indexing="xy")
    return torch.stack([torch.sin(9 * x + 4 * y), torch.cos(7 * y), torch.sin(5 * x * y * 3)]) * 0.8


def field_of(shift: tuple[float, float], seen: float = 1.0, frames: int = 1) -> Field:
    flow = torch.tensor(shift).view(1, 1, 2, 1, 1).expand(1, frames, 2, GRID, GRID)
    return Field(
        flow=flow.clone(),
        visibility=torch.full((1, frames, 1, GRID, GRID), seen),
        colour=torch.zeros(1, frames, 3, GRID, GRID),
    )


def test_no_flow_and_everything_seen_is_the_photo_itself() -> None:
    photo = picture()[None]
    torch.testing.assert_close(
        assemble(field_of((0.0, 0.0)), photo)[:, 0], photo, atol=1e-5, rtol=0
    )


def test_flow_points_from_the_frame_to_the_photo_in_sides_of_the_view() -> None:
    photo = picture()[None]
    moved = warp(photo, field_of((8 / 256, -16 / 256)).flow[:, 0])
    torch.testing.assert_close(
        moved[..., 20:-20, 20:-20], photo[..., 4:-36, 28:-12], atol=1e-4, rtol=0
    )


def test_encode_then_decode_gives_the_frames_back_where_things_moved_and_where_they_are_new() -> (
    None
):
    photo = picture()[None]
    field = field_of((5 / 256, 3 / 256), frames=2)
    frames = assemble(field, photo)
    frames[:, 1, :, 100:140, 80:160] = 0.5
    seen = field.visibility.clone()
    seen[:, 1, :, 25:35, 20:40] = 0.0
    latents = CODEC.encode(frames, photo, field.flow, seen)
    assert latents.shape == (1, 2, 24, 32, 32)
    again = CODEC.decode(latents, photo)
    error = (again - frames).abs()
    assert error.mean() < 0.03
    assert (again[:, 1, :, 110:130, 90:150] - 0.5).abs().max() < 0.1


def test_a_latents_field_is_the_field_it_was_made_from() -> None:
    generator = torch.Generator().manual_seed(0)
    flow = torch.randn(1, 2, 2, GRID, GRID, generator=generator) * 0.05
    seen = torch.rand(1, 2, 1, GRID, GRID, generator=generator)
    field = CODEC.field(CODEC.encode(torch.zeros(1, 2, 3, 256, 256), picture()[None], flow, seen))
    torch.testing.assert_close(field.flow, flow, atol=1e-5, rtol=1e-4)
    wanted = seen.clamp(VISIBILITY_RANGE, 1 - VISIBILITY_RANGE)
    torch.testing.assert_close(field.visibility, wanted, atol=1e-4, rtol=0)


def test_packing_loses_nothing() -> None:
    cells = torch.randn(2, 6, GRID, GRID)
    assert CODEC.pack(cells).shape == (2, CODEC.channels, CODEC.side, CODEC.side)
    assert torch.equal(CODEC.unpack(CODEC.pack(cells)), cells)


def output_of(seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(2, basis_channels(VIDEO, 24), 32, 32, generator=generator) * 0.05


@torch.no_grad()
def test_a_turning_head_takes_what_the_face_does_along() -> None:
    basis = MotionBasis(VIDEO)
    for parameter in basis.functions.parameters():
        parameter.zero_()
    cells = torch.zeros(1 + VIDEO.conditions + VIDEO.basis, 6, GRID, GRID)
    cells[1 + HEAD.start, 0] = (
        8 / GRID / FLOW_SCALE
    )  # yaw: everything comes from 8 cells to the right
    cells[1, 2, 30:34, 40:44] = -1.0  # the first action hides a patch
    scales, matte = torch.zeros(7 * 24, 32, 32), torch.full((4, 32, 32), 20.0)
    output = torch.cat([CODEC.pack(cells).flatten(0, 1), scales, matte])[None]
    conditions = torch.zeros(1, 2, 64)
    conditions[:, :, 0] = UNITS[0]
    conditions[:, 1, HEAD.start] = UNITS[HEAD.start]
    hidden = CODEC.unpack(basis(output, MARKS[:1], conditions).mean[0])[:, 2]
    torch.testing.assert_close(
        hidden[1, :, :-10], hidden[0].roll(-8, -1)[:, :-10], atol=1e-4, rtol=0
    )
    assert hidden[0].min() == -1.0


def test_a_face_that_acts_moves_neither_hair_nor_wall_and_a_neutral_one_nothing() -> None:
    torch.manual_seed(0)
    basis, output = MotionBasis(VIDEO), output_of()
    output[:, -4:] = 20.0  # all of it is the person's
    conditions = torch.zeros(2, 3, 64)
    conditions[:, 1:, :FACE_ACTIONS] = torch.rand(2, 2, FACE_ACTIONS)
    with torch.no_grad():
        flow = CODEC.field(basis(output, MARKS, conditions).mean).flow * GRID
    face = face_reach(MARKS, GRID)
    assert flow[:, 0].abs().max() == 0
    assert 0.05 < (face == 0).float().mean() < 0.9
    assert (flow[:, 1:] * (face == 0)[:, None]).abs().max() < 1e-4
    assert (flow[:, 1:] * (face == 1)[:, None]).abs().amax((1, 2, 3, 4)).min() > 0.1


def test_how_far_a_part_goes_belongs_to_the_part_and_not_to_its_place() -> None:
    xs = (torch.arange(GRID) + 0.5) / GRID
    depth = torch.exp(-(((xs - 0.5) / 0.15) ** 2))  # a nose in the middle of the photo
    own = torch.zeros(1, 2, GRID, GRID)
    own[:, 0] = -0.06 * depth / FLOW_SCALE  # it goes to the right: backward flow points left
    found = settle(own)[0, 0, GRID // 2] * FLOW_SCALE
    comes_from = xs + found
    wanted = -0.06 * torch.exp(-(((comes_from - 0.5) / 0.15) ** 2))
    at_first = -0.06 * depth
    assert (found - wanted).abs().max() < 0.006
    first_error = (at_first + 0.06 * torch.exp(-(((xs + at_first - 0.5) / 0.15) ** 2))).abs().max()
    assert (found - wanted).abs().max() < 0.4 * first_error
    assert xs[found.argmin()] > xs[at_first.argmin()] + 0.04  # where the nose has gone


def test_only_the_person_moves_and_hides_what_it_stood_before() -> None:
    matte = torch.full((1, 1, GRID, GRID), -12.0)
    matte[..., 20:40] = 12.0
    cells = torch.zeros(1, 6, GRID, GRID)
    cells[:, 0] = -4 / GRID / FLOW_SCALE  # all four cells to the right
    found = stand_before(cells, matte)[0, :, 30]
    flow = found[0] * FLOW_SCALE * GRID
    assert flow[:22].abs().max() < 1e-3
    assert (flow[26:42] + 4).abs().max() < 1e-3
    assert flow[46:].abs().max() < 1e-3
    assert found[2, 20:23].max() < -2.5  # the wall that the person has left
    assert found[2, 26:].abs().max() < 1e-3
    assert found[2, :19].abs().max() < 1e-3
    still = stand_before(torch.zeros(1, 6, GRID, GRID), matte)
    assert still.abs().max() == 0


def test_the_matte_is_not_judged_where_nobody_knows() -> None:
    logits = torch.zeros(1, 1, 2, 2)
    person = torch.tensor([[[[1.0, torch.nan], [torch.nan, torch.nan]]]])
    torch.testing.assert_close(matte_loss(logits, person), torch.tensor(2.0).log())
    assert matte_loss(logits, torch.full_like(person, torch.nan)) == 0


@torch.no_grad()
def test_what_is_withheld_does_not_reach_the_expectation() -> None:
    basis = MotionBasis(VIDEO)
    conditions = torch.randn(2, 3, 64, generator=torch.Generator().manual_seed(1))
    changed = conditions.clone()
    changed[..., HEAD] += 1.0
    known = torch.tensor([[True, False, True]]).expand(2, 3)
    output = output_of()
    assert torch.equal(
        basis(output, MARKS, conditions, known).mean, basis(output, MARKS, changed, known).mean
    )
    assert not torch.equal(
        basis(output, MARKS, conditions).mean, basis(output, MARKS, changed).mean
    )


def test_half_of_the_examples_know_everything_and_groups_are_withheld_one_by_one() -> None:
    known = draw_known(4000, torch.Generator().manual_seed(0), withheld=0.5)
    assert abs(known.all(1).float().mean() - (0.5 + 0.5 / 8)) < 0.03
    assert abs(known.float().mean() - 0.75) < 0.03
    given = known_of(torch.ones(4000, 1, 64), known)
    for group, part in enumerate(GROUPS):
        assert torch.equal(given[:, 0, part].ne(0).all(-1), known[:, group])
    assert BODY.stop == 64


def test_a_new_network_expects_the_photo_to_stay_as_it_is() -> None:
    layer = torch.nn.Conv2d(8, basis_channels(VIDEO, 24), 1)
    start_basis(layer, CODEC)
    output = layer(torch.zeros(1, 8, 32, 32))
    field = CODEC.field(MotionBasis(VIDEO)(output, MARKS[:1], torch.randn(1, 1, 64)).mean.detach())
    assert field.flow.abs().max() < 1e-6
    assert field.visibility.min() > 0.97
    assert field.colour.abs().max() < 1e-6


def test_a_missed_hidden_cell_costs_more_than_a_missed_seen_one() -> None:
    importance = torch.ones(1, 1, 1, GRID, GRID)
    cells = torch.zeros(1, 6, GRID, GRID)

    def loss_of(expected_logit: float, true_logit: float) -> float:
        mean, target = cells.clone(), cells.clone()
        mean[:, 2], target[:, 2] = expected_logit, true_logit
        latents = (CODEC.pack(z)[:, None] for z in (mean, target))
        expected = Expectation(mean=next(latents), scale=torch.ones(1, 1, 24, 32, 32))
        return float(prior_loss(expected, next(latents), importance, CODEC)["visibility"])

    assert loss_of(1.9, -1.9) > 3 * loss_of(-1.9, 1.9) > 0
    assert abs(loss_of(-1.9, -1.9)) < 1e-5


@torch.no_grad()
def test_an_untrained_painter_leaves_what_is_seen_and_fills_what_is_hidden_with_the_latents_colour() -> (
    None
):
    painter = Painter(VIDEO).eval()
    photo = picture()[None]
    hints = torch.zeros(1, VIDEO.denoiser.condition_width)
    seen = painter(prepare(field_of((0.0, 0.0)), photo), hints)
    assert (seen.frames - photo).abs().max() < 0.05
    field = field_of((0.0, 0.0), seen=0.0)
    field = Field(flow=field.flow, visibility=field.visibility, colour=field.colour + 0.3)
    hidden = painter(prepare(field, photo), hints)
    assert (hidden.frames - 0.3).abs().mean() < 0.15


@torch.no_grad()
def test_the_painter_sees_the_same_in_a_square_as_in_the_whole_view() -> None:
    torch.manual_seed(0)
    painter = Painter(VIDEO).eval()
    torch.nn.init.normal_(painter.conv_out.weight, std=0.05)
    canvas = prepare(field_of((0.02, 0.01), seen=0.5), picture()[None])
    hints = torch.randn(1, VIDEO.denoiser.condition_width)
    whole = painter(canvas, hints).frames
    part = painter(canvas.cut([(64, 32)], 160), hints).frames
    inner = cut(whole, [(64, 32)], 160)[..., 56:-56, 56:-56]
    torch.testing.assert_close(part[..., 56:-56, 56:-56], inner, atol=1e-5, rtol=0)


def test_the_painter_is_trained_mostly_about_mouth_and_eyes_and_always_inside_the_view() -> None:
    weights = torch.ones(600, 256, 256)
    weights[:, 180:190, 100:150] = 6.0
    corners = draw_corners(weights, 128, torch.Generator().manual_seed(0))
    near = [top <= 185 < top + 128 and left <= 125 < left + 128 for top, left in corners]
    assert 0.66 < sum(near) / len(near) < 0.95
    assert all(0 <= top <= 128 and 0 <= left <= 128 for top, left in corners)
