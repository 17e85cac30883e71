"""New objects: the table as a Gaussian, and truncated draws along its principal axes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.stats
from jaxtyping import Float


@dataclass(frozen=True)
class Principal:
    """The table of codes as a Gaussian.

    Attributes:
        mean: mean code.
        axes: orthonormal principal axes, by falling variance.
        deviation: standard deviation along each.
    """

    mean: Float[np.ndarray, "latent"]
    axes: Float[np.ndarray, "components latent"]
    deviation: Float[np.ndarray, "components"]

    def codes(
        self, coefficients: Float[np.ndarray, "samples components"]
    ) -> Float[np.ndarray, "samples latent"]:
        """The codes at coefficients given in standard deviations."""
        return self.mean + (coefficients * self.deviation) @ self.axes


def principal_axes(latents: Float[np.ndarray, "rows latent"], components: int = 0) -> Principal:
    """PCA of the table; ``components`` 0 keeps all axes."""
    mean = latents.mean(axis=0, dtype=np.float64)
    _, singular, axes = np.linalg.svd(latents - mean, full_matrices=False)
    kept = min(components or len(singular), len(singular))
    deviation = singular / np.sqrt(max(len(latents) - 1, 1))
    return Principal(mean, axes[:kept], deviation[:kept])


def truncated_draws(
    count: int, components: int, truncation: float, seed: int
) -> Float[np.ndarray, "samples components"]:
    """Standard normal numbers, truncated to [-``truncation``, ``truncation``]; 0 gives zeros (the mean).

    Sample i depends only on (seed, i), so that more samples extend fewer.
    """
    if truncation <= 0:
        return np.zeros((count, components))
    uniform = np.stack(
        [np.random.default_rng([seed, sample]).uniform(size=components) for sample in range(count)]
    ).reshape(count, components)
    low, high = scipy.stats.norm.cdf([-truncation, truncation])
    return scipy.stats.norm.ppf(low + uniform * (high - low))
