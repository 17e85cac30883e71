"""Weights of pretrained networks: found, or downloaded at first use, and checked before every use."""

from __future__ import annotations

import hashlib
import http.client
import os
import tempfile
import urllib.request
from dataclasses import dataclass
from pathlib import Path

from nerfgen.errors import MissingDependencyError

# Seconds without an answer after which a download is given up.
TIMEOUT = 10.0
_CHUNK = 1 << 20


@dataclass(frozen=True)
class WeightsFile:
    """A file of weights as its publisher offers it.

    Attributes:
        name: of the file, in every folder.
        url: where it is downloaded.
        sha256: what its SHA-256 begins with; as usual for PyTorch, a part of the name.
    """

    name: str
    url: str
    sha256: str


def find_weights(file: WeightsFile, folder: Path | None, cache: Path) -> Path:
    """The file in ``folder``, else in ``cache``, else downloaded into ``cache``; its SHA-256 is checked every time.

    Raises:
        MissingDependencyError: it is in none and can't be downloaded, or it is not the file that its publisher offers,
            such as half of it.
    """
    for place in (folder, cache):
        if place is not None and (place / file.name).is_file():
            path = place / file.name
            try:
                with path.open("rb") as opened:
                    found = hashlib.file_digest(opened, "sha256").hexdigest()
            except OSError as error:
                raise MissingDependencyError(f"{path}: can't be read ({error.strerror})") from error
            if not found.startswith(file.sha256):
                raise MissingDependencyError(
                    f"{path}: damaged or another file, its SHA-256 begins with {found[: len(file.sha256)]} in place "
                    f"of {file.sha256}; delete it, or copy it again"
                )
            return path
    try:
        return _download(file, cache)
    except (OSError, http.client.HTTPException) as error:
        raise MissingDependencyError(
            f"the weights {file.name} are neither in {folder or 'a folder given by --weights'} nor in {cache}, and "
            f"could not be downloaded ({_reason(error)}); download {file.url} into a folder DIR and give --weights DIR"
        ) from error


def _download(file: WeightsFile, folder: Path) -> Path:
    """The file, downloaded into ``folder``, where nothing of that name ever is incomplete."""
    folder.mkdir(parents=True, exist_ok=True)
    digest = hashlib.sha256()
    with urllib.request.urlopen(file.url, timeout=TIMEOUT) as answer:
        handle, partial = tempfile.mkstemp(prefix=f"{file.name}.", suffix=".partial", dir=folder)
        try:
            with os.fdopen(handle, "wb") as written:
                while chunk := answer.read(_CHUNK):
                    digest.update(chunk)
                    written.write(chunk)
            if not digest.hexdigest().startswith(file.sha256):
                raise OSError(f"what came has another SHA-256 than {file.sha256}...")
            os.replace(partial, folder / file.name)
        except BaseException:
            os.unlink(partial)
            raise
    return folder / file.name


def _reason(error: Exception) -> str:
    """In a few words and one line."""
    cause = getattr(error, "reason", error)
    return " ".join(str(getattr(cause, "strerror", None) or cause).split()) or type(error).__name__
