"""Masks of a whole folder, each in the window of its image's camera."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from nerfgen import artifact
from nerfgen.errors import InputError
from nerfgen.mask.methods import Choice, Settings
from nerfgen.mask.segmenter import Scene, Segmentation, Segmenter, Window
from nerfgen.parallel import Progress, map_ordered, silent
from nerfgen.photo import Photograph, UnreadableImageError, digest_images

SCHEMA = "masks/1"
# Less foreground than this part of the window is no object.
_MIN_FOREGROUND = 0.005


class _Item(NamedTuple):
    """What a worker is to do; without a window it only reads the file for its digest."""

    data: str
    path: str
    window: Window | None
    size: int
    bounds: tuple[float, float, float]
    intrinsics: np.ndarray
    cam_to_world: np.ndarray
    landmarks: np.ndarray | None


class _Row(NamedTuple):
    """What became of one image; ``mask`` is None unless it was segmented."""

    status: str
    method: str
    mask: np.ndarray | None
    image_size: tuple[int, int]
    num_bytes: int
    sha256: str


def segment_folder(
    data: Path,
    output: Path,
    *,
    cameras: Path | None = None,
    landmarks: Path | None = None,
    method: str = "auto",
    settings: Settings | None = None,
    size: int = 256,
    workers: int = 0,
    overwrite: bool = False,
    progress: Progress = silent,
    warn: Callable[[str], None] = lambda line: None,
) -> dict[str, Any]:
    """Mask every image in the window of its camera and write a ``masks/1`` file.

    Args:
        cameras: a ``cameras/1`` or ``truth/1`` file; ``data / "cameras.h5"`` if None.
        landmarks: a ``landmarks/1`` file, for the methods that look at landmarks; ``data / "landmarks.h5"``
            if None and it is there.
        method: one of :data:`nerfgen.mask.METHOD_NAMES`.
        settings: what the method is told.
        size: pixels along either side of every mask.
        workers: processes; 0 for one a core.
        overwrite: replace an existing output. Without it, one from the same inputs is kept.
        warn: told, in one line each, what is odd about the installation.

    Returns:
        ``images``, ``masked`` (usable), ``masked_fraction``, ``statuses`` (count of each), ``methods`` (how many
        images each one segmented) and ``kept`` (whether the output was there already). Images that an earlier
        stage could not use have status ``skipped``.

    Raises:
        InputError: no cameras, an unknown method, or an unsuitable setting.
        MissingDependencyError: a package or library of the segmenter is absent.
        OutputExistsError: the output exists and came from other inputs or parameters.
    """
    if size < 1:
        raise InputError(f"a mask of {size} pixels is impossible; give a size of 1 or more")
    cameras = cameras or data / "cameras.h5"
    made_by = f"nerfgen fit-cameras {data}"
    with artifact.reading(cameras, "cameras/1", "truth/1", made_by=made_by) as file:
        object_class = artifact.class_of(file)
        paths = artifact.strings(file["image"])
        windows = file["window"][:]
        intrinsics, poses = file["intrinsics"][:], file["cam_to_world"][:]
        image_sizes = file["image_size"][:]
        usable = artifact.usable(artifact.strings(file["status"])) & np.isfinite(windows).all(axis=1)
    choice = Choice(method, settings or Settings(), object_class)
    parameters = {**choice.parameters(paths), "size": size}
    records = [artifact.file_record(cameras)]
    points: list[np.ndarray | None] = [None] * len(paths)
    if landmarks or (data / "landmarks.h5").is_file():
        landmarks = landmarks or data / "landmarks.h5"
        if choice.landmarks:
            points = _landmarks(landmarks, paths)
            records.append(artifact.file_record(landmarks))
    if output.exists() and not overwrite:
        inputs = [*records, artifact.folder_record(paths, digest_images(data, paths))]
        if artifact.is_current(
            output, SCHEMA, object_class=object_class, parameters=parameters, inputs=inputs
        ):
            with artifact.reading(output, SCHEMA) as file:
                present = artifact.strings(file["status"])
                chosen = artifact.strings(file["method"]) if "method" in file else []
            return {**_summary(present, chosen), "kept": True}
    for line in choice.load():
        warn(line)
    choice.make()  # what is wrong with a setting is said here, once
    items = [
        _Item(str(data), path, tuple(window) if use else None, size, object_class.bounds, *known)
        for path, window, use, *known in zip(
            paths, windows.tolist(), usable, intrinsics, poses, points, strict=True
        )
    ]
    statuses: list[str] = []
    methods: list[str] = []
    digests: list[tuple[int, str]] = []
    with artifact.create(
        output, SCHEMA, object_class=object_class, parameters=parameters, inputs=records
    ) as file:
        masks = artifact.allocate(file, "mask", (len(paths), size, size))
        rows = map_ordered(
            _segment,
            items,
            workers=workers,
            initializer=_start,
            initializer_arguments=(choice,),
            preload=[__name__, *choice.modules],
            progress=progress,
        )
        for index, row in enumerate(rows):
            statuses.append(row.status)
            methods.append(row.method)
            digests.append((row.num_bytes, row.sha256))
            if row.mask is not None:
                masks[index] = row.mask
                image_sizes[index] = row.image_size
        placed = artifact.usable(statuses)
        artifact.put(file, "image", paths)
        artifact.put(file, "status", statuses)
        artifact.put(file, "method", methods)
        artifact.put(file, "image_size", image_sizes)
        artifact.put(file, "mask_window", np.where(placed[:, None], windows, np.nan))
        # The digests are those of the bytes that the workers read, so they are known only now.
        artifact.put_inputs(file, [*records, artifact.folder_record(paths, digests)])
    return {**_summary(statuses, methods), "kept": False}


def _landmarks(landmarks: Path, paths: list[str]) -> list[np.ndarray | None]:
    """The landmarks of every image, pixels; None where there are none."""
    with artifact.reading(landmarks, "landmarks/1", made_by="nerfgen landmark DATA") as file:
        points = file["landmarks"][:]
        known = artifact.usable(artifact.strings(file["status"]))
        rows = artifact.positions(paths, artifact.strings(file["image"]))
    return [points[row].astype(np.float64) if row >= 0 and known[row] else None for row in rows]


def _summary(statuses: list[str], methods: list[str]) -> dict[str, Any]:
    masked = int(artifact.usable(statuses).sum())
    return {
        "images": len(statuses),
        "masked": masked,
        "masked_fraction": masked / max(len(statuses), 1),
        "statuses": dict(sorted(Counter(statuses).items())),
        "methods": dict(sorted(Counter(name for name in methods if name).items())),
    }


_segmenter: Segmenter


_default_method = ""


def _start(choice: Choice) -> None:
    """Make this worker's segmenter."""
    global _segmenter, _default_method
    _segmenter, _default_method = choice.make(), choice.method


def _segment(item: _Item) -> _Row:
    """One image: whatever is wrong with it becomes its status."""
    try:
        source = (Path(item.data) / item.path).read_bytes()
    except OSError:
        source = b""
    image_size = (0, 0)
    if item.window is None:
        segmentation = Segmentation("skipped")
    else:
        try:
            photo = Photograph(source)
            image_size = photo.size
            segmentation = _segmenter(
                Scene(
                    photo,
                    item.window,
                    item.size,
                    path=item.path,
                    bounds=item.bounds,
                    intrinsics=item.intrinsics,
                    cam_to_world=item.cam_to_world,
                    landmarks=item.landmarks,
                )
            )
        except UnreadableImageError:
            segmentation = Segmentation("unreadable")
    status, mask = segmentation.status, segmentation.mask
    if mask is not None and (mask > 127).mean() < _MIN_FOREGROUND:
        status, mask = "no_mask", None
    digest = hashlib.sha256(source).hexdigest()
    method = segmentation.method or _default_method
    return _Row(status, method if mask is not None else "", mask, image_size, len(source), digest)
