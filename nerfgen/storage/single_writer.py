"""One writer for an output: who works on it has a file beside it that says so.

The file is created exclusively, which works on network folders without locks. Its writer touches it as long as it
lives. A claim is void if its process is gone, which only the same kernel can tell, or has not been touched for long.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import secrets
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from nerfgen.errors import OutputExistsError
from nerfgen.stopping import stop_signals
from nerfgen.storage.atomic import kernel, short_name, writing
from nerfgen.untrusted import printable

_BEAT_SECONDS = 60.0
_VOID_SECONDS = 15 * 60.0

_held: set[str] = set()


class OutputBusyError(OutputExistsError):
    """Another process writes the output."""


@contextlib.contextmanager
def claim(output: Path) -> Iterator[None]:
    """Be the only writer of ``output`` within the block. Within the block of the same process it is free.

    Raises:
        OutputBusyError: another process writes it; the message names its host and number.
        WriteError: the folder cannot be written to.
    """
    key = os.path.abspath(output)
    if key in _held:
        yield
        return
    path = _note(output)
    content = json.dumps({"host": socket.gethostname(), "token": secrets.token_hex(8), **_process()}).encode()
    done = threading.Event()
    beat = threading.Thread(target=_beat, args=(path, done), daemon=True)
    with stop_signals() as stop:
        with writing(output, path):
            output.parent.mkdir(parents=True, exist_ok=True)
            _take(path, content, output)
        _held.add(key)
        beat.start()
        try:
            with stop.suspended():
                yield
        finally:
            done.set()
            beat.join()
            _held.discard(key)
            with contextlib.suppress(OSError):
                if path.read_bytes() == content:
                    path.unlink()


def remove_void_claim(output: Path) -> None:
    """Remove the claim of a process that was killed as soon as ``output`` was finished."""
    with contextlib.suppress(OutputBusyError):
        _remove_void(_note(output), output)


def _note(output: Path) -> Path:
    """The file beside ``output`` that says who works on it."""
    return output.with_name(short_name(f".{output.name}", ".writer"))


def _take(path: Path, content: bytes, output: Path) -> None:
    while True:
        try:
            handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
        except FileExistsError:
            _remove_void(path, output)
            continue
        with open(handle, "wb", buffering=0) as stream:
            try:
                if stream.write(content) < len(content):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            except OSError:
                path.unlink(missing_ok=True)
                raise
        return


def _remove_void(path: Path, output: Path) -> None:
    """Remove a claim whose process is gone.

    Raises:
        OutputBusyError: the process lives, or may live.
    """
    try:
        content = path.read_bytes()
        age = _now(path.parent) - path.stat().st_mtime
    except FileNotFoundError:
        return  # released meanwhile
    try:
        owner = json.loads(content)
        number, host = int(owner["process"]), printable(str(owner["host"]))
    except (ValueError, TypeError, KeyError):
        owner, number, host = {}, 0, "another host"
    here = _process()
    if owner and all(owner.get(name) == here[name] for name in ("kernel", "namespace")):
        # This process holds no claim that it has not noted: what it left was cut short by an exception.
        is_void = number == os.getpid() or owner.get("started") != _started(number)
    else:
        is_void = age > _VOID_SECONDS
    if not is_void:
        raise OutputBusyError(
            f"{output} is being written by process {number} on {host}; wait for it, or choose another `output`"
        )
    # Of several processes that find it void, one moves it away; what it moved is what it judged.
    aside = path.with_name(f"{path.name}-{secrets.token_hex(6)}")
    with contextlib.suppress(FileNotFoundError):
        os.rename(path, aside)
        if aside.read_bytes() != content:
            with contextlib.suppress(OSError):
                os.link(aside, path)
        aside.unlink()


def _now(folder: Path) -> float:
    """The time by the clock of the file system, which may be another host's."""
    probe = folder / f".{secrets.token_hex(8)}.clock"
    try:
        with open(probe, "xb") as stream:
            return os.fstat(stream.fileno()).st_mtime
    except OSError:
        return time.time()
    finally:
        probe.unlink(missing_ok=True)


def _process() -> dict[str, str | int]:
    """What identifies this process: its number, when it started, and where that number means something."""
    try:
        namespace = os.readlink("/proc/self/ns/pid")
    except OSError:
        namespace = ""
    number = os.getpid()
    return {"process": number, "started": _started(number), "kernel": kernel(), "namespace": namespace}


def _started(process: int) -> str:
    """When a process started, in the kernel's words; empty for one that is gone."""
    try:
        # The second field is the program's name in parentheses, which may hold anything.
        fields = (
            Path(f"/proc/{process}/stat")
            .read_text(encoding="utf-8", errors="replace")
            .rpartition(")")[2]
            .split()
        )
        return "" if fields[0] == "Z" else fields[19]
    except (OSError, IndexError):
        pass
    if os.path.isdir("/proc/self"):
        return ""
    try:  # a system without /proc
        os.kill(process, 0)
    except OSError:
        return ""
    return "alive"


def _beat(path: Path, done: threading.Event) -> None:
    while not done.wait(_BEAT_SECONDS):
        with contextlib.suppress(OSError):
            os.utime(path)
