"""Which files of a folder are its images."""

from __future__ import annotations

import os
from pathlib import Path

from nerfgen.errors import InputError

EXTENSIONS = ("png", "jpg", "jpeg", "webp", "bmp", "tif", "tiff", "gif")


def find_images(data: Path) -> list[str]:
    """Paths of all images below ``data``, relative to it, with ``/`` between folders, sorted.

    Images are told by their extension, in upper or lower case. Hidden files and folders and
    nerfgen's own unfinished outputs are left out; links to folders are followed once.

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
        found += [(relative / name).as_posix() for name in names if _is_image(name)]
    if not found:
        raise InputError(f"{data} holds no images (files ending in {', '.join(EXTENSIONS)})")
    for path in found:
        try:
            path.encode()
        except UnicodeEncodeError as error:
            raise InputError(f"{data} holds an image whose name is not UTF-8 ({path!a}); rename it") from error
    return sorted(found)


def _is_image(name: str) -> bool:
    extension = name.rpartition(".")[2].lower()
    return not name.startswith(".") and ".partial." not in name and extension in EXTENSIONS
