"""Masks back in their photographs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import h5py
import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image

from nerfgen import artifact
from nerfgen.parallel import Progress, map_ordered, silent


def mask_in_photo(
    mask: UInt8[np.ndarray, "size size"],
    window: Sequence[float] | Float[np.ndarray, " 3"],
    image_size: tuple[int, int],
) -> UInt8[np.ndarray, "height width"]:
    """A window's mask as a mask of the whole photograph; 0 outside of the window.

    Args:
        window: (x0, y0, side) of the mask in the photograph's pixels.
        image_size: width and height of the photograph.
    """
    x0, y0, side = (float(value) for value in window)
    whole = np.zeros((image_size[1], image_size[0]), np.uint8)
    left, right = max(math.floor(x0), 0), min(math.ceil(x0 + side), image_size[0])
    top, bottom = max(math.floor(y0), 0), min(math.ceil(y0 + side), image_size[1])
    if left >= right or top >= bottom:
        return whole
    step = len(mask) / side  # mask pixels a photograph's pixel
    margin = math.ceil(step) + 1  # photograph's pixels that the window's edge cuts reach so far outside
    padded = Image.fromarray(np.pad(mask, margin))
    box = (
        (left - x0) * step + margin,
        (top - y0) * step + margin,
        (right - x0) * step + margin,
        (bottom - y0) * step + margin,
    )
    placed = padded.resize((right - left, bottom - top), Image.Resampling.BILINEAR, box)
    whole[top:bottom, left:right] = np.asarray(placed)
    return whole


def write_photo_masks(masks: Path, folder: Path, *, workers: int = 0, progress: Progress = silent) -> int:
    """Write every usable mask of a ``masks/1`` file as a grey PNG of its photograph's size.

    The mask of ``a/b.jpg`` becomes ``folder/a/b.jpg.png``. Returns how many were written.

    Raises:
        InputError: ``masks`` is no such file.
    """
    with artifact.reading(masks, "masks/1", made_by="nerfgen segment DATA") as file:
        paths = artifact.strings(file["image"])
        chosen = np.flatnonzero(artifact.usable(artifact.strings(file["status"])))
    items = [(str(masks), int(row), str(folder / f"{paths[row]}.png")) for row in chosen]
    return sum(1 for _ in map_ordered(_write, items, workers=workers, progress=progress))


def _write(item: tuple[str, int, str]) -> None:
    masks, row, path = item
    with h5py.File(masks, "r") as file:
        mask, window = file["mask"][row], file["mask_window"][row]
        width, height = (int(length) for length in file["image_size"][row])
    with artifact.atomic_path(Path(path)) as temporary:
        Image.fromarray(mask_in_photo(mask, window, (width, height))).save(temporary)
