"""The finder as something to train: one loss over whole pictures, faces and hands."""

from __future__ import annotations

import torch
from jaxtyping import Complex, Float, Int
from torch import Tensor, nn
from torch.nn import functional

from emo2.config import FinderConfig
from emo2.portrait.data import Batch
from emo2.portrait.network import (
    FACE_POINTS,
    HAND_POINTS,
    STRIDE,
    CropMaps,
    CropNet,
    SceneMaps,
    SceneNet,
    positions,
)
from emo2.portrait.views import IGNORED

_POINT_WEIGHT = 8.0
_BELL_CELLS = 10.0
"""About how many cells a bell of the whole picture covers."""
_BELL = 1.2
"""Width of a crop's point on its map, cells."""


class PortraitFinder(nn.Module):
    """The three networks of `find`, and the loss that trains them together."""

    def __init__(self, config: FinderConfig) -> None:
        super().__init__()
        self.config = config
        self.scene = SceneNet(config)
        self.face = CropNet(config, FACE_POINTS, 0)
        self.hand = CropNet(config, HAND_POINTS, 2)
        """Sees every hand as a left one (right hands mirrored); masks: hand, forearm with sleeve."""
        self.usual_face: Tensor
        self.register_buffer("usual_face", torch.zeros(FACE_POINTS, 2))
        """Mean shape of faces; what strays far from it is none."""

    def measure(self, faces: Float[Tensor, "n 68 2"]) -> None:
        """Set `usual_face` from the training set's faces (generalised Procrustes analysis)."""
        shapes = _standard(faces)
        mean = shapes[0]
        for _ in range(5):
            mean = _standard(torch.view_as_real(_aligned(shapes, mean)).mean(0))
        self.usual_face.copy_(mean)

    def strangeness(self, face: Float[Tensor, "68 2"]) -> float:
        """Distance of a face's shape from the usual one, whatever its place, size and turn; people: below 0.4."""
        aligned = _aligned(_standard(face)[None], self.usual_face)[0]
        return float((torch.view_as_real(aligned) - self.usual_face).norm())

    def loss(
        self, batch: Batch, generator: torch.Generator | None = None
    ) -> dict[str, Float[Tensor, ""]]:
        """Named terms and their sum under `loss`, for a batch of `FinderBatches`; nothing is drawn at random."""
        del generator
        terms: dict[str, Float[Tensor, ""]] = {}
        if "scene_image" in batch:
            terms |= scene_losses(self.scene(batch["scene_image"]), batch)
        if "face_image" in batch:
            terms |= face_losses(self.face(batch["face_image"]), batch)
        if "hand_image" in batch:  # a set of faces alone has none
            terms |= hand_losses(self.hand(batch["hand_image"]), batch)
        return {"loss": torch.stack(list(terms.values())).sum()} | terms


def face_losses(maps: CropMaps, batch: Batch) -> dict[str, Float[Tensor, ""]]:
    """Points and presence of face crops."""
    seen = batch["face_present"][:, None].expand(-1, FACE_POINTS)
    return {
        "face_points": point_loss(maps.points, batch["face_points"], seen),
        "face_present": _presence(maps.present, batch["face_present"]),
    }


def hand_losses(maps: CropMaps, batch: Batch) -> dict[str, Float[Tensor, ""]]:
    """Points, presence and masks of hand crops."""
    points = batch["hand_points"]
    masks = functional.binary_cross_entropy_with_logits(maps.masks.float(), batch["hand_masks"])
    return {
        "hand_points": point_loss(maps.points, points[..., :2], points[..., 2]),
        "hand_present": _presence(maps.present, batch["hand_present"]),
        "hand_masks": 2 * masks,
    }


def scene_losses(maps: SceneMaps, batch: Batch) -> dict[str, Float[Tensor, ""]]:
    """Heat maps, sizes and parts of whole pictures."""
    known = batch["scene_body_known"]
    return {
        "face": 4 * heat_loss(maps.face, batch["scene_face"], torch.ones_like(known)),
        "face_size": size_loss(maps.face_size, batch["scene_face_size"]),
        "body": 4 * heat_loss(maps.body, batch["scene_body"], known),
        "hand": 4 * heat_loss(maps.hand, batch["scene_hand"], known),
        "hand_size": size_loss(maps.hand_size, batch["scene_hand_size"]),
        "parts": part_loss(maps.parts, batch["scene_parts"]),
    }


def heat_loss(
    logits: Float[Tensor, "b c h w"],
    target: Float[Tensor, "b c h w"],
    known: Float[Tensor, "b 1 1 1"],
) -> Float[Tensor, ""]:
    """Cross-entropy to the bells; quality focal loss (Li and others 2020, eq. 5, beta 2): empty cells weigh little."""
    logits = logits.float()
    entropy = functional.binary_cross_entropy_with_logits(logits, target, reduction="none")
    loss = (target - logits.sigmoid()) ** 2 * entropy * known
    return loss.sum() / (_BELL_CELLS * known.sum() * target.shape[1]).clamp_min(1.0)


def size_loss(
    sizes: Float[Tensor, "b c h w"], target: Float[Tensor, "b c h w"]
) -> Float[Tensor, ""]:
    """Mean error of the logarithm of sizes where there is one."""
    known = target > 0
    error = functional.smooth_l1_loss(sizes.float(), target, reduction="none", beta=0.2)
    return (error * known).sum() / known.sum().clamp_min(1)


def part_loss(
    logits: Float[Tensor, "b parts h w"], labels: Int[Tensor, "b h w"]
) -> Float[Tensor, ""]:
    """Cross-entropy; arms and hands, which are few, weigh more."""
    weight = torch.ones(logits.shape[1], device=logits.device)
    weight[3:] = 3.0
    return functional.cross_entropy(logits.float(), labels, weight, ignore_index=IGNORED)


def point_loss(
    logits: Float[Tensor, "b points h w"],
    points: Float[Tensor, "b points 2"],
    seen: Float[Tensor, "b points"],
) -> Float[Tensor, ""]:
    """Distance of the expected position, and cross-entropy of the map to a bell around the point."""
    height, width = logits.shape[-2:]
    inside = (
        (points > 0).all(-1)
        & (points[..., 0] < width * STRIDE)
        & (points[..., 1] < height * STRIDE)
    )
    weight = seen * inside
    found, _ = positions(logits)
    error = functional.smooth_l1_loss(
        found / (width * STRIDE), points / (width * STRIDE), reduction="none", beta=0.02
    ).sum(-1)
    grid_x = torch.arange(width, device=logits.device) + 0.5
    grid_y = torch.arange(height, device=logits.device) + 0.5
    bell_x = (-0.5 * ((grid_x - points[..., :1] / STRIDE) / _BELL) ** 2).exp()
    bell_y = (-0.5 * ((grid_y - points[..., 1:] / STRIDE) / _BELL) ** 2).exp()
    bell = (bell_y[..., :, None] * bell_x[..., None, :]).flatten(2)
    bell = bell / bell.sum(-1, keepdim=True).clamp_min(1e-6)
    entropy = -(bell * logits.float().flatten(2).log_softmax(-1)).sum(-1)
    total = _POINT_WEIGHT * error + entropy
    return (total * weight).sum() / weight.sum().clamp_min(1.0)


def _standard(shapes: Float[Tensor, "*n points 2"]) -> Float[Tensor, "*n points 2"]:
    """Centred, and of size 1."""
    centred = shapes - shapes.mean(-2, keepdim=True)
    return centred / centred.square().sum((-1, -2), keepdim=True).sqrt().clamp_min(1e-6)


def _aligned(
    shapes: Float[Tensor, "n points 2"], target: Float[Tensor, "points 2"]
) -> Complex[Tensor, "n points"]:
    """Standard shapes turned to lie best on the target, as complex numbers."""
    points, goal = torch.view_as_complex(shapes.contiguous()), torch.view_as_complex(target)
    turn = (points.conj() * goal).sum(-1, keepdim=True)
    return points * turn / turn.abs().clamp_min(1e-9)


def _presence(logits: Float[Tensor, " b"], share: Float[Tensor, " b"]) -> Float[Tensor, ""]:
    """Cross-entropy; `share` is how much of the thing is seen, and a half-seen one counts half."""
    return functional.binary_cross_entropy_with_logits(logits.float(), share)
