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
from nerfgen.mask.methods import METHODS
from nerfgen.mask.segmenter import Segmentation, Segmenter, Window
from nerfgen.parallel import Progress, map_ordered, silent
from nerfgen.photo import Photograph, UnreadableImageError, digest_images

SCHEMA = "masks/1"
# Less foreground than this part of the window is no object.
_MIN_FOREGROUND = 0.005


class _Item(NamedTuple):
    """What a worker is to do; without a window it only reads the file for its digest."""

    path: str
    window: Window | None
    size: int


class _Row(NamedTuple):
    """What became of one image; ``mask`` is None unless it was segmented."""

    status: str
    mask: np.ndarray | None
    image_size: tuple[int, int]
    num_bytes: int
    sha256: str


def segment_folder(
    data: Path,
    output: Path,
    *,
    cameras: Path | None = None,
    method: str = "auto",
    size: int = 256,
    workers: int = 0,
    overwrite: bool = False,
    progress: Progress = silent,
    warn: Callable[[str], None] = lambda line: None,
) -> dict[str, Any]:
    """Mask every image in the window of its camera and write a ``masks/1`` file.

    Args:
        cameras: a ``cameras/1`` or ``truth/1`` file; ``data / "cameras.h5"`` if None.
        method: one of :data:`nerfgen.mask.METHODS`.
        size: pixels along either side of every mask.
        workers: processes; 0 for one a core.
        overwrite: replace an existing output. Without it, one from the same inputs is kept.
        warn: told, in one line each, what is odd about the installation.

    Returns:
        ``images``, ``masked`` (usable), ``masked_fraction``, ``statuses`` (count of each) and
        ``kept`` (whether the output was there already). Images that an earlier stage could not
        use have status ``skipped``.

    Raises:
        InputError: no cameras, or an unknown method.
        MissingDependencyError: a package or library of the segmenter is absent.
        OutputExistsError: the output exists and came from other inputs or parameters.
    """
    if method not in METHODS:
        raise InputError(f"there is no segmentation method {method}; choose from {', '.join(METHODS)}")
    if size < 1:
        raise InputError(f"a mask of {size} pixels is impossible; give a size of 1 or more")
    cameras = cameras or data / "cameras.h5"
    made_by = f"nerfgen fit-cameras {data}"
    with artifact.reading(cameras, "cameras/1", "truth/1", made_by=made_by) as file:
        object_class = artifact.class_of(file)
        paths = artifact.strings(file["image"])
        windows = file["window"][:]
        image_sizes = file["image_size"][:]
        usable = artifact.usable(artifact.strings(file["status"])) & np.isfinite(windows).all(axis=1)
    parameters = {"method": METHODS[method].identity, "size": size}
    camera_record = artifact.file_record(cameras)
    if output.exists() and not overwrite:
        inputs = [camera_record, artifact.folder_record(paths, digest_images(data, paths))]
        if artifact.is_current(
            output, SCHEMA, object_class=object_class, parameters=parameters, inputs=inputs
        ):
            with artifact.reading(output, SCHEMA) as file:
                return {**_summary(artifact.strings(file["status"])), "kept": True}
    for line in METHODS[method].load():
        warn(line)
    items = [
        _Item(str(data / path), tuple(window) if use else None, size)
        for path, window, use in zip(paths, windows.tolist(), usable, strict=True)
    ]
    statuses: list[str] = []
    digests: list[tuple[int, str]] = []
    with artifact.create(
        output, SCHEMA, object_class=object_class, parameters=parameters, inputs=[camera_record]
    ) as file:
        masks = artifact.allocate(file, "mask", (len(paths), size, size))
        rows = map_ordered(
            _segment,
            items,
            workers=workers,
            initializer=_start,
            initializer_arguments=(method,),
            preload=[__name__, *METHODS[method].modules],
            progress=progress,
        )
        for index, row in enumerate(rows):
            statuses.append(row.status)
            digests.append((row.num_bytes, row.sha256))
            if row.mask is not None:
                masks[index] = row.mask
                image_sizes[index] = row.image_size
        placed = artifact.usable(statuses)
        artifact.put(file, "image", paths)
        artifact.put(file, "status", statuses)
        artifact.put(file, "image_size", image_sizes)
        artifact.put(file, "mask_window", np.where(placed[:, None], windows, np.nan))
        # The digests are those of the bytes that the workers read, so they are known only now.
        artifact.put_inputs(file, [camera_record, artifact.folder_record(paths, digests)])
    return {**_summary(statuses), "kept": False}


def _summary(statuses: list[str]) -> dict[str, Any]:
    masked = int(artifact.usable(statuses).sum())
    return {
        "images": len(statuses),
        "masked": masked,
        "masked_fraction": masked / max(len(statuses), 1),
        "statuses": dict(sorted(Counter(statuses).items())),
    }


_segmenter: Segmenter


def _start(method: str) -> None:
    """Make this worker's segmenter."""
    global _segmenter
    _segmenter = METHODS[method].make()


def _segment(item: _Item) -> _Row:
    """One image: whatever is wrong with it becomes its status."""
    try:
        source = Path(item.path).read_bytes()
    except OSError:
        source = b""
    image_size = (0, 0)
    if item.window is None:
        segmentation = Segmentation("skipped")
    else:
        try:
            photo = Photograph(source)
            image_size = photo.size
            segmentation = _segmenter(photo, item.window, item.size)
        except UnreadableImageError:
            segmentation = Segmentation("unreadable")
    if segmentation.mask is not None and (segmentation.mask > 127).mean() < _MIN_FOREGROUND:
        segmentation = Segmentation("no_mask")
    digest = hashlib.sha256(source).hexdigest()
    return _Row(segmentation.status, segmentation.mask, image_size, len(source), digest)
