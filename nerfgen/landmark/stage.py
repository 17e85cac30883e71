"""The stage: landmarks of one image, of many in worker processes, and of a folder."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from nerfgen import storage
from nerfgen.image import ImageFolder, InputImage, UnreadableImageError, digest_images, find_images
from nerfgen.landmark.estimator import Detection, EstimatorSpec, LandmarkEstimator, estimator_for
from nerfgen.objectclass import ObjectClass
from nerfgen.objectclass import object_class as named_class
from nerfgen.parallel import Progress, map_ordered, silent

SCHEMA = "landmarks/1"
# Raise when equal images and parameters give other landmarks.
_VERSION = 1
_MOST_REASONS = 5


def estimate_landmarks(image: InputImage, estimator: LandmarkEstimator) -> Detection:
    """The landmarks of the largest object in one image, in the precision of files (float32).

    Whatever is wrong with the image becomes the detection's status.
    """
    try:
        found, size = estimator(image), image.size
    except UnreadableImageError as error:
        landmarks = np.full((len(estimator.names), 2), np.nan, np.float32)
        mesh = np.full((len(estimator.mesh_index), 3), np.nan, np.float32)
        return Detection(error.status, landmarks, mesh, reason=error.reason)
    return replace(
        found,
        landmarks=found.landmarks.astype(np.float32),
        mesh=found.mesh.astype(np.float32),
        image_size=size,
    )


def map_landmarks(
    images: Sequence[InputImage],
    spec: EstimatorSpec,
    *,
    workers: int | None = None,
    progress: Progress = silent,
) -> Iterator[Detection]:
    """:func:`estimate_landmarks` of many images in worker processes, in order.

    Args:
        workers: processes; one per core by default.

    Raises:
        MissingDependencyError: a package or library of the estimator is absent.
    """
    for detection, _ in _map(images, spec.prepared(), workers=workers, progress=progress):
        yield detection


def landmark_folder(
    data: ImageFolder,
    output: Path,
    *,
    object_class: ObjectClass | str = "face",
    model: Path | None = None,
    models: Path | None = None,
    workers: int | None = None,
    shard: storage.Shard = storage.Shard(),
    scheduler: str | None = None,
    overwrite: bool = False,
    progress: Progress = silent,
    warn: Callable[[str], None] = lambda line: None,
) -> storage.Record:
    """Estimate the landmarks of every image below a folder and write a ``landmarks/1`` file.

    A killed or interrupted run is continued: finished images are kept in a hidden journal beside the output.

    Args:
        model: a trained estimator (`nerfgen train-landmarker`), for classes that bring none.
        models: the model file of MediaPipe or a folder that holds it; searched for if None.
        workers: processes; one per core by default.
        shard: the part of the images to work on; `nerfgen join` joins the outputs.
        scheduler: takes workers of Dask, see :class:`nerfgen.cluster.ClusterWorkers`.
        overwrite: replace an existing output. Without it, one from the same images is kept.
        warn: called with one line for each part of the installation that is incomplete, and before a download.

    Returns:
        ``images``, ``detected`` (usable), ``detected_fraction``, ``statuses`` (count of each) and
        ``kept`` (whether the output was there already).

    Raises:
        InputError: no images, no estimator for the class, or one of other landmarks.
        StoreError: the images are in an object store that does not answer; finished images are kept.
        MissingDependencyError: a package or library of the estimator is absent.
        OutputExistsError: the output exists and came from other images or parameters.
    """
    described = named_class(object_class)
    spec = estimator_for(described, model, models=models)
    listed = find_images(data)
    paths = [listed[row] for row in shard.rows(len(listed))]
    parameters = {"estimator": spec.identity, **shard.parameters(listed)}
    stage = storage.Stage(output, SCHEMA, described, parameters=parameters, version=_VERSION)
    if output.exists() and not overwrite:
        inputs = [storage.folder_record(paths, digest_images(data, paths))]
        if replace(stage, inputs=inputs).is_current():
            with storage.reading(output, SCHEMA) as file:
                _tell_reasons(storage.strings(file["reason"]) if "reason" in file else [], warn)
                return {**_summary(storage.strings(file["status"])), "kept": True}
    spec = spec.prepared(warn)
    mesh_index, names = spec.mesh_index, described.landmark_names
    for line in spec.warnings():
        warn(line)
    reasons: list[str] = []
    statuses: list[str] = []
    digests: list[storage.Digest] = []
    with stage.journal() as journal, stage.create() as file:
        writer = storage.RowWriter(file, len(paths), landmarks=(len(names), 2), mesh=(len(mesh_index), 3))
        images = [InputImage(path, data) for path in paths]

        def estimate(indices: Sequence[int]) -> Iterator[tuple[storage.Row, storage.Digest]]:
            chosen = [images[index] for index in indices]
            found = _map(chosen, spec, workers=workers, scheduler=scheduler, progress=progress)
            for detection, digest in found:
                yield vars(detection), digest

        if journal:
            warn(f"{len(journal)} images were finished by an earlier run, which is continued")
        rows = journal.rows(paths, partial(digest_images, data), estimate)
        for path, (row, digest) in zip(paths, rows, strict=True):
            writer.add({"image": path, **row, "image_bytes": digest[0], "image_sha256": digest[1]})
            reasons.append(row["reason"])
            statuses.append(row["status"])
            digests.append(digest)
        writer.finish(landmark_names=names, mesh_index=mesh_index)
        # The workers computed the digests of what they read.
        storage.put_inputs(file, [storage.folder_record(paths, digests)])
    _tell_reasons(reasons, warn)
    return {**_summary(statuses), "kept": False}


def _tell_reasons(reasons: Sequence[str], warn: Callable[[str], None]) -> None:
    """Say why files can't be used as images, the commonest reasons first."""
    for reason, count in Counter(filter(None, reasons)).most_common(_MOST_REASONS):
        warn(f"{count} {'image' if count == 1 else 'images'} can't be used: {reason}")


def _summary(statuses: list[str]) -> storage.Record:
    detected = int(storage.usable(statuses).sum())
    return {
        "images": len(statuses),
        "detected": detected,
        "detected_fraction": detected / max(len(statuses), 1),
        "statuses": dict(sorted(Counter(statuses).items())),
    }


_estimator: LandmarkEstimator


def _map(
    images: Sequence[InputImage],
    spec: EstimatorSpec,
    *,
    workers: int | None,
    progress: Progress,
    scheduler: str | None = None,
) -> Iterator[tuple[Detection, tuple[int, str]]]:
    """The detections in images, and the digests of the images."""
    return map_ordered(
        _estimate,
        images,
        workers=workers,
        initializer=_start,
        initializer_arguments=(spec,),
        preload=[__name__, *spec.modules],
        scheduler=scheduler,
        name_of=lambda image: image.name,
        progress=progress,
    )


def _start(spec: EstimatorSpec) -> None:
    """Build this worker's estimator."""
    global _estimator
    _estimator = spec.build()


def _estimate(image: InputImage) -> tuple[Detection, tuple[int, str]]:
    # A copy, so that decoded pixels are freed even where a single process does all.
    image = copy.copy(image)
    return estimate_landmarks(image, _estimator), image.digest
