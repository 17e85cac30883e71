"""Sphere tracing: where the rays of a raster first meet a surface that is given by its distance."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from nerfgen.synth.sdf import Distance, Triple, Values

# Points of one call of the distance: its temporaries fit the processor's cache.
_BLOCK = 8192
# Rays of a cone along each side.
_CELL = 4
_MOST_STEPS = 36
_MOST_CONE_STEPS = 14
# Blended and bent solids overstate the distance a little.
_STEP = 0.95


@dataclass(frozen=True)
class Raster:
    """The rays of a square grid, in the units and axes of the distance function.

    ``origin`` is the camera, ``right``, ``down`` and ``forward`` its unit axes; ``focal`` and
    ``center`` count the raster's own (sub)pixels.
    """

    origin: Float[np.ndarray, " 3"]
    right: Float[np.ndarray, " 3"]
    down: Float[np.ndarray, " 3"]
    forward: Float[np.ndarray, " 3"]
    focal: float
    center: tuple[float, float]
    size: int

    def directions(self, columns: Values, rows: Values) -> tuple[Values, Values, Values, Values]:
        """Unit directions (x, y, z) of the rays through grid points, and depth per unit of length."""
        u = ((columns - self.center[0]) / self.focal).astype(np.float32)
        v = ((rows - self.center[1]) / self.focal).astype(np.float32)
        per_length = 1.0 / np.sqrt(1.0 + u * u + v * v)
        x, y, z = (
            (float(self.forward[i]) + float(self.right[i]) * u + float(self.down[i]) * v) * per_length
            for i in range(3)
        )
        return x, y, z, per_length


@dataclass(frozen=True)
class Hits:
    """The rays that met the surface: flat index into the raster, points, directions and depth."""

    index: Int[np.ndarray, " points"]
    x: Values
    y: Values
    z: Values
    direction: tuple[Values, Values, Values]
    depth: Values


def trace(distance: Distance, raster: Raster, low: Triple, high: Triple) -> Hits:
    """First hits of all rays with the surface inside the box from ``low`` to ``high``.

    A four times coarser grid of cones goes first; the rays start where their cone first comes near
    the surface, and those of cones that pass it by are never marched.
    """
    cells = math.ceil(raster.size / _CELL)
    cell_rows, cell_columns = np.divmod(np.arange(cells * cells), cells)
    x, y, z, _ = raster.directions((cell_columns + 0.5) * _CELL, (cell_rows + 0.5) * _CELL)
    # Half a cell's diagonal at unit distance: every ray of the cell stays inside this cone.
    spread = _CELL * math.sqrt(0.5) / raster.focal
    near, far = _box_span(raster.origin, (x, y, z), low, high, widen=spread)
    start = _march(distance, raster.origin, (x, y, z), near, far, spread)

    reached = np.flatnonzero(np.isfinite(start))
    offset_rows, offset_columns = np.divmod(np.arange(_CELL * _CELL), _CELL)
    rows = (cell_rows[reached, None] * _CELL + offset_rows).ravel()
    columns = (cell_columns[reached, None] * _CELL + offset_columns).ravel()
    start = np.repeat(start[reached], _CELL * _CELL)
    inside = (rows < raster.size) & (columns < raster.size)
    rows, columns, start = rows[inside], columns[inside], start[inside]
    x, y, z, per_length = raster.directions(columns + 0.5, rows + 0.5)
    near, far = _box_span(raster.origin, (x, y, z), low, high)
    t = _march(distance, raster.origin, (x, y, z), np.maximum(start, near), far, 0.0, 0.25 / raster.focal)

    hit = np.flatnonzero(np.isfinite(t))
    t, x, y, z = t[hit], x[hit], y[hit], z[hit]
    ox, oy, oz = (float(value) for value in raster.origin)
    return Hits(
        index=rows[hit] * raster.size + columns[hit],
        x=ox + t * x,
        y=oy + t * y,
        z=oz + t * z,
        direction=(x, y, z),
        depth=t * per_length[hit],
    )


def _march(
    distance: Distance,
    origin: Float[np.ndarray, " 3"],
    direction: tuple[Values, Values, Values],
    near: Values,
    far: Values,
    spread: float,
    tolerance: float = 0.0,
) -> Values:
    """Distance along each ray at which it meets the surface; infinite where it doesn't.

    A cone of radius ``spread * t`` ends where it may touch the surface; a ray (``spread`` 0) where
    the surface is nearer than ``tolerance * t``.
    """
    result = np.full(near.shape, np.inf, np.float32)
    active = np.flatnonzero(near < far)
    ox, oy, oz = (float(value) for value in origin)
    t, end = near[active], far[active]
    x, y, z = (component[active] for component in direction)
    for _ in range(_MOST_CONE_STEPS if spread else _MOST_STEPS):
        if len(active) == 0:
            return result
        value = in_blocks(distance, ox + t * x, oy + t * y, oz + t * z)
        room = value - spread * t
        finished = room < (0.1 * spread + tolerance) * t
        result[active[finished]] = t[finished]
        # At least the width of a sample, because distances alone make tiny steps along a grazed surface.
        following = t + np.maximum(_STEP * room, 4.0 * tolerance * t)
        going = np.flatnonzero(~finished & (following < end))
        # Compaction: finished rays cost nothing from here on.
        active, t, end, room = active[going], following[going], end[going], room[going]
        x, y, z = x[going], y[going], z[going]
    # Steps ran out along a grazed surface: cones are left to their rays, rays end where they almost touch it.
    touching = room < (np.inf if spread else 16.0 * tolerance) * t
    result[active[touching]] = t[touching]
    return result


def in_blocks(distance: Distance, x: Values, y: Values, z: Values) -> Values:
    """``distance`` of many points, evaluated in blocks whose temporaries stay in the processor's cache."""
    if len(x) <= 1.5 * _BLOCK:
        return distance(x, y, z)
    parts = range(0, len(x), _BLOCK)
    return np.concatenate([distance(x[i : i + _BLOCK], y[i : i + _BLOCK], z[i : i + _BLOCK]) for i in parts])


def _box_span(
    origin: Float[np.ndarray, " 3"],
    direction: tuple[Values, Values, Values],
    low: Triple,
    high: Triple,
    widen: float = 0.0,
) -> tuple[Values, Values]:
    """Where rays enter and leave a box; entry exceeds exit for those that miss it.

    ``widen`` is the radius of a cone at unit distance: the box grows by the cone's radius beside it.
    """
    reach = 0.0
    if widen:
        corner = max(math.dist(tuple(origin), low), math.dist(tuple(origin), high))
        reach = 1.3 * widen * corner
    near = np.zeros_like(direction[0])
    far = np.full_like(direction[0], np.inf)
    for axis in range(3):
        slope = np.where(np.abs(direction[axis]) < 1e-6, np.float32(1e-6), direction[axis])
        first = (low[axis] - reach - float(origin[axis])) / slope
        second = (high[axis] + reach - float(origin[axis])) / slope
        near = np.maximum(near, np.minimum(first, second))
        far = np.minimum(far, np.maximum(first, second))
    return near, far
