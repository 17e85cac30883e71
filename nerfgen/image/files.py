"""The images of a folder."""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from nerfgen.errors import InputError
from nerfgen.image.encode import MARK_BYTES, has_figure_mark, is_figure
from nerfgen.image.input_image import InputImage, open_image_file
from nerfgen.image.names import EXTENSIONS, is_image, path_inside, row_name
from nerfgen.image.store import ImageFolder, ImageStore
from nerfgen.image.unreadable import UnreadableImageError
from nerfgen.storage import file_digest
from nerfgen.untrusted import is_inside


def find_images(data: ImageFolder) -> list[str]:
    """Names of all images below ``data``: paths relative to it, with ``/`` between folders, sorted.

    An image is a file with the suffix of an image format or of a camera's raw files, in upper or lower case. Hidden
    files and folders, unfinished outputs of nerfgen, its training previews and the figures and masks that it wrote
    (see :func:`nerfgen.image.is_figure`) are skipped. Links to folders are followed once.

    ``InputImage(name, data)`` opens an image. It fails with a status for what can't be used, which is listed all the
    same: a file whose name is unsafe, by its escaped name; a link that leads out of ``data``, to a file or a folder; a
    folder that can't be read.

    Raises:
        InputError: ``data`` is not a folder or has no images.
        StoreError: ``data`` is in an object store that does not answer.
    """
    found, own = _stored(data) if isinstance(data, ImageStore) else _found(data)
    names = sorted({row_name(path) for path, skipped in zip(found, own, strict=True) if not skipped})
    if not names:
        figures = f"; {sum(own)} figures of nerfgen are not counted" if found else ""
        raise InputError(f"{data} has no images (files ending in {', '.join(EXTENSIONS)}){figures}")
    return names


def _stored(data: ImageStore) -> tuple[list[str], list[bool]]:
    """As :func:`_found`, of a folder in an object store."""
    sizes = {name: about.size for name, about in sorted(data.objects().items()) if _is_shown(name)}
    return list(sizes), [has_figure_mark(ends) for ends in data.ends(sizes, MARK_BYTES)]


def _is_shown(name: str) -> bool:
    """Whether an object is an image in no hidden folder."""
    *folders, own = name.split("/")
    return is_image(own) and not any(folder.startswith(".") for folder in folders)


def _found(data: Path) -> tuple[list[str], list[bool]]:
    """Paths of images relative to the folder, sorted, and whether nerfgen wrote each as a figure."""
    if not data.is_dir():
        raise InputError(f"{data} is not a folder; give the folder that holds the images")
    found = sorted(_walked(data))
    with ThreadPoolExecutor() as threads:
        return found, list(threads.map(partial(_is_own, data), found))


def _walked(data: Path) -> Iterator[str]:
    """Paths of images, of links out of the folder and of unreadable folders, relative to the folder."""
    visited: set[str] = set()
    failed: list[str] = []
    for folder, subfolders, names in os.walk(
        data, followlinks=True, onerror=lambda error: failed.append(str(error.filename))
    ):
        real = os.path.realpath(folder)
        if real in visited:  # a link to a parent folder would never end
            subfolders.clear()
            continue
        visited.add(real)
        relative = Path(folder).relative_to(data)
        walked = []
        for name in sorted(subfolders):
            if name.startswith("."):
                continue
            if is_inside(data, (relative / name).as_posix()):
                walked.append(name)
            else:
                yield (relative / name).as_posix()
        subfolders[:] = walked
        yield from ((relative / name).as_posix() for name in names if is_image(name))
    yield from (Path(folder).relative_to(data).as_posix() for folder in failed)


def _is_own(data: Path, path: str) -> bool:
    try:
        path_inside(data, path)
    except UnreadableImageError:
        return False
    return is_figure(data / path)


def digest_images(data: ImageFolder, paths: Sequence[str]) -> list[tuple[int, str]]:
    """Size in bytes and SHA-256 of every image; those of no bytes for one that can't be read."""
    with ThreadPoolExecutor() as threads:  # hashing releases the interpreter lock
        return list(threads.map(partial(_digest, data), paths))


def _digest(data: ImageFolder, name: str) -> tuple[int, str]:
    try:
        path = path_inside(data, name)
        if not isinstance(path, Path):
            return InputImage(name, data).digest
        with open_image_file(path):  # refuses pipes and devices
            return file_digest(path)
    except (UnreadableImageError, OSError):
        return 0, hashlib.sha256().hexdigest()


def existing_images(data: ImageFolder, names: Sequence[str]) -> set[str]:
    """Those of the names that images of the folder have; none is read."""
    if isinstance(data, ImageStore):
        return set(names) & data.objects().keys()
    return {name for name in names if (data / name).is_file()}


def possibly_changed(data: ImageFolder, sizes: Mapping[str, int], since: int) -> list[str]:
    """The images of another size than is known, or modified since a time; without those that are absent.

    None is read.

    Args:
        sizes: bytes of each image when it was read, by name.
        since: nanoseconds since 1970.
    """
    if isinstance(data, ImageStore):
        there = data.objects()
        return [
            name
            for name, size in sizes.items()
            if name in there and (there[name].size != size or there[name].modified > since)
        ]
    found = []
    for name, size in sizes.items():
        with contextlib.suppress(OSError):
            about = os.stat(data / name)
            if stat.S_ISREG(about.st_mode) and (about.st_size != size or about.st_mtime_ns > since):
                found.append(name)
    return found


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
