"""Latent codes before the first step: principal components of the framed images, without what the camera explains."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from nerfgen.data import PixelCache, TableRows
from nerfgen.geometry import evenly_chosen, optical_axis, yaw_pitch_roll
from nerfgen.inversion import thumbnails
from nerfgen.model import Recipe

# Images that the components are learned from: enough for them, and it takes some seconds and 100 MB.
_IMAGES = 4096
_AT_ONCE = 256
# Standard deviation of every component.
_DEVIATION = 0.15
# Length of the mean viewing direction, beyond which objects are seen from much the same side: that of directions evenly
# spread over 60 degrees about their middle.
_ONE_SIDE = 0.75
# The background says little of the object.
_BACKGROUND_WEIGHT = 0.5


def seen_from_one_side(cam_to_world: Float[np.ndarray, "images 4 4"]) -> bool:
    """Whether cameras look from directions so similar that images differ by their objects more than by the pose.

    False without cameras.
    """
    if not len(cam_to_world):
        return False
    return float(np.linalg.norm(optical_axis(cam_to_world).mean(axis=0))) > _ONE_SIDE


class Components(NamedTuple):
    """Principal components of thumbnails, without what the camera explains.

    Attributes:
        explained: what a linear and quadratic function of the camera adds to a thumbnail.
        axes: of the components.
        scale: makes them whitened.
    """

    explained: Float[np.ndarray, "terms features"]
    axes: Float[np.ndarray, "components features"]
    scale: Float[np.ndarray, "components"]


def thumbnail_components(cache: PixelCache, rows: TableRows, recipe: Recipe) -> Components:
    """The principal components of the thumbnails of each row's first image; at most ``latent_size``.

    What a linear and quadratic function of the camera explains is subtracted first: a code that tells the pose would
    keep networks from learning a shape that is right for all poses.
    """
    chosen = evenly_chosen(rows.first_image, _IMAGES)
    samples = _weighted_thumbnails(cache, chosen, masked=recipe.lambda_mask > 0)
    poses = _pose_terms(cache.cam_to_world[chosen])
    explained, *_ = np.linalg.lstsq(poses, samples, rcond=None)
    count = min(recipe.latent_size, len(chosen) - 1)
    _, singular, axes = np.linalg.svd(samples - poses @ explained, full_matrices=False)
    scale = _DEVIATION * np.sqrt(len(chosen)) / np.maximum(singular[:count], 1e-9)
    return Components(explained, axes[:count], scale)


def codes_from_images(
    cache: PixelCache, rows: TableRows, recipe: Recipe, components: Components, start: int, stop: int
) -> Float[np.ndarray, "some components"]:
    """The components of the first images of some rows; zeros for rows beyond the last.

    Rows are computed in the same groups, whichever are asked for: rounding does not depend on who asks.

    Args:
        start, stop: the first row, and the one after the last.
    """
    first, masked = rows.first_image, recipe.lambda_mask > 0
    explained, axes, scale = components
    codes = np.zeros((stop - start, len(axes)), np.float32)
    for group in range(start - start % _AT_ONCE, min(stop, len(first)), _AT_ONCE):
        own = first[group : group + _AT_ONCE]
        small = _weighted_thumbnails(cache, own, masked=masked)
        rest = small - _pose_terms(cache.cam_to_world[own]) @ explained
        found = rest @ axes.T * scale
        begin, end = max(start, group), min(stop, group + len(own))
        codes[begin - start : end - start] = found[begin - group : end - group]
    return codes


def _weighted_thumbnails(cache: PixelCache, chosen: np.ndarray, *, masked: bool) -> np.ndarray:
    """The thumbnails of images, in one row each, with less of the background."""
    small = thumbnails(cache.rasters(chosen), masked=masked)
    small[..., 3:6] *= _BACKGROUND_WEIGHT
    return small.reshape(len(chosen), -1)


def _pose_terms(cam_to_world: np.ndarray) -> np.ndarray:
    """1, the angles and the position of cameras, and their products with each other."""
    angles = np.radians(yaw_pitch_roll(cam_to_world))
    linear = np.concatenate([angles, cam_to_world[:, :3, 3]], axis=1)
    upper = np.triu_indices(linear.shape[1])
    products = linear[:, upper[0]] * linear[:, upper[1]]
    return np.concatenate([np.ones((len(linear), 1)), linear, products], axis=1)
