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
    ImageListing,
    Raster,
    UsableImages,
    count_skipped,
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
from nerfgen.parallel import Progress, map_threads, silent

SCHEMA = "pixels/1"
# Raise when equal inputs give other pixels.
_VERSION = 2
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
    parameters = {
        "size": size,
        "dilation": DILATION,
        # Cameras and masks may be the same file: the inputs alone don't say whether it served as masks.
        "masks": masks is not None,
        "rehearsal": base.identity if base else None,
    }
    superseded: list[Path] = []
    if path is None:
        content = json.dumps([parameters, inputs], sort_keys=True)
        path = local_folder(data) / f"pixels-{hashlib.sha256(content.encode()).hexdigest()[:12]}.h5"
        if fallback and not path.exists() and not os.access(path.parent, os.W_OK):
            path = fallback / path.name
        superseded = [other for other in path.parent.glob("pixels-*.h5") if other != path]
    stage = storage.Stage(path, SCHEMA, object_class, parameters, inputs, _VERSION)
    if not _is_current(stage):
        _write(stage, listing, size, cameras, base, progress)
        # Runs that read them go on doing so: they hold them open.
        for other in superseded:
            with contextlib.suppress(OSError):
                other.unlink()
    return _open(path, size, listing, digests or {})


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


def _write(
    stage: storage.Stage,
    listing: ImageListing,
    size: int,
    cameras: Path,
    base: BaseModel | None,
    progress: Progress,
) -> None:
    """Decode every usable image, in threads, and write each as soon as it is decoded."""
    count, rows, status = len(listing.images), listing.rows, list(listing.status)
    inside, valid = np.zeros(count, np.int32), np.zeros(count, np.int32)
    renderings = base.renderings if base else ()
    num_inputs = count - len(renderings)
    with open_framer(listing, size) as frame, stage.create() as file:
        storage.put(file, "image", listing.images)
        pixels = storage.allocate(file, "pixels", (count, size * size, 4), compressed=False)
        order = storage.allocate(file, "order", (count, size * size), compressed=False)

        def ordered(row: int) -> _Pixels | str:
            if row >= num_inputs:
                rendering = renderings[row - num_inputs]
                found: Raster | str = Raster(
                    rendering[..., :3], rendering[..., 3], np.ones(rendering.shape[:2], bool)
                )
            else:
                found = frame(row)
            return found if isinstance(found, str) else _ordered(found)

        for row, found in zip(rows, map_threads(ordered, rows.tolist(), progress=progress), strict=True):
            if isinstance(found, str):
                status[row] = found
            else:
                pixels[row], order[row], inside[row], valid[row] = found
        require_usable(status[:num_inputs], listing.data, cameras)
        storage.put(file, "status", status)
        storage.put(file, "inside", inside)
        storage.put(file, "valid", valid)


_Pixels = tuple[np.ndarray, np.ndarray, int, int]


def _ordered(raster: Raster) -> _Pixels:
    """Pixels (pixel, 4) in sampling order, the order, and how many are inside the mask and valid."""
    values, order, inside, valid = order_pixels(*(array[None] for array in raster))
    return values[0], order[0].astype(np.int32), int(inside[0]), int(valid[0])
