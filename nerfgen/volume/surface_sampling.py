"""Sample placement for one object whose density is roughly known: around the surface that a ray meets.

A grid of the object's density gives the weight that each part of a ray will have in the rendering. Samples are
distributed by this weight: none are spent in empty space or behind opaque surfaces.
"""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array, Float

from nerfgen.volume.compositing import compositing_weights
from nerfgen.volume.sampling import (
    HalfExtents,
    Samples,
    along_last_axis,
    box_bounds,
    sample_grid,
    take_along_rays,
)

# Equal parts of a ray within the box; the grid is evaluated once in each.
PARTS = 48
# Added to the weight of every part, so that details finer than the grid are not missed.
_FLOOR = 0.01


def estimated_weights(
    grid: Float[Array, "grid grid grid"],
    origins: Float[Array, "*rays 3"],
    directions: Float[Array, "*rays 3"],
    half: HalfExtents,
) -> Float[Array, "*rays parts"]:
    """Compositing weight of every part of a ray, by the density at its middle; they sum to the ray's opacity.

    Args:
        grid: density per world unit at the centres of the cells of the box [-half, half], axes x, y, z.
        directions: unit vectors.
    """
    near, far = box_bounds(origins, directions, half)
    length = ((far - near) / PARTS)[..., None]
    middles = near[..., None] + length * along_last_axis(jnp.arange(PARTS) + 0.5, length.ndim)
    points = origins[..., None, :] + middles[..., None] * directions[..., None, :]
    return compositing_weights(sample_grid(grid, points, half) * length)


def surface_samples(
    origins: Float[Array, "*rays 3"],
    directions: Float[Array, "*rays 3"],
    weights: Float[Array, "*rays parts"],
    half: HalfExtents,
    count: int,
) -> Samples:
    """One sample in each of ``count`` intervals of equal estimated weight.

    The weights are dilated to the neighbouring parts first, and every part gets a little more, so that samples reach
    both sides of the surface. The intervals fill the ray from its entry into the box to its exit; each sample lies at
    the median of its interval's weight.
    """
    near, far = box_bounds(origins, directions, half)
    padded = jnp.pad(weights, [(0, 0)] * (weights.ndim - 1) + [(1, 1)])
    fraction = jnp.maximum(weights, jnp.maximum(padded[..., :-2], padded[..., 2:])) + _FLOOR
    fraction = fraction / jnp.sum(fraction, axis=-1, keepdims=True)
    cumulative = jnp.cumsum(fraction, axis=-1)
    # Ends and middles of the intervals, alternating.
    quantiles = along_last_axis(jnp.arange(2 * count + 1) / (2 * count), weights.ndim)
    # Counting the parts that end below beats a binary search: no gathers, and it fuses.
    parts = jnp.sum(quantiles[..., None] >= cumulative[..., None, :], axis=-1)
    parts = jnp.minimum(parts, weights.shape[-1] - 1)
    own, ends = take_along_rays(fraction, parts), take_along_rays(cumulative, parts)
    along = parts + jnp.clip((quantiles - (ends - own)) / own, 0.0, 1.0)
    distances = near[..., None] + ((far - near) / weights.shape[-1])[..., None] * along
    return Samples(distances[..., 1::2], distances[..., 2::2] - distances[..., :-2:2])
