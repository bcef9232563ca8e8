"""Promises of the command: nothing lost, the same in gives the same out, bad input gets one sentence.

All of them through the real command, on small networks with random weights; only the portrait finder is the
shipped one, because a face has to be found.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import struct
import subprocess
import sys
import wave
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from made_up import made_up_voice
from PIL import Image
from safetensors.torch import load_file, save_file

from emo2 import cli, hands, pipeline, weights
from emo2.pipeline import Models

ENVIRONMENT = {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[1] / "src")}
FRAMES = 40  # of the voice below, at 25 frames a second


@pytest.fixture(scope="session")
def preset(small_models: Models, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of small weights, with the shipped portrait finder."""
    folder = tmp_path_factory.mktemp("preset")
    pipeline.save(small_models, folder)
    shutil.copy(weights.path_of("compact", "finder"), folder / "finder.safetensors")
    return folder


def write_wave(path: Path, samples: torch.Tensor, rate: int = 16_000) -> Path:
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, rate, 0, "NONE", ""))
        file.writeframes((samples * 32767).short().numpy().tobytes())
    return path


@pytest.fixture(scope="session")
def voice(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_wave(tmp_path_factory.mktemp("voice") / "voice.wav", made_up_voice(FRAMES / 25))


@pytest.fixture(scope="session")
def photo(demo: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo's photo, small."""
    path = tmp_path_factory.mktemp("photo") / "photo.png"
    with Image.open(demo / "photo.jpg") as picture:
        picture.thumbnail((256, 256))
        picture.save(path)
    return path


def command(*words: object) -> subprocess.Popen[str]:
    """The command in a process of its own."""
    environment = os.environ | ENVIRONMENT
    line = [sys.executable, "-m", "emo2.cli", *map(str, words)]
    return subprocess.Popen(
        line, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


def events_of(process: subprocess.Popen[str]) -> list[dict[str, object]]:
    """Run to the end; it must go well."""
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    assert err == ""
    return [json.loads(line) for line in out.splitlines()]


# ------------------------------------------------------------------------------------- nothing lost


@pytest.fixture(scope="session")
def unbroken(
    preset: Path, photo: Path, voice: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A film made in one go."""
    film = tmp_path_factory.mktemp("unbroken") / "film.mp4"
    events_of(
        command("generate", photo, voice, "-o", film, "--preset", preset, "--seed", 5, "--json")
    )
    return film


def test_a_killed_run_goes_on_at_its_last_clip_and_gives_the_same_film(
    preset: Path, photo: Path, voice: Path, unbroken: Path, tmp_path: Path
) -> None:
    film = tmp_path / "film.mp4"
    words = ("generate", photo, voice, "-o", film, "--preset", preset, "--seed", 5, "--json")
    done = _kill_when(command(*words), lambda event: event.get("done", 0) >= 12)
    assert not film.exists()
    events = events_of(command(*words))
    notes = [e["text"] for e in events if e["event"] == "note"]
    assert any(f"going on after frame {done}" in str(note) for note in notes)
    assert film.read_bytes() == unbroken.read_bytes()
    assert [p.name for p in tmp_path.iterdir()] == ["film.mp4"]


def test_a_run_killed_before_its_first_clip_starts_anew(
    preset: Path, photo: Path, voice: Path, unbroken: Path, tmp_path: Path
) -> None:
    film = tmp_path / "film.mp4"
    words = ("generate", photo, voice, "-o", film, "--preset", preset, "--seed", 5, "--json")
    _kill_when(command(*words), lambda event: event.get("stage") == "film")
    events_of(command(*words))
    assert film.read_bytes() == unbroken.read_bytes()


def _kill_when(process: subprocess.Popen[str], wanted: Callable[[dict], bool]) -> int:
    """kill -9 at the first event that is wanted; the frames that were done by then."""
    assert process.stdout is not None
    for line in process.stdout:
        event = json.loads(line)
        if event.get("stage") in ("film", None) and wanted(event):
            process.send_signal(signal.SIGKILL)
            break
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    return int(event.get("done", 0))


def test_the_film_is_whole(unbroken: Path, photo: Path) -> None:
    with av.open(str(unbroken)) as film, Image.open(photo) as picture:
        video, sound = film.streams.video[0], film.streams.audio[0]
        assert (video.codec_context.name, sound.codec_context.name) == ("h264", "aac")
        assert video.codec_context.pix_fmt == "yuv420p"
        assert abs(video.width - picture.width) <= 1
        assert abs(video.height - picture.height) <= 1
        assert video.average_rate == 25
        assert sum(1 for _ in film.decode(video)) == FRAMES


def test_another_seed_gives_another_film_and_no_resume_starts_anew(
    preset: Path, photo: Path, voice: Path, unbroken: Path, tmp_path: Path
) -> None:
    film, motion = tmp_path / "film.mp4", tmp_path / "hands.npz"
    words = ["generate", photo, voice, "-o", film, "--preset", preset, "--json"]
    done = _kill_when(command(*words, "--seed", 6), lambda event: event.get("done", 0) >= 6)
    assert done
    options = ["--seed", 6, "--no-resume", "--save-motion", motion, "--size", "96x64"]
    events = events_of(command(*words, *options, "--keep-frames", tmp_path / "frames"))
    assert not any("going on" in str(e.get("text")) for e in events)
    assert film.read_bytes() != unbroken.read_bytes()
    assert len(hands.load_motion(motion)) == FRAMES
    frames = sorted((tmp_path / "frames").iterdir())
    assert len(frames) == FRAMES
    with Image.open(frames[-1]) as frame:
        assert frame.size == (64, 96)


def test_a_motion_file_takes_the_place_of_stage_1(
    preset: Path, photo: Path, voice: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The file of one run, given to another: the same film, whatever that run's seed for stage 1."""
    motion = tmp_path / "hands.npz"
    assert (
        cli.main(["motion", str(voice), "-o", str(motion), "--preset", str(preset), "--quiet"]) == 0
    )
    again = tmp_path / "again.npz"
    words = ["generate", photo, voice, "-o", tmp_path / "film.mp4", "--preset", preset, "--quiet"]
    words += ["--motion", motion, "--save-motion", again, "--size", "64x64"]
    assert cli.main([str(word) for word in words]) == 0
    assert capsys.readouterr().out == ""
    assert torch.equal(hands.load_motion(again).hands, hands.load_motion(motion).hands)


# --------------------------------------------------------------------------------- one sentence each


class Bench:
    """Runs `generate` with one thing wrong and reads what it says."""

    def __init__(
        self,
        folder: Path,
        photo: Path,
        voice: Path,
        preset: Path,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        self.folder, self.preset, self.capsys = folder, preset, capsys
        self.photo, self.voice = photo, voice

    def refused(
        self, *more: object, photo: Path | None = None, voice: Path | None = None, **flags: object
    ) -> str:
        """The sentence; the code must be 2, and no film, work folder or traceback may be left."""
        wishes = {"output": self.folder / "film.mp4", "preset": self.preset} | flags
        words = ["generate", photo or self.photo, voice or self.voice, *more]
        words += [
            x for name, value in wishes.items() for x in (f"--{name.replace('_', '-')}", value)
        ]
        before = sorted(self.folder.iterdir())
        assert cli.main([str(word) for word in words]) == 2
        captured = self.capsys.readouterr()
        assert captured.err.startswith("emo2: ")
        assert captured.err.count("\n") == 1
        assert "Traceback" not in captured.err + captured.out
        assert sorted(self.folder.iterdir()) == before
        return captured.err

    def file(self, name: str, content: bytes) -> Path:
        """A file in the folder."""
        path = self.folder / name
        path.write_bytes(content)
        return path


@pytest.fixture
def bench(
    tmp_path: Path, photo: Path, voice: Path, preset: Path, capsys: pytest.CaptureFixture[str]
) -> Bench:
    return Bench(tmp_path, photo, voice, preset, capsys)


def test_a_missing_file_is_named(bench: Bench) -> None:
    assert "nobody.png does not exist" in bench.refused(photo=bench.folder / "nobody.png")
    assert "silence.wav does not exist" in bench.refused(voice=bench.folder / "silence.wav")


def test_a_folder_is_no_file(bench: Bench) -> None:
    assert "is a folder" in bench.refused(photo=bench.folder)
    assert "is a folder" in bench.refused(voice=bench.folder)


def test_an_empty_file_is_empty(bench: Bench) -> None:
    assert "is empty" in bench.refused(photo=bench.file("a.png", b""))
    assert "is empty" in bench.refused(voice=bench.file("a.wav", b""))


def test_text_renamed_to_png_is_no_picture(bench: Bench) -> None:
    assert "is not a picture" in bench.refused(
        photo=bench.file("a.png", b"once upon a time\n" * 50)
    )


def test_one_pixel_is_too_small(bench: Bench) -> None:
    path = bench.folder / "dot.png"
    Image.new("RGB", (1, 1)).save(path)
    assert "1x1 pixels" in bench.refused(photo=path)


def test_a_picture_without_a_face_is_refused(bench: Bench) -> None:
    path = bench.folder / "grey.png"
    Image.linear_gradient("L").resize((320, 240)).save(path)
    assert "face" in bench.refused(photo=path)


def test_a_face_that_is_not_there_is_refused(bench: Bench) -> None:
    assert "Face 7 was asked for" in bench.refused(face=7)


def test_silence_is_refused(bench: Bench) -> None:
    silent = write_wave(bench.folder / "silent.wav", torch.zeros(16_000))
    assert "silent" in bench.refused(voice=silent)


def test_no_samples_are_refused(bench: Bench) -> None:
    assert "0 samples" in bench.refused(voice=write_wave(bench.folder / "none.wav", torch.zeros(0)))


def test_20_milliseconds_are_too_short(bench: Bench) -> None:
    assert "20 ms" in bench.refused(
        voice=write_wave(bench.folder / "blip.wav", torch.ones(320) / 2)
    )


def test_samples_that_are_no_numbers_are_refused(bench: Bench) -> None:
    samples = np.full(16_000, np.nan, np.float32)
    head = struct.pack("<4sI4s4sIHHIIHH4sI", b"RIFF", 36 + 64_000, b"WAVE", b"fmt ", 16,
                       3, 1, 16_000, 64_000, 4, 32, b"data", 64_000)  # fmt: skip
    assert "NaN" in bench.refused(voice=bench.file("nan.wav", head + samples.tobytes()))


def test_a_film_that_was_cut_off_is_refused(bench: Bench, unbroken: Path) -> None:
    half = bench.file("half.mp4", unbroken.read_bytes()[: unbroken.stat().st_size // 2])
    said = bench.refused(voice=half)
    assert "cut off" in said or "damaged" in said


def test_an_output_that_cannot_be_written_is_named(bench: Bench) -> None:
    assert "does not exist" in bench.refused(output=bench.folder / "nowhere" / "film.mp4")
    assert "ends in .mp4" in bench.refused(output=bench.folder / "film.txt")
    file = bench.file("plain.txt", b"x")
    assert "plain.txt" in bench.refused(output=file / "film.mp4")
    folder = bench.folder / "taken.mp4"
    folder.mkdir()
    assert "is a folder" in bench.refused(output=folder)


def test_a_folder_that_takes_no_files_is_named(bench: Bench) -> None:
    assert "/proc cannot be written to" in bench.refused(output=Path("/proc/film.mp4"))


def test_a_full_disk_is_one_sentence(
    preset: Path, photo: Path, voice: Path, tmp_path: Path
) -> None:
    """A limit on the size of files stands for the full disk: the same calls fail."""
    film = tmp_path / "film.mp4"
    words = ["generate", photo, voice, "-o", film, "--preset", preset, "--quiet"]
    code = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (3000, 3000));"
        f"from emo2.cli import main; sys.exit(main({[str(w) for w in words]!r}))"
    )
    environment = os.environ | ENVIRONMENT
    run = subprocess.run(
        [sys.executable, "-B", "-c", code],
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert run.returncode == 2, run.stderr
    assert "disk is full" in run.stderr
    assert run.stderr.count("\n") == 1
    assert not film.exists()


def test_corrupt_weights_are_refused(bench: Bench) -> None:
    broken = bench.folder / "broken"
    shutil.copytree(bench.preset, broken)
    path = broken / "video.safetensors"
    path.write_bytes(path.read_bytes()[:5000])
    assert "video.safetensors is damaged" in bench.refused(preset=broken)
    (broken / "video.safetensors").unlink()
    assert "video.safetensors is not there" in bench.refused(preset=broken)


def test_weights_of_other_networks_are_refused(bench: Bench) -> None:
    other = bench.folder / "other"
    shutil.copytree(bench.preset, other)
    tensors = load_file(other / "video.safetensors")
    facts = weights.facts_of(other / "video.safetensors")
    tensors.pop(sorted(tensors)[0])
    save_file(tensors, other / "video.safetensors", metadata=facts)
    assert "does not fit" in bench.refused(preset=other)


def test_an_unknown_preset_names_the_known_ones(bench: Bench) -> None:
    said = bench.refused(preset="grand")
    assert "unknown preset 'grand'; give one of" in said
    assert "compact" in said


def test_an_unknown_emotion_names_the_known_ones(bench: Bench) -> None:
    assert "unknown emotion 'rage'; give one of neutral, joy" in bench.refused(emotion="rage")
    assert "the strength of joy is '2'" in bench.refused(emotion="joy:2")


def test_an_unknown_style_names_the_known_ones(bench: Bench) -> None:
    assert "unknown style 'wild'" in bench.refused(style="wild")


def test_an_unknown_device_is_refused(bench: Bench) -> None:
    assert "cpu or cuda" in bench.refused(device="abacus")


@pytest.fixture
def motion_file(bench: Bench, small_models: Models) -> Path:
    """A motion file of another voice's length."""
    from emo2 import media

    speech = media.speech_from_samples(made_up_voice(3.0), sample_rate=16_000)
    features = small_models.speech.encode(speech, 25.0)
    path = bench.folder / "hands.npz"
    hands.save(pipeline.plan(small_models.motion, None, features, pipeline.Options()).whole(), path)
    return path


def test_a_motion_file_of_another_length_is_refused(bench: Bench, motion_file: Path) -> None:
    said = bench.refused(motion=motion_file)
    assert "75 frames (3.00 s)" in said
    assert f"needs {FRAMES}" in said


def test_a_motion_file_of_another_version_is_refused(bench: Bench, motion_file: Path) -> None:
    with np.load(motion_file) as data:
        content = dict(data)
    newer = bench.folder / "newer.npz"
    np.savez(newer, **(content | {"version": np.array(99)}))
    assert "version 99" in bench.refused(motion=newer)


def test_a_motion_file_of_something_else_is_refused(bench: Bench) -> None:
    assert "a.npz" in bench.refused(motion=bench.file("a.npz", b"no motion"))


# ------------------------------------------------------------------------------------ check, doctor


def test_check_tells_what_is_found(
    preset: Path, photo: Path, voice: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["check", str(photo), str(voice), "--preset", str(preset)]) == 0
    said = capsys.readouterr().out
    assert "face:" in said
    assert "hands:" in said
    assert "1.6 s" in said
    assert said.strip().endswith("a film can be made")


def test_check_says_what_is_wrong_with_both(
    preset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    silent = write_wave(tmp_path / "silent.wav", torch.zeros(16_000))
    words = ["check", str(tmp_path / "nobody.png"), str(silent), "--preset", str(preset)]
    assert cli.main(words) == 2
    said = capsys.readouterr().out
    assert "nobody.png does not exist" in said
    assert "silent" in said
    assert cli.main([*words, "--json"]) == 2
    found = json.loads(capsys.readouterr().out)
    assert found["ok"] is False
    assert len(found["wrong"]) == 2


def test_doctor_tells_about_the_machine(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["doctor", "--no-speed", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert {"python", "torch", "machine", "preset compact", "flite"} <= set(facts)
