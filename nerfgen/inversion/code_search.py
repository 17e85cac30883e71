"""Entries of the codebooks for new images, of models whose latent codes are vector-quantised."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from nerfgen.data import PixelTable
from nerfgen.field import FieldConfig
from nerfgen.inversion.reconstruction import Network, image_losses
from nerfgen.model import Recipe, nearest_entries, quantised
from nerfgen.optimize import quickly_compiled

# Entries of a group that are tried, the nearest to the continuous code; times that all groups are gone through; and
# samples of rays over which a loss is taken.
_CANDIDATES, _ROUNDS, _EVALUATIONS = 8, 2, 4


@quickly_compiled(static_argnums=(0, 1))
def search_entries(
    config: FieldConfig,
    recipe: Recipe,
    network: Network,
    codebook: Float[Array, "groups entries numbers"],
    latents: Float[Array, "images code"],
    cam_to_world: Float[Array, "images 4 4"],
    pixels: PixelTable,
    key: Array,
) -> Int[Array, "images groups"]:
    """The entries with which images are reconstructed best, by coordinate descent from the nearest ones.

    One group after the other takes the entry with the smallest loss, of those nearest to the continuous code. All are
    judged by the same rays. The result of one image is independent of the rest of the batch.

    Args:
        latents: fitted continuous codes; their local features are kept.
        key: random key of the rays.
    """
    groups, entries, numbers = codebook.shape
    parts = latents[:, : groups * numbers].reshape(-1, groups, numbers)
    away = jnp.sum((parts[:, :, None] - codebook[None]) ** 2, axis=-1)
    _, candidates = jax.lax.top_k(-away, min(_CANDIDATES, entries))

    def loss(indices: Array) -> Float[Array, "images"]:
        codes = quantised(codebook, latents, indices)

        def evaluated(number: Array) -> Array:
            return image_losses(config, recipe, network, codes, cam_to_world, pixels, key, number)

        return jax.lax.map(evaluated, jnp.arange(_EVALUATIONS)).sum(0)

    def improve(number: Int[Array, ""], indices: Array) -> Array:
        group = number % groups

        def tried(place: Array) -> Array:
            return loss(indices.at[:, group].set(candidates[:, group, place]))

        losses = jax.lax.map(tried, jnp.arange(candidates.shape[-1]))
        best = candidates[jnp.arange(len(indices)), group, losses.argmin(0)]
        return indices.at[:, group].set(best)

    return jax.lax.fori_loop(0, _ROUNDS * groups, improve, nearest_entries(codebook, latents))
