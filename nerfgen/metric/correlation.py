"""Correlation of two quantities: of their values (Pearson) and of their ranks (Spearman)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.stats
from jaxtyping import Float

from nerfgen.metric.estimate import Estimate, bootstrap

Group = tuple[Float[np.ndarray, "values"], Float[np.ndarray, "values"]]


def pearson(first: Float[np.ndarray, "values"], second: Float[np.ndarray, "values"]) -> float:
    """Correlation coefficient; 0 where there are no values or one side is constant."""
    if not len(first):
        return 0.0
    first, second = np.asarray(first, np.float64), np.asarray(second, np.float64)
    first, second = first - first.mean(), second - second.mean()
    scale = np.sqrt((first**2).sum() * (second**2).sum())
    return float((first * second).sum() / scale) if scale > 0 else 0.0


def spearman(first: Float[np.ndarray, "values"], second: Float[np.ndarray, "values"]) -> float:
    """Correlation of ranks, equal values sharing the mean of theirs; 0 where :func:`pearson` is."""
    return pearson(scipy.stats.rankdata(first), scipy.stats.rankdata(second))


@dataclass(frozen=True)
class PooledCorrelation:
    """Correlation over the values of several groups together, such as the pixels of several images.

    Attributes:
        groups: both quantities of each group.
        ranks: correlate ranks. They are those among all values, in resamples too.
    """

    groups: list[Group]
    ranks: bool = False

    def __add__(self, other: PooledCorrelation) -> PooledCorrelation:
        return PooledCorrelation([*self.groups, *other.groups], self.ranks)

    def estimate(self, seed: int = 0) -> Estimate:
        """The coefficient, with an interval by bootstrap over groups: values of one group hang together."""
        groups = [group for group in self.groups if len(group[0])]
        if not groups:
            return bootstrap(0, lambda chosen: 0.0)
        pooled = np.array([np.concatenate(side) for side in zip(*groups, strict=True)], np.float64)
        if self.ranks:
            pooled = scipy.stats.rankdata(pooled, axis=1)
        # Sums are of values about the pool's mean, so that they lose no digits.
        centered = pooled - pooled.mean(1, keepdims=True)
        starts = np.cumsum([0, *(len(first) for first, _ in groups[:-1])])
        x, y = centered
        sums = np.stack(
            [np.add.reduceat(values, starts) for values in (np.ones_like(x), x, y, x * x, y * y, x * y)],
            axis=1,
        )

        def coefficient(chosen: np.ndarray) -> float:
            count, x, y, xx, yy, xy = sums[chosen].sum(0)
            scale = (xx - x * x / count) * (yy - y * y / count)
            return float((xy - x * y / count) / np.sqrt(scale)) if scale > 0 else 0.0

        return bootstrap(len(groups), coefficient, seed)
