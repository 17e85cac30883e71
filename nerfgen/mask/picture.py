"""Masks over their images, as a picture for people."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from nerfgen import artifact
from nerfgen.photo import UnreadableImageError, decode, resample_window
from nerfgen.picture import contact_sheet, save_picture, tint_mask

_SIDE = 192


def mask_picture(data: Path, masks: Path, picture: Path, count: int = 24) -> None:
    """Write a contact sheet of framed images spread evenly over the folder, their background tinted.

    An image without a mask is shown whole and grey.

    Raises:
        InputError: ``masks`` is no ``masks/1`` file, or the picture's suffix no image format.
    """
    cells = []
    with artifact.reading(masks, "masks/1", made_by=f"nerfgen segment {data}") as file:
        paths = artifact.strings(file["image"])
        for row in np.unique(np.linspace(0, len(paths) - 1, min(count, len(paths))).astype(int)):
            window, mask = file["mask_window"][row], file["mask"][row]
            try:
                image = decode(data / paths[row])
            except UnreadableImageError:
                cells.append(np.full((_SIDE, _SIDE, 3), 96, np.uint8))
                continue
            if np.isfinite(window).all():
                cell, _ = resample_window(image, window, _SIDE)
                shown, _ = resample_window(mask[..., None], (0, 0, len(mask)), _SIDE)
                cells.append(tint_mask(cell, shown[..., 0]))
            else:
                side = float(max(image.shape[:2]))
                corner = (image.shape[1] - side) / 2, (image.shape[0] - side) / 2
                cell, valid = resample_window(image, (*corner, side), _SIDE)
                grey = (cell.mean(axis=-1, keepdims=True) * valid[..., None]).astype(np.uint8)
                cells.append(np.repeat(grey, 3, axis=-1))
    save_picture(picture, contact_sheet(cells))
