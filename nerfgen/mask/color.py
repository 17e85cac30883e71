"""Objects in front of a plain background, told by its colour."""

from __future__ import annotations

import re

import numpy as np
from jaxtyping import Bool, Float, UInt8
from scipy import ndimage

from nerfgen.errors import InputError
from nerfgen.mask.segmenter import Scene, Segmentation
from nerfgen.photo import inside_photo, resample_window

_NAMED = {"white": (255, 255, 255), "black": (0, 0, 0)}
# The photograph's edge that is looked at, in units of its shorter side, and how much of it must be plain.
_EDGE, _PLAIN = 0.02, 0.6
# Colours this far from the background's are its own (Euclidean, 0 to 255 a channel), and no more than that
# whatever the noise of the edge: beyond, a background is not plain.
_LEAST, _MOST = 10.0, 40.0
# An island, or a hole, smaller than this part of the window is noise, or a glint.
_ISLAND, _HOLE = 1e-3, 1e-4
# What lies beside a hole differs from the background by so much: a glint fades, a hole has an edge.
_HOLE_EDGE = 40.0
# Widths in pixels of the working raster: of the soft edge, and of the rim whose colour stands for the object's.
_SOFT, _RIM = 2, 4
# Ripples reach so far, JPEG's blocks being so wide, and so high in units of how much nine tenths of them exceed the
# background farther off.
_REACH, _RIPPLE = 8, 4.0
_CROSS = ndimage.generate_binary_structure(2, 1)
_SQUARE = ndimage.generate_binary_structure(2, 2)


def background_color(given: str) -> tuple[int, int, int] | None:
    """The colour that ``white``, ``black`` or ``#rrggbb`` names; None for ``auto``.

    Raises:
        InputError: it is none of these.
    """
    if given == "auto":
        return None
    if given in _NAMED:
        return _NAMED[given]
    if not re.fullmatch(r"#[0-9a-fA-F]{6}", given):
        raise InputError(f"there is no background {given!r}; give auto, white, black or #rrggbb")
    return int(given[1:3], 16), int(given[3:5], 16), int(given[5:7], 16)


class Color:
    """What differs from a plain background.

    Args:
        background: ``auto`` to take the colour of each photograph's edge, ``white``, ``black`` or ``#rrggbb``.
    """

    def __init__(self, background: str = "auto") -> None:
        self._given = background_color(background)

    def __call__(self, scene: Scene) -> Segmentation:
        """The foreground of a scene; ``no_plain_background`` if the photograph's edge is of several colours.

        Raises:
            nerfgen.photo.UnreadableImageError: the photograph can't be decoded.
        """
        photo, (x0, y0, side) = scene.photo, scene.window
        image, (scale_x, scale_y) = photo.pixels(int(np.ceil(max(photo.size) * min(1.0, scene.size / side))))
        found = _plain_edge(image, self._given)
        if found is None:
            return Segmentation("no_plain_background")
        color, tolerance = found
        # A small photograph is matted at its own resolution: enlarged, its edges would be no edges.
        size = max(1, min(scene.size, round(side * scale_x)))
        window = (x0 * scale_x, y0 * scale_y, side * scale_x)
        raster, _ = resample_window(image, window, size)
        alpha = _matte(raster, inside_photo(photo.size, scene.window, size), color, tolerance)
        mask, _ = resample_window(np.round(alpha * 255).astype(np.uint8)[..., None], (0, 0, size), scene.size)
        inside = inside_photo(photo.size, scene.window, scene.size)
        return Segmentation("ok", np.where(inside, mask[..., 0], 0))


def _plain_edge(
    image: UInt8[np.ndarray, "height width 3"], given: tuple[int, int, int] | None
) -> tuple[Float[np.ndarray, "3"], float] | None:
    """The background's colour and how far its pixels stray from it; None if the edge isn't plain.

    The object may touch the edge: the median of what agrees with the median counts.
    """
    width = max(1, round(_EDGE * min(image.shape[:2])))
    inner = np.zeros(image.shape[:2], bool)
    inner[width:-width, width:-width] = True
    edge = image[~inner].astype(np.float32)
    color = np.median(edge, axis=0) if given is None else np.array(given, np.float32)
    distance = np.linalg.norm(edge - color, axis=-1)
    near = distance < _MOST
    if near.mean() < _PLAIN:
        return None
    if given is None:
        color = np.median(edge[near], axis=0)
        distance = np.linalg.norm(edge - color, axis=-1)
    # Half of a normal distribution lies within 1.54 standard deviations, all but 0.003% within 4.8.
    tolerance = 4.8 / 1.54 * float(np.median(distance[near]))
    return color, float(np.clip(tolerance, _LEAST, _MOST))


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
    # JPEG ripples around an object more than it does at the photograph's edge.
    around = ndimage.binary_dilation(solid, _SQUARE, iterations=_REACH) & ~solid & inside
    spread = [np.percentile(distance[part], 90) for part in (around, ~around & ~solid & inside) if part.any()]
    ripples = _RIPPLE * (spread[0] - spread[1]) if len(spread) == 2 else 0.0
    if ripples > tolerance:
        tolerance = min(ripples, _MOST)
        solid = _solid((distance > tolerance) & inside, distance)
    # C = a F + (1 - a) B, with F the mean colour of what lies safely inside nearby.
    core = ndimage.binary_erosion(solid, _SQUARE, iterations=_SOFT, border_value=1)
    # A thin part has no inside; what differs clearly stands for it, and faint ripples of JPEG do not.
    thin = solid & ~ndimage.binary_dilation(core, _SQUARE, iterations=_RIM)
    core |= thin & (distance > 3 * tolerance)
    weight = ndimage.uniform_filter(core.astype(np.float32), 2 * _RIM + 1)
    rim = (
        np.stack([ndimage.uniform_filter(offset[..., k] * core, 2 * _RIM + 1) for k in range(3)], axis=-1)
        / np.maximum(weight, 1e-6)[..., None]
    )
    contrast = (rim**2).sum(-1)
    alpha = ((offset * rim).sum(-1) / np.maximum(contrast, 1.0)).clip(0, 1)
    # Where the object has about the background's colour a ratio of small numbers tells nothing.
    alpha = np.where(contrast > (3 * tolerance) ** 2, alpha, weight > 0)
    return np.where(solid & ~core, alpha, solid)


def _solid(
    differs: Bool[np.ndarray, "size size"], distance: Float[np.ndarray, "size size"]
) -> Bool[np.ndarray, "size size"]:
    """The object without specks around it and with what it encloses, but for holes that show the background."""
    labels, count = ndimage.label(differs, _SQUARE)
    sizes = np.bincount(labels.ravel(), minlength=count + 1)
    sizes[0] = 0
    kept = sizes >= max(_ISLAND * differs.size, 0.02 * sizes.max(initial=0), 1)
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
    holes = (sizes >= max(_HOLE * differs.size, 4)) & (np.nan_to_num(edges) > _HOLE_EDGE)
    return solid | (enclosed & ~np.concatenate([[False], holes])[labels])
