"""How alike two sets of pictures are as wholes, by features of the pictures."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy.spatial import cKDTree

from nerfgen.metric.estimate import CONFIDENCE, Estimate, bootstrap

_SUBSETS, _SUBSET_SIZE = 100, 1000


@dataclass(frozen=True)
class FrechetDistance:
    """FID (Heusel et al. 2017): |m1 - m2|^2 + tr(S1 + S2 - 2 (S1 S2)^(1/2)) of the features' means m and covariances S.

    It falls with the number of pictures, so that only figures of equal numbers can be compared.
    """

    real: Float[np.ndarray, "real values"]
    generated: Float[np.ndarray, "generated values"]

    def __add__(self, other: FrechetDistance) -> FrechetDistance:
        return FrechetDistance(
            np.concatenate([self.real, other.real]), np.concatenate([self.generated, other.generated])
        )

    def estimate(self, seed: int = 0) -> Estimate:
        """The distance. It has no interval: resamples, which hold pictures twice, lie farther apart than the sets."""
        first, second = (np.asarray(side, np.float64) for side in (self.real, self.generated))
        mean = first.mean(0) - second.mean(0)
        # The eigenvalues of S1 S2 are the squared singular values of the product of the centred sets.
        roots = [(side - side.mean(0)) / np.sqrt(max(len(side) - 1, 1)) for side in (first, second)]
        shared = np.linalg.svd(roots[0] @ roots[1].T, compute_uv=False).sum()
        distance = mean @ mean + sum((root**2).sum() for root in roots) - 2 * shared
        return Estimate(float(distance), float("nan"), float("nan"), min(len(first), len(second)))


@dataclass(frozen=True)
class KernelDistance:
    """KID (Binkowski et al. 2018), times 1000: the unbiased squared maximum mean discrepancy with the kernel
    (x . y / values + 1)^3, over 100 subsets of at most 1,000 pictures."""

    real: Float[np.ndarray, "real values"]
    generated: Float[np.ndarray, "generated values"]

    def __add__(self, other: KernelDistance) -> KernelDistance:
        return KernelDistance(
            np.concatenate([self.real, other.real]), np.concatenate([self.generated, other.generated])
        )

    def estimate(self, seed: int = 0) -> Estimate:
        """The mean over subsets, and what lies between for 95% of them."""
        first, second = (np.asarray(side, np.float64) for side in (self.real, self.generated))
        count = min(len(first), len(second))
        size = min(_SUBSET_SIZE, max(2, count // 2))
        kernels = [_kernel(first, first), _kernel(second, second), _kernel(first, second)]
        generator = np.random.default_rng(seed)
        found = []
        for _ in range(_SUBSETS):
            some, others = (generator.permutation(len(side))[:size] for side in (first, second))
            within = sum(
                (kernel[np.ix_(own, own)].sum() - kernel[own, own].sum()) / (size * (size - 1))
                for kernel, own in zip(kernels, (some, others), strict=False)
            )
            found.append(1000 * (within - 2 * kernels[2][np.ix_(some, others)].mean()))
        low, high = np.quantile(found, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
        return Estimate(float(np.mean(found)), float(low), float(high), count)


@dataclass(frozen=True)
class InceptionScore:
    """IS (Salimans et al. 2016): exp of the mean divergence of each picture's class probabilities from their mean."""

    logits: Float[np.ndarray, "pictures classes"]

    def __add__(self, other: InceptionScore) -> InceptionScore:
        return InceptionScore(np.concatenate([self.logits, other.logits]))

    def estimate(self, seed: int = 0) -> Estimate:
        """The score over all pictures, with an interval by bootstrap."""
        shifted = np.asarray(self.logits, np.float64)
        shifted = shifted - shifted.max(1, keepdims=True)
        logs = shifted - np.log(np.exp(shifted).sum(1, keepdims=True))
        shares = np.exp(logs)
        own = (shares * logs).sum(1)

        def score(chosen: np.ndarray) -> float:
            mean = shares[chosen].mean(0)
            return float(np.exp(own[chosen].mean() - (mean * np.log(np.maximum(mean, 1e-300))).sum()))

        return bootstrap(len(logs), score, seed)


@dataclass(frozen=True)
class Coverage:
    """Coverage (Naeem et al. 2020): the share of real items that have a generated one no farther away than their own
    k-th nearest real one."""

    real: Float[np.ndarray, "real values"]
    generated: Float[np.ndarray, "generated values"]
    nearest: int = 5

    def __add__(self, other: Coverage) -> Coverage:
        return Coverage(
            np.concatenate([self.real, other.real]),
            np.concatenate([self.generated, other.generated]),
            self.nearest,
        )

    def estimate(self, seed: int = 0) -> Estimate:
        """The share, with an interval by bootstrap over real items."""
        if not len(self.real) or not len(self.generated):
            return bootstrap(0, lambda chosen: 0.0)
        # The nearest real item of each is itself.
        most = min(self.nearest + 1, len(self.real))
        reach = cKDTree(self.real).query(self.real, most)[0].reshape(len(self.real), -1)[:, -1]
        covered = cKDTree(self.generated).query(self.real)[0] <= reach
        return bootstrap(len(covered), lambda chosen: float(covered[chosen].mean()), seed)


def _kernel(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    return (first @ second.T / first.shape[1] + 1) ** 3
