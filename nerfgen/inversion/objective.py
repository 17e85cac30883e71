"""What a fit of latent codes minimises: the loss of training, of moved cameras, and the prior of the codes."""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from nerfgen.data import PixelTable
from nerfgen.field import FieldConfig
from nerfgen.geometry import corrected_cameras, evenly_chosen, keypoint_displacement, matmul
from nerfgen.inversion.reconstruction import Network, image_losses
from nerfgen.model import Model, Principal, Recipe

# Weights of the priors. Where local features hold the detail of an image, the global dimensions are kept nearer to the
# mean: detail of one view that they take up is wrong from other sides.
_PRIOR, _PRIOR_WITH_LOCAL, _LOCAL_PRIOR = 3e-3, 1e-2, 3e-3

# ``codes``: coefficients along the principal axes; ``local``: deviations of local features from what these predict, in
# standard deviations too; ``cameras``: corrections.
Unknown = dict[str, np.ndarray]


class Space(NamedTuple):
    """Latent space: mean + coefficients @ axes, with axes as long as the standard deviations.

    Attributes:
        reach: largest norm of the coefficients of a row.
        local_deviation: standard deviations of the local features, which follow the global dimensions in a code.
        keypoints: canonical keypoints that tie cameras to where landmarks put them.
    """

    mean: Float[Array, "latent"]
    axes: Float[Array, "components latent"]
    reach: Float[Array, ""]
    local_deviation: Float[Array, "local"]
    keypoints: Float[Array, "points 3"]

    @classmethod
    def of(cls, model: Model, principal: Principal) -> Space:
        """The latent space of a model, along these axes."""
        known = principal.coefficients(model.latents)
        return cls(
            jnp.asarray(principal.mean, jnp.float32),
            jnp.asarray(principal.deviation[:, None] * principal.axes, jnp.float32),
            jnp.float32(np.linalg.norm(known, axis=1).max()),
            jnp.asarray(principal.local_deviation, jnp.float32),
            jnp.asarray(evenly_chosen(model.canonical), jnp.float32),
        )


def losses(
    config: FieldConfig,
    recipe: Recipe,
    network: Network,
    space: Space,
    pixels: PixelTable,
    codes: Float[Array, "images components"],
    local: Float[Array, "images local"],
    corrections: Float[Array, "images 6"],
    key: Array,
    number: Int[Array, ""],
) -> Float[Array, "images"]:
    """The loss of each image without the prior of its code: that of training, and of moved cameras.

    Args:
        codes, local, corrections: see :data:`Unknown`.
        number: of the step.
    """
    deviations = local * space.local_deviation[None]
    latents = space.mean[None] + matmul(codes, space.axes)
    latents = latents + jnp.pad(deviations, ((0, 0), (latents.shape[1] - deviations.shape[1], 0)))
    poses = corrected_cameras(pixels.cam_to_world, corrections, jnp.zeros(6))
    each = image_losses(config, recipe, network, latents, poses, pixels, key, number)
    if recipe.lambda_camera > 0 and len(space.keypoints):
        moves = keypoint_displacement(space.keypoints, pixels.intrinsics, pixels.cam_to_world, poses)
        each = each + recipe.lambda_camera * moves / recipe.size**2
    return each


def code_prior(
    codes: Float[Array, "images components"], local: Float[Array, "images local"]
) -> Float[Array, "images"]:
    """What deviations in standard deviations cost."""
    weight = _PRIOR_WITH_LOCAL if local.shape[1] else _PRIOR
    cost = weight * jnp.sum(codes**2, axis=-1) / max(codes.shape[1], 1)
    return cost + _LOCAL_PRIOR * jnp.sum(local**2, axis=-1) / max(local.shape[1], 1)


def within_reach(space: Space, codes: Float[Array, "images components"]) -> Float[Array, "images components"]:
    """Coefficients moved towards the mean where they are farther from it than any row of the table."""
    norm = jnp.linalg.norm(codes, axis=-1, keepdims=True)
    return codes * jnp.minimum(1.0, space.reach / jnp.maximum(norm, 1e-9))
