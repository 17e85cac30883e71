"""Landmarks that people have annotated into landmarks.h5, as `nerfgen landmark` would write it."""

from __future__ import annotations

import hashlib
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from nerfgen import annotation, artifact
from nerfgen.errors import InputError
from nerfgen.objectclass import ObjectClass, object_class
from nerfgen.parallel import Progress, map_threads, silent
from nerfgen.photo import Photograph, UnreadableImageError, find_images

SCHEMA = "landmarks/1"
# The class that each format's objects are of, where it may only be one.
CLASSES = {"celeba": "face", "ffhq": "face", "cat": "cat"}


class _Image(NamedTuple):
    status: str
    size: tuple[int, int]
    num_bytes: int
    sha256: str


def bring_landmarks(
    source: Path,
    images: Path | None = None,
    output: Path | None = None,
    *,
    format_name: str = "auto",
    class_name: str | ObjectClass = "",
    overwrite: bool = False,
    progress: Progress = silent,
) -> dict[str, Any]:
    """Read annotations and write a ``landmarks/1`` file for the images that they annotate.

    Images that have no annotation, and annotated ones that are not there, are in the file with a status.

    Args:
        source: a file or folder in one of :data:`nerfgen.annotation.FORMATS`.
        images: folder of the images; by default ``source``, or the folder that holds it.
        output: folder to write to; that of the images by default.
        format_name: the key of the format, or ``auto``.
        class_name: class of the objects; "" for the format's.

    Returns:
        ``format``, ``class``, ``images``, ``usable``, ``statuses``, ``notes`` (what was left out of the source),
        ``outputs`` and ``kept``.

    Raises:
        InputError: no class is known, the annotations are damaged or lack its landmarks, or no image is there.
        OutputExistsError: the output exists and came from other inputs or parameters.
    """
    found = annotation.format_of(source)
    if format_name not in ("auto", found):
        wanted = annotation.FORMATS.get(format_name, f"in a format called {format_name}")
        raise InputError(f"{source} is not {wanted}; leave out --format to have it told")
    if not class_name and found not in CLASSES:
        raise InputError(f"{source} may show any class; say with --class which it is")
    described = object_class(class_name or CLASSES[found])
    folder = images or (source if source.is_dir() else source.parent)
    read = annotation.read(source, folder).with_names(described.landmark_names, str(source))
    place = {image: row for row, image in enumerate(read.images)}
    names = sorted({*read.images, *find_images(folder)})
    if not any((folder / image).is_file() for image in read.images):
        raise InputError(
            f"{folder} holds none of the images that {source} annotates; give their folder with --images"
        )
    points = np.full((len(names), len(read.names), 2), np.nan)
    rows = [row for row, image in enumerate(names) if image in place]
    points[rows] = read.points[[place[names[row]] for row in rows]]
    whole = np.isfinite(points).all(axis=(1, 2))
    seen = list(map_threads(partial(_look, folder), names, progress=progress))
    status = [
        "not_annotated" if image.status == "ok" and not there else image.status
        for image, there in zip(seen, whole, strict=True)
    ]
    digests = [(image.num_bytes, image.sha256) for image in seen]
    sources = [source] if source.is_file() else sorted(source.rglob("*.cat"))
    about: artifact.About = {
        "object_class": described,
        "parameters": {"format": found},
        "inputs": [
            artifact.folder_record(names, digests),
            artifact.folder_record([path.name for path in sources], map(artifact.file_digest, sources)),
        ],
    }
    path = (output or folder) / "landmarks.h5"
    kept = artifact.is_current(path, SCHEMA, **about, overwrite=overwrite)
    if not kept:
        usable = artifact.usable(status)
        with artifact.create(path, SCHEMA, **about) as file:
            artifact.put(file, "image", names)
            artifact.put(file, "status", status)
            artifact.put(file, "image_size", [image.size for image in seen])
            artifact.put(file, "image_bytes", [image.num_bytes for image in seen])
            artifact.put(file, "image_sha256", [image.sha256 for image in seen])
            artifact.put(file, "landmark_names", list(read.names))
            artifact.put(file, "landmarks", points)
            artifact.put(file, "score", usable)
            artifact.put(file, "num_objects", np.isfinite(points).any(axis=(1, 2)))
    return {
        "format": found,
        "class": described.name,
        "images": len(names),
        "usable": int(artifact.usable(status).sum()),
        "statuses": dict(sorted(Counter(status).items())),
        "notes": list(read.notes),
        "outputs": {"landmarks": str(path)},
        "kept": kept,
    }


def _look(folder: Path, image: str) -> _Image:
    """What is to be said of an image file."""
    path = folder / image
    if not path.is_file():
        return _Image("absent", (0, 0), 0, hashlib.sha256().hexdigest())
    content = path.read_bytes()
    status, size = "ok", (0, 0)
    try:
        size = Photograph(content).size
    except UnreadableImageError:
        status = "unreadable"
    return _Image(status, size, len(content), hashlib.sha256(content).hexdigest())
