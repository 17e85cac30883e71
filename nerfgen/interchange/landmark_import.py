"""Import of annotated landmarks as ``landmarks.h5``."""

from __future__ import annotations

from collections import Counter
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from nerfgen import landmark, storage
from nerfgen.errors import InputError
from nerfgen.image import InputImage, UnreadableImageError, find_images
from nerfgen.objectclass import ObjectClass
from nerfgen.objectclass import object_class as named_class
from nerfgen.parallel import Progress, map_threads, silent

# Raise when equal annotations and images give other landmarks.
_VERSION = 2
# Formats whose objects have one class.
_CLASSES = {"celeba": "face", "ffhq": "face", "cat": "cat"}


class _ImageFile(NamedTuple):
    status: str
    reason: str
    size: tuple[int, int]
    points: Float[np.ndarray, "landmark 2"]
    is_scaled: bool
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

    Images without annotation, and annotated images that are absent or of another shape than annotated, have a status.

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
        InputError: the class is unknown, the annotations are invalid or lack its landmarks, or no annotated image
            exists.
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
    present = find_images(folder)
    annotations = landmark.read_annotations(source, folder).with_names(described.landmark_names, str(source))
    annotations = annotations.of_files(present, folder, source)
    place = {image: row for row, image in enumerate(annotations.images)}
    names = sorted({*annotations.images, *present})
    read = partial(_read_image_file, folder, annotations, place)
    files = list(map_threads(read, names, progress=progress))
    points = np.stack([file.points for file in files])
    complete = np.isfinite(points).all(axis=(1, 2))
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
        version=_VERSION,
    )
    usable = storage.usable(status)
    kept = stage.is_current(overwrite=overwrite)
    if not kept:
        with stage.create() as file:
            storage.put(file, "image", names)
            storage.put(file, "status", status)
            storage.put(file, "reason", [image.reason for image in files])
            storage.put(file, "image_size", [image.size for image in files])
            storage.put(file, "image_bytes", [image.num_bytes for image in files])
            storage.put(file, "image_sha256", [image.sha256 for image in files])
            storage.put(file, "landmark_names", list(annotations.names))
            storage.put(file, "landmarks", points)
            storage.put(file, "score", usable)
            storage.put(file, "num_objects", np.isfinite(points).any(axis=(1, 2)))
    scaled = sum(file.is_scaled for file in files)
    resized = f"{scaled} images have another size than {source.name} states: their landmarks are scaled"
    return {
        "format": found,
        "class": described.name,
        "images": len(names),
        "usable": int(usable.sum()),
        "statuses": dict(sorted(Counter(status).items())),
        "notes": [*annotations.notes, *([resized] if scaled else [])],
        "outputs": {"landmarks": str(stage.output)},
        "kept": kept,
    }


def _read_image_file(
    folder: Path, annotations: landmark.Annotations, place: dict[str, int], image: str
) -> _ImageFile:
    """Status, size, landmarks and digest of an image file."""
    row = place.get(image)
    points = np.full((len(annotations.names), 2), np.nan)
    stated = np.zeros(2, np.int64) if row is None else annotations.sizes[row]
    opened = InputImage(image, folder)
    try:
        size = opened.size
        found = points if row is None else landmark.upright_points(annotations.points[row], stated, opened)
    except UnreadableImageError as error:
        return _ImageFile(error.status, error.reason, (0, 0), points, False, *opened.digest)
    if found is None:
        reason = f"it was annotated at {stated[0]} x {stated[1]} pixels"
        return _ImageFile("wrong_shape", reason, size, points, False, *opened.digest)
    is_scaled = bool(stated.all()) and {*size} != {*stated.tolist()}
    return _ImageFile("ok", "", size, found, is_scaled, *opened.digest)
