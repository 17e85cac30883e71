"""Pivotal tuning: the networks adjusted to one image, around its fitted latent code.

After Roich et al., "Pivotal Tuning for Latent-based Editing of Real Images", 2021.
"""

from __future__ import annotations

from functools import partial
from operator import itemgetter
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PyTree

from nerfgen.data import FramedImages, PixelTable, framed_pixels
from nerfgen.errors import InputError
from nerfgen.field import FieldConfig, add_parameters, render_rays, tunable_parameters
from nerfgen.geometry import (
    Cameras,
    pixel_rays,
    rigid,
    rotation_from_vector,
    sphere_window,
    window_intrinsics,
)
from nerfgen.inversion.latent_fitting import Fitted
from nerfgen.inversion.reconstruction import (
    ADAM,
    RAYS,
    BatchOf,
    ImageBatch,
    Network,
    device_network,
    image_batches,
    image_losses,
    optimise_batch,
    reconstruction_psnr,
)
from nerfgen.model import Model, Recipe
from nerfgen.optimize import quickly_compiled
from nerfgen.parallel import Progress, silent

STEPS = 100
_RATE, _FINAL = 3e-3, 0.1
_TURNED, _SIZE = 1.0, 1e-4
_TURN = 45.0
_CAMERAS = 512


class Tuned(NamedTuple):
    """Tuned networks of images.

    Attributes:
        deltas: change of the network parameters (float16), by index of the image; only where it improves the
            reconstruction.
        psnr: of the reconstruction of every image, dB.
    """

    deltas: dict[int, dict[str, PyTree]]
    psnr: Float[np.ndarray, "images"]


def tune_networks(
    model: Model,
    framed: FramedImages,
    fitted: Fitted,
    *,
    steps: int = STEPS,
    seed: int = 0,
    shared: bool = False,
    progress: Progress = silent,
) -> Tuned:
    """Adjust the networks to each image alone, or once to all images; latent codes and cameras are fixed.

    The loss is that of training, plus the squared difference that the change makes to colour and opacity along rays of
    turned views, plus ``1e-4`` times the squared norm of the change. Turned views have random training cameras, turned
    by up to 45 degrees to either side. Kernels that multiply the latent code are fixed: for one latent code they are
    equivalent to a bias.

    Images whose fit did not converge are skipped.

    Args:
        shared: the images are of one object, and all have the same change: that of the mean of their losses. It is kept
            if it improves the mean PSNR.

    Raises:
        InputError: ``steps`` is below 1.
    """
    if steps < 1:
        raise InputError(f"`steps` has to be at least 1, not {steps}")
    recipe, network, views = model.recipe, device_network(model), _turned_views(model, seed)
    count = len(framed.images)
    found: dict[int, dict[str, PyTree]] = {}
    chosen = np.flatnonzero(fitted.converged)
    batches = list(image_batches(chosen, count, recipe, 3 * RAYS))
    if shared and len(chosen):
        batches = [ImageBatch(chosen, len(chosen))]
    nothing = jax.tree.map(np.zeros_like, tunable_parameters(model.parameters))
    for number, batch in enumerate(batches):
        images = _Images(
            framed_pixels(framed.subset(batch.images)),
            jnp.asarray(fitted.latents[batch.images]),
            jnp.asarray(fitted.cam_to_world[batch.images], jnp.float32),
        )
        deltas = jax.tree.map(partial(_repeated, 1 if shared else len(batch.images)), nothing)
        search = _Search(deltas, ADAM.init(deltas), jnp.int32(0))
        fixed = (model.config, recipe, network, views, images, jax.random.key(seed), jnp.float32(steps))
        part = BatchOf(number, len(batches), f"{len(chosen)} tuned")
        search = optimise_batch(partial(_advance, *fixed), search, steps, part, progress)
        ours = jax.tree.map(lambda array: np.asarray(array).astype(np.float16), search.deltas)
        for place, image in enumerate(batch.images[: batch.num_images]):
            found[int(image)] = jax.tree.map(itemgetter(0 if shared else place), ours)
    psnr = reconstruction_psnr(model, framed, fitted.latents, fitted.cam_to_world, found)
    gain = psnr - fitted.psnr
    if shared and len(chosen):
        gain[chosen] = gain[chosen].mean()
    better = gain > 0  # false where it is no number
    return Tuned(
        {place: delta for place, delta in found.items() if better[place]},
        np.where(better, psnr, fitted.psnr),
    )


class _Images(NamedTuple):
    """The images of a batch."""

    pixels: PixelTable
    latents: Float[Array, "images latent"]
    cam_to_world: Float[Array, "images 4 4"]


class _Search(NamedTuple):
    """The state of tuning: the change for every image, or one for all; Adam's moments, and steps done."""

    deltas: dict[str, PyTree]
    moments: PyTree
    step: Int[Array, ""]


def _repeated(count: int, array: np.ndarray) -> Array:
    return jnp.broadcast_to(array, (count, *array.shape))


def _for_each(count: int, deltas: Array) -> Array:
    """A change for every image; that of all images is repeated."""
    return jnp.broadcast_to(deltas, (count, *deltas.shape[1:]))


def _as(gradients: Array, deltas: Array) -> Array:
    """Gradients of every image's change, or their mean where one change is for all."""
    return gradients if len(gradients) == len(deltas) else gradients.mean(axis=0, keepdims=True)


def _turned_views(model: Model, seed: int) -> Cameras:
    """Cameras from which the tuned object has to look as before."""
    draw = np.random.default_rng(seed)
    rows = draw.integers(0, len(model.images), _CAMERAS)
    turns = np.radians(draw.uniform(-_TURN, _TURN, _CAMERAS))[:, None] * np.array([0.0, 1.0, 0.0])
    poses = rigid(rotation_from_vector(turns), np.zeros((_CAMERAS, 3))) @ model.cam_to_world[rows]
    matrices = model.intrinsics[rows]
    windows = sphere_window(matrices, poses, model.object_class.reach)
    framed = (window_intrinsics(matrices, windows, 1), poses)
    return Cameras(*(jnp.asarray(array, jnp.float32) for array in framed))  # type: ignore[arg-type]


@quickly_compiled(static_argnums=(0, 1))
def _advance(
    config: FieldConfig,
    recipe: Recipe,
    network: Network,
    views: Cameras,
    images: _Images,
    key: Array,
    steps: Float[Array, ""],
    search: _Search,
    until: Int[Array, ""],
) -> _Search:
    """Steps of Adam on all changes, until ``until`` steps are done."""

    shown_key, turned_key = jax.random.split(key)

    def loss(delta: dict[str, PyTree], own: _Images, number: Array, keys: Array, view: Cameras) -> Array:
        field = add_parameters(network.field, delta)
        own = jax.tree.map(lambda array: array[None], own)
        tuned = Network(field, network.guide)
        given = own.latents, own.cam_to_world, own.pixels
        shown = image_losses(config, recipe, tuned, *given, shown_key, number)[0]
        centers = jax.random.uniform(keys[0], (1, RAYS, 2))
        rays = pixel_rays(centers, view.intrinsics[None], view.cam_to_world[None])

        def seen(field: dict[str, PyTree]) -> tuple[Array, Array]:
            found, background = render_rays(
                config,
                field,
                own.latents,
                *rays,
                samples=recipe.samples,
                occupancy=network.guide,
                key=keys[1][None],
            )
            return found.color + (1 - found.opacity[..., None]) * background, found.opacity

        (color, opacity), (color_before, opacity_before) = seen(field), seen(network.field)
        turned = jnp.mean(jnp.sum((color - color_before) ** 2, axis=-1) + (opacity - opacity_before) ** 2)
        size = sum(jnp.vdot(array, array, precision="highest") for array in jax.tree.leaves(delta))
        return shown + _TURNED * turned + _SIZE * size

    def step(_: Array, search: _Search) -> _Search:
        keys = jax.random.split(jax.random.fold_in(turned_key, search.step), 3)
        chosen = jax.random.randint(keys[2], (), 0, _CAMERAS)
        view = Cameras(views.intrinsics[chosen], views.cam_to_world[chosen])
        each = jax.vmap(jax.grad(loss), in_axes=(0, 0, None, None, None))
        own = jax.tree.map(partial(_for_each, len(images.latents)), search.deltas)
        gradients = jax.tree.map(_as, each(own, images, search.step, keys, view), search.deltas)
        moves, moments = ADAM.update(gradients, search.moments)
        rate = _RATE * _FINAL ** (search.step / steps)
        deltas = jax.tree.map(lambda value, move: value - rate * move, search.deltas, moves)
        return _Search(deltas, moments, search.step + 1)

    return jax.lax.fori_loop(search.step, until, step, search)
