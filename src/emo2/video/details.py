"""Details: mouth and eyes, each in a window of its own on the photo, where the head does not move.

What a viewer looks at most is too small for the views' grid: a lip is two cells wide.  So mouth and eyes get windows
in the face's own coordinates (spanned by the eyes and the mouth), at the view's full resolution, in the frame of the
*photo*: the head's motion carries the finished window afterwards.  A network looks at each window once a film and
then says, for any face actions, how its pixels move beyond the expectation, and what to paint where nothing of the
photo is to be seen: teeth, the dark of the mouth, closed lids (ours; design §6 asks for views with the full grid).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from einops import rearrange, repeat
from jaxtyping import Float
from torch import Tensor, nn

from emo2.config import DetailConfig
from emo2.nn import zeroed
from emo2.video.examples import FACE_ACTIONS, MIRROR_ACTIONS, UNITS
from emo2.video.painter import PaintBlock

MOUTH_REACH, EYE_REACH = 0.8, 0.48
"""Half a window's side, in eye-to-mouth distances."""
MOUTH_DROP, EYE_RISE = 0.12, 0.12
"""How far the windows' middles lie below the mouth and above the eyes: room for the jaw and for the brows."""
FADE = 0.3
"""Share of a half side over which a window fades into what lies around it."""
PAINTED = 0.8
"""Share of a half side beyond which nothing is painted: chins and cheeks only move."""
OWN_WIDTH, OWN_CELLS = 16, 6
"""Of the map from which the photo's own face actions are read."""
FLOW_UNIT = 0.1
"""Windows' half sides per unit of the network's flow."""
GIVEN = 3
"""Of the expectation: flow, visibility."""


@dataclass(frozen=True, kw_only=True)
class Placement:
    """Where windows lie on views: place = centre + axes @ (u, v) for (u, v) in [-1, 1], in views' sides."""

    centre: Float[Tensor, "b 2"]
    axes: Float[Tensor, "b 2 2"]
    """Columns: half the window's width and height."""
    is_mirrored: bool = False
    """The window's x runs against the picture's: one network serves both eyes."""

    def places(self, side: int) -> Float[Tensor, "b s s 2"]:
        """The windows' pixels on their views."""
        middles = (torch.arange(side, device=self.centre.device) + 0.5) * (2.0 / side) - 1.0
        v, u = torch.meshgrid(middles, middles, indexing="ij")
        offsets = torch.einsum("bij,yxj->byxi", self.axes, torch.stack([u, v], dim=-1))
        return self.centre[:, None, None] + offsets

    def actions(self, actions: Float[Tensor, "b f 52"]) -> Float[Tensor, "b f 52"]:
        """Face actions as this window sees them."""
        return actions[..., MIRROR_ACTIONS] if self.is_mirrored else actions


def place_windows(marks: Float[Tensor, "b 3 2"]) -> tuple[Placement, Placement, Placement]:
    """Windows of the mouth, of the eye on the image's left and of that on its right, from `marks_of`."""
    mouth, left, right = marks.unbind(1)
    down = mouth - (left + right) / 2
    across = torch.stack([down[:, 1], -down[:, 0]], dim=-1)
    axes = torch.stack([across, down], dim=-1)
    mirror = torch.tensor([-1.0, 1.0], device=marks.device)
    return (
        Placement(centre=mouth + MOUTH_DROP * down, axes=MOUTH_REACH * axes),
        Placement(centre=left - EYE_RISE * down, axes=EYE_REACH * axes),
        Placement(centre=right - EYE_RISE * down, axes=EYE_REACH * axes * mirror, is_mirrored=True),
    )


def cut_window(
    images: Float[Tensor, "n c h w"], places: Float[Tensor, "n s t 2"]
) -> Float[Tensor, "n c s t"]:
    """Images read at places in their sides; borders repeated."""
    return F.grid_sample(
        images, places * 2.0 - 1.0, mode="bilinear", padding_mode="border", align_corners=False
    )


def window_weight(side: int, reach: float = 1.0) -> Float[Tensor, "1 1 s s"]:
    """1 in the middle of a window, falling smoothly to 0 at its border, or at that share of the way to it."""
    away = ((torch.arange(side) + 0.5) * (2.0 / side) - 1.0).abs()
    ramp = ((reach - away) / FADE).clamp(0.0, 1.0)
    ramp = ramp * ramp * (3.0 - 2.0 * ramp)
    return (ramp[:, None] * ramp[None])[None, None]


@dataclass(frozen=True, kw_only=True)
class WindowLook:
    """What a network says of a window of the photo, once a film."""

    fine: Float[Tensor, "b c s s"]
    middle: Float[Tensor, "b d _ _"]
    coarse: Float[Tensor, "b e _ _"]
    basis: Float[Tensor, "b k _ _"]
    """Flow of none, of every action, and of every action's difference to the photo's own."""
    own: Float[Tensor, "b 52"]
    """The photo's own face actions, as far as the window tells them, in `UNITS`."""


@dataclass(frozen=True, kw_only=True)
class Detail:
    """What happens in windows, in their own coordinates; already faded towards the border."""

    flow: Float[Tensor, "b f 2 s s"]
    """Added to the expectation's flow, in windows' half sides."""
    paint: Float[Tensor, "b f 3 s s"]
    alpha: Float[Tensor, "b f 1 s s"]
    """0..1: how much paint covers the pixels."""
    logit: Float[Tensor, "b f 1 s s"]
    """Of the alpha, before fading."""


class DetailNet(nn.Module):
    """One kind of window: an encoder that looks once, and a decoder modulated by the face actions."""

    def __init__(self, config: DetailConfig) -> None:
        super().__init__()
        fine, middle, coarse = config.widths
        self.fold = config.fold
        pixels = self.fold**2
        self.look_in = nn.Conv2d(5 * pixels, fine, 3, padding=1)
        self.look_down1 = nn.Conv2d(fine, middle, 3, 2, padding=1)
        self.look_mix1 = nn.Conv2d(middle, middle, 3, padding=1)
        self.look_down2 = nn.Conv2d(middle, coarse, 3, 2, padding=1)
        self.look_mix2 = nn.Conv2d(coarse, coarse, 3, padding=1)
        self.look_up1 = nn.Conv2d(coarse + middle, middle, 3, padding=1)
        self.look_up0 = nn.Conv2d(middle + fine, fine, 3, padding=1)
        self.basis = zeroed(nn.Conv2d(fine, 2 * (1 + 2 * FACE_ACTIONS), 3, padding=1))
        self.own_in = nn.Conv2d(coarse, OWN_WIDTH, 1)
        self.own = nn.Sequential(
            nn.Linear(OWN_WIDTH * OWN_CELLS**2, 96), nn.SiLU(), nn.Linear(96, FACE_ACTIONS)
        )
        self.code = nn.Sequential(
            nn.Linear(2 * FACE_ACTIONS, 96), nn.SiLU(), nn.Linear(96, 96), nn.SiLU()
        )
        self.blocks2 = nn.ModuleList(PaintBlock(coarse, 96) for _ in range(2))
        self.up1 = nn.Conv2d(coarse + middle, middle, 3, padding=1)
        self.block1 = PaintBlock(middle, 96)
        self.up0 = nn.Conv2d(middle + fine + GIVEN * pixels, fine, 3, padding=1)
        self.block0 = PaintBlock(fine, 96)
        self.flow_out = zeroed(nn.Conv2d(fine, 2, 3, padding=1))
        self.conv_out = zeroed(nn.Conv2d(fine, 4 * pixels, 3, padding=1))

    def look(self, window: Float[Tensor, "b 3 s s"]) -> WindowLook:
        """The photo's own window, and each pixel's place in it."""
        side = window.shape[-1]
        place = torch.linspace(-1.0, 1.0, side, device=window.device, dtype=window.dtype)
        ys, xs = torch.meshgrid(place, place, indexing="ij")
        planes = torch.stack([xs, ys]).expand(len(window), -1, -1, -1)
        inputs = F.pixel_unshuffle(torch.cat([window, planes], dim=1), self.fold)
        fine = F.silu(self.look_in(inputs))
        middle = F.silu(self.look_mix1(F.silu(self.look_down1(fine))))
        coarse = F.silu(self.look_mix2(F.silu(self.look_down2(middle))))
        cells = F.adaptive_avg_pool2d(F.silu(self.own_in(coarse)), OWN_CELLS)
        own = self.own(cells.flatten(1))
        middle = F.silu(self.look_up1(torch.cat([_double(coarse), middle], dim=1)))
        fine = F.silu(self.look_up0(torch.cat([_double(middle), fine], dim=1)))
        return WindowLook(fine=fine, middle=middle, coarse=coarse, basis=self.basis(fine), own=own)

    def forward(
        self,
        look: WindowLook,
        given: Float[Tensor, "b f 3 s s"],
        actions: Float[Tensor, "b f 52"],
    ) -> Detail:
        """`given`: what the expectation says of the window: flow (in windows' half sides) and visibility.

        The actions are told twice, as they are and against the photo's own: a smile that the photo has already
        is then nothing to do, and lips that it has apart are something to close.
        """
        batch, count = given.shape[:2]
        given = rearrange(given, "b f c h w -> (b f) c h w")
        units = actions / UNITS[:FACE_ACTIONS].to(actions)
        units = torch.cat([units, units - look.own[:, None].to(units)], dim=-1).flatten(0, 1)
        code = self.code(units)
        fine, middle, x = (
            repeat(z, "b c h w -> (b f) c h w", f=count)
            for z in (look.fine, look.middle, look.coarse)
        )
        for block in self.blocks2:
            x = block(x, code)
        x = self.up1(torch.cat([_double(F.silu(x)), middle], dim=1))
        x = self.block1(x, code)
        told = F.pixel_unshuffle(given, self.fold)
        x = self.up0(torch.cat([_double(F.silu(x)), fine, told.to(x.dtype)], dim=1))
        x = F.silu(self.block0(x, code))
        kinds = rearrange(look.basis, "b (k c) h w -> b k c h w", c=2)
        one = torch.cat([torch.ones_like(units[:, :1]), units], dim=-1)
        one = rearrange(one, "(b f) k -> b f k", b=batch)
        own = torch.einsum("bfk,bkchw->bfchw", one, kinds).flatten(0, 1)
        flow = F.interpolate(
            (own + self.flow_out(x)).float(), scale_factor=float(self.fold), mode="bilinear"
        )
        out = F.pixel_shuffle(self.conv_out(x), self.fold).float()
        logit = out[:, 3:] + 6.0 * (1.0 - given[:, 2:]) - 4.0
        weight = window_weight(given.shape[-1]).to(out)
        near = window_weight(given.shape[-1], PAINTED).to(out)
        split = "(b f) c h w -> b f c h w"
        return Detail(
            flow=rearrange(weight * FLOW_UNIT * flow, split, b=batch),
            paint=rearrange(out[:, :3], split, b=batch),
            alpha=rearrange(near * logit.sigmoid(), split, b=batch),
            logit=rearrange(logit, split, b=batch),
        )


def _double(x: Tensor) -> Tensor:
    return F.interpolate(x, scale_factor=2.0)


class Details(nn.Module):
    """The networks of mouth and eyes."""

    def __init__(self, config: DetailConfig) -> None:
        super().__init__()
        self.config = config
        self.mouth = DetailNet(config)
        self.eye = DetailNet(config)

    def sides(self) -> tuple[int, int, int]:
        """Pixels a side of the windows of mouth and eyes."""
        return self.config.mouth_side, self.config.eye_side, self.config.eye_side

    def networks(self) -> tuple[DetailNet, DetailNet, DetailNet]:
        """The network of each window of `place_windows`."""
        return self.mouth, self.eye, self.eye


def to_window(
    flow: Float[Tensor, "n 2 s s"], axes: Float[Tensor, "n 2 2"]
) -> Float[Tensor, "n 2 s s"]:
    """Flow in views' sides, in windows' half sides."""
    return torch.einsum("nij,njyx->niyx", torch.linalg.inv(axes), flow)


def to_view(
    flow: Float[Tensor, "n 2 s s"], axes: Float[Tensor, "n 2 2"]
) -> Float[Tensor, "n 2 s s"]:
    """The inverse of `to_window`."""
    return torch.einsum("nij,njyx->niyx", axes, flow)
