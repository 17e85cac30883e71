"""Masks that exist already: in the image's own alpha channel, or as image files."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

import numpy as np
from jaxtyping import UInt8

from nerfgen.errors import InputError
from nerfgen.image import InputImage, UnreadableImageError, resample_window
from nerfgen.mask.segmenter import Segmentation, SegmentationRequest

_EXTENSIONS = ("png", "jpg", "jpeg", "webp", "bmp", "tif", "tiff", "gif")
_SUFFIXES = (*_EXTENSIONS, *(extension.upper() for extension in _EXTENSIONS))
# Aspect ratios of an image and its mask may differ by rounding where one of them was reduced.
_ASPECT_TOLERANCE = 0.02


class Alpha:
    """The image's own alpha channel."""

    def __call__(self, request: SegmentationRequest) -> Segmentation:
        """The opacity of a request's window; ``no_alpha`` where the image has none.

        Raises:
            nerfgen.image.UnreadableImageError: the image can't be decoded.
        """
        alpha = request.image.alpha
        if alpha is None:
            return Segmentation("no_alpha")
        scale = request.image.pixels()[1][0]
        window = [value * scale for value in request.window]
        raster, valid = resample_window(alpha[..., None], window, request.size)
        return Segmentation("ok", np.where(valid, raster[..., 0], 0))


class MaskFiles:
    """Mask files in a folder: for ``a/b.jpg`` the file ``a/b.png``, ``a/b.jpg.png`` or ``a/b_mask.png``.

    They may have any image format. A mask is the file's alpha channel if that is not constant, else its grey value.
    With a category, the file is a label image, and the mask is where it has that label.

    Args:
        folder: where the masks are.
        category: label of the foreground.

    Raises:
        InputError: there is no such folder, or the category is not a number.
    """

    def __init__(self, folder: Path, category: str | None = None) -> None:
        if not folder.is_dir():
            raise InputError(f"{folder} is not a folder; give the folder that holds the masks")
        if category is not None and not category.isdecimal():
            raise InputError(
                f"`category` of mask files is the label of the foreground, a number from 0 to 65535, not {category!r}"
            )
        self._folder = folder
        self._label = None if category is None else int(category)

    def __call__(self, request: SegmentationRequest) -> Segmentation:
        """The mask of a request's window: ``no_mask`` without a file, ``bad_mask`` if the file can't be used.

        Raises:
            nerfgen.image.UnreadableImageError: the image can't be decoded.
        """
        width, height = request.image.size
        file = mask_file(self._folder, request.path)
        if file is None:
            return Segmentation("no_mask")
        try:
            mask = read_mask(file) if self._label is None else _labelled(file, self._label)
        except UnreadableImageError as error:
            return Segmentation("bad_mask", reason=f"mask: {error.reason}")
        rows, columns = mask.shape
        if abs(columns * height / (rows * width) - 1) > _ASPECT_TOLERANCE + 1 / min(rows, columns):
            return Segmentation("bad_mask")
        x0, y0, side = request.window
        scale_x, scale_y = columns / width, rows / height
        raster, valid = resample_window(
            mask[..., None], (x0 * scale_x, y0 * scale_y, side * scale_x), request.size
        )
        return Segmentation("ok", np.where(valid, raster[..., 0], 0))


def mask_file(folder: Path, path: str) -> InputImage | None:
    """The file in ``folder`` with the mask of the image ``path``; None if there is none."""
    image = PurePosixPath(path)
    for stem in (image.name, image.stem, f"{image.stem}_mask"):
        for suffix in _SUFFIXES:
            name = (image.parent / f"{stem}.{suffix}").as_posix()
            if (folder / name).is_file():
                return InputImage(name, folder)
    return None


def mask_digest(folder: Path, paths: Sequence[str]) -> str:
    """SHA-256 of the names and bytes of the mask files of the images ``paths``."""
    combined = hashlib.sha256()
    for path in paths:
        found = mask_file(folder, path)
        if found is not None:
            combined.update(f"{found.digest[1]}  {found.name}\n".encode())
    return combined.hexdigest()


def read_mask(image: InputImage) -> UInt8[np.ndarray, "height width"]:
    """A mask file as foreground from 0 to 255: its opacity if that varies, else grey. Values of 0 and 1 are scaled.

    Raises:
        nerfgen.image.UnreadableImageError: the file can't be decoded.
    """
    alpha = image.alpha
    if alpha is not None and alpha.min() < alpha.max():
        return alpha
    values = image.pixels()[0].max(axis=-1)
    return values * np.uint8(255) if values.max() == 1 else values


def _labelled(image: InputImage, label: int) -> UInt8[np.ndarray, "height width"]:
    """Where a label image (grey of 8 or 16 bits, or with a palette) has one of its labels."""
    return np.where(image.labels() == label, np.uint8(255), np.uint8(0))
