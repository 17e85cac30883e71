"""The density of an object on a grid of points: sampled, looked up, tidied."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float

# Density per world unit and colour in [0, 1] at world points.
Field = Callable[
    [Float[np.ndarray, "points 3"]], tuple[Float[np.ndarray, "points"], Float[np.ndarray, "points 3"]]
]

# Points of the grid at a time: bounds the memory, whatever the resolution.
_POINTS = 1 << 18


@dataclass(frozen=True)
class DensityGrid:
    """Densities at the points of a regular grid.

    Attributes:
        density: per world unit; axes x, y, z.
        first: world place of the first point.
        spacing: between neighbours along x, y and z, world units.
    """

    density: Float[np.ndarray, "x y z"]
    first: Float[np.ndarray, "3"]
    spacing: Float[np.ndarray, "3"]

    @property
    def last(self) -> Float[np.ndarray, "3"]:
        """World place of the last point."""
        return self.first + self.spacing * (np.array(self.density.shape) - 1)

    def at(self, points: Float[np.ndarray, "*points 3"]) -> Float[np.ndarray, "*points"]:
        """Trilinear density at world points; beyond the grid, that of its edge."""
        from scipy.ndimage import map_coordinates

        places = np.moveaxis((points - self.first) / self.spacing, -1, 0)
        return map_coordinates(self.density, places, order=1, mode="nearest")

    def gradient(self, points: Float[np.ndarray, "points 3"], step: float) -> Float[np.ndarray, "points 3"]:
        """Of the density at world points, from differences over ``step`` to either side."""
        sides = step * np.eye(3)
        slopes = [(self.at(points + side) - self.at(points - side)) / (2 * step) for side in sides]
        return np.stack(slopes, axis=-1)

    def enclosed(self) -> DensityGrid:
        """With one more point on every side, where there is no density: every isosurface is closed."""
        return replace(self, density=np.pad(self.density, 1), first=self.first - self.spacing)


def sample_density(field: Field, half: tuple[float, float, float], resolution: int) -> DensityGrid:
    """Densities in the box [-half, half], its faces included.

    Args:
        half: half edges x, y, z of the box, world units.
        resolution: cells along the longest edge; along the others in proportion, rounded up.
    """
    edges = np.array(half)
    cells = np.ceil(resolution * edges / edges.max() - 1e-9).astype(int)
    # Ends that are exactly those of the box: a hair beyond it there is no density.
    axes = [np.linspace(-1, 1, count + 1) * edge for count, edge in zip(cells, edges, strict=True)]
    shape = tuple(len(axis) for axis in axes)
    density = np.zeros(np.prod(shape), np.float32)
    for start in range(0, len(density), _POINTS):
        places = np.unravel_index(np.arange(start, min(start + _POINTS, len(density))), shape)
        points = np.stack([axis[place] for axis, place in zip(axes, places, strict=True)], axis=-1)
        density[start : start + _POINTS] = field(points)[0]
    return DensityGrid(density.reshape(shape), -edges, 2 * edges / cells)


def solid(grid: DensityGrid, level: float, *, largest: bool) -> tuple[DensityGrid, int]:
    """The grid without cavities, which no camera can have seen, and the number of its separate parts.

    A part is a set of points above the level that are joined along the axes.

    Args:
        largest: keep the part of most points alone.
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
