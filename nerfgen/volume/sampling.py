"""Where along a ray the field is asked: ray bounds, stratified and occupancy-guided samples."""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

# Share of the samples that is spread evenly whatever the occupancy says, so that nothing stays unseen.
UNIFORM_SHARE = 0.05
PROBES = 48

# Half edges of the box about the origin that is rendered, world units: one number for a cube, or x, y and z.
HalfEdges = float | tuple[float, float, float]


class Samples(NamedTuple):
    """Distances t_i from the ray's origin and the lengths delta_i that they stand for, world units."""

    distances: Float[Array, "*rays samples"]
    spacings: Float[Array, "*rays samples"]


def box_bounds(
    origins: Float[Array, "*rays 3"], directions: Float[Array, "*rays 3"], half: HalfEdges
) -> tuple[Float[Array, "*rays"], Float[Array, "*rays"]]:
    """Entry and exit distance of rays through the box [-half, half] about the origin; equal where a ray misses."""
    edges = jnp.asarray(half)
    safe = jnp.where(jnp.abs(directions) < 1e-9, 1e-9, directions)
    first, second = (-edges - origins) / safe, (edges - origins) / safe
    near = jnp.maximum(jnp.max(jnp.minimum(first, second), axis=-1), 0.0)
    far = jnp.min(jnp.maximum(first, second), axis=-1)
    return near, jnp.maximum(near, far)


def stratified(
    key: Array | None, near: Float[Array, "*rays"], far: Float[Array, "*rays"], count: int
) -> Samples:
    """One sample in each of ``count`` equal intervals: at random, or at the middle when ``key`` is None."""
    offset = _offsets(key, (*near.shape, count))
    fractions = (jnp.arange(count) + offset) / count
    length = far - near
    distances = near[..., None] + length[..., None] * fractions
    return Samples(distances, jnp.broadcast_to((length / count)[..., None], distances.shape))


def guided(
    key: Array | None,
    origins: Float[Array, "*rays 3"],
    directions: Float[Array, "*rays 3"],
    near: Float[Array, "*rays"],
    far: Float[Array, "*rays"],
    occupancy: Float[Array, "grid grid grid"],
    half: HalfEdges,
    count: int,
) -> Samples:
    """Samples drawn from the occupancy along the ray, stratified in its cumulative distribution.

    The occupancy is read at the middle of ``PROBES`` equal bins. The spacing of a sample is
    1 / (count * pdf): the sum of density * spacing is then an unbiased estimate of the optical depth.
    """
    middles = near[..., None] + (far - near)[..., None] * ((jnp.arange(PROBES) + 0.5) / PROBES)
    points = origins[..., None, :] + middles[..., None] * directions[..., None, :]
    wanted = look_up(occupancy, points, half)
    wanted = wanted + 1e-4
    share = wanted / jnp.sum(wanted, axis=-1, keepdims=True)
    share = (1 - UNIFORM_SHARE) * share + UNIFORM_SHARE / PROBES
    cumulative = jnp.cumsum(share, axis=-1)
    quantiles = (jnp.arange(count) + _offsets(key, (*near.shape, count))) / count
    quantiles = quantiles * cumulative[..., -1:]
    # Counting the bins that end below beats a binary search: no gathers, and it fuses.
    bins = jnp.sum(quantiles[..., None] >= cumulative[..., None, :], axis=-1)
    bins = jnp.minimum(bins, PROBES - 1)
    in_share = jnp.take_along_axis(share, bins, axis=-1)
    ends = jnp.take_along_axis(cumulative, bins, axis=-1)
    fraction = jnp.clip((quantiles - (ends - in_share)) / in_share, 0.0, 1.0)
    width = ((far - near) / PROBES)[..., None]
    return Samples(near[..., None] + width * (bins + fraction), width / (count * in_share))


def look_up(
    grid: Float[Array, "grid grid grid"], points: Float[Array, "*points 3"], half: HalfEdges
) -> Float[Array, "*points"]:
    """Value of the grid's cell that holds each world point; the grid spans the box [-half, half], axes x, y, z."""
    size = grid.shape[0]
    cell = jnp.floor((points / jnp.asarray(half) + 1.0) * (0.5 * size))
    cell = jnp.clip(cell, 0, size - 1).astype(jnp.int32)
    return grid.reshape(-1)[(cell[..., 0] * size + cell[..., 1]) * size + cell[..., 2]]


def _offsets(key: Array | None, shape: tuple[int, ...]) -> Array:
    """Where in its interval each sample lies. A key an image makes an image's samples its own, whatever else
    is in the batch."""
    if key is None:
        return jnp.full(shape, 0.5)
    draw = partial(jax.random.uniform, shape=shape[key.ndim :])
    return jax.vmap(draw)(key) if key.ndim else draw(key)
