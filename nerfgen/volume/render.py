"""From rays and a field to what the rays see."""

from __future__ import annotations

from collections.abc import Callable

import jax
from jaxtyping import Array, Float

from nerfgen.volume.composite import RayColors, composite
from nerfgen.volume.sampling import HalfEdges, box_bounds, guided, stratified

# Density per world unit and colour at world points, for a batch of images with their own points.
Foreground = Callable[
    [Float[Array, "images points 3"]],
    tuple[Float[Array, "images points"], Float[Array, "images points 3"]],
]


def render_rays(
    foreground: Foreground,
    origins: Float[Array, "images rays 3"],
    directions: Float[Array, "images rays 3"],
    *,
    half: HalfEdges,
    count: int,
    occupancy: Float[Array, "grid grid grid"] | None = None,
    key: Array | None = None,
) -> RayColors:
    """Volume-render rays through the box of half edges ``half`` with ``count`` samples each.

    Args:
        directions: unit vectors.
        occupancy: where samples are worth taking; without it they are spread evenly.
        key: draws the samples at random within their intervals, one key for all or one an image; without it
            they lie at the middle.
    """
    near, far = box_bounds(origins, directions, half)
    if occupancy is None:
        samples = stratified(key, near, far, count)
    else:
        samples = guided(key, origins, directions, near, far, occupancy, half, count)
    # Where samples lie is a choice, not part of the picture: cameras are differentiated at fixed distances.
    samples = jax.lax.stop_gradient(samples)
    points = origins[..., None, :] + samples.distances[..., None] * directions[..., None, :]
    images, rays = near.shape
    density, color = foreground(points.reshape(images, rays * count, 3))
    shape = (images, rays, count)
    return composite(density.reshape(shape), color.reshape(*shape, 3), samples.distances, samples.spacings)
