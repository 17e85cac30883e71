"""Figures: points and masks over images, depth and normals as colours, contact sheets."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image, ImageDraw

RED = (230, 30, 30)
GREEN = (60, 220, 90)
_SCALE = 4  # supersampling of discs, for smooth edges at sub-pixel positions
_GAP = 2  # pixels between the cells of a contact sheet


def draw_points(
    image: UInt8[np.ndarray, "height width 3"],
    points: Float[np.ndarray, "points 2"],
    color: tuple[int, int, int] = RED,
    radius: float = 2.0,
) -> UInt8[np.ndarray, "height width 3"]:
    """A copy of an image with a disc at every point (pixels, centres at +0.5); NaN points are left out."""
    height, width = image.shape[:2]
    discs = Image.new("L", (width * _SCALE, height * _SCALE))
    draw = ImageDraw.Draw(discs)
    for x, y in points:
        if np.isfinite(x) and np.isfinite(y):
            draw.ellipse(
                [(value * _SCALE) for value in (x - radius, y - radius, x + radius, y + radius)], fill=255
            )
    cover = np.asarray(discs.reduce(_SCALE), np.float32)[..., None] / 255
    return np.round(image * (1 - cover) + np.array(color, np.float32) * cover).astype(np.uint8)


def tint_mask(
    image: UInt8[np.ndarray, "height width 3"],
    mask: UInt8[np.ndarray, "height width"],
    color: tuple[int, int, int] = GREEN,
) -> UInt8[np.ndarray, "height width 3"]:
    """A copy of an image whose background is dimmed and tinted."""
    background = 0.65 * (1 - mask.astype(np.float32) / 255)[..., None]
    return np.round(image * (1 - background) + np.array(color, np.float32) * background).astype(np.uint8)


def depth_limits(depth: Float[np.ndarray, "height width"]) -> tuple[float, float]:
    """The first and the 99th percentile of the depths of an image; NaN if no pixel has a depth."""
    positive = depth[depth > 0]
    if not positive.size:
        return float("nan"), float("nan")
    near, far = np.percentile(positive, (1, 99))
    return float(near), float(far)


def shade_depth(
    depth: Float[np.ndarray, "height width"], limits: tuple[float, float] | None = None
) -> UInt8[np.ndarray, "height width 3"]:
    """Depth as grey, the nearest brightest; pixels without depth (0) are black.

    Args:
        limits: near and far, so that several images are shaded alike; this image's own by default.
    """
    near, far = limits or depth_limits(depth)
    shade = 1 - 0.85 * ((depth - near) / max(far - near, 1e-6)).clip(0, 1)
    return _grey(np.where(depth > 0, shade, 0))


def shade_opacity(opacity: UInt8[np.ndarray, "height width"]) -> UInt8[np.ndarray, "height width 3"]:
    """Opacity as grey."""
    return np.repeat(opacity[..., None], 3, axis=-1)


def color_normals(normals: Float[np.ndarray, "height width 3"]) -> UInt8[np.ndarray, "height width 3"]:
    """Unit vectors as colours: x, y, z from -1 to 1 as red, green, blue from 0 to 255; zero vectors are grey."""
    return np.round((np.asarray(normals, np.float32) + 1) * 127.5).astype(np.uint8)


def composite_over_white(rgba: UInt8[np.ndarray, "height width 4"]) -> UInt8[np.ndarray, "height width 3"]:
    """An image of straight (not premultiplied) alpha, composited over white."""
    opacity = rgba[..., 3:].astype(np.float32) / 255
    return np.round(rgba[..., :3] * opacity + 255 * (1 - opacity)).astype(np.uint8)


def _grey(values: Float[np.ndarray, "height width"]) -> UInt8[np.ndarray, "height width 3"]:
    return np.repeat(np.round(values * 255).astype(np.uint8)[..., None], 3, axis=-1)


def contact_sheet(
    images: Sequence[UInt8[np.ndarray, "_ _ 3"]], columns: int = 0
) -> UInt8[np.ndarray, "height width 3"]:
    """Images in a grid on white, each centred in a cell of the largest image's size.

    Args:
        columns: images per row; 0 for about as many as rows.

    Raises:
        ValueError: no images.
    """
    if not images:
        raise ValueError("a contact sheet needs at least one image")
    columns = columns or math.ceil(math.sqrt(len(images)))
    rows = math.ceil(len(images) / columns)
    cell_height = max(image.shape[0] for image in images) + _GAP
    cell_width = max(image.shape[1] for image in images) + _GAP
    sheet = np.full(
        (rows * cell_height - _GAP, min(columns, len(images)) * cell_width - _GAP, 3), 255, np.uint8
    )
    for index, image in enumerate(images):
        row, column = divmod(index, columns)
        height, width = image.shape[:2]
        top = row * cell_height + (cell_height - _GAP - height) // 2
        left = column * cell_width + (cell_width - _GAP - width) // 2
        sheet[top : top + height, left : left + width] = image
    return sheet
