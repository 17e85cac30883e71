"""Figures of landmarks: those found in a folder, and those of held-out images."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import UInt8

from nerfgen import storage
from nerfgen.image import (
    GREEN,
    RED,
    ImageFolder,
    InputImage,
    UnreadableImageError,
    contact_sheet,
    draw_points,
    save_image,
)

if TYPE_CHECKING:
    from nerfgen.landmark.held_out import HeldOutErrors

_CELL_SIZE = 192
_HELD_OUT_SIZE = 128


def landmark_figure(data: ImageFolder, landmarks: Path, figure: Path, count: int = 24) -> None:
    """Write a contact sheet of evenly spaced images of a folder with their points.

    An image with landmarks is framed around its object; others are shown whole.

    Raises:
        InputError: ``landmarks`` is not a ``landmarks/1`` file, or the figure's suffix names no image format.
    """
    with storage.reading(landmarks, "landmarks/1", made_by=f"nerfgen landmark {data}") as file:
        paths = storage.strings(file["image"])
        rows = np.unique(np.linspace(0, len(paths) - 1, min(count, len(paths))).astype(int))
        points = file["landmarks"][rows]
        # Trained estimators have no mesh, and h5py can't select rows of empty datasets.
        has_mesh = "mesh" in file and file["mesh"].shape[1] > 0
        meshes = file["mesh"][rows] if has_mesh else np.empty((len(rows), 0, 3))
    cells = []
    for row, named, mesh in zip(rows, points, meshes, strict=True):
        image = InputImage(paths[row], data)
        try:
            width, height = image.size
            side = float(max(height, width))
            x0, y0 = (width - side) / 2, (height - side) / 2
            if np.isfinite(named).all():
                extent = mesh[:, :2] if len(mesh) else named
                center = (extent.min(axis=0) + extent.max(axis=0)) / 2
                side = 2.0 * float(np.ptp(extent, axis=0).max()) or side
                x0, y0 = center - side / 2
            cell, valid = image.resample((x0, y0, side), _CELL_SIZE)
        except UnreadableImageError:
            cells.append(np.full((_CELL_SIZE, _CELL_SIZE, 3), 96, np.uint8))
            continue
        cell = np.where(valid[..., None], cell, 255).astype(np.uint8)
        scale = _CELL_SIZE / side
        cell = draw_points(cell, (mesh[:, :2] - (x0, y0)) * scale, GREEN, 0.6)
        cells.append(draw_points(cell, (named - (x0, y0)) * scale, RED, 2.5))
    save_image(figure, contact_sheet(cells), figure=True)


def held_out_figure(result: HeldOutErrors, figure: Path, count: int = 36) -> None:
    """Write a contact sheet of evenly spaced held-out images: annotated points green, estimated ones red."""
    rows = np.unique(np.linspace(0, len(result.names) - 1, min(count, len(result.names))).astype(int))
    cells = [_held_out_cell(result, row) for row in rows]
    save_image(figure, contact_sheet(cells), figure=True)


def _held_out_cell(result: HeldOutErrors, row: int) -> UInt8[np.ndarray, "side side 3"]:
    low, high = np.nanmin(result.truth[row], axis=0), np.nanmax(result.truth[row], axis=0)
    side = 1.8 * max(float((high - low).max()), 1.0)
    corner = (low + high) / 2 - side / 2
    try:
        cell, _ = InputImage(result.paths[row]).resample((*corner, side), _HELD_OUT_SIZE)
    except UnreadableImageError:
        return np.full((_HELD_OUT_SIZE, _HELD_OUT_SIZE, 3), 96, np.uint8)
    for points, color in ((result.truth[row], GREEN), (result.points[row], RED)):
        cell = draw_points(cell, (points - corner) * (_HELD_OUT_SIZE / side), color, 1.8)
    return cell
