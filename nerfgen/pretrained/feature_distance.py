"""The perceptual distance of two images: how far their features are apart."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from nerfgen.pretrained.efficientnet import FEATURE_STRIDES, FeatureParameters, image_features

# Added to squared lengths: features without length have no direction.
_TINY = 1e-10


def perceptual_distance(
    parameters: FeatureParameters,
    first: Float[Array, "images height width 3"],
    second: Float[Array, "images height width 3"],
    weight: Float[Array, "images height width"] | None = None,
) -> Float[Array, "images"]:
    """Distance of the directions of features, from 0 to 4: 0 for equal images, 1.1 to 1.4 for faces of two persons.

    In each feature map the vectors of all cells are scaled to length 1. Their squared difference is summed over the
    channels and averaged over the cells, then over the maps. This is LPIPS (Zhang et al., "The unreasonable
    effectiveness of deep features as a perceptual metric", 2018) of another network and without learned weights of the
    channels: the numbers of the two are not comparable.

    Pure, and differentiable with respect to the images and the weight. Images are compared at their own size, from 16
    pixels on: down to 32 pixels the distance grows with blur, noise, dimming and displacement without enlarging them.

    Args:
        parameters: of :func:`nerfgen.pretrained.load_feature_network`.
        first, second: sRGB in [0, 1].
        weight: of each pixel, not negative, such as a mask; a cell counts by the mean of its pixels. The distance is 0
            for an image without weight. Features near the border of a mask also see pixels beyond it: make these equal
            in both images where they shall not count at all.

    Raises:
        ValueError: the images are smaller than 16 pixels.
    """
    distances = []
    pairs = zip(image_features(parameters, first), image_features(parameters, second), strict=True)
    for stride, (one, other) in zip(FEATURE_STRIDES, pairs, strict=True):
        squared = jnp.sum((_directions(one) - _directions(other)) ** 2, axis=-1)
        if weight is None:
            distances.append(squared.mean((1, 2)))
        else:
            cells = _cell_means(weight.astype(jnp.float32), stride)
            total = cells.sum((1, 2))
            found = (cells * squared).sum((1, 2)) / jnp.where(total > 0, total, 1.0)
            distances.append(found)
    return jnp.stack(distances).mean(0)


def _directions(
    features: Float[Array, "images rows columns channels"],
) -> Float[Array, "images rows columns channels"]:
    return features * jax.lax.rsqrt(jnp.sum(features**2, axis=-1, keepdims=True) + _TINY)


def _cell_means(
    weight: Float[Array, "images height width"], stride: int
) -> Float[Array, "images rows columns"]:
    """Means over squares of ``stride`` pixels; beyond the image the weight is 0."""
    rows, columns = (-(-length // stride) for length in weight.shape[1:])
    padded = jnp.pad(
        weight, ((0, 0), (0, rows * stride - weight.shape[1]), (0, columns * stride - weight.shape[2]))
    )
    return padded.reshape(len(weight), rows, stride, columns, stride).mean((2, 4))
