"""The latent space of a table: its Gaussian, and truncated draws along the principal axes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float

from nerfgen.geometry import evenly_chosen
from nerfgen.memory import require_memory

# Rows whose residuals new objects are mixed of: enough for their covariance, and 10 MB.
_RESIDUAL_ROWS = 1024
# An axis whose deviation is below this fraction of the largest does not vary: a table of few rows spans fewer axes.
_NEGLIGIBLE = 1e-6
# Of latent codes, while they are computed.
_COPIES = 3


@dataclass(frozen=True)
class Principal:
    """The table of latent codes as a Gaussian.

    The axes are those of the global dimensions. The local features, which follow them in a code, move along with each
    axis as they do on average in the table; what the global dimensions do not predict, the residual, is off the axes.

    Attributes:
        mean: mean latent code.
        axes: principal axes, by falling variance: orthonormal in the global dimensions, with their largest entry there
            positive.
        deviation: standard deviation along each.
        local_deviation: standard deviation of each local feature.
        residuals: of the local features of some rows.
    """

    mean: Float[np.ndarray, "code"]
    axes: Float[np.ndarray, "components code"]
    deviation: Float[np.ndarray, "components"]
    local_deviation: Float[np.ndarray, "local"]
    residuals: Float[np.ndarray, "some local"]

    @property
    def spectrum(self) -> Float[np.ndarray, "components"]:
        """Fraction of the total variance along each axis; zeros where nothing varies."""
        variance = self.deviation**2
        return variance / (variance.sum() or 1.0)

    @property
    def varying(self) -> int:
        """Number of axes along which latent codes differ."""
        return int((self.deviation > _NEGLIGIBLE * self.deviation.max(initial=0.0)).sum())

    def axes_that_hold(self, fraction: float) -> int:
        """The smallest number of axes that holds this fraction of the variance."""
        if not self.varying:
            return 0
        return min(int(np.searchsorted(np.cumsum(self.spectrum), fraction)) + 1, len(self.deviation))

    def only_varying(self) -> Principal:
        """The Gaussian along the axes that vary: fewer than latent dimensions if the table has few rows."""
        return replace(self, axes=self.axes[: self.varying], deviation=self.deviation[: self.varying])

    def first(self, components: int) -> Principal:
        """The Gaussian along the first axes only; 0 keeps them all."""
        kept = components or len(self.deviation)
        return replace(self, axes=self.axes[:kept], deviation=self.deviation[:kept])

    def codes(
        self, coefficients: Float[np.ndarray, "samples components"]
    ) -> Float[np.ndarray, "samples code"]:
        """Latent codes from coefficients in standard deviations.

        Raises:
            InputError: they would not fit into the memory.
        """
        require_codes(len(coefficients), len(self.mean))
        return self.mean + _row_by_row(coefficients * self.deviation, self.axes)

    def drawn_codes(
        self,
        coefficients: Float[np.ndarray, "samples components"],
        truncation: float,
        keys: Sequence[Sequence[int]],
    ) -> Float[np.ndarray, "samples code"]:
        """Latent codes from coefficients, with local features that vary beyond what these predict as in the table.

        The residual of a new object is a mixture of those of rows, with independent normal weights, truncated as the
        coefficients are: without truncation it has the covariance of the table's residuals.

        Args:
            keys: of the random numbers of each sample, see :func:`truncated_draw`.
        """
        latents = self.codes(coefficients)
        rows, local = self.residuals.shape
        if local:
            draws = [truncated_draw(rows, truncation, key, _OF_RESIDUALS) for key in keys]
            weights = np.array(draws).reshape(-1, rows) / np.sqrt(max(rows, 1))
            latents[:, -local:] += _row_by_row(weights, self.residuals)
        return latents

    def coefficients(
        self, latents: Float[np.ndarray, "samples code"]
    ) -> Float[np.ndarray, "samples components"]:
        """Coefficients of latent codes along the axes, in standard deviations; 0 along axes that do not vary.

        The inverse of :meth:`codes` for latent codes in the span of the axes.
        """
        scale = np.zeros(len(self.deviation))
        scale[: self.varying] = 1 / self.deviation[: self.varying]
        whole = len(self.mean) - len(self.local_deviation)
        return ((latents[:, :whole] - self.mean[:whole]) @ self.axes[:, :whole].T) * scale


def require_codes(count: int, size: int) -> None:
    """Refuse latent codes that would not fit into the memory: ``count`` of ``size`` numbers.

    Raises:
        InputError: they would not.
    """
    require_memory(_COPIES * 8 * count * size, f"{count:,} latent codes of {size:,} numbers")


def _row_by_row(
    rows: Float[np.ndarray, "samples terms"], matrix: Float[np.ndarray, "terms code"]
) -> Float[np.ndarray, "samples code"]:
    """The product of two matrices, each row alone: how one is rounded does not depend on the number of others."""
    return np.array([row @ matrix for row in rows]).reshape(len(rows), matrix.shape[1])


def principal_axes(latents: Float[np.ndarray, "rows code"], latent_size: int | None = None) -> Principal:
    """PCA of the table's global dimensions, on as many axes as there are of them, or rows if those are fewer.

    Args:
        latent_size: number of global dimensions; local features follow them. None if all are global.
    """
    mean = latents.mean(axis=0, dtype=np.float64)
    whole, local = np.split(
        latents - mean, [latents.shape[1] if latent_size is None else latent_size], axis=1
    )
    # The triangle of a QR decomposition has the table's axes and singular values, however many rows there are.
    _, singular, axes = np.linalg.svd(np.linalg.qr(whole, mode="r"), full_matrices=False)
    # The sign of an axis is arbitrary. Fixed like this, samples do not depend on the library's choice.
    largest = np.take_along_axis(axes, np.abs(axes).argmax(axis=1)[:, None], axis=1)
    axes = axes * np.where(largest < 0, -1.0, 1.0)
    # Least squares on coordinates that are uncorrelated.
    squares = singular**2
    present = squares > (_NEGLIGIBLE**2) * squares.max(initial=0.0)
    along = (whole @ axes.T).T @ local / np.where(present, squares, 1.0)[:, None]
    along[~present] = 0.0
    deviation = singular / np.sqrt(max(len(latents) - 1, 1))
    some = evenly_chosen(np.arange(len(latents)), _RESIDUAL_ROWS)
    residuals = (local[some] - (whole[some] @ axes.T) @ along).astype(np.float32)
    return Principal(mean, np.concatenate([axes, along], axis=1), deviation, local.std(axis=0), residuals)


def truncated_draws(
    count: int, components: int, truncation: float, seed: int
) -> Float[np.ndarray, "samples components"]:
    """Standard normal draws, truncated to [-``truncation``, ``truncation``]; 0 gives zeros (the mean).

    Sample i depends only on (seed, i), so that more samples extend fewer.
    """
    draws = [truncated_draw(components, truncation, (seed, sample)) for sample in range(count)]
    return np.array(draws).reshape(count, components)


# Streams of random numbers of one key: coefficients, and weights of residuals.
_OF_COEFFICIENTS, _OF_RESIDUALS = (), (1,)


def truncated_draw(
    components: int, truncation: float, key: Sequence[int], stream: tuple[int, ...] = _OF_COEFFICIENTS
) -> Float[np.ndarray, "components"]:
    """One draw as in :func:`truncated_draws`; it depends on ``key``, whose trailing zeros do not count, and on
    ``stream``."""
    from scipy.special import ndtr, ndtri  # those of scipy.stats, which takes a second to import

    if truncation <= 0:
        return np.zeros(components)
    low, high = ndtr([-truncation, truncation])
    seed = np.random.SeedSequence(list(key), spawn_key=stream)
    uniform = np.random.default_rng(seed).uniform(size=components)
    return ndtri(low + uniform * (high - low))
