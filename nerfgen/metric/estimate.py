"""What is measured item by item, as a figure with an interval; parts that were measured apart are added."""

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
    """A figure with its uncertainty.

    Attributes:
        mean: the figure; NaN where nothing could be measured.
        low, high: bounds of its 95% interval, by bootstrap over items.
        n: how many items it is of.
    """

    mean: float
    low: float
    high: float
    n: int


class Metric(Protocol):
    """Something measured on items. Parts of the items may be measured apart: their sum is as if measured together."""

    def __add__(self, other: Self) -> Self: ...

    def estimate(self, seed: int = 0) -> Estimate:
        """The figure over all items."""
        ...


@dataclass(frozen=True)
class Mean:
    """The mean of one value an item; items whose value is NaN could not be measured, and don't count."""

    values: Float[np.ndarray, "items"]

    def __add__(self, other: Mean) -> Mean:
        return Mean(np.concatenate([self.values, other.values]))

    def estimate(self, seed: int = 0) -> Estimate:
        """The mean over the items that could be measured."""
        values = np.asarray(self.values, np.float64)
        values = values[np.isfinite(values)]
        return bootstrap(len(values), lambda chosen: float(values[chosen].mean()), seed)


def bootstrap(count: int, figure: Callable[[Int[np.ndarray, "chosen"]], float], seed: int = 0) -> Estimate:
    """A figure of ``count`` items, and the interval that it lies in for 95% of resamples of them (Efron 1979).

    Args:
        figure: of the items of these numbers, some of which are there more than once in a resample.
    """
    if not count:
        return Estimate(float("nan"), float("nan"), float("nan"), 0)
    generator = np.random.default_rng(seed)
    found = [figure(generator.integers(count, size=count)) for _ in range(RESAMPLES)]
    low, high = np.quantile(found, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return Estimate(figure(np.arange(count)), float(low), float(high), count)
