"""Photos without colours: what is painted into their films has none either."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from emo2 import pipeline
from emo2.media import read_photo
from emo2.signals import Portrait
from emo2.video.tone import LIGHT, Tone
from emo2.weights import ASSETS


@pytest.fixture(scope="module")
def coloured() -> Portrait:
    """The demo's rendered person, small."""
    image = read_photo(ASSETS / "demo" / "photo.jpg")[:, ::2, ::2]
    return Portrait(
        image=image,
        face_box=torch.tensor([160.0, 40.0, 248.0, 132.0]),
        face_points=torch.zeros(68, 2),
        body_points=torch.zeros(8, 3),
        hand_points=torch.zeros(2, 21, 3),
        hands_present=(False, False),
    )


def toned(portrait: Portrait, tint: tuple[float, float, float], noise: float = 0.0) -> Portrait:
    """The same without colours, paper and ink tinted, with coloured grain."""
    light = (torch.tensordot(torch.from_numpy(LIGHT), portrait.image, dims=1) + 1.0) / 2.0
    image = light[None] ** torch.tensor(tint)[:, None, None] * 2.0 - 1.0
    grain = torch.randn(image.shape, generator=torch.Generator().manual_seed(0))
    return replace(portrait, image=(image + noise * grain).clamp(-1.0, 1.0))


def test_a_photo_in_colour_keeps_its_films_colours(coloured: Portrait) -> None:
    assert Tone.build(coloured) is None


@pytest.mark.parametrize("tint", [(1.0, 1.0, 1.0), (0.8, 1.0, 1.4)])
@pytest.mark.parametrize("noise", [0.0, 0.03])
def test_what_is_painted_takes_the_tint_of_its_shade(
    coloured: Portrait, tint: tuple[float, float, float], noise: float
) -> None:
    tone = Tone.build(toned(coloured, tint, noise))
    assert tone is not None
    frame = np.ascontiguousarray(coloured.image.permute(1, 2, 0).numpy())
    shade = frame @ LIGHT
    tone.keep(frame)
    ramp = np.linspace(0.0, 1.0, 256)[:, None] ** np.array(tint) * 2.0 - 1.0  # paper's colours
    wanted = np.stack([np.interp(shade, ramp @ LIGHT, channel) for channel in ramp.T], axis=-1)
    met = (shade > -0.7) & (shade < 0.5)  # shades that the photo has
    assert np.abs(frame - wanted)[met].mean() < 0.01 + 0.5 * noise
    assert np.abs(frame @ LIGHT - shade).max() < 0.05


def test_a_toned_photo_is_kept_as_it_is(coloured: Portrait) -> None:
    brown = toned(coloured, (0.8, 1.0, 1.4))
    tone = Tone.build(brown)
    assert tone is not None
    frame = np.ascontiguousarray(brown.image.permute(1, 2, 0).numpy())
    before = frame.copy()
    tone.keep(frame)
    assert (
        np.quantile(np.abs(frame - before), 0.999) < 0.02
    )  # rare shades share a step of the curve


def test_a_film_of_a_grey_photo_is_grey(coloured: Portrait) -> None:
    look = pipeline.load("compact").video.look(toned(coloured, (1.0, 1.0, 1.0)))  # type: ignore[union-attr]
    frame = np.random.default_rng(0).uniform(-1, 1, (32, 32, 3)).astype(np.float32)
    look.keep_tone(frame)
    assert np.ptp(frame, axis=-1).max() < 0.01
