"""Import of annotated landmarks as ``landmarks.h5``."""

from __future__ import annotations

import hashlib
from collections import Counter
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from nerfgen import landmark, storage
from nerfgen.errors import InputError
from nerfgen.image import InputImage, UnreadableImageError, find_images
from nerfgen.objectclass import ObjectClass
from nerfgen.objectclass import object_class as named_class
from nerfgen.parallel import Progress, map_threads, silent
from nerfgen.untrusted import safe_relative_path

# Formats whose objects have one class.
_CLASSES = {"celeba": "face", "ffhq": "face", "cat": "cat"}


class _ImageFile(NamedTuple):
    status: str
    size: tuple[int, int]
    num_bytes: int
    sha256: str


def import_landmarks(
    source: Path,
    images: Path | None = None,
    output: Path | None = None,
    *,
    format_name: str = "auto",
    object_class: str | ObjectClass = "",
    overwrite: bool = False,
    progress: Progress = silent,
) -> storage.Record:
    """Read annotations and write a ``landmarks/1`` file for their images.

    Images without annotation and annotated images that are absent have a status.

    Args:
        source: a file or folder in one of :data:`nerfgen.landmark.ANNOTATION_FORMATS`.
        images: folder of the images; by default ``source``, or the folder that contains it.
        output: folder to write to; that of the images by default.
        format_name: key of the format, or ``auto``.
        object_class: class of the objects; "" for the format's.
        overwrite: replace an existing output that differs.

    Returns:
        ``format``, ``class``, ``images``, ``usable``, ``statuses``, ``notes`` (what was left out of the source),
        ``outputs`` and ``kept``.

    Raises:
        InputError: the class is unknown, the annotations are invalid or lack its landmarks, an image's name is unsafe,
            or no annotated image exists.
        OutputExistsError: the output exists and has other inputs or parameters.
    """
    if not source.exists():
        raise InputError(f"{source} does not exist; give a file or folder of annotations")
    found = landmark.annotation_format(source)
    if found is None:
        known = ", ".join(landmark.ANNOTATION_FORMATS)
        raise InputError(f"{source} has no annotations in a known format ({known})")
    if format_name not in ("auto", found):
        raise InputError(
            f"{source} has annotations in the format {found}, not {format_name}; set `format_name` to auto to detect it"
        )
    if not object_class and found not in _CLASSES:
        raise InputError(f"{source} may show any class; set `object_class`")
    described = named_class(object_class or _CLASSES[found])
    folder = images or (source if source.is_dir() else source.parent)
    annotations = landmark.read_annotations(source, folder).with_names(described.landmark_names, str(source))
    for image in annotations.images:
        safe_relative_path(image, source)
    place = {image: row for row, image in enumerate(annotations.images)}
    if not any((folder / image).is_file() for image in annotations.images):
        raise InputError(
            f"{folder} has none of the images that {source} annotates; set `images` to their folder"
        )
    names = sorted({*annotations.images, *find_images(folder)})
    points = np.full((len(names), len(annotations.names), 2), np.nan)
    rows = [row for row, image in enumerate(names) if image in place]
    points[rows] = annotations.points[[place[names[row]] for row in rows]]
    complete = np.isfinite(points).all(axis=(1, 2))
    files = list(map_threads(partial(_read_image_file, folder), names, progress=progress))
    status = [
        "not_annotated" if file.status == "ok" and not annotated else file.status
        for file, annotated in zip(files, complete, strict=True)
    ]
    sources = [source] if source.is_file() else sorted(source.rglob("*.cat"))
    stage = storage.Stage(
        (output or folder) / "landmarks.h5",
        "landmarks/1",
        described,
        parameters={"format": found},
        inputs=[
            storage.folder_record(names, [(file.num_bytes, file.sha256) for file in files]),
            storage.folder_record([path.name for path in sources], map(storage.file_digest, sources)),
        ],
    )
    usable = storage.usable(status)
    kept = stage.is_current(overwrite=overwrite)
    if not kept:
        with stage.create() as file:
            storage.put(file, "image", names)
            storage.put(file, "status", status)
            storage.put(file, "image_size", [image.size for image in files])
            storage.put(file, "image_bytes", [image.num_bytes for image in files])
            storage.put(file, "image_sha256", [image.sha256 for image in files])
            storage.put(file, "landmark_names", list(annotations.names))
            storage.put(file, "landmarks", points)
            storage.put(file, "score", usable)
            storage.put(file, "num_objects", np.isfinite(points).any(axis=(1, 2)))
    return {
        "format": found,
        "class": described.name,
        "images": len(names),
        "usable": int(usable.sum()),
        "statuses": dict(sorted(Counter(status).items())),
        "notes": list(annotations.notes),
        "outputs": {"landmarks": str(stage.output)},
        "kept": kept,
    }


def _read_image_file(folder: Path, image: str) -> _ImageFile:
    """Status, size and digest of an image file."""
    path = folder / image
    if not path.is_file():
        return _ImageFile("absent", (0, 0), 0, hashlib.sha256().hexdigest())
    content = path.read_bytes()
    status, size = "ok", (0, 0)
    try:
        size = InputImage(content).size
    except UnreadableImageError:
        status = "unreadable"
    return _ImageFile(status, size, len(content), hashlib.sha256(content).hexdigest())
