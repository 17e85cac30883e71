"""Landmarks of a whole folder: one worker a core, one writer, every image in the file."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from nerfgen import artifact
from nerfgen.landmark.estimator import Detection, EstimatorEntry, Landmarker, estimator_for
from nerfgen.objectclass import ObjectClass
from nerfgen.objectclass import object_class as named_class
from nerfgen.parallel import Progress, map_ordered, silent
from nerfgen.photo import Photograph, UnreadableImageError, digest_images, find_images

SCHEMA = "landmarks/1"
_BLOCK = 64


class _Measured(NamedTuple):
    """One image's row of the file; points as float32 so that little goes between processes."""

    status: str
    size: tuple[int, int]
    num_bytes: int
    sha256: str
    score: float
    num_objects: int
    landmarks: np.ndarray | None
    mesh: np.ndarray | None


def landmark_folder(
    data: Path,
    output: Path,
    *,
    object_class: ObjectClass | str = "face",
    model: Path | None = None,
    workers: int = 0,
    overwrite: bool = False,
    progress: Progress = silent,
    warn: Callable[[str], None] = lambda line: None,
) -> dict[str, Any]:
    """Estimate the landmarks of every image below a folder and write a ``landmarks/1`` file.

    Args:
        model: estimator that `nerfgen train-landmarker` made, for classes that bring none.
        workers: processes; 0 for one a core.
        overwrite: replace an existing output. Without it, one from the same images is kept.
        warn: told, in one line each, what is odd about the installation.

    Returns:
        ``images``, ``detected`` (usable), ``detected_fraction``, ``statuses`` (count of each) and
        ``kept`` (whether the output was there already).

    Raises:
        InputError: no images, no estimator for the class, or one of other landmarks.
        MissingDependencyError: a package or library of the estimator is absent.
        OutputExistsError: the output exists and came from other images or parameters.
    """
    described = named_class(object_class)
    entry = estimator_for(described, model)
    paths = find_images(data)
    parameters = {"estimator": entry.identity}
    if output.exists() and not overwrite:
        inputs = [artifact.folder_record(paths, digest_images(data, paths))]
        if artifact.is_current(output, SCHEMA, object_class=described, parameters=parameters, inputs=inputs):
            with artifact.reading(output, SCHEMA) as file:
                return {**_summary(artifact.strings(file["status"])), "kept": True}
    mesh_index, names = entry.load().mesh_index, described.landmark_names
    for line in entry.warnings():
        warn(line)
    num_images, num_points, num_mesh = len(paths), len(names), len(mesh_index)
    rows: list[_Measured] = []
    with artifact.create(output, SCHEMA, object_class=described, parameters=parameters, inputs=[]) as file:
        landmarks = np.full((num_images, num_points, 2), np.nan, np.float32)
        mesh = artifact.allocate(file, "mesh", (num_images, num_mesh, 3))
        block = np.full((_BLOCK, num_mesh, 3), np.nan, np.float32)
        measured = map_ordered(
            _measure,
            [str(data / path) for path in paths],
            workers=workers,
            initializer=_start,
            initializer_arguments=(entry,),
            preload=[__name__, entry.module],
            progress=progress,
        )
        for index, row in enumerate(measured):
            place = index % _BLOCK
            landmarks[index] = np.nan if row.landmarks is None else row.landmarks
            block[place] = np.nan if row.mesh is None else row.mesh
            rows.append(row._replace(landmarks=None, mesh=None))
            if place == _BLOCK - 1 or index == num_images - 1:
                mesh[index - place : index + 1] = block[: place + 1]
        statuses = [row.status for row in rows]
        artifact.put(file, "image", paths)
        artifact.put(file, "status", statuses)
        artifact.put(file, "image_size", [row.size for row in rows])
        artifact.put(file, "image_bytes", [row.num_bytes for row in rows])
        artifact.put(file, "image_sha256", [row.sha256 for row in rows])
        artifact.put(file, "landmark_names", names)
        artifact.put(file, "landmarks", landmarks)
        artifact.put(file, "score", [row.score for row in rows])
        artifact.put(file, "num_objects", [row.num_objects for row in rows])
        artifact.put(file, "mesh_index", mesh_index)
        # The digests are those of the bytes that the workers read, so they are known only now.
        digests = [(row.num_bytes, row.sha256) for row in rows]
        artifact.put_inputs(file, [artifact.folder_record(paths, digests)])
    return {**_summary(statuses), "kept": False}


def _summary(statuses: list[str]) -> dict[str, Any]:
    detected = int(artifact.usable(statuses).sum())
    return {
        "images": len(statuses),
        "detected": detected,
        "detected_fraction": detected / len(statuses),
        "statuses": dict(sorted(Counter(statuses).items())),
    }


_landmarker: Landmarker


def _start(entry: EstimatorEntry) -> None:
    """Make this worker's estimator."""
    global _landmarker
    _landmarker = entry.make()


def _measure(path: str) -> _Measured:
    """One image: whatever is wrong with it becomes its status."""
    try:
        source = Path(path).read_bytes()
    except OSError:
        source = b""
    size, detection = (0, 0), Detection("unreadable", np.empty(0), np.empty(0))
    try:
        photo = Photograph(source)
        detection = _landmarker(photo)
        size = photo.size
    except UnreadableImageError:
        pass
    found = detection.num_objects > 0
    return _Measured(
        detection.status,
        size,
        len(source),
        hashlib.sha256(source).hexdigest(),
        detection.score,
        detection.num_objects,
        detection.landmarks.astype(np.float32) if found else None,
        detection.mesh.astype(np.float32) if found else None,
    )
