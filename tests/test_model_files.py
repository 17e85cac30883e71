"""Model files of others: where they are found, downloads that break off, damaged files, the command."""

from __future__ import annotations

import hashlib
import http.server
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from nerfgen.errors import InputError, MissingDependencyError
from nerfgen.pretrained import FACE_LANDMARKER, MODEL_FILES, ModelFile, fetch_model, find_model, model_states

CONTENT = bytes(range(256)) * 2000
FILES = os.environ.get("NERFGEN_MODELS", "")

needs_files = pytest.mark.skipif(
    not FILES, reason="the model files of MediaPipe are missing (NERFGEN_MODELS)"
)


class Server(http.server.ThreadingHTTPServer):
    """Serves files by name, and notes the requested ranges.

    Attributes:
        files: content by name.
        cut: bytes after which each connection is closed; 0 for none.
        ranges: whether it answers requests for a part of a file.
        requests: the first byte that each request asked for.
    """

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files: dict[str, bytes] = {"net.bin": CONTENT}
        self.cut, self.ranges = 0, True
        self.requests: list[int] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Handler(http.server.BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        content = self.server.files.get(self.path.lstrip("/"))
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        start = int(asked[1]) if asked else 0
        self.server.requests.append(start)
        if content is None:
            self.send_error(404)
            return
        if start >= len(content):
            self.send_error(416)
            return
        partial = bool(asked) and self.server.ranges
        body = content[start:] if partial else content
        self.send_response(206 if partial else 200)
        if partial:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: self.server.cut or len(body)])

    def log_message(self, format: str, *arguments: Any) -> None:
        """Nothing."""


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as served:
        thread = threading.Thread(target=served.serve_forever, daemon=True)
        thread.start()
        yield served
        served.shutdown()
        thread.join()


@pytest.fixture
def offered(server: Server) -> ModelFile:
    sha256 = hashlib.sha256(CONTENT).hexdigest()
    return ModelFile("net.bin", f"{server.url}/net.bin", sha256, len(CONTENT), "Apache-2.0", "a test")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, and no folder of model files."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("NERFGEN_MODELS", raising=False)
    monkeypatch.delenv("NERFGEN_MODELS_URL", raising=False)
    return tmp_path / "cache" / "nerfgen" / "models"


def test_a_download_is_verified_and_kept(server: Server, offered: ModelFile, cache: Path) -> None:
    lines: list[str] = []
    steps: list[tuple[int, int]] = []
    path = fetch_model(
        offered, notify=lines.append, progress=lambda done, total, note="": steps.append((done, total))
    )
    assert path == cache / "net.bin"
    assert path.read_bytes() == CONTENT
    assert len(lines) == 1
    assert "net.bin" in lines[0]
    assert steps[-1] == (len(CONTENT), len(CONTENT))
    assert fetch_model(offered, notify=lines.append) == path
    assert len(server.requests) == len(lines) == 1
    assert {each.name for each in cache.iterdir()} <= {"net.bin", "net.bin.lock"}


@pytest.mark.parametrize("ranges", [True, False])
def test_a_download_resumes(server: Server, offered: ModelFile, cache: Path, ranges: bool) -> None:
    cache.mkdir(parents=True)
    (cache / "net.bin.part").write_bytes(CONTENT[:100_000])
    server.ranges = ranges
    assert fetch_model(offered).read_bytes() == CONTENT
    assert server.requests == [100_000]


def test_a_connection_that_breaks_is_renewed(server: Server, offered: ModelFile) -> None:
    server.cut = 200_000
    assert fetch_model(offered).read_bytes() == CONTENT
    assert server.requests == [0, 200_000, 400_000]


def test_a_damaged_beginning_is_downloaded_again(server: Server, offered: ModelFile, cache: Path) -> None:
    cache.mkdir(parents=True)
    (cache / "net.bin.part").write_bytes(b"x" * 100_000)
    assert fetch_model(offered).read_bytes() == CONTENT
    assert server.requests == [100_000, 0]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (CONTENT[:-1] + b"x", "SHA-256"),
        (CONTENT + b"x", "longer"),
        (CONTENT[:1000], "shorter|early"),
        (None, "HTTP status 404"),
    ],
)
def test_another_file_is_not_kept(
    server: Server, offered: ModelFile, cache: Path, content: bytes | None, reason: str
) -> None:
    server.files = {} if content is None else {"net.bin": content}
    with pytest.raises(MissingDependencyError, match=reason) as failed:
        fetch_model(offered)
    assert "\n" not in str(failed.value)
    assert "NERFGEN_MODELS=" in str(failed.value)
    assert not (cache / "net.bin").exists()


def test_without_a_network_the_error_says_what_to_do(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))  # nobody listens: refused at once
        monkeypatch.setenv("NERFGEN_MODELS_URL", f"http://127.0.0.1:{nobody.getsockname()[1]}")
        with pytest.raises(MissingDependencyError, match="refused") as failed:
            find_model(FACE_LANDMARKER.name)
    for words in (FACE_LANDMARKER.name, "nerfgen models --fetch", "NERFGEN_MODELS=", str(cache)):
        assert words in str(failed.value)


def test_processes_that_download_at_once_download_once(server: Server, offered: ModelFile) -> None:
    with ThreadPoolExecutor(4) as threads:
        paths = list(threads.map(lambda _: fetch_model(offered), range(4)))
    assert len(set(paths)) == 1
    assert server.requests == [0]


def test_a_cache_that_cannot_be_written(
    offered: ModelFile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(MissingDependencyError, match=str(tmp_path / "file")):
        fetch_model(offered)


def test_unknown_models() -> None:
    with pytest.raises(InputError, match=FACE_LANDMARKER.name):
        find_model("other.task")


@needs_files
def test_where_models_are_found(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The given path alone; else the folder of the variable, else the cache."""
    name = FACE_LANDMARKER.name
    folder, own = tmp_path / "folder", tmp_path / "own"
    for place in (folder, own, cache):
        place.mkdir(parents=True)
    shutil.copy(Path(FILES) / name, cache)
    assert find_model(name) == cache / name
    monkeypatch.setenv("NERFGEN_MODELS", str(folder))
    assert find_model(name) == cache / name
    shutil.copy(Path(FILES) / name, folder)
    assert find_model(name) == folder / name
    assert [state.state for state in model_states()] == ["ok", "missing"]
    with pytest.raises(InputError, match="does not exist"):
        find_model(name, own)
    shutil.copy(Path(FILES) / name, own / "renamed.task")
    assert find_model(name, own / "renamed.task") == own / "renamed.task"
    (folder / name).write_bytes(b"x" * FACE_LANDMARKER.size)
    with pytest.raises(InputError, match="SHA-256"):
        find_model(name)
    assert [state.state for state in model_states()] == ["damaged", "missing"]
    monkeypatch.setenv("NERFGEN_MODELS", str(tmp_path / "absent"))
    with pytest.raises(InputError, match=r"NERFGEN_MODELS=.*absent is not a folder"):
        find_model(name)


@needs_files
def test_command(server: Server, tmp_path: Path) -> None:
    environment = {**os.environ, "NERFGEN_MODELS_URL": server.url}

    def models(*words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "nerfgen", "models", *words]
        return subprocess.run(
            command, capture_output=True, text=True, check=False, env=environment, timeout=60
        )

    listed = models("--json")
    assert listed.returncode == 0, listed.stderr
    entries = json.loads(listed.stdout)["models"]
    assert [(entry["name"], entry["state"]) for entry in entries] == [
        (name, "missing") for name in MODEL_FILES
    ]
    missing = models("--verify")
    assert missing.returncode == InputError.exit_code
    assert missing.stderr.count("\n") == 1
    assert models("--fetch").returncode == MissingDependencyError.exit_code
    server.files = {name: (Path(FILES) / name).read_bytes() for name in MODEL_FILES}
    folder = tmp_path / "folder"
    fetched = models("--fetch", "--verify", "--folder", str(folder))
    assert fetched.returncode == 0, fetched.stderr
    assert fetched.stdout.count(" ok ") == len(MODEL_FILES)
    damaged = folder / FACE_LANDMARKER.name
    damaged.write_bytes(damaged.read_bytes()[:-1])

    def found() -> list[str]:
        listed = json.loads(models("--folder", str(folder), "--json").stdout)
        return [entry["state"] for entry in listed["models"]]

    assert found() == ["damaged", "ok"]
    assert models("--folder", str(folder), "--fetch", "--verify", "-q").returncode == 0
    assert found() == ["ok", "ok"]
