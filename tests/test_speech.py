"""Speech features: streaming, levels, pitch, rates."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from emo2.config import SpeechConfig
from emo2.signals import Speech
from emo2.speech import ROW_RATE, SpeechEncoder, context_rows, gain_of, measure, samples_for
from emo2.speech import mel as module

RATE = 16_000
SMALL = SpeechConfig(width=32, depth=2, mels=20)


@dataclass
class Samples:
    """A voice in memory; `size_given` overrides the block size, as decoders do."""

    samples: Tensor
    size_given: int | None = None

    def blocks(self, size: int) -> Iterator[Tensor]:
        yield from self.samples.split(self.size_given or size)


def voice(samples: Tensor, block: int | None = None) -> Speech:
    return Speech(voice=Samples(samples, block), sample_rate=RATE, num_samples=len(samples))


def murmur(seconds: float, hertz: float = 140.0) -> Tensor:
    """Something like a voice: harmonics that swell and fade."""
    time = torch.arange(int(seconds * RATE)) / RATE
    tone = sum(torch.sin(2 * torch.pi * hertz * k * time) / k for k in range(1, 9))
    return 0.1 * tone * (1.0 + torch.sin(2 * torch.pi * 3.0 * time))


@pytest.fixture(scope="module")
def encoder() -> SpeechEncoder:
    torch.manual_seed(0)
    return SpeechEncoder(SMALL).eval()


def test_blocks_leave_no_seam(encoder: SpeechEncoder, monkeypatch: pytest.MonkeyPatch) -> None:
    samples = murmur(9.3)
    whole = encoder.encode(voice(samples), 25.0)
    monkeypatch.setattr(module, "_BLOCK_ROWS", 37)
    parts = encoder.encode(voice(samples, block=1_711), 25.0)
    torch.testing.assert_close(parts.values, whole.values, atol=1e-5, rtol=0)
    torch.testing.assert_close(parts.energy, whole.energy, atol=1e-5, rtol=0)
    torch.testing.assert_close(parts.halfway, whole.halfway, atol=1e-5, rtol=0)


def test_halfway_is_what_a_voice_gives_that_begins_half_a_frame_later(
    encoder: SpeechEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_BLOCK_ROWS", 37)
    samples = murmur(3.0)
    found, later = (encoder.encode(voice(s), 25.0) for s in (samples, samples[RATE // 50 :]))
    assert found.halfway is not None
    inside = slice(context_rows(SMALL), -context_rows(SMALL) - 1)
    torch.testing.assert_close(found.halfway[inside], later.values[inside], atol=2e-3, rtol=0)
    assert (found.halfway - found.values)[inside].abs().max() > 0.05
    assert encoder.encode(voice(samples), 24.0).halfway is None


def test_there_is_a_row_for_every_film_frame(encoder: SpeechEncoder) -> None:
    samples = murmur(2.03)
    for fps, frames in ((25.0, 51), (24.0, 49), (30.0, 61), (12.5, 26)):
        features = encoder.encode(voice(samples), fps)
        assert features.values.shape == (frames, 1, SMALL.width)
        assert features.energy.shape == features.voiced.shape == (frames,)
        assert features.fps == fps


def test_other_frame_rates_lie_on_the_same_curve(encoder: SpeechEncoder) -> None:
    samples = murmur(4.0)
    slow, fast = (encoder.encode(voice(samples), fps) for fps in (25.0, 50.0))
    torch.testing.assert_close(fast.values[::2], slow.values, atol=1e-5, rtol=0)


def test_a_quiet_recording_gives_the_same_rows(encoder: SpeechEncoder) -> None:
    samples = murmur(3.0)
    loud, quiet = (encoder.encode(voice(samples * gain), 25.0) for gain in (1.0, 0.1))
    # The level is found to one decibel, which moves a log-mel by about a tenth.
    assert (loud.values - quiet.values).abs().mean() < 0.05 * loud.values.abs().mean()
    assert float((loud.energy - quiet.energy).mean()) == pytest.approx(20 / 60, abs=0.05)


def test_the_sound_beyond_the_context_is_not_heard(encoder: SpeechEncoder) -> None:
    rows = 3
    samples = murmur(10.0)[: samples_for(rows + 2, SMALL)]
    before = encoder(samples[None])[0]
    hop = RATE // ROW_RATE
    heard_by_first = samples_for(1, SMALL)
    samples = samples.clone()
    samples[heard_by_first:] = 0.0
    after = encoder(samples[None])[0]
    torch.testing.assert_close(after[0], before[0], atol=1e-6, rtol=0)
    assert (after[-1] - before[-1]).abs().max() > 1e-3
    assert context_rows(SMALL) * hop / RATE < 0.5


def test_pitch_and_voicing_are_those_of_the_tone() -> None:
    config = SpeechConfig()
    for hertz in (90.0, 150.0, 300.0):
        tracks = measure(murmur(1.0, hertz)[None, : samples_for(1, config)], config)[0, :, -3:]
        octaves = float(torch.log2(torch.tensor(hertz / 150.0)))
        assert float(tracks[:, 0].median()) == pytest.approx(octaves, abs=0.05)
        assert float(tracks[:, 1].median()) == 1.0


def test_hiss_is_not_voiced_and_silence_is_silent(encoder: SpeechEncoder) -> None:
    generator = torch.Generator().manual_seed(0)
    hiss = 0.05 * torch.randn(RATE * 2, generator=generator)
    assert float(encoder.encode(voice(hiss), 25.0).voiced.mean()) < 0.1
    assert float(encoder.encode(voice(torch.zeros(RATE)), 25.0).energy.max()) == 0.0


def test_a_very_short_voice_has_one_row(encoder: SpeechEncoder) -> None:
    assert len(encoder.encode(voice(murmur(0.03)), 25.0).values) == 1


def test_the_gain_follows_the_loud_passages_not_the_pauses() -> None:
    counts = torch.zeros(120)
    counts[40] = 900.0  # pauses at -80 dB
    counts[90] = 100.0  # speech at -30 dB
    assert gain_of(counts) == pytest.approx(10.0 ** (9.5 / 20.0), rel=0.07)
    assert gain_of(torch.zeros(120)) == 1.0


def test_another_sample_rate_is_refused(encoder: SpeechEncoder) -> None:
    wrong = Speech(voice=Samples(torch.zeros(8_000)), sample_rate=8_000, num_samples=8_000)
    with pytest.raises(ValueError, match=r"8000 samples a second.*sample_rate=16000"):
        encoder.encode(wrong, 25.0)
