"""Masks that exist already as image files."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from nerfgen.artifact import file_digest
from nerfgen.errors import InputError
from nerfgen.mask.segmenter import Scene, Segmentation
from nerfgen.photo import EXTENSIONS, Photograph, UnreadableImageError, resample_window

_SUFFIXES = (*EXTENSIONS, *(extension.upper() for extension in EXTENSIONS))
# Photographs and masks of one shape may differ by rounding when one of them was reduced.
_SHAPE = 0.02


class Files:
    """Masks of a folder: of ``a/b.jpg`` the file ``a/b.png``, ``a/b.jpg.png`` or ``a/b_mask.png``, in any format.

    A mask is the file's alpha channel where that says something, else its grey value. With a category it is where
    the file's pixels have that number, as images of labels do.

    Args:
        folder: where the masks are.
        category: the number of what is foreground.

    Raises:
        InputError: ``folder`` is none, or the category no number.
    """

    def __init__(self, folder: Path, category: str | None = None) -> None:
        if not folder.is_dir():
            raise InputError(f"{folder} is not a folder; give the folder that holds the masks")
        if category is not None and not category.isdecimal():
            raise InputError(
                f"the category of masks in files is a number from 0 to 65535, not {category!r}: the label of the object"
            )
        self._folder = folder
        self._label = None if category is None else int(category)

    def __call__(self, scene: Scene) -> Segmentation:
        """The mask of a scene: ``no_mask`` without a file, ``bad_mask`` if it can't be used.

        Raises:
            nerfgen.photo.UnreadableImageError: the photograph can't be decoded.
        """
        width, height = scene.photo.size
        path = mask_file(self._folder, scene.path)
        if path is None:
            return Segmentation("no_mask")
        try:
            mask = _grey(path) if self._label is None else _labelled(path, self._label)
        except (OSError, UnreadableImageError):
            return Segmentation("bad_mask")
        rows, columns = mask.shape
        if abs(columns * height / (rows * width) - 1) > _SHAPE + 1 / min(rows, columns):
            return Segmentation("bad_mask")
        x0, y0, side = scene.window
        scale_x, scale_y = columns / width, rows / height
        raster, valid = resample_window(
            mask[..., None], (x0 * scale_x, y0 * scale_y, side * scale_x), scene.size
        )
        return Segmentation("ok", np.where(valid, raster[..., 0], 0))


def mask_file(folder: Path, path: str) -> Path | None:
    """The file in ``folder`` with the mask of the photograph ``path``; None if there is none."""
    photo = PurePosixPath(path)
    for stem in (photo.name, photo.stem, f"{photo.stem}_mask"):
        for suffix in _SUFFIXES:
            candidate = folder / photo.parent / f"{stem}.{suffix}"
            if candidate.is_file():
                return candidate
    return None


def mask_digest(folder: Path, paths: Sequence[str]) -> str:
    """SHA-256 of the names and bytes of all masks of the photographs ``paths``."""
    combined = hashlib.sha256()
    for path in paths:
        found = mask_file(folder, path)
        if found is not None:
            combined.update(f"{file_digest(found)[1]}  {found.relative_to(folder).as_posix()}\n".encode())
    return combined.hexdigest()


def _grey(path: Path) -> UInt8[np.ndarray, "height width"]:
    """A mask of 0 to 255: opacity, or grey. Files of 0 and 1 are stretched."""
    photo = Photograph(path)
    alpha = photo.alpha
    if alpha is not None and alpha.min() < alpha.max():
        return alpha
    values = photo.pixels()[0].max(axis=-1)
    return values * np.uint8(255) if values.max() == 1 else values


def _labelled(path: Path, label: int) -> UInt8[np.ndarray, "height width"]:
    """Where an image of labels (grey of 8 or 16 bits, or with a palette) has one of them."""
    with Image.open(path) as image:
        values = np.asarray(image)
    if values.ndim == 3:
        values = values[..., 0]
    return np.where(values == label, np.uint8(255), np.uint8(0))
