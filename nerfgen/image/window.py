"""Square windows of an image, resampled to any size."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8
from PIL import Image

# The filter's radius, output pixels.
_SUPPORT = 2


def resample_window(
    image: UInt8[np.ndarray, "height width channels"],
    window: Sequence[float] | Float[np.ndarray, " 3"],
    size: int,
) -> tuple[UInt8[np.ndarray, "size size channels"], Bool[np.ndarray, "size size"]]:
    """Resample a square window, which may extend beyond the image.

    The filter is bicubic, widened to the size of an output pixel where the window is reduced, so that nothing aliases.
    Point (u, v) of the result is point (x0 + u side / size, y0 + v side / size) of the image; pixel centres lie at
    +0.5.

    Args:
        image: any number of channels.
        window: (x0, y0, side) in the image's pixels.
        size: of the result, pixels.

    Returns:
        The window, in which the border of the image is repeated beyond it, and a mask of the pixels whose centres lie
        inside the image.
    """
    x0, y0, side = (float(value) for value in window)
    height, width = image.shape[:2]
    step = side / size
    valid = inside_image((width, height), window, size)
    # A window that lies entirely beyond the image shows its border, however far away it is.
    beyond = 2 * side + width + height
    x0, y0 = (min(max(value, -beyond), beyond) for value in (x0, y0))
    if step >= 8:  # averaging whole blocks first bounds the cost of large windows
        factor, longest = int(step / 4), max(width, height)
        image = _over_channels(image, lambda channel: channel.reduce(min(factor, longest)))
        x0, y0, side, step = x0 / factor, y0 / factor, side / factor, step / factor
        height, width = image.shape[:2]
    margin = math.ceil(_SUPPORT * max(1.0, step)) + 1
    left, top = math.floor(x0) - margin, math.floor(y0) - margin
    columns = _clipped_indices(left, math.ceil(x0 + side) + margin, width)
    rows = _clipped_indices(top, math.ceil(y0 + side) + margin, height)
    padded = image[rows][:, columns]
    box = (x0 - left, y0 - top, x0 - left + side, y0 - top + side)
    raster = _over_channels(
        padded, lambda channel: channel.resize((size, size), Image.Resampling.BICUBIC, box)
    )
    return raster, valid


def inside_image(
    image_size: tuple[int, int], window: Sequence[float] | Float[np.ndarray, " 3"], size: int
) -> Bool[np.ndarray, "size size"]:
    """Which pixels of a window resampled to ``size`` have their centres inside an image of (width, height) pixels."""
    x0, y0, side = (float(value) for value in window)
    centres = (np.arange(size) + 0.5) * (side / size)
    with np.errstate(over="ignore"):
        x, y = x0 + centres, y0 + centres
    inside_x = (x >= 0) & (x < image_size[0])
    inside_y = (y >= 0) & (y < image_size[1])
    return inside_y[:, None] & inside_x[None, :]


def _clipped_indices(start: int, stop: int, length: int) -> slice | Int[np.ndarray, " indices"]:
    """Indices from ``start`` to ``stop``, clipped to valid ones."""
    if start >= 0 and stop <= length:
        return slice(start, stop)
    return np.arange(start, stop).clip(0, length - 1)


def _over_channels(
    image: UInt8[np.ndarray, "height width channels"], operation: Callable[[Image.Image], Image.Image]
) -> UInt8[np.ndarray, "height2 width2 channels"]:
    """Apply a Pillow operation to RGB at once, or to every channel of another image."""
    if image.shape[2] == 3:
        return np.asarray(operation(Image.fromarray(np.ascontiguousarray(image))))
    channels = np.moveaxis(image, -1, 0)
    return np.stack(
        [np.asarray(operation(Image.fromarray(np.ascontiguousarray(channel)))) for channel in channels],
        axis=-1,
    )
