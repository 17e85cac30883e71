"""The density of an object on a regular grid: sampling, interpolation, removal of parts and cavities, visible level."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float

from nerfgen.geometry import Cameras, pixel_centers, pixel_rays
from nerfgen.memory import require_memory

# Density per world unit and colour in [0, 1] at world points.
Field = Callable[
    [Float[np.ndarray, "points 3"]], tuple[Float[np.ndarray, "points"], Float[np.ndarray, "points 3"]]
]

# Points evaluated at a time; bounds the memory at any resolution.
_POINTS = 1 << 18
# Of the density, and of the labels of its parts.
_BYTES_PER_POINT = 16


@dataclass(frozen=True)
class DensityGrid:
    """Densities at the points of a regular grid.

    Attributes:
        density: per world unit; axes x, y, z.
        first: world position of the first point.
        spacing: between neighbours along x, y and z, world units.
    """

    density: Float[np.ndarray, "x y z"]
    first: Float[np.ndarray, "3"]
    spacing: Float[np.ndarray, "3"]

    @property
    def last(self) -> Float[np.ndarray, "3"]:
        """World position of the last point."""
        return self.first + self.spacing * (np.array(self.density.shape) - 1)

    def at(self, points: Float[np.ndarray, "*points 3"]) -> Float[np.ndarray, "*points"]:
        """Trilinear density at world points; outside the grid, that of the nearest point of its boundary."""
        from scipy.ndimage import map_coordinates

        places = np.moveaxis((points - self.first) / self.spacing, -1, 0)
        return map_coordinates(self.density, places, order=1, mode="nearest")

    def gradient(self, points: Float[np.ndarray, "points 3"], step: float) -> Float[np.ndarray, "points 3"]:
        """Gradient of the density at world points, from differences over ``step`` to either side."""
        sides = step * np.eye(3)
        slopes = [(self.at(points + side) - self.at(points - side)) / (2 * step) for side in sides]
        return np.stack(slopes, axis=-1)

    def enclosed(self) -> DensityGrid:
        """The grid padded by empty points on every side, so that every isosurface is closed."""
        return replace(self, density=np.pad(self.density, 1), first=self.first - self.spacing)


def sample_density(field: Field, half: tuple[float, float, float], resolution: int) -> DensityGrid:
    """Densities in the box [-half, half], its faces included.

    Args:
        half: half sizes x, y, z of the box, world units.
        resolution: cells along the longest side; along the others in proportion, rounded up.
    """
    edges = np.array(half)
    cells = np.ceil(resolution * edges / edges.max() - 1e-9).astype(int)
    # The ends are exactly those of the box, because there is no density outside.
    axes = [np.linspace(-1, 1, count + 1) * edge for count, edge in zip(cells, edges, strict=True)]
    shape = tuple(len(axis) for axis in axes)
    total = math.prod(shape)
    require_memory(_BYTES_PER_POINT * total, f"`resolution` {resolution}: {total:,} points of a grid")
    density = np.zeros(total, np.float32)
    for start in range(0, len(density), _POINTS):
        places = np.unravel_index(np.arange(start, min(start + _POINTS, len(density))), shape)
        points = np.stack([axis[place] for axis, place in zip(axes, places, strict=True)], axis=-1)
        density[start : start + _POINTS] = field(points)[0]
    return DensityGrid(density.reshape(shape), -edges, 2 * edges / cells)


def solid(grid: DensityGrid, level: float, *, largest: bool) -> tuple[DensityGrid, int]:
    """The grid without cavities, which no camera can have seen, and the number of its separate parts.

    A part is a set of points above the level that are connected along the axes.

    Args:
        largest: keep only the part with the most points.
    """
    from scipy.ndimage import label

    parts, count = label(grid.density > level)
    density = grid.density
    if largest and count > 1:
        kept = 1 + np.bincount(parts.reshape(-1))[1:].argmax()
        density = np.where((parts == 0) | (parts == kept), density, np.float32(0))
    spaces, _ = label(np.pad(density <= level, 1, constant_values=True))
    cavity = (spaces != 0) & (spaces != spaces[0, 0, 0])
    filled = np.where(cavity[1:-1, 1:-1, 1:-1], np.float32(2 * level), density)
    return replace(grid, density=filled), count


_PIXELS = 40
_QUANTILES = np.linspace(0.02, 0.98, 33)
# Distances beyond this fraction of the box's longest side count like a missing surface.
_WRONG = 0.02


def visible_level(grid: DensityGrid, cameras: Cameras) -> float:
    """The density whose isosurface agrees best with what volume rendering shows.

    Rendering shows the surface at the distance t_i where the opacity of ray i passes one half: there the integral of
    the density along the ray reaches log 2. Let s_i be the first distance at which the density reaches a level. The
    level has the least mean, over the rays of small images, of min(|t_i - s_i|, c), with c for rays on which only one
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
    fraction = visible[seen] - before
    after = np.minimum(before + 1, density.shape[1] - 1)
    there = density[seen, before] * (1 - fraction) + density[seen, after] * fraction
    return float(min(np.unique(np.quantile(there, _QUANTILES)), key=disagreement))


def _along_rays(
    grid: DensityGrid,
    origins: Float[np.ndarray, "rays 3"],
    directions: Float[np.ndarray, "rays 3"],
    step: float,
) -> Float[np.ndarray, "rays samples"]:
    """Densities at equal steps along rays, within the sphere around the world origin that contains the grid."""
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
    """Whether values that increase along each ray reach a threshold, and at which fractional sample."""
    reached = rising >= threshold
    rays, after = np.arange(len(rising)), reached.argmax(axis=1)
    before = np.maximum(after - 1, 0)
    low, high = rising[rays, before], rising[rays, after]
    fraction = (threshold - low) / np.where(high > low, high - low, 1.0)
    return reached[:, -1], before + fraction.clip(0, 1)
