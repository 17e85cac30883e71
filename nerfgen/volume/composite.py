"""Volume rendering: from densities and colours of samples to colour, opacity and depth of rays."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class RayColors:
    """What compositing gives for every ray.

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
