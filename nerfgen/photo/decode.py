"""Any image file as upright 8-bit RGB."""

from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from jaxtyping import Shaped, UInt8
from PIL import Image, ImageCms

from nerfgen.errors import InputError

MAX_PIXELS = 500_000_000
_ORIENTATION = 0x0112
_SCALABLE = ("JPEG", "MPO")  # can be decoded at 1/2, 1/4 and 1/8 of their size
_WHOLE_NUMBERS = ("I", "I;16", "I;16L", "I;16B", "I;16N")


class UnreadableImageError(InputError):
    """A file can't be decoded as an image."""


class Photograph:
    """The bytes of one photograph, decoded at the resolution that is asked for.

    Args:
        source: the file's bytes, its path, or an upright image (H x W x 3, uint8).

    Raises:
        UnreadableImageError: the file can't be read.
    """

    def __init__(self, source: bytes | Path | UInt8[np.ndarray, "height width 3"]) -> None:
        if isinstance(source, Path):
            path = source
            try:
                source = path.read_bytes()
            except OSError as error:
                raise UnreadableImageError(f"{path}: {error.strerror or error}") from error
        self._source = source
        self._decoded: _Decoded | None = None
        self._reduced: tuple[int, UInt8[np.ndarray, "height width 3"], tuple[float, float]] | None = None

    def pixels(self, max_side: int = 0) -> tuple[UInt8[np.ndarray, "height width 3"], tuple[float, float]]:
        """The upright image, no larger than ``max_side`` pixels (0: full size), and its scale.

        The scale is the ratio (x, y) of the reduced to the full image's size: a point of the full
        photograph times the scale is the same point of the reduced image. Nothing is enlarged.
        Transparent pixels are laid over white.

        Raises:
            UnreadableImageError: the file is damaged, no image, or has more than ``MAX_PIXELS``.
        """
        decoded = self._at_least(max_side)
        width, height = decoded.size
        rows, columns = decoded.image.shape[:2]
        longest = max(width, height)
        if max_side and max(rows, columns) > max_side:
            if self._reduced is not None and self._reduced[0] == max_side:
                return self._reduced[1:]
            reduced = max(1, round(width * max_side / longest)), max(1, round(height * max_side / longest))
            image = np.asarray(
                Image.fromarray(decoded.image).resize(reduced, Image.Resampling.BICUBIC, decoded.box, 2.0)
            )
            scale = reduced[0] / width, reduced[1] / height
            self._reduced = max_side, image, scale
            return image, scale
        if decoded.box is None:
            return decoded.image, (columns / width, rows / height)
        # Decoded at a reduced scale that is already small enough: its scale is exact but for the last block.
        return decoded.image, (decoded.box[2] / width, decoded.box[3] / height)

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the upright photograph, pixels."""
        if self._decoded is None and isinstance(self._source, bytes):
            with _opened(self._source) as image:
                if image.format in _SCALABLE:
                    return image.size if _orientation(image) < 5 else image.size[::-1]
        return self._at_least(0).size if self._decoded is None else self._decoded.size

    @property
    def has_alpha(self) -> bool:
        """Whether the file has transparency."""
        if self._decoded is None and isinstance(self._source, bytes):
            with _opened(self._source) as image:
                if image.format in _SCALABLE:
                    return False
        return (self._decoded or self._at_least(0)).alpha is not None

    @property
    def alpha(self) -> UInt8[np.ndarray, "height width"] | None:
        """Opacity at full size, upright; None for an image without transparency."""
        return self._at_least(0).alpha if self.has_alpha else None

    def _at_least(self, max_side: int) -> _Decoded:
        """The decoded image, at full size or at least at ``max_side``."""
        present = self._decoded
        if present is None or (present.box is not None and not 0 < max_side <= max(present.box[2:])):
            if isinstance(self._source, np.ndarray):
                height, width = self._source.shape[:2]
                present = _Decoded(self._source, None, (width, height), None)
            else:
                present = _decode(self._source, max_side)
            self._decoded = present
        return present


def decode(source: bytes | Path) -> UInt8[np.ndarray, "height width 3"]:
    """An image file, of any mode and orientation, as upright RGB.

    Grey and float images become grey RGB: 16-bit values are divided by 257; whole numbers of
    more bits and floats are taken as 0 to 1, 0 to 255 or 0 to 65535 by the smallest of these
    ranges that holds them, and stretched from their minimum to their maximum if none does.
    Transparent pixels are laid over white. Of an animation, the first frame.

    Raises:
        UnreadableImageError: the file is damaged, no image, or has more than ``MAX_PIXELS``.
    """
    return Photograph(source).pixels()[0]


def decode_alpha(source: bytes | Path) -> UInt8[np.ndarray, "height width"] | None:
    """An image file's opacity, upright; None if it has no transparency.

    Raises:
        UnreadableImageError: as :func:`decode`.
    """
    return Photograph(source).alpha


class _Decoded:
    """Upright pixels, opacity, the full photograph's size, and, where decoded at a reduced
    scale, the box (0, 0, right, bottom) of the pixels that the full photograph fills exactly."""

    def __init__(
        self,
        image: UInt8[np.ndarray, "height width 3"],
        alpha: UInt8[np.ndarray, "height width"] | None,
        size: tuple[int, int],
        box: tuple[float, float, float, float] | None,
    ) -> None:
        self.image, self.alpha, self.size, self.box = image, alpha, size, box


@contextlib.contextmanager
def _opened(source: bytes) -> Iterator[Image.Image]:
    """The file opened by Pillow; whatever goes wrong meanwhile is the file's fault.

    Raises:
        UnreadableImageError: the file is damaged or no image.
    """
    try:
        with warnings.catch_warnings(), _raised_limit():
            warnings.simplefilter("ignore")
            with Image.open(io.BytesIO(source)) as image:
                yield image
    except UnreadableImageError:
        raise
    except Exception as error:  # damaged files make the decoders raise anything
        raise UnreadableImageError(f"not a readable image ({' '.join(str(error).split())})") from error


def _decode(source: bytes, max_side: int) -> _Decoded:
    with _opened(source) as image:
        return _decode_open(image, max_side)


def _decode_open(image: Image.Image, max_side: int) -> _Decoded:
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise UnreadableImageError(f"{width} x {height} pixels are more than the limit of {MAX_PIXELS:,}")
    factor = 1.0
    if max_side and image.format in _SCALABLE:
        longest = max(width, height)
        image.draft("RGB", (max(1, width * max_side // longest), max(1, height * max_side // longest)))
        factor = _draft_factor(image, width, height)
    image.load()
    color, alpha = _to_rgb(image)
    orientation = _orientation(image)
    color = _upright(color, orientation)
    alpha = None if alpha is None else _upright(alpha, orientation)
    if factor == 1.0:
        return _Decoded(color, alpha, (color.shape[1], color.shape[0]), None)
    full = (height, width) if orientation >= 5 else (width, height)
    return _Decoded(color, alpha, full, (0.0, 0.0, full[0] / factor, full[1] / factor))


def _draft_factor(image: Image.Image, width: int, height: int) -> float:
    """1, 2, 4 or 8: every reduced pixel is a block of so many pixels, the last ones partly filled."""
    return next(
        (float(k) for k in (8, 4, 2) if image.size == (-(-width // k), -(-height // k)) and k > 1), 1.0
    )


def _to_rgb(
    image: Image.Image,
) -> tuple[UInt8[np.ndarray, "height width 3"], UInt8[np.ndarray, "height width"] | None]:
    if image.mode in _WHOLE_NUMBERS or image.mode == "F":
        grey = _to_eight_bits(np.asarray(image), sixteen=image.mode.startswith("I;16"))
        return np.repeat(grey[..., None], 3, axis=-1), None
    if image.mode == "LAB":
        lab, srgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
        converted = ImageCms.profileToProfile(image, lab, srgb, outputMode="RGB")
        assert converted is not None  # None only when converting in place
        return np.array(converted), None
    if not image.has_transparency_data:
        return np.array(image.convert("RGB")), None
    rgba = np.asarray(image.convert("RGBA"))
    alpha = np.array(rgba[..., 3])
    opacity = alpha[..., None].astype(np.uint16)
    over_white = (rgba[..., :3] * opacity + 255 * (255 - opacity) + 127) // 255
    return over_white.astype(np.uint8), alpha


def _to_eight_bits(
    values: Shaped[np.ndarray, "height width"], sixteen: bool
) -> UInt8[np.ndarray, "height width"]:
    numbers = np.nan_to_num(values.astype(np.float64), nan=0.0, posinf=0.0, neginf=0.0)
    low, high = float(numbers.min()), float(numbers.max())
    if sixteen:
        scaled = numbers / 257
    elif low < 0 or high > 65535:
        scaled = (numbers - low) * (255 / max(high - low, 1e-300))
    elif high > 255:
        scaled = numbers / 257
    elif high > 1 or np.issubdtype(values.dtype, np.integer):
        scaled = numbers
    else:
        scaled = numbers * 255
    return np.round(scaled).clip(0, 255).astype(np.uint8)


def _orientation(image: Image.Image) -> int:
    try:
        value = image.getexif().get(_ORIENTATION, 1)
    except Exception:  # a damaged EXIF block must not cost the picture
        return 1
    return value if value in range(1, 9) else 1


def _upright(
    pixels: UInt8[np.ndarray, "height width *channels"], orientation: int
) -> UInt8[np.ndarray, "height2 width2 *channels"]:
    """Undo the EXIF orientation, 1 to 8."""
    if orientation == 1:
        return pixels
    if orientation >= 5:
        pixels = pixels.swapaxes(0, 1)
    # What remains after the exchange of the axes.
    flip_rows = orientation in (3, 4, 7, 8)
    flip_columns = orientation in (2, 3, 6, 7)
    return np.ascontiguousarray(pixels[:: -1 if flip_rows else 1, :: -1 if flip_columns else 1])


@contextlib.contextmanager
def _raised_limit() -> Iterator[None]:
    """Pillow's own limit on the number of pixels, replaced by ``MAX_PIXELS`` for the moment."""
    kept = Image.MAX_IMAGE_PIXELS
    Image.MAX_IMAGE_PIXELS = None
    try:
        yield
    finally:
        Image.MAX_IMAGE_PIXELS = kept
