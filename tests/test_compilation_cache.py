"""Compiled programs on disk: where they are kept, that they are used, and that nothing depends on them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from nerfgen.compilation_cache import (
    VARIABLE,
    default_folder,
    machine_key,
    remove_damaged,
    remove_oldest,
    use_compilation_cache,
)

JAX = (
    "JAX_COMPILATION_CACHE_DIR",
    "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS",
    "JAX_ENABLE_COMPILATION_CACHE",
)
JAX += ("JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES",)


@pytest.fixture(autouse=True)
def unset(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is set beforehand, and nothing that a test sets stays."""
    for name in (*JAX, VARIABLE):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)


def test_the_option_wins_over_the_variable_and_the_variable_over_the_default(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    assert default_folder(os.environ).name == "compiled"
    if sys.platform == "linux":
        assert use_compilation_cache() == tmp_path / "home/nerfgen/compiled" / machine_key()
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR", raising=False)
    monkeypatch.setenv(VARIABLE, str(tmp_path / "variable"))
    assert use_compilation_cache() == tmp_path / "variable" / machine_key()
    assert use_compilation_cache(str(tmp_path / "option")) == tmp_path / "option" / machine_key()
    assert os.environ["JAX_COMPILATION_CACHE_DIR"] == str(tmp_path / "option" / machine_key())
    assert os.environ[VARIABLE] == str(tmp_path / "option"), "processes that are started use it too"


def test_what_jax_is_told_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", str(tmp_path / "own"))
    assert use_compilation_cache() == tmp_path / "own"
    assert os.environ["JAX_COMPILATION_CACHE_DIR"] == str(tmp_path / "own")
    assert list(tmp_path.iterdir()) == []


def test_it_can_be_turned_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "off")
    assert use_compilation_cache() is None
    assert os.environ["JAX_ENABLE_COMPILATION_CACHE"] == "false"


def test_a_folder_that_can_not_be_made_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way", encoding="utf-8")
    assert use_compilation_cache(str(tmp_path / "file" / "cache")) is None
    assert "JAX_COMPILATION_CACHE_DIR" not in os.environ


def test_the_entries_longest_unused_go_first(tmp_path: Path) -> None:
    for number, name in enumerate(("old", "newer", "newest")):
        (tmp_path / name).write_bytes(bytes(100))
        os.utime(tmp_path / name, (number, number))
    remove_oldest(tmp_path, 250)
    assert {path.name for path in tmp_path.iterdir()} == {"newer", "newest"}
    remove_oldest(tmp_path, 0)
    assert not list(tmp_path.iterdir())


def test_what_a_killed_process_left_is_removed(tmp_path: Path) -> None:
    from jax._src.compilation_cache import compress_executable

    whole = compress_executable(os.urandom(200_000))
    contents = {
        "whole": whole,
        "short": whole[:-1],
        "half": whole[:100_000],
        "empty": b"",
        "other": b"no entry",
    }
    for name, content in contents.items():
        (tmp_path / f"{name}-cache").write_bytes(content)
    remove_damaged(tmp_path)
    kept = {"whole-cache", "checked"}
    assert {path.name for path in tmp_path.iterdir()} == kept
    (tmp_path / "later-cache").write_bytes(whole[:-1])
    remove_damaged(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == kept


@pytest.mark.slow
def test_a_second_command_compiles_nothing_and_renders_the_same(trained: Path, tmp_path: Path) -> None:
    """Also where entries are damaged, and where there is no cache at all."""
    cache = tmp_path / "cache"

    def render(name: str, **settings: str) -> bytes:
        output = tmp_path / name
        words = ["render", trained, "--rows", "0", "--yaw", "0", "--samples", "4", "-o", output, "-q"]
        command = [sys.executable, "-m", "nerfgen", *map(str, words)]
        environment = {name: value for name, value in os.environ.items() if name not in JAX} | settings
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (0, "")
        return output.read_bytes()

    def entries() -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in cache.rglob("*-cache")}

    first = render("first.h5", **{VARIABLE: str(cache)})
    compiled = entries()
    assert compiled
    assert render("second.h5", **{VARIABLE: str(cache)}) == first
    assert entries() == compiled
    for path in cache.rglob("*-cache"):
        path.write_bytes(path.read_bytes()[:50])
    assert render("damaged.h5", **{VARIABLE: str(cache)}) == first
    assert entries().keys() == compiled.keys()
    assert min(map(len, entries().values())) > 50, "they are compiled again once, not each time"
    assert render("off.h5", **{VARIABLE: "off"}) == first
