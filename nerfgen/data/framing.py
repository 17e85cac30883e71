"""Images as training sees them: framed, masked, with their cameras."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import h5py
import numpy as np
import scipy.ndimage
from jaxtyping import Bool, Float, Int, UInt8

from nerfgen import storage
from nerfgen.errors import InputError
from nerfgen.geometry import window_intrinsics
from nerfgen.image import ImageFolder, InputImage, UnreadableImageError, resample_window
from nerfgen.parallel import Progress, map_threads, silent

# Dilated by this fraction of the raster, a mask also covers what lies just outside: the silhouette is learned there.
DILATION = 0.05


@dataclass(frozen=True)
class UsableImages:
    """The usable images of a folder and their cameras, wherever their pixels are.

    Attributes:
        images: paths relative to the folder.
        image_size, intrinsics, cam_to_world, window: of the images.
        canonical_index, canonical: keypoints that the cameras were fitted to, if they were.
        skipped: unusable images of the folder, by status.
    """

    images: list[str]
    image_size: Int[np.ndarray, "images 2"]
    intrinsics: Float[np.ndarray, "images 3 3"]
    cam_to_world: Float[np.ndarray, "images 4 4"]
    window: Float[np.ndarray, "images 3"]
    canonical_index: Int[np.ndarray, "points"]
    canonical: Float[np.ndarray, "points 3"]
    skipped: dict[str, int]


@dataclass(frozen=True)
class FramedImages(UsableImages):
    """Usable images in memory, each resampled to the window of its object.

    Attributes:
        rgb, mask: rasters; mask is probability times 255 (all 255 without masks).
        valid: where a raster pixel lies on the image.
    """

    rgb: UInt8[np.ndarray, "images size size 3"]
    mask: UInt8[np.ndarray, "images size size"]
    valid: Bool[np.ndarray, "images size size"]

    @property
    def raster_intrinsics(self) -> Float[np.ndarray, "images 3 3"]:
        """Pinhole matrices of the rasters."""
        return window_intrinsics(self.intrinsics, self.window, self.rgb.shape[1])

    def subset(self, chosen: Int[np.ndarray, "chosen"]) -> FramedImages:
        """The images with these indices."""
        arrays = {
            name: getattr(self, name)[chosen]
            for name in ("rgb", "mask", "valid", "image_size", "intrinsics", "cam_to_world", "window")
        }
        return replace(self, images=[self.images[place] for place in chosen], **arrays)


@dataclass(frozen=True)
class ImageListing:
    """All images of a cameras file, usable or not, and what is known of them before one is decoded.

    Attributes:
        data: folder of the images.
        images: paths relative to it.
        instance: object that each shows, by which they share rows of the table.
        status: ``ok``, or the first reason why an image is unusable: its camera's, then its mask's.
        table: ``image_size``, ``intrinsics``, ``cam_to_world`` and ``window`` of the images.
        canonical: ``canonical_index`` and ``canonical``: keypoints that the cameras were fitted to, if they were.
        masks: file of the masks, if there is one.
        mask_at: row of each image in it; -1 for none.
    """

    data: ImageFolder
    images: list[str]
    instance: list[str]
    status: list[str]
    table: dict[str, np.ndarray]
    canonical: dict[str, np.ndarray]
    masks: Path | None
    mask_at: Int[np.ndarray, "images"]

    @property
    def rows(self) -> Int[np.ndarray, "usable"]:
        """The images to decode."""
        return np.flatnonzero(storage.usable(self.status))

    def request(self, row: int) -> FramingRequest:
        """What :func:`frame_image` takes, for a usable image."""
        width, height = self.table["image_size"][row].tolist()
        image = InputImage(self.images[row], self.data)
        return FramingRequest(image, (width, height), self.table["window"][row], int(self.mask_at[row]))

    def columns(self, rows: Int[np.ndarray, "rows"]) -> dict[str, np.ndarray]:
        """The table's columns for some of the images, with the keypoints of all."""
        return {name: values[rows] for name, values in self.table.items()} | self.canonical


class Raster(NamedTuple):
    """One framed image, as in :class:`FramedImages`."""

    rgb: UInt8[np.ndarray, "size size 3"]
    mask: UInt8[np.ndarray, "size size"]
    valid: Bool[np.ndarray, "size size"]


class OrderedPixels(NamedTuple):
    """The pixels of images in the order from which training samples them.

    Attributes:
        pixels: red, green, blue and mask; first inside the dilated mask, then the rest of the image, then none.
        order: place of each in its raster.
        inside, valid: number of pixels inside the dilated mask, and on the image in all.
    """

    pixels: UInt8[np.ndarray, "images pixels 4"]
    order: Int[np.ndarray, "images pixels"]
    inside: Int[np.ndarray, "images"]
    valid: Int[np.ndarray, "images"]


def load_framed(
    data: ImageFolder,
    cameras: Path,
    masks: Path | None,
    size: int,
    *,
    only: Collection[str] | None = None,
    progress: Progress = silent,
) -> FramedImages:
    """Decode and frame every image that has a camera and, where ``masks`` is given, a mask.

    Args:
        only: paths of the images to load; None for all.

    Raises:
        InputError: a file is missing or no image is usable.
    """
    listing = list_images(data, cameras, masks)
    wanted = None if only is None else set(only)
    chosen = np.array([wanted is None or name in wanted for name in listing.images], bool)
    rows, status = listing.rows[chosen[listing.rows]], list(listing.status)
    rasters: list[Raster] = []
    kept: list[int] = []
    with open_framer(listing, size) as frame:
        for row, found in zip(rows, map_threads(frame, rows.tolist(), progress=progress), strict=True):
            if isinstance(found, str):
                status[row] = found
            else:
                rasters.append(found)
                kept.append(row)
    status = [value for value, own in zip(status, chosen, strict=True) if own]
    require_usable(status, data, cameras)
    return FramedImages(
        images=[listing.images[row] for row in kept],
        rgb=np.stack([raster.rgb for raster in rasters]),
        mask=np.stack([raster.mask for raster in rasters]),
        valid=np.stack([raster.valid for raster in rasters]),
        **listing.columns(np.array(kept)),
        skipped=count_skipped(status),
    )


def list_images(
    data: ImageFolder,
    cameras: Path,
    masks: Path | None,
    *,
    digests: Mapping[str, str] | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> ImageListing:
    """Join the cameras with the masks, and with the images, by path; rows that were made of other images are left out.

    Args:
        digests: SHA-256 of each image's file; without them, cameras and masks are compared with each other alone.
        say: receives a warning if there are such rows.

    Raises:
        InputError: a file is missing or no image is usable.
    """
    with storage.reading(cameras, "cameras/1", "truth/1", made_by=f"nerfgen fit-cameras {data}") as file:
        images, status = storage.strings(file["image"]), storage.strings(file["status"])
        table = {name: file[name][:] for name in ("image_size", "intrinsics", "cam_to_world", "window")}
        instance = storage.strings(file["instance"]) if "instance" in file else images
        of_cameras = storage.image_digests(file)
        fitted = "canonical" in file
        canonical = {
            "canonical_index": file["canonical_index"][:] if fitted else np.zeros(0, np.int32),
            "canonical": file["canonical"][:] if fitted else np.zeros((0, 3)),
        }
    mask_at = np.full(len(images), -1)
    mask_status = ["ok"] * len(images)
    of_masks: dict[str, str] = {}
    if masks is not None:
        with storage.reading(masks, "masks/1", "truth/1", made_by=f"nerfgen segment {data}") as file:
            mask_at = storage.positions(images, storage.strings(file["image"]))
            stored = storage.strings(file["status"])
            of_masks = storage.image_digests(file)
        mask_status = [stored[place] if place >= 0 else "no_mask" for place in mask_at]
    first_reason = [
        next((reason for reason in reasons if reason not in storage.USABLE), "ok")
        for reasons in zip(status, mask_status, strict=True)
    ]
    present = of_masks if digests is None else digests
    first_reason, changed = storage.changed_images(first_reason, images, present, of_cameras, of_masks)
    if changed:
        commands = "the commands that made them"
        say(
            storage.changed_notice(
                changed, " and ".join(str(file) for file in (cameras, masks) if file), commands
            )
        )
    require_usable(first_reason, data, cameras)
    return ImageListing(data, images, instance, first_reason, table, canonical, masks, mask_at)


class FramingRequest(NamedTuple):
    """An image to frame.

    Attributes:
        image: the file.
        image_size: that it has if it is the one that the camera is of.
        window: (x0, y0, side), pixels.
        mask_at: row of its mask.
    """

    image: InputImage
    image_size: tuple[int, int]
    window: Float[np.ndarray, "3"]
    mask_at: int


def frame_image(request: FramingRequest, masks: h5py.File | None, size: int) -> Raster | str:
    """The raster of an image, or the status that says why there is none.

    Args:
        masks: an open file of masks; None for images without.
    """
    try:
        if request.image.size != request.image_size:
            return "changed"
        rgb, valid = request.image.resample(request.window, size)
    except UnreadableImageError as error:
        return error.status
    if not valid.any():
        return "too_small"
    if masks is None:
        return Raster(rgb, np.full((size, size), 255, np.uint8), valid)
    at = request.mask_at
    mask = frame_mask(masks["mask"][at], masks["mask_window"][at], request.window, size)
    return Raster(rgb, mask, valid)


@contextmanager
def open_framer(listing: ImageListing, size: int) -> Iterator[Callable[[int], Raster | str]]:
    """A function, callable from any thread, that frames the image of a row or returns why it can't.

    Decoding and resampling release the interpreter lock.
    """
    if listing.masks is None:
        yield lambda row: frame_image(listing.request(row), None, size)
        return
    with storage.reading(listing.masks, "masks/1", "truth/1") as file:
        yield lambda row: frame_image(listing.request(row), file, size)


def frame_mask(
    mask: UInt8[np.ndarray, "mask_size mask_size"],
    mask_window: Float[np.ndarray, "3"],
    window: Float[np.ndarray, "3"],
    size: int,
) -> UInt8[np.ndarray, "size size"]:
    """A mask, resampled from its own window (x, y, side; pixels of the image) to another one."""
    x0, y0, side = mask_window
    scale = mask.shape[1] / side
    own = ((window[0] - x0) * scale, (window[1] - y0) * scale, window[2] * scale)
    return resample_window(mask[..., None], own, size)[0][..., 0]


def require_usable(status: list[str], data: ImageFolder, cameras: Path) -> None:
    """Check that there is something to train on.

    Raises:
        InputError: no image has a usable status.
    """
    if not storage.usable(status).any():
        reasons = ", ".join(f"{reason}: {count}" for reason, count in count_skipped(status).items())
        raise InputError(
            f"{cameras}: no image of {data} is usable ({reasons or 'the file lists none'}); "
            "`status` in the files says why"
        )


def count_skipped(status: list[str]) -> dict[str, int]:
    """Number of unusable images, by status."""
    return dict(Counter(reason for reason in status if reason not in storage.USABLE))


def order_pixels(
    rgb: UInt8[np.ndarray, "images size size 3"],
    mask: UInt8[np.ndarray, "images size size"],
    valid: Bool[np.ndarray, "images size size"],
) -> OrderedPixels:
    """Pixels of framed images in sampling order: inside the dilated mask first, then the rest of the image."""
    size = mask.shape[-1]
    reach = max(1, round(DILATION * size))
    width = 2 * reach + 1
    dilated = scipy.ndimage.maximum_filter(mask, size=(1, width, width)) > 127
    rank = np.where(valid, np.where(dilated, 0, 1), 2).astype(np.uint8).reshape(len(mask), -1)
    order = np.argsort(rank, axis=1, kind="stable")
    values = np.concatenate([rgb, mask[..., None]], axis=-1).reshape(len(order), -1, 4)
    return OrderedPixels(
        pixels=np.take_along_axis(values, order[..., None], axis=1),
        order=order.astype(np.uint16 if size <= 256 else np.uint32),
        inside=(rank == 0).sum(1).astype(np.int32),
        valid=(rank < 2).sum(1).astype(np.int32),
    )
