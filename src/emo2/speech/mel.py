"""Speech to one feature row a film frame: log-mel, pitch and energy through a small encoder (design §4).

Place in the flow: after `media`, before both stages.  The compact encoder sees about 0.4 s to each side and
is trained together with stage 1.  Long voices are read in blocks with that much overlap, so memory does not
grow with their length and there is no seam between blocks.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import cache
from typing import cast

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from emo2.config import SpeechConfig
from emo2.nn import Attention, FeedForward, band_mask, rotary
from emo2.reel import join
from emo2.signals import Speech, SpeechFeatures

ROW_RATE = 25
"""Rows a second inside the encoder; other frame rates are interpolated from them."""

SLICES = 4
"""Spectrogram slices a row."""

WINDOW = 1024
"""Samples of a slice: two periods of the lowest voice at 16 kHz."""

MEL_WINDOW = 512
"""Samples in its middle that the mel spectrum sees (32 ms at 16 kHz)."""

REACH = 2
"""Rows to each side that one block's attention sees."""

TRACKS = 3
"""Input channels beside the mels: pitch, voicing, loudness."""

USUAL_LEVEL_DB = -20.0
"""Loud passages (95th percentile) are brought to this level before anything is measured."""

FLOOR_DB = -60.0
_LOWEST_HZ, _HIGHEST_HZ = 60.0, 500.0
_BLOCK_ROWS = 500


def context_rows(config: SpeechConfig) -> int:
    """Rows to each side of a row on which its feature depends, rounded up."""
    return config.depth * REACH + 4


def samples_for(rows: int, config: SpeechConfig) -> int:
    """Samples that the encoder needs for `rows` rows, context included."""
    hop = config.sample_rate // (ROW_RATE * SLICES)
    return (rows + 2 * context_rows(config)) * SLICES * hop + WINDOW - hop


@cache
def _mel_filters(sample_rate: int, mels: int) -> Tensor:
    """Triangles on the mel scale (O'Shaughnessy: 2595 log10(1 + f / 700)), 50 Hz to 8 kHz; (bins, mels)."""
    top = min(8_000.0, sample_rate / 2)
    scale = torch.linspace(_mel(50.0), _mel(top), mels + 2)
    edges = 700.0 * (10.0 ** (scale / 2595.0) - 1.0)
    bins = torch.linspace(0.0, sample_rate / 2, MEL_WINDOW // 2 + 1)[:, None]
    # Triangles narrower than a bin are widened, or the lowest would hear nothing.
    width = sample_rate / MEL_WINDOW
    rise = (bins - edges[:-2]) / (edges[1:-1] - edges[:-2]).clamp(min=width)
    fall = (edges[2:] - bins) / (edges[2:] - edges[1:-1]).clamp(min=width)
    return torch.minimum(rise, fall).clamp(min=0.0)


def _mel(hertz: float) -> float:
    return 2595.0 * math.log10(1.0 + hertz / 700.0)


@cache
def _pitch_window() -> tuple[Tensor, Tensor]:
    """The window of the pitch and its own autocorrelation."""
    whole = torch.hann_window(WINDOW)
    own = torch.fft.irfft(_power(torch.fft.rfft(whole, 2 * WINDOW)))[:WINDOW]
    return whole, own / own[0]


def _power(spectrum: Tensor) -> Tensor:
    return spectrum.real.square() + spectrum.imag.square()


def measure(
    samples: Float[Tensor, "b n"], config: SpeechConfig
) -> Float[Tensor, "b slices channels"]:
    """Log-mel spectrum, pitch (octaves from 150 Hz), voicing (0..1) and loudness, 100 slices a second."""
    hop = config.sample_rate // (ROW_RATE * SLICES)
    side = (WINDOW - MEL_WINDOW) // 2
    with torch.autocast(samples.device.type, enabled=False):  # logarithms want all their digits
        window = torch.hann_window(MEL_WINDOW, device=samples.device)
        pieces = samples[..., side:-side].unfold(-1, MEL_WINDOW, hop) * window
        filters = _mel_filters(config.sample_rate, config.mels).to(samples.device)
        mels = torch.log(_power(torch.fft.rfft(pieces)) @ filters + 1e-4)
        level = 10.0 * torch.log10(pieces.square().sum(-1) / window.square().sum() + 1e-10)
        # The pitch changes slowly: once a row is enough.
        pitch, voicing = _pitch(samples.unfold(-1, WINDOW, hop)[:, ::SLICES], config.sample_rate)
        slow = torch.stack((pitch, voicing), dim=-1).repeat_interleave(SLICES, 1)
        loudness = ((level - FLOOR_DB) / -FLOOR_DB).clamp(0.0, 1.2)[..., None]
        return torch.cat((mels / 2.0, slow[:, : mels.shape[1]], loudness), dim=-1)


def _pitch(pieces: Tensor, sample_rate: int) -> tuple[Tensor, Tensor]:
    """Highest peak of the autocorrelation, divided by the window's own (Boersma 1993, eq. 9)."""
    whole, own = (part.to(pieces.device) for part in _pitch_window())
    lags = torch.fft.irfft(_power(torch.fft.rfft(pieces * whole, 2 * WINDOW)))
    low, high = int(sample_rate / _HIGHEST_HZ), int(sample_rate / _LOWEST_HZ)
    # The small constant keeps digital silence and hiss below any voice unvoiced.
    score = lags[..., low:high] / (lags[..., :1] + 1e-3) / own[low:high]
    # A slight preference for short lags, or every second period would win as often as the first.
    score = score - 0.05 * torch.linspace(0.0, 1.0, high - low, device=pieces.device)
    best, index = score.max(dim=-1)
    voicing = ((best - 0.3) / 0.5).clamp(0.0, 1.0)
    pitch = torch.log2(sample_rate / (index + low).float() / 150.0)
    return pitch * voicing, voicing


class _Block(nn.Module):
    """Attention among a row's neighbours, then two layers."""

    def __init__(self, config: SpeechConfig) -> None:
        super().__init__()
        self.norm_1 = nn.LayerNorm(config.width)
        self.attention = Attention(config.width, config.width // 32)
        self.norm_2 = nn.LayerNorm(config.width)
        self.feed = FeedForward(config.width, factor=3)

    def forward(self, x: Tensor, mask: Tensor, turn: tuple[Tensor, Tensor]) -> Tensor:
        x = x + self.attention(self.norm_1(x), mask=mask, turn=turn)
        return x + self.feed(self.norm_2(x))


class SpeechEncoder(nn.Module):
    """Our compact encoder: two strided convolutions, then blocks of local attention."""

    def __init__(self, config: SpeechConfig) -> None:
        super().__init__()
        if config.kind != "mel":
            raise ValueError(
                f"this encoder is of kind 'mel', not {config.kind!r}: see load_encoder"
            )
        self.config = config
        width = config.width
        self.conv_1 = nn.Conv1d(config.mels + TRACKS, width, 6, stride=2, padding=2)
        self.conv_2 = nn.Conv1d(width, width, 6, stride=2, padding=2)
        self.blocks = nn.ModuleList(_Block(config) for _ in range(config.depth))
        self.norm = nn.LayerNorm(width)

    def forward(self, samples: Float[Tensor, "b n"]) -> Float[Tensor, "b rows width"]:
        """Rows of levelled samples; their number says how many (see `samples_for`)."""
        return self.rows(measure(samples, self.config))

    def rows(self, measured: Float[Tensor, "b slices channels"]) -> Float[Tensor, "b rows width"]:
        """Feature rows of measured slices, the context at both ends taken off."""
        x = rearrange(measured, "b n c -> b c n")
        x = F.gelu(self.conv_2(F.gelu(self.conv_1(x))))
        x = rearrange(x, "b c n -> b n c")
        count = x.shape[1]
        mask = band_mask(count, count, REACH).to(x.device)
        turn = rotary(
            torch.arange(count, device=x.device, dtype=torch.float32), 32, max_period=100.0
        )
        for block in self.blocks:
            x = block(x, mask, turn)
        context = context_rows(self.config)
        return self.norm(x)[:, context : count - context]

    def encode(self, speech: Speech, fps: float) -> SpeechFeatures:
        """Features of a whole voice; one row a film frame."""
        return join(list(self.stream(speech, fps)))

    def stream(self, speech: Speech, fps: float) -> Iterator[SpeechFeatures]:
        """`encode`, block after block as they are asked for; before that the voice is heard once for its level."""
        config = self.config
        if speech.sample_rate != config.sample_rate:
            raise ValueError(
                f"the voice has {speech.sample_rate} samples a second and the encoder hears "
                f"{config.sample_rate}; read it with sample_rate={config.sample_rate}"
            )
        counts = count_levels(speech)
        gain, loud = gain_of(counts), _energy_of(loud_of(counts))
        rows = math.ceil(speech.duration_s * ROW_RATE) + 2
        rate = _Rate(fps, max(math.ceil(speech.duration_s * fps - 1e-6), 1))
        # At other rates a row is none of the film's frames, so there is no half of one.
        late = config.sample_rate // (2 * ROW_RATE) if fps == ROW_RATE else 0
        for samples in _row_blocks(speech, rows, config, more=late):
            frames = rate.frames(self._block(samples, gain, late))
            heard = frames[:, :-2].unflatten(1, (-1, 1, config.width))
            if len(frames):
                yield SpeechFeatures(
                    values=heard[:, 0], halfway=heard[:, 1] if late else None,
                    energy=frames[:, -2], voiced=frames[:, -1], fps=fps, loud=loud,
                )  # fmt: skip

    @torch.inference_mode()
    def _block(
        self, samples: Float[Tensor, " n"], gain: float, late: int
    ) -> Float[Tensor, "rows d"]:
        """Values, those `late` samples later if any, energy and voicing of a block's rows."""
        places = (0, late) if late else (0,)
        found = [
            measure(samples[None, at : len(samples) - late + at] * gain, self.config)
            for at in places
        ]
        values = torch.cat([self.rows(m.to(self.norm.weight)).cpu()[0] for m in found], dim=1)
        measured = found[0]
        context = context_rows(self.config)
        tracks = rearrange(measured[0, :, -TRACKS:], "(n s) c -> n s c", s=SLICES).mean(1)
        tracks = tracks[context : len(tracks) - context]
        loudness = tracks[:, 2:] - 20.0 * math.log10(gain) / -FLOOR_DB  # the voice's own level
        return torch.cat((values, loudness.clamp(0.0, 1.0), tracks[:, 1:2]), dim=1)


class Tracks:
    """Loudness and voicing of a voice, `count` rows at `fps`, for encoders that do not measure them."""

    def __init__(self, speech: Speech, fps: float, count: int) -> None:
        counts = count_levels(speech)
        self._gain, self.loud = gain_of(counts), _energy_of(loud_of(counts))
        rows = math.ceil(count / fps * ROW_RATE) + 2
        self._blocks = _row_blocks(speech, rows, SpeechConfig(depth=0))
        self._rate = _Rate(fps, count)
        self._held = torch.zeros(0, 2)

    @torch.inference_mode()
    def take(self, count: int) -> tuple[Float[Tensor, " n"], Float[Tensor, " n"]]:
        """Energy and voicing of the next rows."""
        config = SpeechConfig(depth=0)
        context = context_rows(config)
        while len(self._held) < count:
            measured = measure(next(self._blocks)[None] * self._gain, config)
            rows = rearrange(measured[0, :, -2:], "(n s) c -> n s c", s=SLICES).mean(1)
            rows = rows[context : len(rows) - context].flip(1)
            rows[:, 0] -= 20.0 * math.log10(self._gain) / -FLOOR_DB  # the voice's own level
            rows[:, 0].clamp_(0.0, 1.0)
            self._held = torch.cat([self._held, self._rate.frames(rows)])
        now, self._held = self._held[:count], self._held[count:]
        return now[:, 0], now[:, 1]


def _row_blocks(
    speech: Speech, rows: int, config: SpeechConfig, *, more: int = 0
) -> Iterator[Tensor]:
    """The samples behind consecutive blocks of rows, context and `more` included; silence beyond both ends."""
    hop = config.sample_rate // (ROW_RATE * SLICES)
    context = context_rows(config) * SLICES * hop + (WINDOW - hop) // 2
    source = speech.voice.blocks(config.sample_rate)
    held = torch.zeros(context)
    is_open = True
    for start in range(0, rows, _BLOCK_ROWS):
        count = min(_BLOCK_ROWS, rows - start)
        wanted = samples_for(count, config) + more
        parts = [held]
        have = len(held)
        while have < wanted:
            piece = next(source, None) if is_open else None
            if piece is None:
                is_open = False
                piece = torch.zeros(wanted - have)
            parts.append(piece.float())
            have += len(piece)
        held = torch.cat(parts)
        yield held[:wanted]
        held = held[count * SLICES * hop :]


class _Rate:
    """Linear interpolation from the encoder's rate to the film's, for rows that come in blocks."""

    def __init__(self, fps: float, count: int) -> None:
        self.fps, self.count = fps, count
        self.made = 0
        self.first = 0
        """Number of the first row held."""
        self.held = torch.zeros(0, 0)

    def frames(self, rows: Float[Tensor, "rows d"]) -> Float[Tensor, "n d"]:
        """The frames that these rows complete."""
        if self.fps == ROW_RATE:
            begin, self.made = self.made, min(self.made + len(rows), self.count)
            return rows[: self.made - begin]
        self.held = torch.cat((self.held, rows)) if len(self.held) else rows
        at = torch.arange(self.made, self.count) * (ROW_RATE / self.fps)
        low = at.floor().long() - self.first
        ready = int((low + 1 < len(self.held)).sum())
        at, low = at[:ready], low[:ready]
        made = torch.lerp(
            self.held[low], self.held[low + 1], (at - (low + self.first).float())[:, None]
        )
        self.made += ready
        if ready:
            self.held, self.first = self.held[int(low[-1]) :], self.first + int(low[-1])
        return made


def _energy_of(level_db: float) -> float:
    """A level in units of `SpeechFeatures.energy`."""
    return min(max((level_db - FLOOR_DB) / -FLOOR_DB, 0.0), 1.0)


def level_gain(speech: Speech) -> float:
    """Factor that brings the loud passages to the usual level."""
    return gain_of(count_levels(speech))


def count_levels(speech: Speech) -> Float[Tensor, "120"]:
    """How many pieces of the voice have each level; one pass over it, a histogram held."""
    counts = torch.zeros(120)
    size = speech.sample_rate // ROW_RATE
    rest = torch.zeros(0)
    for block in speech.voice.blocks(speech.sample_rate):
        samples = torch.cat((rest, block.float()))
        whole = len(samples) // size * size
        rest = samples[whole:]
        counts += level_counts(samples[:whole].view(-1, size))
    if len(rest) and not counts.sum():
        counts += level_counts(rest[None])
    return counts


def level_counts(pieces: Float[Tensor, "n size"]) -> Tensor:
    """How many pieces have each whole level from -119 to 0 dB; digital silence is left out."""
    level = 10.0 * torch.log10(pieces.square().mean(-1) + 1e-13)
    level = level[level > -100.0].clamp(-119.0, 0.0)
    return torch.histc(level, bins=120, min=-120.0, max=0.0)


def gain_of(counts: Float[Tensor, "120"]) -> float:
    """The factor for a histogram of levels: its loud passages to the usual level, at most 40 dB up."""
    if not float(counts.sum()):
        return 1.0
    return 10.0 ** (min(USUAL_LEVEL_DB - loud_of(counts), 40.0) / 20.0)


def loud_of(counts: Float[Tensor, "120"]) -> float:
    """Level of the loud passages (95th percentile), dB; the floor where there is nothing but digital silence."""
    total = float(counts.sum())
    if not total:
        return FLOOR_DB
    above = counts.flip(0).cumsum(0) > 0.05 * total
    return -0.5 - float(cast(Tensor, above.float().argmax()))
