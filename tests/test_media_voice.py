"""Voices: any container, rate and channel count becomes the same mono stream; bad ones say why."""

import wave
from pathlib import Path

import av
import numpy as np
import pytest
import torch

from emo2.errors import UserError
from emo2.media import read_voice, speech_from_samples
from emo2.signals import Speech

_CODECS = {
    "mp3": "libmp3lame", "m4a": "aac", "flac": "flac", "ogg": "libopus", "opus": "libopus",
    "wav": "pcm_s16le", "mp4": "aac", "mkv": "flac",
}  # fmt: skip


def _tone(seconds: float, rate: int) -> np.ndarray:
    """A tone with a gap in its middle, so that its place in time can be seen."""
    time = np.arange(round(seconds * rate)) / rate
    loud = np.where(abs(time - seconds / 2) < 0.1, 0.0, 0.5)
    return (loud * np.sin(2 * np.pi * 220 * time)).astype(np.float32)


def _write(path: Path, samples: np.ndarray, rate: int, channels: int = 1) -> Path:
    layout = {1: "mono", 2: "stereo", 6: "5.1"}[channels]
    with av.open(str(path), "w") as container:
        if path.suffix == ".mp4":  # a video with a sound track
            video = container.add_stream("libx264", rate=25)
            video.width = video.height = 64
            video.pix_fmt = "yuv420p"
        audio = container.add_stream(_CODECS[path.suffix[1:]], rate=rate, layout=layout)
        wanted = audio.format.name
        resampler = av.AudioResampler(format=wanted, layout=layout, rate=rate)
        planes = np.repeat(samples[None], channels, 0)
        if path.suffix == ".mp4":
            for _ in range(round(len(samples) / rate * 25)):
                picture = av.VideoFrame.from_ndarray(np.zeros((64, 64, 3), np.uint8))
                container.mux(video.encode(picture))
            container.mux(video.encode(None))
        size = audio.codec_context.frame_size or 1024
        for start in range(0, len(samples), size):
            piece = np.ascontiguousarray(planes[:, start : start + size])
            frame = av.AudioFrame.from_ndarray(piece, format="fltp", layout=layout)
            frame.sample_rate, frame.pts = rate, start
            for ready in resampler.resample(frame):
                container.mux(audio.encode(ready))
        container.mux(audio.encode(None))
    return path


def _whole(speech: Speech) -> torch.Tensor:
    return torch.cat(list(speech.voice.blocks(4000)))


@pytest.mark.parametrize("suffix", sorted(_CODECS))
def test_every_container_gives_the_same_voice(tmp_path: Path, suffix: str) -> None:
    rate = 48_000 if _CODECS[suffix] == "libopus" else 22_050
    speech = read_voice(_write(tmp_path / f"a.{suffix}", _tone(1.0, rate), rate, channels=2))
    assert speech.duration_s == pytest.approx(1.0, abs=0.07)  # codecs pad their last frame
    samples = _whole(speech)
    assert len(samples) == speech.num_samples
    assert float(samples[6700:9300].abs().max()) < 0.1  # the gap is where it was
    assert 0.4 < float(samples[2000:5000].abs().max()) < 0.6
    assert speech.source == tmp_path / f"a.{suffix}"


@pytest.mark.parametrize(("rate", "channels"), [(8000, 1), (16_000, 1), (44_100, 2), (96_000, 6)])
def test_any_rate_and_channel_count(tmp_path: Path, rate: int, channels: int) -> None:
    speech = read_voice(_write(tmp_path / "a.flac", _tone(0.5, rate), rate, channels))
    assert speech.sample_rate == 16_000
    assert speech.num_samples == pytest.approx(8000, abs=40)


def test_blocks_do_not_depend_on_their_size(tmp_path: Path) -> None:
    speech = read_voice(_write(tmp_path / "a.flac", _tone(0.7, 44_100), 44_100))
    small = list(speech.voice.blocks(160))
    assert all(len(block) == 160 for block in small[:-1])
    assert torch.equal(torch.cat(small), torch.cat(list(speech.voice.blocks(100_000))))


def _wave(path: Path, samples: np.ndarray, rate: int = 16_000) -> Path:
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes((samples * 32767).astype("<i2").tobytes())
    return path


def test_silence_is_refused(tmp_path: Path) -> None:
    quiet = _tone(1.0, 16_000) * 1e-3
    with pytest.raises(UserError, match=r"is silent.*-66 dBFS"):
        read_voice(_wave(tmp_path / "a.wav", quiet))
    with pytest.raises(UserError, match=r"is silent.*all zeros"):
        read_voice(_wave(tmp_path / "a.wav", quiet * 0))


def test_a_quiet_voice_is_not_silence(tmp_path: Path) -> None:
    assert read_voice(_wave(tmp_path / "a.wav", _tone(1.0, 16_000) * 0.01)).num_samples == 16_000


def test_no_samples_and_20_ms_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"0 samples.*at least 0\.1 s"):
        read_voice(_wave(tmp_path / "a.wav", np.zeros(0)))
    with pytest.raises(UserError, match=r"20 ms.*at least 0\.1 s"):
        read_voice(_wave(tmp_path / "b.wav", _tone(1.0, 16_000)[:320]))


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_samples_that_are_no_numbers_are_refused(tmp_path: Path, bad: float) -> None:
    samples = torch.from_numpy(_tone(1.0, 16_000))
    samples[5000] = bad
    with pytest.raises(UserError, match="NaN"):
        speech_from_samples(samples, sample_rate=16_000)
    path = tmp_path / "a.wav"
    with av.open(str(path), "w") as container:
        audio = container.add_stream("pcm_f32le", rate=44_100, layout="mono")
        frame = av.AudioFrame.from_ndarray(samples.numpy()[None], format="flt", layout="mono")
        frame.sample_rate, frame.pts = 44_100, 0
        container.mux(audio.encode(frame))
        container.mux(audio.encode(None))
    with pytest.raises(UserError, match="NaN"):
        read_voice(path)


def test_text_as_a_voice_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_text("no sound here\n" * 50)
    with pytest.raises(UserError, match="no sound file"):
        read_voice(tmp_path / "a.wav")


def test_a_video_without_sound_is_refused(tmp_path: Path) -> None:
    with av.open(str(tmp_path / "a.mp4"), "w") as container:
        video = container.add_stream("libx264", rate=25)
        video.width = video.height = 64
        video.pix_fmt = "yuv420p"
        container.mux(video.encode(av.VideoFrame.from_ndarray(np.zeros((64, 64, 3), np.uint8))))
        container.mux(video.encode(None))
    with pytest.raises(UserError, match="no sound track"):
        read_voice(tmp_path / "a.mp4")


@pytest.mark.parametrize("front", [False, True], ids=["index last", "index first"])
def test_a_truncated_mp4_is_named(tmp_path: Path, front: bool) -> None:
    whole = _write(tmp_path / "a.m4a", _tone(4.0, 44_100), 44_100)
    if front:
        with (
            av.open(str(whole)) as source,
            av.open(str(tmp_path / "b.m4a"), "w", options={"movflags": "+faststart"}) as target,
        ):
            stream = target.add_stream_from_template(source.streams.audio[0])
            for packet in source.demux():
                if packet.size:
                    packet.stream = stream
                    target.mux(packet)
        whole = tmp_path / "b.m4a"
    data = whole.read_bytes()
    whole.write_bytes(data[: len(data) // 2])
    with pytest.raises(UserError, match="cut off"):
        read_voice(whole)


def test_missing_empty_and_folder_are_told_apart(tmp_path: Path) -> None:
    (tmp_path / "empty.wav").touch()
    for path, words in (
        ("gone.wav", "does not exist"),
        ("empty.wav", "is empty"),
        ("", "is a folder"),
    ):
        with pytest.raises(UserError, match=words):
            read_voice(tmp_path / path)
