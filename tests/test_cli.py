"""The command: what it parses, how it shows progress, and what it says of mistakes."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from emo2 import cli, progress
from emo2.errors import UserError
from emo2.generate import Event


def parse(*words: str) -> argparse.Namespace:
    return cli.build_parser().parse_args(list(words))


def refused(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    """What the parser says when it refuses; the code must be 2 and the answer one line."""
    with pytest.raises(SystemExit) as stopped:
        parse(*words)
    assert stopped.value.code == 2
    said = capsys.readouterr().err.strip()
    assert "\n" not in said
    return said


def test_a_film_needs_a_photo_a_voice_and_a_name(capsys: pytest.CaptureFixture[str]) -> None:
    assert "VOICE" in refused(capsys, "generate", "a.png", "-o", "a.mp4")
    assert "--output" in refused(capsys, "generate", "a.png", "a.wav")


@pytest.mark.parametrize("size", ["512", "512x", "0x512", "512x99999", "bigxsmall"])
def test_a_senseless_size_is_refused(capsys: pytest.CaptureFixture[str], size: str) -> None:
    said = refused(capsys, "generate", "a.png", "a.wav", "-o", "a.mp4", "--size", size)
    assert "HEIGHTxWIDTH" in said


@pytest.mark.parametrize(
    ("flag", "value"),
    [("--seed", "-1"), ("--seed", "x"), ("--steps", "0"), ("--speed", "nan"), ("--speed", "0"),
     ("--amplitude", "-1"), ("--amplitude", "100"), ("--face", "first")],
)  # fmt: skip
def test_senseless_numbers_are_refused(
    capsys: pytest.CaptureFixture[str], flag: str, value: str
) -> None:
    said = refused(capsys, "generate", "a.png", "a.wav", "-o", "a.mp4", flag, value)
    assert value in said
    assert "expected" in said


def test_values_arrive_as_they_are_meant() -> None:
    words = "generate a.png a.wav -o a.mp4 --size 512x384 --seed 3 --speed 1.5 --face 1 --no-resume"
    parsed = parse(*words.split())
    assert parsed.size == (512, 384)
    assert (parsed.seed, parsed.speed, parsed.face, parsed.no_resume) == (3, 1.5, 1, True)


def test_the_module_is_the_command() -> None:
    asked = [sys.executable, "-m", "emo2", "generate", "photo.png"]
    run = subprocess.run(asked, capture_output=True, text=True, check=False)
    assert run.returncode == 2
    assert "VOICE" in run.stderr


def test_an_unknown_command_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert "generate" in refused(capsys, "animate")


def failing_with(error: Exception, *, debug: bool = False) -> argparse.Namespace:
    def run(_: argparse.Namespace) -> int:
        raise error

    return argparse.Namespace(run=run, quiet=True, json=False, debug=debug)


def run_failing(monkeypatch: pytest.MonkeyPatch, parsed: argparse.Namespace) -> int:
    """`main` on a command that fails, past the parser."""
    parser = argparse.ArgumentParser()
    monkeypatch.setattr(parser, "parse_args", lambda _: parsed)
    monkeypatch.setattr(cli, "build_parser", lambda: parser)
    return cli.main([])


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (UserError("found this,\n  expected that"), 2, "found this, expected that"),
        (FileNotFoundError(2, "No such file", "a.png"), 2, "a.png does not exist; check the path"),
        (PermissionError(13, "denied", "/x.mp4"), 2, "/x.mp4 may not be read or written"),
        (IsADirectoryError(21, "is a folder", "/x"), 2, "/x is a folder; give a file"),
        (OSError(28, "No space left", "/x.mp4"), 2, "the disk is full (writing /x.mp4)"),
        (
            RuntimeError("shapes differ"),
            1,
            "a fault of ours (RuntimeError: shapes differ); --debug",
        ),
        (KeyboardInterrupt(), 130, "the same command goes on"),
    ],
)
def test_mistakes_become_a_sentence_and_a_code(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    error: Exception,
    code: int,
    said: str,
) -> None:
    assert run_failing(monkeypatch, failing_with(error)) == code
    captured = capsys.readouterr()
    assert said in captured.err
    assert captured.err.count("\n") == 1
    assert "Traceback" not in captured.err


def test_debug_shows_the_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError):
        run_failing(monkeypatch, failing_with(UserError("wrong"), debug=True))


def test_errors_are_events_for_machines(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    parsed = failing_with(UserError("wrong"))
    parsed.json = True
    run_failing(monkeypatch, parsed)
    assert json.loads(capsys.readouterr().out) == {"event": "error", "message": "wrong", "code": 2}


def events() -> Iterator[Event]:
    yield Event(kind="note", text="the left hand is unsure")
    yield Event(kind="progress", stage="motion", total=1)
    for done in (0, 12, 24):
        yield Event(kind="progress", stage="film", done=done, total=24)
    yield Event(kind="done", text="wrote a.mp4", path=Path("a.mp4"))


def shown(capsys: pytest.CaptureFixture[str], *, quiet: bool = False, json: bool = False) -> str:
    progress.show(events(), argparse.Namespace(quiet=quiet, json=json))
    return capsys.readouterr().out


def test_a_pipe_gets_plain_lines(capsys: pytest.CaptureFixture[str]) -> None:
    lines = shown(capsys).splitlines()
    assert lines[0] == "the left hand is unsure"
    assert lines[-2:] == ["film: 24 of 24", "wrote a.mp4"]
    assert not any("\x1b" in line or "\r" in line for line in lines)


def test_machines_get_an_event_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    found = [json.loads(line) for line in shown(capsys, json=True).splitlines()]
    assert len(found) == 6
    assert found[3] == {"event": "progress", "stage": "film", "done": 12, "total": 24}
    assert found[-1] == {"event": "done", "text": "wrote a.mp4", "path": "a.mp4"}


def test_quiet_is_silent(capsys: pytest.CaptureFixture[str]) -> None:
    assert shown(capsys, quiet=True) == ""


def test_a_terminal_gets_a_bar(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    progress.show(events(), argparse.Namespace(quiet=False, json=False))
    captured = capsys.readouterr()
    assert "film     ████████████░░░░░░░░░░░░ 12/24" in captured.err
    assert captured.out.strip() == "wrote a.mp4"


def test_the_time_left_follows_the_pace(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    clock = progress._Clock()
    assert clock.left(Event(kind="progress", stage="film", done=50, total=200)) == ""
    now[0] = 110.0
    assert clock.left(Event(kind="progress", stage="film", done=100, total=200)) == "0:20 left"
    assert clock.left(Event(kind="progress", stage="film", done=200, total=200)) == ""
