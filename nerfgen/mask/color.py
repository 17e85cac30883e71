"""Objects before a plain background, by its colour."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float, UInt8
from scipy import ndimage

from nerfgen.image import inside_image, resample_window
from nerfgen.mask.segmenter import Segmentation, SegmentationRequest
from nerfgen.mask.settings import background_color

# Width of the border that shows the background, in units of the image's shorter side, and the fraction of it that has
# to be plain.
_BORDER, _MIN_PLAIN = 0.02, 0.6
# Bounds of the tolerance around the background's colour (Euclidean, 0 to 255 per channel), whatever the border's noise.
_MIN_TOLERANCE, _MAX_TOLERANCE = 10.0, 40.0
# Islands and holes of a smaller fraction of the window are noise and highlights.
_MIN_ISLAND, _MIN_HOLE = 1e-3, 1e-4
# Colour difference at the outline of a hole: a highlight fades, a hole has a sharp outline.
_HOLE_CONTRAST = 40.0
# Widths in pixels of the working raster: of the soft outline, and of the rim whose colour is taken for the object's.
_SOFT, _RIM = 2, 4
# Extent of JPEG ringing around an object, which is a block, and its height in units of the 90th percentile of ringing
# above that of the background farther away.
_RINGING_EXTENT, _RINGING_FACTOR = 8, 4.0
_CROSS = ndimage.generate_binary_structure(2, 1)
_SQUARE = ndimage.generate_binary_structure(2, 2)


class Color:
    """What differs from a plain background.

    Args:
        background: ``auto`` for the colour of each image's border, ``white``, ``black`` or ``#rrggbb``.
    """

    def __init__(self, background: str = "auto") -> None:
        self._given = background_color(background)

    def __call__(self, request: SegmentationRequest) -> Segmentation:
        """The foreground of a request; ``no_plain_background`` if the image's border has several colours.

        Raises:
            nerfgen.image.UnreadableImageError: the image can't be decoded.
        """
        source, (x0, y0, side) = request.image, request.window
        image, (scale_x, scale_y) = source.pixels(
            int(np.ceil(max(source.size) * min(1.0, request.size / side)))
        )
        found = _plain_border(image, self._given)
        if found is None:
            return Segmentation("no_plain_background")
        color, tolerance = found
        # A small image is matted at its own resolution: enlarging would blur its outlines.
        size = max(1, min(request.size, round(side * scale_x)))
        window = (x0 * scale_x, y0 * scale_y, side * scale_x)
        raster, _ = resample_window(image, window, size)
        alpha = _matte(raster, inside_image(source.size, request.window, size), color, tolerance)
        mask, _ = resample_window(
            np.round(alpha * 255).astype(np.uint8)[..., None], (0, 0, size), request.size
        )
        inside = inside_image(source.size, request.window, request.size)
        return Segmentation("ok", np.where(inside, mask[..., 0], 0))


def _plain_border(
    image: UInt8[np.ndarray, "height width 3"], given: tuple[int, int, int] | None
) -> tuple[Float[np.ndarray, "3"], float] | None:
    """The background's colour and the tolerance around it; None if the border isn't plain.

    The object may touch the border, so the colour is the median of the pixels that are near the median.
    """
    width = max(1, round(_BORDER * min(image.shape[:2])))
    inner = np.zeros(image.shape[:2], bool)
    inner[width:-width, width:-width] = True
    border = image[~inner].astype(np.float32)
    color = np.median(border, axis=0) if given is None else np.array(given, np.float32)
    distance = np.linalg.norm(border - color, axis=-1)
    near = distance < _MAX_TOLERANCE
    if near.mean() < _MIN_PLAIN:
        return None
    if given is None:
        color = np.median(border[near], axis=0)
        distance = np.linalg.norm(border - color, axis=-1)
    # Half of a normal distribution lies within 1.54 standard deviations, all but 0.003% within 4.8.
    tolerance = 4.8 / 1.54 * float(np.median(distance[near]))
    return color, float(np.clip(tolerance, _MIN_TOLERANCE, _MAX_TOLERANCE))


def _matte(
    raster: UInt8[np.ndarray, "size size 3"],
    inside: Bool[np.ndarray, "size size"],
    color: Float[np.ndarray, "3"],
    tolerance: float,
) -> Float[np.ndarray, "size size"]:
    """Opacity of the foreground over a background of one colour."""
    offset = raster.astype(np.float32) - color
    distance = np.linalg.norm(offset, axis=-1)
    solid = _solid((distance > tolerance) & inside, distance)
    # JPEG ringing is stronger around an object than at the image's border.
    around = ndimage.binary_dilation(solid, _SQUARE, iterations=_RINGING_EXTENT) & ~solid & inside
    spread = [np.percentile(distance[part], 90) for part in (around, ~around & ~solid & inside) if part.any()]
    ringing = _RINGING_FACTOR * (spread[0] - spread[1]) if len(spread) == 2 else 0.0
    if ringing > tolerance:
        tolerance = min(ringing, _MAX_TOLERANCE)
        solid = _solid((distance > tolerance) & inside, distance)
    # C = a F + (1 - a) B, where F is the mean colour of the nearby core of the object.
    core = ndimage.binary_erosion(solid, _SQUARE, iterations=_SOFT, border_value=1)
    # Thin parts have no core. Their pixels that differ clearly are used, faint JPEG ringing is not.
    thin = solid & ~ndimage.binary_dilation(core, _SQUARE, iterations=_RIM)
    core |= thin & (distance > 3 * tolerance)
    weight = ndimage.uniform_filter(core.astype(np.float32), 2 * _RIM + 1)
    rim = (
        np.stack([ndimage.uniform_filter(offset[..., k] * core, 2 * _RIM + 1) for k in range(3)], axis=-1)
        / np.maximum(weight, 1e-6)[..., None]
    )
    contrast = (rim**2).sum(-1)
    alpha = ((offset * rim).sum(-1) / np.maximum(contrast, 1.0)).clip(0, 1)
    # Where object and background have similar colours, the ratio is unreliable.
    alpha = np.where(contrast > (3 * tolerance) ** 2, alpha, weight > 0)
    return np.where(solid & ~core, alpha, solid)


def _solid(
    differs: Bool[np.ndarray, "size size"], distance: Float[np.ndarray, "size size"]
) -> Bool[np.ndarray, "size size"]:
    """The object without specks and with what it encloses, except holes that show the background."""
    labels, count = ndimage.label(differs, _SQUARE)
    sizes = np.bincount(labels.ravel(), minlength=count + 1)
    sizes[0] = 0
    kept = sizes >= max(_MIN_ISLAND * differs.size, 0.02 * sizes.max(initial=0), 1)
    kept[0] = False
    solid = kept[labels]
    enclosed = ndimage.binary_fill_holes(solid, _CROSS) & ~solid
    labels, count = ndimage.label(enclosed, _CROSS)
    if not count:
        return solid
    number = np.arange(1, count + 1)
    sizes = np.bincount(labels.ravel(), minlength=count + 1)[1:]
    steepest = ndimage.maximum_filter(distance, 5)
    beside = enclosed & ndimage.binary_dilation(solid, _CROSS)
    edges = ndimage.median(steepest, labels * beside, number)
    holes = (sizes >= max(_MIN_HOLE * differs.size, 4)) & (np.nan_to_num(edges) > _HOLE_CONTRAST)
    return solid | (enclosed & ~np.concatenate([[False], holes])[labels])
