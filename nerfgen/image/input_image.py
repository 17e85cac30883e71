"""Any image file as upright 8-bit RGB."""

from __future__ import annotations

import contextlib
import hashlib
import io
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Shaped, UInt8
from PIL import Image, ImageCms

from nerfgen.errors import InputError

MAX_PIXELS = 500_000_000
_ORIENTATION = 0x0112
_SCALABLE = ("JPEG", "MPO")  # can be decoded at 1/2, 1/4 and 1/8 of their size
_WHOLE_NUMBERS = ("I", "I;16", "I;16L", "I;16B", "I;16N")

# Pillow's limit and the warnings filters are global, so they are set once: many threads decode images. The limit that
# counts is checked for each image, and problems that Pillow warns of show in the image's status.
if Image.MAX_IMAGE_PIXELS is not None:
    Image.MAX_IMAGE_PIXELS = max(Image.MAX_IMAGE_PIXELS, MAX_PIXELS)
warnings.filterwarnings("ignore", module=r"PIL\.")


class UnreadableImageError(InputError):
    """A file can't be decoded as an image."""


class InputImage:
    """One input image, read and decoded when it is needed, at the resolution that is needed.

    A value that may be sent to another process: what was decoded stays behind.

    Args:
        source: the file's path, its bytes, or an upright RGB image.
    """

    def __init__(self, source: Path | bytes | UInt8[np.ndarray, "height width 3"]) -> None:
        self._source = source
        self._content: bytes | None = source if isinstance(source, bytes) else None
        self._decoded: _Decoded | None = None
        self._reduced: tuple[int, UInt8[np.ndarray, "height width 3"], tuple[float, float]] | None = None

    def __reduce__(self) -> tuple[type[InputImage], tuple[Any]]:
        return InputImage, (self._source,)

    @property
    def digest(self) -> tuple[int, str]:
        """Size in bytes and SHA-256 of the file's content, or of the pixels; of no bytes for an unreadable file."""
        if isinstance(self._source, np.ndarray):
            content = self._source.tobytes()
        else:
            try:
                content = self._encoded()
            except UnreadableImageError:
                content = b""
        return len(content), hashlib.sha256(content).hexdigest()

    def pixels(self, max_side: int = 0) -> tuple[UInt8[np.ndarray, "height width 3"], tuple[float, float]]:
        """The upright image, no larger than ``max_side`` pixels (0: full size), and its scale.

        The scale (x, y) is the ratio of the reduced to the full size: it takes points of the full image to the reduced
        one. Nothing is enlarged. Transparent images are composited over white.

        Raises:
            UnreadableImageError: the file is damaged, not an image, or has more than ``MAX_PIXELS``.
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
        # Decoded at a reduced scale that is small enough: the box excludes the unfilled part of the last block.
        return decoded.image, (decoded.box[2] / width, decoded.box[3] / height)

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the upright image, pixels."""
        if self._decoded is None and not isinstance(self._source, np.ndarray):
            with _opened(self._encoded()) as image:
                if image.format in _SCALABLE:
                    return image.size if _orientation(image) < 5 else image.size[::-1]
        return self._at_least(0).size if self._decoded is None else self._decoded.size

    @property
    def orientation(self) -> int:
        """The EXIF orientation of the stored pixels, 1 to 8; from 5 on, rows and columns are exchanged."""
        if isinstance(self._source, np.ndarray):
            return 1
        with _opened(self._encoded()) as image:
            return _orientation(image)

    @property
    def has_alpha(self) -> bool:
        """Whether the file has transparency."""
        if self._decoded is None and not isinstance(self._source, np.ndarray):
            with _opened(self._encoded()) as image:
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
                present = _decode(self._encoded(), max_side)
            self._decoded = present
        return present

    def _encoded(self) -> bytes:
        """The file's content, read once."""
        if self._content is None:
            path = self._source
            assert isinstance(path, Path)
            try:
                self._content = path.read_bytes()
            except OSError as error:
                raise UnreadableImageError(f"{path}: {error.strerror or error}") from error
        return self._content


def decode(source: bytes | Path) -> UInt8[np.ndarray, "height width 3"]:
    """An image file, of any mode and orientation, as upright RGB.

    Grey and float images become grey RGB: 16-bit values are divided by 257. Values of more bits and floats are scaled
    from the smallest of the ranges 0 to 1, 0 to 255 and 0 to 65535 that contains them, or from their minimum and
    maximum if none does. Transparent images are composited over white. An animation gives its first frame.

    Raises:
        UnreadableImageError: the file is damaged, not an image, or has more than ``MAX_PIXELS``.
    """
    return InputImage(source).pixels()[0]


def decode_alpha(source: bytes | Path) -> UInt8[np.ndarray, "height width"] | None:
    """The opacity of an image file, upright; None if it has no transparency.

    Raises:
        UnreadableImageError: as :func:`decode`.
    """
    return InputImage(source).alpha


class _Decoded:
    """Upright pixels, opacity and the full size; for an image decoded at a reduced scale also the box
    (0, 0, right, bottom) that the full image fills exactly."""

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
    """The file opened by Pillow. Every error within the block is one of the file.

    Raises:
        UnreadableImageError: the file is damaged or not an image.
    """
    try:
        with Image.open(io.BytesIO(source)) as image:
            yield image
    except UnreadableImageError:
        raise
    except Image.DecompressionBombError as error:
        raise UnreadableImageError(f"more pixels than the limit of {MAX_PIXELS:,}") from error
    except Exception as error:  # damaged files make the decoders raise anything
        raise UnreadableImageError(f"not a readable image ({' '.join(str(error).split())})") from error


def _decode(source: bytes, max_side: int) -> _Decoded:
    with _opened(source) as image:
        return _decode_open(image, max_side)


def _decode_open(image: Image.Image, max_side: int) -> _Decoded:
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise UnreadableImageError(f"{width} x {height}: more pixels than the limit of {MAX_PIXELS:,}")
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
    """1, 2, 4 or 8: pixels along a block that became one reduced pixel; the last blocks may be partly filled."""
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
    composited = (rgba[..., :3] * opacity + 255 * (255 - opacity) + 127) // 255
    return composited.astype(np.uint8), alpha


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
    except Exception:  # a damaged EXIF block makes no image unreadable
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
    # The flips that remain after the axes are exchanged.
    flip_rows = orientation in (3, 4, 7, 8)
    flip_columns = orientation in (2, 3, 6, 7)
    return np.ascontiguousarray(pixels[:: -1 if flip_rows else 1, :: -1 if flip_columns else 1])
