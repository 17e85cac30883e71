"""Which files of a folder are its images."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from nerfgen.artifact import file_digest
from nerfgen.errors import InputError

EXTENSIONS = ("png", "jpg", "jpeg", "webp", "bmp", "tif", "tiff", "gif")


def find_images(data: Path) -> list[str]:
    """Paths of all images below ``data``, relative to it, with ``/`` between folders, sorted.

    Images are told by their extension, in upper or lower case. Hidden files and folders and
    nerfgen's own unfinished outputs and training previews are left out; links to folders are followed once.

    Raises:
        InputError: ``data`` is no folder, holds no image, or an image's name is not Unicode.
    """
    if not data.is_dir():
        raise InputError(f"{data} is not a folder; give the folder that holds the images")
    found: list[str] = []
    visited: set[str] = set()
    for folder, subfolders, names in os.walk(data, followlinks=True):
        real = os.path.realpath(folder)
        if real in visited:  # a link to a folder above would never end
            subfolders.clear()
            continue
        visited.add(real)
        subfolders[:] = sorted(name for name in subfolders if not name.startswith("."))
        relative = Path(folder).relative_to(data)
        found += [(relative / name).as_posix() for name in names if is_image(name)]
    if not found:
        raise InputError(f"{data} holds no images (files ending in {', '.join(EXTENSIONS)})")
    for path in found:
        try:
            path.encode()
        except UnicodeEncodeError as error:
            raise InputError(
                f"{data} holds an image whose name is not UTF-8 ({path!a}); rename it"
            ) from error
    return sorted(found)


def digest_images(data: Path, paths: Sequence[str]) -> list[tuple[int, str]]:
    """Size in bytes and SHA-256 of every image; of one that can't be read, those of no bytes."""
    with ThreadPoolExecutor() as threads:  # hashing leaves the interpreter lock free
        return list(threads.map(_digest, [data / path for path in paths]))


def _digest(path: Path) -> tuple[int, str]:
    try:
        return file_digest(path)
    except OSError:
        return 0, hashlib.sha256().hexdigest()


def is_image(name: str) -> bool:
    """Whether a file of this name is an image to be used: none that is hidden, unfinished or a training preview."""
    stem, _, extension = name.rpartition(".")
    hidden = not stem or name.startswith(".")
    own = ".partial." in name or name.endswith(".preview.png")
    return not hidden and not own and extension.lower() in EXTENSIONS
