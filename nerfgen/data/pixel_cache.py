"""The framed images as one file, from which training reads the pixels of any image in an instant."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import socket
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import h5py
import numpy as np
from jaxtyping import Float, Int, UInt8

from nerfgen import storage
from nerfgen.data.framing import (
    DILATION,
    FramingRequest,
    ImageListing,
    Raster,
    UsableImages,
    count_skipped,
    frame_image,
    list_images,
    open_framer,
    order_pixels,
    require_usable,
)
from nerfgen.data.rows import BaseModel
from nerfgen.errors import InputError, NerfgenError, OutputExistsError
from nerfgen.geometry import window_intrinsics
from nerfgen.image import ImageFolder, local_folder
from nerfgen.objectclass import ObjectClass
from nerfgen.parallel import Progress, map_ordered, map_threads, silent

SCHEMA = "pixels/1"
# Raise when equal inputs give other pixels.
VERSION = 2
# Until a file is visible to all hosts: network file systems remember what was not there.
_VISIBLE_SECONDS = 90.0


@dataclass(frozen=True)
class PixelCache(UsableImages):
    """The usable images of an open ``pixels/1`` file; the pixels stay in the file.

    The file is held open, so that removing or replacing it meanwhile changes nothing. A context manager.

    Attributes:
        file: open for reading.
        size: width and height of a raster, pixels.
        digests: SHA-256 of the files of the images, where known.
        instance: object that each shows.
        row: row of each in the file.
        inside, valid: number of pixels inside the dilated mask, and on the image (see the schema).
    """

    file: h5py.File
    size: int
    digests: list[str]
    instance: list[str]
    row: Int[np.ndarray, "images"]
    inside: Int[np.ndarray, "images"]
    valid: Int[np.ndarray, "images"]

    @property
    def raster_intrinsics(self) -> Float[np.ndarray, "images 3 3"]:
        """Pinhole matrices of the rasters."""
        return window_intrinsics(self.intrinsics, self.window, self.size)

    def rasters(self, images: Int[np.ndarray, "chosen"]) -> Iterator[UInt8[np.ndarray, "size size 4"]]:
        """The rasters (red, green, blue, mask times 255) of the images with these indices, one by one."""
        for row in self.row[images]:
            raster = np.empty((self.size * self.size, 4), np.uint8)
            raster[self.file["order"][row]] = self.file["pixels"][row]
            yield raster.reshape(self.size, self.size, 4)

    def close(self) -> None:
        """Close the file."""
        self.file.close()

    def __enter__(self) -> PixelCache:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def open_pixel_cache(
    data: ImageFolder,
    cameras: Path,
    masks: Path | None,
    size: int,
    *,
    object_class: ObjectClass | str,
    inputs: Sequence[storage.InputRecord],
    path: Path | None = None,
    fallback: Path | None = None,
    base: BaseModel | None = None,
    digests: Mapping[str, str] | None = None,
    progress: Progress = silent,
    say: Callable[[str], None] = lambda line: None,
) -> PixelCache:
    """Open the pixels of a folder, decoded and framed first if the file is missing or made from something else.

    Memory does not depend on the number of images. Only pixel caches are ever replaced.

    Args:
        size: width and height of a raster, pixels.
        inputs: provenance records of cameras, masks and images, which determine the content together with ``size``.
        path: file of the cache. None names it ``pixels-KEY.h5`` by its content, in ``local_folder(data)``, so that runs
            share a cache only if they need the same; caches of other content that this folder had are then removed.
        fallback: folder for the cache where nothing can be written there.
        base: images that its model knows are left out; its renderings come last among the images.
        digests: SHA-256 of each image's file, by which known and changed images are recognised.
        progress: called for every decoded image; not called where the file is current.
        say: receives a warning if images are not those that the cameras or masks were made of.

    Raises:
        InputError: an input is missing or no image is usable; then nothing is written.
        OutputExistsError: ``path`` is no pixel cache.
    """
    listing = list_images(data, cameras, masks, digests=digests, say=say)
    if base:
        listing = _with_renderings(listing, base, digests or {}, cameras)
    parameters = cache_parameters(size, masks, base)
    superseded: list[Path] = []
    if path is None:
        path = local_folder(data) / cache_name(parameters, inputs)
        if fallback and not path.exists() and not os.access(path.parent, os.W_OK):
            path = fallback / path.name
        superseded = [other for other in path.parent.glob("pixels-*.h5") if other != path]
    stage = storage.Stage(path, SCHEMA, object_class, parameters, inputs, VERSION)
    if not _is_current(stage):
        rows = range(len(listing.images))
        write_pixels(stage, listing, rows, size, cameras, digests or {}, base=base, progress=progress)
        # Runs that read them go on doing so: they hold them open.
        for other in superseded:
            with contextlib.suppress(OSError):
                other.unlink()
    return _open(path, size, listing, digests or {})


def cache_parameters(size: int, masks: Path | None, base: BaseModel | None = None) -> storage.Record:
    """What the pixels depend on beside the inputs."""
    return {
        "size": size,
        "dilation": DILATION,
        # Cameras and masks may be the same file: the inputs alone don't say whether it served as masks.
        "masks": masks is not None,
        "rehearsal": base.identity if base else None,
    }


def cache_name(parameters: Mapping[str, object], inputs: Sequence[storage.InputRecord]) -> str:
    """The name of a pixel cache by its content."""
    content = json.dumps([parameters, inputs], sort_keys=True)
    return f"pixels-{hashlib.sha256(content.encode()).hexdigest()[:12]}.h5"


def join_pixel_cache(
    path: Path,
    data: ImageFolder,
    cameras: Path,
    masks: Path | None,
    size: int,
    *,
    base: BaseModel | None = None,
    digests: Mapping[str, str] | None = None,
) -> PixelCache:
    """Open the file that another host of the run has opened with :func:`open_pixel_cache`.

    Raises:
        InputError: it is not there.
    """
    deadline = time.monotonic() + _VISIBLE_SECONDS
    while not path.exists():
        if time.monotonic() > deadline:
            raise InputError(
                f"{path}, which the first host has opened, is not there on {socket.gethostname()}; give all hosts the "
                "same folders, on a shared file system"
            )
        time.sleep(1.0)
    listing = list_images(data, cameras, masks, digests=digests or None)
    if base:
        listing = _with_renderings(listing, base, digests or {}, cameras)
    return _open(path, size, listing, digests or {})


def _open(path: Path, size: int, listing: ImageListing, digests: Mapping[str, str]) -> PixelCache:
    file = storage.open_file(path, SCHEMA)
    status = storage.strings(file["status"])
    rows = np.flatnonzero(storage.usable(status))
    names = storage.strings(file["image"])
    images = [names[row] for row in rows]
    listed = storage.positions(images, listing.images)
    return PixelCache(
        file=file,
        size=size,
        images=images,
        digests=[digests.get(image, "") for image in images],
        instance=[listing.instance[place] for place in listed],
        row=rows,
        inside=file["inside"][:][rows],
        valid=file["valid"][:][rows],
        **listing.columns(listed),
        skipped=count_skipped(status),
    )


def _with_renderings(
    listing: ImageListing, base: BaseModel, digests: Mapping[str, str], cameras: Path
) -> ImageListing:
    """The listing without the images that are known, and with the renderings of the model's objects."""
    known = base.known(listing.images, digests)
    status = ["known" if is_known else own for is_known, own in zip(known, listing.status, strict=True)]
    require_usable(status, listing.data, cameras)
    count, size = len(base.rows), base.size
    own = {
        "image_size": np.full((count, 2), size),
        "intrinsics": base.intrinsics,
        "cam_to_world": base.cam_to_world,
        "window": np.tile([0.0, 0.0, float(size)], (count, 1)),
    }
    return replace(
        listing,
        images=[*listing.images, *base.names],
        instance=[*listing.instance, *base.names],
        status=[*status, *["ok"] * count],
        table={name: np.concatenate([values, own[name]]) for name, values in listing.table.items()},
    )


def _is_current(stage: storage.Stage) -> bool:
    """Whether the file exists, is complete and has the wanted content. Any other pixel cache may be replaced.

    Raises:
        OutputExistsError: it is something else.
    """
    path = stage.output
    if not path.exists():
        return False
    if storage.schema_of(path) != SCHEMA and not path.name.startswith("pixels-"):
        raise OutputExistsError(f"{path} is no pixel cache; delete it or give another `cache`")
    try:
        with storage.reading(path, SCHEMA):
            pass
        return stage.is_current()
    except NerfgenError:
        return False


def write_pixels(
    stage: storage.Stage,
    listing: ImageListing,
    rows: range,
    size: int,
    cameras: Path,
    digests: Mapping[str, str],
    *,
    base: BaseModel | None = None,
    workers: int | None = None,
    scheduler: str | None = None,
    progress: Progress = silent,
) -> dict[str, int]:
    """Decode the usable images among some rows, in threads, and write each as soon as it is decoded.

    Args:
        base: its renderings come last among the images.
        workers, scheduler: take workers of Dask in place of threads, see :class:`nerfgen.cluster.ClusterWorkers`.

    Returns:
        Number of unusable images, by status.

    Raises:
        InputError: none of all images is usable; then nothing is written.
    """
    renderings = base.renderings if base else ()
    num_inputs = len(listing.images) - len(renderings)
    usable = [int(row) for row in listing.rows if row in rows]
    status: list[str] = []
    with open_framer(listing, size) as frame, stage.create() as file:
        writer = storage.RowWriter(file, len(rows), pixels=(size * size, 4), order=(size * size,))

        def ordered(row: int) -> _Pixels | str:
            if row >= num_inputs:
                rendering = renderings[row - num_inputs]
                raster: Raster | str = Raster(
                    rendering[..., :3], rendering[..., 3], np.ones(rendering.shape[:2], bool)
                )
            else:
                raster = frame(row)
            return raster if isinstance(raster, str) else _ordered(raster)

        if scheduler:
            decoded = map_ordered(
                _frame,
                [listing.request(row) for row in usable],
                workers=workers,
                initializer=_start,
                initializer_arguments=(listing.masks, size),
                scheduler=scheduler,
                name_of=lambda request: request.image.name,
                progress=progress,
            )
        else:
            decoded = map_threads(ordered, usable, progress=progress)
        chosen = set(usable)
        for row in rows:
            found = next(decoded) if row in chosen else listing.status[row]
            if isinstance(found, str):
                reason, pixels, order, inside, valid = found, None, None, 0, 0
            else:
                reason, (pixels, order, inside, valid) = "ok", found
            status.append(reason)
            writer.add(
                {
                    "image": listing.images[row],
                    "status": reason,
                    "image_sha256": digests.get(listing.images[row], ""),
                    "pixels": pixels,
                    "order": order,
                    "inside": inside,
                    "valid": valid,
                }
            )
        next(decoded, None)  # its end: the last progress
        if len(rows) == len(listing.images):
            require_usable(status[:num_inputs], listing.data, cameras)
        writer.finish()
    return count_skipped(status)


# Of a worker: the open file of the masks, and the size.
_masks: h5py.File | None
_size: int


def _start(masks: Path | None, size: int) -> None:
    global _masks, _size
    _masks = storage.open_file(masks, "masks/1", "truth/1") if masks else None
    _size = size


def _frame(request: FramingRequest) -> _Pixels | str:
    raster = frame_image(request, _masks, _size)
    return raster if isinstance(raster, str) else _ordered(raster)


_Pixels = tuple[np.ndarray, np.ndarray, int, int]


def _ordered(raster: Raster) -> _Pixels:
    """Pixels (pixel, 4) in sampling order, the order, and how many are inside the mask and valid."""
    values, order, inside, valid = order_pixels(*(array[None] for array in raster))
    return values[0], order[0].astype(np.int32), int(inside[0]), int(valid[0])
