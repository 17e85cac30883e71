"""Masks back in their photographs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from nerfgen import artifact
from nerfgen.parallel import Progress, map_ordered, silent

_BLOCK = 64


def mask_in_photo(
    mask: UInt8[np.ndarray, "size size"], window: Sequence[float], image_size: tuple[int, int]
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
    written = 0
    with artifact.reading(masks, "masks/1", made_by="nerfgen segment DATA") as file:
        paths = artifact.strings(file["image"])
        chosen = np.flatnonzero(artifact.usable(artifact.strings(file["status"])))
        for start in range(0, len(chosen), _BLOCK):
            rows = chosen[start : start + _BLOCK]
            items = [
                (str(folder / f"{paths[row]}.png"), mask, tuple(window), (int(size[0]), int(size[1])))
                for row, mask, window, size in zip(
                    rows, file["mask"][rows], file["mask_window"][rows], file["image_size"][rows], strict=True
                )
            ]
            for _ in map_ordered(_write, items, workers=workers):
                written += 1
                progress(written, len(chosen))
    return written


def _write(item: tuple[str, np.ndarray, Sequence[float], tuple[int, int]]) -> None:
    path, mask, window, image_size = item
    with artifact.atomic_path(Path(path)) as temporary:
        Image.fromarray(mask_in_photo(mask, window, image_size)).save(temporary)
