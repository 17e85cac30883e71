"""Ridge regression whose strength is chosen by leaving rows out."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

_STRENGTHS = np.logspace(-6, 1, 15)


def ridge(
    features: Float[np.ndarray, "rows features"],
    targets: Float[np.ndarray, "rows outputs"],
    blocks: tuple[int, ...],
) -> tuple[Float[np.ndarray, "features outputs"], Float[np.ndarray, "outputs"]]:
    """Ridge regression; each output has the strength with the smallest leave-one-out error, in closed form.

    With the hat matrix H of the centred features, the leave-one-out error of row i is
    (y_i - (H y)_i) / (1 - H_ii - 1/n).

    Args:
        blocks: lengths of groups of features, such as the pixels of an image; each is scaled to a total variance of 1.

    Returns:
        Weights and offset of targets ~ features @ weights + offset.
    """
    count = len(features)
    center, middle = features.mean(0), targets.mean(0)
    ends = np.cumsum(blocks)[:-1]
    spread = [np.sqrt(part.sum()) or 1.0 for part in np.split(features.var(0), ends)]
    scale = np.repeat(spread, blocks)
    scaled, wanted = (features - center) / scale, targets - middle
    axes, squares = _principal(scaled)
    along = scaled @ axes
    moments = along.T @ wanted
    least = np.full(targets.shape[1], np.inf)
    chosen = np.zeros(targets.shape[1])
    for strength in _STRENGTHS * count:
        missed = wanted - along @ (moments / (squares + strength)[:, None])
        left = 1 - 1 / count - along**2 @ (1 / (squares + strength))
        errors = np.mean((missed / np.maximum(left, 1e-9)[:, None]) ** 2, axis=0)
        chosen, least = np.where(errors < least, strength, chosen), np.minimum(errors, least)
    weights = axes @ (moments / (squares[:, None] + chosen)) / scale[:, None]
    return weights, middle - center @ weights


def _principal(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Principal axes (features, axes) of rows, and the sums of squares along them.

    They come from the smaller of the two products of the matrix with itself.
    """
    if len(values) < values.shape[1]:
        squares, vectors = np.linalg.eigh(values @ values.T)
        kept = squares > 1e-9 * max(squares[-1], 1e-300)
        return values.T @ (vectors[:, kept] / np.sqrt(squares[kept])), squares[kept]
    squares, vectors = np.linalg.eigh(values.T @ values)
    kept = squares > 1e-9 * max(squares[-1], 1e-300)
    return vectors[:, kept], squares[kept]
