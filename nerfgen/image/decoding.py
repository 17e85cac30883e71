"""Decoding one image file: upright, in 8-bit sRGB, at a resolution that memory holds."""

from __future__ import annotations

import contextlib
import importlib
import math
import re
import threading
import warnings
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

import numpy as np
from jaxtyping import Shaped, UInt8
from PIL import Image, ImageFile, UnidentifiedImageError

from nerfgen.errors import NerfgenError
from nerfgen.image.bands import Bands, deep_planar_bands, file_bands, loaded_bands, png_chunk
from nerfgen.image.srgb import merged_range, to_srgb
from nerfgen.image.unreadable import UnreadableImageError
from nerfgen.untrusted import READ_LIMIT, read_limit

CAMERA_RAW = "camera raw, or only the preview of an image; develop it to JPEG or TIFF"
MAX_PIXELS = 500_000_000
# Images of more pixels are reduced to fewer while they are decoded.
MAX_DECODED = 1 << 26
_ORIENTATION = 0x0112
_SCALABLE = ("JPEG", "MPO")  # can be decoded at 1/2, 1/4 and 1/8 of their size
# Tags of TIFF: bits of a value, and a number whose lowest bit marks a smaller version of another image in the file.
_TIFF_BITS = 258
_REDUCED_TIFF = 254
_BAND_PIXELS = 1 << 22
# Bytes per pixel that the codecs hold beside the image.
_DECODER_BYTES = {"WEBP": 12, "AVIF": 8, "HEIF": 12, "JPEG2000": 16}
_LARGE_BYTES = 1 << 28
# Decoding takes this much memory once at a time, however many threads decode.
_large = threading.Lock()

# Pillow's limit and the warnings filters are global, so they are set once: many threads decode images. The limit that
# counts is checked for each image, and problems that Pillow warns of show in the image's status.
if Image.MAX_IMAGE_PIXELS is not None:
    Image.MAX_IMAGE_PIXELS = max(Image.MAX_IMAGE_PIXELS, MAX_PIXELS)
warnings.filterwarnings("ignore", module=r"PIL\.")


class Decoded(NamedTuple):
    """An image as it was decoded.

    Attributes:
        image, alpha: upright pixels and opacity.
        size: the full width and height.
        box: for an image decoded at a reduced scale (left, top, right, bottom), which the full image fills exactly: the
            last blocks of a file may be partly filled, and come first in an image that is stored upside down.
        is_largest: whether it is not decoded at any larger scale.
    """

    image: UInt8[np.ndarray, "height width 3"]
    alpha: UInt8[np.ndarray, "height width"] | None
    size: tuple[int, int]
    box: tuple[float, float, float, float] | None = None
    is_largest: bool = True


def decode_stream(stream: BinaryIO, max_side: int) -> Decoded:
    """The image in a file, at full size or at least at ``max_side``; of at most about ``MAX_DECODED`` pixels.

    Raises:
        UnreadableImageError: the file is damaged, not an image, or too large.
    """
    with _opened(stream) as image:
        # Loading a TIFF file rotates it; other files may have metadata behind the pixels.
        orientation = _orientation(image) if image.format == "TIFF" else None
        size, pixels = image.size, image.width * image.height
        if image.format in _SCALABLE:
            least = next((k for k in (1, 2, 4) if pixels <= k * k * MAX_DECODED), 8)
            factor, blocks = _draft(image, max_side, least), 1
        else:
            # Any other file is decoded by bands, whose blocks are averaged.
            least = factor = blocks = math.ceil(math.sqrt(pixels / MAX_DECODED))
        needed = _decoder_bytes(image, pixels) + 4 * min(pixels, MAX_DECODED)
        with _large if needed > _LARGE_BYTES else contextlib.nullcontext():
            bands, is_upright = _bands(image, stream, size, needed)
            color, alpha = _assembled(image, bands, blocks)
        if orientation is None:
            orientation = _orientation(image)
            size = _swapped(size, orientation)
    if not is_upright:
        color = _upright(color, orientation)
        alpha = None if alpha is None else _upright(alpha, orientation)
    if factor == 1:
        return Decoded(color, alpha, (color.shape[1], color.shape[0]))
    rows, columns = color.shape[:2]
    width, height = size[0] / factor, size[1] / factor
    flip_rows, flip_columns = (False, False) if is_upright else _flips(orientation)
    left, top = columns - width if flip_columns else 0.0, rows - height if flip_rows else 0.0
    return Decoded(color, alpha, size, (left, top, left + width, top + height), is_largest=factor <= least)


def scalable_size(stream: BinaryIO) -> tuple[int, int] | None:
    """Width and height of the upright image in a JPEG file, from its header; None for a file of another format.

    Raises:
        UnreadableImageError: the file is damaged or not an image.
    """
    with _opened(stream) as image:
        return _swapped(image.size, _orientation(image)) if image.format in _SCALABLE else None


def stored_orientation(stream: BinaryIO) -> int:
    """The orientation that a file's EXIF or XMP states, 1 to 8.

    Raises:
        UnreadableImageError: the file is damaged or not an image.
    """
    with _opened(stream) as image:
        return _orientation(image)


def stored_values(stream: BinaryIO) -> Shaped[np.ndarray, "height width"]:
    """The first channel of a file as it is stored: grey values or palette indices, of up to 32 bits.

    Raises:
        UnreadableImageError: the file is damaged, not an image, or too large.
    """
    with _opened(stream) as image:
        _require_memory(image.size, 2 * _decoder_bytes(image, image.width * image.height))
        values = np.asarray(image)
        return values if values.ndim == 2 else values[..., 0]


@contextlib.contextmanager
def _opened(stream: BinaryIO) -> Iterator[ImageFile.ImageFile]:
    """The file opened by Pillow, its size and kind checked. Every error within the block is one of the file.

    Raises:
        UnreadableImageError: the file is damaged, not an image, or too large.
    """
    try:
        head = stream.read(32)
        stream.seek(0)
        if _is_heif(head):
            _register_heif()
        with Image.open(stream) as image:
            width, height = image.size
            if width * height > MAX_PIXELS:
                raise _too_many(f"{width} x {height} pixels")
            if image.format == "TIFF" and image.tag_v2.get(_REDUCED_TIFF, 0) & 1:  # type: ignore[attr-defined]
                raise UnreadableImageError(CAMERA_RAW)
            if image.format == "PNG" and "exif" not in image.info and (exif := png_chunk(stream, b"eXIf")):
                # Pillow would look for one behind the pixels only when it has decoded them.
                image.info["exif"] = b"Exif\0\0" + exif
            yield image
    except NerfgenError:
        raise
    except UnidentifiedImageError as error:
        raise UnreadableImageError(_unidentified(head)) from error
    except Image.DecompressionBombError as error:
        raise _too_many("the image") from error
    except MemoryError as error:
        raise UnreadableImageError("decoding needs more memory than there is", "too_large") from error
    except Exception as error:  # damaged files make the decoders raise anything
        words = re.sub(r"<[^<>]* at 0x[0-9a-fA-F]+>", "", " ".join(str(error).split()))
        raise UnreadableImageError(f"not a readable image ({words or type(error).__name__})") from error


def _too_many(what: str) -> UnreadableImageError:
    return UnreadableImageError(
        f"{what}: more pixels than the limit of {MAX_PIXELS:,}; reduce it", "too_large"
    )


_HEIF_BRANDS = (b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"mif1", b"msf1")


def _is_heif(head: bytes) -> bool:
    return head[4:8] == b"ftyp" and head[8:12] in _HEIF_BRANDS and b"avif" not in head


def _register_heif() -> None:
    """Make Pillow read HEIC, where the package for it is installed.

    Raises:
        UnreadableImageError: it is not.
    """
    if "HEIF" in Image.OPEN:
        return
    try:
        importlib.import_module("pi_heif").register_heif_opener()
    except ImportError as error:
        raise UnreadableImageError(
            'HEIC: `pip install "nerfgen[heif]"` reads it; or convert it to JPEG'
        ) from error


def _unidentified(head: bytes) -> str:
    """Why Pillow has no decoder for a file."""
    if not head:
        return "the file is empty"
    if not head.strip(b"\0"):
        return "the file holds zeros; copy it again"
    is_avif = head[4:8] == b"ftyp" and b"avif" in head and "AVIF" not in Image.OPEN
    is_jxl = head.startswith((b"\xff\x0a", b"\0\0\0\x0cJXL "))
    if is_avif or is_jxl:
        return f"{'AVIF' if is_avif else 'JPEG XL'}: the installed Pillow does not read it; convert it to JPEG or PNG"
    return "not an image in a known format, or its header is damaged"


def _swapped(size: tuple[int, int], orientation: int) -> tuple[int, int]:
    """Width and height of the upright image."""
    return size[::-1] if orientation >= 5 else size


def _draft(image: Image.Image, max_side: int, least: int) -> int:
    """Have a JPEG decoded at 1/1, 1/2, 1/4 or 1/8 of its size: pixels along a block that becomes one reduced pixel.

    The last blocks may be partly filled.

    Args:
        least: the smallest permitted result.
    """
    width, height = image.size
    longest = max(width, height)
    if least == 1 and not max_side:
        return 1
    wanted = min(max_side or longest, longest // least)
    image.draft("RGB", (max(1, width * wanted // longest), max(1, height * wanted // longest)))
    return next((k for k in (8, 4, 2) if image.size == (-(-width // k), -(-height // k))), 1)


def _decoder_bytes(image: Image.Image, pixels: int) -> int:
    """Memory that decoding an opened file whole takes.

    Args:
        pixels: of the image at full size.
    """
    stored = {"1": 1, "L": 1, "P": 1, "I;16": 2, "I;16B": 2, "I;16L": 2}.get(image.mode, 4)
    coefficients = 0.0
    if image.format in _SCALABLE and image.info.get("progressive"):
        # The coefficients of all blocks are held, at full size.
        layers = image.layer  # type: ignore[attr-defined]
        widest, highest = max(layer[1] for layer in layers), max(layer[2] for layer in layers)
        samples = sum(layer[1] * layer[2] for layer in layers) / (widest * highest)
        coefficients = 2.0 * pixels * samples
    buffers = image.width * image.height * (stored + _DECODER_BYTES.get(image.format or "", 0))
    return buffers + int(coefficients)


def _bands(
    image: ImageFile.ImageFile, stream: BinaryIO, size: tuple[int, int], needed: int
) -> tuple[Bands, bool]:
    """The bands of an opened file, and whether they are upright already.

    Raises:
        UnreadableImageError: the file can only be decoded whole, and that takes too much memory.
    """
    deep = deep_planar_bands(image, stream)
    if deep:
        return deep, False
    if needed > _memory_limit():
        bands = file_bands(image, stream)
        if bands:
            return bands, False
        _require_memory(size, needed)
    stream.seek(0)
    image.load()
    return loaded_bands(image), image.format == "TIFF"


def _memory_limit() -> int:
    return read_limit() * 7 // 8


def _require_memory(size: tuple[int, int], needed: int) -> None:
    """Raise :class:`UnreadableImageError` if decoding takes too much memory."""
    if needed > _memory_limit():
        raise UnreadableImageError(
            f"{size[0]} x {size[1]} pixels: decoding takes about {needed / 2**30:.1f} GiB; reduce the image, "
            f"or raise {READ_LIMIT} (GiB)",
            "too_large",
        )


def _profile(image: Image.Image) -> bytes | None:
    found = image.info.get("icc_profile")
    return found if isinstance(found, bytes) and found else None


def _bits(image: Image.Image) -> int:
    """Bits of a grey value, where Pillow holds it in 16."""
    if image.format != "TIFF":
        return 16
    stated = image.tag_v2.get(_TIFF_BITS, (16,))  # type: ignore[attr-defined]
    return 12 if stated == (12,) else 16


def _assembled(
    image: Image.Image, bands: Bands, blocks: int
) -> tuple[UInt8[np.ndarray, "height width 3"], UInt8[np.ndarray, "height width"] | None]:
    """Colour and opacity of all bands of an image, averaged over blocks of ``blocks`` x ``blocks`` pixels."""
    profile, bits = _profile(image), _bits(image)
    rows = max(1, _BAND_PIXELS // image.width)
    values = merged_range(bands(rows)) if image.mode in ("I", "F") else None
    colors: list[np.ndarray] = []
    alphas: list[np.ndarray] = []
    rest: list[np.ndarray] = []
    for band in bands(rows):
        color, alpha = to_srgb(band, profile, values, bits)
        parts = [color] if alpha is None else [color, alpha]
        if blocks > 1:
            joined = [np.concatenate(pair) for pair in zip(rest, parts, strict=True)] if rest else parts
            whole = len(joined[0]) // blocks * blocks
            rest = [part[whole:] for part in joined]
            if not whole:
                continue
            parts = [_reduced(part[:whole], blocks) for part in joined]
        colors.append(parts[0])
        alphas += parts[1:]
    if rest and len(rest[0]):
        colors.append(_reduced(rest[0], blocks))
        alphas += [_reduced(part, blocks) for part in rest[1:]]
    return _stacked(colors), _stacked(alphas) if alphas else None


def _reduced(pixels: UInt8[np.ndarray, "height width *channels"], blocks: int) -> UInt8[np.ndarray, "..."]:
    return np.asarray(Image.fromarray(pixels).reduce(blocks))


def _stacked(parts: list[np.ndarray]) -> np.ndarray:
    """One array of bands, each of which is released when it has been copied."""
    if len(parts) == 1:
        return parts[0]
    whole = np.empty((sum(map(len, parts)), *parts[0].shape[1:]), np.uint8)
    top = 0
    parts.reverse()
    while parts:
        part = parts.pop()
        whole[top : top + len(part)] = part
        top += len(part)
    return whole


def _orientation(image: Image.Image) -> int:
    try:
        # The method of PNG images decodes them.
        value = Image.Image.getexif(image).get(_ORIENTATION, 1)
    except Exception:  # a damaged EXIF block makes no image unreadable
        return 1
    return value if value in range(1, 9) else 1


def _flips(orientation: int) -> tuple[bool, bool]:
    """Whether rows and columns are reversed, after the axes are exchanged."""
    return orientation in (3, 4, 7, 8), orientation in (2, 3, 6, 7)


def _upright(
    pixels: UInt8[np.ndarray, "height width *channels"], orientation: int
) -> UInt8[np.ndarray, "height2 width2 *channels"]:
    """Undo the EXIF orientation, 1 to 8."""
    if orientation == 1:
        return pixels
    if orientation >= 5:
        pixels = pixels.swapaxes(0, 1)
    flip_rows, flip_columns = _flips(orientation)
    return np.ascontiguousarray(pixels[:: -1 if flip_rows else 1, :: -1 if flip_columns else 1])
