"""A Gaussian mixture over the coordinates of latent codes: a closer prior than one Gaussian.

Dempster, Laird and Rubin, "Maximum likelihood from incomplete data via the EM algorithm", 1977. Components have
diagonal covariances in principal coordinates, where the table as a whole is uncorrelated.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy.special import logsumexp

from nerfgen.geometry import evenly_chosen
from nerfgen.model.latent_space import truncated_draw

# Numbers of components that are tried, of which the likelihood of left-out rows chooses.
_CHOICES = (1, 2, 4, 8, 16, 32)
# Every so many rows are left out, at most so many rows are used.
_HELD_OUT, _MOST_ROWS = 10, 20_000
# Rows that a component needs at least; iterations; added to variances; weight, in rows, of the prior that variances
# are 1.
_ROWS_PER_COMPONENT, _ITERATIONS, _FLOOR, _PRIOR_ROWS = 20, 40, 1e-3, 10.0
# Stream of random numbers of a sample: which component it is of.
_COMPONENT = 2


@dataclass(frozen=True)
class Mixture:
    """A distribution of principal coordinates, in standard deviations.

    Attributes:
        weights: of the components.
        means: of the components.
        deviations: standard deviations of the components along each axis.
        held_out: mean log-likelihood of left-out rows, natural logarithm per dimension, by number of components; empty
            for tables of few rows.
    """

    weights: Float[np.ndarray, "components"]
    means: Float[np.ndarray, "components axes"]
    deviations: Float[np.ndarray, "components axes"]
    held_out: dict[int, float]

    def log_likelihood(self, coefficients: Float[np.ndarray, "rows axes"]) -> Float[np.ndarray, "rows"]:
        """Natural logarithm of the density at coordinates."""
        return np.asarray(logsumexp(self._joint(coefficients), axis=1))

    def draws(self, count: int, truncation: float, seed: int) -> Float[np.ndarray, "samples axes"]:
        """Coordinates of new objects; those of sample i depend on (seed, i) only.

        Components are chosen by their weights. Within a component, draws are truncated at ``truncation`` of its
        standard deviations, and its mean moves towards 0 by the factor by which that shortens draws: 0 gives the
        table's mean.
        """
        chosen = np.array(
            [
                np.searchsorted(
                    np.cumsum(self.weights)[:-1], np.random.default_rng([seed, sample, _COMPONENT]).random()
                )
                for sample in range(count)
            ],
            dtype=int,
        )
        draws = [truncated_draw(self.means.shape[1], truncation, (seed, sample)) for sample in range(count)]
        around = np.array(draws).reshape(count, -1) * self.deviations[chosen]
        return truncated_deviation(truncation) * self.means[chosen] + around

    def _joint(self, coefficients: Float[np.ndarray, "rows axes"]) -> Float[np.ndarray, "rows components"]:
        """Logarithms of weight times density, of each component."""
        precision = self.deviations**-2
        squared = (
            coefficients**2 @ precision.T
            - 2 * coefficients @ (precision * self.means).T
            + (precision * self.means**2).sum(1)
        )
        size = np.log(self.deviations).sum(1) + 0.5 * self.means.shape[1] * np.log(2 * np.pi)
        return np.log(self.weights) - size - 0.5 * squared


def truncated_deviation(truncation: float) -> float:
    """Standard deviation of a standard normal number that is truncated to [-``truncation``, ``truncation``]."""
    from scipy.special import ndtr

    if truncation <= 0:
        return 0.0
    density = np.exp(-0.5 * truncation**2) / np.sqrt(2 * np.pi)
    return float(np.sqrt(max(1 - 2 * truncation * density / (2 * ndtr(truncation) - 1), 0.0)))


def fit_mixture(coefficients: Float[np.ndarray, "rows axes"]) -> Mixture:
    """The mixture of a table's coordinates. The number of components is the one with the largest likelihood of a tenth
    of the rows, left out; of large tables, 20,000 evenly chosen rows are used.

    It is deterministic, and takes seconds.
    """
    rows = evenly_chosen(coefficients, _MOST_ROWS)
    left_out = np.arange(len(rows)) % _HELD_OUT == _HELD_OUT - 1
    most = max(1, int((~left_out).sum()) // _ROWS_PER_COMPONENT)
    held_out: dict[int, float] = {}
    for count in _CHOICES:
        if count <= most and left_out.any():
            tried = _expectation_maximisation(rows[~left_out], count)
            held_out[count] = float(tried.log_likelihood(rows[left_out]).mean() / rows.shape[1])
    best = max(held_out, key=held_out.__getitem__, default=1)
    found = _expectation_maximisation(rows, best)
    return Mixture(found.weights, found.means, found.deviations, held_out)


def _expectation_maximisation(rows: Float[np.ndarray, "rows axes"], count: int) -> Mixture:
    axes = rows.shape[1]
    # Rows far apart, so that components begin in different places (k-means++ without its chance).
    starts = [rows[np.argmin((rows**2).sum(1))]]
    distance = np.full(len(rows), np.inf)
    for _ in range(count - 1):
        distance = np.minimum(distance, ((rows - starts[-1]) ** 2).sum(1))
        starts.append(rows[np.argsort(distance, kind="stable")[int(0.9 * (len(rows) - 1))]])
    mixture = Mixture(np.full(count, 1 / count), np.array(starts), np.ones((count, axes)), {})
    squared = rows**2
    for _ in range(_ITERATIONS):
        joint = mixture._joint(rows)
        shares = np.exp(joint - logsumexp(joint, axis=1, keepdims=True))
        total = shares.sum(0) + 1e-9
        means = shares.T @ rows / total[:, None]
        squares = shares.T @ squared - total[:, None] * means**2
        variances = (squares + _PRIOR_ROWS) / (total[:, None] + _PRIOR_ROWS) + _FLOOR
        mixture = Mixture(total / total.sum(), means, np.sqrt(variances), {})
    return mixture
