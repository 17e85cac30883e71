"""How alike two pictures are."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float


def psnr(
    first: Float[np.ndarray, "*shape"],
    second: Float[np.ndarray, "*shape"],
    where: Bool[np.ndarray, "*pixels"] | None = None,
) -> float:
    """Peak signal-to-noise ratio in dB of values in [0, 1], over all pixels or those in ``where``."""
    squared = (np.asarray(first, np.float64) - second) ** 2
    error = float(np.mean(squared if where is None else squared[where]))
    return float(-10 * np.log10(max(error, 1e-12)))


def intersection_over_union(first: Bool[np.ndarray, "*shape"], second: Bool[np.ndarray, "*shape"]) -> float:
    """IoU of two masks; 1 where both are empty."""
    union = np.count_nonzero(first | second)
    return float(np.count_nonzero(first & second) / union) if union else 1.0


def pearson(first: Float[np.ndarray, "values"], second: Float[np.ndarray, "values"]) -> float:
    """Correlation coefficient; 0 where there are no values or one side is constant."""
    if not len(first):
        return 0.0
    first, second = first - first.mean(), second - second.mean()
    scale = np.sqrt((first**2).sum() * (second**2).sum())
    return float((first * second).sum() / scale) if scale > 0 else 0.0
