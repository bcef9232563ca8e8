"""A picture to a `Portrait`: faces, then the body around one of them, then its hands.

Every answer is looked at twice: a first guess frames the second look.  What stays unsure is said in the
portrait's notes and left out of the film.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from emo2.errors import UserError
from emo2.portrait.folding import OTHER, are_folded, lie_together
from emo2.portrait.limbs import body_masks, limb_masks
from emo2.portrait.looking import SHARPNESS, Hand, Scene, Square, look, overlap, square_about
from emo2.portrait.network import STRIDE, SceneMaps, positions
from emo2.portrait.skin import with_hands_by_skin
from emo2.portrait.stage import PortraitFinder
from emo2.portrait.steadiness import doubted
from emo2.portrait.views import MIRROR_FACE
from emo2.signals import BODY_POINTS, FOLDED, HAND_SIDES, Portrait

_FACE_HEAT = 0.25
"""Least heat of a face's centre that is worth a closer look."""
_FACE_SURE = 0.45
_HAND_HEAT = 0.15
_HAND_SURE = 0.8
_FRAMINGS = (0.2, 0.14)
"""Share of the second look's square that the face takes: upper body, and with arms spread."""
_FACE_HEIGHT = 0.24
"""Where the face's centre stands in it."""
_LOOKS = ((1.0, 1.8, 0.5), (0.28,))
"""Squares in which faces are looked for, in units of the picture's long side; below 1: a grid of them.
The second group is tried where the first finds nobody."""


@dataclass(frozen=True)
class Face:
    """One face that was found."""

    square: Square
    points: Float[Tensor, "68 2"]
    confidence: float


@torch.inference_mode()
def find(image: Float[Tensor, "3 h w"], finder: PortraitFinder, *, face_index: int = 0) -> Portrait:
    """What is seen of one person: the one with the largest face, or `face_index` in order of size.

    No face, or fewer faces than asked for, is a `UserError`.
    """
    faces = find_faces(image, finder)
    if not faces:
        raise UserError(
            "No face was found in the picture; give one in which a face is seen from the front, sharp, "
            "and at least a tenth of the picture high."
        )
    if not 0 <= face_index < len(faces):
        raise UserError(
            f"Face {face_index} was asked for, but {len(faces)} "
            f"{'face was' if len(faces) == 1 else 'faces were'} found; give 0 to {len(faces) - 1}."
        )
    face, notes = faces[face_index], []
    if len(faces) > 1:
        which = "the largest" if face_index == 0 else f"number {face_index} by size"
        notes.append(f"{len(faces)} faces were found; {which} is used (--face chooses another).")
    if face.confidence < 0.75:
        notes.append("The face is not seen clearly; lips and eyes may sit a little off.")
    body, scene = _find_body(image, finder, face)
    hands = _find_hands(image, finder, face, scene)
    trusted = _with_other(image, finder, face, _doubt_far(hands, body, face))
    folded = are_folded(trusted, face.points, (image.shape[-2], image.shape[-1]))
    present, hand_notes = _judge(trusted, folded=folded)
    hands = trusted if folded else hands
    points = [torch.zeros(21, 3) if hand is None else hand.points for hand in hands]
    for index, hand in enumerate(hands):
        if hand is not None and present[index]:
            points[index] = doubted(image, finder, hand)
    for index, (wrist, hand) in enumerate(zip(_WRISTS, hands, strict=True)):
        if hand is not None and present[index]:  # the closer look knows better
            body[wrist, :2], body[wrist, 2] = hand.points[0, :2], hand.confidence
    portrait = Portrait(
        image=image,
        face_box=torch.cat([face.points.amin(0), face.points.amax(0)]),
        face_points=face.points,
        body_points=body,
        hand_points=torch.stack(points),
        hands_present=present,
        folded=folded,
        limb_masks=limb_masks(image, scene, hands, present) if any(present) else None,
        body_masks=body_masks(image, scene),
        notes=(*notes, *_shoulder_notes(body), *hand_notes),
    )
    by_skin = with_hands_by_skin(portrait)
    changed = (by_skin.hands_present, by_skin.folded) != (present, folded)
    return by_skin if changed else portrait


# ------------------------------------------------------------------------------------------------------- faces


def find_faces(image: Float[Tensor, "3 h w"], finder: PortraitFinder) -> list[Face]:
    """All faces, the largest first."""
    faces: list[Face] = []
    for looks in _LOOKS:
        faces = _faces_in(image, finder, _squares(image.shape[-2], image.shape[-1], looks))
        if faces:
            break
    if faces:  # specks beside a clear face are rarely faces
        sure = max(face.confidence for face in faces) - 0.2
        largest = max(face.square.side for face in faces if face.confidence >= sure)
        faces = [f for f in faces if f.square.side > 0.15 * largest and f.confidence >= sure]
    return sorted(faces, key=lambda face: -face.square.side)


def _faces_in(
    image: Float[Tensor, "3 h w"], finder: PortraitFinder, squares: list[Square]
) -> list[Face]:
    guesses: list[tuple[float, Square, int]] = []
    for number, square in enumerate(squares):
        maps = finder.scene(square.crop(image, finder.config.size))
        guesses.extend(
            (*guess, number) for guess in _face_guesses(maps, square, finder.config.size)
        )
    faces: list[Face] = []
    for heat, guess, number in sorted(guesses, key=lambda item: -item[0])[:40]:
        if any(overlap(guess, face.square) > 0.25 for face in faces):
            continue
        # what is a face in one look is one in the next; what is not, seldom is
        others = [h for h, other, at in guesses if at != number and overlap(guess, other) > 0.3]
        face = _look_at_face(image, finder, guess, (heat + 0.5 * max(others, default=0.0)) / 1.1)
        if face and not any(overlap(face.square, other.square) > 0.25 for other in faces):
            faces.append(face)
    return faces


def _squares(height: int, width: int, looks: Sequence[float]) -> list[Square]:
    """Where to look: the whole picture, with room around it, and parts of it."""
    long = max(height, width)
    squares = []
    for share in looks:
        side = share * long
        if share < 1 and side < 96:
            continue
        across = max(1, math.ceil((width / side - 0.25) / 0.75)) if share < 1 else 1
        down = max(1, math.ceil((height / side - 0.25) / 0.75)) if share < 1 else 1
        for row in range(down):
            for column in range(across):
                squares.append(
                    Square(_step(column, across, width, side), _step(row, down, height, side), side)
                )
    return squares


def _step(index: int, count: int, length: int, side: float) -> float:
    """Centres of `count` overlapping windows over a length."""
    if count == 1:
        return length / 2
    return side / 2 + index * (length - side) / (count - 1)


def _face_guesses(maps: SceneMaps, square: Square, size: int) -> list[tuple[float, Square]]:
    heat = maps.face[0, 0].float().sigmoid()
    guesses = []
    for score, x, y in _peaks(heat, _FACE_HEAT, 12):
        side = float(maps.face_size[0, 0, int(y), int(x)].float().exp()) / size * square.side
        place = square.to_picture(torch.tensor([x, y]) * STRIDE / size)
        if 0.03 * square.side < side < 1.2 * square.side:
            guesses.append((score, Square(float(place[0]), float(place[1]), side)))
    return guesses


def _peaks(heat: Float[Tensor, "h w"], least: float, most: int) -> list[tuple[float, float, float]]:
    """(height, x, y) of local maxima, highest first; positions in cells, refined by the centre of mass."""
    local = functional.max_pool2d(heat[None, None], 3, 1, 1)[0, 0]
    rows, columns = ((heat == local) & (heat > least)).nonzero(as_tuple=True)
    order = heat[rows, columns].argsort(descending=True)[:most]
    padded = functional.pad(heat, (1, 1, 1, 1))
    offsets = torch.tensor([-1.0, 0.0, 1.0])
    found = []
    for row, column in zip(rows[order].tolist(), columns[order].tolist(), strict=True):
        near = padded[row : row + 3, column : column + 3]
        total = near.sum()
        x = column + 0.5 + float((near.sum(0) * offsets).sum() / total)
        y = row + 0.5 + float((near.sum(1) * offsets).sum() / total)
        found.append((float(heat[row, column]), x, y))
    return found


def _look_at_face(
    image: Float[Tensor, "3 h w"], finder: PortraitFinder, guess: Square, heat: float
) -> Face | None:
    """Two looks at a face, the second upright and well framed; None where there is none."""
    square = Square(guess.x, guess.y, 1.7 * guess.side)
    points, spread, present = look(image, finder.face, square, finder.config.crop)
    if present < 0.2:
        return None
    square = square_about(points, reach=1.6, turn=tilt(points))
    points, spread, present = look(image, finder.face, square, finder.config.crop)
    about = square_about(points)
    settled = math.hypot(about.x - square.x, about.y - square.y) / about.side
    blur = float(spread.mean()) * square.side / about.side
    strange = finder.strangeness(points)
    confidence = min(1.0, heat) * present
    for doubt, fine, most in ((settled, 0.1, 0.3), (blur, 0.12, 0.25), (strange, 0.15, 0.5)):
        confidence *= min(1.0, max(0.0, (most - doubt) / (most - fine)))
    if confidence <= _FACE_SURE:
        return None
    points = _settle(image, finder, points)
    return Face(square_about(points), points, confidence)


def _settle(
    image: Float[Tensor, "3 h w"], finder: PortraitFinder, points: Float[Tensor, "68 2"]
) -> Float[Tensor, "68 2"]:
    """The mean of four more looks, wide and narrow, straight and in the mirror: their errors differ."""
    looks = []
    for reach in (1.5, 1.75):
        square = square_about(points, reach=reach, turn=tilt(points))
        for mirrored in (False, True):
            seen = replace(square, mirrored=mirrored)
            found, _, _ = look(image, finder.face, seen, finder.config.crop)
            looks.append(found[list(MIRROR_FACE)] if mirrored else found)
    return torch.stack(looks).mean(0)


def tilt(points: Float[Tensor, "68 2"]) -> float:
    """Angle of the line between the eyes, radians clockwise."""
    across = points[42:48].mean(0) - points[36:42].mean(0)
    return math.atan2(float(across[1]), float(across[0]))


# -------------------------------------------------------------------------------------------------------- body


def _find_body(
    image: Float[Tensor, "3 h w"], finder: PortraitFinder, face: Face
) -> tuple[Float[Tensor, "8 3"], Scene]:
    """Body points with confidence; where none is seen, confidence 0 and a place by usual proportions."""
    size, height, width = finder.config.size, image.shape[-2], image.shape[-1]
    squares, maps = [], []
    for share in _FRAMINGS:
        side = face.square.side / share
        squares.append(Square(face.square.x, face.square.y + (0.5 - _FACE_HEIGHT) * side, side))
        maps.append(finder.scene(squares[-1].crop(image, size)))
    body = torch.cat([_usual_body(face), torch.zeros(8, 1)], 1)
    for square, seen in zip(squares, maps, strict=True):
        heats = seen.body[0].float().sigmoid()
        for index, heat in enumerate(heats):
            for score, x, y in _peaks(heat, 0.1, 3):
                place = square.to_picture(torch.tensor([x, y]) * STRIDE / size)
                inside = 0 <= place[0] <= width and 0 <= place[1] <= height
                score *= _plausible(place, index, face)
                if inside and score > body[index, 2] + 0.05:
                    body[index, :2], body[index, 2] = place, score
        body[:, :2] = torch.where(body[:, 2:] > 0, body[:, :2], _usual_body(face))
    return body, Scene(tuple(maps), tuple(squares))


_USUAL = (
    (0.0, -1.12), (0.0, 0.71), (1.16, 1.43), (-1.16, 1.43),
    (1.8, 3.15), (-1.8, 3.15), (1.55, 3.35), (-1.55, 3.35),
)  # fmt: skip
"""Body points in face sides from the face's centre: medians over the studio's people."""
_WRISTS = tuple(BODY_POINTS.index(f"{side}_wrist") for side in HAND_SIDES)
_LOOSE = (0.35, 0.4, 0.5, 0.5, 1.2, 1.2, 1.8, 1.8)
"""How far they stray without being doubted: about three of their standard deviations there."""


def _usual_body(face: Face) -> Float[Tensor, "8 2"]:
    centre = torch.tensor([face.square.x, face.square.y])
    return centre + torch.tensor(_USUAL) * face.square.side


def _plausible(place: Float[Tensor, "2"], index: int, face: Face) -> float:
    """1 where this face's body point usually is, falling off beyond: points of other people stand there."""
    away = float((place - _usual_body(face)[index]).norm()) / face.square.side / _LOOSE[index]
    return math.exp(-0.5 * max(0.0, away - 1) ** 2)


def _shoulder_notes(body: Float[Tensor, "8 3"]) -> list[str]:
    if float(body[2:4, 2].min()) > 0.3:
        return []
    return ["The shoulders are not both seen; the body stays almost still."]


# ------------------------------------------------------------------------------------------------------- hands


def _find_hands(
    image: Float[Tensor, "3 h w"], finder: PortraitFinder, face: Face, scene: Scene
) -> list[Hand | None]:
    """The best candidate for the left and for the right hand."""
    size, height, width = finder.config.size, image.shape[-2], image.shape[-1]
    hands: list[Hand | None] = []
    for side_index in range(len(HAND_SIDES)):
        best: Hand | None = None
        for square, maps in zip(scene.squares, scene.maps, strict=True):
            heat = maps.hand[0, side_index].float().sigmoid()
            for score, x, y in _peaks(heat, _HAND_HEAT, 3):
                extent = float(maps.hand_size[0, side_index, int(y), int(x)].float().exp())
                place = square.to_picture(torch.tensor([x, y]) * STRIDE / size)
                if not (0 <= place[0] <= width and 0 <= place[1] <= height):
                    continue
                score *= _plausible(place, _WRISTS[side_index], face)
                about = Square(
                    float(place[0]),
                    float(place[1]),
                    extent / size * square.side,
                    mirrored=side_index == 1,
                )
                hand = _look_at_hand(image, finder, about, face, score)
                if best is None or hand.confidence > best.confidence:
                    best = hand
        hands.append(best)
    return hands


def _look_at_hand(
    image: Float[Tensor, "3 h w"], finder: PortraitFinder, guess: Square, face: Face, heat: float
) -> Hand:
    """Two looks at a hand; its confidence counts both nets and how sharp the points are."""
    size = finder.config.hand_crop
    side = min(max(guess.side, 0.7 * face.square.side), 1.5 * face.square.side)
    square = Square(guess.x, guess.y, 2.1 * side, mirrored=guess.mirrored)
    points, _, _ = look(image, finder.hand, square, size)
    about = square_about(points)
    side = min(max(about.side, 0.7 * face.square.side), 1.5 * face.square.side)
    square = Square(about.x, about.y, 2.0 * side, mirrored=guess.mirrored)
    maps = finder.hand(square.crop(image, size))
    found, spread = positions(maps.points, sharpness=SHARPNESS)
    present = float(maps.present[0].float().sigmoid())
    sharp = (2.0 - spread[0] / size / 0.08).clamp(0, 1)
    points = square.to_picture(found[0] / size)
    inside = ((points > 0) & (points < torch.tensor([image.shape[2], image.shape[1]]))).all(1)
    confidence = present * min(1.0, heat / 0.4) * float((sharp * inside).mean())
    return Hand(
        square,
        torch.cat([points, (present * sharp * inside)[:, None]], 1),
        maps.masks[0].float().sigmoid(),
        confidence,
    )


def _doubt_far(
    hands: list[Hand | None], body: Float[Tensor, "8 3"], face: Face
) -> list[Hand | None]:
    """Hands trusted less the farther their wrist lies from where the look at the body saw it."""
    result: list[Hand | None] = []
    for index, hand in zip(_WRISTS, hands, strict=True):
        if hand is not None and float(body[index, 2]) > 0.3:
            away = float((hand.points[0, :2] - body[index, :2]).norm()) / face.square.side
            trust = min(1.0, max(0.0, (2.0 - away) / 0.7))
            hand = replace(hand, confidence=hand.confidence * trust)
        result.append(hand)
    return result


def _with_other(
    image: Float[Tensor, "3 h w"], finder: PortraitFinder, face: Face, hands: list[Hand | None]
) -> list[Hand | None]:
    """Where one hand alone is sure, the other one if it lies in that: of folded hands the first look may see but one."""
    sure = [side for side, hand in enumerate(hands) if hand and hand.confidence > _HAND_SURE]
    if len(sure) != 1:
        return hands
    own = hands[sure[0]]
    assert own is not None
    there = replace(own.square, side=own.square.side / 2, mirrored=not own.square.mirrored)
    other = _look_at_hand(image, finder, there, face, 1.0)
    both: list[Hand | None] = [own, own]
    both[1 - sure[0]] = other
    size = (image.shape[-2], image.shape[-1])
    is_hand = other.confidence > _HAND_SURE and are_folded(both, face.points, size, apart=OTHER)
    return both if is_hand else hands


def _judge(hands: list[Hand | None], *, folded: bool) -> tuple[tuple[bool, bool], list[str]]:
    """Which hands are sure enough to be moved each by itself, and what to say of the others."""
    if folded:
        return (False, False), [FOLDED]
    sure = [hand is not None and hand.confidence > _HAND_SURE for hand in hands]
    left, right = hands
    if left and right and lie_together(left, right) and any(sure):
        return (False, False), [
            "The hands lie in each other or cannot be told apart; they stay still."
        ]
    notes = []
    for side, hand, is_sure in zip(HAND_SIDES, hands, sure, strict=True):
        if hand is not None and not is_sure:
            notes.append(f"The {side} hand is not seen surely enough; it stays still.")
    return (sure[0], sure[1]), notes
