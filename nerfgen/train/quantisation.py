"""Learning the codebooks of vector-quantised latent codes: straight-through gradients, and entries as moving averages.

van den Oord et al., "Neural discrete representation learning", 2017 (appendix: moving averages); entries that are not
used restart at codes of the batch (Dhariwal et al., "Jukebox", 2020). The table holds continuous codes, which are
quantised where they are used: what Adam moves is the code before quantisation.
"""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from nerfgen.model import Recipe, nearest_entries, perplexity, quantised

# Codes are continuous at first and quantised at the end; between these fractions of the run they fade over, so that
# the codebooks describe codes that have spread already.
_FADE_FROM, _FADE_TO = 0.3, 0.5
# An entry with less than this fraction of its even share of the codes restarts.
_DEAD = 0.05


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Codebook:
    """The codebooks of a run.

    Attributes:
        entries: of every group.
        usage: moving average of the number of a batch's codes at each entry; 0 for entries that have yet to begin.
    """

    entries: Float[Array, "groups entries numbers"]
    usage: Float[Array, "groups entries"]


class Quantisation(NamedTuple):
    """What quantising the codes of a batch gives.

    Attributes:
        latents: codes as they are used.
        pull: gradient of the commitment loss, sum over images, at the codes of the table.
        commitment: mean squared distance of the codes from their entries, summed over the batch.
    """

    latents: Float[Array, "images code"]
    pull: Float[Array, "images code"]
    commitment: Float[Array, ""]


def initial_codebook(recipe: Recipe) -> Codebook | None:
    """Codebooks whose entries begin at codes of the first batch; None for continuous codes."""
    if recipe.latent != "vq":
        return None
    shape = (recipe.codebook_groups, recipe.codebook_size)
    numbers = recipe.latent_size // recipe.codebook_groups
    return Codebook(jnp.zeros((*shape, numbers)), jnp.zeros(shape))


def known_codebook(entries: Float[Array, "groups entries numbers"]) -> Codebook:
    """The codebooks of a model that training continues; they stay as they are."""
    return Codebook(jnp.asarray(entries), jnp.ones(entries.shape[:2]))


def quantise(
    codebook: Codebook, recipe: Recipe, latents: Float[Array, "images code"], fraction: Float[Array, ""]
) -> Quantisation:
    """The codes of a batch as they are used at a fraction of the run. The gradient at a used code is taken for that at
    the code of the table (straight-through)."""
    nearest = quantised(codebook.entries, latents, nearest_entries(codebook.entries, latents))
    away = latents - nearest
    used = latents - quantised_fraction(fraction) * away
    pull = 2 * recipe.lambda_commitment / recipe.latent_size * away
    return Quantisation(used, pull, jnp.sum(away**2) / recipe.latent_size)


def quantised_fraction(fraction: Float[Array, ""]) -> Float[Array, ""]:
    """How far codes are quantised at a fraction of the run: 0 not at all, 1 entirely."""
    return jnp.clip((fraction - _FADE_FROM) / (_FADE_TO - _FADE_FROM), 0.0, 1.0)


def updated_codebook(
    codebook: Codebook, recipe: Recipe, latents: Float[Array, "batch code"], key: Array
) -> Codebook:
    """The codebooks after a batch: entries move to the mean of their codes, and dead ones restart at random codes.

    Args:
        latents: codes of the table of the whole batch.
        key: random key of the step.
    """
    groups, count, numbers = codebook.entries.shape
    parts = latents[:, : groups * numbers].reshape(-1, groups, numbers)
    one_hot = jax.nn.one_hot(nearest_entries(codebook.entries, latents), count)
    decay = recipe.codebook_decay
    kept = decay * codebook.usage
    usage = kept + (1 - decay) * one_hot.sum(0)
    sums = jnp.einsum("bge,bgn->gen", one_hot, parts, precision="highest")
    moved = kept[..., None] * codebook.entries + (1 - decay) * sums
    entries = moved / jnp.maximum(usage, 1e-9)[..., None]
    share = len(latents) / count
    dead = usage < _DEAD * share
    chosen = jax.random.randint(key, (groups, count), 0, len(latents))
    restarted = jnp.swapaxes(parts, 0, 1)[jnp.arange(groups)[:, None], chosen]
    return Codebook(
        jnp.where(dead[..., None], restarted, entries), jnp.where(dead, jnp.float32(share), usage)
    )


def used_entries(codebook: Codebook) -> Float[Array, ""]:
    """The perplexity of the codebooks' usage."""
    return perplexity(codebook.usage)
