"""The datasets of a file that may be damaged, read in a process of their own: the HDF5 library may crash or hang."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import h5py

from nerfgen import storage
from nerfgen.errors import InputError
from nerfgen.untrusted import parse_json, read_limit

INTACT, DIFFERS, UNREADABLE, NO_DIGEST = "ok", "differs from its digest", "cannot be read", "has no digest"
# Time for a file, and for its bytes.
_LEAST_SECONDS = 60.0
_BYTES_PER_SECOND = 1e7
# Arrays may be copied while they are read.
_MEMORY_LIMITS = 4
_MOST_DEPTH = 32


@dataclass(frozen=True)
class Content:
    """What was found in a file.

    Attributes:
        datasets: the state of each dataset that could be reached.
        fault: why the file does not follow its schema; empty if it does.
        end: why reading ended early; empty if it did not.
    """

    datasets: dict[str, str]
    fault: str
    end: str


def examine(path: Path, *, seconds: float | None = None) -> Content:
    """Compare every dataset with its digest, and the file with its schema; its seal is not looked at.

    Args:
        seconds: time limit; one that suits the file's size by default.
    """
    seconds = seconds or _LEAST_SECONDS + path.stat().st_size / _BYTES_PER_SECOND
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
        "OPENBLAS_NUM_THREADS": "1",
    }
    command = [sys.executable, "-P", "-m", __name__, str(path.absolute()), str(seconds)]
    end = ""
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment,
            timeout=seconds,
            check=False,
        )
        said = done.stdout
        if done.returncode:
            end = "reading on fails in the HDF5 library"
    except subprocess.TimeoutExpired as expired:
        said, end = expired.stdout or b"", f"reading on takes more than {seconds:.0f} s"
    datasets, fault = {}, end
    for line in said.decode().splitlines():
        with contextlib.suppress(InputError):  # a line that was cut off
            kind, name, state = parse_json(line, path)
            if kind == "dataset":
                datasets[name] = state
            else:
                fault = state
    return Content(datasets, fault.replace(str(path.absolute()), str(path)), end)


def dataset_states(file: h5py.File) -> dict[str, str]:
    """The state of each dataset of an open, sound file."""
    return {name: _state(dataset) for name, dataset in storage.datasets(file)}


def _state(dataset: h5py.Dataset) -> str:
    digest = dataset.attrs.get("sha256")
    if digest is None:
        return NO_DIGEST
    return INTACT if isinstance(digest, str) and storage.dataset_digest(dataset) == digest else DIFFERS


def _states(group: h5py.Group, place: str = "", depth: int = 0) -> Iterator[tuple[str, str]]:
    """As :func:`dataset_states`, of a file in any state; links out of it are not followed."""
    for key in sorted(group):
        name = f"{place}/{key}" if place else key
        try:
            is_own = isinstance(group.get(key, getlink=True), h5py.HardLink)
            item = group[key] if is_own else None
            if isinstance(item, h5py.Group) and depth < _MOST_DEPTH:
                yield from _states(item, name, depth + 1)
            elif isinstance(item, h5py.Dataset) and not item.external and not item.is_virtual:
                yield name, _state(item)
            else:
                yield name, UNREADABLE
        except Exception:  # whatever a damaged object raises
            yield name, UNREADABLE


def _main(path: Path, seconds: float) -> None:
    """The process of :func:`examine`."""
    _limit_resources(seconds)

    def say(*line: str) -> None:
        print(json.dumps(line), flush=True)

    with h5py.File(path, "r", locking=False) as file:
        for name, state in _states(file):
            say("dataset", name, state)
    try:
        with storage.reading(path, *storage.SCHEMAS, sealed=False):
            say("schema", "", "")
    except InputError as error:
        say("schema", "", str(error))


def _limit_resources(seconds: float) -> None:
    """Bound this process, which may outlive its parent."""
    try:
        import resource
    except ImportError:  # a system without it
        return
    for name, limit in (
        (resource.RLIMIT_AS, _MEMORY_LIMITS * read_limit()),
        (resource.RLIMIT_CPU, int(seconds) + 1),
        (resource.RLIMIT_CORE, 0),
    ):
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(name, (limit, limit))


if __name__ == "__main__":
    _main(Path(sys.argv[1]), float(sys.argv[2]))
