"""The density whose isosurface is the surface that cameras see."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float

from nerfgen.geometry import Cameras, pixel_centers, pixel_rays
from nerfgen.surface.grid import DensityGrid

_PIXELS = 40
_QUANTILES = np.linspace(0.02, 0.98, 33)
# A surface that lies farther off than this share of the box's longest edge is as wrong as none.
_WRONG = 0.02


def visible_level(grid: DensityGrid, cameras: Cameras) -> float:
    """The density whose isosurface agrees best with what volume rendering shows.

    Rendering shows the surface at the distance t_i where the opacity of ray i passes one half: there the integral of
    the density along the ray reaches log 2. Let s_i be the first distance at which the density reaches a level. The
    level has the least mean over the rays of small pictures of min(|t_i - s_i|, c), with c for rays on which only one
    of the two exists. Candidates are quantiles of the densities at t_i.

    Returns:
        Density per world unit; 0 if no ray becomes half opaque.
    """
    step = 0.5 * float(grid.spacing.min())
    density = np.concatenate(
        [
            _along_rays(grid, *pixel_rays(pixel_centers(_PIXELS), matrix, pose), step)
            for matrix, pose in zip(cameras.matrices(_PIXELS), cameras.cam_to_world, strict=True)
        ]
    )
    # The integral up to each sample, by the trapezoidal rule.
    depth = (np.cumsum(density, axis=1) - 0.5 * density) * step
    seen, visible = _first(np.maximum.accumulate(depth, axis=1), np.log(2))
    if not seen.any():
        return 0.0
    rising = np.maximum.accumulate(density, axis=1)
    wrong = _WRONG * float((grid.last - grid.first).max()) / step

    def disagreement(level: float) -> float:
        met, surface = _first(rising, level)
        apart = np.where(seen & met, np.minimum(np.abs(surface - visible), wrong), wrong)
        return float(np.where(seen | met, apart, 0.0).mean())

    before = visible[seen].astype(int)
    share = visible[seen] - before
    after = np.minimum(before + 1, density.shape[1] - 1)
    there = density[seen, before] * (1 - share) + density[seen, after] * share
    return float(min(np.unique(np.quantile(there, _QUANTILES)), key=disagreement))


def _along_rays(
    grid: DensityGrid,
    origins: Float[np.ndarray, "rays 3"],
    directions: Float[np.ndarray, "rays 3"],
    step: float,
) -> Float[np.ndarray, "rays samples"]:
    """Densities at equal steps along rays, within the sphere about the world's origin that holds the grid."""
    reach = float(np.linalg.norm(np.maximum(-grid.first, grid.last)))
    nearest = -np.sum(origins * directions, axis=-1, keepdims=True)
    distances = nearest + np.arange(-reach, reach, step)
    points = origins[:, None] + distances[..., None] * directions[:, None]
    inside = ((points >= grid.first) & (points <= grid.last)).all(-1) & (distances > 0)
    density = np.zeros(inside.shape, np.float32)
    density[inside] = grid.at(points[inside])
    return density


def _first(
    rising: Float[np.ndarray, "rays samples"], threshold: float
) -> tuple[Bool[np.ndarray, "rays"], Float[np.ndarray, "rays"]]:
    """Whether, and between which samples, values that rise along each ray reach a threshold."""
    reached = rising >= threshold
    rays, after = np.arange(len(rising)), reached.argmax(axis=1)
    before = np.maximum(after - 1, 0)
    low, high = rising[rays, before], rising[rays, after]
    share = (threshold - low) / np.where(high > low, high - low, 1.0)
    return reached[:, -1], before + share.clip(0, 1)
