"""Guidance maps of rendered people, drawn from a shard's labels as `pipeline` draws them from a motion.

In training the hands' tracks are as rough as a tracker's and say how far they are to be believed, and key points
come early or late, so that the denoiser takes both for hints (EMO2 §3; design §5).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from emo2.guidance import draw, fit_camera
from emo2.hands import mirror_motion
from emo2.signals import BODY_POINTS, Motion, Portrait

SEEN = 1 / 3
"""Share of a hand's 21 points in sight from which on the hand counts as visible."""
SHIFT = 4
"""Frames by which key points may come early or late **(ours)**."""
SURE_SHARE = 0.5
"""Share of the hands that are tracked exactly **(ours)**; as sure as those are which stage 1 makes."""
LEAST_SURE = 0.2
WRIST_NOISE_M, TURN_NOISE = 0.05, 0.25
"""Error of a track whose confidence is 0: metres, and of quaternions **(ours)**."""

_OTHER_SIDE = [
    BODY_POINTS.index(name.replace("left", "*").replace("right", "left").replace("*", "right"))
    for name in BODY_POINTS
]


def maps_of(
    label: Callable[[str], Tensor],
    chosen: Int[Tensor, " f"],
    side: int,
    generator: torch.Generator,
    *,
    mirrored: bool,
    tracked: bool = False,
) -> tuple[Float[Tensor, "f 7 s s"], Float[Tensor, "f 2"]]:
    """Maps (hand surface, key points, face region) of some frames of a person and the hands' confidence.

    `label` gives a person's labels by name; frame 0 of those with a reference is the reference.  `tracked`: the
    hands are a tracker's and bring their own confidence; they are rough enough.
    """
    rows = torch.cat((torch.zeros(1, dtype=torch.long), chosen + 1))
    motion, portrait = _motion(label, rows), _portrait(label, side)
    if tracked:
        motion = replace(motion, confidence=label("hand_confidence")[rows].float())
    else:
        motion = rough(motion, generator)
    if mirrored:
        motion, portrait = mirror_motion(motion), _mirrored(portrait)
    count = len(chosen)
    drawn = draw(motion, fit_camera(portrait), (side, side), frames=range(1, 1 + count))
    shift = int(torch.randint(-SHIFT, SHIFT + 1, (1,), generator=generator))
    when = (torch.arange(count) + shift).clamp(0, count - 1)
    region = drawn.face_region.expand(count, -1, -1, -1)
    maps = torch.cat([drawn.hand_surface, drawn.key_points[when], region], dim=1)
    return maps, drawn.confidence


def rough(motion: Motion, generator: torch.Generator) -> Motion:
    """The hands as a tracker might have them: half of them less sure, and as wrong as they are unsure."""
    count = len(motion)
    draws = torch.rand(2, 2, generator=generator)
    sure = LEAST_SURE + (1.0 - LEAST_SURE) * draws[0]
    sure = torch.where(draws[1] < SURE_SHARE, torch.ones(2), sure).expand(count, 2)
    wrong = (1.0 - sure)[..., None]
    lasting = torch.randn(motion.hands.shape[1:], generator=generator)
    noise = lasting + 0.3 * torch.randn(motion.hands.shape, generator=generator)
    turns = motion.hands[..., :64] + TURN_NOISE * wrong * noise[..., :64]
    turns = torch.nn.functional.normalize(turns.unflatten(-1, (16, 4)), dim=-1).flatten(-2)
    wrists = motion.hands[..., 64:] + WRIST_NOISE_M * wrong * noise[..., 64:]
    return Motion(
        hands=torch.cat((turns, wrists), dim=-1),
        visibility=motion.visibility,
        confidence=motion.confidence * sure,
        betas=motion.betas,
        fps=motion.fps,
        head=motion.head,
        body=motion.body,
    )


def _motion(label: Callable[[str], Tensor], rows: Int[Tensor, " n"]) -> Motion:
    """The reference, then the chosen frames."""
    seen = label("hand_points")[rows][..., 2].float().mean(-1)
    pose = {
        name: torch.cat((label(f"reference_{name}")[None], label(name)[rows[1:] - 1])).float()
        for name in ("head", "body")
    }
    return Motion(
        hands=label("hands")[rows].float(),
        visibility=(seen > SEEN).float(),
        confidence=torch.ones(len(rows), 2),
        betas=torch.zeros(10),
        fps=25.0,
        **pose,
    )


def _portrait(label: Callable[[str], Tensor], side: int) -> Portrait:
    """What the finder would say of the reference, at `side` pixels; no picture."""
    unit = torch.tensor([side, side, 1.0])
    hands = label("hand_points")[0].float()
    present = [bool(share > SEEN) for share in hands[..., 2].mean(-1)]
    return Portrait(
        image=torch.zeros(3, side, side),
        face_box=label("face_box")[0].float() * side,
        face_points=label("face_points")[0].float() * side,
        body_points=label("body_points")[0].float() * unit,
        hand_points=hands * unit,
        hands_present=(present[0], present[1]),
    )


def _mirrored(portrait: Portrait) -> Portrait:
    width = portrait.size[1]

    def flip(points: Tensor) -> Tensor:
        return torch.cat((width - points[..., :1], points[..., 1:]), dim=-1)

    x0, y0, x1, y1 = portrait.face_box.unbind()
    left, right = portrait.hands_present
    return Portrait(
        image=portrait.image,
        face_box=torch.stack((width - x1, y0, width - x0, y1)),
        face_points=flip(portrait.face_points),  # only widths and heights are read of them
        body_points=flip(portrait.body_points)[_OTHER_SIDE],
        hand_points=flip(portrait.hand_points).flip(0),
        hands_present=(right, left),
    )
