"""The initial guess of an image's latent code: ridge regression from a thumbnail, learned from the model's table."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache

import numpy as np
from jaxtyping import Float, Int, UInt8

from nerfgen.data import PixelCache
from nerfgen.model import InitialGuess, Model

_THUMBNAIL = 16
# Rows that the regression is learned from: enough for its weights, and it takes some seconds and 100 MB.
_ROWS = 4096
_STRENGTHS = np.logspace(-6, 1, 15)


def guess_features(
    rasters: Iterable[UInt8[np.ndarray, "size size 4"]],
    cam_to_world: Float[np.ndarray, "images 4 4"],
    *,
    masked: bool,
) -> Float[np.ndarray, "images features"]:
    """Features of the initial guess: a thumbnail (:func:`thumbnails`) and the pose.

    Args:
        rasters, masked: as :func:`thumbnails` takes them.
        cam_to_world: cameras of the images as fitted to landmarks.
    """
    small = thumbnails(rasters, masked=masked).reshape(len(cam_to_world), -1)
    return np.concatenate([small, cam_to_world[:, :3].reshape(len(small), 12)], axis=1)


def thumbnails(
    rasters: Iterable[UInt8[np.ndarray, "size size 4"]], *, masked: bool
) -> Float[np.ndarray, "images 16 16 7"]:
    """Framed images at 16 x 16 pixels: colour in [0, 1] of the foreground and of the background, each times its part
    of the pixel, and mask.

    Args:
        rasters: red, green, blue and mask times 255.
        masked: whether the model is trained with masks; otherwise everything is foreground.
    """
    return np.stack([_thumbnail(raster, masked) for raster in rasters])


def _thumbnail(raster: np.ndarray, masked: bool) -> np.ndarray:
    size = len(raster)
    values = raster / np.float32(255)
    if not masked:
        values[..., 3] = 1
    layers = np.concatenate([values[..., :3] * values[..., 3:], values], axis=-1)
    weights = _pixel_weights(size)
    across = (weights @ layers.reshape(size, -1)).reshape(_THUMBNAIL, size, 7)
    small = weights @ across
    small[..., 3:6] -= small[..., :3]
    return small.astype(np.float64)


@lru_cache
def _pixel_weights(size: int) -> np.ndarray:
    """Row i: the weights of the pixels along an image in pixel i of its thumbnail."""
    edges = np.arange(_THUMBNAIL + 1) * (size / _THUMBNAIL)
    overlap = np.minimum(edges[1:, None], np.arange(1, size + 1)) - np.maximum(
        edges[:-1, None], np.arange(size)
    )
    return (overlap.clip(0) * (_THUMBNAIL / size)).astype(np.float32)


def guess_images(cache: PixelCache) -> Int[np.ndarray, "chosen"]:
    """The images that the initial guess is learned from."""
    count = len(cache.images)
    return np.unique(np.linspace(0, count - 1, min(count, _ROWS)).round().astype(int))


def learn_initial_guess(
    model: Model,
    cache: PixelCache,
    images: Int[np.ndarray, "chosen"],
    latents: Float[np.ndarray, "chosen latent"],
    corrections: Float[np.ndarray, "images 6"] | None,
) -> InitialGuess:
    """Learn to guess the global part of the latent code and the camera correction of an image.

    Args:
        images: of :func:`guess_images`.
        latents: latent codes of their rows.
        corrections: of the cameras in ``cache``; None if they were not refined.
    """
    poses, masked = cache.cam_to_world[images], model.recipe.lambda_mask > 0
    features = guess_features(cache.rasters(images), poses, masked=masked)
    # Local features are left to the fit: it needs no start but what the global dimensions predict of them.
    targets = latents[:, : model.config.latent_size].astype(np.float64)
    if corrections is not None:
        targets = np.concatenate([targets, corrections[images]], axis=1)
    weights, offset = ridge(features, targets, blocks=(features.shape[1] - 12, 12))
    return InitialGuess(weights.astype(np.float32), offset.astype(np.float32))


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
