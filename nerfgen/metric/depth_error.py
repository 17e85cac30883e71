"""Agreement of estimated with true depth: correlations within and over images, and angles between surface normals."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from nerfgen.geometry import pixel_centers
from nerfgen.metric.estimate import Estimate, bootstrap

# Neighbouring pixels whose depths differ by more than this fraction lie on different surfaces.
_JUMP = 0.05
# Fewest items for the correlation of a point over items.
_MIN_ITEMS = 3
# A spread of less than this fraction of the sum of squares is rounding.
_CONSTANT = 1e-12


def depth_normals(
    depth: Float[np.ndarray, "size size"],
    intrinsics: Float[np.ndarray, "3 3"],
    solid: Bool[np.ndarray, "size size"],
) -> tuple[Float[np.ndarray, "size size 3"], Bool[np.ndarray, "size size"]]:
    """Unit normals of a depth map, towards the camera and in camera axes, and where they are defined.

    They are cross products of central differences of the back-projected pixels. They are undefined at pixels with a
    neighbour that is not ``solid`` or lies on another surface.

    Args:
        depth: along the optical axis.
        intrinsics: pinhole matrix of the depth map, pixels, without skew.
        solid: pixels that show the object alone.
    """
    size = len(depth)
    plane = (pixel_centers(size) - intrinsics[:2, 2]) / np.diag(intrinsics)[:2]
    rays = np.concatenate([plane, np.ones((size**2, 1))], axis=1).reshape(size, size, 3)
    points = rays * np.asarray(depth, np.float64)[..., None]
    normals = np.zeros((size, size, 3))
    defined = np.zeros((size, size), bool)
    middle, ahead, behind = slice(1, -1), slice(2, None), slice(None, -2)
    across = points[middle, ahead] - points[middle, behind]
    down = points[ahead, middle] - points[behind, middle]
    # x right, y down, z forward: down x across looks back at the camera.
    cross = np.cross(down, across)
    length = np.linalg.norm(cross, axis=-1)
    around = ((middle, ahead), (middle, behind), (ahead, middle), (behind, middle))
    near = np.abs(np.stack([depth[place] - depth[middle, middle] for place in around])).max(0)
    whole = solid[middle, middle] & np.all([solid[place] for place in around], axis=0)
    defined[middle, middle] = whole & (near < _JUMP * depth[middle, middle]) & (length > 0)
    normals[middle, middle] = cross / np.maximum(length, 1e-12)[..., None]
    return np.where(defined[..., None], normals, 0.0), defined


def angles_between(
    first: Float[np.ndarray, "normals 3"], second: Float[np.ndarray, "normals 3"]
) -> Float[np.ndarray, "normals"]:
    """Angles in degrees between unit vectors."""
    return np.degrees(
        np.arctan2(np.linalg.norm(np.cross(first, second), axis=-1), np.einsum("...i,...i", first, second))
    )


# Each has a number of values of its own.
Group = tuple[Float[np.ndarray, "_"], Float[np.ndarray, "_"]]


def pearson(first: Float[np.ndarray, "values"], second: Float[np.ndarray, "values"]) -> float:
    """Correlation coefficient; 0 for no values or a constant side."""
    if not len(first):
        return 0.0
    first, second = np.asarray(first, np.float64), np.asarray(second, np.float64)
    first, second = first - first.mean(), second - second.mean()
    scale = np.sqrt((first**2).sum() * (second**2).sum())
    return float((first * second).sum() / scale) if scale > 0 else 0.0


def spearman(first: Float[np.ndarray, "values"], second: Float[np.ndarray, "values"]) -> float:
    """Rank correlation with mean ranks for ties; 0 where :func:`pearson` is 0."""
    import scipy.stats  # slow to import

    return pearson(scipy.stats.rankdata(first), scipy.stats.rankdata(second))


@dataclass(frozen=True)
class PooledCorrelation:
    """Correlation over the pooled values of several groups, such as the pixels of several images.

    Attributes:
        groups: both quantities of each group.
        ranks: correlate ranks among all values; resamples keep these ranks.
    """

    groups: list[Group]
    ranks: bool = False

    def __add__(self, other: PooledCorrelation) -> PooledCorrelation:
        return PooledCorrelation([*self.groups, *other.groups], self.ranks)

    def estimate(self, seed: int = 0) -> Estimate:
        """The coefficient, with a bootstrap interval over groups, whose values are dependent."""
        import scipy.stats  # slow to import

        groups = [group for group in self.groups if len(group[0])]
        if not groups:
            return bootstrap(0, lambda chosen: 0.0)
        pooled = np.array([np.concatenate(side) for side in zip(*groups, strict=True)], np.float64)
        if self.ranks:
            pooled = scipy.stats.rankdata(pooled, axis=1)
        # Sums of values centred on the pooled mean lose no digits.
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


@dataclass(frozen=True)
class SummedCorrelation:
    """The sum over points of the absolute correlation of two quantities over items: DepthCorr of depths over images.

    Moniz et al., "Unsupervised depth estimation, 3D face rotation and replacement", 2018. It is at most the number of
    points. A point that is known in fewer than three items, or that is constant, adds 0. Unrelated quantities of n
    items have a mean absolute correlation of about 0.8 / sqrt(n): few items make the sum large.

    Attributes:
        first, second: both quantities at each point; NaN where unknown.
    """

    first: Float[np.ndarray, "items points"]
    second: Float[np.ndarray, "items points"]

    def __add__(self, other: SummedCorrelation) -> SummedCorrelation:
        return SummedCorrelation(
            np.concatenate([self.first, other.first]), np.concatenate([self.second, other.second])
        )

    def estimate(self, seed: int = 0) -> Estimate:
        """The sum, with a bootstrap interval over items; ``n`` counts items with a known point."""
        known = np.isfinite(self.first) & np.isfinite(self.second)
        known &= known.sum(axis=0) >= _MIN_ITEMS
        used = known.any(axis=1)
        known = known[used]
        # Sums of values centred on the point's mean lose no digits.
        x, y = (_centered(side[used], known) for side in (self.first, self.second))
        sums = np.stack([known.astype(np.float64), x, y, x * x, y * y, x * y])

        def total(chosen: np.ndarray) -> float:
            count, x, y, xx, yy, xy = np.bincount(chosen, minlength=len(known)) @ sums
            count = np.maximum(count, 1)
            spread_x, spread_y = xx - x * x / count, yy - y * y / count
            varies = (spread_x > _CONSTANT * xx) & (spread_y > _CONSTANT * yy)
            scale = np.sqrt(np.where(varies, spread_x * spread_y, 1.0))
            return float(np.abs(np.where(varies, (xy - x * y / count) / scale, 0.0)).sum())

        return bootstrap(len(known), total, seed)


def _centered(
    values: Float[np.ndarray, "items points"], known: Bool[np.ndarray, "items points"]
) -> Float[np.ndarray, "items points"]:
    """Known values less their mean over items; 0 where unknown."""
    values = np.where(known, values, 0.0).astype(np.float64)
    return np.where(known, values - values.sum(axis=0) / np.maximum(known.sum(axis=0), 1), 0.0)
