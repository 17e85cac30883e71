"""Volume rendering: from densities and colours of samples to colour, opacity and depth of rays."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from nerfgen.volume.sampling import HalfExtents, box_bounds, occupancy_samples, stratified_samples


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class RayColors:
    """The result of compositing, for every ray.

    Attributes:
        color: C_fg, foreground colour weighted by opacity (premultiplied).
        opacity: A, in [0, 1].
        distance: expected distance of the surface from the ray's origin, sum w t / A, world units; 0 where A is 0.
        weights: w_i of every sample.
    """

    color: Float[Array, "*rays 3"]
    opacity: Float[Array, "*rays"]
    distance: Float[Array, "*rays"]
    weights: Float[Array, "*rays samples"]


def compositing_weights(optical: Float[Array, "*rays samples"]) -> Float[Array, "*rays samples"]:
    """w_i = T_i alpha_i from the optical depth density_i delta_i of every sample.

    Transmittance is accumulated as a sum of optical depths, which does not underflow.
    """
    before = jnp.cumsum(optical, axis=-1) - optical
    return jnp.exp(-before) * -jnp.expm1(-optical)


def composite(
    density: Float[Array, "*rays samples"],
    color: Float[Array, "*rays samples 3"],
    distances: Float[Array, "*rays samples"],
    spacings: Float[Array, "*rays samples"],
) -> RayColors:
    """alpha_i = 1 - exp(-density_i delta_i), T_i = prod_{j<i} (1 - alpha_j), w_i = T_i alpha_i."""
    weights = compositing_weights(density * spacings)
    opacity = jnp.sum(weights, axis=-1)
    distance = jnp.sum(weights * distances, axis=-1) / jnp.maximum(opacity, 1e-6)
    return RayColors(jnp.sum(weights[..., None] * color, axis=-2), opacity, distance, weights)


# Density per world unit and colour at world points, for a batch of images with their own points.
RadianceField = Callable[
    [Float[Array, "images points 3"]],
    tuple[Float[Array, "images points"], Float[Array, "images points 3"]],
]


def volume_render(
    foreground: RadianceField,
    origins: Float[Array, "images rays 3"],
    directions: Float[Array, "images rays 3"],
    *,
    half: HalfExtents,
    count: int,
    occupancy: Float[Array, "grid grid grid"] | None = None,
    key: Array | None = None,
) -> RayColors:
    """Volume-render rays through the box with half extents ``half``, with ``count`` samples each.

    Args:
        directions: unit vectors.
        occupancy: guides sample placement; None for stratified samples.
        key: random positions of the samples within their intervals, one key for all images or one per image; None for
            the middle.
    """
    near, far = box_bounds(origins, directions, half)
    with jax.named_scope("sampling"):
        if occupancy is None:
            samples = stratified_samples(key, near, far, count)
        else:
            samples = occupancy_samples(key, origins, directions, near, far, occupancy, half, count)
    # Sample placement is not differentiated: gradients of cameras are those at fixed distances.
    samples = jax.lax.stop_gradient(samples)
    points = origins[..., None, :] + samples.distances[..., None] * directions[..., None, :]
    images, rays = near.shape
    density, color = foreground(points.reshape(images, rays * count, 3))
    shape = (images, rays, count)
    return composite(density.reshape(shape), color.reshape(*shape, 3), samples.distances, samples.spacings)
