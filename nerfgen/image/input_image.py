"""Any image file as upright 8-bit RGB."""

from __future__ import annotations

import errno
import hashlib
import io
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from jaxtyping import Bool, Float, Shaped, UInt8
from PIL import Image

from nerfgen.errors import InputError
from nerfgen.image.decoding import (
    CAMERA_RAW,
    Decoded,
    decode_stream,
    scalable_size,
    stored_orientation,
    stored_values,
)
from nerfgen.image.names import RAW_EXTENSIONS, path_inside
from nerfgen.image.store import ImageFolder, StoredImage
from nerfgen.image.unreadable import UnreadableImageError
from nerfgen.image.window import resample_window
from nerfgen.untrusted import READ_LIMIT, open_input, read_limit

# Larger files are read while they are decoded.
_MAX_HELD = 1 << 26
_FILE_LIMIT = 4  # bytes of a file as a multiple of the limit of what is read at once


class InputImage:
    """One input image, read and decoded when it is needed, at the resolution that is needed.

    An image of more than 67 million pixels is used at a reduced scale: ``pixels`` tells it, and windows are unaffected.
    A value that may be sent to another process: what was decoded stays behind.

    Args:
        source: the file's path, its bytes, an upright RGB image, or the file's name in ``folder``.
        folder: of the images. The name may come from a file: one that leads out of the folder is never opened.
    """

    def __init__(
        self,
        source: Path | bytes | str | UInt8[np.ndarray, "height width 3"],
        folder: ImageFolder | None = None,
    ) -> None:
        self._source, self._folder = source, folder
        self._content: bytes | None = source if isinstance(source, bytes) else None
        self._decoded: Decoded | None = None
        self._reduced: tuple[int, UInt8[np.ndarray, "height width 3"], tuple[float, float]] | None = None

    @property
    def path(self) -> Path | None:
        """Where the file is, of an object of a store after ``/`` and the bucket; None for an image in memory."""
        if isinstance(self._source, str):
            folder = self._folder or Path()
            return (folder if isinstance(folder, Path) else Path("/", folder.path)) / self._source
        return self._source if isinstance(self._source, Path) else None

    @property
    def name(self) -> str:
        """The file's name, within its folder if that is known; empty for an image in memory."""
        return self._source if isinstance(self._source, str) else self.path.name if self.path else ""

    def __reduce__(self) -> tuple[type[InputImage], tuple[Any, ...]]:
        return InputImage, (self._source, self._folder)

    @property
    def digest(self) -> tuple[int, str]:
        """Size in bytes and SHA-256 of the file's content, or of the pixels; of no bytes for an unreadable file."""
        digest = hashlib.sha256()
        if isinstance(self._source, np.ndarray):
            digest.update(self._source.tobytes())
            return self._source.nbytes, digest.hexdigest()
        size = 0
        try:
            with self._open(decodable=False) as stream:
                while part := stream.read(1 << 20):
                    size += len(part)
                    digest.update(part)
        except (UnreadableImageError, OSError):
            return 0, hashlib.sha256().hexdigest()
        return size, digest.hexdigest()

    def encoded(self) -> bytes:
        """The content of the file; that of a PNG for an image in memory.

        Raises:
            UnreadableImageError: the file can't be opened.
            OSError: it can't be read.
        """
        if isinstance(self._source, np.ndarray):
            stream = io.BytesIO()
            Image.fromarray(self._source).save(stream, "PNG")
            return stream.getvalue()
        with self._open(decodable=False) as file:
            return file.read()

    def pixels(self, max_side: int = 0) -> tuple[UInt8[np.ndarray, "height width 3"], tuple[float, float]]:
        """The upright image in sRGB, no larger than ``max_side`` pixels (0: as large as it is used), and its scale.

        The scale (x, y) is the ratio of the reduced to the full size: it takes points of the full image to the reduced
        one. Nothing is enlarged. Transparent images are composited over white.

        Raises:
            UnreadableImageError: the file can't be used as an image.
        """
        decoded = self._at_least(max_side)
        width, height = decoded.size
        rows, columns = decoded.image.shape[:2]
        box, longest = decoded.box, max(width, height)
        is_too_large = 0 < max_side < max(rows, columns)
        if is_too_large or (box and (box[0] > 0 or box[1] > 0)):
            if self._reduced is not None and self._reduced[0] == max_side:
                return self._reduced[1:]
            side = max_side if is_too_large else int(_longest(decoded))
            reduced = max(1, round(width * side / longest)), max(1, round(height * side / longest))
            image = np.asarray(
                Image.fromarray(decoded.image).resize(reduced, Image.Resampling.BICUBIC, box, 2.0)
            )
            scale = reduced[0] / width, reduced[1] / height
            self._reduced = max_side, image, scale
            return image, scale
        if box is None:
            return decoded.image, (columns / width, rows / height)
        # Decoded at a reduced scale that is small enough: the box excludes the unfilled part of the last block.
        return decoded.image, (box[2] / width, box[3] / height)

    def resample(
        self, window: Sequence[float] | Float[np.ndarray, " 3"], size: int
    ) -> tuple[UInt8[np.ndarray, "size size 3"], Bool[np.ndarray, "size size"]]:
        """:func:`nerfgen.image.resample_window` of a window in pixels of the full image.

        Raises:
            UnreadableImageError: the file can't be used as an image.
        """
        pixels, (scale, scale_y) = self.pixels()
        x0, y0, side = (float(value) for value in window)
        return resample_window(pixels, (x0 * scale, y0 * scale_y, side * scale), size)

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the upright image, pixels."""
        if self._decoded is None and not isinstance(self._source, np.ndarray):
            with self._open() as stream:
                found = scalable_size(stream)
            if found:
                return found
        return (self._decoded or self._at_least(0)).size

    @property
    def orientation(self) -> int:
        """How the file stores the upright image, 1 to 8 as in EXIF; 1 for an image in memory."""
        if isinstance(self._source, np.ndarray):
            return 1
        with self._open() as stream:
            return stored_orientation(stream)

    @property
    def has_alpha(self) -> bool:
        """Whether the file has transparency."""
        if self._decoded is None and not isinstance(self._source, np.ndarray):
            with self._open() as stream:
                if scalable_size(stream):
                    return False
        return (self._decoded or self._at_least(0)).alpha is not None

    @property
    def alpha(self) -> UInt8[np.ndarray, "height width"] | None:
        """Opacity, upright and at the scale of :meth:`pixels`; None for an image without transparency."""
        return self._at_least(0).alpha if self.has_alpha else None

    def labels(self) -> Shaped[np.ndarray, "height width"]:
        """The numbers in a label image, as stored: its grey values, its palette's indices, or its first channel.

        Raises:
            UnreadableImageError: the file can't be used as an image.
        """
        with self._open() as stream:
            return stored_values(stream)

    def _at_least(self, max_side: int) -> Decoded:
        """The decoded image, at least at ``max_side`` or at the largest scale at which it is used."""
        present = self._decoded
        if present is None or not (present.is_largest or 0 < max_side <= _longest(present)):
            if isinstance(self._source, np.ndarray):
                height, width = self._source.shape[:2]
                present = Decoded(self._source, None, (width, height), None)
            else:
                with self._open() as stream:
                    present = decode_stream(stream, max_side)
            self._decoded = present
        return present

    def _open(self, *, decodable: bool = True) -> BinaryIO:
        """The file's content. A file of moderate size is read once.

        Args:
            decodable: whether to refuse files of a kind that no decoder is tried on.

        Raises:
            UnreadableImageError: the name or the file can't be used.
        """
        assert not isinstance(self._source, np.ndarray)
        if isinstance(self._source, bytes):
            return io.BytesIO(self._source)
        path = self._source if isinstance(self._source, Path) else path_inside(self._folder, self._source)
        if decodable and path.suffix[1:].lower() in RAW_EXTENSIONS:
            # Decoders would take the preview in such a file for the image.
            raise UnreadableImageError(CAMERA_RAW)
        if self._content is None:
            stream = open_image_file(path)
            if _size(stream) > _MAX_HELD:
                return stream
            with stream:
                try:
                    self._content = stream.read(_MAX_HELD)
                except OSError as error:
                    raise UnreadableImageError(error.strerror or "the file can't be read") from error
        return io.BytesIO(self._content)


def open_image_file(image: Path | StoredImage) -> BinaryIO:
    """An image file, opened for reading.

    Raises:
        UnreadableImageError: it does not exist, can't be opened, is not a regular file, or is too large.
        StoreError: it is in an object store that does not answer.
    """
    stream = image.open() if isinstance(image, StoredImage) else _open_file(image)
    size, limit = _size(stream), _FILE_LIMIT * read_limit()
    if size > limit:
        stream.close()
        raise UnreadableImageError(
            f"a file of {size:,} bytes, more than {limit:,}; reduce the image, or raise {READ_LIMIT} (GiB)",
            "too_large",
            None if isinstance(image, StoredImage) else image,
        )
    return stream


def _open_file(path: Path) -> BinaryIO:
    try:
        return open_input(path)
    except FileNotFoundError as error:
        raise UnreadableImageError("the file does not exist", "absent", path) from error
    except OSError as error:
        status = "absent" if error.errno == errno.ENAMETOOLONG else "unreadable"
        raise UnreadableImageError(error.strerror or "the file can't be opened", status, path) from error
    except InputError as error:
        raise UnreadableImageError(str(error).removeprefix(f"{path} "), path=path) from error


def _size(stream: BinaryIO) -> int:
    """Bytes of an open file, which is at its start before and after."""
    size = stream.seek(0, os.SEEK_END)
    stream.seek(0)
    return size


def _longest(decoded: Decoded) -> float:
    """The longer side of the decoded image, pixels."""
    if decoded.box is None:
        return max(decoded.size)
    left, top, right, bottom = decoded.box
    return max(right - left, bottom - top)


def decode(source: bytes | Path) -> UInt8[np.ndarray, "height width 3"]:
    """An image file, of any mode and orientation, as upright sRGB; see :meth:`InputImage.pixels`.

    Grey and float images become grey RGB: 16-bit values are divided by 257. Values of more bits and floats are scaled
    from the smallest of the ranges 0 to 1, 0 to 255 and 0 to 65535 that contains them, or from their minimum and
    maximum if none does. An animation gives its first frame.

    Raises:
        UnreadableImageError: the file can't be used as an image.
    """
    return InputImage(source).pixels()[0]


def decode_alpha(source: bytes | Path) -> UInt8[np.ndarray, "height width"] | None:
    """The opacity of an image file, upright; None if it has no transparency.

    Raises:
        UnreadableImageError: as :func:`decode`.
    """
    return InputImage(source).alpha
