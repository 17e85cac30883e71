"""Masks of a whole folder, each in the window of its image's camera."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from nerfgen import storage
from nerfgen.image import ImageFolder, InputImage, UnreadableImageError, digest_images, local_folder
from nerfgen.mask.methods import SegmenterSpec
from nerfgen.mask.segmenter import Segmentation, SegmentationRequest, Segmenter
from nerfgen.mask.settings import MaskSettings
from nerfgen.parallel import Progress, map_ordered, silent

SCHEMA = "masks/1"
# Raise when equal inputs and parameters give other masks.
_VERSION = 1
# A smaller fraction of foreground in the window is no object.
_MIN_FOREGROUND = 0.005


def segment_image(request: SegmentationRequest, segmenter: Segmenter) -> Segmentation:
    """The mask of one image. Whatever is wrong with the image becomes the status."""
    try:
        size = request.image.size
        found = segmenter(request)
    except UnreadableImageError as error:
        return Segmentation(error.status, reason=error.reason)
    found = replace(found, image_size=size)
    if found.mask is not None and (found.mask > 127).mean() < _MIN_FOREGROUND:
        return replace(found, status="no_mask", mask=None)
    return found


def map_masks(
    requests: Sequence[SegmentationRequest],
    spec: SegmenterSpec,
    *,
    workers: int | None = None,
    progress: Progress = silent,
) -> Iterator[Segmentation]:
    """:func:`segment_image` of many images in worker processes, in order.

    Args:
        workers: processes; one per core by default.

    Raises:
        MissingDependencyError: a package or library of the segmenter is absent.
    """
    for segmentation, _ in _map(
        [(request.image, request) for request in requests], spec.prepared(), workers, progress
    ):
        yield segmentation


def segment_folder(
    data: ImageFolder,
    output: Path,
    *,
    cameras: Path | None = None,
    landmarks: Path | None = None,
    settings: MaskSettings = MaskSettings(),
    models: Path | None = None,
    workers: int | None = None,
    shard: storage.Shard = storage.Shard(),
    scheduler: str | None = None,
    overwrite: bool = False,
    progress: Progress = silent,
    warn: Callable[[str], None] = lambda line: None,
) -> storage.Record:
    """Mask every image in the window of its camera and write a ``masks/1`` file.

    Args:
        cameras: a ``cameras/1`` or ``truth/1`` file; ``local_folder(data) / "cameras.h5"`` if None.
        landmarks: a ``landmarks/1`` file, for the methods that use landmarks;
            ``local_folder(data) / "landmarks.h5"`` if None and it exists.
        settings: the method and what it takes.
        models: the model file of MediaPipe or a folder that holds it; searched for if None.
        workers: processes; one per core by default.
        shard: the part of the images to work on; `nerfgen join` joins the outputs.
        scheduler: takes workers of Dask, see :class:`nerfgen.cluster.ClusterWorkers`.
        overwrite: replace an existing output. Without it, one from the same inputs is kept.
        warn: called with one line for each part of the installation that is incomplete, and before a download.

    Returns:
        ``images``, ``masked`` (usable), ``masked_fraction``, ``statuses`` (count of each), ``methods`` (how many
        images each one segmented) and ``kept`` (whether the output was there already). Images that an earlier
        stage could not use have status ``skipped``.

    Raises:
        InputError: no cameras, an unknown method, or an unsuitable setting.
        StoreError: the images are in an object store that does not answer; finished images are kept.
        MissingDependencyError: a package or library of the segmenter is absent.
        OutputExistsError: the output exists and came from other inputs or parameters.
    """
    local = local_folder(data)
    cameras = cameras or local / "cameras.h5"
    made_by = f"nerfgen fit-cameras {data}"
    with storage.reading(cameras, "cameras/1", "truth/1", made_by=made_by) as file:
        object_class = storage.class_of(file)
        listed = storage.strings(file["image"])
        rows = shard.rows(len(listed))
        own = slice(rows.start, rows.stop)
        windows = file["window"][own]
        intrinsics, poses = file["intrinsics"][own], file["cam_to_world"][own]
        image_sizes = file["image_size"][own]
        recorded = [storage.image_digests(file)]
        usable = storage.usable(storage.strings(file["status"])[own]) & np.isfinite(windows).all(axis=1)
    paths = listed[own]
    spec = SegmenterSpec(settings, object_class, models)
    parameters, size = {**spec.parameters(listed), **shard.parameters(listed)}, settings.size
    records = [storage.file_record(cameras)]
    points: list[np.ndarray | None] = [None] * len(paths)
    if landmarks or (local / "landmarks.h5").is_file():
        landmarks = landmarks or local / "landmarks.h5"
        if spec.uses_landmarks:
            points, known = _landmarks(landmarks, paths)
            recorded.append(known)
            records.append(storage.file_record(landmarks))
    stage = storage.Stage(
        output, SCHEMA, object_class, parameters=parameters, inputs=records, version=_VERSION
    )
    if output.exists() and not overwrite:
        inputs = [*records, storage.folder_record(paths, digest_images(data, paths))]
        if replace(stage, inputs=inputs).is_current():
            with storage.reading(output, SCHEMA) as file:
                present = storage.strings(file["status"])
                chosen = storage.strings(file["method"]) if "method" in file else []
            return {**_summary(present, chosen), "kept": True}
    spec = spec.prepared(warn)
    spec.build()  # an error in a setting is raised here, once
    requests = [
        SegmentationRequest(InputImage(path, data), tuple(window), size, path, object_class.bounds, *known)
        for path, window, *known in zip(paths, windows.tolist(), intrinsics, poses, points, strict=True)
    ]
    items = [
        (request.image, request if segmented else None)
        for request, segmented in zip(requests, usable, strict=True)
    ]
    statuses: list[str] = []
    methods: list[str] = []
    digests: list[storage.Digest] = []
    changed: list[str] = []

    def segment(indices: Sequence[int]) -> Iterator[tuple[storage.Row, storage.Digest]]:
        chosen = [items[index] for index in indices]
        for segmentation, digest in _map(chosen, spec, workers, progress, scheduler):
            yield vars(segmentation), digest

    with stage.journal() as journal, stage.create() as file:
        writer = storage.RowWriter(file, len(paths), mask=(size, size))
        if journal:
            warn(f"{len(journal)} images were finished by an earlier run, which is continued")
        for index, (row, digest) in enumerate(journal.rows(paths, partial(digest_images, data), segment)):
            found = Segmentation(**{**row, "image_size": tuple(row["image_size"])})
            known_size = tuple(image_sizes[index].tolist())
            now = {paths[index]: digest[1]}
            (status,), renewed = storage.changed_images([found.status], [paths[index]], now, *recorded)
            if found.mask is not None and found.image_size != known_size:
                # Files without digests: at least the size differs.
                status, renewed = "changed", [paths[index]]
            if renewed:
                found = replace(found, status=status, mask=None)
                changed += renewed
            is_masked = found.mask is not None
            statuses.append(found.status)
            methods.append((found.method or settings.method) if is_masked else "")
            digests.append(digest)
            writer.add(
                {
                    "image": paths[index],
                    "status": found.status,
                    "reason": found.reason,
                    "image_size": found.image_size if is_masked else known_size,
                    "mask_window": windows[index] if found.status in storage.USABLE else [np.nan] * 3,
                    "mask": found.mask,
                    "method": methods[-1],
                    "image_sha256": digest[1],
                }
            )
        writer.finish()
        # The workers computed the digests of what they read.
        storage.put_inputs(file, [*records, storage.folder_record(paths, digests)])
    if changed:
        commands = "`nerfgen landmark` and `nerfgen fit-cameras` with --overwrite, or the import,"
        warn(storage.changed_notice(changed, cameras, commands))
    return {**_summary(statuses, methods), "kept": False}


def _landmarks(landmarks: Path, paths: list[str]) -> tuple[list[np.ndarray | None], dict[str, str]]:
    """The landmarks of every image, pixels; None for images without. Digests of the images that have any."""
    with storage.reading(landmarks, "landmarks/1", made_by="nerfgen landmark DATA") as file:
        points = file["landmarks"][:]
        known = storage.usable(storage.strings(file["status"]))
        rows = storage.positions(paths, storage.strings(file["image"]))
        digests = storage.image_digests(file)
    found = [points[row].astype(np.float64) if row >= 0 and known[row] else None for row in rows]
    return found, {
        path: digests[path]
        for path, own in zip(paths, found, strict=True)
        if own is not None and path in digests
    }


def _summary(statuses: list[str], methods: list[str]) -> storage.Record:
    masked = int(storage.usable(statuses).sum())
    return {
        "images": len(statuses),
        "masked": masked,
        "masked_fraction": masked / max(len(statuses), 1),
        "statuses": dict(sorted(Counter(statuses).items())),
        "methods": dict(sorted(Counter(name for name in methods if name).items())),
    }


# An image, whose digest is computed, and the request for its mask, if there is one.
_Item = tuple[InputImage, SegmentationRequest | None]
_segmenter: Segmenter


def _map(
    items: Sequence[_Item],
    spec: SegmenterSpec,
    workers: int | None,
    progress: Progress,
    scheduler: str | None = None,
) -> Iterator[tuple[Segmentation, tuple[int, str]]]:
    """The segmentations of images, and the digests of the images."""
    return map_ordered(
        _segment,
        items,
        workers=workers,
        initializer=_start,
        initializer_arguments=(spec,),
        preload=[__name__, *spec.modules],
        scheduler=scheduler,
        name_of=lambda item: item[0].name,
        progress=progress,
    )


def _start(spec: SegmenterSpec) -> None:
    """Build this worker's segmenter."""
    global _segmenter
    _segmenter = spec.build()


def _segment(item: _Item) -> tuple[Segmentation, tuple[int, str]]:
    # A copy, so that decoded pixels are freed even where a single process does all.
    image, request = copy.copy(item[0]), item[1]
    if request is None:
        return Segmentation("skipped"), image.digest
    return segment_image(replace(request, image=image), _segmenter), image.digest
