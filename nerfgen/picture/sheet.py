"""Several images in one."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import UInt8

_GAP = 2


def contact_sheet(
    images: Sequence[UInt8[np.ndarray, "_ _ 3"]], columns: int = 0
) -> UInt8[np.ndarray, "height width 3"]:
    """Images in rows on white, each in the middle of a cell as large as the largest.

    Args:
        columns: images a row; 0 for about as many as rows.

    Raises:
        ValueError: no images.
    """
    if not images:
        raise ValueError("a contact sheet needs at least one image")
    columns = columns or math.ceil(math.sqrt(len(images)))
    rows = math.ceil(len(images) / columns)
    cell_height = max(image.shape[0] for image in images) + _GAP
    cell_width = max(image.shape[1] for image in images) + _GAP
    sheet = np.full(
        (rows * cell_height - _GAP, min(columns, len(images)) * cell_width - _GAP, 3), 255, np.uint8
    )
    for index, image in enumerate(images):
        row, column = divmod(index, columns)
        height, width = image.shape[:2]
        top = row * cell_height + (cell_height - _GAP - height) // 2
        left = column * cell_width + (cell_width - _GAP - width) // 2
        sheet[top : top + height, left : left + width] = image
    return sheet
