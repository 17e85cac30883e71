"""Adversarial fine-tuning: a discriminator compares patches of new views with patches of images.

The discriminator is a small network on the features of a frozen one (Sauer et al., "Projected GANs converge faster",
2021), which learns in hundreds of steps what one of pixels learns in hundreds of thousands. Its loss is the
non-saturating one (Goodfellow et al. 2014) with R1 (Mescheder et al., "Which training methods for GANs do actually
converge?", 2018), taken at the features.

Every patch of an image has its counterpart, a patch of a new view from the camera of another image:

- half of the views show an object of the table. What its own image shows is to stay as the image has it, so the
  gradient goes to hidden parts only (``adversarial_mask``);
- a quarter show an object between two of the table, with the parts that neither image shows free to change;
- a quarter show a new object, drawn as ``nerfgen sample`` does; no image shows it.

All functions here but :func:`initial_adversary` run inside :func:`jax.shard_map`.
"""

from __future__ import annotations

import dataclasses
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, PyTree

from nerfgen.data import Patches
from nerfgen.field import radiance_field
from nerfgen.geometry import pixel_centers, pixel_rays
from nerfgen.model import Principal, Recipe
from nerfgen.optimize import AXIS
from nerfgen.pretrained import FEATURE_CHANNELS, FeatureParameters, image_features
from nerfgen.volume import box_bounds, compositing_weights

if TYPE_CHECKING:
    from nerfgen.train.state import Parameters

# The first feature map sees little but noise and blur.
_FIRST_MAP = 1
_WIDTH = 32
_LEAK = 0.2
# Adam's decays of the discriminator: without momentum, which makes the two players circle each other.
_B1, _B2 = 0.0, 0.99
# Truncation of new objects, and rows whose local residuals they mix.
TRUNCATION = 0.7
RESIDUAL_ROWS = 64
# Samples between a camera and a surface, and the distance before the surface, in world units, at which they end.
_SHADOW_SAMPLES, _SHADOW_MARGIN = 12, 0.08
# Folded into an image's key: kind and code of its view, samples on its rays.
_CODE, _SAMPLES = 2, 3
_TINY = 1e-8


class LatentDraws(NamedTuple):
    """The latent space of the model before fine-tuning, of which new objects are drawn.

    Attributes:
        mean: mean code.
        axes: principal axes times their standard deviations.
        residuals: what the axes do not predict of the local features of some rows.
    """

    mean: Float[Array, "code"]
    axes: Float[Array, "components code"]
    residuals: Float[Array, "rows local"]


class Snapshot(NamedTuple):
    """What a divergence is rolled back to: networks, Adam's moments, the moving average and the discriminator."""

    networks: PyTree
    network_moments: PyTree
    average: PyTree
    discriminator: PyTree
    moments: PyTree


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Adversary:
    """What adversarial fine-tuning adds to the state of a run.

    Attributes:
        discriminator: parameters of :class:`Discriminator`.
        moments: Adam's, of the discriminator.
        strength: factor of ``lambda_adversarial``: 1, halved by each rollback.
        draws: of new objects.
        good: the last state that was found healthy.
    """

    discriminator: dict[str, PyTree]
    moments: optax.OptState
    strength: Float[Array, ""]
    draws: LatentDraws
    good: Snapshot


class Discriminator(nn.Module):
    """Evidence, for each cell of each feature map, that it is of an image and not of a view."""

    @nn.compact
    def __call__(self, maps: list[Float[Array, "images _ _ _"]]) -> list[Float[Array, "images _ _"]]:
        logits = []
        for number, values in enumerate(maps):
            hidden = nn.Conv(_WIDTH, (1, 1), name=f"reduce_{number}")(values)
            hidden = nn.leaky_relu(hidden, _LEAK)
            hidden = nn.Conv(_WIDTH, (3, 3), name=f"spatial_{number}")(hidden)
            hidden = nn.leaky_relu(hidden, _LEAK)
            logits.append(nn.Conv(1, (1, 1), name=f"logit_{number}")(hidden)[..., 0])
        return logits


class Fakes(NamedTuple):
    """Views that are judged.

    Attributes:
        patches: colours in [0, 1].
        hidden: how much of each pixel the adversarial loss may change, in [0, 1].
    """

    patches: Float[Array, "patches side side 3"]
    hidden: Float[Array, "patches side side"]


class Judged(NamedTuple):
    """Images and latent codes of a device's part of a batch that have a patch.

    Attributes:
        patches: of the images.
        cam_to_world: cameras of the images.
        other_intrinsics, other_cam_to_world: of the next image of the batch, the cameras of the views.
        keys: random keys.
    """

    patches: Patches
    cam_to_world: Float[Array, "patches 4 4"]
    other_intrinsics: Float[Array, "patches 3 3"]
    other_cam_to_world: Float[Array, "patches 4 4"]
    keys: Array


def discriminator_optimizer() -> optax.GradientTransformation:
    """Adam without its rate."""
    return optax.scale_by_adam(b1=_B1, b2=_B2)


def latent_draws(recipe: Recipe, principal: Principal | None) -> LatentDraws:
    """The draws of a model's latent space; zeros of the same shapes for a run that is only compiled."""
    whole, *local = recipe.field_config((1.0, 1.0, 1.0)).code_parts
    code, shape = whole + sum(local), (RESIDUAL_ROWS, sum(local))
    if principal is None:
        return LatentDraws(jnp.zeros(code), jnp.zeros((whole, code)), jnp.zeros(shape))
    axes = principal.deviation[:, None] * principal.axes
    missing = whole - len(axes)
    residuals = principal.residuals[:RESIDUAL_ROWS]
    return LatentDraws(
        jnp.asarray(principal.mean, jnp.float32),
        jnp.pad(jnp.asarray(axes, jnp.float32), ((0, missing), (0, 0))),
        jnp.pad(jnp.asarray(residuals, jnp.float32), ((0, RESIDUAL_ROWS - len(residuals)), (0, 0))),
    )


def initial_adversary(
    key: Array, networks: Parameters, network_moments: PyTree, average: PyTree, draws: LatentDraws
) -> Adversary:
    """A discriminator before its first step."""
    maps = [jnp.zeros((1, 2, 2, channels)) for channels in FEATURE_CHANNELS[_FIRST_MAP:]]
    parameters = Discriminator().init(key, maps)["params"]
    moments = discriminator_optimizer().init(parameters)
    good = Snapshot(networks, network_moments, average, parameters, moments)
    return Adversary(parameters, moments, jnp.ones(()), draws, good)


def generator_loss(
    recipe: Recipe,
    bounds: tuple[float, float, float],
    networks: Parameters,
    latents: Float[Array, "patches code"],
    judged: Judged,
    adversary: Adversary,
    features: FeatureParameters,
    render: Any,
) -> tuple[Float[Array, ""], Float[Array, "patches side side 3"]]:
    """The mean of -log D(view) over cells, maps and views, without weight; and the views.

    Args:
        latents: of the images that have a patch.
        render: colour with background, opacity and distance of rays from (networks, latents, rays, keys).
    """
    fakes = render_fakes(recipe, bounds, networks, latents, judged, adversary.draws, render)
    weight = fakes.hidden[..., None]
    # The same pixels, with a gradient where they may change.
    shown = weight * fakes.patches + (1 - weight) * jax.lax.stop_gradient(fakes.patches)
    logits = judge(adversary.discriminator, features, shown, judged.patches.valid)
    return _mean_over_maps([nn.softplus(-logit) for logit in logits]), fakes.patches


def render_fakes(
    recipe: Recipe,
    bounds: tuple[float, float, float],
    networks: Parameters,
    latents: Float[Array, "patches code"],
    judged: Judged,
    draws: LatentDraws,
    render: Any,
) -> Fakes:
    """The views of a step, see the top of this module."""
    side, count = recipe.patch_size, len(latents)
    keys = jax.vmap(partial(jax.random.fold_in, data=_CODE))(judged.keys)
    kind, codes = jax.vmap(partial(_new_code, draws))(keys, latents, jnp.roll(latents, -1, axis=0))
    centers = judged.patches.corners[:, None] + pixel_centers(side)[None].astype(jnp.float32)
    origins, directions = pixel_rays(centers, judged.other_intrinsics, judged.other_cam_to_world)
    keys = jax.vmap(partial(jax.random.fold_in, data=_SAMPLES))(judged.keys)
    color, opacity, distance = render(networks, codes, (origins, directions), keys)
    shape = (count, side, side)
    if recipe.adversarial_mask == "none":
        return Fakes(color.reshape(*shape, 3), jnp.ones(shape))
    surface = jax.lax.stop_gradient(origins + distance[..., None] * directions)
    field = radiance_field(
        recipe.field_config(bounds), jax.lax.stop_gradient(networks["field"]), jax.lax.stop_gradient(codes)
    )
    own, nexts = judged.cam_to_world[:, :3, 3], jnp.roll(judged.cam_to_world[:, :3, 3], -1, axis=0)
    by_own = visibility(field, own, surface, bounds)
    by_next = visibility(field, nexts, surface, bounds)
    shown = jnp.where(kind[:, None] == 0, by_own, jnp.maximum(by_own, by_next))
    shown = jnp.where(kind[:, None] == 2, 0.0, shown)
    hidden = 1 - jax.lax.stop_gradient(opacity) * shown
    return Fakes(color.reshape(*shape, 3), hidden.reshape(shape))


def _new_code(
    draws: LatentDraws, key: Array, own: Float[Array, "code"], other: Float[Array, "code"]
) -> tuple[Array, Float[Array, "code"]]:
    """Kind (0 of the table, 1 between two of it, 2 new) and latent code of a view. Only those of the table have a
    gradient."""
    kind_key, fraction_key, axes_key, local_key = jax.random.split(key, 4)
    kind = jnp.maximum(jax.random.randint(kind_key, (), -1, 3), 0)
    own_fixed, other = jax.lax.stop_gradient((own, other))
    between = own_fixed + jax.random.uniform(fraction_key) * (other - own_fixed)
    rows, local = draws.residuals.shape
    limits = (-TRUNCATION, TRUNCATION)
    new = draws.mean + jax.random.truncated_normal(axes_key, *limits, (len(draws.axes),)) @ draws.axes
    if local:
        weights = jax.random.truncated_normal(local_key, *limits, (rows,)) / jnp.sqrt(rows)
        new = new.at[-local:].add(weights @ draws.residuals)
    return kind, jnp.stack([own, between, new])[kind]


def visibility(
    field: Any,
    cameras: Float[Array, "images 3"],
    points: Float[Array, "images points 3"],
    bounds: tuple[float, float, float],
) -> Float[Array, "images points"]:
    """Transmittance from cameras to points just before surfaces: 1 where a camera sees the surface, 0 where it is
    hidden.

    Args:
        field: density at points, for a batch of objects.
        cameras: positions, a camera for each object.
        points: of surfaces, world coordinates.
    """
    along = points - cameras[:, None]
    length = jnp.linalg.norm(along, axis=-1)
    directions = along / jnp.maximum(length, _TINY)[..., None]
    near, _ = box_bounds(jnp.broadcast_to(cameras[:, None], points.shape), directions, bounds)
    far = jnp.maximum(length - _SHADOW_MARGIN, near)
    spacing = (far - near) / _SHADOW_SAMPLES
    fractions = (jnp.arange(_SHADOW_SAMPLES) + 0.5)[None, None]
    distances = near[..., None] + spacing[..., None] * fractions
    samples = cameras[:, None, None] + distances[..., None] * directions[..., None, :]
    density, _ = field(samples.reshape(len(points), -1, 3))
    blocked = compositing_weights(density.reshape(distances.shape) * spacing[..., None]).sum(-1)
    return 1 - blocked


def judge(
    discriminator: PyTree,
    features: FeatureParameters,
    patches: Float[Array, "patches side side 3"],
    valid: Array,
) -> list[Float[Array, "patches _ _"]]:
    """The discriminator's logits of patches."""
    return apply_discriminator(discriminator, feature_directions(features, patches, valid))


def apply_discriminator(
    discriminator: PyTree, maps: list[Float[Array, "patches _ _ _"]]
) -> list[Float[Array, "patches _ _"]]:
    """The logits of feature maps."""
    found: list[Array] = Discriminator().apply({"params": discriminator}, maps)  # type: ignore[assignment]
    return found


def feature_directions(
    features: FeatureParameters, patches: Float[Array, "patches side side 3"], valid: Array
) -> list[Float[Array, "patches _ _ _"]]:
    """The feature maps of patches, of which every cell has the mean square 1.

    Args:
        valid: which pixels are on an image; the others are grey in images and views alike.
    """
    grey = jnp.where(valid[..., None], patches, 0.5)
    maps = image_features(features, grey)[_FIRST_MAP:]
    return [values * jax.lax.rsqrt(jnp.mean(values**2, axis=-1, keepdims=True) + _TINY) for values in maps]


class DiscriminatorLoss(NamedTuple):
    """Terms of the discriminator's loss: without R1, and the mean probabilities that images and views are images."""

    loss: Float[Array, ""]
    real: Float[Array, ""]
    fake: Float[Array, ""]


def discriminator_loss(
    recipe: Recipe,
    discriminator: PyTree,
    features: FeatureParameters,
    fakes: Float[Array, "patches side side 3"],
    patches: Patches,
) -> tuple[Float[Array, ""], DiscriminatorLoss]:
    """-log D(image) - log(1 - D(view)) + lambda_r1 / 2 |grad D(image)|^2, means over cells, maps and patches."""
    images = patches.rgb_mask[..., :3] / 255.0
    real_maps = feature_directions(features, images, patches.valid)
    fake_maps = feature_directions(features, jax.lax.stop_gradient(fakes), patches.valid)

    def evidence(maps: list[Array]) -> tuple[Array, list[Array]]:
        logits = apply_discriminator(discriminator, maps)
        return sum((logit.mean((1, 2)).sum() for logit in logits), jnp.zeros(())), logits

    slopes, real = jax.grad(evidence, has_aux=True)(real_maps)
    fake = apply_discriminator(discriminator, fake_maps)
    loss = _mean_over_maps([nn.softplus(-logit) for logit in real])
    loss = loss + _mean_over_maps([nn.softplus(logit) for logit in fake])
    penalty = sum((slope**2).sum((1, 2, 3)).mean() for slope in slopes) / len(slopes)
    probabilities = (_mean_over_maps([nn.sigmoid(logit) for logit in each]) for each in (real, fake))
    return loss + 0.5 * recipe.lambda_r1 * penalty, DiscriminatorLoss(loss, *probabilities)


def updated_adversary(
    recipe: Recipe,
    adversary: Adversary,
    features: FeatureParameters,
    fakes: Float[Array, "patches side side 3"],
    patches: Patches,
) -> tuple[Adversary, DiscriminatorLoss]:
    """The adversary after a step of the discriminator on the patches of all devices, and the terms of its loss."""
    gradient, terms = jax.grad(partial(discriminator_loss, recipe), has_aux=True)(
        adversary.discriminator, features, fakes, patches
    )
    gradient, terms = jax.lax.pmean((gradient, terms), AXIS)
    moves, moments = discriminator_optimizer().update(gradient, adversary.moments)
    parameters = jax.tree.map(
        lambda value, move: value - recipe.discriminator_rate * move, adversary.discriminator, moves
    )
    return dataclasses.replace(adversary, discriminator=parameters, moments=moments), terms


def _mean_over_maps(values: list[Array]) -> Float[Array, ""]:
    return jnp.stack([each.mean() for each in values]).mean()
