"""Colours and opacity of decoded images, in sRGB."""

from __future__ import annotations

import functools
import io
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Shaped, UInt8
from PIL import Image, ImageCms

_SIXTEEN_BITS = ("I;16", "I;16L", "I;16B", "I;16N")
# Profiles that change no colour by more levels are those of sRGB, written by another program.
_SAME = 3
_LEVELS = 9  # of each channel at which a profile is compared


class ValueRange(NamedTuple):
    """Smallest and largest value of an image of more than 8 bits."""

    low: float
    high: float


def merged_range(bands: Iterable[Image.Image]) -> ValueRange:
    """The range of the values of all bands; those that are not finite count as 0."""
    ranges = [(values.min(), values.max()) for values in (_finite(np.asarray(band)) for band in bands)]
    return ValueRange(float(min(low for low, _ in ranges)), float(max(high for _, high in ranges)))


def to_srgb(
    band: Image.Image, profile: bytes | None, values: ValueRange | None = None, bits: int = 16
) -> tuple[UInt8[np.ndarray, "height width 3"], UInt8[np.ndarray, "height width"] | None]:
    """RGB, composited over white, and opacity of an image of any mode; no opacity where it has no transparency.

    Args:
        profile: ICC profile of its colours; one that is damaged or of another kind of colours is ignored.
        values: range of the image's values, for modes ``I`` and ``F``.
        bits: of a value, for modes of 16 bits.
    """
    alpha = None
    if band.mode in _SIXTEEN_BITS or band.mode in ("I", "F"):
        band = Image.fromarray(_to_eight_bits(np.asarray(band), values, bits))
    elif band.has_transparency_data:
        rgba = band.convert("RGBA")
        alpha = np.asarray(rgba)[..., 3].copy()
        band = band.convert("L") if band.mode in ("L", "LA") else rgba.convert("RGB")
    elif band.mode == "LAB":
        band = _applied(band, _lab())
    elif band.mode == "1":
        band = band.convert("L")
    elif band.mode not in ("RGB", "L", "CMYK"):
        band = band.convert("RGB")
    convert = _conversion(profile, band.mode) if profile else None
    color = band.convert("RGB") if convert is None else _applied(band, convert)
    rgb = np.asarray(color)
    if alpha is None:
        return rgb, None
    opacity = alpha[..., None].astype(np.uint16)
    return ((rgb * opacity + 255 * (255 - opacity) + 127) // 255).astype(np.uint8), alpha


@functools.lru_cache(maxsize=1)
def _lab() -> ImageCms.ImageCmsTransform:
    lab, srgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
    return ImageCms.buildTransform(lab, srgb, "LAB", "RGB")


@functools.lru_cache(maxsize=16)
def _conversion(profile: bytes, mode: str) -> ImageCms.ImageCmsTransform | None:
    """The conversion of a profile's colours to sRGB; None if they are sRGB already, or the profile can't be used."""
    levels = np.linspace(0, 255, _LEVELS).astype(np.uint8)
    channels = {"L": 1, "RGB": 3, "CMYK": 4}[mode]
    grid = np.stack(np.meshgrid(*[levels] * channels, indexing="ij"), axis=-1).reshape(1, -1, channels)
    colors = Image.frombytes(mode, grid.shape[1::-1], grid.tobytes())
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        transform = ImageCms.buildTransform(source, ImageCms.createProfile("sRGB"), mode, "RGB")
        converted = np.asarray(_applied(colors, transform)).astype(int)
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        return None
    return transform if np.abs(converted - np.asarray(colors.convert("RGB"))).max() > _SAME else None


def _applied(image: Image.Image, transform: ImageCms.ImageCmsTransform) -> Image.Image:
    converted = ImageCms.applyTransform(image, transform)
    assert converted is not None  # None only when converting in place
    return converted


def _finite(values: Shaped[np.ndarray, "height width"]) -> Float[np.ndarray, "height width"]:
    return np.nan_to_num(values.astype(np.float64), nan=0.0, posinf=0.0, neginf=0.0)


def _to_eight_bits(
    values: Shaped[np.ndarray, "height width"], found: ValueRange | None, bits: int
) -> UInt8[np.ndarray, "height width"]:
    """Grey of more than 8 bits, scaled from the smallest usual range that contains the image's values."""
    numbers = _finite(values)
    scaled = numbers
    if found is None:
        scaled = numbers / ((2**bits - 1) / 255)
    elif found.low < 0 or found.high > 65535:
        scaled = (numbers - found.low) * (255 / max(found.high - found.low, 1e-300))
    elif found.high > 255:
        scaled = numbers / 257
    elif found.high <= 1 and not np.issubdtype(values.dtype, np.integer):
        scaled = numbers * 255
    return np.round(scaled).clip(0, 255).astype(np.uint8)
