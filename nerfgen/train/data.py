"""The photographs as training sees them: framed, masked, with their cameras."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import h5py
import numpy as np
import scipy.ndimage
from jaxtyping import Bool, Float, Int, UInt8

from nerfgen import artifact
from nerfgen.errors import InputError
from nerfgen.geometry import window_intrinsics
from nerfgen.objectclass import ObjectClass
from nerfgen.parallel import Progress, map_threads, silent
from nerfgen.photo import UnreadableImageError, decode, resample_window
from nerfgen.train.preset import Preset

# Grown by this share of the raster, a mask also covers what lies just outside: the silhouette is learned there.
DILATION = 0.05


@dataclass(frozen=True)
class Framed:
    """The usable photographs of a folder, each resampled to the window of its object.

    Attributes:
        images: paths relative to the folder.
        rgb, mask: rasters; mask is probability times 255 (all 255 without masks).
        valid: where a raster pixel lies on the photograph.
        image_size, intrinsics, cam_to_world, window: of the photographs.
        canonical_index, canonical: keypoints that the cameras were fitted to, if they were.
        skipped: images of the folder that are not here, by status.
    """

    images: list[str]
    rgb: UInt8[np.ndarray, "images size size 3"]
    mask: UInt8[np.ndarray, "images size size"]
    valid: Bool[np.ndarray, "images size size"]
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
        return window_intrinsics(self.intrinsics, self.window, self.rgb.shape[1])

    def some(self, chosen: Int[np.ndarray, "some"]) -> Framed:
        """Some of them, by their places."""
        arrays = {
            name: getattr(self, name)[chosen]
            for name in ("rgb", "mask", "valid", "image_size", "intrinsics", "cam_to_world", "window")
        }
        return replace(self, images=[self.images[place] for place in chosen], **arrays)


@dataclass(frozen=True)
class Listing:
    """All images of a cameras file, usable or not, and what is known of them before one is decoded.

    Attributes:
        data: folder of the images.
        images: paths relative to it.
        instance: object that each shows, by which they share rows of the table.
        status: ``ok``, or the first reason why not: that of its camera, then that of its mask.
        table: ``image_size``, ``intrinsics``, ``cam_to_world`` and ``window`` of the photographs.
        canonical: ``canonical_index`` and ``canonical``: keypoints that the cameras were fitted to, if they were.
        masks: file of the masks, if there is one.
        mask_at: row of each image in it; -1 for none.
    """

    data: Path
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
        return np.flatnonzero(artifact.usable(self.status))

    def columns(self, rows: Int[np.ndarray, "rows"]) -> dict[str, np.ndarray]:
        """The table's columns for some of the images, with the keypoints of all."""
        return {name: values[rows] for name, values in self.table.items()} | self.canonical


class Raster(NamedTuple):
    """One framed photograph, as in :class:`Framed`."""

    rgb: UInt8[np.ndarray, "size size 3"]
    mask: UInt8[np.ndarray, "size size"]
    valid: Bool[np.ndarray, "size size"]


def load_framed(
    data: Path,
    cameras: Path,
    masks: Path | None,
    size: int,
    *,
    only: Collection[str] | None = None,
    progress: Progress = silent,
) -> Framed:
    """Decode and frame every image that has a camera and, where ``masks`` is given, a mask.

    Args:
        only: paths of the images to take; None for all.

    Raises:
        InputError: a file is missing or no image is usable.
    """
    listing = list_images(data, cameras, masks)
    wanted = None if only is None else set(only)
    taken = np.array([wanted is None or name in wanted for name in listing.images], bool)
    rows, status = listing.rows[taken[listing.rows]], list(listing.status)
    rgb = np.zeros((len(rows), size, size, 3), np.uint8)
    mask = np.zeros((len(rows), size, size), np.uint8)
    valid = np.zeros((len(rows), size, size), bool)
    kept: list[int] = []
    with framer(listing, size) as frame:
        for row, found in zip(rows, map_threads(frame, rows.tolist(), progress=progress), strict=True):
            if isinstance(found, str):
                status[row] = found
            else:
                rgb[len(kept)], mask[len(kept)], valid[len(kept)] = found
                kept.append(row)
    status = [value for value, own in zip(status, taken, strict=True) if own]
    require_usable(status, data, cameras)
    count = len(kept)
    return Framed(
        images=[listing.images[row] for row in kept],
        rgb=rgb[:count],
        mask=mask[:count],
        valid=valid[:count],
        **listing.columns(np.array(kept)),
        skipped=count_skipped(status),
    )


def list_images(data: Path, cameras: Path, masks: Path | None) -> Listing:
    """Join the cameras with the masks by path.

    Raises:
        InputError: a file is missing or no image is usable.
    """
    with artifact.reading(cameras, "cameras/1", "truth/1", made_by=f"nerfgen fit-cameras {data}") as file:
        images, status = artifact.strings(file["image"]), artifact.strings(file["status"])
        table = {name: file[name][:] for name in ("image_size", "intrinsics", "cam_to_world", "window")}
        instance = artifact.strings(file["instance"]) if "instance" in file else images
        fitted = "canonical" in file
        canonical = {
            "canonical_index": file["canonical_index"][:] if fitted else np.zeros(0, np.int32),
            "canonical": file["canonical"][:] if fitted else np.zeros((0, 3)),
        }
    mask_at = np.full(len(images), -1)
    mask_status = ["ok"] * len(images)
    if masks is not None:
        with artifact.reading(masks, "masks/1", "truth/1", made_by=f"nerfgen segment {data}") as file:
            mask_at = artifact.positions(images, artifact.strings(file["image"]))
            stored = artifact.strings(file["status"])
        mask_status = [stored[place] if place >= 0 else "no_mask" for place in mask_at]
    first_reason = [
        next((reason for reason in reasons if reason not in artifact.USABLE), "ok")
        for reasons in zip(status, mask_status, strict=True)
    ]
    require_usable(first_reason, data, cameras)
    return Listing(data, images, instance, first_reason, table, canonical, masks, mask_at)


@contextmanager
def framer(listing: Listing, size: int) -> Iterator[Callable[[int], Raster | str]]:
    """A function, to be called from any thread, that frames the image of a row or says why it can't.

    Decoding and resampling leave the interpreter lock free.
    """

    def frame(masks: h5py.File | None, row: int) -> Raster | str:
        window = listing.table["window"][row]
        try:
            rgb, valid = resample_window(decode(listing.data / listing.images[row]), window, size)
        except UnreadableImageError:
            return "unreadable"
        if not valid.any():
            return "too_small"
        if masks is None:
            return Raster(rgb, np.full((size, size), 255, np.uint8), valid)
        return Raster(rgb, _framed_mask(masks, listing.mask_at[row], window, size), valid)

    if listing.masks is None:
        yield lambda row: frame(None, row)
        return
    with artifact.reading(listing.masks, "masks/1", "truth/1") as file:
        yield lambda row: frame(file, row)


def require_usable(status: list[str], data: Path, cameras: Path) -> None:
    """Check that there is something to train on.

    Raises:
        InputError: no image has a usable status.
    """
    if not artifact.usable(status).any():
        reasons = ", ".join(f"{reason}: {count}" for reason, count in count_skipped(status).items())
        raise InputError(
            f"{cameras}: no image of {data} is usable ({reasons or 'it lists none'}); "
            "`status` in the files says why"
        )


def count_skipped(status: list[str]) -> dict[str, int]:
    """How many images can't be used, by status."""
    return dict(Counter(reason for reason in status if reason not in artifact.USABLE))


def for_cameras(preset: Preset, cameras: Path) -> Preset:
    """The preset, without camera refinement where the cameras were not fitted to landmarks: those are known."""
    with artifact.reading(cameras, "cameras/1", "truth/1") as file:
        return preset if "canonical" in file else replace(preset, camera_learning_rate=0.0)


def for_class(preset: Preset, described: ObjectClass, *, with_masks: bool) -> Preset:
    """The preset, without what the class or the lack of masks rules out."""
    mirror = preset.mirror and described.mirror
    return replace(preset, mirror=mirror, lambda_mask=preset.lambda_mask if with_masks else 0.0)


def packed_pixels(
    rgb: UInt8[np.ndarray, "images size size 3"],
    mask: UInt8[np.ndarray, "images size size"],
    valid: Bool[np.ndarray, "images size size"],
) -> tuple[UInt8[np.ndarray, "images pixels 4"], np.ndarray, np.ndarray, np.ndarray]:
    """Colour and mask of all pixels in the order of :func:`pixel_order`, and what that gives."""
    order, inside, there = pixel_order(mask, valid)
    values = np.concatenate([rgb, mask[..., None]], axis=-1).reshape(len(order), -1, 4)
    return np.take_along_axis(values, order[..., None].astype(np.int64), axis=1), order, inside, there


def pixel_order(
    mask: UInt8[np.ndarray, "images size size"], valid: Bool[np.ndarray, "images size size"]
) -> tuple[np.ndarray, Int[np.ndarray, "images"], Int[np.ndarray, "images"]]:
    """Pixel indices of each image: inside the dilated mask first, then the rest of the photograph, then none.

    Returns:
        Indices (images, size^2), and how many are inside and how many valid in all.
    """
    size = mask.shape[-1]
    reach = max(1, round(DILATION * size))
    width = 2 * reach + 1
    grown = scipy.ndimage.maximum_filter(mask, size=(1, width, width)) > 127
    rank = np.where(valid, np.where(grown, 0, 1), 2).astype(np.uint8).reshape(len(mask), -1)
    order = np.argsort(rank, axis=1, kind="stable")
    kind = np.uint16 if size <= 256 else np.uint32
    return order.astype(kind), (rank == 0).sum(1).astype(np.int32), (rank < 2).sum(1).astype(np.int32)


def _framed_mask(file: h5py.File, row: int, window: np.ndarray, size: int) -> np.ndarray:
    """A stored mask, resampled from its own window to another one."""
    x0, y0, side = file["mask_window"][row]
    mask = file["mask"][row]
    scale = mask.shape[1] / side
    own = ((window[0] - x0) * scale, (window[1] - y0) * scale, window[2] * scale)
    return resample_window(mask[..., None], own, size)[0][..., 0]
