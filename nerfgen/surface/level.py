"""The density whose isosurface is the surface that cameras see."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from nerfgen.geometry import Cameras, pixel_centers, pixel_rays
from nerfgen.surface.grid import DensityGrid

_PIXELS = 40


def visible_level(grid: DensityGrid, cameras: Cameras) -> float:
    """Median, over the rays of small pictures, of the density where the opacity of the ray passes one half.

    There volume rendering puts the surface: the integral of the density along the ray reaches log 2. Rays that never
    do have no part in it.

    Returns:
        Density per world unit; 0 if no ray becomes half opaque.
    """
    step = 0.5 * float(grid.spacing.min())
    reach = float(np.linalg.norm(np.maximum(-grid.first, grid.last)))
    found = [
        _at_half_opacity(grid, *pixel_rays(pixel_centers(_PIXELS), matrix, pose), reach, step)
        for matrix, pose in zip(cameras.matrices(_PIXELS), cameras.cam_to_world, strict=True)
    ]
    densities = np.concatenate(found)
    return float(np.median(densities)) if len(densities) else 0.0


def _at_half_opacity(
    grid: DensityGrid,
    origins: Float[np.ndarray, "rays 3"],
    directions: Float[np.ndarray, "rays 3"],
    reach: float,
    step: float,
) -> Float[np.ndarray, "opaque"]:
    """The density there, for the rays that become half opaque within ``reach`` of the world's origin."""
    nearest = -np.sum(origins * directions, axis=-1, keepdims=True)
    distances = nearest + np.arange(-reach, reach, step)
    points = origins[:, None] + distances[..., None] * directions[:, None]
    inside = ((points >= grid.first) & (points <= grid.last)).all(-1) & (distances > 0)
    density = np.zeros(inside.shape, np.float32)
    density[inside] = grid.at(points[inside])
    reached = np.cumsum(density, axis=1) * step >= np.log(2)
    opaque = np.flatnonzero(reached[:, -1])
    return density[opaque, reached[opaque].argmax(axis=1)]
