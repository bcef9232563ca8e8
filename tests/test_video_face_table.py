"""The table of face actions: the same on every face, found again by least squares."""

from __future__ import annotations

import torch
from torch import Tensor

from emo2.video.examples import FACE_ACTIONS
from emo2.video.face_table import CELLS, HIGH, LOW, FaceTable, TableFit, axes_of

MARKS = torch.tensor(
    [[[0.5, 0.7], [0.4, 0.4], [0.6, 0.4]], [[0.42, 0.6], [0.3, 0.35], [0.52, 0.33]]]
)
JAW, BLINK = 24, 8


def table() -> FaceTable:
    """The jaw moves what lies below the mouth, the blink what lies at the eyes."""
    made = FaceTable()
    down = torch.linspace(LOW[1], HIGH[1], CELLS).view(-1, 1)
    across = torch.linspace(LOW[0], HIGH[0], CELLS).view(1, -1)
    made.values[JAW, 1] = -0.3 * torch.exp(-((down - 1.2) ** 2 + across**2) / 0.2)
    made.values[BLINK, 1] = -0.1 * torch.exp(-(down**2 + (across + 1) ** 2) / 0.1)
    made.values[JAW, 2] = -torch.exp(-((down - 1.0) ** 2 + across**2) / 0.05)
    return made


def one(action: int, people: int = 2) -> Tensor:
    actions = torch.zeros(people, 1, FACE_ACTIONS)
    actions[..., action] = 1.0
    return actions


def test_an_action_moves_the_same_part_of_every_face_along_that_faces_own_axes() -> None:
    flow = table()(MARKS, one(JAW), 128)
    origin, axes = axes_of(MARKS)
    for person in range(2):
        x, y = ((origin[person] + 1.2 * axes[person][:, 1]) * 128).long().tolist()
        torch.testing.assert_close(
            flow[person, 0, :2, y, x], -0.3 * axes[person][:, 1], atol=0.004, rtol=0
        )


def test_a_blink_moves_nothing_at_the_mouth_and_no_action_moves_anything_far_away() -> None:
    flow = table()(MARKS, one(BLINK), 64)[0, 0]
    assert flow[2].abs().max() == 0
    assert flow[:, 45, 32].abs().max() < 1e-4
    assert flow[:, 25:27, 24:27].abs().max() > 0.01
    assert flow[:, :, 63].abs().max() == 0


def test_least_squares_find_the_table_again_and_leave_turned_heads_out() -> None:
    generator = torch.Generator().manual_seed(0)
    truth, fit = table(), TableFit()
    for _ in range(12):
        actions = torch.rand(2, 12, FACE_ACTIONS, generator=generator)
        flow = truth(MARKS, actions, 64)
        counts = torch.ones(2, 12)
        flow[:, 3] += 0.2
        counts[:, 3] = 0.0
        fit.add(MARKS, actions, flow, counts)
    found = FaceTable()
    found.values.copy_(fit.solve(ridge=0.01))
    for action in (JAW, BLINK):
        wanted = truth(MARKS, one(action), 64)
        error = (found(MARKS, one(action), 64) - wanted).abs()
        assert error.mean() < 0.1 * wanted.abs().mean() + 1e-4
