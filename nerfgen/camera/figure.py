"""A contact sheet of fitted cameras."""

from __future__ import annotations

import contextlib
from pathlib import Path

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image, ImageDraw

from nerfgen import storage
from nerfgen.geometry import project
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

_SHOWN = 24
_SIZE = 192
# Side of a cell relative to that of the window.
_MARGIN = 1.25


def camera_figure(data: ImageFolder, landmarks: Path, cameras: Path, picture: Path) -> None:
    """Draw observed points (green), reprojected canonical keypoints (red) and windows of evenly chosen images."""
    with (
        storage.reading(landmarks, "landmarks/1") as seen,
        storage.reading(cameras, "cameras/1") as file,
    ):
        images, status = storage.strings(file["image"]), storage.strings(file["status"])
        rows = np.flatnonzero(storage.usable(status))
        rows = (
            rows[np.unique(np.linspace(0, len(rows) - 1, min(_SHOWN, len(rows))).astype(int))]
            if len(rows)
            else rows
        )
        at = storage.positions(images, storage.strings(seen["image"]))
        index, canonical = file["canonical_index"][:], file["canonical"][:]
        dense = len(index) != len(seen["landmark_names"])
        order = [list(seen["mesh_index"][:]).index(i) for i in index] if dense else index
        cells = []
        for row in rows:
            points = seen["mesh" if dense else "landmarks"][at[row]][order, :2]
            projected, _ = project(canonical, file["intrinsics"][row], file["cam_to_world"][row])
            image = InputImage(images[row], data)
            with contextlib.suppress(UnreadableImageError):
                cells.append(camera_cell(image, file["window"][row], points, projected))
    sheet = contact_sheet(cells or [np.full((_SIZE, _SIZE, 3), 255, np.uint8)])
    save_image(picture, sheet, figure=True)


def camera_cell(
    image: InputImage,
    window: Float[np.ndarray, "3"],
    points: Float[np.ndarray, "points 2"],
    projected: Float[np.ndarray, "points 2"],
) -> UInt8[np.ndarray, "size size 3"]:
    """An image around its window, with observed points (green) and reprojected canonical keypoints (red).

    Args:
        window, points, projected: pixels of the image.

    Raises:
        UnreadableImageError: the file can't be used as an image.
    """
    side = window[2] * _MARGIN
    corner = window[:2] - (side - window[2]) / 2
    raster, _ = image.resample((*corner, side), _SIZE)
    scale = _SIZE / side
    radius = 2.5 if len(points) < 20 else 0.8
    raster = draw_points(raster, (points - corner) * scale, GREEN, radius)
    picture = Image.fromarray(draw_points(raster, (projected - corner) * scale, RED, radius))
    corners = (window[:2] - corner) * scale
    ImageDraw.Draw(picture).rectangle((*corners, *(corners + window[2] * scale - 1)), outline=(255, 255, 255))
    return np.asarray(picture)
