"""Films: length, sound, resume and faults."""

import resource
from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
import pytest
import torch

from emo2.errors import UserError
from emo2.media import Film, num_frames, read_photo, read_voice, speech_from_samples
from emo2.signals import Clip, Speech

_FPS = 25.0
_FRAMES = 18
_CLIP = 5


def _speech(seconds: float = _FRAMES / _FPS) -> Speech:
    time = torch.arange(round(seconds * 16_000)) / 16_000
    return speech_from_samples(0.4 * torch.sin(2 * torch.pi * 220 * time), sample_rate=16_000)


def _clips(size: tuple[int, int], start: int = 0) -> Iterator[Clip]:
    """A grey ramp that slides to the left under a coloured block."""
    height, width = size
    ramp = torch.linspace(-0.8, 0.8, width).expand(3, height, width).clone()
    ramp[:, : height // 2, : width // 3] = torch.tensor([0.9, -0.6, -0.8])[:, None, None]
    for first in range(start, _FRAMES, _CLIP):
        indices = range(first, min(first + _CLIP, _FRAMES))
        frames = torch.stack([ramp.roll(-2 * index, -1) for index in indices])
        yield Clip(frames=frames, start=first, fps=_FPS)


def _make(path: Path, *, stop: int | None = None, size: tuple[int, int] = (64, 96)) -> list[int]:
    """Write a film, or break off before frame `stop`; which clips were made."""
    made = []
    film = Film(path, size, _FPS, _speech(), fingerprint="the same command")
    try:
        with film:
            for clip in _clips(size, film.frames_done):
                if clip.start == stop:
                    raise KeyboardInterrupt
                made.append(clip.start)
                film.write(clip, {"end": torch.tensor(clip.start + len(clip.frames))})
    except KeyboardInterrupt:
        pass
    return made


def _fill(film: Film) -> None:
    with film:
        for clip in _clips(film.size, film.frames_done):
            film.write(clip)


def _read(path: Path) -> tuple[np.ndarray, float, str]:
    with av.open(str(path)) as container:
        pictures = [f.to_ndarray(format="rgb24") for f in container.decode(video=0)]
        sound = container.streams.audio[0]
        return np.stack(pictures), float(sound.duration * sound.time_base), sound.codec_context.name


def test_frame_counts_round_up() -> None:
    assert num_frames(1.0, 25.0) == 25
    assert num_frames(1.001, 25.0) == 26
    assert num_frames(0.001, 25.0) == 1
    assert num_frames(11.0, 30000 / 1001) == 330


@pytest.mark.parametrize("size", [(64, 96), (65, 97)])
def test_the_film_is_as_long_as_the_voice_and_looks_like_its_clips(
    tmp_path: Path, size: tuple[int, int]
) -> None:
    path = tmp_path / "film.mp4"
    assert _make(path, size=size) == [0, 5, 10, 15]
    pictures, sound_s, codec = _read(path)
    assert pictures.shape == (_FRAMES, size[0] + size[0] % 2, size[1] + size[1] % 2, 3)
    assert codec == "aac"
    assert sound_s == pytest.approx(_FRAMES / _FPS, abs=0.03)
    wanted = torch.cat([clip.frames for clip in _clips(size)]).permute(0, 2, 3, 1) * 127.5 + 127.5
    error = np.abs(pictures[:, : size[0], : size[1]] - wanted.numpy())
    assert error.mean() < 4
    assert error[:, 10, 10].max() < 16  # colours mean the same to the player
    assert not (tmp_path / ".film.mp4.emo2").exists()
    assert [p.name for p in tmp_path.iterdir()] == ["film.mp4"]


def test_the_index_stands_in_front(tmp_path: Path) -> None:
    _make(tmp_path / "film.mp4")
    data = (tmp_path / "film.mp4").read_bytes()
    assert 0 < data.find(b"moov") < data.find(b"mdat")


def test_a_broken_run_goes_on_and_gives_the_same_bytes(tmp_path: Path) -> None:
    _make(tmp_path / "whole.mp4")
    path = tmp_path / "film.mp4"
    assert _make(path, stop=10) == [0, 5]
    folder = tmp_path / ".film.mp4.emo2"
    (folder / "clip-00000010-00000015.mp4.part").write_bytes(b"half a cl")
    film = Film(path, (64, 96), _FPS, fingerprint="the same command")
    assert film.frames_done == 10
    state = film.state()
    assert state is not None
    assert int(state["end"]) == 10
    film.release()
    assert not path.exists()
    assert _make(path, stop=15) == [10]
    assert _make(path) == [15]
    assert path.read_bytes() == (tmp_path / "whole.mp4").read_bytes()


def test_another_command_starts_anew(tmp_path: Path) -> None:
    path = tmp_path / "film.mp4"
    _make(path, stop=10)
    film = Film(path, (64, 96), _FPS, fingerprint="another command")
    film.release()
    assert film.frames_done == 0
    assert film.state() is None


def test_a_lost_clip_is_made_again_with_all_after_it(tmp_path: Path) -> None:
    path = tmp_path / "film.mp4"
    _make(path, stop=15)
    (tmp_path / ".film.mp4.emo2" / "clip-00000005-00000010.mp4").unlink()
    assert _make(path) == [0, 5, 10, 15]


def test_finished_clips_can_be_watched_while_the_rest_is_made(tmp_path: Path) -> None:
    film = Film(tmp_path / "film.mp4", (64, 96), _FPS)
    film.write(next(_clips((64, 96))))
    film.release()
    with av.open(str(film.segments[0])) as container:
        assert len(list(container.decode(video=0))) == _CLIP


def test_two_runs_of_one_film_are_kept_apart(tmp_path: Path) -> None:
    film = Film(tmp_path / "film.mp4", (64, 96), _FPS)
    with pytest.raises(UserError, match="another emo2"):
        Film(tmp_path / "film.mp4", (64, 96), _FPS)
    film.release()
    Film(tmp_path / "film.mp4", (64, 96), _FPS).release()


def test_an_aac_voice_is_copied_untouched(tmp_path: Path) -> None:
    _make(tmp_path / "first.mp4")
    with Film(tmp_path / "second.mp4", (64, 96), _FPS, tmp_path / "first.mp4") as film:
        for clip in _clips((64, 96)):
            film.write(clip)

    def packets(path: Path) -> list[bytes]:
        with av.open(str(path)) as container:
            return [bytes(packet) for packet in container.demux(audio=0) if packet.size]

    assert packets(tmp_path / "first.mp4") == packets(tmp_path / "second.mp4")


def test_sound_and_picture_start_together(tmp_path: Path) -> None:
    time = torch.arange(16_000) / 16_000
    click = torch.where((time - 0.5).abs() < 0.02, 0.9 * torch.sin(3000 * time), 0.0)
    voice = speech_from_samples(click, sample_rate=16_000)
    with Film(tmp_path / "film.mp4", (64, 96), _FPS, voice) as film:
        for clip in _clips((64, 96)):
            film.write(clip)
    samples = torch.cat(list(read_voice(tmp_path / "film.mp4").voice.blocks(16_000)))
    loud = (samples.abs() > 0.2).nonzero()
    assert float(loud.float().mean()) / 16_000 == pytest.approx(0.5, abs=0.004)


def test_kept_frames_are_lossless(tmp_path: Path) -> None:
    with Film(tmp_path / "film.mp4", (65, 97), _FPS, keep_frames=tmp_path / "frames") as film:
        for clip in _clips((65, 97)):
            film.write(clip)
    wanted = torch.cat([clip.frames for clip in _clips((65, 97))])
    assert len(list((tmp_path / "frames").iterdir())) == _FRAMES
    kept = read_photo(tmp_path / "frames" / "frame-000007.png")
    assert float((kept - wanted[7]).abs().max()) <= 1 / 255 + 1e-6


def test_unwritable_outputs_are_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    (tmp_path / "folder.mp4").mkdir()
    with pytest.raises(UserError, match="cannot be written"):
        Film(tmp_path / "file" / "film.mp4", (64, 96), _FPS)
    with pytest.raises(UserError, match="is a folder"):
        Film(tmp_path / "folder.mp4", (64, 96), _FPS)
    with pytest.raises(UserError, match=r"ends in \.mp4"):
        Film(tmp_path / "film.avi", (64, 96), _FPS)


@pytest.mark.parametrize("limit", [600, 6000], ids=["in a clip", "in the film"])
def test_a_full_disk_is_named_and_the_work_survives(tmp_path: Path, limit: int) -> None:
    """The system's limit on the size of a file stands in for the end of the disk."""
    path = tmp_path / "film.mp4"
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        film = Film(path, (64, 96), _FPS, _speech(), fingerprint="the same command")
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
        with pytest.raises(UserError, match=r"disk is full.*run the same command again"):
            _fill(film)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert list(tmp_path.glob("*.mp4")) == []
    _make(path)
    _make(tmp_path / "whole.mp4")
    assert path.read_bytes() == (tmp_path / "whole.mp4").read_bytes()
