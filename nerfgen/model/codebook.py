"""Vector-quantised latent codes: each group of global dimensions is one entry of a codebook of its own.

van den Oord et al., "Neural discrete representation learning", 2017. Local features stay as they are.
"""

from __future__ import annotations

from typing import Any

from jaxtyping import Float, Int, Shaped

from nerfgen.geometry import array_namespace, matmul

# Of numpy or of JAX; results are what the arguments are.
Array = Any


def nearest_entries(
    codebook: Float[Array, "groups entries numbers"], latents: Float[Array, "rows code"]
) -> Int[Array, "rows groups"]:
    """The nearest entry of each group's codebook.

    Args:
        latents: whose first groups x numbers columns are quantised; others are ignored.
    """
    xp = array_namespace(codebook, latents)
    groups, _, numbers = codebook.shape
    parts = latents[:, : groups * numbers].reshape(-1, groups, numbers)
    # |x - e|^2 without |x|^2, which is the same for all entries.
    products = matmul(xp.swapaxes(parts, 0, 1), xp.swapaxes(codebook, 1, 2)).swapaxes(0, 1)
    return (0.5 * (codebook**2).sum(-1)[None] - products).argmin(-1)


def quantised(
    codebook: Float[Array, "groups entries numbers"],
    latents: Float[Array, "rows code"],
    indices: Int[Array, "rows groups"],
) -> Float[Array, "rows code"]:
    """Latent codes with the entries of these numbers in their first columns."""
    xp = array_namespace(codebook, latents)
    groups, _, numbers = codebook.shape
    return xp.concatenate([dequantised(codebook, indices), latents[:, groups * numbers :]], axis=1)


def dequantised(
    codebook: Float[Array, "groups entries numbers"], indices: Int[Array, "rows groups"]
) -> Float[Array, "rows dimensions"]:
    """The global dimensions of codes: the entries of these numbers, side by side."""
    xp = array_namespace(codebook, indices)
    return codebook[xp.arange(len(codebook))[None], indices].reshape(len(indices), -1)


def perplexity(usage: Shaped[Array, "groups entries"]) -> Float[Array, ""]:
    """exp of the entropy of the entries' use, averaged over groups: how many of them are used, as it were.

    Args:
        usage: how often each entry is used, in any unit.
    """
    xp = array_namespace(usage)
    probabilities = usage / xp.maximum(usage.sum(-1, keepdims=True), 1e-12)
    entropy = -(probabilities * xp.log(xp.maximum(probabilities, 1e-12))).sum(-1)
    return xp.exp(entropy).mean()
