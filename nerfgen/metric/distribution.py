"""Distances between sets of images by features of each image: FID, KID, IS and coverage.

Intervals of FID, KID and IS are from random halves of the images, drawn without replacement (delete-half jackknife,
Shao and Wu, "A general theory for jackknife variance estimation", 1989): a bootstrap repeats images, which these
metrics mistake for similarity. The intervals cover the variance of a metric, not its bias: FID is too high and IS too
low for few images.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Self

import numpy as np
from jaxtyping import Bool, Float, Int

from nerfgen.metric.estimate import CONFIDENCE, Estimate, Mean

# Random subsets for an interval, and of KID also for the value (Binkowski et al. 2018).
DRAWS = 100
# Most images of a subset for KID.
KERNEL_SUBSET = 1000
# Most images for an interval of FID: with more, the decompositions take hours.
FRECHET_INTERVAL = 1000


@dataclass(frozen=True)
class _Sets:
    """Features of real and of generated images."""

    real: Float[np.ndarray, "real features"]
    generated: Float[np.ndarray, "generated features"]

    def __add__(self, other: Self) -> Self:
        return type(self)(
            np.concatenate([self.real, other.real]), np.concatenate([self.generated, other.generated])
        )


class FrechetDistance(_Sets):
    """:func:`frechet_distance` with a confidence interval: FID, of Inception features."""

    def estimate(self, seed: int = 0) -> Estimate:
        """The distance; ``n`` counts generated images. NaN for fewer than two images, without bounds above 1000."""
        real, generated = self.real, self.generated
        if min(len(real), len(generated)) < 2:
            return _unmeasured(len(generated))
        value = frechet_distance(real, generated)
        if min(len(real), len(generated)) < 4 or max(len(real), len(generated)) > FRECHET_INTERVAL:
            return Estimate(value, float("nan"), float("nan"), len(generated))
        halves = [
            frechet_distance(real[first], generated[second])
            for first, second in _random_subsets(
                len(real), len(generated), len(real) // 2, len(generated) // 2, seed
            )
        ]
        return _with_spread(value, halves, len(generated))


class KernelDistance(_Sets):
    """:func:`kernel_distance` with a confidence interval: KID, of Inception features.

    The value is the mean over 100 random subsets of at most 1000 images of either set, as published, and at most half
    of the smaller set.
    """

    def estimate(self, seed: int = 0) -> Estimate:
        """The distance; ``n`` counts generated images. NaN for fewer than four images of either set."""
        real, generated = self.real, self.generated
        count = min(len(real), len(generated))
        size = min(KERNEL_SUBSET, count // 2)
        if size < 2:
            return _unmeasured(len(generated))
        found = np.array(
            [
                kernel_distance(real[first], generated[second])
                for first, second in _random_subsets(len(real), len(generated), size, size, seed)
            ]
        )
        # Subsets smaller than half vary more than halves do.
        return _with_spread(float(found.mean()), found * np.sqrt(size / (count - size)), len(generated))


@dataclass(frozen=True)
class InceptionScore:
    """:func:`inception_score` with a confidence interval.

    Attributes:
        probabilities: class probabilities of each generated image.
    """

    probabilities: Float[np.ndarray, "images classes"]

    def __add__(self, other: InceptionScore) -> InceptionScore:
        return InceptionScore(np.concatenate([self.probabilities, other.probabilities]))

    def estimate(self, seed: int = 0) -> Estimate:
        """The score over all images."""
        count = len(self.probabilities)
        if not count:
            return _unmeasured(0)
        value = inception_score(self.probabilities)
        if count < 4:
            return Estimate(value, float("nan"), float("nan"), count)
        halves = [
            inception_score(self.probabilities[chosen])
            for chosen, _ in _random_subsets(count, 1, count // 2, 1, seed)
        ]
        return _with_spread(value, halves, count)


@dataclass(frozen=True)
class Coverage(_Sets):
    """Fraction of real points that are covered (:func:`covered_points`), with a bootstrap interval over real points.

    Attributes:
        neighbours: nearest neighbours that define coverage.
    """

    neighbours: int = 5

    def __add__(self, other: Coverage) -> Coverage:
        if self.neighbours != other.neighbours:
            raise ValueError("coverages with different `neighbours` cannot be added")
        joined = _Sets(self.real, self.generated) + _Sets(other.real, other.generated)
        return Coverage(joined.real, joined.generated, self.neighbours)

    def estimate(self, seed: int = 0) -> Estimate:
        """The fraction; ``n`` counts real points, and is 0 if there are not more of them than neighbours."""
        if len(self.real) <= self.neighbours:
            return _unmeasured(0)
        return Mean(covered_points(self.real, self.generated, self.neighbours).astype(np.float64)).estimate(
            seed
        )


def frechet_distance(
    real: Float[np.ndarray, "real features"], generated: Float[np.ndarray, "generated features"]
) -> float:
    """|m - m'|^2 + Tr(C + C' - 2 (C C')^(1/2)), of the means and covariances of two sets of features.

    Heusel et al., "GANs trained by a two time-scale update rule converge to a local Nash equilibrium", 2017.
    """
    mean_distance = ((real.mean(0, dtype=np.float64) - generated.mean(0, dtype=np.float64)) ** 2).sum()
    first, second = _covariance_factor(real), _covariance_factor(generated)
    # The root of C C' = A^T A A'^T A' has the trace that A A'^T has as the sum of its singular values.
    shared = np.linalg.svd(first @ second.T, compute_uv=False).sum()
    return float(max(mean_distance + (first**2).sum() + (second**2).sum() - 2 * shared, 0.0))


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


def inception_score(probabilities: Float[np.ndarray, "images classes"]) -> float:
    """exp of the mean of KL(p(class | image) || p(class)), over all images.

    Salimans et al., "Improved techniques for training GANs", 2016, who take the mean over ten parts of 50,000 images.
    It is 1 if all images have the same class probabilities, and at most the number of classes.
    """
    probabilities = np.asarray(probabilities, np.float64)
    tiny = np.finfo(np.float64).tiny
    ratio = np.log(np.maximum(probabilities, tiny)) - np.log(np.maximum(probabilities.mean(0), tiny))
    return float(np.exp((probabilities * ratio).sum(axis=1).mean()))


def covered_points(
    real: Float[np.ndarray, "real features"],
    generated: Float[np.ndarray, "generated features"],
    neighbours: int = 5,
) -> Bool[np.ndarray, "real"]:
    """Which real points have a generated point nearer than their ``neighbours``-th nearest real point.

    The fraction of these points is the coverage of Naeem et al., "Reliable fidelity and diversity metrics for
    generative models", 2020.

    Raises:
        ValueError: there are at most as many real points as neighbours.
    """
    if len(real) <= neighbours:
        raise ValueError(
            f"coverage by {neighbours} neighbours needs more than {neighbours} real points, not {len(real)}"
        )
    if not len(generated):
        return np.zeros(len(real), bool)
    # Index 0 is the point itself.
    radius = np.partition(_squared_distances(real, real), neighbours, axis=1)[:, neighbours]
    return _squared_distances(real, generated).min(axis=1) < radius


def _covariance_factor(points: Float[np.ndarray, "points features"]) -> Float[np.ndarray, "rows features"]:
    """A matrix A with at most as many rows as columns and A^T A the covariance of the points."""
    deviations = (points - points.mean(0, dtype=np.float64)) / np.sqrt(len(points) - 1)
    return np.asarray(np.linalg.qr(deviations, mode="r")) if len(points) > points.shape[1] else deviations


def _squared_distances(
    first: Float[np.ndarray, "first features"], second: Float[np.ndarray, "second features"]
) -> Float[np.ndarray, "first second"]:
    # Centring limits the loss of digits in the difference of squares.
    center = first.mean(0, dtype=np.float64)
    first, second = first - center, second - center
    squared = (first**2).sum(1)[:, None] + (second**2).sum(1) - 2 * first @ second.T
    return np.maximum(squared, 0.0)


def _kernel(
    first: Float[np.ndarray, "first features"], second: Float[np.ndarray, "second features"]
) -> Float[np.ndarray, "first second"]:
    return (first @ second.T / first.shape[1] + 1) ** 3


def _random_subsets(
    count: int, other_count: int, size: int, other_size: int, seed: int
) -> Iterator[tuple[Int[np.ndarray, "size"], Int[np.ndarray, "other_size"]]]:
    """Random subsets of the indices of two sets, drawn without replacement, for each draw."""
    generator = np.random.default_rng(seed)
    for _ in range(DRAWS):
        yield (
            generator.choice(count, size, replace=False),
            generator.choice(other_count, other_size, replace=False),
        )


def _with_spread(value: float, drawn: list[float] | Float[np.ndarray, "draws"], count: int) -> Estimate:
    """A value with the spread of subset values about it, whatever their mean."""
    low, high = np.quantile(drawn, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2]) - np.mean(drawn)
    return Estimate(value, float(value + low), float(value + high), count)


def _unmeasured(count: int) -> Estimate:
    return Estimate(float("nan"), float("nan"), float("nan"), count)
