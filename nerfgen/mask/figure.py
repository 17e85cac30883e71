"""Masks as images: a contact sheet, and masks of whole images."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import h5py
import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image

from nerfgen import storage
from nerfgen.image import (
    ImageFolder,
    InputImage,
    UnreadableImageError,
    contact_sheet,
    resample_window,
    save_image,
    tint_mask,
)
from nerfgen.parallel import Progress, map_ordered, silent
from nerfgen.untrusted import safe_relative_path

_CELL_SIZE = 192


def mask_figure(data: ImageFolder, masks: Path, figure: Path, count: int = 24) -> None:
    """Write a contact sheet of evenly spaced images of a folder in their windows, with the background tinted.

    Images without a mask are shown whole and grey.

    Raises:
        InputError: ``masks`` is not a ``masks/1`` file, or the figure's suffix names no image format.
    """
    cells = []
    with storage.reading(masks, "masks/1", made_by=f"nerfgen segment {data}") as file:
        paths = storage.strings(file["image"])
        for row in np.unique(np.linspace(0, len(paths) - 1, min(count, len(paths))).astype(int)):
            window, mask = file["mask_window"][row], file["mask"][row]
            image = InputImage(paths[row], data)
            try:
                width, height = image.size
                side = float(max(width, height))
                framed = np.isfinite(window).all()
                place = window if framed else ((width - side) / 2, (height - side) / 2, side)
                cell, valid = image.resample(place, _CELL_SIZE)
            except UnreadableImageError:
                cells.append(np.full((_CELL_SIZE, _CELL_SIZE, 3), 96, np.uint8))
                continue
            if framed:
                shown, _ = resample_window(mask[..., None], (0, 0, len(mask)), _CELL_SIZE)
                cells.append(tint_mask(cell, shown[..., 0]))
            else:
                grey = (cell.mean(axis=-1, keepdims=True) * valid[..., None]).astype(np.uint8)
                cells.append(np.repeat(grey, 3, axis=-1))
    save_image(figure, contact_sheet(cells), figure=True)


def whole_image_mask(
    mask: UInt8[np.ndarray, "size size"],
    window: Sequence[float] | Float[np.ndarray, " 3"],
    image_size: tuple[int, int],
) -> UInt8[np.ndarray, "height width"]:
    """The mask of a window, resampled to the whole image; 0 outside the window.

    Args:
        window: (x0, y0, side) of the mask in the image's pixels.
        image_size: width and height of the image.
    """
    x0, y0, side = (float(value) for value in window)
    whole = np.zeros((image_size[1], image_size[0]), np.uint8)
    left, right = max(math.floor(x0), 0), min(math.ceil(x0 + side), image_size[0])
    top, bottom = max(math.floor(y0), 0), min(math.ceil(y0 + side), image_size[1])
    if left >= right or top >= bottom:
        return whole
    if side < 1:  # of less than a pixel only the mean matters, and more values take much memory around them
        mask = np.array([[round(float(mask.mean()))]], np.uint8)
    step = len(mask) / side  # mask pixels per image pixel
    margin = math.ceil(step) + 1  # for image pixels that the window's border cuts
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


def write_png_masks(
    masks: Path, folder: Path, *, workers: int | None = None, progress: Progress = silent
) -> int:
    """Write every usable mask of a ``masks/1`` file as a grey PNG of its image's size.

    The mask of ``a/b.jpg`` becomes ``folder/a/b.jpg.png``; a name that is too long for file systems ends in its digest.
    Returns how many were written.

    Raises:
        InputError: ``masks`` is no such file, or has an unsafe name.
    """
    with storage.reading(masks, "masks/1", made_by="nerfgen segment DATA") as file:
        images = storage.strings(file["image"])
        chosen = np.flatnonzero(storage.usable(storage.strings(file["status"])))
    names = [safe_relative_path(images[row], masks) for row in chosen]
    paths = [folder / name for name in names]
    places = [path.with_name(storage.short_name(path.name, ".png")) for path in paths]
    for parent in {place.parent for place in places}:
        storage.remove_abandoned(parent, "*", ".png")
    items = [(str(masks), int(row), str(place)) for row, place in zip(chosen, places, strict=True)]
    return sum(1 for _ in map_ordered(_write, items, workers=workers, progress=progress))


def _write(item: tuple[str, int, str]) -> None:
    masks, row, path = item
    # Checked once by the caller; a worker only reads.
    with storage.hdf5_errors(Path(masks)), h5py.File(masks, "r", locking=False) as file:
        mask, window = file["mask"][row], file["mask_window"][row]
        width, height = (int(length) for length in file["image_size"][row])
    save_image(Path(path), whole_image_mask(mask, window, (width, height)), figure=True, tidy=False)
