"""Positional encoding."""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array, Float


def positional_encoding(
    points: Float[Array, "*batch 3"], frequencies: int
) -> Float[Array, "*batch features"]:
    """gamma_L of NeRF: the point itself, then sin and cos of 2^l pi x for l < ``frequencies``.

    Features: 3 + 6 * ``frequencies``.
    """
    octaves = jnp.pi * 2.0 ** jnp.arange(frequencies)
    angles = (points[..., None, :] * octaves[:, None]).reshape(*points.shape[:-1], -1)
    return jnp.concatenate([points, jnp.sin(angles), jnp.cos(angles)], axis=-1)
