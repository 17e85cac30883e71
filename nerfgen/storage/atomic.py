"""Writing files and folders whole or not at all, also where several hosts write to one folder.

A writer works under a temporary name beside the output, which no other writer uses: it holds the running kernel's
identity and a random part. As long as the writer lives it holds a shared lock (``flock``) on what it writes; a killed
process loses its lock. What a killed process left is removed by the next writer of the same output if its lock is free
and this kernel wrote it. Locks of other hosts cannot be relied upon on every shared file system, so what another kernel
wrote must also be a week old.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import functools
import glob
import hashlib
import os
import platform
import secrets
import shutil
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

from nerfgen.errors import OutputExistsError, WriteError
from nerfgen.stopping import stop_signals

_PARTIAL = "partial"
_FOREIGN_SECONDS = 7 * 24 * 3600.0
# Bytes of a name on all common file systems.
_MAX_NAME = 255
_ELSEWHERE = "choose another place for the output (-o)"
_FULL = "free some space, then run the same command again"
# What only writing fails with, whichever file the error names.
_WRITING = {
    errno.ENOSPC: _FULL,
    errno.EDQUOT: _FULL,
    errno.EFBIG: f"raise the limit of file sizes, or {_ELSEWHERE}",
}
_OTHER = {
    errno.EIO: f"check the disk, or {_ELSEWHERE}",
    errno.ENAMETOOLONG: "choose a shorter name",
}


@contextlib.contextmanager
def writing(path: Path, temporary: Path | None = None) -> Iterator[None]:
    """Within the block, raise errors of writing ``path`` as :class:`nerfgen.errors.WriteError`, which names it.

    Args:
        temporary: name under which it is written.
    """
    try:
        yield
    except WriteError as error:
        if temporary:  # within a folder
            error.args = (str(error).replace(os.fspath(temporary), os.fspath(path)),)
        raise
    except OSError as error:
        own = {os.fspath(name) for name in (path, path.parent, temporary) if name}
        is_of_stream = error.filename is None and error.errno == errno.EIO
        if error.errno not in _WRITING and error.filename not in own and not is_of_stream:
            raise
        remedy = (_WRITING | _OTHER).get(error.errno or 0, _ELSEWHERE)
        reason = error.strerror or str(error)
        raise WriteError(f"{path} cannot be written ({reason}); {remedy}", error, str(path)) from error


@contextlib.contextmanager
def atomic_path(path: Path, *, tidy: bool = True) -> Iterator[Path]:
    """A temporary name beside ``path`` that is flushed and renamed to it on success, removed on failure.

    The temporary file exists already: a writer opens it by its name and replaces its content.

    Args:
        tidy: first remove what killed writers of ``path`` left. That searches the folder; a writer of many files into
            one folder calls :func:`remove_abandoned` once instead.

    Raises:
        OutputExistsError: a device or pipe stands there.
    """
    with writing(path):
        _refuse_device(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        if tidy:
            remove_temporaries(path)
    # The suffix stays, because writers of images and videos choose their format by it.
    with _published(path, _claim_file, _flush_file, _remove_file) as temporary:
        yield temporary


@contextlib.contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """A temporary folder beside ``path`` that is flushed and renamed to it on success, removed on failure."""
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        remove_abandoned(path.parent, glob.escape(path.name), "")
    with _published(path, _claim_folder, _flush_folder, _remove_folder) as temporary:
        yield temporary


@contextlib.contextmanager
def _published(
    path: Path,
    claim: Callable[[Path], tuple[Path, int]],
    flush: Callable[[Path], None],
    remove: Callable[[Path], None],
) -> Iterator[Path]:
    """What ``claim`` makes: flushed and renamed to ``path`` on success, else removed, whenever a signal arrives."""
    with stop_signals() as stop:
        temporary, lock = claim(path)
        try:
            with writing(path, temporary):
                with stop.suspended():
                    yield temporary
                flush(temporary)
                os.replace(temporary, path)
        finally:
            remove(temporary)
            os.close(lock)


def _flush_file(path: Path) -> None:
    with open(path, "rb+") as stream:
        os.fsync(stream.fileno())


def _flush_folder(path: Path) -> None:
    if hasattr(os, "sync"):  # once for thousands of files
        os.sync()


def _remove_file(path: Path) -> None:
    path.unlink(missing_ok=True)


def _remove_folder(path: Path) -> None:
    shutil.rmtree(path, ignore_errors=True)


def _refuse_device(path: Path) -> None:
    """Raise :class:`OutputExistsError` where there is a device or pipe: ``/dev/null`` would be replaced by a file."""
    if path.exists() and not (path.is_file() or path.is_dir()):
        raise OutputExistsError(f"{path} is a pipe or a device; choose another output")


def remove_folder(path: Path) -> None:
    """Remove a folder and everything in it; it leaves its place at once, as a whole."""
    lock = os.open(path, os.O_RDONLY)
    try:
        _hold(lock)
        aside = path.with_name(_temporary_name(path.name, ""))
        os.replace(path, aside)
        shutil.rmtree(aside)
    finally:
        os.close(lock)


def short_name(stem: str, suffix: str, spare: int = 0) -> str:
    """``stem + suffix``, with the end of the stem replaced by its digest where file systems allow no such length.

    Args:
        spare: bytes to leave free.
    """
    encoded = os.fsencode(stem)
    room = _MAX_NAME - spare - len(os.fsencode(suffix))
    if len(encoded) > room:
        digest = hashlib.sha256(encoded).hexdigest()[:8]
        # A character that is cut through is left out.
        stem = f"{encoded[: room - len(digest) - 1].decode(errors='ignore')}~{digest}"
    return stem + suffix


def remove_temporaries(path: Path) -> None:
    """Remove what killed writers of one file left beside it."""
    remove_abandoned(path.parent, glob.escape(_temporary_stem(path)), path.suffix)


def remove_abandoned(folder: Path, stem: str, suffix: str) -> None:
    """Remove what killed writers left of outputs with this suffix whose stem matches a ``glob`` pattern."""
    for path in folder.glob(f".{stem}.*.{_PARTIAL}{glob.escape(suffix)}"):
        _remove_if_abandoned(path, path.name.removesuffix(suffix).split(".")[-2])


def _remove_if_abandoned(path: Path, owner: str) -> None:
    try:
        handle = os.open(path, os.O_RDONLY)
    except OSError:
        return  # published or removed meanwhile, or not ours to read
    try:
        is_locked = not _try_exclusive(handle)
        age = time.time() - os.fstat(handle).st_mtime
        if is_locked or (owner.partition("-")[0] != kernel() and age < _FOREIGN_SECONDS):
            return
        # Random names are never used twice: this name is still that of the file whose lock is held here, or of none.
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
    finally:
        os.close(handle)


def _claim_file(path: Path) -> tuple[Path, int]:
    """A new empty file beside ``path``, locked as long as the returned descriptor is open."""
    while True:
        temporary = path.with_name(_temporary_name(_temporary_stem(path), path.suffix))
        with writing(path, temporary):
            handle = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
        _hold(handle)
        if temporary.exists():  # else another writer took it for abandoned before it was locked
            return temporary, handle
        os.close(handle)


def _claim_folder(path: Path) -> tuple[Path, int]:
    """A new empty folder beside ``path``, locked as long as the returned descriptor is open."""
    while True:
        temporary = path.with_name(_temporary_name(path.name, ""))
        with writing(path, temporary):
            temporary.mkdir()
        with contextlib.suppress(FileNotFoundError):
            handle = os.open(temporary, os.O_RDONLY)
            _hold(handle)
            if temporary.exists():
                return temporary, handle
            os.close(handle)


def _temporary_stem(path: Path) -> str:
    """The stem of a file, short enough for the name of a temporary file."""
    return short_name(path.stem, path.suffix, len(_temporary_name("", ""))).removesuffix(path.suffix)


def _temporary_name(stem: str, suffix: str) -> str:
    return f".{stem}.{kernel()}-{secrets.token_hex(6)}.{_PARTIAL}{suffix}"


@functools.cache
def kernel() -> str:
    """Identifies the running kernel: containers on one host share it and see each other's locks."""
    try:
        identity = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        identity = f"{platform.node()} {uuid.getnode()}"
    return hashlib.sha256(identity.encode()).hexdigest()[:8]


def _hold(handle: int) -> None:
    """Take a shared lock: readers such as the HDF5 library, which locks what it opens, may share it."""
    with contextlib.suppress(OSError):  # a file system without locks
        fcntl.flock(handle, fcntl.LOCK_SH)


def _try_exclusive(handle: int) -> bool:
    """Whether no living writer holds the lock; False where the file system has no locks, which prove nothing there."""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
