"""The images of a folder."""

from __future__ import annotations

import hashlib
import os
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from nerfgen.errors import InputError
from nerfgen.storage import file_digest

EXTENSIONS = ("png", "jpg", "jpeg", "webp", "bmp", "tif", "tiff", "gif")


def find_images(data: Path) -> list[str]:
    """Paths of all images below ``data``, relative to it, with ``/`` between folders, sorted.

    An image is a file with one of ``EXTENSIONS``, in upper or lower case. Hidden files and folders, unfinished outputs
    of nerfgen and training previews are skipped. Links to folders are followed once.

    Raises:
        InputError: ``data`` is not a folder or has no images, or the name of an image is not UTF-8.
    """
    if not data.is_dir():
        raise InputError(f"{data} is not a folder; give the folder that holds the images")
    found: list[str] = []
    visited: set[str] = set()
    for folder, subfolders, names in os.walk(data, followlinks=True):
        real = os.path.realpath(folder)
        if real in visited:  # a link to a parent folder would never end
            subfolders.clear()
            continue
        visited.add(real)
        subfolders[:] = sorted(name for name in subfolders if not name.startswith("."))
        relative = Path(folder).relative_to(data)
        found += [(relative / name).as_posix() for name in names if is_image(name)]
    if not found:
        raise InputError(f"{data} has no images (files ending in {', '.join(EXTENSIONS)})")
    for path in found:
        try:
            path.encode()
        except UnicodeEncodeError as error:
            raise InputError(f"{data} has an image whose name is not UTF-8 ({path!a}); rename it") from error
    return sorted(found)


def digest_images(data: Path, paths: Sequence[str]) -> list[tuple[int, str]]:
    """Size in bytes and SHA-256 of every image; those of no bytes for an unreadable file."""
    with ThreadPoolExecutor() as threads:  # hashing releases the interpreter lock
        return list(threads.map(_digest, [data / path for path in paths]))


def _digest(path: Path) -> tuple[int, str]:
    try:
        return file_digest(path)
    except OSError:
        return 0, hashlib.sha256().hexdigest()


def match_names(wanted: Sequence[str], present: Sequence[str]) -> list[str | None]:
    """The file that each name means, although programs and file systems spell names differently.

    A name means the file of the same spelling, else the one of the same composed Unicode (NFC), else the one that
    differs in upper and lower case only, else the one that differs in its image suffix only. A file that one name means
    is not available to looser spellings of others.

    Args:
        wanted: names, such as those in a file of cameras or annotations, with ``/`` between folders.
        present: names of the files, likewise.

    Returns:
        One element of ``present`` for each name; None where there is none, or several files or several names compete.
    """
    found: dict[str, str] = {}
    names, files = set(wanted), set(present)
    for spelling in (str, _composed, _caseless, _without_suffix):
        candidates = _by_spelling(files, spelling)
        for key, same in _by_spelling(names, spelling).items():
            if len(same) == len(candidates.get(key, ())) == 1:
                found[same[0]] = candidates[key][0]
        names -= found.keys()
        files -= set(found.values())
    return [found.get(name) for name in wanted]


def _by_spelling(names: Iterable[str], spelling: Callable[[str], str]) -> dict[str, list[str]]:
    grouped: dict[str, list[str]] = {}
    for name in names:
        grouped.setdefault(spelling(name), []).append(name)
    return grouped


def _composed(name: str) -> str:
    return unicodedata.normalize("NFC", name)


def _caseless(name: str) -> str:
    return _composed(_composed(name).casefold())


def _without_suffix(name: str) -> str:
    stem, _, extension = _caseless(name).rpartition(".")
    return stem if stem and extension in EXTENSIONS else _caseless(name)


def is_image(name: str) -> bool:
    """Whether a file of this name is an input image: not hidden, unfinished or a training preview."""
    stem, _, extension = name.rpartition(".")
    hidden = not stem or name.startswith(".")
    own = ".partial." in name or name.endswith(".preview.png")
    return not hidden and not own and extension.lower() in EXTENSIONS
