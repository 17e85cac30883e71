"""Digests of files, and the provenance records made of them."""

from __future__ import annotations

import hashlib
import os
import threading
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any, TypedDict

from nerfgen.untrusted import open_input

_BLOCK = 1 << 20
# A file that changed so shortly before may change again without its modification time changing.
_SETTLED_SECONDS = 2.0
# Digests that are remembered: enough for models and stage files; folders may hold millions of images.
_MOST_DIGESTS = 4096


# Values by name as JSON and the attributes of files hold them: parameters, summaries.
Record = dict[str, Any]


class _Count(TypedDict, total=False):
    count: int


class InputRecord(_Count):
    """Provenance of an input: its name without its folder, because files move together, and its content."""

    file: str
    size: int
    sha256: str


def file_digest(path: Path) -> tuple[int, str]:
    """Size in bytes and hexadecimal SHA-256 of a file.

    An unchanged file is read once per process, unless thousands of others are read in between.
    """
    return stream_digest(path)


def stream_digest(path: Path, skip: int = 0) -> tuple[int, str]:
    """As :func:`file_digest`, of what follows the first ``skip`` bytes."""
    found = os.stat(path)
    key = (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, skip)
    with _lock:
        known = _digests.get(key)
    if known:
        return found.st_size - skip, known
    is_settled = time.time() - found.st_mtime > _SETTLED_SECONDS
    digest, size = hashlib.sha256(), 0
    with open_input(path) as stream:
        stream.seek(skip)
        while block := stream.read(_BLOCK):
            digest.update(block)
            size += len(block)
    if is_settled and size == found.st_size - skip:
        with _lock:
            while len(_digests) >= _MOST_DIGESTS:
                del _digests[next(iter(_digests))]
            _digests[key] = digest.hexdigest()
    return size, digest.hexdigest()


def file_record(path: Path) -> InputRecord:
    """Provenance of one file."""
    size, sha256 = file_digest(path)
    return {"file": path.name, "size": size, "sha256": sha256}


def folder_record(names: Iterable[str], digests: Iterable[tuple[int, str]]) -> InputRecord:
    """Provenance of a folder of images: their count, total size and a digest of all names and digests.

    Args:
        digests: size in bytes and SHA-256 of every image.
    """
    combined, total, count = hashlib.sha256(), 0, 0
    for name, (size, digest) in zip(names, digests, strict=True):
        combined.update(f"{digest}  {name}\n".encode())
        total += int(size)
        count += 1
    return {"file": ".", "count": count, "size": total, "sha256": combined.hexdigest()}


_digests: dict[tuple[int, int, int, int, int], str] = {}
_lock = threading.Lock()
