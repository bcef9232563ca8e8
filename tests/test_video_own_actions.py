"""What a photo's face already does is taken off what is asked of it, and its expression is kept."""

from __future__ import annotations

import torch

from emo2 import signals
from emo2.video.examples import BODY_VIEW, FACE_ACTIONS, FACE_VIEW, MIRROR_ACTIONS, UNITS
from emo2.video.opening import as_asked
from emo2.video.own_actions import (
    SIDE,
    OwnActions,
    against,
    face_places,
    keep_expression,
    own_loss,
)

SMILE = signals.FACE_ACTIONS.index("mouthSmileLeft")
JAW = signals.FACE_ACTIONS.index("jawOpen")
MARKS = torch.tensor([[[0.5, 0.7], [0.4, 0.5], [0.6, 0.5]]])


def own(**values: float) -> torch.Tensor:
    found = torch.zeros(1, FACE_ACTIONS)
    for name, value in values.items():
        found[0, signals.FACE_ACTIONS.index(name)] = value / float(UNITS[0])
    return found


def test_actions_count_from_the_photos_own_and_the_head_stays_as_it_is() -> None:
    asked = torch.full((1, 2, 64), 0.3)
    found = against(asked, own(mouthSmileLeft=0.2, jawOpen=0.3), torch.tensor([FACE_VIEW]))
    torch.testing.assert_close(found[0, :, SMILE], torch.full((2,), 0.1))
    torch.testing.assert_close(found[0, :, JAW], torch.zeros(2))
    assert torch.equal(found[..., FACE_ACTIONS:], asked[..., FACE_ACTIONS:])
    body = against(asked, own(mouthSmileLeft=0.2), torch.tensor([BODY_VIEW]))
    assert not body[..., :FACE_ACTIONS].any()
    assert torch.equal(body[..., FACE_ACTIONS:], asked[..., FACE_ACTIONS:])


def test_lips_read_as_parted_close_at_rest_and_open_as_far_as_speech_asks() -> None:
    lower = signals.FACE_ACTIONS.index("mouthLowerDownLeft")
    asked = torch.zeros(1, 3, 64)
    asked[0, 1, [lower, SMILE]] = 0.05
    asked[0, 2, [lower, SMILE]] = 0.3
    read, kind = own(mouthLowerDownLeft=0.16, mouthSmileLeft=0.4), torch.tensor([FACE_VIEW])
    found = against(as_asked(asked, read), read, kind)
    torch.testing.assert_close(found[0, :, lower], torch.tensor([-0.16, -0.03, 0.3]))
    torch.testing.assert_close(found[..., SMILE], against(asked, read, kind)[..., SMILE])
    apart = own(mouthLowerDownLeft=0.5)  # no misreading: only what may be one is left out
    assert abs(against(as_asked(asked, apart), apart, kind)[0, 2, lower] - 0.0) < 1e-6
    assert torch.equal(as_asked(asked, own()), asked)


def test_a_smile_stays_and_speech_is_as_it_is_asked() -> None:
    asked = torch.zeros(1, 3, 64)
    asked[0, 1, SMILE] = asked[0, 1, JAW] = 1.0
    asked[0, 2, SMILE] = asked[0, 2, JAW] = 0.5
    found = keep_expression(asked, own(mouthSmileLeft=0.4, jawOpen=0.4))
    torch.testing.assert_close(found[0, :, SMILE], torch.tensor([0.4, 1.0, 0.7]))
    torch.testing.assert_close(found[0, :, JAW], torch.tensor([0.0, 1.0, 0.5]))
    nothing = keep_expression(asked, own(mouthSmileLeft=-0.4))
    assert torch.equal(nothing, asked)


def test_the_face_is_read_where_mouth_and_eyes_are() -> None:
    places = face_places(MARKS)[0]
    assert places.shape == (SIDE, SIDE, 2)
    nearest = [(places - mark).norm(dim=-1).min() for mark in MARKS[0]]
    assert max(nearest) < 0.005
    larger = face_places(0.5 + 2 * (MARKS - 0.5))[0]
    torch.testing.assert_close(larger, 0.5 + 2 * (places - 0.5))


def test_a_new_network_finds_a_neutral_face_and_learns_to_tell_two_apart() -> None:
    torch.manual_seed(0)
    network = OwnActions()
    images = torch.rand(2, 3, 128, 128, generator=torch.Generator().manual_seed(1)) * 0.2
    images[1, :, 85:95, 54:74] = -1.0  # an open mouth
    marks = MARKS.expand(2, 3, 2)
    assert not network(images, marks).any()
    wanted, known = torch.zeros(2, FACE_ACTIONS), torch.ones(2, dtype=torch.bool)
    wanted[1, JAW] = 0.8
    optimiser = torch.optim.Adam(network.parameters(), 2e-3)
    for _ in range(90):
        loss = own_loss(network(images, marks), wanted, known)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    with torch.no_grad():
        jaws = network(images, marks)[:, JAW] * UNITS[JAW]
    assert jaws[0] < 0.25
    assert jaws[1] > 0.55


@torch.no_grad()
def test_a_mirrored_photo_is_read_as_the_mirrored_face() -> None:
    torch.manual_seed(0)
    network = OwnActions()
    torch.nn.init.normal_(network.read[-1].weight)
    images = torch.rand(1, 3, 128, 128, generator=torch.Generator().manual_seed(1))
    images[..., 55:75, 40:60] = -1.0  # on one side only
    mirrored = torch.stack([1.0 - MARKS[..., 0], MARKS[..., 1]], -1)[:, [0, 2, 1]]
    found, other = network(images, MARKS), network(images.flip(-1), mirrored)
    torch.testing.assert_close(other, found[:, MIRROR_ACTIONS], atol=1e-4, rtol=1e-3)
    assert (other - found).abs().max() > 0.003


def test_faces_that_nobody_knows_do_not_count() -> None:
    found, wanted = torch.zeros(2, FACE_ACTIONS), torch.ones(2, FACE_ACTIONS)
    assert own_loss(found, wanted, torch.tensor([False, False])) == 0
    one = own_loss(found, wanted, torch.tensor([True, False]))
    torch.testing.assert_close(one, torch.tensor(float((1 / UNITS[0]) ** 2)))
