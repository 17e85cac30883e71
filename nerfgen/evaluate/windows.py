"""Photographs as pictures are compared with them: the windows that their objects were framed by, at any size."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8

from nerfgen.field import Model
from nerfgen.parallel import map_threads
from nerfgen.photo import UnreadableImageError, decode, digest_images, resample_window


def windows_of(
    files: Sequence[Path], windows: Float[np.ndarray, "images 3"], size: int
) -> tuple[UInt8[np.ndarray, "images size size 3"], Bool[np.ndarray, "images size size"]]:
    """The window of every photograph, and where it lies on the photograph: nowhere, if that can't be read.

    Args:
        windows: (x0, y0, side) in pixels of the photographs.
        size: edge of the pictures, pixels.
    """

    def framed(number: int) -> tuple[np.ndarray, np.ndarray]:
        try:
            return resample_window(decode(files[number]), windows[number], size)
        except UnreadableImageError:
            return np.zeros((size, size, 3), np.uint8), np.zeros((size, size), bool)

    found = list(map_threads(framed, range(len(files))))
    return np.stack([rgb for rgb, _ in found]), np.stack([valid for _, valid in found])


def training_windows(
    model: Model, data: Path, rows: Int[np.ndarray, "rows"]
) -> tuple[UInt8[np.ndarray, "rows size size 3"], Bool[np.ndarray, "rows size size"]]:
    """:func:`windows_of` the rows' photographs at the model's size; nowhere, if one is not as it was trained on.

    Args:
        data: folder of the photographs.
    """
    names = [model.images[row] for row in rows]
    photographs, valid = windows_of([data / name for name in names], model.window[rows], model.size)
    digests = [digest for _, digest in digest_images(data, names)]
    same = np.array([digest == model.digests[row] for digest, row in zip(digests, rows, strict=True)])
    return photographs, valid & same[:, None, None]
