"""What the estimator found, as a picture for people."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from nerfgen import artifact
from nerfgen.photo import UnreadableImageError, decode, resample_window
from nerfgen.picture import contact_sheet, draw_points, save_picture
from nerfgen.picture.draw import GREEN, RED

_SIDE = 192


def landmark_picture(data: Path, landmarks: Path, picture: Path, count: int = 24) -> None:
    """Write a contact sheet of images spread evenly over the folder, with their points.

    An image with landmarks is shown framed around its object, any other one whole.

    Raises:
        InputError: ``landmarks`` is no ``landmarks/1`` file, or the picture's suffix no image format.
    """
    with artifact.reading(landmarks, "landmarks/1", made_by=f"nerfgen landmark {data}") as file:
        paths = artifact.strings(file["image"])
        rows = np.unique(np.linspace(0, len(paths) - 1, min(count, len(paths))).astype(int))
        points = file["landmarks"][rows]
        # HDF5 can't choose among rows that hold nothing: trained estimators have no mesh.
        has_mesh = "mesh" in file and file["mesh"].shape[1] > 0
        meshes = file["mesh"][rows] if has_mesh else np.empty((len(rows), 0, 3))
    cells = []
    for row, named, mesh in zip(rows, points, meshes, strict=True):
        try:
            image = decode(data / paths[row])
        except UnreadableImageError:
            cells.append(np.full((_SIDE, _SIDE, 3), 96, np.uint8))
            continue
        height, width = image.shape[:2]
        side = float(max(height, width))
        x0, y0 = (width - side) / 2, (height - side) / 2
        if np.isfinite(named).all():
            extent = mesh[:, :2] if len(mesh) else named
            middle = (extent.min(axis=0) + extent.max(axis=0)) / 2
            side = 2.0 * float(np.ptp(extent, axis=0).max())
            x0, y0 = middle - side / 2
        cell, valid = resample_window(image, (x0, y0, side), _SIDE)
        cell = np.where(valid[..., None], cell, 255).astype(np.uint8)
        scale = _SIDE / side
        cell = draw_points(cell, (mesh[:, :2] - (x0, y0)) * scale, GREEN, 0.6)
        cells.append(draw_points(cell, (named - (x0, y0)) * scale, RED, 2.5))
    save_picture(picture, contact_sheet(cells))
