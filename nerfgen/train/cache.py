"""The framed photographs as one file, from which training reads the pixels of any image in an instant."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from jaxtyping import Float, Int, UInt8

from nerfgen import artifact
from nerfgen.errors import NerfgenError, OutputExistsError
from nerfgen.geometry import window_intrinsics
from nerfgen.objectclass import ObjectClass
from nerfgen.parallel import Progress, map_threads, silent
from nerfgen.train.data import (
    DILATION,
    Listing,
    Raster,
    count_skipped,
    framer,
    list_images,
    packed_pixels,
    require_usable,
)
from nerfgen.train.start import Start

SCHEMA = "pixels/1"


@dataclass(frozen=True)
class PixelCache:
    """The usable images of a ``pixels/1`` file with their cameras; the pixels stay in the file.

    Attributes:
        path: the file.
        size: pixels along either side of a raster.
        images, digests: paths relative to the folder of the photographs, and SHA-256 of the files, where known.
        instance: object that each shows.
        row: row of each in the file.
        inside, valid: pixels inside the dilated mask, and on the photograph (see the schema).
        image_size, intrinsics, cam_to_world, window: of the photographs.
        canonical_index, canonical: keypoints that the cameras were fitted to, if they were.
        skipped: images of the folder that can't be used, by status.
    """

    path: Path
    size: int
    images: list[str]
    digests: list[str]
    instance: list[str]
    row: Int[np.ndarray, "images"]
    inside: Int[np.ndarray, "images"]
    valid: Int[np.ndarray, "images"]
    image_size: Int[np.ndarray, "images 2"]
    intrinsics: Float[np.ndarray, "images 3 3"]
    cam_to_world: Float[np.ndarray, "images 4 4"]
    window: Float[np.ndarray, "images 3"]
    canonical_index: Int[np.ndarray, "points"]
    canonical: Float[np.ndarray, "points 3"]
    skipped: dict[str, int]

    @property
    def raster_intrinsics(self) -> Float[np.ndarray, "images 3 3"]:
        """Pinhole matrices of the rasters."""
        return window_intrinsics(self.intrinsics, self.window, self.size)

    def rasters(self, images: Int[np.ndarray, "some"]) -> Iterator[UInt8[np.ndarray, "size size 4"]]:
        """The rasters (red, green, blue, mask times 255) of images given by their places here, one by one."""
        with artifact.reading(self.path, SCHEMA) as file:
            for row in self.row[images]:
                raster = np.empty((self.size * self.size, 4), np.uint8)
                raster[file["order"][row]] = file["pixels"][row]
                yield raster.reshape(self.size, self.size, 4)


def pixel_cache(
    path: Path,
    data: Path,
    cameras: Path,
    masks: Path | None,
    size: int,
    *,
    object_class: ObjectClass | str,
    inputs: list[dict[str, Any]],
    start: Start | None = None,
    digests: Mapping[str, str] | None = None,
    progress: Progress = silent,
) -> PixelCache:
    """Open the pixels of a folder, decoded and framed first if ``path`` is missing or made from something else.

    Memory does not depend on the number of images. Nothing but an older cache is ever replaced.

    Args:
        size: pixels along either side of a raster.
        inputs: provenance records of cameras, masks and photographs; with ``size`` they say whether a
            file that is there is current.
        start: photographs that its model knows are left out; its pictures come last among the images.
        digests: SHA-256 of each image's file, by which they are known.
        progress: told of every decoded image; not called where the file is current.

    Raises:
        InputError: an input is missing or no image is usable; then nothing is written.
        OutputExistsError: ``path`` is no pixel cache.
    """
    listing = list_images(data, cameras, masks)
    if start:
        listing = _with_pictures(listing, start, digests or {}, cameras)
    about: artifact.About = {
        "object_class": object_class,
        # Cameras and masks may be the same file: the inputs alone don't say whether it served as masks.
        "parameters": {
            "size": size,
            "dilation": DILATION,
            "masks": masks is not None,
            "pictures": start.account if start else None,
        },
        "inputs": inputs,
    }
    if not _is_current(path, about):
        _write(path, listing, size, cameras, about, start, progress)
    with artifact.reading(path, SCHEMA) as file:
        status = artifact.strings(file["status"])
        rows = np.flatnonzero(artifact.usable(status))
        names = artifact.strings(file["image"])
        images, known = [names[row] for row in rows], digests or {}
        listed = artifact.positions(images, listing.images)
        return PixelCache(
            path=path,
            size=size,
            images=images,
            digests=[known.get(image, "") for image in images],
            instance=[listing.instance[place] for place in listed],
            row=rows,
            inside=file["inside"][:][rows],
            valid=file["valid"][:][rows],
            **listing.columns(listed),
            skipped=count_skipped(status),
        )


def _with_pictures(listing: Listing, start: Start, digests: Mapping[str, str], cameras: Path) -> Listing:
    """The listing without the photographs that are known, and with the pictures of the model's objects."""
    known = start.known(listing.images, digests)
    status = ["known" if there else own for there, own in zip(known, listing.status, strict=True)]
    require_usable(status, listing.data, cameras)
    count, size = len(start.rows), start.size
    own = {
        "image_size": np.full((count, 2), size),
        "intrinsics": start.intrinsics,
        "cam_to_world": start.cam_to_world,
        "window": np.tile([0.0, 0.0, float(size)], (count, 1)),
    }
    return replace(
        listing,
        images=[*listing.images, *start.names],
        instance=[*listing.instance, *start.names],
        status=[*status, *["ok"] * count],
        table={name: np.concatenate([values, own[name]]) for name, values in listing.table.items()},
    )


def _is_current(path: Path, about: artifact.About) -> bool:
    """Whether the file is there, whole, and was made so. Any other pixel cache may be replaced.

    Raises:
        OutputExistsError: it is something else.
    """
    if not path.exists():
        return False
    try:
        with h5py.File(path, "r") as file:
            found = file.attrs.get("nerfgen_schema", "no nerfgen file")
    except OSError:
        found = "no readable HDF5 file"
    if found != SCHEMA:
        raise OutputExistsError(
            f"{path} is in the place of the pixel cache, but holds {found}; "
            "delete it or give --cache for another place"
        )
    try:
        with artifact.reading(path, SCHEMA):
            pass
        return artifact.is_current(path, SCHEMA, **about)
    except NerfgenError:
        return False


def _write(
    path: Path,
    listing: Listing,
    size: int,
    cameras: Path,
    about: artifact.About,
    start: Start | None,
    progress: Progress,
) -> None:
    """Decode every usable image, in threads, and write each as soon as it is there."""
    count, rows, status = len(listing.images), listing.rows, list(listing.status)
    inside, valid = np.zeros(count, np.int32), np.zeros(count, np.int32)
    pictures = start.pictures if start else ()
    photographs = len(listing.images) - len(pictures)
    with framer(listing, size) as frame, artifact.create(path, SCHEMA, **about) as file:
        artifact.put(file, "image", listing.images)
        pixels = artifact.allocate(file, "pixels", (count, size * size, 4), compressed=False)
        order = artifact.allocate(file, "order", (count, size * size), compressed=False)

        def packed(row: int) -> _Packed | str:
            if row >= photographs:
                picture = pictures[row - photographs]
                found: Raster | str = Raster(
                    picture[..., :3], picture[..., 3], np.ones(picture.shape[:2], bool)
                )
            else:
                found = frame(row)
            return found if isinstance(found, str) else _pack(found)

        for row, found in zip(rows, map_threads(packed, rows.tolist(), progress=progress), strict=True):
            if isinstance(found, str):
                status[row] = found
            else:
                pixels[row], order[row], inside[row], valid[row] = found
        require_usable(status[:photographs], listing.data, cameras)
        artifact.put(file, "status", status)
        artifact.put(file, "inside", inside)
        artifact.put(file, "valid", valid)


_Packed = tuple[np.ndarray, np.ndarray, int, int]


def _pack(raster: Raster) -> _Packed:
    """Pixels (pixel, 4) in their order, the order, and how many are inside the mask and valid."""
    values, order, inside, valid = packed_pixels(*(array[None] for array in raster))
    return values[0], order[0].astype(np.int32), int(inside[0]), int(valid[0])
