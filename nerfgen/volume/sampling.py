"""Sample placement along rays: ray bounds, stratified sampling, sampling by occupancy."""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Shaped

# Fraction of the samples that is uniform whatever the occupancy, so that no region is ever left out.
UNIFORM_FRACTION = 0.05
PROBES = 48

# Half extents of the rendered box about the origin, world units: one number for a cube, or x, y and z.
HalfExtents = float | tuple[float, float, float]


class Samples(NamedTuple):
    """Distances t_i from the ray's origin and the lengths delta_i that they represent, world units."""

    distances: Float[Array, "*rays samples"]
    spacings: Float[Array, "*rays samples"]


def box_bounds(
    origins: Float[Array, "*rays 3"], directions: Float[Array, "*rays 3"], half: HalfExtents
) -> tuple[Float[Array, "*rays"], Float[Array, "*rays"]]:
    """Entry and exit distance of rays through the box [-half, half] about the origin; equal where a ray misses."""
    edges = box_corner(half, origins.ndim)
    safe = jnp.where(jnp.abs(directions) < 1e-9, 1e-9, directions)
    first, second = (-edges - origins) / safe, (edges - origins) / safe
    near = jnp.maximum(jnp.max(jnp.minimum(first, second), axis=-1), 0.0)
    far = jnp.min(jnp.maximum(first, second), axis=-1)
    return near, jnp.maximum(near, far)


def stratified_samples(
    key: Array | None, near: Float[Array, "*rays"], far: Float[Array, "*rays"], count: int
) -> Samples:
    """One sample in each of ``count`` equal intervals: at random, or in the middle if ``key`` is None."""
    offset = _offsets(key, (*near.shape, count))
    fractions = (along_last_axis(jnp.arange(count), offset.ndim) + offset) / count
    length = far - near
    distances = near[..., None] + length[..., None] * fractions
    return Samples(distances, jnp.broadcast_to((length / count)[..., None], distances.shape))


def occupancy_samples(
    key: Array | None,
    origins: Float[Array, "*rays 3"],
    directions: Float[Array, "*rays 3"],
    near: Float[Array, "*rays"],
    far: Float[Array, "*rays"],
    occupancy: Float[Array, "grid grid grid"],
    half: HalfExtents,
    count: int,
) -> Samples:
    """Samples drawn from the occupancy along the ray, stratified in its cumulative distribution.

    The occupancy is evaluated in the middle of ``PROBES`` equal bins. The spacing of a sample is
    1 / (count * pdf): the sum of density * spacing is then an unbiased estimate of the optical depth.
    """
    probes = along_last_axis((jnp.arange(PROBES) + 0.5) / PROBES, near.ndim + 1)
    middles = near[..., None] + (far - near)[..., None] * probes
    points = origins[..., None, :] + middles[..., None] * directions[..., None, :]
    density = sample_grid(occupancy, points, half)
    density = density + 1e-4
    fraction = density / jnp.sum(density, axis=-1, keepdims=True)
    fraction = (1 - UNIFORM_FRACTION) * fraction + UNIFORM_FRACTION / PROBES
    cumulative = jnp.cumsum(fraction, axis=-1)
    quantiles = along_last_axis(jnp.arange(count), near.ndim + 1) + _offsets(key, (*near.shape, count))
    quantiles = quantiles / count
    quantiles = quantiles * cumulative[..., -1:]
    # Counting the bins that end below beats a binary search: no gathers, and it fuses.
    bins = jnp.sum(quantiles[..., None] >= cumulative[..., None, :], axis=-1)
    bins = jnp.minimum(bins, PROBES - 1)
    in_bin, ends = take_along_rays(fraction, bins), take_along_rays(cumulative, bins)
    within = jnp.clip((quantiles - (ends - in_bin)) / in_bin, 0.0, 1.0)
    width = ((far - near) / PROBES)[..., None]
    return Samples(near[..., None] + width * (bins + within), width / (count * in_bin))


def sample_grid(
    grid: Float[Array, "grid grid grid"], points: Float[Array, "*points 3"], half: HalfExtents
) -> Float[Array, "*points"]:
    """Value of the grid's cell that holds each world point; the grid spans the box [-half, half], axes x, y, z."""
    size = grid.shape[0]
    cell = jnp.floor((points / box_corner(half, points.ndim) + 1.0) * (0.5 * size))
    cell = jnp.clip(cell, 0, size - 1).astype(jnp.int32)
    return jnp.asarray(
        jax.lax.platform_dependent(grid, cell, tpu=_cells_by_products, default=_cells_by_gathers)
    )


def take_along_rays(
    values: Float[Array, "*rays bins"], bins: Int[Array, "*rays samples"]
) -> Float[Array, "*rays samples"]:
    """``take_along_axis`` of the last axis."""

    def by_gathers(values: Array, bins: Array) -> Array:
        return jnp.take_along_axis(values, bins, axis=-1)

    def by_sums(values: Array, bins: Array) -> Array:
        chosen = bins[..., None] == along_last_axis(jnp.arange(values.shape[-1]), bins.ndim + 1)
        return jnp.sum(jnp.where(chosen, values[..., None, :], 0.0), axis=-1)

    return jnp.asarray(jax.lax.platform_dependent(values, bins, tpu=by_sums, default=by_gathers))


def _cells_by_gathers(grid: Array, cell: Array) -> Array:
    size = grid.shape[0]
    return grid.reshape(-1)[(cell[..., 0] * size + cell[..., 1]) * size + cell[..., 2]]


def _cells_by_products(grid: Array, cell: Array) -> Array:
    """By a product with the rows of x that points are in, for TPUs: they gather single numbers one by one."""
    size = grid.shape[0]
    x, y, z = (cell[..., axis].reshape(-1, 1) for axis in range(3))
    in_x = (x == jnp.arange(size)[None]).astype(grid.dtype)
    planes = jnp.dot(in_x, grid.reshape(size, -1), precision=jax.lax.Precision.HIGHEST)
    in_plane = y * size + z == jnp.arange(size**2)[None]
    return jnp.sum(jnp.where(in_plane, planes, 0.0), axis=-1).reshape(cell.shape[:-1])


def box_corner(half: HalfExtents, rank: int) -> Float[Array, "..."]:
    """The half extents, to be computed with arrays of ``rank`` axes whose last is x, y, z."""
    corner = jnp.asarray(half)
    return along_last_axis(corner, rank) if corner.ndim else corner


def along_last_axis(values: Shaped[Array, "count"], rank: int) -> Shaped[Array, "... count"]:
    """The values as an array of ``rank`` axes, all but the last of length 1."""
    return jnp.expand_dims(values, tuple(range(rank - 1)))


def _offsets(key: Array | None, shape: tuple[int, ...]) -> Array:
    """Position of each sample in its interval, in [0, 1).

    With one key per image, the samples of an image are independent of the rest of the batch.
    """
    if key is None:
        return jnp.full(shape, 0.5)
    draw = partial(jax.random.uniform, shape=shape[key.ndim :])
    return jax.vmap(draw)(key) if key.ndim else draw(key)
