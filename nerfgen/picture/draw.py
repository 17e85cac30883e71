"""Points and masks drawn over images."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image, ImageDraw

RED = (230, 30, 30)
GREEN = (60, 220, 90)
_SCALE = 4  # drawn larger and reduced, for smooth discs at sub-pixel places


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


def shade_depth(depth: Float[np.ndarray, "height width"]) -> UInt8[np.ndarray, "height width 3"]:
    """Depth as grey, the nearest brightest; pixels without depth (0) are black."""
    there = depth > 0
    grey = np.zeros(depth.shape)
    if there.any():
        near, far = np.percentile(depth[there], (1, 99))
        grey[there] = 1 - 0.85 * ((depth[there] - near) / max(far - near, 1e-6)).clip(0, 1)
    return np.repeat(np.round(grey * 255).astype(np.uint8)[..., None], 3, axis=-1)
