"""Framing: a square window of a photograph as a raster of any size."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8
from PIL import Image

# The filter reaches two output pixels to either side.
_SUPPORT = 2


def resample_window(
    image: UInt8[np.ndarray, "height width channels"],
    window: Sequence[float] | Float[np.ndarray, " 3"],
    size: int,
) -> tuple[UInt8[np.ndarray, "size size channels"], Bool[np.ndarray, "size size"]]:
    """Resample a square window, which may reach beyond the photograph.

    Bicubic, widened to the area of an output pixel where the window is reduced, so that
    nothing aliases. Point (u, v) of the result is the photograph's
    (x0 + u side / size, y0 + v side / size), both with pixel centres at +0.5.

    Args:
        image: any number of channels.
        window: (x0, y0, side) in pixels of the photograph.
        size: pixels along either side of the result.

    Returns:
        The raster, the photograph's edge continued outside of it, and where the centre of
        a raster pixel lies inside the photograph.
    """
    x0, y0, side = (float(value) for value in window)
    height, width = image.shape[:2]
    step = side / size
    valid = inside_photo((width, height), window, size)
    if step >= 8:  # average whole blocks first: the rest is then cheap whatever the window's size
        factor = int(step / 4)
        image = _over_channels(image, lambda channel: channel.reduce(factor))
        x0, y0, side, step = x0 / factor, y0 / factor, side / factor, step / factor
        height, width = image.shape[:2]
    margin = math.ceil(_SUPPORT * max(1.0, step)) + 1
    left, top = math.floor(x0) - margin, math.floor(y0) - margin
    columns = _continued(left, math.ceil(x0 + side) + margin, width)
    rows = _continued(top, math.ceil(y0 + side) + margin, height)
    padded = image[rows][:, columns]
    box = (x0 - left, y0 - top, x0 - left + side, y0 - top + side)
    raster = _over_channels(
        padded, lambda channel: channel.resize((size, size), Image.Resampling.BICUBIC, box)
    )
    return raster, valid


def inside_photo(
    photo_size: tuple[int, int], window: Sequence[float] | Float[np.ndarray, " 3"], size: int
) -> Bool[np.ndarray, "size size"]:
    """Where the centres of a window's raster pixels lie inside a photograph of (width, height) pixels."""
    x0, y0, side = (float(value) for value in window)
    centres = (np.arange(size) + 0.5) * (side / size)
    inside_x = (x0 + centres >= 0) & (x0 + centres < photo_size[0])
    inside_y = (y0 + centres >= 0) & (y0 + centres < photo_size[1])
    return inside_y[:, None] & inside_x[None, :]


def _continued(start: int, stop: int, length: int) -> slice | Int[np.ndarray, " indices"]:
    """Indices from ``start`` to ``stop``, the first and last valid one repeated beyond the edges."""
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
