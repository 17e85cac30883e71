"""Masks that come with the images: pictures of their own, or alpha channels."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, UInt8

from nerfgen import artifact
from nerfgen.interchange.posed import PosedImages
from nerfgen.parallel import Progress, map_threads
from nerfgen.photo import Photograph, UnreadableImageError, decode, resample_window

# Less foreground than this part of the window is no object.
_MIN_FOREGROUND = 0.005


class _Mask(NamedTuple):
    status: str
    mask: UInt8[np.ndarray, "size size"] | None


def write_masks(
    path: Path,
    about: artifact.About,
    folder: Path,
    posed: PosedImages,
    windows: Float[np.ndarray, "images 3"],
    size: int,
    progress: Progress,
) -> None:
    """Write the masks of all images, each in its image's window; a ``masks/1`` file.

    Args:
        folder: of the images and of their masks.
        windows: (x0, y0, side) in each image's pixels; NaN where there is no camera.
        size: pixels along either side of a mask.
    """
    usable = posed.usable
    items = [
        (folder / mask if mask else None, mask == image, tuple(window), tuple(image_size)) if use else None
        for image, mask, window, image_size, use in zip(
            posed.images, posed.masks, windows.tolist(), posed.image_size.tolist(), usable, strict=True
        )
    ]
    statuses: list[str] = []
    with artifact.create(path, "masks/1", **about) as file:
        stored = artifact.allocate(file, "mask", (len(items), size, size))
        for row, found in enumerate(map_threads(partial(_mask, size), items, progress=progress)):
            statuses.append(found.status)
            if found.mask is not None:
                stored[row] = found.mask
        placed = artifact.usable(statuses)
        artifact.put(file, "image", posed.images)
        artifact.put(file, "status", statuses)
        artifact.put(file, "image_size", posed.image_size)
        artifact.put(file, "mask_window", np.where(placed[:, None], windows, np.nan))


def _mask(size: int, item: tuple[Path | None, bool, Sequence[float], tuple[int, int]] | None) -> _Mask:
    """One mask in its image's window: the image's alpha channel, or a picture that is white where the object is."""
    if item is None:
        return _Mask("skipped", None)
    path, own, window, image_size = item
    if path is None or not path.is_file():
        return _Mask("no_mask", None)
    try:
        whole = Photograph(path).alpha if own else decode(path)[..., 0]
    except UnreadableImageError:
        return _Mask("no_mask", None)
    assert whole is not None
    # A mask may be smaller or larger than its image.
    factor = whole.shape[1] / image_size[0]
    raster, valid = resample_window(whole[..., None], [value * factor for value in window], size)
    mask = np.where(valid, raster[..., 0], 0)
    return _Mask("ok", mask) if (mask > 127).mean() >= _MIN_FOREGROUND else _Mask("no_mask", None)
