"""Details: windows of mouth and eyes, what is painted in them, and how the head carries them."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from test_video_stage import TINY, examples, noise, portrait, script, stage
from torch import Tensor

from emo2.config import DetailConfig, from_json, to_json
from emo2.video import VideoStage
from emo2.video.codec import Field
from emo2.video.detail_layers import CarriedWindow as Carried
from emo2.video.detail_layers import MadeWindow, lay_windows
from emo2.video.detail_loss import detail_losses, given_of
from emo2.video.details import (
    DetailNet,
    Details,
    cut_window,
    place_windows,
    to_view,
    to_window,
)
from emo2.video.examples import FACE_VIEW, MIRROR_ACTIONS, Examples
from emo2.video.mouth_inside import USUAL_SKIN, mouth_inside, over, tint_of
from emo2.video.script import BODY_REACH, HEAD_REACH, within_reach
from emo2.video.views import View

SMALL = DetailConfig(mouth_side=24, eye_side=16, widths=(8, 8, 16))
MARKS = torch.tensor([[[0.5, 0.7], [0.36, 0.42], [0.64, 0.42]]])


def detailed() -> VideoStage:
    """The stage of the other tests, with details."""
    made = stage()
    torch.manual_seed(1)
    made.details = Details(SMALL).eval()
    return made


def still_examples() -> Examples:
    """Faces whose heads do not move: the mouth's corner of the frames is another colour when the jaw is open."""
    batch = examples()
    conditions = torch.zeros(2, 5, 64)
    conditions[:, :, 17] = torch.linspace(0, 1, 5)
    frames = batch.reference[:, None].expand(-1, 5, -1, -1, -1) * 0.2
    open_share = conditions[:, :, 17].view(2, 5, 1, 1, 1)
    hole = torch.zeros(64, 64)
    hole[42:50, 27:37] = 1.0
    frames = frames * (1 - hole * open_share) - 0.8 * hole * open_share
    cells = torch.nn.functional.avg_pool2d((hole * open_share).flatten(0, 1), 2)
    return dataclasses.replace(
        batch,
        reference=batch.reference * 0.2,
        frames=frames,
        flow=torch.zeros_like(batch.flow),
        visibility=1.0 - cells.view(2, 5, 1, 32, 32),
        conditions=conditions,
        view=torch.full((2,), FACE_VIEW),
        marks=MARKS.expand(2, 3, 2),
    )


def field_of(batch: Examples) -> Field:
    """An expectation that knows nothing: no flow, all seen."""
    return Field(
        flow=torch.zeros_like(batch.flow),
        visibility=torch.ones_like(batch.visibility),
        colour=torch.zeros(*batch.flow.shape[:2], 3, *batch.flow.shape[-2:]),
    )


def test_windows_lie_on_mouth_and_eyes_and_turn_with_the_face() -> None:
    mouth, left, right = place_windows(MARKS)
    unit = 0.28
    assert mouth.centre[0, 1] == pytest.approx(0.7 + 0.12 * unit)
    assert left.centre[0].tolist() == pytest.approx([0.36, 0.42 - 0.12 * unit])
    assert left.axes[0, 0, 0] > 0 > right.axes[0, 0, 0]
    turned = place_windows(MARKS.flip(-1))[0]
    assert (
        float((turned.axes[0] - mouth.axes[0].flip(0) * torch.tensor([-1.0, 1.0])).abs().max())
        < 1e-6
    )


def test_the_right_eyes_window_is_the_left_one_in_a_mirror() -> None:
    image = noise(1, 3, 64, 64)
    _, left, right = place_windows(MARKS)
    mirrored = torch.stack([1.0 - MARKS[..., 0], MARKS[..., 1]], -1)[:, [0, 2, 1]]
    _, other, _ = place_windows(mirrored)
    seen = cut_window(image, right.places(16))
    torch.testing.assert_close(seen, cut_window(image.flip(-1), other.places(16)))
    actions = torch.rand(1, 2, 52)
    assert torch.equal(right.actions(actions), actions[..., MIRROR_ACTIONS])
    assert torch.equal(left.actions(actions), actions)


def test_flow_goes_into_windows_and_back() -> None:
    axes = place_windows(MARKS)[2].axes
    flow = noise(1, 2, 5, 5)
    torch.testing.assert_close(to_view(to_window(flow, axes), axes), flow)


def test_what_the_expectation_says_is_given_in_the_windows_units() -> None:
    batch = still_examples()
    field = dataclasses.replace(field_of(batch), flow=torch.full_like(batch.flow, 0.02))
    mouth, _, right = place_windows(batch.marks)
    given = given_of(field, mouth, mouth.places(8))
    assert given[0, 0, 0, 3, 3] == pytest.approx(0.02 / float(mouth.axes[0, 0, 0]))
    given = given_of(field, right, right.places(8))
    assert given[0, 0, 0, 3, 3] == pytest.approx(0.02 / float(right.axes[0, 0, 0]))
    assert given[0, 0, 0, 3, 3] < 0


def test_a_new_network_moves_and_paints_nothing() -> None:
    net = DetailNet(SMALL)
    given = torch.cat([noise(2, 3, 2, 24, 24), torch.ones(2, 3, 1, 24, 24)], dim=2)
    made = net(net.look(noise(2, 3, 24, 24)), given, torch.rand(2, 3, 52))
    assert not made.flow.any()
    assert made.alpha.max() < 0.02
    photo, (features, motion) = portrait(), script(5)
    plain, with_details = stage(), stage()
    with_details.details = Details(SMALL).eval()
    frames = [
        next(s.sample(s.look(photo), photo, features, motion, None, steps=0)).frames
        for s in (plain, with_details)
    ]
    outside = (frames[0] - frames[1]).abs()
    assert outside[..., :10].max() == 0  # and in the windows other paint stays off


def test_the_losses_fall_and_the_hidden_mouth_is_painted() -> None:
    torch.manual_seed(0)
    details, batch = Details(SMALL), still_examples()
    optimiser = torch.optim.Adam(details.parameters(), 4e-3)
    losses = []
    for _ in range(40):
        terms = detail_losses(details, batch, field_of(batch))
        loss = torch.stack(list(terms.values())).sum()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.75 * losses[0]


def test_frames_whose_head_moves_teach_the_details_nothing() -> None:
    batch = still_examples()
    moved = batch.conditions.clone()
    moved[..., 52] = 0.1
    terms = detail_losses(
        Details(SMALL), dataclasses.replace(batch, conditions=moved), field_of(batch)
    )
    assert all(float(t.detach()) == 0 for t in terms.values())


def test_the_stage_trains_its_details_alone() -> None:
    made = detailed().train_only("details")
    made.loss(still_examples(), torch.Generator().manual_seed(0))["loss"].backward()
    for name, module in made.named_children():
        has = any(p.grad is not None and bool(p.grad.any()) for p in module.parameters())
        assert has == (name == "details"), name


def test_a_head_at_rest_carries_nothing() -> None:
    made, batch = stage(), still_examples()
    output = made.see(batch.reference[:, None], batch.view, batch.marks).output
    assert not made.basis.carry(output, batch.conditions).any()
    turned = batch.conditions.clone()
    turned[..., 52] = 0.3
    assert made.basis.carry(output, turned).any()


def made_window(flow_x: float) -> MadeWindow:
    values = np.zeros((1, 16, 16, 7), np.float32)
    values[..., 0], values[..., 2], values[..., 3], values[..., 4] = flow_x, 1.0, 1.0, 0.5
    axes = np.diag([0.2, 0.2]).astype(np.float32)
    return MadeWindow(values=values, centre=np.array([0.5, 0.5], np.float32), axes=axes)


@pytest.mark.parametrize("shift", [0.0, 0.1])
def test_a_window_lies_where_the_head_carried_it(shift: float) -> None:
    view = View(kind=FACE_VIEW, left=10, top=20, side=100)
    carry = np.zeros((1, 8, 8, 2), np.float32)
    carry[..., 0] = -shift  # backward: what is seen at p was at p - shift
    flow = np.zeros((160, 140, 2), np.float32)
    windows = [Carried(window=made_window(0.03), view=view, carry=carry)]
    laid, free = lay_windows(windows, 0, flow)
    assert free is not None
    centre = (70, round(60 + 100 * shift))
    assert flow[centre][0] == pytest.approx(3.0, abs=0.01)
    assert float(free[centre][0]) == pytest.approx(0.0, abs=1e-5)
    assert flow[70, centre[1] + 25, 0] == 0
    frame = np.zeros((160, 140, 3), np.float32)
    laid[0].paint_on(frame)
    assert frame[centre][0] == pytest.approx(0.5, abs=1e-4)
    assert not frame[:, : centre[1] - 22].any()


def test_a_window_outside_the_picture_is_left_out() -> None:
    view = View(kind=FACE_VIEW, left=500, top=0, side=100)
    carry = np.zeros((1, 8, 8, 2), np.float32)
    flow = np.zeros((50, 50, 2), np.float32)
    laid, free = lay_windows([Carried(window=made_window(0.1), view=view, carry=carry)], 0, flow)
    assert laid == []
    assert free is None
    assert not flow.any()


def test_a_config_with_details_survives_its_file() -> None:
    from emo2.config import COMPACT

    again = from_json(to_json(COMPACT))
    assert again == COMPACT
    bare = dataclasses.replace(COMPACT, video=dataclasses.replace(COMPACT.video, details=None))
    assert from_json(to_json(bare)) == bare
    assert TINY.details is None


def test_films_with_details_go_on_exactly_where_they_were_cut() -> None:
    made, photo, (features, motion) = detailed(), portrait(), script(13)
    for parameter in made.details.parameters():  # type: ignore[union-attr]
        torch.nn.init.normal_(parameter, std=0.05)
    assert motion.face is not None

    def frames(start: int, state: dict[str, Tensor] | None) -> list[Tensor]:
        look = made.look(photo)
        clips = made.sample(look, photo, features, motion, None, steps=0, start=start, state=state)
        return [c.frames for c in clips]

    whole = frames(0, None)
    again = frames(5, {})
    assert torch.equal(torch.cat(whole[1:]), torch.cat(again))


def test_the_jaw_lowers_the_lower_teeth_and_not_the_upper_ones() -> None:
    inside = mouth_inside()
    rows = np.linspace(-0.6, 0.8, 141, dtype=np.float32)
    places = np.stack([np.zeros_like(rows), rows], -1)[:, None]

    def teeth(jaw: float) -> np.ndarray:
        light = inside.draw(places, jaw)[:, 0]
        return rows[light.min(-1) > -0.2]

    shut, wide = teeth(0.1), teeth(0.7)
    assert shut.min() == pytest.approx(wide.min(), abs=0.02)
    assert wide.max() - shut.max() == pytest.approx(0.6 * inside.drop, abs=0.03)


def test_teeth_take_the_light_of_the_photo() -> None:
    window = torch.empty(3, 96, 96)
    for channel, value in enumerate(USUAL_SKIN):
        window[channel] = 2 * value - 1
    assert tint_of(window) == pytest.approx(np.ones(3), abs=0.01)
    dim = tint_of((window + 1) * 0.6 - 1)
    assert dim == pytest.approx(0.6 * np.ones(3), abs=0.01)
    grey = tint_of(torch.zeros(3, 96, 96))
    assert grey[2] > grey[0]  # no warmer than the grey around them


def test_teeth_are_drawn_only_where_the_window_is_sure_of_the_mouth() -> None:
    paint, inside = np.full((2, 2, 3), -0.5, np.float32), np.full((2, 2, 3), 0.5, np.float32)
    alpha = np.array([[0.05, 0.15], [0.3, 1.0]], np.float32)[..., None]
    laid = over(paint, alpha, inside)
    assert np.array_equal(laid[0], paint[0])
    assert laid[1, 1] == pytest.approx(inside[1, 1])
    assert (laid[1, 0] < laid[1, 1]).all()


def test_head_and_torso_stay_within_what_looks_right_and_small_turns_stay_as_they_are() -> None:
    head, body = torch.zeros(3, 6), torch.zeros(3, 6)
    head[0, 0], head[1, 0], body[1, 0], head[2, 1] = 0.02, 0.3, -0.08, 2.0
    body[1, 5] = 0.7
    near, torso = within_reach(head, body)
    assert near[0, 0] == pytest.approx(0.02, rel=0.01)
    turns = torch.cat([near[:, :3] / HEAD_REACH, torso[:, :3] / BODY_REACH], dim=-1).norm(dim=-1)
    assert (turns <= 1.0).all()
    assert near[1, 0] / torso[1, 0] == pytest.approx(0.3 / -0.08)  # the direction stays
    assert torso[1, 5] == pytest.approx(0.7)  # breath turns nothing
