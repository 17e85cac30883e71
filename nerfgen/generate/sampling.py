"""New objects: the table as a Gaussian, and truncated draws along its principal axes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import scipy.stats
from jaxtyping import Float

from nerfgen.generate.codes import Objects

# An axis with less than this share of the largest deviation does not vary: a table of few codes spans fewer axes.
_NEGLIGIBLE = 1e-6


@dataclass(frozen=True)
class Principal:
    """The table of codes as a Gaussian.

    Attributes:
        mean: mean code.
        axes: orthonormal principal axes, by falling variance; the largest entry of each is positive.
        deviation: standard deviation along each.
    """

    mean: Float[np.ndarray, "latent"]
    axes: Float[np.ndarray, "components latent"]
    deviation: Float[np.ndarray, "components"]

    @property
    def spectrum(self) -> Float[np.ndarray, "components"]:
        """Share of each axis in the variance of them all; zeros where nothing varies."""
        variance = self.deviation**2
        return variance / (variance.sum() or 1.0)

    @property
    def varying(self) -> int:
        """The axes along which codes differ."""
        return int((self.deviation > _NEGLIGIBLE * self.deviation.max(initial=0.0)).sum())

    def axes_that_hold(self, share: float) -> int:
        """The fewest axes that hold this share of the variance."""
        if not self.varying:
            return 0
        return min(int(np.searchsorted(np.cumsum(self.spectrum), share)) + 1, len(self.deviation))

    def only_varying(self) -> Principal:
        """The Gaussian along the axes that vary: there are fewer than numbers in a code if the table has few rows."""
        return replace(self, axes=self.axes[: self.varying], deviation=self.deviation[: self.varying])

    def first(self, components: int) -> Principal:
        """The Gaussian along the first axes only; 0 keeps them all."""
        kept = components or len(self.deviation)
        return replace(self, axes=self.axes[:kept], deviation=self.deviation[:kept])

    def codes(
        self, coefficients: Float[np.ndarray, "samples components"]
    ) -> Float[np.ndarray, "samples latent"]:
        """The codes at coefficients given in standard deviations."""
        return self.mean + (coefficients * self.deviation) @ self.axes

    def coefficients(
        self, latents: Float[np.ndarray, "samples latent"]
    ) -> Float[np.ndarray, "samples components"]:
        """Codes along the axes, in standard deviations; 0 along axes that do not vary.

        The inverse of :meth:`codes` for codes in the span of the axes.
        """
        scale = np.zeros(len(self.deviation))
        scale[: self.varying] = 1 / self.deviation[: self.varying]
        return ((latents - self.mean) @ self.axes.T) * scale


def principal_axes(latents: Float[np.ndarray, "rows latent"]) -> Principal:
    """PCA of the table, on all axes: as many as a code has numbers, or as there are rows if those are fewer."""
    mean = latents.mean(axis=0, dtype=np.float64)
    # The triangle of a QR decomposition has the table's axes and singular values, however many rows there are.
    _, singular, axes = np.linalg.svd(np.linalg.qr(latents - mean, mode="r"), full_matrices=False)
    # Either direction of an axis is as good. Chosen so, libraries that choose otherwise give the same samples.
    largest = np.take_along_axis(axes, np.abs(axes).argmax(axis=1)[:, None], axis=1)
    axes = axes * np.where(largest < 0, -1.0, 1.0)
    return Principal(mean, axes, singular / np.sqrt(max(len(latents) - 1, 1)))


def truncated_draws(
    count: int, components: int, truncation: float, seed: int
) -> Float[np.ndarray, "samples components"]:
    """Standard normal numbers, truncated to [-``truncation``, ``truncation``]; 0 gives zeros (the mean).

    Sample i depends only on (seed, i), so that more samples extend fewer.
    """
    draws = [truncated_draw(components, truncation, (seed, sample)) for sample in range(count)]
    return np.stack(draws).reshape(count, components)


def truncated_draw(components: int, truncation: float, key: Sequence[int]) -> Float[np.ndarray, "components"]:
    """One draw as in :func:`truncated_draws`; ``key`` is all that it depends on, zeros at its end aside."""
    if truncation <= 0:
        return np.zeros(components)
    low, high = scipy.stats.norm.cdf([-truncation, truncation])
    uniform = np.random.default_rng(list(key)).uniform(size=components)
    return scipy.stats.norm.ppf(low + uniform * (high - low))


def drawn_objects(principal: Principal, count: int, truncation: float, seed: int) -> Objects:
    """New objects: :func:`truncated_draws` along all axes of ``principal``; ``coefficients`` in ``extra``."""
    coefficients = truncated_draws(count, len(principal.deviation), truncation, seed)
    return Objects(
        names=[f"sample {number}" for number in range(count)],
        status=["ok"] * count,
        rows=np.full(count, -1),
        latents=principal.codes(coefficients),
        extra={"coefficients": coefficients},
    )
