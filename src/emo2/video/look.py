"""What stage 2 makes of a portrait once a film: its views, and what the reference network says of each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Float32
from torch import Tensor

from emo2.signals import Appearance, Portrait
from emo2.video.backdrop import Backdrop
from emo2.video.conditions import Features
from emo2.video.detail_layers import CarriedWindow, DetailWindow, lay_windows
from emo2.video.entering import Entering
from emo2.video.entering_pose import LimbPose, pose_reach
from emo2.video.eyelids import Eyelids
from emo2.video.folded_hands import FoldedHands
from emo2.video.layers import Layers
from emo2.video.opening import as_asked
from emo2.video.own_actions import against, keep_expression
from emo2.video.painter import Painted
from emo2.video.script import Script, quantise
from emo2.video.tone import Tone
from emo2.video.views import Composer, View


@dataclass(frozen=True, kw_only=True)
class Seen:
    """What the reference network says of views."""

    features: Features
    """Of every image given, one tensor per attention site."""
    output: Float[Tensor, "b k s s"]
    """The motion basis."""


@dataclass(frozen=True, kw_only=True)
class ViewLook:
    """A view of the portrait, looked at once per film."""

    view: View
    image: Float[Tensor, "1 3 s s"]
    marks: Float[Tensor, "1 3 2"]
    appearance: Appearance
    windows: tuple[DetailWindow, ...] = ()
    """Mouth and eyes, in the face's view."""

    def conditions(self, script: Script, first: int, stop: int) -> Float[Tensor, "1 f 64"]:
        """What some frames ask of this person, whose own expression stays."""
        asked = script.conditions(first, stop).to(self.image.device)
        own = self.appearance.own
        return asked if own is None else keep_expression(asked, own)

    def asked(self, conditions: Float[Tensor, "1 f 64"]) -> Float[Tensor, "1 f 64"]:
        """Conditions as the basis is told them in this view (`opening.as_asked`, `own_actions.against`)."""
        own = self.appearance.own
        assert own is not None
        return against(as_asked(conditions, own), own, self.kind)

    @property
    def output(self) -> Float[Tensor, "1 k s s"]:
        """The motion basis."""
        assert self.appearance.output is not None
        return self.appearance.output

    @property
    def kind(self) -> Float[Tensor, "1"]:
        """The view's kind as the networks are told it."""
        return torch.tensor([self.view.kind], device=self.image.device)


@dataclass(frozen=True, kw_only=True)
class Arms:
    """Where arms and hands are in a frame."""

    layers: Float32[np.ndarray, "2 23"] | None
    """Those of the photo, against it; None where none move."""
    entering: tuple[tuple[LimbPose | None, ...], tuple[LimbPose | None, ...]] | None
    """Those that come into the picture, in this frame and in the one before; None where none may."""


@dataclass(frozen=True, kw_only=True)
class Look:
    """All views of the portrait, widest first."""

    views: tuple[ViewLook, ...]
    composer: Composer
    layers: Layers
    """Arms and hands, where the photo has any that can be moved."""
    folded: FoldedHands | None = None
    """Hands that lie in each other, where the photo has such."""
    backdrop: Backdrop | None = None
    """What stands behind the head, where anything of it is seen."""
    entering: Entering | None = None
    """Hands that the photo does not show, where they may come into it."""
    tone: Tone | None = None
    """The colours of a photo that has none of its own."""
    eyelids: Eyelids | None = None
    """What closes the photo's eyes, where it shows two open ones."""

    @staticmethod
    def of(
        portrait: Portrait, views: tuple[ViewLook, ...], layers: Layers, folded: FoldedHands | None
    ) -> Look:
        """The views of a portrait, and what is cut from it."""
        return Look(
            views=views,
            composer=Composer(portrait.image, [look.view for look in views]),
            layers=layers,
            folded=folded,
            backdrop=Backdrop.build(portrait),
            entering=Entering.build(portrait),
            tone=Tone.build(portrait),
            eyelids=Eyelids.build(portrait),
        )

    def compose(
        self,
        flows: Sequence[Float[Tensor, "2 g g"]],
        painted: Sequence[Painted],
        windows: list[CarriedWindow],
        number: int,
        visible: Sequence[Float[Tensor, "1 g g"]],
        arms: Arms,
        closures: Float32[np.ndarray, "2"] | None = None,
    ) -> tuple[Float32[np.ndarray, "h w 3"], Float32[np.ndarray, "h w 2"]]:
        """Frame `number` of a clip before arms are laid over it, and its flow over the photo, in pixels.

        `flows` and `visible` are those of the views, widest first; `closures`: of both eyes (`eyelids.py`).
        """
        flow = self.composer.flow(flows)
        if self.folded is not None and arms.layers is not None:
            flow = self.folded.carry(flow, arms.layers)
        backdrop, behind, edge = self.backdrop, None, None
        if backdrop is not None:
            edge = backdrop.follow(flow, self.composer.seen(visible))
        lids = ()
        if self.eyelids is not None and closures is not None:
            lids = self.eyelids.follow(self.composer.places, flow, closures)
        laid, free = lay_windows(windows, number, flow)
        frame = self.composer.warp(flow)
        places = self.composer.places + flow
        if backdrop is not None:
            behind = backdrop.plate_of(edge), backdrop.behind(places)
        if edge is not None:
            free = np.ones((*flow.shape[:2], 1), np.float32) if free is None else free
            free[edge.box] *= 1.0 - edge.own
        for index, view in enumerate(painted):
            paint, alpha = view.paint[number], view.alpha[number]
            self.composer.paint(frame, index, paint, alpha, free, behind)
        for window in laid:
            window.paint_on(frame)
        for lid in lids:
            lid.lay(frame)
        if backdrop is not None:
            backdrop.lay(frame, places, edge)
        return frame, flow

    @property
    def arms_move(self) -> bool:
        """Whether poses of the photo's own arms are wanted."""
        return bool(self.layers.arms) or self.folded is not None

    def reach(self, fps: float) -> int:
        """Frames of motion before a clip that its arms need."""
        return 0 if self.entering is None else pose_reach(fps) + 1

    def arms(self, script: Script, first: int, stop: int) -> list[Arms]:
        """What arms and hands do in some frames."""
        layers, entering = script.arms_at(first, stop), [None] * (stop - first)
        if self.entering is not None:
            low = max(first - self.reach(script.fps), 0)
            high = min(stop + self.reach(script.fps), len(script.motion))
            poses = self.entering.poses(script.motion.between(low, high))
            before = [poses[max(k - 1, 0)] for k in range(first - low, stop - low)]
            entering = list(zip(poses[first - low : stop - low], before, strict=True))
        return [Arms(layers=a, entering=e) for a, e in zip(layers, entering, strict=True)]

    def lay_arms(self, frame: np.ndarray, flow: np.ndarray, arms: Arms) -> None:
        """Lay them over a frame in place."""
        if arms.layers is not None:
            self.layers.lay(frame, flow, arms.layers)
        if self.entering is not None and arms.entering is not None:
            self.entering.lay(frame, flow, *arms.entering)

    def keep_tone(self, frame: Float32[np.ndarray, "h w 3"]) -> None:
        """Take colours out of a frame, in place, that a photo without colours has not."""
        if self.tone is not None:
            self.tone.keep(frame)

    def last_frames(
        self, frames: Float[Tensor, "f 3 h w"], count: int, side: int
    ) -> dict[str, Tensor]:
        """What the next clip needs of this one: its last frames in every view, as bytes."""
        return {
            f"motion_frames_{index}": quantise(seen.view.cut(frames[-count:], side))
            for index, seen in enumerate(self.views)
        }
