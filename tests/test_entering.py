"""Hands that the photo does not show come into the picture from below, and only where they may."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from made_up import made_up_voice

from emo2 import media, pipeline
from emo2.hands.forearm import FORE_M, bare, wrist_loop
from emo2.hands.model import from_numbers, swap_frame
from emo2.hands.pose import shape_hand
from emo2.hands.relief import relief
from emo2.pipeline import Models
from emo2.reel import cut
from emo2.signals import HAND_SIDES, Motion, Portrait
from emo2.start import pose_of
from emo2.video.entering import Entering
from emo2.video.entering_place import entering_place, entering_sides, notes_with_entering
from emo2.video.entering_pose import limb_poses, pose_reach

FRAMES = 24
SKIN, CLOTH, WALL = (0.5, 0.1, -0.1), (-0.6, -0.5, 0.1), (0.2, 0.3, 0.3)
SCALE = 400.0
MIDDLE, SHOULDERS_Y, BOTTOM_M = 160.0, 170.0, 0.2


@pytest.fixture(scope="module")
def chest() -> Portrait:
    """A drawn man from head to chest."""
    return drawn(BOTTOM_M)


def drawn(bottom_m: float) -> Portrait:
    """A drawn man, arms hanging, down to so far below his shoulders: 320 pixels wide, 400 a metre."""
    height, width = round(SHOULDERS_Y + bottom_m * SCALE), 320
    y, x = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
    image = torch.tensor(WALL)[:, None, None].expand(3, height, width).clone()
    down = y - (SHOULDERS_Y - 15)
    trunk = (down > 0) & ((x - MIDDLE).abs() < 0.16 * SCALE)
    arms = [(down > 0) & ((s * (x - MIDDLE) / SCALE - 0.2).abs() < 0.045) & ~trunk for s in (1, -1)]
    face = ((x - MIDDLE) / 30) ** 2 + ((y - 90) / 45) ** 2 < 1
    for place, colour in ((trunk | arms[0] | arms[1], CLOTH), (face, SKIN)):
        image[:, place] = torch.tensor(colour)[:, None]
    angle = torch.linspace(0, math.pi, 17)
    points = torch.full((68, 2), MIDDLE)
    points[:17, 0], points[:17, 1] = MIDDLE - 30 * angle.cos(), 82 + 50 * angle.sin()
    points[17:27, 0], points[17:27, 1] = torch.linspace(MIDDLE - 24, MIDDLE + 24, 10), 74.0
    points[36:42, 0], points[42:48, 0], points[36:48, 1] = MIDDLE - 12, MIDDLE + 12, 84.0
    points[48:, 1] = 115.0
    half = 0.18 * SCALE
    body = torch.zeros(8, 3)
    body[:4] = torch.tensor(
        [(MIDDLE, 40, 1), (MIDDLE, 150, 1), (MIDDLE + half, SHOULDERS_Y, 1), (MIDDLE - half, SHOULDERS_Y, 1)]
    )  # fmt: skip
    for k, sign in enumerate((1, -1)):
        body[4 + k] = torch.tensor((MIDDLE + sign * 0.2 * SCALE, SHOULDERS_Y + 0.29 * SCALE, 0.8))
    return Portrait(
        image=image,
        face_box=torch.tensor([MIDDLE - 30, 74, MIDDLE + 30, 132]),
        face_points=points,
        body_points=body,
        hand_points=torch.zeros(2, 21, 3),
        hands_present=(False, False),
        body_masks=torch.stack([trunk | face, arms[0], arms[1]]).float(),
    )


def rising(frames: int = FRAMES) -> Motion:
    """Both hands from hanging to before the chest, palms to the camera, fingers up and apart."""
    rows = []
    for k in range(frames):
        t = k / (frames - 1)
        t = t * t * (3 - 2 * t)
        pair = []
        for name, sign in (("left", 1.0), ("right", -1.0)):
            at = torch.tensor((sign * (0.24 - 0.03 * t), 0.5 - 0.29 * t, 0.05 + 0.15 * t))
            aim = torch.tensor((0.0, math.cos(math.pi * t), 0.2 + math.sin(math.pi * t)))
            palm = torch.tensor((0.0, 0.3, 1.0))
            curl = torch.full((5,), 0.05)
            pair.append(shape_hand(name, at, fingers_to=aim, palm_to=palm, curl=curl))
        rows.append(torch.stack(pair))
    ones = torch.ones(frames, 2)
    return Motion(
        hands=torch.stack(rows), visibility=ones, confidence=ones, betas=torch.zeros(10), fps=25.0
    )


def film(chest: Portrait, motion: Motion) -> list[np.ndarray]:
    entering = Entering.build(chest)
    assert entering is not None
    poses, frames = entering.poses(motion), []
    for number, now in enumerate(poses):
        frame = chest.image.permute(1, 2, 0).numpy().copy()
        entering.lay(frame, None, now, poses[max(number - 1, 0)])
        frames.append(frame)
    return frames


def changed(frame: np.ndarray, chest: Portrait) -> np.ndarray:
    return np.abs(frame - chest.image.permute(1, 2, 0).numpy()).max(-1) > 0.25


def test_a_hanging_hand_leaves_the_frame_as_it_is_and_a_raised_one_is_in_it(
    chest: Portrait,
) -> None:
    frames = film(chest, rising())
    assert np.array_equal(frames[0], chest.image.permute(1, 2, 0).numpy())
    here = changed(frames[-1], chest)
    middle = here.shape[1] // 2
    for half in (here[:, :middle], here[:, middle:]):
        assert half.sum() > 0.006 * SCALE**2  # about the palm's area and some fingers
    assert here[-1].any(), "the arm goes on to the picture's lower edge"
    assert not here[:140].any(), "the face is not covered"


def test_hands_come_in_over_several_frames(chest: Portrait) -> None:
    areas = [changed(frame, chest).sum() / SCALE**2 for frame in film(chest, rising())]
    steps = [b - a for a, b in pairwise(areas)]
    assert areas[-1] > 0.015
    assert max(steps) < 0.4 * max(areas)


def test_a_raised_hand_has_five_fingers_of_the_skin_of_the_face(chest: Portrait) -> None:
    frame = film(chest, rising())[-1]
    skin = frame[..., 0] - frame[..., 2] > 0.35  # redder than wall and cloth
    left = skin[140:, 160:]
    ys = np.nonzero(left)[0]
    top = ys.min()
    counts = []
    for row in range(top, top + 45):
        edges = np.diff(np.concatenate(([0], left[row].astype(int), [0])))
        counts.append(int((edges == 1).sum()))
    assert max(counts) >= 4  # four fingers side by side ...
    low = left[top + 30 : top + 60]
    assert any((np.diff(np.concatenate(([0], r.astype(int), [0]))) == 1).sum() == 2 for r in low)
    lit = frame[140:, 160:][left]
    assert lit.mean() < 1.0
    assert np.ptp(lit.mean(-1)) > 0.1, "shaded, not flat"


def test_left_and_right_are_the_persons_own(chest: Portrait) -> None:
    motion = rising()
    only_left = replace(motion, visibility=torch.tensor([[1.0, 0.0]]).expand(FRAMES, 2))
    here = changed(film(chest, only_left)[-1], chest)
    assert here[:, 160:].any()
    assert not here[:, :160].any()


def test_poses_of_a_stretch_are_to_the_bit_those_of_the_whole(chest: Portrait) -> None:
    motion, place, reach = rising(60), entering_place(chest), pose_reach(25.0)
    whole = limb_poses(motion.hands, place, 25.0)
    first, stop = 20, 30
    part = limb_poses(cut(motion, first - reach, stop + reach).hands, place, 25.0)
    for a, b in zip(whole[first:stop], part[reach : reach + stop - first], strict=True):
        for one, two in zip(a, b, strict=True):
            assert np.array_equal(one.numbers, two.numbers)
            assert np.array_equal(one.elbow, two.elbow)


def test_a_forearm_keeps_its_length_and_no_wrist_breaks(chest: Portrait) -> None:
    generator = torch.Generator().manual_seed(1)
    hands = torch.randn(200, 2, 67, generator=generator)
    hands[..., :64] = torch.nn.functional.normalize(
        hands[..., :64].unflatten(-1, (16, 4)), dim=-1
    ).flatten(-2)
    hands[..., 64:] = torch.tensor((0.2, 0.3, 0.2)) + 0.1 * hands[..., 64:]
    hands[:, 1, 64] *= -1
    for pair in limb_poses(hands, entering_place(chest), 25.0):
        for name, pose in zip(HAND_SIDES, pair, strict=True):
            arm = pose.numbers[64:] - pose.elbow
            assert np.linalg.norm(arm) == pytest.approx(FORE_M, abs=1e-4)
            mine = swap_frame(torch.from_numpy(pose.numbers), name)
            fingers = -from_numbers(mine)[0][0, :, 0].numpy()
            flip = np.array((1, -1, 1) if name == "right" else (-1, -1, 1))
            cos = float(fingers @ (arm / np.linalg.norm(arm) * flip))
            assert math.degrees(math.acos(min(max(cos, -1), 1))) < 50


@pytest.mark.parametrize(
    "reason",
    ["a hand is seen", "a hand is hinted at", "a bust", "forearms in view", "a table", "turned"],
)
def test_no_hand_enters_where(chest: Portrait, reason: str) -> None:
    assert entering_sides(chest) == (True, True)
    body = chest.body_points.clone()
    if reason == "a hand is seen":
        other, wanted = replace(chest, hands_present=(True, False)), (False, True)
    elif reason == "a hand is hinted at":
        points = torch.zeros(2, 21, 3)
        points[1, :, :2] = MIDDLE + 12 * torch.randn(
            21, 2, generator=torch.Generator().manual_seed(0)
        )
        points[1, :, 1] -= 60  # on skin
        points[1, :, 2] = 0.5
        other, wanted = replace(chest, hand_points=points), (True, False)
    elif reason in ("a bust", "forearms in view"):
        body[2:4, 1] += 0.15 * SCALE if reason == "a bust" else -0.25 * SCALE
        body[4:6, 2] = 0.1  # no elbow to hang a forearm on
        other, wanted = replace(chest, body_points=body), (False, False)
    elif reason == "turned":
        body[2, 0], body[3, 0] = MIDDLE + 45, MIDDLE - 45
        other, wanted = replace(chest, body_points=body), (False, False)
    else:
        assert chest.body_masks is not None
        masks = chest.body_masks.clone()
        masks[:, -40:] = 0
        other, wanted = replace(chest, body_masks=masks), (False, False)
    assert entering_sides(other) == wanted


def test_stage_1_is_told_that_an_entering_hand_is_seen_and_hangs(chest: Portrait) -> None:
    start = pose_of(chest, fps=25.0, entering=(True, False))
    assert start.visibility.tolist() == [[1.0, 0.0]]
    assert float(start.hands[0, 0, 65]) > 0.45


def test_a_bare_forearm_begins_at_the_hands_own_edge() -> None:
    loop = np.array(
        [(0.02 * math.cos(a), 0.02 * math.sin(a), 0) for a in np.arange(20) * math.tau / 20]
    )
    tube = bare(
        loop.astype(np.float32), np.zeros(3, np.float32), np.array((0, 0, -0.25), np.float32)
    )
    assert len(wrist_loop()) == 20
    np.testing.assert_allclose(tube.points[:20], loop, atol=1e-6)
    rings = tube.points.reshape(-1, 20, 3)
    radius = np.linalg.norm(rings - rings.mean(1, keepdims=True), axis=2).mean(1)
    assert radius.max() > 0.03
    assert np.abs(rings.mean(1)[:, 2] + tube.along.reshape(-1, 20)[:, 0]).max() < 0.001


def test_palms_of_dark_skins_are_lighter_than_their_backs() -> None:
    for darkness, least in ((0.0, -0.1), (1.0, 0.4)):
        back, palm = np.split(relief(darkness), 2)
        middle = np.s_[60:150, 120:200]
        assert palm[middle].mean() - back[middle].mean() > least


def test_the_user_is_told_of_a_hand_that_is_drawn_and_not_that_it_stays_still(
    chest: Portrait,
) -> None:
    still = ("The left hand is not seen surely enough; it stays still.",)
    (left, right) = notes_with_entering(replace(chest, notes=still))
    assert "left hand is not in the photo" in left
    assert "right hand is not in the photo" in right
    seen = replace(chest, notes=still, hands_present=(True, True))
    assert notes_with_entering(seen) == still


def test_a_hanging_forearm_in_view_goes_while_its_drawn_one_is_up() -> None:
    waist = drawn(0.42)
    place = entering_place(waist)
    assert place.sides == place.forearms == (True, True)
    frames = film(waist, rising())
    still = waist.image.permute(1, 2, 0).numpy()
    assert np.array_equal(frames[0], still)
    lower = np.s_[-14:-2, round(MIDDLE + 0.2 * SCALE) : round(MIDDLE + 0.23 * SCALE)]
    assert np.abs(still[lower] - CLOTH).max() < 0.01
    assert np.abs(frames[-1][lower] - WALL).mean() < 0.15
    upper = np.s_[round(SHOULDERS_Y) : round(SHOULDERS_Y + 0.1 * SCALE), lower[1]]
    assert np.abs(frames[-1][upper] - still[upper]).mean() < 0.15, "but for a hand's shadow"


def test_without_a_sure_elbow_no_second_forearm_is_drawn() -> None:
    waist = drawn(0.42)
    body = waist.body_points.clone()
    body[4, 2] = 0.2
    assert entering_sides(replace(waist, body_points=body)) == (False, True)


def test_a_short_sleeve_above_the_lower_edge_bares_the_forearm(chest: Portrait) -> None:
    long = Entering.build(chest)
    assert long is not None
    for cloth in long.look.cloth:
        assert cloth is not None
        assert cloth.mean((0, 1)).argmax() == np.argmax(CLOTH), "of the arm's own colour"
    image = chest.image.clone()
    assert chest.body_masks is not None
    arms = chest.body_masks[1:].amax(0) > 0.5
    arms[:-22] = False
    image[:, arms] = torch.tensor(SKIN)[:, None]
    short = Entering.build(replace(chest, image=image))
    assert short is not None
    assert short.look.cloth == (None, None)


def test_a_film_taken_up_at_a_later_clip_has_the_same_hands(
    chest: Portrait, small_models: Models
) -> None:
    voice = media.speech_from_samples(made_up_voice(FRAMES / 25), sample_rate=16_000)
    features, _ = pipeline.hear(small_models.speech, voice, 25.0)
    heard, motion = features.whole(), rising()
    options, length = pipeline.Options(steps=0), small_models.config.video.clip_frames

    def frames(moves: Motion, start: int = 0) -> torch.Tensor:
        clips = pipeline.render(small_models, chest, heard, moves, options, start=start)
        return torch.cat([clip.frames for clip in clips])

    with torch.inference_mode():
        whole, late = frames(motion), frames(motion, start=2 * length)
        without = frames(replace(motion, visibility=torch.zeros(FRAMES, 2)))
    # OpenCV's sums end in other bits where arrays lie otherwise in memory: a millionth of a grey level.
    assert torch.allclose(whole[2 * length :], late, rtol=0, atol=1e-7)
    assert torch.equal(whole[:3], without[:3])
    assert (whole[-1] - without[-1]).abs().amax(0).gt(0.25).float().mean() > 0.03
