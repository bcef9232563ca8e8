"""`emo2 download`: from a local folder, from a hub on this machine, and every way in which it can fail."""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from emo2 import cli, download
from emo2.errors import UserError
from emo2.sources import SOURCES, folder_of, require

CONFIG, WEIGHTS = b'{"model_type": "wav2vec2"}', bytes(range(256)) * 4_000


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("EMO2_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")  # nothing listens there
    return tmp_path / "cache"


@pytest.fixture
def local(tmp_path: Path) -> Path:
    folder = tmp_path / "stick"
    folder.mkdir()
    (folder / "config.json").write_bytes(CONFIG)
    (folder / "model.safetensors").write_bytes(WEIGHTS)
    return folder


def run(*words: str | Path) -> int:
    return cli.main(["download", *map(str, words)])


def git_hash(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


class Hub(ThreadingHTTPServer):
    """Answers as the hub does, for one repository."""

    daemon_threads = True

    def __init__(self, files: dict[str, bytes]) -> None:
        super().__init__(("127.0.0.1", 0), Answers)
        self.files = files
        self.sums = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
        self.cut_after: int | None = None
        self.status = 200
        self.status_after_cut = 200
        self.asked: list[str] = []


class Answers(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Hub

    def log_message(self, *_: object) -> None:
        """Quiet."""

    def do_HEAD(self) -> None:
        self.answer(with_body=False)

    def do_GET(self) -> None:
        self.answer(with_body=True)

    def answer(self, *, with_body: bool) -> None:
        self.server.asked.append(
            f"{self.command} {self.path} {self.headers.get('Range', '')}".strip()
        )
        if self.server.status != 200:
            self.say(self.server.status, b"{}", {}, with_body)
        elif self.path.startswith("/api/"):
            self.say(200, json.dumps(self.listing()).encode(), {}, with_body)
        else:
            name = self.path.split("/resolve/")[1].split("/", 1)[1]
            self.file(name, with_body)

    def listing(self) -> dict[str, object]:
        siblings = []
        for name, content in self.server.files.items():
            entry: dict[str, object] = {
                "rfilename": name, "size": len(content), "blobId": git_hash(content),
            }  # fmt: skip
            if not name.endswith(".json"):
                sha256 = self.server.sums[name]
                entry["lfs"] = {"sha256": sha256, "size": len(content), "pointerSize": 100}
            siblings.append(entry)
        return {"id": "a/b", "sha": "c" * 40, "siblings": siblings, "tags": [], "downloads": 0}

    def file(self, name: str, with_body: bool) -> None:
        content, facts = (
            self.server.files[name],
            {"X-Repo-Commit": "c" * 40, "Accept-Ranges": "bytes"},
        )
        is_small = name.endswith(".json")
        facts["ETag"] = f'"{git_hash(content) if is_small else self.server.sums[name]}"'
        status, start = 200, 0
        if match := re.match(r"bytes=(\d+)-", self.headers.get("Range", "")):
            status, start = 206, int(match[1])
            facts["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        self.say(status, content[start:], facts, with_body)

    def say(self, status: int, body: bytes, facts: dict[str, str], with_body: bool) -> None:
        self.send_response(status)
        for key, value in {**facts, "Content-Length": str(len(body))}.items():
            self.send_header(key, value)
        self.end_headers()
        cut = self.server.cut_after
        if with_body and cut is not None and len(body) > cut:
            self.wfile.write(body[:cut])
            self.server.status = self.server.status_after_cut
            self.close_connection = True
            self.connection.close()
        elif with_body:
            self.wfile.write(body)


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    with Hub({"config.json": CONFIG, "model.safetensors": WEIGHTS, "README.md": b"x"}) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
        yield server
        server.shutdown()
        thread.join()


# ------------------------------------------------------------------------------------- from a folder


def test_a_local_folder_is_taken_with_its_licence_shown(
    local: Path, cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("wav2vec2", "--from", local, "--yes") == 0
    said = capsys.readouterr().out
    assert "licence: Apache-2.0" in said
    assert f"wav2vec2 is in {cache / 'wav2vec2'}" in said
    assert require("wav2vec2") == folder_of("wav2vec2") == cache / "wav2vec2"
    assert (cache / "wav2vec2" / "model.safetensors").read_bytes() == WEIGHTS
    notes = json.loads((cache / "wav2vec2" / "checksums.json").read_text())
    assert notes["files"]["config.json"]["sha256"] == hashlib.sha256(CONFIG).hexdigest()
    assert sorted(p.name for p in (cache / "wav2vec2").iterdir()) == [
        "checksums.json", "config.json", "model.safetensors",
    ]  # fmt: skip


def test_a_folder_that_was_fetched_once_is_checked_when_it_is_carried_on(
    local: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    assert run("wav2vec2", "--from", local, "--yes", "-o", first) == 0
    (first / "model.safetensors").write_bytes(WEIGHTS[:-1] + b"?")
    assert run("wav2vec2", "--from", first, "--yes", "-o", second) == 2
    error = capsys.readouterr().err
    assert "model.safetensors is not what facebook/wav2vec2-base-960h says" in error
    assert "delete checksums.json beside it" in error
    assert not (second / "model.safetensors").exists()
    (first / "model.safetensors").write_bytes(WEIGHTS)
    assert run("wav2vec2", "--from", first, "--yes", "-o", second) == 0


def test_two_names_in_one_folder_keep_both_their_checksums(local: Path, tmp_path: Path) -> None:
    (local / "mm_sd_v15_v2.ckpt").write_bytes(WEIGHTS[::-1])
    both = tmp_path / "both"
    assert run("wav2vec2", "--from", local, "--yes", "-o", both) == 0
    assert run("animatediff", "--from", local, "--yes", "-o", both) == 0
    files = json.loads((both / "checksums.json").read_text())["files"]
    assert set(files) == {"config.json", "model.safetensors", "mm_sd_v15_v2.ckpt"}
    (both / "checksums.json").write_text("{")
    assert run("animatediff", "--from", local, "--yes", "-o", both) == 0
    assert set(json.loads((both / "checksums.json").read_text())["files"]) == {"mm_sd_v15_v2.ckpt"}


def test_a_folder_without_the_files_is_one_sentence(
    local: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (local / "model.safetensors").unlink()
    assert run("wav2vec2", "--from", local, "--yes") == 2
    assert (
        capsys.readouterr()
        .err.strip()
        .endswith(
            "has no model.safetensors; it takes config.json, model.safetensors of "
            "huggingface.co/facebook/wav2vec2-base-960h"
        )
    )
    assert run("wav2vec2", "--from", local / "config.json", "--yes") == 2
    assert "is not a folder" in capsys.readouterr().err


def test_nothing_is_fetched_without_a_yes(
    local: Path, cache: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run("wav2vec2", "--from", local) == 2
    assert "add --yes" in capsys.readouterr().err
    monkeypatch.setattr("sys.stdin.isatty", lambda: True)
    for answer, code in (("n", 2), ("", 2), ("y", 0)):
        monkeypatch.setattr("builtins.input", lambda _, answer=answer: answer)
        assert run("wav2vec2", "--from", local) == code
        assert cache.exists() == (code == 0)


def test_an_unknown_name_is_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("wav2vec3", "--yes") == 2
    error = capsys.readouterr().err
    assert error.startswith("emo2: unknown name 'wav2vec3'; there are hallo, hallo2, ")
    assert error.count("\n") == 1


def test_too_small_a_disk_is_said_before_anything_is_written(tmp_path: Path) -> None:
    huge = download.File(path="model.safetensors", size=10**18)
    plan = download.Plan(
        name="wav2vec2", source=SOURCES["wav2vec2"], folder=tmp_path / "a" / "b", files=(huge,)
    )
    with pytest.raises(UserError, match=r"takes 1000000000\.0 GB and .* free some space"):
        list(download.fetch(plan))
    assert not (tmp_path / "a").exists()


def test_a_file_in_the_folders_place_is_one_sentence(
    local: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("wav2vec2", "--from", local, "--yes", "-o", local / "config.json") == 2
    assert "is a file; give a folder" in capsys.readouterr().err


# --------------------------------------------------------------------------------------- from a hub


def test_a_hub_is_asked_for_sizes_and_sums_and_the_files_come(
    hub: Hub, cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("wav2vec2", "--yes") == 0
    said = capsys.readouterr().out
    assert "config.json, model.safetensors (1.0 MB)" in said
    assert said.count("checksum right") == 2
    assert (cache / "wav2vec2" / "model.safetensors").read_bytes() == WEIGHTS
    assert not (cache / "wav2vec2" / ".fetching").exists()
    hub.asked.clear()
    assert run("wav2vec2", "--yes", "--json") == 0  # all is there: only the listing is asked for
    assert [line.split()[1].split("?")[0] for line in hub.asked] == [
        "/api/models/facebook/wav2vec2-base-960h"
    ]
    events = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert events[-1]["event"] == "done"


def test_a_repository_may_keep_the_files_in_a_folder(hub: Hub, cache: Path) -> None:
    hub.files = {f"model_ckpts/{n}": c for n, c in hub.files.items()}
    hub.sums = {f"model_ckpts/{n}": c for n, c in hub.sums.items()}
    assert run("wav2vec2", "--yes", "--quiet") == 0
    assert (cache / "wav2vec2" / "config.json").read_bytes() == CONFIG


def test_a_file_that_is_not_what_its_checksum_says_is_thrown_away(
    hub: Hub, cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    hub.files["model.safetensors"] = WEIGHTS[:-1] + b"?"
    assert run("wav2vec2", "--yes") == 2
    error = capsys.readouterr().err
    assert "model.safetensors is not what facebook/wav2vec2-base-960h says it is" in error
    assert error.count("\n") == 1
    assert not (cache / "wav2vec2" / "model.safetensors").exists()
    hub.files["model.safetensors"] = WEIGHTS
    assert run("wav2vec2", "--yes") == 0


def test_a_broken_transfer_goes_on_where_it_stopped(
    hub: Hub, cache: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.DOWNLOAD_CHUNK_SIZE", 65_536)
    hub.cut_after, hub.status_after_cut = 300_000, 503
    assert run("wav2vec2", "--yes") == 2
    assert "answered with status 503" in capsys.readouterr().err
    hub.cut_after, hub.status = None, 200
    hub.asked.clear()
    assert run("wav2vec2", "--yes") == 0
    assert (cache / "wav2vec2" / "model.safetensors").read_bytes() == WEIGHTS
    assert [a.split()[-1] for a in hub.asked if "safetensors" in a] == ["bytes=262144-"]


@pytest.mark.parametrize(
    ("status", "says"),
    [
        (404, "is gone, or wants you to log in"),
        (503, "answered with status 503"),
        (403, "status 403"),
    ],
)
def test_a_hub_that_refuses_is_one_sentence(
    hub: Hub, status: int, says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    hub.status = status
    assert run("wav2vec2", "--yes") == 2
    error = capsys.readouterr().err
    assert says in error
    assert error.count("\n") == 1


def test_files_that_the_repository_has_no_more_are_named(
    hub: Hub, capsys: pytest.CaptureFixture[str]
) -> None:
    hub.files["pytorch_model.bin"] = hub.files.pop("model.safetensors")
    hub.sums["pytorch_model.bin"] = hub.sums.pop("model.safetensors")
    assert run("wav2vec2", "--yes") == 2
    assert "has no model.safetensors any more; it has pytorch_model.bin" in capsys.readouterr().err


def test_no_network_is_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("wav2vec2", "--yes") == 2
    error = capsys.readouterr().err
    assert "huggingface.co/facebook/wav2vec2-base-960h cannot be reached" in error
    assert "--from DIR" in error
    assert error.count("\n") == 1


def test_every_source_says_its_licence_and_its_files() -> None:
    for source in SOURCES.values():
        assert source.repository.count("/") == 1
        assert source.files
        assert source.licence
        names = [Path(f).name for f in source.files]
        assert len(set(names)) == len(names)
