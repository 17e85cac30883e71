"""A first guess of a photograph's code: a ridge regression from a thumbnail, learned from a model's own table."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, UInt8

from nerfgen.field import FirstGuess, Model
from nerfgen.train.cache import PixelCache
from nerfgen.train.rows import TableRows

_THUMBNAIL = 16
# So many rows tell the regression's numbers well enough, and keep it to some seconds and 100 MB.
_ROWS = 4096
_STRENGTHS = np.logspace(-6, 1, 15)


def guess_features(
    rasters: UInt8[np.ndarray, "images size size 4"],
    cam_to_world: Float[np.ndarray, "images 4 4"],
    *,
    masked: bool,
) -> Float[np.ndarray, "images features"]:
    """What a first guess is made from: a thumbnail of the foreground, the background and the mask, and the pose.

    Args:
        rasters: red, green, blue and mask times 255 of the framed photographs.
        cam_to_world: their cameras as they were fitted to landmarks.
        masked: whether the model was trained with masks; without, all counts as foreground.
    """
    size = rasters.shape[1]
    # Each row of the matrix is one pixel of the thumbnail: the shares that it takes of the raster's pixels.
    edges = np.arange(_THUMBNAIL + 1) * (size / _THUMBNAIL)
    overlap = np.minimum(edges[1:, None], np.arange(1, size + 1)) - np.maximum(
        edges[:-1, None], np.arange(size)
    )
    shares = (overlap.clip(0) * (_THUMBNAIL / size)).astype(np.float32)

    def thumbnail(raster: np.ndarray) -> np.ndarray:
        values = raster / np.float32(255)
        if not masked:
            values[..., 3] = 1
        layers = np.concatenate([values[..., :3] * values[..., 3:], values], axis=-1)
        across = (shares @ layers.reshape(size, -1)).reshape(_THUMBNAIL, size, 7)
        small = shares @ across
        small[..., 3:6] -= small[..., :3]
        return small.reshape(-1).astype(np.float64)

    pictures = np.stack([thumbnail(raster) for raster in rasters])
    return np.concatenate([pictures, cam_to_world[:, :3].reshape(len(pictures), 12)], axis=1)


def first_guess(
    model: Model, cache: PixelCache, table: TableRows, corrections: Float[np.ndarray, "images 6"] | None
) -> FirstGuess:
    """Learn from photographs of the table to tell a photograph's code and the correction of its camera.

    Args:
        table: row of every photograph in ``cache``.
        corrections: of the cameras in ``cache``; None if they were not refined.
    """
    count = len(cache.images)
    rows = np.unique(np.linspace(0, count - 1, min(count, _ROWS)).round().astype(int))
    poses, masked = cache.cam_to_world[rows], model.preset["lambda_mask"] > 0
    features = np.concatenate(
        [
            guess_features(raster[None], pose[None], masked=masked)
            for raster, pose in zip(cache.rasters(rows), poses, strict=True)
        ]
    )
    targets = model.latents[table.of[rows]].astype(np.float64)
    if corrections is not None:
        targets = np.concatenate([targets, corrections[rows]], axis=1)
    weights, offset = ridge(features, targets, blocks=(features.shape[1] - 12, 12))
    return FirstGuess(weights.astype(np.float32), offset.astype(np.float32))


def ridge(
    features: Float[np.ndarray, "rows features"],
    targets: Float[np.ndarray, "rows outputs"],
    blocks: tuple[int, ...],
) -> tuple[Float[np.ndarray, "features outputs"], Float[np.ndarray, "outputs"]]:
    """Ridge regression, each output with the strength whose leave-one-out error is least, in closed form.

    With the hat matrix H of the centred features, row i is missed by (y_i - (H y)_i) / (1 - H_ii - 1/n) where the
    regression has not seen it.

    Args:
        blocks: numbers of features that belong together, such as the pixels of a picture; each block is scaled to
            an overall variance of 1.

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
    """Principal axes (features, axes) of rows, and the sums of squares along them, by the smaller of the two
    products of the matrix with itself."""
    if len(values) < values.shape[1]:
        squares, vectors = np.linalg.eigh(values @ values.T)
        kept = squares > 1e-9 * max(squares[-1], 1e-300)
        return values.T @ (vectors[:, kept] / np.sqrt(squares[kept])), squares[kept]
    squares, vectors = np.linalg.eigh(values.T @ values)
    kept = squares > 1e-9 * max(squares[-1], 1e-300)
    return vectors[:, kept], squares[kept]
