"""Where along a ray to ask the field of one object whose density is roughly known: about the surface that it meets.

A grid of the object's densities says how much light reaches each part of a ray. Samples are spread by the weight that
each part will have in the picture: none are spent in empty space, nor behind what is opaque.
"""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array, Float

from nerfgen.volume.composite import compositing_weights
from nerfgen.volume.sampling import HalfEdges, Samples, box_bounds, look_up

# Equal parts of a ray within the box, for each of which the grid is asked once.
PARTS = 48
# What every part is given on top of its weight, so that nothing the grid is too coarse for stays unseen.
_FLOOR = 0.01


def estimated_weights(
    grid: Float[Array, "grid grid grid"],
    origins: Float[Array, "*rays 3"],
    directions: Float[Array, "*rays 3"],
    half: HalfEdges,
) -> Float[Array, "*rays parts"]:
    """Compositing weight of every part of a ray, by the density at its middle; they sum to the ray's opacity.

    Args:
        grid: densities per world unit at the middles of the cells of the box [-half, half], axes x, y, z.
        directions: unit vectors.
    """
    near, far = box_bounds(origins, directions, half)
    length = ((far - near) / PARTS)[..., None]
    middles = near[..., None] + length * (jnp.arange(PARTS) + 0.5)
    points = origins[..., None, :] + middles[..., None] * directions[..., None, :]
    return compositing_weights(look_up(grid, points, half) * length)


def surface_samples(
    origins: Float[Array, "*rays 3"],
    directions: Float[Array, "*rays 3"],
    weights: Float[Array, "*rays parts"],
    half: HalfEdges,
    count: int,
) -> Samples:
    """The ray cut into ``count`` intervals of equal estimated weight, with a sample in each.

    The weights are widened to the neighbouring parts first, and every part is given a little more, so that samples
    reach to both sides of the surface. The intervals fill the ray from its entry into the box to its exit; the
    sample lies where half of its interval's weight is.
    """
    near, far = box_bounds(origins, directions, half)
    padded = jnp.pad(weights, [(0, 0)] * (weights.ndim - 1) + [(1, 1)])
    share = jnp.maximum(weights, jnp.maximum(padded[..., :-2], padded[..., 2:])) + _FLOOR
    share = share / jnp.sum(share, axis=-1, keepdims=True)
    cumulative = jnp.cumsum(share, axis=-1)
    # Ends and middles of the intervals, in turns.
    quantiles = jnp.arange(2 * count + 1) / (2 * count)
    # Counting the parts that end below beats a binary search: no gathers, and it fuses.
    parts = jnp.sum(quantiles[:, None] >= cumulative[..., None, :], axis=-1)
    parts = jnp.minimum(parts, weights.shape[-1] - 1)
    own = jnp.take_along_axis(share, parts, axis=-1)
    ends = jnp.take_along_axis(cumulative, parts, axis=-1)
    along = parts + jnp.clip((quantiles - (ends - own)) / own, 0.0, 1.0)
    distances = near[..., None] + ((far - near) / weights.shape[-1])[..., None] * along
    return Samples(distances[..., 1::2], distances[..., 2::2] - distances[..., :-2:2])
