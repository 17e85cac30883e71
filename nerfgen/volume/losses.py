"""The losses of the method, per step, as means over rays."""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array, Float

from nerfgen.volume.compositing import RayColors


def hard_surface(weights: Float[Array, "*samples"]) -> Float[Array, "*samples"]:
    """-log(exp(-|w|) + exp(-|1 - w|)), shifted to be 0 at w = 0 and w = 1, where it is smallest.

    The negative log-likelihood of a mixture of two Laplacians with modes at 0 and 1: weights between them, from
    matter spread along the ray, cost up to log((1 + 1/e) / (2 exp(-1/2))) = 0.12.
    """
    return jnp.log1p(jnp.exp(-1.0)) - jnp.logaddexp(-jnp.abs(weights), -jnp.abs(1 - weights))


def training_losses(
    rays: RayColors,
    background: Float[Array, "*rays 3"],
    target: Float[Array, "*rays 3"],
    mask: Float[Array, "*rays"],
    mask_margin: float = 0.0,
) -> dict[str, Float[Array, ""]]:
    """L_rgb, L_mask, L_hard and L_opaque, unweighted.

    L_rgb is |C - I|^2 summed over channels, L_opaque is A (1 - A); all are means over rays (L_hard: over rays and
    samples).

    Args:
        mask_margin: probabilities nearer than this to 0 or 1 are taken for 0 or 1: a segmenter is never quite sure, and
            its doubt would make objects translucent.
    """
    mask = jnp.clip((mask - mask_margin) / (1 - 2 * mask_margin), 0.0, 1.0)
    color = rays.color + (1 - rays.opacity[..., None]) * background
    squared = jnp.sum((color - target) ** 2, axis=-1)
    return {
        "rgb": jnp.mean(squared),
        "mask": jnp.mean((rays.opacity - mask) ** 2),
        "hard": jnp.mean(hard_surface(rays.weights)),
        "opaque": jnp.mean(rays.opacity * (1 - rays.opacity)),
    }
