"""How alike two sets of pictures are as sets, by features of each: FID, KID, IS and coverage.

Parts that were measured apart are joined by their features. The intervals of FID, KID and IS come from halves of the
pictures, drawn without replacement (the delete-half jackknife; Shao and Wu, "A general theory for jackknife variance
estimation", 1989): a bootstrap would draw pictures twice, which these figures take for likeness. They tell how the
figure spreads, not how far it is off: FID is too high and IS too low for few pictures.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Self

import numpy as np
from jaxtyping import Bool, Float, Int

from nerfgen.metric.estimate import CONFIDENCE, Estimate, Mean

# Draws for an interval, and of KID also for the figure (Binkowski et al. 2018).
DRAWS = 100
# Pictures of a draw for KID, at most.
KERNEL_SUBSET = 1000
# FID of more pictures than this comes without an interval: hours of decompositions.
FRECHET_INTERVAL = 1000


@dataclass(frozen=True)
class _Sets:
    """Features of real and of generated pictures."""

    real: Float[np.ndarray, "real features"]
    generated: Float[np.ndarray, "generated features"]

    def __add__(self, other: Self) -> Self:
        return type(self)(
            np.concatenate([self.real, other.real]), np.concatenate([self.generated, other.generated])
        )


class FrechetDistance(_Sets):
    """:func:`frechet_distance` (FID, of Inception features), as a figure with an interval."""

    def estimate(self, seed: int = 0) -> Estimate:
        """The distance; ``n`` is of generated pictures. Without bounds above 1000 pictures, NaN for a single one."""
        real, generated = self.real, self.generated
        if min(len(real), len(generated)) < 2:
            return _nothing(len(generated))
        figure = frechet_distance(real, generated)
        if min(len(real), len(generated)) < 4 or max(len(real), len(generated)) > FRECHET_INTERVAL:
            return Estimate(figure, float("nan"), float("nan"), len(generated))
        halves = [
            frechet_distance(real[first], generated[second])
            for first, second in _draws(len(real), len(generated), len(real) // 2, len(generated) // 2, seed)
        ]
        return _spread(figure, halves, len(generated))


class KernelDistance(_Sets):
    """:func:`kernel_distance` (KID, of Inception features), as a figure with an interval.

    The figure is the mean over 100 draws of at most 1000 pictures of either set, as published, and of at most half of
    the smaller set.
    """

    def estimate(self, seed: int = 0) -> Estimate:
        """The distance; ``n`` is of generated pictures. NaN for fewer than four of either."""
        real, generated = self.real, self.generated
        count = min(len(real), len(generated))
        size = min(KERNEL_SUBSET, count // 2)
        if size < 2:
            return _nothing(len(generated))
        found = np.array(
            [
                kernel_distance(real[first], generated[second])
                for first, second in _draws(len(real), len(generated), size, size, seed)
            ]
        )
        # Draws of less than half spread by more than halves do.
        return _spread(float(found.mean()), found * np.sqrt(size / (count - size)), len(generated))


@dataclass(frozen=True)
class InceptionScore:
    """:func:`inception_score`, as a figure with an interval.

    Attributes:
        probabilities: of the classes, of each generated picture.
    """

    probabilities: Float[np.ndarray, "pictures classes"]

    def __add__(self, other: InceptionScore) -> InceptionScore:
        return InceptionScore(np.concatenate([self.probabilities, other.probabilities]))

    def estimate(self, seed: int = 0) -> Estimate:
        """The score of all pictures together."""
        count = len(self.probabilities)
        if not count:
            return _nothing(0)
        figure = inception_score(self.probabilities)
        if count < 4:
            return Estimate(figure, float("nan"), float("nan"), count)
        halves = [
            inception_score(self.probabilities[chosen]) for chosen, _ in _draws(count, 1, count // 2, 1, seed)
        ]
        return _spread(figure, halves, count)


@dataclass(frozen=True)
class Coverage(_Sets):
    """:func:`covered`, as the share of real points that are; its interval is by bootstrap over them.

    Attributes:
        neighbours: see there.
    """

    neighbours: int = 5

    def __add__(self, other: Coverage) -> Coverage:
        if self.neighbours != other.neighbours:
            raise ValueError("coverages by different numbers of neighbours have no sum")
        joined = _Sets(self.real, self.generated) + _Sets(other.real, other.generated)
        return Coverage(joined.real, joined.generated, self.neighbours)

    def estimate(self, seed: int = 0) -> Estimate:
        """The share; ``n`` is of real points, and none where there are too few for their neighbours."""
        if len(self.real) <= self.neighbours:
            return _nothing(0)
        return Mean(covered(self.real, self.generated, self.neighbours).astype(np.float64)).estimate(seed)


def frechet_distance(
    real: Float[np.ndarray, "real features"], generated: Float[np.ndarray, "generated features"]
) -> float:
    """|m - m'|^2 + Tr(C + C' - 2 (C C')^(1/2)), of the means and covariances of two sets of features.

    Heusel et al., "GANs trained by a two time-scale update rule converge to a local Nash equilibrium", 2017.
    """
    apart = ((real.mean(0, dtype=np.float64) - generated.mean(0, dtype=np.float64)) ** 2).sum()
    first, second = _covariance_factor(real), _covariance_factor(generated)
    # The root of C C' = A^T A A'^T A' has the trace that A A'^T has as the sum of its singular values.
    shared = np.linalg.svd(first @ second.T, compute_uv=False).sum()
    return float(max(apart + (first**2).sum() + (second**2).sum() - 2 * shared, 0.0))


def kernel_distance(
    real: Float[np.ndarray, "real features"], generated: Float[np.ndarray, "generated features"]
) -> float:
    """Unbiased squared maximum mean discrepancy of two sets of features, kernel (x . y / features + 1)^3.

    Binkowski et al., "Demystifying MMD GANs", 2018. It may be below zero, and is 0 on average for equal distributions.
    """
    real, generated = np.asarray(real, np.float64), np.asarray(generated, np.float64)

    def within(side: np.ndarray) -> float:
        kernel = _kernel(side, side)
        return (kernel.sum() - np.trace(kernel)) / (len(side) * (len(side) - 1))

    return float(within(real) + within(generated) - 2 * _kernel(real, generated).mean())


def inception_score(probabilities: Float[np.ndarray, "pictures classes"]) -> float:
    """exp of the mean of KL(p(class | picture) || p(class)), over all pictures together.

    Salimans et al., "Improved techniques for training GANs", 2016, who take the mean over ten parts of 50,000 pictures.
    From 1, where all pictures are of the same classes, to the number of classes.
    """
    probabilities = np.asarray(probabilities, np.float64)
    tiny = np.finfo(np.float64).tiny
    ratio = np.log(np.maximum(probabilities, tiny)) - np.log(np.maximum(probabilities.mean(0), tiny))
    return float(np.exp((probabilities * ratio).sum(axis=1).mean()))


def covered(
    real: Float[np.ndarray, "real features"],
    generated: Float[np.ndarray, "generated features"],
    neighbours: int = 5,
) -> Bool[np.ndarray, "real"]:
    """Whether a generated point is nearer to a real point than its ``neighbours``-th nearest real one.

    Naeem et al., "Reliable fidelity and diversity metrics for generative models", 2020; the share of points of which it
    is true is their coverage.

    Raises:
        ValueError: there are not more real points than neighbours.
    """
    if len(real) <= neighbours:
        raise ValueError(f"coverage by {neighbours} neighbours needs more than {neighbours} real points")
    if not len(generated):
        return np.zeros(len(real), bool)
    # A point is its own nearest.
    radius = np.partition(_squared_distances(real, real), neighbours, axis=1)[:, neighbours]
    return _squared_distances(real, generated).min(axis=1) < radius


def _covariance_factor(points: Float[np.ndarray, "points features"]) -> Float[np.ndarray, "rows features"]:
    """A matrix A of few rows whose A^T A is the covariance of the points."""
    deviations = (points - points.mean(0, dtype=np.float64)) / np.sqrt(len(points) - 1)
    return np.asarray(np.linalg.qr(deviations, mode="r")) if len(points) > points.shape[1] else deviations


def _squared_distances(
    first: Float[np.ndarray, "first features"], second: Float[np.ndarray, "second features"]
) -> Float[np.ndarray, "first second"]:
    # About a common centre, so that the differences of squares lose few digits.
    center = first.mean(0, dtype=np.float64)
    first, second = first - center, second - center
    squared = (first**2).sum(1)[:, None] + (second**2).sum(1) - 2 * first @ second.T
    return np.maximum(squared, 0.0)


def _kernel(
    first: Float[np.ndarray, "first features"], second: Float[np.ndarray, "second features"]
) -> Float[np.ndarray, "first second"]:
    return (first @ second.T / first.shape[1] + 1) ** 3


def _draws(
    count: int, other_count: int, size: int, other_size: int, seed: int
) -> Iterator[tuple[Int[np.ndarray, "size"], Int[np.ndarray, "other_size"]]]:
    """So many of the places of each of two sets, without replacement, again and again."""
    generator = np.random.default_rng(seed)
    for _ in range(DRAWS):
        yield (
            generator.choice(count, size, replace=False),
            generator.choice(other_count, other_size, replace=False),
        )


def _spread(figure: float, drawn: list[float] | Float[np.ndarray, "draws"], count: int) -> Estimate:
    """A figure with the spread of drawn ones about it, whatever their mean."""
    low, high = np.quantile(drawn, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2]) - np.mean(drawn)
    return Estimate(figure, float(figure + low), float(figure + high), count)


def _nothing(count: int) -> Estimate:
    return Estimate(float("nan"), float("nan"), float("nan"), count)
