"""The initial guess of an image's latent code: ridge regression from a thumbnail, learned from the model's table."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache

import numpy as np
from jaxtyping import Float, Int, UInt8

from nerfgen.data import PixelCache
from nerfgen.model import InitialGuess, Model, ridge

_THUMBNAIL = 16
# Rows that the regression is learned from: enough for its weights, and it takes some seconds and 100 MB.
_ROWS = 4096


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
