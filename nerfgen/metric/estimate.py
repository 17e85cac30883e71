"""Means and medians of measurements over items, with bootstrap confidence intervals."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, Self

import numpy as np
from jaxtyping import Float, Int

CONFIDENCE = 0.95
RESAMPLES = 1000


@dataclass(frozen=True)
class Estimate:
    """A value with its uncertainty.

    Attributes:
        mean: the value; NaN if nothing could be measured.
        low: lower bound of the 95% confidence interval.
        high: upper bound.
        n: number of items.
    """

    mean: float
    low: float
    high: float
    n: int


class Metric(Protocol):
    """A measurement of items that can be accumulated: the sum of two parts equals the measurement of all items."""

    def __add__(self, other: Self) -> Self: ...

    def estimate(self, seed: int = 0) -> Estimate:
        """The estimate over all items."""
        ...


@dataclass(frozen=True)
class Mean:
    """The mean of one value per item; NaN marks items that could not be measured, which are left out."""

    values: Float[np.ndarray, "items"]

    def __add__(self, other: Mean) -> Mean:
        return Mean(np.concatenate([self.values, other.values]))

    def estimate(self, seed: int = 0) -> Estimate:
        """The mean over the measured items."""
        values = np.asarray(self.values, np.float64)
        values = values[np.isfinite(values)]
        return bootstrap(len(values), lambda chosen: float(values[chosen].mean()), seed)


@dataclass(frozen=True)
class Median:
    """The median of one value per item; NaN marks items that could not be measured, which are left out."""

    values: Float[np.ndarray, "items"]

    def __add__(self, other: Median) -> Median:
        return Median(np.concatenate([self.values, other.values]))

    def estimate(self, seed: int = 0) -> Estimate:
        """The median over the measured items."""
        values = np.asarray(self.values, np.float64)
        values = values[np.isfinite(values)]
        return bootstrap(len(values), lambda chosen: float(np.median(values[chosen])), seed)


def bootstrap(count: int, statistic: Callable[[Int[np.ndarray, "chosen"]], float], seed: int = 0) -> Estimate:
    """A statistic of ``count`` items, and the interval that contains it for 95% of bootstrap resamples (Efron 1979).

    Args:
        statistic: value for item indices; a resample repeats some of them.
    """
    if not count:
        return Estimate(float("nan"), float("nan"), float("nan"), 0)
    generator = np.random.default_rng(seed)
    found = [statistic(generator.integers(count, size=count)) for _ in range(RESAMPLES)]
    low, high = np.quantile(found, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return Estimate(statistic(np.arange(count)), float(low), float(high), count)
